//! The head of an HTTP/1.1 request, from the first byte to being let in.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use tidegate::clock::Moment;
use tidegate::config::Limits;
use tidegate::edge::Request;
use tidegate::edge::admit::GateRefusal;
use tidegate::edge::head_h1::read_head_from;
use tidegate::edge::request::{BodyLength, Peer};

use super::percent_decoded;

/// Small, so that inputs of a few hundred bytes reach them.
const LIMITS: Limits = Limits {
    request_head_bytes: 512,
    request_fields: 8,
    min_receive_rate: None,
    min_send_rate: None,
};

/// The most cuts that are tried per input.
const CUTS_MAX: usize = 64;

type Read = Result<Option<(Request, usize)>, GateRefusal>;

/// The bytes are what a client sends.
pub fn check(data: &[u8]) {
    let whole = read(&[data]);
    if let Ok(Some((request, read))) = &whole {
        check_request(request, &data[..*read]);
    }
    let step = data.len() / CUTS_MAX + 1;
    for cut in (0..data.len()).step_by(step) {
        let (before, after) = data.split_at(cut);
        assert_same(&whole, &read(&[before, after]), cut);
    }
    let bytes: Vec<&[u8]> = data.chunks(1).collect();
    assert_same(&whole, &read(&bytes), 1);
}

fn read(parts: &[&[u8]]) -> Read {
    let started = Moment {
        wall: super::now(),
        monotonic: Duration::ZERO,
    };
    let peer = Peer::new(IpAddr::V4(Ipv4Addr::LOCALHOST), None);
    read_head_from(parts.iter().copied(), &LIMITS, started, peer)
}

/// A head means the same however it arrives. Only which of two faults of one head is named may depend on it, when
/// one of them is its size: bytes beyond the limit are looked at when they came along with earlier ones.
fn assert_same(whole: &Read, cut: &Read, at: usize) {
    let too_large = |refusal: &GateRefusal| {
        matches!(
            refusal,
            GateRefusal::HeadTooLarge | GateRefusal::TargetTooLong
        )
    };
    match (whole, cut) {
        (Ok(None), Ok(None)) => {}
        (Ok(Some((request, read))), Ok(Some((again, read_again)))) => {
            assert_eq!(read, read_again, "another end, cut at {at}");
            assert_eq!(request.method, again.method, "cut at {at}");
            assert_eq!(request.target, again.target, "cut at {at}");
            assert_eq!(request.fields, again.fields, "cut at {at}");
            assert_eq!(request.body, again.body, "cut at {at}");
        }
        (Err(refusal), Err(again)) if too_large(refusal) || too_large(again) => {}
        (Err(refusal), Err(again)) => assert_eq!(refusal, again, "cut at {at}"),
        _ => panic!("cut at {at}: {whole:?} became {cut:?}"),
    }
}

fn check_request(request: &Request, read: &[u8]) {
    assert!(
        read.ends_with(b"\r\n\r\n"),
        "a head ends with an empty line"
    );
    check_target(request);

    // One field per line: nothing was folded, split or dropped.
    let lines = read.split(|byte| *byte == b'\n');
    let lines = lines.filter(|line| !line.trim_ascii().is_empty()).count();
    assert_eq!(request.fields.len() + 1, lines);
    for value in request.fields.values() {
        let is_control = |byte: &u8| byte.is_ascii_control() && *byte != b'\t';
        assert!(!value.as_bytes().iter().any(is_control));
    }
    assert_one_body_length(request);
}

/// What is let in has one reading, and is what was sent.
pub(super) fn check_target(request: &Request) {
    assert!(request.target.iter().all(u8::is_ascii_graphic));
    assert!(request.path().starts_with('/'));
    let path = percent_decoded(request.path().as_bytes());
    assert!(!path.contains(&0) && !path.contains(&b'\\'));
    let slashes = |path: &[u8]| path.iter().filter(|byte| **byte == b'/').count();
    assert_eq!(slashes(&path), slashes(request.path().as_bytes()));
    let is_dot_segment = |segment: &[u8]| matches!(segment, b"." | b"..");
    assert!(!path.split(|byte| *byte == b'/').any(is_dot_segment));
    let rebuilt = match request.query() {
        Some(query) => format!("{}?{query}", request.path()),
        None => request.path().to_owned(),
    };
    assert_eq!(rebuilt.as_bytes(), request.target, "nothing is lost");
}

fn assert_one_body_length(request: &Request) {
    let mut lengths = request.fields.get_all(CONTENT_LENGTH).iter();
    let mut codings = request.fields.get_all(TRANSFER_ENCODING).iter();
    let readings = (lengths.next(), codings.next());
    assert!(lengths.next().is_none() && codings.next().is_none());
    let expected = match readings {
        (None, None) => BodyLength::None,
        (None, Some(coding)) => {
            assert!(coding.as_bytes().eq_ignore_ascii_case(b"chunked"));
            BodyLength::Unknown
        }
        (Some(length), None) => {
            let digits = length.to_str().expect("digits are text");
            assert!(digits.bytes().all(|byte| byte.is_ascii_digit()));
            match digits.parse().expect("a length is a number of 64 bits") {
                0 => BodyLength::None,
                length => BodyLength::Known(length),
            }
        }
        (Some(_), Some(_)) => panic!("two readings of the body's length were let in"),
    };
    assert_eq!(request.body, expected);
}
