//! JSON Web Tokens, plain and for URI signing, and sets of keys.

use std::sync::LazyLock;

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};
use tidegate::signing::{
    JwkSet, JwtKeys, JwtSigner, KeyKind, UriContainer, UriSigningKeys, Verifier, sign_jwt,
    uri_container,
};

use super::credentials::{END, is_granted, judged, verifier};
use super::{Line, fields, take_line, take_number, take_text};

const SECRET: &[u8] = b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

fn jwks() -> JwkSet {
    let json =
        br#"{"keys":[{"kty":"oct","kid":"k","k":"YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE"}]}"#;
    JwkSet::parse(json).expect("it is a set of keys")
}

static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
    let plain = JwtKeys {
        id: "k0".into(),
        keys: jwks(),
        parameter: "token".into(),
        issuer: None,
        audience: None,
        path_claim: Some("path".to_owned()),
    };
    let uri = UriSigningKeys::new("k1", jwks(), "URISigningPackage", None, None);
    verifier([KeyKind::Jwt(plain), KeyKind::UriSigning(uri)])
});

/// Five lines (path, query, claims, position of an edit, text of the edit), then fields.
///
/// The request is judged as it stands, then signed for its path and for its URL; each is judged, edited and judged again.
/// The claims are signed as they stand and judged. All of it is read as a set of keys.
pub fn check(data: &[u8]) {
    // Whatever it is, it is read or refused.
    let _ = JwkSet::parse(data);
    let mut rest = data;
    let texts = (
        take_text(&mut rest),
        take_text(&mut rest),
        take_text(&mut rest),
    );
    let (Some(path), Some(query), Some(claims)) = texts else {
        return;
    };
    let position = take_number(&mut rest);
    let text = take_line(&mut rest);
    let fields = fields(rest.split(|byte| *byte == b'\n'));
    let line = Line {
        method: "GET".to_owned(),
        host: "h".to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
    };
    assert!(
        !is_granted(&VERIFIER, &line, &fields),
        "nobody has signed this"
    );
    let nothing = HeaderMap::new();
    let with = |query: String| Line {
        query,
        ..line.clone()
    };
    if let Ok(Value::Object(claims)) = serde_json::from_str(claims) {
        let token = sign_jwt(&claims, Some("k"), &JwtSigner::Secret(SECRET)).expect("it is signed");
        is_granted(&VERIFIER, &with(format!("token={token}")), &nothing);
        check_renewal(&with(format!("URISigningPackage={token}")));
    }
    if !path.starts_with('/') || path.contains(['?', '*', ';', '%']) || !path.is_ascii() {
        return;
    }
    let url = format!("https://h{path}");
    let container = uri_container(UriContainer::Url(&url));
    for (name, claims) in [
        ("token", json!({ "exp": END, "path": path })),
        (
            "URISigningPackage",
            json!({ "exp": END, "cdniuc": container }),
        ),
    ] {
        let claims = claims.as_object().expect("it is an object");
        let token = sign_jwt(claims, Some("k"), &JwtSigner::Secret(SECRET)).expect("it is signed");
        let signed = with(format!("{name}={token}"));
        assert!(
            is_granted(&VERIFIER, &signed, &nothing),
            "what we sign, we accept: {signed:?}"
        );
        if let Some(edited) = signed.edited(position, text)
            && is_granted(&VERIFIER, &edited, &nothing)
        {
            assert!(edited.path == signed.path || name == "URISigningPackage");
        }
    }
}

/// What renews a token opens the same URL by itself.
fn check_renewal(line: &Line) {
    let granted = judged(&VERIFIER, line, &HeaderMap::new());
    let Some(renewed) = granted.and_then(|granted| granted.renewed) else {
        return;
    };
    let Some(cookie) = renewed.set_cookie("https") else {
        let location = renewed.location(&HeaderValue::from_static("/?"), "https");
        let location = location.expect("it goes where a cookie does not");
        let location = location.to_str().expect("it is visible ASCII");
        let next = Line {
            query: location.trim_start_matches("/?").to_owned(),
            ..line.clone()
        };
        assert!(is_granted(&VERIFIER, &next, &HeaderMap::new()), "{next:?}");
        return;
    };
    let cookie = cookie.to_str().expect("it is visible ASCII");
    let (pair, attributes) = cookie.split_once("; ").expect("it has attributes");
    assert_eq!(attributes.split("; ").count(), 5, "{attributes}");
    let mut fields = HeaderMap::new();
    fields.append(
        COOKIE,
        HeaderValue::try_from(pair).expect("a pair is a value"),
    );
    let next = Line {
        query: String::new(),
        ..line.clone()
    };
    assert!(is_granted(&VERIFIER, &next, &fields), "{next:?} {pair}");
}
