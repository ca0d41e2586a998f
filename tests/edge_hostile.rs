//! Requests that no honest client sends: each gets a 4xx or a closed connection, none reaches
//! the origin, and the next client is served.

mod harness;

use harness::{AnsweringOrigin, Edge, Origin, Setup};

async fn edge() -> (Edge, AnsweringOrigin) {
    let origin = Origin::start().await.answering(|_| {
        let head = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nETag: \"v1\"\r\n";
        format!("{head}Content-Length: 26\r\n\r\nabcdefghijklmnopqrstuvwxyz").into_bytes()
    });
    let setup = Setup {
        edge: "limits: { request_head: 8KiB, request_fields: 50 }",
        ..Setup::of([origin.address])
    };
    (setup.start().await, origin)
}

/// A GET of `target` with a good `Host`.
fn target(target: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: media.example\r\n\r\n").into_bytes()
}

/// A GET with the field lines `fields`.
fn fields(fields: &str) -> Vec<u8> {
    format!("GET /a HTTP/1.1\r\nHost: media.example\r\n{fields}\r\n").into_bytes()
}

/// A POST with the field lines `fields`, then `rest`.
fn post(fields: &str, rest: &str) -> Vec<u8> {
    format!("POST /a HTTP/1.1\r\nHost: media.example\r\n{fields}\r\n{rest}").into_bytes()
}

/// What would be smuggled, if the body of the request before it ended too early.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: media.example\r\n\r\n";

fn hostile() -> Vec<(&'static str, Vec<u8>)> {
    let raw = |bytes: &[u8]| bytes.to_vec();
    vec![
        // The request line.
        ("no HTTP at all", raw(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")),
        ("no version", raw(b"GET /a\r\nHost: media.example\r\n\r\n")),
        ("only a method", raw(b"GET\r\n\r\n")),
        ("no target", raw(b"GET HTTP/1.1\r\nHost: media.example\r\n\r\n")),
        ("empty target", raw(b"GET  HTTP/1.1\r\nHost: media.example\r\n\r\n")),
        ("space in the target", target("/a b")),
        ("two spaces before the version", target("/a ")),
        ("tab for a space", raw(b"GET\t/a HTTP/1.1\r\nHost: media.example\r\n\r\n")),
        ("version of another protocol", raw(b"GET /a SIP/2.0\r\nHost: media.example\r\n\r\n")),
        ("lower-case version", raw(b"GET /a http/1.1\r\nHost: media.example\r\n\r\n")),
        ("HTTP/1.2", raw(b"GET /a HTTP/1.2\r\nHost: media.example\r\n\r\n")),
        ("HTTP/1.1 with more digits", raw(b"GET /a HTTP/1.10\r\nHost: media.example\r\n\r\n")),
        ("no leading digit", raw(b"GET /a HTTP/.1\r\nHost: media.example\r\n\r\n")),
        ("method with a separator", raw(b"GE(T /a HTTP/1.1\r\nHost: media.example\r\n\r\n")),
        ("lower-case method", raw(b"get /a HTTP/1.1\r\nHost: media.example\r\n\r\n")),
        ("CONNECT", raw(b"CONNECT media.example:443 HTTP/1.1\r\nHost: media.example:443\r\n\r\n")),
        ("TRACE", raw(b"TRACE /a HTTP/1.1\r\nHost: media.example\r\n\r\n")),
        ("relative target", target("a")),
        ("fragment in the target", target("/a#b")),
        ("NUL in the target", target("/a\0b")),
        ("control character in the target", target("/a\x07b")),
        ("DEL in the target", target("/a\x7fb")),
        ("bytes above ASCII in the target", raw(b"GET /\xc3\xa4 HTTP/1.1\r\nHost: media.example\r\n\r\n")),
        ("h2 preface on HTTP/1.1", raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")),
        // The path.
        ("dot-dot segment", target("/a/../b")),
        ("dot-dot at the end", target("/a/..")),
        ("dot-dot at the start", target("/../etc/passwd")),
        ("dot segment", target("/a/./b")),
        ("encoded dot-dot", target("/a/%2e%2e/b")),
        ("half encoded dot-dot", target("/a/.%2E/b")),
        ("encoded slash", target("/a%2fb")),
        ("encoded slash, upper case", target("/a%2Fb")),
        ("encoded backslash", target("/a%5cb")),
        ("backslash", target("/a\\b")),
        ("encoded NUL", target("/a%00b")),
        ("percent sign alone", target("/a%")),
        ("percent sign with one digit", target("/a%2")),
        ("percent sign with other letters", target("/a%zz")),
        // Host.
        ("no Host", raw(b"GET /a HTTP/1.1\r\n\r\n")),
        ("two Hosts", fields("Host: media.example\r\n")),
        ("two different Hosts", fields("Host: other.example\r\n")),
        ("empty Host", raw(b"GET /a HTTP/1.1\r\nHost:\r\n\r\n")),
        ("Host with a path", raw(b"GET /a HTTP/1.1\r\nHost: media.example/b\r\n\r\n")),
        ("Host with user", raw(b"GET /a HTTP/1.1\r\nHost: user@media.example\r\n\r\n")),
        ("Host with a space", raw(b"GET /a HTTP/1.1\r\nHost: media .example\r\n\r\n")),
        ("Host list", raw(b"GET /a HTTP/1.1\r\nHost: media.example, other.example\r\n\r\n")),
        ("Host with a letter for a port", raw(b"GET /a HTTP/1.1\r\nHost: media.example:http\r\n\r\n")),
        ("Host with an open bracket", raw(b"GET /a HTTP/1.1\r\nHost: [::1\r\n\r\n")),
        ("absolute target of another host", target("http://other.example/a")),
        ("absolute target of another scheme", target("ftp://media.example/a")),
        ("absolute target without host", target("http:///a")),
        // Fields.
        ("space before the colon", fields("X-A : b\r\n")),
        ("field without colon", fields("X-A\r\n")),
        ("field without name", fields(": b\r\n")),
        ("folded field", fields("X-A: b\r\n c\r\n")),
        ("fold in the first field", raw(b"GET /a HTTP/1.1\r\n Host: media.example\r\n\r\n")),
        ("NUL in a value", fields("X-A: b\0c\r\n")),
        ("NUL in a name", fields("X-\0A: b\r\n")),
        ("control character in a value", fields("X-A: b\x07c\r\n")),
        ("separator in a name", fields("X(A): b\r\n")),
        ("bare LF after the request line", raw(b"GET /a HTTP/1.1\nHost: media.example\r\n\r\n")),
        ("bare LF after a field", fields("X-A: b\nX-B: c\r\n")),
        ("bare LF at the end of the head", raw(b"GET /a HTTP/1.1\r\nHost: media.example\r\n\n")),
        ("bare LF everywhere", raw(b"GET /a HTTP/1.1\nHost: media.example\n\n")),
        ("bare CR in a value", fields("X-A: b\rX-B: c\r\n")),
        ("bare CR in the request line", raw(b"GET /a\rb HTTP/1.1\r\nHost: media.example\r\n\r\n")),
        ("head beyond its limit", fields(&format!("X-A: {}\r\n", "b".repeat(9_000)))),
        ("target beyond the limit", target(&format!("/{}", "a".repeat(9_000)))),
        ("too many fields", fields(&"X-A: b\r\n".repeat(51))),
        ("head that never ends", vec![b'a'; 100_000]),
        ("unknown expectation", post("Expect: miracles\r\nContent-Length: 0\r\n", "")),
        // The length of the body.
        ("two lengths", post("Content-Length: 0\r\nContent-Length: 48\r\n", SMUGGLED)),
        ("one length twice", post("Content-Length: 0\r\nContent-Length: 0\r\n", "")),
        ("list of lengths", post("Content-Length: 0, 0\r\n", "")),
        ("signed length", post("Content-Length: +0\r\n", "")),
        ("negative length", post("Content-Length: -1\r\n", "")),
        ("hexadecimal length", post("Content-Length: 0x10\r\n", SMUGGLED)),
        ("empty length", post("Content-Length:\r\n", "")),
        ("length with a space inside", post("Content-Length: 4 8\r\n", SMUGGLED)),
        ("length beyond 64 bits", post("Content-Length: 99999999999999999999\r\n", "")),
        ("length and coding", post("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n")),
        ("coding and length", post("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", "0\r\n\r\n")),
        ("unknown coding", post("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n")),
        ("coding before chunked", post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n")),
        ("chunked not last", post("Transfer-Encoding: chunked, gzip\r\n", "0\r\n\r\n")),
        ("chunked twice", post("Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n")),
        ("two codings", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", "0\r\n\r\n")),
        ("identity", post("Transfer-Encoding: identity\r\n", SMUGGLED)),
        ("empty coding", post("Transfer-Encoding:\r\n", "0\r\n\r\n")),
        ("quoted coding", post("Transfer-Encoding: \"chunked\"\r\n", "0\r\n\r\n")),
        ("coding with a control character", post("Transfer-Encoding: \x0bchunked\r\n", "0\r\n\r\n")),
        ("coding with a space before the colon", post("Transfer-Encoding : chunked\r\n", "0\r\n\r\n")),
        ("coding in HTTP/1.0", raw(b"POST /a HTTP/1.0\r\nHost: media.example\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")),
        // Heads that break off.
        ("half a request line", raw(b"GET /a HT")),
        ("half a head", raw(b"GET /a HTTP/1.1\r\nHost: media.exa")),
        ("head without its end", raw(b"GET /a HTTP/1.1\r\nHost: media.example\r\n")),
    ]
}

#[tokio::test]
async fn each_gets_a_4xx_or_a_close_and_the_next_client_is_served() {
    let (mut edge, origin) = edge().await;
    let cases = hostile();
    assert!(cases.len() >= 40);
    let mut wrong = Vec::new();
    for (claim, bytes) in &cases {
        let mut client = edge.client().await;
        client.send_regardless(bytes).await;
        client.end_sending().await;
        let answer = client.until_close().await;
        let answer = String::from_utf8_lossy(&answer);
        let status = answer.split(' ').nth(1).unwrap_or_default();
        let is_refusal = answer.is_empty() || (status.len() == 3 && status.starts_with('4'));
        let answers = answer.matches("HTTP/1.1 ").count();
        if !is_refusal || answers > 1 {
            wrong.push(format!("{claim}: {answer}"));
        }
        assert_eq!(edge.get("/served").await.status, 200, "after {claim}");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let reached: Vec<_> = origin
        .requests()
        .into_iter()
        .map(|request| request.head)
        .collect();
    assert_eq!(
        reached.len(),
        1,
        "only /served was for the origin: {reached:#?}"
    );
    assert!(edge.is_alive());

    let refusals = edge
        .metrics()
        .await
        .sum("tidegate_gate_refusals_total", &[]);
    assert!(refusals > 40.0, "{refusals}");
}

#[tokio::test]
async fn refusal_closes_the_connection_before_the_bytes_that_follow_are_read() {
    let (edge, origin) = edge().await;
    for before in [
        post(
            "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
            "0\r\n\r\n",
        ),
        post("Content-Length: 0\r\nContent-Length: 48\r\n", ""),
        fields("X-A: b\r\n c\r\n"),
    ] {
        let mut client = edge.client().await;
        client.send_regardless(before).await;
        client.send_regardless(SMUGGLED).await;
        let answer = String::from_utf8(client.until_close().await).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    }
    assert_eq!(origin.count(), 0);
}

#[tokio::test]
async fn malformed_chunks_end_the_request_and_its_origin_connection() {
    let mut origin = Origin::start().await;
    let edge = Edge::before(&origin).await;
    for chunks in [
        "x\r\n",
        "-1\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhelloXX0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "fffffffffffffffff\r\n",
    ] {
        let mut client = edge.client().await;
        client
            .send(post("Transfer-Encoding: chunked\r\n", chunks))
            .await;
        client.send_regardless(SMUGGLED).await;
        client.end_sending().await;
        let answer = tokio::select! {
            answer = client.until_close() => answer,
            () = async {
                loop {
                    let mut exchange = origin.next().await;
                    assert_eq!(exchange.request.method(), "POST", "{chunks:?}");
                    let rest = exchange.closed().await;
                    assert!(!rest.ends_with(b"\r\n0\r\n\r\n"), "{chunks:?}: {}", rest.escape_ascii());
                }
            } => unreachable!("the origin listens for ever"),
        };
        let answer = String::from_utf8(answer).unwrap();
        assert!(!answer.starts_with("HTTP/1.1 2"), "{chunks:?}: {answer}");
        assert!(
            answer.matches("HTTP/1.1 ").count() <= 1,
            "{chunks:?}: {answer}"
        );
    }
}

#[tokio::test]
async fn odd_range_is_ignored_or_unsatisfiable_and_never_a_server_error() {
    let (edge, _origin) = edge().await;
    let many = (0..300)
        .map(|n| format!("{n}-{n}"))
        .collect::<Vec<_>>()
        .join(",");
    let ranges = [
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=--1",
        "bytes=1-0",
        "bytes=a-",
        "bytes=0-b",
        "bytes=0-1-2",
        "bytes=0-18446744073709551615",
        "bytes=18446744073709551615-",
        "bytes=18446744073709551616-",
        "bytes=-18446744073709551616",
        "bytes=-0",
        "bytes=26-",
        "bytes=0-,-1",
        "bytes=,",
        "bytes=0-0,",
        "bytes= 0-1",
        "bytes=0 -1",
        "BYTES=0-1",
        "lines=1-2",
        "=0-1",
        "bytes=0-1;x",
        "bytes=\"0-1\"",
        "bytes=0.5-1",
        "bytes=0-0,0-0,0-0",
        "bytes=0-1,24-25",
    ];
    for path in ["/cold", "/warm"] {
        if path == "/warm" {
            edge.get(path).await;
        }
        for (number, range) in ranges
            .into_iter()
            .chain([format!("bytes={many}").as_str()])
            .enumerate()
        {
            let path = if path == "/cold" {
                format!("/cold/{number}")
            } else {
                path.to_owned()
            };
            let mut client = edge.client().await;
            let fields = format!("Range: {range}\r\n");
            let response = client.request("GET", &path, &fields).await;
            assert!(
                matches!(response.status, 200 | 206 | 400 | 416),
                "{path} {range}: {response:?}"
            );
        }
        let mut client = edge.client().await;
        let twice = client
            .request("GET", path, "Range: bytes=0-1\r\nRange: bytes=2-3\r\n")
            .await;
        assert!(matches!(twice.status, 200 | 206 | 400), "{path}: {twice:?}");
    }
}

#[tokio::test]
async fn heads_within_the_limits_are_served() {
    let (edge, _origin) = edge().await;
    for bytes in [
        fields(&format!("X-A: {}\r\n", "b".repeat(7_000))),
        fields(&"X-A: b\r\n".repeat(40)),
        target(&format!("/{}", "a".repeat(7_000))),
        target("http://media.example/a"),
        target("HTTP://MEDIA.example/a?b"),
        target("/a/.../b"),
        target("/a/..b/c"),
        target("//a"),
        target("/a%20b"),
        fields("X-A:\r\n"),
        fields("X-A: b\tc\r\n"),
        b"\r\nGET /a HTTP/1.1\r\nHost: media.example\r\n\r\n".to_vec(),
        b"GET /a HTTP/1.0\r\n\r\n".to_vec(),
    ] {
        let mut client = edge.client().await;
        client.send(&bytes).await;
        let response = client.response("GET").await;
        assert_eq!(
            response.status,
            200,
            "{}: {response:?}",
            bytes.escape_ascii()
        );
    }
}

#[tokio::test]
async fn without_a_file_descriptor_to_spare_nobody_is_cut_off_and_the_next_client_waits() {
    let (mut edge, _origin) = edge().await;
    let mut early = edge.client().await;
    assert_eq!(early.get("/a").await.status, 200);
    let before = edge.limit_descriptors(edge.next_descriptor());

    let mut late = edge.client().await;
    late.send(target("/a")).await;
    let line = edge.logged("cannot accept connections").await;
    let address = edge.http.to_string();
    assert!(
        line.contains(&address) && line.contains("os error 24"),
        "{line}"
    );
    assert!(early.get("/a").await.is_hit());

    edge.limit_descriptors(before);
    assert!(late.response("GET").await.is_hit());
}
