//! Claims that are encrypted, and the client's address that is in one.

use std::net::IpAddr;

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::{END, OWN_KEYS, at, object, signed};
use crate::signing::CredentialRefusal;
use crate::signing::jwt::jwe::{EncryptionKey, open};
use crate::signing::jwt::uri_signing::verify;
use crate::signing::jwt::{JwkSet, UriSigningKeys};
use crate::signing::test_support::{Asked, mutations};

/// RFC 9246 §A.2: the secret, and what is encrypted with it.
const RFC_ID: &str = "f-WbjxBC3dPuI3d24kP2hfvos7Qz688UTi6aB0hN998";
const RFC_SECRET: &str = "4uFxxV7fhNmrtiah2d1fFg";
const RFC_HEADER: &str = "eyJlbmMiOiJBMTI4R0NNIiwiYWxnIjoiZGlyIiwia2lkIjoiZi1XYmp4QkMzZFB1STNkMjRrUDJoZnZvczdRejY4OFVUaTZhQjBoTjk5OCJ9";
const RFC_CLIENT: &str = "aUDDFEQBIc3nWjOb.bGXWTHPkntmPCKn0pPPNEQ.iyTttnFybO2YBLqwl_YSjA";
const RFC_SUBJECT: &str = "CLAu80xclc8Bp-Ui.6P1A3F6ip2Dv.CohdtLLpgBnTvRJQCFuz-g";

/// A text in compact form under any header, with the secret of [`keys`] that has this length.
fn sealed(header: &Value, text: &str, secret_bytes: usize) -> String {
    let algorithm = if secret_bytes == 16 {
        &AES_128_GCM
    } else {
        &AES_256_GCM
    };
    let key = UnboundKey::new(algorithm, &vec![secret_bytes as u8; secret_bytes]).unwrap();
    let header = URL_SAFE_NO_PAD.encode(header.to_string());
    let mut text = text.as_bytes().to_vec();
    let nonce = [7; 12];
    let tag = LessSafeKey::new(key)
        .seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(header.as_bytes()),
            &mut text,
        )
        .unwrap();
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let (nonce, text, tag) = (encode(&nonce), encode(&text), encode(tag.as_ref()));
    format!("{header}..{nonce}.{text}.{tag}")
}

fn keys() -> Vec<EncryptionKey> {
    let key = |id: &str, alg: &str, bytes: usize| {
        EncryptionKey::new(Some(id.to_owned()), alg, &vec![bytes as u8; bytes]).unwrap()
    };
    vec![key("short", "A128GCM", 16), key("long", "A256GCM", 32)]
}

#[test]
fn what_the_rfc_has_encrypted_is_opened_and_nothing_that_differs() {
    let secret = URL_SAFE_NO_PAD.decode(RFC_SECRET).unwrap();
    let keys = [EncryptionKey::new(Some(RFC_ID.to_owned()), "A128GCM", &secret).unwrap()];
    for (rest, expected) in [(RFC_CLIENT, "[2001:db8::1/32]"), (RFC_SUBJECT, "UserToken")] {
        let compact = format!("{RFC_HEADER}..{rest}");
        assert_eq!(open(&compact, &keys).as_deref(), Some(expected));
        for mutated in mutations(&compact) {
            assert_eq!(open(&mutated, &keys), None, "{mutated}");
        }
    }
}

#[test]
fn the_header_says_which_secret_opens_it_and_how() {
    let text = "192.0.2.7";
    for (header, secret_bytes, is_opened) in [
        (json!({ "alg": "dir", "enc": "A128GCM" }), 16, true),
        (
            json!({ "alg": "dir", "enc": "A128GCM", "kid": "short" }),
            16,
            true,
        ),
        (
            json!({ "alg": "dir", "enc": "A256GCM", "kid": "long" }),
            32,
            true,
        ),
        (
            json!({ "alg": "dir", "enc": "A256GCM", "typ": "JWE" }),
            32,
            true,
        ),
        (
            json!({ "alg": "dir", "enc": "A128GCM", "kid": "long" }),
            16,
            false,
        ),
        (
            json!({ "alg": "dir", "enc": "A128GCM", "kid": "other" }),
            16,
            false,
        ),
        (
            json!({ "alg": "dir", "enc": "A128GCM", "kid": 1 }),
            16,
            false,
        ),
        (json!({ "alg": "dir", "enc": "A256GCM" }), 16, false),
        (json!({ "alg": "dir", "enc": "A192GCM" }), 16, false),
        (json!({ "alg": "dir" }), 16, false),
        (json!({ "alg": "A128KW", "enc": "A128GCM" }), 16, false),
        (json!({ "enc": "A128GCM" }), 16, false),
        (
            json!({ "alg": "dir", "enc": "A128GCM", "crit": ["x"], "x": 1 }),
            16,
            false,
        ),
        (
            json!({ "alg": "dir", "enc": "A128GCM", "zip": "DEF" }),
            16,
            false,
        ),
        (json!([]), 16, false),
    ] {
        let opened = open(&sealed(&header, text, secret_bytes), &keys());
        assert_eq!(opened.as_deref(), is_opened.then_some(text), "{header}");
    }
    let good = sealed(&json!({ "alg": "dir", "enc": "A128GCM" }), text, 16);
    for bad in [
        String::new(),
        "....".to_owned(),
        good.replacen("..", ".", 1),
        good.replacen("..", ".AA.", 1),
        format!("{good}."),
        format!("{good}="),
    ] {
        assert_eq!(open(&bad, &keys()), None, "{bad}");
    }
    let [short, _] = keys().try_into().unwrap();
    let same = [short.clone(), short];
    assert_eq!(open(&good, &same), None, "two would do");
}

#[test]
fn a_token_for_an_address_is_for_clients_there() {
    let mut set: Value = serde_json::from_str(&OWN_KEYS).unwrap();
    let secret = URL_SAFE_NO_PAD.encode([16; 16]);
    let secret =
        json!({ "kty": "oct", "use": "enc", "alg": "A128GCM", "kid": "short", "k": secret });
    set["keys"].as_array_mut().unwrap().push(secret);
    let set = JwkSet::parse(set.to_string().as_bytes()).unwrap();
    let issuer = UriSigningKeys::new("ott", set, "URISigningPackage", None, None);
    let malformed = CredentialRefusal::MalformedClaim { claim: "cdniip" };
    let header = json!({ "alg": "dir", "enc": "A128GCM" });
    let ask = |claim: Value, client: &str| {
        let claims = json!({ "exp": END, "cdniuc": "regex:.*", "cdniip": claim, "cdnistt": 1, "cdniets": 9 });
        let token = signed(Value::Object(object(claims)));
        let mut asked = Asked::new(&format!("http://h/a?URISigningPackage={token}"));
        asked.client = client.parse::<IpAddr>().unwrap();
        verify(&asked.view(), std::slice::from_ref(&issuer), at(END - 1))
    };
    for (block, client, expected) in [
        ("192.0.2.7", "192.0.2.7", None),
        ("192.0.2.7/32", "::ffff:192.0.2.7", None),
        (
            "192.0.2.0/24",
            "192.0.3.0",
            Some(CredentialRefusal::WrongClient),
        ),
        ("[2001:db8::1/32]", "2001:db8:ffff::1", None),
        (
            "2001:db8::1/32",
            "2001:db9::1",
            Some(CredentialRefusal::WrongClient),
        ),
        ("[192.0.2.7", "192.0.2.7", Some(malformed)),
        ("UserToken", "192.0.2.7", Some(malformed)),
        ("", "192.0.2.7", Some(malformed)),
    ] {
        let found = ask(Value::from(sealed(&header, block, 16)), client);
        match expected {
            Some(refusal) => assert_eq!(found.err(), Some(refusal), "{block} {client}"),
            None => {
                let granted = found.unwrap().unwrap();
                assert!(granted.client_bound && granted.renewed.is_some(), "{block}");
            }
        }
    }
    for claim in [json!("192.0.2.7"), json!(1), json!(null)] {
        assert_eq!(ask(claim, "192.0.2.7").err(), Some(malformed));
    }
}
