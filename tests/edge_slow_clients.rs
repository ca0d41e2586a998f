//! Thousands of clients that take their time: each is cut off when its time is over, and meanwhile the
//! others are served as if they were not there.
//!
//! The everyday run uses a few hundred. `make soak` runs `SLOW_CLIENTS` (10,000) of each kind and prints what another
//! client saw.

mod harness;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use harness::h2::{block, frame, kind};
use harness::{
    AnsweringOrigin, Edge, Environment, H2Client, Origin, SMALL_PAGES, Setup, TlsClient, within,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

const NAME: &str = "media.example";

/// More than a socket's buffers hold.
const LARGE_BYTES: usize = 16 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Says nothing.
    Silent,
    /// Sends a byte of its head now and then.
    Head,
    /// Begins a TLS handshake, and sends a byte of it now and then.
    Handshake,
    /// Asks for a large object and reads nothing.
    Reader,
}

impl Kind {
    const ALL: [Kind; 4] = [Kind::Silent, Kind::Head, Kind::Handshake, Kind::Reader];

    fn first(self) -> Vec<u8> {
        match self {
            Kind::Silent => Vec::new(),
            Kind::Head => b"GET /hit HTTP/1.1\r\nHost: media.example\r\nX: ".to_vec(),
            Kind::Handshake => vec![0x16, 3, 1, 0x20, 0, 1],
            Kind::Reader => format!("GET /large HTTP/1.1\r\nHost: {NAME}\r\n\r\n").into_bytes(),
        }
    }

    fn dribbles(self) -> bool {
        matches!(self, Kind::Head | Kind::Handshake)
    }
}

async fn edge(environment: Environment) -> (Edge, AnsweringOrigin) {
    let origin = Origin::start().await.answering(|request| {
        let head = "HTTP/1.1 200 OK\r\nCache-Control: max-age=3600\r\n";
        let length = if request.target() == "/large" {
            LARGE_BYTES
        } else {
            2
        };
        let head = format!("{head}Content-Length: {length}\r\n\r\n").into_bytes();
        [head, vec![b'x'; length]].concat()
    });
    let setup = Setup {
        certificates: vec![vec![NAME]],
        edge: "timeouts: { request_head: 2s, keep_alive: 2s, write: 2s }",
        environment,
        ..Setup::of([origin.address])
    };
    let edge = setup.start().await;
    for path in ["/hit", "/large"] {
        assert_eq!(edge.get(path).await.status, 200);
    }
    (edge, origin)
}

/// One slow client, until it is cut off; one that reads nothing cannot tell, and stays until `over`.
async fn be_slow(kind: Kind, mut stream: TcpStream, mut over: watch::Receiver<bool>) {
    // Dribbling is what this is about; nothing waits for it.
    let mut ticks = tokio::time::interval(Duration::from_millis(200));
    let mut answer = [0; 1024];
    loop {
        tokio::select! {
            _ = ticks.tick(), if kind.dribbles() => {
                // The end is seen by the read.
                let _ = stream.write_all(b"a").await;
            }
            read = stream.read(&mut answer), if kind != Kind::Reader => {
                if !read.is_ok_and(|count| count > 0) {
                    return;
                }
            }
            () = async { over.wait_for(|over| *over).await.map(drop).unwrap_or_default() },
                if kind == Kind::Reader => return,
        }
    }
}

/// Another client: hit after hit on one connection. Gives the delays in order of their size.
async fn hits(edge: &Edge, enough: impl Fn(usize) -> bool) -> Vec<Duration> {
    let mut client = edge.client().await;
    let mut delays = Vec::new();
    while !enough(delays.len()) {
        let asked = Instant::now();
        assert_eq!(client.get("/hit").await.status, 200);
        delays.push(asked.elapsed());
        // All of them share this thread.
        tokio::task::yield_now().await;
    }
    delays.sort();
    delays
}

fn percentile(delays: &[Duration], percent: usize) -> f64 {
    delays[(delays.len() - 1) * percent / 100].as_secs_f64() * 1000.0
}

/// `count` clients of each kind; how long until all are gone is bounded by `timeouts` of the edge.
async fn slow_clients(count: usize, environment: Environment) {
    let (edge, _origin) = edge(environment).await;
    let quiet = hits(&edge, |count| count == 1_000).await;
    let mib = f64::from(1 << 20);
    let before = edge.resident_bytes().await / mib;
    let (over, is_over) = watch::channel(false);
    let mut slow = JoinSet::new();
    for kind in Kind::ALL {
        let address = if kind == Kind::Handshake {
            edge.https
        } else {
            edge.http
        };
        // Those fill buffers of the system.
        let count = if kind == Kind::Reader {
            count / 10
        } else {
            count
        };
        for _ in 0..count {
            let mut stream = within("a connection", TcpStream::connect(address))
                .await
                .unwrap();
            stream.write_all(&kind.first()).await.unwrap();
            slow.spawn(be_slow(kind, stream, is_over.clone()));
        }
    }
    let during = edge.resident_bytes().await / mib;
    let gone = AtomicBool::new(false);
    let waiting = async {
        // What is left is the connection that asks, and the one below.
        let open = async {
            while edge.metrics().await.sum("tidegate_connections", &[]) > 1.0 {
                tokio::task::yield_now().await;
            }
        };
        within("all of them are cut off", open).await;
        gone.store(true, Ordering::Relaxed);
        over.send_replace(true);
        within("all of them notice", async {
            while slow.join_next().await.is_some() {}
        })
        .await;
    };
    let others = hits(&edge, |_| gone.load(Ordering::Relaxed));
    let ((), delays) = tokio::join!(waiting, others);
    let after = edge.resident_bytes().await / mib;
    println!(
        "{count} of each: another client's p50 {:.3} ms and p99 {:.3} ms, before them {:.3} and {:.3}; \
         resident {before:.1} MiB before, {during:.1} during, {after:.1} after",
        percentile(&delays, 50),
        percentile(&delays, 99),
        percentile(&quiet, 50),
        percentile(&quiet, 99),
    );
    let each = (during - before) * mib / (count as f64 * 3.1);
    assert!(each < 32.0 * 1024.0, "{each} bytes for each");
    let timed_out = ["reason=\"head_timeout\""];
    edge.counted("tidegate_gate_refusals_total", &timed_out, count as f64)
        .await;
    let timed_out = ["result=\"timed_out\""];
    edge.counted("tidegate_tls_handshakes_total", &timed_out, count as f64)
        .await;
}

#[tokio::test]
async fn slow_clients_are_cut_off_and_the_others_are_served() {
    slow_clients(100, SMALL_PAGES).await;
}

#[tokio::test]
#[ignore = "needs 40,000 descriptors; make soak"]
async fn ten_thousand_slow_clients() {
    // The edge inherits it; each connection is one here and one there.
    let limit = getrlimit(Resource::Nofile);
    let most = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, most).unwrap();
    let count = std::env::var("SLOW_CLIENTS").map_or(10_000, |text| text.parse().unwrap());
    slow_clients(count, &[]).await;
}

#[tokio::test]
async fn h2_clients_that_say_nothing_or_never_end_a_head_are_cut_off() {
    let (edge, _origin) = edge(&[]).await;
    let client = TlsClient::new(&edge.identities, &[b"h2"]);
    let mut silent = H2Client::connect(&client, edge.https, NAME).await;
    let mut endless = H2Client::connect(&client, edge.https, NAME).await;
    let head = frame(kind::HEADERS, 0, 1, &block(&[(":method", "GET")]));
    assert!(endless.send(&head).await);
    for connection in [&mut silent, &mut endless] {
        while connection.next().await.is_some() {}
    }
    // Neither preface nor SETTINGS.
    let mut mute = client.connect(edge.https, NAME).await;
    let mut said = Vec::new();
    let end = mute.read_to_end(&mut said);
    // An end without close_notify is an end as well.
    let _ = within("the edge gives up", end).await;
}
