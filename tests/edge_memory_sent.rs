//! Long bodies in memory, sent without a copy.

mod disk_support;
mod harness;

use disk_support::{BLOCK, KIB, LARGE, Library, first_body};
use harness::{Edge, Setup, TlsClient, within};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

const FILES: &str = "tidegate_cache_memory_files";

/// More than it takes for a short block to be put into a file and sent from there.
const HITS: usize = 18;

/// An edge without a disk tier.
fn edge_before(library: &Library) -> Setup {
    Setup::of([library.origin.address])
}

async fn answered_from_memory(edge: &Edge) -> usize {
    let metrics = edge.metrics().await;
    metrics.sum("tidegate_response_bytes_total", &[r#"source="memory""#]) as usize
}

async fn get_by_tls(client: &mut TlsStream<TcpStream>, target: &str, length: usize) -> Vec<u8> {
    let request = format!("GET {target} HTTP/1.1\r\nHost: media.example\r\n\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.unwrap());
    }
    let mut body = vec![0; length];
    client.read_exact(&mut body).await.unwrap();
    body
}

#[tokio::test]
async fn bodies_of_all_lengths_are_the_same_from_files_of_memory() {
    let library = Library::open().await;
    let edge = Setup {
        certificates: vec![vec!["media.example"]],
        ..edge_before(&library)
    };
    let edge = edge.start().await;
    let mut plain = edge.client().await;
    let mut tls = TlsClient::new(&edge.identities, &[b"http/1.1"])
        .connect(edge.https, "media.example")
        .await;
    let mut answered = 0;
    // One byte short of what may lie in a file; short ones, long ones, and all blocks of a body.
    for (length, files) in [
        (8 * KIB - 1, 0),
        (8 * KIB, 1),
        (32 * KIB - 1, 2),
        (32 * KIB, 3),
        (100 * KIB, 4),
        (BLOCK, 5),
        (LARGE, 11),
    ] {
        let target = format!("/{length}/film");
        let whole = first_body(&target);
        assert!(plain.get(&target).await.body == whole);
        // Copied, put into files, and sent from them.
        for _ in 0..HITS {
            let hit = plain.get(&target).await;
            assert!(hit.is_hit() && hit.body == whole, "{length}");
        }
        // Another key by its scheme: fetched, and then a hit.
        for _ in 0..2 {
            let by_tls = within("a body by TLS", get_by_tls(&mut tls, &target, length)).await;
            assert!(by_tls == whole, "{length}");
        }
        edge.gauged(FILES, &[], f64::from(files)).await;
        answered += (HITS + 1) * length;
    }
    edge.counted(
        "tidegate_response_bytes_total",
        &[r#"source="memory""#],
        answered as f64,
    )
    .await;
    assert_eq!(library.origin.count(), 14);
}

#[tokio::test]
async fn ranges_are_cut_out_of_files_of_memory() {
    let library = Library::open().await;
    let edge = edge_before(&library).start().await;
    let mut client = edge.client().await;
    for length in [100 * KIB, LARGE] {
        let target = format!("/{length}/film");
        let whole = first_body(&target);
        assert!(client.get(&target).await.body == whole);
        for (start, end) in [
            (0, 1),
            (4095, 4097),
            (1, length),
            (BLOCK - 1, BLOCK + 1),
            (3 * BLOCK + 5, 5 * BLOCK),
            (length - 1, length),
        ] {
            if end > length {
                continue;
            }
            let fields = format!("Range: bytes={start}-{}\r\n", end - 1);
            let part = client.request("GET", &target, &fields).await;
            assert!(part.is_hit() && part.body == whole[start..end], "{part:?}");
        }
        let parts = client
            .request("GET", &target, "Range: bytes=5-9,40000-99999\r\n")
            .await;
        let is_in = |part: &[u8]| parts.body.windows(part.len()).any(|bytes| bytes == part);
        assert!(is_in(&whole[5..10]) && is_in(&whole[40_000..100_000]));
        let head = client.request("HEAD", &target, "").await;
        assert_eq!(head.field("content-length"), Some(&*length.to_string()));
    }
    // Whatever is counted as sent was asked for.
    let target = format!("/{LARGE}/film");
    let before = answered_from_memory(&edge).await;
    client
        .send(format!(
            "GET {target} HTTP/1.0\r\nHost: media.example\r\n\r\n"
        ))
        .await;
    assert!(client.until_close().await.ends_with(&first_body(&target)));
    edge.counted(
        "tidegate_response_bytes_total",
        &[r#"source="memory""#],
        (before + LARGE) as f64,
    )
    .await;
    assert_eq!(library.origin.count(), 2);
}

#[tokio::test]
async fn what_is_cleared_while_a_client_takes_nothing_reaches_it_unchanged() {
    let library = Library::open().await;
    let edge = edge_before(&library).start().await;
    // Far more than the sockets hold.
    let length = 96 * BLOCK;
    let target = format!("/{length}/film");
    let whole = first_body(&target);
    let mut client = edge.client().await;
    for _ in 0..3 {
        assert!(client.get(&target).await.body == whole);
    }
    edge.gauged(FILES, &[], 96.0).await;
    client
        .send(format!(
            "GET {target} HTTP/1.1\r\nHost: media.example\r\n\r\n"
        ))
        .await;
    assert_eq!(client.head().await.status, 200);
    edge.clear().await;
    // Memory is used for something else before the client goes on.
    let other = format!("/{length}/other");
    assert!(edge.get(&other).await.body == first_body(&other));
    assert!(client.read(length).await == whole);
}
