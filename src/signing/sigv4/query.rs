//! The parameters of a presigned URL, as they stand in a raw query.

use std::borrow::Cow;
use std::iter;

use super::canonical::decode_query;
use crate::signing::sigv2;

/// A query parameter that belongs to the signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::signing) enum AuthParameter {
    Algorithm,
    Credential,
    Date,
    Expires,
    SignedHeaders,
    Signature,
    SecurityToken,
    ContentSha256,
}

impl AuthParameter {
    /// How many there are.
    pub(super) const COUNT: usize = 8;

    /// The name as S3 spells it, case included.
    pub(in crate::signing) const fn name(self) -> &'static str {
        match self {
            AuthParameter::Algorithm => "X-Amz-Algorithm",
            AuthParameter::Credential => "X-Amz-Credential",
            AuthParameter::Date => "X-Amz-Date",
            AuthParameter::Expires => "X-Amz-Expires",
            AuthParameter::SignedHeaders => "X-Amz-SignedHeaders",
            AuthParameter::Signature => "X-Amz-Signature",
            AuthParameter::SecurityToken => "X-Amz-Security-Token",
            AuthParameter::ContentSha256 => "X-Amz-Content-Sha256",
        }
    }

    /// The parameter that a decoded name stands for.
    pub(in crate::signing) fn named(name: &[u8]) -> Option<Self> {
        let parameter = match name {
            b"X-Amz-Algorithm" => AuthParameter::Algorithm,
            b"X-Amz-Credential" => AuthParameter::Credential,
            b"X-Amz-Date" => AuthParameter::Date,
            b"X-Amz-Expires" => AuthParameter::Expires,
            b"X-Amz-SignedHeaders" => AuthParameter::SignedHeaders,
            b"X-Amz-Signature" => AuthParameter::Signature,
            b"X-Amz-Security-Token" => AuthParameter::SecurityToken,
            b"X-Amz-Content-Sha256" => AuthParameter::ContentSha256,
            _ => return None,
        };
        Some(parameter)
    }

    /// The parameter that a raw name stands for. Escapes count as what they mean, because that is
    /// how the signature reads them: `X%2DAmz-Date` must not slip past as something else.
    pub(super) fn of_raw_name(name: &str) -> Option<Self> {
        AuthParameter::named(name.as_bytes()).or_else(|| AuthParameter::named(&decoded_name(name)?))
    }
}

/// What a raw name with an escape in it means; `None` for any other, and for one that means nothing.
fn decoded_name(name: &str) -> Option<Cow<'_, [u8]>> {
    memchr::memchr(b'%', name.as_bytes())?;
    decode_query(name).ok()
}

/// Whether a raw name means `wanted`, which has nothing in it that must be escaped.
fn means(name: &str, wanted: &str) -> bool {
    name == wanted || decoded_name(name).is_some_and(|name| *name == *wanted.as_bytes())
}

/// The raw items of a raw query: what stands between `&` and `&`.
pub(super) fn raw_items(query: &str) -> impl Iterator<Item = &str> + Clone {
    let mut rest = Some(query);
    iter::from_fn(move || {
        let items = rest?;
        let item = match memchr::memchr(b'&', items.as_bytes()) {
            Some(end) => {
                rest = Some(&items[end + 1..]);
                &items[..end]
            }
            None => {
                rest = None;
                items
            }
        };
        Some(item)
    })
}

/// The raw name and the raw value of one `name=value` item; a lone name has an empty value.
pub(in crate::signing) fn split_item(item: &str) -> (&str, &str) {
    match memchr::memchr(b'=', item.as_bytes()) {
        Some(end) => (&item[..end], &item[end + 1..]),
        None => (item, ""),
    }
}

/// Whether an item is the mark of Signature Version 2.
pub(super) fn is_version_2(name: &str) -> bool {
    means(name, sigv2::ACCESS_KEY_ID)
}

/// Whether a raw query is signed with Version 2 and has nothing of Version 4.
pub(in crate::signing) fn is_only_version_2(query: &str) -> bool {
    let mut names = raw_items(query).map(|item| split_item(item).0);
    let has_version_2 = names.clone().any(is_version_2);
    has_version_2 && !names.any(|name| AuthParameter::of_raw_name(name).is_some())
}

/// Whether a raw name belongs to a signature of Version 2, in a query that has one.
fn belongs_to_version_2(name: &str) -> bool {
    const NAMES: [&str; 4] = [
        sigv2::ACCESS_KEY_ID,
        sigv2::EXPIRES,
        sigv2::SIGNATURE,
        sigv2::SECURITY_TOKEN,
    ];
    NAMES.iter().any(|belonging| means(name, belonging))
}

/// Whether a raw query has a parameter of a presigned URL: any of the `X-Amz-*` ones that belong
/// to the signature, or `AWSAccessKeyId`, which is the mark of Version 2. Parameter names are case-sensitive.
pub fn carries_presignature(query: &str) -> bool {
    raw_items(query).any(|item| {
        let (name, _) = split_item(item);
        AuthParameter::of_raw_name(name).is_some() || is_version_2(name)
    })
}

/// A raw query without the parameters of the signature; everything else stays byte for byte and
/// in order, such as `response-content-type`, `versionId` and `partNumber`. `Expires` and
/// `Signature` are parameters of a signature only beside `AWSAccessKeyId`.
///
/// Borrowed when there is nothing to strip.
pub fn query_without_signature(query: &str) -> Cow<'_, str> {
    let version_2 = raw_items(query).any(|item| is_version_2(split_item(item).0));
    let belongs = |item: &str| {
        let (name, _) = split_item(item);
        AuthParameter::of_raw_name(name).is_some() || version_2 && belongs_to_version_2(name)
    };
    let mut stripped = false;
    let mut kept = String::new();
    let mut separator = "";
    for item in raw_items(query) {
        if belongs(item) {
            stripped = true;
            continue;
        }
        kept.push_str(separator);
        separator = "&";
        kept.push_str(item);
    }
    if stripped {
        Cow::Owned(kept)
    } else {
        Cow::Borrowed(query)
    }
}
