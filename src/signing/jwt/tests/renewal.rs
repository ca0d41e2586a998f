//! The renewal of tokens of RFC 9246.

use http::HeaderValue;
use http::header::COOKIE;
use serde_json::{Value, json};

use super::uri_signing::{ask, ask_with, issuer};
use super::{END, OWN_KEYS, at, object, signed};
use crate::signing::CredentialRefusal;
use crate::signing::jwt::uri_signing::verify;
use crate::signing::jwt::{JwkSet, JwtSigner, jws, sign_jwt};
use crate::signing::test_support::{Asked, P256};

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
    let more = json!({ "iss": "csp", "nbf": END - 9, "iat": END - 9, "sub": "x", "cdnistd": 1 });
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
    let cookie =
        |path: &str, seconds: u64| Ok(Some(format!("Path={path}; Max-Age={seconds}; HttpOnly")));
    for (claims, expected) in [
        (json!({}), cookie("/", 30)),
        (json!({ "cdnistt": 0 }), Ok(None)),
        (json!({ "cdnistt": 3 }), unsupported.clone()),
        (json!({ "cdnistt": -1 }), unsupported),
        (json!({ "cdnistt": "1" }), malformed("cdnistt")),
        (json!({ "cdniets": 1 }), cookie("/", 1)),
        (json!({ "cdniets": 1.5 }), cookie("/", 1)),
        (json!({ "cdniets": 0.5 }), malformed("cdniets")),
        (json!({ "cdniets": 0 }), malformed("cdniets")),
        (json!({ "cdniets": -30 }), malformed("cdniets")),
        (json!({ "cdniets": "30" }), malformed("cdniets")),
        (json!({ "cdniets": 1e300 }), malformed("cdniets")),
        // A number, whatever it is.
        (json!({ "cdnistt": 0, "cdniets": 0.5 }), Ok(None)),
        (json!({ "cdnistt": 0, "cdniets": -1 }), Ok(None)),
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
        let found =
            found.map(|cookie| cookie.map(|cookie| cookie.split_once("; ").unwrap().1.to_owned()));
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
fn a_token_for_the_query_goes_into_the_target_of_a_redirect() {
    let url = format!(
        "https://h/a?URISigningPackage={}",
        renewing(json!({ "cdnistt": 2 }))
    );
    let granted = ask_with(&issuer(), &url, &[]).unwrap().unwrap();
    let renewed = granted.renewed.unwrap();
    assert_eq!(renewed.set_cookie("https"), None);
    // An asterisk stands for the token.
    for (location, by_https, by_http) in [
        ("https://o/a", Some("https://o/a?*"), Some("https://o/a?*")),
        ("HTTPS://o", Some("HTTPS://o?*"), Some("HTTPS://o?*")),
        ("http://o/a", None, Some("http://o/a?*")),
        ("Http://o/a", None, Some("Http://o/a?*")),
        ("//o/a", Some("//o/a?*"), Some("//o/a?*")),
        ("/a:b?x=1", Some("/a:b?x=1&*"), Some("/a:b?x=1&*")),
        ("b?", Some("b?*"), Some("b?*")),
        ("?x=1&", Some("?x=1&*"), Some("?x=1&*")),
        ("/a#f?g", Some("/a?*#f?g"), Some("/a?*#f?g")),
        ("/a?x=y?z#f", Some("/a?x=y?z&*#f"), Some("/a?x=y?z&*#f")),
        ("/a?x=:", Some("/a?x=:&*"), Some("/a?x=:&*")),
        (
            "/a?xURISigningPackage=1",
            Some("/a?xURISigningPackage=1&*"),
            Some("/a?xURISigningPackage=1&*"),
        ),
        // Its own token, what is not HTTP, and the same document.
        ("/a?URISigningPackage=x", None, None),
        ("/a?x=1&URISigningPackage=", None, None),
        ("/a?%55RISigningPackage=x", None, None),
        ("/a;URISigningPackage=x/b", None, None),
        ("player:films/42", None, None),
        ("mailto:a@o?subject=x", None, None),
        ("", None, None),
        ("#f", None, None),
    ] {
        for (scheme, expected) in [("https", by_https), ("http", by_http)] {
            let found = renewed.location(&HeaderValue::from_static(location), scheme);
            let found = found.map(|found| found.to_str().unwrap().to_owned());
            let Some(expected) = expected else {
                assert_eq!(found, None, "{location} from {scheme}");
                continue;
            };
            let (before, after) = expected.split_once('*').unwrap_or((expected, ""));
            let found = found.unwrap();
            let inner = found
                .strip_prefix(before)
                .unwrap_or_else(|| panic!("{found}"));
            let inner = inner.strip_suffix(after).unwrap();
            let token = inner.strip_prefix("URISigningPackage=").unwrap();
            assert!(
                ask_with(&issuer(), "http://h/b", &[token])
                    .unwrap()
                    .is_some()
            );
        }
    }
    let not_text = HeaderValue::from_bytes(b"/\xe4").unwrap();
    assert_eq!(renewed.location(&not_text, "https"), None);
    let url = format!("https://h/a?URISigningPackage={}", renewing(json!({})));
    let granted = ask_with(&issuer(), &url, &[]).unwrap().unwrap();
    let location = HeaderValue::from_static("https://o/a");
    assert_eq!(granted.renewed.unwrap().location(&location, "https"), None);
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
