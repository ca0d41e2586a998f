//! The parameters of a presigned URL, as they stand in a raw query.

use std::borrow::Cow;

use super::canonical::decode_query;
use crate::signing::carriers::joined;
use crate::signing::sigv2;
use crate::signing::view::{Item, items};

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
        AuthParameter::named(name.as_bytes()).or_else(|| {
            memchr::memchr(b'%', name.as_bytes())?;
            AuthParameter::named(&decode_query(name).ok()?)
        })
    }
}

/// Whether an item is the mark of Signature Version 2.
pub(super) fn is_version_2(item: &Item) -> bool {
    item.is_named(sigv2::ACCESS_KEY_ID)
}

/// Whether a raw query is signed with Version 2 and has nothing of Version 4.
pub(in crate::signing) fn is_only_version_2(query: &str) -> bool {
    let has_version_2 = items(query).any(|item| is_version_2(&item));
    has_version_2 && !items(query).any(|item| AuthParameter::of_raw_name(item.name).is_some())
}

/// Whether an item belongs to a signature of Version 2, in a query that has one.
fn belongs_to_version_2(item: &Item) -> bool {
    const NAMES: [&str; 4] = [
        sigv2::ACCESS_KEY_ID,
        sigv2::EXPIRES,
        sigv2::SIGNATURE,
        sigv2::SECURITY_TOKEN,
    ];
    NAMES.iter().any(|name| item.is_named(name))
}

/// Whether a raw query has a parameter of a presigned URL: any of the `X-Amz-*` ones that belong
/// to the signature, or `AWSAccessKeyId`, which is the mark of Version 2. Parameter names are case-sensitive.
pub fn carries_presignature(query: &str) -> bool {
    items(query).any(|item| AuthParameter::of_raw_name(item.name).is_some() || is_version_2(&item))
}

/// A raw query without the parameters of the signature; everything else stays byte for byte and
/// in order, such as `response-content-type`, `versionId` and `partNumber`. `Expires` and
/// `Signature` are parameters of a signature only beside `AWSAccessKeyId`.
///
/// Borrowed when there is nothing to strip.
pub fn query_without_signature(query: &str) -> Cow<'_, str> {
    let version_2 = items(query).any(|item| is_version_2(&item));
    let belongs = |item: &Item| {
        AuthParameter::of_raw_name(item.name).is_some() || version_2 && belongs_to_version_2(item)
    };
    if items(query).any(|item| belongs(&item)) {
        Cow::Owned(joined(query, |item| !belongs(item)))
    } else {
        Cow::Borrowed(query)
    }
}
