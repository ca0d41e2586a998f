//! `tidegate explain` and `GET /explain`: what is told is what a client then sees.

mod harness;

use std::process::{Command, Output, Stdio};

use harness::{AnsweringOrigin, Client, Edge, Origin, Request, Response, Setup};

/// The rules of the routes under test.
const ROUTES: &str = "\
- { name: public, path: /, origin: store, access: public, cache: { query: { deny: [utm_source] }, expose_key: true } }";

/// An origin whose answer depends on the path.
fn answer(request: &Request) -> Vec<u8> {
    let fields = match request.target().split('?').next().unwrap() {
        "/hit" => "Cache-Control: max-age=3600\r\nETag: \"v1\"\r\n",
        "/vary" => "Cache-Control: max-age=3600\r\nVary: Accept-Encoding, Cookie\r\n",
        "/stale" => "Cache-Control: max-age=60\r\nAge: 100\r\nETag: \"v1\"\r\n",
        "/grace" => {
            "Cache-Control: max-age=60, stale-while-revalidate=3600\r\nAge: 100\r\nETag: \"v1\"\r\n"
        }
        "/cookie" => "Cache-Control: max-age=60\r\nSet-Cookie: id=secret-of-one\r\n",
        "/error" => return b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n".to_vec(),
        _ => "",
    };
    format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 4\r\n\r\nbody").into_bytes()
}

async fn edge_and_origin() -> (Edge, AnsweringOrigin) {
    let origin = Origin::start().await.answering(answer);
    let setup = Setup {
        routes: ROUTES,
        ..Setup::of([origin.address])
    };
    (setup.start().await, origin)
}

/// Runs the command against `edge`.
fn explain(edge: &Edge, arguments: &[&str]) -> Output {
    let admin = edge.admin.to_string();
    let mut all = vec!["--admin", &admin];
    all.extend(arguments);
    command(&all)
}

fn command(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.arg("explain").args(arguments).stdin(Stdio::null());
    command.output().unwrap()
}

/// What the command tells of a GET for `path`.
fn told(edge: &Edge, path: &str, fields: &[&str]) -> String {
    let url = format!("http://media.example{path}");
    let mut arguments = vec![url.as_str()];
    for field in fields {
        arguments.extend(["-H", field]);
    }
    let output = explain(edge, &arguments);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let told = String::from_utf8(output.stdout).unwrap();
    println!("{told}");
    told
}

fn assert_tells(told: &str, facts: &[&str]) {
    for fact in facts {
        assert!(told.contains(fact), "{fact:?} is not in:\n{told}");
    }
}

/// A client's own view of what was explained.
async fn get(edge: &Edge, path: &str, fields: &str) -> Response {
    edge.client().await.request("GET", path, fields).await
}

#[tokio::test]
async fn a_hit_is_told_with_its_arithmetic_and_asks_nobody() {
    let (edge, origin) = edge_and_origin().await;
    get(&edge, "/hit?a=1", "").await;
    let told = told(
        &edge,
        "/hit?a=1&utm_source=x",
        &["Authorization: Bearer secret"],
    );
    assert_tells(
        &told,
        &[
            "GET http://media.example/hit?a=1&utm_source=x; authorization: (13 bytes, not shown)",
            "http://media.example/hit?a=1 (query parameters not keyed: utm_source)",
            "\"public\": host any, path /, origin store, access public",
            "1 response; 1. 200: chosen",
            "lifetime 3600 s (explicit, max-age)",
            "4 bytes, all in memory beside the head",
            "hit: Cache-Status: tidegate; hit; ttl=3",
        ],
    );
    assert!(
        !told.contains("secret") && !told.contains("would make it a hit"),
        "{told}"
    );
    assert_eq!(origin.count(), 1);
    assert!(get(&edge, "/hit?a=1", "").await.is_hit());
}

#[tokio::test]
async fn a_vary_miss_names_the_field_and_both_values() {
    let (edge, origin) = edge_and_origin().await;
    get(
        &edge,
        "/vary",
        "Accept-Encoding: br, gzip\r\nCookie: s3cret\r\n",
    )
    .await;
    let other = told(
        &edge,
        "/vary",
        &["Accept-Encoding: deflate", "Cookie: s3cret"],
    );
    assert_tells(
        &other,
        &[
            "no, accept-encoding is [deflate] and was [br or gzip]",
            "vary-miss: the origin is asked; Cache-Status: tidegate; fwd=vary-miss and",
            "what would make it a hit:\n  - send the values of a stored variant",
        ],
    );
    let crumbs = told(
        &edge,
        "/vary",
        &["Accept-Encoding: gzip, br", "Cookie: other"],
    );
    assert_tells(
        &crumbs,
        &["cookie is \"(5 bytes, not shown)\" and was \"(6 bytes, not shown)\""],
    );
    assert!(
        !crumbs.contains("s3cret") && !crumbs.contains("other"),
        "{crumbs}"
    );
    assert_eq!(origin.count(), 1);
    let seen = get(&edge, "/vary", "Accept-Encoding: deflate\r\n").await;
    assert!(
        seen.cache_status().starts_with("tidegate; fwd=vary-miss"),
        "{seen:?}"
    );
}

#[tokio::test]
async fn a_stale_one_is_told_with_what_it_may_still_be_used_for() {
    let (edge, origin) = edge_and_origin().await;
    get(&edge, "/stale", "").await;
    let stale = told(&edge, "/stale", &[]);
    assert_tells(
        &stale,
        &[
            "stale since 4",
            "s on arrival + 0",
            "lifetime 60 s (explicit, max-age)",
            "while revalidating: no; if the origin fails: 3600 s, 35",
            "stale: the origin is asked to validate what is stored; Cache-Status: tidegate; fwd=stale",
        ],
    );
    let tolerant = told(&edge, "/stale", &["Cache-Control: max-stale"]);
    assert_tells(
        &tolerant,
        &[
            "hit (stale, which the request tolerates)",
            "; detail=max-stale",
        ],
    );
    assert_eq!(origin.count(), 1);
    let seen = get(&edge, "/stale", "Cache-Control: max-stale\r\n").await;
    let status = seen.cache_status();
    assert!(status.starts_with("tidegate; hit; ttl=-4"), "{status}");
    assert!(status.ends_with("; detail=max-stale"), "{status}");
    get(&edge, "/grace", "").await;
    let seen = get(&edge, "/grace", "").await;
    let status = seen.cache_status().to_owned();
    assert!(
        status.ends_with("; detail=stale-while-revalidate"),
        "{status}"
    );
}

#[tokio::test]
async fn an_uncacheable_one_is_told_with_the_reason_and_the_remedy() {
    let (edge, _origin) = edge_and_origin().await;
    get(&edge, "/cookie", "").await;
    let cookie = told(&edge, "/cookie", &[]);
    assert_tells(
        &cookie,
        &[
            "nothing under this key; requests pass for ",
            "the last response (200, ",
            "was not stored: set-cookie",
            "bypass: the origin is asked; Cache-Status: tidegate; fwd=bypass",
            "not stored because of set-cookie",
            "store_set_cookie",
        ],
    );
    assert!(!cookie.contains("secret-of-one"), "{cookie}");
    assert!(
        get(&edge, "/cookie", "")
            .await
            .cache_status()
            .starts_with("tidegate; fwd=bypass")
    );
    // An error is told as well, although requests do not pass because of it.
    get(&edge, "/error", "").await;
    let error = told(&edge, "/error", &[]);
    assert_tells(
        &error,
        &[
            "the last response (500, ",
            "was not stored: status",
            "\nwhat would",
        ],
    );
    assert_tells(
        &error,
        &["miss: the origin is asked; Cache-Status: tidegate; fwd=miss"],
    );
}

#[tokio::test]
async fn requests_that_never_reach_the_look_up_are_told_why() {
    let (edge, origin) = edge_and_origin().await;
    get(&edge, "/hit", "").await;
    for (fields, facts) in [
        (
            &["If-Match: \"v1\""][..],
            &[
                "no: If-Match",
                "tidegate; fwd=bypass",
                "send neither If-Match",
            ][..],
        ),
        (
            &["Cache-Control: no-store"],
            &[
                "directives     no-store",
                "tidegate; fwd=request",
                "ignore_request_cache_control",
            ],
        ),
        (
            &["Pragma: no-cache"],
            &[
                "directives     no-cache",
                "tidegate; fwd=request",
                "no Pragma: no-cache",
            ],
        ),
        (&["Content-Length: 3"], &["no: the request has a body"]),
        (
            &["Cache-Control: only-if-cached, max-age=0, min-fresh=9999"],
            &["504: only-if-cached"],
        ),
    ] {
        assert_tells(&told(&edge, "/hit", fields), facts);
    }
    let post = explain(&edge, &["http://media.example/hit", "--method", "POST"]);
    let post = String::from_utf8(post.stdout).unwrap();
    assert_tells(
        &post,
        &["no: the method is neither GET nor HEAD", "fwd=method"],
    );
    let unknown = told(&edge, "/unknown", &[]);
    assert_tells(
        &unknown,
        &[
            "stored         nothing under this key",
            "tidegate; fwd=miss",
            "nothing is known",
        ],
    );
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn programs_get_json_and_pages_of_other_sites_nothing() {
    let (edge, _origin) = edge_and_origin().await;
    get(&edge, "/hit", "").await;
    let output = explain(
        &edge,
        &[
            "http://media.example/hit",
            "--json",
            "-H",
            "Tidegate-Debug: key",
        ],
    );
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&json["outcome"], &json["key"]),
        (&"hit".into(), &"http://media.example/hit".into())
    );
    assert_eq!(json["steps"][0]["step"], "request");
    let seen = get(&edge, "/hit", "Tidegate-Debug: key\r\n").await;
    let key = "; key=\"http://media.example/hit\"";
    assert!(seen.cache_status().ends_with(key), "{seen:?}");
    assert!(
        json["cache_status"].as_str().unwrap().ends_with(key),
        "{json}"
    );
    assert!(!get(&edge, "/hit", "").await.cache_status().contains("key="));
    let mut admin = Client::connect(edge.admin).await;
    let rebound = admin.request("GET", "/explain?url=http://h/", "").await;
    assert_eq!(rebound.status, 403, "{rebound:?}");
    for (line, status) in [
        ("POST /explain?url=http://h/", 405),
        ("GET /explain?url=h", 400),
    ] {
        admin
            .send(format!("{line} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
            .await;
        assert_eq!(admin.response("GET").await.status, status, "{line}");
    }
}

#[tokio::test]
async fn slips_and_a_missing_node_are_told_with_what_to_do() {
    let (edge, _origin) = edge_and_origin().await;
    let config = edge.config.to_str().unwrap();
    let sound = command(&["http://media.example/", "--config", config]);
    assert_eq!(sound.status.code(), Some(0), "{sound:?}");
    for arguments in [
        &["media.example/a"][..],
        &["http://media.example/a/../b"],
        &["http://media.example/", "-H", "no colon"],
        &["http://media.example/", "-H", "Host: h"],
        &["http://media.example/", "--method", "CONNECT"],
        &["http://media.example/", "-H", "Transfer-Encoding: gzip"],
    ] {
        let slip = explain(&edge, arguments);
        assert_eq!(slip.status.code(), Some(2), "{arguments:?} {slip:?}");
        let said = String::from_utf8(slip.stderr).unwrap();
        assert!(said.contains("\nnext: "), "{said}");
    }
    let admin = edge.admin.to_string();
    assert!(edge.stop().await.status.success());
    let gone = command(&["http://media.example/", "--admin", &admin]);
    assert_eq!(gone.status.code(), Some(1));
    let said = String::from_utf8(gone.stderr).unwrap();
    assert!(
        said.contains(&format!("no node answers at {admin}")),
        "{said}"
    );
}
