//! The HTTP/1.1 lane: a loop of our own on pingora's stream, plain or TLS.
//!
//! read → parse → [`super::Node::answer`] → write, and again. What is not for the cache goes on to
//! pingora's proxy with the bytes already read; the connection comes back for the next request.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Method};
use pingora::apps::HttpServerApp;
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use pingora::server::ShutdownWatch;
use pingora::time::timeout;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::admit::{GateRefusal, RawHead, admit};
use super::deliver::failure_fields;
use super::downstream::{
    ClientGone, Downstream, ReplyHead, ReplyLength, Selection, on_not_modified,
};
use super::failure::Failure;
use super::held_stream::HeldStream;
use super::listen::Lanes;
use super::request::{BodyLength, Peer, Request, RequestId};
use super::{Answered, Ticket};
use crate::clock::Moment;
use crate::config::Limits;
use crate::observe::Protocol;

/// The first read of a connection; most heads fit.
const READ_BYTES: usize = 4096;

/// A body up to this long is copied behind its head so that both leave in one write.
const ONE_WRITE_BYTES: usize = 32 * 1024;

/// After an error response, this much of what the client still sends is read and dropped, so that
/// closing does not reset the connection under the response (RFC 9112 §9.6).
const LINGER_BYTES: usize = 256 * 1024;
const LINGER: Duration = Duration::from_secs(2);

/// More fields than the configuration can allow.
const MAX_FIELDS: usize = 1001;

/// Serves one connection to its end.
pub(super) async fn serve(
    lanes: &Arc<Lanes>,
    mut stream: Stream,
    peer: Peer,
    shutdown: &ShutdownWatch,
) {
    let mut shutdown = shutdown.clone();
    let mut buf = BytesMut::with_capacity(READ_BYTES);
    loop {
        let (head, started) = match read_head(lanes, &mut stream, &mut buf, &mut shutdown).await {
            Read::Head(head, started) => (head, started),
            Read::Closed => return,
            Read::Refused(refusal, started) => {
                refuse(lanes, stream, &peer, Protocol::Http11, refusal, started).await;
                return;
            }
        };
        let request = match admit_head(&head, &lanes.node.limits, started, peer) {
            Ok(request) => request,
            Err(refusal) => {
                refuse(lanes, stream, &peer, Protocol::Http11, refusal, started).await;
                return;
            }
        };
        let body = request.body;
        let upgrade = request.upgrade;
        let mut client = Client::new(lanes, &mut stream, &request, *shutdown.borrow());
        match lanes.node.answer(request, &mut client).await {
            Answered::Done => {
                let reusable = client.keep_alive && body == BodyLength::None;
                if !reusable {
                    close(stream).await;
                    return;
                }
            }
            Answered::Pass(ticket) => {
                let passed = pass(
                    lanes, stream, head, &mut buf, ticket, body, upgrade, &shutdown,
                );
                match passed.await {
                    Some(returned) => stream = returned,
                    None => return,
                }
            }
        }
    }
}

enum Read {
    Head(Bytes, Moment),
    Closed,
    Refused(GateRefusal, Moment),
}

/// Reads up to the end of a head. Every line must end with CRLF.
async fn read_head(
    lanes: &Lanes,
    stream: &mut Stream,
    buf: &mut BytesMut,
    shutdown: &mut ShutdownWatch,
) -> Read {
    let node = &lanes.node;
    if buf.is_empty() {
        if *shutdown.borrow() {
            return Read::Closed;
        }
        buf.reserve(READ_BYTES);
        // An idle connection: nothing is lost by closing it.
        let first = tokio::select! {
            biased;
            read = timeout(node.timeouts.keep_alive, stream.read_buf(buf)) => read,
            _ = shutdown.wait_for(|stopping| *stopping) => return Read::Closed,
        };
        match first {
            Ok(Ok(read)) if read > 0 => {}
            _ => return Read::Closed,
        }
    }
    let started = node.clock.now();
    let deadline = started.monotonic + node.timeouts.request_head;
    let mut scan = Scan::default();
    loop {
        match scan.take_head(buf, node.limits.request_head_bytes) {
            Err(refusal) => return Read::Refused(refusal, started),
            Ok(Some(head)) => return Read::Head(head, started),
            Ok(None) => {}
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

fn too_large(head: &[u8], limit: usize) -> GateRefusal {
    let line = head.iter().position(|b| *b == b'\n').unwrap_or(head.len());
    if line >= limit {
        GateRefusal::TargetTooLong
    } else {
        GateRefusal::HeadTooLarge
    }
}

/// Looks for the empty line that ends a head, over several reads.
#[derive(Default)]
struct Scan {
    /// Where the current line starts.
    line: usize,
    /// Up to where it was looked at.
    seen: usize,
}

impl Scan {
    /// Takes a whole head out of `buf` as soon as it is there, of at most `limit_bytes`.
    fn take_head(
        &mut self,
        buf: &mut BytesMut,
        limit_bytes: usize,
    ) -> Result<Option<Bytes>, GateRefusal> {
        match self.find_end(buf)? {
            Some(end) if end <= limit_bytes => Ok(Some(buf.split_to(end).freeze())),
            None if buf.len() <= limit_bytes => Ok(None),
            Some(_) | None => Err(too_large(buf, limit_bytes)),
        }
    }

    /// Where the head ends, once it does.
    fn find_end(&mut self, buf: &mut BytesMut) -> Result<Option<usize>, GateRefusal> {
        loop {
            let Some(at) = memchr::memchr(b'\n', &buf[self.seen..]) else {
                self.seen = buf.len();
                return match memchr::memchr(b'\r', &buf[self.line..]) {
                    Some(at) if self.line + at + 1 < buf.len() => Err(GateRefusal::BareLineEnd),
                    _ => Ok(None),
                };
            };
            let end = self.seen + at;
            let line = &buf[self.line..end];
            match memchr::memchr(b'\r', line) {
                Some(at) if at + 1 == line.len() => {}
                _ => return Err(GateRefusal::BareLineEnd),
            }
            if line.len() > 1 {
                self.line = end + 1;
                self.seen = self.line;
            } else if self.line == 0 {
                // RFC 9112 §2.2: an empty line before the request line is skipped.
                let _ = buf.split_to(end + 1);
                self.seen = 0;
            } else {
                return Ok(Some(end + 1));
            }
        }
    }
}

/// Whether the request line ends in an HTTP version at all; httparse says "version" of whatever
/// stands in its place, such as the rest of a target that holds a space.
fn names_a_version(head: &[u8]) -> bool {
    let line = head.split(|b| *b == b'\r').next().unwrap_or_default();
    let mut words = line.split(|b| *b == b' ').skip(2);
    match (words.next(), words.next()) {
        (Some([b'H', b'T', b'T', b'P', b'/', major, b'.', minor]), None) => {
            major.is_ascii_digit() && minor.is_ascii_digit()
        }
        _ => false,
    }
}

fn admit_head(
    head: &Bytes,
    limits: &Limits,
    started: Moment,
    peer: Peer,
) -> Result<Request, GateRefusal> {
    let raw = parse(head, limits.request_fields)?;
    admit(raw, RequestId::random(), started, peer)
}

/// Reads the first head of what a client sends, arriving in `parts`, exactly as the lane reads it from
/// a connection, and lets it in. Gives the request and how many bytes were read up to the end of its
/// head, or `None` when its end is not there. For tests and fuzzing: it needs no connection.
///
/// # Errors
/// The first [`GateRefusal`] that applies; never [`GateRefusal::HeadTimeout`].
pub fn read_head_from<'a>(
    parts: impl IntoIterator<Item = &'a [u8]>,
    limits: &Limits,
    started: Moment,
    peer: Peer,
) -> Result<Option<(Request, usize)>, GateRefusal> {
    let mut scan = Scan::default();
    let mut buf = BytesMut::new();
    let mut arrived = 0;
    for part in parts {
        buf.extend_from_slice(part);
        arrived += part.len();
        if let Some(head) = scan.take_head(&mut buf, limits.request_head_bytes)? {
            let request = admit_head(&head, limits, started, peer)?;
            return Ok(Some((request, arrived - buf.len())));
        }
    }
    Ok(None)
}

/// Parses a whole head; names and values share its bytes.
fn parse(head: &Bytes, max_fields: usize) -> Result<RawHead<'_>, GateRefusal> {
    let mut lines = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let room = max_fields.min(MAX_FIELDS);
    let mut parsed = httparse::Request::new(&mut lines[..room]);
    match parsed.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        Err(httparse::Error::TooManyHeaders) => return Err(GateRefusal::TooManyFields),
        Err(httparse::Error::Version) if names_a_version(head) => {
            return Err(GateRefusal::Version);
        }
        Ok(httparse::Status::Partial) | Err(_) => return Err(GateRefusal::Malformed),
    }
    let (Some(method), Some(target)) = (parsed.method, parsed.path) else {
        return Err(GateRefusal::Malformed);
    };
    let mut fields = HeaderMap::with_capacity(parsed.headers.len());
    for line in parsed.headers.iter() {
        let name = HeaderName::from_bytes(line.name.as_bytes());
        let value = HeaderValue::from_maybe_shared(head.slice_ref(line.value));
        let (Ok(name), Ok(value)) = (name, value) else {
            return Err(GateRefusal::Malformed);
        };
        fields.append(name, value);
    }
    Ok(RawHead {
        protocol: if parsed.version == Some(0) {
            Protocol::Http10
        } else {
            Protocol::Http11
        },
        method,
        target: head.slice_ref(target.as_bytes()),
        authority: None,
        fields,
        ends_with_head: false,
    })
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
    let fields = failure_fields(reply.status, lanes.node.clock.wall());
    let head = ReplyHead {
        status: reply.status,
        stored: None,
        fields: &fields,
        length: ReplyLength::Known(body.len() as u64),
        content_range: None,
        age_seconds: None,
        cache_status: None,
        request_id: id,
        close: true,
    };
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

/// Lets pingora's proxy answer; gives the connection back when it can be used again.
#[allow(clippy::too_many_arguments)] // Everything that a connection is made of.
async fn pass(
    lanes: &Arc<Lanes>,
    stream: Stream,
    head: Bytes,
    buf: &mut BytesMut,
    ticket: Box<Ticket>,
    body: BodyLength,
    upgrade: bool,
    shutdown: &ShutdownWatch,
) -> Option<Stream> {
    let (known, remaining) = match body {
        _ if upgrade => (buf.len(), None),
        BodyLength::None => (0, Some(0)),
        BodyLength::Known(length) => {
            let known = usize::try_from(length).unwrap_or(usize::MAX).min(buf.len());
            (known, Some(length - known as u64))
        }
        BodyLength::Unknown => (buf.len(), None),
    };
    let mut replay = BytesMut::from(&head[..]);
    replay.extend_from_slice(&buf.split_to(known));
    let held = HeldStream::new(stream, replay.freeze(), remaining);
    let mut session = ServerSession::new_http1(Box::new(held));
    session.set_keepalive(Some(lanes.node.timeouts.keep_alive.as_secs()));
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
    write_timeout: Duration,
    via: &'static str,
    protocol: Protocol,
    is_head: bool,
    keep_alive: bool,
    chunked: bool,
}

impl<'a> Client<'a> {
    fn new(lanes: &Lanes, stream: &'a mut Stream, request: &Request, stopping: bool) -> Self {
        Client {
            stream,
            write_timeout: lanes.node.timeouts.write,
            via: super::via(request),
            protocol: request.protocol,
            is_head: request.method == Method::HEAD,
            keep_alive: !stopping && wants_keep_alive(request),
            chunked: false,
        }
    }

    /// Writes; gives up when the client takes nothing for `timeouts.write`.
    async fn write(&mut self, mut bytes: &[u8]) -> Result<(), ClientGone> {
        while !bytes.is_empty() {
            match timeout(self.write_timeout, self.stream.write(bytes)).await {
                Ok(Ok(written)) if written > 0 => bytes = &bytes[written..],
                _ => return self.gone(),
            }
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), ClientGone> {
        match timeout(self.write_timeout, self.stream.flush()).await {
            Ok(Ok(())) => Ok(()),
            _ => self.gone(),
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
    match request.protocol {
        Protocol::Http10 => says(b"keep-alive"),
        Protocol::Http11 | Protocol::H2 => !says(b"close"),
    }
}

impl Downstream for Client<'_> {
    async fn head(
        &mut self,
        head: &ReplyHead<'_>,
        first: Bytes,
        last: bool,
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
        let copied = first.len() <= ONE_WRITE_BYTES;
        let mut out = Vec::with_capacity(wire + 384 + if copied { first.len() } else { 0 });
        write_head(&mut out, head, self.via, framing);
        if copied && !last {
            self.append_data(&mut out, &first);
        } else if copied {
            out.extend_from_slice(&first);
        }
        self.write(&out).await?;
        if copied {
            return self.flush().await;
        }
        if last {
            self.write(&first).await?;
            return self.flush().await;
        }
        self.data(first).await
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

    async fn finish(&mut self) -> Result<(), ClientGone> {
        if self.chunked {
            self.write(b"0\r\n\r\n").await?;
        }
        self.flush().await
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
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(head.status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(
        head.status
            .canonical_reason()
            .unwrap_or_default()
            .as_bytes(),
    );
    out.extend_from_slice(b"\r\n");
    match head.stored {
        Some((stored, Selection::All)) => out.extend_from_slice(&stored.wire),
        Some((stored, Selection::NotModified)) => {
            for (name, value) in &stored.fields {
                if on_not_modified(name) {
                    write_field(out, name.as_str(), value.as_bytes());
                }
            }
        }
        None => {}
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
        let _ = write!(out, "cache-status: {status}\r\n");
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

fn write_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(parts: &[&[u8]]) -> Result<Option<usize>, GateRefusal> {
        let mut scan = Scan::default();
        let mut buf = BytesMut::new();
        let mut found = Ok(None);
        for part in parts {
            buf.extend_from_slice(part);
            found = scan.find_end(&mut buf);
            if found != Ok(None) {
                break;
            }
        }
        found
    }

    #[test]
    fn the_end_of_a_head_is_found_however_it_is_cut() {
        let head = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
        assert_eq!(scan(&[head]), Ok(Some(head.len())));
        for cut in 1..head.len() {
            let (a, b) = head.split_at(cut);
            assert_eq!(scan(&[a, b]), Ok(Some(head.len())), "cut at {cut}");
        }
        assert_eq!(scan(&[b"\r\n", head]), Ok(Some(head.len())));
        assert_eq!(scan(&[&head[..head.len() - 1]]), Ok(None));
    }

    #[test]
    fn a_head_of_exactly_the_limit_is_read_and_a_longer_one_is_refused() {
        let head = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n";
        let read = |parts: &[&[u8]], request_head_bytes| {
            let limits = Limits {
                request_head_bytes,
                request_fields: 1,
            };
            let started = Moment {
                wall: std::time::SystemTime::UNIX_EPOCH,
                monotonic: Duration::ZERO,
            };
            let peer = Peer {
                client: std::net::IpAddr::from([127, 0, 0, 1]),
                tls: None,
            };
            read_head_from(parts.iter().copied(), &limits, started, peer)
                .map(|found| found.map(|(request, read)| (request.target, read)))
        };
        let target = Bytes::from_static(b"/a");
        let found = Ok(Some((target.clone(), head.len())));
        assert_eq!(read(&[head, b"GET"], head.len()), found);
        assert_eq!(read(&[&head[..9], &head[9..]], head.len()), found);
        let after_empty_line = Ok(Some((target, head.len() + 2)));
        assert_eq!(read(&[b"\r\n", head], head.len()), after_empty_line);
        assert_eq!(read(&[&head[..head.len() - 1]], head.len() - 1), Ok(None));
        for (limit, refusal) in [
            (head.len() - 1, GateRefusal::HeadTooLarge),
            (16, GateRefusal::TargetTooLong),
        ] {
            assert_eq!(read(&[head], limit), Err(refusal), "{limit}");
            assert_eq!(read(&[&head[..20], &head[20..]], limit), Err(refusal));
        }
    }

    #[test]
    fn every_line_must_end_with_crlf() {
        for head in [
            &b"GET / HTTP/1.1\nHost: h\n\n"[..],
            b"GET / HTTP/1.1\r\nHost: h\n\r\n",
            b"GET / HTTP/1.1\rHost: h\r\n\r\n",
            b"GET / HTTP/1.1\r\r\n\r\n",
            b"GET /\rx",
            b"\n",
        ] {
            assert_eq!(scan(&[head]), Err(GateRefusal::BareLineEnd), "{head:?}");
        }
    }

    #[test]
    fn heads_that_httparse_or_http_refuse_are_malformed() {
        let parse = |head: &'static [u8]| parse(&Bytes::from_static(head), 2).err();
        for (head, expected) in [
            (&b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"[..], None),
            (b"GET / HTTP/1.2\r\n\r\n", Some(GateRefusal::Version)),
            (b"GET / HTTP/2.0\r\n\r\n", Some(GateRefusal::Version)),
            (b"GET /a b HTTP/1.1\r\n\r\n", Some(GateRefusal::Malformed)),
            (b"GET /  HTTP/1.1\r\n\r\n", Some(GateRefusal::Malformed)),
            (b"GET / http/1.1\r\n\r\n", Some(GateRefusal::Malformed)),
            (b"GET / SIP/2.0\r\n\r\n", Some(GateRefusal::Malformed)),
            (b"GET /\r\n\r\n", Some(GateRefusal::Malformed)),
            (b"GET\r\n\r\n", Some(GateRefusal::Malformed)),
            (
                b"GET / HTTP/1.1\r\na: 1\r\n b\r\n\r\n",
                Some(GateRefusal::Malformed),
            ),
            (
                b"GET / HTTP/1.1\r\na : 1\r\n\r\n",
                Some(GateRefusal::Malformed),
            ),
            (
                b"GET / HTTP/1.1\r\na: \0\r\n\r\n",
                Some(GateRefusal::Malformed),
            ),
            (
                b"GET / HTTP/1.1\r\na: \x01\r\n\r\n",
                Some(GateRefusal::Malformed),
            ),
            (
                b"GET / HTTP/1.1\r\na: 1\r\nb: 1\r\nc: 1\r\n\r\n",
                Some(GateRefusal::TooManyFields),
            ),
        ] {
            assert_eq!(parse(head), expected, "{}", head.escape_ascii());
        }
    }
}
