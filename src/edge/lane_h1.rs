//! The HTTP/1.1 lane: a loop of our own on pingora's stream, plain or TLS.
//!
//! read → parse → [`super::Node::answer`] → write, and again. What is not for the cache goes on to
//! pingora's proxy with the bytes already read; the connection comes back for the next request.

use std::io::IoSlice;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::Method;
use pingora::apps::HttpServerApp;
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use pingora::server::ShutdownWatch;
use pingora::time::timeout;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::admit::GateRefusal;
use super::chunked::ChunkedBody;
use super::deliver::failure_fields;
use super::downstream::{
    ClientGone, Downstream, Follows, ReplyHead, ReplyLength, Selection, Unsent,
};
use super::failure::Failure;
use super::file_sender::FileSender;
use super::forwarding::via;
use super::head_h1::{Scan, admit_head};
use super::held_stream::{HeldStream, Rest};
use super::listen::Lanes;
use super::pace::{Pace, PolledPace, TooSlow};
use super::presence::Presence;
use super::request::{BodyLength, Peer, Request, RequestId};
use super::tls::{self, Scope, directed};
use super::{Answered, LINGER, Ticket};
use crate::cache::fetch::InterimResponse;
use crate::cache::file_span::FileSpan;
use crate::clock::{Moment, SharedClock};
use crate::config::MinRate;
use crate::next_request::{NextRequest, READ_BYTES};
use crate::observe::Protocol;
use crate::response_head::{write_field, write_status_line};

/// A body up to this long is copied behind its head; a longer one leaves with it from where it lies.
const COPIED_BYTES: usize = 4 * 1024;

/// After an error response, this much of what the client still sends is read and dropped, so that
/// closing does not reset the connection under the response (RFC 9112 §9.6).
const LINGER_BYTES: usize = 256 * 1024;

/// Serves one connection to its end.
///
/// While no request is under way a connection holds nothing but itself: neither a buffer to read into nor
/// the state of an answer.
pub(super) async fn serve(
    lanes: &Arc<Lanes>,
    mut stream: Stream,
    peer: Peer,
    scope: Option<Scope>,
    shutdown: ShutdownWatch,
) {
    let node = &lanes.node;
    let keep_alive = node.timeouts.keep_alive;
    let mut next_request = NextRequest::new(node.clock.clone(), keep_alive, shutdown.clone());
    let mut buf = BytesMut::new();
    loop {
        if buf.is_empty() {
            // What is left of the request before goes with its buffer.
            drop(buf);
            buf = match next_request.first_bytes(&mut stream).await {
                Some(first) => first,
                None => return,
            };
        }
        let (scope, stopping) = (scope.as_ref(), next_request.is_stopping());
        // Made in its place: it is long, and hardly any of it is set before it runs.
        let place = Box::new_uninit();
        let served = Box::write(
            place,
            serve_request(lanes, stream, buf, &peer, scope, stopping, &shutdown),
        );
        match Box::into_pin(served).await {
            Some(next) => (stream, buf) = next,
            None => return,
        }
    }
}

/// Serves the request that `buf` begins with; gives back the connection and what was read behind the
/// request, `None` when the connection has ended.
async fn serve_request(
    lanes: &Arc<Lanes>,
    mut stream: Stream,
    mut buf: BytesMut,
    peer: &Peer,
    scope: Option<&Scope>,
    stopping: bool,
    shutdown: &ShutdownWatch,
) -> Option<(Stream, BytesMut)> {
    let (head, started, received) = match read_head(lanes, &mut stream, &mut buf).await {
        Read::Head {
            head,
            started,
            received,
        } => (head, started, received),
        Read::Closed => return None,
        Read::Refused(refusal, started) => {
            refuse(lanes, stream, peer, Protocol::Http11, refusal, started).await;
            return None;
        }
    };
    let admitted = admit_head(&head, &lanes.node.limits, started, peer.clone());
    let mut request = match admitted.and_then(|request| directed(request, scope)) {
        Ok(request) => request,
        Err(refusal) => {
            refuse(lanes, stream, peer, Protocol::Http11, refusal, started).await;
            return None;
        }
    };
    request.received = received;
    let body = request.body;
    let behind = match Behind::of(&request, &buf) {
        Ok(behind) => behind,
        Err(refusal) => {
            refuse(lanes, stream, peer, request.protocol, refusal, started).await;
            return None;
        }
    };
    let mut client = Client::new(lanes, &mut stream, &request, stopping);
    match lanes.node.answer(request, &mut client).await {
        Answered::Done => {
            let reusable = client.keep_alive && body == BodyLength::None;
            if !reusable {
                close(stream).await;
                return None;
            }
        }
        Answered::Pass(ticket) => {
            let passed = pass(lanes, stream, head, &mut buf, ticket, behind, shutdown);
            stream = passed.await?;
        }
    }
    Some((stream, buf))
}

enum Read {
    Head {
        head: Bytes,
        started: Moment,
        received: Moment,
    },
    Closed,
    Refused(GateRefusal, Moment),
}

/// Reads up to the end of the head that `buf` begins with. Every line must end with CRLF.
async fn read_head(lanes: &Lanes, stream: &mut Stream, buf: &mut BytesMut) -> Read {
    let node = &lanes.node;
    let started = node.clock.now();
    let deadline = started.monotonic + node.timeouts.request_head;
    let mut scan = Scan::default();
    let mut waited = false;
    loop {
        match scan.take_head(buf, node.limits.request_head_bytes) {
            Err(refusal) => return Read::Refused(refusal, started),
            Ok(Some(head)) => {
                let received = if waited { node.clock.now() } else { started };
                return Read::Head {
                    head,
                    started,
                    received,
                };
            }
            Ok(None) => waited = true,
        }
        let left = deadline.saturating_sub(node.clock.monotonic());
        buf.reserve(READ_BYTES);
        match timeout(left, stream.read_buf(buf)).await {
            Ok(Ok(read)) if read > 0 => {}
            Ok(_) => return Read::Closed,
            Err(_) => return Read::Refused(GateRefusal::HeadTimeout, started),
        }
    }
}

/// Answers what the gate refused, and closes.
async fn refuse(
    lanes: &Lanes,
    mut stream: Stream,
    peer: &Peer,
    protocol: Protocol,
    refusal: GateRefusal,
    started: Moment,
) {
    let id = RequestId::random();
    let reply = Failure::Gate(refusal).reply();
    let body = reply.body(&id);
    let fields = failure_fields(&reply, lanes.node.clock.wall());
    let head = ReplyHead::of_failure(&reply, &fields, body.len() as u64, id);
    let mut out = Vec::with_capacity(1024);
    write_head(&mut out, &head, "1.1 tidegate", Framing::Close);
    out.extend_from_slice(&body);
    lanes
        .node
        .record_refused(&id, started, peer, protocol, &reply);
    let write = async {
        stream.write_all(&out).await?;
        stream.flush().await
    };
    if let Ok(Ok(())) = timeout(lanes.node.timeouts.write, write).await {
        close(stream).await;
    }
}

/// Closes so that the client can still read what was sent.
async fn close(mut stream: Stream) {
    let linger = async {
        if stream.shutdown().await.is_err() {
            return;
        }
        let mut dropped = 0;
        let mut scratch = [0; 4096];
        while dropped < LINGER_BYTES {
            match stream.read(&mut scratch).await {
                Ok(read) if read > 0 => dropped += read,
                _ => return,
            }
        }
    };
    // Whether the client closed in time changes nothing any more.
    let _ = timeout(LINGER, linger).await;
}

/// What follows the head of a request.
struct Behind {
    /// So much of what was read with the head belongs to the request.
    known_bytes: usize,
    rest: Rest,
}

impl Behind {
    /// Looks at what came with the head: a body that is wrong from its beginning reaches nobody.
    fn of(request: &Request, read: &[u8]) -> Result<Self, GateRefusal> {
        if request.upgrade {
            return Ok(Behind {
                known_bytes: read.len(),
                rest: Rest::Endless,
            });
        }
        Ok(match request.body {
            BodyLength::None => Behind {
                known_bytes: 0,
                rest: Rest::Counted(0),
            },
            BodyLength::Known(length) => {
                let length_here = usize::try_from(length).unwrap_or(usize::MAX);
                let known_bytes = length_here.min(read.len());
                Behind {
                    known_bytes,
                    rest: Rest::Counted(length - known_bytes as u64),
                }
            }
            BodyLength::Unknown => {
                let mut body = ChunkedBody::default();
                let known_bytes = body.take(read).map_err(|_| GateRefusal::Chunks)?;
                let rest = if body.is_done() {
                    Rest::Counted(0)
                } else {
                    Rest::Chunked(body)
                };
                Behind { known_bytes, rest }
            }
        })
    }
}

/// Lets pingora's proxy answer; gives the connection back when it can be used again.
async fn pass(
    lanes: &Arc<Lanes>,
    stream: Stream,
    head: Bytes,
    buf: &mut BytesMut,
    ticket: Box<Ticket>,
    behind: Behind,
    shutdown: &ShutdownWatch,
) -> Option<Stream> {
    let has_body = behind.rest != Rest::Endless && behind.rest != Rest::Counted(0);
    let mut replay = origin_form(&head, &ticket.visit.request.target);
    replay.extend_from_slice(&buf.split_to(behind.known_bytes));
    let node = &lanes.node;
    let (limits, slowness) = (&node.limits, &ticket.pace);
    let pace = |rate: Option<MinRate>, too_slow: &TooSlow| {
        rate.map(|rate| PolledPace::new(rate, node.clock.clone(), too_slow.clone()))
    };
    let receiving = limits.min_receive_rate.filter(|_| has_body);
    let sending = limits
        .min_send_rate
        .filter(|_| behind.rest != Rest::Endless);
    let held = HeldStream::new(stream, replay.freeze(), behind.rest).paced(
        pace(receiving, &slowness.sending),
        pace(sending, &slowness.taking),
    );
    let mut session = ServerSession::new_http1(Box::new(held));
    session.set_keepalive(Some(lanes.node.timeouts.keep_alive.as_secs()));
    session.set_read_timeout(Some(lanes.node.timeouts.request_body));
    session.set_write_timeout(Some(lanes.node.timeouts.write));
    // An interim 100 must not end the connection. What a client still sends after a final response
    // is read and dropped for a while.
    session.set_close_on_response_before_downstream_finish(false);
    session.set_total_drain_timeout(Some(LINGER));
    session.set_connection_user_context(Some(ticket));
    let reused = lanes.proxy.process_new_http(session, shutdown).await?;
    let (stream, _) = reused.consume();
    let held = stream.into_any().downcast::<HeldStream>().ok()?;
    let (stream, next) = held.into_parts();
    buf.extend_from_slice(&next);
    Some(stream)
}

/// The head with `target` for what the client wrote there: an absolute target was for us, and pingora compares
/// it with `Host` by rules of its own.
fn origin_form(head: &[u8], target: &[u8]) -> BytesMut {
    let mut spaces = memchr::memchr_iter(b' ', head);
    let (Some(before), Some(behind)) = (spaces.next(), spaces.next()) else {
        return BytesMut::from(head);
    };
    let mut rewritten = BytesMut::with_capacity(head.len() + target.len());
    rewritten.extend_from_slice(&head[..=before]);
    rewritten.extend_from_slice(target);
    rewritten.extend_from_slice(&head[behind..]);
    rewritten
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Framing {
    KeepAlive,
    /// HTTP/1.0 must be told that the connection stays.
    KeepAliveHttp10,
    Close,
}

/// An HTTP/1.x client that awaits one response.
struct Client<'a> {
    stream: &'a mut Stream,
    clock: &'a SharedClock,
    write_timeout: Duration,
    /// How it takes the response.
    pace: Option<Pace>,
    is_too_slow: bool,
    via: &'static str,
    protocol: Protocol,
    is_head: bool,
    keep_alive: bool,
    chunked: bool,
    files: FileSender,
}

impl<'a> Client<'a> {
    fn new(lanes: &'a Lanes, stream: &'a mut Stream, request: &Request, stopping: bool) -> Self {
        Client {
            stream,
            clock: &lanes.node.clock,
            write_timeout: lanes.node.timeouts.write,
            pace: lanes.node.limits.min_send_rate.map(Pace::new),
            is_too_slow: false,
            via: via(request),
            protocol: request.protocol,
            is_head: request.method == Method::HEAD,
            keep_alive: !stopping && wants_keep_alive(request),
            chunked: false,
            files: FileSender::default(),
        }
    }

    /// Writes; gives up when the client takes nothing for `timeouts.write`.
    async fn write(&mut self, bytes: &[u8]) -> Result<(), ClientGone> {
        self.write_slices(&mut [IoSlice::new(bytes)]).await
    }

    /// The same of several slices, which leave together as far as they fit.
    async fn write_slices(&mut self, mut left: &mut [IoSlice<'_>]) -> Result<(), ClientGone> {
        // Leaves out what is empty.
        IoSlice::advance_slices(&mut left, 0);
        while !left.is_empty() {
            let since = self.pace.map(|_| self.clock.monotonic());
            let patience = self.patience();
            let write = async {
                match &*left {
                    [only] => self.stream.write(only).await,
                    both => self.stream.write_vectored(both).await,
                }
            };
            match timeout(patience, write).await {
                Ok(Ok(written)) if written > 0 => {
                    if let (Some(pace), Some(since)) = (&mut self.pace, since) {
                        let waited = self.clock.monotonic().saturating_sub(since);
                        pace.moved(written as u64, waited);
                    }
                    IoSlice::advance_slices(&mut left, written);
                }
                Ok(_) => return self.gone(),
                Err(_) => {
                    self.is_too_slow = true;
                    return self.gone();
                }
            }
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), ClientGone> {
        match timeout(self.patience(), self.stream.flush()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => self.gone(),
            Err(_) => {
                self.is_too_slow = true;
                self.gone()
            }
        }
    }

    /// How long one write may wait.
    fn patience(&self) -> Duration {
        match &self.pace {
            Some(pace) => self.write_timeout.min(pace.allowance()),
            None => self.write_timeout,
        }
    }

    /// Appends body bytes in the framing of this response.
    fn append_data(&self, out: &mut Vec<u8>, bytes: &[u8]) {
        if !self.chunked {
            out.extend_from_slice(bytes);
        } else if !bytes.is_empty() {
            write_chunk_size(out, bytes.len());
            out.extend_from_slice(bytes);
            out.extend_from_slice(b"\r\n");
        }
    }

    fn gone(&mut self) -> Result<(), ClientGone> {
        self.keep_alive = false;
        Err(ClientGone)
    }
}

/// RFC 9112 §9.3.
fn wants_keep_alive(request: &Request) -> bool {
    let says = |word: &[u8]| {
        request
            .fields
            .get_all(http::header::CONNECTION)
            .iter()
            .flat_map(|value| value.as_bytes().split(|b| *b == b','))
            .any(|option| option.trim_ascii().eq_ignore_ascii_case(word))
    };
    if !request.presence.has(Presence::CONNECTION) {
        return request.protocol != Protocol::Http10;
    }
    match request.protocol {
        Protocol::Http10 => says(b"keep-alive"),
        Protocol::Http11 | Protocol::H2 => !says(b"close"),
    }
}

impl Downstream for Client<'_> {
    async fn interim(&mut self, interim: &InterimResponse) -> Result<(), ClientGone> {
        if self.protocol == Protocol::Http10 {
            // RFC 9110 §15.2: HTTP/1.0 knows no interim responses.
            return Ok(());
        }
        let mut out = Vec::with_capacity(256);
        write_status_line(&mut out, interim.status);
        for (name, value) in &interim.fields {
            write_field(&mut out, name.as_str(), value.as_bytes());
        }
        out.extend_from_slice(b"\r\n");
        self.write(&out).await?;
        self.flush().await
    }

    async fn head(
        &mut self,
        head: &ReplyHead<'_>,
        first: &Bytes,
        follows: Follows,
    ) -> Result<(), ClientGone> {
        if head.close {
            self.keep_alive = false;
        }
        if head.length == ReplyLength::Unknown && !self.is_head {
            if self.protocol == Protocol::Http11 {
                self.chunked = true;
            } else {
                // HTTP/1.0 knows no other way to end such a body.
                self.keep_alive = false;
            }
        }
        let framing = match (self.keep_alive, self.protocol) {
            (false, _) => Framing::Close,
            (true, Protocol::Http10) => Framing::KeepAliveHttp10,
            (true, _) => Framing::KeepAlive,
        };
        let wire = head.stored.map_or(0, |(stored, _)| stored.wire.len());
        // Chunks are put together anyway.
        let copied = self.chunked || first.len() <= COPIED_BYTES;
        let body = if copied { first.len() } else { 0 };
        let mut out = Vec::with_capacity(tls::LEAD_BYTES + wire + 384 + body);
        out.resize(tls::LEAD_BYTES, 0);
        write_head(&mut out, head, self.via, framing);
        if copied && follows != Follows::Nothing {
            self.append_data(&mut out, first);
        } else if copied {
            out.extend_from_slice(first);
        }
        let head = &out[tls::LEAD_BYTES..];
        if follows == Follows::File && first.is_empty() {
            let sent = FileSender::send_before_file(self.stream, head);
            self.write(&head[sent..]).await?;
        } else if copied {
            self.write(head).await?;
        } else {
            let mut both = [IoSlice::new(head), IoSlice::new(first)];
            self.write_slices(&mut both).await?;
        }
        self.flush().await
    }

    async fn data(&mut self, bytes: Bytes) -> Result<(), ClientGone> {
        if bytes.is_empty() {
            return Ok(());
        }
        if self.chunked {
            let mut out = Vec::with_capacity(bytes.len() + 20);
            self.append_data(&mut out, &bytes);
            self.write(&out).await?;
        } else {
            self.write(&bytes).await?;
        }
        self.flush().await
    }

    fn takes_files(&self) -> bool {
        // A body without known length is not on disk.
        !self.chunked && FileSender::can_send_on(self.stream)
    }

    async fn file(&mut self, mut span: FileSpan) -> Result<(), Unsent> {
        self.files.send(self.stream, &mut span).await
    }

    async fn finish(&mut self) -> Result<(), ClientGone> {
        if self.chunked {
            self.write(b"0\r\n\r\n").await?;
        }
        self.flush().await
    }

    fn is_too_slow(&self) -> bool {
        self.is_too_slow
    }

    async fn abort(&mut self) {
        // Without the last bytes or the last chunk, the end of the connection tells the client
        // that the body is incomplete (RFC 9112 §8).
        self.keep_alive = false;
    }
}

fn write_chunk_size(out: &mut Vec<u8>, len: usize) {
    use std::io::Write as _;
    // Writing to a Vec cannot fail.
    let _ = write!(out, "{len:x}\r\n");
}

fn write_head(out: &mut Vec<u8>, head: &ReplyHead<'_>, via: &str, framing: Framing) {
    use std::io::Write as _;
    write_status_line(out, head.status);
    match head.stored {
        Some((stored, Selection::All)) if head.withheld.is_empty() => {
            out.extend_from_slice(&stored.wire);
        }
        _ => {
            for (name, value) in head.stored_fields() {
                write_field(out, name.as_str(), value.as_bytes());
            }
        }
    }
    for (name, value) in head.fields {
        write_field(out, name.as_str(), value.as_bytes());
    }
    // Writing to a Vec cannot fail.
    match head.length {
        ReplyLength::Known(length) => {
            out.extend_from_slice(b"content-length: ");
            out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        ReplyLength::Unknown if framing != Framing::Close => {
            out.extend_from_slice(b"transfer-encoding: chunked\r\n");
        }
        ReplyLength::Unknown | ReplyLength::Nothing => {}
    }
    if let Some(range) = &head.content_range {
        let _ = write!(out, "content-range: {range}\r\n");
    }
    if let Some(age) = head.age_seconds {
        out.extend_from_slice(b"age: ");
        out.extend_from_slice(itoa::Buffer::new().format(age).as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    if let Some(status) = &head.cache_status {
        out.extend_from_slice(b"cache-status: ");
        status.append_to(out);
        if let Some(key) = &head.key_parameter {
            let _ = write!(out, "{key}");
        }
        out.extend_from_slice(b"\r\n");
    }
    write_field(out, "via", via.as_bytes());
    write_field(out, "x-request-id", head.request_id.as_str().as_bytes());
    match framing {
        Framing::KeepAlive => {}
        Framing::KeepAliveHttp10 => out.extend_from_slice(b"connection: keep-alive\r\n"),
        Framing::Close => out.extend_from_slice(b"connection: close\r\n"),
    }
    out.extend_from_slice(b"\r\n");
}
