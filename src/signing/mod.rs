//! Is this request genuine, and what does it grant?
//!
//! Everything here is pure: bytes, keys and `now` go in, a grant or a typed [`Refusal`] comes out.
//! Nothing in this folder knows a socket, a clock or an HTTP server, so a test can stand one second
//! either side of an expiry.
//!
//! | question | answer |
//! |---|---|
//! | does the request carry a signature at all? | [`carries_presignature`], [`carries_signature_header`] |
//! | is a presigned URL genuine? | [`verify_presigned`] |
//! | is an `Authorization` header genuine? | [`verify_header`] |
//! | is each chunk of a signed upload genuine? | [`ChunkSigner`] |
//! | which part of the query names the object? | [`query_without_signature`] |
//! | how is a URL or a request signed? | [`presign`], [`authorize_headers`] |
//! | what did we hash, byte for byte? | [`explain_presigned`] |
//!
//! The one scheme so far is AWS Signature Version 4 for S3, in [`sigv4`].
//!
//! Invariants:
//! - `raw-target`: verification reads the target exactly as the client sent it; nothing is
//!   normalised before.
//! - `verify-before-remember`: a derived signing key enters the cache only after a signature made
//!   with it has matched, so a stranger cannot fill that cache.
//! - `constant-time-compare`: signatures are compared by `aws_lc_rs::constant_time` only.

use std::time::{Duration, SystemTime};

use http::HeaderMap;

mod keyring;
mod refusal;
pub mod sigv4;

pub use keyring::Keyring;
pub use refusal::{Component, Refusal};
pub use sigv4::{
    AuthorizeSpec, ChunkSigner, Explanation, Payload, PresignError, PresignSpec, authorize_headers,
    carries_presignature, carries_signature_header, explain_presigned, presign,
    query_without_signature, verify_header, verify_presigned,
};

/// What was signed: every part raw, exactly as received (`raw-target`).
#[derive(Debug, Clone, Copy)]
pub struct SignedRequest<'a> {
    /// The request method, case-sensitive (RFC 9110 §9.1).
    pub method: &'a str,
    /// The path of the target, still percent-encoded, without the query.
    pub path: &'a str,
    /// The query of the target, still percent-encoded, without the `?`; empty when there is none.
    pub query: &'a str,
    /// The `Host` field or the `:authority` pseudo-header, as sent.
    pub host: &'a str,
    /// The header fields as sent. A `host` field in here is not looked at: [`Self::host`] is.
    pub headers: &'a HeaderMap,
}

/// What a verifier insists on beyond the signature itself. The service is always `s3`.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// The region that the signature must be scoped to; `None` accepts any.
    pub region: Option<&'a str>,
    /// How far in the future a presigned URL's `X-Amz-Date` may lie, for a signer whose clock runs
    /// ahead. It does not prolong a URL.
    pub clock_leeway: Duration,
}

/// What a genuine presigned URL grants.
#[derive(Debug, Clone)]
pub struct Grant {
    /// The access key id that signed.
    pub access_key_id: String,
    /// The last instant at which a request may begin.
    pub expires: SystemTime,
    /// Lower-case names of the header fields that the signature covers, `host` left out, sorted.
    pub signed_headers: Vec<String>,
    /// What the signature says about the body.
    pub payload: Payload,
}

/// What a genuine `Authorization` header grants.
#[derive(Debug, Clone)]
pub struct HeaderGrant {
    /// The access key id that signed.
    pub access_key_id: String,
    /// What the signature says about the body.
    pub payload: Payload,
}
