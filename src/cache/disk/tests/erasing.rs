//! A response that is taken back while it is between the queue and the index: it is in neither, so
//! there is nothing to remove, and yet it must not be found (`erased-stays-erased`), nor after a
//! restart that reads the segments.

use std::sync::Arc;

use bytes::Bytes;

use super::paper_folder::PaperFolder;
use crate::cache::disk::folder::Folder;
use crate::cache::disk::format::Kind;
use crate::cache::disk::log::LogSizes;
use crate::cache::disk::stopped::Stopped;
use crate::cache::disk::{Bodies, DiskTier, Response, snapshot};
use crate::clock::SystemClock;

const SIZES: LogSizes = LogSizes {
    segment_bytes: 8192,
    limit_bytes: 8192 * 16,
};

const ERASED: &[u8] = b"erased";
/// Of a later generation, so that nothing can take it for the other one.
const OTHER: &[u8] = b"other";

fn open(folder: &PaperFolder) -> DiskTier {
    let folder: Arc<dyn Folder> = Arc::new(folder.clone());
    DiskTier::new(folder, SIZES, SystemClock::shared(), Box::new(|| Ok(())))
}

fn response(generation: u64, body: &'static [u8]) -> Response {
    Response {
        generation,
        revision: 0,
        kind: Kind::Response,
        head: Bytes::from_static(b"head"),
        body: Bytes::from_static(body),
    }
}

async fn is_only_the_other_found(tier: &DiskTier) {
    assert!(tier.responses(ERASED, Bodies::Read).await.is_none());
    assert_eq!(tier.responses(OTHER, Bodies::Read).await.unwrap().len(), 1);
}

/// Lets `erase` take back a response while the writer writes it, and looks for it ever after.
async fn erased_while_written(erase: impl FnOnce(&DiskTier)) {
    let folder = PaperFolder::new(1);
    let tier = open(&folder);
    let gate = folder.hold(b"body of the erased one");
    assert!(tier.put_response(ERASED, response(1, b"body of the erased one")));
    gate.wait();
    erase(&tier);
    assert!(tier.responses(ERASED, Bodies::Read).await.is_none());
    assert!(tier.put_response(OTHER, response(2, b"another")));
    drop(gate);
    tier.close(Vec::new()).await;
    assert!(!tier.shared.queue.has_records());
    is_only_the_other_found(&tier).await;
    drop(tier);
    // Both records lie in the segments.
    let bytes: Vec<u8> = (folder.papers().iter())
        .flat_map(|paper| paper.lock().unwrap().written.clone())
        .collect();
    for body in [&b"body of the erased one"[..], b"another"] {
        assert!(bytes.windows(body.len()).any(|window| window == body));
    }

    let tier = open(&folder);
    is_only_the_other_found(&tier).await;
    tier.close(Vec::new()).await;
    drop(tier);

    folder.remove(snapshot::FILE_NAME).unwrap();
    let mut read = 0;
    let stopped = Stopped::open(Arc::new(folder.clone()), SIZES, |done, _| read = done).unwrap();
    assert!(read > 0);
    assert_eq!(stopped.stats().shown.records, 1);
    stopped.close().unwrap();
    is_only_the_other_found(&open(&folder)).await;
}

#[tokio::test]
async fn a_response_erased_while_it_is_written_never_comes_back() {
    erased_while_written(|tier| tier.erase(ERASED, 1)).await;
}

#[tokio::test]
async fn nor_does_one_whose_erasure_finds_the_queue_empty_already() {
    // The first half of an erasure. Its second half looks whether anything waits for the writer, and
    // is so late here that nothing does: it leaves the writer no order.
    erased_while_written(|tier| {
        let open = tier.shared.open.load_full().unwrap();
        let hash = open.hasher.of_key(ERASED);
        let mut removed = 0;
        let remove = || removed = open.shelf.index.remove_all(hash);
        tier.shared.erasures.erase(hash, 1, remove);
        assert_eq!(removed, 0);
    })
    .await;
}
