//! Judged by the examples of the RFCs, by both sides of each boundary, and by every mutation of a token.

mod jwe;
mod jwks;
mod plain;
mod renewal;
mod uri_signing;

use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use super::{JwtSigner, sign_jwt};
use crate::signing::test_support::P256;

/// When most tokens of the tests end.
const END: u64 = 1_700_000_000;
/// The secret of the key `h` in [`OWN_KEYS`].
const SECRET: &[u8] = b"a secret of more than 32 bytes, as HS256 asks";

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
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
