//! Signing, for our own clients, tools and tests.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue};
use thiserror::Error;

use crate::secret::Secret;

/// What a presigned URL shall grant.
#[derive(Debug, Clone, Copy)]
pub struct PresignSpec<'a> {
    /// The method that the URL may be used with, such as `GET`.
    pub method: &'a str,
    /// The host that the client will send, with its port unless that is the scheme's default.
    pub host: &'a str,
    /// The decoded path: `/`, bucket, `/`, object key. It is percent-encoded once, here.
    pub path: &'a str,
    /// Further query parameters, decoded, such as `response-content-type`.
    pub query: &'a [(String, String)],
    /// Whose secret signs.
    pub access_key_id: &'a str,
    /// The region of the credential scope.
    pub region: &'a str,
    /// How long the URL is good: whole seconds, from 1 s to 604,800 s (seven days).
    pub expires: Duration,
}

/// A request to be signed in its headers.
#[derive(Debug, Clone, Copy)]
pub struct AuthorizeSpec<'a> {
    /// The request method.
    pub method: &'a str,
    /// The host as it will be sent.
    pub host: &'a str,
    /// The path as it will be sent: percent-encoded, without the query.
    pub path: &'a str,
    /// The query as it will be sent, without the `?`.
    pub query: &'a str,
    /// The header fields to be signed besides `host` and those made here. A `host`,
    /// `authorization`, `x-amz-date` or `x-amz-content-sha256` among them is not used.
    pub headers: &'a HeaderMap,
    /// The value for `x-amz-content-sha256`: the SHA-256 of the body in lower-case hexadecimal,
    /// `UNSIGNED-PAYLOAD` or one of the `STREAMING-` names.
    pub payload: &'a str,
    /// Whose secret signs.
    pub access_key_id: &'a str,
    /// The region of the credential scope.
    pub region: &'a str,
}

/// Why nothing was signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PresignError {
    /// The lifetime is not a whole number of seconds from 1 to 604,800.
    #[error("a URL can be good for whole seconds from 1 s to 604800 s, not {expires:?}")]
    ExpiresOutOfRange {
        /// The lifetime asked for.
        expires: Duration,
    },
    /// The path does not begin with a slash.
    #[error("the path must begin with a slash")]
    RelativePath,
    /// A path to be sent as it stands, or a query, has a broken percent-escape.
    #[error("a percent sign is not followed by two hexadecimal digits")]
    MalformedEscape,
    /// The method is empty or has a character that no method has.
    #[error("the method is not a token")]
    MalformedMethod,
    /// The host is empty or has a character that no host has.
    #[error("the host is empty or has a character that no host has")]
    MalformedHost,
    /// The access key id is empty or has a character that cannot stand in a credential.
    #[error("the access key id is empty or has a control character or a space")]
    MalformedAccessKeyId,
    /// The region is empty or has a character that cannot stand in a credential.
    #[error("the region is empty or has a character that no region has")]
    MalformedRegion,
    /// A further query parameter belongs to the signature itself.
    #[error("{name} belongs to the signature and cannot be given")]
    ReservedParameter {
        /// The parameter as S3 spells it.
        name: &'static str,
    },
    /// The payload is neither a SHA-256 in hexadecimal nor a name that S3 defines.
    #[error("the payload is neither a SHA-256 in hexadecimal nor a name that S3 defines")]
    MalformedPayload,
    /// The clock stands outside the years 1970 to 9999.
    #[error("the clock stands outside the years 1970 to 9999")]
    ClockOutOfRange,
}

/// Makes a presigned URL and returns its target, path and query, to be put behind scheme and
/// host.
///
/// # Errors
/// A [`PresignError`] when S3 or [`super::verify_presigned`] would refuse the URL.
pub fn presign(
    spec: &PresignSpec,
    secret: &Secret,
    now: SystemTime,
) -> Result<String, PresignError> {
    let _ = (spec, secret, now);
    Err(PresignError::ClockOutOfRange)
}

/// Signs a request in its headers and returns the fields to be added: `x-amz-date`,
/// `x-amz-content-sha256` and `authorization`.
///
/// # Errors
/// A [`PresignError`] when S3 or [`super::verify_header`] would refuse the request.
pub fn authorize_headers(
    spec: &AuthorizeSpec,
    secret: &Secret,
    now: SystemTime,
) -> Result<[(HeaderName, HeaderValue); 3], PresignError> {
    let _ = (spec, secret, now);
    Err(PresignError::ClockOutOfRange)
}
