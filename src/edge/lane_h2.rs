//! The h2 lane: each stream of a pingora h2 session takes the same steps.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, poll};
use h2::Reason;
use h2::server::Connection;
use http::header::{AGE, CONTENT_LENGTH, CONTENT_RANGE, HeaderName, HeaderValue, VIA};
use http::{HeaderMap, Method, StatusCode};
use pingora::apps::HttpServerApp;
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::{
    H2Accept, H2Options, HttpSession, default_h2_options, handshake,
};
use pingora::protocols::l4::stream::Stream as PlainStream;
use pingora::protocols::{Digest, IO, Stream};
use pingora::server::ShutdownWatch;
use pingora::time::{sleep, timeout};

use super::admit::{GateRefusal, RawHead, admit};
use super::deliver::failure_fields;
use super::downstream::{ClientGone, Downstream, Follows, OrNothing, ReplyHead, ReplyLength};
use super::failure::Failure;
use super::frame_meter::Flood;
use super::gathered_stream::{GatheredWrites, gathered};
use super::held_bodies::{HeldBody, HeldUp};
use super::listen::Lanes;
use super::pace::{Pace, PolledPace};
use super::paced_session::{PacedSession, Receiving, Sending};
use super::request::{Peer, RequestId};
use super::tls::{Scope, directed};
use super::tls_stream::TlsStream;
use super::{Answered, LINGER, Node, Ticket, X_REQUEST_ID};
use crate::cache::fetch::InterimResponse;
use crate::clock::SharedClock;
use crate::config::{H2Limits, Limits};
use crate::observe::Protocol;

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// So many requests that are none end a connection.
const MALFORMED_STREAMS: usize = 32;

/// Frames of at most this size share a connection fairly.
const WRITE_BYTES: usize = 64 * 1024;

/// Serves one connection to its end.
///
/// Streams are answered in the connection's own task as far as nothing has to be waited for, which is all
/// the way for most hits, and what they wrote leaves in one write when nothing more is to be read. A stream
/// that has to wait goes on in a task of its own.
pub(super) async fn serve(
    lanes: &Arc<Lanes>,
    stream: Stream,
    peer: Peer,
    scope: Option<Arc<Scope>>,
    shutdown: &ShutdownWatch,
) {
    let digest = Arc::new(Digest {
        ssl_digest: stream.get_ssl_digest(),
        timing_digest: stream.get_timing_digest(),
        proxy_digest: stream.get_proxy_digest(),
        socket_digest: stream.get_socket_digest(),
    });
    let Ok(tls) = stream.into_any().downcast::<TlsStream<PlainStream>>() else {
        // Nobody comes here without TLS: h2 is agreed on by ALPN.
        return;
    };
    let node = &lanes.node;
    let (stream, writes) = gathered(*tls, node.h2.control_frames, node.clock.clone());
    let handshake = pin!(handshake(
        Box::new(stream),
        Some(options(&node.limits, node.h2))
    ));
    let keep_alive = node.timeouts.keep_alive;
    let Ok(Some(Ok(mut connection))) = timeout(keep_alive, flushing(handshake, &writes)).await
    else {
        return;
    };
    let activity = Arc::new(Activity::new(node.clock.clone()));
    let mut stopping = shutdown.clone();
    let mut is_stopping = false;
    let mut malformed = 0;
    let abuse = loop {
        let accepted = {
            let next = pin!(HttpSession::from_h2_conn(&mut connection, digest.clone()));
            tokio::select! {
                biased;
                accepted = flushing(next, &writes) => Event::of(accepted, &writes),
                // A sender that is gone will never say it.
                _ = stopping.wait_for(|stopping| *stopping), if !is_stopping => Event::Stopping,
                () = activity.idle_for(keep_alive) => return,
            }
        };
        match accepted {
            Event::Stopping => {
                is_stopping = true;
                connection.graceful_shutdown();
            }
            Event::Stream(session) => {
                let guard = activity.begin();
                let (lanes, peer, shutdown) = (lanes.clone(), peer.clone(), shutdown.clone());
                let scope = scope.clone();
                let mut answer = Box::pin(async move {
                    let guard = guard;
                    let held_up = &guard.0.held_up;
                    let session = ServerSession::new_http2(session);
                    answer(&lanes, session, peer, scope.as_deref(), held_up, &shutdown).await;
                });
                if poll!(answer.as_mut()).is_pending() {
                    tokio::spawn(answer);
                }
            }
            Event::Rejected => {
                malformed += 1;
                if malformed >= MALFORMED_STREAMS {
                    break Some(Abuse::MalformedRequests);
                }
            }
            Event::Ended(abuse) => break abuse,
        }
    };
    if let Some(abuse) = abuse {
        let (client, reason) = (peer.client, abuse.reason());
        node.metrics.record_h2_abuse(reason);
        if let Some(unsaid) = node.h2_abuse_log.turn(node.clock.monotonic()) {
            tracing::warn!(%client, reason, unsaid, "an HTTP/2 connection is cut off");
        }
        if matches!(abuse, Abuse::Flood(_) | Abuse::MalformedRequests) {
            // Otherwise h2 has said why itself.
            connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
        }
    }
    let _ = timeout(LINGER, end(&mut connection, &writes, abuse.is_some())).await;
}

/// What the accept loop is told.
#[expect(
    clippy::large_enum_variant,
    reason = "a box would cost every request an allocation"
)]
enum Event {
    Stopping,
    Stream(HttpSession),
    Rejected,
    /// The connection is over, and why it was the client's fault.
    Ended(Option<Abuse>),
}

impl Event {
    fn of<S: IO>(
        accepted: Option<pingora::Result<Option<H2Accept>>>,
        writes: &GatheredWrites<S>,
    ) -> Self {
        match accepted {
            None => Event::Ended(writes.flood().map(Abuse::Flood)),
            Some(Ok(Some(H2Accept::Session(session)))) => Event::Stream(session),
            Some(Ok(Some(H2Accept::Rejected))) => Event::Rejected,
            // The client has left.
            Some(Ok(None)) => Event::Ended(None),
            // It has left in the middle of something, or what it sends is no HTTP/2.
            Some(Err(error)) => Event::Ended(Abuse::of(&error)),
        }
    }
}

/// Why a client's connection is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Abuse {
    /// Too many frames of a kind that [`super::frame_meter`] counts.
    Flood(Flood),
    /// Too many requests that are none.
    MalformedRequests,
    /// What the h2 crate takes for abuse: header blocks, CONTINUATIONs, small DATA and resets beyond its limits.
    Calm,
    /// What is no HTTP/2.
    Protocol,
}

impl Abuse {
    /// What `error` says of the client; nothing when the connection just broke.
    fn of(error: &pingora::Error) -> Option<Self> {
        let error = error.root_cause().downcast_ref::<h2::Error>()?;
        if !error.is_library() {
            return None;
        }
        match error.reason() {
            Some(Reason::ENHANCE_YOUR_CALM) => Some(Abuse::Calm),
            _ => Some(Abuse::Protocol),
        }
    }

    fn reason(self) -> &'static str {
        match self {
            Abuse::Flood(flood) => flood.reason(),
            Abuse::MalformedRequests => "malformed_requests",
            Abuse::Calm => "calm",
            Abuse::Protocol => "protocol",
        }
    }
}

/// Resets that h2 may send on one connection because of what its client did (CVE-2025-8671).
const PROVOKED_RESETS: usize = 100;

/// What h2 counts a field for, beyond its name and value (RFC 9113 §6.5.2).
const FIELD_BYTES: usize = 32;

fn options(limits: &Limits, h2: H2Limits) -> H2Options {
    let mut options = default_h2_options();
    // A head that our own limits allow must get as far as those.
    let head = limits.request_head_bytes + limits.request_fields * FIELD_BYTES;
    let head = u32::try_from(head)
        .unwrap_or(u32::MAX)
        .max(HEADER_LIST_BYTES);
    options
        .max_header_list_size(head)
        .max_concurrent_streams(h2.streams)
        .max_local_error_reset_streams(Some(PROVOKED_RESETS));
    options
}

/// pingora's own limit for a list of fields.
const HEADER_LIST_BYTES: u32 = 64 * 1024;

/// Of a client that is cut off, so much is read and dropped, for it to learn why.
const DISCARDED_BYTES: usize = 256 * 1024;

/// Sends what is still to be said; the client may be gone.
async fn end<S: IO>(
    connection: &mut Connection<Stream, Bytes>,
    writes: &GatheredWrites<S>,
    cut_off: bool,
) {
    if !cut_off {
        let _ = poll_fn(|cx| writes.poll_flush(cx)).await;
        return;
    }
    let mut closed = pin!(poll_fn(|cx| connection.poll_closed(cx)));
    let closing = poll_fn(|cx| {
        let closed = closed.as_mut().poll(cx);
        let flushed = writes.poll_flush(cx);
        if closed.is_pending() {
            Poll::Pending
        } else {
            flushed
        }
    });
    let _ = closing.await;
    let mut discarded = 0;
    while discarded < DISCARDED_BYTES {
        match poll_fn(|cx| writes.poll_discard(cx)).await {
            Ok(bytes) if bytes > 0 => discarded += bytes,
            _ => return,
        }
    }
}

/// Polls `future` and, whenever it has to wait, sends what it has written; `None` once the client has sent too
/// much of something.
async fn flushing<F: Future, S: IO>(
    mut future: Pin<&mut F>,
    writes: &GatheredWrites<S>,
) -> Option<F::Output> {
    poll_fn(|cx| {
        let polled = future.as_mut().poll(cx);
        if polled.is_pending() {
            // An error comes back when the connection is read or written next.
            let _ = writes.poll_flush(cx);
            if writes.flood().is_some() {
                return Poll::Ready(None);
            }
        }
        polled.map(Some)
    })
    .await
}

/// What goes on on a connection.
struct Activity {
    clock: SharedClock,
    streams: AtomicUsize,
    /// The clock's time when the last stream ended, or the connection began; milliseconds.
    last_end: AtomicU64,
    /// Bodies of requests that nobody reads for the moment.
    held_up: Arc<HeldUp>,
}

/// A stream that is under way.
struct Active(Arc<Activity>);

impl Activity {
    fn new(clock: SharedClock) -> Self {
        let activity = Activity {
            clock,
            streams: AtomicUsize::new(0),
            last_end: AtomicU64::new(0),
            held_up: Arc::default(),
        };
        activity.note();
        activity
    }

    fn note(&self) {
        let now = self.clock.monotonic();
        // In milliseconds, the time since the start fits for half a billion years.
        self.last_end
            .store(now.as_millis() as u64, Ordering::Relaxed);
    }

    fn begin(self: &Arc<Self>) -> Active {
        self.streams.fetch_add(1, Ordering::Relaxed);
        Active(self.clone())
    }

    /// Returns when there has been no stream for `limit`.
    async fn idle_for(&self, limit: Duration) {
        loop {
            let now = self.clock.monotonic();
            let idle = match self.streams.load(Ordering::Relaxed) {
                0 => {
                    now.saturating_sub(Duration::from_millis(self.last_end.load(Ordering::Relaxed)))
                }
                _ => Duration::ZERO,
            };
            if idle >= limit {
                return;
            }
            // A stream that ends meanwhile makes it wait again, and that long.
            sleep(limit - idle).await;
        }
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.note();
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Answers one stream.
async fn answer(
    lanes: &Arc<Lanes>,
    mut session: ServerSession,
    peer: Peer,
    scope: Option<&Scope>,
    held_up: &Arc<HeldUp>,
    shutdown: &ShutdownWatch,
) {
    if was_reset(&mut session) {
        return;
    }
    let node = &lanes.node;
    let started = node.clock.now();
    let id = RequestId::random();
    let head = raw_head(&session);
    let has_body = head.as_ref().is_ok_and(|head| !head.ends_with_head);
    let admitted = head.and_then(|raw| {
        check_limits(&raw, &node.limits)?;
        directed(admit(raw, id, started, peer.clone())?, scope)
    });
    let mut client = Client {
        is_head: session.req_header().method == Method::HEAD,
        session: &mut session,
        clock: &node.clock,
        write_timeout: node.timeouts.write,
        pace: node.limits.min_send_rate.map(Pace::new),
        is_too_slow: false,
        ended: false,
    };
    match admitted {
        Err(refusal) => {
            let reply = Failure::Gate(refusal).reply();
            node.record_refused(&id, started, &peer, Protocol::H2, &reply);
            let body = reply.body(&id);
            let fields = failure_fields(&reply, node.clock.wall());
            let head = ReplyHead::of_failure(&reply, &fields, body.len() as u64, id);
            // A client that is gone already was refused all the same.
            let _ = client.head(&head, body, Follows::Nothing).await;
        }
        Ok(request) => match node.answer(request, &mut client).await {
            Answered::Done => {}
            Answered::Pass(ticket) => {
                session = paced(session, node, &ticket, has_body.then_some(held_up));
                session.set_write_timeout(Some(node.timeouts.write));
                let extensions = session.req_header_mut().extensions_mut();
                extensions.insert(Arc::new(*ticket));
                lanes.proxy.process_new_http(session, shutdown).await;
                return;
            }
        },
    }
    if has_body {
        drain(&mut session).await;
    }
}

/// The session with as much time for its client as the limits allow; its body is one of those in `held_up`.
fn paced(
    session: ServerSession,
    node: &Node,
    ticket: &Ticket,
    held_up: Option<&Arc<HeldUp>>,
) -> ServerSession {
    let min_send_rate = node.limits.min_send_rate;
    let session = match session {
        ServerSession::H2(session) if held_up.is_some() || min_send_rate.is_some() => session,
        other => return other,
    };
    let receiving = held_up.map(|held_up| Receiving {
        pace: PolledPace::of_body(
            node.limits.min_receive_rate,
            node.timeouts.request_body,
            node.clock.clone(),
            held_up.clone(),
            ticket.pace.sending.clone(),
        ),
        body: HeldBody::new(held_up.clone(), node.clock.clone()),
    });
    let sending = min_send_rate.map(|rate| Sending {
        pace: Pace::new(rate),
        clock: node.clock.clone(),
        too_slow: ticket.pace.taking.clone(),
    });
    ServerSession::new_custom(Box::new(PacedSession::new(session, receiving, sending)))
}

/// Whether the client has taken its request back already: nothing is done for it, least of all at the
/// origin (CVE-2023-44487).
fn was_reset(session: &mut ServerSession) -> bool {
    let ServerSession::H2(session) = session else {
        return false;
    };
    session.idle().now_or_never().is_some()
}

fn raw_head(session: &ServerSession) -> Result<RawHead<'_>, GateRefusal> {
    let head = session.req_header();
    let h2 = session.as_http2().ok_or(GateRefusal::Malformed)?;
    let authority = head.uri.authority();
    Ok(RawHead {
        protocol: Protocol::H2,
        method: head.method.as_str(),
        target: Bytes::copy_from_slice(head.raw_path()),
        authority: authority.map(|name| Bytes::copy_from_slice(name.as_str().as_bytes())),
        fields: head.headers.clone(),
        ends_with_head: h2.is_body_empty(),
    })
}

/// Reads and drops what is left of a body that nobody wanted: a stream that is dropped before its
/// client has finished is reset, and the reset would overtake the response (RFC 9113 §8.1).
async fn drain(session: &mut ServerSession) {
    session.set_total_drain_timeout(Some(LINGER));
    // The response is sent; whether the client finished its request changes nothing.
    let _ = session.drain_request_body().await;
}

/// The limits that the HTTP/1.1 lane applies while it reads.
fn check_limits(raw: &RawHead<'_>, limits: &Limits) -> Result<(), GateRefusal> {
    if raw.fields.len() > limits.request_fields {
        return Err(GateRefusal::TooManyFields);
    }
    if raw.target.len() > limits.request_head_bytes {
        return Err(GateRefusal::TargetTooLong);
    }
    let lines = raw.fields.iter();
    let fields: usize = lines
        .map(|(name, value)| name.as_str().len() + value.len() + 4)
        .sum();
    if raw.target.len() + fields > limits.request_head_bytes {
        return Err(GateRefusal::HeadTooLarge);
    }
    Ok(())
}

/// An h2 client that awaits one response.
struct Client<'a> {
    session: &'a mut ServerSession,
    clock: &'a SharedClock,
    write_timeout: Duration,
    /// How it takes the response.
    pace: Option<Pace>,
    is_too_slow: bool,
    is_head: bool,
    ended: bool,
}

impl Client<'_> {
    async fn body(&mut self, bytes: Bytes, end: bool) -> Result<(), ClientGone> {
        let length = bytes.len() as u64;
        let since = self.pace.map(|_| self.clock.monotonic());
        let patience = match &self.pace {
            Some(pace) => self.write_timeout.min(pace.allowance()),
            None => self.write_timeout,
        };
        let write = self.session.write_response_body(bytes, end);
        match timeout(patience, write).await {
            Ok(Ok(())) => {
                if let (Some(pace), Some(since)) = (&mut self.pace, since) {
                    pace.moved(length, self.clock.monotonic().saturating_sub(since));
                }
                Ok(())
            }
            Ok(Err(_)) => Err(ClientGone),
            Err(_) => {
                self.is_too_slow = true;
                Err(ClientGone)
            }
        }
    }

    /// Writes in pieces, so that a slow client is judged by its progress and not by the size of
    /// what we happen to have.
    async fn pieces(&mut self, mut bytes: Bytes, end: bool) -> Result<(), ClientGone> {
        while bytes.len() > WRITE_BYTES {
            let piece = bytes.split_to(WRITE_BYTES);
            self.body(piece, false).await?;
        }
        self.body(bytes, end).await
    }

    async fn end(&mut self) -> Result<(), ClientGone> {
        if self.ended {
            return Ok(());
        }
        self.ended = true;
        self.body(Bytes::new(), true).await
    }
}

impl Downstream for Client<'_> {
    /// pingora's h2 session sends none.
    async fn interim(&mut self, _: &InterimResponse) -> Result<(), ClientGone> {
        Ok(())
    }

    async fn head(
        &mut self,
        head: &ReplyHead<'_>,
        first: Bytes,
        follows: Follows,
    ) -> Result<(), ClientGone> {
        let header = response_header(head).ok_or(ClientGone)?;
        self.session
            .write_response_header(Box::new(header))
            .await
            .map_err(|_| ClientGone)?;
        if self.is_head || head.status == StatusCode::NOT_MODIFIED {
            return self.end().await;
        }
        if follows == Follows::Nothing {
            self.ended = true;
            return self.pieces(first, true).await;
        }
        if first.is_empty() {
            return Ok(());
        }
        self.pieces(first, false).await
    }

    async fn data(&mut self, bytes: Bytes) -> Result<(), ClientGone> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.pieces(bytes, false).await
    }

    async fn finish(&mut self) -> Result<(), ClientGone> {
        self.end().await
    }

    fn is_too_slow(&self) -> bool {
        self.is_too_slow
    }

    async fn abort(&mut self) {
        self.ended = true;
        // RST_STREAM: the client must not take what it has for the whole.
        self.session.shutdown().await;
    }
}

/// More fields than are added to those that are stored.
const OWN_FIELDS: usize = 8;

/// Built as a plain map: pingora's own way of adding a field reads its name letter by letter again.
fn response_header(head: &ReplyHead<'_>) -> Option<ResponseHeader> {
    let stored = head.stored.map_or(0, |(stored, _)| stored.fields.len());
    let mut fields = HeaderMap::with_capacity(stored + head.fields.len() + OWN_FIELDS);
    let mut add = |name: HeaderName, value: HeaderValue| fields.try_append(name, value).ok();
    for (name, value) in head.stored_fields() {
        add(name.clone(), value.clone())?;
    }
    for (name, value) in head.fields {
        add(name.clone(), value.clone())?;
    }
    if let ReplyLength::Known(length) = head.length {
        add(CONTENT_LENGTH, HeaderValue::from(length))?;
    }
    if let Some(range) = &head.content_range {
        add(
            CONTENT_RANGE,
            HeaderValue::try_from(range.to_string()).ok()?,
        )?;
    }
    if let Some(age) = head.age_seconds {
        add(AGE, HeaderValue::from(age))?;
    }
    if let Some(status) = &head.cache_status {
        add(
            CACHE_STATUS,
            HeaderValue::try_from(format!("{status}{}", OrNothing(&head.key_parameter))).ok()?,
        )?;
    }
    add(VIA, HeaderValue::from_static("2 tidegate"))?;
    let mut request_id = HeaderValue::from_str(head.request_id.as_str()).ok()?;
    // Never the same again: in h2's table of fields it would push out what is, and every new one would be
    // compared with all before it.
    request_id.set_sensitive(true);
    add(X_REQUEST_ID, request_id)?;
    let (mut parts, ()) = http::Response::new(()).into_parts();
    parts.status = head.status;
    parts.headers = fields;
    Some(parts.into())
}
