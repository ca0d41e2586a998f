//! Handshakes: which certificate, for whom, for how long.

mod harness;

use harness::{AnsweringOrigin, Edge, H2Client, Origin, Setup, TlsClient};
use rustix::process::Signal;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

const H1: &[&[u8]] = &[b"http/1.1"];

async fn edge(certificates: &[&[&'static str]], tls: &'static str) -> (Edge, AnsweringOrigin) {
    let origin = Origin::start().await.answering(|_| {
        let head = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n";
        format!("{head}Content-Length: 2\r\n\r\nok").into_bytes()
    });
    let setup = Setup {
        certificates: certificates.iter().map(|names| names.to_vec()).collect(),
        tls,
        edge: "timeouts: { request_head: 1s }",
        ..Setup::of([origin.address])
    };
    (setup.start().await, origin)
}

/// Sends a GET and reads its answer, whose body is `ok`.
async fn get(stream: &mut TlsStream<TcpStream>, host: &str) -> String {
    let request = format!("GET /a HTTP/1.1\r\nHost: {host}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"ok") && !answer.ends_with(b"</Error>") {
        answer.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(answer).unwrap()
}

fn shown(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    let chain = stream.get_ref().1.peer_certificates().unwrap();
    chain[0].clone().into_owned()
}

#[tokio::test]
async fn new_certificate_is_used_after_sighup_and_no_connection_is_dropped() {
    let (mut edge, _origin) = edge(&[&["a.example"]], "reload_interval: 1d").await;
    let old = edge.identities[0].clone();
    let mut before = TlsClient::new([&old], H1)
        .connect(edge.https, "a.example")
        .await;
    assert!(
        get(&mut before, "a.example")
            .await
            .starts_with("HTTP/1.1 200 ")
    );
    let new = old.renewed(&["a.example"]);
    let metric = "tidegate_tls_certificate_reloads_total";
    assert_eq!(edge.metrics().await.sum(metric, &["result=\"done\""]), 0.0);
    edge.signal(Signal::HUP);
    edge.logged("new handshakes use the certificates").await;
    let mut after = TlsClient::new([&new], H1)
        .connect(edge.https, "a.example")
        .await;
    assert_eq!(shown(&after), new.der);
    for stream in [&mut before, &mut after] {
        assert!(get(stream, "a.example").await.starts_with("HTTP/1.1 200 "));
    }
    assert_eq!(edge.metrics().await.sum(metric, &["result=\"done\""]), 1.0);
    let expiry = "tidegate_tls_certificate_expiry_timestamp_seconds";
    // rcgen's certificates last until the year 4096.
    assert!(edge.metrics().await.sum(expiry, &[]) > 4.0e9);
}

#[tokio::test]
async fn certificate_files_that_change_are_noticed_and_broken_ones_change_nothing() {
    let (mut edge, _origin) = edge(&[&["a.example"]], "reload_interval: 100ms").await;
    let old = edge.identities[0].clone();
    std::fs::write(&old.chain, "nothing").unwrap();
    let line = edge.logged("the certificates stay as they were").await;
    assert!(
        line.contains("ERROR") && line.contains("site0.pem"),
        "{line}"
    );
    let stream = TlsClient::new([&old], H1)
        .connect(edge.https, "a.example")
        .await;
    assert_eq!(shown(&stream), old.der);
    // The key comes first, and does not fit the old chain for a moment.
    let new = old.renewed(&["a.example"]);
    edge.logged("new handshakes use the certificates").await;
    let stream = TlsClient::new([&new], H1)
        .connect(edge.https, "a.example")
        .await;
    assert_eq!(shown(&stream), new.der);
}

#[tokio::test]
async fn each_name_gets_its_certificate() {
    let names: [&[&str]; 2] = [&["a.example"], &["b.example", "*.c.example"]];
    let (edge, _origin) = edge(&names, "").await;
    let client = TlsClient::new(&edge.identities, H1);
    for (name, identity) in [("a.example", 0), ("b.example", 1), ("x.c.example", 1)] {
        let mut stream = client.connect(edge.https, name).await;
        assert_eq!(shown(&stream), edge.identities[identity].der, "{name}");
        assert!(get(&mut stream, name).await.starts_with("HTTP/1.1 200 "));
    }
    // The first is shown, and the client does not like it.
    assert!(client.try_connect(edge.https, "d.example").await.is_err());
}

#[tokio::test]
async fn clients_come_back_with_tickets_also_after_a_reload() {
    let (mut edge, _origin) = edge(&[&["a.example"]], "reload_interval: 1d").await;
    let client = TlsClient::new(&edge.identities, H1);
    for round in 0..3 {
        let mut stream = client.connect(edge.https, "a.example").await;
        // The ticket comes with the answer.
        assert!(
            get(&mut stream, "a.example")
                .await
                .starts_with("HTTP/1.1 200 ")
        );
        if round == 1 {
            edge.signal(Signal::HUP);
            edge.logged("new handshakes use the certificates").await;
        }
    }
    let metrics = edge.metrics().await;
    let handshakes = |result| metrics.sum("tidegate_tls_handshakes_total", &[result]);
    assert_eq!(handshakes("result=\"full\""), 1.0);
    assert_eq!(handshakes("result=\"resumed\""), 2.0);
}

#[tokio::test]
async fn request_for_a_host_that_its_connection_was_not_made_for_is_misdirected() {
    let names: [&[&str]; 2] = [&["a.example", "also.example"], &["b.example"]];
    for (tls, status) in [("", "421"), ("misdirected: serve", "200")] {
        let (edge, origin) = edge(&names, tls).await;
        let client = TlsClient::new(&edge.identities, H1);
        for (host, status) in [
            ("a.example", "200"),
            ("A.example:8443", "200"),
            ("also.example", "200"),
            ("b.example", status),
            ("other.example", status),
        ] {
            let mut stream = client.connect(edge.https, "a.example").await;
            let answer = get(&mut stream, host).await;
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} ")),
                "{host}: {answer}"
            );
        }
        let h2 = TlsClient::new(&edge.identities, &[b"h2"]);
        let mut connection = H2Client::connect(&h2, edge.https, "a.example").await;
        for (host, is_served) in [("also.example", true), ("b.example", status == "200")] {
            let asked = origin.count();
            let (stream, bytes) = connection.get(host, "/h2");
            assert!(connection.send(&bytes).await);
            let body = connection.body_of(stream).await;
            assert_eq!(body == b"ok", is_served, "{host}");
            assert_eq!(origin.count() > asked, is_served, "{host}");
        }
        let metrics = edge.metrics().await;
        let refused = metrics.sum("tidegate_gate_refusals_total", &["reason=\"misdirected\""]);
        assert_eq!(refused, if status == "421" { 3.0 } else { 0.0 });
    }
}

#[tokio::test]
async fn handshake_that_dribbles_or_agrees_on_nothing_is_ended() {
    let (edge, _origin) = edge(&[&["a.example"]], "").await;
    // A record of 256 bytes that never comes to its end; nothing at all; and no TLS.
    let mut dribbling = edge.tls_client().await;
    dribbling.send([0x16, 3, 1, 1, 0, 1]).await;
    let mut silent = edge.tls_client().await;
    let mut plain = edge.tls_client().await;
    plain
        .send("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
        .await;
    for client in [&mut dribbling, &mut silent, &mut plain] {
        let said = client.until_close().await;
        assert!(said.len() < 16, "{}", said.escape_ascii());
    }
    let strange = TlsClient::new(&edge.identities, &[b"spdy/3"]);
    assert!(strange.try_connect(edge.https, "a.example").await.is_err());
    // Without ALPN it is HTTP/1.1.
    let mut silent = TlsClient::new(&edge.identities, &[])
        .connect(edge.https, "a.example")
        .await;
    assert!(
        get(&mut silent, "a.example")
            .await
            .starts_with("HTTP/1.1 200 ")
    );
    for result in ["result=\"timed_out\"", "result=\"failed\""] {
        edge.counted("tidegate_tls_handshakes_total", &[result], 2.0)
            .await;
    }
}

/// What testssl.sh says of a finding.
fn severity(finding: &serde_json::Value) -> &str {
    finding["severity"].as_str().unwrap_or_default()
}

#[tokio::test]
#[ignore = "takes testssl.sh a minute; make soak"]
async fn testssl_finds_no_weak_protocol_and_no_weak_cipher() {
    let (edge, _origin) = edge(&[&["localhost", "127.0.0.1"]], "").await;
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report.json");
    let address = edge.https.to_string();
    let scan = {
        let report = report.clone();
        // It ends with another code than 0 whenever it has found something.
        move || {
            std::process::Command::new("testssl")
                .args(["--quiet", "--warnings", "off", "--color", "0", "--jsonfile"])
                .arg(report)
                .args(["--ip", "one", &address])
                .status()
        }
    };
    tokio::task::spawn_blocking(scan).await.unwrap().unwrap();
    let report = std::fs::read_to_string(&report).unwrap();
    let findings: Vec<serde_json::Value> = serde_json::from_str(&report).unwrap();
    assert!(findings.len() > 50, "{report}");
    // The test's certificate is nobody's, names no revocation, and lasts too long.
    let not_ours = [
        "cert_",
        "chain_of_trust",
        "OCSP",
        "DNS_CAArecord",
        "overall_grade",
        "grade_cap",
        "final_score",
        "HSTS",
        "HPKP",
        "security_headers",
        "HTTP_",
        "scanTime",
        "engine_problem",
        // It hangs up right behind its handshake, and a ticket of TLS 1.3 comes behind it too: which is first is luck.
        "sessionresumption_ticket",
        // Clients choose among suites that are all good: those without AES in hardware choose better.
        "cipher_order",
    ];
    let is_ours = |finding: &&serde_json::Value| {
        let id = finding["id"].as_str().unwrap_or_default();
        let about = not_ours.iter().any(|beginning| id.starts_with(beginning));
        !about && !matches!(severity(finding), "OK" | "INFO" | "DEBUG")
    };
    let ours: Vec<_> = findings.iter().filter(is_ours).collect();
    for finding in &findings {
        println!(
            "{:8} {}: {}",
            severity(finding),
            finding["id"],
            finding["finding"]
        );
    }
    assert!(ours.is_empty(), "{ours:#?}");
}
