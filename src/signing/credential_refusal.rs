//! Why a credential other than a signature of AWS is refused, one variant per cause.

use std::time::Duration;

use thiserror::Error;

/// Why a signed URL, a token or a cookie does not grant what is asked for.
///
/// As for [`super::Refusal`]: the cause is for the operator, and no variant holds a secret or
/// anything that was signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CredentialRefusal {
    /// A part that must be there is absent.
    #[error("{part} is missing")]
    MissingPart {
        /// The part as its scheme spells it.
        part: &'static str,
    },
    /// A part is given more than once, so its meaning is open.
    #[error("{part} is given more than once")]
    DuplicatePart {
        /// The part as its scheme spells it.
        part: &'static str,
    },
    /// A part does not have the form that it must have.
    #[error("{part} is malformed")]
    MalformedPart {
        /// The part as its scheme spells it.
        part: &'static str,
    },
    /// Two parts exclude each other.
    #[error("{one} and {other} are both given")]
    ExclusiveParts {
        /// The one.
        one: &'static str,
        /// The other.
        other: &'static str,
    },
    /// There is something that is not understood, and might restrict what is granted.
    #[error("there is a field or condition that is not known here")]
    UnknownPart,
    /// The policy is not JSON of the form that CloudFront defines.
    #[error("the policy is not one statement with the conditions that are known here")]
    MalformedPolicy,
    /// The token is not `header.payload.signature`, each in base64url.
    #[error("the token is not a JWT in compact form")]
    MalformedToken,
    /// No key with this id counts here.
    #[error("no key with this id counts here")]
    UnknownKey,
    /// An algorithm that is not spoken here, or not with this key.
    #[error("the algorithm is not one that this key is for")]
    WrongAlgorithm,
    /// The token's header names extensions that must be understood (RFC 7515 §4.1.11).
    #[error("the token's header has critical extensions")]
    CriticalHeader,
    /// The signature is not the one that our key makes or accepts.
    #[error("the signature does not match")]
    SignatureMismatch,
    /// It counts from a later instant on.
    #[error("it is valid only {ahead:?} from now, allowed are {leeway:?}")]
    NotYetValid {
        /// How far ahead of our clock that lies.
        ahead: Duration,
        /// How far it may lie ahead.
        leeway: Duration,
    },
    /// It has expired.
    #[error("it expired {since:?} ago")]
    Expired {
        /// How long ago.
        since: Duration,
    },
    /// It is for clients at other addresses.
    #[error("it is for a client at another address")]
    WrongClient,
    /// It is for other URLs.
    #[error("it is for another URL")]
    WrongResource,
    /// It is from another issuer.
    #[error("it is from another issuer")]
    WrongIssuer,
    /// It is for another audience.
    #[error("it is for another audience")]
    WrongAudience,
    /// A claim that must be there is absent.
    #[error("the claim {claim} is missing")]
    MissingClaim {
        /// Its name; `path` stands for whatever `path_claim` names.
        claim: &'static str,
    },
    /// A claim is not of the type that it must have.
    #[error("the claim {claim} is malformed")]
    MalformedClaim {
        /// Its name; `path` stands for whatever `path_claim` names.
        claim: &'static str,
    },
    /// A claim that RFC 9246 lets nobody ignore, and that is not supported here.
    #[error("the claim {claim} is not supported")]
    UnsupportedClaim {
        /// Its name.
        claim: &'static str,
    },
    /// It does not say for which method it is, and the key is not for this one.
    #[error("the key is not for this method")]
    WrongMethod,
}

impl CredentialRefusal {
    /// The cause in snake_case, for the log and as a metric label: one fixed word per variant. Causes
    /// that an AWS signature can have as well have the words of [`super::Refusal::reason`].
    pub fn reason(&self) -> &'static str {
        match self {
            CredentialRefusal::MissingPart { .. } => "missing_parameter",
            CredentialRefusal::DuplicatePart { .. } => "duplicate_parameter",
            CredentialRefusal::MalformedPart { .. } => "malformed_parameter",
            CredentialRefusal::ExclusiveParts { .. } => "exclusive_parameters",
            CredentialRefusal::UnknownPart => "unknown_part",
            CredentialRefusal::MalformedPolicy => "malformed_policy",
            CredentialRefusal::MalformedToken => "malformed_token",
            CredentialRefusal::UnknownKey => "unknown_key",
            CredentialRefusal::WrongAlgorithm => "wrong_algorithm",
            CredentialRefusal::CriticalHeader => "critical_header",
            CredentialRefusal::SignatureMismatch => "signature_mismatch",
            CredentialRefusal::NotYetValid { .. } => "not_yet_valid",
            CredentialRefusal::Expired { .. } => "expired",
            CredentialRefusal::WrongClient => "wrong_client",
            CredentialRefusal::WrongResource => "wrong_resource",
            CredentialRefusal::WrongIssuer => "wrong_issuer",
            CredentialRefusal::WrongAudience => "wrong_audience",
            CredentialRefusal::MissingClaim { .. } => "missing_claim",
            CredentialRefusal::MalformedClaim { .. } => "malformed_claim",
            CredentialRefusal::UnsupportedClaim { .. } => "unsupported_claim",
            CredentialRefusal::WrongMethod => "wrong_method",
        }
    }
}
