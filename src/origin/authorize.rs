//! Who asks, and what the signature says about the body.
//!
//! Verification reads the raw target and the fields as received; nothing has been decoded before it. Whoever signs
//! nothing is a stranger: what strangers may do, a bucket's policy or lists say ([`super::permission`]).

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use http::header::HOST;
use http::request::Parts;

use crate::signing::{
    Keyring, Payload, Refusal, Rules, SignedRequest, carries_presignature,
    carries_signature_header, verify_header_of_either, verify_presigned,
};

/// How far a client's clock may run ahead, as S3 allows.
pub(super) const CLOCK_LEEWAY: Duration = Duration::from_secs(15 * 60);

/// What S3 calls the owner of what strangers wrote: its canonical id of everybody.
const STRANGER: &str = "65a011a29cdf8ec533ec3d1ccaae921c";

/// The sender of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Whose key signed; `None` = a stranger.
    pub access_key_id: Option<String>,
    /// Whether the signature is in the query.
    pub presigned: bool,
    /// When it was signed, where that is known.
    pub signed_at: Option<SystemTime>,
    /// Where the request came from.
    pub peer: IpAddr,
}

impl Caller {
    /// Nobody in particular.
    pub fn stranger(peer: IpAddr) -> (Caller, Payload) {
        let caller = Caller {
            access_key_id: None,
            presigned: false,
            signed_at: None,
            peer,
        };
        (caller, Payload::Unsigned)
    }

    /// Who owns what this caller writes.
    pub fn owner(&self) -> &str {
        self.access_key_id.as_deref().unwrap_or(STRANGER)
    }
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
    peer: IpAddr,
) -> Result<(Caller, Payload), Refusal> {
    let query = request.uri.query().unwrap_or("");
    let host = host(request).ok_or(Refusal::MissingParameter { name: "Host" })?;
    let signed = SignedRequest {
        method: request.method.as_str(),
        path: request.uri.path(),
        query,
        host,
        headers: &request.headers,
    };
    let presigned = carries_presignature(query);
    let (access_key_id, signed_at, payload) = if presigned {
        let grant = verify_presigned(&signed, keyring, rules, now)?;
        (grant.access_key_id, grant.signed_at, grant.payload)
    } else if carries_signature_header(&request.headers) {
        let grant = verify_header_of_either(&signed, keyring, rules, now)?;
        (grant.access_key_id, Some(grant.signed_at), grant.payload)
    } else {
        return Ok(Caller::stranger(peer));
    };
    let caller = Caller {
        access_key_id: Some(access_key_id),
        presigned,
        signed_at,
        peer,
    };
    Ok((caller, payload))
}
