//! The one door through which every failure reaches a client of the edge.
//!
//! [`Failure::reply`] lists every fault: whose it is, the status, the S3 code that clients know how
//! to read, the label in log and metrics, and how loudly we log. None of its matches has a
//! wildcard: whoever adds a fault decides all of that here. Refused signatures alone share one answer.

use bytes::Bytes;
use http::StatusCode;

use super::admit::GateRefusal;
use super::policy::PolicyRefusal;
use super::request::RequestId;
use crate::cache::BodyError;
use crate::cache::fetch::FetchError;
use crate::cache::fill::FillError;
use crate::observe::Outcome;
use crate::signing::Refusal;

/// Why a request gets an error response.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Failure {
    /// The gate said no.
    #[error(transparent)]
    Gate(#[from] GateRefusal),
    /// A policy of the listener's or the route's said no.
    #[error(transparent)]
    Policy(#[from] PolicyRefusal),
    /// No route matches host and path.
    #[error("no route matches")]
    NoRoute,
    /// The signature is not genuine.
    #[error(transparent)]
    Signature(#[from] Refusal),
    /// The origin's signature cannot replace one that the client has put on each chunk of its body.
    #[error("the chunks of the body are signed, and the origin asks for another signature")]
    SignedChunks,
    /// `only-if-cached`, and it is not (RFC 9111 §5.2.1.7).
    #[error("the response is not in the cache")]
    NotCached,
    /// The range lies outside of the representation.
    #[error("the range is not satisfiable: the length is {length}")]
    RangeNotSatisfiable {
        /// The complete length in bytes.
        length: u64,
    },
    /// The origin gave no response.
    #[error("origin {origin}: {error}")]
    Fetch {
        /// The origin's name.
        origin: String,
        /// What happened.
        error: FetchError,
    },
    /// The body could not be had before its first byte was sent.
    #[error("origin {origin}: {error}")]
    Body {
        /// The origin's name.
        origin: String,
        /// What happened.
        error: BodyError,
    },
    /// A request arrived where no step had let it in: a bug of ours.
    #[error("the request took no step")]
    Internal,
}

/// Whose fault it is, and so how loudly it is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The client's: counted, not logged beyond the access log.
    Client,
    /// The origin's: a warning.
    Origin,
    /// Ours: an error.
    Edge,
}

/// What a failure looks like from outside and from inside.
#[derive(Debug, Clone)]
pub struct FailureReply {
    /// Status.
    pub status: StatusCode,
    /// The S3 error code.
    pub code: &'static str,
    /// What the client is told; no secrets, no addresses.
    pub message: String,
    /// The label in access log and metrics.
    pub reason: &'static str,
    /// The outcome that is counted.
    pub outcome: Outcome,
    /// Whose fault.
    pub fault: Fault,
    /// `Retry-After`, seconds.
    pub retry_after_seconds: Option<u64>,
    /// The rest of the connection cannot be trusted to be what the client meant.
    pub close: bool,
}

impl Failure {
    /// Translates into HTTP.
    pub fn reply(&self) -> FailureReply {
        match self {
            Failure::Gate(refusal) => gate(*refusal),
            Failure::Policy(refusal) => policy(*refusal),
            Failure::NoRoute => FailureReply {
                status: StatusCode::NOT_FOUND,
                code: "NoSuchRoute",
                message: "Nothing is served under this host and path.".to_owned(),
                reason: "no_route",
                outcome: Outcome::Refused,
                fault: Fault::Client,
                retry_after_seconds: None,
                close: false,
            },
            Failure::Signature(refusal) => signature(refusal),
            Failure::SignedChunks => FailureReply {
                status: StatusCode::NOT_IMPLEMENTED,
                code: "NotImplemented",
                message: "Sign the body as a whole or not at all, not chunk by chunk.".to_owned(),
                reason: "signed_chunks",
                outcome: Outcome::Refused,
                fault: Fault::Client,
                close: false,
                retry_after_seconds: None,
            },
            Failure::NotCached => FailureReply {
                status: StatusCode::GATEWAY_TIMEOUT,
                code: "NotCached",
                message: "The response is not in the cache and only-if-cached was asked for."
                    .to_owned(),
                reason: "only_if_cached",
                outcome: Outcome::Request,
                fault: Fault::Client,
                retry_after_seconds: None,
                close: false,
            },
            Failure::RangeNotSatisfiable { length } => FailureReply {
                status: StatusCode::RANGE_NOT_SATISFIABLE,
                code: "InvalidRange",
                message: format!(
                    "The requested range is not satisfiable; the length is {length} bytes."
                ),
                reason: "range",
                outcome: Outcome::Hit,
                fault: Fault::Client,
                retry_after_seconds: None,
                close: false,
            },
            Failure::Fetch { origin, error } => fetch(origin, error),
            Failure::Body { origin, error } => match error {
                BodyError::Fill(FillError::Origin(error)) => fetch(origin, error),
                BodyError::Fill(FillError::Truncated { .. }) => bad_gateway(
                    "origin_truncated",
                    format!("The origin \"{origin}\" ended its response too early."),
                ),
                BodyError::Fill(FillError::TooLong { .. }) => bad_gateway(
                    "origin_too_long",
                    format!("The origin \"{origin}\" sent more than it announced."),
                ),
                BodyError::Fill(FillError::Changed) => bad_gateway(
                    "origin_changed",
                    format!("The object changed at the origin \"{origin}\" while it was read."),
                ),
                BodyError::Fill(FillError::Abandoned) => abandoned(),
                BodyError::Evicted { .. } => bad_gateway(
                    "evicted",
                    format!("The origin \"{origin}\" cannot be asked for the missing part."),
                ),
            },
            Failure::Internal => FailureReply {
                status: StatusCode::INTERNAL_SERVER_ERROR,
                code: "InternalError",
                message: "The edge made a mistake.".to_owned(),
                reason: "internal",
                outcome: Outcome::Error,
                fault: Fault::Edge,
                retry_after_seconds: None,
                close: true,
            },
        }
    }
}

fn gate(refusal: GateRefusal) -> FailureReply {
    let (status, close) = match refusal {
        // Not 505: the fault is the client's, and a 5xx would alarm those who watch for ours.
        GateRefusal::Malformed
        | GateRefusal::Version
        | GateRefusal::BareLineEnd
        | GateRefusal::ContentLength
        | GateRefusal::TransferEncoding
        | GateRefusal::AmbiguousLength
        | GateRefusal::Chunks
        | GateRefusal::Connection
        | GateRefusal::Upgrade => (StatusCode::BAD_REQUEST, true),
        GateRefusal::Target
        | GateRefusal::DotSegment
        | GateRefusal::EncodedSeparator
        | GateRefusal::Escape
        | GateRefusal::Host
        | GateRefusal::HostMismatch => (StatusCode::BAD_REQUEST, true),
        // Clients take it as a word to connect anew (RFC 9113 §9.1.1).
        GateRefusal::Misdirected => (StatusCode::MISDIRECTED_REQUEST, true),
        GateRefusal::Method => (StatusCode::METHOD_NOT_ALLOWED, true),
        GateRefusal::HeadTooLarge | GateRefusal::TooManyFields => {
            (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, true)
        }
        GateRefusal::TargetTooLong => (StatusCode::URI_TOO_LONG, true),
        GateRefusal::HeadTimeout => (StatusCode::REQUEST_TIMEOUT, true),
        GateRefusal::Expectation => (StatusCode::EXPECTATION_FAILED, true),
    };
    FailureReply {
        status,
        code: match refusal {
            GateRefusal::Method => "MethodNotAllowed",
            GateRefusal::HeadTimeout => "RequestTimeout",
            GateRefusal::Misdirected => "MisdirectedRequest",
            GateRefusal::HeadTooLarge | GateRefusal::TooManyFields => {
                "RequestHeaderSectionTooLarge"
            }
            GateRefusal::TargetTooLong => "KeyTooLongError",
            GateRefusal::Malformed
            | GateRefusal::BareLineEnd
            | GateRefusal::Version
            | GateRefusal::Target
            | GateRefusal::DotSegment
            | GateRefusal::EncodedSeparator
            | GateRefusal::Escape
            | GateRefusal::Host
            | GateRefusal::HostMismatch
            | GateRefusal::ContentLength
            | GateRefusal::TransferEncoding
            | GateRefusal::AmbiguousLength
            | GateRefusal::Chunks
            | GateRefusal::Expectation
            | GateRefusal::Connection
            | GateRefusal::Upgrade => "InvalidRequest",
        },
        message: sentence(&refusal.to_string()),
        reason: refusal.reason(),
        outcome: Outcome::Refused,
        fault: Fault::Client,
        retry_after_seconds: None,
        close,
    }
}

fn policy(refusal: PolicyRefusal) -> FailureReply {
    let (status, code, message) = match refusal {
        PolicyRefusal::AddressDenied => (StatusCode::FORBIDDEN, "AccessDenied", "Access Denied."),
        PolicyRefusal::BodyTooLarge => (
            StatusCode::PAYLOAD_TOO_LARGE,
            "EntityTooLarge",
            "Your proposed upload exceeds the maximum allowed size.",
        ),
        PolicyRefusal::BodyTooSlow | PolicyRefusal::ClientTooSlow => (
            StatusCode::REQUEST_TIMEOUT,
            "RequestTimeout",
            "Your socket connection to the server was not read from or written to within the timeout \
             period.",
        ),
        PolicyRefusal::CorsOrigin | PolicyRefusal::CorsMethod | PolicyRefusal::CorsField => (
            StatusCode::FORBIDDEN,
            "AccessForbidden",
            "CORSResponse: This CORS request is not allowed.",
        ),
        PolicyRefusal::RateLimited { .. } => (
            StatusCode::TOO_MANY_REQUESTS,
            "SlowDown",
            "Please reduce your request rate.",
        ),
    };
    FailureReply {
        status,
        code,
        message: message.to_owned(),
        reason: refusal.reason(),
        outcome: Outcome::Refused,
        fault: Fault::Client,
        retry_after_seconds: match refusal {
            PolicyRefusal::RateLimited {
                retry_after_seconds,
            } => Some(retry_after_seconds),
            PolicyRefusal::AddressDenied
            | PolicyRefusal::BodyTooLarge
            | PolicyRefusal::BodyTooSlow
            | PolicyRefusal::ClientTooSlow
            | PolicyRefusal::CorsOrigin
            | PolicyRefusal::CorsMethod
            | PolicyRefusal::CorsField => None,
        },
        // What is left of the body is not worth reading.
        close: matches!(
            refusal,
            PolicyRefusal::BodyTooLarge | PolicyRefusal::BodyTooSlow | PolicyRefusal::ClientTooSlow
        ),
    }
}

/// One answer for every cause, so that a probe learns nothing from it: the cause is for the log. The
/// code is the one of S3 that SDKs know.
fn signature(refusal: &Refusal) -> FailureReply {
    FailureReply {
        status: StatusCode::FORBIDDEN,
        code: "AccessDenied",
        message: "Access Denied.".to_owned(),
        reason: refusal.reason(),
        outcome: Outcome::Refused,
        fault: Fault::Client,
        retry_after_seconds: None,
        close: false,
    }
}

fn fetch(origin: &str, error: &FetchError) -> FailureReply {
    match error {
        FetchError::Connect { .. } => bad_gateway(
            "origin_connect",
            format!("No server of the origin \"{origin}\" could be reached."),
        ),
        FetchError::Timeout { phase, .. } => FailureReply {
            status: StatusCode::GATEWAY_TIMEOUT,
            code: "GatewayTimeout",
            message: format!("The origin \"{origin}\" timed out while {phase}."),
            reason: "origin_timeout",
            outcome: Outcome::Error,
            fault: Fault::Origin,
            retry_after_seconds: None,
            close: false,
        },
        FetchError::Broken { phase, .. } => bad_gateway(
            "origin_broken",
            format!("The origin \"{origin}\" closed the connection while {phase}."),
        ),
        FetchError::Invalid { .. } => bad_gateway(
            "origin_invalid",
            format!("The origin \"{origin}\" sent an invalid response."),
        ),
        FetchError::Abandoned => abandoned(),
    }
}

fn bad_gateway(reason: &'static str, message: String) -> FailureReply {
    FailureReply {
        status: StatusCode::BAD_GATEWAY,
        code: "BadGateway",
        message,
        reason,
        outcome: Outcome::Error,
        fault: Fault::Origin,
        retry_after_seconds: None,
        close: false,
    }
}

fn abandoned() -> FailureReply {
    FailureReply {
        status: StatusCode::SERVICE_UNAVAILABLE,
        code: "ServiceUnavailable",
        message: "The edge is stopping or failed; please try again.".to_owned(),
        reason: "abandoned",
        outcome: Outcome::Error,
        fault: Fault::Edge,
        retry_after_seconds: Some(1),
        close: false,
    }
}

fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    first.into_iter().chain(letters).chain(['.']).collect()
}

impl FailureReply {
    /// The S3 error document.
    pub fn body(&self, request_id: &RequestId) -> Bytes {
        // Nothing in it comes from the client, and no text of ours needs more escaping.
        let message = self.message.replace('&', "&amp;").replace('<', "&lt;");
        Bytes::from(format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{}</Code><Message>{}</Message><RequestId>{}</RequestId></Error>",
            self.code, message, request_id
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::fetch::Phase;
    use crate::signing::{CredentialRefusal, Scheme};
    use std::sync::Arc;
    use std::time::Duration;

    #[test]
    fn gateway_errors_say_which_origin_and_what_happened() {
        let server: Arc<str> = Arc::from("10.0.0.1:9000");
        let failure = |error| Failure::Fetch {
            origin: "store".to_owned(),
            error,
        };
        let connect = failure(FetchError::Connect {
            server: server.clone(),
            reason: "refused".to_owned(),
        })
        .reply();
        assert_eq!(
            (connect.status.as_u16(), connect.reason),
            (502, "origin_connect")
        );
        assert!(connect.message.contains("store") && !connect.message.contains("10.0.0.1"));
        let timeout = failure(FetchError::Timeout {
            server,
            after: Duration::from_secs(30),
            phase: Phase::AwaitingHead,
        })
        .reply();
        assert_eq!(
            (timeout.status.as_u16(), timeout.reason),
            (504, "origin_timeout")
        );
        assert!(timeout.message.contains("awaiting the response"));
    }

    #[test]
    fn refused_signatures_look_alike_from_outside_and_not_in_the_log() {
        let refusals = [
            Refusal::NotSigned,
            Refusal::Expired {
                since: Duration::ZERO,
            },
            Refusal::SignatureMismatch,
            Refusal::Credential {
                scheme: Scheme::Token,
                refusal: CredentialRefusal::WrongClient,
            },
        ];
        let replies = refusals.map(|refusal| Failure::Signature(refusal).reply());
        for reply in &replies {
            assert_eq!((reply.status.as_u16(), reply.code), (403, "AccessDenied"));
            assert_eq!(reply.message, replies[0].message);
        }
        let reasons = replies.map(|reply| reply.reason);
        let expected = [
            "not_signed",
            "expired",
            "signature_mismatch",
            "wrong_client",
        ];
        assert_eq!(reasons, expected);
    }

    #[test]
    fn the_error_document_is_well_formed() {
        let reply = FailureReply {
            message: "a < b & c".to_owned(),
            ..Failure::NoRoute.reply()
        };
        let id = RequestId::random();
        let body = reply.body(&id);
        let text = std::str::from_utf8(&body).unwrap();
        assert!(text.contains("<Message>a &lt; b &amp; c</Message>"));
        assert!(text.contains(id.as_str()));
    }
}
