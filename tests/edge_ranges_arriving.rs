//! Ranges of bodies that are still arriving and whose length nobody knows yet.

mod harness;
mod range_support;

use harness::{Client, Edge, Origin, Setup};
use range_support::{KIB, TYPICAL, object};

async fn ask(edge: &Edge, range: &str) -> Client {
    let mut client = edge.client().await;
    let fields = format!("Host: media.example\r\nRange: bytes={range}\r\n");
    client
        .send(format!("GET /live HTTP/1.1\r\n{fields}\r\n"))
        .await;
    client
}

fn as_chunk(bytes: &[u8]) -> Vec<u8> {
    let size = format!("{:x}\r\n", bytes.len());
    [size.as_bytes(), bytes, b"\r\n"].concat()
}

const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n";

#[tokio::test]
async fn range_of_an_arriving_body_is_answered_when_its_last_byte_is_here() {
    for fields in [
        TYPICAL,
        "Cache-Control: max-age=60\r\n",
        "Cache-Control: private\r\n",
    ] {
        let mut origin = Origin::start().await;
        let edge = Edge::before(&origin).await;
        let mut client = ask(&edge, "100-299").await;
        let mut exchange = origin.next().await;
        exchange.send(format!("{CHUNKED}{fields}\r\n")).await;
        exchange.send(as_chunk(&object(0..200))).await;
        exchange.send(as_chunk(&object(200..300))).await;
        // The origin has not ended, and the client has all it wanted.
        let response = client.response("GET").await;
        assert_eq!(response.status, 206, "{fields}: {response:?}");
        let range = response.field("content-range");
        assert_eq!(range, Some("bytes 100-299/*"), "{fields}");
        assert_eq!(response.field("content-length"), Some("200"), "{fields}");
        assert!(response.body == object(100..300), "{fields}");
    }
}

#[tokio::test]
async fn range_that_an_arriving_body_has_left_behind_comes_out_of_the_cache() {
    let mut origin = Origin::start().await;
    let edge = Edge::before(&origin).await;
    let mut ahead = edge.client().await;
    ahead
        // An HTTP/1.0 client gets the bytes without chunks around them.
        .send("GET /live HTTP/1.0\r\nHost: media.example\r\n\r\n")
        .await;
    let mut exchange = origin.next().await;
    exchange.send(format!("{CHUNKED}{TYPICAL}\r\n")).await;
    ahead.head().await;
    // What the only reader has read is let go, piece by piece.
    for number in 0..64 {
        let piece = object(number * 64 * KIB..(number + 1) * 64 * KIB);
        exchange.send(as_chunk(&piece)).await;
        assert!(ahead.read(piece.len()).await == piece);
    }
    for (range, span) in [
        ("0-99", 0..100),
        // From what is stored into what is not.
        ("3900000-4194303", 3_900_000..4_194_304),
    ] {
        let response = ask(&edge, range).await.response("GET").await;
        assert_eq!(response.status, 206, "{range}: {response:?}");
        let expected = format!("bytes {range}/*");
        assert_eq!(response.field("content-range"), Some(&expected[..]));
        assert!(response.body == object(span), "{range}");
    }
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn range_of_an_arriving_body_that_ends_first_tells_the_length() {
    for fields in [TYPICAL, "Cache-Control: private\r\n"] {
        for (range, status, content_range, span) in [
            ("100-299", 206, "bytes 100-249/250", 100..250),
            ("0-1000", 206, "bytes 0-249/250", 0..250),
            ("249-249", 206, "bytes 249-249/250", 249..250),
            ("250-260", 416, "bytes */250", 0..0),
        ] {
            let mut origin = Origin::start().await;
            let edge = Edge::before(&origin).await;
            let mut client = ask(&edge, range).await;
            let mut exchange = origin.next().await;
            exchange.send(format!("{CHUNKED}{fields}\r\n")).await;
            exchange.send(as_chunk(&object(0..250))).await;
            exchange.send("0\r\n\r\n").await;
            let response = client.response("GET").await;
            assert_eq!(response.status, status, "{range}: {response:?}");
            // The last byte may have come before the end.
            let open_ended = content_range.replace("/250", "/*");
            let found = response.field("content-range").unwrap();
            assert!(
                found == content_range || (range == "249-249" && found == open_ended),
                "{range}: {found}"
            );
            if status == 206 {
                assert!(response.body == object(span), "{range}");
            }
        }
    }
}

#[tokio::test]
async fn range_of_an_arriving_body_without_near_end_gets_the_whole() {
    for range in [
        "0-",
        "100-",
        "-100",
        "0-9,20-",
        "0-1048576",
        "1048576-1048577",
    ] {
        let mut origin = Origin::start().await;
        let edge = Edge::before(&origin).await;
        let mut client = ask(&edge, range).await;
        let mut exchange = origin.next().await;
        exchange.send(format!("{CHUNKED}{TYPICAL}\r\n")).await;
        // Nobody knows more of the body than this head, and the client has its own already.
        let head = client.head().await;
        assert_eq!(head.status, 200, "{range}: {head:?}");
        assert_eq!(head.field("transfer-encoding"), Some("chunked"), "{range}");
    }
}

#[tokio::test]
async fn range_of_an_arriving_body_that_breaks_off_is_an_error() {
    let mut origin = Origin::start().await;
    let edge = Edge::before(&origin).await;
    let mut client = ask(&edge, "100-299").await;
    let mut exchange = origin.next().await;
    exchange.send(format!("{CHUNKED}{TYPICAL}\r\n")).await;
    exchange.send(as_chunk(&object(0..200))).await;
    drop(exchange);
    let response = client.response("GET").await;
    assert_eq!(response.status, 502, "{response:?}");
}

#[tokio::test]
async fn range_of_a_body_that_has_arrived_knows_its_length() {
    let origin = Origin::start().await.answering(|_| {
        let head = format!("{CHUNKED}{TYPICAL}\r\n");
        let body = as_chunk(&object(0..1000));
        [head.as_bytes(), &body, b"0\r\n\r\n"].concat()
    });
    let edge = Setup::of([origin.address]).start().await;
    edge.get("/live").await;
    for (range, content_range) in [
        ("0-", "bytes 0-999/1000"),
        ("100-299", "bytes 100-299/1000"),
        ("-1", "bytes 999-999/1000"),
    ] {
        let response = ask(&edge, range).await.response("GET").await;
        assert_eq!(response.status, 206, "{range}");
        assert_eq!(response.field("content-range"), Some(content_range));
    }
    assert_eq!(origin.count(), 1);
}
