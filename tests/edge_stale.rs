//! What becomes of stale responses: validation, stale-while-revalidate, stale-if-error
//! (RFC 9111 §4.2.4, §4.3, RFC 5861).
//!
//! Nothing here waits for a lifetime to pass. A response that says `max-age=10` and `Age: 10` is
//! stale when it arrives.

mod harness;

use futures_util::future::join_all;
use harness::{Client, Edge, Origin, Request, Response, Setup, answer, ok};

/// Stale on arrival.
const STALE: &str = "Cache-Control: max-age=10\r\nAge: 10\r\nETag: \"v1\"\r\n";
const FRESH: &str = "Cache-Control: max-age=60\r\nETag: \"v1\"\r\n";

fn not_modified(fields: &str) -> String {
    format!("HTTP/1.1 304 Not Modified\r\n{fields}\r\n")
}

/// A GET of `/a` that `origin` answers with `answer`.
async fn get_answered(
    edge: &Edge,
    origin: &mut Origin,
    fields: &str,
    answer: &str,
) -> (Response, Request) {
    let mut client = edge.client().await;
    tokio::join!(client.request("GET", "/a", fields), origin.answer(answer))
}

/// A GET of `/a` that the edge answers without asking: `origin` is left alone.
async fn get(edge: &Edge, fields: &str) -> Response {
    edge.client().await.request("GET", "/a", fields).await
}

/// Clients whose GET of `/a` is on its way.
async fn waiting(edge: &Edge, count: usize) -> Vec<Client> {
    join_all((0..count).map(async |_| {
        let mut client = edge.client().await;
        client
            .send("GET /a HTTP/1.1\r\nHost: media.example\r\n\r\n")
            .await;
        client
    }))
    .await
}

#[tokio::test]
async fn stale_while_revalidate_answers_at_once_and_one_validation_runs() {
    let mut origin = Origin::start().await;
    let edge = Edge::before(&origin).await;
    let fields =
        "Cache-Control: max-age=10, stale-while-revalidate=60\r\nAge: 10\r\nETag: \"v1\"\r\n";
    get_answered(&edge, &mut origin, "", &ok(fields, "one")).await;

    // The origin is asked, and stays silent until ten more have their answer.
    let (first, mut exchange) = tokio::join!(get(&edge, ""), origin.next());
    assert_eq!(exchange.request.field("if-none-match"), Some("\"v1\""));
    for response in join_all((0..10).map(async |_| get(&edge, "").await)).await {
        assert_eq!((response.status, response.text()), (200, "one"));
        assert!(response.is_hit(), "{response:?}");
    }
    assert_eq!((first.status, first.text()), (200, "one"));
    assert!(first.is_hit(), "{first:?}");
    assert!(first.field("age").unwrap().parse::<u32>().unwrap() >= 10);
    assert_eq!(origin.count(), 2);

    // Who wants nothing stale waits for that same validation.
    let (fresh, ()) = tokio::join!(
        get(&edge, "Cache-Control: min-fresh=1\r\n"),
        exchange.send(ok("Cache-Control: max-age=60\r\n", "two")),
    );
    assert_eq!(fresh.text(), "two");
    let after = get(&edge, "").await;
    assert!(after.is_hit() && after.text() == "two", "{after:?}");
    assert_eq!(origin.count(), 2);
}

#[tokio::test]
async fn stale_while_revalidate_ends_with_its_window() {
    let mut origin = Origin::start().await;
    let edge = Edge::before(&origin).await;
    let fields =
        "Cache-Control: max-age=10, stale-while-revalidate=5\r\nAge: 15\r\nETag: \"v1\"\r\n";
    get_answered(&edge, &mut origin, "", &ok(fields, "one")).await;
    let (waited, _) = get_answered(&edge, &mut origin, "", &ok(FRESH, "two")).await;
    assert_eq!(waited.text(), "two");
}

/// How an origin fails to validate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Refuses,
    Resets,
    Closes,
    Stalls,
    Babbles,
    Status(u16),
}

/// What a client gets of a stale response whose validation ends in `fault`.
async fn get_despite(fault: Fault, stored: &str, setup: impl Fn(&mut Setup)) -> Response {
    let mut origin = Origin::start().await;
    let mut edge = Setup::of([origin.address]);
    if fault == Fault::Stalls {
        edge.pool = "health: { interval: 1h }\n      read_timeout: 2s";
    }
    setup(&mut edge);
    let edge = edge.start().await;
    get_answered(&edge, &mut origin, "", &ok(stored, "one")).await;
    match fault {
        Fault::Refuses => {
            origin.answering(|_| Vec::new()).stop().await;
            get(&edge, "").await
        }
        Fault::Status(status) => {
            let answer = answer(status, "", "sorry");
            get_answered(&edge, &mut origin, "", &answer).await.0
        }
        Fault::Resets | Fault::Closes | Fault::Stalls | Fault::Babbles => {
            let mut silent = Vec::new();
            let faults = async {
                // A connection that was used before may be tried again on another.
                loop {
                    let mut exchange = origin.next().await;
                    match fault {
                        Fault::Resets => exchange.reset(),
                        Fault::Closes => drop(exchange),
                        Fault::Babbles => exchange.send("no HTTP\r\n\r\n").await,
                        _ => {
                            exchange.send("HTTP/1.1 200 O").await;
                            silent.push(exchange);
                        }
                    }
                }
            };
            tokio::select! {
                response = get(&edge, "") => response,
                () = faults => unreachable!("the origin fails for ever"),
            }
        }
    }
}

#[tokio::test]
async fn stale_response_answers_when_the_origin_fails() {
    for fault in [
        Fault::Refuses,
        Fault::Resets,
        Fault::Closes,
        Fault::Stalls,
        Fault::Babbles,
        Fault::Status(500),
        Fault::Status(502),
        Fault::Status(503),
        Fault::Status(504),
    ] {
        // Once by the operator's grace, once because the origin has said so.
        let response = get_despite(fault, STALE, |_| {}).await;
        assert_eq!(
            (response.status, response.text()),
            (200, "one"),
            "{fault:?}"
        );
        let status = response.cache_status();
        assert!(status.contains("fwd=stale"), "{fault:?}: {status}");
        assert!(status.contains("stale-if-error"), "{fault:?}: {status}");
    }
    let said = "Cache-Control: max-age=10, stale-if-error=60\r\nAge: 10\r\nETag: \"v1\"\r\n";
    let no_grace = |setup: &mut Setup| setup.cache = "grace: 0s".to_owned();
    let response = get_despite(Fault::Refuses, said, no_grace).await;
    assert_eq!((response.status, response.text()), (200, "one"));
}

#[tokio::test]
async fn stale_response_does_not_answer_an_error_that_is_an_answer() {
    for status in [403, 404, 410, 501] {
        let response = get_despite(Fault::Status(status), STALE, |_| {}).await;
        assert_eq!((response.status, response.text()), (status, "sorry"));
    }
}

#[tokio::test]
async fn stale_response_stays_unused_where_it_is_forbidden_or_too_old() {
    let fields = |directives: &str, age: u32| {
        format!("Cache-Control: max-age=10{directives}\r\nAge: {age}\r\nETag: \"v1\"\r\n")
    };
    let bad_gateway = [Fault::Refuses, Fault::Resets, Fault::Closes];
    for stored in [
        fields(", must-revalidate", 10),
        fields(", proxy-revalidate", 10),
        fields(", s-maxage=10", 10),
        fields(", no-cache", 0),
        fields(", must-revalidate, stale-if-error=60", 10),
        fields(", stale-if-error=5", 15),
        // Beyond the default grace of an hour.
        fields("", 10 + 3600),
    ] {
        for fault in bad_gateway {
            let response = get_despite(fault, &stored, |_| {}).await;
            assert_eq!(response.status, 502, "{fault:?} {stored}");
        }
        let response = get_despite(Fault::Status(503), &stored, |_| {}).await;
        assert_eq!(
            (response.status, response.text()),
            (503, "sorry"),
            "{stored}"
        );
    }
    let strict = fields(", must-revalidate", 10);
    let response = get_despite(Fault::Stalls, &strict, |_| {}).await;
    assert_eq!(response.status, 504, "{response:?}");
}

#[tokio::test]
async fn failed_validation_is_not_repeated_for_every_client() {
    let mut origin = Origin::start().await;
    let edge = Edge::before(&origin).await;
    get_answered(&edge, &mut origin, "", &ok(STALE, "one")).await;
    let sorry = answer(503, "", "sorry");
    let (stale, _) = get_answered(&edge, &mut origin, "", &sorry).await;
    assert_eq!(stale.text(), "one");
    // Nobody answers these at the origin.
    for _ in 0..5 {
        assert_eq!(get(&edge, "").await.text(), "one");
    }
    assert_eq!(origin.count(), 2);
}

#[tokio::test]
async fn error_in_the_background_does_not_replace_what_is_stored() {
    let mut origin = Origin::start().await;
    let edge = Edge::before(&origin).await;
    let fields =
        "Cache-Control: max-age=10, stale-while-revalidate=60\r\nAge: 10\r\nETag: \"v1\"\r\n";
    get_answered(&edge, &mut origin, "", &ok(fields, "one")).await;
    let (stale, mut exchange) = tokio::join!(get(&edge, ""), origin.next());
    assert_eq!(stale.text(), "one");
    // Who wants nothing stale waits for that validation, so its end is an event.
    let sorry = answer(503, "Cache-Control: max-age=60\r\n", "sorry");
    tokio::join!(
        get(&edge, "Cache-Control: min-fresh=1\r\n"),
        exchange.send(sorry)
    );
    exchange.finish();
    assert_eq!(get(&edge, "").await.text(), "one");
    assert_eq!(origin.count(), 2);
}

#[tokio::test]
async fn a_304_updates_the_fields_but_not_what_describes_the_bytes() {
    let mut origin = Origin::start().await;
    let edge = Edge::before(&origin).await;
    let fields = format!("{STALE}Content-Type: text/plain\r\nX-Old: 1\r\nX-Two: 1\r\n");
    get_answered(&edge, &mut origin, "", &ok(&fields, "one")).await;
    let update = format!(
        "{FRESH}X-Two: 2\r\nX-New: 3\r\nContent-Encoding: gzip\r\nContent-Length: 77\r\n\
         Connection: X-Hop\r\nX-Hop: 1\r\n"
    );
    let (validated, request) = get_answered(&edge, &mut origin, "", &not_modified(&update)).await;
    assert_eq!(request.field("if-none-match"), Some("\"v1\""));
    assert!(
        validated
            .cache_status()
            .contains("fwd=stale; fwd-status=304")
    );
    let hit = get(&edge, "").await;
    assert!(hit.is_hit(), "{hit:?}");
    for response in [&validated, &hit] {
        assert_eq!((response.status, response.text()), (200, "one"));
        for (name, value) in [
            ("content-type", Some("text/plain")),
            ("x-old", Some("1")),
            ("x-two", Some("2")),
            ("x-new", Some("3")),
            ("content-encoding", None),
            ("content-length", Some("3")),
            ("x-hop", None),
        ] {
            assert_eq!(response.field(name), value, "{response:?}");
        }
    }
    assert_eq!(origin.count(), 2);
}

#[tokio::test]
async fn a_304_for_another_representation_is_not_believed() {
    let mut origin = Origin::start().await;
    let edge = Edge::before(&origin).await;
    get_answered(&edge, &mut origin, "", &ok(STALE, "one")).await;
    let mut client = edge.client().await;
    let (response, (validation, whole)) = tokio::join!(client.request("GET", "/a", ""), async {
        let other = not_modified("Cache-Control: max-age=60\r\nETag: \"v2\"\r\n");
        let validation = origin.answer(other).await;
        let two = ok("Cache-Control: max-age=60\r\nETag: \"v2\"\r\n", "two");
        (validation, origin.answer(two).await)
    });
    assert_eq!(validation.field("if-none-match"), Some("\"v1\""));
    assert_eq!(whole.field("if-none-match"), None);
    assert_eq!(response.text(), "two");
    assert_eq!(get(&edge, "").await.text(), "two");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_requests_for_a_stale_object_make_one_validation() {
    let mut origin = Origin::start().await;
    let edge = Edge::before(&origin).await;
    get_answered(&edge, &mut origin, "", &ok(STALE, "one")).await;
    let mut clients = waiting(&edge, 50).await;
    // Who comes after it finds a fresh response.
    let request = origin.answer(not_modified(FRESH)).await;
    assert_eq!(request.field("if-none-match"), Some("\"v1\""));
    for client in &mut clients {
        let response = client.response("GET").await;
        assert_eq!((response.status, response.text()), (200, "one"));
    }
    assert_eq!(origin.count(), 2);
}

#[tokio::test]
async fn condition_of_a_client_is_judged_after_the_validation() {
    let two = ok("Cache-Control: max-age=60\r\nETag: \"v2\"\r\n", "two");
    for (tag, validation, status, body) in [
        ("\"v1\"", not_modified(FRESH), 304, ""),
        ("W/\"v1\"", not_modified(FRESH), 304, ""),
        ("\"v0\"", not_modified(FRESH), 200, "one"),
        ("\"v1\"", two.clone(), 200, "two"),
        ("\"v2\"", two.clone(), 304, ""),
    ] {
        let mut origin = Origin::start().await;
        let edge = Edge::before(&origin).await;
        get_answered(&edge, &mut origin, "", &ok(STALE, "one")).await;
        let fields = format!("If-None-Match: {tag}\r\n");
        let (response, request) = get_answered(&edge, &mut origin, &fields, &validation).await;
        // The edge validates what it holds, not what the client holds.
        assert_eq!(request.fields("if-none-match"), ["\"v1\""]);
        assert_eq!((response.status, response.text()), (status, body), "{tag}");
        // A 304 may reach its client before the body that comes with the new 200 is whole: who
        // asks then shares that fetch, and is no hit. What counts is that nobody asks again.
        let later = get(&edge, "").await;
        let stored = if validation == two { "two" } else { "one" };
        assert_eq!(later.text(), stored, "{later:?}");
        assert_eq!(origin.count(), 2, "{later:?}");
    }
}

/// The final response behind any interim ones, and how many of those there were.
async fn final_response(client: &mut Client) -> (usize, Response) {
    let mut interim = 0;
    loop {
        let response = client.response("GET").await;
        if response.status >= 200 {
            return (interim, response);
        }
        interim += 1;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn interim_response_reaches_all_who_wait_and_is_not_stored() {
    const HINT: &str = "HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n";
    let mut origin = Origin::start().await;
    let edge = Edge::before(&origin).await;
    let mut asking = waiting(&edge, 1).await.remove(0);
    let mut exchange = origin.next().await;
    let mut others = waiting(&edge, 5).await;
    // Nobody outside can see when a request begins to wait: the origin goes on hinting, each time
    // when the first client has had the last hint, until everybody has had one.
    let hinting = async {
        loop {
            exchange.send(HINT).await;
            let hint = asking.head().await;
            assert_eq!(
                (hint.status, hint.field("link")),
                (103, Some("</style.css>"))
            );
        }
    };
    let heads = join_all(others.iter_mut().map(Client::head));
    let heads = tokio::select! {
        heads = heads => heads,
        () = hinting => unreachable!("the origin hints for ever"),
    };
    for hint in heads {
        assert_eq!(
            (hint.status, hint.field("link")),
            (103, Some("</style.css>"))
        );
    }
    exchange.send(ok(FRESH, "one")).await;
    for client in others.iter_mut().chain([&mut asking]) {
        assert_eq!(final_response(client).await.1.text(), "one");
    }
    let (interim, hit) = final_response(&mut waiting(&edge, 1).await[0]).await;
    assert!(hit.is_hit() && hit.field("link").is_none(), "{hit:?}");
    assert_eq!((interim, origin.count()), (0, 1));
}

#[tokio::test]
async fn only_if_cached_is_answered_from_what_is_stored_or_504() {
    let mut origin = Origin::start().await;
    let edge = Edge::before(&origin).await;
    let cached = "Cache-Control: only-if-cached\r\n";
    assert_eq!(get(&edge, cached).await.status, 504);
    get_answered(&edge, &mut origin, "", &ok(STALE, "one")).await;
    assert_eq!(get(&edge, cached).await.status, 504);
    let tolerant = "Cache-Control: only-if-cached, max-stale\r\n";
    assert_eq!(get(&edge, tolerant).await.text(), "one");
    get_answered(&edge, &mut origin, "", &not_modified(FRESH)).await;
    let hit = get(&edge, cached).await;
    assert!(hit.is_hit() && hit.text() == "one", "{hit:?}");
    assert_eq!(origin.count(), 2);
}

#[tokio::test]
async fn request_directives_count_unless_the_operator_disregards_them() {
    for (fields, asks) in [
        ("Cache-Control: no-cache\r\n", true),
        ("Pragma: no-cache\r\n", true),
        ("Cache-Control: max-age=5\r\n", true),
        ("Cache-Control: min-fresh=60\r\n", true),
        ("Cache-Control: min-fresh=20\r\n", false),
        ("Cache-Control: no-store\r\n", true),
    ] {
        for disregard in [false, true] {
            let mut origin = Origin::start().await;
            let edge = Setup {
                cache: format!("ignore_request_cache_control: {disregard}"),
                ..Setup::of([origin.address])
            };
            let edge = edge.start().await;
            let stored = "Cache-Control: max-age=60\r\nETag: \"v1\"\r\nAge: 10\r\n";
            get_answered(&edge, &mut origin, "", &ok(stored, "one")).await;
            if asks && !disregard {
                let (response, _) =
                    get_answered(&edge, &mut origin, fields, &ok(FRESH, "two")).await;
                assert_eq!(response.text(), "two", "{fields}");
            } else {
                assert!(get(&edge, fields).await.is_hit(), "{fields}");
                assert_eq!(origin.count(), 1, "{fields}");
            }
        }
    }
}
