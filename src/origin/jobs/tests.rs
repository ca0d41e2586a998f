//! What looking after a store on real files comes to.

use std::fs::OpenOptions;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::HeaderValue;
use tempfile::TempDir;

use super::*;
use crate::clock::{ManualClock, SystemClock};
use crate::config::{Credential, Origin, Redundancy, Rights, Scrub, StoreDisk};
use crate::origin::blobs::{BlobId, StoredBlob, Verdict};
use crate::origin::meta::{DocumentKind, RetentionChange, VersionSetting, Versioning};
use crate::origin::names::{BucketName, ObjectKey};
use crate::origin::retention::{Retention, RetentionMode};
use crate::origin::stats::{Care, Level};
use crate::secret::Secret;

const BUCKET: &str = "media";
/// Goes into a pack.
const SMALL: usize = 100_000;
/// Goes into a file of its own.
const LARGE: usize = (1 << 20) + 1;

fn config(folder: &Path, redundancy: Redundancy) -> Origin {
    let disks = (0..redundancy.width()).map(|number| StoreDisk {
        path: folder.join(format!("d{number}")),
    });
    Origin {
        address: "127.0.0.1:0".parse().unwrap(),
        data: folder.join("data"),
        disks: disks.collect(),
        redundancy,
        cold: None,
        scrub: Scrub {
            bytes_per_second: Some(1 << 30),
            pause: Duration::from_secs(3600),
        },
        region: "us-east-1".to_owned(),
        domain: None,
        webhooks: Vec::new(),
        webhook_ca_file: None,
        purge: Vec::new(),
        credentials: vec![Credential {
            access_key_id: "demo".to_owned(),
            secret: Secret::new("a secret of the tests"),
            allow_sigv2: false,
            rights: Rights::default(),
        }],
    }
}

async fn open(folder: &Path, redundancy: Redundancy) -> Store {
    let config = config(folder, redundancy);
    let store = Store::open(&config, SystemClock::shared()).await.unwrap();
    store.create_bucket(BUCKET).await.unwrap();
    store
}

async fn put(store: &Store, key: &str, length: usize) {
    let seed = key.bytes().map(usize::from).sum::<usize>();
    let bytes: Vec<u8> = (0..length)
        .map(|at| ((at * 31 + seed) >> 3) as u8)
        .collect();
    let media_type = HeaderValue::from_static("application/octet-stream");
    let put = store.put_object(BUCKET, key, media_type, Bytes::from(bytes));
    put.await.unwrap();
}

async fn rows(store: &Store) -> Vec<StoredBlob> {
    store.inner.meta.blobs(None, 1000).await.unwrap()
}

/// That every blob that a row names is what it was when it was written.
async fn all_are_intact(store: &Store) {
    for blob in rows(store).await {
        let verdict = store.inner.disks.verify(&blob);
        assert!(matches!(verdict, Verdict::Intact), "{blob:?}: {verdict:?}");
    }
}

/// Files below a folder that have content.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.metadata().unwrap().len() > 0 {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn flip(path: &Path, offset: u64) {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut byte = [0];
    file.seek(SeekFrom::Start(offset)).unwrap();
    file.read_exact(&mut byte).unwrap();
    file.seek(SeekFrom::Start(offset)).unwrap();
    file.write_all(&[byte[0] ^ 1]).unwrap();
}

async fn compact(store: &Store) -> Compacted {
    match run_now(store, Job::Compact).await.unwrap() {
        Done::Compact(done) => done,
        other => panic!("{other:?}"),
    }
}

async fn scrub(store: &Store) -> Scrubbed {
    match run_now(store, Job::Scrub).await.unwrap() {
        Done::Scrub(found) => found,
        other => panic!("{other:?}"),
    }
}

async fn fill_and_kill_most(store: &Store) {
    for number in 0..12 {
        put(store, &format!("small/{number}"), SMALL).await;
    }
    for number in 0..9 {
        // A few bytes lie in the row, so the pack loses this one.
        put(store, &format!("small/{number}"), 10).await;
    }
}

#[tokio::test]
async fn a_pack_that_is_mostly_dead_is_written_anew_and_what_lives_stays_as_it_was() {
    for redundancy in [
        Redundancy::None,
        Redundancy::Copies(2),
        Redundancy::Shards { data: 2, parity: 1 },
    ] {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path(), redundancy).await;
        fill_and_kill_most(&store).await;
        let packs = files(&folder.path().join("d0/pack"));
        let done = compact(&store).await;
        assert_eq!((done.packs, done.left), (0, 1), "it is still written");
        assert_eq!(files(&folder.path().join("d0/pack")), packs);
        store.close().await;

        let store = open(folder.path(), redundancy).await;
        let before = rows(&store).await;
        let done = compact(&store).await;
        assert_eq!(
            (done.packs, done.blobs, done.left),
            (1, 3, 0),
            "{redundancy:?}"
        );
        assert_eq!(done.bytes, 3 * SMALL as u64);
        assert!(done.freed_bytes > 8 * SMALL as u64, "{done:?}");
        assert_eq!(store.stats().care(Care::RemovedPacks), 1);
        assert_eq!(store.stats().level(Level::PackLiveBytes), 3 * SMALL as u64);
        assert!(packs.iter().all(|pack| !pack.exists()), "{redundancy:?}");
        all_are_intact(&store).await;
        let after = rows(&store).await;
        assert_eq!(after.len(), 3);
        for (before, after) in before.iter().zip(&after) {
            assert_eq!(before.id, after.id);
            assert_eq!(before.block_crcs, after.block_crcs);
            assert_ne!(before.place, after.place);
        }
        store.close().await;
    }
}

#[tokio::test]
async fn a_pack_that_mostly_lives_stays() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), Redundancy::Shards { data: 2, parity: 1 }).await;
    for number in 0..12 {
        put(&store, &format!("small/{number}"), SMALL).await;
    }
    put(&store, "small/0", 10).await;
    store.close().await;
    let store = open(folder.path(), Redundancy::Shards { data: 2, parity: 1 }).await;
    assert_eq!(compact(&store).await, Compacted::default());
    assert_eq!(store.stats().level(Level::PackLiveBytes), 11 * SMALL as u64);
    let dead = store.stats().level(Level::PackDeadBytes);
    assert!(dead >= SMALL as u64 && dead < 2 * SMALL as u64, "{dead}");
    store.close().await;
}

async fn damaged(redundancy: Redundancy) -> (TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), redundancy).await;
    put(&store, "small", SMALL).await;
    put(&store, "large", LARGE).await;
    put(&store, "sound", LARGE).await;
    let pack = files(&folder.path().join("d0/pack"));
    flip(&pack[0], 70_000);
    let large = rows(&store).await[1].clone();
    let name = format!("{:016x}", large.id.row());
    let file = files(&folder.path().join("d0/big"));
    let file = file.iter().find(|path| path.ends_with(&name)).unwrap();
    std::fs::remove_file(file).unwrap();
    (folder, store)
}

#[tokio::test]
async fn a_scrub_mends_what_another_disk_still_has() {
    let (_folder, store) = damaged(Redundancy::Copies(2)).await;
    let found = scrub(&store).await;
    let expected = Scrubbed {
        blobs: 3,
        bytes: (SMALL + 2 * LARGE) as u64,
        repaired: 2,
        ..Scrubbed::default()
    };
    assert_eq!(found, expected);
    all_are_intact(&store).await;
    assert_eq!(store.stats().care(Care::RepairedBlobs), 2);
    assert_eq!(
        scrub(&store).await,
        Scrubbed {
            repaired: 0,
            ..expected
        }
    );
    let (under_way, last) = scrub_progress(&store).await.unwrap();
    assert_eq!(under_way, None);
    assert_eq!(last.unwrap().found.repaired, 0);
    store.close().await;
}

#[tokio::test]
async fn a_scrub_says_what_is_on_no_disk_any_more() {
    let (_folder, store) = damaged(Redundancy::None).await;
    let found = scrub(&store).await;
    assert_eq!((found.blobs, found.repaired, found.lost), (3, 0, 2));
    assert_eq!(store.stats().care(Care::LostBlobs), 2);
    store.close().await;
}

#[tokio::test]
async fn a_pass_goes_on_behind_the_blob_that_it_noted() {
    let (_folder, store) = damaged(Redundancy::Copies(2)).await;
    // The small blob was looked at before the restart, when it was still sound.
    let before = Progress {
        started_ms: 1,
        after: Some(rows(&store).await[0].id.row()),
        found: Scrubbed {
            blobs: 7,
            ..Scrubbed::default()
        },
    };
    let note = serde_json::to_string(&before).unwrap();
    store.inner.meta.set_note("scrub", note).await.unwrap();
    let pause = scrub::turn(&store, 1 << 30).await.unwrap();
    assert_eq!(pause, Duration::from_secs(3600));
    let (under_way, last) = scrub_progress(&store).await.unwrap();
    let last = last.unwrap();
    assert_eq!(under_way, None);
    assert_eq!(
        (last.started_ms, last.found.blobs, last.found.repaired),
        (1, 9, 1)
    );
    // The next one is not due yet.
    let pause = scrub::turn(&store, 1 << 30).await.unwrap();
    assert!(!pause.is_zero() && pause <= Duration::from_secs(3600));
    assert_eq!(store.stats().care(Care::VerifiedBlobs), 2);
    store.close().await;
}

#[tokio::test]
async fn what_a_reader_reports_is_mended_at_once() {
    let (_folder, store) = damaged(Redundancy::Copies(2)).await;
    let damaged = rows(&store).await[1].id;
    store
        .inner
        .disks
        .repairs()
        .report(BlobId::from_row(damaged.row() + 1000));
    store.inner.disks.repairs().report(damaged);
    let mended = async {
        while store.stats().care(Care::RepairedBlobs) == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = repair::run(&store) => {}
        () = mended => {}
    }
    assert_eq!(store.stats().care(Care::DamagedBlobs), 1);
    assert_eq!(
        scrub(&store).await.repaired,
        1,
        "the other one was not reported"
    );
    store.close().await;
}

#[tokio::test]
async fn garbage_that_a_stop_has_left_is_removed_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), Redundancy::None).await;
    put(&store, "large", LARGE).await;
    let key = ObjectKey::new("large").unwrap();
    let deletion = crate::origin::meta::Deletion {
        bucket: crate::origin::names::BucketName::new(BUCKET).unwrap(),
        key,
        version_id: None,
        condition: crate::origin::conditional::WriteCondition::default(),
        only_if_latest: None,
        bypasses_governance: false,
        owner: String::new(),
        now_ms: 1,
        messages: Vec::new(),
    };
    // The row goes and the file stays, as when the process stops in between.
    store.inner.meta.delete(deletion).await.unwrap().unwrap();
    let census = store.inner.meta.census().await.unwrap();
    assert_eq!((census.garbage, census.garbage_bytes), (1, LARGE as u64));
    let done = run_now(&store, Job::Garbage).await.unwrap();
    let gone = Amount {
        files: 1,
        bytes: LARGE as u64,
    };
    assert_eq!(done, Done::Garbage(gone));
    assert_eq!(files(&folder.path().join("d0/big")), Vec::<PathBuf>::new());
    assert_eq!(store.inner.meta.census().await.unwrap().garbage, 0);
    assert_eq!(store.stats().care(Care::CollectedBytes), LARGE as u64);
    store.close().await;
}

#[tokio::test]
async fn a_job_that_is_under_way_is_not_begun_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), Redundancy::None).await;
    let turn = store.inner.turns.wait(Job::Scrub).await;
    let refused = run_now(&store, Job::Scrub).await;
    assert!(matches!(refused, Err(JobError::UnderWay)), "{refused:?}");
    run_now(&store, Job::Garbage).await.unwrap();
    drop(turn);
    run_now(&store, Job::Scrub).await.unwrap();
    store.close().await;
}

#[tokio::test]
async fn locked_version_outlasts_its_rule_until_its_retention_is_over() {
    const DAY: Duration = Duration::from_secs(86_400);
    let folder = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(SystemTime::now());
    let config = config(folder.path(), Redundancy::None);
    let store = Store::open(&config, clock.clone()).await.unwrap();
    store.create_bucket(BUCKET).await.unwrap();
    let (bucket, key) = (
        BucketName::new(BUCKET).unwrap(),
        ObjectKey::new("a").unwrap(),
    );
    let meta = &store.inner.meta;
    let enabled = meta.set_versioning(&bucket, Versioning::Enabled).await;
    enabled.unwrap().unwrap();
    for (kind, document) in [
        (
            DocumentKind::ObjectLock,
            "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration>",
        ),
        (
            DocumentKind::Lifecycle,
            "<LifecycleConfiguration><Rule><Filter/><Status>Enabled</Status><NoncurrentVersionExpiration>\
             <NoncurrentDays>1</NoncurrentDays></NoncurrentVersionExpiration></Rule></LifecycleConfiguration>",
        ),
    ] {
        let put = meta.set_document(&bucket, kind, Some(document.into()));
        put.await.unwrap().unwrap();
    }
    put(&store, "a", SMALL).await;
    let retention = RetentionChange {
        retention: Some(Retention {
            mode: RetentionMode::Governance,
            until_ms: store.now_ms().unwrap() + 4 * 86_400_000,
        }),
        now_ms: store.now_ms().unwrap(),
        bypasses: false,
    };
    let set = meta.set(&bucket, &key, None, VersionSetting::Retention(retention));
    set.await.unwrap().unwrap();
    put(&store, "a", SMALL).await;
    put(&store, "a", SMALL).await;
    // Two are not current any more, and the rule gives each a day.
    for (days, ended) in [(3, 1), (2, 1), (1, 0)] {
        clock.advance(days * DAY);
        match run_now(&store, Job::Lifecycle).await.unwrap() {
            Done::Lifecycle(applied) => assert_eq!(applied.ended, ended, "{days}"),
            other => panic!("{other:?}"),
        }
    }
    store.close().await;
}
