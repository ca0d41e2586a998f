//! Is this request genuine, and what does it grant?
//!
//! Everything here is pure: bytes, keys and `now` go in, a grant or a typed [`Refusal`] comes out.
//! Nothing in this folder knows a socket, a clock or an HTTP server, so a test can stand one second
//! either side of an expiry.
//!
//! | question | answer |
//! |---|---|
//! | does something that a request carries grant it, by whichever scheme? | [`Verifier::verify`] |
//! | which parts of a request are credentials, and for the edge alone? | [`Verifier::carriers`] |
//! | does the request carry a signature at all? | [`carries_presignature`], [`carries_signature_header`] |
//! | is a presigned URL genuine? | [`verify_presigned`] |
//! | is an `Authorization` header genuine? | [`verify_header`], [`verify_header_of_either`] |
//! | is each chunk of a signed upload genuine? | [`ChunkSigner`] |
//! | which part of the query names the object? | [`query_without_signature`] |
//! | which host and path name the same object in S3's other style? | [`other_style`] |
//! | is the policy of a form upload genuine? | [`verify_form`] |
//! | how is a URL, a request or a form signed? | [`presign`], [`presign_v2`], [`authorize_headers`], [`authorize_v2`], [`FormSigner`] |
//! | what did we hash, byte for byte? | [`explain_presigned`] |
//!
//! | scheme | |
//! |---|---|
//! | [`sigv4`] | AWS Signature Version 4 for S3 |
//! | [`sigv2`] | its forerunner Version 2, for keys that allow it |
//! | `cloudfront/` | signed URLs and cookies |
//! | `token.rs` | a keyed hash over expiry and paths |
//! | `secure_link.rs` | nginx's `secure_link_md5` |
//! | `jwt/` | JSON Web Tokens, plain and for URI signing |
//!
//! Each verifies by itself: the request, keys, rules and `now` go in; a [`Granted`], a cause, or the
//! word that there is nothing of its own come out. `docs/SIGNING.md` says what each covers.
//!
//! Invariants:
//! - `raw-target`: verification reads the target exactly as the client sent it; nothing is
//!   normalised before.
//! - `verify-before-remember`: a derived signing key enters the cache only after a signature made
//!   with it has matched, so a stranger cannot fill that cache.
//! - `constant-time-compare`: signatures are compared by `aws_lc_rs::constant_time` only.
//! - `signature-before-meaning`: what a credential says is acted upon only once it is proven.
//! - `the-key-fixes-the-algorithm`: a credential that names another algorithm is refused.
//! - `credentials-go-no-further`: what only the edge verifies is taken out of the request.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::HeaderMap;

mod carriers;
pub(crate) mod cidr;
mod cloudfront;
mod credential_refusal;
mod form;
pub(crate) mod glob;
mod jwt;
mod keyring;
mod private_key;
mod public_key;
mod refusal;
mod scheme;
mod secure_link;
pub mod sigv2;
pub mod sigv4;
#[cfg(test)]
mod test_support;
mod token;
mod verifier;
mod view;
mod virtual_host;
mod window;

pub use carriers::Carriers;
pub use cloudfront::{
    CLOUDFRONT_PARAMETERS, CloudFrontKey, CloudFrontSpec, SignedCookies, sign_cookies, sign_url,
};
pub use credential_refusal::CredentialRefusal;
pub use form::{FormGrant, verify_form};
pub use jwt::{
    JwkSet, JwksFault, JwtKeys, JwtSigner, RenewedToken, UriContainer, UriSigningKeys, sign_jwt,
    uri_container,
};
pub use keyring::Keyring;
pub use private_key::{PrivateKey, PrivateKeyFault};
pub use public_key::{PublicKey, PublicKeyFault, SignatureHash};
pub use refusal::{Component, Refusal};
pub use scheme::Scheme;
pub use secure_link::{
    DEFAULT_EXPRESSION, Expression, ExpressionFault, SecureLinkKey, sign_secure_link,
};
pub use sigv2::{PresignV2Spec, authorize_v2, carries_sigv2_header, presign_v2};
pub use sigv4::{
    AuthorizeSpec, ChunkSigner, Explanation, FormSigner, Payload, PresignError, PresignSpec,
    authorize_headers, carries_presignature, carries_signature_header, presign,
    query_without_signature, verify_header,
};
pub use token::{TokenHash, TokenKey, TokenSpec, sign_token};
pub use verifier::{Accept, Key, KeyKind, Methods, Verifier};
pub use view::RequestView;
pub use virtual_host::{other_style, virtual_bucket};

/// What was signed: every part raw, exactly as received (`raw-target`).
#[derive(Debug, Clone, Copy)]
pub struct SignedRequest<'a> {
    /// The request method, case-sensitive (RFC 9110 §9.1).
    pub method: &'a str,
    /// The path of the target, still percent-encoded, without the query.
    pub path: &'a str,
    /// The query of the target, still percent-encoded, without the `?`; empty when there is none.
    pub query: &'a str,
    /// The `Host` field or the `:authority` pseudo-header, as sent.
    pub host: &'a str,
    /// The header fields as sent. A `host` field in here is not looked at: [`Self::host`] is.
    pub headers: &'a HeaderMap,
}

/// What a verifier insists on beyond the signature itself. The service is always `s3`.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// The region that the signature must be scoped to; `None` accepts any.
    pub region: Option<&'a str>,
    /// How far in the future a presigned URL's `X-Amz-Date` may lie, for a signer whose clock runs
    /// ahead. It does not prolong a URL.
    pub clock_leeway: Duration,
    /// The domain under which hosts name buckets (`bucket.domain`): Version 2 signs the bucket, wherever it
    /// stands. `None` when the bucket always stands in the path.
    pub domain: Option<&'a str>,
}

/// Decides whether a presigned URL is genuine and still good, by the scheme that it is signed with.
///
/// # Errors
/// The [`Refusal`] that names the cause; see [`sigv4::verify_presigned`] for their order. Version 2 is
/// [`Refusal::UnsupportedScheme`] unless a key allows it.
pub fn verify_presigned(
    req: &SignedRequest,
    keys: &Keyring,
    rules: &Rules,
    now: SystemTime,
) -> Result<Grant, Refusal> {
    if keys.allows_sigv2() && sigv4::is_only_version_2(req.query) {
        sigv2::verify_presigned(req, keys, rules, now)
    } else {
        sigv4::verify_presigned(req, keys, rules, now)
    }
}

/// Decides whether an `Authorization` header is genuine, by Version 4 or, for keys that allow it, Version 2. The edge
/// asks [`verify_header`] and so takes Version 4 only.
///
/// # Errors
/// The [`Refusal`] that names the cause. Version 2 is [`Refusal::UnsupportedScheme`] unless a key allows it.
pub fn verify_header_of_either(
    req: &SignedRequest,
    keys: &Keyring,
    rules: &Rules,
    now: SystemTime,
) -> Result<HeaderGrant, Refusal> {
    if keys.allows_sigv2() && carries_sigv2_header(req.headers) {
        sigv2::verify_header(req, keys, rules, now)
    } else {
        verify_header(req, keys, rules, now)
    }
}

/// What we hash for a presigned URL, however old it is and whoever signed it. `domain` is
/// [`Rules::domain`].
///
/// # Errors
/// The [`Refusal`] that keeps the texts from being made at all.
pub fn explain_presigned(
    req: &SignedRequest,
    domain: Option<&str>,
) -> Result<Explanation, Refusal> {
    if sigv4::is_only_version_2(req.query) {
        return Ok(Explanation {
            canonical_request: String::new(),
            string_to_sign: sigv2::explain(req, domain)?,
        });
    }
    sigv4::explain_presigned(req)
}

/// What a genuine presigned URL grants.
#[derive(Debug, Clone)]
pub struct Grant {
    /// The access key id that signed.
    pub access_key_id: String,
    /// When it was signed; `None` by Version 2, which does not say.
    pub signed_at: Option<SystemTime>,
    /// The last instant at which a request may begin.
    pub expires: SystemTime,
    /// Lower-case names of the header fields that the signature covers, `host` left out, sorted.
    pub signed_headers: Vec<String>,
    /// What the signature says about the body.
    pub payload: Payload,
}

/// What a genuine `Authorization` header grants.
#[derive(Debug, Clone)]
pub struct HeaderGrant {
    /// The access key id that signed.
    pub access_key_id: String,
    /// When it was signed.
    pub signed_at: SystemTime,
    /// What the signature says about the body.
    pub payload: Payload,
}

/// What something genuine grants, by whichever scheme: the request that carries it.
#[derive(Debug, Clone)]
pub struct Granted {
    /// The scheme.
    pub scheme: Scheme,
    /// The id of the key.
    pub key_id: Arc<str>,
    /// The first instant at which it does not grant; `None` when each request is signed anew.
    pub expires: Option<SystemTime>,
    /// The first instant at which it grants, when it names one.
    pub not_before: Option<SystemTime>,
    /// It is for one client's address, or for some.
    pub client_bound: bool,
    /// It covers header fields besides the host, or the body: what reaches the origin must have them
    /// as they were sent.
    pub covers_fields: bool,
    /// What the client gets for its next requests.
    pub renewed: Option<RenewedToken>,
}

/// What was signed, for a person. Nothing in it is a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    /// The scheme.
    pub scheme: Scheme,
    /// The text under the signature. Bytes that are not UTF-8 are shown as U+FFFD.
    pub signed: String,
    /// What else helps to find a difference: name and value.
    pub notes: Vec<(&'static str, String)>,
}
