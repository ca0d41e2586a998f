//! The head of an HTTP/2 request, as the gate is handed it.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use tidegate::clock::Moment;
use tidegate::edge::admit::{RawHead, admit};
use tidegate::edge::request::{BodyLength, Peer, RequestId};
use tidegate::observe::Protocol;

use super::request_head::check_target;
use super::{fields, take_line, take_text};

/// Four lines (method, `:path`, `:authority`, whether the stream ends with the head: a lone 1), then fields.
pub fn check(data: &[u8]) {
    let mut rest = data;
    let texts = (
        take_text(&mut rest),
        take_text(&mut rest),
        take_text(&mut rest),
    );
    let (Some(method), Some(target), Some(authority)) = texts else {
        return;
    };
    let ends_with_head = take_line(&mut rest) == b"1";
    let raw = RawHead {
        protocol: Protocol::H2,
        method,
        target: Bytes::copy_from_slice(target.as_bytes()),
        authority: (!authority.is_empty()).then(|| Bytes::copy_from_slice(authority.as_bytes())),
        fields: fields(rest.split(|byte| *byte == b'\n')),
        ends_with_head,
    };
    let started = Moment {
        wall: super::now(),
        monotonic: Duration::ZERO,
    };
    let peer = Peer::new(IpAddr::V4(Ipv4Addr::LOCALHOST), Some("TLSv1.3"));
    let sent = raw.fields.clone();
    let Ok(request) = admit(raw, RequestId::random(), started, peer) else {
        return;
    };
    check_target(&request);
    assert!(request.method != "CONNECT" && request.method != "TRACE");
    assert_eq!(request.fields, sent, "no field is changed on the way in");
    assert!(!request.upgrade, "HTTP/2 has no upgrade");

    // One host, however it is named.
    let named = request.authority();
    assert!(!named.is_empty() && !named.contains(['/', '@', '?', '#', ' ']));
    for host in sent.get_all(HOST) {
        assert!(named.as_bytes().eq_ignore_ascii_case(host.as_bytes()));
    }

    // One length, which HTTP/2 frames by itself.
    assert!(!sent.contains_key(TRANSFER_ENCODING));
    let lengths: Vec<_> = sent.get_all(CONTENT_LENGTH).iter().collect();
    let expected = match lengths[..] {
        [] if ends_with_head => BodyLength::None,
        [] => BodyLength::Unknown,
        [length] => match length.to_str().expect("digits are text").parse() {
            Ok(0) => BodyLength::None,
            Ok(length) => BodyLength::Known(length),
            Err(_) => panic!("a length that is none was let in"),
        },
        _ => panic!("two lengths were let in"),
    };
    assert_eq!(request.body, expected);
}
