//! What the whole scheme promises, seen from outside.

mod canonicalisation;
mod coverage;
mod properties;
mod published;
mod refusals;
mod suite;

use std::time::{Duration, SystemTime};

use http::HeaderMap;

use crate::secret::Secret;
use crate::signing::{Grant, HeaderGrant, Keyring, Refusal, Rules, SignedRequest};
use crate::test_fields::fields as headers;

use super::scope::Timestamp;
use super::{PresignSpec, presign, verify_header, verify_presigned};

/// The key pair of every example in the S3 API reference.
pub(super) const KEY_ID: &str = "AKIAIOSFODNN7EXAMPLE";
pub(super) const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
pub(super) const HOST: &str = "examplebucket.s3.amazonaws.com";
pub(super) const LEEWAY: Duration = Duration::from_secs(900);
pub(super) const RULES: Rules = Rules {
    region: Some("us-east-1"),
    clock_leeway: LEEWAY,
    domain: None,
};

pub(super) fn secret() -> Secret {
    Secret::new(SECRET)
}

pub(super) fn keyring() -> Keyring {
    Keyring::new([(KEY_ID.to_owned(), secret())])
}

/// Midnight of 24 May 2013, when the published examples were signed.
pub(super) fn signed_at() -> SystemTime {
    at("20130524T000000Z")
}

pub(super) fn at(text: &str) -> SystemTime {
    Timestamp::parse(text).unwrap().instant()
}

/// One request, owned, so that a test can alter any part of it.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) query: String,
    pub(super) host: String,
    pub(super) headers: HeaderMap,
}

impl Sent {
    pub(super) fn new(method: &str, target: &str, fields: &[(&str, &str)]) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Sent {
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            host: HOST.to_owned(),
            headers: headers(fields),
        }
    }

    /// A URL for one object, good for `expires` from [`signed_at`] on.
    pub(super) fn presigned(path: &str, query: &[(&str, &str)], expires: Duration) -> Self {
        let query: Vec<(String, String)> = query
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let spec = PresignSpec {
            method: "GET",
            host: HOST,
            path,
            query: &query,
            access_key_id: KEY_ID,
            region: "us-east-1",
            expires,
        };
        Sent::new("GET", &presign(&spec, &secret(), signed_at()).unwrap(), &[])
    }

    pub(super) fn view(&self) -> SignedRequest<'_> {
        SignedRequest {
            method: &self.method,
            path: &self.path,
            query: &self.query,
            host: &self.host,
            headers: &self.headers,
        }
    }

    pub(super) fn verify_presigned(&self, now: SystemTime) -> Result<Grant, Refusal> {
        verify_presigned(&self.view(), &keyring(), &RULES, now)
    }

    pub(super) fn verify_header(&self, now: SystemTime) -> Result<HeaderGrant, Refusal> {
        verify_header(&self.view(), &keyring(), &RULES, now)
    }
}
