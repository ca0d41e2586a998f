//! AWS Signature Version 2 as Amazon S3 speaks it: in a query (`AWSAccessKeyId`, `Expires` and `Signature`) and, to
//! the store alone, in `Authorization` (`AWS AccessKeyId:Signature`).
//!
//! The scheme is specified in the S3 developer guide under "Signing and Authenticating REST Requests". It is
//! old, and weaker than Version 4: it covers neither the host nor most of a query, and a URL may be good for
//! ever. It counts only for keys that allow it ([`crate::signing::Keyring::allow_sigv2`]), and a query
//! parameter that it does not cover is refused, where S3 would let it through: what nobody has signed must
//! neither reach the origin nor make another cache key.
//!
//! | what S3's text leaves open | here |
//! |---|---|
//! | the path | signed byte for byte as it was sent |
//! | values of sub-resources | decoded once, `+` read as a space |
//! | `acl` and `acl=` | two texts |
//! | a value that reads as a further sub-resource (`a%26versionId=1`) | refused |
//! | `x-amz-*` in query and fields | the query counts as a field; two values are refused |
//! | `content-type` or `content-md5` in the query | must be sent as a field, with that value |
//! | the path of a bucket, signed in the header | with a slash behind it or without |
//! | `x-amz-date` beside `Date` | counts, and is signed among the fields; the line of the date is empty then |

mod canonical;
mod claim;
mod header;
mod presign;
#[cfg(test)]
mod test_guide;
#[cfg(test)]
mod tests;

use std::time::{Duration, SystemTime};

use aws_lc_rs::constant_time;

use crate::signing::sigv4::carries_signature_header;
use crate::signing::{Grant, Keyring, Payload, Refusal, Rules, SignedRequest};

pub(super) use canonical::Signature;
use claim::Claim;
pub(super) use header::verify_header;
pub use header::{authorize_v2, carries_sigv2_header};
pub(super) use presign::signing_key;
pub use presign::{PresignV2Spec, presign_v2};

/// The parameters of the signature itself, besides the ones of the request.
pub(super) const ACCESS_KEY_ID: &str = "AWSAccessKeyId";
pub(super) const EXPIRES: &str = "Expires";
pub(super) const SIGNATURE: &str = "Signature";
/// The token of temporary credentials. It is signed as a field and belongs to the signer, not to the object.
pub(super) const SECURITY_TOKEN: &str = "x-amz-security-token";

/// Decides whether a URL presigned with Version 2 is genuine and still good: through the second that
/// `Expires` names.
///
/// # Errors
/// The [`Refusal`] that names the cause: first the parameters, then the date, the access key id, the
/// signature.
pub(super) fn verify_presigned(
    req: &SignedRequest,
    keys: &Keyring,
    rules: &Rules,
    now: SystemTime,
) -> Result<Grant, Refusal> {
    if carries_signature_header(req.headers) {
        return Err(Refusal::SignedTwice);
    }
    let claim = Claim::parse(req)?;
    // Ten digits lie far inside of what the clock can hold.
    let expires = SystemTime::UNIX_EPOCH + Duration::from_secs(claim.expires_seconds);
    if let Ok(since) = now.duration_since(expires)
        && !since.is_zero()
    {
        return Err(Refusal::Expired { since });
    }
    let key = keys.sigv2_key(&claim.access_key_id)?;
    let wanted = Signature::of(&claim.covered.string_to_sign(req, rules.domain), key);
    // `constant-time-compare`
    constant_time::verify_slices_are_equal(wanted.as_str().as_bytes(), claim.signature.as_bytes())
        .map_err(|_| Refusal::SignatureMismatch)?;
    Ok(Grant {
        access_key_id: claim.access_key_id.into_owned(),
        signed_at: None,
        expires,
        signed_headers: claim.covered.fields,
        payload: Payload::Unsigned,
    })
}

/// What is hashed for a request, for a person.
///
/// # Errors
/// The [`Refusal`] that keeps the text from being made at all.
pub(super) fn explain(req: &SignedRequest, domain: Option<&str>) -> Result<String, Refusal> {
    let text = Claim::parse(req)?.covered.string_to_sign(req, domain);
    Ok(String::from_utf8_lossy(&text).into_owned())
}
