//! Pages of rows in the order of keys.

use sqlx::sqlite::{SqlitePool, SqliteRow};

use super::super::{
    ListedObject, ListedVersion, MetaError, PartRow, UploadRow, VersionKind, VersionSeek,
};
use super::columns::{
    algorithm, algorithm_of, get, impossible, kind, object_key, signed, storage_class,
    storage_class_of, unsigned, version_id,
};
use super::read::upload_row;
use super::read_failed;
use crate::origin::checksums::{Algorithm, Checksum};
use crate::origin::listing::Seek;
use crate::origin::names::ObjectKey;

fn listed_object(row: &SqliteRow) -> Result<ListedObject, MetaError> {
    Ok(ListedObject {
        key: object_key(row)?,
        size_bytes: unsigned(row, "size")?,
        etag: get(row, "etag")?,
        modified_ms: get(row, "modified_ms")?,
        checksum: algorithm(row)?,
        owner: get(row, "owner")?,
        storage_class: storage_class(row)?,
    })
}

/// The statements of a listing in the order of keys. Each takes the bucket, the key, and how many rows at most;
/// `behind` the number of a row between them.
struct Statements {
    /// From a key on.
    from: &'static str,
    /// From behind a key on.
    after: &'static str,
    /// The other rows of a key, where it has several.
    behind: &'static str,
}

/// At most `limit` rows: first those that stand behind a row of its own key, then those from `seek` on.
async fn rows_of(
    pool: &SqlitePool,
    statements: &Statements,
    bucket: i64,
    behind: Option<&(ObjectKey, i64)>,
    seek: &Seek,
    limit: usize,
) -> Result<Vec<SqliteRow>, MetaError> {
    let mut rows = Vec::new();
    if let Some((key, number)) = behind {
        rows = sqlx::query(statements.behind)
            .bind(bucket)
            .bind(key.as_str().as_bytes())
            .bind(number)
            .bind(signed(limit as u64))
            .fetch_all(pool)
            .await
            .map_err(read_failed)?;
    }
    let (sql, key) = match seek {
        Seek::From(key) => (statements.from, key),
        Seek::After(key) => (statements.after, key),
        Seek::End => return Ok(rows),
    };
    if rows.len() < limit {
        let more = sqlx::query(sql)
            .bind(bucket)
            .bind(key.as_slice())
            .bind(signed((limit - rows.len()) as u64))
            .fetch_all(pool)
            .await
            .map_err(read_failed)?;
        rows.extend(more);
    }
    Ok(rows)
}

macro_rules! objects_sql {
    ($rest:literal) => {
        concat!(
            "SELECT json_group_array(json_array(
                 CAST(key AS TEXT), size, etag, modified_ms, checksum_algorithm, checksum_type, owner,
                 storage_class)) AS page
             FROM (SELECT key, size, etag, modified_ms, checksum_algorithm, checksum_type, owner, storage_class
                   FROM versions
                   WHERE is_latest = 1 AND kind <> 1 AND bucket = ? AND ",
            $rest,
            " ORDER BY key LIMIT ?)"
        )
    };
}

/// A row of a page of objects, its columns in the order of the statement.
type PageRow<'r> = (
    String,
    u64,
    String,
    i64,
    Option<&'r str>,
    Option<&'r str>,
    String,
    i64,
);

pub(super) async fn objects(
    pool: &SqlitePool,
    bucket: i64,
    seek: &Seek,
    limit: usize,
) -> Result<Vec<ListedObject>, MetaError> {
    let (sql, key) = match seek {
        Seek::From(key) => (objects_sql!("key >= ?"), key),
        Seek::After(key) => (objects_sql!("key > ?"), key),
        Seek::End => return Ok(Vec::new()),
    };
    // Answered from the index `objects_listed` alone, and in one row: each row is handed from thread to thread, with a copy
    // of each of its columns.
    let row = sqlx::query(sql)
        .bind(bucket)
        .bind(key.as_slice())
        .bind(signed(limit as u64))
        .fetch_one(pool)
        .await
        .map_err(read_failed)?;
    let page: &str = get(&row, "page")?;
    let rows: Vec<PageRow<'_>> = serde_json::from_str(page).map_err(|_| impossible("page"))?;
    rows.into_iter()
        .map(
            |(key, size_bytes, etag, modified_ms, name, kind, owner, class)| {
                let checksum = algorithm_of(name, kind)?;
                Ok(ListedObject {
                    key: ObjectKey::new(key).map_err(|_| impossible("key"))?,
                    size_bytes,
                    etag,
                    modified_ms,
                    checksum,
                    owner,
                    storage_class: storage_class_of(class)?,
                })
            },
        )
        .collect()
}

macro_rules! versions_sql {
    ($rest:literal) => {
        concat!(
            "SELECT id, key, is_null, kind, is_latest, size, etag, modified_ms, checksum_algorithm, checksum_type,
                    owner, tags, storage_class
             FROM versions WHERE bucket = ? AND ",
            $rest,
            " ORDER BY key, id DESC LIMIT ?"
        )
    };
}

pub(super) async fn versions(
    pool: &SqlitePool,
    bucket: i64,
    seek: &VersionSeek,
    limit: usize,
) -> Result<Vec<ListedVersion>, MetaError> {
    let statements = Statements {
        from: versions_sql!("key >= ?"),
        after: versions_sql!("key > ?"),
        behind: versions_sql!("key = ? AND id < ?"),
    };
    let behind = seek.older_than.as_ref();
    let rows = rows_of(pool, &statements, bucket, behind, &seek.from, limit).await?;
    rows.iter().map(listed_version).collect()
}

fn listed_version(row: &SqliteRow) -> Result<ListedVersion, MetaError> {
    Ok(ListedVersion {
        object: listed_object(row)?,
        number: get(row, "id")?,
        version_id: version_id(row)?,
        is_delete_marker: kind(row)? == VersionKind::DeleteMarker,
        is_latest: get(row, "is_latest")?,
        tags: get(row, "tags")?,
    })
}

macro_rules! uploads_sql {
    ($rest:literal) => {
        concat!(
            "SELECT id, bucket, key, started_ms, owner, fields, tags, acl, checksum_algorithm, checksum_type,
                    storage_class, lock
             FROM uploads WHERE bucket = ? AND ",
            $rest,
            " ORDER BY key, id LIMIT ?"
        )
    };
}

pub(super) async fn uploads(
    pool: &SqlitePool,
    bucket: i64,
    seek: &Seek,
    after: Option<(ObjectKey, i64)>,
    limit: usize,
) -> Result<Vec<UploadRow>, MetaError> {
    let statements = Statements {
        from: uploads_sql!("key >= ?"),
        after: uploads_sql!("key > ?"),
        behind: uploads_sql!("key = ? AND id > ?"),
    };
    let rows = rows_of(pool, &statements, bucket, after.as_ref(), seek, limit).await?;
    rows.iter().map(upload_row).collect()
}

pub(super) async fn parts(
    pool: &SqlitePool,
    upload: i64,
    after: u16,
    limit: usize,
) -> Result<Vec<PartRow>, MetaError> {
    let rows = sqlx::query(
        "SELECT number, size, etag, modified_ms, checksum_algorithm, checksum FROM parts
         WHERE upload = ? AND number > ? ORDER BY number LIMIT ?",
    )
    .bind(upload)
    .bind(after)
    .bind(signed(limit as u64))
    .fetch_all(pool)
    .await
    .map_err(read_failed)?;
    rows.iter()
        .map(|row| {
            let algorithm = Algorithm::from_s3_name(get(row, "checksum_algorithm")?)
                .map_err(|_| impossible("checksum_algorithm"))?;
            Ok(PartRow {
                number: get(row, "number")?,
                size_bytes: unsigned(row, "size")?,
                etag: get(row, "etag")?,
                modified_ms: get(row, "modified_ms")?,
                checksum: Checksum::from_bytes(algorithm, get(row, "checksum")?)
                    .map_err(|_| impossible("checksum"))?,
            })
        })
        .collect()
}
