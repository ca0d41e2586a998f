//! JSON Web Key Sets (RFC 7517).

use std::fmt;

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::jwe::EncryptionKey;
use crate::signing::CredentialRefusal;

/// A secret for HS256 has at least the length of the hash (RFC 7518 §3.2).
const HMAC_BYTES_MIN: usize = 32;

/// The bytes of an RSA modulus of 2,048 bits (RFC 7518 §3.3).
const RSA_BYTES_MIN: usize = 256;

/// A set of keys that verify tokens, and of secrets that open what is encrypted in them.
#[derive(Debug, Clone)]
pub struct JwkSet {
    keys: Vec<Jwk>,
    encryption: Vec<EncryptionKey>,
}

/// One key.
#[derive(Clone)]
pub(super) struct Jwk {
    /// `kid`.
    pub(super) id: Option<String>,
    algorithm: Algorithm,
    key: VerificationKey,
}

/// The algorithm of a key (RFC 7518 §3.1, RFC 8037 §3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    Hs256,
    Rs256,
    Es256,
    EdDsa,
}

#[derive(Clone)]
enum VerificationKey {
    Secret(Box<hmac::Key>),
    Public(ParsedPublicKey),
}

/// Why a text is no set of keys that can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JwksFault {
    /// It is not a JSON object with a list `keys`.
    #[error("it is not a JSON object with a list named keys")]
    Form,
    /// A key lacks a part of it, or has one that is not what it must be.
    #[error("key {number} is not a valid JWK, counted from 1")]
    Key {
        /// Its place in the list.
        number: usize,
    },
    /// A key is too short for its algorithm.
    #[error("key {number}, counted from 1, is too short: 32 bytes for HS256, 2048 bits for RS256")]
    Short {
        /// Its place in the list.
        number: usize,
    },
    /// Two keys share a `kid`.
    #[error("key {number}, counted from 1, has the kid of an earlier one")]
    SameId {
        /// Its place in the list.
        number: usize,
    },
    /// There is no key for any algorithm that is spoken here.
    #[error("it holds no key for HS256, RS256, ES256 or EdDSA (Ed25519)")]
    NoKey,
}

impl Algorithm {
    pub(super) fn word(self) -> &'static str {
        match self {
            Algorithm::Hs256 => "HS256",
            Algorithm::Rs256 => "RS256",
            Algorithm::Es256 => "ES256",
            Algorithm::EdDsa => "EdDSA",
        }
    }
}

impl JwkSet {
    /// Reads a set. Keys of kinds that are not spoken here are left out, as RFC 7517 §5 asks.
    ///
    /// # Errors
    /// [`JwksFault`].
    pub fn parse(json: &[u8]) -> Result<Self, JwksFault> {
        let value: Value = serde_json::from_slice(json).map_err(|_| JwksFault::Form)?;
        let list = value.get("keys").and_then(Value::as_array);
        let (mut keys, mut encryption) = (Vec::<Jwk>::new(), Vec::<EncryptionKey>::new());
        for (index, key) in list.ok_or(JwksFault::Form)?.iter().enumerate() {
            let number = index + 1;
            let members = key.as_object().ok_or(JwksFault::Key { number })?;
            let members = Members { members, number };
            if let Some(key) = members.encryption_key()? {
                let mut earlier = encryption.iter();
                if key.id.is_some() && earlier.any(|earlier| earlier.id == key.id) {
                    return Err(JwksFault::SameId { number });
                }
                encryption.push(key);
            } else if let Some(key) = members.verification_key()? {
                if key.id.is_some() && keys.iter().any(|earlier| earlier.id == key.id) {
                    return Err(JwksFault::SameId { number });
                }
                keys.push(key);
            }
        }
        if keys.is_empty() {
            return Err(JwksFault::NoKey);
        }
        Ok(JwkSet { keys, encryption })
    }

    /// The secrets that open what is encrypted.
    pub(super) fn encryption(&self) -> &[EncryptionKey] {
        &self.encryption
    }

    /// The secret of this name, with which one can sign as well.
    pub(super) fn secret(&self, id: &str) -> Option<&Jwk> {
        let mut secrets = self.keys.iter().filter(|key| key.is_secret());
        secrets.find(|key| key.id.as_deref() == Some(id))
    }

    /// The key that a token names by `kid`; without a name the one key that there is for its
    /// algorithm.
    ///
    /// # Errors
    /// [`CredentialRefusal::UnknownKey`], also when several would do, and
    /// [`CredentialRefusal::WrongAlgorithm`] when the key is for another one.
    pub(super) fn find(
        &self,
        id: Option<&str>,
        algorithm: &str,
    ) -> Result<&Jwk, CredentialRefusal> {
        let Some(id) = id else {
            let mut fitting = (self.keys.iter()).filter(|key| key.algorithm.word() == algorithm);
            return match (fitting.next(), fitting.next()) {
                (Some(key), None) => Ok(key),
                (None, _) => Err(CredentialRefusal::WrongAlgorithm),
                (Some(_), Some(_)) => Err(CredentialRefusal::UnknownKey),
            };
        };
        let key = self.keys.iter().find(|key| key.id.as_deref() == Some(id));
        let key = key.ok_or(CredentialRefusal::UnknownKey)?;
        if key.algorithm.word() == algorithm {
            Ok(key)
        } else {
            Err(CredentialRefusal::WrongAlgorithm)
        }
    }
}

/// The members of one key.
struct Members<'a> {
    members: &'a Map<String, Value>,
    number: usize,
}

impl Members<'_> {
    fn text(&self, name: &str) -> Option<&str> {
        self.members.get(name).and_then(Value::as_str)
    }

    fn fault(&self) -> JwksFault {
        let number = self.number;
        JwksFault::Key { number }
    }

    fn bytes(&self, name: &str) -> Result<Zeroizing<Vec<u8>>, JwksFault> {
        let encoded = self.text(name).ok_or(self.fault())?;
        let bytes = URL_SAFE_NO_PAD.decode(encoded);
        bytes.map(Zeroizing::new).map_err(|_| self.fault())
    }

    fn id(&self) -> Result<Option<String>, JwksFault> {
        match self.members.get("kid") {
            None => Ok(None),
            Some(Value::String(id)) => Ok(Some(id.clone())),
            Some(_) => Err(self.fault()),
        }
    }

    /// `None` when it is not a secret for encryption in a way that is spoken here.
    fn encryption_key(&self) -> Result<Option<EncryptionKey>, JwksFault> {
        let is_secret = self.text("kty") == Some("oct") && self.text("use") == Some("enc");
        let alg = (self.text("alg")).filter(|alg| is_secret && EncryptionKey::is_for(alg));
        let Some(alg) = alg else {
            return Ok(None);
        };
        let key = EncryptionKey::new(self.id()?, alg, &self.bytes("k")?);
        key.map(Some).ok_or(self.fault())
    }

    /// `None` when it is for another use, or of a kind that is not spoken here.
    fn verification_key(&self) -> Result<Option<Jwk>, JwksFault> {
        let (fault, number) = (self.fault(), self.number);
        let text = |name| self.text(name);
        let bytes = |name| self.bytes(name);
        let algorithm = match (text("kty").ok_or(fault)?, text("crv")) {
            ("oct", _) => Algorithm::Hs256,
            ("RSA", _) => Algorithm::Rs256,
            ("EC", Some("P-256")) => Algorithm::Es256,
            ("OKP", Some("Ed25519")) => Algorithm::EdDsa,
            _ => return Ok(None),
        };
        let other_use = text("use").is_some_and(|word| word != "sig");
        if other_use || text("alg").is_some_and(|word| word != algorithm.word()) {
            return Ok(None);
        }
        let public =
            |key: Result<ParsedPublicKey, _>| key.map(VerificationKey::Public).map_err(|_| fault);
        let key = match algorithm {
            Algorithm::Hs256 => {
                let secret = bytes("k")?;
                if secret.len() < HMAC_BYTES_MIN {
                    return Err(JwksFault::Short { number });
                }
                VerificationKey::Secret(Box::new(hmac::Key::new(hmac::HMAC_SHA256, &secret)))
            }
            Algorithm::Rs256 => {
                let (modulus, exponent) = (bytes("n")?, bytes("e")?);
                if modulus.len() < RSA_BYTES_MIN {
                    return Err(JwksFault::Short { number });
                }
                let der = rsa_public_key(&modulus, &exponent);
                public(ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, der))?
            }
            Algorithm::Es256 => {
                // An uncompressed point (SEC 1 §2.3.3).
                let point = [&[4][..], &bytes("x")?, &bytes("y")?].concat();
                public(ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point))?
            }
            Algorithm::EdDsa => public(ParsedPublicKey::new(&ED25519, &*bytes("x")?))?,
        };
        let id = self.id()?;
        Ok(Some(Jwk { id, algorithm, key }))
    }
}

impl Jwk {
    pub(super) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Signs `message`; `None` when only the public half of the key is here.
    pub(super) fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        match &self.key {
            VerificationKey::Secret(key) => Some(hmac::sign(key, message).as_ref().to_vec()),
            VerificationKey::Public(_) => None,
        }
    }

    /// Whether it is a secret, with which one can sign as well.
    pub(super) fn is_secret(&self) -> bool {
        matches!(self.key, VerificationKey::Secret(_))
    }

    /// Whether `signature` was made for `message` with this key, in its algorithm.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.key {
            // In constant time.
            VerificationKey::Secret(key) => hmac::verify(key, message, signature).is_ok(),
            VerificationKey::Public(key) => key.verify_sig(message, signature).is_ok(),
        }
    }
}

impl fmt::Debug for Jwk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jwk")
            .field("id", &self.id)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

/// `RSAPublicKey` of PKCS#1 (RFC 8017 §A.1.1) in DER.
fn rsa_public_key(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    let numbers = [unsigned(modulus), unsigned(exponent)].concat();
    tagged(0x30, &numbers)
}

/// An INTEGER that is not negative.
fn unsigned(bytes: &[u8]) -> Vec<u8> {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let significant = &bytes[zeros..];
    let padding: &[u8] = match significant.first() {
        Some(first) if *first < 0x80 => &[],
        _ => &[0],
    };
    tagged(2, &[padding, significant].concat())
}

fn tagged(tag: u8, contents: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let length = contents.len().to_be_bytes();
    let zeros = length.iter().take_while(|byte| **byte == 0).count();
    let significant = &length[zeros..];
    match significant {
        [] => out.push(0),
        [short] if *short < 0x80 => out.push(*short),
        long => {
            // At most eight bytes, so the sum stays a byte.
            out.push(0x80 | u8::try_from(long.len()).expect("a length has at most eight bytes"));
            out.extend_from_slice(long);
        }
    }
    out.extend_from_slice(contents);
    out
}
