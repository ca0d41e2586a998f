//! What the cache asks of an origin, as a trait, so that tests can script one.

use async_trait::async_trait;
use http::{HeaderMap, StatusCode};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Moment;

/// A GET to the origin.
#[derive(Debug, Clone)]
pub struct OriginRequest {
    /// Path and query exactly as the client sent them, signature parameters included.
    pub target: String,
    /// The fields to send: end-to-end ones, `Host` among them, no conditions and no range.
    pub fields: HeaderMap,
    /// The fields exactly as the client sent them, from which variants are selected.
    pub selecting: HeaderMap,
    /// The bytes that choose the server on the ring: the same for every block and variant of a URL.
    pub ring_key: Arc<[u8]>,
}

/// How the end of a body is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// By its length.
    Length(u64),
    /// By the last chunk.
    Chunked,
    /// By the end of the connection, which a failure looks just like.
    UntilClose,
}

/// A final response: its head is here, its body is still to come.
pub struct OriginResponse {
    /// Status.
    pub status: StatusCode,
    /// All fields, hop-by-hop ones included.
    pub fields: HeaderMap,
    /// Framing of the body.
    pub framing: Framing,
    /// The body.
    pub body: Box<dyn OriginBody>,
    /// The server that answered, as configured.
    pub server: Arc<str>,
    /// When the request was sent.
    pub requested: Moment,
    /// When the head had arrived.
    pub received: Moment,
}

/// An interim response other than 100 and 101 (RFC 9110 §15.2): no cache keeps it, but the clients
/// that wait may use it.
#[derive(Debug)]
pub struct InterimResponse {
    /// 1xx.
    pub status: StatusCode,
    /// Its fields, hop-by-hop ones removed.
    pub fields: HeaderMap,
}

/// Takes interim responses.
pub type InterimSink<'a> = dyn Fn(InterimResponse) + Send + Sync + 'a;

/// Takes none.
pub fn no_interim(_: InterimResponse) {}

/// The body of a response, chunk by chunk.
#[async_trait]
pub trait OriginBody: Send {
    /// The next bytes, valid until the next call; `None` at a verified end, or at the end of the connection
    /// under [`Framing::UntilClose`].
    ///
    /// # Errors
    /// [`FetchError`] when the body breaks off, stalls or is malformed.
    async fn next(&mut self) -> Result<Option<&[u8]>, FetchError>;

    /// Lets go of a body whose verified end was read: its connection may serve another request.
    async fn release(self: Box<Self>);
}

/// An origin: one or many servers behind one name.
#[async_trait]
pub trait Origin: Send + Sync {
    /// Sends `request` and awaits the head of a final response; interim ones (RFC 9110 §15.2) are
    /// given to `interim` as they come.
    ///
    /// # Errors
    /// [`FetchError`] when no server gives one.
    async fn fetch(
        &self,
        request: &OriginRequest,
        interim: &InterimSink<'_>,
    ) -> Result<OriginResponse, FetchError>;
}

/// Why the origin gave no (whole) response. Always the origin's fault or the network's.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum FetchError {
    /// No connection to any server.
    #[error("cannot connect to {server}: {reason}")]
    Connect {
        /// The last server tried.
        server: Arc<str>,
        /// The system's words.
        reason: String,
    },
    /// A server stayed silent for too long.
    #[error("{server} timed out after {after:?} while {phase}")]
    Timeout {
        /// The server.
        server: Arc<str>,
        /// The timeout that passed.
        after: Duration,
        /// What was awaited.
        phase: Phase,
    },
    /// The connection broke off.
    #[error("{server} broke off while {phase}: {reason}")]
    Broken {
        /// The server.
        server: Arc<str>,
        /// What was awaited.
        phase: Phase,
        /// The system's words.
        reason: String,
    },
    /// The task that asked ended without an answer: a bug of ours, or the process is stopping.
    #[error("the fetch was abandoned")]
    Abandoned,
    /// The server sent something that is not HTTP, or contradicts itself or the request.
    #[error("{server} sent an invalid response: {reason}")]
    Invalid {
        /// The server.
        server: Arc<str>,
        /// What is wrong with it.
        reason: String,
    },
}

impl FetchError {
    /// The server concerned.
    pub fn server(&self) -> Option<&Arc<str>> {
        match self {
            FetchError::Connect { server, .. }
            | FetchError::Timeout { server, .. }
            | FetchError::Broken { server, .. }
            | FetchError::Invalid { server, .. } => Some(server),
            FetchError::Abandoned => None,
        }
    }
}

/// What the edge waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// A connection.
    Connecting,
    /// Room to send the request.
    Sending,
    /// The response's head.
    AwaitingHead,
    /// The response's body.
    ReadingBody,
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Phase::Connecting => "connecting",
            Phase::Sending => "sending the request",
            Phase::AwaitingHead => "awaiting the response",
            Phase::ReadingBody => "reading the body",
        })
    }
}
