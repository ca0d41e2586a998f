//! Purging: the admin API and the command line, and what a purge does to what is stored.

mod harness;

use std::process::{Command, Output, Stdio};

use harness::{Client, Edge, Origin, Response, Setup};

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
