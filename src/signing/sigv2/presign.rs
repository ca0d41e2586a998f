//! Signing with Version 2, for our own clients, tools and tests.

use std::time::{Duration, SystemTime};

use aws_lc_rs::hmac;
use http::HeaderMap;

use crate::secret::Secret;
use crate::signing::sigv4::{
    AuthParameter, PresignError, check_signer, encode_path, push_parameter,
};
use crate::signing::{Refusal, SignedRequest};

use super::canonical::Signature;
use super::claim::Claim;
use super::{ACCESS_KEY_ID, EXPIRES, SIGNATURE};

/// What a URL presigned with Version 2 shall grant.
#[derive(Debug, Clone, Copy)]
pub struct PresignV2Spec<'a> {
    /// The method that the URL may be used with, such as `GET`.
    pub method: &'a str,
    /// The host that the client will send. It is signed only as far as it names a bucket under [`Self::domain`].
    pub host: &'a str,
    /// The domain under which hosts name buckets, if there is one.
    pub domain: Option<&'a str>,
    /// The decoded path: `/`, bucket, `/`, object key. It is percent-encoded once, here.
    pub path: &'a str,
    /// Further query parameters, decoded: sub-resources, response overrides, `x-amz-*`.
    pub query: &'a [(String, String)],
    /// Header fields that the client will send; `content-type`, `content-md5` and `x-amz-*` are signed.
    pub headers: &'a HeaderMap,
    /// Whose secret signs.
    pub access_key_id: &'a str,
    /// How long the URL is good from now on; parts of a second are dropped.
    pub expires: Duration,
}

/// Makes a URL presigned with Version 2 and returns its target, path and query.
///
/// # Errors
/// A [`PresignError`] when the URL would be refused.
pub fn presign_v2(
    spec: &PresignV2Spec,
    secret: &Secret,
    now: SystemTime,
) -> Result<String, PresignError> {
    // Version 2 knows no region; any word passes that check.
    check_signer(spec.method, spec.host, spec.access_key_id, "any")?;
    if !spec.path.starts_with('/') {
        return Err(PresignError::RelativePath);
    }
    let out_of_range = PresignError::ExpiresOutOfRange {
        expires: spec.expires,
    };
    let expires = (now.duration_since(SystemTime::UNIX_EPOCH))
        .map_err(|_| PresignError::ClockOutOfRange)?
        .checked_add(spec.expires)
        .ok_or(out_of_range)?;
    let path = encode_path(spec.path);
    let mut query = String::new();
    for (name, value) in spec.query {
        let reserved = AuthParameter::named(name.as_bytes()).map(AuthParameter::name);
        let reserved = reserved.or_else(|| {
            let own = [ACCESS_KEY_ID, EXPIRES, SIGNATURE];
            own.into_iter().find(|own| name == own)
        });
        if let Some(name) = reserved {
            return Err(PresignError::ReservedParameter { name });
        }
        push_parameter(&mut query, name, value);
    }
    push_parameter(&mut query, ACCESS_KEY_ID, spec.access_key_id);
    push_parameter(&mut query, EXPIRES, &expires.as_secs().to_string());
    let unsigned = query.len();
    // Any text of the right length: it is not part of what is signed.
    push_parameter(&mut query, SIGNATURE, "0000000000000000000000000000");
    let request = SignedRequest {
        method: spec.method,
        path: &path,
        query: &query,
        host: spec.host,
        headers: spec.headers,
    };
    let text = match Claim::parse(&request) {
        Ok(claim) => claim.covered.string_to_sign(&request, spec.domain),
        Err(Refusal::MalformedExpires) => return Err(out_of_range),
        Err(_) => return Err(PresignError::UnsignedParameter),
    };
    let key = signing_key(secret);
    query.truncate(unsigned);
    push_parameter(&mut query, SIGNATURE, Signature::of(&text, &key).as_str());
    Ok(format!("{path}?{query}"))
}

/// The key of all signatures of a secret.
pub(in crate::signing) fn signing_key(secret: &Secret) -> hmac::Key {
    hmac::Key::new(
        hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        secret.reveal().as_bytes(),
    )
}
