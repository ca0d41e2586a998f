//! How much a client may send, and how slowly it may send and take.

mod harness;

use harness::{Edge, Origin, Setup};

const PACED: &str = "limits: { min_receive_rate: { bytes: 1KiB, patience: 100ms }, min_send_rate: { bytes: 1KiB, patience: 100ms } }
log: { level: debug }";

async fn edge(origin: &Origin) -> Edge {
    let setup = Setup {
        routes: "- { name: all, path: /, origin: store, access: public, limits: { request_body: 10B } }",
        ..Setup::of([origin.address])
    };
    setup.start().await
}

#[tokio::test]
async fn a_body_that_is_too_long_is_refused_when_it_is_announced() {
    let mut origin = Origin::start().await;
    let edge = edge(&origin).await;
    for method in ["PUT", "GET"] {
        let mut client = edge.client().await;
        client
            .send(format!("{method} /a HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\nExpect: 100-continue\r\n\r\n"))
            .await;
        let refused = client.response(method).await;
        assert_eq!(refused.status, 413, "{refused:?}");
        assert!(refused.text().contains("<Code>EntityTooLarge</Code>"));
        assert_eq!(refused.field("connection"), Some("close"));
    }
    assert_eq!(origin.count(), 0);
    let mut client = edge.client().await;
    client
        .send("PUT /a HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n0123456789")
        .await;
    let mut exchange = origin.next().await;
    assert_eq!(exchange.read(10).await, b"0123456789");
    exchange
        .send("HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
        .await;
    assert_eq!(client.response("PUT").await.status, 201);
    let labels = ["route=\"all\"", "reason=\"body_too_large\""];
    let samples = edge.metrics().await;
    assert_eq!(samples.sum("tidegate_policy_refusals_total", &labels), 2.0);
}

#[tokio::test]
async fn a_body_without_length_is_cut_off_where_it_gets_too_long() {
    let mut origin = Origin::start().await;
    let edge = edge(&origin).await;
    let mut client = edge.client().await;
    client
        .send("PUT /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n")
        .await;
    let mut exchange = origin.next().await;
    exchange.read_until(b"0123456789").await;
    client.send("1\r\nx\r\n").await;
    let refused = client.response("PUT").await;
    assert_eq!(refused.status, 413, "{refused:?}");
    let rest = exchange.closed().await;
    let ended = rest.windows(5).any(|part| part == b"0\r\n\r\n");
    assert!(!ended, "the origin must not take it for whole: {rest:?}");
    drop(client);
    let log = edge.stop().await.access_log;
    assert_eq!(
        (&log[0]["reason"], &log[0]["status"]),
        (&"body_too_large".into(), &413.into())
    );
}

#[tokio::test]
async fn who_sends_its_body_too_slowly_gets_408() {
    let mut origin = Origin::start().await;
    let setup = Setup {
        edge: PACED,
        ..Setup::of([origin.address])
    };
    let edge = setup.start().await;
    for framing in ["Content-Length: 100000", "Transfer-Encoding: chunked"] {
        let mut client = edge.client().await;
        client
            .send(format!(
                "PUT /a HTTP/1.1\r\nHost: h\r\n{framing}\r\n\r\n5\r\n01"
            ))
            .await;
        let mut exchange = origin.next().await;
        let refused = client.response("PUT").await;
        assert_eq!(refused.status, 408, "{refused:?}");
        exchange.closed().await;
    }
    let samples = edge.metrics().await;
    let label = ["reason=\"body_too_slow\""];
    assert_eq!(samples.sum("tidegate_policy_refusals_total", &label), 2.0);
}

#[tokio::test]
async fn an_origin_that_takes_its_time_is_not_the_clients_fault() {
    let mut origin = Origin::start().await;
    let setup = Setup {
        edge: PACED,
        ..Setup::of([origin.address])
    };
    let mut edge = setup.start().await;
    let mut client = edge.client().await;
    client
        .send("PUT /a HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nab")
        .await;
    let mut exchange = origin.next().await;
    exchange.read(2).await;
    // As long as another client needs to be found too slow.
    let mut slow = edge.client().await;
    slow.send("PUT /b HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\na")
        .await;
    edge.logged("body").await;
    assert_eq!(slow.response("PUT").await.status, 408);
    exchange
        .send("HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
        .await;
    assert_eq!(client.response("PUT").await.status, 201);
}

#[tokio::test]
async fn who_takes_nothing_of_a_response_is_cut_off() {
    let origin = Origin::start().await.answering(|_| {
        // More than the system keeps for a connection.
        let mut response =
            b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 33554432\r\n\r\n"
                .to_vec();
        response.resize(response.len() + (32 << 20), b'x');
        response
    });
    let setup = Setup {
        edge: PACED,
        ..Setup::of([origin.address])
    };
    let mut edge = setup.start().await;
    for method in ["GET", "POST"] {
        let mut client = edge.client().await;
        client
            .send(format!(
                "{method} /a HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"
            ))
            .await;
        edge.logged("client_too_slow").await;
        assert!(client.try_response(method).await.is_err(), "{method}");
    }
    let log = edge.stop().await.access_log;
    for line in log {
        assert_eq!(
            (&line["reason"], &line["aborted"]),
            (&"client_too_slow".into(), &true.into())
        );
    }
}
