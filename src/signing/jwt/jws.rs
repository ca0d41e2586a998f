//! A signed token, taken apart and proven (RFC 7515 §5.2).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::jwks::{Jwk, JwkSet};
use crate::signing::CredentialRefusal;

/// A token whose parts have been decoded. Nothing is proven yet.
pub(super) struct Jws<'t> {
    /// `alg`.
    pub(super) algorithm: String,
    /// `kid`.
    pub(super) key_id: Option<String>,
    /// Header and payload as they are signed.
    pub(super) signed: &'t str,
    payload: Vec<u8>,
    signature: Vec<u8>,
}

impl<'t> Jws<'t> {
    /// Takes a compact token apart.
    ///
    /// # Errors
    /// [`CredentialRefusal::MalformedToken`], and [`CredentialRefusal::CriticalHeader`]: no extension
    /// is understood here.
    pub(super) fn parse(token: &'t str) -> Result<Self, CredentialRefusal> {
        const MALFORMED: CredentialRefusal = CredentialRefusal::MalformedToken;
        let (signed, signature) = token.rsplit_once('.').ok_or(MALFORMED)?;
        let (header, payload) = signed.split_once('.').ok_or(MALFORMED)?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| MALFORMED);
        let header: Value = serde_json::from_slice(&decode(header)?).map_err(|_| MALFORMED)?;
        let mut header = match header {
            Value::Object(header) => header,
            _ => return Err(MALFORMED),
        };
        if header.contains_key("crit") {
            return Err(CredentialRefusal::CriticalHeader);
        }
        let mut text = |name: &str| match header.remove(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(MALFORMED),
        };
        Ok(Jws {
            algorithm: text("alg")?.ok_or(MALFORMED)?,
            key_id: text("kid")?,
            signed,
            payload: decode(payload)?,
            signature: decode(signature)?,
        })
    }

    /// The claims, if a key of `keys` has signed them, and that key.
    ///
    /// # Errors
    /// What [`JwkSet::find`] refuses, [`CredentialRefusal::SignatureMismatch`], and
    /// [`CredentialRefusal::MalformedToken`] when what is signed is no JSON object.
    pub(super) fn prove<'k>(
        &self,
        keys: &'k JwkSet,
    ) -> Result<(Map<String, Value>, &'k Jwk), CredentialRefusal> {
        let key = keys.find(self.key_id.as_deref(), &self.algorithm)?;
        if !key.verifies(self.signed.as_bytes(), &self.signature) {
            return Err(CredentialRefusal::SignatureMismatch);
        }
        match self.claims() {
            Some(claims) => Ok((claims, key)),
            None => Err(CredentialRefusal::MalformedToken),
        }
    }

    /// What the payload says, proven or not.
    pub(super) fn claims(&self) -> Option<Map<String, Value>> {
        match serde_json::from_slice(&self.payload).ok()? {
            Value::Object(claims) => Some(claims),
            _ => None,
        }
    }
}
