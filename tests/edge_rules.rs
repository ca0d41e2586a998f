//! What is stored, for whom, and what undoes it: variants, targeted fields, credentials, the
//! operator's rules, POST, HEAD, and what an unsafe request names (RFC 9110, 9111, 9213).

mod harness;

use harness::{AnsweringOrigin, Client, Edge, Origin, Request, Response, Setup, answer, ok};

const FRESH: &str = "Cache-Control: max-age=60\r\n";

/// A node whose `edge.cache` has `rules`, before an origin that answers by `script`.
async fn start(
    rules: &str,
    script: impl Fn(&Request) -> String + Send + 'static,
) -> (Edge, AnsweringOrigin) {
    let origin = Origin::start().await;
    let origin = origin.answering(move |request| script(request));
    let edge = Setup {
        cache: rules.to_owned(),
        ..Setup::of([origin.address])
    };
    (edge.start().await, origin)
}

/// Whether the second of two GETs with `fields` is answered by what the first one left, when the
/// origin answers with `response` and the operator has set `rules`.
async fn is_stored(rules: &str, fields: &str, response: String) -> bool {
    let (edge, origin) = start(rules, move |_| response.clone()).await;
    let mut client = edge.client().await;
    let first = client.request("GET", "/a", fields).await;
    assert!(!first.is_hit(), "{first:?}");
    let second = client.request("GET", "/a", fields).await;
    assert_eq!((first.status, &first.body), (second.status, &second.body));
    assert_eq!(origin.count(), if second.is_hit() { 1 } else { 2 });
    second.is_hit()
}

#[tokio::test]
async fn credentials_are_shared_only_when_the_response_permits_it() {
    let bearer = "Authorization: Bearer x\r\n";
    for (directives, stored) in [
        ("max-age=60", false),
        ("max-age=60, public", true),
        ("s-maxage=60", true),
        ("max-age=60, must-revalidate", true),
        ("max-age=60, proxy-revalidate", false),
        ("max-age=60, private", false),
    ] {
        let response = ok(&format!("Cache-Control: {directives}\r\n"), "x");
        let was = is_stored("", bearer, response).await;
        assert_eq!(was, stored, "{directives}");
    }
}

#[tokio::test]
async fn cookie_is_stored_only_when_it_is_meant_for_all() {
    let cookie = "Set-Cookie: a=b\r\n";
    for (rules, fields, stored) in [
        ("", "Cache-Control: max-age=60\r\n", false),
        ("", "Cache-Control: max-age=60, public\r\n", true),
        ("", "Cache-Control: s-maxage=60\r\n", true),
        ("", "CDN-Cache-Control: max-age=60\r\n", true),
        (
            "",
            "Cache-Control: max-age=60, no-cache=set-cookie\r\n",
            true,
        ),
        (
            "store_set_cookie: true",
            "Cache-Control: max-age=60\r\n",
            true,
        ),
        (
            "store_set_cookie: true",
            "Cache-Control: private, max-age=60\r\n",
            false,
        ),
    ] {
        let response = ok(&format!("{fields}{cookie}"), "x");
        assert_eq!(is_stored(rules, "", response).await, stored, "{fields}");
    }
}

#[tokio::test]
async fn field_for_caches_like_this_one_replaces_cache_control() {
    for (fields, stored) in [
        (
            "CDN-Cache-Control: max-age=60\r\nCache-Control: no-store\r\n",
            true,
        ),
        (
            "CDN-Cache-Control: no-store\r\nCache-Control: max-age=60\r\n",
            false,
        ),
        (
            "Tidegate-Cache-Control: no-store\r\nCDN-Cache-Control: max-age=60\r\n",
            false,
        ),
        (
            "Tidegate-Cache-Control: max-age=60\r\nCDN-Cache-Control: no-store\r\n",
            true,
        ),
        // Invalid as a structured field: it is as if it were not there.
        (
            "CDN-Cache-Control: max-age=60,,\r\nCache-Control: no-store\r\n",
            false,
        ),
        (
            "CDN-Cache-Control: max-age=\"60\"\r\nCache-Control: no-store\r\n",
            false,
        ),
        (
            "Tidegate-Cache-Control: &\r\nCDN-Cache-Control: max-age=60\r\n",
            true,
        ),
        (
            "Surrogate-Control: max-age=60\r\nCache-Control: no-store\r\n",
            true,
        ),
        (
            "Surrogate-Control: no-store\r\nCache-Control: max-age=60\r\n",
            false,
        ),
        (
            "Surrogate-Control: max-age=60;other\r\nCache-Control: no-store\r\n",
            false,
        ),
    ] {
        assert_eq!(is_stored("", "", ok(fields, "x")).await, stored, "{fields}");
    }
}

#[tokio::test]
async fn operator_decides_about_lifetimes_by_status_and_for_all() {
    let not_found = "404: 60s, 5xx: 0s";
    for (rules, response, stored) in [
        (
            format!("status_ttl: {{ {not_found} }}"),
            answer(404, "", "x"),
            true,
        ),
        (
            format!("status_ttl: {{ {not_found} }}"),
            answer(503, FRESH, "x"),
            false,
        ),
        (
            "status_ttl: { 503: 60s }".to_owned(),
            answer(503, "", "x"),
            true,
        ),
        // What one client's request provoked is nobody else's error.
        (
            "status_ttl: { 4xx: 60s }".to_owned(),
            answer(400, "", "x"),
            false,
        ),
        (
            "status_ttl: { 4xx: 60s }".to_owned(),
            answer(403, "", "x"),
            true,
        ),
        (
            "override_ttl: 60s".to_owned(),
            ok("Cache-Control: max-age=0\r\n", "x"),
            true,
        ),
        (
            "override_ttl: 60s".to_owned(),
            ok("Cache-Control: no-store\r\n", "x"),
            false,
        ),
        (
            "override_ttl: 60s".to_owned(),
            ok("Cache-Control: private\r\n", "x"),
            false,
        ),
        ("override_ttl: 0s".to_owned(), ok(FRESH, "x"), false),
        (
            "min_ttl: 60s".to_owned(),
            ok("Cache-Control: max-age=0\r\n", "x"),
            true,
        ),
        ("max_ttl: 0s".to_owned(), ok(FRESH, "x"), false),
    ] {
        assert_eq!(
            is_stored(&rules, "", response.clone()).await,
            stored,
            "{rules} {response}"
        );
    }
}

#[tokio::test]
async fn ttl_in_cache_status_is_the_one_that_the_operator_gave() {
    for (rules, expected) in [
        ("override_ttl: 30s\n    ttl_jitter: 0%", 30),
        ("max_ttl: 40s", 40),
        ("min_ttl: 100s", 100),
        ("grace: 0s", 60),
    ] {
        let (edge, _origin) = start(rules, |_| ok(FRESH, "x")).await;
        let mut client = edge.client().await;
        client.get("/a").await;
        let hit = client.get("/a").await;
        let ttl = hit.cache_status().rsplit_once("ttl=").unwrap().1;
        let ttl: i64 = ttl.split(';').next().unwrap().trim().parse().unwrap();
        // The seconds that the test itself takes.
        assert!(
            (expected - 20..=expected).contains(&ttl),
            "{rules}: {hit:?}"
        );
    }
}

#[tokio::test]
async fn parameters_that_are_not_keyed_do_not_reach_the_origin() {
    for (rules, first, second, same, forwarded) in [
        (
            "query: { allow: [q] }",
            "/a?q=1&utm=x",
            "/a?utm=y&q=1",
            true,
            "/a?q=1",
        ),
        ("query: { allow: [q] }", "/a?q=1", "/a?q=2", false, "/a?q=1"),
        (
            "query: { deny: [utm] }",
            "/a?utm=x&b=%31",
            "/a?b=%31",
            true,
            "/a?b=%31",
        ),
        (
            "query: { deny: [utm] }",
            "/a?b=1",
            "/a?b=2&utm=1",
            false,
            "/a?b=1",
        ),
        ("query: none", "/a?b=1", "/a", true, "/a"),
        (
            "sort_query: true",
            "/a?c=1&b=2",
            "/a?b=2&c=1",
            true,
            "/a?b=2&c=1",
        ),
        (
            "sort_query: false",
            "/a?c=1&b=2",
            "/a?b=2&c=1",
            false,
            "/a?c=1&b=2",
        ),
    ] {
        let (edge, origin) = start(rules, |request| ok(FRESH, request.target())).await;
        let mut client = edge.client().await;
        assert_eq!(client.get(first).await.text(), forwarded, "{rules}");
        let other = client.get(second).await;
        assert_eq!(other.is_hit(), same, "{rules}: {other:?}");
        assert_eq!(origin.requests()[0].target(), forwarded, "{rules}");
    }
}

#[tokio::test]
async fn body_above_the_operators_limit_is_passed_on_whole_and_not_stored() {
    let chunked = |body: &str| {
        let head = format!("HTTP/1.1 200 OK\r\n{FRESH}Transfer-Encoding: chunked\r\n\r\n");
        format!("{head}{:x}\r\n{body}\r\n0\r\n\r\n", body.len())
    };
    let rules = "max_object_size: 1000B";
    let (at, above) = ("x".repeat(1000), "x".repeat(1001));
    for (response, stored) in [
        (ok(FRESH, &at), true),
        (ok(FRESH, &above), false),
        (chunked(&at), true),
        (chunked(&above), false),
    ] {
        assert_eq!(is_stored(rules, "", response).await, stored);
    }
}

/// A GET of `/a` with `fields`.
async fn get(client: &mut Client, fields: &str) -> Response {
    client.request("GET", "/a", fields).await
}

#[tokio::test]
async fn no_more_variants_are_kept_than_the_operator_allows() {
    for (rules, limit) in [("", 32), ("max_variants: 3", 3)] {
        let script = |request: &Request| {
            let fields = format!("{FRESH}Vary: X-Kind\r\n");
            ok(&fields, request.field("x-kind").unwrap())
        };
        let (edge, origin) = start(rules, script).await;
        let mut client = edge.client().await;
        let kind = |number: usize| format!("X-Kind: {number}\r\n");
        for number in 0..limit {
            get(&mut client, &kind(number)).await;
        }
        for number in 0..limit {
            let hit = get(&mut client, &kind(number)).await;
            assert!(hit.is_hit() && hit.text() == number.to_string(), "{hit:?}");
        }
        assert_eq!(origin.count(), limit);
        get(&mut client, &kind(limit)).await;
        let mut held = 0;
        for number in 0..=limit {
            let response = get(
                &mut client,
                &format!("{}Cache-Control: only-if-cached\r\n", kind(number)),
            )
            .await;
            held += usize::from(response.status == 200);
        }
        assert_eq!(held, limit, "{rules}");
    }
}

#[tokio::test]
async fn vary_that_nobody_can_match_or_that_the_operator_bypasses_is_not_stored() {
    for (rules, vary, stored) in [
        ("", "X-A", true),
        ("", "*", false),
        ("", "X-A, *", false),
        ("", "X-A, not a name", false),
        ("vary: { x-a: bypass }", "X-A", false),
        ("vary: { x-a: bypass }", "X-B", true),
    ] {
        let response = ok(&format!("{FRESH}Vary: {vary}\r\n"), "x");
        assert_eq!(
            is_stored(rules, "X-A: 1\r\n", response).await,
            stored,
            "{vary}"
        );
    }
}

#[tokio::test]
async fn response_in_the_preferred_language_answers_however_it_is_asked_for() {
    let script = |request: &Request| {
        let german = request.field("accept-language").unwrap().contains("de");
        let language = if german { "de" } else { "en" };
        let fields = format!("{FRESH}Vary: Accept-Language\r\nContent-Language: {language}\r\n");
        ok(&fields, language)
    };
    for (rules, first, second, shared) in [
        ("", "de", "DE", true),
        ("", "de, en;q=0.5", "fr;q=0.1, de;q=0.9", true),
        ("", "en, de", "de, en", true),
        ("", "de", "en, de;q=0.9", false),
        ("", "de", "de;q=0", false),
        ("vary: { accept-language: passthrough }", "de", "DE", false),
    ] {
        let (edge, _origin) = start(rules, script).await;
        let mut client = edge.client().await;
        get(&mut client, &format!("Accept-Language: {first}\r\n")).await;
        let other = get(&mut client, &format!("Accept-Language: {second}\r\n")).await;
        assert_eq!(
            other.is_hit(),
            shared,
            "{rules} {first} | {second}: {other:?}"
        );
    }
}

#[tokio::test]
async fn accept_encoding_is_compared_by_the_codings_it_allows() {
    let script = |_: &Request| ok(&format!("{FRESH}Vary: Accept-Encoding\r\n"), "x");
    for (rules, first, second, shared) in [
        ("", "gzip, br", "br;q=0.5,gzip", true),
        ("", "gzip, br;q=0", "gzip", true),
        ("", "gzip", "gzip, br", false),
        (
            "vary: { accept-encoding: passthrough }",
            "gzip, br",
            "br, gzip",
            false,
        ),
    ] {
        let (edge, _origin) = start(rules, script).await;
        let mut client = edge.client().await;
        get(&mut client, &format!("Accept-Encoding: {first}\r\n")).await;
        let other = get(&mut client, &format!("Accept-Encoding: {second}\r\n")).await;
        assert_eq!(
            other.is_hit(),
            shared,
            "{rules} {first} | {second}: {other:?}"
        );
    }
}

#[tokio::test]
async fn response_to_a_post_answers_gets_when_it_says_so() {
    let path = "Content-Location: /a\r\n";
    for (status, fields, stored) in [
        (200, format!("{FRESH}{path}"), true),
        (
            200,
            format!("{FRESH}Content-Location: http://media.example/a\r\n"),
            true,
        ),
        (200, format!("{FRESH}Content-Location: /b\r\n"), false),
        (
            200,
            format!("{FRESH}Content-Location: http://elsewhere.example/a\r\n"),
            false,
        ),
        (200, FRESH.to_owned(), false),
        (200, format!("{path}ETag: \"v1\"\r\n"), false),
        (200, format!("{path}Cache-Control: no-store\r\n"), false),
        (201, format!("{FRESH}{path}"), false),
    ] {
        let case = format!("{status} {fields}");
        let (edge, origin) = start("", move |request| match request.method() {
            "POST" => answer(status, &fields, "posted"),
            _ => ok(FRESH, "got"),
        })
        .await;
        let mut client = edge.client().await;
        let posted = client.request("POST", "/a", "Content-Length: 0\r\n").await;
        assert_eq!(posted.text(), "posted");
        let got = client.get("/a").await;
        assert_eq!(got.is_hit(), stored, "{case}: {got:?}");
        assert_eq!(got.text(), if stored { "posted" } else { "got" }, "{case}");
        // A POST is never answered by what is stored.
        let asked = origin.count();
        client.request("POST", "/a", "Content-Length: 0\r\n").await;
        assert_eq!(origin.count(), asked + 1, "{case}");
    }
}

#[tokio::test]
async fn head_freshens_what_it_agrees_with_and_drops_what_it_does_not() {
    let stale = "Cache-Control: max-age=10\r\nAge: 10\r\nETag: \"v1\"\r\n";
    // How the GET after the HEAD is answered: without the origin, after asking for validation, or
    // in full.
    for (fields, expected) in [
        ("ETag: \"v1\"\r\nContent-Length: 3\r\n", "hit"),
        ("ETag: W/\"v1\"\r\nContent-Length: 3\r\n", "hit"),
        ("Content-Length: 3\r\n", "hit"),
        ("ETag: \"v1\"\r\n", "hit"),
        ("ETag: \"v1\"\r\nContent-Length: 4\r\n", "miss"),
        ("ETag: \"v2\"\r\nContent-Length: 3\r\n", "miss"),
    ] {
        let (edge, origin) = start("", move |request| match request.method() {
            "HEAD" => format!("HTTP/1.1 200 OK\r\n{FRESH}X-New: 1\r\n{fields}\r\n"),
            _ => ok(stale, "one"),
        })
        .await;
        let mut client = edge.client().await;
        client.get("/a").await;
        let head = client.request("HEAD", "/a", "").await;
        assert_eq!(head.status, 200);
        let got = client.get("/a").await;
        assert_eq!(got.text(), "one");
        if expected == "hit" {
            assert!(got.is_hit(), "{fields}: {got:?}");
            assert_eq!((got.field("x-new"), origin.count()), (Some("1"), 2));
        } else {
            assert_eq!(origin.count(), 3, "{fields}: {got:?}");
            let last = &origin.requests()[2];
            assert_eq!(last.field("if-none-match"), None, "{fields}");
        }
    }
}

#[tokio::test]
async fn unsafe_request_invalidates_what_its_answer_names_on_the_same_host() {
    for (rules, status, fields, gone) in [
        ("", 201, "Location: /b?x=1\r\n", true),
        ("", 200, "Content-Location: /b?x=1\r\n", true),
        ("", 303, "Location: http://media.example/b?x=1\r\n", true),
        ("", 201, "Location: b?x=1\r\n", true),
        (
            "",
            201,
            "Location: http://elsewhere.example/b?x=1\r\n",
            false,
        ),
        ("", 201, "Location: /b?x=2\r\n", false),
        ("", 404, "Location: /b?x=1\r\n", false),
        ("", 500, "Location: /b?x=1\r\n", false),
        // What is stored is found by the rules under which it was stored.
        ("query: none", 201, "Location: /b?x=2\r\n", true),
        ("sort_query: true", 201, "Location: /b?x=1\r\n", true),
    ] {
        for method in ["POST", "PUT", "DELETE"] {
            let (edge, _origin) = start(rules, move |request| match request.method() {
                "GET" => ok(FRESH, "x"),
                _ => answer(status, fields, ""),
            })
            .await;
            let mut client = edge.client().await;
            client.get("/b?x=1").await;
            client.request(method, "/a", "Content-Length: 0\r\n").await;
            let after = client.get("/b?x=1").await;
            assert_eq!(after.is_hit(), !gone, "{rules} {method} {status} {fields}");
        }
    }
}

#[tokio::test]
async fn upload_in_one_bucket_style_invalidates_the_url_of_the_other() {
    let (here, other) = (Origin::start().await, Origin::start().await);
    let script = |request: &Request| match request.method() {
        "GET" => ok(FRESH, "x"),
        _ => answer(201, "", ""),
    };
    let (here, other) = (here.answering(script), other.answering(script));
    let pools = format!(
        "health: {{ interval: 1h }}\n    other: {{ servers: ['{}'], health: {{ interval: 1h }} }}",
        other.address
    );
    let setup = Setup {
        pool: pools.leak(),
        edge: "signing: { domain: s3.example }",
        routes:
            "- { name: elsewhere, host: other.s3.example, path: /, origin: other, access: public }
    - { name: all, path: /, origin: store, access: public }",
        ..Setup::of([here.address])
    };
    let edge = setup.start().await;
    let mut client = edge.client().await;
    let mut ask = async |method: &str, host: &str, path: &str| {
        let head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n");
        let length = if method == "PUT" {
            "Content-Length: 0\r\n"
        } else {
            ""
        };
        client.send(format!("{head}{length}\r\n")).await;
        client.response(method).await
    };
    let in_host = ("films.s3.example:8080", "/a%20b.mp4");
    let in_path = ("s3.example:8080", "/films/a%20b.mp4");
    for method in ["PUT", "DELETE"] {
        for (changed, stored, gone) in [
            (in_host, in_path, true),
            (in_path, in_host, true),
            // A host like any other, behind which buckets stand in the path.
            (("cdn.example:8080", in_path.1), in_host, true),
            (("cdn.example", in_path.1), in_host, false),
            (("films.s3.example:8080", "/b.mp4"), in_path, false),
            (("music.s3.example:8080", in_host.1), in_path, false),
            // What another origin holds is another object.
            (
                ("s3.example", "/other/a"),
                ("other.s3.example", "/a"),
                false,
            ),
            (
                ("other.s3.example", "/a"),
                ("s3.example", "/other/a"),
                false,
            ),
        ] {
            ask("GET", stored.0, stored.1).await;
            assert!(ask("GET", stored.0, stored.1).await.is_hit());
            assert_eq!(ask(method, changed.0, changed.1).await.status, 201);
            let after = ask("GET", stored.0, stored.1).await;
            assert_eq!(after.is_hit(), !gone, "{method} {changed:?} {stored:?}");
        }
    }
}

#[tokio::test]
async fn invalidation_drops_every_variant() {
    let script = |request: &Request| match request.method() {
        "GET" => ok(&format!("{FRESH}Vary: X-Kind\r\n"), "x"),
        _ => answer(204, "", "").replace("Content-Length: 0\r\n", ""),
    };
    let (edge, _origin) = start("", script).await;
    let mut client = edge.client().await;
    for kind in ["X-Kind: 1\r\n", "X-Kind: 2\r\n"] {
        get(&mut client, kind).await;
        assert!(get(&mut client, kind).await.is_hit());
    }
    client.request("DELETE", "/a", "").await;
    for kind in ["X-Kind: 1\r\n", "X-Kind: 2\r\n"] {
        assert!(!get(&mut client, kind).await.is_hit());
    }
}

#[tokio::test]
async fn part_kept_as_it_came_answers_the_same_short_suffix_only() {
    let script = |request: &Request| match request.field("range") {
        Some("bytes=-4") => {
            let head = "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 6-9/10\r\n";
            format!("{head}{FRESH}ETag: \"v1\"\r\nContent-Length: 4\r\n\r\n6789")
        }
        _ => ok(&format!("{FRESH}ETag: \"v1\"\r\n"), "0123456789"),
    };
    let (edge, origin) = start("", script).await;
    let mut client = edge.client().await;
    for hit in [false, true] {
        let response = get(&mut client, "Range: bytes=-4\r\n").await;
        assert_eq!((response.status, response.text()), (206, "6789"));
        assert_eq!(response.field("content-range"), Some("bytes 6-9/10"));
        assert_eq!(response.is_hit(), hit, "{response:?}");
    }
    assert_eq!(origin.requests()[0].field("range"), Some("bytes=-4"));
    assert_eq!(get(&mut client, "").await.text(), "0123456789");
    assert_eq!(origin.count(), 2);
    let other = get(&mut client, "Range: bytes=-2\r\n").await;
    assert_eq!((other.status, other.text()), (206, "89"));
    assert_eq!(origin.count(), 2);
}

#[tokio::test]
async fn condition_that_only_an_origin_can_judge_is_passed_on() {
    for condition in [
        "If-Match: \"v1\"\r\n",
        "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
    ] {
        let (edge, origin) = start("", |request| {
            let judged = request
                .field("if-match")
                .or(request.field("if-unmodified-since"));
            match judged {
                Some(_) => answer(412, "", "no"),
                None => ok(&format!("{FRESH}ETag: \"v1\"\r\n"), "x"),
            }
        })
        .await;
        let mut client = edge.client().await;
        client.get("/a").await;
        assert_eq!(get(&mut client, condition).await.status, 412, "{condition}");
        assert_eq!(origin.count(), 2);
        // What is stored stays.
        assert!(get(&mut client, "").await.is_hit());
    }
}

#[tokio::test]
async fn targeted_fields_reach_the_client_as_they_came_and_trailers_do_not() {
    let targeted = [
        ("tidegate-cache-control", "max-age=60"),
        ("cdn-cache-control", "max-age=1"),
        ("surrogate-control", "max-age=2"),
        ("cache-control", "no-store"),
    ];
    let fields: String = targeted
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    let chunked =
        "Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n1\r\nx\r\n0\r\nX-Sum: 1\r\n\r\n";
    let response = format!("HTTP/1.1 200 OK\r\n{fields}{chunked}");
    let (edge, _origin) = start("", move |_| response.clone()).await;
    let mut client = edge.client().await;
    for hit in [false, true] {
        let response = get(&mut client, "").await;
        assert_eq!((response.is_hit(), response.text()), (hit, "x"));
        for (name, value) in targeted {
            assert_eq!(response.field(name), Some(value), "{response:?}");
        }
        for name in ["trailer", "x-sum"] {
            assert_eq!(response.field(name), None, "{response:?}");
        }
    }
}
