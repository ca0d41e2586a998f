//! Tokens of RFC 9246.

use std::time::{Duration, SystemTime};

use http::HeaderValue;
use http::header::COOKIE;
use serde_json::{Value, json};

use super::{END, OWN_KEYS, at, object, signed};
use crate::signing::jwt::uri_signing::verify;
use crate::signing::jwt::{JwkSet, UriContainer, UriSigningKeys, uri_container};
use crate::signing::test_support::{Asked, mutations};
use crate::signing::{CredentialRefusal, Granted};

pub(super) fn issuer() -> UriSigningKeys {
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

pub(super) fn ask(url: &str, now: SystemTime) -> Result<Option<Granted>, CredentialRefusal> {
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

/// RFC 9246 §A: the public key, and the header of all tokens. The set of the RFC has the key's other half
/// under the same `kid`, which no set can have here.
const RFC_KEYS: &str = r#"{"keys":[
    {"kty":"EC","kid":"P5UpOv0eMq1wcxLf7WxIg09JdSYGYFDOWkldueaImf0","use":"sig","alg":"ES256","crv":"P-256",
     "x":"be807S4O7dzB6I4hTiCUvmxCI6FuxWba1xYBlLSSsZ8","y":"rOGC4vI69g-WF9AGEVI37sNNwbjIzBxSjLvIL7f3RBA"},
    {"kty":"oct","kid":"f-WbjxBC3dPuI3d24kP2hfvos7Qz688UTi6aB0hN998","use":"enc","alg":"A128GCM",
     "k":"4uFxxV7fhNmrtiah2d1fFg"}
]}"#;
const RFC_HEADER: &str =
    "eyJhbGciOiJFUzI1NiIsImtpZCI6IlA1VXBPdjBlTXExd2N4TGY3V3hJZzA5SmRTWUdZRkRPV2tsZHVlYUltZjAifQ";
const RFC_END: u64 = 1_646_867_369;

/// §A.1, §A.2 and §A.3: claims and signature.
const RFC_TOKENS: [(&str, &str); 3] = [
    (
        "eyJleHAiOjE2NDY4NjczNjksImlzcyI6InVDRE4gSW5jIiwiY2RuaXVjIjoiaGFzaDpzaGEtMjU2OzJ0ZGVyZldQYTg2S3U3WW56VzUxWVVwN2RHVWpCU18zU1czRUx4NGhtV1kifQ",
        "TaNlJM3D96i_9J9XvlICO6FUIDFTqt3E2YJkEUOLfcH0b89wYRKTbJ9Yj6h_GRgSoZoQO0cps3yUPcWGK3smCw",
    ),
    (
        "eyJhdWQiOiJkQ0ROIExMQyIsInN1YiI6ImV5SmxibU1pT2lKQk1USTRSME5OSWl3aVlXeG5Jam9pWkdseUlpd2lhMmxrSWpvaVppMVhZbXA0UWtNelpGQjFTVE5rTWpSclVESm9ablp2Y3pkUmVqWTRPRlZVYVRaaFFqQm9Uams1T0NKOS4uQ0xBdTgweGNsYzhCcC1VaS42UDFBM0Y2aXAyRHYuQ29oZHRMTHBnQm5UdlJKUUNGdXotZyIsImNkbmlpcCI6ImV5SmxibU1pT2lKQk1USTRSME5OSWl3aVlXeG5Jam9pWkdseUlpd2lhMmxrSWpvaVppMVhZbXA0UWtNelpGQjFTVE5rTWpSclVESm9ablp2Y3pkUmVqWTRPRlZVYVRaaFFqQm9Uams1T0NKOS4uYVVEREZFUUJJYzNuV2pPYi5iR1hXVEhQa250bVBDS24wcFBQTkVRLml5VHR0bkZ5Yk8yWUJMcXdsX1lTakEiLCJjZG5pdiI6MSwiZXhwIjoxNjQ2ODY3MzY5LCJpYXQiOjE2NDY2OTQ1NjksImlzcyI6InVDRE4gSW5jIiwianRpIjoiNURBYWZMaFpBZmhzYmUiLCJuYmYiOjE2NDY3ODA5NjksImNkbml1YyI6InJlZ2V4Omh0dHA6Ly9jZG5pXFwuZXhhbXBsZS9mb28vYmFyL1swLTldezN9XFwucG5nIn0",
        "IjmVX0uD5MYqArc-M08uEsEeoDQn8kuYXZ9HGHDmDDxsHikT0c8jcX8xYD0z3LzQclMG65i1kT2sRbZ7isUw8w",
    ),
    (
        "eyJjZG5pZXRzIjozMCwiY2RuaXN0dCI6MSwiY2RuaXN0ZCI6MiwiZXhwIjoxNjQ2ODY3MzY5LCJjZG5pdWMiOiJyZWdleDpodHRwOi8vY2RuaVxcLmV4YW1wbGUvZm9vL2Jhci9bMC05XXszfVxcLnRzIn0",
        "tlPvoKw3BCClw4Lx9PQu7MK6b2IN55ZoCPSaxovGK0zS53Wpb1MbJBow7G8LiGR39h6-2Iq7PWUSr3MdTIzHYw",
    ),
];

#[test]
fn the_examples_of_rfc_9246_are_judged_as_it_says() {
    let issuer = |issuer: Option<&str>| {
        let keys = JwkSet::parse(RFC_KEYS.as_bytes()).unwrap();
        let (issuer, audience) = (issuer.map(str::to_owned), Some("dCDN LLC".to_owned()));
        UriSigningKeys::new("ucdn", keys, "URISigningPackage", issuer, audience)
    };
    let ucdn = Some("uCDN Inc");
    let ask = |path: &str, example: usize, issuer: UriSigningKeys, second: u64| {
        let (claims, signature) = RFC_TOKENS[example];
        let token = format!("{RFC_HEADER}.{claims}.{signature}");
        let url = format!("http://cdni.example{path}?URISigningPackage={token}");
        verify(&Asked::new(&url).view(), &[issuer], at(second)).map(|granted| granted.is_some())
    };
    let before = RFC_END - 1;
    assert_eq!(ask("/foo/bar", 0, issuer(ucdn), before), Ok(true));
    let since = Duration::ZERO;
    let expired = CredentialRefusal::Expired { since };
    assert_eq!(ask("/foo/bar", 0, issuer(ucdn), RFC_END), Err(expired));
    let elsewhere = CredentialRefusal::WrongResource;
    assert_eq!(ask("/foo/baz", 0, issuer(ucdn), before), Err(elsewhere));
    let unknown = CredentialRefusal::WrongIssuer;
    assert_eq!(ask("/foo/bar", 0, issuer(None), before), Err(unknown));
    let unsupported = |claim| Err(CredentialRefusal::UnsupportedClaim { claim });
    assert_eq!(
        ask("/foo/bar/123.png", 1, issuer(ucdn), before),
        unsupported("jti")
    );
    // Its key has no other half here to renew it with.
    assert_eq!(
        ask("/foo/bar/123.ts", 2, issuer(ucdn), before),
        unsupported("cdnistt")
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
pub(super) fn ask_with(
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
