//! Why a request was refused, one variant per cause.

use std::time::Duration;

use http::HeaderName;
use thiserror::Error;

use super::{CredentialRefusal, Scheme};

/// The part of a request target in which a percent-escape is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Component {
    /// The path.
    Path,
    /// The query.
    Query,
}

/// Why a request is not granted what it asks for.
///
/// The precise cause is for the operator's log and metrics; what the client is told is decided
/// where failures become replies. No variant holds a secret, a signature or a string to sign.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The request carries no signature of any kind.
    #[error("the request is not signed")]
    NotSigned,
    /// The request is signed by a scheme that is not spoken here, or not by this key, such as
    /// Signature Version 2.
    #[error("the signature scheme is not supported: sign with AWS4-HMAC-SHA256")]
    UnsupportedScheme,
    /// The request is signed both in its query and in its `Authorization` header, or by two versions.
    #[error(
        "the request is signed more than once: in the query and in the Authorization header, or by two versions"
    )]
    SignedTwice,
    /// A part of the signature that must be there is absent.
    #[error("{name} is missing")]
    MissingParameter {
        /// The parameter or field as S3 spells it.
        name: &'static str,
    },
    /// A part of the signature is given more than once, so its meaning is open.
    #[error("{name} is given more than once")]
    DuplicateParameter {
        /// The parameter or field as S3 spells it.
        name: &'static str,
    },
    /// The `Authorization` header begins as one of ours but does not parse.
    #[error("the Authorization header is malformed")]
    MalformedAuthorization,
    /// The `Authorization` header begins as one of Version 2 but does not parse.
    #[error("the Authorization header is not AWS AccessKeyId:Signature")]
    MalformedVersion2,
    /// A request signed by header with Version 2 has no date, or one that is none.
    #[error("AWS authentication requires a valid Date or x-amz-date header")]
    NoSigningDate,
    /// The credential is not `id/yyyymmdd/region/service/aws4_request`.
    #[error("the credential is not id/yyyymmdd/region/service/aws4_request")]
    MalformedCredential,
    /// The date is not `yyyymmddThhmmssZ` or no such instant exists.
    #[error("the signing date is not a valid yyyymmddThhmmssZ")]
    MalformedDate,
    /// `X-Amz-Expires` is not a plain decimal number.
    #[error("X-Amz-Expires is not a decimal number of seconds")]
    MalformedExpires,
    /// `X-Amz-Expires` lies outside what S3 allows.
    #[error("X-Amz-Expires is {seconds} s, allowed are 1 to 604800")]
    ExpiresOutOfRange {
        /// The value given, in seconds; a larger one than fits reads as `u64::MAX`.
        seconds: u64,
    },
    /// The list of signed headers is not lower-case field names in strictly ascending order.
    #[error("the signed headers are not lower-case names in ascending order")]
    MalformedSignedHeaders,
    /// The signature is not 64 hexadecimal digits.
    #[error("the signature is {length} bytes long and not 64 hexadecimal digits")]
    MalformedSignature {
        /// The length of what was given, in bytes.
        length: usize,
    },
    /// A percent sign in the target is not followed by two hexadecimal digits.
    #[error("broken percent-escape at byte {offset} of the {component:?}")]
    MalformedEscape {
        /// Where in the target.
        component: Component,
        /// The position of the percent sign, in bytes from the start of the component.
        offset: usize,
    },
    /// The date in the credential is not the date of signing.
    #[error("the credential's date is not the day of the signing date")]
    CredentialDateMismatch,
    /// The credential is scoped to another region.
    #[error("the credential is scoped to another region")]
    WrongRegion,
    /// The credential is scoped to a service other than `s3`.
    #[error("the credential is scoped to a service other than s3")]
    WrongService,
    /// The URL is dated further in the future than the leeway allows.
    #[error("the signing date lies {ahead:?} in the future, allowed are {leeway:?}")]
    NotYetValid {
        /// How far ahead of our clock the date lies.
        ahead: Duration,
        /// How far it may lie ahead.
        leeway: Duration,
    },
    /// The URL has expired.
    #[error("the signature expired {since:?} ago")]
    Expired {
        /// How long ago.
        since: Duration,
    },
    /// A request signed by header is dated too far from our clock.
    #[error("the signing date is {skew:?} away from this clock, allowed are {allowed:?}")]
    ClockSkew {
        /// The distance, in either direction.
        skew: Duration,
        /// The largest distance allowed.
        allowed: Duration,
    },
    /// No key with this id is known here.
    #[error("the access key id is not known")]
    UnknownAccessKeyId,
    /// The signature does not cover the host.
    #[error("the host is not among the signed headers")]
    HostNotSigned,
    /// An `x-amz-*` field was sent that the signature does not cover.
    #[error("{name} was sent but is not signed")]
    UnsignedHeader {
        /// The field.
        name: HeaderName,
    },
    /// A query parameter that Signature Version 2 does not cover, or not in one way only.
    #[error("a query parameter is not covered by Signature Version 2")]
    UnsignedParameter,
    /// A field that the signature covers was not sent.
    #[error("{name} is signed but was not sent")]
    SignedHeaderAbsent {
        /// The field.
        name: HeaderName,
    },
    /// The payload hash is neither SHA-256 in hexadecimal nor a name that S3 defines.
    #[error("x-amz-content-sha256 is neither a SHA-256 in hexadecimal nor a known name")]
    MalformedPayloadHash,
    /// The payload is signed in a way that is not spoken here, such as with ECDSA.
    #[error("x-amz-content-sha256 asks for a payload signature that is not supported")]
    UnsupportedPayload,
    /// The signature is not the one that our key makes for this request.
    #[error("the signature does not match the request")]
    SignatureMismatch,
    /// A chunk's signature is not the one that our key makes for it.
    #[error("the signature of chunk {chunk} does not match its bytes")]
    ChunkSignatureMismatch {
        /// The number of the chunk, from 0.
        chunk: u64,
    },
    /// The trailer's signature is not the one that our key makes for it.
    #[error("the signature of the trailer does not match its bytes")]
    TrailerSignatureMismatch,
    /// A credential of another scheme is refused.
    #[error("{scheme}: {refusal}")]
    Credential {
        /// The scheme.
        scheme: Scheme,
        /// The cause.
        refusal: CredentialRefusal,
    },
}

impl Refusal {
    /// The cause in snake_case, for the log and as a metric label: one fixed word per variant.
    pub fn reason(&self) -> &'static str {
        match self {
            Refusal::NotSigned => "not_signed",
            Refusal::UnsupportedScheme => "unsupported_scheme",
            Refusal::SignedTwice => "signed_twice",
            Refusal::MissingParameter { .. } => "missing_parameter",
            Refusal::DuplicateParameter { .. } => "duplicate_parameter",
            Refusal::MalformedAuthorization => "malformed_authorization",
            Refusal::MalformedVersion2 => "malformed_version_2",
            Refusal::NoSigningDate => "no_signing_date",
            Refusal::MalformedCredential => "malformed_credential",
            Refusal::MalformedDate => "malformed_date",
            Refusal::MalformedExpires => "malformed_expires",
            Refusal::ExpiresOutOfRange { .. } => "expires_out_of_range",
            Refusal::MalformedSignedHeaders => "malformed_signed_headers",
            Refusal::MalformedSignature { .. } => "malformed_signature",
            Refusal::MalformedEscape { .. } => "malformed_escape",
            Refusal::CredentialDateMismatch => "credential_date_mismatch",
            Refusal::WrongRegion => "wrong_region",
            Refusal::WrongService => "wrong_service",
            Refusal::NotYetValid { .. } => "not_yet_valid",
            Refusal::Expired { .. } => "expired",
            Refusal::ClockSkew { .. } => "clock_skew",
            Refusal::UnknownAccessKeyId => "unknown_access_key_id",
            Refusal::HostNotSigned => "host_not_signed",
            Refusal::UnsignedHeader { .. } => "unsigned_header",
            Refusal::UnsignedParameter => "unsigned_parameter",
            Refusal::SignedHeaderAbsent { .. } => "signed_header_absent",
            Refusal::MalformedPayloadHash => "malformed_payload_hash",
            Refusal::UnsupportedPayload => "unsupported_payload",
            Refusal::SignatureMismatch => "signature_mismatch",
            Refusal::ChunkSignatureMismatch { .. } => "chunk_signature_mismatch",
            Refusal::TrailerSignatureMismatch => "trailer_signature_mismatch",
            Refusal::Credential { refusal, .. } => refusal.reason(),
        }
    }
}
