//! Ranges: several at once, and of objects that are not stored yet; and what they cost the origin.

mod harness;
mod range_support;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use harness::{AnsweringOrigin, Client, Edge, Origin, Request, Response, Setup};
use range_support::{KIB, TYPICAL, object};

const MIB: u64 = 1024 * KIB;

/// The cache's block: what a byte that is not stored costs the origin at most.
const BLOCK: u64 = 256 * KIB;

/// The span that a `Range` field names of `length` bytes.
fn asked_span(field: &str, length: u64) -> Range<u64> {
    let (first, last) = field
        .strip_prefix("bytes=")
        .and_then(|range| range.split_once('-'))
        .unwrap();
    if first.is_empty() {
        return length.saturating_sub(last.parse().unwrap())..length;
    }
    let end = last
        .parse::<u64>()
        .map_or(length, |last| (last + 1).min(length));
    first.parse().unwrap()..end
}

/// Serves one object of `length` bytes with ranges, and counts the bytes.
struct Counting {
    origin: AnsweringOrigin,
    bytes: Arc<AtomicU64>,
}

impl Counting {
    async fn start(length: u64, fields: &'static str) -> (Counting, Edge) {
        Self::start_with(length, fields, "").await
    }

    /// `edge`: further keys of `edge`, as YAML.
    async fn start_with(length: u64, fields: &'static str, edge: &'static str) -> (Counting, Edge) {
        let bytes = Arc::new(AtomicU64::new(0));
        let count = bytes.clone();
        let origin = Origin::start().await.answering(move |request: &Request| {
            let (status, span, content_range) = match request.field("range") {
                None => ("200 OK", 0..length, String::new()),
                Some(field) if field.contains(',') => {
                    let (answer, sent) = several_parts(field, length);
                    count.fetch_add(sent, Ordering::SeqCst);
                    return answer;
                }
                Some(field) => {
                    let span = asked_span(field, length);
                    if span.is_empty() {
                        let head = "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Length: 0";
                        return format!("{head}\r\nContent-Range: bytes */{length}\r\n\r\n")
                            .into_bytes();
                    }
                    let last = span.end - 1;
                    let field = format!("Content-Range: bytes {}-{last}/{length}\r\n", span.start);
                    ("206 Partial Content", span, field)
                }
            };
            count.fetch_add(span.end - span.start, Ordering::SeqCst);
            let sent = span.end - span.start;
            let head = format!(
                "HTTP/1.1 {status}\r\n{fields}{content_range}Content-Length: {sent}\r\n\r\n"
            );
            [head.into_bytes(), object(span)].concat()
        });
        let setup = Setup {
            memory: "256MiB",
            edge,
            ..Setup::of([origin.address])
        };
        let edge = setup.start().await;
        (Counting { origin, bytes }, edge)
    }

    fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::SeqCst)
    }

    /// The `Range` of each request so far.
    fn asked(&self) -> Vec<Option<String>> {
        let requests = self.origin.requests();
        let asked = requests.iter().map(|request| request.field("range"));
        asked.map(|range| range.map(str::to_owned)).collect()
    }
}

/// The answer to a request for several ranges, and how many bytes of the object it holds.
fn several_parts(field: &str, length: u64) -> (Vec<u8>, u64) {
    let (mut body, mut sent) = (Vec::new(), 0);
    for set in field["bytes=".len()..].split(',') {
        let span = asked_span(&format!("bytes={set}"), length);
        let range = format!("bytes {}-{}/{length}", span.start, span.end - 1);
        body.extend(
            format!("--of-the-origin\r\nContent-Type: video/mp4\r\nContent-Range: {range}\r\n\r\n")
                .into_bytes(),
        );
        sent += span.end - span.start;
        body.extend(object(span));
        body.extend(b"\r\n");
    }
    body.extend(b"--of-the-origin--\r\n");
    let head = format!(
        "HTTP/1.1 206 Partial Content\r\nContent-Length: {}\r\n\
         Content-Type: multipart/byteranges; boundary=of-the-origin\r\n\r\n",
        body.len()
    );
    ([head.into_bytes(), body].concat(), sent)
}

/// Serves the object whole, whatever it is asked for.
async fn ignoring_ranges(length: u64, fields: &'static str) -> (AnsweringOrigin, Edge) {
    let origin = Origin::start().await.answering(move |_| {
        let head = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: {length}\r\n\r\n");
        [head.into_bytes(), object(0..length)].concat()
    });
    let edge = Setup::of([origin.address]).start().await;
    (origin, edge)
}

async fn get(client: &mut Client, range: &str) -> Response {
    let fields = format!("Range: bytes={range}\r\n");
    client.request("GET", "/film", &fields).await
}

/// The parts of a `multipart/byteranges`, each checked against the object; its head must say
/// `part_type` and `complete`.
fn parts(response: &Response, part_type: Option<&str>, complete: u64) -> Vec<Range<u64>> {
    assert_eq!(response.status, 206, "{response:?}");
    assert_eq!(response.field("content-range"), None, "{response:?}");
    let boundary = response
        .field("content-type")
        .and_then(|found| found.strip_prefix("multipart/byteranges; boundary="))
        .unwrap_or_else(|| panic!("{response:?}"));
    let types = response
        .head
        .lines()
        .filter(|line| line.to_ascii_lowercase().starts_with("content-type:"));
    assert_eq!(types.count(), 1, "{response:?}");
    let mut rest = Lines(&response.body);
    let mut found = Vec::new();
    assert_eq!(rest.next(), format!("--{boundary}"));
    loop {
        if let Some(part_type) = part_type {
            assert_eq!(rest.next(), format!("Content-Type: {part_type}"));
        }
        let range = rest.next();
        let range = range
            .strip_prefix("Content-Range: bytes ")
            .and_then(|range| range.strip_suffix(&format!("/{complete}")))
            .unwrap_or_else(|| panic!("{range}"));
        let (first, last) = range.split_once('-').unwrap();
        let span = first.parse().unwrap()..last.parse::<u64>().unwrap() + 1;
        assert_eq!(rest.next(), "");
        let (bytes, after) = rest.0.split_at((span.end - span.start) as usize);
        assert!(bytes == object(span.clone()), "wrong bytes in {span:?}");
        rest = Lines(after);
        found.push(span);
        assert_eq!(rest.next(), "");
        let delimiter = rest.next();
        if delimiter == format!("--{boundary}--") {
            assert!(rest.0.is_empty());
            return found;
        }
        assert_eq!(delimiter, format!("--{boundary}"));
    }
}

/// Lines and what lies between them.
struct Lines<'a>(&'a [u8]);

impl Lines<'_> {
    fn next(&mut self) -> String {
        let end = self.0.windows(2).position(|pair| pair == b"\r\n").unwrap();
        let (line, rest) = self.0.split_at(end);
        self.0 = &rest[2..];
        String::from_utf8(line.to_vec()).unwrap()
    }
}

#[tokio::test]
async fn several_ranges_of_a_stored_object_come_as_parts_in_the_order_asked() {
    for (fields, part_type) in [
        (TYPICAL, Some("video/mp4")),
        ("Cache-Control: max-age=60\r\n", None),
    ] {
        let length = 2 * MIB;
        let (origin, edge) = Counting::start(length, fields).await;
        let mut client = edge.client().await;
        client.get("/film").await;
        for (asked, expected) in [
            ("0-0,-1", vec![0..1, length - 1..length]),
            ("1000-1999,0-99", vec![1000..2000, 0..100]),
            // Overlapping ones are merged, those outside left out.
            ("5000-,0-9,6000-7000,2097152-", vec![5000..length, 0..10]),
            // Across blocks.
            (
                "262000-263000,524000-800000",
                vec![262_000..263_001, 524_000..800_001],
            ),
        ] {
            let response = get(&mut client, asked).await;
            assert_eq!(parts(&response, part_type, length), expected, "{asked}");
            assert!(response.is_hit(), "{asked}: {response:?}");
        }
        assert_eq!(origin.asked(), [None]);
    }
}

#[tokio::test]
async fn several_ranges_that_come_to_one_are_answered_as_one() {
    let (_origin, edge) = Counting::start(1000, TYPICAL).await;
    let mut client = edge.client().await;
    client.get("/film").await;
    for (asked, status, content_range, span) in [
        ("0-99,100-199", 206, Some("bytes 0-199/1000"), 0..200),
        ("0-,0-,0-", 206, Some("bytes 0-999/1000"), 0..1000),
        ("0-9,80-89", 206, Some("bytes 0-89/1000"), 0..90),
        ("2000-,-5", 206, Some("bytes 995-999/1000"), 995..1000),
        // One that is not of the RFC's syntax spoils the set.
        ("0-0,x,-1", 200, None, 0..1000),
        ("5-0,-1", 200, None, 0..1000),
    ] {
        let response = get(&mut client, asked).await;
        assert_eq!(response.status, status, "{asked}: {response:?}");
        assert_eq!(response.field("content-range"), content_range, "{asked}");
        assert_eq!(response.field("content-type"), Some("video/mp4"), "{asked}");
        assert!(response.body == object(span), "{asked}");
    }
    let outside = get(&mut client, "1000-,2000-2999,-0").await;
    assert_eq!(outside.status, 416);
    assert_eq!(outside.field("content-range"), Some("bytes */1000"));
    let set = |count: u64| {
        (0..count)
            .map(|at| format!("{0}-{0}", at * 10))
            .collect::<Vec<_>>()
    };
    assert_eq!(get(&mut client, &set(64).join(",")).await.status, 206);
    assert_eq!(get(&mut client, &set(65).join(",")).await.status, 200);
    let head = client
        .request("HEAD", "/film", "Range: bytes=0-0,-1\r\n")
        .await;
    assert_eq!(
        (head.status, head.field("content-length")),
        (200, Some("1000"))
    );
}

#[tokio::test]
async fn if_range_lets_only_strong_and_equal_validators_select_parts() {
    let date = "Date: Fri, 02 Jan 2026 00:01:00 GMT\r\n";
    let modified = "Last-Modified: Fri, 02 Jan 2026 00:00:00 GMT\r\n";
    let soon = "Date: Fri, 02 Jan 2026 00:00:59 GMT\r\n";
    let fresh = "Cache-Control: max-age=3153600000\r\n";
    let strong = "ETag: \"v1\"\r\n";
    let weak = "ETag: W/\"v1\"\r\n";
    for (stored, validator, status) in [
        ([strong, date, modified], "\"v1\"", 206),
        ([strong, date, modified], "\"v2\"", 200),
        ([strong, date, modified], "W/\"v1\"", 200),
        ([weak, date, modified], "W/\"v1\"", 200),
        ([weak, date, modified], "\"v1\"", 200),
        (
            [strong, date, modified],
            "Fri, 02 Jan 2026 00:00:00 GMT",
            206,
        ),
        ([weak, date, modified], "Fri, 02 Jan 2026 00:00:00 GMT", 206),
        (
            [strong, date, modified],
            "Fri, 02 Jan 2026 00:00:01 GMT",
            200,
        ),
        (
            [strong, date, modified],
            "Thu, 01 Jan 2026 23:59:59 GMT",
            200,
        ),
        // By another clock it may have been modified in the second it was sent, and again after that (RFC 9110
        // §8.8.2.2).
        (
            [strong, soon, modified],
            "Fri, 02 Jan 2026 00:00:00 GMT",
            200,
        ),
        ([strong, date, ""], "Fri, 02 Jan 2026 00:00:00 GMT", 200),
        ([strong, date, modified], "yesterday", 200),
    ] {
        let fields = stored.concat();
        let origin = Origin::start().await.answering(move |_| {
            let head = format!("HTTP/1.1 200 OK\r\n{fields}{fresh}Content-Length: 1000\r\n\r\n");
            [head.into_bytes(), object(0..1000)].concat()
        });
        let edge = Setup::of([origin.address]).start().await;
        let mut client = edge.client().await;
        client.get("/film").await;
        for range in ["10-19", "10-19,500-509"] {
            let condition = format!("Range: bytes={range}\r\nIf-Range: {validator}\r\n");
            let response = client.request("GET", "/film", &condition).await;
            assert_eq!(
                response.status, status,
                "{stored:?} {condition}: {response:?}"
            );
            assert!(response.is_hit(), "{stored:?} {condition}: {response:?}");
            match (status, range) {
                (200, _) => assert!(response.body == object(0..1000)),
                (_, "10-19") => assert!(response.body == object(10..20)),
                _ => assert_eq!(parts(&response, None, 1000), [10..20, 500..510]),
            }
        }
    }
}

#[tokio::test]
async fn cold_ranges_cost_the_origin_the_blocks_that_they_touch() {
    let length = 64 * MIB;
    let (origin, edge) = Counting::start(length, TYPICAL).await;
    let mut client = edge.client().await;
    let asked = "33554432-33554531,0-0,-1";
    let expected = [32 * MIB..32 * MIB + 100, 0..1, length - 1..length];
    let cold = get(&mut client, asked).await;
    assert_eq!(parts(&cold, Some("video/mp4"), length), expected);
    assert!(cold.cache_status().contains("fwd=miss"), "{cold:?}");
    let blocks = [
        "bytes=0-262143",
        "bytes=33554432-33816575",
        "bytes=66846720-67108863",
    ];
    assert_eq!(origin.asked(), blocks.map(|range| Some(range.to_owned())));
    let warm = get(&mut client, asked).await;
    assert_eq!(parts(&warm, Some("video/mp4"), length), expected);
    assert!(warm.is_hit(), "{warm:?}");
    let partial = get(&mut client, "0-9,1048576-1048585").await;
    assert_eq!(
        parts(&partial, Some("video/mp4"), length),
        [0..10, MIB..MIB + 10]
    );
    assert!(
        partial.cache_status().contains("fwd=partial"),
        "{partial:?}"
    );
    assert_eq!(origin.bytes(), 4 * BLOCK);
}

#[tokio::test]
async fn all_ranges_of_a_cold_object_may_lie_outside_of_it_or_all_but_one() {
    let (origin, edge) = Counting::start(100, TYPICAL).await;
    let mut client = edge.client().await;
    let outside = get(&mut client, "500000-500009,900000-").await;
    assert_eq!(outside.status, 416, "{outside:?}");
    let one = get(&mut client, "500000-500009,-5").await;
    assert_eq!(one.status, 206, "{one:?}");
    assert_eq!(one.field("content-range"), Some("bytes 95-99/100"));
    assert!(one.body == object(95..100));
    assert!(origin.bytes() <= 100);
}

/// RangeAmp (small backend requests, overlapping byte ranges): `origin <= client + 2 blocks per
/// part`, of the first response of a cold object one block more for a suffix; and nothing for what
/// is stored.
#[tokio::test]
async fn hostile_ranges_cost_the_origin_no_more_than_the_blocks_they_touch() {
    let length = 64 * MIB;
    let scattered: Vec<_> = (0..64)
        .map(|at| format!("{0}-{0}", at * MIB + 777))
        .collect();
    let overlapping: Vec<_> = (0..64).map(|at| format!("{at}-{}", 2 * at + 5)).collect();
    let whole_again_and_again = vec!["0-".to_owned(); 64];
    let nested: Vec<_> = (0..64)
        .map(|at| format!("{}-{}", at, 4 * MIB - at))
        .collect();
    let many = vec![scattered.join(",")];
    // Each suffix starts in the middle of a block of its own.
    let suffixes: Vec<_> = (1..=20_u64)
        .map(|step| format!("-{}", if step % 2 == 0 { 1 } else { step * BLOCK / 2 }))
        .collect();
    let one_by_one: Vec<_> = (0..32)
        .map(|at| format!("{0}-{0}", (at * 37 % 64) * MIB))
        .collect();
    for (name, requests, blocks_touched) in [
        ("64 scattered bytes", many, 64),
        ("64 overlapping", vec![overlapping.join(",")], 1),
        (
            "64 times the whole",
            vec![whole_again_and_again.join(",")],
            256,
        ),
        ("64 nested", vec![nested.join(",")], 17),
        // The longest is 9.5 blocks; one more was fetched to learn where the first starts.
        ("alternating suffixes", suffixes, 11),
        ("single bytes", one_by_one, 32),
    ] {
        let (origin, edge) = Counting::start(length, TYPICAL).await;
        let mut client = edge.client().await;
        let (mut client_bytes, mut parts_sent) = (0, 0);
        for request in &requests {
            let response = get(&mut client, request).await;
            assert_eq!(response.status, 206, "{name}: {response:?}");
            client_bytes += response.body.len() as u64;
            let is_one = response.field("content-range").is_some();
            parts_sent += if is_one {
                1
            } else {
                parts(&response, Some("video/mp4"), length).len() as u64
            };
        }
        let origin_bytes = origin.bytes();
        println!("{name}: {client_bytes} to the client, {origin_bytes} from the origin");
        assert!(
            origin_bytes <= blocks_touched * BLOCK,
            "{name}: {origin_bytes}"
        );
        assert!(
            origin_bytes <= client_bytes + (2 * parts_sent + 1) * BLOCK,
            "{name}: {origin_bytes} for {client_bytes} in {parts_sent} parts"
        );
        // The overlapping-byte-ranges attack is on the other side of the edge.
        assert!(
            client_bytes <= length * requests.len() as u64 + 64 * 200,
            "{name}"
        );
        for request in &requests {
            get(&mut client, request).await;
        }
        assert_eq!(origin.bytes(), origin_bytes, "{name}: stored by now");
    }
}

/// RangeAmp again, by a client that does not stop: what its ranges cost the origin beyond a burst
/// (`range_fetch_credit`) is paid for by what is written to it. Another minute fills up 2 % of a burst.
#[tokio::test]
async fn hostile_ranges_that_go_on_are_passed_to_the_origin_as_they_were_asked() {
    const FOR_EACH_BYTE: u64 = 4;
    let length = 1024 * MIB;
    let single = |at: u64| format!("{0}-{0}", at * MIB + 777);
    // No block is asked for twice.
    let scattered = |round: u64| {
        let of_a_round = |at: u64| at * 16 * MIB + round * MIB;
        let sets: Vec<_> = (0..64)
            .map(|at| format!("{0}-{0}", of_a_round(at)))
            .collect();
        sets.join(",")
    };
    for (name, edge, burst, requests) in [
        (
            "64 scattered bytes, default",
            "",
            64 * MIB,
            (0..12).map(scattered).collect::<Vec<_>>(),
        ),
        (
            "64 scattered bytes",
            "limits: { range_fetch_credit: 20MiB }",
            20 * MIB,
            (0..8).map(scattered).collect(),
        ),
        (
            "single bytes",
            "limits: { range_fetch_credit: 8MiB }",
            8 * MIB,
            (0..100).map(single).collect(),
        ),
    ] {
        let (origin, edge) = Counting::start_with(length, TYPICAL, edge).await;
        let mut client = edge.client().await;
        let (mut client_bytes, mut passed) = (0, 0);
        for request in &requests {
            let before = origin.asked().len();
            let response = get(&mut client, request).await;
            assert_eq!(response.status, 206, "{name}: {response:?}");
            let is_several = request.contains(',');
            let at = asked_span(&format!("bytes={request}"), length);
            if is_several {
                assert_eq!(parts(&response, Some("video/mp4"), length).len(), 64);
            } else {
                assert!(response.body == object(at), "{name}: {response:?}");
            }
            client_bytes += response.body.len() as u64;
            if response.cache_status().contains("detail=range-budget") {
                passed += 1;
                let asked = origin.asked().pop().unwrap();
                assert_eq!(asked, Some(format!("bytes={request}")), "{name}");
                assert!(origin.asked().len() <= before + 2, "{name}");
            }
            let bound = burst + burst / 50 + FOR_EACH_BYTE * client_bytes;
            let sent = origin.bytes();
            assert!(sent <= bound, "{name}: {sent} for {client_bytes}");
        }
        println!(
            "{name}: {} for {client_bytes}, {passed} passed",
            origin.bytes()
        );
        assert!(passed > requests.len() / 2, "{name}: {passed} passed");
        let stopped = edge.stop().await;
        let of_budget = |line: &&serde_json::Value| line["reason"] == "range-budget";
        assert_eq!(stopped.access_log.iter().filter(of_budget).count(), passed);
    }
}

/// What players do costs no credit, however little there is: the blocks of a range are used up by it
/// and by the one after it.
#[tokio::test]
async fn ranges_of_a_player_are_never_short_of_credit() {
    let length = 128 * MIB;
    let limit = "limits: { range_fetch_credit: 8MiB }";
    let (origin, edge) = Counting::start_with(length, TYPICAL, limit).await;
    let mut client = edge.client().await;
    let step = 900 * KIB;
    let in_turn = (0..80).map(|at| at * step);
    let seeks = (0..20).map(|at| (at * 37 % 64 + 64) * MIB + 12_345);
    for start in in_turn.chain(seeks) {
        let response = get(&mut client, &format!("{start}-{}", start + step - 1)).await;
        assert!(response.body == object(start..start + step), "{response:?}");
        let status = response.cache_status();
        assert!(!status.contains("range-budget"), "{start}: {status}");
    }
    assert!(origin.bytes() <= 100 * (step + 2 * BLOCK));
}

#[tokio::test]
async fn of_a_response_that_is_not_stored_only_the_part_at_hand_is_sent() {
    for fields in [
        "ETag: \"v1\"\r\nCache-Control: private\r\n",
        // Without strong validator nothing says that the parts belong together.
        "ETag: W/\"v1\"\r\nCache-Control: max-age=60\r\n",
        "Cache-Control: max-age=60\r\n",
    ] {
        let (origin, edge) = Counting::start(64 * MIB, fields).await;
        let mut client = edge.client().await;
        let response = get(&mut client, "40000000-40000009,300-309").await;
        assert_eq!(response.status, 206, "{fields}: {response:?}");
        let range = response.field("content-range");
        assert_eq!(range, Some("bytes 300-309/67108864"), "{fields}");
        assert!(response.body == object(300..310), "{fields}");
        assert_eq!(origin.bytes(), BLOCK, "{fields}");
    }
}

#[tokio::test]
async fn origin_that_ignores_ranges_sends_the_whole_once() {
    let length = 8 * MIB;
    let without_tag = "Cache-Control: max-age=60\r\n";
    for fields in [TYPICAL, without_tag, "Cache-Control: private\r\n"] {
        let (origin, edge) = ignoring_ranges(length, fields).await;
        let mut client = edge.client().await;
        let part_type = fields.contains("video").then_some("video/mp4");
        let ascending = get(&mut client, "5-9,7000000-7000009,-10").await;
        let expected = [5..10, 7_000_000..7_000_010, length - 10..length];
        assert_eq!(parts(&ascending, part_type, length), expected, "{fields}");
        assert_eq!(origin.count(), 1, "{fields}");

        // Of a body that comes from its beginning, the end cannot be sent first.
        let (origin, edge) = ignoring_ranges(length, fields).await;
        let mut client = edge.client().await;
        let descending = get(&mut client, "7000000-7000009,5-9").await;
        assert_eq!(descending.status, 200, "{fields}");
        assert!(descending.body == object(0..length), "{fields}");
        assert_eq!(origin.count(), 1, "{fields}");

        let (origin, edge) = ignoring_ranges(length, fields).await;
        let far = get(&mut edge.client().await, "7000000-7000009").await;
        assert_eq!(far.status, 206, "{fields}");
        assert!(far.body == object(7_000_000..7_000_010), "{fields}");
        assert_eq!(origin.count(), 1, "{fields}");
    }
}

/// What the origin sends for `span` of 2 MiB, of version `etag`.
fn partial(span: Range<u64>, etag: &str) -> Vec<u8> {
    let (first, last, sent) = (span.start, span.end - 1, span.end - span.start);
    let head = format!(
        "HTTP/1.1 206 Partial Content\r\nETag: \"{etag}\"\r\nCache-Control: max-age=60\r\n\
         Content-Range: bytes {first}-{last}/2097152\r\nContent-Length: {sent}\r\n\r\n"
    );
    [head.into_bytes(), object(span)].concat()
}

#[tokio::test]
async fn parts_of_two_versions_are_never_sent_together() {
    let mut origin = Origin::start().await;
    let edge = Edge::before(&origin).await;
    let mut client = edge.client().await;
    let fields = "Host: media.example\r\nRange: bytes=0-9,1048576-1048585\r\n";
    client
        .send(format!("GET /film HTTP/1.1\r\n{fields}\r\n"))
        .await;
    let first = origin.answer(partial(0..BLOCK, "v1")).await;
    assert_eq!(first.field("range"), Some("bytes=0-262143"));
    let second = origin.answer(partial(MIB..MIB + BLOCK, "v2")).await;
    assert_eq!(second.field("if-range"), Some("\"v1\""));
    let short = client.try_response("GET").await.unwrap_err();
    let received = short.bytes;
    assert!(received.windows(10).any(|bytes| bytes == object(0..10)));
    assert!(
        !received
            .windows(10)
            .any(|bytes| bytes == object(MIB..MIB + 10))
    );
}
