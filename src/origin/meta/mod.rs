//! Metadata: buckets, object rows and writer generations in SQLite.
//!
//! - `row-is-truth`: an object exists exactly when its row is committed. One task writes ([`Writer`]), one
//!   transaction per batch is the only commit point, and `synchronous=FULL` makes a commit durable.
//! - Readers use a pool of their own and see committed rows only.
//!
//! Keys are BLOBs, so that the database compares them byte by byte.

mod changes;
mod content;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteRow, SqliteSynchronous,
};
use sqlx::{ConnectOptions as _, Connection as _, Row as _};

use super::blobs::{BlobId, Content, GENERATION_MAX, PackId};
use super::checksums::{Algorithm, Checksum};
use super::latch::WriteLatch;
use super::listing::Seek;
use super::names::{BucketName, ObjectKey};

pub use writer::{BucketCreated, BucketDeleted, NewObject, ObjectDeleted, ObjectPut, Writer};

/// The schema this code reads and writes, kept in SQLite's `user_version`.
pub const SCHEMA_VERSION: i64 = 2;
/// Kept in SQLite's `application_id`: "TGor".
const APPLICATION_ID: i64 = 0x5447_6f72;
/// Connections that read. Each is a thread; more of them than cores only queue elsewhere.
const READERS: u32 = 4;
/// How long a reader waits for a connection before the request fails.
const READER_WAIT: Duration = Duration::from_secs(10);

const SCHEMA: &str = "
CREATE TABLE writers (
    generation INTEGER PRIMARY KEY AUTOINCREMENT,
    live       INTEGER NOT NULL
);
CREATE TABLE buckets (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    name       TEXT    NOT NULL UNIQUE,
    created_ms INTEGER NOT NULL
);
CREATE TABLE blobs (
    id   INTEGER PRIMARY KEY,
    pack INTEGER
);
CREATE TABLE objects (
    bucket             INTEGER NOT NULL REFERENCES buckets (id),
    key                BLOB    NOT NULL,
    size               INTEGER NOT NULL,
    etag               TEXT    NOT NULL,
    modified_ms        INTEGER NOT NULL,
    checksum_algorithm TEXT    NOT NULL,
    checksum           BLOB    NOT NULL,
    content            BLOB    NOT NULL,
    fields             BLOB    NOT NULL,
    PRIMARY KEY (bucket, key)
) WITHOUT ROWID;
";

/// Trouble with the metadata.
#[derive(Debug, Clone, thiserror::Error)]
pub enum MetaError {
    /// SQLite failed.
    #[error("the metadata database failed")]
    Sql(#[source] Arc<sqlx::Error>),
    /// There is no room for the commit; nothing was changed.
    #[error("no space for the metadata")]
    NoSpace(#[source] Arc<sqlx::Error>),
    /// The store refuses writes since an earlier write or sync failed.
    #[error("writes are refused since an earlier one failed")]
    WritesRefused,
    /// The store is being closed.
    #[error("the store is closed")]
    Closed,
    /// Another process has declared this writer dead.
    #[error("writer generation {generation} is no longer live")]
    Fenced {
        /// The generation.
        generation: i64,
    },
    /// A row holds something that this code cannot have written.
    #[error("a row has an impossible {column}")]
    ImpossibleRow {
        /// The column.
        column: &'static str,
    },
}

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

/// A committed object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectRow {
    /// MD5 of the bytes in hexadecimal, without quotes.
    pub etag: String,
    /// When it was written, in milliseconds since 1970.
    pub modified_ms: i64,
    /// The additional checksum, of the whole object.
    pub checksum: Checksum,
    /// The stored fields, as [`super::fields`] writes them.
    pub fields: Vec<u8>,
    /// Its length.
    pub length_bytes: u64,
    /// Its bytes.
    pub content: Content,
}

/// A line of a bucket listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedObject {
    /// The key.
    pub key: ObjectKey,
    /// Length in bytes.
    pub size_bytes: u64,
    /// As [`ObjectRow::etag`].
    pub etag: String,
    /// As [`ObjectRow::modified_ms`].
    pub modified_ms: i64,
    /// The algorithm of its additional checksum.
    pub checksum_algorithm: Algorithm,
}

/// A bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketRow {
    /// The bucket's number, never reused.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// When it was created, in milliseconds since 1970.
    pub created_ms: i64,
}

/// The read side.
#[derive(Debug, Clone)]
pub struct Reader {
    pool: SqlitePool,
}

/// What [`open`] yields.
pub struct Opened {
    /// The read side.
    pub reader: Reader,
    /// The connection that [`Writer::start`] takes over.
    pub connection: SqliteConnection,
    /// The generation of this opening, never used before.
    pub generation: i64,
    /// What the rows name.
    pub named_blobs: NamedBlobs,
}

/// The blobs that rows name, and the packs that these lie in, both ascending.
#[derive(Debug, Clone, Default)]
pub struct NamedBlobs {
    /// The blobs.
    pub blobs: Vec<BlobId>,
    /// The packs.
    pub packs: Vec<PackId>,
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
        .disable_statement_logging();
    let mut connection = options.connect().await.map_err(failed)?;
    check_schema(&mut connection, path).await?;
    let generation = begin_generation(&mut connection).await.map_err(failed)?;
    if generation > GENERATION_MAX {
        return Err(MetaOpenError::GenerationsExhausted {
            path: path.to_owned(),
        });
    }
    let blobs: Vec<i64> = sqlx::query_scalar("SELECT id FROM blobs ORDER BY id")
        .fetch_all(&mut connection)
        .await
        .map_err(failed)?;
    let packs: Vec<i64> =
        sqlx::query_scalar("SELECT DISTINCT pack FROM blobs WHERE pack IS NOT NULL ORDER BY pack")
            .fetch_all(&mut connection)
            .await
            .map_err(failed)?;
    let named_blobs = NamedBlobs {
        blobs: blobs.into_iter().map(BlobId::from_row).collect(),
        packs: packs.into_iter().map(PackId::from_row).collect(),
    };
    let pool = SqlitePoolOptions::new()
        .max_connections(READERS)
        .acquire_timeout(READER_WAIT)
        .test_before_acquire(false)
        .connect_with(options.create_if_missing(false).pragma("query_only", "ON"))
        .await
        .map_err(failed)?;
    Ok(Opened {
        reader: Reader { pool },
        connection,
        generation,
        named_blobs,
    })
}

async fn check_schema(connection: &mut SqliteConnection, path: &Path) -> Result<(), MetaOpenError> {
    let failed = |source| MetaOpenError::Sql {
        path: path.to_owned(),
        source,
    };
    let application: i64 = sqlx::query_scalar("PRAGMA application_id")
        .fetch_one(&mut *connection)
        .await
        .map_err(failed)?;
    let version: i64 = sqlx::query_scalar("PRAGMA user_version")
        .fetch_one(&mut *connection)
        .await
        .map_err(failed)?;
    let tables: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlite_master")
        .fetch_one(&mut *connection)
        .await
        .map_err(failed)?;
    match (application, version) {
        (0, 0) if tables == 0 => create_schema(connection).await.map_err(failed),
        (APPLICATION_ID, SCHEMA_VERSION) => Ok(()),
        (APPLICATION_ID, found) => Err(MetaOpenError::SchemaVersion {
            path: path.to_owned(),
            found,
        }),
        (found, _) => Err(MetaOpenError::Foreign {
            path: path.to_owned(),
            found,
        }),
    }
}

async fn create_schema(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    // Both pragmas are part of the transaction, so a stop in between leaves an empty database.
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    sqlx::raw_sql(SCHEMA).execute(&mut *transaction).await?;
    let stamp = format!(
        "PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION};"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(stamp))
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await
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

impl Reader {
    /// Every bucket in the order of names.
    ///
    /// # Errors
    /// [`MetaError::Sql`].
    pub async fn buckets(&self) -> Result<Vec<BucketRow>, MetaError> {
        let rows = sqlx::query("SELECT id, name, created_ms FROM buckets ORDER BY name")
            .fetch_all(&self.pool)
            .await
            .map_err(read_failed)?;
        rows.iter().map(bucket_row).collect()
    }

    /// One bucket.
    ///
    /// # Errors
    /// [`MetaError::Sql`].
    pub async fn bucket(&self, name: &BucketName) -> Result<Option<BucketRow>, MetaError> {
        let row = sqlx::query("SELECT id, name, created_ms FROM buckets WHERE name = ?")
            .bind(name.as_str())
            .fetch_optional(&self.pool)
            .await
            .map_err(read_failed)?;
        row.as_ref().map(bucket_row).transpose()
    }

    /// One object of a bucket.
    ///
    /// # Errors
    /// [`MetaError::Sql`] or [`MetaError::ImpossibleRow`].
    pub async fn object(
        &self,
        bucket: i64,
        key: &ObjectKey,
    ) -> Result<Option<ObjectRow>, MetaError> {
        let row = sqlx::query(
            "SELECT etag, modified_ms, checksum_algorithm, checksum, fields, size, content
             FROM objects WHERE bucket = ? AND key = ?",
        )
        .bind(bucket)
        .bind(key.as_str().as_bytes())
        .fetch_optional(&self.pool)
        .await
        .map_err(read_failed)?;
        row.as_ref().map(object_row).transpose()
    }

    /// At most `limit` objects from `seek` on, in byte order of their keys.
    ///
    /// # Errors
    /// [`MetaError::Sql`] or [`MetaError::ImpossibleRow`].
    pub async fn list(
        &self,
        bucket: i64,
        seek: &Seek,
        limit: usize,
    ) -> Result<Vec<ListedObject>, MetaError> {
        let (sql, key) = match seek {
            Seek::From(key) => (
                "SELECT key, size, etag, modified_ms, checksum_algorithm FROM objects
                 WHERE bucket = ? AND key >= ? ORDER BY key LIMIT ?",
                key,
            ),
            Seek::After(key) => (
                "SELECT key, size, etag, modified_ms, checksum_algorithm FROM objects
                 WHERE bucket = ? AND key > ? ORDER BY key LIMIT ?",
                key,
            ),
            Seek::End => return Ok(Vec::new()),
        };
        let rows = sqlx::query(sql)
            .bind(bucket)
            .bind(key.as_slice())
            .bind(i64::try_from(limit).expect("a page is far shorter than i64::MAX"))
            .fetch_all(&self.pool)
            .await
            .map_err(read_failed)?;
        rows.iter().map(listed_object).collect()
    }

    /// Closes the connections.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

fn read_failed(error: sqlx::Error) -> MetaError {
    match error {
        sqlx::Error::PoolClosed => MetaError::Closed,
        other => MetaError::Sql(Arc::new(other)),
    }
}

fn bucket_row(row: &SqliteRow) -> Result<BucketRow, MetaError> {
    Ok(BucketRow {
        id: row.try_get("id").map_err(read_failed)?,
        name: row.try_get("name").map_err(read_failed)?,
        created_ms: row.try_get("created_ms").map_err(read_failed)?,
    })
}

fn listed_object(row: &SqliteRow) -> Result<ListedObject, MetaError> {
    let key: Vec<u8> = row.try_get("key").map_err(read_failed)?;
    let key = String::from_utf8(key)
        .ok()
        .and_then(|key| ObjectKey::new(key).ok())
        .ok_or(MetaError::ImpossibleRow { column: "key" })?;
    Ok(ListedObject {
        key,
        size_bytes: length(row, "size")?,
        etag: row.try_get("etag").map_err(read_failed)?,
        modified_ms: row.try_get("modified_ms").map_err(read_failed)?,
        checksum_algorithm: algorithm(row)?,
    })
}

fn object_row(row: &SqliteRow) -> Result<ObjectRow, MetaError> {
    let value: Vec<u8> = row.try_get("checksum").map_err(read_failed)?;
    let content: &[u8] = row.try_get("content").map_err(read_failed)?;
    let impossible = |column| MetaError::ImpossibleRow { column };
    Ok(ObjectRow {
        etag: row.try_get("etag").map_err(read_failed)?,
        modified_ms: row.try_get("modified_ms").map_err(read_failed)?,
        checksum: Checksum::from_bytes(algorithm(row)?, value)
            .map_err(|_| impossible("checksum"))?,
        fields: row.try_get("fields").map_err(read_failed)?,
        length_bytes: length(row, "size")?,
        content: content::from_bytes(content).ok_or(impossible("content"))?,
    })
}

fn length(row: &SqliteRow, column: &'static str) -> Result<u64, MetaError> {
    let length: i64 = row.try_get(column).map_err(read_failed)?;
    u64::try_from(length).map_err(|_| MetaError::ImpossibleRow { column })
}

fn algorithm(row: &SqliteRow) -> Result<Algorithm, MetaError> {
    let name: &str = row.try_get("checksum_algorithm").map_err(read_failed)?;
    Algorithm::from_s3_name(name).map_err(|_| MetaError::ImpossibleRow {
        column: "checksum_algorithm",
    })
}

impl MetaError {
    /// Sorts an error of the writing connection. A full database rolls back whole and may be tried again after
    /// room was made; after any other failure the latch falls.
    fn from_write(error: sqlx::Error, latch: &WriteLatch) -> MetaError {
        /// SQLite's result code SQLITE_FULL.
        const FULL: &str = "13";
        let full = error
            .as_database_error()
            .and_then(|error| error.code())
            .is_some_and(|code| code == FULL);
        if full {
            return MetaError::NoSpace(Arc::new(error));
        }
        latch.fall();
        MetaError::Sql(Arc::new(error))
    }
}
