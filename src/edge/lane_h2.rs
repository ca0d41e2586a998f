//! The h2 lane: each stream of a connection takes the same steps.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, poll};
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::{Request, Response, StatusCode};
use pingora::protocols::l4::stream::Stream as PlainStream;
use pingora::protocols::{Digest, IO, Stream};
use pingora::server::ShutdownWatch;
use pingora::time::{sleep, timeout};

use super::frame_meter::Flood;
use super::gathered_stream::{GatheredStream, GatheredWrites, gathered};
use super::head_h2::{Malformed, check_form};
use super::listen::Lanes;
use super::request::Peer;
use super::stream_h2::{ConnectionH2, answer};
use super::tls::Scope;
use super::tls_stream::TlsStream;
use super::{LINGER, Node};
use crate::clock::SharedClock;
use crate::config::{H2Limits, Limits};

/// So many requests that are none end a connection.
const MALFORMED_STREAMS: usize = 32;

/// Serves one connection to its end.
///
/// Streams are answered in the connection's own task as far as nothing has to be waited for, which is all
/// the way for most hits, and what they wrote leaves in one write when nothing more is to be read. A stream
/// that has to wait goes on in a task of its own.
pub(super) async fn serve(
    lanes: &Arc<Lanes>,
    stream: Stream,
    peer: Peer,
    scope: Option<Scope>,
    shutdown: &ShutdownWatch,
) {
    let shared = Arc::new(ConnectionH2 {
        lanes: lanes.clone(),
        peer,
        scope,
        shutdown: shutdown.clone(),
        digest: Arc::new(digest_of(&stream)),
        held_up: Arc::default(),
    });
    let Ok(tls) = stream.into_any().downcast::<TlsStream<PlainStream>>() else {
        // Nobody comes here without TLS: h2 is agreed on by ALPN.
        return;
    };
    let node = &lanes.node;
    let (stream, writes) = gathered(*tls, node.h2.control_frames, node.clock.clone());
    let handshake = pin!(options(&node.limits, node.h2).handshake(stream));
    let keep_alive = node.timeouts.keep_alive;
    let Ok(Some(Ok(mut connection))) = timeout(keep_alive, flushing(handshake, &writes)).await
    else {
        return;
    };
    let is_cut_off = match accept(&shared, &mut connection, &writes).await {
        End::Idle => return,
        End::ByClient => false,
        End::CutOff(abuse) => {
            report(node, &shared.peer, abuse);
            if matches!(abuse, Abuse::Flood(_) | Abuse::MalformedRequests) {
                // Otherwise h2 has said why itself.
                connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
            }
            true
        }
    };
    let _ = timeout(LINGER, end(&mut connection, &writes, is_cut_off)).await;
}

/// What pingora's proxy may want to know of a connection.
fn digest_of(stream: &Stream) -> Digest {
    Digest {
        ssl_digest: stream.get_ssl_digest(),
        timing_digest: stream.get_timing_digest(),
        proxy_digest: stream.get_proxy_digest(),
        socket_digest: stream.get_socket_digest(),
    }
}

/// Answers streams until the connection is over.
async fn accept<S: IO>(
    shared: &Arc<ConnectionH2>,
    connection: &mut ServerConnection<S>,
    writes: &GatheredWrites<S>,
) -> End {
    let node = &shared.lanes.node;
    let activity = Arc::new(Activity::new(node.clock.clone()));
    let mut idle = pin!(activity.idle_for(node.timeouts.keep_alive));
    let mut shutdown = shared.shutdown.clone();
    // A sender that is gone will never say it.
    let stopping = shutdown.wait_for(|stopping| *stopping);
    let mut stopping = pin!(stopping.map(|stopping| stopping.is_ok()).fuse());
    let mut malformed = 0;
    loop {
        let event = poll_fn(|cx| {
            if let Poll::Ready(event) = poll_event(connection, writes, cx) {
                return Poll::Ready(event);
            }
            activity.note_answers();
            if stopping.as_mut().poll(cx) == Poll::Ready(true) {
                return Poll::Ready(Event::Stopping);
            }
            idle.as_mut().poll(cx).map(|()| Event::Ended(End::Idle))
        });
        match event.await {
            Event::Stream(request, respond) => {
                let (head, body) = request.into_parts();
                if let Err(malformation) = check_form(&head) {
                    reject(respond, malformation);
                    malformed += 1;
                    if malformed >= MALFORMED_STREAMS {
                        return End::CutOff(Abuse::MalformedRequests);
                    }
                    continue;
                }
                let mut answer = Box::pin(answer(shared.clone(), head, body, respond));
                activity.was_asked();
                if poll!(answer.as_mut()).is_pending() {
                    let active = activity.begin();
                    tokio::spawn(async move {
                        let _active = active;
                        answer.await;
                    });
                }
            }
            Event::Stopping => connection.graceful_shutdown(),
            Event::Ended(end) => return end,
        }
    }
}

type ServerConnection<S> = Connection<GatheredStream<S>, Bytes>;

/// What the accept loop is told.
#[expect(
    clippy::large_enum_variant,
    reason = "a box would cost every request an allocation"
)]
enum Event {
    /// The edge is to stop.
    Stopping,
    Stream(Request<RecvStream>, SendResponse<Bytes>),
    Ended(End),
}

/// Why a connection is over.
enum End {
    /// There was no stream for too long.
    Idle,
    /// The client has left.
    ByClient,
    /// It has gone too far.
    CutOff(Abuse),
}

/// What comes next on a connection; whenever that has to be waited for, sends what was written.
fn poll_event<S: IO>(
    connection: &mut ServerConnection<S>,
    writes: &GatheredWrites<S>,
    cx: &mut Context<'_>,
) -> Poll<Event> {
    match connection.poll_accept(cx) {
        Poll::Ready(Some(Ok((request, respond)))) => Poll::Ready(Event::Stream(request, respond)),
        Poll::Ready(None) => Poll::Ready(Event::Ended(End::ByClient)),
        // It has left in the middle of something, or what it sends is no HTTP/2.
        Poll::Ready(Some(Err(error))) => {
            let end = Abuse::of(&error).map_or(End::ByClient, End::CutOff);
            Poll::Ready(Event::Ended(end))
        }
        Poll::Pending => {
            // An error comes back when the connection is read or written next.
            let _ = writes.poll_flush(cx);
            match writes.flood() {
                Some(flood) => Poll::Ready(Event::Ended(End::CutOff(Abuse::Flood(flood)))),
                None => Poll::Pending,
            }
        }
    }
}

/// Ends a stream that asks for nothing that could be answered.
fn reject(mut respond: SendResponse<Bytes>, malformation: Malformed) {
    match malformation {
        Malformed::Framing => respond.send_reset(Reason::PROTOCOL_ERROR),
        Malformed::Authority => {
            let mut response = Response::new(());
            *response.status_mut() = StatusCode::BAD_REQUEST;
            // A client that has taken it back already needs no answer.
            let _ = respond.send_response(response, true);
        }
    }
}

/// Counts that a connection is cut off, and says so now and then.
fn report(node: &Node, peer: &Peer, abuse: Abuse) {
    let (client, reason) = (peer.client, abuse.reason());
    node.metrics.record_h2_abuse(reason);
    if let Some(unsaid) = node.h2_abuse_log.turn(node.clock.monotonic()) {
        tracing::warn!(%client, reason, unsaid, "an HTTP/2 connection is cut off");
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
    fn of(error: &h2::Error) -> Option<Self> {
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

fn options(limits: &Limits, h2: H2Limits) -> Builder {
    let mut options = Builder::new();
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

/// The least that a list of fields may take, as in pingora.
const HEADER_LIST_BYTES: u32 = 64 * 1024;

/// Of a client that is cut off, so much is read and dropped, for it to learn why.
const DISCARDED_BYTES: usize = 256 * 1024;

/// Sends what is still to be said; the client may be gone.
async fn end<S: IO>(
    connection: &mut ServerConnection<S>,
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
    /// Streams that have to wait for something.
    streams: AtomicUsize,
    /// A stream came since the time was noted.
    was_asked: AtomicBool,
    /// The clock's time when the last stream ended, or the connection began; milliseconds.
    last_end: AtomicU64,
}

/// A stream that is under way.
struct Active(Arc<Activity>);

impl Activity {
    fn new(clock: SharedClock) -> Self {
        let activity = Activity {
            clock,
            streams: AtomicUsize::new(0),
            was_asked: AtomicBool::new(false),
            last_end: AtomicU64::new(0),
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

    fn was_asked(&self) {
        self.was_asked.store(true, Ordering::Relaxed);
    }

    /// Streams that came since then were answered, or are under way: one look at the clock for all of them.
    fn note_answers(&self) {
        if self.was_asked.load(Ordering::Relaxed) {
            self.was_asked.store(false, Ordering::Relaxed);
            self.note();
        }
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
