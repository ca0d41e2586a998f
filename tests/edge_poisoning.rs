//! Cache poisoning, cache-poisoned denial of service and web cache deception, as one table.
//!
//! Each row sends one request, then a clean request for the same URL from somebody else, who must
//! not get anything of the first. The origin is as careless as origins get: it reflects all that
//! it is sent, trips over what it does not like, and shows pages to whoever has a cookie.
//!
//! What an edge cannot do is not in the table: an origin that answers by a field of its own
//! invention must name it in `Vary` (RFC 9110 §12.5.5) or deny storage.

mod harness;

use harness::{Client, Edge, Exchange, Origin, Request, Response, Setup, within};

/// Marks what an attacker sends, wherever it shows up again.
const POISON: &str = "poison";
/// Marks what belongs to one user.
const SECRET: &str = "secret";

/// An attack, and what must not come of it.
#[derive(Clone)]
struct Row {
    name: String,
    /// Sent first, as it is.
    attack: Vec<u8>,
    /// Then asked for with a clean GET.
    victim_target: String,
    /// What the edge answers to that.
    victim_status: u16,
    /// What the answer must not show.
    never: &'static str,
}

impl Row {
    /// A GET of `target` with the field lines `fields`, each with its CRLF.
    fn get(name: impl Into<String>, target: impl Into<String>, fields: &str) -> Self {
        let target = target.into();
        let head = format!("GET {target} HTTP/1.1\r\nHost: media.example\r\n{fields}\r\n");
        Row::raw(name, head, target)
    }

    fn raw(
        name: impl Into<String>,
        attack: impl Into<Vec<u8>>,
        victim_target: impl Into<String>,
    ) -> Self {
        Row {
            name: name.into(),
            attack: attack.into(),
            victim_target: victim_target.into(),
            victim_status: 200,
            never: POISON,
        }
    }

    /// The edge refuses this target from everybody.
    fn refused_from_all(mut self) -> Self {
        self.victim_status = 400;
        self
    }

    fn never(mut self, text: &'static str) -> Self {
        self.never = text;
        self
    }
}

/// The careless origin. The first part of the path says how it answers, the second with which
/// fields; the rest only makes URLs differ.
fn answer(request: &Request, body: &str) -> String {
    let mut parts = request.target().split('/').skip(1);
    let (kind, fields) = (parts.next().unwrap(), parts.next().unwrap());
    let (kind, status) = kind.split_once('-').unwrap_or((kind, "200"));
    let fields = match fields {
        "plain" => "",
        "fresh" => "Cache-Control: max-age=60\r\n",
        "shared" => "Cache-Control: s-maxage=60\r\n",
        "varies" => "Cache-Control: max-age=60\r\nVary: Accept-Language, Cookie\r\n",
        "no-store" => "Cache-Control: no-store, max-age=60\r\n",
        "private" => "Cache-Control: private, max-age=60\r\n",
        "sets-cookie" => "Cache-Control: max-age=60\r\nSet-Cookie: session=of-somebody\r\n",
        "validators" => {
            "ETag: \"a\"\r\nLast-Modified: Tue, 01 Sep 2026 00:00:00 GMT\r\nDate: Sun, 22 Nov 2026 00:00:00 GMT\r\n"
        }
        other => panic!("no answer has {other}"),
    };
    let (status, body) = match kind {
        "reflects" => ("200", format!("{}{body}", request.head)),
        // Trips over large heads and over what it does not know.
        "trips" if request.head.len() > 2048 => (status, POISON.to_owned()),
        "trips" if request.head.contains(POISON) => (status, POISON.to_owned()),
        "ranges" if request.field("range").is_some() => (status, POISON.to_owned()),
        "ranges" | "trips" => ("200", "clean".to_owned()),
        "missing" => ("404", "there is no such thing".to_owned()),
        "account" if request.field("cookie").is_some() => ("200", SECRET.to_owned()),
        "account" => ("200", "please log in".to_owned()),
        other => panic!("no answer is called {other}"),
    };
    let length = body.len();
    let body = if request.method() == "HEAD" {
        ""
    } else {
        &body
    };
    format!("HTTP/1.1 {status} Scripted\r\n{fields}Content-Length: {length}\r\n\r\n{body}")
}

/// Reads a request's body, so that no byte of it begins the next request.
async fn body_of(exchange: &mut Exchange) -> Vec<u8> {
    if let Some(length) = exchange.request.field("content-length") {
        let length = length.parse().unwrap();
        return exchange.read(length).await;
    }
    match exchange.request.field("transfer-encoding") {
        Some(_) => exchange.read_until(b"0\r\n\r\n").await,
        None => Vec::new(),
    }
}

/// An edge before the careless origin. Small limits, so that an attack just below them is small.
async fn edge() -> Edge {
    let mut origin = Origin::start().await;
    let address = origin.address;
    tokio::spawn(async move {
        loop {
            let mut exchange = origin.next().await;
            let body = String::from_utf8(body_of(&mut exchange).await).unwrap();
            let answer = answer(&exchange.request, &body);
            exchange.send(answer).await;
            exchange.finish();
        }
    });
    let setup = Setup {
        edge: "limits: { request_head: 8KiB, request_fields: 60 }",
        ..Setup::of([address])
    };
    setup.start().await
}

/// Fields that origins and their frameworks are known to act on, and that no key holds.
fn unkeyed_fields() -> Vec<Row> {
    reflected(
        "fresh",
        &[
            "X-Forwarded-Host: poison.example",
            "X-Forwarded-Port: 1337, poison",
            "X-Forwarded-Prefix: /poison",
            "X-Forwarded-Proto: poison",
            "X-Original-URL: /poison",
            "X-Rewrite-URL: /poison",
            "X-HTTP-Method-Override: poison",
            "X-HTTP-Method: poison",
            "X-Method-Override: poison",
            "X-Request-Id: poison",
            "Connection: X-Poison\r\nX-Poison: poison",
            "Keep-Alive: poison",
            "TE: poison",
            "If-None-Match: \"poison\"",
            "If-Match: \"poison\"",
            "If-Range: \"poison\"",
            "If-Modified-Since: poison",
            "Range: poison=0-1",
            "Authorization: Bearer poison",
        ],
    )
}

/// More of them, which are still forwarded.
fn unkeyed_fields_that_are_forwarded() -> Vec<Row> {
    reflected(
        "fresh",
        &[
            "Forwarded: host=poison.example",
            "X-Forwarded-Scheme: poison",
            "X-Forwarded-Protocol: poison",
            "X-Forwarded-Ssl: poison",
            "X-Forwarded-Server: poison.example",
            "X-Forwarded-For: poison",
            "X-Forwarded-Path: /poison",
            "X-Forwarded-Uri: /poison",
            "X-Forwarded-Method: POISON, poison",
            "X-Host: poison.example",
            "X-HTTP-Host-Override: poison.example",
            "X-Original-Host: poison.example",
            "X-Original-URI: /poison",
            "X-Override-URL: /poison",
            "X-Url-Scheme: poison",
            "X-Real-IP: poison",
            "X-Client-IP: poison",
            "True-Client-IP: poison",
            "Client-IP: poison",
            "Base-Url: https://poison.example",
            "Front-End-Https: poison",
            "X-Amz-Website-Redirect-Location: https://poison.example",
            "X-Middleware-Subrequest: poison",
            "X-Middleware-Prefetch: poison",
            "X-Invoke-Status: poison",
            "X-Invoke-Path: /poison",
            "Proxy: http://poison.example",
            "Via: 1.1 poison",
            "Max-Forwards: 0, poison",
        ],
    )
}

/// Fields that say something about the client: an origin may answer by them when `Vary` says so,
/// or when it gives no freshness.
fn fields_of_the_client() -> Vec<Row> {
    let fields = ["Accept-Language: poison", "Cookie: theme=poison"];
    [reflected("varies", &fields), reflected("plain", &fields)].concat()
}

/// An attack for each field on an origin that reflects it, with `kind` of freshness.
fn reflected(kind: &str, fields: &[&str]) -> Vec<Row> {
    (fields.iter().enumerate())
        .map(|(number, field)| {
            let target = format!("/reflects/{kind}/{number}");
            Row::get(format!("{field} ({kind})"), target, &format!("{field}\r\n"))
        })
        .collect()
}

/// Requests that the edge could read in one way and the origin in another.
fn ambiguous_requests() -> Vec<Row> {
    let raw = |name: &str, attack: &str| Row::raw(name, attack, "/reflects/fresh/ambiguous");
    vec![
        raw(
            "absolute target of another host",
            "GET http://poison.example/reflects/fresh/ambiguous HTTP/1.1\r\nHost: media.example\r\n\r\n",
        ),
        raw(
            "absolute target, Host of somebody else",
            "GET http://media.example/reflects/fresh/ambiguous HTTP/1.1\r\nHost: poison.example\r\n\r\n",
        ),
        raw(
            "two Hosts",
            "GET /reflects/fresh/ambiguous HTTP/1.1\r\nHost: media.example\r\nHost: poison.example\r\n\r\n",
        ),
        raw(
            "Host folded onto the next line",
            "GET /reflects/fresh/ambiguous HTTP/1.1\r\nHost: media.example\r\n Host: poison.example\r\n\r\n",
        ),
        raw(
            "Host with a user",
            "GET /reflects/fresh/ambiguous HTTP/1.1\r\nHost: poison@media.example\r\n\r\n",
        ),
        raw(
            "Host with a port that is a word",
            "GET /reflects/fresh/ambiguous HTTP/1.1\r\nHost: media.example:poison\r\n\r\n",
        ),
        raw(
            "Host with another port",
            "GET /reflects/fresh/ambiguous HTTP/1.1\r\nHost: media.example:1337\r\n\r\n",
        )
        .never("1337"),
        raw(
            "fragment in the target",
            "GET /reflects/fresh/ambiguous#poison HTTP/1.1\r\nHost: media.example\r\n\r\n",
        ),
        raw(
            "parameter behind a semicolon",
            "GET /reflects/fresh/ambiguous?a=1;poison=2 HTTP/1.1\r\nHost: media.example\r\n\r\n",
        ),
        raw(
            "dot segments that lead elsewhere",
            "GET /reflects/fresh/poison/../ambiguous HTTP/1.1\r\nHost: media.example\r\n\r\n",
        ),
        raw(
            "fat GET",
            "GET /reflects/fresh/fat HTTP/1.1\r\nHost: media.example\r\nContent-Length: 8\r\n\r\na=poison",
        )
        .victim("/reflects/fresh/fat"),
        raw(
            "fat GET in chunks",
            "GET /reflects/fresh/fat-chunks HTTP/1.1\r\nHost: media.example\r\nTransfer-Encoding: chunked\r\n\r\n8\r\na=poison\r\n0\r\n\r\n",
        )
        .victim("/reflects/fresh/fat-chunks"),
        raw(
            "fat GET as a form",
            "GET /reflects/fresh/fat-form HTTP/1.1\r\nHost: media.example\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 8\r\n\r\na=poison",
        )
        .victim("/reflects/fresh/fat-form"),
        raw(
            "fat HEAD",
            "HEAD /reflects/fresh/fat-head HTTP/1.1\r\nHost: media.example\r\nContent-Length: 8\r\n\r\na=poison",
        )
        .victim("/reflects/fresh/fat-head"),
        raw(
            "POST whose answer is fresh",
            "POST /reflects/fresh/post HTTP/1.1\r\nHost: media.example\r\nContent-Length: 8\r\n\r\na=poison",
        )
        .victim("/reflects/fresh/post"),
        raw(
            "body in HTTP/1.0",
            "GET /reflects/fresh/old HTTP/1.0\r\nHost: media.example\r\nContent-Length: 8\r\n\r\na=poison",
        )
        .victim("/reflects/fresh/old"),
    ]
}

/// Spellings of `Host` that share a key, and that the origin is still told.
fn spellings_of_host() -> Vec<Row> {
    let raw = |name: &str, attack: &str| Row::raw(name, attack, "");
    vec![
        raw(
            "Host with the default port, which the key leaves out",
            "GET /reflects/fresh/default-port HTTP/1.1\r\nHost: media.example:80\r\n\r\n",
        )
        .victim("/reflects/fresh/default-port")
        .never(":80"),
        raw(
            "Host in capitals, which the key makes small",
            "GET /reflects/fresh/capitals HTTP/1.1\r\nHost: MEDIA.example\r\n\r\n",
        )
        .victim("/reflects/fresh/capitals")
        .never("MEDIA"),
    ]
}

impl Row {
    fn victim(mut self, target: &str) -> Self {
        self.victim_target = target.to_owned();
        self
    }
}

/// Cache-poisoned denial of service: a request that the origin trips over, for a URL that is fine.
fn denials() -> Vec<Row> {
    let mut rows = Vec::new();
    let oversized = format!("X-Oversized: {}\r\n", "a".repeat(6000));
    let too_many = "X-Many: a\r\n"
        .repeat(50)
        .replace(": a", ": aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
    for status in [400, 408, 413, 416, 417, 421, 425, 429, 431] {
        for fields in ["plain", "fresh", "shared", "validators"] {
            let target = |what: &str| format!("/trips-{status}/{fields}/{what}");
            let name = |what: &str| format!("{what} answered {status}, {fields}");
            rows.extend([
                Row::get(name("oversized by bytes"), target("bytes"), &oversized),
                Row::get(name("oversized by count"), target("count"), &too_many),
                Row::get(name("odd value"), target("odd"), "X-Odd: poison \u{e9}\r\n"),
            ]);
            let target = format!("/ranges-{status}/{fields}/a");
            let name = format!("range answered {status}, {fields}");
            rows.push(Row::get(name, target, "Range: bytes=0-3\r\n"));
        }
    }
    // Without explicit freshness nothing that goes wrong is kept.
    for status in [401, 403, 404, 405, 406, 410, 500, 501, 502, 503, 504] {
        let target = format!("/trips-{status}/plain/a");
        let name = format!("odd value answered {status} without freshness");
        rows.push(Row::get(name, target, "User-Agent: poison\r\n"));
    }
    // What the edge refuses itself must not stay either.
    let beyond = format!("X-Oversized: {}\r\n", "a".repeat(9000));
    for (name, fields) in [
        ("bytes beyond the limit of the edge", beyond.as_str()),
        (
            "fields beyond the limit of the edge",
            &"X: a\r\n".repeat(61),
        ),
        ("BEL in a value", "X-Meta: \x07poison\r\n"),
        ("NUL in a value", "X-Meta: \0poison\r\n"),
        ("bare CR in a value", "X-Meta: a\rX-B: poison\r\n"),
        ("bare LF in a value", "X-Meta: a\nX-B: poison\r\n"),
        ("ESC in a name", "X-\x1bMeta: poison\r\n"),
        ("unknown expectation", "Expect: poison\r\n"),
    ] {
        rows.push(Row::get(name, "/trips-400/fresh/refused", fields));
    }
    let long = format!("/trips-414/fresh/{}", "a".repeat(4000));
    rows.push(Row::get("target of 4 KB", "/trips-414/fresh/", "").attacked_with(&long));
    rows
}

impl Row {
    /// The attack is a GET of another target.
    fn attacked_with(mut self, target: &str) -> Self {
        self.attack = format!("GET {target} HTTP/1.1\r\nHost: media.example\r\n\r\n").into_bytes();
        self
    }
}

/// Web cache deception: a user is led to a URL that looks static and shows a page of their own.
/// The user is the first here, and the one who asks again is the attacker.
fn deceptions(kinds: &[&str]) -> Vec<Row> {
    let mut rows = Vec::new();
    for fields in kinds {
        for (suffix, refused) in [
            ("/x.css", false),
            (".css", false),
            (";.css", false),
            (";x=y.js", false),
            ("!.css", false),
            ("~.css", false),
            ("@x.css", false),
            (":x.css", false),
            (",x.css", false),
            ("&x.css", false),
            ("%3B.css", false),
            ("%3F.css", false),
            ("%23.css", false),
            ("%0A.css", false),
            ("%0D%0A.css", false),
            ("%09.css", false),
            ("%20.css", false),
            ("%26.css", false),
            ("?x.css", false),
            ("?/x.css", false),
            ("%3fx.css", false),
            ("/%20/x.css", false),
            ("//x.css", false),
            ("%00.css", true),
            ("%2Fx.css", true),
            ("%2fx.css", true),
            ("%5Cx.css", true),
            ("%2F..%2Fx.css", true),
            ("/..%2Fx.css", true),
            ("/%2e%2e/x.css", true),
            ("/../x.css", true),
            ("/.%2e/x.css", true),
            ("\\x.css", true),
            ("#.css", true),
        ] {
            let target = format!("/account/{fields}/me{suffix}");
            let name = target.clone();
            let row = Row::get(name, target, "Cookie: session=alice\r\n").never(SECRET);
            rows.push(if refused { row.refused_from_all() } else { row });
        }
    }
    rows
}

/// Sends the attack and reads whatever comes; what it is does not matter.
async fn attack(edge: &Edge, row: &Row) {
    let mut attacker = edge.client().await;
    attacker.send_regardless(&row.attack).await;
    let method = if row.attack.starts_with(b"HEAD") {
        "HEAD"
    } else {
        "GET"
    };
    attacker.try_response(method).await.ok();
}

/// Attacks, then asks as a victim does; what is wrong with the answer, if anything.
async fn run(edge: &Edge, row: &Row) -> Option<String> {
    attack(edge, row).await;
    let answer = edge.get(&row.victim_target).await;
    let shows = format!("{}{}", answer.head, answer.text()).contains(row.never);
    (shows || answer.status != row.victim_status).then(|| format!("{}: {answer:?}", row.name))
}

async fn run_all(rows: Vec<Row>) {
    let edge = edge().await;
    let mut wrong = Vec::new();
    for row in &rows {
        wrong.extend(run(&edge, row).await);
    }
    assert!(
        wrong.is_empty(),
        "{} of {} rows: {wrong:#?}",
        wrong.len(),
        rows.len()
    );
}

#[tokio::test]
async fn a_field_that_is_not_keyed_shapes_nothing_that_others_get() {
    run_all(unkeyed_fields()).await;
}

#[tokio::test]
async fn no_field_that_frameworks_act_on_shapes_what_others_get() {
    run_all(unkeyed_fields_that_are_forwarded()).await;
}

#[tokio::test]
async fn a_field_of_the_client_shapes_its_own_variant_only() {
    run_all(fields_of_the_client()).await;
}

#[tokio::test]
async fn a_request_with_two_readings_shapes_nothing_that_others_get() {
    run_all(ambiguous_requests()).await;
}

#[tokio::test]
async fn the_origin_is_told_the_host_that_is_keyed() {
    run_all(spellings_of_host()).await;
}

#[tokio::test]
async fn an_error_that_one_request_caused_is_not_served_to_others() {
    run_all(denials()).await;
}

#[tokio::test]
async fn a_page_of_one_user_is_not_stored_however_static_its_url_looks() {
    run_all(deceptions(&["plain", "no-store", "private", "sets-cookie"])).await;
}

#[tokio::test]
async fn a_page_of_one_user_is_not_stored_on_a_guess_at_its_freshness() {
    run_all(deceptions(&["validators"])).await;
}

#[tokio::test]
async fn a_range_of_an_error_is_no_part_of_what_others_get() {
    let edge = edge().await;
    for fields in ["plain", "fresh"] {
        let target = format!("/missing/{fields}/a");
        let row = Row::get("range of a 404", target.as_str(), "Range: bytes=0-3\r\n");
        attack(&edge, &row).await;
        let answer = edge.get(&target).await;
        assert_eq!(
            (answer.status, answer.text()),
            (404, "there is no such thing"),
            "{fields}"
        );
    }
}

#[tokio::test]
async fn a_get_with_a_body_is_never_answered_from_the_cache() {
    let edge = edge().await;
    let target = "/reflects/fresh/warm";
    edge.get(target).await;
    let warm = edge.get(target).await;
    assert!(
        warm.is_hit(),
        "the row means nothing unless it is stored: {warm:?}"
    );
    for (fields, body) in [
        ("Content-Length: 8", "a=poison"),
        ("Transfer-Encoding: chunked", "8\r\na=poison\r\n0\r\n\r\n"),
    ] {
        let mut client = edge.client().await;
        let head = format!("GET {target} HTTP/1.1\r\nHost: media.example\r\n{fields}\r\n\r\n");
        client.send(head + body).await;
        let answer = client.response("GET").await;
        assert!(!answer.is_hit(), "{answer:?}");
        assert!(
            answer.text().contains(POISON),
            "the origin answers: {answer:?}"
        );
    }
    let after: Response = edge.get(target).await;
    assert_eq!((after.is_hit(), after.text()), (true, warm.text()));
}

/// The table would be worth nothing if the origin did not fall for the attacks, or if nothing
/// were stored.
#[tokio::test]
async fn the_careless_origin_falls_for_what_reaches_it_and_its_answers_are_stored() {
    let mut origin = Origin::start().await;
    let edge = Edge::before(&origin).await;
    let mut client: Client = edge.client().await;
    let asked = client.request("GET", "/reflects/fresh/a", "Accept: poison\r\n");
    let answered = async {
        let mut exchange = origin.next().await;
        let answer = answer(&exchange.request, "");
        exchange.send(answer).await;
        exchange.finish();
    };
    let (first, ()) = within("an answer", async { tokio::join!(asked, answered) }).await;
    assert!(first.text().contains("poison"), "{first:?}");
    assert!(edge.get("/reflects/fresh/a").await.is_hit());
    for (target, field, expected) in [
        ("/trips-431/plain/a", "X: poison", "HTTP/1.1 431 "),
        ("/trips-431/plain/a", "X: fine", "HTTP/1.1 200 "),
        ("/ranges-416/plain/a", "Range: bytes=0-0", "HTTP/1.1 416 "),
        (
            "/account/plain/a",
            "Cookie: a=b",
            "HTTP/1.1 200 Scripted\r\nContent-Length: 6\r\n\r\nsecret",
        ),
    ] {
        let head = format!("GET {target} HTTP/1.1\r\n{field}\r\n\r\n");
        let answer = answer(&Request { head }, "");
        assert!(answer.starts_with(expected), "{answer}");
    }
}
