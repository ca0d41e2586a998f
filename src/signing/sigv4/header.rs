//! Requests signed in their `Authorization` header.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use http::header::{AUTHORIZATION, DATE};
use http::{HeaderMap, HeaderValue};

use crate::signing::{HeaderGrant, Keyring, Refusal, Rules, SignedRequest};

use super::ALGORITHM;
use super::canonical::Signature;
use super::claim::Claim;
use super::payload::CONTENT_SHA256;
use super::query::carries_presignature;
use super::scope::{Credential, Timestamp};
use super::signed_headers::SignedHeaders;

/// How far the date of signing may lie from our clock, either way: S3's limit.
const SKEW_MAX: Duration = Duration::from_secs(15 * 60);

/// The field that carries the date of signing.
pub(in crate::signing) const AMZ_DATE: &str = "x-amz-date";

/// Whether the request has an `Authorization` header in a scheme of AWS: Signature Version 4, or
/// another one that [`verify_header`] refuses by name. `Basic`, `Bearer` and the like are none.
pub fn carries_signature_header(headers: &HeaderMap) -> bool {
    headers
        .get_all(AUTHORIZATION)
        .iter()
        .any(|value| is_aws_scheme(value.as_bytes()))
}

fn is_aws_scheme(value: &[u8]) -> bool {
    value.starts_with(b"AWS4-") || value.starts_with(b"AWS ")
}

/// Decides whether a request signed in its `Authorization` header is genuine.
///
/// Its date, from `x-amz-date` or else `Date`, may lie 15 minutes from `now` either way;
/// [`Rules::clock_leeway`] is for presigned URLs and not used here. The body is not looked at:
/// [`HeaderGrant::payload`] says what it must be.
///
/// # Errors
/// The [`Refusal`] that names the cause: first the header's form, then the credential scope, the
/// date, the signed headers, the access key id, the signature.
pub fn verify_header(
    req: &SignedRequest,
    keys: &Keyring,
    rules: &Rules,
    now: SystemTime,
) -> Result<HeaderGrant, Refusal> {
    let claim = parse(req)?;
    claim.check_scope(rules)?;
    let signed_at = claim.timestamp.instant();
    check_skew(signed_at, now)?;
    let payload = claim.prove(req, keys)?;
    Ok(HeaderGrant {
        access_key_id: claim.credential.access_key_id().to_owned(),
        signed_at,
        payload,
    })
}

/// Whether a request was signed lately enough, by either version.
///
/// # Errors
/// [`Refusal::ClockSkew`].
pub(in crate::signing) fn check_skew(
    signed_at: SystemTime,
    now: SystemTime,
) -> Result<(), Refusal> {
    let skew = now
        .duration_since(signed_at)
        .unwrap_or_else(|ahead| ahead.duration());
    if skew > SKEW_MAX {
        return Err(Refusal::ClockSkew {
            skew,
            allowed: SKEW_MAX,
        });
    }
    Ok(())
}

fn parse<'a>(req: &SignedRequest<'a>) -> Result<Claim<'a>, Refusal> {
    if !carries_signature_header(req.headers) {
        return Err(Refusal::NotSigned);
    }
    let authorization =
        single_value(req.headers, AUTHORIZATION.as_str())?.ok_or(Refusal::NotSigned)?;
    if carries_presignature(req.query) {
        return Err(Refusal::SignedTwice);
    }
    let fields = Fields::parse(
        authorization
            .to_str()
            .map_err(|_| Refusal::MalformedAuthorization)?,
    )?;
    let payload = single_value(req.headers, CONTENT_SHA256)?
        .ok_or(Refusal::MissingParameter {
            name: CONTENT_SHA256,
        })?
        .to_str()
        .map_err(|_| Refusal::MalformedPayloadHash)?;
    Ok(Claim {
        credential: Credential::parse(Cow::Borrowed(fields.credential))?,
        timestamp: signing_date(req.headers)?,
        signed_headers: SignedHeaders::parse(Cow::Borrowed(fields.signed_headers))?,
        payload: Cow::Borrowed(payload.trim()),
        signature: Signature::parse(fields.signature)?,
    })
}

/// The three fields of the header: `Credential=…, SignedHeaders=…, Signature=…`.
struct Fields<'a> {
    credential: &'a str,
    signed_headers: &'a str,
    signature: &'a str,
}

impl<'a> Fields<'a> {
    /// Reads the fields in any order. Spaces around the commas are optional, as S3 has it.
    fn parse(value: &'a str) -> Result<Self, Refusal> {
        let (scheme, rest) = value
            .split_once(' ')
            .ok_or(Refusal::MalformedAuthorization)?;
        if scheme != ALGORITHM {
            return Err(Refusal::UnsupportedScheme);
        }
        let (mut credential, mut signed_headers, mut signature) = (None, None, None);
        for field in rest.split(',') {
            let (name, value) = field
                .trim()
                .split_once('=')
                .ok_or(Refusal::MalformedAuthorization)?;
            let (slot, name) = match name {
                "Credential" => (&mut credential, "Credential"),
                "SignedHeaders" => (&mut signed_headers, "SignedHeaders"),
                "Signature" => (&mut signature, "Signature"),
                _ => return Err(Refusal::MalformedAuthorization),
            };
            if slot.replace(value).is_some() {
                return Err(Refusal::DuplicateParameter { name });
            }
        }
        let missing = |name| Refusal::MissingParameter { name };
        Ok(Fields {
            credential: credential.ok_or(missing("Credential"))?,
            signed_headers: signed_headers.ok_or(missing("SignedHeaders"))?,
            signature: signature.ok_or(missing("Signature"))?,
        })
    }
}

/// The date of signing: `x-amz-date`, else `Date` in the form of RFC 9110 §5.6.7. An unsigned
/// `Date` needs no refusal of its own, because the string to sign contains the instant.
fn signing_date(headers: &HeaderMap) -> Result<Timestamp, Refusal> {
    if let Some(value) = single_value(headers, AMZ_DATE)? {
        let text = value.to_str().map_err(|_| Refusal::MalformedDate)?;
        return Timestamp::parse(text.trim());
    }
    let value = single_value(headers, DATE.as_str())?
        .ok_or(Refusal::MissingParameter { name: AMZ_DATE })?;
    let text = value.to_str().map_err(|_| Refusal::MalformedDate)?;
    let instant = httpdate::parse_http_date(text).map_err(|_| Refusal::MalformedDate)?;
    Timestamp::of(instant).ok_or(Refusal::MalformedDate)
}

/// The only value of a field, or `None` when it was not sent.
///
/// # Errors
/// [`Refusal::DuplicateParameter`] when it was sent more than once.
pub(in crate::signing) fn single_value<'a>(
    headers: &'a HeaderMap,
    name: &'static str,
) -> Result<Option<&'a HeaderValue>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    match values.next() {
        Some(_) => Err(Refusal::DuplicateParameter { name }),
        None => Ok(first),
    }
}
