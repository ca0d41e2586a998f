//! What the edge stores, serves again, validates and refuses to share (RFC 9110, 9111, 9211).

mod harness;

use std::time::{Duration, SystemTime};

use harness::{AnsweringOrigin, Client, Edge, Origin, Request, Response, Setup, ok};

/// An edge in front of an origin that answers everything with `response`.
async fn edge_before(response: String) -> (Edge, AnsweringOrigin) {
    let origin = Origin::start().await;
    let origin = origin.answering(move |_| response.clone());
    let edge = Setup::of([origin.address]).start().await;
    (edge, origin)
}

/// A GET through `edge` that `origin` answers with `answer`.
async fn get_answered(
    edge: &Edge,
    origin: &mut Origin,
    path: &str,
    fields: &str,
    answer: &str,
) -> (Response, Request) {
    let mut client = edge.client().await;
    tokio::join!(client.request("GET", path, fields), origin.answer(answer))
}

#[tokio::test]
async fn stored_response_answers_again_without_the_origin() {
    let (edge, origin) =
        edge_before(ok("Cache-Control: max-age=60\r\nX-Kept: a\r\n", "hello")).await;
    let mut client = edge.client().await;
    let first = client.get("/a").await;
    assert_eq!((first.status, first.text()), (200, "hello"));
    assert!(!first.is_hit(), "{first:?}");
    for _ in 0..3 {
        let again = client.get("/a").await;
        assert_eq!((again.status, again.text()), (200, "hello"));
        assert!(again.is_hit(), "{again:?}");
        assert_eq!(again.field("x-kept"), Some("a"));
        assert_eq!(again.field("content-length"), Some("5"));
        assert!(again.field("age").is_some(), "{again:?}");
    }
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn cache_status_tells_what_happened() {
    let (edge, _origin) = edge_before(ok("Cache-Control: max-age=60\r\n", "x")).await;
    let mut client = edge.client().await;
    let miss = client.get("/a").await;
    assert!(
        miss.cache_status()
            .starts_with("tidegate; fwd=miss; fwd-status=200"),
        "{miss:?}"
    );
    assert!(miss.cache_status().contains("; stored"), "{miss:?}");
    let hit = client.get("/a").await;
    assert!(hit.cache_status().starts_with("tidegate; hit"), "{hit:?}");
}

#[tokio::test]
async fn answers_carry_via_and_a_request_id_of_their_own() {
    let (edge, origin) = edge_before(ok("Cache-Control: max-age=60\r\n", "x")).await;
    let mut client = edge.client().await;
    let (miss, hit) = (client.get("/a").await, client.get("/a").await);
    assert!(hit.is_hit());
    for response in [&miss, &hit] {
        assert!(
            response.field("via").unwrap().contains("tidegate"),
            "{response:?}"
        );
    }
    let ids = [&miss, &hit].map(|response| response.field("x-request-id").unwrap().to_owned());
    assert_ne!(ids[0], ids[1]);
    assert!(
        origin.requests()[0]
            .field("via")
            .unwrap()
            .contains("tidegate")
    );

    let log = edge.stop().await.access_log;
    let logged: Vec<_> = log
        .iter()
        .map(|line| line["request_id"].as_str().unwrap())
        .collect();
    assert_eq!(logged, ids);
}

#[tokio::test]
async fn stale_response_is_validated_and_a_304_freshens_it() {
    let mut origin = Origin::start().await;
    let edge = Edge::before(&origin).await;
    let fields = "Cache-Control: max-age=0\r\nETag: \"v1\"\r\n\
                  Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n";
    let (first, request) = get_answered(&edge, &mut origin, "/a", "", &ok(fields, "one")).await;
    assert_eq!(first.text(), "one");
    assert_eq!(request.field("if-none-match"), None);

    let not_modified = "HTTP/1.1 304 Not Modified\r\nETag: \"v1\"\r\n\
                        Cache-Control: max-age=60\r\nX-New: yes\r\n\r\n";
    let (second, request) = get_answered(&edge, &mut origin, "/a", "", not_modified).await;
    assert_eq!(request.field("if-none-match"), Some("\"v1\""));
    assert_eq!((second.status, second.text()), (200, "one"));
    assert!(second.cache_status().contains("fwd=stale"), "{second:?}");
    assert!(
        second.cache_status().contains("fwd-status=304"),
        "{second:?}"
    );
    assert_eq!(second.field("x-new"), Some("yes"));

    let third = edge.get("/a").await;
    assert!(third.is_hit() && third.text() == "one", "{third:?}");
    assert_eq!(third.field("x-new"), Some("yes"));
    assert_eq!(origin.count(), 2);
}

#[tokio::test]
async fn response_without_a_date_gets_the_time_at_which_it_was_received() {
    // RFC 9110 §6.6.1. What is passed on gets pingora's.
    let mut origin = Origin::start().await;
    let edge = Edge::before(&origin).await;
    let fields = "Cache-Control: max-age=0\r\nETag: \"a\"\r\n";
    let theirs = format!("{fields}Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n");
    let (first, _) = get_answered(&edge, &mut origin, "/a", "", &ok(&theirs, "x")).await;
    assert_eq!(first.field("date"), Some("Sun, 06 Nov 1994 08:49:37 GMT"));
    let not_modified = format!("HTTP/1.1 304 Not Modified\r\n{fields}\r\n");
    let (validated, _) = get_answered(&edge, &mut origin, "/a", "", &not_modified).await;
    let (fetched, _) = get_answered(&edge, &mut origin, "/b", "", &ok(fields, "x")).await;
    for response in [validated, fetched] {
        let date = httpdate::parse_http_date(response.field("date").unwrap()).unwrap();
        let since = SystemTime::now().duration_since(date).unwrap();
        assert!(since < Duration::from_secs(60), "{response:?}");
        let age: u64 = response.field("age").map_or(0, |age| age.parse().unwrap());
        assert!(age < 60, "{response:?}");
    }
}

#[tokio::test]
async fn full_answer_to_a_validation_replaces_what_was_stored() {
    let mut origin = Origin::start().await;
    let edge = Edge::before(&origin).await;
    let old = ok("Cache-Control: max-age=0\r\nETag: \"v1\"\r\n", "old");
    get_answered(&edge, &mut origin, "/a", "", &old).await;
    let new = ok("Cache-Control: max-age=60\r\nETag: \"v2\"\r\n", "newer");
    let (second, _) = get_answered(&edge, &mut origin, "/a", "", &new).await;
    assert_eq!(second.text(), "newer");
    assert!(second.cache_status().contains("fwd=stale"), "{second:?}");
    let third = edge.get("/a").await;
    assert!(third.is_hit() && third.text() == "newer", "{third:?}");
    assert_eq!(third.field("etag"), Some("\"v2\""));
}

const ALPHABET: &str = "abcdefghijklmnopqrstuvwxyz";

fn alphabet() -> String {
    let fields = "Cache-Control: max-age=60\r\nETag: \"v1\"\r\nAccept-Ranges: bytes\r\n\
                  Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\nContent-Type: text/plain\r\n";
    ok(fields, ALPHABET)
}

#[tokio::test]
async fn ranges_are_cut_from_the_stored_response() {
    let (edge, origin) = edge_before(alphabet()).await;
    let mut client = edge.client().await;
    assert_eq!(client.get("/a").await.text(), ALPHABET);
    let cases = [
        ("bytes=0-0", "a", "bytes 0-0/26"),
        ("bytes=0-4", "abcde", "bytes 0-4/26"),
        ("bytes=21-", "vwxyz", "bytes 21-25/26"),
        ("bytes=25-25", "z", "bytes 25-25/26"),
        ("bytes=-3", "xyz", "bytes 23-25/26"),
        ("bytes=-26", ALPHABET, "bytes 0-25/26"),
        ("bytes=-900", ALPHABET, "bytes 0-25/26"),
        ("bytes=20-900", "uvwxyz", "bytes 20-25/26"),
        ("bytes=20-99999999999999999999", "uvwxyz", "bytes 20-25/26"),
        ("Bytes=1-2", "bc", "bytes 1-2/26"),
    ];
    for (range, body, content_range) in cases {
        let response = client
            .request("GET", "/a", &format!("Range: {range}\r\n"))
            .await;
        assert_eq!(
            (response.status, response.text()),
            (206, body),
            "{range}: {response:?}"
        );
        assert_eq!(
            response.field("content-range"),
            Some(content_range),
            "{range}"
        );
        assert_eq!(response.field("etag"), Some("\"v1\""), "{range}");
        assert_eq!(
            response.field("content-type"),
            Some("text/plain"),
            "{range}"
        );
        assert!(response.is_hit(), "{range}: {response:?}");
    }
    for range in ["bytes=26-", "bytes=26-30", "bytes=-0"] {
        let response = client
            .request("GET", "/a", &format!("Range: {range}\r\n"))
            .await;
        assert_eq!(response.status, 416, "{range}: {response:?}");
        assert_eq!(
            response.field("content-range"),
            Some("bytes */26"),
            "{range}"
        );
    }
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn range_that_means_nothing_is_ignored() {
    let (edge, _origin) = edge_before(alphabet()).await;
    let mut client = edge.client().await;
    client.get("/a").await;
    for range in [
        "bytes=5-2",
        "bytes=",
        "bytes=-",
        "bytes=a-b",
        "bytes=1",
        "bytes 0-1",
        "items=0-1",
        "bytes=0x1-2",
        "bytes=+1-2",
        "bytes=1--2",
    ] {
        let response = client
            .request("GET", "/a", &format!("Range: {range}\r\n"))
            .await;
        assert_eq!(
            (response.status, response.text()),
            (200, ALPHABET),
            "{range}"
        );
    }
}

#[tokio::test]
async fn if_range_gives_the_part_only_of_the_version_it_names() {
    let (edge, origin) = edge_before(alphabet()).await;
    let mut client = edge.client().await;
    client.get("/a").await;
    for (validator, status) in [
        ("\"v1\"", 206),
        ("\"v2\"", 200),
        ("W/\"v1\"", 200),
        ("v1", 200),
        ("Fri, 02 Jan 2026 00:00:00 GMT", 200),
        ("Wed, 31 Dec 2025 00:00:00 GMT", 200),
    ] {
        let fields = format!("Range: bytes=0-1\r\nIf-Range: {validator}\r\n");
        let response = client.request("GET", "/a", &fields).await;
        let body = if status == 206 { "ab" } else { ALPHABET };
        assert_eq!(
            (response.status, response.text()),
            (status, body),
            "{validator}"
        );
    }
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn conditional_request_is_answered_from_the_stored_validators() {
    let (edge, origin) = edge_before(alphabet()).await;
    let mut client = edge.client().await;
    client.get("/a").await;
    let modified = "Thu, 01 Jan 2026 00:00:00 GMT";
    let (earlier, later) = (
        "Wed, 31 Dec 2025 23:59:59 GMT",
        "Thu, 01 Jan 2026 00:00:01 GMT",
    );
    let cases = [
        ("If-None-Match: \"v1\"\r\n".to_owned(), 304),
        ("If-None-Match: W/\"v1\"\r\n".to_owned(), 304),
        ("If-None-Match: \"v0\", \"v1\"\r\n".to_owned(), 304),
        ("If-None-Match: *\r\n".to_owned(), 304),
        ("If-None-Match: \"v2\"\r\n".to_owned(), 200),
        (format!("If-Modified-Since: {modified}\r\n"), 304),
        (format!("If-Modified-Since: {later}\r\n"), 304),
        (format!("If-Modified-Since: {earlier}\r\n"), 200),
        ("If-Modified-Since: yesterday\r\n".to_owned(), 200),
        // RFC 9110 §13.1.3: If-None-Match decides alone.
        (
            format!("If-None-Match: \"v2\"\r\nIf-Modified-Since: {modified}\r\n"),
            200,
        ),
        (
            format!("If-None-Match: \"v1\"\r\nIf-Modified-Since: {earlier}\r\n"),
            304,
        ),
    ];
    for (fields, status) in cases {
        let response = client.request("GET", "/a", &fields).await;
        assert_eq!(response.status, status, "{fields}{response:?}");
        assert_eq!(
            response.field("etag"),
            Some("\"v1\""),
            "{fields}{response:?}"
        );
        let body = if status == 200 { ALPHABET } else { "" };
        assert_eq!(response.text(), body, "{fields}");
    }
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn head_is_answered_from_a_stored_get() {
    let (edge, origin) = edge_before(alphabet()).await;
    let mut client = edge.client().await;
    client.get("/a").await;
    let head = client.request("HEAD", "/a", "").await;
    assert_eq!(
        (head.status, head.field("content-length")),
        (200, Some("26"))
    );
    assert!(head.is_hit(), "{head:?}");
    // Had a body followed, this would not parse.
    assert_eq!(client.get("/a").await.text(), ALPHABET);
    assert_eq!(origin.count(), 1);
}

/// How often the origin is asked when `/a` is got twice with `fields` and answered by `answer`.
async fn asked(fields: &str, answer: String) -> usize {
    let (edge, origin) = edge_before(answer).await;
    let mut client = edge.client().await;
    for _ in 0..2 {
        let response = client.request("GET", "/a", fields).await;
        assert_eq!(response.text(), "x", "{response:?}");
    }
    origin.count()
}

#[tokio::test]
async fn responses_that_are_not_for_everyone_are_not_stored() {
    let cases = [
        ("", "Cache-Control: max-age=60\r\n", 1),
        ("", "Cache-Control: no-store, max-age=60\r\n", 2),
        ("", "Cache-Control: private, max-age=60\r\n", 2),
        ("", "Cache-Control: max-age=60\r\nSet-Cookie: id=1\r\n", 2),
        ("", "Cache-Control: max-age=60\r\nVary: *\r\n", 2),
        ("", "Cache-Control: max-age=0\r\n", 2),
        ("", "Cache-Control: s-maxage=60, max-age=0\r\n", 1),
        ("", "Cache-Control: s-maxage=0, max-age=60\r\n", 2),
        ("", "", 2),
        (
            "Authorization: Basic eDp5\r\n",
            "Cache-Control: max-age=60\r\n",
            2,
        ),
        (
            "Authorization: Basic eDp5\r\n",
            "Cache-Control: public, max-age=60\r\n",
            1,
        ),
        (
            "Authorization: Basic eDp5\r\n",
            "Cache-Control: s-maxage=60\r\n",
            1,
        ),
        ("Cookie: id=1\r\n", "Cache-Control: max-age=60\r\n", 1),
        (
            "Cache-Control: no-store\r\n",
            "Cache-Control: max-age=60\r\n",
            2,
        ),
        (
            "Cache-Control: no-cache\r\n",
            "Cache-Control: max-age=60\r\n",
            2,
        ),
    ];
    for (request, response, expected) in cases {
        let count = asked(request, ok(response, "x")).await;
        assert_eq!(count, expected, "{request}{response}");
    }
}

#[tokio::test]
async fn freshness_lifetime_and_age_decide_how_long_a_response_answers() {
    // Dates that lie ahead have no apparent age (RFC 9111 §4.2.3), whatever the time is now.
    let date = "Date: Sun, 01 Jan 2090 00:00:00 GMT\r\n";
    let cases = [
        ("Expires: Sun, 01 Jan 2090 00:01:00 GMT\r\n", 1),
        ("Expires: Sun, 01 Jan 2090 00:00:00 GMT\r\n", 2),
        ("Expires: Sat, 31 Dec 2089 23:59:59 GMT\r\n", 2),
        ("Expires: 0\r\n", 2),
        ("Expires: Sun, 01 Jan 2090 00:01:00 GMT\r\nAge: 30\r\n", 1),
        ("Expires: Sun, 01 Jan 2090 00:01:00 GMT\r\nAge: 60\r\n", 2),
        ("Expires: 0\r\nCache-Control: max-age=60\r\n", 1),
        (
            "Expires: Sun, 01 Jan 2090 00:01:00 GMT\r\nCache-Control: max-age=0\r\n",
            2,
        ),
        ("Cache-Control: max-age=3600\r\nAge: 3000\r\n", 1),
        ("Cache-Control: max-age=3600\r\nAge: 3600\r\n", 2),
        (
            "Cache-Control: max-age=3600\r\nAge: 99999999999999999999\r\n",
            2,
        ),
    ];
    for (fields, expected) in cases {
        let count = asked("", ok(&format!("{date}{fields}"), "x")).await;
        assert_eq!(count, expected, "{fields}");
    }
}

#[tokio::test]
async fn age_continues_where_the_origin_left_off() {
    let (edge, _origin) =
        edge_before(ok("Cache-Control: max-age=3600\r\nAge: 3000\r\n", "x")).await;
    let mut client = edge.client().await;
    client.get("/a").await;
    let hit = client.get("/a").await;
    let age: u64 = hit.field("age").unwrap().parse().unwrap();
    assert!((3000..3600).contains(&age), "{hit:?}");
}

#[tokio::test]
async fn each_variant_named_by_vary_is_stored_for_itself() {
    let origin = Origin::start().await.answering(|request| {
        let language = request.field("accept-language").unwrap_or("none");
        ok(
            "Cache-Control: max-age=60\r\nVary: Accept-Language\r\n",
            language,
        )
    });
    let edge = Setup::of([origin.address]).start().await;
    let mut client = edge.client().await;
    for round in 0..2 {
        for language in ["de", "fr", "none"] {
            let fields = match language {
                "none" => String::new(),
                named => format!("Accept-Language: {named}\r\n"),
            };
            let response = client.request("GET", "/a", &fields).await;
            assert_eq!(response.text(), language);
            assert_eq!(response.is_hit(), round == 1, "{response:?}");
        }
    }
    assert_eq!(origin.count(), 3);
}

#[tokio::test]
async fn query_belongs_to_the_cache_key() {
    let origin = Origin::start()
        .await
        .answering(|request| ok("Cache-Control: max-age=60\r\n", request.target()));
    let edge = Setup::of([origin.address]).start().await;
    let mut client = edge.client().await;
    let targets = ["/a", "/a?", "/a?x=1", "/a?x=2", "/A", "/a/", "/a%2D", "/a-"];
    for round in 0..2 {
        for target in targets {
            let response = client.get(target).await;
            assert_eq!(response.text(), target);
            assert_eq!(response.is_hit(), round == 1, "{target}: {response:?}");
        }
    }
    assert_eq!(origin.count(), targets.len());
}

#[tokio::test]
async fn host_belongs_to_the_cache_key_without_its_case_and_default_port() {
    let origin = Origin::start().await.answering(|request| {
        ok(
            "Cache-Control: max-age=60\r\n",
            request.field("host").unwrap(),
        )
    });
    let edge = Setup::of([origin.address]).start().await;
    let mut client = edge.client().await;
    let mut get = async |host: &str| {
        client
            .send(format!("GET /a HTTP/1.1\r\nHost: {host}\r\n\r\n"))
            .await;
        client.response("GET").await
    };
    assert_eq!(get("a.example").await.text(), "a.example");
    assert_eq!(get("b.example").await.text(), "b.example");
    for same in ["A.example", "a.example:80"] {
        let response = get(same).await;
        assert!(
            response.is_hit() && response.text() == "a.example",
            "{response:?}"
        );
    }
    assert!(!get("a.example:81").await.is_hit());
}

#[tokio::test]
async fn successful_unsafe_request_invalidates_what_is_stored() {
    for method in ["PUT", "POST", "DELETE", "PATCH"] {
        for (status, invalidates) in [
            (200, true),
            (204, true),
            (303, true),
            (404, false),
            (500, false),
        ] {
            let origin = Origin::start().await.answering(move |request| {
                if request.method() == "GET" {
                    return ok("Cache-Control: max-age=60\r\n", "x");
                }
                let length = if status == 204 {
                    ""
                } else {
                    "Content-Length: 0\r\n"
                };
                format!("HTTP/1.1 {status} X\r\n{length}\r\n")
            });
            let edge = Setup::of([origin.address]).start().await;
            let mut client = edge.client().await;
            client.get("/a").await;
            client.get("/b").await;
            let answer = client.request(method, "/a", "Content-Length: 0\r\n").await;
            assert_eq!(answer.status, status);
            let (a, b) = (client.get("/a").await, client.get("/b").await);
            assert_eq!(a.is_hit(), !invalidates, "{method} {status}: {a:?}");
            assert!(b.is_hit(), "{method} {status} on another path: {b:?}");
        }
    }
}

#[tokio::test]
async fn connection_fields_stay_on_their_connection() {
    let answer = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nConnection: X-Hop, keep-alive\r\n\
                  X-Hop: secret\r\nKeep-Alive: timeout=9\r\nProxy-Connection: keep-alive\r\n\
                  X-End: kept\r\nContent-Length: 1\r\n\r\nx";
    let (edge, origin) = edge_before(answer.to_owned()).await;
    let mut client = edge.client().await;
    let fields = "Connection: X-Mine, keep-alive\r\nX-Mine: secret\r\nKeep-Alive: timeout=9\r\n\
                  TE: trailers\r\nProxy-Connection: keep-alive\r\nX-Through: kept\r\n";
    let miss = client.request("GET", "/a", fields).await;
    let hit = client.request("GET", "/a", "").await;
    assert!(hit.is_hit());
    for response in [miss, hit] {
        for name in ["x-hop", "keep-alive", "proxy-connection"] {
            assert_eq!(response.field(name), None, "{response:?}");
        }
        assert_eq!(response.field("x-end"), Some("kept"));
    }
    let request = &origin.requests()[0];
    for name in ["x-mine", "keep-alive", "te", "proxy-connection"] {
        assert_eq!(request.field(name), None, "{}", request.head);
    }
    assert_eq!(request.field("x-through"), Some("kept"));
}

#[tokio::test]
async fn error_without_explicit_freshness_is_not_stored_and_with_it_is() {
    let answer = |status: u16, fields: &str| {
        format!("HTTP/1.1 {status} X\r\n{fields}Content-Length: 1\r\n\r\nx")
    };
    let fresh = "Cache-Control: max-age=60\r\n";
    for (status, fields, expected) in [
        (404, "", 2),
        (404, fresh, 1),
        (410, fresh, 1),
        (500, "", 2),
        (503, "", 2),
        (301, fresh, 1),
    ] {
        let (edge, origin) = edge_before(answer(status, fields)).await;
        let mut client = edge.client().await;
        for _ in 0..2 {
            assert_eq!(client.get("/a").await.status, status);
        }
        assert_eq!(origin.count(), expected, "{status} {fields}");
    }
}

#[tokio::test]
async fn chunked_and_empty_bodies_are_stored_whole() {
    for (answer, body) in [
        (
            "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n\
          3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n",
            "abcde",
        ),
        (
            "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n\
          0\r\n\r\n",
            "",
        ),
        (
            "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 0\r\n\r\n",
            "",
        ),
    ] {
        let (edge, origin) = edge_before(answer.to_owned()).await;
        let mut client = edge.client().await;
        for round in 0..2 {
            let response = client.get("/a").await;
            assert_eq!((response.status, response.text()), (200, body));
            assert_eq!(response.is_hit(), round == 1, "{response:?}");
        }
        assert_eq!(origin.count(), 1);
    }
}

#[tokio::test]
async fn http_1_0_client_gets_a_body_it_can_end() {
    let answer = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n\
                  3\r\nabc\r\n0\r\n\r\n";
    let (edge, origin) = edge_before(answer.to_owned()).await;
    for _ in 0..2 {
        let mut client = Client::connect(edge.http).await;
        client
            .send("GET /a HTTP/1.0\r\nHost: media.example\r\n\r\n")
            .await;
        let response = client.response("GET").await;
        assert_eq!(response.field("transfer-encoding"), None, "{response:?}");
        assert_eq!(response.text(), "abc");
        assert_eq!(client.until_close().await, b"");
    }
    assert_eq!(origin.count(), 1);
}
