//! A fleet of clients that all want one cold object: one origin request, and how soon after the
//! origin's first byte each of them has its own.
//!
//! The everyday run uses few clients. `make soak` runs ten thousand and prints the delays.

mod harness;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use harness::{Origin, Setup, within};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

/// The object that they want.
const OBJECT_BYTES: usize = 64 * 1024;

/// More than that would run over the listener's backlog.
const CONNECTING_AT_ONCE: usize = 64;

const REQUEST: &str = "HTTP/1.1\r\nHost: media.example\r\nConnection: close\r\n\r\n";
const HINT: &str = "HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n";
/// The last one, so that the edge has nothing left to send when the clock starts.
const LAST_HINT: &str = "HTTP/1.1 103 Early Hints\r\nX-Last: 1\r\n\r\n";
const END_OF_HEAD: &[u8] = b"\r\n\r\n";

/// One connection with one request on it. Ten thousand of these have to fit in memory, so nothing
/// but what was received and not looked at is kept.
struct Member {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Member {
    async fn ask(edge: SocketAddr, path: &str) -> Self {
        let stream = TcpStream::connect(edge).await.unwrap();
        let request = format!("GET {path} {REQUEST}");
        stream.writable().await.unwrap();
        let sent = stream.try_write(request.as_bytes()).unwrap();
        assert_eq!(sent, request.len());
        Member {
            stream,
            received: Vec::new(),
        }
    }

    /// Receives something; false at the end of the connection.
    async fn receive(&mut self) -> bool {
        loop {
            self.stream.readable().await.unwrap();
            // Not held across an await, or every member would have one of its own.
            let mut part = [0; 16 * 1024];
            match self.stream.try_read(&mut part) {
                Ok(0) => return false,
                Ok(count) => {
                    self.received.extend_from_slice(&part[..count]);
                    return true;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Takes the next head off what is received.
    async fn head(&mut self) -> String {
        loop {
            let end = self.received.windows(4).position(|w| w == END_OF_HEAD);
            if let Some(end) = end {
                let rest = self.received.split_off(end + END_OF_HEAD.len());
                let head = std::mem::replace(&mut self.received, rest);
                return String::from_utf8(head).unwrap();
            }
            assert!(self.receive().await, "closed before a head");
        }
    }

    /// Takes hints up to the last one.
    async fn last_hint(&mut self) {
        loop {
            let hint = self.head().await;
            assert!(hint.starts_with("HTTP/1.1 103 "), "{hint}");
            if hint.contains("x-last: 1") {
                return;
            }
        }
    }

    /// Waits for the first byte of the body; returns when it came.
    async fn first_byte(&mut self) -> Instant {
        let head = self.head().await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        while self.received.is_empty() {
            assert!(self.receive().await, "closed before the body");
        }
        Instant::now()
    }

    /// Receives the body to its end.
    async fn body(mut self, expected: &[u8]) {
        while self.receive().await {}
        assert!(self.received == expected, "{} bytes", self.received.len());
    }
}

/// Lets this process, and the edge that it starts, have as many connections as the system allows.
fn raise_file_limit(wanted: u64) {
    let limit = getrlimit(Resource::Nofile);
    let maximum = limit.maximum.unwrap_or(u64::MAX);
    assert!(
        maximum >= wanted,
        "{wanted} files are needed, {maximum} may be open: ulimit -n"
    );
    let raised = Rlimit {
        current: limit.current.map(|current| current.max(wanted)),
        ..limit
    };
    setrlimit(Resource::Nofile, raised).unwrap();
}

/// What the members have told so far.
#[derive(Debug)]
enum Event {
    /// A request is on its way.
    Asked,
    /// An interim response has come, so the request waits for the object.
    Waits,
    /// The last interim response has come.
    Ready,
    /// The first byte of the object has come.
    Began(Instant),
}

/// Takes part in the fleet: asks, and tells when it waits and when its first byte has come.
async fn take_part(
    edge: SocketAddr,
    path: String,
    connecting: Arc<Semaphore>,
    events: mpsc::UnboundedSender<Event>,
    expected: Arc<Vec<u8>>,
) {
    let permit = connecting.acquire().await.unwrap();
    let mut member = Member::ask(edge, &path).await;
    drop(permit);
    events.send(Event::Asked).unwrap();
    assert!(member.head().await.starts_with("HTTP/1.1 103 "));
    events.send(Event::Waits).unwrap();
    member.last_hint().await;
    events.send(Event::Ready).unwrap();
    let began = member.first_byte().await;
    events.send(Event::Began(began)).unwrap();
    member.body(&expected).await;
}

/// The delays of all members after the origin's first byte, sorted, one list for each of `runs`.
async fn delays(clients: usize, runs: usize) -> Vec<Vec<Duration>> {
    raise_file_limit(clients as u64 + 1000);
    let mut origin = Origin::start().await;
    let setup = Setup {
        // The origin is silent until everybody is here.
        pool: "health: { interval: 1h }\n      read_timeout: 10m",
        ..Setup::of([origin.address])
    };
    let edge = setup.start().await;
    let body: Arc<Vec<u8>> = Arc::new((0..OBJECT_BYTES).map(|at| (at % 251) as u8).collect());
    let head = format!(
        "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: {OBJECT_BYTES}\r\n\r\n"
    );
    let mut all = Vec::new();
    for run in 0..runs {
        let path = format!("/run-{run}");
        let mut leader = Member::ask(edge.http, &path).await;
        let mut exchange = origin.next().await;
        let (sender, mut events) = mpsc::unbounded_channel();
        let connecting = Arc::new(Semaphore::new(CONNECTING_AT_ONCE));
        let mut fleet = JoinSet::new();
        for _ in 1..clients {
            fleet.spawn(take_part(
                edge.http,
                path.clone(),
                Arc::clone(&connecting),
                sender.clone(),
                Arc::clone(&body),
            ));
        }
        for _ in 1..clients {
            let event = within("a request of everybody", events.recv()).await;
            assert!(matches!(event, Some(Event::Asked)), "{event:?}");
        }
        // That a request waits shows when it gets a hint. The origin goes on hinting, each time when
        // the first client has had the last hint, until everybody has had one.
        let mut waiting = 1;
        while waiting < clients {
            exchange.send(HINT).await;
            let hint = within("a hint", leader.head()).await;
            assert!(hint.starts_with("HTTP/1.1 103 "), "{hint}");
            while let Ok(event) = events.try_recv() {
                assert!(matches!(event, Event::Waits), "{event:?}");
                waiting += 1;
            }
        }
        exchange.send(LAST_HINT).await;
        within("the last hint", leader.last_hint()).await;
        for _ in 1..clients {
            let event = within("the last hint", events.recv()).await;
            assert!(matches!(event, Some(Event::Ready)), "{event:?}");
        }
        let (first, rest) = body.split_at(1);
        let beginning = [head.as_bytes(), first].concat();
        let sent = Instant::now();
        exchange.send(beginning).await;
        let mut delays = vec![leader.first_byte().await.duration_since(sent)];
        while delays.len() < clients {
            match within("a first byte", events.recv()).await {
                Some(Event::Began(began)) => delays.push(began.duration_since(sent)),
                other => panic!("{other:?}"),
            }
        }
        exchange.send(rest).await;
        exchange.finish();
        fleet.spawn({
            let body = Arc::clone(&body);
            async move { leader.body(&body).await }
        });
        within("everybody's body", fleet.join_all()).await;
        delays.sort_unstable();
        assert_eq!(origin.count(), run + 1);
        all.push(delays);
    }
    all
}

fn report(clients: usize, runs: &[Vec<Duration>]) {
    for delays in runs {
        let at = |percent: usize| delays[(delays.len() - 1) * percent / 100].as_secs_f64() * 1e3;
        println!(
            "{clients} waiters of one cold object, one origin request: first byte after the origin's \
             first {:.2} ms, p50 {:.2} ms, p99 {:.2} ms, last {:.2} ms",
            at(0),
            at(50),
            at(99),
            at(100)
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_waiters_of_a_cold_object_make_one_origin_request() {
    report(100, &delays(100, 1).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes ten thousand connections; `make soak` runs it"]
async fn ten_thousand_waiters_of_a_cold_object_make_one_origin_request() {
    // Other sizes of fleets, separated by blanks, for a curve.
    let sizes = std::env::var("FLEET_CLIENTS").unwrap_or_else(|_| "100 10000".to_owned());
    for clients in sizes.split_whitespace().map(|size| size.parse().unwrap()) {
        report(clients, &delays(clients, 5).await);
    }
}
