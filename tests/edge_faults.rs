//! Origins that die, stall and lie in the middle of a body: what they sent is never stored as
//! complete, and never ends cleanly at a client.
//!
//! `edge_coalescing.rs` holds what several readers of one such body get.

mod harness;

use futures_util::future::join_all;
use harness::{Edge, Exchange, Origin, Setup, Short};

const KIB: usize = 1024;

/// What an origin does instead of the rest of its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Closes,
    Resets,
    /// Until the edge's `read_timeout` is over.
    Stalls,
}

async fn edge_before(origin: &Origin) -> Edge {
    let setup = Setup {
        pool: "health: { interval: 1h }\n      read_timeout: 2s",
        ..Setup::of([origin.address])
    };
    setup.start().await
}

const FRESH: &str = "Cache-Control: max-age=60\r\n";

/// The beginnings of a response whose body does not go on, and how much of the body they hold.
/// Long ones have left the edge for the client before the fault is known; short ones may not have.
fn beginnings() -> Vec<(&'static str, String)> {
    let (short, long) = ("x".repeat(5), "x".repeat(600 * KIB));
    let mut all = Vec::new();
    for fields in ["", "ETag: \"v1\"\r\n"] {
        for (size, body) in [("short", &short), ("long", &long)] {
            let head = format!("HTTP/1.1 200 OK\r\n{FRESH}{fields}");
            let length = body.len() + 1;
            let chunk = body.len();
            // Of a long one with an ETag the blocks are kept, see below.
            if fields.is_empty() || size == "short" {
                all.push((
                    size,
                    format!("{head}Content-Length: {length}\r\n\r\n{body}"),
                ));
            }
            let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunk:x}\r\n{body}");
            all.push((size, format!("{chunked}\r\n")));
            // In the middle of a chunk, of the line after it, of the last chunk.
            all.push((
                size,
                format!("{head}Transfer-Encoding: chunked\r\n\r\nfffff\r\n{body}"),
            ));
            all.push((size, format!("{chunked}\r")));
            all.push((size, format!("{chunked}\r\n0\r\n")));
        }
    }
    all
}

/// Answers `exchange` with `beginning` and then does `fault`; the exchange is returned when the
/// origin keeps its connection open.
async fn break_off(mut exchange: Exchange, beginning: &str, fault: Fault) -> Option<Exchange> {
    exchange.send(beginning).await;
    match fault {
        Fault::Closes => None,
        Fault::Resets => {
            exchange.reset();
            None
        }
        Fault::Stalls => Some(exchange),
    }
}

/// What the client gets while every request at the origin ends in `fault`.
async fn get_despite(
    edge: &Edge,
    origin: &mut Origin,
    beginning: &str,
    fault: Fault,
) -> Result<u16, Short> {
    let mut client = edge.client().await;
    client
        .send("GET /a HTTP/1.1\r\nHost: media.example\r\n\r\n")
        .await;
    let mut kept = Vec::new();
    let faults = async {
        loop {
            let exchange = origin.next().await;
            kept.extend(break_off(exchange, beginning, fault).await);
        }
    };
    tokio::select! {
        response = client.try_response("GET") => response.map(|response| response.status),
        () = faults => unreachable!("the origin fails for ever"),
    }
}

/// One fault on an edge of its own.
async fn is_cut_and_asked_for_again(fault: Fault, what: &str, beginning: &str) {
    let head = beginning.split("\r\n\r\n").next().unwrap();
    let case = format!("{fault:?}, {what}, {head}");
    let mut origin = Origin::start().await;
    let edge = edge_before(&origin).await;
    match get_despite(&edge, &mut origin, beginning, fault).await {
        Err(_) => {}
        // Not a byte had left the edge yet.
        Ok(status) => assert!(matches!(status, 502 | 504), "{case}: {status}"),
    }
    let asked = origin.count();
    let whole = format!("HTTP/1.1 200 OK\r\n{FRESH}Content-Length: 5\r\n\r\nwhole");
    let mut client = edge.client().await;
    let (next, _) = tokio::join!(client.get("/a"), origin.answer(whole));
    assert_eq!((next.status, next.text()), (200, "whole"), "{case}");
    assert_eq!(origin.count(), asked + 1, "{case}");
}

#[tokio::test]
async fn body_that_ends_early_is_cut_or_an_error_and_is_asked_for_again() {
    for fault in [Fault::Closes, Fault::Resets] {
        for (what, beginning) in beginnings() {
            is_cut_and_asked_for_again(fault, what, &beginning).await;
        }
    }
}

#[tokio::test]
async fn body_that_stalls_is_cut_or_an_error_and_is_asked_for_again() {
    let beginnings = beginnings();
    // Without an ETag to ask for the rest by, or the edge would wait several timeouts in turn.
    let stalls = beginnings
        .iter()
        .filter(|(_, beginning)| !beginning.contains("ETag"))
        .map(|(what, beginning)| is_cut_and_asked_for_again(Fault::Stalls, what, beginning));
    // They all wait for the same time to pass.
    join_all(stalls).await;
}

#[tokio::test]
async fn blocks_that_came_whole_are_kept_and_only_the_rest_is_asked_for() {
    const BLOCK: usize = 256 * KIB;
    let body: Vec<u8> = (0..2 * BLOCK + 10).map(|at| (at % 251) as u8).collect();
    let length = body.len();
    let fields = format!("{FRESH}ETag: \"v1\"\r\n");
    for fault in [Fault::Closes, Fault::Resets, Fault::Stalls] {
        let mut origin = Origin::start().await;
        let edge = edge_before(&origin).await;
        let mut client = edge.client().await;
        client
            .send("GET /a HTTP/1.1\r\nHost: media.example\r\n\r\n")
            .await;
        let mut exchange = origin.next().await;
        let head = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: {length}\r\n\r\n");
        exchange.send(head).await;
        exchange.send(&body[..BLOCK + 5]).await;
        client.head().await;
        assert!(client.read(BLOCK).await == body[..BLOCK]);
        let kept = break_off(exchange, "", fault).await;

        // The client is carried on with the rest.
        let (rest, first) = tokio::join!(client.read(length - BLOCK), async {
            let mut next = origin.next().await;
            assert_eq!(next.request.field("if-range"), Some("\"v1\""));
            let range = next.request.field("range").unwrap();
            let first = range.strip_prefix("bytes=").unwrap().split('-').next();
            let first: usize = first.unwrap().parse().unwrap();
            let (part, last) = (&body[first..], length - 1);
            let head = format!(
                "HTTP/1.1 206 Partial Content\r\n{fields}Content-Length: {}\r\n\
                 Content-Range: bytes {first}-{last}/{length}\r\n\r\n",
                part.len(),
            );
            next.send(head).await;
            next.send(part).await;
            next.finish();
            first
        });
        drop(kept);
        assert_eq!(first, BLOCK, "{fault:?}");
        assert!(rest == body[BLOCK..], "{fault:?}");
        let again = edge.get("/a").await;
        assert!(again.is_hit() && again.body == body, "{fault:?}: {again:?}");
        assert_eq!(origin.count(), 2, "{fault:?}");
    }
}

#[tokio::test]
async fn bytes_beyond_the_end_of_a_response_answer_nobody() {
    let evil = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 4\r\n\r\nevil";
    for framed in [
        "Content-Length: 3\r\n\r\nabc",
        "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    ] {
        let mut origin = Origin::start().await;
        let edge = edge_before(&origin).await;
        let mut client = edge.client().await;
        let answer = format!("HTTP/1.1 200 OK\r\n{FRESH}{framed}{evil}");
        let (first, _) = tokio::join!(client.get("/a"), origin.answer(answer));
        assert_eq!((first.status, first.text()), (200, "abc"), "{framed}");
        let good = format!("HTTP/1.1 200 OK\r\n{FRESH}Content-Length: 4\r\n\r\ngood");
        let (second, _) = tokio::join!(client.get("/b"), origin.answer(good));
        assert_eq!((second.status, second.text()), (200, "good"), "{framed}");
    }
}

#[tokio::test]
async fn response_that_contradicts_itself_is_an_error_and_is_not_stored() {
    for (range, lie) in [
        (
            "",
            "200 OK\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\nabcde",
        ),
        ("", "200 OK\r\nContent-Length: 3, 5\r\n\r\nabcde"),
        ("", "200 OK\r\nContent-Length: three\r\n\r\nabc"),
        ("", "200 OK\r\nContent-Length: -3\r\n\r\nabc"),
        (
            "",
            "200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nabc",
        ),
        (
            "Range: bytes=0-2\r\n",
            "206 X\r\nETag: \"v\"\r\nContent-Range: bytes 0-9/10\r\nContent-Length: 3\r\n\r\nabc",
        ),
        ("", "304 Not Modified\r\n\r\n"),
    ] {
        let mut origin = Origin::start().await;
        let edge = edge_before(&origin).await;
        let mut client = edge.client().await;
        let answer = format!("HTTP/1.1 {lie}").replacen("\r\n", &format!("\r\n{FRESH}"), 1);
        let (response, mut exchange) = tokio::join!(client.request("GET", "/a", range), async {
            let mut exchange = origin.next().await;
            exchange.send(answer).await;
            exchange
        });
        assert_eq!(response.status, 502, "{lie}: {response:?}");
        // What may follow on that connection is anybody's guess.
        exchange.closed().await;
        let good = format!("HTTP/1.1 200 OK\r\n{FRESH}Content-Length: 4\r\n\r\ngood");
        let (next, _) = tokio::join!(client.get("/a"), origin.answer(good));
        assert_eq!((next.status, next.text()), (200, "good"), "{lie}");
    }
}

#[tokio::test]
async fn head_that_cannot_be_parsed_is_told_without_what_it_holds() {
    let mut origin = Origin::start().await;
    let mut edge = edge_before(&origin).await;
    let mut client = edge.client().await;
    let answer = "HTTP/1.1 200 OK\r\nSet-Cookie: session=secret\r\nBad Name: x\r\nContent-Length: 1\r\n\r\nx";
    let (response, _) = tokio::join!(client.get("/a"), origin.answer(answer));
    assert_eq!(response.status, 502);
    let line = edge.logged("request failed").await;
    let server = origin.address;
    let told = format!("{server} sent an invalid response: invalid header name");
    assert!(
        line.contains(&told) && !line.contains("secret") && !line.contains("Bad Name"),
        "{line}"
    );
}

#[tokio::test]
async fn part_that_nobody_asked_for_does_not_pass_for_the_whole() {
    for (fields, part) in [
        ("", "bytes 0-2/10"),
        ("", "bytes 5-7/10"),
        ("", "bytes 0-2/*"),
        ("", "nonsense"),
        ("ETag: \"v1\"\r\n", "bytes 0-2/10"),
    ] {
        let origin = Origin::start().await;
        let answer = format!(
            "HTTP/1.1 206 Partial Content\r\n{FRESH}{fields}Content-Range: {part}\r\n\
             Content-Length: 3\r\n\r\nabc"
        );
        let origin = origin.answering(move |_| answer.clone().into_bytes());
        let edge = Setup::of([origin.address]).start().await;
        let mut client = edge.client().await;
        client
            .send("GET /a HTTP/1.1\r\nHost: media.example\r\n\r\n")
            .await;
        if let Ok(response) = client.try_response("GET").await {
            assert_eq!(response.status, 502, "{fields}{part}: {response:?}");
        }
        // An origin that always answers like this is not asked for ever.
        assert!(origin.count() <= 5, "{fields}{part}: {}", origin.count());
    }
}

#[tokio::test]
async fn error_of_the_edge_says_how_the_request_got_there() {
    let mut origin = Origin::start().await;
    let setup = Setup {
        routes: "- { name: media, path: /m/, origin: store, access: public }",
        ..Setup::of([origin.address])
    };
    let edge = setup.start().await;
    let mut client = edge.client().await;
    let strict = "Cache-Control: max-age=10, must-revalidate\r\nAge: 10\r\nETag: \"v1\"\r\n";
    for (path, fields) in [("/m/fresh", FRESH), ("/m/stale", strict)] {
        let answer = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 3\r\n\r\nabc");
        let (stored, _) = tokio::join!(client.get(path), origin.answer(answer));
        assert_eq!(stored.status, 200);
    }
    let (contradicted, _) = tokio::join!(
        client.get("/m/a"),
        origin.answer("HTTP/1.1 304 Not Modified\r\n\r\n")
    );
    let status = contradicted.cache_status();
    assert_eq!(status, "tidegate; fwd=miss; detail=origin_invalid");

    origin.answering(|_| Vec::new()).stop().await;
    for (method, path, fields, status, cache_status) in [
        (
            "GET",
            "/m/a",
            "",
            502,
            "tidegate; fwd=miss; detail=origin_connect",
        ),
        (
            "GET",
            "/m/stale",
            "",
            502,
            "tidegate; fwd=stale; detail=origin_connect",
        ),
        (
            "DELETE",
            "/m/a",
            "",
            502,
            "tidegate; fwd=method; detail=origin_connect",
        ),
        (
            "GET",
            "/m/a",
            "Cache-Control: only-if-cached\r\n",
            504,
            "tidegate; detail=only_if_cached",
        ),
    ] {
        // The pass lane closes after an error.
        let mut client = edge.client().await;
        let response = client.request(method, path, fields).await;
        assert_eq!(response.status, status, "{response:?}");
        assert_eq!(response.cache_status(), cache_status, "{response:?}");
    }
    let out_of_range = client.request("GET", "/m/fresh", "Range: bytes=3-\r\n");
    let out_of_range = out_of_range.await;
    assert_eq!(out_of_range.status, 416);
    assert!(out_of_range.is_hit(), "{out_of_range:?}");
    // Nothing was looked up for a request that no route takes.
    let unrouted = client.get("/a").await;
    assert_eq!(
        (unrouted.status, unrouted.field("cache-status")),
        (404, None)
    );
}
