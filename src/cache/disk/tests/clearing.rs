//! What clearing means for those who read meanwhile, and for a recovery that has not ended.

use std::sync::Arc;

use bytes::Bytes;

use super::paper_folder::PaperFolder;
use crate::cache::disk::folder::Folder;
use crate::cache::disk::format::Kind;
use crate::cache::disk::log::LogSizes;
use crate::cache::disk::stopped::{Stopped, StoppedFault};
use crate::cache::disk::{Bodies, DiskTier, Response};
use crate::clock::SystemClock;

const SIZES: LogSizes = LogSizes {
    segment_bytes: 8192,
    limit_bytes: 8192 * 16,
};

fn open(folder: &PaperFolder) -> DiskTier {
    let folder: Arc<dyn Folder> = Arc::new(folder.clone());
    DiskTier::new(folder, SIZES, SystemClock::shared(), Box::new(|| Ok(())))
}

fn response(generation: u64) -> Response {
    Response {
        generation,
        revision: 0,
        kind: Kind::Response,
        head: Bytes::from_static(b"head"),
        body: Bytes::from_static(b"body"),
    }
}

#[tokio::test]
async fn what_is_read_while_the_tier_is_cleared_is_not_taken_in() {
    let folder = PaperFolder::new(1);
    let tier = open(&folder);
    assert!(tier.put_response(b"key", response(1)));
    tier.close(Vec::new()).await;
    let tier = open(&folder);
    let recalled = tier.responses(b"key", Bodies::Read).await.unwrap();
    assert_eq!(recalled.len(), 1);
    let mark = recalled[0].mark;
    assert!(tier.is_unerased(b"key", mark));
    tier.clear().await.unwrap();
    assert!(!tier.is_unerased(b"key", mark));
    assert!(tier.responses(b"key", Bodies::Read).await.is_none());
    assert_eq!(tier.stats().shown.bytes, 0);
}

#[tokio::test]
async fn a_stopped_folder_keeps_what_it_holds_unless_it_is_cleared() {
    let folder = PaperFolder::new(1);
    let shared = || Arc::new(folder.clone()) as Arc<dyn Folder>;
    let absent = Stopped::open(shared(), SIZES, |_, _| ()).err();
    assert!(matches!(absent, Some(StoppedFault::Absent)), "{absent:?}");
    let tier = open(&folder);
    assert!(tier.put_response(b"key", response(1)));
    tier.close(b"hot".to_vec()).await;
    let stopped = Stopped::open(shared(), SIZES, |_, _| ()).unwrap();
    assert_eq!(stopped.stats().shown.records, 1);
    stopped.close().unwrap();
    // The index is there again, so no segment has to be read.
    let mut read = 0;
    let mut stopped = Stopped::open(shared(), SIZES, |done, _| read = done).unwrap();
    assert_eq!(read, 0);
    assert_eq!(folder.read("hot").unwrap().as_deref(), Some(&b"hot"[..]));
    stopped.clear().unwrap();
    stopped.close().unwrap();
    assert_eq!(folder.read("hot").unwrap(), None);
    assert!(folder.segments().unwrap().is_empty());
}
