//! Claims that both kinds of tokens share (RFC 7519 §4.1).

use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};

use crate::signing::{CredentialRefusal, window};

/// From when to when a token counts.
pub(super) struct Validity {
    pub(super) not_before: Option<SystemTime>,
    pub(super) expires: SystemTime,
}

impl Validity {
    /// Checks `exp`, which must be there, and `nbf`.
    ///
    /// # Errors
    /// About these claims; [`CredentialRefusal::Expired`] from the instant `exp` on.
    pub(super) fn check(
        claims: &Map<String, Value>,
        leeway: Duration,
        now: SystemTime,
    ) -> Result<Self, CredentialRefusal> {
        let claim = "exp";
        let expires = date(claims, claim)?.ok_or(CredentialRefusal::MissingClaim { claim })?;
        window::not_expired(expires, now)?;
        let not_before = date(claims, "nbf")?;
        if let Some(start) = not_before {
            window::has_begun(start, now, leeway)?;
        }
        Ok(Validity {
            not_before,
            expires,
        })
    }
}

/// A `NumericDate` (RFC 7519 §2): seconds since 1970, perhaps with a fraction.
fn date(
    claims: &Map<String, Value>,
    claim: &'static str,
) -> Result<Option<SystemTime>, CredentialRefusal> {
    let malformed = CredentialRefusal::MalformedClaim { claim };
    let number = match claims.get(claim) {
        None => return Ok(None),
        Some(Value::Number(number)) => number,
        Some(_) => return Err(malformed),
    };
    if let Some(seconds) = number.as_u64() {
        return Ok(Some(window::instant(seconds)));
    }
    // A negative one does not become a duration.
    let seconds = number
        .as_f64()
        .map(|seconds| seconds.min(window::LAST as f64));
    let since = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let since = since.ok_or(malformed)?;
    Ok(Some(SystemTime::UNIX_EPOCH + since))
}

/// Checks `iss` against the one issuer of these keys, if there is one. A token that names an issuer is
/// for those who know it (RFC 9246 §2.1.1).
///
/// # Errors
/// [`CredentialRefusal::MissingClaim`] and [`CredentialRefusal::WrongIssuer`].
pub(super) fn check_issuer(
    claims: &Map<String, Value>,
    issuer: Option<&str>,
    unknown: UnknownIssuer,
) -> Result<(), CredentialRefusal> {
    match (claims.get("iss"), issuer) {
        (Some(Value::String(named)), Some(issuer)) if named == issuer => Ok(()),
        (None, Some(_)) if unknown == UnknownIssuer::Passes => {
            Err(CredentialRefusal::MissingClaim { claim: "iss" })
        }
        (None, _) => Ok(()),
        (Some(_), None) if unknown == UnknownIssuer::Passes => Ok(()),
        (Some(_), _) => Err(CredentialRefusal::WrongIssuer),
    }
}

/// What becomes of an issuer when none is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UnknownIssuer {
    /// RFC 7519 leaves it to the application: the keys say whom we trust. An issuer that is
    /// configured must be named.
    Passes,
    /// RFC 9246 §2.1.1. An issuer that is configured need not be named.
    IsRefused,
}

/// Checks `aud` (RFC 7519 §4.1.3): a token that names audiences is for them only, and a configured
/// audience must be named.
///
/// # Errors
/// [`CredentialRefusal::MissingClaim`], [`CredentialRefusal::MalformedClaim`] and
/// [`CredentialRefusal::WrongAudience`].
pub(super) fn check_audience(
    claims: &Map<String, Value>,
    audience: Option<&str>,
) -> Result<(), CredentialRefusal> {
    let claim = "aud";
    let is_ours = |named: &Value| named.as_str().is_some_and(|named| Some(named) == audience);
    let ours = match claims.get(claim) {
        None if audience.is_some() => return Err(CredentialRefusal::MissingClaim { claim }),
        None => true,
        Some(one @ Value::String(_)) => is_ours(one),
        Some(Value::Array(several)) => several.iter().any(is_ours),
        Some(_) => return Err(CredentialRefusal::MalformedClaim { claim }),
    };
    ours.then_some(()).ok_or(CredentialRefusal::WrongAudience)
}
