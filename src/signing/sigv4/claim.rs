//! What a request says about its own signature, wherever it says so.

use std::borrow::Cow;

use aws_lc_rs::hmac;

use crate::signing::{Keyring, Refusal, Rules, SignedRequest};

use super::canonical::{Signature, StringToSign, canonical_request, string_to_sign};
use super::payload::{Payload, PayloadKind};
use super::scope::{Credential, Timestamp};
use super::signed_headers::SignedHeaders;
use super::{ChunkSigner, Explanation};

/// A parsed but unproven signature.
pub(super) struct Claim<'a> {
    pub(super) credential: Credential<'a>,
    pub(super) timestamp: Timestamp,
    pub(super) signed_headers: SignedHeaders<'a>,
    /// The payload hash as it stands in the canonical request.
    pub(super) payload: Cow<'a, str>,
    pub(super) signature: Signature,
}

impl Claim<'_> {
    /// Checks the credential scope against the date of signing and the rules.
    ///
    /// # Errors
    /// [`Refusal::CredentialDateMismatch`], [`Refusal::WrongRegion`], [`Refusal::WrongService`].
    pub(super) fn check_scope(&self, rules: &Rules) -> Result<(), Refusal> {
        self.credential.check_scope(&self.timestamp, rules)
    }

    /// Checks that the signature is the one that our key makes for this request, and says what it
    /// means for the body.
    ///
    /// # Errors
    /// What [`SignedHeaders::check_coverage`] and [`canonical_request`] refuse,
    /// [`Refusal::MalformedPayloadHash`], [`Refusal::UnsupportedPayload`],
    /// [`Refusal::UnknownAccessKeyId`] and [`Refusal::SignatureMismatch`].
    pub(super) fn prove(&self, req: &SignedRequest, keys: &Keyring) -> Result<Payload, Refusal> {
        self.signed_headers.check_coverage(req.headers)?;
        let payload = PayloadKind::parse(&self.payload)?;
        let credential = &self.credential;
        let signing_key = keys
            .signing_key(
                credential.access_key_id(),
                &credential.date(),
                credential.region(),
            )
            .ok_or(Refusal::UnknownAccessKeyId)?;
        let (_, string_to_sign) = self.texts(req)?;
        let wanted = string_to_sign.sign(signing_key.key());
        if !wanted.matches(&self.signature) {
            return Err(Refusal::SignatureMismatch);
        }
        signing_key.remember();
        Ok(payload.with_seed(|| self.chunk_signer(signing_key.key())))
    }

    /// What is hashed, for a person.
    ///
    /// # Errors
    /// What [`canonical_request`] refuses.
    pub(super) fn explain(&self, req: &SignedRequest) -> Result<Explanation, Refusal> {
        let (canonical_request, string_to_sign) = self.texts(req)?;
        Ok(Explanation {
            canonical_request: String::from_utf8_lossy(&canonical_request).into_owned(),
            string_to_sign: string_to_sign.into_string(),
        })
    }

    fn texts(&self, req: &SignedRequest) -> Result<(Vec<u8>, StringToSign), Refusal> {
        let canonical_request = canonical_request(req, &self.signed_headers, &self.payload)?;
        let string_to_sign =
            string_to_sign(&canonical_request, &self.timestamp, self.credential.scope());
        Ok((canonical_request, string_to_sign))
    }

    fn chunk_signer(&self, key: &hmac::Key) -> ChunkSigner {
        ChunkSigner::new(
            key.clone(),
            self.timestamp,
            self.credential.scope().to_owned(),
            self.signature.clone(),
        )
    }
}
