//! What the store keeps through stops, failing disks and flipped bits.

mod origin_support;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use origin_support::{Call, Server, blob_files, blob_files_come_to, folder, pattern};
use tidegate::clock::SystemClock;
use tidegate::origin::OpenError;
use tidegate::origin::blobs::{PACKED_MAX_BYTES, Swept};
use tidegate::origin::disk::{Disk, RealDisk};
use tidegate::origin::meta::sqlite::{MetaOpenError, SCHEMA_VERSION};

/// `row-is-truth`, `durable-before-visible`
#[test]
fn acknowledged_objects_survive_a_stop_without_close() {
    let data = folder();
    let mut acknowledged: Vec<(String, Vec<u8>)> = Vec::new();
    for round in 0..3usize {
        let server = Server::start(data.path());
        server.put("/films", b"");
        for (target, bytes) in &acknowledged {
            let get = server.get(target);
            assert!(get.body == *bytes, "{target} in round {round}");
        }
        for object in 0..4usize {
            let target = format!("/films/{round}-{object}");
            // In the row, in packs, and in files of their own.
            let bytes = pattern(object * 500_001 + round);
            assert_eq!(server.put(&target, &bytes).status, 200);
            acknowledged.push((target, bytes));
        }
        // An upload in flight: its bytes have begun to arrive when the crash comes.
        let call = Call::new("PUT", "/films/half")
            .body(&[7; 10])
            .field("expect", "100-continue");
        let mut client = server.client();
        client.send(&call.head(server.address), b"");
        assert_eq!(client.head().unwrap().0, 100);
        client.send("", b"half");
        server.crash();
    }
    let server = Server::start(data.path());
    for (target, bytes) in &acknowledged {
        assert!(server.get(target).body == *bytes, "{target}");
    }
    assert_eq!(server.get("/films/half").status, 404);
    let large = acknowledged
        .iter()
        .filter(|(_, bytes)| bytes.len() > PACKED_MAX_BYTES);
    blob_files_come_to(data.path(), large.count());
    server.stop();
}

/// `delete-needs-proof`
#[test]
fn opening_sweeps_what_dead_writers_left_and_nothing_else() {
    let data = folder();
    let server = Server::start(data.path());
    server.put("/films", b"");
    let kept = pattern(PACKED_MAX_BYTES + 1);
    server.put("/films/a", &kept);
    server.crash();
    let blobs = data.path().join("blobs");
    // Generation 1, number 0x77: what the crashed writer could have left at each stage.
    std::fs::write(blobs.join("d0/tmp/0000010000000077"), b"unfinished").unwrap();
    std::fs::write(blobs.join("d0/big/78/0000010000000078"), b"orphan").unwrap();
    std::fs::write(blobs.join("d0/tmp/notes.txt"), b"somebody's").unwrap();
    std::fs::write(blobs.join("d0/big/00/README"), b"somebody's").unwrap();
    let server = Server::start(data.path());
    assert_eq!(
        server.store.swept(),
        Swept {
            unfinished: 1,
            orphans: 1,
            packs: 0,
            foreign: 2
        }
    );
    assert_eq!(blob_files(data.path()).len(), 3);
    assert!(server.get("/films/a").body == kept);
    server.stop();
}

#[test]
fn nobody_else_may_enter_the_folders() {
    let data = folder();
    let server = Server::start(&data.path().join("origin"));
    for part in [
        "origin",
        "origin/meta",
        "origin/blobs",
        "origin/blobs/d0/tmp",
        "origin/blobs/d0/pack",
        "origin/blobs/d0/big/00",
    ] {
        let mode = std::fs::metadata(data.path().join(part))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o077, 0, "{part}");
    }
    server.stop();
}

#[test]
fn a_database_of_another_program_or_version_is_left_alone() {
    let data = folder();
    Server::start(data.path()).stop();
    let path = data.path().join("meta/tg.db");
    let stamp = |offset, value: u32| {
        let file = File::options().write(true).open(&path).unwrap();
        // SQLite's header holds user_version at 60 and application_id at 68, both big-endian.
        file.write_all_at(&value.to_be_bytes(), offset).unwrap();
    };
    let open = || Server::try_start(data.path(), SystemClock::shared(), Arc::new(RealDisk));
    stamp(60, 99);
    match open() {
        Err(OpenError::Meta(MetaOpenError::SchemaVersion { found: 99, .. })) => {}
        other => panic!("{:?}", other.err()),
    }
    stamp(60, u32::try_from(SCHEMA_VERSION).unwrap());
    stamp(68, 0x1234);
    match open() {
        Err(OpenError::Meta(MetaOpenError::Foreign { found: 0x1234, .. })) => {}
        other => panic!("{:?}", other.err()),
    }
}

/// `verify-on-read`
#[test]
fn a_flipped_bit_is_never_served() {
    let data = folder();
    let server = Server::start(data.path());
    server.put("/films", b"");
    let bytes = pattern(PACKED_MAX_BYTES + 1);
    server.put("/films/a", &bytes);
    let path = blob_files(data.path()).pop().unwrap();
    let file = File::options().read(true).write(true).open(path).unwrap();
    let flip = |offset: u64| {
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset).unwrap();
        file.write_all_at(&[byte[0] ^ 4], offset).unwrap();
    };
    flip(1000);
    let get = server.get("/films/a");
    assert_eq!((get.status, get.code().as_str()), (500, "InternalError"));
    let behind = server.call(Call::new("GET", "/films/a").field("range", "bytes=65536-65540"));
    assert_eq!(
        (behind.status, behind.body.as_slice()),
        (206, &bytes[65_536..65_541])
    );
    flip(1000);
    assert!(server.get("/films/a").body == bytes);
    // Behind the first read the status is out, so the connection must end short.
    flip(900_000);
    let get = server.get("/films/a");
    assert_eq!((get.status, get.complete), (200, false));
    assert!(bytes.starts_with(&get.body));
    flip(900_000);
    for length in [PACKED_MAX_BYTES as u64, PACKED_MAX_BYTES as u64 + 2] {
        file.set_len(length).unwrap();
        assert_eq!(server.get("/films/a").status, 500, "{length} bytes");
    }
    server.stop();
}

/// Which call of the disk fails, and how.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Failing {
    Write,
    SyncFile,
    SyncData,
    Rename,
    SyncFolder,
    Unlink,
}

/// A disk that fails one `failing` call, the one after `healthy` others, counted from [`FailingDisk::arm`].
struct FailingDisk {
    failing: Failing,
    error: io::ErrorKind,
    armed: AtomicBool,
    healthy: AtomicI64,
}

impl FailingDisk {
    fn new(failing: Failing, error: io::ErrorKind, healthy: i64) -> Arc<Self> {
        Arc::new(FailingDisk {
            failing,
            error,
            armed: AtomicBool::new(false),
            healthy: AtomicI64::new(healthy),
        })
    }

    /// Opening the store may use the disk as it likes; what comes now counts.
    fn arm(&self) {
        self.armed.store(true, Ordering::SeqCst);
    }

    fn has_failed(&self) -> bool {
        self.healthy.load(Ordering::SeqCst) < 0
    }

    fn pass(&self, call: Failing) -> io::Result<()> {
        let counts = call == self.failing && self.armed.load(Ordering::SeqCst);
        if counts && self.healthy.fetch_sub(1, Ordering::SeqCst) == 0 {
            return Err(self.error.into());
        }
        Ok(())
    }
}

impl Disk for FailingDisk {
    fn create(&self, path: &Path) -> io::Result<File> {
        RealDisk.create(path)
    }
    fn write(&self, file: &File, bytes: &[u8]) -> io::Result<()> {
        self.pass(Failing::Write)?;
        RealDisk.write(file, bytes)
    }
    fn sync_file(&self, file: &File) -> io::Result<()> {
        self.pass(Failing::SyncFile)?;
        RealDisk.sync_file(file)
    }
    fn sync_data(&self, file: &File) -> io::Result<()> {
        self.pass(Failing::SyncData)?;
        RealDisk.sync_data(file)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.pass(Failing::Rename)?;
        RealDisk.rename(from, to)
    }
    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.pass(Failing::SyncFolder)?;
        RealDisk.sync_folder(folder)
    }
    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.pass(Failing::Unlink)?;
        RealDisk.unlink(path)
    }
}

#[test]
fn after_a_failed_write_or_sync_the_store_reads_but_refuses_writes_until_reopened() {
    let (good, lost) = (pattern(PACKED_MAX_BYTES + 1), pattern(PACKED_MAX_BYTES + 2));
    for failing in [
        Failing::Write,
        Failing::SyncFile,
        Failing::Rename,
        Failing::SyncFolder,
    ] {
        let data = folder();
        let disk = FailingDisk::new(failing, io::ErrorKind::Other, 0);
        let server = Server::try_start(data.path(), SystemClock::shared(), disk.clone()).unwrap();
        server.put("/films", b"");
        assert_eq!(server.put("/films/a", &good).status, 200);
        disk.arm();
        assert!(!server.store.refuses_writes());
        let failed = server.put("/films/a", &lost);
        assert_eq!(
            (failed.status, failed.code().as_str()),
            (500, "InternalError"),
            "{failing:?}"
        );
        assert!(disk.has_failed());
        assert!(server.store.refuses_writes());
        // The disk would work again; the store does not try.
        for call in [
            Call::new("PUT", "/films/b").body(b"late"),
            Call::new("DELETE", "/films/a"),
            Call::new("PUT", "/other"),
        ] {
            let refused = server.call(call);
            assert_eq!(
                (refused.status, refused.code().as_str()),
                (503, "ServiceUnavailable"),
                "{failing:?}"
            );
        }
        assert!(server.get("/films/a").body == good);
        server.stop();
        let server = Server::start(data.path());
        assert!(server.get("/films/a").body == good, "{failing:?}");
        assert_eq!(server.put("/films/b", &lost).status, 200);
        // Nothing is left of what failed.
        blob_files_come_to(data.path(), 2);
        server.stop();
    }
}

/// A long upload is synced on its way; its end may sync well then, and would not bring back what was lost.
#[test]
fn a_sync_that_fails_on_the_way_fails_the_upload() {
    let data = folder();
    let disk = FailingDisk::new(Failing::SyncData, io::ErrorKind::Other, 0);
    let server = Server::try_start(data.path(), SystemClock::shared(), disk.clone()).unwrap();
    server.put("/films", b"");
    disk.arm();
    let failed = server.put("/films/a", &pattern(20 << 20));
    assert_eq!(
        (failed.status, failed.code().as_str()),
        (500, "InternalError")
    );
    assert!(disk.has_failed());
    assert!(server.store.refuses_writes());
    assert_eq!(server.get("/films/a").status, 404);
    server.stop();
    Server::start(data.path()).stop();
    blob_files_come_to(data.path(), 0);
}

/// `delete-needs-proof`: the commit that takes a blob's last name away is the proof, whenever it is acted upon.
#[test]
fn a_released_blob_that_could_not_be_removed_is_swept_at_the_next_opening() {
    let data = folder();
    let disk = FailingDisk::new(Failing::Unlink, io::ErrorKind::Other, 0);
    let server = Server::try_start(data.path(), SystemClock::shared(), disk.clone()).unwrap();
    disk.arm();
    server.put("/films", b"");
    let (old, new) = (pattern(PACKED_MAX_BYTES + 1), pattern(PACKED_MAX_BYTES + 2));
    server.put("/films/a", &old);
    assert_eq!(server.put("/films/a", &new).status, 200);
    assert_eq!(blob_files(data.path()).len(), 2);
    server.stop();
    let server = Server::start(data.path());
    assert_eq!(server.store.swept().orphans, 1);
    blob_files_come_to(data.path(), 1);
    assert!(server.get("/films/a").body == new);
    server.stop();
}

#[test]
fn a_full_disk_fails_one_upload_and_not_the_store() {
    let data = folder();
    let disk = FailingDisk::new(Failing::Write, io::ErrorKind::StorageFull, 0);
    let server = Server::try_start(data.path(), SystemClock::shared(), disk.clone()).unwrap();
    disk.arm();
    server.put("/films", b"");
    let bytes = pattern(PACKED_MAX_BYTES + 1);
    let failed = server.put("/films/a", &bytes);
    assert_eq!(
        (failed.status, failed.code().as_str()),
        (503, "ServiceUnavailable")
    );
    blob_files_come_to(data.path(), 0);
    assert_eq!(server.get("/films/a").status, 404);
    assert_eq!(server.put("/films/a", &bytes).status, 200);
    assert!(server.get("/films/a").body == bytes);
    server.stop();
}

#[test]
fn the_store_counts_what_it_did() {
    let data = folder();
    let server = Server::start(data.path());
    server.put("/films", b"");
    server.put("/films/a", b"hello");
    server.get("/films/a");
    server.get("/films/none");
    let stats = server.store.stats();
    let counts: Vec<_> = stats
        .requests()
        .iter()
        .map(|line| (line.operation.name(), line.status, line.count))
        .collect();
    assert_eq!(
        counts,
        [
            ("CreateBucket", 200, 1),
            ("PutObject", 200, 1),
            ("GetObject", 200, 1),
            ("GetObject", 404, 1),
        ]
    );
    assert_eq!(stats.received_bytes(), 5);
    assert!(stats.sent_bytes() > 5, "the bytes and an error document");
    server.stop();
}
