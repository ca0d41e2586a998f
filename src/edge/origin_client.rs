//! Fetching from an origin for the cache: the next server on the ring, a pooled connection, one GET.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, StatusCode};
use pingora::connectors::TransportConnector;
use pingora::http::RequestHeader;
use pingora::protocols::Stream;
use pingora::protocols::http::v1::client::HttpSession;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType};

use super::idle_connections::IdleConnections;
use super::origin_signer::{OriginSigner, Verified};
use crate::cache::fetch::{
    FetchError, Framing, InterimResponse, InterimSink, Origin, OriginBody, OriginRequest,
    OriginResponse, Phase,
};
use crate::cache::policy::fields::remove_hop_by_hop;
use crate::clock::{Moment, SharedClock};
use crate::config;
use crate::observe::{Metrics, OriginMetrics, OriginResult};
use crate::routing::{Attempt, Cause, OriginRing, RingError, Server, is_unconnected};
use crate::signing::PresignError;

/// One origin pool: its ring, its connections, its counters.
pub struct OriginClient {
    name: String,
    ring: Arc<OriginRing>,
    targets: Vec<Target>,
    connector: TransportConnector,
    clock: SharedClock,
    timeouts: Timeouts,
    signer: Option<OriginSigner>,
}

struct Target {
    peer: HttpPeer,
    name: Arc<str>,
    metrics: Arc<OriginMetrics>,
    idle: Arc<IdleConnections<Stream>>,
}

#[derive(Clone, Copy)]
struct Timeouts {
    read: Duration,
    write: Duration,
}

impl OriginClient {
    /// Prepares for `pool`.
    ///
    /// # Errors
    /// [`RingError`] when a server's name does not resolve.
    pub fn new(
        pool: &config::OriginPool,
        metrics: &Metrics,
        clock: SharedClock,
    ) -> Result<Self, RingError> {
        let ring = Arc::new(OriginRing::new(pool)?);
        let targets = ring
            .servers()
            .iter()
            .map(|server| Target {
                peer: peer(pool, server),
                name: Arc::from(server.name.as_str()),
                metrics: metrics.origin_server(&pool.name, &server.name),
                idle: IdleConnections::new(pool.idle_timeout, clock.clone()),
            })
            .collect();
        Ok(OriginClient {
            name: pool.name.clone(),
            ring,
            targets,
            connector: TransportConnector::new(None),
            clock,
            timeouts: Timeouts {
                read: pool.read_timeout,
                write: pool.write_timeout,
            },
            signer: pool.signing.as_ref().map(OriginSigner::new),
        })
    }

    /// The pool's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What signs requests to this pool, if they are not passed on as the client signed them.
    pub fn signer(&self) -> Option<&OriginSigner> {
        self.signer.as_ref()
    }

    /// The ring.
    pub fn ring(&self) -> &Arc<OriginRing> {
        &self.ring
    }

    /// How to reach a server of the ring.
    pub fn peer(&self, server: &Server) -> HttpPeer {
        self.targets[server.index].peer.clone()
    }

    /// The counters of a server of the ring.
    pub fn metrics(&self, server: &Server) -> &OriginMetrics {
        &self.targets[server.index].metrics
    }

    /// Publishes the health of every server.
    pub fn publish_health(&self) {
        for server in self.ring.servers() {
            self.metrics(server).set_healthy(server.is_healthy());
        }
    }

    /// Translates an error of pingora's.
    pub fn fetch_error(&self, error: &Error, server: &Server, phase: Phase) -> FetchError {
        let server = self.targets[server.index].name.clone();
        let reason = Cause(error).to_string();
        match error.etype() {
            kind if is_unconnected(kind) => FetchError::Connect { server, reason },
            ErrorType::ReadTimedout => FetchError::Timeout {
                server,
                after: self.timeouts.read,
                phase,
            },
            ErrorType::WriteTimedout => FetchError::Timeout {
                server,
                after: self.timeouts.write,
                phase,
            },
            ErrorType::InvalidHTTPHeader => FetchError::Invalid { server, reason },
            _ => FetchError::Broken {
                server,
                phase,
                reason,
            },
        }
    }

    async fn ask(
        &self,
        server: &Arc<Server>,
        request: &OriginRequest,
        interim: &InterimSink<'_>,
    ) -> Result<OriginResponse, FetchError> {
        let target = &self.targets[server.index];
        loop {
            let started = self.clock.now();
            let elapsed = || self.clock.monotonic().saturating_sub(started.monotonic);
            let idle = target.idle.take();
            let reused = idle.is_some();
            let stream = match idle {
                Some(stream) => stream,
                // In a box of its own: pingora's future takes 90 KiB, which a reused connection would pay, too.
                None => match Box::pin(self.connector.new_stream(&target.peer)).await {
                    Ok(stream) => {
                        self.ring.report(server, Attempt::Connected);
                        stream
                    }
                    Err(error) => {
                        self.ring.report(server, Attempt::Failed);
                        target.metrics.record(OriginResult::ConnectError, elapsed());
                        return Err(FetchError::Connect {
                            server: target.name.clone(),
                            reason: Cause(&error).to_string(),
                        });
                    }
                },
            };
            let mut session = HttpSession::new_with_options(stream, &target.peer);
            session.read_timeout = Some(self.timeouts.read);
            session.write_timeout = Some(self.timeouts.write);
            let head = self.request_head(request, started);
            match exchange_heads(&mut session, head, interim).await {
                Ok((status, fields)) => {
                    target
                        .metrics
                        .record(OriginResult::Status(status.as_u16()), elapsed());
                    let framing = framing(status, &fields);
                    return Ok(OriginResponse {
                        status,
                        fields,
                        framing,
                        server: target.name.clone(),
                        requested: started,
                        received: self.clock.now(),
                        body: Box::new(PooledBody {
                            session,
                            idle: target.idle.clone(),
                            server: target.name.clone(),
                            read_timeout: self.timeouts.read,
                        }),
                    });
                }
                Err((phase, error)) => {
                    let error = self.fetch_error(&error, server, phase);
                    let result = match error {
                        FetchError::Timeout { .. } => OriginResult::Timeout,
                        _ => OriginResult::Aborted,
                    };
                    target.metrics.record(result, elapsed());
                    // The server may have closed an idle connection just as we took it. A GET may
                    // be sent again, and every round uses up one idle connection.
                    if !(reused && matches!(error, FetchError::Broken { .. })) {
                        return Err(error);
                    }
                }
            }
        }
    }
}

impl OriginClient {
    /// The head to send, signed where the pool asks for it. What a fill asks for serves every client, so
    /// that no client's `x-amz-*` fields go along.
    fn request_head(
        &self,
        request: &OriginRequest,
        now: Moment,
    ) -> Result<RequestHeader, Box<Error>> {
        let Some(signer) = &self.signer else {
            return request_head(&request.target, request.fields.clone());
        };
        let mut fields = request.fields.clone();
        let (target, verified) = (&request.target, Verified::Otherwise);
        let target = signer
            .sign("GET", target, &mut fields, verified, now.wall)
            .map_err(unsigned)?;
        request_head(&target, fields)
    }
}

/// A request that could not be signed, in pingora's words.
pub(super) fn unsigned(error: PresignError) -> Box<Error> {
    Error::because(ErrorType::InternalError, "signing for the origin", error)
}

fn peer(pool: &config::OriginPool, server: &Server) -> HttpPeer {
    let mut peer = HttpPeer::new(server.address, false, String::new());
    peer.options.connection_timeout = Some(pool.connect_timeout);
    peer.options.total_connection_timeout = Some(pool.connect_timeout);
    peer.options.read_timeout = Some(pool.read_timeout);
    peer.options.write_timeout = Some(pool.write_timeout);
    // Counts on the way through pingora's proxy only; see [`IdleConnections`] for ours.
    peer.options.idle_timeout = Some(pool.idle_timeout);
    peer
}

async fn exchange_heads(
    session: &mut HttpSession,
    head: Result<RequestHeader, Box<Error>>,
    interim: &InterimSink<'_>,
) -> Result<(StatusCode, HeaderMap), (Phase, Box<Error>)> {
    let head = head.map_err(|error| (Phase::Sending, error))?;
    session
        .write_request_header(Box::new(head))
        .await
        .map_err(|error| (Phase::Sending, error))?;
    loop {
        session
            .read_response()
            .await
            .map_err(|error| (Phase::AwaitingHead, error))?;
        let Some(head) = session.resp_header() else {
            continue;
        };
        let (status, mut fields) = (head.status, head.headers.clone());
        if !status.is_informational() {
            return Ok((status, fields));
        }
        // We asked for no upgrade and sent no body that would have to wait.
        if status != StatusCode::CONTINUE && status != StatusCode::SWITCHING_PROTOCOLS {
            remove_hop_by_hop(&mut fields);
            interim(InterimResponse { status, fields });
        }
    }
}

/// A GET; names are written as pingora writes those whose case it was not told: `User-Agent`.
fn request_head(target: &str, fields: HeaderMap) -> Result<RequestHeader, Box<Error>> {
    let (mut parts, ()) = http::Request::new(()).into_parts();
    parts.headers = fields;
    let mut head = RequestHeader::from(parts);
    head.set_raw_path(target.as_bytes())?;
    Ok(head)
}

fn framing(status: StatusCode, fields: &HeaderMap) -> Framing {
    if status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED {
        return Framing::Length(0);
    }
    if fields.contains_key(TRANSFER_ENCODING) {
        return Framing::Chunked;
    }
    // pingora has refused responses whose lengths contradict one another.
    let length = fields
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.split(',').next())
        .and_then(|text| text.trim().parse().ok());
    length.map_or(Framing::UntilClose, Framing::Length)
}

#[async_trait]
impl Origin for OriginClient {
    async fn fetch(
        &self,
        request: &OriginRequest,
        interim: &InterimSink<'_>,
    ) -> Result<OriginResponse, FetchError> {
        let mut last = None;
        let candidates: Vec<Arc<Server>> =
            self.ring.candidates(&request.ring_key).cloned().collect();
        for server in &candidates {
            match self.ask(server, request, interim).await {
                Ok(response) => return Ok(response),
                // A GET is safe to send to the next server, as long as the last one did not take
                // all the time there is.
                Err(error @ (FetchError::Connect { .. } | FetchError::Broken { .. })) => {
                    last = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or(FetchError::Connect {
            server: Arc::from("-"),
            reason: "the pool has no server".to_owned(),
        }))
    }
}

/// A body on a pooled connection. The connection goes back to the pool when it is released and is
/// closed in every other case.
struct PooledBody {
    session: HttpSession,
    idle: Arc<IdleConnections<Stream>>,
    server: Arc<str>,
    read_timeout: Duration,
}

#[async_trait]
impl OriginBody for PooledBody {
    async fn next(&mut self) -> Result<Option<&[u8]>, FetchError> {
        let broken = |error: Box<Error>| {
            let server = self.server.clone();
            let phase = Phase::ReadingBody;
            match error.etype() {
                ErrorType::ReadTimedout => FetchError::Timeout {
                    server,
                    after: self.read_timeout,
                    phase,
                },
                _ => FetchError::Broken {
                    server,
                    phase,
                    reason: Cause(&error).to_string(),
                },
            }
        };
        self.session.read_body_ref().await.map_err(broken)
    }

    async fn release(self: Box<Self>) {
        let PooledBody {
            mut session, idle, ..
        } = *self;
        session.respect_keepalive();
        if let Some(stream) = session.reuse().await {
            idle.put(stream);
        }
    }
}
