//! What operators see of the requests that were served.

mod harness;

use harness::{Client, Edge, Origin, Setup, ok};

const ROUTES: &str =
    "- { name: media, host: media.example, path: /, origin: store, access: public }
    - { name: rest, path: /rest/, origin: store, access: public }";

#[tokio::test]
async fn requests_and_bytes_are_counted_once_each_under_their_labels() {
    let origin = Origin::start()
        .await
        .answering(|request| match request.target() {
            "/fresh" => ok("Cache-Control: max-age=60\r\n", "12345"),
            _ => ok("Cache-Control: no-store\r\n", "1234567"),
        });
    let setup = Setup {
        routes: ROUTES,
        ..Setup::of([origin.address])
    };
    let edge = setup.start().await;
    let mut client = edge.client().await;
    for _ in 0..4 {
        client.get("/fresh").await;
    }
    client.request("HEAD", "/fresh", "").await;
    client
        .request("GET", "/fresh", "Range: bytes=0-1\r\n")
        .await;
    for _ in 0..2 {
        client.get("/never").await;
    }
    client.request("DELETE", "/never", "").await;
    client
        .send("GET /rest/a HTTP/1.1\r\nHost: other.example\r\n\r\n")
        .await;
    assert_eq!(client.response("GET").await.status, 200);
    client
        .send("GET /nowhere HTTP/1.1\r\nHost: other.example\r\n\r\n")
        .await;
    assert_eq!(client.response("GET").await.status, 404);
    let mut hostile = edge.client().await;
    hostile
        .send("GET /../a HTTP/1.1\r\nHost: media.example\r\n\r\n")
        .await;
    assert_eq!(hostile.response("GET").await.status, 400);

    let metrics = edge.metrics().await;
    let requests = |labels: &[&str]| metrics.sum("tidegate_requests_total", labels);
    let media = r#"route="media""#;
    assert_eq!(requests(&[]), 12.0, "{metrics:?}");
    assert_eq!(requests(&[media]), 9.0, "{metrics:?}");
    assert_eq!(
        requests(&[media, r#"outcome="hit""#, r#"status="200""#]),
        4.0,
        "{metrics:?}"
    );
    assert_eq!(
        requests(&[media, r#"outcome="hit""#, r#"status="206""#]),
        1.0,
        "{metrics:?}"
    );
    assert_eq!(requests(&[media, r#"outcome="miss""#]), 2.0, "{metrics:?}");
    assert_eq!(
        requests(&[media, r#"outcome="method""#]),
        1.0,
        "{metrics:?}"
    );
    assert_eq!(requests(&[r#"route="rest""#]), 1.0, "{metrics:?}");
    assert_eq!(requests(&[r#"route="""#]), 2.0, "{metrics:?}");
    assert_eq!(
        requests(&[r#"outcome="refused""#, r#"status="400""#]),
        1.0,
        "{metrics:?}"
    );
    assert_eq!(requests(&[r#"protocol="http/1.1""#]), 12.0, "{metrics:?}");

    let bytes = |source: &str| {
        metrics.sum(
            "tidegate_response_bytes_total",
            &[media, &format!("source=\"{source}\"")],
        )
    };
    assert_eq!(bytes("memory"), 3.0 * 5.0 + 2.0, "{metrics:?}");
    assert_eq!(bytes("origin"), 5.0 + 2.0 * 7.0 + 7.0, "{metrics:?}");
    assert_eq!(bytes("disk"), 0.0);

    let origin_requests = metrics.sum("tidegate_origin_requests_total", &[r#"result="2xx""#]);
    assert_eq!(origin_requests, origin.count() as f64, "{metrics:?}");
    let timed = metrics.sum("tidegate_request_duration_seconds_count", &[media]);
    assert_eq!(timed, 9.0, "{metrics:?}");
    assert_eq!(metrics.sum("tidegate_gate_refusals_total", &[]), 1.0);
    // `/fresh`; what is remembered of `/never` is no response.
    let objects = metrics.sum("tidegate_cache_objects", &[r#"tier="memory""#]);
    assert_eq!(objects, 1.0, "{metrics:?}");
    assert_eq!(
        metrics.sum("tidegate_cache_limit_bytes", &[r#"tier="memory""#]),
        f64::from(64 << 20)
    );
    assert_eq!(metrics.sum("tidegate_origin_healthy", &[]), 1.0);
    // The two clients above are still connected.
    assert_eq!(metrics.sum("tidegate_connections", &[]), 2.0, "{metrics:?}");
    assert_eq!(metrics.sum("tidegate_build_info", &[]), 1.0);
}

#[tokio::test]
async fn every_request_has_one_line_in_the_access_log() {
    let origin = Origin::start().await.answering(|_| {
        ok(
            "Cache-Control: max-age=60\r\nETag: \"v1\"\r\n",
            "0123456789",
        )
    });
    let edge = Setup::of([origin.address]).start().await;
    let server = origin.address.to_string();
    let mut client = edge.client().await;
    let fields = "User-Agent: probe/1 \"q\"\r\nReferer: https://a.example/p?secret=1\r\n";
    client.request("GET", "/a?x=1", fields).await;
    client
        .request("GET", "/a?x=1", "Range: bytes=2-4\r\n")
        .await;
    client.request("PUT", "/b", "Content-Length: 0\r\n").await;
    client
        .send("GET /../c HTTP/1.1\r\nHost: media.example\r\n\r\n")
        .await;
    client.response("GET").await;
    let stopped = edge.stop().await;
    assert!(stopped.status.success(), "{:?}", stopped.status);
    let log = stopped.access_log;
    assert_eq!(log.len(), 4, "{log:#?}");

    let (miss, hit, put, refused) = (&log[0], &log[1], &log[2], &log[3]);
    for line in &log {
        assert_eq!(line["client"], "127.0.0.1", "{line}");
        assert_eq!(line["protocol"], "http/1.1", "{line}");
        assert!(
            line["request_id"].is_string() && line["duration_ms"].is_number(),
            "{line}"
        );
    }
    assert_eq!(miss["outcome"], "miss");
    assert_eq!(
        (&miss["path"], &miss["query"]),
        (&"/a".into(), &"x=1".into())
    );
    assert_eq!(
        (&miss["status"], &miss["bytes"], &miss["source"]),
        (&200.into(), &10.into(), &"origin".into())
    );
    assert_eq!(miss["user_agent"], "probe/1 \"q\"");
    assert_eq!(miss["referer"], "https://a.example/p");
    assert_eq!(miss["origin_server"], server);
    assert_eq!(miss["route"], "all");

    assert_eq!(hit["outcome"], "hit");
    assert_eq!(
        (&hit["status"], &hit["bytes"], &hit["source"]),
        (&206.into(), &3.into(), &"memory".into())
    );
    assert_eq!(
        (&hit["range"], &hit["content_range"]),
        (&"bytes=2-4".into(), &"bytes 2-4/10".into())
    );
    assert!(hit.get("origin_server").is_none(), "{hit}");

    assert_eq!(
        (&put["method"], &put["outcome"]),
        (&"PUT".into(), &"method".into())
    );
    assert_eq!(put["origin_server"], server);
    assert_eq!(
        (&refused["outcome"], &refused["status"]),
        (&"refused".into(), &400.into())
    );
    assert_eq!(refused["reason"], "dot_segment");
}

#[tokio::test]
async fn admin_address_answers_health_and_readiness() {
    let origin = Origin::start().await;
    let edge = Edge::before(&origin).await;
    let mut admin = Client::connect(edge.admin).await;
    for (path, status, text) in [("/healthz", 200, "ok\n"), ("/readyz", 200, "ready\n")] {
        let response = admin.get(path).await;
        assert_eq!((response.status, response.text()), (status, text));
    }
    assert!(admin.get("/").await.text().contains("/metrics"));
    assert_eq!(admin.get("/nothing").await.status, 404);
    let refusal = admin.request("DELETE", "/metrics", "").await;
    assert_eq!(
        (refusal.status, refusal.field("allow")),
        (405, Some("GET, HEAD"))
    );
    let head = admin.request("HEAD", "/metrics", "").await;
    assert_eq!(head.status, 200);
    assert_eq!(
        head.field("content-type"),
        Some("text/plain; version=0.0.4")
    );
    // Clients see none of this.
    let mut client = edge.client().await;
    let (response, _) = tokio::join!(client.get("/metrics"), async {
        let mut origin = origin;
        origin.answer(ok("", "theirs")).await
    });
    assert_eq!(response.text(), "theirs");
}

#[tokio::test]
async fn request_in_flight_is_finished_after_a_stop_signal() {
    let mut origin = Origin::start().await;
    let mut edge = Edge::before(&origin).await;
    let mut client = edge.client().await;
    client
        .send("GET /a HTTP/1.1\r\nHost: media.example\r\n\r\n")
        .await;
    let mut exchange = origin.next().await;
    exchange
        .send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n12")
        .await;
    client.head().await;
    assert_eq!(client.read(2).await, b"12");
    edge.ask_to_stop();
    exchange.send("34").await;
    assert_eq!(client.read(2).await, b"34");
    assert_eq!(client.until_close().await, b"");
    assert!(edge.ended().await.status.success());
}
