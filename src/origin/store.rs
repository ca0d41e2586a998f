//! Opening and closing the store, and the things the program itself puts into it.

use std::collections::HashMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use http::HeaderValue;
use http_body_util::Full;

use super::blobs::{
    self, Amount, BlobId, BlobWriter, Blobs, Content, DiskBlobs, Layout, LayoutError, PackId,
    StoredBlob, Swept,
};
use super::coord::{Alone, Coord};
use super::disk::{Disk, RealDisk};
use super::fault::Fault;
use super::fields::StoredFields;
use super::followers::Followers;
use super::jobs;
use super::latch::WriteLatch;
use super::meta::sqlite::{self, MetaOpenError};
use super::meta::{BucketCreated, BucketRow, Changed, Meta, MetaError, VersionKind};
use super::names::{BucketName, ObjectKey};
use super::operations::put_object;
use super::receive::{self, Plan};
use super::stats::{Care, Stats};
use crate::clock::SharedClock;
use crate::config::{self, Rights};
use crate::signing::Keyring;

/// The last millisecond that an HTTP date can name: the end of the year 9999.
pub(super) const MODIFIED_MAX_MS: i64 = 253_402_300_799_999;

/// The S3-compatible store. Cheap to clone; all clones are one store.
#[derive(Clone)]
pub struct Store {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) meta: Arc<dyn Meta>,
    pub(super) blobs: Arc<dyn Blobs>,
    /// The same, for what looks after the disks of this machine.
    pub(super) disks: Arc<DiskBlobs>,
    pub(super) coord: Arc<dyn Coord>,
    pub(super) keyring: Keyring,
    /// Whoever owns what the program itself puts: the first of the credentials.
    pub(super) owner: String,
    /// What URLs of webhooks may begin with.
    pub(super) webhooks: Vec<String>,
    /// Whom webhooks are trusted by.
    pub(super) trust: jobs::Trust,
    /// Admin addresses of edges that are told to forget what changes.
    edges: RwLock<Vec<SocketAddr>>,
    /// What each key may do by itself.
    pub(super) rights: HashMap<String, Rights>,
    pub(super) region: String,
    pub(super) domain: Option<String>,
    pub(super) clock: SharedClock,
    pub(super) stats: Arc<Stats>,
    pub(super) followers: Followers,
    pub(super) jobs: jobs::Bell,
    pub(super) turns: jobs::Turns,
    pub(super) scrub: config::Scrub,
    latch: Arc<WriteLatch>,
    swept: Swept,
    next_request: AtomicU64,
}

/// Why the store did not open. Nothing on disk was harmed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("{path} is in use by {}", pid.map_or("another process".to_owned(), |pid| format!("process {pid}")))]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// Who, as far as the lock file tells.
        pid: Option<u32>,
    },
    /// A folder cannot be made or written.
    #[error("cannot use the folder {path}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The system's word for it.
        source: io::Error,
    },
    /// The lock file cannot be made, written or locked.
    #[error("cannot use the lock file {path}")]
    LockFile {
        /// The file.
        path: PathBuf,
        /// The system's word for it.
        source: io::Error,
    },
    /// The metadata cannot be opened.
    #[error(transparent)]
    Meta(#[from] MetaOpenError),
    /// What an earlier run left behind cannot be listed.
    #[error(transparent)]
    Garbage(#[from] MetaError),
    /// The folders of the blobs cannot be used.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// What an earlier run left behind cannot be swept.
    #[error("cannot sweep {path}")]
    Sweep {
        /// The blob folder.
        path: PathBuf,
        /// The system's word for it.
        source: io::Error,
    },
    /// The system gave no random number.
    #[error("the system gave no random number")]
    Random,
    /// The opening thread died: a bug of ours.
    #[error("the opening thread died")]
    OpenerDied,
}

/// What became of [`Store::create_bucket`].
pub type Created = BucketCreated;

impl Store {
    /// Opens the store under `config.data`, making what is missing (folders with mode 0700), and sweeps
    /// what dead writers left behind.
    ///
    /// # Errors
    /// See [`OpenError`]; a second opening while one is alive gets [`OpenError::Locked`].
    pub async fn open(config: &config::Origin, clock: SharedClock) -> Result<Store, OpenError> {
        Store::open_on(config, clock, Arc::new(RealDisk)).await
    }

    /// As [`Store::open`], writing blobs through `disk`.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub async fn open_on(
        config: &config::Origin,
        clock: SharedClock,
        disk: Arc<dyn Disk>,
    ) -> Result<Store, OpenError> {
        let lock = {
            let (data, disk) = (config.data.clone(), Arc::clone(&disk));
            blocking(move || lock_folder(&data, disk.as_ref())).await?
        };
        let mut opened = sqlite::open(&config.data.join("meta/tg.db")).await?;
        let coord = Alone::new(Arc::clone(&lock), opened.generation);
        let epoch = coord.epoch();
        let latch = Arc::new(WriteLatch::default());
        let (blobs, swept) = {
            let (layout, latch) = (Layout::of(config), Arc::clone(&latch));
            let named = std::mem::take(&mut opened.named_blobs);
            let packs = std::mem::take(&mut opened.named_packs);
            blocking(move || {
                let blobs = DiskBlobs::start(&layout, epoch, disk, latch)?;
                let swept = sweep(&blobs, &layout, &named, &packs)?;
                Ok((blobs, swept))
            })
            .await?
        };
        tracing::info!(
            generation = epoch,
            unfinished = swept.unfinished,
            orphans = swept.orphans,
            packs = swept.packs,
            foreign = swept.foreign,
            "store opened"
        );
        let (meta, task) = opened.start(Arc::clone(&latch));
        // The lock lives as long as anything that can commit.
        tokio::spawn(async move {
            task.await;
            drop(lock);
        });
        // The sweep took it: nobody names it, and its writers are dead.
        let garbage = meta.garbage(usize::MAX >> 1).await?;
        if !garbage.is_empty() {
            let gone = garbage.into_iter().map(|blob| blob.id).collect();
            meta.forget_garbage(gone).await?;
        }
        let disks = Arc::new(blobs);
        let keys = config.credentials.iter();
        let keyring = Keyring::new(keys.map(|key| (key.access_key_id.clone(), key.secret.clone())));
        let sigv2 = config.credentials.iter().filter(|key| key.allow_sigv2);
        let keyring = sigv2.fold(keyring, |keyring, key| {
            keyring.allow_sigv2(&key.access_key_id)
        });
        Ok(Store {
            inner: Arc::new(Inner {
                meta: Arc::new(meta),
                blobs: Arc::clone(&disks) as Arc<dyn Blobs>,
                disks,
                coord: Arc::new(coord),
                keyring,
                owner: config
                    .credentials
                    .first()
                    .map_or_else(String::new, |key| key.access_key_id.clone()),
                webhooks: config.webhooks.clone(),
                trust: jobs::Trust::new(config.webhook_ca_file.clone()),
                edges: RwLock::new(config.purge.clone()),
                rights: config
                    .credentials
                    .iter()
                    .map(|key| (key.access_key_id.clone(), key.rights.clone()))
                    .collect(),
                region: config.region.clone(),
                domain: config.domain.clone(),
                clock,
                stats: Arc::new(Stats::default()),
                followers: Followers::default(),
                jobs: jobs::Bell::default(),
                turns: jobs::Turns::default(),
                scrub: config.scrub,
                latch,
                swept,
                next_request: AtomicU64::new(random_u64()?),
            }),
        })
    }

    /// Makes a bucket.
    ///
    /// # Errors
    /// [`Fault::Name`] or [`Fault::Meta`].
    pub async fn create_bucket(&self, name: &str) -> Result<Created, Fault> {
        let name = BucketName::new(name)?;
        let now_ms = self.now_ms()?;
        let owner = self.inner.owner.as_str();
        let created = self
            .inner
            .meta
            .create_bucket(&name, owner, now_ms, Vec::new());
        Ok(created.await?)
    }

    /// Puts an object whose bytes are in memory, replacing the one under its key. Durable on return. Gives back
    /// the ETag without quotes.
    ///
    /// # Errors
    /// [`Fault`], as PutObject.
    pub async fn put_object(
        &self,
        bucket: &str,
        key: &str,
        content_type: HeaderValue,
        bytes: Bytes,
    ) -> Result<String, Fault> {
        let fields = StoredFields::with_content_type(content_type);
        let (bucket, key) = (BucketName::new(bucket)?, ObjectKey::new(key)?);
        let upload = put_object::Upload::of_own(self, bucket, key, fields, self.now_ms()?);
        let upload = upload.await?;
        let plan = Plan::of_own(bytes.len() as u64);
        let inner = &self.inner;
        let blobs = Arc::clone(&inner.blobs);
        let arrived = receive::receive(blobs, Full::new(bytes), plan, &inner.stats).await?;
        let committed = put_object::commit(self.clone(), upload, arrived).await?;
        Ok(committed.etag)
    }

    /// Whether there is such an object.
    ///
    /// # Errors
    /// [`Fault::Name`] or [`Fault::Meta`].
    pub async fn object_exists(&self, bucket: &str, key: &str) -> Result<bool, Fault> {
        let bucket = BucketName::new(bucket)?;
        let key = ObjectKey::new(key)?;
        let meta = &self.inner.meta;
        let Some(bucket) = meta.bucket(&bucket).await? else {
            return Ok(false);
        };
        let latest = meta.latest(bucket.id, &key).await?;
        Ok(latest.is_some_and(|latest| latest.kind != VersionKind::DeleteMarker))
    }

    /// Tells the edge with this admin address, too, to forget what changes.
    pub fn add_edge(&self, admin: SocketAddr) {
        let mut edges = self
            .inner
            .edges
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if !edges.contains(&admin) {
            edges.push(admin);
        }
    }

    /// Admin addresses of edges that are told to forget what changes.
    pub(super) fn edges(&self) -> Vec<SocketAddr> {
        let edges = self.inner.edges.read();
        edges.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the store has counted since it was opened.
    pub fn stats(&self) -> &Stats {
        &self.inner.stats
    }

    /// What the sweep at opening removed.
    pub fn swept(&self) -> Swept {
        self.inner.swept
    }

    /// Whether writes are refused because one failed: the store must be opened again.
    pub fn refuses_writes(&self) -> bool {
        self.inner.latch.has_fallen()
    }

    /// Commits what waits and lets go of the folder. Requests still in flight on other clones fail.
    pub async fn close(self) {
        self.inner.meta.close().await;
        if let Err(error) = self.inner.coord.resign() {
            tracing::warn!(%error, "the lock is held until the process ends");
        }
    }

    pub(super) async fn bucket(&self, name: &BucketName) -> Result<Arc<BucketRow>, Fault> {
        let bucket = self.inner.meta.bucket(name).await?;
        bucket.ok_or(Fault::NoSuchBucket)
    }

    /// Removes blobs that a committed change has released, and says so in the metadata. Nobody waits for it: what is
    /// left when the process ends stands in the metadata as garbage.
    pub(super) fn reclaim(&self, released: Vec<StoredBlob>) {
        if released.is_empty() {
            return;
        }
        let store = self.clone();
        tokio::spawn(async move { store.reclaim_now(released).await });
    }

    /// Does what follows from a commit to an object: what it released is removed, who follows the object wakes up, and
    /// the messages that were committed with it go out.
    pub(super) fn after_commit(
        &self,
        bucket: i64,
        key: &ObjectKey,
        released: Vec<StoredBlob>,
        has_messages: bool,
    ) {
        self.reclaim(released);
        self.inner.followers.wake(bucket, key);
        if has_messages {
            self.inner.jobs.ring();
        }
    }

    /// Commits a change whose bytes are named already, or have been `rewritten` and are published now; `commit` is given
    /// what was.
    ///
    /// # Errors
    /// What the commit decided, or trouble with it or the disks. As with [`Store::settled`] nothing is left behind.
    pub(super) async fn commit_rewritten<T, C>(
        &self,
        rewritten: Option<Box<dyn BlobWriter>>,
        commit: impl FnOnce(Option<Content>) -> C,
    ) -> Result<T, Fault>
    where
        C: Future<Output = Changed<T>>,
    {
        let Some(writer) = rewritten else {
            return Ok(commit(None).await??);
        };
        let written = writer.publish().await?.content;
        let changed = commit(Some(written.clone())).await;
        self.settled(changed, written).await
    }

    /// What a change came to that bytes were written for. They are removed when no row can have come to name them: the
    /// transaction decided against them, or changed nothing. After any other error the outcome is unknown, and the next
    /// sweep judges.
    pub(super) async fn settled<T>(
        &self,
        changed: Changed<T>,
        written: Content,
    ) -> Result<T, Fault> {
        let fault = match changed {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(refused)) => Fault::from(refused),
            Err(error) if error.has_changed_nothing() => Fault::from(error),
            Err(error) => return Err(Fault::from(error)),
        };
        if let Content::Blobs(written) = written {
            self.remove_files(written).await;
        }
        Err(fault)
    }

    /// As [`Store::reclaim`], done on return. Gives back what is gone and not listed any more.
    pub(super) async fn reclaim_now(&self, released: Vec<StoredBlob>) -> Amount {
        let (gone, amount) = self.remove_files(released).await;
        if !gone.is_empty()
            && let Err(error) = self.inner.meta.forget_garbage(gone).await
        {
            tracing::debug!(%error, "garbage that is gone is still listed");
            return Amount::default();
        }
        amount
    }

    /// Removes the files of blobs that no row names. Gives back whose are gone; what lies in a pack has none.
    async fn remove_files(&self, unnamed: Vec<StoredBlob>) -> (Vec<BlobId>, Amount) {
        let blobs = Arc::clone(&self.inner.blobs);
        let removal = move || {
            let mut gone = Vec::new();
            let mut amount = Amount::default();
            for blob in unnamed {
                match blobs.remove(&blob) {
                    Ok(true) => {
                        amount.files += 1;
                        amount.bytes += blob.length_bytes;
                        gone.push(blob.id);
                    }
                    Ok(false) => {}
                    Err(error) => tracing::warn!(%error, "a released blob stays for a later try"),
                }
            }
            (gone, amount)
        };
        let Ok((gone, amount)) = tokio::task::spawn_blocking(removal).await else {
            return (Vec::new(), Amount::default());
        };
        self.inner.stats.add(Care::CollectedBlobs, amount.files);
        self.inner.stats.add(Care::CollectedBytes, amount.bytes);
        (gone, amount)
    }

    /// The wall clock in milliseconds since 1970.
    pub(super) fn now_ms(&self) -> Result<i64, Fault> {
        let now = self.inner.clock.wall();
        now.duration_since(UNIX_EPOCH)
            .ok()
            .and_then(|since| i64::try_from(since.as_millis()).ok())
            .filter(|ms| *ms <= MODIFIED_MAX_MS)
            .ok_or(Fault::ClockOutOfRange)
    }

    /// A request id: unique within this opening, and unlikely to meet one of another.
    pub(super) fn next_request_id(&self) -> String {
        let number = self.inner.next_request.fetch_add(1, Ordering::Relaxed);
        // An odd multiplier maps distinct numbers to distinct ids that do not look like a count.
        format!("{:016X}", number.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }
}

/// Takes the lock of the store in a folder, and makes what it needs there.
pub(super) fn lock_folder(data: &Path, disk: &dyn Disk) -> Result<Arc<File>, OpenError> {
    make_folder(data, disk)?;
    make_folder(&data.join("meta"), disk)?;
    disk.sync_folder(data).map_err(|source| OpenError::Folder {
        path: data.to_owned(),
        source,
    })?;
    let path = data.join("LOCK");
    let failed = |source| OpenError::LockFile {
        path: path.clone(),
        source,
    };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            // Who holds it is a courtesy; the refusal stands without it.
            let pid = match file.read_to_string(&mut text) {
                Ok(_) => text.trim().parse().ok(),
                Err(_) => None,
            };
            return Err(OpenError::Locked {
                path: path.clone(),
                pid,
            });
        }
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    file.set_len(0).map_err(failed)?;
    writeln!(file, "{}", std::process::id()).map_err(failed)?;
    Ok(Arc::new(file))
}

fn make_folder(path: &Path, disk: &dyn Disk) -> Result<(), OpenError> {
    blobs::make_private_folder(path, disk).map_err(|source| OpenError::Folder {
        path: path.to_owned(),
        source,
    })
}

/// Removes what dead writers left behind. Both lists are ascending.
fn sweep(
    blobs: &DiskBlobs,
    layout: &Layout,
    named: &[BlobId],
    packs: &[PackId],
) -> Result<Swept, OpenError> {
    blobs
        .sweep(&|id| named.binary_search(&id).is_ok(), &|pack| {
            packs.binary_search(&pack).is_ok()
        })
        .map_err(|source| OpenError::Sweep {
            path: layout.home.clone(),
            source,
        })
}

/// Runs work that blocks.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, OpenError> + Send + 'static,
) -> Result<T, OpenError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| OpenError::OpenerDied)?
}

fn random_u64() -> Result<u64, OpenError> {
    getrandom::u64().map_err(|_| OpenError::Random)
}
