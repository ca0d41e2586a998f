//! What streams of HTTP/2 have to themselves: windows, and the way to pingora's proxy.

mod harness;

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use harness::{AnsweringOrigin, Edge, Origin, Setup, TlsClient, ok};
use http::{HeaderMap, Request, Response};

const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

async fn edge_before(origin: &AnsweringOrigin, routes: &'static str) -> Edge {
    let setup = Setup {
        routes,
        certificates: vec![vec!["localhost"]],
        ..Setup::of([origin.address])
    };
    setup.start().await
}

const PUBLIC: &str = "- { name: all, path: /, origin: store, access: public }";

async fn connect(edge: &Edge, builder: &Builder) -> SendRequest<Bytes> {
    let tls = TlsClient::new(&edge.identities, &[b"h2"]);
    let stream = tls.connect(edge.https, "localhost").await;
    let (client, connection) = builder.handshake(stream).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn ask(
    client: &SendRequest<Bytes>,
    method: &str,
    fields: &[(&str, &str)],
) -> (Response<()>, Vec<u8>) {
    let mut request = Request::builder().method(method).uri("https://localhost/a");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let mut ready = client.clone().ready().await.unwrap();
    let sent = ready.send_request(request.body(()).unwrap(), true);
    let (head, mut body) = sent.unwrap().0.await.unwrap().into_parts();
    let mut bytes = Vec::new();
    while let Some(part) = body.data().await {
        let part = part.unwrap();
        body.flow_control().release_capacity(part.len()).unwrap();
        bytes.extend(part);
    }
    (Response::from_parts(head, ()), bytes)
}

fn value<'a>(fields: &'a HeaderMap, name: &str) -> Option<&'a str> {
    fields.get(name).map(|value| value.to_str().unwrap())
}

#[tokio::test]
async fn what_is_passed_reaches_the_origin_as_it_was_sent() {
    let origin = Origin::start().await.answering(|_| ok("", "x"));
    let routes = "- { name: all, path: /, origin: store, access: public, cors: { origins: '*' } }";
    let edge = edge_before(&origin, routes).await;
    let client = connect(&edge, &Builder::new()).await;
    let sent = [
        ("if-match", "\"a\""),
        ("range", "bytes=0-1"),
        ("origin", "https://a.example"),
        ("x-one", "a"),
        ("x-one", "b"),
    ];
    for method in ["GET", "HEAD", "DELETE"] {
        let (head, _) = ask(&client, method, &sent).await;
        assert_eq!(head.status(), 200, "{method}");
        let request = origin.requests().pop().unwrap();
        assert_eq!((request.method(), request.target()), (method, "/a"));
        assert_eq!(request.field("host"), Some("localhost"), "{method}");
        for (name, value) in &sent[..3] {
            assert_eq!(request.fields(name), [*value], "{method}");
        }
        assert_eq!(request.fields("x-one"), ["a", "b"], "{method}");
    }
}

#[tokio::test]
async fn what_the_cache_passes_reaches_the_origin_with_what_was_taken_out_for_it() {
    let never_stored = "Cache-Control: no-store\r\n";
    let origin = Origin::start().await.answering(|_| ok(never_stored, "x"));
    let routes = "- { name: all, path: /, origin: store, access: public, cors: { origins: '*' } }";
    let edge = edge_before(&origin, routes).await;
    let client = connect(&edge, &Builder::new()).await;
    let sent = [("origin", "https://a.example"), ("x-one", "a")];
    for is_passed in [false, true] {
        ask(&client, "GET", &sent).await;
        let request = origin.requests().pop().unwrap();
        assert_eq!(request.field("x-one"), Some("a"));
        let origin = is_passed.then_some("https://a.example");
        assert_eq!(request.field("origin"), origin, "{is_passed}");
    }
}

#[tokio::test]
async fn date_is_the_origins_and_added_where_it_has_none() {
    for date in [Some(DATE), None] {
        let line = date.map_or(String::new(), |date| format!("Date: {date}\r\n"));
        let fields = format!("{line}Cache-Control: max-age=2000000000\r\n");
        let origin = Origin::start().await.answering(move |_| ok(&fields, "x"));
        let edge = edge_before(&origin, PUBLIC).await;
        let client = connect(&edge, &Builder::new()).await;
        for method in ["GET", "GET", "HEAD", "DELETE"] {
            let (head, _) = ask(&client, method, &[]).await;
            let named: Vec<_> = head.headers().get_all("date").iter().collect();
            assert_eq!(named.len(), 1, "{method}");
            let is_kept = value(head.headers(), "date") == Some(DATE);
            assert_eq!(is_kept, date.is_some(), "{method}");
        }
    }
}

#[tokio::test]
async fn body_comes_as_its_client_makes_room() {
    let body = "0123456789".repeat(100);
    let sent = ok("Cache-Control: max-age=60\r\n", &body);
    let origin = Origin::start().await.answering(move |_| sent.clone());
    let edge = edge_before(&origin, PUBLIC).await;
    for window in [100, 999, 1000, 65_535] {
        let client = connect(&edge, Builder::new().initial_window_size(window)).await;
        for method in ["GET", "DELETE", "GET"] {
            let (_, received) = ask(&client, method, &[]).await;
            assert!(received == body.as_bytes(), "{method} {window}");
        }
    }
}
