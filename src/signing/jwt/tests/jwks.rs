//! Sets of keys.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::signing::jwt::{JwkSet, JwksFault};

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
            key(&format!(r#"{{"kty":"oct","k":"{long}","alg":"A128GCM"}}"#)),
            Some(JwksFault::NoKey),
        ),
        (
            key(r#"{"kty":"EC","crv":"P-521","use":"enc","alg":"A128GCM"}"#),
            Some(JwksFault::NoKey),
        ),
        // A secret for encryption only is none that verifies; its length is that of its algorithm.
        (
            key(&format!(
                r#"{{"kty":"oct","k":"{long}","use":"enc","alg":"A256GCM"}}"#
            )),
            Some(JwksFault::NoKey),
        ),
        (
            key(&format!(
                r#"{{"kty":"oct","k":"{long}","use":"enc","alg":"A128GCM"}}"#
            )),
            Some(JwksFault::Key { number: 1 }),
        ),
        (
            key(&format!(
                r#"{{"kty":"oct","k":"{long}","use":"enc","alg":"A256GCM","kid":1}}"#
            )),
            Some(JwksFault::Key { number: 1 }),
        ),
        (
            key(&format!(
                r#"{{"kty":"oct","k":"{long}","kid":"a"}},{{"kty":"oct","k":"{long}","use":"enc","alg":"A256GCM","kid":"a"}}"#
            )),
            None,
        ),
        (
            key(&format!(
                r#"{{"kty":"oct","k":"{long}","use":"enc","alg":"A256GCM","kid":"a"}},{{"kty":"oct","k":"{long}","use":"enc","alg":"A256GCM","kid":"a"}}"#
            )),
            Some(JwksFault::SameId { number: 2 }),
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
