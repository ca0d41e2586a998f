//! Every reason for which the gate and its policies refuse: each is provoked, counted and logged. A reason that is
//! added without being provoked here fails.

mod harness;
mod tls_support;

use harness::{Client, Edge, Origin, Setup};
use tidegate::edge::admit::GateRefusal;
use tidegate::edge::policy::{ConnectionRefusal, PolicyRefusal};

const REQUEST: &str = "GET /a HTTP/1.1\r\nHost: media.example\r\n\r\n";

/// An edge with further keys for its listener, its route and itself.
async fn edge(origin: &Origin, listener: &'static str, route: &str, edge: &'static str) -> Edge {
    let comma = if route.is_empty() { "" } else { ", " };
    let routes = format!("- {{ name: all, path: /, origin: store, access: public{comma}{route} }}");
    let setup = Setup {
        listener,
        routes: routes.leak(),
        edge,
        ..Setup::of([origin.address])
    };
    setup.start().await
}

/// Makes the edge close a connection for `reason`; gives the connections that must stay open for that.
async fn provoke_connection(origin: &Origin, reason: &str) -> (Edge, Vec<Client>) {
    const PROXY: &str = "proxy_protocol: required";
    const TRUSTED: &str = "trusted_proxies: [127.0.0.1]";
    let mut open = Vec::new();
    let edge = match reason {
        "address_denied" => edge(origin, "allow: [192.0.2.0/24]", "", "").await,
        "too_many_connections" | "too_many_connections_of_client" => {
            let listener = match reason {
                "too_many_connections" => "limits: { connections: 1 }",
                _ => "limits: { connections_per_client: 1 }",
            };
            let edge = edge(origin, listener, "", "").await;
            let mut first = edge.client().await;
            // Answered, so that its place is taken for certain.
            first
                .send("GET /a HTTP/1.1\r\nHost: h\r\nCache-Control: only-if-cached\r\n\r\n")
                .await;
            assert_eq!(first.response("GET").await.status, 504);
            open.push(first);
            edge
        }
        "untrusted_proxy" => edge(origin, PROXY, "", "trusted_proxies: [192.0.2.1]").await,
        "proxy_header" => edge(origin, PROXY, "", TRUSTED).await,
        "proxy_header_timeout" => {
            let short = "trusted_proxies: [127.0.0.1]\n  timeouts: { request_head: 100ms }";
            edge(origin, PROXY, "", short).await
        }
        "client_certificate" => {
            let authority = tls_support::Authority::new();
            let edge = edge(origin, authority.listener(""), "", "").await;
            let refused = authority.exchange(edge.http, None, REQUEST).await;
            assert!(refused.is_err(), "{refused:?}");
            return (edge, open);
        }
        other => panic!("nothing here provokes {other}"),
    };
    let mut refused = edge.client().await;
    if reason != "proxy_header_timeout" {
        refused.send_regardless(REQUEST).await;
    }
    assert_eq!(refused.until_close().await, b"", "{reason}");
    (edge, open)
}

/// Makes the edge refuse a request for `reason`.
async fn provoke_request(origin: &mut Origin, reason: &str) -> Edge {
    const CORS: &str = "cors: { origins: [https://a.example], methods: [GET], headers: [range] }";
    let preflight = |origin: &str, method: &str, header: &str| {
        format!(
            "OPTIONS /a HTTP/1.1\r\nHost: h\r\nOrigin: {origin}\r\nAccess-Control-Request-Method: {method}\r\nAccess-Control-Request-Headers: {header}\r\n\r\n"
        )
    };
    let (edge, request, status) = match reason {
        "address_denied" => {
            let edge = edge(origin, "", "deny: [127.0.0.0/8]", "").await;
            (edge, REQUEST.to_owned(), 403)
        }
        "rate_limited" => {
            let limit = "limits: { requests_per_client: { rate: 1/h, burst: 1 } }";
            let edge = edge(origin, "", limit, "").await;
            let only = "Cache-Control: only-if-cached\r\n";
            assert_eq!(
                edge.client().await.request("GET", "/a", only).await.status,
                504
            );
            (edge, REQUEST.to_owned(), 429)
        }
        "body_too_large" => {
            let edge = edge(origin, "", "limits: { request_body: 1B }", "").await;
            let request = "PUT /a HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nab";
            (edge, request.to_owned(), 413)
        }
        "body_too_slow" => {
            let short = "timeouts: { request_body: 100ms }";
            let edge = edge(origin, "", "", short).await;
            let request = "PUT /a HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\na";
            (edge, request.to_owned(), 408)
        }
        "client_too_slow" => {
            let short = "timeouts: { write: 100ms }\nlog: { level: debug }";
            let mut edge = edge(origin, "", "", short).await;
            let mut client = edge.client().await;
            client.send(REQUEST).await;
            let mut exchange = origin.next().await;
            exchange
                .send("HTTP/1.1 200 OK\r\nContent-Length: 33554432\r\n\r\n")
                .await;
            let body = vec![b'x'; 32 << 20];
            let (_, _) = tokio::join!(exchange.try_send(&body), edge.logged(reason));
            return edge;
        }
        "cors_origin" => {
            let edge = edge(origin, "", CORS, "").await;
            (edge, preflight("https://b.example", "GET", "range"), 403)
        }
        "cors_method" => {
            let edge = edge(origin, "", CORS, "").await;
            (edge, preflight("https://a.example", "PUT", "range"), 403)
        }
        "cors_field" => {
            let edge = edge(origin, "", CORS, "").await;
            (edge, preflight("https://a.example", "GET", "x-other"), 403)
        }
        other => panic!("nothing here provokes {other}"),
    };
    let mut client = edge.client().await;
    client.send(request).await;
    let refused = client.response("GET").await;
    assert_eq!(refused.status, status, "{reason}: {refused:?}");
    assert_eq!(refused.field("retry-after").is_some(), status == 429);
    edge
}

/// Makes the gate refuse a request for `reason`.
async fn provoke_gate(origin: &Origin, reason: &str) -> Edge {
    let with = |fields: &str| format!("PUT /a HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n");
    let to = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n");
    let large = "x".repeat(32 << 10);
    let (request, status) = match reason {
        "malformed" => (with("no field"), 400),
        "bare_line_end" => ("GET /a HTTP/1.1\nHost: h\n\n".to_owned(), 400),
        "version" => ("GET /a HTTP/1.2\r\nHost: h\r\n\r\n".to_owned(), 400),
        "method" => ("TRACE /a HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), 405),
        "head_too_large" => (with(&format!("X-Large: {large}")), 431),
        "too_many_fields" => (with(&["X: 1"; 100].join("\r\n")), 431),
        "target_too_long" => (to(&format!("/{large}")), 414),
        "head_timeout" => ("GET /a HTTP/1.1\r\n".to_owned(), 408),
        "target" => (to("a"), 400),
        "dot_segment" => (to("/../a"), 400),
        "encoded_separator" => (to("/a%2fb"), 400),
        "escape" => (to("/%zz"), 400),
        "host" => ("GET /a HTTP/1.1\r\n\r\n".to_owned(), 400),
        "host_mismatch" => (to("http://other/a"), 400),
        "content_length" => (with("Content-Length: 01"), 400),
        "transfer_encoding" => (with("Transfer-Encoding: gzip"), 400),
        "ambiguous_length" => {
            let both = "Content-Length: 1\r\nTransfer-Encoding: chunked";
            (with(both), 400)
        }
        "chunks" => (with("Transfer-Encoding: chunked") + "x\r\n", 400),
        "expectation" => (with("Expect: more"), 417),
        "connection" => (with("Connection: host"), 400),
        "upgrade" => (with("Connection: upgrade\r\nUpgrade: websocket"), 400),
        "misdirected" => {
            let authority = tls_support::Authority::new();
            let listener = authority.listener(", required: false");
            let edge = edge(origin, listener, "", "").await;
            let answer = authority.exchange(edge.http, None, REQUEST).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 421 "), "{answer}");
            return edge;
        }
        other => panic!("nothing here provokes {other}"),
    };
    let timeouts = match reason {
        "head_timeout" => "timeouts: { request_head: 100ms }",
        _ => "",
    };
    let edge = edge(origin, "", "", timeouts).await;
    let mut client = edge.client().await;
    client.send_regardless(request).await;
    let refused = client.response("GET").await;
    assert_eq!(refused.status, status, "{reason}: {refused:?}");
    assert_eq!(refused.field("connection"), Some("close"), "{reason}");
    edge
}

#[tokio::test]
async fn everything_that_the_gate_refuses_is_counted_and_logged_with_its_reason() {
    let origin = Origin::start().await;
    for reason in GateRefusal::REASONS {
        let edge = provoke_gate(&origin, reason).await;
        let label = format!("reason=\"{reason}\"");
        let samples = edge.metrics().await;
        let refusals = |labels: &[&str]| samples.sum("tidegate_gate_refusals_total", labels);
        assert_eq!((refusals(&[&label]), refusals(&[])), (1.0, 1.0), "{reason}");
        let log = edge.stop().await.access_log;
        let reasons: Vec<_> = log.iter().map(|line| &line["reason"]).collect();
        assert_eq!(reasons, [reason], "{log:?}");
    }
    assert_eq!(origin.count(), 0);
}

#[tokio::test]
async fn every_refused_connection_is_counted_and_logged_with_its_reason() {
    let origin = Origin::start().await;
    for reason in ConnectionRefusal::REASONS {
        let (mut edge, open) = provoke_connection(&origin, reason).await;
        let line = edge.logged("connection refused").await;
        assert!(line.contains(reason), "{line}");
        let label = format!("reason=\"{reason}\"");
        let samples = edge.metrics().await;
        assert_eq!(
            samples.sum("tidegate_connection_refusals_total", &[&label]),
            1.0,
            "{reason}"
        );
        drop(open);
    }
    assert_eq!(origin.count(), 0);
}

#[tokio::test]
async fn every_refused_request_is_counted_and_logged_with_its_reason() {
    for reason in PolicyRefusal::REASONS {
        let mut origin = Origin::start().await;
        let edge = provoke_request(&mut origin, reason).await;
        let label = format!("reason=\"{reason}\"");
        let samples = edge.metrics().await;
        let labels = [&*label, "route=\"all\""];
        assert_eq!(
            samples.sum("tidegate_policy_refusals_total", &labels),
            1.0,
            "{reason}"
        );
        let log = edge.stop().await.access_log;
        let line = log.last().unwrap();
        assert_eq!(
            (&line["reason"], &line["route"]),
            (&(*reason).into(), &"all".into()),
            "{line}"
        );
    }
}
