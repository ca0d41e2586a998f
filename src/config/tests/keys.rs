//! Mistakes about signing keys.

use super::{SOUND, folder, problems, write};
use crate::config::parse;

#[test]
fn mistakes_about_keys_are_named_with_the_key_and_the_reason() {
    let folder = folder();
    write(folder.path(), "open.json", "{}", 0o644);
    write(folder.path(), "empty.json", r#"{"keys":[]}"#, 0o600);
    write(
        folder.path(),
        "long.json",
        vec![b' '; (256 << 10) + 1],
        0o600,
    );
    let signed = SOUND.replace("access: public", "access: signed");
    let sound = "{ id: a, secret_file: demo.key }";
    let link = "id: b, scheme: secure_link, secret_file: demo.key";
    let at = "edge.signing.keys[0]";
    for (keys, expected) in [
        (sound, String::new()),
        (
            "{ id: a }",
            format!("{at}: give exactly one of: secret_file, secret_env"),
        ),
        (
            "{ id: a, secret_file: demo.key, secret_env: CARGO_PKG_NAME }",
            format!("{at}: give exactly one of: secret_file, secret_env"),
        ),
        (
            "{ id: a, secret_env: TIDEGATE_NOT_SET }",
            format!(
                "{at}.secret_env: the environment variable TIDEGATE_NOT_SET does not hold one line of visible ASCII text"
            ),
        ),
        (
            "{ id: a, secret_env: 'A B' }",
            format!("{at}.secret_env: \"A B\" is not the name of an environment variable"),
        ),
        (
            "{ id: a, scheme: sigv5, secret_file: demo.key }",
            format!(
                "{at}.scheme: \"sigv5\" is not one of: sigv4, cloudfront, token, secure_link, jwt, uri_signing"
            ),
        ),
        (
            "{ id: a, secret_file: demo.key, issuer: x, methods: [GET] }",
            format!(
                "{at}.issuer: a key of the scheme sigv4 has no such setting\n{at}.methods: a key of the scheme sigv4 has no such setting"
            ),
        ),
        (
            "{ id: a, scheme: cloudfront }",
            format!("{at}.public_key_file: missing, and it has no default"),
        ),
        (
            "{ id: a, scheme: cloudfront, public_key_file: site.pem }",
            format!(
                "{at}.public_key_file: \"site.pem\": there is no PEM public key in it (BEGIN PUBLIC KEY)"
            ),
        ),
        (
            "{ id: a, scheme: cloudfront, public_key_file: cloudfront.pem, secret_file: demo.key }",
            format!("{at}.secret_file: a key of the scheme cloudfront has no such setting"),
        ),
        (
            "{ id: a, scheme: token, secret_file: demo.key, secret_encoding: hex }",
            format!("{at}.secret_encoding: the secret is not hexadecimal"),
        ),
        (
            "{ id: a, scheme: token, secret_file: demo.key, methods: [get] }",
            format!(
                "{at}.methods[0]: \"get\" is not a method that is served: in upper case, neither CONNECT nor TRACE"
            ),
        ),
        (
            &format!("{{ {link}, expression: '$uri' }}"),
            format!("{at}.expression: it must hold $secure_link_expires, $uri and $secret"),
        ),
        (
            &format!("{{ {link}, expression: '$args' }}"),
            format!(
                "{at}.expression: a variable is none of $secure_link_expires, $uri, $remote_addr and $secret"
            ),
        ),
        (
            "{ id: a, scheme: jwt }",
            format!("{at}.jwks_file: missing, and it has no default"),
        ),
        (
            "{ id: a, scheme: jwt, jwks_file: open.json }",
            format!(
                "{at}.jwks_file: \"open.json\" is open to every user (mode 0644); run: chmod 600 open.json"
            ),
        ),
        (
            "{ id: a, scheme: uri_signing, jwks_file: empty.json }",
            format!(
                "{at}.jwks_file: \"empty.json\": it holds no key for HS256, RS256, ES256 or EdDSA (Ed25519)"
            ),
        ),
        (
            "{ id: a, scheme: uri_signing, jwks_file: jwks.json, renewal_key: k2 }",
            format!("{at}.renewal_key: jwks_file holds no secret (kty oct) with the kid \"k2\""),
        ),
        (
            "{ id: a, scheme: jwt, jwks_file: jwks.json, renewal_key: k1 }",
            format!("{at}.renewal_key: a key of the scheme jwt has no such setting"),
        ),
        (
            "{ id: a, scheme: jwt, jwks_file: long.json }",
            format!(
                "{at}.jwks_file: \"long.json\" is 262145 bytes long; a secret has at most 262144"
            ),
        ),
    ] {
        let text = signed.replace(
            "  routes:",
            &format!("  signing: {{ keys: [{keys}] }}\n  routes:"),
        );
        let found = match parse(&text, folder.path()) {
            Ok(_) => String::new(),
            Err(_) => problems(folder.path(), &text),
        };
        assert_eq!(found.trim_end(), expected, "{keys}");
    }
    let keys = format!("signing: {{ keys: [{sound}, {{ {link} }}] }}");
    for (route, expected) in [
        ("access: signed, signing: { keys: [a] }", ""),
        (
            "access: signed, signing: { schemes: [secure_link, sigv4], keys: [b] }",
            "",
        ),
        (
            "access: signed, signing: { keys: [c] }",
            "edge.routes[0].signing.keys: no key of edge.signing.keys has the id \"c\"",
        ),
        (
            "access: signed, signing: { schemes: [jwt] }",
            "edge.routes[0].signing.schemes: no key of edge.signing.keys is of the scheme jwt",
        ),
        (
            "access: signed, signing: { schemes: [sigv4], keys: [b] }",
            "edge.routes[0].access: access is signed, but edge.signing.keys has no key to verify a signature with",
        ),
        (
            "access: public, signing: { keys: [a] }",
            "edge.routes[0].signing: access is public, so no key is asked for",
        ),
    ] {
        let text = SOUND.replace("access: public", route);
        let text = text.replace("  routes:", &format!("  {keys}\n  routes:"));
        let found = match parse(&text, folder.path()) {
            Ok(_) => String::new(),
            Err(_) => problems(folder.path(), &text),
        };
        assert_eq!(found.trim_end(), expected, "{route}");
    }
}
