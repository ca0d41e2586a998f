//! Signing, for our own tools and tests.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use super::jwks::Algorithm;
use super::uri_signing::{normal_escapes, url_hash};
use crate::signing::private_key::{EcdsaForm, PrivateKey, PrivateKeyKind};

/// What tokens are signed with.
#[derive(Debug)]
pub enum JwtSigner<'k> {
    /// A secret, HS256.
    Secret(&'k [u8]),
    /// A private key: RS256, ES256 or EdDSA, by its kind.
    Key(&'k PrivateKey),
}

/// Which URLs a token of URI signing is for.
#[derive(Debug, Clone, Copy)]
pub enum UriContainer<'a> {
    /// One URL.
    Url(&'a str),
    /// What a regular expression stands for.
    Regex(&'a str),
}

/// The value of `cdniuc`. A URL is given with scheme and host in lower case, and without the port
/// that its scheme implies.
pub fn uri_container(container: UriContainer) -> String {
    match container {
        UriContainer::Url(url) => format!("hash:sha-256;{}", url_hash(&normal_escapes(url))),
        UriContainer::Regex(regex) => format!("regex:{regex}"),
    }
}

/// Signs claims. `None` when the system gives no random numbers.
pub fn sign_jwt(
    claims: &Map<String, Value>,
    key_id: Option<&str>,
    signer: &JwtSigner,
) -> Option<String> {
    let algorithm = match signer {
        JwtSigner::Secret(_) => Algorithm::Hs256,
        JwtSigner::Key(key) => match key.kind() {
            PrivateKeyKind::Rsa => Algorithm::Rs256,
            PrivateKeyKind::P256 => Algorithm::Es256,
            PrivateKeyKind::Ed25519 => Algorithm::EdDsa,
        },
    };
    compact(algorithm, key_id, claims, |signed| match signer {
        JwtSigner::Secret(secret) => {
            let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
            Some(hmac::sign(&key, signed).as_ref().to_vec())
        }
        JwtSigner::Key(key) => key.sign(signed, EcdsaForm::Fixed),
    })
}

/// A token in compact form (RFC 7515 §7.1); `None` when `sign` gives no signature.
pub(super) fn compact(
    algorithm: Algorithm,
    key_id: Option<&str>,
    claims: &Map<String, Value>,
    sign: impl FnOnce(&[u8]) -> Option<Vec<u8>>,
) -> Option<String> {
    let mut header = json!({ "alg": algorithm.word(), "typ": "JWT" });
    if let Some(id) = key_id {
        header["kid"] = Value::from(id);
    }
    let encode = |text: String| URL_SAFE_NO_PAD.encode(text);
    let claims = serde_json::to_string(claims).ok()?;
    let signed = format!("{}.{}", encode(header.to_string()), encode(claims));
    let signature = sign(signed.as_bytes())?;
    Some(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
}
