//! Purging: the admin API and the command line, and what a purge does to what is stored.

mod harness;

use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use harness::{AnsweringOrigin, Client, Edge, Origin, Response, Setup, ok};

/// Sends `order` to the admin address.
async fn purge(edge: &Edge, order: &str) -> Response {
    let mut admin = Client::connect(edge.admin).await;
    let length = order.len();
    let head = format!(
        "POST /purge HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n"
    );
    admin.send(head + order).await;
    admin.response("POST").await
}

/// Sends `order`, which must be taken, and gives its sequence.
async fn purged(edge: &Edge, order: &str) -> u64 {
    let response = purge(edge, order).await;
    assert_eq!(response.status, 200, "{response:?}");
    let answer: serde_json::Value = serde_json::from_str(response.text()).unwrap();
    answer["sequence"].as_u64().unwrap()
}

/// An edge in front of an origin whose answers are fresh for a minute, vary by language, can be
/// validated, carry host and path as a tag, and count how often one was made.
async fn edge_and_origin() -> (Edge, AnsweringOrigin) {
    let made = AtomicUsize::new(0);
    let origin = Origin::start().await.answering(move |request| {
        let fields = "Cache-Control: max-age=60\r\nETag: \"v1\"\r\nVary: Accept-Language\r\n";
        if request.field("if-none-match") == Some("\"v1\"") {
            return format!("HTTP/1.1 304 Not Modified\r\n{fields}\r\n");
        }
        let (host, target) = (request.field("host").unwrap(), request.target());
        let tag = format!("Cache-Tag: all, {host}{target}\r\n");
        let body = (made.fetch_add(1, Ordering::Relaxed) + 1).to_string();
        ok(&format!("{fields}{tag}"), &body)
    });
    let edge = Setup::of([origin.address]).start().await;
    (edge, origin)
}

async fn get(client: &mut Client, host: &str, target: &str, language: &str) -> Response {
    let request =
        format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nAccept-Language: {language}\r\n\r\n");
    client.send(request).await;
    client.response("GET").await
}

const STORED: [(&str, &str); 4] = [
    ("a.example", "/d/x"),
    ("a.example", "/d/x?q"),
    ("a.example", "/e"),
    ("b.example", "/d/x"),
];

#[tokio::test]
async fn each_kind_of_purge_touches_all_variants_of_what_it_names_and_nothing_else() {
    let (edge, origin) = edge_and_origin().await;
    let mut client = edge.client().await;
    for (host, target) in STORED {
        for language in ["de", "fr"] {
            get(&mut client, host, target, language).await;
        }
    }
    for (order, touched) in [
        (r#""url": "http://A.example:80/d/x""#, &[0][..]),
        (r#""url": "http://a.example/d/x?q""#, &[1]),
        (r#""url": "https://a.example/d/x""#, &[]),
        (r#""tag": "a.example/e""#, &[2]),
        (r#""tags": ["b.example/d/x", "a.example/e"]"#, &[2, 3]),
        (r#""tag": "all""#, &[0, 1, 2, 3]),
        (r#""prefix": "/d/""#, &[0, 1, 3]),
        (r#""prefix": "http://b.example/d""#, &[3]),
        (r#""prefix": "/d", "host": "a.example""#, &[0, 1]),
        (r#""host": "a.example""#, &[0, 1, 2]),
        (r#""host": "example""#, &[]),
    ] {
        for (soft, is_validated) in [(false, false), (true, true)] {
            let before = origin.count();
            purged(&edge, &format!("{{{order}, \"soft\": {soft}}}")).await;
            for (place, (host, target)) in STORED.iter().enumerate() {
                for language in ["de", "fr"] {
                    let response = get(&mut client, host, target, language).await;
                    let is_touched = touched.contains(&place);
                    assert_eq!(
                        response.is_hit(),
                        !is_touched,
                        "{order} {soft} {host}{target}: {response:?}"
                    );
                    let again = get(&mut client, host, target, language).await;
                    assert!(again.is_hit(), "{order} {soft}: {again:?}");
                    assert_eq!(again.body, response.body);
                }
            }
            let requests = &origin.requests()[before..];
            assert_eq!(requests.len(), 2 * touched.len(), "{order} {soft}");
            for request in requests {
                let validated = request.field("if-none-match").is_some();
                assert_eq!(validated, is_validated, "{order} {soft}: {}", request.head);
            }
        }
    }
}

#[tokio::test]
async fn response_under_way_while_a_purge_comes_is_not_used_again() {
    for order in [
        r#"{"url": "http://media.example/a"}"#,
        r#"{"tag": "t", "soft": true}"#,
    ] {
        let mut origin = Origin::start().await;
        let edge = Edge::before(&origin).await;
        let answer = |body| ok("Cache-Control: max-age=60\r\nCache-Tag: t\r\n", body);
        let mut first = edge.client().await;
        first
            .send("GET /a HTTP/1.1\r\nHost: media.example\r\n\r\n")
            .await;
        let mut asked_before = origin.next().await;
        purged(&edge, order).await;
        // Whoever asks now must not be given what the origin may have read before the purge.
        let mut second = edge.client().await;
        second
            .send("GET /a HTTP/1.1\r\nHost: media.example\r\n\r\n")
            .await;
        let mut asked_after = origin.next().await;
        asked_after.send(answer("new")).await;
        assert_eq!(second.response("GET").await.text(), "new", "{order}");
        asked_before.send(answer("old")).await;
        assert_eq!(first.response("GET").await.text(), "old", "{order}");
        let mut client = edge.client().await;
        client
            .send("GET /a HTTP/1.1\r\nHost: media.example\r\n\r\n")
            .await;
        // The old answer may have taken the place of the new one, but it is purged all the same.
        let third = tokio::select! {
            third = client.response("GET") => third,
            mut exchange = origin.next() => {
                exchange.send(answer("new")).await;
                client.response("GET").await
            }
        };
        assert_eq!(third.text(), "new", "{order}");
    }
}

/// A GET of `/a` that nobody but the edge is asked for.
async fn get_a(edge: &Edge, fields: &str) -> Response {
    edge.client().await.request("GET", "/a", fields).await
}

const SOFT: &str = r#"{"url": "http://media.example/a", "soft": true}"#;
const HARD: &str = r#"{"url": "http://media.example/a"}"#;

#[tokio::test]
async fn response_that_was_purged_softly_answers_while_it_is_validated() {
    let mut origin = Origin::start().await;
    let edge = Edge::before(&origin).await;
    let fields = "Cache-Control: max-age=60, stale-while-revalidate=60\r\nETag: \"v1\"\r\n";
    tokio::join!(get_a(&edge, ""), origin.answer(ok(fields, "one")));
    for (changed, body) in [(false, "one"), (true, "two")] {
        purged(&edge, SOFT).await;
        // The origin is asked, and stays silent until two clients have their answer.
        let (stale, mut exchange) = tokio::join!(get_a(&edge, ""), origin.next());
        assert_eq!(exchange.request.field("if-none-match"), Some("\"v1\""));
        for stale in [stale, get_a(&edge, "").await] {
            let shown = "tidegate; hit; ttl=0; detail=stale-while-revalidate";
            assert_eq!((stale.cache_status(), stale.text()), (shown, "one"));
        }
        let answer = if changed {
            ok("Cache-Control: max-age=60\r\n", body)
        } else {
            format!("HTTP/1.1 304 Not Modified\r\n{fields}\r\n")
        };
        // Who wants nothing stale waits for that validation.
        let (fresh, ()) = tokio::join!(
            get_a(&edge, "Cache-Control: min-fresh=1\r\n"),
            exchange.send(answer),
        );
        assert_eq!(fresh.text(), body);
        exchange.finish();
        let hit = get_a(&edge, "").await;
        assert!(hit.is_hit() && !hit.cache_status().contains("detail"));
        assert_eq!(hit.text(), body);
    }
    assert_eq!(origin.count(), 3);
}

#[tokio::test]
async fn response_that_was_purged_softly_answers_when_the_origin_fails_and_may_not_otherwise() {
    let gone = "tidegate; fwd=miss; detail=origin_connect";
    let stale = "tidegate; fwd=stale; detail=origin_connect";
    for (order, fields, status, cache_status) in [
        (SOFT, "", 200, "tidegate; fwd=stale; detail=stale-if-error"),
        (SOFT, ", stale-if-error=0", 502, stale),
        (SOFT, ", must-revalidate", 502, stale),
        (HARD, "", 502, gone),
    ] {
        let mut origin = Origin::start().await;
        let edge = Edge::before(&origin).await;
        let fields = format!("Cache-Control: max-age=60{fields}\r\nETag: \"v1\"\r\n");
        tokio::join!(get_a(&edge, ""), origin.answer(ok(&fields, "one")));
        purged(&edge, order).await;
        origin.answering(|_| Vec::new()).stop().await;
        let response = get_a(&edge, "").await;
        let found = (response.status, response.cache_status());
        assert_eq!(found, (status, cache_status), "{order} {fields}");
        if status == 200 {
            assert_eq!(response.text(), "one");
            // The origin is given some rest.
            let next = get_a(&edge, "").await;
            let shown = "tidegate; hit; ttl=0; detail=stale-if-error";
            assert_eq!((next.cache_status(), next.text()), (shown, "one"));
        }
    }
}

#[tokio::test]
async fn purges_outlive_a_restart_when_a_disk_is_configured() {
    let origin = Origin::start().await;
    let disk = tempfile::tempdir().unwrap();
    let path = disk.path().join("cache");
    for round in 0..3 {
        let setup = Setup {
            cache: format!("disk: {{ path: {path:?}, size: 64MiB }}"),
            ..Setup::of([origin.address])
        };
        let edge = setup.start().await;
        let metrics = edge.metrics().await;
        let rules = if round == 0 {
            0.0
        } else {
            1.0 + f64::from(round)
        };
        assert_eq!(metrics.sum("tidegate_purge_rules", &[]), rules);
        let order = format!(r#"{{"url": "http://h/{round}"}}"#);
        let sequence = purged(&edge, &order).await;
        assert_eq!(sequence, round as u64 * 2 + 1);
        purged(&edge, r#"{"tag": "t"}"#).await;
        assert!(edge.stop().await.status.success());
    }
}

#[tokio::test]
async fn purges_are_counted() {
    let (edge, _origin) = edge_and_origin().await;
    let mut client = edge.client().await;
    get(&mut client, "a.example", "/a", "de").await;
    purged(&edge, r#"{"tags": ["all", "x", "y"]}"#).await;
    purged(&edge, r#"{"tag": "all", "soft": true}"#).await;
    purged(&edge, r#"{"host": "g"}"#).await;
    for _ in 0..3 {
        get(&mut client, "a.example", "/a", "de").await;
    }
    let metrics = edge.metrics().await;
    let purges = |labels: &[&str]| metrics.sum("tidegate_purges_total", labels);
    assert_eq!(purges(&[r#"kind="tag""#, r#"severity="hard""#]), 3.0);
    assert_eq!(purges(&[r#"kind="tag""#, r#"severity="soft""#]), 1.0);
    assert_eq!(purges(&[r#"kind="host""#]), 1.0);
    assert_eq!(purges(&[]), 5.0);
    assert_eq!(metrics.sum("tidegate_purge_rules", &[]), 4.0);
    let found = metrics.sum("tidegate_purged_responses_total", &[]);
    assert_eq!(found, 1.0, "{metrics:?}");
}

#[tokio::test]
async fn admin_address_takes_purges_and_nothing_that_only_looks_like_one() {
    let origin = Origin::start().await;
    let edge = Edge::before(&origin).await;
    let mut admin = Client::connect(edge.admin).await;
    let index = admin.get("/").await;
    assert!(index.text().contains("/purge "), "{index:?}");
    let get = admin.get("/purge").await;
    assert_eq!((get.status, get.field("allow")), (405, Some("POST")));
    for (fields, status) in [
        ("Host: localhost\r\nContent-Type: text/plain\r\n", 415),
        (
            "Host: evil.example\r\nContent-Type: application/json\r\n",
            403,
        ),
    ] {
        let body = r#"{"tag": "x"}"#;
        let length = body.len();
        let head = format!("POST /purge HTTP/1.1\r\n{fields}Content-Length: {length}\r\n\r\n");
        admin.send(head + body).await;
        let response = admin.response("POST").await;
        assert_eq!(response.status, status, "{response:?}");
    }
    let refused = purge(&edge, r#"{"tag": "x", "sfot": true}"#).await;
    assert_eq!(refused.status, 400);
    assert!(
        refused.text().contains(r#"unknown key \"sfot\""#),
        "{refused:?}"
    );
    let metrics = edge.metrics().await;
    assert_eq!(metrics.sum("tidegate_purge_rules", &[]), 0.0);
}

fn tidegate_purge(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.arg("purge").args(arguments).stdin(Stdio::null());
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn command_line_purges_and_says_what() {
    let origin = Origin::start().await;
    let edge = Edge::before(&origin).await;
    let config = edge.config.to_str().unwrap();
    let admin = edge.admin.to_string();
    for (arguments, expected) in [
        (
            &["--config", config, "--tag", "a", "--tag", "b"][..],
            "purged: tag \"a\"\npurged: tag \"b\"\nsequence 1\n",
        ),
        (
            &["--admin", &admin, "--url", "http://H/a", "--soft"],
            "made stale: URL http://h/a\nsequence 2\n",
        ),
        (
            &["--admin", &admin, "--host", "h", "--prefix", "/d/"],
            "purged: prefix h/d/\nsequence 3\n",
        ),
    ] {
        let output = tidegate_purge(arguments);
        assert_eq!(text(&output.stdout), expected, "{output:?}");
        assert_eq!(output.status.code(), Some(0));
    }
    let slip = tidegate_purge(&["--admin", &admin, "--url", "h/a"]);
    assert_eq!(slip.status.code(), Some(2));
    let said = text(&slip.stderr);
    assert!(said.contains("url is not a URL that can be stored") && said.contains("\nnext: "));
    assert!(edge.stop().await.status.success());
    let gone = tidegate_purge(&["--admin", &admin, "--tag", "a"]);
    assert_eq!(gone.status.code(), Some(1));
    let said = text(&gone.stderr);
    assert!(
        said.contains(&format!("no node answers at {admin}")),
        "{said}"
    );
}
