//! How concurrent requests share one fill, and what they get when it breaks off.

mod harness;

use futures_util::future::join_all;
use harness::{Client, Edge, Exchange, Origin, SMALL_PAGES, Setup};

const CLIENTS: usize = 50;

/// Bodies larger than any buffer on the way, so that "streams" cannot be mistaken for "arrives".
const HALF: usize = 2 << 20;

fn half(byte: u8) -> Vec<u8> {
    vec![byte; HALF]
}

async fn clients(edge: &Edge, count: usize, path: &str) -> Vec<Client> {
    join_all((0..count).map(async |_| {
        let mut client = edge.client().await;
        let head = format!("GET {path} HTTP/1.1\r\nHost: media.example\r\n\r\n");
        client.send(head).await;
        client
    }))
    .await
}

async fn send_head(exchange: &mut Exchange, fields: &str) {
    let length = 2 * HALF;
    let head =
        format!("HTTP/1.1 200 OK\r\nETag: \"v1\"\r\n{fields}Content-Length: {length}\r\n\r\n");
    exchange.send(head).await;
}

const FRESH: &str = "Cache-Control: max-age=60\r\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_misses_make_one_origin_request_and_stream_while_it_arrives() {
    let mut origin = Origin::start().await;
    let edge = Edge::before(&origin).await;
    let mut clients = clients(&edge, CLIENTS, "/a").await;
    let mut exchange = origin.next().await;
    send_head(&mut exchange, FRESH).await;

    // Every client has the first half while the origin has not sent the second.
    let (_, ()) = tokio::join!(
        join_all(clients.iter_mut().map(async |client| {
            assert_eq!(client.head().await.status, 200);
            assert!(client.read(HALF).await == half(b'1'));
        })),
        exchange.send(half(b'1')),
    );
    let (_, ()) = tokio::join!(
        join_all(clients.iter_mut().map(async |client| {
            assert!(client.read(HALF).await == half(b'2'));
        })),
        exchange.send(half(b'2')),
    );
    exchange.finish();
    // Their connections go on.
    for client in &mut clients {
        let again = client.get("/a").await;
        assert!(again.is_hit() && again.body.len() == 2 * HALF, "{again:?}");
    }
    assert_eq!(origin.count(), 1);

    let metrics = edge.metrics().await;
    let collapsed = metrics.sum("tidegate_collapsed_requests_total", &["route=\"all\""]);
    // A client that came after the head was stored shares the same fill.
    assert_eq!(collapsed, (CLIENTS - 1) as f64, "{metrics:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn body_that_breaks_off_never_looks_whole() {
    let whole = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 5\r\n\r\nwhole";
    for broken in [
        "Content-Length: 10\r\n\r\n12345",
        "Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n",
        "Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n0\r\n",
        "Transfer-Encoding: chunked\r\n\r\n9\r\n12345",
        "Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\nnonsense\r\n",
    ] {
        let mut origin = Origin::start().await;
        let edge = Edge::before(&origin).await;
        let mut clients = clients(&edge, 5, "/a").await;
        let ends = join_all(
            clients
                .iter_mut()
                .map(async |client| client.try_response("GET").await),
        );
        let ends = tokio::select! {
            ends = ends => ends,
            // A client that comes after the break makes another request.
            () = async {
                loop {
                    let mut exchange = origin.next().await;
                    exchange.send(format!("HTTP/1.1 200 OK\r\n{FRESH}{broken}")).await;
                }
            } => unreachable!("the origin answers for ever"),
        };
        for end in ends {
            match end {
                Err(_) => {}
                Ok(response) => assert_eq!(response.status, 502, "{broken}: {response:?}"),
            }
        }
        let asked = origin.count();
        let mut client = edge.client().await;
        let (next, _) = tokio::join!(client.get("/a"), origin.answer(whole));
        assert_eq!((next.status, next.text()), (200, "whole"), "{broken}");
        assert_eq!(origin.count(), asked + 1, "{broken}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_body_that_breaks_off_without_validator_is_cut_for_every_reader() {
    let mut origin = Origin::start().await;
    let edge = Edge::before(&origin).await;
    let mut clients = clients(&edge, 5, "/a").await;
    let mut exchange = origin.next().await;
    let length = 2 * HALF;
    exchange
        .send(format!(
            "HTTP/1.1 200 OK\r\n{FRESH}Content-Length: {length}\r\n\r\n"
        ))
        .await;
    let (_, ()) = tokio::join!(
        join_all(clients.iter_mut().map(async |client| {
            assert_eq!(client.head().await.status, 200);
            assert!(client.read(HALF).await == half(b'1'));
        })),
        exchange.send(half(b'1')),
    );
    drop(exchange);
    for client in &mut clients {
        assert_eq!(client.until_close().await, b"");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn client_that_leaves_does_not_take_the_fill_with_it() {
    let mut origin = Origin::start().await;
    let edge = Edge::before(&origin).await;
    // The first of them starts the fill.
    let mut starter = clients(&edge, 1, "/a").await.remove(0);
    let mut exchange = origin.next().await;
    let mut others = clients(&edge, 3, "/a").await;
    send_head(&mut exchange, FRESH).await;
    let (_, _, ()) = tokio::join!(
        async {
            starter.head().await;
            assert!(starter.read(HALF).await == half(b'1'));
        },
        join_all(others.iter_mut().map(async |client| {
            client.head().await;
            assert!(client.read(HALF).await == half(b'1'));
        })),
        exchange.send(half(b'1')),
    );
    drop(starter);
    let (_, ()) = tokio::join!(
        join_all(others.iter_mut().map(async |client| {
            assert!(client.read(HALF).await == half(b'2'));
        })),
        exchange.send(half(b'2')),
    );
    assert_eq!(origin.count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn response_that_may_not_be_shared_goes_to_one_client_only() {
    let mut origin = Origin::start().await;
    let edge = Edge::before(&origin).await;
    let mut clients = clients(&edge, 5, "/a").await;
    let mut number = 0;
    let mut answer = async |exchange: &mut Exchange| {
        number += 1;
        let head = "HTTP/1.1 200 OK\r\nCache-Control: private\r\nContent-Length: 1\r\n\r\n";
        exchange.send(format!("{head}{number}")).await;
    };
    let mut first = origin.next().await;
    answer(&mut first).await;
    first.finish();
    // Once that is known, the others ask side by side: all are here before one is answered.
    let mut rest = Vec::new();
    for _ in 1..clients.len() {
        rest.push(origin.next().await);
    }
    for exchange in &mut rest {
        answer(exchange).await;
    }
    let mut bodies = Vec::new();
    for client in &mut clients {
        bodies.push(client.response("GET").await.text().to_owned());
    }
    bodies.sort();
    assert_eq!(bodies, ["1", "2", "3", "4", "5"]);
    assert_eq!(origin.count(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failed_connect_answers_every_waiter() {
    let origin = Origin::start().await;
    let edge = Edge::before(&origin).await;
    let address = origin.address;
    origin.answering(|_| Vec::new()).stop().await;
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
    for mut client in clients(&edge, 5, "/a").await {
        assert_eq!(client.response("GET").await.status, 502);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn object_larger_than_the_memory_tier_streams_through_bounded_memory() {
    const HALVES: usize = 48;
    let mut origin = Origin::start().await;
    let edge = Setup {
        memory: "1MiB",
        environment: SMALL_PAGES,
        ..Setup::of([origin.address])
    };
    let edge = edge.start().await;
    let before = edge.resident_bytes().await;
    let mut client = clients(&edge, 1, "/a").await.remove(0);
    let mut exchange = origin.next().await;
    let length = HALVES * HALF;
    let head =
        format!("HTTP/1.1 200 OK\r\nETag: \"v1\"\r\n{FRESH}Content-Length: {length}\r\n\r\n");
    exchange.send(head).await;
    let ((), ()) = tokio::join!(
        async {
            client.head().await;
            for _ in 0..HALVES {
                assert!(client.read(HALF).await == half(b'1'));
            }
        },
        async {
            for _ in 0..HALVES {
                exchange.send(half(b'1')).await;
            }
        },
    );
    assert_eq!(origin.count(), 1);
    let grown = edge.resident_bytes().await - before;
    assert!(
        grown < (length / 2) as f64,
        "{grown} bytes for an object of {length}"
    );
    let held = edge
        .metrics()
        .await
        .sum("tidegate_cache_bytes", &["tier=\"memory\""]);
    assert!(held <= f64::from(1 << 20), "{held}");
}
