//! The tables, and how those of earlier versions become them.

use std::path::Path;

use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Connection as _, Row as _, Sqlite, Transaction};

use super::{MetaOpenError, SCHEMA_VERSION};
use crate::origin::blobs::Place;

/// Kept in SQLite's `application_id`: "TGor".
const APPLICATION_ID: i64 = 0x5447_6f72;

/// Keys are BLOBs, so that the database compares them byte by byte.
///
/// `versions.id` is the number of a version and counts up over all of them, so that of two versions of a key the
/// newer has the higher. Its bytes are in `inline`, in the blob `blob`, or in the `extents` whose `holder` it
/// is. Parts of uploads take their ids from the same count and hold their bytes in the same ways.
const SCHEMA: &str = "
CREATE TABLE writers (
    generation INTEGER PRIMARY KEY AUTOINCREMENT,
    live       INTEGER NOT NULL
);
CREATE TABLE counters (
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE notes (
    name TEXT PRIMARY KEY,
    text TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE buckets (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    name       TEXT    NOT NULL UNIQUE,
    owner      TEXT    NOT NULL,
    created_ms INTEGER NOT NULL,
    versioning INTEGER NOT NULL
);
CREATE TABLE bucket_documents (
    bucket   INTEGER NOT NULL REFERENCES buckets (id),
    kind     TEXT    NOT NULL,
    document BLOB    NOT NULL,
    PRIMARY KEY (bucket, kind)
) WITHOUT ROWID;
CREATE TABLE blobs (
    id         INTEGER PRIMARY KEY,
    length     INTEGER NOT NULL,
    refs       INTEGER NOT NULL,
    pack       INTEGER,
    place      BLOB    NOT NULL,
    block_crcs BLOB    NOT NULL
);
CREATE INDEX blobs_by_pack ON blobs (pack, length) WHERE pack IS NOT NULL;
CREATE TABLE garbage (
    id         INTEGER PRIMARY KEY,
    length     INTEGER NOT NULL,
    place      BLOB    NOT NULL,
    block_crcs BLOB    NOT NULL
);
CREATE TABLE versions (
    id                 INTEGER PRIMARY KEY,
    bucket             INTEGER NOT NULL REFERENCES buckets (id),
    key                BLOB    NOT NULL,
    is_null            INTEGER NOT NULL,
    kind               INTEGER NOT NULL,
    is_latest          INTEGER NOT NULL,
    size               INTEGER NOT NULL,
    etag               TEXT    NOT NULL,
    modified_ms        INTEGER NOT NULL,
    checksum_algorithm TEXT,
    checksum_type      TEXT,
    checksum           BLOB,
    owner              TEXT    NOT NULL,
    fields             BLOB    NOT NULL,
    tags               TEXT    NOT NULL,
    acl                BLOB    NOT NULL,
    parts              BLOB    NOT NULL,
    inline             BLOB,
    blob               INTEGER,
    storage_class      INTEGER NOT NULL DEFAULT 0,
    lock               TEXT    NOT NULL DEFAULT ''
);
CREATE INDEX versions_by_key ON versions (bucket, key, id DESC);
CREATE TABLE extents (
    holder   INTEGER NOT NULL,
    position INTEGER NOT NULL,
    length   INTEGER NOT NULL,
    inline   BLOB,
    blob     INTEGER,
    skip     INTEGER NOT NULL,
    PRIMARY KEY (holder, position)
) WITHOUT ROWID;
CREATE TABLE uploads (
    id                 INTEGER PRIMARY KEY,
    bucket             INTEGER NOT NULL REFERENCES buckets (id),
    key                BLOB    NOT NULL,
    started_ms         INTEGER NOT NULL,
    owner              TEXT    NOT NULL,
    fields             BLOB    NOT NULL,
    tags               TEXT    NOT NULL,
    acl                BLOB    NOT NULL,
    checksum_algorithm TEXT,
    checksum_type      TEXT,
    storage_class      INTEGER NOT NULL DEFAULT 0,
    lock               TEXT    NOT NULL DEFAULT ''
);
CREATE INDEX uploads_by_key ON uploads (bucket, key, id);
CREATE TABLE parts (
    id                 INTEGER PRIMARY KEY,
    upload             INTEGER NOT NULL REFERENCES uploads (id),
    number             INTEGER NOT NULL,
    size               INTEGER NOT NULL,
    etag               TEXT    NOT NULL,
    modified_ms        INTEGER NOT NULL,
    checksum_algorithm TEXT    NOT NULL,
    checksum           BLOB    NOT NULL,
    inline             BLOB,
    blob               INTEGER,
    UNIQUE (upload, number)
);
CREATE TABLE tasks (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    kind       TEXT    NOT NULL,
    payload    TEXT    NOT NULL,
    attempts   INTEGER NOT NULL,
    created_ms INTEGER NOT NULL,
    run_at_ms  INTEGER NOT NULL,
    last_error TEXT
);
CREATE INDEX tasks_due ON tasks (run_at_ms, id);
CREATE TABLE dead_letters (
    id         INTEGER PRIMARY KEY,
    kind       TEXT    NOT NULL,
    payload    TEXT    NOT NULL,
    attempts   INTEGER NOT NULL,
    created_ms INTEGER NOT NULL,
    died_ms    INTEGER NOT NULL,
    last_error TEXT
);
INSERT INTO counters (name, value) VALUES ('row', 0);
";

/// All that a listing of objects says of one, so that it needs no row.
const OBJECTS_LISTED: &str = "
CREATE INDEX objects_listed ON versions
    (bucket, key, size, etag, modified_ms, checksum_algorithm, checksum_type, owner, storage_class)
    WHERE is_latest = 1 AND kind <> 1;
";

/// What version 3 has beyond version 2; the index follows.
const BRING_OVER_2: &str = "
ALTER TABLE versions ADD COLUMN storage_class INTEGER NOT NULL DEFAULT 0;
ALTER TABLE uploads ADD COLUMN storage_class INTEGER NOT NULL DEFAULT 0;
DROP INDEX objects_listed;
";

/// What version 4 has beyond version 3.
const BRING_OVER_3: &str = "
ALTER TABLE versions ADD COLUMN lock TEXT NOT NULL DEFAULT '';
ALTER TABLE uploads ADD COLUMN lock TEXT NOT NULL DEFAULT '';
";

/// Moves the tables of version 1 out of the way, and their rows into those of [`SCHEMA`] afterwards.
const SET_ASIDE_1: &str = "
ALTER TABLE writers RENAME TO writers_1;
ALTER TABLE buckets RENAME TO buckets_1;
ALTER TABLE blobs RENAME TO blobs_1;
ALTER TABLE objects RENAME TO objects_1;
";
const BRING_OVER_1: &str = "
INSERT INTO writers SELECT generation, live FROM writers_1;
INSERT INTO buckets (id, name, owner, created_ms, versioning)
    SELECT id, name, '', created_ms, 0 FROM buckets_1;
INSERT INTO versions (bucket, key, is_null, kind, is_latest, size, etag, modified_ms, checksum_algorithm,
        checksum_type, checksum, owner, fields, tags, acl, parts, inline, blob)
    SELECT bucket, key, 1, 0, 1, size, etag, modified_ms, checksum_algorithm, 'FULL_OBJECT', checksum,
        '', fields, '', x'', x'', iif(size = 0, x'', NULL), iif(size = 0, NULL, blob)
    FROM objects_1 ORDER BY modified_ms;
UPDATE counters SET value = (SELECT coalesce(max(id), 0) FROM versions) WHERE name = 'row';
DROP TABLE objects_1;
DROP TABLE blobs_1;
DROP TABLE buckets_1;
DROP TABLE writers_1;
";

/// Makes the tables, brings over those of an earlier version, or finds them as they are.
pub(super) async fn prepare(
    connection: &mut SqliteConnection,
    path: &Path,
) -> Result<(), MetaOpenError> {
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
        (0, 0) if tables == 0 => create(connection).await.map_err(failed),
        (APPLICATION_ID, SCHEMA_VERSION) => Ok(()),
        (APPLICATION_ID, 1) => bring_over_1(connection).await.map_err(failed),
        (APPLICATION_ID, 2) => {
            bring_over(connection, &[BRING_OVER_2, OBJECTS_LISTED, BRING_OVER_3])
                .await
                .map_err(failed)
        }
        (APPLICATION_ID, 3) => bring_over(connection, &[BRING_OVER_3])
            .await
            .map_err(failed),
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

async fn create(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    // Both pragmas are part of the transaction, so a stop in between leaves an empty database.
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    sqlx::raw_sql(SCHEMA).execute(&mut *transaction).await?;
    sqlx::raw_sql(OBJECTS_LISTED)
        .execute(&mut *transaction)
        .await?;
    let stamp = format!(
        "PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION};"
    );
    sqlx::raw_sql(AssertSqlSafe(stamp))
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await
}

async fn bring_over_1(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    sqlx::raw_sql(SET_ASIDE_1)
        .execute(&mut *transaction)
        .await?;
    sqlx::raw_sql(SCHEMA).execute(&mut *transaction).await?;
    let mut after = i64::MIN;
    loop {
        let rows = sqlx::query(
            "SELECT id, length, block_crcs FROM blobs_1 WHERE id > ? AND length > 0 ORDER BY id LIMIT 1000",
        )
        .bind(after)
        .fetch_all(&mut *transaction)
        .await?;
        let Some(last) = rows.last() else { break };
        after = last.try_get("id")?;
        for row in rows {
            let id: i64 = row.try_get("id")?;
            let length: i64 = row.try_get("length")?;
            let crcs: Vec<u8> = row.try_get("block_crcs")?;
            sqlx::query(
                "INSERT INTO blobs (id, length, refs, pack, place, block_crcs) VALUES (?, ?, 1, NULL, ?, ?)",
            )
            .bind(id)
            .bind(length)
            .bind(Place::first_disk().to_bytes())
            .bind(crcs)
            .execute(&mut *transaction)
            .await?;
        }
    }
    for sql in [BRING_OVER_1, OBJECTS_LISTED] {
        sqlx::raw_sql(sql).execute(&mut *transaction).await?;
    }
    stamp(transaction).await
}

async fn bring_over(
    connection: &mut SqliteConnection,
    steps: &[&'static str],
) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    for sql in steps {
        sqlx::raw_sql(*sql).execute(&mut *transaction).await?;
    }
    stamp(transaction).await
}

/// Ends a transaction that has brought the tables to the version of this code.
async fn stamp(mut transaction: Transaction<'_, Sqlite>) -> Result<(), sqlx::Error> {
    let stamp = format!("PRAGMA user_version = {SCHEMA_VERSION};");
    sqlx::raw_sql(AssertSqlSafe(stamp))
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::open;
    use super::*;
    use crate::origin::blobs::{BlobId, StoredBlob};
    use crate::origin::latch::WriteLatch;
    use crate::origin::listing::Seek;
    use crate::origin::meta::{Meta as _, Place as Bytes, StorageClass, VersionId, Versioning};
    use crate::origin::names::{BucketName, ObjectKey};
    use crate::origin::retention::ObjectLock;

    /// The tables of version 3 or 2, which had no column more and none less, with an object and an upload.
    fn tables_before(version: u8) -> [String; 3] {
        let mut tables =
            SCHEMA.replace(",\n    lock               TEXT    NOT NULL DEFAULT ''", "");
        let mut index = OBJECTS_LISTED.to_owned();
        if version == 2 {
            tables = tables.replace(",\n    storage_class      INTEGER NOT NULL DEFAULT 0", "");
            index = index.replace(", storage_class", "");
        }
        assert!(!tables.contains("DEFAULT ''"));
        assert_eq!(tables.contains("storage_class"), version == 3);
        let rows = format!(
            "INSERT INTO buckets VALUES (3, 'films', '', 1000, 0);
            INSERT INTO versions (id, bucket, key, is_null, kind, is_latest, size, etag, modified_ms,
                checksum_algorithm, checksum_type, checksum, owner, fields, tags, acl, parts, inline)
                VALUES (1, 3, x'61', 1, 0, 1, 2, 'tag-a', 2000, 'CRC32', 'FULL_OBJECT', x'01020304', '', x'', '',
                    x'', x'', x'0102');
            INSERT INTO uploads (id, bucket, key, started_ms, owner, fields, tags, acl)
                VALUES (2, 3, x'62', 2000, '', x'', '', x'');
            PRAGMA application_id = {APPLICATION_ID};
            PRAGMA user_version = {version};"
        );
        [tables, index, rows]
    }

    #[tokio::test]
    async fn a_database_of_a_later_version_gets_what_it_lacks() {
        for version in [2, 3] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("tg.db");
            let url = format!("sqlite://{}?mode=rwc", path.display());
            let mut old = SqliteConnection::connect(&url).await.unwrap();
            for sql in tables_before(version) {
                sqlx::raw_sql(AssertSqlSafe(sql))
                    .execute(&mut old)
                    .await
                    .unwrap();
            }
            old.close().await.unwrap();

            let opened = open(&path).await.unwrap();
            let (meta, task) = opened.start(Arc::new(WriteLatch::default()));
            let task = tokio::spawn(task);
            let key = ObjectKey::new("a").unwrap();
            let a = meta.latest(3, &key).await.unwrap().unwrap();
            assert_eq!(a.storage_class, StorageClass::Standard);
            assert_eq!(a.lock, ObjectLock::default());
            assert_eq!(a.place, Bytes::Inline(bytes::Bytes::from_static(&[1, 2])));
            let listed = meta.list(3, &Seek::From(Vec::new()), 10).await.unwrap();
            assert_eq!(listed.len(), 1);
            assert_eq!(listed[0].storage_class, StorageClass::Standard);
            let upload = meta.upload(2).await.unwrap().unwrap();
            assert_eq!(upload.storage_class, StorageClass::Standard);
            assert_eq!(upload.lock, ObjectLock::default());
            meta.close().await;
            task.await.unwrap();
            // It is of this version now.
            let again = open(&path).await.unwrap();
            assert_eq!(again.generation, 2);
        }
    }

    /// The tables of version 1, with a bucket of two objects, one of which has no bytes.
    const VERSION_1: &str = "
        CREATE TABLE writers (generation INTEGER PRIMARY KEY AUTOINCREMENT, live INTEGER NOT NULL);
        CREATE TABLE buckets (
            id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, created_ms INTEGER NOT NULL
        );
        CREATE TABLE blobs (id INTEGER PRIMARY KEY, length INTEGER NOT NULL, block_crcs BLOB NOT NULL);
        CREATE TABLE objects (
            bucket INTEGER NOT NULL REFERENCES buckets (id), key BLOB NOT NULL, size INTEGER NOT NULL,
            etag TEXT NOT NULL, modified_ms INTEGER NOT NULL, checksum_algorithm TEXT NOT NULL,
            checksum BLOB NOT NULL, blob INTEGER NOT NULL, fields BLOB NOT NULL, PRIMARY KEY (bucket, key)
        ) WITHOUT ROWID;
        INSERT INTO writers VALUES (1, 0), (7, 1);
        INSERT INTO buckets VALUES (3, 'films', 1000);
        INSERT INTO blobs VALUES (50, 5, x'01020304'), (51, 0, x'');
        INSERT INTO objects VALUES
            (3, x'61', 5, 'tag-a', 2000, 'CRC32', x'01020304', 50, x''),
            (3, x'62', 0, 'tag-b', 1500, 'CRC32', x'00000000', 51, x'');
        PRAGMA application_id = 1413967730;
        PRAGMA user_version = 1;
    ";

    #[tokio::test]
    async fn a_database_of_the_first_version_is_brought_over_with_all_that_it_holds() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tg.db");
        let url = format!("sqlite://{}?mode=rwc", path.display());
        let mut old = SqliteConnection::connect(&url).await.unwrap();
        sqlx::raw_sql(VERSION_1).execute(&mut old).await.unwrap();
        old.close().await.unwrap();

        let opened = open(&path).await.unwrap();
        assert_eq!(opened.generation, 8, "generations go on");
        assert_eq!(opened.named_blobs, [BlobId::from_row(50)]);
        let (meta, task) = opened.start(Arc::new(WriteLatch::default()));
        let task = tokio::spawn(task);
        let name = BucketName::new("films").unwrap();
        let bucket = meta.bucket(&name).await.unwrap().unwrap();
        assert_eq!((bucket.id, bucket.versioning), (3, Versioning::Off));
        let key = |key| ObjectKey::new(key).unwrap();
        let a = meta.latest(3, &key("a")).await.unwrap().unwrap();
        assert_eq!(a.version_id, VersionId::Null);
        assert_eq!(
            (a.etag.as_str(), a.modified_ms, a.size_bytes),
            ("tag-a", 2000, 5)
        );
        let Bytes::Blob(StoredBlob { id, place, .. }) = &a.place else {
            panic!("{:?}", a.place);
        };
        assert_eq!((*id, place), (BlobId::from_row(50), &Place::first_disk()));
        let b = meta.latest(3, &key("b")).await.unwrap().unwrap();
        assert_eq!(b.place, Bytes::Inline(bytes::Bytes::new()));
        meta.close().await;
        task.await.unwrap();
    }
}
