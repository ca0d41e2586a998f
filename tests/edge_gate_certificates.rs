//! Clients that show a certificate in the handshake (mutual TLS).

mod harness;
mod tls_support;

use harness::{AnsweringOrigin, Edge, Origin, Setup};
use tls_support::Authority;

const REQUEST: &str =
    "GET /a HTTP/1.1\r\nHost: localhost\r\nX-Subject: CN=forged\r\nConnection: close\r\n\r\n";

/// An origin that says what it is told about the client's certificate.
async fn origin() -> AnsweringOrigin {
    Origin::start().await.answering(|request| {
        let body = request.field("x-subject").unwrap_or("none").to_owned();
        let head =
            "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nVary: X-Subject\r\nContent-Length:";
        format!("{head} {}\r\n\r\n{body}", body.len()).into_bytes()
    })
}

async fn edge(origin: &AnsweringOrigin, listener: &'static str) -> Edge {
    let setup = Setup {
        listener,
        ..Setup::of([origin.address])
    };
    setup.start().await
}

#[tokio::test]
async fn only_clients_of_the_authority_are_served_and_each_is_known_by_its_name() {
    let authority = Authority::new();
    let origin = origin().await;
    let edge = edge(&origin, authority.listener(", forward_as: x-subject")).await;
    for name in ["player", "caf\u{e9} 100%", "player"] {
        let identity = authority.client(name);
        let answer = authority
            .exchange(edge.http, Some(&identity), REQUEST)
            .await
            .unwrap();
        let encoded = name.replace('%', "%25").replace('\u{e9}', "%C3%A9");
        assert!(
            answer.ends_with(&format!("\r\n\r\nCN={encoded}")),
            "{answer}"
        );
    }
    assert_eq!(origin.count(), 2, "one stored response for each name");
    let stranger = Authority::new().client("player");
    for identity in [None, Some(&stranger)] {
        let refused = authority.exchange(edge.http, identity, REQUEST).await;
        assert!(refused.is_err(), "{refused:?}");
    }
    let samples = edge.metrics().await;
    let label = ["reason=\"client_certificate\""];
    assert_eq!(
        samples.sum("tidegate_connection_refusals_total", &label),
        2.0
    );
    assert_eq!(origin.count(), 2);
    let log = edge.stop().await.access_log;
    let names: Vec<_> = log
        .iter()
        .map(|line| line["certificate"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["CN=player", "CN=caf%C3%A9 100%25", "CN=player"]);
}

#[tokio::test]
async fn where_none_is_required_nobody_else_is_taken_for_a_name() {
    let authority = Authority::new();
    let origin = origin().await;
    let listener = authority.listener(", required: false, forward_as: x-subject");
    let edge = edge(&origin, listener).await;
    for (method, expected) in [("GET", "none"), ("POST", "none")] {
        let request = REQUEST
            .replace("GET", method)
            .replace("Connection", "Content-Length: 0\r\nConnection");
        let answer = authority.exchange(edge.http, None, &request).await.unwrap();
        assert!(answer.ends_with(&format!("\r\n\r\n{expected}")), "{answer}");
    }
    let identity = authority.client("player");
    let post = REQUEST
        .replace("GET", "POST")
        .replace("Connection", "Content-Length: 0\r\nConnection");
    let answer = authority
        .exchange(edge.http, Some(&identity), &post)
        .await
        .unwrap();
    assert!(answer.ends_with("\r\n\r\nCN=player"), "{answer}");
    let stranger = Authority::new().client("player");
    assert!(
        authority
            .exchange(edge.http, Some(&stranger), REQUEST)
            .await
            .is_err()
    );
}
