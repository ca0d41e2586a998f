//! Checking a stopped store: do its rows and its files tell the same story?
//!
//! Nothing is mended or removed. Like every opening it takes the lock and begins a writer generation, and unlike a start
//! it does not sweep, so that what a stop has left behind can be seen.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::blobs::{BlobError, BlobId, DiskBlobs, Layout, StoredBlob, Verdict};
use super::disk::RealDisk;
use super::latch::WriteLatch;
use super::meta::sqlite::{self, SqliteMeta};
use super::meta::{Meta as _, MetaError, StorageClass};
use super::store::{OpenError, blocking, lock_folder};
use crate::config;

/// Rows read at a time.
const BATCH: usize = 256;
/// Wrong counts, and blobs on the wrong disks, that are told one by one.
const TOLD_MAX: usize = 1000;

/// Why a store could not be checked.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// There is none.
    #[error("there is no store in {0}")]
    NoStore(PathBuf),
    /// It does not open; a running one holds its lock.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Rows cannot be read.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// A data folder cannot be read.
    #[error("a data folder cannot be read")]
    Folder(#[source] io::Error),
    /// The thread that reads the disks died: a bug of ours.
    #[error("the thread that reads the disks died")]
    Died,
}

/// What has been seen so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// Blobs that rows name: how many there are.
    pub blobs_in_all: u64,
    /// Those that have been read on all of their disks.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What is wrong, each of which was told as a [`Finding`].
    pub findings: u64,
    /// Bytes of files on all disks that rows name.
    pub named_file_bytes: u64,
    /// Bytes of files that are listed as garbage.
    pub garbage_file_bytes: u64,
    /// Files that nothing names, which a stop has left behind and the next start removes.
    pub left_files: u64,
    /// Their bytes.
    pub left_file_bytes: u64,
    /// Bytes of blobs in packs that rows name.
    pub pack_live_bytes: u64,
    /// Bytes of blobs that there is room for in all packs.
    pub pack_capacity_bytes: u64,
    /// Files that are none of the store's.
    pub foreign_files: u64,
}

/// Something that should not be.
#[derive(Debug)]
pub enum Finding {
    /// Some disk has not what it should; the others make up for it.
    Damaged {
        /// The blob.
        blob: BlobId,
        /// Numbers of the disks.
        disks: Vec<u8>,
    },
    /// Some block is on no disk.
    Lost {
        /// The blob.
        blob: BlobId,
        /// What a read says.
        error: BlobError,
    },
    /// A row counts another number of names than there are.
    Names {
        /// The blob.
        blob: BlobId,
        /// What its row says; 0 when there is no row.
        counted: u64,
        /// Rows that name it.
        names: u64,
    },
    /// A blob does not lie where a version or a part that names it says.
    Class {
        /// The blob.
        blob: BlobId,
        /// The storage class of the one that names it.
        class: StorageClass,
    },
    /// A blob is named and listed as garbage.
    NamedGarbage(BlobId),
    /// A file is not as long as its row says.
    Length {
        /// Number of the disk.
        disk: u8,
        /// The blob.
        blob: BlobId,
        /// What the row says.
        expected_bytes: u64,
        /// What the file has.
        actual_bytes: u64,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Finding::Damaged { blob, disks } => {
                let blob = blob.row();
                write!(
                    f,
                    "blob {blob:x} is damaged on disks {disks:?}; a scrub mends it"
                )
            }
            Finding::Lost { blob, error } => {
                write!(f, "blob {:x} is lost: {error}", blob.row())
            }
            Finding::Names {
                blob,
                counted,
                names,
            } => {
                let blob = blob.row();
                write!(
                    f,
                    "blob {blob:x} has {names} names, its row counts {counted}"
                )
            }
            Finding::Class { blob, class } => {
                let (blob, tier, class) = (blob.row(), class.tier(), class.name());
                write!(
                    f,
                    "blob {blob:x} is named as {class} and does not lie on {tier}"
                )
            }
            Finding::NamedGarbage(blob) => {
                write!(f, "blob {:x} is named, but listed as garbage", blob.row())
            }
            Finding::Length {
                disk,
                blob,
                expected_bytes,
                actual_bytes,
            } => {
                let blob = blob.row();
                write!(
                    f,
                    "the file of blob {blob:x} on disk {disk} has {actual_bytes} bytes instead of {expected_bytes}"
                )
            }
        }
    }
}

/// What is told while a store is checked.
pub trait Listener {
    /// Something is wrong.
    fn found(&mut self, finding: &Finding);
    /// Some more has been read.
    fn seen(&mut self, seen: &Seen);
}

/// Checks the store of a configuration: every blob that a row names is read on all of its disks and compared, names are
/// counted again and their storage classes compared with where the blobs lie, and every file is accounted for. It is sound when [`Seen::findings`] is 0.
///
/// # Errors
/// See [`CheckError`].
pub async fn check(
    config: &config::Origin,
    listener: &mut dyn Listener,
) -> Result<Seen, CheckError> {
    let database = config.data.join("meta/tg.db");
    if !database.is_file() {
        return Err(CheckError::NoStore(config.data.clone()));
    }
    let data = config.data.clone();
    let lock = blocking(move || lock_folder(&data, &RealDisk)).await?;
    let opened = sqlite::open(&database).await.map_err(OpenError::from)?;
    let generation = opened.generation;
    let latch = Arc::new(WriteLatch::default());
    let (layout, of_blobs) = (Layout::of(config), Arc::clone(&latch));
    let blobs = blocking(move || {
        DiskBlobs::start(&layout, generation, Arc::new(RealDisk), of_blobs).map_err(OpenError::from)
    });
    let blobs = Arc::new(blobs.await?);
    let (meta, writer) = opened.start(latch);
    let writer = tokio::spawn(writer);
    let mut check = Check {
        meta: &meta,
        blobs,
        listener,
        seen: Seen::default(),
        files: Vec::new(),
    };
    let outcome = check.all().await;
    let seen = check.seen;
    meta.close().await;
    // It holds the database; the lock goes after it.
    let _ = writer.await;
    drop(lock);
    outcome.map(|()| seen)
}

struct Check<'a> {
    meta: &'a SqliteMeta,
    blobs: Arc<DiskBlobs>,
    listener: &'a mut dyn Listener,
    seen: Seen,
    /// Blobs with files of their own, ascending, and the bytes of each on one disk.
    files: Vec<(BlobId, u64)>,
}

impl Check<'_> {
    async fn all(&mut self) -> Result<(), CheckError> {
        self.seen.blobs_in_all = self.meta.census().await?.blobs;
        self.contents().await?;
        for (blob, counted, names) in self.meta.miscounted(TOLD_MAX).await? {
            self.tell(Finding::Names {
                blob,
                counted,
                names,
            });
        }
        for (blob, class) in self.meta.misplaced(TOLD_MAX).await? {
            self.tell(Finding::Class { blob, class });
        }
        self.accounts().await
    }

    fn tell(&mut self, finding: Finding) {
        self.seen.findings += 1;
        self.listener.found(&finding);
    }

    /// Reads every blob that a row names.
    async fn contents(&mut self) -> Result<(), CheckError> {
        let mut after = None;
        loop {
            let batch = self.meta.blobs(after, BATCH).await?;
            let Some(last) = batch.last() else {
                return Ok(());
            };
            after = Some(last.id);
            for blob in batch {
                self.content(blob).await?;
            }
        }
    }

    async fn content(&mut self, blob: StoredBlob) -> Result<(), CheckError> {
        let (id, bytes) = (blob.id, blob.length_bytes);
        match blob.place.pack() {
            Some(_) => self.seen.pack_live_bytes += bytes,
            None => self.files.push((id, blob.stored_bytes())),
        }
        let blobs = Arc::clone(&self.blobs);
        let verdict = tokio::task::spawn_blocking(move || blobs.verify(&blob)).await;
        match verdict.map_err(|_| CheckError::Died)? {
            Verdict::Intact => {}
            Verdict::Repairable { disks } => self.tell(Finding::Damaged { blob: id, disks }),
            Verdict::Lost(error) => self.tell(Finding::Lost { blob: id, error }),
        }
        self.seen.blobs += 1;
        self.seen.bytes += bytes;
        self.listener.seen(&self.seen);
        Ok(())
    }

    /// Accounts for every file.
    async fn accounts(&mut self) -> Result<(), CheckError> {
        let garbage = self.meta.garbage(usize::MAX >> 1).await?;
        let garbage: Vec<BlobId> = garbage.into_iter().map(|blob| blob.id).collect();
        for id in &garbage {
            if self.expected(*id).is_some() {
                self.tell(Finding::NamedGarbage(*id));
            }
        }
        let blobs = Arc::clone(&self.blobs);
        let listed = tokio::task::spawn_blocking(move || {
            let mut files = Vec::new();
            blobs.blob_files(&mut |disk, id, bytes| files.push((disk, id, bytes)))?;
            Ok((files, blobs.usage()?, blobs.packs()?))
        });
        let listed: io::Result<_> = listed.await.map_err(|_| CheckError::Died)?;
        let (files, usage, packs) = listed.map_err(CheckError::Folder)?;
        for (disk, blob, actual_bytes) in files {
            match self.expected(blob) {
                Some(expected_bytes) => {
                    self.seen.named_file_bytes += actual_bytes;
                    if expected_bytes != actual_bytes {
                        self.tell(Finding::Length {
                            disk,
                            blob,
                            expected_bytes,
                            actual_bytes,
                        });
                    }
                }
                None if garbage.binary_search(&blob).is_ok() => {
                    self.seen.garbage_file_bytes += actual_bytes;
                }
                None => {
                    self.seen.left_files += 1;
                    self.seen.left_file_bytes += actual_bytes;
                }
            }
        }
        for disk in usage {
            self.seen.left_files += disk.unfinished.files;
            self.seen.left_file_bytes += disk.unfinished.bytes;
            self.seen.foreign_files += disk.foreign.files;
        }
        self.seen.pack_capacity_bytes = packs.iter().map(|pack| pack.capacity_bytes).sum();
        self.listener.seen(&self.seen);
        Ok(())
    }

    /// Bytes of the file of a blob on each disk; `None` when no row says that it has one.
    fn expected(&self, blob: BlobId) -> Option<u64> {
        let at = self.files.binary_search_by_key(&blob, |(id, _)| *id).ok()?;
        Some(self.files[at].1)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use bytes::Bytes;
    use http::HeaderValue;
    use sqlx::Connection as _;

    use super::*;
    use crate::clock::SystemClock;
    use crate::config::{Origin, Redundancy, Scrub};
    use crate::origin::Store;

    fn config(folder: &Path) -> Origin {
        Origin {
            address: "127.0.0.1:0".parse().unwrap(),
            data: folder.join("data"),
            disks: Vec::new(),
            redundancy: Redundancy::None,
            cold: None,
            scrub: Scrub {
                bytes_per_second: None,
                pause: Duration::from_secs(3600),
            },
            region: "us-east-1".to_owned(),
            domain: None,
            webhooks: Vec::new(),
            webhook_ca_file: None,
            purge: Vec::new(),
            credentials: Vec::new(),
        }
    }

    #[derive(Default)]
    struct Told(Vec<String>);

    impl Listener for Told {
        fn found(&mut self, finding: &Finding) {
            self.0.push(finding.to_string());
        }

        fn seen(&mut self, _: &Seen) {}
    }

    async fn spoil(folder: &Path, sql: &'static str) {
        let path = folder.join("data/meta/tg.db");
        let url = format!("sqlite://{}", path.display());
        let mut database = sqlx::SqliteConnection::connect(&url).await.unwrap();
        sqlx::raw_sql(sql).execute(&mut database).await.unwrap();
        database.close().await.unwrap();
    }

    #[tokio::test]
    async fn names_are_counted_again_and_compared_with_what_rows_say() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        let store = Store::open(&config, SystemClock::shared()).await.unwrap();
        store.create_bucket("media").await.unwrap();
        for (key, length) in [("a", 2 << 20), ("b", 2 << 20), ("c", 9000)] {
            let media_type = HeaderValue::from_static("video/mp4");
            let bytes = Bytes::from(vec![7; length]);
            let put = store.put_object("media", key, media_type, bytes);
            put.await.unwrap();
        }
        store.close().await;
        let mut told = Told::default();
        let seen = check(&config, &mut told).await.unwrap();
        assert_eq!((seen.findings, seen.blobs), (0, 3), "{:?}", told.0);
        assert_eq!(seen.named_file_bytes, 4 << 20);
        assert_eq!(seen.pack_live_bytes, 9000);

        // One counts too many, one is named by nothing, one is garbage as well, one lies on the wrong disks.
        spoil(
            folder.path(),
            "UPDATE blobs SET refs = 3 WHERE id = (SELECT min(id) FROM blobs);
             UPDATE versions SET blob = NULL, inline = x'' WHERE key = x'63';
             UPDATE versions SET storage_class = 1 WHERE key = x'62';
             INSERT INTO garbage SELECT id, length, place, block_crcs FROM blobs ORDER BY id LIMIT 1;",
        )
        .await;
        let mut told = Told::default();
        let seen = check(&config, &mut told).await.unwrap();
        assert_eq!(seen.findings, 4, "{:?}", told.0);
        assert!(
            told.0[0].ends_with("has 1 names, its row counts 3"),
            "{:?}",
            told.0
        );
        assert!(
            told.0[1].ends_with("has 0 names, its row counts 1"),
            "{:?}",
            told.0
        );
        assert!(
            told.0[2].ends_with("is named as STANDARD_IA and does not lie on cold disks"),
            "{:?}",
            told.0
        );
        assert!(
            told.0[3].ends_with("is named, but listed as garbage"),
            "{:?}",
            told.0
        );
    }
}
