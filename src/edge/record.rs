//! The end of every request: one access-log line and one set of counters.

use std::time::Duration;

use http::header::{RANGE, REFERER, USER_AGENT};

use super::Node;
use super::failure::{FailureReply, Fault};
use super::presence::Presence;
use super::request::{Peer, Request, RequestId};
use crate::byte_range::ContentRange;
use crate::cache::ValidationFailure;
use crate::clock::Moment;
use crate::observe::{AccessRecord, Finished, Outcome, Protocol, Source};
use crate::signing::query_without_signature;

/// What became of a request.
#[derive(Debug)]
pub struct Ending<'a> {
    /// The route, when it came that far.
    pub route: Option<usize>,
    /// The status that was sent.
    pub status: Option<u16>,
    /// How it was answered.
    pub outcome: Outcome,
    /// The name of the refusal, the fault, or why it was not stored.
    pub reason: Option<&'a str>,
    /// Body bytes out of the memory tier.
    pub bytes_memory: u64,
    /// Body bytes that were read from disk.
    pub bytes_disk: u64,
    /// Body bytes straight from the origin or of our own making.
    pub bytes_origin: u64,
    /// Body bytes of our own making (error documents).
    pub bytes_own: u64,
    /// When the first byte was on its way, by the monotonic clock.
    pub first_byte: Option<Duration>,
    /// `Content-Range` of the response.
    pub content_range: Option<&'a ContentRange>,
    /// The server that was asked.
    pub origin_server: Option<&'a str>,
    /// Answered by another request's fill.
    pub collapsed: bool,
    /// Ended before its last byte.
    pub aborted: bool,
}

impl Ending<'_> {
    /// An ending of which only the outcome is known.
    pub fn new(outcome: Outcome) -> Self {
        Ending {
            route: None,
            status: None,
            outcome,
            reason: None,
            bytes_memory: 0,
            bytes_disk: 0,
            bytes_origin: 0,
            bytes_own: 0,
            first_byte: None,
            content_range: None,
            origin_server: None,
            collapsed: false,
            aborted: false,
        }
    }
}

impl Node {
    /// Records an admitted request.
    pub(super) fn record(&self, request: &Request, ending: &Ending<'_>) {
        let duration = self.since(request.started);
        let first_byte = ending
            .first_byte
            .map(|at| at.saturating_sub(request.started.monotonic));
        self.count(request.protocol, duration, first_byte, ending);
        if !self.access_log.is_on() {
            return;
        }
        let query = request.query().map(query_without_signature);
        let content_range = ending.content_range.map(ToString::to_string);
        let field = |group, name| {
            let present = request.presence.has(group);
            let value = present.then(|| request.fields.get(name)).flatten();
            value.map(http::HeaderValue::as_bytes)
        };
        self.access_log.write(&AccessRecord {
            time: request.started.wall,
            request_id: request.id.as_str(),
            client: request.peer.client,
            protocol: request.protocol,
            tls: request.peer.tls,
            certificate: (request.peer.terms.as_ref()).and_then(|terms| terms.subject()),
            method: request.method.as_str(),
            host: request.authority(),
            path: request.path(),
            query: query.as_deref().filter(|query| !query.is_empty()),
            status: ending.status,
            outcome: ending.outcome,
            reason: ending.reason,
            route: ending
                .route
                .map(|route| self.routes[route].config.name.as_str()),
            bytes: ending.bytes_memory + ending.bytes_disk + ending.bytes_origin + ending.bytes_own,
            source: source(ending),
            duration,
            time_to_first_byte: first_byte,
            range: field(Presence::RANGE, RANGE),
            content_range: content_range.as_deref().map(str::as_bytes),
            user_agent: field(Presence::LOGGED, USER_AGENT),
            referer: field(Presence::LOGGED, REFERER),
            origin_server: ending.origin_server,
            collapsed: ending.collapsed,
            aborted: ending.aborted,
        });
    }

    /// Records a request that the gate refused: nothing it sent is repeated.
    pub(super) fn record_refused(
        &self,
        id: &RequestId,
        started: Moment,
        peer: &Peer,
        protocol: Protocol,
        reply: &FailureReply,
    ) {
        let duration = self.since(started);
        let mut ending = Ending::new(reply.outcome);
        ending.status = Some(reply.status.as_u16());
        self.count(protocol, duration, None, &ending);
        self.metrics.record_gate_refusal(reply.reason);
        self.access_log.write(&AccessRecord {
            time: started.wall,
            request_id: id.as_str(),
            client: peer.client,
            protocol,
            tls: peer.tls,
            certificate: peer.terms.as_ref().and_then(|terms| terms.subject()),
            method: "",
            host: "",
            path: "",
            query: None,
            status: ending.status,
            outcome: reply.outcome,
            reason: Some(reply.reason),
            route: None,
            bytes: 0,
            source: None,
            duration,
            time_to_first_byte: None,
            range: None,
            content_range: None,
            user_agent: None,
            referer: None,
            origin_server: None,
            collapsed: false,
            aborted: false,
        });
    }

    fn since(&self, started: Moment) -> Duration {
        self.clock.monotonic().saturating_sub(started.monotonic)
    }

    fn count(
        &self,
        protocol: Protocol,
        elapsed: Duration,
        time_to_first_byte: Option<Duration>,
        ending: &Ending<'_>,
    ) {
        let metrics = match ending.route {
            Some(route) => &self.routes[route].metrics,
            None => &self.unrouted,
        };
        metrics.record(&Finished {
            outcome: ending.outcome,
            status: ending.status.unwrap_or(0),
            protocol,
            elapsed,
            time_to_first_byte,
            bytes_memory: ending.bytes_memory,
            bytes_disk: ending.bytes_disk,
            bytes_origin: ending.bytes_origin,
        });
        if ending.collapsed {
            metrics.record_collapsed();
        }
    }
}

/// Where most of the body came from.
fn source(ending: &Ending<'_>) -> Option<Source> {
    let sources = [
        (ending.bytes_origin, Source::Origin),
        (ending.bytes_disk, Source::Disk),
        (ending.bytes_memory, Source::Memory),
    ];
    let most = sources.into_iter().max_by_key(|(bytes, _)| *bytes);
    most.filter(|(bytes, _)| *bytes > 0)
        .map(|(_, source)| source)
}

/// Tells the operator that the origin failed and a stale response was served instead.
pub(super) fn log_stale(request: &Request, origin: &str, failed: &ValidationFailure) {
    let request_id = request.id.as_str();
    let path = request.path();
    match failed {
        ValidationFailure::Fetch(error) => {
            tracing::warn!(request_id, path, origin, %error, "served stale");
        }
        ValidationFailure::Status(status) => {
            let status = status.as_u16();
            tracing::warn!(request_id, path, origin, status, "served stale");
        }
    }
}

/// Tells the operator of a failure, as loudly as its fault deserves.
pub(super) fn log_failure(request: &Request, failure: &super::Failure, fault: Fault) {
    let request_id = request.id.as_str();
    let path = request.path();
    match fault {
        Fault::Client => tracing::debug!(request_id, path, %failure, "request refused"),
        Fault::Origin => tracing::warn!(request_id, path, %failure, "request failed"),
        Fault::Edge => tracing::error!(request_id, path, %failure, "request failed"),
    }
}
