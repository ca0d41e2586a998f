//! Presigned URLs: requests signed in their query.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use crate::signing::view::items;
use crate::signing::{Grant, Keyring, Refusal, Rules, SignedRequest};

use super::ALGORITHM;
use super::canonical::{Signature, decode_query};
use super::claim::Claim;
use super::header::{carries_signature_header, single_value};
use super::payload::{CONTENT_SHA256, UNSIGNED_PAYLOAD};
use super::query::{AuthParameter, is_version_2};
use super::scope::{Credential, Timestamp};
use super::signed_headers::SignedHeaders;

/// The longest life of a presigned URL, in seconds: seven days, which is S3's limit.
pub(super) const EXPIRES_SECONDS_MAX: u64 = 604_800;

/// Decides whether a presigned URL is genuine and still good.
///
/// It is good from its date on, less [`Rules::clock_leeway`], until its date plus `X-Amz-Expires`,
/// that instant included.
///
/// # Errors
/// The [`Refusal`] that names the cause; of several, the first in the order of S3's own checks:
/// the parameters, the credential scope, the dates, the signed headers, the access key id, the
/// signature.
pub fn verify_presigned(
    req: &SignedRequest,
    keys: &Keyring,
    rules: &Rules,
    now: SystemTime,
) -> Result<Grant, Refusal> {
    if carries_signature_header(req.headers) {
        return Err(Refusal::SignedTwice);
    }
    let Presigned { claim, lifetime } = Presigned::parse(req)?;
    claim.check_scope(rules)?;

    let signed_at = claim.timestamp.instant();
    check_not_ahead(signed_at, rules, now)?;
    let expires = signed_at + lifetime;
    if let Ok(since) = now.duration_since(expires)
        && !since.is_zero()
    {
        return Err(Refusal::Expired { since });
    }

    let payload = claim.prove(req, keys)?;
    Ok(Grant {
        access_key_id: claim.credential.access_key_id().to_owned(),
        signed_at: Some(signed_at),
        expires,
        signed_headers: claim
            .signed_headers
            .names()
            .filter(|name| *name != "host")
            .map(str::to_owned)
            .collect(),
        payload,
    })
}

/// Checks that a date of signing lies no further in the future than the rules allow.
///
/// # Errors
/// [`Refusal::NotYetValid`].
pub(super) fn check_not_ahead(
    signed_at: SystemTime,
    rules: &Rules,
    now: SystemTime,
) -> Result<(), Refusal> {
    match signed_at.duration_since(now) {
        Ok(ahead) if ahead > rules.clock_leeway => Err(Refusal::NotYetValid {
            ahead,
            leeway: rules.clock_leeway,
        }),
        _ => Ok(()),
    }
}

/// A presigned URL whose parameters have parsed. Nothing is proven yet.
pub(super) struct Presigned<'a> {
    pub(super) claim: Claim<'a>,
    lifetime: Duration,
}

impl<'a> Presigned<'a> {
    /// Reads the parameters of the signature.
    ///
    /// # Errors
    /// [`Refusal::NotSigned`], [`Refusal::UnsupportedScheme`] and everything about missing,
    /// repeated and malformed parameters.
    pub(super) fn parse(req: &SignedRequest<'a>) -> Result<Self, Refusal> {
        let parameters = Parameters::collect(req.query)?;

        let algorithm = parameters.require(AuthParameter::Algorithm)?;
        if decode_query(algorithm)?.as_ref() != ALGORITHM.as_bytes() {
            return Err(Refusal::UnsupportedScheme);
        }
        let credential = decoded(
            parameters.require(AuthParameter::Credential)?,
            Refusal::MalformedCredential,
        )?;
        let date = decoded(
            parameters.require(AuthParameter::Date)?,
            Refusal::MalformedDate,
        )?;
        let expires = decoded(
            parameters.require(AuthParameter::Expires)?,
            Refusal::MalformedExpires,
        )?;
        let signed_headers = decoded(
            parameters.require(AuthParameter::SignedHeaders)?,
            Refusal::MalformedSignedHeaders,
        )?;
        let signature = parameters.require(AuthParameter::Signature)?;
        let signature = decoded(
            signature,
            Refusal::MalformedSignature {
                length: signature.len(),
            },
        )?;

        Ok(Presigned {
            claim: Claim {
                credential: Credential::parse(credential)?,
                timestamp: Timestamp::parse(&date)?,
                signed_headers: SignedHeaders::parse(signed_headers)?,
                payload: payload(req, &parameters)?,
                signature: Signature::parse(&signature)?,
            },
            lifetime: lifetime(&expires)?,
        })
    }
}

/// The raw values of the signature's parameters.
struct Parameters<'a> {
    raw: [Option<&'a str>; AuthParameter::COUNT],
}

impl<'a> Parameters<'a> {
    fn collect(query: &'a str) -> Result<Self, Refusal> {
        let mut raw = [None; AuthParameter::COUNT];
        let mut signed = false;
        let mut version_2 = false;
        for item in items(query) {
            match AuthParameter::of_raw_name(item.name) {
                Some(parameter) => {
                    signed = true;
                    if raw[parameter as usize].replace(item.value).is_some() {
                        let name = parameter.name();
                        return Err(Refusal::DuplicateParameter { name });
                    }
                }
                None => version_2 |= is_version_2(&item),
            }
        }
        match (signed, version_2) {
            (true, false) => Ok(Parameters { raw }),
            // Which of them belong to a signature, and are not keyed, would be open.
            (true, true) => Err(Refusal::SignedTwice),
            (false, true) => Err(Refusal::UnsupportedScheme),
            (false, false) => Err(Refusal::NotSigned),
        }
    }

    fn get(&self, parameter: AuthParameter) -> Option<&'a str> {
        self.raw[parameter as usize]
    }

    fn require(&self, parameter: AuthParameter) -> Result<&'a str, Refusal> {
        self.get(parameter).ok_or(Refusal::MissingParameter {
            name: parameter.name(),
        })
    }
}

/// A decoded value, or `otherwise` when it is not text.
fn decoded(raw: &str, otherwise: Refusal) -> Result<Cow<'_, str>, Refusal> {
    match decode_query(raw)? {
        Cow::Borrowed(_) => Ok(Cow::Borrowed(raw)),
        Cow::Owned(bytes) => String::from_utf8(bytes)
            .map(Cow::Owned)
            .map_err(|_| otherwise),
    }
}

/// The payload hash: from the query, else from the header field (which the signature must then
/// cover, as it must every `x-amz-*` field), else none. Both at once would be two answers to one
/// question.
fn payload<'a>(
    req: &SignedRequest<'a>,
    parameters: &Parameters<'a>,
) -> Result<Cow<'a, str>, Refusal> {
    let in_query = parameters.get(AuthParameter::ContentSha256);
    let in_header = single_value(req.headers, CONTENT_SHA256)?;
    match (in_query, in_header) {
        (Some(_), Some(_)) => Err(Refusal::DuplicateParameter {
            name: AuthParameter::ContentSha256.name(),
        }),
        (Some(raw), None) => decoded(raw, Refusal::MalformedPayloadHash),
        (None, Some(value)) => value
            .to_str()
            .map(|text| Cow::Borrowed(text.trim()))
            .map_err(|_| Refusal::MalformedPayloadHash),
        (None, None) => Ok(Cow::Borrowed(UNSIGNED_PAYLOAD)),
    }
}

/// Reads `X-Amz-Expires`.
fn lifetime(text: &str) -> Result<Duration, Refusal> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Refusal::MalformedExpires);
    }
    // Only digits are left, so the one thing that can fail is the size.
    let seconds = text.parse().unwrap_or(u64::MAX);
    if !(1..=EXPIRES_SECONDS_MAX).contains(&seconds) {
        return Err(Refusal::ExpiresOutOfRange { seconds });
    }
    Ok(Duration::from_secs(seconds))
}
