//! Who asks, and what the signature says about the body.
//!
//! Verification reads the raw target and the fields as received; nothing has been decoded before it. There is no
//! anonymous access: a request without a signature is refused.

use std::time::{Duration, SystemTime};

use http::header::HOST;
use http::request::Parts;

use crate::signing::{
    Keyring, Payload, Refusal, Rules, SignedRequest, carries_presignature,
    carries_signature_header, verify_header, verify_presigned,
};

/// How far a client's clock may run ahead, as S3 allows.
pub(super) const CLOCK_LEEWAY: Duration = Duration::from_secs(15 * 60);

/// A genuine request.
#[derive(Debug)]
pub struct Caller {
    /// Whose key signed.
    pub access_key_id: String,
    /// What the signature says about the body.
    pub payload: Payload,
    /// Whether the signature is in the query.
    pub presigned: bool,
}

/// The host as sent. Without a readable one nothing can match, because signatures cover it.
pub(super) fn host(request: &Parts) -> Option<&str> {
    request.headers.get(HOST)?.to_str().ok()
}

/// Verifies a request.
///
/// # Errors
/// The [`Refusal`] that names the cause.
pub fn authorize(
    request: &Parts,
    keyring: &Keyring,
    rules: &Rules<'_>,
    now: SystemTime,
) -> Result<Caller, Refusal> {
    let query = request.uri.query().unwrap_or("");
    let host = host(request).ok_or(Refusal::MissingParameter { name: "Host" })?;
    let signed = SignedRequest {
        method: request.method.as_str(),
        path: request.uri.path(),
        query,
        host,
        headers: &request.headers,
    };
    if carries_presignature(query) {
        let grant = verify_presigned(&signed, keyring, rules, now)?;
        return Ok(Caller {
            access_key_id: grant.access_key_id,
            payload: grant.payload,
            presigned: true,
        });
    }
    if carries_signature_header(&request.headers) {
        let grant = verify_header(&signed, keyring, rules, now)?;
        return Ok(Caller {
            access_key_id: grant.access_key_id,
            payload: grant.payload,
            presigned: false,
        });
    }
    Err(Refusal::NotSigned)
}
