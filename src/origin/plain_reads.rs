//! What most connections of a store carry: GET and HEAD requests of ordinary shape, read and answered without more
//! machinery than they need. A head that has not come as a whole, a body, another method, a field that is about the
//! connection, or anything else out of the ordinary goes to hyper with all that was read, and its connection stays there.
//!
//! Both are the same server to a client: httparse reads all heads, and the rules of responses are RFC 9112's.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, DATE};
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Body as _;
use memchr::memmem;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::answer;
use super::reply::Reply;
use super::serve::HEAD_WAIT;
use super::store::Store;
use crate::next_request::NextRequest;
use crate::response_head::{write_field, write_status_line};

/// More fields than ordinary clients send.
const FIELDS_MAX: usize = 32;
/// What a head takes of an ordinary response.
const HEAD_BYTES: usize = 768;

/// Serves a connection as long as its requests are ordinary. `None` when it has ended; else the connection, and what was
/// read of the request that is not.
pub(super) async fn serve(
    store: &Store,
    mut stream: TcpStream,
    peer: IpAddr,
    shutdown: watch::Receiver<bool>,
) -> Option<(TcpStream, Bytes)> {
    let clock = &store.inner.clock;
    let mut next_request = NextRequest::new(clock.clone(), HEAD_WAIT, shutdown);
    let mut date = DateField::default();
    let mut read = BytesMut::new();
    loop {
        if read.is_empty() {
            // A connection that waits holds nothing.
            drop(read);
            read = next_request.first_bytes(&mut stream).await?;
        }
        let Some(request) = take_request(&mut read) else {
            return Some((stream, read.freeze()));
        };
        let is_head = request.method() == Method::HEAD;
        // Its state is long, and nobody else needs it.
        let reply = Box::pin(answer(store, request, peer)).await;
        let is_last = next_request.is_stopping();
        let date = date.at(clock.wall());
        match send(&mut stream, reply, is_head, is_last, date).await {
            Ok(true) => {}
            Ok(false) => {
                // All of it has been sent; whether the client hears that this was all changes nothing.
                let _ = stream.shutdown().await;
                return None;
            }
            Err(error) => {
                tracing::debug!(%error, "a connection ended early");
                return None;
            }
        }
    }
}

/// Takes an ordinary request from the beginning of what was read; leaves everything as it is when it is none.
fn take_request(read: &mut BytesMut) -> Option<Request<Empty<Bytes>>> {
    let end = memmem::find(read, b"\r\n\r\n")? + 4;
    let head = read.split_to(end).freeze();
    let request = parse(&head);
    if request.is_none() {
        let behind = read.split();
        read.extend_from_slice(&head);
        read.extend_from_slice(&behind);
    }
    request
}

/// Names and values share the bytes of the head.
fn parse(head: &Bytes) -> Option<Request<Empty<Bytes>>> {
    let mut lines = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut parsed = httparse::Request::new(&mut []);
    let status = parsed.parse_with_uninit_headers(head, &mut lines).ok()?;
    if !matches!(status, httparse::Status::Complete(length) if length == head.len()) {
        return None;
    }
    let method = match parsed.method? {
        "GET" => Method::GET,
        "HEAD" => Method::HEAD,
        _ => return None,
    };
    let target = parsed.path.filter(|target| target.starts_with('/'))?;
    let query = target.split_once('?').map_or("", |(_, query)| query);
    if parsed.version != Some(1) || may_follow(query) {
        return None;
    }
    let mut request = Request::new(Empty::new());
    let fields = request.headers_mut();
    fields.reserve(parsed.headers.len());
    for line in parsed.headers.iter() {
        let name = HeaderName::from_bytes(line.name.as_bytes()).ok()?;
        if is_of_connection(&name) && !line.value.eq_ignore_ascii_case(b"keep-alive") {
            return None;
        }
        let value = HeaderValue::from_maybe_shared(head.slice_ref(line.value)).ok()?;
        fields.append(name, value);
    }
    *request.method_mut() = method;
    *request.uri_mut() = Uri::from_maybe_shared(head.slice_ref(target.as_bytes())).ok()?;
    Some(request)
}

/// Whether a query asks for an answer without an end, whose client has to be watched while it waits.
fn may_follow(query: &str) -> bool {
    query.split('&').any(|pair| {
        let name = pair.split('=').next().unwrap_or_default();
        name == "follow" || name.contains(['%', '+'])
    })
}

/// Whether a field says how the connection is used, or that a body comes.
fn is_of_connection(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "content-length"
            | "expect"
            | "http2-settings"
            | "keep-alive"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// Sends a response, head and first bytes in one. Whether the connection can be used again.
///
/// # Errors
/// The connection or the body broke off: the client sees that the end is missing.
async fn send(
    stream: &mut TcpStream,
    reply: Reply,
    is_head: bool,
    is_last: bool,
    date: &[u8],
) -> io::Result<bool> {
    let (parts, mut body) = reply.into_parts();
    let says_close = parts.headers.get(CONNECTION);
    let is_last = is_last || says_close.is_some_and(|value| value == "close");
    let length = body.size_hint().exact();
    let length = length.expect("only-what-is-followed-has-no-length");
    let mut out = Vec::with_capacity(HEAD_BYTES);
    write_status_line(&mut out, parts.status);
    for (name, value) in &parts.headers {
        if name != CONNECTION {
            write_field(&mut out, name.as_str(), value.as_bytes());
        }
    }
    if !parts.headers.contains_key(CONTENT_LENGTH) && has_length(parts.status, is_head, length) {
        let mut digits = itoa::Buffer::new();
        let length = digits.format(length).as_bytes();
        write_field(&mut out, CONTENT_LENGTH.as_str(), length);
    }
    write_field(&mut out, DATE.as_str(), date);
    if is_last {
        write_field(&mut out, CONNECTION.as_str(), b"close");
    }
    out.extend_from_slice(b"\r\n");

    let mut left = if is_head { 0 } else { length };
    let mut first = Bytes::new();
    if left > 0 {
        first = next_bytes(&mut body, &mut left).await?;
    }
    write_all(stream, &mut [IoSlice::new(&out), IoSlice::new(&first)]).await?;
    drop((out, first));
    while left > 0 {
        let bytes = next_bytes(&mut body, &mut left).await?;
        write_all(stream, &mut [IoSlice::new(&bytes)]).await?;
    }
    Ok(!is_last)
}

/// The next bytes of a body that has so many left.
async fn next_bytes(body: &mut super::reply::ReplyBody, left: &mut u64) -> io::Result<Bytes> {
    let frame = body.frame().await.ok_or(io::ErrorKind::UnexpectedEof)?;
    let bytes = frame.map_err(io::Error::other)?.into_data();
    let bytes = bytes.unwrap_or_default();
    if bytes.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    *left = (left.checked_sub(bytes.len() as u64)).ok_or(io::ErrorKind::InvalidData)?;
    Ok(bytes)
}

async fn write_all(stream: &mut TcpStream, mut left: &mut [IoSlice<'_>]) -> io::Result<()> {
    // Leaves out what is empty.
    IoSlice::advance_slices(&mut left, 0);
    while !left.is_empty() {
        match stream.write_vectored(left).await? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => IoSlice::advance_slices(&mut left, written),
        }
    }
    Ok(())
}

/// Whether the length is told (RFC 9110 §8.6). An answer to HEAD tells it where there is something to tell.
fn has_length(status: StatusCode, is_head: bool, length: u64) -> bool {
    match status {
        StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED => false,
        _ => !is_head || length > 0,
    }
}

/// `Date`, written once a second.
#[derive(Default)]
struct DateField {
    second: u64,
    text: String,
}

impl DateField {
    fn at(&mut self, now: SystemTime) -> &[u8] {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        if self.text.is_empty() || self.second != since.as_secs() {
            self.second = since.as_secs();
            self.text = httpdate::fmt_http_date(UNIX_EPOCH + since);
        }
        self.text.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDINARY: &str =
        "GET /films/a?versionId=x HTTP/1.1\r\nHost: a\r\nrange: bytes=0-1\r\n\r\n";

    fn taken(text: &str) -> (Option<Request<Empty<Bytes>>>, BytesMut) {
        let mut read = BytesMut::from(text);
        (take_request(&mut read), read)
    }

    #[test]
    fn an_ordinary_request_is_taken_and_what_follows_stays() {
        let (request, left) = taken(&format!("{ORDINARY}HEAD"));
        let request = request.unwrap();
        assert_eq!((request.method(), &left[..]), (&Method::GET, &b"HEAD"[..]));
        assert_eq!(request.uri(), "/films/a?versionId=x");
        assert_eq!(request.headers()["range"], "bytes=0-1");
        assert_eq!(request.headers().len(), 2);
        let keep_alive = ORDINARY.replace("range: bytes=0-1", "Connection: Keep-Alive");
        assert!(taken(&keep_alive).0.is_some());
    }

    #[test]
    fn whatever_is_out_of_the_ordinary_is_left_as_it_came() {
        let many = "a: b\r\n".repeat(FIELDS_MAX);
        for (ordinary, other) in [
            ("GET", "PUT"),
            ("GET", "get"),
            ("1.1", "1.0"),
            ("/films", "http://a/films"),
            ("/films/a?versionId=x", "*"),
            ("versionId=x", "follow"),
            ("versionId=x", "a=b&follow=1"),
            ("versionId=x", "f%6Fllow"),
            ("Host:", "Host :"),
            ("Host: a", "Host: a\r\n b"),
            ("range: bytes=0-1\r\n", &many),
            ("bytes=0-1\r\n\r\n", "bytes=0-1\r\n"),
            ("range: bytes=0-1", "Connection: close"),
            ("range: bytes=0-1", "Content-Length: 0"),
            ("range: bytes=0-1", "Content-Length: 5"),
            ("range: bytes=0-1", "Transfer-Encoding: chunked"),
            ("range: bytes=0-1", "Expect: 100-continue"),
            ("range: bytes=0-1", "Upgrade: h2c"),
        ] {
            let text = ORDINARY.replacen(ordinary, other, 1);
            assert_ne!(text, ORDINARY);
            let (request, left) = taken(&text);
            assert_eq!((request.is_none(), &left[..]), (true, text.as_bytes()));
        }
    }

    #[test]
    fn the_date_is_that_of_the_second() {
        let mut date = DateField::default();
        let day = std::time::Duration::from_secs(86_400);
        assert_eq!(date.at(UNIX_EPOCH), b"Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(date.at(UNIX_EPOCH + day), b"Fri, 02 Jan 1970 00:00:00 GMT");
    }
}
