//! Signing, for our own clients, tools and tests.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use aws_lc_rs::hmac;
use http::header::{AUTHORIZATION, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use thiserror::Error;

use crate::secret::Secret;
use crate::signing::{SignedRequest, sigv2};

use super::ALGORITHM;
use super::canonical::{Signature, canonical_request, push_encoded, string_to_sign};
use super::header::AMZ_DATE;
use super::payload::{CONTENT_SHA256, PayloadKind, UNSIGNED_PAYLOAD};
use super::presigned::EXPIRES_SECONDS_MAX;
use super::query::AuthParameter;
use super::scope::{Timestamp, derive_signing_key, scope};
use super::signed_headers::SignedHeaders;

/// What a presigned URL shall grant.
#[derive(Debug, Clone, Copy)]
pub struct PresignSpec<'a> {
    /// The method that the URL may be used with, such as `GET`.
    pub method: &'a str,
    /// The host that the client will send, with its port unless that is the scheme's default.
    pub host: &'a str,
    /// The decoded path: `/`, bucket, `/`, object key. It is percent-encoded once, here.
    pub path: &'a str,
    /// Further query parameters, decoded, such as `response-content-type`.
    pub query: &'a [(String, String)],
    /// Whose secret signs.
    pub access_key_id: &'a str,
    /// The region of the credential scope.
    pub region: &'a str,
    /// How long the URL is good: whole seconds, from 1 s to 604,800 s (seven days).
    pub expires: Duration,
}

/// A request to be signed in its headers.
#[derive(Debug, Clone, Copy)]
pub struct AuthorizeSpec<'a> {
    /// The request method.
    pub method: &'a str,
    /// The host as it will be sent.
    pub host: &'a str,
    /// The path as it will be sent: percent-encoded, without the query.
    pub path: &'a str,
    /// The query as it will be sent, without the `?`.
    pub query: &'a str,
    /// The header fields to be signed besides `host` and those made here. A `host`,
    /// `authorization`, `x-amz-date` or `x-amz-content-sha256` among them is not used.
    pub headers: &'a HeaderMap,
    /// The value for `x-amz-content-sha256`: the SHA-256 of the body in lower-case hexadecimal,
    /// `UNSIGNED-PAYLOAD` or one of the `STREAMING-` names.
    pub payload: &'a str,
    /// Whose secret signs.
    pub access_key_id: &'a str,
    /// The region of the credential scope.
    pub region: &'a str,
}

/// Why nothing was signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PresignError {
    /// The lifetime is not a whole number of seconds from 1 to 604,800.
    #[error("a URL can be good for whole seconds from 1 s to 604800 s, not {expires:?}")]
    ExpiresOutOfRange {
        /// The lifetime asked for.
        expires: Duration,
    },
    /// The path does not begin with a slash.
    #[error("the path must begin with a slash")]
    RelativePath,
    /// A path to be sent as it stands, or a query, has a broken percent-escape.
    #[error("a percent sign is not followed by two hexadecimal digits")]
    MalformedEscape,
    /// The method is empty or has a character that no method has.
    #[error("the method is not a token")]
    MalformedMethod,
    /// The host is empty or has a character that no host has.
    #[error("the host is empty or has a character that no host has")]
    MalformedHost,
    /// The access key id is empty or has a character that cannot stand in a credential.
    #[error("the access key id is empty or has a control character, a space or a comma")]
    MalformedAccessKeyId,
    /// The region is empty or has a character that cannot stand in a credential.
    #[error("the region is empty or has a character that no region has")]
    MalformedRegion,
    /// A further query parameter belongs to the signature itself.
    #[error("{name} belongs to the signature and cannot be given")]
    ReservedParameter {
        /// The parameter as S3 spells it.
        name: &'static str,
    },
    /// A further query parameter is not covered by a signature of Version 2.
    #[error("a query parameter is not covered by Signature Version 2")]
    UnsignedParameter,
    /// The payload is neither a SHA-256 in hexadecimal nor a name that S3 defines.
    #[error("the payload is neither a SHA-256 in hexadecimal nor a name that S3 defines")]
    MalformedPayload,
    /// The clock stands outside the years 1970 to 9999.
    #[error("the clock stands outside the years 1970 to 9999")]
    ClockOutOfRange,
}

/// Makes a presigned URL and returns its target, path and query, to be put behind scheme and
/// host.
///
/// # Errors
/// A [`PresignError`] when S3 or [`super::verify_presigned`] would refuse the URL.
pub fn presign(
    spec: &PresignSpec,
    secret: &Secret,
    now: SystemTime,
) -> Result<String, PresignError> {
    let timestamp = Timestamp::of(now).ok_or(PresignError::ClockOutOfRange)?;
    check_signer(spec.method, spec.host, spec.access_key_id, spec.region)?;
    if !spec.path.starts_with('/') {
        return Err(PresignError::RelativePath);
    }
    let seconds = spec.expires.as_secs();
    if !(1..=EXPIRES_SECONDS_MAX).contains(&seconds) || spec.expires.subsec_nanos() != 0 {
        return Err(PresignError::ExpiresOutOfRange {
            expires: spec.expires,
        });
    }

    let scope = scope(&timestamp, spec.region);
    let path = encode_path(spec.path);
    let mut query = String::new();
    for (name, value) in spec.query {
        let of_version_2 = (name == sigv2::ACCESS_KEY_ID).then_some(sigv2::ACCESS_KEY_ID);
        let reserved = AuthParameter::named(name.as_bytes()).map(AuthParameter::name);
        if let Some(name) = reserved.or(of_version_2) {
            return Err(PresignError::ReservedParameter { name });
        }
        push_parameter(&mut query, name, value);
    }
    let credential = format!("{}/{scope}", spec.access_key_id);
    for (parameter, value) in [
        (AuthParameter::Algorithm, ALGORITHM),
        (AuthParameter::Credential, &credential),
        (AuthParameter::Date, timestamp.as_str()),
        (AuthParameter::Expires, &seconds.to_string()),
        (AuthParameter::SignedHeaders, HOST.as_str()),
    ] {
        push_parameter(&mut query, parameter.name(), value);
    }

    let request = SignedRequest {
        method: spec.method,
        path: &path,
        query: &query,
        host: spec.host,
        headers: &HeaderMap::new(),
    };
    let signature = sign(
        &request,
        HOST.as_str().to_owned(),
        UNSIGNED_PAYLOAD,
        &timestamp,
        &scope,
        &derive_signing_key(secret, &timestamp.date(), spec.region),
    )?;
    push_parameter(
        &mut query,
        AuthParameter::Signature.name(),
        signature.as_str(),
    );
    Ok(format!("{path}?{query}"))
}

/// Signs a request in its headers and returns the fields to be added: `x-amz-date`,
/// `x-amz-content-sha256` and `authorization`.
///
/// # Errors
/// A [`PresignError`] when S3 or [`super::verify_header`] would refuse the request.
pub fn authorize_headers(
    spec: &AuthorizeSpec,
    secret: &Secret,
    now: SystemTime,
) -> Result<[(HeaderName, HeaderValue); 3], PresignError> {
    let timestamp = Timestamp::of(now).ok_or(PresignError::ClockOutOfRange)?;
    check_signer(spec.method, spec.host, spec.access_key_id, spec.region)?;
    if !spec.path.starts_with('/') {
        return Err(PresignError::RelativePath);
    }
    PayloadKind::parse(spec.payload).map_err(|_| PresignError::MalformedPayload)?;

    let date_name = HeaderName::from_static(AMZ_DATE);
    let payload_name = HeaderName::from_static(CONTENT_SHA256);
    let date_value = HeaderValue::from_str(timestamp.as_str())
        .expect("a timestamp holds digits and two letters");
    let payload_value = HeaderValue::from_str(spec.payload)
        .expect("a payload hash that parsed holds visible ASCII only");

    let mut headers = spec.headers.clone();
    headers.remove(HOST);
    headers.remove(AUTHORIZATION);
    headers.insert(&date_name, date_value.clone());
    headers.insert(&payload_name, payload_value.clone());
    let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
    names.push(HOST.as_str());
    names.sort_unstable();
    let names = names.join(";");

    let request = SignedRequest {
        method: spec.method,
        path: spec.path,
        query: spec.query,
        host: spec.host,
        headers: &headers,
    };
    let scope = scope(&timestamp, spec.region);
    let signature = sign(
        &request,
        names.clone(),
        spec.payload,
        &timestamp,
        &scope,
        &derive_signing_key(secret, &timestamp.date(), spec.region),
    )?;
    let authorization = format!(
        "{ALGORITHM} Credential={}/{scope}, SignedHeaders={names}, Signature={}",
        spec.access_key_id,
        signature.as_str(),
    );
    let authorization =
        HeaderValue::from_str(&authorization).map_err(|_| PresignError::MalformedAccessKeyId)?;
    Ok([
        (date_name, date_value),
        (payload_name, payload_value),
        (AUTHORIZATION, authorization),
    ])
}

fn sign(
    request: &SignedRequest,
    signed_headers: String,
    payload: &str,
    timestamp: &Timestamp,
    scope: &str,
    key: &hmac::Key,
) -> Result<Signature, PresignError> {
    let signed_headers = SignedHeaders::parse(Cow::Owned(signed_headers))
        .expect("names of a header map, sorted, form a list of signed headers");
    // The signed headers were all taken from the request, so only an escape can be at fault.
    let canonical_request = canonical_request(request, &signed_headers, payload)
        .map_err(|_| PresignError::MalformedEscape)?;
    Ok(string_to_sign(&canonical_request, timestamp, scope).sign(key))
}

/// Checks what both ways of signing have in common.
pub(in crate::signing) fn check_signer(
    method: &str,
    host: &str,
    access_key_id: &str,
    region: &str,
) -> Result<(), PresignError> {
    let graphic = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    if Method::from_bytes(method.as_bytes()).is_err() {
        return Err(PresignError::MalformedMethod);
    }
    if !graphic(host) || host.contains(['/', '?', '#', '@', '\\']) {
        return Err(PresignError::MalformedHost);
    }
    // A comma would end the credential in an Authorization header.
    if !graphic(access_key_id) || access_key_id.contains(',') {
        return Err(PresignError::MalformedAccessKeyId);
    }
    if !graphic(region) || region.contains(['/', ',']) {
        return Err(PresignError::MalformedRegion);
    }
    Ok(())
}

/// A decoded path as it is sent: everything but unreserved characters and slashes escaped.
pub(in crate::signing) fn encode_path(decoded: &str) -> String {
    let mut encoded = Vec::with_capacity(decoded.len());
    for byte in decoded.bytes() {
        match byte {
            b'/' => encoded.push(b'/'),
            other => push_encoded(&mut encoded, other),
        }
    }
    ascii(encoded)
}

/// Adds `name=value`, both decoded, to a query.
pub(in crate::signing) fn push_parameter(query: &mut String, name: &str, value: &str) {
    let mut item = Vec::with_capacity(name.len() + value.len() + 2);
    if !query.is_empty() {
        item.push(b'&');
    }
    for byte in name.bytes() {
        push_encoded(&mut item, byte);
    }
    item.push(b'=');
    for byte in value.bytes() {
        push_encoded(&mut item, byte);
    }
    query.push_str(&ascii(item));
}

fn ascii(encoded: Vec<u8>) -> String {
    String::from_utf8(encoded).expect("percent-encoding leaves ASCII only")
}
