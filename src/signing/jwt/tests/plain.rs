//! Plain tokens.

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};

use super::{END, OWN_KEYS, SECRET, at, object, signed};
use crate::signing::jwt::{JwkSet, JwtKeys, JwtSigner, sign_jwt, verify};
use crate::signing::test_support::{Asked, P256, mutations};
use crate::signing::{CredentialRefusal, Granted};

const LEEWAY: Duration = Duration::from_secs(60);

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
