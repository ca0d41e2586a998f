//! What the examples of the S3 developer guide share ("Signing and Authenticating REST Requests").

use std::time::{Duration, SystemTime};

use http::HeaderMap;

use crate::secret::Secret;
use crate::signing::{Keyring, Rules, SignedRequest};

/// The key pair of every example.
pub(super) const KEY_ID: &str = "AKIAIOSFODNN7EXAMPLE";
pub(super) const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
pub(super) const DOMAIN: &str = "s3.amazonaws.com";
pub(super) const RULES: Rules<'_> = Rules {
    region: Some("us-east-1"),
    clock_leeway: Duration::ZERO,
    domain: Some(DOMAIN),
};

pub(super) fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

/// The key of the guide, and one that is for Version 4 only.
pub(super) fn keyring() -> Keyring {
    let keys = [KEY_ID, "modern"].map(|id| (id.to_owned(), Secret::new(SECRET)));
    Keyring::new(keys).allow_sigv2(KEY_ID)
}

/// A request of `target`, which is a path and perhaps a query.
pub(super) fn request<'a>(
    method: &'a str,
    host: &'a str,
    target: &'a str,
    headers: &'a HeaderMap,
) -> SignedRequest<'a> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    SignedRequest {
        method,
        path,
        query,
        host,
        headers,
    }
}
