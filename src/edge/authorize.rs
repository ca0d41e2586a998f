//! May this request have what it asks for? Before any look-up, on every request
//! (`authorize-before-lookup`).

use std::time::SystemTime;

use super::request::Request;
use crate::config;
use crate::signing::{
    Keyring, Refusal, Rules, SignedRequest, carries_presignature, carries_signature_header,
    verify_header, verify_presigned,
};

/// The edge's keys and rules for signatures.
pub struct Authorizer {
    keyring: Keyring,
    region: Option<String>,
    clock_leeway: std::time::Duration,
}

/// How a request may be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authorized {
    /// Whoever asks for this URL gets the same bytes: the cache may answer.
    Shared,
    /// The signature covers more of the request than its URL, so only the origin may answer.
    OriginOnly,
}

impl Authorizer {
    /// Takes the configured keys.
    pub fn new(config: &config::Signing) -> Self {
        let keys = config.keys.iter();
        Authorizer {
            keyring: Keyring::new(keys.map(|key| (key.id.clone(), key.secret.clone()))),
            region: config.region.clone(),
            clock_leeway: config.clock_leeway,
        }
    }

    /// Checks `request` against its route's `access`.
    ///
    /// # Errors
    /// [`Refusal`] when the route is `signed` and the request has no genuine signature.
    pub fn authorize(
        &self,
        access: config::Access,
        request: &Request,
        now: SystemTime,
    ) -> Result<Authorized, Refusal> {
        if access == config::Access::Public {
            return Ok(Authorized::Shared);
        }
        let signed = request.signed();
        let rules = Rules {
            region: self.region.as_deref(),
            clock_leeway: self.clock_leeway,
        };
        if is_signed_by_header(&signed) {
            verify_header(&signed, &self.keyring, &rules, now)?;
            return Ok(Authorized::OriginOnly);
        }
        let grant = verify_presigned(&signed, &self.keyring, &rules, now)?;
        // A signed Range or x-amz-* field must reach the origin as it was signed, and a fetch for
        // the cache changes such fields.
        Ok(if grant.signed_headers.is_empty() {
            Authorized::Shared
        } else {
            Authorized::OriginOnly
        })
    }
}

/// How a request may be answered if its signature is genuine and covers no more than its form shows:
/// for those who explain it and cannot judge it.
pub(super) fn presumed(access: config::Access, request: &Request) -> Authorized {
    if access == config::Access::Signed && is_signed_by_header(&request.signed()) {
        Authorized::OriginOnly
    } else {
        Authorized::Shared
    }
}

/// Whether `Authorization` signs the request, so that its headers and body are covered.
fn is_signed_by_header(signed: &SignedRequest<'_>) -> bool {
    carries_signature_header(signed.headers) && !carries_presignature(signed.query)
}
