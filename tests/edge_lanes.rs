//! Requests that the cache answers and requests that pass through, on one connection.

mod harness;

use harness::{Edge, Origin, SMALL_PAGES, Setup, ok};

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: media.example\r\n\r\n")
}

#[tokio::test]
async fn pipelined_requests_may_alternate_between_the_lanes() {
    let origin = Origin::start().await.answering(|request| {
        ok(
            "Cache-Control: max-age=60\r\n",
            &format!("{} {}", request.method(), request.target()),
        )
    });
    let edge = Setup::of([origin.address]).start().await;
    let mut client = edge.client().await;
    let put = "PUT /put HTTP/1.1\r\nHost: media.example\r\nContent-Length: 0\r\n\r\n";
    let head = "HEAD /a HTTP/1.1\r\nHost: media.example\r\n\r\n";
    let delete = "DELETE /d HTTP/1.1\r\nHost: media.example\r\n\r\n";
    let all = [
        &get("/a"),
        put,
        &get("/a"),
        head,
        delete,
        &get("/b"),
        &get("/b"),
    ]
    .concat();
    client.send(all).await;
    assert_eq!(client.response("GET").await.text(), "GET /a");
    assert_eq!(client.response("PUT").await.text(), "PUT /put");
    let hit = client.response("GET").await;
    assert!(hit.is_hit() && hit.text() == "GET /a", "{hit:?}");
    let head = client.response("HEAD").await;
    assert!(
        head.is_hit() && head.field("content-length") == Some("6"),
        "{head:?}"
    );
    assert_eq!(client.response("DELETE").await.text(), "DELETE /d");
    assert_eq!(client.response("GET").await.text(), "GET /b");
    assert!(client.response("GET").await.is_hit());
}

#[tokio::test]
async fn connection_that_was_idle_for_a_while_is_as_good_as_before() {
    let origin = Origin::start().await.answering(|request| {
        let body = format!("GET {}", request.target());
        ok("Cache-Control: max-age=60\r\n", &body)
    });
    let setup = Setup {
        edge: "timeouts: { request_head: 1500ms }",
        ..Setup::of([origin.address])
    };
    let edge = setup.start().await;
    let mut idle = edge.client().await;
    let mut silent = edge.client().await;
    for _ in 0..2 {
        assert_eq!(idle.get("/a").await.text(), "GET /a");
        // By when its time for a head is over, the others have been silent for as long.
        let mut slow = edge.client().await;
        slow.send("GET /").await;
        assert_eq!(slow.response("GET").await.status, 408);
    }
    let both = [get("/a"), get("/b")].concat();
    idle.send(both).await;
    assert!(idle.response("GET").await.is_hit());
    assert_eq!(idle.response("GET").await.text(), "GET /b");
    assert_eq!(silent.get("/a").await.text(), "GET /a");
}

#[tokio::test]
async fn idle_connection_is_closed_when_its_time_is_over() {
    let origin = Origin::start().await.answering(|_| ok("", "x"));
    for edge in [
        "timeouts: { keep_alive: 300ms }",
        "timeouts: { keep_alive: 1300ms }",
    ] {
        let setup = Setup {
            edge,
            ..Setup::of([origin.address])
        };
        let edge = setup.start().await;
        let mut silent = edge.client().await;
        let mut idle = edge.client().await;
        assert_eq!(idle.get("/a").await.text(), "x");
        assert!(idle.until_close().await.is_empty());
        assert!(silent.until_close().await.is_empty());
    }
}

#[tokio::test]
async fn idle_connections_hold_next_to_no_memory() {
    const CONNECTIONS: u32 = 600;
    let origin = Origin::start().await;
    let origin = origin.answering(|_| ok("Cache-Control: max-age=60\r\n", "x"));
    let setup = Setup {
        environment: SMALL_PAGES,
        ..Setup::of([origin.address])
    };
    let edge = setup.start().await;
    let mut idle = Vec::new();
    // The first ones bring up what all of them share.
    let mut shared = 0.0;
    for connections in [150, CONNECTIONS] {
        shared = edge.resident_bytes().await;
        for _ in 0..connections {
            let mut client = edge.client().await;
            assert_eq!(client.get("/a").await.text(), "x");
            idle.push(client);
        }
    }
    let each = (edge.resident_bytes().await - shared) / f64::from(CONNECTIONS);
    // About 2.5 KiB in fact: one kept buffer of 4 KiB would show.
    assert!(each < 5120.0, "{each} bytes for each connection");
}

#[tokio::test]
async fn more_requests_than_are_read_at_once_are_answered_in_order() {
    let origin = Origin::start().await.answering(|request| {
        let body = format!("GET {}", request.target());
        ok("Cache-Control: max-age=60\r\n", &body)
    });
    let edge = Setup::of([origin.address]).start().await;
    let mut client = edge.client().await;
    let paths: Vec<_> = (0..300).map(|number| format!("/{}", number % 7)).collect();
    let all: Vec<_> = paths.iter().map(|path| get(path)).collect();
    client.send(all.concat()).await;
    for path in &paths {
        assert_eq!(client.response("GET").await.text(), format!("GET {path}"));
    }
    // Nothing is left behind the last one, and the head of the next comes in two reads.
    let long = format!("/{}", "long".repeat(1500));
    assert_eq!(client.get(&long).await.text(), format!("GET {long}"));
}

#[tokio::test]
async fn pipelined_request_behind_a_body_is_not_taken_for_it() {
    let mut origin = Origin::start().await;
    let edge = Edge::before(&origin).await;
    let mut client = edge.client().await;
    let post = "POST /p HTTP/1.1\r\nHost: media.example\r\nContent-Length: 5\r\n\r\nhello";
    client.send(format!("{post}{}", get("/a"))).await;
    let mut exchange = origin.next().await;
    assert_eq!(exchange.request.method(), "POST");
    assert_eq!(exchange.read(5).await, b"hello");
    exchange.send(ok("", "posted")).await;
    exchange.finish();
    assert_eq!(client.response("POST").await.text(), "posted");
    origin.answer(ok("", "got")).await;
    assert_eq!(client.response("GET").await.text(), "got");
}

#[tokio::test]
async fn request_that_comes_while_another_passes_waits_its_turn() {
    let mut origin = Origin::start().await;
    let edge = Edge::before(&origin).await;
    let mut client = edge.client().await;
    client
        .send("DELETE /d HTTP/1.1\r\nHost: media.example\r\n\r\n")
        .await;
    let mut exchange = origin.next().await;
    assert_eq!(exchange.request.method(), "DELETE");
    // The origin is still thinking.
    client.send(get("/a")).await;
    exchange.send(ok("", "deleted")).await;
    exchange.finish();
    assert_eq!(client.response("DELETE").await.text(), "deleted");
    origin.answer(ok("", "got")).await;
    assert_eq!(client.response("GET").await.text(), "got");
}

#[tokio::test]
async fn connection_is_kept_for_either_lane_after_either_lane() {
    let origin = Origin::start()
        .await
        .answering(|request| ok("Cache-Control: max-age=60\r\n", request.method()));
    let edge = Setup::of([origin.address]).start().await;
    let mut client = edge.client().await;
    for round in 0..3 {
        for method in ["GET", "OPTIONS", "GET", "POST", "POST", "GET"] {
            let fields = if method == "POST" {
                "Content-Length: 0\r\n"
            } else {
                ""
            };
            // Each round has a path of its own, since POST invalidates.
            let response = client.request(method, &format!("/{round}"), fields).await;
            assert_eq!((response.status, response.text()), (200, method));
        }
    }
}

#[tokio::test]
async fn connection_close_is_obeyed_in_both_lanes() {
    let origin = Origin::start()
        .await
        .answering(|request| ok("", request.method()));
    let edge = Setup::of([origin.address]).start().await;
    for method in ["GET", "OPTIONS"] {
        let mut client = edge.client().await;
        let response = client.request(method, "/a", "Connection: close\r\n").await;
        assert_eq!(response.text(), method);
        assert_eq!(client.until_close().await, b"");
    }
}

#[tokio::test]
async fn upload_streams_to_the_origin_before_the_client_has_sent_it_all() {
    let mut origin = Origin::start().await;
    let edge = Edge::before(&origin).await;
    for method in ["PUT", "POST"] {
        let mut client = edge.client().await;
        let head =
            format!("{method} /a HTTP/1.1\r\nHost: media.example\r\nContent-Length: 8\r\n\r\n");
        client.send(head).await;
        client.send("1234").await;
        let mut exchange = origin.next().await;
        assert_eq!(exchange.request.method(), method);
        assert_eq!(exchange.request.field("content-length"), Some("8"));
        assert_eq!(exchange.read(4).await, b"1234");
        client.send("5678").await;
        assert_eq!(exchange.read(4).await, b"5678");
        exchange.send(ok("", "done")).await;
        exchange.finish();
        assert_eq!(client.response(method).await.text(), "done");
    }
}

#[tokio::test]
async fn passed_response_streams_before_the_origin_has_sent_it_all() {
    // A counted body may wait in a small buffer for more; a chunked one never waits.
    let counted = |part: &str| part.to_owned();
    let chunked = |part: &str| format!("{:x}\r\n{part}\r\n", part.len());
    let (first, second) = ("1".repeat(64 * 1024), "2".repeat(64 * 1024));
    let length = format!("Content-Length: {}", first.len() + second.len());
    let coding = "Transfer-Encoding: chunked".to_owned();
    let cases = [
        (length, counted(&first), counted(&second)),
        (coding, chunked("1234"), chunked("5678")),
    ];
    for (framing, first, second) in cases {
        let mut origin = Origin::start().await;
        let edge = Edge::before(&origin).await;
        let mut client = edge.client().await;
        client
            .send("POST /a HTTP/1.1\r\nHost: media.example\r\nContent-Length: 0\r\n\r\n")
            .await;
        let mut exchange = origin.next().await;
        exchange
            .send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n{first}"))
            .await;
        assert_eq!(client.head().await.status, 200);
        // All but what such a buffer holds.
        let early = first.len() - first.len() / 16;
        assert!(
            client.read(early).await == first.as_bytes()[..early],
            "{framing}"
        );
        exchange.send(&second).await;
        let rest = [&first[early..], &second].concat();
        assert!(
            client.read(rest.len()).await == rest.as_bytes(),
            "{framing}"
        );
    }
}

#[tokio::test]
async fn chunked_request_body_reaches_the_origin_chunk_by_chunk() {
    let mut origin = Origin::start().await;
    let edge = Edge::before(&origin).await;
    let mut client = edge.client().await;
    client
        .send("PUT /a HTTP/1.1\r\nHost: media.example\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    client.send("4\r\nWiki\r\n").await;
    let mut exchange = origin.next().await;
    assert_eq!(exchange.request.field("transfer-encoding"), Some("chunked"));
    assert_eq!(exchange.request.field("content-length"), None);
    assert_eq!(exchange.read_until(b"Wiki\r\n").await, b"4\r\nWiki\r\n");
    client.send("5\r\npedia\r\n0\r\n\r\n").await;
    assert_eq!(
        exchange.read_until(b"0\r\n\r\n").await,
        b"5\r\npedia\r\n0\r\n\r\n"
    );
    exchange.send(ok("", "done")).await;
    exchange.finish();
    assert_eq!(client.response("PUT").await.text(), "done");
    let (again, _) = tokio::join!(client.get("/b"), origin.answer(ok("", "b")));
    assert_eq!(again.text(), "b");
}

#[tokio::test]
async fn expectation_is_met_before_the_body_is_sent() {
    let mut origin = Origin::start().await;
    let edge = Edge::before(&origin).await;
    let mut client = edge.client().await;
    let fields = "Content-Length: 4\r\nExpect: 100-continue\r\n";
    client
        .send(format!(
            "PUT /a HTTP/1.1\r\nHost: media.example\r\n{fields}\r\n"
        ))
        .await;
    let mut exchange = origin.next().await;
    if exchange.request.field("expect").is_some() {
        exchange.send("HTTP/1.1 100 Continue\r\n\r\n").await;
    }
    let proceed = client.response("PUT").await;
    assert_eq!(proceed.status, 100);
    client.send("body").await;
    assert_eq!(exchange.read(4).await, b"body");
    exchange.send(ok("", "done")).await;
    exchange.finish();
    let done = client.response("PUT").await;
    assert_eq!((done.status, done.text()), (200, "done"));
}

#[tokio::test]
async fn websocket_upgrade_joins_client_and_origin() {
    let mut origin = Origin::start().await;
    let edge = Edge::before(&origin).await;
    let mut client = edge.client().await;
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";
    client
        .send(format!(
            "GET /chat HTTP/1.1\r\nHost: media.example\r\n{upgrade}\r\n"
        ))
        .await;
    let mut exchange = origin.next().await;
    assert_eq!(exchange.request.field("upgrade"), Some("websocket"));
    assert!(exchange.request.field("sec-websocket-key").is_some());
    exchange
        .send(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
        )
        .await;
    let switched = client.head().await;
    assert_eq!(switched.status, 101, "{switched:?}");
    assert_eq!(switched.field("upgrade"), Some("websocket"));
    // Frames both ways, in turns.
    for round in 0..3_u8 {
        client.send([0x82, 1, round]).await;
        assert_eq!(exchange.read(3).await, [0x82, 1, round]);
        exchange.send([0x82, 1, round + 100]).await;
        assert_eq!(client.read(3).await, [0x82, 1, round + 100]);
    }
    drop(exchange);
    assert_eq!(client.until_close().await, b"");
}

#[tokio::test]
async fn refused_upgrade_is_an_ordinary_response() {
    let mut origin = Origin::start().await;
    let edge = Edge::before(&origin).await;
    let mut client = edge.client().await;
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    let refused = "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno";
    let (response, _) = tokio::join!(
        client.request("GET", "/chat", upgrade),
        origin.answer(refused)
    );
    assert_eq!((response.status, response.text()), (403, "no"));
}

#[tokio::test]
async fn upload_that_the_client_breaks_off_does_not_end_cleanly_at_the_origin() {
    let mut origin = Origin::start().await;
    let edge = Edge::before(&origin).await;
    for (framing, part) in [
        ("Content-Length: 8", "1234"),
        ("Transfer-Encoding: chunked", "4\r\n1234\r\n"),
    ] {
        let mut client = edge.client().await;
        client
            .send(format!(
                "PUT /a HTTP/1.1\r\nHost: media.example\r\n{framing}\r\n\r\n{part}"
            ))
            .await;
        let mut exchange = origin.next().await;
        exchange.read_until(b"1234").await;
        drop(client);
        let rest = exchange.closed().await;
        assert!(!rest.ends_with(b"0\r\n\r\n"), "{}", rest.escape_ascii());
    }
}

#[tokio::test]
async fn request_reaches_the_origin_as_the_client_spelled_it() {
    let origin = Origin::start().await.answering(|_| ok("", "x"));
    let edge = Setup::of([origin.address]).start().await;
    let mut client = edge.client().await;
    let target = "/a%20b/%C3%A4/+x;y=1,2/~z?q=%2B&r=a+b&&=";
    for method in ["GET", "DELETE"] {
        let fields = "X-One: a\r\nX-One: b\r\nX-Two:   spaced out  \r\n";
        client.request(method, target, fields).await;
        let request = origin.requests().pop().unwrap();
        assert_eq!((request.method(), request.target()), (method, target));
        assert_eq!(request.field("host"), Some("media.example"));
        assert_eq!(request.fields("x-one"), ["a", "b"]);
        assert_eq!(request.field("x-two"), Some("spaced out"));
    }
}
