//! Blocks that are sent from their files on disk.

mod disk_support;
mod harness;

use std::fs::OpenOptions;
use std::path::Path;

use disk_support::{BLOCK, Library, crash, first_body, records_of, recovered, shown, written};
use harness::Edge;

const SENT: &str = "tidegate_cache_disk_sent_bytes_total";

/// Six whole blocks: a short one at the end would be read.
const FILM: usize = 6 * BLOCK;

/// An edge whose disk tier holds `target`, and whose memory tier does not.
async fn edge_with(library: &Library, folder: &Path, target: &str) -> Edge {
    let edge = library.edge("64MiB", folder).start().await;
    assert_eq!(edge.get(target).await.body, first_body(target));
    written(&edge, records_of(target)).await;
    crash(edge);
    let edge = library.edge("64MiB", folder).start().await;
    recovered(&edge).await;
    edge
}

/// Waits until `bytes` were sent from files.
async fn sent_are(edge: &Edge, bytes: usize) {
    shown(edge, "bytes sent from files", |samples| {
        samples.sum(SENT, &[]) as usize == bytes
    })
    .await;
}

#[tokio::test]
async fn block_is_sent_from_its_file_and_compared_with_its_checksum_once() {
    let library = Library::open().await;
    let folder = tempfile::tempdir().unwrap();
    let target = format!("/{FILM}/film");
    let edge = edge_with(&library, folder.path(), &target).await;
    let asked = library.origin.count();
    let whole = first_body(&target);
    let mut client = edge.client().await;
    let mut read = Vec::new();
    for _ in 0..2 {
        let response = client.get(&target).await;
        assert!(response.is_hit() && response.body == whole);
        let metrics = edge.metrics().await;
        read.push(metrics.sum("tidegate_cache_disk_reads_total", &[r#"result="right""#]));
    }
    sent_are(&edge, 2 * FILM).await;
    assert!(read[0] >= 6.0 && read[1] == read[0], "{read:?}");
    let mut expected = 2 * FILM;
    for (start, end) in [
        (0, 1),
        (BLOCK - 1, BLOCK + 1),
        (3 * BLOCK + 5, 5 * BLOCK),
        (FILM - 1, FILM),
    ] {
        let fields = format!("Range: bytes={start}-{}\r\n", end - 1);
        let part = client.request("GET", &target, &fields).await;
        assert!(part.is_hit() && part.body == whole[start..end], "{part:?}");
        expected += end - start;
    }
    sent_are(&edge, expected).await;
    let parts = client
        .request("GET", &target, "Range: bytes=5-9,600000-899999\r\n")
        .await;
    let body = String::from_utf8_lossy(&parts.body);
    assert!(
        body.contains("Content-Range: bytes 600000-899999/"),
        "{parts:?}"
    );
    let is_in = |part: &[u8]| parts.body.windows(part.len()).any(|bytes| bytes == part);
    assert!(is_in(&whole[5..10]) && is_in(&whole[600_000..900_000]));
    sent_are(&edge, expected + 300_005).await;
    // The connection is as good as before, for what memory holds too.
    assert!(client.get("/100/small").await.body == first_body("/100/small"));
    assert_eq!(library.origin.count(), asked + 1);
}

#[tokio::test]
async fn head_and_requests_over_http_1_0_are_answered_from_files_too() {
    let library = Library::open().await;
    let folder = tempfile::tempdir().unwrap();
    let target = format!("/{FILM}/film");
    let edge = edge_with(&library, folder.path(), &target).await;
    assert!(edge.get(&target).await.body == first_body(&target));
    let mut client = edge.client().await;
    let head = client.request("HEAD", &target, "").await;
    assert_eq!(head.field("content-length"), Some(&*FILM.to_string()));
    client
        .send(format!(
            "GET {target} HTTP/1.0\r\nHost: media.example\r\n\r\n"
        ))
        .await;
    let all = client.until_close().await;
    assert!(all.ends_with(&first_body(&target)));
    sent_are(&edge, 2 * FILM).await;
}

#[tokio::test]
async fn file_that_ends_under_a_send_costs_the_client_nothing() {
    let library = Library::open().await;
    let folder = tempfile::tempdir().unwrap();
    let target = format!("/{FILM}/film");
    let edge = edge_with(&library, folder.path(), &target).await;
    let whole = first_body(&target);
    let mut client = edge.client().await;
    assert!(client.get(&target).await.body == whole);
    // The tier believes what it found right, and the system is asked for bytes that are not there.
    for entry in folder.path().join("segments").read_dir().unwrap() {
        let path = entry.unwrap().path();
        let file = OpenOptions::new().write(true).open(path).unwrap();
        file.set_len((2 * BLOCK) as u64).unwrap();
    }
    let again = client.get(&target).await;
    assert_eq!(again.status, 200);
    assert!(again.body == whole);
}

#[tokio::test]
async fn client_that_takes_nothing_keeps_no_file_open() {
    let library = Library::open().await;
    let folder = tempfile::tempdir().unwrap();
    // Far more than the sockets hold.
    let length = 24 * BLOCK * 4;
    let target = format!("/{length}/film");
    let edge = edge_with(&library, folder.path(), &target).await;
    let mut client = edge.client().await;
    assert!(client.get(&target).await.body == first_body(&target));
    client
        .send(format!(
            "GET {target} HTTP/1.1\r\nHost: media.example\r\n\r\n"
        ))
        .await;
    assert_eq!(client.head().await.status, 200);
    shown(&edge, "the beginning sent from its file", |metrics| {
        metrics.sum(SENT, &[]) > 0.0
    })
    .await;
    // The room of a segment is taken until nobody has its file open.
    edge.clear().await;
    // What is fetched for this client from then on may be written again.
    shown(&edge, "the room free", |metrics| {
        metrics.sum("tidegate_cache_bytes", &[r#"tier="disk""#]) < length as f64 / 2.0
    })
    .await;
    assert!(client.read(length).await == first_body(&target));
}
