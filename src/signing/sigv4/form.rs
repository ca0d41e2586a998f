//! Form uploads: the policy of the form is what is signed (S3 API reference, "Browser-Based Uploads Using
//! POST").

use std::borrow::Cow;
use std::time::SystemTime;

use crate::secret::Secret;
use crate::signing::{FormGrant, Keyring, Refusal, Rules};

use super::canonical::Signature;
use super::presign::{PresignError, check_signer};
use super::scope::{Credential, Timestamp, derive_signing_key, scope};
use super::{ALGORITHM, check_not_ahead};

/// The form's fields of Version 4, besides `policy`.
const ALGORITHM_FIELD: &str = "x-amz-algorithm";
const CREDENTIAL_FIELD: &str = "x-amz-credential";
const DATE_FIELD: &str = "x-amz-date";
const SIGNATURE_FIELD: &str = "x-amz-signature";

/// Decides whether the policy of a form is genuine. How long it is good for, it says itself.
///
/// `field` gives the value of a form field by its lower-case name.
///
/// # Errors
/// The [`Refusal`] that names the cause.
pub(in crate::signing) fn verify_form<'f>(
    policy: &str,
    field: impl Fn(&str) -> Option<&'f str>,
    keys: &Keyring,
    rules: &Rules,
    now: SystemTime,
) -> Result<FormGrant, Refusal> {
    let require = |name: &'static str| field(name).ok_or(Refusal::MissingParameter { name });
    if require(ALGORITHM_FIELD)? != ALGORITHM {
        return Err(Refusal::UnsupportedScheme);
    }
    let credential = Credential::parse(Cow::Borrowed(require(CREDENTIAL_FIELD)?))?;
    let timestamp = Timestamp::parse(require(DATE_FIELD)?)?;
    let signature = Signature::parse(require(SIGNATURE_FIELD)?)?;
    credential.check_scope(&timestamp, rules)?;
    check_not_ahead(timestamp.instant(), rules, now)?;
    let key = keys
        .signing_key(
            credential.access_key_id(),
            &credential.date(),
            credential.region(),
        )
        .ok_or(Refusal::UnknownAccessKeyId)?;
    if !Signature::of(policy.as_bytes(), key.key()).matches(&signature) {
        return Err(Refusal::SignatureMismatch);
    }
    key.remember();
    Ok(FormGrant {
        access_key_id: credential.access_key_id().to_owned(),
        signed_at: Some(timestamp.instant()),
    })
}

/// Who signs a form, and when.
#[derive(Debug, Clone, Copy)]
pub struct FormSigner<'a> {
    /// The access key id.
    pub access_key_id: &'a str,
    /// The region of the credential scope.
    pub region: &'a str,
    /// The date of signing.
    pub now: SystemTime,
}

impl FormSigner<'_> {
    /// The fields that say who signs: the policy must have a condition for each.
    ///
    /// # Errors
    /// [`PresignError`] when S3 would refuse them.
    pub fn fields(&self) -> Result<[(&'static str, String); 3], PresignError> {
        check_signer("POST", "host", self.access_key_id, self.region)?;
        let timestamp = Timestamp::of(self.now).ok_or(PresignError::ClockOutOfRange)?;
        let scope = scope(&timestamp, self.region);
        Ok([
            (ALGORITHM_FIELD, ALGORITHM.to_owned()),
            (CREDENTIAL_FIELD, format!("{}/{scope}", self.access_key_id)),
            (DATE_FIELD, timestamp.as_str().to_owned()),
        ])
    }

    /// The field that signs `policy`, which is base64 of the document.
    ///
    /// # Errors
    /// [`PresignError::ClockOutOfRange`].
    pub fn sign(
        &self,
        policy: &str,
        secret: &Secret,
    ) -> Result<(&'static str, String), PresignError> {
        let timestamp = Timestamp::of(self.now).ok_or(PresignError::ClockOutOfRange)?;
        let key = derive_signing_key(secret, &timestamp.date(), self.region);
        let signature = Signature::of(policy.as_bytes(), &key);
        Ok((SIGNATURE_FIELD, signature.as_str().to_owned()))
    }
}
