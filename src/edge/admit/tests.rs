//! Each rule of the gate, at both sides of each boundary.

use super::*;
use crate::test_fields::fields as test_fields;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, SystemTime};

fn try_admit(
    protocol: Protocol,
    method: &str,
    target: &str,
    fields: &[(&str, &str)],
) -> Result<Request, GateRefusal> {
    admit(
        RawHead {
            protocol,
            method,
            target: Bytes::copy_from_slice(target.as_bytes()),
            authority: None,
            fields: test_fields(fields),
            ends_with_head: true,
        },
        RequestId::random(),
        Moment {
            wall: SystemTime::UNIX_EPOCH,
            monotonic: Duration::ZERO,
        },
        Peer::new(IpAddr::V4(Ipv4Addr::LOCALHOST), None),
    )
}

#[test]
fn targets_are_taken_as_they_are_or_refused() {
    for (target, expected) in [
        ("/", Ok("/")),
        ("/a/b.c?d=/../e", Ok("/a/b.c?d=/../e")),
        ("/a//b/", Ok("/a//b/")),
        ("/...", Ok("/...")),
        ("/.well-known/x", Ok("/.well-known/x")),
        ("/a%20b%C3%A9", Ok("/a%20b%C3%A9")),
        ("/a?b=%2F%00", Ok("/a?b=%2F%00")),
        ("/a|b^{c}", Ok("/a|b^{c}")),
        ("http://h/x?y", Ok("/x?y")),
        ("http://h", Ok("/")),
        ("HTTP://H/x", Ok("/x")),
        ("http://h?x", Err(GateRefusal::Target)),
        ("https://h/x", Err(GateRefusal::Target)),
        ("http://other/x", Err(GateRefusal::HostMismatch)),
        ("ftp://h/x", Err(GateRefusal::Target)),
        ("*", Err(GateRefusal::Target)),
        ("", Err(GateRefusal::Target)),
        ("h:80", Err(GateRefusal::Target)),
        ("/a b", Err(GateRefusal::Target)),
        ("/a#b", Err(GateRefusal::Target)),
        ("/a\"b", Err(GateRefusal::Target)),
        ("/a<b", Err(GateRefusal::Target)),
        ("/a>b", Err(GateRefusal::Target)),
        ("/a?\"", Err(GateRefusal::Target)),
        ("/a?\\", Ok("/a?\\")),
        ("/a\u{7f}", Err(GateRefusal::Target)),
        ("/\u{e9}", Err(GateRefusal::Target)),
        ("/a/..", Err(GateRefusal::DotSegment)),
        ("/../a", Err(GateRefusal::DotSegment)),
        ("/a/./b", Err(GateRefusal::DotSegment)),
        ("/a/.", Err(GateRefusal::DotSegment)),
        ("/a/%2e%2e/b", Err(GateRefusal::DotSegment)),
        ("/a/.%2E/b", Err(GateRefusal::DotSegment)),
        ("/a/%2E", Err(GateRefusal::DotSegment)),
        ("/a/..;/b", Err(GateRefusal::DotSegment)),
        ("/a/%2e.;x=y/b", Err(GateRefusal::DotSegment)),
        ("/a/.;", Err(GateRefusal::DotSegment)),
        ("/a%2fb", Err(GateRefusal::EncodedSeparator)),
        ("/a%5Cb", Err(GateRefusal::EncodedSeparator)),
        ("/a\\b", Err(GateRefusal::EncodedSeparator)),
        ("/a%00", Err(GateRefusal::EncodedSeparator)),
        ("/a%", Err(GateRefusal::Escape)),
        ("/a%2", Err(GateRefusal::Escape)),
        ("/a?b=%zz", Err(GateRefusal::Escape)),
    ] {
        let found = try_admit(Protocol::Http11, "GET", target, &[("host", "h")]);
        let found = found.map(|request| request.target);
        let expected = expected.map(|target| Bytes::from_static(target.as_bytes()));
        assert_eq!(found, expected, "{target}");
    }
}

#[test]
fn path_and_query_are_told_apart() {
    for (target, path, query) in [
        ("/a", "/a", None),
        ("/a?", "/a", Some("")),
        ("/a?b?c", "/a", Some("b?c")),
    ] {
        let request = try_admit(Protocol::Http11, "GET", target, &[("host", "h")]).unwrap();
        assert_eq!((request.path(), request.query()), (path, query), "{target}");
    }
}

#[test]
fn exactly_one_valid_host() {
    for (fields, expected) in [
        (&[("host", "example.com")][..], Ok("example.com")),
        (&[("host", "example.com:8080")], Ok("example.com:8080")),
        (&[("host", "[::1]:8080")], Ok("[::1]:8080")),
        (&[("host", "127.0.0.1")], Ok("127.0.0.1")),
        (&[], Err(GateRefusal::Host)),
        (&[("host", "")], Err(GateRefusal::Host)),
        (&[("host", "a"), ("host", "a")], Err(GateRefusal::Host)),
        (&[("host", "a b")], Err(GateRefusal::Host)),
        (&[("host", "a/b")], Err(GateRefusal::Host)),
        (&[("host", "user@a")], Err(GateRefusal::Host)),
        (&[("host", "a:b")], Err(GateRefusal::Host)),
        (&[("host", "a:")], Err(GateRefusal::Host)),
        (&[("host", "a:123456")], Err(GateRefusal::Host)),
        (&[("host", "a:12345")], Ok("a:12345")),
        (&[("host", ":80")], Err(GateRefusal::Host)),
        (&[("host", "[::1")], Err(GateRefusal::Host)),
        (&[("host", "[]")], Err(GateRefusal::Host)),
        (&[("host", "[host]")], Err(GateRefusal::Host)),
        (&[("host", "[::1]a")], Err(GateRefusal::Host)),
        (&[("host", "a,b")], Err(GateRefusal::Host)),
    ] {
        let found = try_admit(Protocol::Http11, "GET", "/", fields);
        let found = found.map(|request| request.authority);
        let expected = expected.map(|host| Bytes::from_static(host.as_bytes()));
        assert_eq!(found, expected, "{fields:?}");
    }
    assert!(try_admit(Protocol::Http10, "GET", "/", &[]).is_ok());
    for (length, expected) in [(255, None), (256, Some(GateRefusal::Host))] {
        let host = "h".repeat(length);
        let found = try_admit(Protocol::Http11, "GET", "/", &[("host", &host)]);
        assert_eq!(found.err(), expected, "{length}");
    }
}

#[test]
fn on_http2_the_authority_is_the_host_and_frames_say_the_length() {
    let admitted_for =
        |target: &'static str, authority: Option<&str>, fields: &[(&str, &str)], ends_with_head| {
            let authority = authority.map(|text| Bytes::copy_from_slice(text.as_bytes()));
            let raw = RawHead {
                protocol: Protocol::H2,
                method: "POST",
                target: Bytes::from_static(target.as_bytes()),
                authority,
                fields: test_fields(fields),
                ends_with_head,
            };
            let started = Moment {
                wall: SystemTime::UNIX_EPOCH,
                monotonic: Duration::ZERO,
            };
            let peer = Peer::new(IpAddr::V4(Ipv4Addr::LOCALHOST), Some("TLSv1.3"));
            let admitted = admit(raw, RequestId::random(), started, peer);
            admitted.map(|request| (request.authority, request.body))
        };
    let admitted = |authority: Option<&str>, fields: &[(&str, &str)], ends_with_head| {
        admitted_for("/", authority, fields, ends_with_head)
    };
    let let_in = |host: &'static str, body| Ok((Bytes::from_static(host.as_bytes()), body));
    for (authority, fields, ends_with_head, expected) in [
        (Some("h"), &[][..], true, let_in("h", BodyLength::None)),
        (Some("h"), &[], false, let_in("h", BodyLength::Unknown)),
        (
            Some("h"),
            &[("content-length", "3")],
            false,
            let_in("h", BodyLength::Known(3)),
        ),
        (
            Some("h"),
            &[("host", "H")],
            true,
            let_in("h", BodyLength::None),
        ),
        (None, &[("host", "h")], true, let_in("h", BodyLength::None)),
        (
            Some("h"),
            &[("host", "g")],
            true,
            Err(GateRefusal::HostMismatch),
        ),
        (None, &[], true, Err(GateRefusal::Host)),
        (Some("u@h"), &[], true, Err(GateRefusal::Host)),
        (
            Some("h"),
            &[("transfer-encoding", "chunked")],
            false,
            Err(GateRefusal::TransferEncoding),
        ),
    ] {
        let found = admitted(authority, fields, ends_with_head);
        assert_eq!(found, expected, "{authority:?} {fields:?} {ends_with_head}");
    }
    for target in ["https://h/", "https://g/"] {
        let found = admitted_for(target, Some("h"), &[], true);
        assert_eq!(found, Err(GateRefusal::Target), "{target}");
    }
}

#[test]
fn the_length_of_a_body_is_never_in_doubt() {
    let length = |protocol, fields: &[(&str, &str)]| {
        let mut all = vec![("host", "h")];
        all.extend_from_slice(fields);
        try_admit(protocol, "PUT", "/", &all).map(|request| request.body)
    };
    use Protocol::{Http10, Http11};
    for (protocol, fields, expected) in [
        (Http11, &[][..], Ok(BodyLength::None)),
        (Http11, &[("content-length", "0")], Ok(BodyLength::None)),
        (
            Http11,
            &[("content-length", "10")],
            Ok(BodyLength::Known(10)),
        ),
        (
            Http11,
            &[("transfer-encoding", "chunked")],
            Ok(BodyLength::Unknown),
        ),
        (
            Http11,
            &[("content-length", "999999999999999999")],
            Ok(BodyLength::Known(999_999_999_999_999_999)),
        ),
        (
            Http11,
            &[("content-length", "1000000000000000000")],
            Err(GateRefusal::ContentLength),
        ),
        (
            Http11,
            &[("content-length", "01")],
            Err(GateRefusal::ContentLength),
        ),
        (
            Http11,
            &[("content-length", "+1")],
            Err(GateRefusal::ContentLength),
        ),
        (
            Http11,
            &[("content-length", "0x1")],
            Err(GateRefusal::ContentLength),
        ),
        (
            Http11,
            &[("content-length", "1, 1")],
            Err(GateRefusal::ContentLength),
        ),
        (
            Http11,
            &[("content-length", "1"), ("content-length", "1")],
            Err(GateRefusal::ContentLength),
        ),
        (
            Http11,
            &[("content-length", "1"), ("transfer-encoding", "chunked")],
            Err(GateRefusal::AmbiguousLength),
        ),
        (
            Http11,
            &[("transfer-encoding", "gzip, chunked")],
            Err(GateRefusal::TransferEncoding),
        ),
        (
            Http11,
            &[("transfer-encoding", "identity")],
            Err(GateRefusal::TransferEncoding),
        ),
        (
            Http11,
            &[("transfer-encoding", "xchunked")],
            Err(GateRefusal::TransferEncoding),
        ),
        (
            Http11,
            &[
                ("transfer-encoding", "chunked"),
                ("transfer-encoding", "chunked"),
            ],
            Err(GateRefusal::TransferEncoding),
        ),
        (
            Http10,
            &[("transfer-encoding", "chunked")],
            Err(GateRefusal::TransferEncoding),
        ),
    ] {
        assert_eq!(length(protocol, fields), expected, "{fields:?}");
    }
}

#[test]
fn methods_that_no_cache_should_forward_are_refused() {
    for (method, expected) in [
        ("GET", None),
        ("PROPFIND", None),
        ("CONNECT", Some(GateRefusal::Method)),
        ("TRACE", Some(GateRefusal::Method)),
        ("get", Some(GateRefusal::Malformed)),
        ("G\tET", Some(GateRefusal::Malformed)),
        ("", Some(GateRefusal::Malformed)),
    ] {
        let found = try_admit(Protocol::Http11, method, "/", &[("host", "h")]);
        assert_eq!(found.err(), expected, "{method}");
    }
    for (length, expected) in [(32, None), (33, Some(GateRefusal::Malformed))] {
        let method = "M".repeat(length);
        let found = try_admit(Protocol::Http11, &method, "/", &[("host", "h")]);
        assert_eq!(found.err(), expected, "{length}");
    }
    let expect = try_admit(
        Protocol::Http11,
        "PUT",
        "/",
        &[("host", "h"), ("expect", "the-unexpected")],
    );
    assert_eq!(expect.err(), Some(GateRefusal::Expectation));
}

#[test]
fn connection_names_only_what_is_for_the_next_hop() {
    for (value, expected) in [
        ("", None),
        ("close", None),
        ("Keep-Alive, TE", None),
        ("upgrade, HTTP2-Settings", None),
        (",x-a ,\t", None),
        ("a,b,c,d,e,f,g,h,i", None),
        ("a,b,c,d,e,f,g,h,i,j", Some(GateRefusal::Connection)),
        ("Content-Length", Some(GateRefusal::Connection)),
        ("close, Host", Some(GateRefusal::Connection)),
        ("transfer-encoding", Some(GateRefusal::Connection)),
        ("X-Forwarded-For", Some(GateRefusal::Connection)),
        ("if-none-match", Some(GateRefusal::Connection)),
        ("authorization", Some(GateRefusal::Connection)),
        ("\"host\"", Some(GateRefusal::Connection)),
        (":authority", Some(GateRefusal::Connection)),
        ("close;host", Some(GateRefusal::Connection)),
        ("a b", Some(GateRefusal::Connection)),
    ] {
        let fields = [("host", "h"), ("connection", value)];
        let found = try_admit(Protocol::Http11, "GET", "/", &fields).err();
        assert_eq!(found, expected, "{value}");
    }
}

#[test]
fn protocol_is_switched_for_a_websocket_handshake_only() {
    let upgrade = ("upgrade", "WebSocket");
    let meant = ("connection", "keep-alive, Upgrade");
    for (method, fields, expected) in [
        ("GET", &[upgrade, meant][..], Ok(true)),
        ("GET", &[("upgrade", "h2c"), meant], Ok(false)),
        (
            "POST",
            &[("upgrade", "h2c"), ("content-length", "1")],
            Ok(false),
        ),
        ("GET", &[("upgrade", "websocket, h2c"), meant], Ok(false)),
        ("GET", &[upgrade], Err(GateRefusal::Upgrade)),
        ("POST", &[upgrade, meant], Err(GateRefusal::Upgrade)),
        ("GET", &[upgrade, upgrade, meant], Err(GateRefusal::Upgrade)),
        (
            "GET",
            &[upgrade, meant, ("content-length", "1")],
            Err(GateRefusal::Upgrade),
        ),
    ] {
        let mut all = vec![("host", "h")];
        all.extend_from_slice(fields);
        let found = try_admit(Protocol::Http11, method, "/", &all);
        assert_eq!(found.map(|request| request.upgrade), expected, "{fields:?}");
    }
    let fields = [("host", "h"), upgrade, meant];
    let on_http10 = try_admit(Protocol::Http10, "GET", "/", &fields);
    assert_eq!(on_http10.map(|request| request.upgrade), Ok(false));
}
