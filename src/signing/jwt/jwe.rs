//! Claims that are encrypted (RFC 7516): of those that RFC 9246 §2.1.10 has so that a URL does not tell a client's address
//! to everybody who sees it.
//!
//! The secret is shared and used as it is (`dir`, RFC 7518 §4.5), with AES-GCM: what the RFC's own examples have, and
//! what needs neither a key agreement for each request nor a private key at the edge.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, Algorithm, LessSafeKey, Nonce, UnboundKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

/// A secret that claims are encrypted with.
#[derive(Clone)]
pub(super) struct EncryptionKey {
    /// `kid`.
    pub(super) id: Option<String>,
    /// `enc` of what it opens (RFC 7518 §5.1).
    algorithm: &'static str,
    key: Arc<LessSafeKey>,
}

/// The length that a secret must have for an `alg`, and the algorithm; `None` for others.
fn algorithm(word: &str) -> Option<(&'static str, &'static Algorithm)> {
    match word {
        "A128GCM" => Some(("A128GCM", &AES_128_GCM)),
        "A256GCM" => Some(("A256GCM", &AES_256_GCM)),
        _ => None,
    }
}

impl EncryptionKey {
    /// Whether a key whose `alg` is this is one that is used here.
    pub(super) fn is_for(word: &str) -> bool {
        algorithm(word).is_some()
    }

    /// `None` when the secret does not have the length that `alg` asks for.
    pub(super) fn new(id: Option<String>, alg: &str, secret: &[u8]) -> Option<Self> {
        let (word, algorithm) = algorithm(alg)?;
        let key = UnboundKey::new(algorithm, secret).ok()?;
        Some(EncryptionKey {
            id,
            algorithm: word,
            key: Arc::new(LessSafeKey::new(key)),
        })
    }

    fn open(&self, sealed: &Sealed) -> Option<String> {
        let nonce = Nonce::try_assume_unique_for_key(&sealed.nonce).ok()?;
        let mut text = [&*sealed.text, &*sealed.tag].concat();
        let header = Aad::from(sealed.header.as_bytes());
        // In constant time.
        let opened = self.key.open_in_place(nonce, header, &mut text).ok()?;
        String::from_utf8(opened.to_vec()).ok()
    }
}

impl fmt::Debug for EncryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EncryptionKey")
            .field("id", &self.id)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

/// A text that is encrypted, taken apart.
struct Sealed<'t> {
    /// As it is authenticated.
    header: &'t str,
    key_id: Option<String>,
    algorithm: String,
    nonce: Vec<u8>,
    text: Vec<u8>,
    tag: Vec<u8>,
}

impl<'t> Sealed<'t> {
    fn parse(compact: &'t str) -> Option<Self> {
        let mut parts = compact.split('.');
        let mut next = || parts.next();
        let (header, key, nonce, text, tag) = (next()?, next()?, next()?, next()?, next()?);
        // `dir` has no key of its own for this text.
        if parts.next().is_some() || !key.is_empty() {
            return None;
        }
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).ok();
        let mut members: Map<String, Value> = serde_json::from_slice(&decode(header)?).ok()?;
        if members.contains_key("crit") || members.contains_key("zip") {
            return None;
        }
        let mut word = |name: &str| match members.remove(name) {
            None => Some(None),
            Some(Value::String(word)) => Some(Some(word)),
            Some(_) => None,
        };
        if word("alg")?? != "dir" {
            return None;
        }
        Some(Sealed {
            header,
            key_id: word("kid")?,
            algorithm: word("enc")??,
            nonce: decode(nonce)?,
            text: decode(text)?,
            tag: decode(tag)?,
        })
    }
}

/// What a text in compact form says, opened with the key of `keys` that it names, or with the only one for its
/// algorithm. `None` when it is no such text, or none of them opens it.
pub(super) fn open(compact: &str, keys: &[EncryptionKey]) -> Option<String> {
    let sealed = Sealed::parse(compact)?;
    let mut fitting = keys.iter().filter(|key| {
        key.algorithm == sealed.algorithm && (sealed.key_id.is_none() || key.id == sealed.key_id)
    });
    match (fitting.next(), fitting.next()) {
        (Some(key), None) => key.open(&sealed),
        _ => None,
    }
}
