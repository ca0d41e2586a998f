//! Requests signed in their `Authorization` header: `AWS AccessKeyId:Signature`.
//!
//! The header covers no more of a query than a URL does. What narrows a listing is taken all the same, as S3 takes
//! it, because SDKs list so and the date lets nobody use it for long; a parameter that would make another operation
//! of the request is refused.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use aws_lc_rs::constant_time;
use http::header::{AUTHORIZATION, DATE};
use http::{HeaderMap, HeaderValue};
use time::PrimitiveDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use crate::secret::Secret;
use crate::signing::sigv4::{
    AMZ_DATE, carries_presignature, check_skew, decode_query, payload_without_seed, single_value,
};
use crate::signing::view::{Item, raw_items};
use crate::signing::{HeaderGrant, Keyring, Refusal, Rules, SignedRequest, virtual_bucket};

use super::canonical::Signature;
use super::claim::{Covered, Named};
use super::presign::signing_key;

/// What the value of the header begins with.
const SCHEME: &str = "AWS ";

/// What a query may hold that nobody has signed: where a listing begins and ends, how it is written, and the name that
/// SDKs give the operation. In the order of their bytes.
const OF_LISTINGS: [&str; 18] = [
    "bucket-region",
    "continuation-token",
    "delimiter",
    "encoding-type",
    "fetch-owner",
    "key-marker",
    "list-type",
    "marker",
    "max-buckets",
    "max-keys",
    "max-parts",
    "max-uploads",
    "part-number-marker",
    "prefix",
    "start-after",
    "upload-id-marker",
    "version-id-marker",
    "x-id",
];

/// Whether the request has an `Authorization` header of Version 2.
pub fn carries_sigv2_header(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    values.any(|value| value.as_bytes().starts_with(SCHEME.as_bytes()))
}

/// Decides whether a request signed in its header is genuine. Its date, from `x-amz-date` or else `Date`, may lie 15
/// minutes from `now` either way.
///
/// # Errors
/// The [`Refusal`] that names the cause: first the header's form, then the date, the query, the access key id, the
/// signature, what is said of the body.
pub(in crate::signing) fn verify_header(
    req: &SignedRequest,
    keys: &Keyring,
    rules: &Rules,
    now: SystemTime,
) -> Result<HeaderGrant, Refusal> {
    let authorization =
        single_value(req.headers, AUTHORIZATION.as_str())?.ok_or(Refusal::NotSigned)?;
    if carries_presignature(req.query) {
        return Err(Refusal::SignedTwice);
    }
    let (access_key_id, signature) = read(authorization)?;
    let (signed_at, line) = signing_date(req.headers)?;
    check_skew(signed_at, now)?;
    let covered = Covered::of(req, Cow::Borrowed(line), named(req.query)?)?;
    let key = keys.sigv2_key(access_key_id)?;
    let is_signed_as = |req: &SignedRequest| {
        let wanted = Signature::of(&covered.string_to_sign(req, rules.domain), key);
        // `constant-time-compare`
        constant_time::verify_slices_are_equal(wanted.as_str().as_bytes(), signature.as_bytes())
            .is_ok()
    };
    // SDKs write `/bucket/` for a bucket and send `/bucket`, which means the same.
    let with_slash = is_bucket_only(req, rules.domain).then(|| format!("{}/", req.path));
    let as_sdks_sign = with_slash
        .as_deref()
        .map(|path| SignedRequest { path, ..*req });
    if !is_signed_as(req) && !as_sdks_sign.as_ref().is_some_and(is_signed_as) {
        return Err(Refusal::SignatureMismatch);
    }
    Ok(HeaderGrant {
        access_key_id: access_key_id.to_owned(),
        signed_at,
        payload: payload_without_seed(req.headers)?,
    })
}

/// Signs a request as it stands, with the date that it has, and returns its `Authorization` header: for our own tools
/// and tests. `domain` is [`Rules::domain`].
///
/// # Errors
/// The [`Refusal`] with which the request would be met.
pub fn authorize_v2(
    req: &SignedRequest,
    domain: Option<&str>,
    access_key_id: &str,
    secret: &Secret,
) -> Result<HeaderValue, Refusal> {
    if carries_presignature(req.query) {
        return Err(Refusal::SignedTwice);
    }
    let (_, line) = signing_date(req.headers)?;
    let covered = Covered::of(req, Cow::Borrowed(line), named(req.query)?)?;
    payload_without_seed(req.headers)?;
    let signature = Signature::of(&covered.string_to_sign(req, domain), &signing_key(secret));
    let value = format!("{SCHEME}{access_key_id}:{}", signature.as_str());
    let value = HeaderValue::try_from(value).map_err(|_| Refusal::MalformedVersion2)?;
    read(&value)?;
    Ok(value)
}

/// Access key id and signature. An id may hold a colon, base64 has none.
fn read(authorization: &HeaderValue) -> Result<(&str, &str), Refusal> {
    let pair = authorization
        .to_str()
        .ok()
        .and_then(|text| text.strip_prefix(SCHEME))
        .and_then(|text| text.trim().rsplit_once(':'));
    pair.filter(|(id, signature)| !id.is_empty() && !signature.is_empty())
        .ok_or(Refusal::MalformedVersion2)
}

/// The instant of signing and what stands for it in the line of the date: nothing, when `x-amz-date` says it, which is
/// signed among the fields.
fn signing_date(headers: &HeaderMap) -> Result<(SystemTime, &str), Refusal> {
    let text = |value: &HeaderValue| instant(value.to_str().ok()?.trim());
    if let Some(value) = single_value(headers, AMZ_DATE)? {
        let signed_at = text(value).ok_or(Refusal::NoSigningDate)?;
        return Ok((signed_at, ""));
    }
    let value = single_value(headers, DATE.as_str())?.ok_or(Refusal::NoSigningDate)?;
    let signed_at = text(value).ok_or(Refusal::NoSigningDate)?;
    let line = value.to_str().map_err(|_| Refusal::NoSigningDate)?;
    Ok((signed_at, line.trim()))
}

/// A date in one of the forms of RFC 9110 §5.6.7, from 1970 on. In the form of today S3 takes `+0000` for `GMT`, as in
/// its own examples, and any day of the week.
fn instant(text: &str) -> Option<SystemTime> {
    const BEHIND_WEEKDAY: &[BorrowedFormatItem<'_>] =
        format_description!("[day] [month repr:short] [year] [hour]:[minute]:[second]");
    let Some((_weekday, rest)) = text.split_once(", ").filter(|(day, _)| day.len() == 3) else {
        return httpdate::parse_http_date(text).ok();
    };
    let zone = [" GMT", " +0000"].into_iter();
    let rest = zone.filter_map(|zone| rest.strip_suffix(zone)).next()?;
    let moment = PrimitiveDateTime::parse(rest, BEHIND_WEEKDAY).ok()?;
    let seconds = u64::try_from(moment.assume_utc().unix_timestamp()).ok()?;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

/// Whether the path names a bucket and ends with its name.
fn is_bucket_only(req: &SignedRequest, domain: Option<&str>) -> bool {
    let is_in_host = domain.is_some_and(|domain| virtual_bucket(req.host, domain).is_some());
    let name = req.path.strip_prefix('/').unwrap_or_default();
    !is_in_host && !name.is_empty() && !name.contains('/')
}

/// The sub-resources of a query in which everything else is of listings.
fn named(query: &str) -> Result<Named<'_>, Refusal> {
    let mut named = Named::default();
    for item in raw_items(query) {
        let Item { name, value } = Item::of(item);
        let decoded = decode_query(name)?;
        if named.take_sub_resource(item, name, value, &decoded)? {
            continue;
        }
        let is_of_listings = OF_LISTINGS
            .iter()
            .any(|known| known.as_bytes() == &*decoded);
        // `?` and `&` at the end of a target name nothing.
        if !is_of_listings && !item.is_empty() {
            return Err(Refusal::UnsignedParameter);
        }
    }
    Ok(named)
}

#[cfg(test)]
#[path = "header_tests.rs"]
mod tests;
