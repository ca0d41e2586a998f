//! HTTP/2 clients that make work without asking for anything: each is told to calm down and cut off, is
//! counted by what it did, and nobody else notices.
//!
//! The everyday run cuts each flood off once. `make soak` lets each come back on new connections, at full speed,
//! for `FLOOD_SECONDS` (30), and prints what another client saw meanwhile.

mod harness;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use harness::h2::{CALM, END_HEADERS, END_STREAM, block, frame, kind};
use harness::{AnsweringOrigin, Edge, H2Client, Origin, Setup, TlsClient, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const NAME: &str = "media.example";

/// What a client sends again and again; `stream` is a number that it has not used yet.
struct Flood {
    claim: &'static str,
    /// Under which of these the connection is counted.
    reasons: &'static [&'static str],
    /// Sent once, at the beginning.
    first: fn(&mut u32) -> Vec<u8>,
    batch: fn(&mut u32) -> Vec<u8>,
}

fn next(stream: &mut u32) -> u32 {
    let this = *stream;
    *stream += 2;
    this
}

fn fields(method: &str) -> Vec<u8> {
    // A POST would invalidate what the others are served.
    let path = if method == "GET" { "/hit" } else { "/upload" };
    block(&[
        (":method", method),
        (":scheme", "https"),
        (":authority", NAME),
        (":path", path),
    ])
}

fn get(stream: u32) -> Vec<u8> {
    frame(
        kind::HEADERS,
        END_STREAM | END_HEADERS,
        stream,
        &fields("GET"),
    )
}

fn nothing(_: &mut u32) -> Vec<u8> {
    Vec::new()
}

/// A request whose body does not come.
fn upload(stream: &mut u32) -> Vec<u8> {
    frame(kind::HEADERS, END_HEADERS, next(stream), &fields("POST"))
}

const FLOODS: &[Flood] = &[
    Flood {
        claim: "rapid reset",
        reasons: &["resets", "calm"],
        first: nothing,
        batch: |stream| {
            let cancel = |stream| {
                [
                    get(stream),
                    frame(kind::RST_STREAM, 0, stream, &[0, 0, 0, 8]),
                ]
                .concat()
            };
            (0..50).flat_map(|_| cancel(next(stream))).collect()
        },
    },
    Flood {
        claim: "resets that the edge is made to send",
        reasons: &["calm", "window_updates"],
        first: nothing,
        batch: |stream| {
            let provoke = |stream| {
                let open = frame(kind::HEADERS, END_HEADERS, stream, &fields("POST"));
                [
                    open,
                    frame(kind::WINDOW_UPDATE, 0, stream, &[0x7f, 0xff, 0xff, 0xff]),
                ]
                .concat()
            };
            (0..50).flat_map(|_| provoke(next(stream))).collect()
        },
    },
    Flood {
        claim: "more requests than may be under way",
        reasons: &["calm"],
        first: nothing,
        batch: |stream| (0..50).flat_map(|_| upload(stream)).collect(),
    },
    Flood {
        claim: "requests that are none",
        reasons: &["malformed_requests", "calm", "protocol"],
        first: nothing,
        batch: |stream| {
            let fields = block(&[(":method", "GET"), ("UPPER", "case")]);
            let request = |stream| frame(kind::HEADERS, END_STREAM | END_HEADERS, stream, &fields);
            (0..50).flat_map(|_| request(next(stream))).collect()
        },
    },
    Flood {
        claim: "fields without a name",
        reasons: &["malformed_requests", "calm", "protocol"],
        first: nothing,
        batch: |stream| {
            let empty: Vec<_> = (0..200).map(|_| ("", "")).collect();
            frame(
                kind::HEADERS,
                END_STREAM | END_HEADERS,
                next(stream),
                &block(&empty),
            )
        },
    },
    Flood {
        claim: "a list of fields that never ends",
        reasons: &["calm"],
        first: |stream| frame(kind::HEADERS, 0, next(stream), &fields("GET")),
        batch: |_| {
            frame(
                kind::CONTINUATION,
                0,
                1,
                &block(&[("x", "y".repeat(8_000).as_str()); 2]),
            )
        },
    },
    Flood {
        claim: "empty CONTINUATIONs",
        reasons: &["calm"],
        first: |stream| frame(kind::HEADERS, 0, next(stream), &fields("GET")),
        batch: |_| frame(kind::CONTINUATION, 0, 1, &[]).repeat(50),
    },
    Flood {
        claim: "PINGs",
        reasons: &["pings"],
        first: nothing,
        batch: |_| frame(kind::PING, 0, 0, &[0; 8]).repeat(100),
    },
    Flood {
        claim: "answers to PINGs that nobody sent",
        reasons: &["pings"],
        first: nothing,
        batch: |_| frame(kind::PING, 1, 0, &[0; 8]).repeat(100),
    },
    Flood {
        claim: "SETTINGS",
        reasons: &["settings"],
        first: nothing,
        batch: |_| frame(kind::SETTINGS, 0, 0, &[0, 4, 0, 0, 0xff, 0xff]).repeat(100),
    },
    Flood {
        claim: "PRIORITYs",
        reasons: &["priorities"],
        first: nothing,
        batch: |_| frame(kind::PRIORITY, 0, 1, &[0, 0, 0, 0, 9]).repeat(100),
    },
    Flood {
        claim: "WINDOW_UPDATEs",
        reasons: &["window_updates"],
        first: nothing,
        batch: |_| frame(kind::WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]).repeat(100),
    },
    Flood {
        claim: "empty DATA",
        reasons: &["calm"],
        first: upload,
        batch: |_| frame(kind::DATA, 0, 1, &[]).repeat(50),
    },
    Flood {
        claim: "frames of no known type",
        reasons: &["unknown_frames"],
        first: nothing,
        batch: |_| frame(0x42, 0, 0, &[0; 16]).repeat(100),
    },
];

async fn edge() -> (Edge, AnsweringOrigin) {
    let origin = Origin::start().await.answering(|_| {
        let head = "HTTP/1.1 200 OK\r\nCache-Control: max-age=3600\r\n";
        format!("{head}Content-Length: 2\r\n\r\nok").into_bytes()
    });
    let setup = Setup {
        certificates: vec![vec![NAME]],
        ..Setup::of([origin.address])
    };
    (setup.start().await, origin)
}

/// Sends a flood on one connection until it is over; gives the codes of the GOAWAYs that came.
async fn send(flood: &Flood, client: &TlsClient, edge: &Edge) -> Vec<u32> {
    let connection = H2Client::connect(client, edge.https, NAME).await;
    let (mut read, mut write) = tokio::io::split(connection.stream);
    let reading = async {
        let mut bytes = Vec::new();
        // A reset is an end as well.
        while read.read_buf(&mut bytes).await.is_ok_and(|count| count > 0) {}
        bytes
    };
    let writing = async {
        let mut stream = 1;
        let mut sent = write.write_all(&(flood.first)(&mut stream)).await;
        while sent.is_ok() {
            sent = write.write_all(&(flood.batch)(&mut stream)).await;
        }
    };
    let both = async { tokio::join!(reading, writing).0 };
    goaways(&within("the flood is cut off", both).await)
}

fn goaways(mut bytes: &[u8]) -> Vec<u32> {
    let mut codes = Vec::new();
    while let [high, middle, low, kind, _, _, _, _, _, rest @ ..] = bytes {
        let length = u32::from_be_bytes([0, *high, *middle, *low]) as usize;
        let Some(payload) = rest.get(..length) else {
            break;
        };
        if *kind == kind::GOAWAY {
            codes.push(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
        }
        bytes = &rest[length..];
    }
    codes
}

/// Another client: hit after hit on one connection. Gives the delays in order of their size.
async fn hits(edge: &Edge, enough: impl Fn(usize) -> bool) -> Vec<Duration> {
    let mut client = edge.client().await;
    let mut delays = Vec::new();
    while !enough(delays.len()) {
        let asked = Instant::now();
        assert_eq!(client.get("/hit").await.status, 200);
        delays.push(asked.elapsed());
    }
    delays.sort();
    delays
}

fn percentile(delays: &[Duration], percent: usize) -> Duration {
    delays[(delays.len() - 1) * percent / 100]
}

async fn cut_off(edge: &Edge, reasons: &[&str]) -> f64 {
    let metrics = edge.metrics().await;
    let counted = |reason| {
        let label = format!("reason=\"{reason}\"");
        metrics.sum("tidegate_h2_connections_cut_off_total", &[&label])
    };
    reasons.iter().map(counted).sum()
}

#[tokio::test]
async fn each_flood_is_cut_off_and_counted_and_the_others_are_served() {
    let (mut edge, origin) = edge().await;
    let client = TlsClient::new(&edge.identities, &[b"h2"]);
    assert_eq!(edge.get("/hit").await.status, 200);
    for flood in FLOODS {
        let before = cut_off(&edge, flood.reasons).await;
        let over = AtomicBool::new(false);
        let flooding = async {
            let codes = send(flood, &client, &edge).await;
            over.store(true, Ordering::Relaxed);
            codes
        };
        let others = hits(&edge, |count| count > 20 && over.load(Ordering::Relaxed));
        let (codes, _) = tokio::join!(flooding, others);
        // A client whose connection is reset while it floods may miss it.
        assert!(
            codes
                .iter()
                .all(|code| *code == CALM || *code == 1 || *code == 9),
            "{}: {codes:?}",
            flood.claim
        );
        let counted = async {
            while cut_off(&edge, flood.reasons).await <= before {
                tokio::task::yield_now().await;
            }
        };
        within(&format!("{} is counted: {codes:?}", flood.claim), counted).await;
    }
    // One line each second is enough.
    let line = edge.logged("an HTTP/2 connection is cut off").await;
    assert!(
        line.contains("127.0.0.1") && line.contains("reason="),
        "{line}"
    );
    // Those of the uploads that came as far as the origin.
    println!("{} requests at the origin", origin.count());
}

#[tokio::test]
async fn busy_client_is_not_taken_for_a_flood() {
    let (edge, _origin) = edge().await;
    let client = TlsClient::new(&edge.identities, &[b"h2"]);
    let mut connection = H2Client::connect(&client, edge.https, NAME).await;
    // As many of each as a browser that leaves a page, or a slow line, brings together.
    for _ in 0..20 {
        let mut bytes = Vec::new();
        for _ in 0..5 {
            let (stream, request) = connection.get(NAME, "/hit");
            bytes.extend(request);
            bytes.extend(frame(kind::WINDOW_UPDATE, 0, stream, &[0, 0, 1, 0]));
            bytes.extend(frame(kind::PRIORITY, 0, stream, &[0, 0, 0, 0, 9]));
        }
        bytes.extend(frame(kind::PING, 0, 0, &[0; 8]));
        assert!(connection.send(&bytes).await);
        let (stream, request) = connection.get(NAME, "/hit");
        assert!(connection.send(&request).await);
        assert_eq!(connection.body_of(stream).await, b"ok");
    }
    let metrics = edge.metrics().await;
    assert_eq!(
        metrics.sum("tidegate_h2_connections_cut_off_total", &[]),
        0.0
    );
}

#[tokio::test]
#[ignore = "takes FLOOD_SECONDS for each flood; make soak"]
async fn floods_at_full_speed() {
    let seconds = std::env::var("FLOOD_SECONDS").map_or(30, |text| text.parse().unwrap());
    let (edge, _origin) = edge().await;
    let client = TlsClient::new(&edge.identities, &[b"h2"]);
    let quiet = hits(&edge, |count| count == 5_000).await;
    let ms = |delay: Duration| delay.as_secs_f64() * 1000.0;
    println!(
        "no flood: p50 {:.3} ms, p99 {:.3} ms, {:.1} MiB resident",
        ms(percentile(&quiet, 50)),
        ms(percentile(&quiet, 99)),
        edge.resident_bytes().await / f64::from(1 << 20)
    );
    for flood in FLOODS {
        let end = Instant::now() + Duration::from_secs(seconds);
        let flooding = async {
            let mut connections = 0;
            while Instant::now() < end {
                send(flood, &client, &edge).await;
                connections += 1;
            }
            connections
        };
        let others = hits(&edge, |_| Instant::now() >= end);
        let (connections, delays) = tokio::join!(flooding, others);
        let resident = edge.resident_bytes().await / f64::from(1 << 20);
        println!(
            "{}: cut off {connections} times; another client: p50 {:.3} ms, p99 {:.3} ms; {resident:.1} MiB resident",
            flood.claim,
            ms(percentile(&delays, 50)),
            ms(percentile(&delays, 99)),
        );
        assert!(resident < 512.0, "{resident}");
    }
}
