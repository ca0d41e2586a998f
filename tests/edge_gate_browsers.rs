//! What is said to browsers: cross-origin rules that the edge answers for, and fields that a route changes.

mod harness;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use harness::{AnsweringOrigin, Client, Edge, Origin, Response, Setup};

/// An origin that varies by `Origin` itself, and says what its own rules are.
async fn origin() -> AnsweringOrigin {
    Origin::start().await.answering(|request| {
        let body = request.field("origin").unwrap_or("none").to_owned();
        let head = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nETag: \"v1\"\r\nVary: Origin\r\n\
            Access-Control-Allow-Origin: https://origin.example\r\nServer: careless/1\r\n\
            X-Frame-Options: ALLOW\r\nContent-Type: text/plain\r\nContent-Length:";
        format!("{head} {}\r\n\r\n{body}", body.len()).into_bytes()
    })
}

/// An edge with one route that has further keys.
async fn edge(origin: &AnsweringOrigin, keys: &str) -> Edge {
    let routes = format!("- {{ name: all, path: /, origin: store, access: public, {keys} }}");
    let setup = Setup {
        routes: routes.leak(),
        ..Setup::of([origin.address])
    };
    setup.start().await
}

async fn preflight(client: &mut Client, origin: &str, method: &str, headers: &str) -> Response {
    let fields = format!(
        "Origin: {origin}\r\nAccess-Control-Request-Method: {method}\r\nAccess-Control-Request-Headers: {headers}\r\n"
    );
    client.request("OPTIONS", "/a", &fields).await
}

/// All values of a field.
fn fields<'a>(response: &'a Response, name: &str) -> Vec<&'a str> {
    let lines = response.head.split("\r\n").skip(1);
    lines
        .filter_map(|line| line.split_once(':'))
        .filter(|(found, _)| found.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
        .collect()
}

const TWO_ORIGINS: &str = "cors: { origins: [https://a.example, https://b.example], headers: [range], expose: [etag], credentials: true }";

#[tokio::test]
async fn one_stored_response_serves_all_origins_and_each_gets_its_own_answer() {
    let origin = origin().await;
    let edge = edge(&origin, TWO_ORIGINS).await;
    let mut client = edge.client().await;
    for (number, asking) in [
        "Origin: https://a.example\r\n",
        "Origin: https://b.example\r\n",
        "Origin: https://evil.example\r\n",
        "",
    ]
    .into_iter()
    .enumerate()
    {
        let response = client.request("GET", "/a", asking).await;
        assert_eq!(response.status, 200);
        assert_eq!(response.is_hit(), number > 0, "{asking}: {response:?}");
        assert_eq!(response.text(), "none", "the origin is not told who asks");
        assert!(
            fields(&response, "vary")
                .iter()
                .any(|value| value.eq_ignore_ascii_case("origin"))
        );
        let allowed = match number {
            0 => vec!["https://a.example"],
            1 => vec!["https://b.example"],
            _ => vec![],
        };
        assert_eq!(fields(&response, "access-control-allow-origin"), allowed);
        let with = allowed.len();
        assert_eq!(
            fields(&response, "access-control-allow-credentials").len(),
            with
        );
        assert_eq!(
            fields(&response, "access-control-expose-headers").len(),
            with
        );
    }
    // A 304 lets a browser read what it has.
    let fields_304 = "Origin: https://b.example\r\nIf-None-Match: \"v1\"\r\n";
    let response = client.request("GET", "/a", fields_304).await;
    assert_eq!(response.status, 304);
    assert_eq!(
        fields(&response, "access-control-allow-origin"),
        ["https://b.example"]
    );
    assert_eq!(origin.count(), 1);
    // What is passed on tells the origin, which may have to know; the edge answers all the same.
    let posted = client
        .request(
            "POST",
            "/a",
            "Origin: https://a.example\r\nContent-Length: 0\r\n",
        )
        .await;
    assert_eq!(posted.text(), "https://a.example");
    assert_eq!(
        fields(&posted, "access-control-allow-origin"),
        ["https://a.example"]
    );
}

#[tokio::test]
async fn preflights_are_answered_without_the_origin() {
    let origin = origin().await;
    let edge = edge(&origin, TWO_ORIGINS).await;
    let mut client = edge.client().await;
    let response = preflight(&mut client, "https://b.example", "GET", "range").await;
    assert_eq!(response.status, 204, "{response:?}");
    for (name, value) in [
        ("access-control-allow-origin", "https://b.example"),
        ("access-control-allow-methods", "GET, HEAD"),
        ("access-control-allow-headers", "range"),
        ("access-control-allow-credentials", "true"),
        ("access-control-max-age", "600"),
    ] {
        assert_eq!(fields(&response, name), [value]);
    }
    for (asking, method, headers) in [
        ("https://evil.example", "GET", "range"),
        ("https://b.example", "PUT", "range"),
        ("https://b.example", "GET", "x-other"),
    ] {
        let refused = preflight(&mut client, asking, method, headers).await;
        assert_eq!(
            refused.status, 403,
            "{asking} {method} {headers}: {refused:?}"
        );
    }
    assert_eq!(origin.count(), 0);
    // Another OPTIONS is the origin's business.
    let passed = client
        .request("OPTIONS", "/a", "Origin: https://a.example\r\n")
        .await;
    assert_eq!(passed.status, 200);
    assert_eq!(origin.count(), 1);
    let samples = edge.metrics().await;
    let own = ["outcome=\"own\"", "status=\"204\""];
    assert_eq!(samples.sum("tidegate_requests_total", &own), 1.0);
}

#[tokio::test]
async fn a_signed_route_answers_preflights_and_lets_scripts_read_its_refusals() {
    let origin = origin().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("demo.key");
    fs::write(&file, "secret").unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    let keys = format!(
        "signing: {{ keys: [ {{ id: demo, secret_file: '{}' }} ] }}",
        file.display()
    );
    let setup = Setup {
        routes: "- { name: all, path: /, origin: store, access: signed, cors: { origins: '*', headers: '*' } }",
        edge: keys.leak(),
        ..Setup::of([origin.address])
    };
    let edge = setup.start().await;
    let mut client = edge.client().await;
    let response = preflight(
        &mut client,
        "https://any.example",
        "GET",
        "range,authorization",
    )
    .await;
    assert_eq!(response.status, 204);
    assert_eq!(fields(&response, "access-control-allow-origin"), ["*"]);
    assert_eq!(
        fields(&response, "access-control-allow-headers"),
        ["range, authorization"]
    );
    assert_eq!(fields(&response, "vary"), [""; 0]);
    let refused = client
        .request("GET", "/a", "Origin: https://any.example\r\n")
        .await;
    assert_eq!(refused.status, 403);
    assert_eq!(fields(&refused, "access-control-allow-origin"), ["*"]);
    assert_eq!(origin.count(), 0);
}

#[tokio::test]
async fn without_rules_what_the_origin_says_is_passed_on() {
    let origin = origin().await;
    let edge = Edge::before_any(&origin).await;
    let mut client = edge.client().await;
    let response = client
        .request("GET", "/a", "Origin: https://a.example\r\n")
        .await;
    assert_eq!(response.text(), "https://a.example");
    assert_eq!(
        fields(&response, "access-control-allow-origin"),
        ["https://origin.example"]
    );
    assert_eq!(
        preflight(&mut client, "https://a.example", "GET", "range")
            .await
            .status,
        200
    );
    assert_eq!(origin.count(), 2);
}

const EDITS: &str = "response_headers: { set: { x-frame-options: DENY, cache-control: 'max-age=5' }, add: { x-note: edge }, remove: [server] }, \
    request_headers: { set: { x-from: edge, user-agent: tidegate }, add: { accept: text/plain }, remove: [cookie] }";

#[tokio::test]
async fn fields_change_on_their_way_and_not_in_the_cache() {
    let origin = origin().await;
    let edge = edge(&origin, EDITS).await;
    let mut client = edge.client().await;
    let asked = "Cookie: a=b\r\nUser-Agent: client\r\nAccept: image/png\r\n";
    for hit in [false, true] {
        let response = client.request("GET", "/a", asked).await;
        assert_eq!(response.is_hit(), hit, "{response:?}");
        assert_eq!(fields(&response, "x-frame-options"), ["DENY"]);
        assert_eq!(fields(&response, "x-note"), ["edge"]);
        assert_eq!(fields(&response, "server"), [""; 0]);
        assert_eq!(fields(&response, "cache-control"), ["max-age=5"]);
    }
    // What is stored rests on what the origin said: its max-age is 60.
    let response = client.request("GET", "/a", "").await;
    let ttl = response.cache_status().split("ttl=").nth(1).unwrap();
    assert!(ttl.parse::<u32>().unwrap() > 5, "{response:?}");
    let passed = client
        .request("POST", "/a", &format!("{asked}Content-Length: 0\r\n"))
        .await;
    assert_eq!(fields(&passed, "x-frame-options"), ["DENY"]);
    assert_eq!(fields(&passed, "server"), [""; 0]);
    for request in origin.requests() {
        assert_eq!(request.fields("x-from"), ["edge"]);
        assert_eq!(request.fields("user-agent"), ["tidegate"]);
        assert_eq!(request.fields("accept"), ["image/png", "text/plain"]);
        assert_eq!(request.fields("cookie"), [""; 0]);
    }
    assert_eq!(origin.count(), 2);
    // An error of the edge's own making stays one that nobody may keep.
    let unsatisfiable = client.request("GET", "/a", "Range: bytes=99-\r\n").await;
    assert_eq!(unsatisfiable.status, 416);
    assert_eq!(fields(&unsatisfiable, "cache-control"), ["no-store"]);
    assert_eq!(fields(&unsatisfiable, "x-frame-options"), ["DENY"]);
}
