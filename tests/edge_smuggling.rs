//! No request is read by the origin in another way than by the edge.
//!
//! Every case of the table goes to the real edge, with one more request pipelined behind it. What the
//! origin's own parser made of it must be what the table says, and what the edge's access log says that it
//! asked the origin for: the same requests in the same order, and no others.

mod harness;
mod smuggling;

use std::path::Path;
use std::process::{Child, Command, Stdio};

use harness::h2::{END_HEADERS, END_STREAM, kind};
use harness::{
    Client, Edge, H2Client, Origin, Recorder, Seen, Setup, TlsClient, block, frame, own_address,
    within,
};
use smuggling::{Case, H2Case, H2Verdict, SMUGGLED, Verdict, h2_table, table};

/// The request that follows each case on its connection.
fn behind(number: usize) -> (String, String) {
    let target = format!("/behind/{number}");
    let head = "Host: media.example\r\nConnection: close\r\n\r\n";
    (format!("GET {target} HTTP/1.1\r\n{head}"), target)
}

type Expected = (String, String, Option<Vec<u8>>);

/// What the origin must see of a case: method, target and body, whose absence says that it has no end.
fn expected(case: &Case, number: usize) -> Vec<Expected> {
    let whole = |(method, target, body): &(&str, String, String)| {
        let body = body.as_bytes().to_vec();
        ((*method).to_owned(), target.clone(), Some(body))
    };
    match &case.verdict {
        Verdict::Refused => Vec::new(),
        Verdict::Served(seen) => {
            let behind = ("GET".to_owned(), behind(number).1, Some(Vec::new()));
            seen.iter().map(whole).chain([behind]).collect()
        }
        Verdict::Closed(seen) => seen.iter().map(whole).collect(),
        Verdict::Cut(method) => vec![((*method).to_owned(), format!("/c{number}"), None)],
    }
}

fn as_expected(seen: &Seen) -> Expected {
    let body = seen.whole.then(|| seen.body.clone());
    (seen.method.clone(), seen.target.clone(), body)
}

/// Sends a case and reads all answers up to the close.
async fn play(edge: &Edge, case: &Case, number: usize) -> String {
    let mut client = edge.client().await;
    let mut bytes = case.bytes.clone();
    bytes.extend(behind(number).0.as_bytes());
    client.send_regardless(&bytes).await;
    if matches!(case.verdict, Verdict::Cut(_)) {
        client.end_sending().await;
    }
    String::from_utf8_lossy(&client.until_close().await).into_owned()
}

/// The final status codes among the answers.
fn statuses(answers: &str) -> Vec<&str> {
    let heads = answers.split("HTTP/1.1 ").skip(1);
    heads
        .filter_map(|head| head.get(..3))
        .filter(|status| *status != "100")
        .collect()
}

/// Whether the client was told what the verdict says.
fn is_answered(case: &Case, answers: &str, expected: usize) -> bool {
    let statuses = statuses(answers);
    let (good, bad): (Vec<&str>, Vec<&str>) = statuses.iter().partition(|status| **status == "200");
    let refused = bad.len() <= 1 && bad.iter().all(|status| status.starts_with('4'));
    match case.verdict {
        Verdict::Refused | Verdict::Cut(_) => good.is_empty() && refused,
        // A hit is an answer without a request at the origin.
        Verdict::Served(_) => good.len() >= expected && bad.is_empty(),
        Verdict::Closed(_) => good.len() == expected && refused,
    }
}

/// The requests that the access log says the origin was asked for.
fn asked(log: &[serde_json::Value]) -> Vec<(String, String)> {
    let asked = log.iter().filter(|line| line["origin_server"].is_string());
    let word = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    asked
        .map(|line| (word(&line["method"]), word(&line["path"])))
        .collect()
}

#[tokio::test]
async fn origin_sees_each_request_as_the_edge_does() {
    let origin = Recorder::start().await;
    let edge = Setup::of([origin.address]).start().await;
    let cases = table();
    assert!(cases.len() >= 150, "{}", cases.len());
    let mut wrong = Vec::new();
    let mut before = 0;
    for (number, case) in cases.iter().enumerate() {
        let answers = play(&edge, case, number).await;
        let expected = expected(case, number);
        // Comes after all that this case may have left on its way to the origin.
        let (_, probe) = (edge.get("/probe").await, "/probe");
        let seen = origin.seen();
        let new: Vec<_> = seen[before..]
            .iter()
            .filter(|seen| seen.target != probe)
            .collect();
        before = seen.len();
        let found: Vec<_> = new.iter().map(|seen| as_expected(seen)).collect();
        let faults: Vec<_> = new.iter().flat_map(|seen| &seen.faults).collect();
        if found != expected || !faults.is_empty() || !is_answered(case, &answers, expected.len()) {
            let bytes = case.bytes.escape_ascii().to_string();
            let bytes = &bytes[..bytes.len().min(300)];
            wrong.push(format!(
                "{}: {bytes}\n  found {found:?}\n  faults {faults:?}\n  answers {:?}",
                case.claim,
                statuses(&answers)
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {} cases:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
    let stopped = edge.stop().await;
    let seen = origin.seen();
    let seen: Vec<_> = seen
        .iter()
        .map(|seen| (seen.method.clone(), seen.target.clone()))
        .collect();
    assert_eq!(asked(&stopped.access_log), seen);
}

/// nginx between the edge and the origin, as another reader of the same bytes.
struct Nginx(Child);

impl Nginx {
    /// Whether it is installed here.
    fn is_there() -> bool {
        let version = Command::new("nginx")
            .arg("-v")
            .stderr(Stdio::null())
            .status();
        version.is_ok_and(|status| status.success())
    }

    async fn start(folder: &Path, origin: std::net::SocketAddr) -> (Self, std::net::SocketAddr) {
        let address = own_address();
        let folder_name = folder.display();
        let config = format!(
            "daemon off; master_process off; pid {folder_name}/pid; error_log {folder_name}/error.log info;\n\
             events {{ }}\n\
             http {{\n\
               log_format seen escape=json '{{\"method\":\"$request_method\",\"path\":\"$uri\",\"status\":$status,\"body\":\"$request_body\"}}';\n\
               access_log {folder_name}/seen.log seen;\n\
               client_body_temp_path {folder_name}/body; proxy_temp_path {folder_name}/proxy;\n\
               fastcgi_temp_path {folder_name}/f; uwsgi_temp_path {folder_name}/u; scgi_temp_path {folder_name}/s;\n\
               server {{ listen {address}; location / {{ proxy_pass http://{origin}; proxy_http_version 1.1; }} }}\n\
             }}\n"
        );
        let file = folder.join("nginx.conf");
        std::fs::write(&file, config).unwrap();
        let child = Command::new("nginx")
            .arg("-e")
            .arg(folder.join("error.log"))
            .arg("-c")
            .arg(&file)
            .arg("-p")
            .arg(folder)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let nginx = Nginx(child);
        within("nginx listens", async {
            while tokio::net::TcpStream::connect(address).await.is_err() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        (nginx, address)
    }

    /// Stops it, so that its log is complete.
    fn stop(mut self) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, rustix::process::Signal::QUIT).unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[tokio::test]
async fn nginx_behind_the_edge_sees_each_request_as_the_edge_does() {
    if !Nginx::is_there() {
        println!("skipped: nginx is not installed");
        return;
    }
    let origin = Recorder::start().await;
    let folder = tempfile::tempdir().unwrap();
    let (nginx, address) = Nginx::start(folder.path(), origin.address).await;
    let edge = Setup::of([address]).start().await;
    let cases = table();
    let mut whole = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        if case.scripted_origin_only {
            continue;
        }
        play(&edge, case, number).await;
        let of_case = expected(case, number).into_iter();
        whole.extend(of_case.filter_map(|(method, target, body)| Some((method, target, body?))));
    }
    let stopped = edge.stop().await;
    nginx.stop();
    let log = std::fs::read_to_string(folder.path().join("seen.log")).unwrap();
    let lines: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let word = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    // What had no end for the edge may be called too large or broken off; nothing else may.
    let cut: Vec<_> = (cases.iter().enumerate())
        .filter(|(_, case)| matches!(case.verdict, Verdict::Cut(_)))
        .map(|(number, _)| format!("/c{number}"))
        .collect();
    let is_cut = |line: &&serde_json::Value| cut.contains(&word(&line["path"]));
    let (broken_off, found): (Vec<_>, Vec<_>) = lines.iter().partition(is_cut);
    let is_refused = |line: &&serde_json::Value| line["status"].as_u64() >= Some(400);
    assert!(broken_off.iter().all(is_refused));
    assert!(found.iter().all(|line| line["status"] == 200));
    let found = found.into_iter().map(|line| {
        let body = word(&line["body"]).into_bytes();
        (word(&line["method"]), word(&line["path"]), body)
    });
    let found: Vec<_> = found.collect();
    let mut both = found.iter().zip(&whole);
    assert_eq!(both.find(|(found, whole)| found != whole), None);
    assert_eq!(found.len(), whole.len());
    let seen: Vec<_> = lines
        .iter()
        .map(|line| (word(&line["method"]), word(&line["path"])))
        .collect();
    assert_eq!(asked(&stopped.access_log).len(), seen.len());
}

#[tokio::test]
async fn tunnel_carries_what_follows_the_handshake_and_only_to_its_own_origin_connection() {
    let origin = Recorder::start().await;
    let edge = Setup::of([origin.address]).start().await;
    let mut client = edge.client().await;
    let handshake = "GET /switch HTTP/1.1\r\nHost: media.example\r\n\
                     Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    client.send(format!("{handshake}{SMUGGLED}")).await;
    let switched = client.head().await;
    assert_eq!(switched.status, 101);
    client.end_sending().await;
    client.until_close().await;
    assert_eq!(edge.get("/other").await.status, 200);
    let seen = origin.seen();
    let targets: Vec<_> = seen.iter().map(|seen| seen.target.as_str()).collect();
    assert_eq!(targets, ["/switch", "/other"]);
    assert!(SMUGGLED.as_bytes().starts_with(&seen[0].body));
}

#[tokio::test]
async fn body_that_goes_wrong_on_its_way_is_answered_and_ends_both_connections() {
    let mut origin = Origin::start().await;
    let edge = Edge::before(&origin).await;
    for (good, bad) in [
        ("5\r\nhello\r\n", "\r\n\r\n"),
        ("5\r\nhello\r\n", "5;a\nhello\r\n0\r\n\r\n"),
        ("5\r\nhel", "lo!"),
        ("5\r\nhello\r\n0\r\n", "A : b\r\n\r\n"),
    ] {
        let mut client = edge.client().await;
        let head = "POST /a HTTP/1.1\r\nHost: media.example\r\nTransfer-Encoding: chunked\r\n\r\n";
        client.send(format!("{head}{good}")).await;
        let mut exchange = origin.next().await;
        exchange.read_until(b"hel").await;
        client.send(bad).await;
        assert!(!exchange.closed().await.ends_with(b"\r\n0\r\n\r\n"));
        let answer = String::from_utf8(client.until_close().await).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{bad:?}: {answer}");
        assert_eq!(statuses(&answer).len(), 1);
    }
    let metrics = edge.metrics().await;
    let refused = metrics.sum("tidegate_gate_refusals_total", &["reason=\"chunks\""]);
    assert_eq!(refused, 4.0);
    let stopped = edge.stop().await;
    let refused = stopped.access_log.iter();
    assert_eq!(refused.filter(|line| line["reason"] == "chunks").count(), 4);
}

#[tokio::test]
async fn fields_that_are_for_the_next_hop_stay_there() {
    let origin = Recorder::start().await;
    let edge = Setup::of([origin.address]).start().await;
    for method in ["GET", "POST"] {
        let mut client = Client::connect(edge.http).await;
        let fields = "Connection: X-Hop, keep-alive\r\nX-Hop: a\r\nKeep-Alive: 5\r\nTE: trailers\r\n\
                      Proxy-Connection: keep-alive\r\nX-End: b\r\n";
        assert_eq!(client.request(method, "/a", fields).await.status, 200);
        let head = origin.seen().pop().unwrap().head.to_ascii_lowercase();
        assert!(head.contains("x-end: b"), "{head}");
        for gone in ["x-hop", "keep-alive:", "te:", "proxy-connection"] {
            assert!(!head.contains(&format!("\r\n{gone}")), "{head}");
        }
    }
}

/// Sends a request on a connection of its own, all at once, and reads up to its end.
async fn play_h2(client: &TlsClient, edge: &Edge, case: &H2Case) {
    let mut connection = H2Client::connect(client, edge.https, "media.example").await;
    let stream = connection.open();
    let fields: Vec<_> = case
        .fields
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let flags = if case.body.is_none() {
        END_STREAM | END_HEADERS
    } else {
        END_HEADERS
    };
    let mut bytes = frame(kind::HEADERS, flags, stream, &block(&fields));
    if let Some(body) = case.body {
        let flags = if case.trailers.is_none() {
            END_STREAM
        } else {
            0
        };
        bytes.extend(frame(kind::DATA, flags, stream, body.as_bytes()));
    }
    if let Some(trailer) = case.trailers {
        bytes.extend(frame(
            kind::HEADERS,
            END_STREAM | END_HEADERS,
            stream,
            &block(&[trailer]),
        ));
    }
    connection.send(&bytes).await;
    connection.until_end_of(stream).await;
}

#[tokio::test]
async fn origin_sees_each_request_of_http2_as_the_edge_does() {
    let origin = Recorder::start().await;
    let setup = Setup {
        certificates: vec![vec!["media.example"]],
        // What the gate makes of other hosts is this table's business.
        tls: "misdirected: serve",
        ..Setup::of([origin.address])
    };
    let edge = setup.start().await;
    let client = TlsClient::new(&edge.identities, &[b"h2"]);
    let mut wrong = Vec::new();
    let mut before = 0;
    for (number, case) in h2_table().iter().enumerate() {
        play_h2(&client, &edge, case).await;
        edge.get("/probe").await;
        let seen = origin.seen();
        let new: Vec<_> = seen[before..]
            .iter()
            .filter(|seen| seen.target != "/probe")
            .collect();
        before = seen.len();
        let faults: Vec<_> = new.iter().flat_map(|seen| &seen.faults).collect();
        let method = &case.fields.iter().find(|(name, _)| name == ":method");
        let is_it = |seen: &Seen| {
            let method = method.is_some_and(|(_, method)| *method == seen.method);
            method && seen.target == format!("/h{number}")
        };
        let is_right = match (case.verdict, &new[..]) {
            (H2Verdict::Refused | H2Verdict::NeverWhole, []) => true,
            (H2Verdict::NeverWhole, [seen]) => is_it(seen) && !seen.whole,
            (H2Verdict::Served(body), [seen]) => {
                is_it(seen) && seen.whole && seen.body == body.as_bytes()
            }
            _ => false,
        };
        if !is_right || !faults.is_empty() {
            wrong.push(format!(
                "{}: {:?}\n  found {new:?}\n  faults {faults:?}",
                case.claim, case.verdict
            ));
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
    let stopped = edge.stop().await;
    let seen = origin.seen();
    let seen: Vec<_> = seen
        .iter()
        .map(|seen| (seen.method.clone(), seen.target.clone()))
        .collect();
    assert_eq!(asked(&stopped.access_log), seen);
}
