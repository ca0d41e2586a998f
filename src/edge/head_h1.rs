//! The head of an HTTP/1.x request: where it ends, and what it says. Pure.

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

use super::admit::{GateRefusal, RawHead, admit};
use super::request::{Peer, Request, RequestId};
use crate::clock::Moment;
use crate::config::Limits;
use crate::observe::Protocol;

/// More fields than the configuration can allow.
const MAX_FIELDS: usize = 1001;

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
pub(super) struct Scan {
    /// Where the current line starts.
    line: usize,
    /// Up to where it was looked at.
    seen: usize,
}

impl Scan {
    /// Takes a whole head out of `buf` as soon as it is there, of at most `limit_bytes`.
    pub(super) fn take_head(
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

/// Parses a whole head and lets the request in.
pub(super) fn admit_head(
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
    let mut lines = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let room = max_fields.min(MAX_FIELDS);
    let mut parsed = httparse::Request::new(&mut []);
    match parsed.parse_with_uninit_headers(head, &mut lines[..room]) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

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
                min_receive_rate: None,
                min_send_rate: None,
            };
            let started = Moment {
                wall: std::time::SystemTime::UNIX_EPOCH,
                monotonic: Duration::ZERO,
            };
            let peer = Peer::new(std::net::IpAddr::from([127, 0, 0, 1]), None);
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
