//! What was hashed, for a person who compares it with what their own signer hashed.

use crate::signing::{Refusal, SignedRequest};

use super::presigned::Presigned;

/// The two texts that a signature is made from. Neither is a secret; the signing key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The canonical request. Bytes that are not UTF-8 are shown as U+FFFD. Empty for Version 2, which has
    /// none.
    pub canonical_request: String,
    /// The string to sign.
    pub string_to_sign: String,
}

/// What we hash for a presigned URL, however old it is and whoever signed it.
///
/// # Errors
/// The [`Refusal`] that keeps a canonical request from being made at all.
pub fn explain_presigned(req: &SignedRequest) -> Result<Explanation, Refusal> {
    Presigned::parse(req)?.claim.explain(req)
}
