//! The metadata of a store on one machine: SQLite, one task that writes, a few connections that read.
//!
//! `synchronous=FULL` makes a commit durable. Waiting changes are committed together: one sync for all.

mod changes;
mod columns;
mod list;
mod outbox;
mod read;
mod schema;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};
use sqlx::{ConnectOptions as _, Connection as _};

use super::epochs::{Epochs, RowCache};
use super::{
    Append, Appended, BucketCreated, BucketDeleted, BucketRow, Census, Changed, Committed,
    DeadLetter, Deleted, Deletion, DocumentKind, ListedObject, ListedVersion, Message, Meta,
    MetaError, NewPart, NewUpload, NewVersion, PartRow, Piece, StorageClass, TaskRow, Transition,
    UploadRow, VersionId, VersionRow, VersionSeek, VersionSetting, Versioning,
};
use crate::origin::blobs::{BlobId, GENERATION_MAX, PackId, Place, StoredBlob};
use crate::origin::latch::WriteLatch;
use crate::origin::listing::Seek;
use crate::origin::names::{BucketName, ObjectKey};

use changes::{buckets, objects, settings, uploads};
use writer::Writer;

/// The schema this code reads and writes, kept in SQLite's `user_version`.
pub const SCHEMA_VERSION: i64 = 4;
/// Connections that read. Each is a thread; more of them than cores only queue elsewhere.
const READERS: u32 = 4;
/// How long a reader waits for a connection before the request fails.
const READER_WAIT: Duration = Duration::from_secs(10);
/// Rows of versions kept in memory.
const VERSIONS_CACHED_BYTES: u64 = 64 * 1024 * 1024;
/// Rows of buckets kept in memory.
const BUCKETS_CACHED_BYTES: u64 = 16 * 1024 * 1024;
/// What a document and what was read of it take together, as a multiple of the document: a character of a pattern in a
/// policy takes some 50 bytes, but not all of a policy is patterns.
const READ_DOCUMENTS_GROW: usize = 32;
/// Pages that SQLite keeps for each connection, as its `cache_size` takes it: KiB, negative.
const PAGE_CACHE: &str = "-32768";

/// Why the metadata could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum MetaOpenError {
    /// SQLite failed.
    #[error("cannot open the metadata database {path}")]
    Sql {
        /// The database file.
        path: PathBuf,
        /// SQLite's word for it.
        source: sqlx::Error,
    },
    /// The database belongs to another program.
    #[error("{path} is not a database of this store (application id {found:#x})")]
    Foreign {
        /// The database file.
        path: PathBuf,
        /// The application id found.
        found: i64,
    },
    /// The database was written by another version.
    #[error("{path} has schema version {found}, this program knows {SCHEMA_VERSION}")]
    SchemaVersion {
        /// The database file.
        path: PathBuf,
        /// The version found.
        found: i64,
    },
    /// The store has been opened more often than blob ids can count.
    #[error("{path} has no writer generations left")]
    GenerationsExhausted {
        /// The database file.
        path: PathBuf,
    },
}

/// A database that was opened, before anything can be written to it.
pub struct Opened {
    pool: SqlitePool,
    connection: SqliteConnection,
    /// The generation of this opening, never used before.
    pub generation: i64,
    /// Every blob that a row names, ascending; garbage has no name.
    pub named_blobs: Vec<BlobId>,
    /// Every pack that a row names, ascending.
    pub named_packs: Vec<PackId>,
}

/// The database. See [`Meta`].
pub struct SqliteMeta {
    pool: SqlitePool,
    writer: Writer,
    versions: RowCache<(i64, ObjectKey), VersionRow>,
    buckets: RowCache<BucketName, BucketRow>,
}

/// Opens or makes the database, declares earlier writers dead and begins a generation.
///
/// The caller holds the store's lock: that is the proof that earlier writers are dead.
///
/// # Errors
/// See [`MetaOpenError`].
pub async fn open(path: &Path) -> Result<Opened, MetaOpenError> {
    let failed = |source| MetaOpenError::Sql {
        path: path.to_owned(),
        source,
    };
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("cache_size", PAGE_CACHE)
        // The writer does it (`no-silent-checkpoint`).
        .pragma("wal_autocheckpoint", "0")
        .disable_statement_logging();
    let mut connection = options.connect().await.map_err(failed)?;
    schema::prepare(&mut connection, path).await?;
    let generation = begin_generation(&mut connection).await.map_err(failed)?;
    if generation > GENERATION_MAX {
        return Err(MetaOpenError::GenerationsExhausted {
            path: path.to_owned(),
        });
    }
    let named_blobs: Vec<i64> = sqlx::query_scalar("SELECT id FROM blobs ORDER BY id")
        .fetch_all(&mut connection)
        .await
        .map_err(failed)?;
    let named_packs: Vec<i64> =
        sqlx::query_scalar("SELECT DISTINCT pack FROM blobs WHERE pack IS NOT NULL ORDER BY pack")
            .fetch_all(&mut connection)
            .await
            .map_err(failed)?;
    let pool = SqlitePoolOptions::new()
        .max_connections(READERS)
        .acquire_timeout(READER_WAIT)
        .test_before_acquire(false)
        .connect_with(options.create_if_missing(false).pragma("query_only", "ON"))
        .await
        .map_err(failed)?;
    Ok(Opened {
        pool,
        connection,
        generation,
        named_blobs: named_blobs.into_iter().map(BlobId::from_row).collect(),
        named_packs: named_packs.into_iter().map(PackId::from_row).collect(),
    })
}

impl Opened {
    /// The metadata, and the task that writes, which the caller spawns. The task ends when [`Meta::close`] is called
    /// or the metadata is dropped.
    pub fn start(
        self,
        latch: Arc<WriteLatch>,
    ) -> (SqliteMeta, impl Future<Output = ()> + Send + use<>) {
        let epochs = Arc::new(Epochs::default());
        let (writer, task) =
            Writer::start(self.connection, self.generation, latch, Arc::clone(&epochs));
        let meta = SqliteMeta {
            pool: self.pool,
            writer,
            versions: RowCache::new(
                VERSIONS_CACHED_BYTES,
                |(_, key): &(i64, ObjectKey), row: &VersionRow| {
                    weight(key.as_str().len() + row.weight_bytes())
                },
                Arc::clone(&epochs),
            ),
            buckets: RowCache::new(
                BUCKETS_CACHED_BYTES,
                |_, row: &BucketRow| {
                    let documents = row.documents.iter();
                    let bytes: usize = documents.map(|(_, bytes)| bytes.len()).sum();
                    weight(500 + READ_DOCUMENTS_GROW * bytes)
                },
                epochs,
            ),
        };
        (meta, task)
    }
}

fn weight(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

async fn begin_generation(connection: &mut SqliteConnection) -> Result<i64, sqlx::Error> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    sqlx::query("UPDATE writers SET live = 0 WHERE live <> 0")
        .execute(&mut *transaction)
        .await?;
    let generation =
        sqlx::query_scalar("INSERT INTO writers (live) VALUES (1) RETURNING generation")
            .fetch_one(&mut *transaction)
            .await?;
    transaction.commit().await?;
    Ok(generation)
}

fn read_failed(error: sqlx::Error) -> MetaError {
    match error {
        sqlx::Error::PoolClosed => MetaError::Closed,
        other => MetaError::Sql(Arc::new(other)),
    }
}

impl SqliteMeta {
    /// At most `limit` blobs whose rows count another number of names than there are: what the row counts (0 when there
    /// is no row), and the names. It reads every row.
    ///
    /// # Errors
    /// [`MetaError::Sql`].
    pub async fn miscounted(&self, limit: usize) -> Result<Vec<(BlobId, u64, u64)>, MetaError> {
        read::miscounted(&self.pool, limit).await
    }

    /// At most `limit` blobs that do not lie on the disks of a storage class in which they are named, and that class.
    /// It reads every row.
    ///
    /// # Errors
    /// [`MetaError::Sql`].
    pub async fn misplaced(&self, limit: usize) -> Result<Vec<(BlobId, StorageClass)>, MetaError> {
        read::misplaced(&self.pool, limit).await
    }
}

#[async_trait]
impl Meta for SqliteMeta {
    async fn buckets(&self) -> Result<Vec<BucketRow>, MetaError> {
        read::buckets(&self.pool).await
    }

    async fn bucket(&self, name: &BucketName) -> Result<Option<Arc<BucketRow>>, MetaError> {
        let since = match self.buckets.get(name) {
            Ok(row) => return Ok(Some(row)),
            Err(since) => since,
        };
        let row = read::bucket(&self.pool, name).await?.map(Arc::new);
        if let Some(row) = &row {
            self.buckets.put(name.clone(), Arc::clone(row), since);
        }
        Ok(row)
    }

    async fn latest(
        &self,
        bucket: i64,
        key: &ObjectKey,
    ) -> Result<Option<Arc<VersionRow>>, MetaError> {
        let cache_key = (bucket, key.clone());
        let since = match self.versions.get(&cache_key) {
            Ok(row) => return Ok(Some(row)),
            Err(since) => since,
        };
        let row = read::latest(&self.pool, bucket, key).await?.map(Arc::new);
        if let Some(row) = &row {
            self.versions.put(cache_key, Arc::clone(row), since);
        }
        Ok(row)
    }

    async fn version(
        &self,
        bucket: i64,
        key: &ObjectKey,
        version_id: VersionId,
    ) -> Result<Option<Arc<VersionRow>>, MetaError> {
        let row = read::version(&self.pool, bucket, key, version_id).await?;
        Ok(row.map(Arc::new))
    }

    async fn extents(&self, version: i64, start: u64, end: u64) -> Result<Vec<Piece>, MetaError> {
        read::extents(&self.pool, version, start, end).await
    }

    async fn list(
        &self,
        bucket: i64,
        seek: &Seek,
        limit: usize,
    ) -> Result<Vec<ListedObject>, MetaError> {
        list::objects(&self.pool, bucket, seek, limit).await
    }

    async fn list_versions(
        &self,
        bucket: i64,
        seek: &VersionSeek,
        limit: usize,
    ) -> Result<Vec<ListedVersion>, MetaError> {
        list::versions(&self.pool, bucket, seek, limit).await
    }

    async fn upload(&self, number: i64) -> Result<Option<UploadRow>, MetaError> {
        read::upload(&self.pool, number).await
    }

    async fn uploads(
        &self,
        bucket: i64,
        seek: &Seek,
        after: Option<(ObjectKey, i64)>,
        limit: usize,
    ) -> Result<Vec<UploadRow>, MetaError> {
        list::uploads(&self.pool, bucket, seek, after, limit).await
    }

    async fn parts(
        &self,
        upload: i64,
        after: u16,
        limit: usize,
    ) -> Result<Vec<PartRow>, MetaError> {
        list::parts(&self.pool, upload, after, limit).await
    }

    async fn blobs(
        &self,
        after: Option<BlobId>,
        limit: usize,
    ) -> Result<Vec<StoredBlob>, MetaError> {
        read::blobs(&self.pool, after, limit).await
    }

    async fn blobs_in_pack(&self, pack: PackId) -> Result<Vec<StoredBlob>, MetaError> {
        read::blobs_in_pack(&self.pool, pack).await
    }

    async fn packs(&self) -> Result<Vec<(PackId, u64)>, MetaError> {
        read::packs(&self.pool).await
    }

    async fn garbage(&self, limit: usize) -> Result<Vec<StoredBlob>, MetaError> {
        read::garbage(&self.pool, limit).await
    }

    async fn census(&self) -> Result<Census, MetaError> {
        read::census(&self.pool).await
    }

    async fn due(&self, now_ms: i64, limit: usize) -> Result<Vec<TaskRow>, MetaError> {
        outbox::due(&self.pool, now_ms, limit).await
    }

    async fn next_due_ms(&self) -> Result<Option<i64>, MetaError> {
        outbox::next_due_ms(&self.pool).await
    }

    async fn tasks(&self, limit: usize) -> Result<Vec<TaskRow>, MetaError> {
        outbox::due(&self.pool, i64::MAX, limit).await
    }

    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, MetaError> {
        outbox::dead_letters(&self.pool, limit).await
    }

    async fn note(&self, name: &'static str) -> Result<Option<String>, MetaError> {
        outbox::note(&self.pool, name).await
    }

    async fn create_bucket(
        &self,
        name: &BucketName,
        owner: &str,
        created_ms: i64,
        documents: Vec<(DocumentKind, Vec<u8>)>,
    ) -> Result<BucketCreated, MetaError> {
        let change = buckets::Create {
            name: name.clone(),
            owner: owner.to_owned(),
            created_ms,
            documents,
        };
        self.writer.commit(change).await
    }

    async fn delete_bucket(&self, name: &BucketName) -> Result<BucketDeleted, MetaError> {
        self.writer.commit(buckets::Delete(name.clone())).await
    }

    async fn set_versioning(&self, name: &BucketName, versioning: Versioning) -> Changed<()> {
        let change = buckets::SetVersioning(name.clone(), versioning);
        self.writer.commit(change).await
    }

    async fn set_document(
        &self,
        name: &BucketName,
        kind: DocumentKind,
        document: Option<Vec<u8>>,
    ) -> Changed<()> {
        let change = buckets::SetDocument(name.clone(), kind, document);
        self.writer.commit(change).await
    }

    async fn put(&self, version: NewVersion) -> Changed<Committed> {
        self.writer.commit(objects::Put(Box::new(version))).await
    }

    async fn delete(&self, deletion: Deletion) -> Changed<Deleted> {
        self.writer
            .commit(objects::Delete(Box::new(deletion)))
            .await
    }

    async fn set(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        version_id: Option<VersionId>,
        setting: VersionSetting,
    ) -> Changed<VersionId> {
        let change = settings::Set {
            bucket: bucket.clone(),
            key: key.clone(),
            version_id,
            setting,
        };
        self.writer.commit(change).await
    }

    async fn transition(&self, transition: Transition) -> Changed<Vec<StoredBlob>> {
        let change = objects::Move(Box::new(transition));
        self.writer.commit(change).await
    }

    async fn append(&self, append: Append) -> Changed<Appended> {
        self.writer
            .commit(changes::append::AppendTo(Box::new(append)))
            .await
    }

    async fn create_upload(&self, upload: NewUpload) -> Changed<i64> {
        self.writer.commit(uploads::Create(Box::new(upload))).await
    }

    async fn put_part(&self, part: NewPart) -> Changed<Vec<StoredBlob>> {
        self.writer.commit(uploads::PutPart(Box::new(part))).await
    }

    async fn abort_upload(&self, number: i64) -> Changed<Vec<StoredBlob>> {
        self.writer.commit(uploads::Abort(number)).await
    }

    async fn forget_garbage(&self, blobs: Vec<BlobId>) -> Result<(), MetaError> {
        self.writer.commit(settings::ForgetGarbage(blobs)).await
    }

    async fn move_blobs(&self, moved: Vec<(BlobId, Place)>) -> Result<(), MetaError> {
        self.writer.commit(settings::MoveBlobs(moved)).await
    }

    async fn send(&self, messages: Vec<Message>) -> Result<(), MetaError> {
        self.writer.commit(outbox::Send(messages)).await
    }

    async fn done(&self, tasks: Vec<i64>) -> Result<(), MetaError> {
        self.writer.commit(outbox::Done(tasks)).await
    }

    async fn put_off(&self, task: i64, run_at_ms: i64, error: String) -> Result<(), MetaError> {
        let change = outbox::PutOff {
            task,
            run_at_ms,
            error,
        };
        self.writer.commit(change).await
    }

    async fn give_up(&self, task: i64, now_ms: i64, error: String) -> Result<(), MetaError> {
        let change = outbox::GiveUp {
            task,
            now_ms,
            error,
        };
        self.writer.commit(change).await
    }

    async fn revive(&self, task: i64, now_ms: i64) -> Result<bool, MetaError> {
        self.writer.commit(outbox::Revive { task, now_ms }).await
    }

    async fn set_note(&self, name: &'static str, text: String) -> Result<(), MetaError> {
        self.writer.commit(outbox::SetNote { name, text }).await
    }

    async fn close(&self) {
        // Readers first: the writer then leaves nothing behind in the log of the database.
        self.pool.close().await;
        self.writer.close().await;
    }
}

impl MetaError {
    /// Sorts an error of the writing connection. A full database rolls back whole and may be tried again after
    /// room was made; after any other failure the latch falls.
    fn from_write(error: sqlx::Error, latch: &WriteLatch) -> MetaError {
        /// SQLite's result codes SQLITE_FULL, and SQLITE_IOERR_SHMSIZE: the index of the log did not grow. Nothing is
        /// ever synced there, so nothing can be lost.
        const FULL: [&str; 2] = ["13", "4874"];
        let full = error
            .as_database_error()
            .and_then(|error| error.code())
            .is_some_and(|code| FULL.contains(&code.as_ref()));
        if full {
            return MetaError::NoSpace(Arc::new(error));
        }
        latch.fall();
        MetaError::Sql(Arc::new(error))
    }
}

impl VersionRow {
    /// Roughly what it takes in memory.
    fn weight_bytes(&self) -> usize {
        let place = match &self.place {
            super::Place::Inline(bytes) => bytes.len(),
            super::Place::Blob(_) | super::Place::Extents => 0,
        };
        // Four bytes for each block of 64 KiB.
        let crcs = usize::try_from(self.size_bytes / 16_384).unwrap_or(usize::MAX / 2);
        600 + self.fields.len()
            + self.tags.len()
            + self.acl.len()
            + 48 * self.parts.len()
            + place
            + crcs
    }
}
