//! Judged by the examples of the RFCs, by both sides of each boundary, and by every mutation of a token.

use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, HeaderValue};
use serde_json::{Map, Value, json};

use super::*;
use crate::signing::test_support::{Asked, P256, mutations};
use crate::signing::{CredentialRefusal, Granted};

const END: u64 = 1_700_000_000;
const LEEWAY: Duration = Duration::from_secs(60);
const SECRET: &[u8] = b"a secret of more than 32 bytes, as HS256 asks";

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

/// RFC 7515 §A.1 to §A.3 and RFC 8037 §A.4: the public keys.
const RFC_KEYS: &str = r#"{"keys":[
    {"kty":"oct","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"},
    {"kty":"RSA","e":"AQAB","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"},
    {"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"},
    {"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
]}"#;

const RFC_CLAIMS: &str = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
const RFC_END: u64 = 1_300_819_380;

/// Header and signature of the tokens that the RFCs have as examples, over [`RFC_CLAIMS`].
const RFC_TOKENS: [(&str, &str); 3] = [
    (
        "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9",
        "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
    ),
    (
        "eyJhbGciOiJSUzI1NiJ9",
        "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
    ),
    (
        "eyJhbGciOiJFUzI1NiJ9",
        "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
    ),
];

fn issuer(keys: &str) -> JwtKeys {
    JwtKeys {
        id: "idp".into(),
        keys: JwkSet::parse(keys.as_bytes()).unwrap(),
        parameter: "token".into(),
        issuer: None,
        audience: None,
        path_claim: None,
    }
}

/// Keys of our own, one for each algorithm that takes little time to make.
static OWN_KEYS: LazyLock<String> = LazyLock::new(|| {
    json!({ "keys": [
        { "kty": "oct", "kid": "h", "alg": "HS256", "k": URL_SAFE_NO_PAD.encode(SECRET) },
        { "kty": "oct", "kid": "h2", "k": URL_SAFE_NO_PAD.encode([7; 32]) },
        public_jwk("e"),
    ] })
    .to_string()
});

/// The public half of [`P256`].
fn public_jwk(id: &str) -> Value {
    let pem = P256.public.lines().nth(1).unwrap();
    let der = base64::engine::general_purpose::STANDARD
        .decode(pem)
        .unwrap();
    // The point is what a SubjectPublicKeyInfo ends with.
    let point = &der[der.len() - 64..];
    let (x, y) = point.split_at(32);
    let encode = |bytes| URL_SAFE_NO_PAD.encode(bytes);
    json!({ "kty": "EC", "crv": "P-256", "kid": id, "use": "sig", "x": encode(x), "y": encode(y) })
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        other => panic!("not an object: {other}"),
    }
}

fn signed(claims: Value) -> String {
    sign_jwt(&object(claims), Some("h"), &JwtSigner::Secret(SECRET)).unwrap()
}

/// A token with any header, signed with our secret.
fn with_header(header: &str, claims: &Value) -> String {
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let signed = format!("{}.{}", encode(header), encode(&claims.to_string()));
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, SECRET);
    let signature = aws_lc_rs::hmac::sign(&key, signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn judge(
    issuer: &JwtKeys,
    token: &str,
    now: SystemTime,
) -> Result<Option<Granted>, CredentialRefusal> {
    let asked = Asked::new(&format!("http://h/films/a.ts?token={token}"));
    verify(&asked.view(), std::slice::from_ref(issuer), LEEWAY, now)
}

#[test]
fn the_examples_of_the_rfcs_are_genuine_until_they_expire() {
    let keys = issuer(RFC_KEYS);
    for (header, signature) in RFC_TOKENS {
        let token = format!("{header}.{RFC_CLAIMS}.{signature}");
        let granted = judge(&keys, &token, at(RFC_END - 1)).unwrap().unwrap();
        assert_eq!(granted.expires, Some(at(RFC_END)), "{header}");
        let since = Duration::ZERO;
        let refused = judge(&keys, &token, at(RFC_END)).err();
        assert_eq!(
            refused,
            Some(CredentialRefusal::Expired { since }),
            "{header}"
        );
    }
    // RFC 8037 §A.4 signs a text that is no claim set, which is noticed after its signature.
    let text = "RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
    let signature =
        "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    let token = format!("eyJhbGciOiJFZERTQSJ9.{text}.{signature}");
    let refused = judge(&keys, &token, at(0)).err();
    assert_eq!(refused, Some(CredentialRefusal::MalformedToken));
    let other = signature.replacen('h', "g", 1);
    let token = format!("eyJhbGciOiJFZERTQSJ9.{text}.{other}");
    let refused = judge(&keys, &token, at(0)).err();
    assert_eq!(refused, Some(CredentialRefusal::SignatureMismatch));
}

#[test]
fn the_key_fixes_the_algorithm() {
    let keys = issuer(&OWN_KEYS);
    let claims = json!({ "exp": END });
    let public = P256.public.clone();
    // A public key used as a secret, which everybody could do.
    let confused = sign_jwt(
        &object(claims.clone()),
        Some("e"),
        &JwtSigner::Secret(public.as_bytes()),
    );
    let none = |header: &str| {
        let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.", encode(header), encode(&claims.to_string()))
    };
    let wrong = Some(CredentialRefusal::WrongAlgorithm);
    let mismatch = Some(CredentialRefusal::SignatureMismatch);
    for (token, expected) in [
        (with_header(r#"{"alg":"HS256","kid":"h"}"#, &claims), None),
        (none(r#"{"alg":"none"}"#), wrong),
        (none(r#"{"alg":"none","kid":"h"}"#), wrong),
        (none(r#"{"alg":"HS256","kid":"h"}"#), mismatch),
        (with_header(r#"{"alg":"none","kid":"h"}"#, &claims), wrong),
        (with_header(r#"{"alg":"hs256","kid":"h"}"#, &claims), wrong),
        (with_header(r#"{"alg":"HS512","kid":"h"}"#, &claims), wrong),
        (with_header(r#"{"alg":"HS256","kid":"e"}"#, &claims), wrong),
        (
            with_header(r#"{"alg":"ES256","kid":"e"}"#, &claims),
            mismatch,
        ),
        (
            with_header(r#"{"alg":"HS256","kid":"h2"}"#, &claims),
            mismatch,
        ),
        (
            with_header(r#"{"alg":"HS256","kid":"x"}"#, &claims),
            Some(CredentialRefusal::UnknownKey),
        ),
        // Two keys would do, and guessing costs.
        (
            with_header(r#"{"alg":"HS256"}"#, &claims),
            Some(CredentialRefusal::UnknownKey),
        ),
        (confused.unwrap(), wrong),
        (
            with_header(
                r#"{"alg":"HS256","kid":"h","crit":["exp"],"exp":1}"#,
                &claims,
            ),
            Some(CredentialRefusal::CriticalHeader),
        ),
    ] {
        assert_eq!(judge(&keys, &token, at(END - 1)).err(), expected, "{token}");
    }
}

#[test]
fn what_is_no_token_is_told_from_what_is_not_signed() {
    let keys = issuer(&OWN_KEYS);
    let good = signed(json!({ "exp": END }));
    let malformed = Some(CredentialRefusal::MalformedToken);
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    for token in [
        "",
        ".",
        "..",
        "a.b",
        &format!("{good}.x"),
        &format!("{good}="),
        &good.replace('.', "!"),
        &format!("{}.e30.AA", encode("[]")),
        &format!("{}.e30.AA", encode("nonsense")),
        &format!("{}.e30.AA", encode(r#"{"alg":1}"#)),
        &format!("{}.e30.AA", encode(r#"{"alg":"HS256","kid":1}"#)),
        &format!("{}.e30.AA", encode("{}")),
        &with_header(r#"{"alg":"HS256","kid":"h"}"#, &json!([])),
    ] {
        assert_eq!(judge(&keys, token, at(END - 1)).err(), malformed, "{token}");
    }
}

#[test]
fn claims_are_checked_on_both_sides() {
    let mut keys = issuer(&OWN_KEYS);
    keys.issuer = Some("https://idp".to_owned());
    keys.audience = Some("cdn".to_owned());
    keys.path_claim = Some("path".to_owned());
    let missing = |claim| Some(CredentialRefusal::MissingClaim { claim });
    let malformed = |claim| Some(CredentialRefusal::MalformedClaim { claim });
    let sound = json!({ "exp": END, "iss": "https://idp", "aud": "cdn", "path": "/films/*" });
    for (change, expected) in [
        (json!({}), None),
        (json!({ "exp": null }), malformed("exp")),
        (json!({ "exp": "1700000000" }), malformed("exp")),
        (json!({ "exp": -1 }), malformed("exp")),
        (json!({ "exp": 1e300 }), None),
        (json!({ "exp": END as f64 - 0.5 }), None),
        (
            json!({ "exp": END - 1 }),
            Some(CredentialRefusal::Expired {
                since: Duration::ZERO,
            }),
        ),
        (json!({ "nbf": END - 1 + 60 }), None),
        (
            json!({ "nbf": END - 1 + 61 }),
            Some(CredentialRefusal::NotYetValid {
                ahead: LEEWAY + Duration::from_secs(1),
                leeway: LEEWAY,
            }),
        ),
        (json!({ "nbf": "now" }), malformed("nbf")),
        (
            json!({ "iss": "https://other" }),
            Some(CredentialRefusal::WrongIssuer),
        ),
        (
            json!({ "iss": ["https://idp"] }),
            Some(CredentialRefusal::WrongIssuer),
        ),
        (json!({ "aud": ["x", "cdn"] }), None),
        (
            json!({ "aud": ["x"] }),
            Some(CredentialRefusal::WrongAudience),
        ),
        (json!({ "aud": [] }), Some(CredentialRefusal::WrongAudience)),
        (json!({ "aud": 1 }), malformed("aud")),
        (json!({ "path": ["/x", "/films/?.ts"] }), None),
        (json!({ "path": "/films/a.ts" }), None),
        (
            json!({ "path": "/films/" }),
            Some(CredentialRefusal::WrongResource),
        ),
        (
            json!({ "path": [] }),
            Some(CredentialRefusal::WrongResource),
        ),
        (json!({ "path": ["/films/*", 1] }), malformed("path")),
        (json!({ "path": { "a": 1 } }), malformed("path")),
    ] {
        let mut claims = sound.clone();
        for (name, value) in object(change.clone()) {
            claims[name] = value;
        }
        let found = judge(&keys, &signed(claims), at(END - 1)).err();
        assert_eq!(found, expected, "{change}");
    }
    for claim in ["exp", "iss", "aud", "path"] {
        let mut claims = object(sound.clone());
        claims.remove(claim);
        let found = judge(&keys, &signed(Value::Object(claims)), at(END - 1)).err();
        assert_eq!(found, missing(claim));
    }
    // Without an audience of our own, a token for some is not for us.
    let keys = issuer(&OWN_KEYS);
    let found = judge(&keys, &signed(json!({ "exp": END, "aud": "cdn" })), at(0)).err();
    assert_eq!(found, Some(CredentialRefusal::WrongAudience));
    assert!(judge(&keys, &signed(json!({ "exp": END, "iss": "x" })), at(0)).is_ok());
}

#[test]
fn a_token_is_found_in_header_query_and_cookie_in_this_order() {
    let keys = [issuer(&OWN_KEYS)];
    let good = signed(json!({ "exp": END }));
    let bad = signed(json!({ "exp": 1 }));
    let fields = |bearer: Option<String>, cookie: Option<&str>| {
        let mut fields = HeaderMap::new();
        if let Some(bearer) = bearer {
            fields.insert(AUTHORIZATION, HeaderValue::try_from(bearer).unwrap());
        }
        if let Some(cookie) = cookie {
            let line = format!("a=b; token={cookie}");
            fields.insert(COOKIE, HeaderValue::try_from(line).unwrap());
        }
        fields
    };
    let bearer = |token: &str| Some(format!("Bearer {token}"));
    let in_query = |token: &str| format!("http://h/a?token={token}");
    let plain = "http://h/a".to_owned();
    for (url, fields, granted) in [
        (plain.clone(), fields(bearer(&good), None), true),
        (
            plain.clone(),
            fields(Some(format!("bearer   {good} ")), None),
            true,
        ),
        (in_query(&good), HeaderMap::new(), true),
        (plain.clone(), fields(None, Some(&good)), true),
        (in_query(&bad), fields(bearer(&good), Some(&bad)), true),
        (in_query(&good), fields(bearer(&bad), None), false),
        (in_query(&bad), fields(None, Some(&good)), false),
        (
            in_query(&good),
            fields(Some("Basic x".to_owned()), None),
            true,
        ),
        (plain.clone(), fields(bearer(""), Some(&good)), false),
    ] {
        let mut asked = Asked::new(&url);
        asked.fields = fields;
        let found = verify(&asked.view(), &keys, LEEWAY, at(END - 1));
        assert_eq!(
            matches!(found, Ok(Some(_))),
            granted,
            "{url} {:?}",
            asked.fields
        );
    }
    let mut twice = Asked::new(&plain);
    twice.fields = fields(bearer(&good), None);
    twice
        .fields
        .append(AUTHORIZATION, HeaderValue::from_static("Basic x"));
    let part = "Authorization";
    let found = verify(&twice.view(), &keys, LEEWAY, at(0)).err();
    assert_eq!(found, Some(CredentialRefusal::DuplicatePart { part }));
    let none = verify(&Asked::new(&plain).view(), &keys, LEEWAY, at(0));
    assert!(none.unwrap().is_none());
}

#[test]
fn what_we_sign_we_accept_and_nothing_that_differs_in_a_byte() {
    let keys = issuer(&OWN_KEYS);
    let claims = object(json!({ "exp": END, "sub": "anna" }));
    for (id, signer) in [
        ("h", JwtSigner::Secret(SECRET)),
        ("e", JwtSigner::Key(&P256.private())),
    ] {
        let token = sign_jwt(&claims, Some(id), &signer).unwrap();
        assert!(judge(&keys, &token, at(END - 1)).unwrap().is_some());
        for mutated in mutations(&token) {
            let granted = judge(&keys, &mutated, at(END - 1));
            assert!(!matches!(granted, Ok(Some(_))), "{mutated}");
        }
    }
}

#[test]
fn sets_of_keys_are_sound_or_refused() {
    let short = URL_SAFE_NO_PAD.encode([1; 31]);
    let long = URL_SAFE_NO_PAD.encode([1; 32]);
    let key = |text: &str| format!(r#"{{"keys":[{text}]}}"#);
    for (text, expected) in [
        ("".to_owned(), Some(JwksFault::Form)),
        ("[]".to_owned(), Some(JwksFault::Form)),
        ("{}".to_owned(), Some(JwksFault::Form)),
        (key(""), Some(JwksFault::NoKey)),
        (key("1"), Some(JwksFault::Key { number: 1 })),
        (key("{}"), Some(JwksFault::Key { number: 1 })),
        (key(&format!(r#"{{"kty":"oct","k":"{long}"}}"#)), None),
        (
            key(&format!(r#"{{"kty":"oct","k":"{short}"}}"#)),
            Some(JwksFault::Short { number: 1 }),
        ),
        (
            key(&format!(r#"{{"kty":"oct","k":"{long}="}}"#)),
            Some(JwksFault::Key { number: 1 }),
        ),
        (
            key(&format!(r#"{{"kty":"oct","k":"{long}","kid":1}}"#)),
            Some(JwksFault::Key { number: 1 }),
        ),
        (
            key(&format!(r#"{{"kty":"oct","k":"{long}","use":"enc"}}"#)),
            Some(JwksFault::NoKey),
        ),
        (
            key(&format!(r#"{{"kty":"oct","k":"{long}","alg":"HS512"}}"#)),
            Some(JwksFault::NoKey),
        ),
        (key(r#"{"kty":"EC","crv":"P-521"}"#), Some(JwksFault::NoKey)),
        (
            key(r#"{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}"#),
            Some(JwksFault::Key { number: 1 }),
        ),
        (
            key(r#"{"kty":"RSA","n":"AQAB","e":"AQAB"}"#),
            Some(JwksFault::Short { number: 1 }),
        ),
        (
            key(r#"{"kty":"OKP","crv":"Ed25519","x":"AA"}"#),
            Some(JwksFault::Key { number: 1 }),
        ),
        (
            key(&format!(
                r#"{{"kty":"oct","k":"{long}","kid":"a"}},{{"kty":"oct","k":"{long}","kid":"a"}}"#
            )),
            Some(JwksFault::SameId { number: 2 }),
        ),
    ] {
        assert_eq!(JwkSet::parse(text.as_bytes()).err(), expected, "{text}");
    }
}

mod uri_signing {
    use super::*;
    use crate::signing::jwt::uri_signing::verify;

    fn issuer() -> UriSigningKeys {
        let keys = JwkSet::parse(OWN_KEYS.as_bytes()).unwrap();
        let issuer = Some("csp".to_owned());
        UriSigningKeys::new(
            "ott",
            keys,
            "URISigningPackage",
            issuer,
            Some("ucdn".to_owned()),
        )
    }

    fn ask(url: &str, now: SystemTime) -> Result<Option<Granted>, CredentialRefusal> {
        verify(&Asked::new(url).view(), &[issuer()], now)
    }

    fn for_url(url: &str) -> String {
        signed(json!({ "exp": END, "cdniuc": uri_container(UriContainer::Url(url)) }))
    }

    fn for_regex(regex: &str) -> String {
        signed(json!({ "exp": END, "cdniuc": uri_container(UriContainer::Regex(regex)) }))
    }

    #[test]
    fn a_hash_is_for_one_url_however_it_is_spelled() {
        let token = for_url("http://h/a/~b%20c?x=1");
        for (url, granted) in [
            (
                format!("http://h/a/~b%20c?x=1&URISigningPackage={token}"),
                true,
            ),
            (
                format!("http://h/a/~b%20c?URISigningPackage={token}&x=1"),
                true,
            ),
            (
                format!("http://H:80/%61/%7eb%20c?x=1&URISigningPackage={token}"),
                true,
            ),
            (
                format!("http://h/a/~b%20c;URISigningPackage={token}?x=1"),
                true,
            ),
            (
                format!("http://h/a;URISigningPackage={token}/~b%20c?x=1"),
                true,
            ),
            (
                format!("https://h/a/~b%20c?x=1&URISigningPackage={token}"),
                false,
            ),
            (
                format!("http://h:81/a/~b%20c?x=1&URISigningPackage={token}"),
                false,
            ),
            (
                format!("http://h/a/~b+c?x=1&URISigningPackage={token}"),
                false,
            ),
            (
                format!("http://h/a/~b%20c?x=2&URISigningPackage={token}"),
                false,
            ),
            (
                format!("http://h/a/~b%20c?URISigningPackage={token}"),
                false,
            ),
        ] {
            let found = ask(&url, at(END - 1));
            let expected = if granted {
                None
            } else {
                Some(CredentialRefusal::WrongResource)
            };
            assert_eq!(found.err(), expected, "{url}");
        }
    }

    #[test]
    fn a_hash_is_that_of_rfc_6920() {
        // printf %s http://h/a | openssl sha256 -binary | openssl base64 | tr +/ -_ | tr -d =
        let container = uri_container(UriContainer::Url("http://h/a"));
        assert_eq!(
            container,
            "hash:sha-256;xD-ig5RrgUVXge5m4kKekilRlhufEewwGtrvgfMzg14"
        );
    }

    #[test]
    fn a_regular_expression_is_for_whole_urls() {
        // The example of RFC 9246 §2.1.15.2, as JSON decodes it.
        let example = r"[^:]*\://[^/]*/dir/content/quality_[^/]*/segment.{3}\.mp4(\?.*)?";
        for (regex, url, granted) in [
            (
                example,
                "http://h/dir/content/quality_high/segment001.mp4",
                true,
            ),
            (
                example,
                "http://h/dir/content/quality_high/segment001.mp4?a=b",
                true,
            ),
            (
                example,
                "http://h/dir/content/quality_high/segment0001.mp4",
                false,
            ),
            (
                example,
                "http://h/x/dir/content/quality_high/segment001.mp4",
                false,
            ),
            ("http://h/a", "http://h/ab", false),
            ("/a", "http://h/a", false),
            ("http://h/a|http://h/b", "http://h/b", true),
            ("http://h/[[:digit:]]+", "http://h/42", true),
        ] {
            let separator = if url.contains('?') { '&' } else { '?' };
            let asked = format!("{url}{separator}URISigningPackage={}", for_regex(regex));
            let found = ask(&asked, at(END - 1));
            let expected = (!granted).then_some(CredentialRefusal::WrongResource);
            assert_eq!(found.err(), expected, "{regex} {url}");
        }
        let asked = format!("http://h/?URISigningPackage={}", for_regex("("));
        let claim = "cdniuc";
        let expected = Some(CredentialRefusal::MalformedClaim { claim });
        assert_eq!(ask(&asked, at(0)).err(), expected);
    }

    #[test]
    fn claims_are_treated_as_the_rfc_asks() {
        let unsupported = |claim| Some(CredentialRefusal::UnsupportedClaim { claim });
        let claim = "cdniuc";
        for (change, expected) in [
            (json!({}), None),
            (
                json!({ "iss": "csp", "aud": ["x", "ucdn"], "cdniv": 1 }),
                None,
            ),
            (
                json!({ "iss": "other" }),
                Some(CredentialRefusal::WrongIssuer),
            ),
            (
                json!({ "aud": "x" }),
                Some(CredentialRefusal::WrongAudience),
            ),
            (json!({ "cdniv": 2 }), unsupported("cdniv")),
            (json!({ "cdniv": "1" }), unsupported("cdniv")),
            (json!({ "cdnicrit": "new" }), unsupported("cdnicrit")),
            (json!({ "jti": "1" }), unsupported("jti")),
            (json!({ "cdniip": "e.e.e.e.e" }), unsupported("cdniip")),
            (json!({ "cdnistt": 1, "cdniets": 30, "sub": "x" }), None),
            // No leeway.
            (json!({ "nbf": END - 1 }), None),
            (
                json!({ "nbf": END }),
                Some(CredentialRefusal::NotYetValid {
                    ahead: Duration::from_secs(1),
                    leeway: Duration::ZERO,
                }),
            ),
            (
                json!({ "cdniuc": "regex:" }),
                Some(CredentialRefusal::WrongResource),
            ),
            (
                json!({ "cdniuc": "uri:x" }),
                Some(CredentialRefusal::MalformedClaim { claim }),
            ),
            (
                json!({ "cdniuc": "hash:sha-1;x" }),
                Some(CredentialRefusal::MalformedClaim { claim }),
            ),
            (
                json!({ "cdniuc": 1 }),
                Some(CredentialRefusal::MalformedClaim { claim }),
            ),
        ] {
            let mut claims = json!({ "exp": END, "cdniuc": "regex:.*" });
            for (name, value) in object(change.clone()) {
                claims[name] = value;
            }
            let url = format!("http://h/a?URISigningPackage={}", signed(claims));
            assert_eq!(ask(&url, at(END - 1)).err(), expected, "{change}");
        }
        for claim in ["exp", "cdniuc"] {
            let mut claims = object(json!({ "exp": END, "cdniuc": "regex:.*" }));
            claims.remove(claim);
            let url = format!(
                "http://h/a?URISigningPackage={}",
                signed(Value::Object(claims))
            );
            let expected = Some(CredentialRefusal::MissingClaim { claim });
            assert_eq!(ask(&url, at(END - 1)).err(), expected);
        }
        let url = format!("http://h/a?URISigningPackage={}", for_regex(".*"));
        assert!(ask(&url, at(END) - Duration::from_nanos(1)).is_ok());
        assert!(ask(&url, at(END)).is_err());
    }

    #[test]
    fn a_token_that_is_given_twice_is_refused() {
        let token = for_regex(".*");
        let twice = Some(CredentialRefusal::DuplicatePart { part: "the token" });
        for url in [
            format!("http://h/a?URISigningPackage={token}&URISigningPackage={token}"),
            format!("http://h/a;URISigningPackage={token};URISigningPackage={token}"),
        ] {
            assert_eq!(ask(&url, at(0)).err(), twice, "{url}");
        }
    }

    #[test]
    fn a_url_that_differs_in_any_byte_is_refused() {
        let token = for_url("http://h/films/a%20b.ts?x=1");
        let url = format!("http://h/films/a%20b.ts?x=1&URISigningPackage={token}");
        assert!(ask(&url, at(END - 1)).unwrap().is_some());
        for mutated in mutations(&url) {
            let granted = ask(&mutated, at(END - 1));
            // A host in upper case is the same host.
            let same = mutated == url.replacen("http://h", "http://H", 1);
            assert!(same || !matches!(granted, Ok(Some(_))), "{mutated}");
        }
    }

    #[test]
    fn an_expression_is_compiled_once_and_few_are_remembered() {
        let issuer = issuer();
        let known = |count: usize| issuer.remembered() == count;
        for number in 0..40 {
            let url = format!(
                "http://h/a?URISigningPackage={}",
                for_regex(&format!(".*|{number}"))
            );
            for _ in 0..2 {
                let asked = Asked::new(&url);
                let found = verify(&asked.view(), std::slice::from_ref(&issuer), at(0));
                assert!(found.unwrap().is_some());
            }
            assert!(known((number + 1).min(32)), "{number}");
        }
    }

    /// A request with a token in its URL and others in cookies, at one second before [`END`].
    fn ask_with(
        issuer: &UriSigningKeys,
        url: &str,
        cookies: &[&str],
    ) -> Result<Option<Granted>, CredentialRefusal> {
        let mut asked = Asked::new(url);
        for token in cookies {
            let cookie = HeaderValue::try_from(format!("URISigningPackage={token}"));
            asked.fields.append(COOKIE, cookie.unwrap());
        }
        let view = asked.view();
        verify(&view, std::slice::from_ref(issuer), at(END - 1))
    }

    fn renewing(claims: Value) -> String {
        let mut all = json!({ "exp": END, "cdniuc": "regex:.*", "cdnistt": 1, "cdniets": 30 });
        for (name, value) in object(claims) {
            all[name] = value;
        }
        signed(all)
    }

    /// `Set-Cookie` for a request with such a token, when it is granted.
    fn set_cookie(url: &str, claims: Value) -> Result<Option<String>, CredentialRefusal> {
        let url = format!("{url}?URISigningPackage={}", renewing(claims));
        let granted = ask_with(&issuer(), &url, &[])?.unwrap();
        let cookie = granted
            .renewed
            .map(|token| token.set_cookie("http").unwrap());
        Ok(cookie.map(|cookie| cookie.to_str().unwrap().to_owned()))
    }

    #[test]
    fn a_renewed_token_says_what_the_old_one_said_and_counts_from_now_on() {
        let more =
            json!({ "iss": "csp", "nbf": END - 9, "iat": END - 9, "sub": "x", "cdnistd": 1 });
        let cookie = set_cookie("http://h/a/b", more.clone()).unwrap().unwrap();
        let (token, attributes) = cookie.split_once("; ").unwrap();
        assert_eq!(attributes, "Path=/a; Max-Age=30; HttpOnly");
        let token = token.strip_prefix("URISigningPackage=").unwrap();
        let mut expected = object(json!({ "cdniuc": "regex:.*", "cdnistt": 1, "cdniets": 30 }));
        expected.extend(object(more));
        expected.insert("exp".to_owned(), Value::from(END - 1 + 30));
        expected.insert("iat".to_owned(), Value::from(END - 1));
        let keys = JwkSet::parse(OWN_KEYS.as_bytes()).unwrap();
        let jws = jws::Jws::parse(token).unwrap();
        let (claims, key) = jws.prove(&keys).unwrap();
        assert_eq!(claims, expected);
        assert_eq!(key.id.as_deref(), Some("h"));
        // It is good for the next request, in its turn renewed, and no longer than it says.
        for (second, is_granted) in [(END + 28, true), (END + 29, false)] {
            let mut asked = Asked::new("http://h/a/c");
            let sent = format!("URISigningPackage={token}");
            asked
                .fields
                .append(COOKIE, HeaderValue::try_from(sent).unwrap());
            let granted = verify(&asked.view(), &[issuer()], at(second))
                .ok()
                .flatten();
            let is_renewed = granted.is_some_and(|granted| granted.renewed.is_some());
            assert_eq!(is_renewed, is_granted, "{second}");
        }
    }

    #[test]
    fn a_token_is_renewed_as_its_claims_ask() {
        let malformed = |claim| Err(CredentialRefusal::MalformedClaim { claim });
        let unsupported = Err(CredentialRefusal::UnsupportedClaim { claim: "cdnistt" });
        let cookie = |path: &str, seconds: u64| {
            Ok(Some(format!("Path={path}; Max-Age={seconds}; HttpOnly")))
        };
        for (claims, expected) in [
            (json!({}), cookie("/", 30)),
            (json!({ "cdnistt": 0 }), Ok(None)),
            (json!({ "cdnistt": 2 }), unsupported.clone()),
            (json!({ "cdnistt": -1 }), unsupported),
            (json!({ "cdnistt": "1" }), malformed("cdnistt")),
            (json!({ "cdniets": 1 }), cookie("/", 1)),
            (json!({ "cdniets": 1.5 }), cookie("/", 1)),
            (json!({ "cdniets": 0.5 }), malformed("cdniets")),
            (json!({ "cdniets": 0 }), malformed("cdniets")),
            (json!({ "cdniets": -30 }), malformed("cdniets")),
            (json!({ "cdniets": "30" }), malformed("cdniets")),
            (json!({ "cdniets": 1e300 }), malformed("cdniets")),
            (
                json!({ "cdnistt": 0, "cdniets": "30" }),
                malformed("cdniets"),
            ),
            (json!({ "cdnistd": 0 }), cookie("/", 30)),
            (json!({ "cdnistd": 1 }), cookie("/a", 30)),
            (json!({ "cdnistd": 2 }), cookie("/a/b", 30)),
            (json!({ "cdnistd": 3 }), Ok(None)),
            (json!({ "cdnistd": u64::MAX }), Ok(None)),
            (json!({ "cdnistd": -1 }), malformed("cdnistd")),
            (json!({ "cdnistd": 1.5 }), malformed("cdnistd")),
        ] {
            let found = set_cookie("http://h/a/b", claims.clone());
            let found = found
                .map(|cookie| cookie.map(|cookie| cookie.split_once("; ").unwrap().1.to_owned()));
            assert_eq!(found, expected, "{claims}");
        }
        let claims = object(json!({ "exp": END, "cdniuc": "regex:.*", "cdnistt": 1 }));
        let token = signed(Value::Object(claims));
        let url = format!("http://h/?URISigningPackage={token}");
        let missing = CredentialRefusal::MissingClaim { claim: "cdniets" };
        assert_eq!(ask(&url, at(END - 1)).err(), Some(missing));
        // A cookie's path holds no semicolon, and a token in the path is not part of it.
        for (path, depth, expected) in [
            ("/a;b/c", 2, "/"),
            ("/a/b;c/d", 3, "/a"),
            ("/a/b/", 3, "/a/b/"),
        ] {
            let claims = json!({ "cdnistd": depth });
            let found = set_cookie(&format!("http://h{path}"), claims)
                .unwrap()
                .unwrap();
            assert!(found.contains(&format!("; Path={expected};")), "{found}");
        }
        let token = renewing(json!({ "cdnistd": 2 }));
        let url = format!("http://h/a;URISigningPackage={token}/b");
        let granted = ask_with(&issuer(), &url, &[]).unwrap().unwrap();
        let cookie = granted.renewed.unwrap().set_cookie("https").unwrap();
        let cookie = cookie.to_str().unwrap();
        assert!(
            cookie.ends_with("; Path=/a/b; Max-Age=30; HttpOnly; Secure; SameSite=None"),
            "{cookie}"
        );
    }

    #[test]
    fn a_token_that_only_a_private_key_could_renew_needs_a_secret_beside_it() {
        let claims = json!({ "exp": END, "cdniuc": "regex:.*", "cdnistt": 1, "cdniets": 30 });
        let private = P256.private();
        let token = sign_jwt(&object(claims), Some("e"), &JwtSigner::Key(&private)).unwrap();
        let url = format!("http://h/a?URISigningPackage={token}");
        let unsupported = CredentialRefusal::UnsupportedClaim { claim: "cdnistt" };
        assert_eq!(ask_with(&issuer(), &url, &[]).err(), Some(unsupported));
        let with_secret = issuer().renewing_with("h2").unwrap();
        let granted = ask_with(&with_secret, &url, &[]).unwrap().unwrap();
        let cookie = granted.renewed.unwrap().set_cookie("http").unwrap();
        let cookie = cookie.to_str().unwrap();
        let token = cookie.split([';', '=']).nth(1).unwrap();
        assert_eq!(
            jws::Jws::parse(token).unwrap().key_id.as_deref(),
            Some("h2")
        );
        let granted = ask_with(&issuer(), "http://h/b", &[token]);
        assert!(granted.unwrap().is_some());
        // Neither a public key nor one that is not there.
        assert!(issuer().renewing_with("e").is_none());
        assert!(issuer().renewing_with("h3").is_none());
    }

    #[test]
    fn of_the_tokens_of_a_request_the_first_that_is_genuine_grants() {
        let good = for_regex(".*");
        let other = for_regex("http://h/other");
        let expired = signed(json!({ "exp": END - 9, "cdniuc": "regex:.*" }));
        let expired_ago = |seconds| CredentialRefusal::Expired {
            since: Duration::from_secs(seconds),
        };
        let (good, other, expired) = (&*good, &*other, &*expired);
        let wrong = CredentialRefusal::WrongResource;
        let cases: [(Option<&str>, &[&str], Option<CredentialRefusal>); 9] = [
            (Some(good), &[], None),
            // A live playlist is asked for again with the token that it had first.
            (Some(expired), &[good], None),
            (Some(expired), &[other], Some(expired_ago(8))),
            (Some(other), &[good], None),
            (None, &[other, expired, good], None),
            (None, &[other, expired], Some(wrong)),
            (None, &["x", good], None),
            (None, &[other, other, other, good], None),
            (None, &[other, other, other, other, good], Some(wrong)),
        ];
        for (in_url, cookies, expected) in cases {
            let url = match in_url {
                Some(token) => format!("http://h/a?URISigningPackage={token}"),
                None => "http://h/a".to_owned(),
            };
            let found = ask_with(&issuer(), &url, cookies);
            assert_eq!(found.err(), expected, "{url} {cookies:?}");
        }
        let url = format!("http://h/a;URISigningPackage={good}?URISigningPackage={good}");
        let twice = CredentialRefusal::DuplicatePart { part: "the token" };
        assert_eq!(ask_with(&issuer(), &url, &[good]).err(), Some(twice));
    }
}
