//! How much a client may send, and how slowly it may send and take.

mod harness;

use bytes::Bytes;
use h2::client::SendRequest;
use harness::h2::{END_HEADERS, END_STREAM, kind};
use harness::{Edge, H2Client, Origin, Setup, TlsClient, block, frame};
use http::Request;
use tokio::task::JoinHandle;

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

/// An edge with a TLS listener, to which HTTP/2 is spoken, and further keys.
async fn secure_edge(origin: &Origin, further: &'static str) -> (Edge, TlsClient) {
    let setup = Setup {
        edge: further,
        certificates: vec![vec!["localhost"]],
        ..Setup::of([origin.address])
    };
    let edge = setup.start().await;
    let client = TlsClient::new(&edge.identities, &[b"h2"]);
    (edge, client)
}

#[tokio::test]
async fn who_sends_its_body_too_slowly_on_http2_gets_408_and_the_connection_goes_on() {
    let mut origin = Origin::start().await;
    let silent = "timeouts: { request_body: 100ms }";
    for (further, dribbles) in [(PACED, true), (PACED, false), (silent, false)] {
        let (edge, tls) = secure_edge(&origin, further).await;
        let mut client = H2Client::connect(&tls, edge.https, "localhost").await;
        let stream = client.open();
        let fields = [
            (":method", "PUT"),
            (":scheme", "https"),
            (":authority", "localhost"),
            (":path", "/a"),
        ];
        let mut request = frame(kind::HEADERS, END_HEADERS, stream, &block(&fields));
        if dribbles {
            request.extend(frame(kind::DATA, 0, stream, b"01"));
        }
        client.send(&request).await;
        let mut exchange = origin.next().await;
        let body = String::from_utf8(client.body_of(stream).await).unwrap();
        assert!(body.contains("<Code>RequestTimeout</Code>"), "{body}");
        let rest = exchange.closed().await;
        let ended = rest.ends_with(b"0\r\n\r\n");
        assert!(!ended, "the origin must not take it for whole: {rest:?}");
        // Only this one request is over.
        let (stream, request) = client.get("localhost", "/b");
        client.send(&request).await;
        origin
            .answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            .await;
        assert_eq!(client.body_of(stream).await, b"ok");
        let samples = edge.metrics().await;
        let label = ["reason=\"body_too_slow\""];
        assert_eq!(samples.sum("tidegate_policy_refusals_total", &label), 1.0);
        drop(client);
        let log = edge.stop().await.access_log;
        let slow = log.iter().find(|line| line["path"] == "/a").unwrap();
        assert_eq!(
            (&slow["reason"], &slow["status"]),
            (&"body_too_slow".into(), &408.into())
        );
    }
}

/// Sends `body` to `path` as far as the windows of the connection let it go; the status of its answer.
async fn upload(client: &SendRequest<Bytes>, path: &str, body: Bytes) -> JoinHandle<u16> {
    let request =
        Request::put(format!("https://localhost{path}")).header("content-length", body.len());
    let mut ready = client.clone().ready().await.unwrap();
    let sent = ready.send_request(request.body(()).unwrap(), false);
    let (response, mut stream) = sent.unwrap();
    stream.send_data(body, true).unwrap();
    tokio::spawn(async move {
        // The stream is reset when its sending half is dropped.
        let response = response.await.unwrap();
        drop(stream);
        response.status().as_u16()
    })
}

#[tokio::test]
async fn a_body_that_an_origin_leaves_unread_is_no_reason_to_cut_off_the_others_of_its_connection()
{
    let mut origin = Origin::start().await;
    let (edge, tls) = secure_edge(&origin, PACED).await;
    let (client, connection) = h2::client::handshake(tls.connect(edge.https, "localhost").await)
        .await
        .unwrap();
    tokio::spawn(connection);
    // More than the system keeps for the origin: it takes all that the client may send on the connection.
    let large = Bytes::from(vec![b'x'; 8 << 20]);
    let large_answer = upload(&client, "/large", large.clone()).await;
    let mut unread = origin.next().await;
    let small_answer = upload(&client, "/small", Bytes::from_static(b"ab")).await;
    let mut starved = origin.next().await;
    // As long as another client needs to be found too slow.
    let mut slow = edge.client().await;
    slow.send("PUT /slow HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\na")
        .await;
    assert_eq!(slow.response("PUT").await.status, 408);
    const CREATED: &str = "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(unread.read(large.len()).await.len(), large.len());
    unread.send(CREATED).await;
    assert_eq!(starved.read(2).await, b"ab");
    starved.send(CREATED).await;
    assert_eq!(large_answer.await.unwrap(), 201);
    assert_eq!(small_answer.await.unwrap(), 201);
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

#[tokio::test]
async fn who_takes_nothing_of_a_response_that_is_passed_on_is_cut_off_on_http2_too() {
    let mut origin = Origin::start().await;
    for further in [PACED, "timeouts: { write: 100ms }\nlog: { level: debug }"] {
        let (edge, tls) = secure_edge(&origin, further).await;
        let mut client = H2Client::connect(&tls, edge.https, "localhost").await;
        let stream = client.open();
        let fields = [
            (":method", "POST"),
            (":scheme", "https"),
            (":authority", "localhost"),
            (":path", "/a"),
        ];
        let flags = END_HEADERS | END_STREAM;
        let request = frame(kind::HEADERS, flags, stream, &block(&fields));
        client.send(&request).await;
        let mut exchange = origin.next().await;
        // More than the client's window, which it never opens.
        exchange
            .send("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
            .await;
        exchange.send(vec![b'x'; 100_000]).await;
        let frames = client.until_end_of(stream).await;
        assert_eq!(frames.last().unwrap().kind, kind::RST_STREAM, "{frames:?}");
        drop(client);
        let log = edge.stop().await.access_log;
        assert_eq!(
            (&log[0]["reason"], &log[0]["aborted"]),
            (&"client_too_slow".into(), &true.into())
        );
    }
}
