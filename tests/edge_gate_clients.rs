//! Who may come in, and how often: clients' addresses as trusted proxies tell them, lists of addresses,
//! limits of requests and connections.

mod harness;

use harness::{AnsweringOrigin, Client, Edge, Origin, Setup};

async fn origin() -> AnsweringOrigin {
    Origin::start().await.answering(|request| {
        let body = request
            .field("x-forwarded-for")
            .unwrap_or("none")
            .to_owned();
        let head = "HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Length:";
        format!("{head} {}\r\n\r\n{body}", body.len()).into_bytes()
    })
}

/// What the origin is told about the client of a GET with `fields`.
async fn told(client: &mut Client, fields: &str) -> String {
    let response = client.request("GET", "/a", fields).await;
    assert_eq!(response.status, 200, "{response:?}");
    response.text().to_owned()
}

async fn policy_refusals(edge: &Edge, reason: &str) -> f64 {
    let label = format!("reason=\"{reason}\"");
    let samples = edge.metrics().await;
    samples.sum("tidegate_policy_refusals_total", &[&label])
}

/// How many connections were refused for `reason`, at least one.
async fn connection_refusals(edge: &mut Edge, reason: &str) -> f64 {
    // Counted first, and then said.
    edge.logged(reason).await;
    let label = format!("reason=\"{reason}\"");
    let samples = edge.metrics().await;
    samples.sum("tidegate_connection_refusals_total", &[&label])
}

/// A connection that the edge closes without a word.
async fn is_closed(mut client: Client) -> bool {
    client.until_close().await.is_empty()
}

#[tokio::test]
async fn what_a_client_says_of_its_address_is_replaced() {
    let origin = origin().await;
    let edge = Edge::before_any(&origin).await;
    for fields in [
        "",
        "X-Forwarded-For: 192.0.2.7\r\n",
        "X-Forwarded-For: 192.0.2.7, 10.0.0.1\r\nForwarded: for=192.0.2.7\r\n",
        "Forwarded: for=192.0.2.7\r\nX-Real-IP: 192.0.2.7\r\n",
    ] {
        assert_eq!(
            told(&mut edge.client().await, fields).await,
            "127.0.0.1",
            "{fields}"
        );
    }
}

#[tokio::test]
async fn trusted_proxies_tell_who_their_clients_are() {
    let origin = origin().await;
    let setup = Setup {
        edge: "trusted_proxies: [127.0.0.0/8, 10.0.0.0/8]",
        ..Setup::of([origin.address])
    };
    let edge = setup.start().await;
    // Each request on one connection has a client of its own.
    let mut client = edge.client().await;
    for (fields, expected) in [
        ("", "127.0.0.1"),
        ("X-Forwarded-For: 192.0.2.7\r\n", "192.0.2.7"),
        (
            "X-Forwarded-For: 203.0.113.9, 192.0.2.7, 10.1.1.1\r\n",
            "192.0.2.7",
        ),
        (
            "X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-For: 2001:db8::7\r\n",
            "2001:db8::7",
        ),
        ("Forwarded: for=192.0.2.7\r\n", "127.0.0.1"),
    ] {
        assert_eq!(told(&mut client, fields).await, expected, "{fields}");
    }
    // Also when the request is passed on by pingora's proxy.
    let fields = "X-Forwarded-For: 203.0.113.9, 192.0.2.7\r\nForwarded: for=192.0.2.1\r\nContent-Length: 0\r\n";
    let response = client.request("POST", "/a", fields).await;
    assert_eq!(response.text(), "192.0.2.7");
    assert_eq!(
        origin.requests().last().unwrap().fields("forwarded"),
        [""; 0]
    );
    drop(client);
    let clients: Vec<_> = edge
        .stop()
        .await
        .access_log
        .iter()
        .map(|line| line["client"].clone())
        .collect();
    assert_eq!(clients[1], "192.0.2.7");
    assert_eq!(clients[3], "2001:db8::7");
}

#[tokio::test]
async fn forwarded_is_read_where_it_is_configured() {
    let origin = origin().await;
    let setup = Setup {
        edge: "trusted_proxies: [127.0.0.1]\n  client_address_field: forwarded",
        ..Setup::of([origin.address])
    };
    let edge = setup.start().await;
    let fields = "Forwarded: for=203.0.113.9, for=\"[2001:db8::7]:80\";proto=https\r\nX-Forwarded-For: 192.0.2.7\r\n";
    assert_eq!(told(&mut edge.client().await, fields).await, "2001:db8::7");
}

#[tokio::test]
async fn the_scheme_that_a_trusted_proxy_tells_is_keyed_and_forwarded() {
    const TRUSTED: &str = "trusted_proxies: [127.0.0.1]";
    const BY_RFC_7239: &str = "trusted_proxies: [127.0.0.1]\n  client_address_field: forwarded";
    for (trust, field, schemes) in [
        (TRUSTED, "X-Forwarded-Proto: https\r\n", ["https", "http"]),
        (
            BY_RFC_7239,
            "Forwarded: for=192.0.2.7;proto=https\r\n",
            ["https", "http"],
        ),
        // What nobody trusted says, or not in the field that is read, is overwritten.
        ("", "X-Forwarded-Proto: https\r\n", ["http", "http"]),
        (
            BY_RFC_7239,
            "X-Forwarded-Proto: https\r\n",
            ["http", "http"],
        ),
    ] {
        let origin = Origin::start().await.answering(|request| {
            let body = request.fields("x-forwarded-proto").join(", ");
            let head = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length:";
            format!("{head} {}\r\n\r\n{body}", body.len()).into_bytes()
        });
        let setup = Setup {
            edge: trust,
            ..Setup::of([origin.address])
        };
        let edge = setup.start().await;
        let mut client = edge.client().await;
        for (round, lines) in [field, "", field, ""].into_iter().enumerate() {
            let response = client.request("GET", "/a", lines).await;
            assert_eq!(response.text(), schemes[round % 2], "{trust} {lines}");
        }
        let keys = if schemes[0] == schemes[1] { 1 } else { 2 };
        assert_eq!(origin.count(), keys, "{trust} {field}");
        // Also where pingora's proxy passes the request on.
        let fields = format!("{field}Content-Length: 0\r\n");
        let response = client.request("POST", "/a", &fields).await;
        assert_eq!(response.text(), schemes[0], "{trust} {field}");
    }
}

#[tokio::test]
async fn a_proxy_header_names_the_client_of_all_its_requests() {
    let origin = origin().await;
    let setup = Setup {
        edge: "trusted_proxies: [127.0.0.1]",
        listener: "proxy_protocol: required",
        ..Setup::of([origin.address])
    };
    let mut edge = setup.start().await;
    let v2 = [
        &b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"[..],
        &[192, 0, 2, 8, 127, 0, 0, 1, 0, 80, 0, 80],
    ]
    .concat();
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0".to_vec();
    for (header, expected) in [
        (
            b"PROXY TCP4 192.0.2.7 127.0.0.1 50000 80\r\n".to_vec(),
            "192.0.2.7",
        ),
        (
            b"PROXY TCP6 2001:db8::7 ::1 50000 80\r\n".to_vec(),
            "2001:db8::7",
        ),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        (v2.clone(), "192.0.2.8"),
        (local, "127.0.0.1"),
    ] {
        let mut client = edge.client().await;
        // With the request behind it in one piece, and a second one on the connection.
        let request = b"GET /a HTTP/1.1\r\nHost: media.example\r\n\r\n";
        client.send([&header[..], request].concat()).await;
        assert_eq!(client.response("GET").await.text(), expected);
        assert_eq!(
            told(&mut client, "X-Forwarded-For: 203.0.113.9\r\n").await,
            match expected {
                // The proxy speaks for itself, and is trusted.
                "127.0.0.1" => "203.0.113.9",
                other => other,
            }
        );
    }
    // Byte by byte.
    let mut client = edge.client().await;
    for byte in v2 {
        client.send([byte]).await;
    }
    assert_eq!(told(&mut client, "").await, "192.0.2.8");
    // Without one, nothing is answered.
    let mut client = edge.client().await;
    client
        .send("GET /a HTTP/1.1\r\nHost: media.example\r\n\r\n")
        .await;
    assert!(is_closed(client).await);
    assert_eq!(connection_refusals(&mut edge, "proxy_header").await, 1.0);
}

#[tokio::test]
async fn lists_of_a_listener_close_connections_and_refuse_clients_behind_proxies() {
    let origin = origin().await;
    let setup = Setup {
        listener: "deny: [127.0.0.0/8]",
        ..Setup::of([origin.address])
    };
    let mut edge = setup.start().await;
    assert!(is_closed(edge.client().await).await);
    assert_eq!(connection_refusals(&mut edge, "address_denied").await, 1.0);

    let setup = Setup {
        edge: "trusted_proxies: [127.0.0.1]",
        listener: "allow: [192.0.2.0/24]\n      deny: [192.0.2.66]",
        ..Setup::of([origin.address])
    };
    let edge = setup.start().await;
    let mut client = edge.client().await;
    for (address, status) in [
        ("192.0.2.7", 200),
        ("::ffff:192.0.2.7", 200),
        ("192.0.2.66", 403),
        ("198.51.100.1", 403),
        ("2001:db8::7", 403),
    ] {
        let fields = format!("X-Forwarded-For: {address}\r\n");
        let response = client.request("GET", "/a", &fields).await;
        assert_eq!(response.status, status, "{address}: {response:?}");
    }
    assert_eq!(policy_refusals(&edge, "address_denied").await, 3.0);
}

#[tokio::test]
async fn lists_of_a_route_refuse_also_what_is_stored() {
    let origin = Origin::start().await.answering(|_| {
        b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 1\r\n\r\na".to_vec()
    });
    let setup = Setup {
        edge: "trusted_proxies: [127.0.0.1]",
        routes:
            "- { name: inner, path: /inner, origin: store, access: public, allow: [192.0.2.0/24] }
    - { name: all, path: /, origin: store, access: public }",
        ..Setup::of([origin.address])
    };
    let edge = setup.start().await;
    let mut client = edge.client().await;
    let inside = "X-Forwarded-For: 192.0.2.7\r\n";
    let outside = "X-Forwarded-For: 198.51.100.1\r\n";
    assert_eq!(client.request("GET", "/inner/a", inside).await.status, 200);
    assert!(client.request("GET", "/inner/a", inside).await.is_hit());
    let refused = client.request("GET", "/inner/a", outside).await;
    assert_eq!(refused.status, 403);
    assert!(refused.text().contains("<Code>AccessDenied</Code>"));
    assert_eq!(client.request("GET", "/a", outside).await.status, 200);
    let samples = edge.metrics().await;
    let labels = ["route=\"inner\"", "reason=\"address_denied\""];
    assert_eq!(samples.sum("tidegate_policy_refusals_total", &labels), 1.0);
    drop(client);
    let log = edge.stop().await.access_log;
    assert_eq!(log[2]["reason"], "address_denied");
    assert_eq!(log[2]["client"], "198.51.100.1");
    assert_eq!(log[2]["route"], "inner");
}

#[tokio::test]
async fn who_asks_too_often_is_told_when_to_come_again() {
    let origin = origin().await;
    let setup = Setup {
        edge: "trusted_proxies: [127.0.0.1]",
        listener: "limits: { requests_per_client: { rate: 1/h, burst: 5 } }",
        routes: "- { name: few, path: /few, origin: store, access: public, limits: { requests_per_client: { rate: 2/h, burst: 1 } } }
    - { name: all, path: /, origin: store, access: public }",
        ..Setup::of([origin.address])
    };
    let edge = setup.start().await;
    let mut client = edge.client().await;
    let one = "X-Forwarded-For: 2001:db8::1\r\n";
    let same = "X-Forwarded-For: 2001:db8::2\r\n";
    let other = "X-Forwarded-For: 2001:db8:0:1::1\r\n";
    assert_eq!(client.request("GET", "/few", one).await.status, 200);
    let refused = client.request("GET", "/few", same).await;
    assert_eq!(refused.status, 429, "{refused:?}");
    let wait: u64 = refused.field("retry-after").unwrap().parse().unwrap();
    assert!((1_700..=1_800).contains(&wait), "{wait}");
    assert!(refused.text().contains("<Code>SlowDown</Code>"));
    assert_eq!(refused.field("cache-control"), Some("no-store"));
    // The connection goes on, and other clients and routes are served.
    assert_eq!(client.request("GET", "/few", other).await.status, 200);
    for status in [200, 200, 200, 429] {
        assert_eq!(client.request("GET", "/a", one).await.status, status);
    }
    assert_eq!(policy_refusals(&edge, "rate_limited").await, 2.0);
    let samples = edge.metrics().await;
    assert_eq!(
        samples.sum("tidegate_policy_refusals_total", &["route=\"few\""]),
        1.0
    );
    assert_eq!(
        samples.sum("tidegate_policy_refusals_total", &["route=\"\""]),
        1.0
    );
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_until_one_has_ended() {
    let origin = origin().await;
    for (listener, reason) in [
        ("limits: { connections: 2 }", "too_many_connections"),
        (
            "limits: { connections_per_client: 2 }",
            "too_many_connections_of_client",
        ),
    ] {
        let setup = Setup {
            listener,
            ..Setup::of([origin.address])
        };
        let mut edge = setup.start().await;
        let (mut first, mut second) = (edge.client().await, edge.client().await);
        for client in [&mut first, &mut second] {
            assert_eq!(told(client, "").await, "127.0.0.1");
        }
        assert!(is_closed(edge.client().await).await);
        assert_eq!(connection_refusals(&mut edge, reason).await, 1.0);
        let last = first.request("GET", "/a", "Connection: close\r\n").await;
        assert_eq!(last.status, 200);
        assert_eq!(first.until_close().await, b"");
        // Its place is given back when the edge has seen our end of it too, and then it counts as closed.
        drop(first);
        edge.gauged("tidegate_connections", &[], 1.0).await;
        assert_eq!(told(&mut edge.client().await, "").await, "127.0.0.1");
    }
}
