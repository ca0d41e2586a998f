//! Single rows, and whole tables for those who look after them.

use std::collections::HashMap;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use sqlx::Row as _;
use sqlx::sqlite::{SqlitePool, SqliteRow};

use super::super::{
    BucketRow, Census, DocumentKind, MetaError, Piece, PieceBytes, StorageClass, Understood,
    UploadRow, VersionId, VersionRow,
};
use super::columns::{
    algorithm, blob_of, get, impossible, lock, object_key, place, signed, storage_class, unsigned,
    version_row, version_sql, versioning,
};
use super::read_failed;
use crate::origin::blobs::{BlobId, Extent, PackId, StoredBlob};
use crate::origin::names::{BucketName, ObjectKey};

fn bucket_row(row: &SqliteRow) -> Result<BucketRow, MetaError> {
    Ok(BucketRow {
        id: get(row, "id")?,
        name: get(row, "name")?,
        owner: get(row, "owner")?,
        created_ms: get(row, "created_ms")?,
        versioning: versioning(row)?,
        documents: Vec::new(),
        understood: Understood::default(),
    })
}

pub(super) async fn buckets(pool: &SqlitePool) -> Result<Vec<BucketRow>, MetaError> {
    let rows =
        sqlx::query("SELECT id, name, owner, created_ms, versioning FROM buckets ORDER BY name")
            .fetch_all(pool)
            .await
            .map_err(read_failed)?;
    let documents = sqlx::query("SELECT bucket, kind, document FROM bucket_documents")
        .fetch_all(pool)
        .await
        .map_err(read_failed)?;
    let mut of_bucket: HashMap<i64, Vec<_>> = HashMap::new();
    for row in &documents {
        let bucket = of_bucket.entry(get(row, "bucket")?).or_default();
        bucket.push(document(row)?);
    }
    let with_documents = |row| {
        let mut bucket = bucket_row(row)?;
        bucket.documents = of_bucket.remove(&bucket.id).unwrap_or_default();
        Ok(bucket)
    };
    rows.iter().map(with_documents).collect()
}

pub(super) async fn bucket(
    pool: &SqlitePool,
    name: &BucketName,
) -> Result<Option<BucketRow>, MetaError> {
    let row =
        sqlx::query("SELECT id, name, owner, created_ms, versioning FROM buckets WHERE name = ?")
            .bind(name.as_str())
            .fetch_optional(pool)
            .await
            .map_err(read_failed)?;
    let Some(row) = row else { return Ok(None) };
    let mut bucket = bucket_row(&row)?;
    let rows = sqlx::query("SELECT kind, document FROM bucket_documents WHERE bucket = ?")
        .bind(bucket.id)
        .fetch_all(pool)
        .await
        .map_err(read_failed)?;
    bucket.documents = rows.iter().map(document).collect::<Result<_, _>>()?;
    Ok(Some(bucket))
}

fn document(row: &SqliteRow) -> Result<(DocumentKind, Bytes), MetaError> {
    let kind = DocumentKind::from_name(get(row, "kind")?).ok_or(impossible("kind"))?;
    Ok((kind, Bytes::from(get::<Vec<u8>>(row, "document")?)))
}

pub(super) async fn latest(
    pool: &SqlitePool,
    bucket: i64,
    key: &ObjectKey,
) -> Result<Option<VersionRow>, MetaError> {
    let row = sqlx::query(version_sql!(
        "WHERE v.bucket = ? AND v.key = ? ORDER BY v.id DESC LIMIT 1"
    ))
    .bind(bucket)
    .bind(key.as_str().as_bytes())
    .fetch_optional(pool)
    .await
    .map_err(read_failed)?;
    row.as_ref().map(version_row).transpose()
}

pub(super) async fn version(
    pool: &SqlitePool,
    bucket: i64,
    key: &ObjectKey,
    version_id: VersionId,
) -> Result<Option<VersionRow>, MetaError> {
    let query = match version_id {
        VersionId::Number(number) => sqlx::query(version_sql!(
            "WHERE v.id = ? AND v.bucket = ? AND v.key = ? AND v.is_null = 0"
        ))
        .bind(number),
        VersionId::Null => sqlx::query(version_sql!(
            "WHERE v.is_null = ? AND v.bucket = ? AND v.key = ?"
        ))
        .bind(1),
    };
    let row = query
        .bind(bucket)
        .bind(key.as_str().as_bytes())
        .fetch_optional(pool)
        .await
        .map_err(read_failed)?;
    row.as_ref().map(version_row).transpose()
}

pub(super) async fn extents(
    pool: &SqlitePool,
    version: i64,
    start: u64,
    end: u64,
) -> Result<Vec<Piece>, MetaError> {
    let rows = sqlx::query(
        "SELECT e.position, e.length, e.inline, e.blob, e.skip, b.length AS blob_length, b.place, b.block_crcs
         FROM extents e LEFT JOIN blobs b ON b.id = e.blob
         WHERE e.holder = ? AND e.position < ? AND e.position + e.length > ? ORDER BY e.position",
    )
    .bind(version)
    .bind(signed(end))
    .bind(signed(start))
    .fetch_all(pool)
    .await
    .map_err(read_failed)?;
    rows.iter()
        .map(|row| {
            let inline: Option<Vec<u8>> = get(row, "inline")?;
            let blob: Option<i64> = get(row, "blob")?;
            let bytes = match (inline, blob) {
                (Some(bytes), _) => PieceBytes::Inline(Bytes::from(bytes)),
                (None, Some(blob)) => PieceBytes::Extent(Extent {
                    blob: blob_of(row, blob, "blob_length")?,
                    skip_bytes: unsigned(row, "skip")?,
                    length_bytes: unsigned(row, "length")?,
                }),
                (None, None) => return Err(impossible("blob")),
            };
            Ok(Piece {
                position: unsigned(row, "position")?,
                bytes,
            })
        })
        .collect()
}

pub(super) fn upload_row(row: &SqliteRow) -> Result<UploadRow, MetaError> {
    Ok(UploadRow {
        number: get(row, "id")?,
        bucket: get(row, "bucket")?,
        key: object_key(row)?,
        started_ms: get(row, "started_ms")?,
        owner: get(row, "owner")?,
        fields: get(row, "fields")?,
        tags: get(row, "tags")?,
        acl: get(row, "acl")?,
        checksum: algorithm(row)?,
        storage_class: storage_class(row)?,
        lock: lock(row)?,
    })
}

pub(super) async fn upload(pool: &SqlitePool, number: i64) -> Result<Option<UploadRow>, MetaError> {
    let row = sqlx::query(
        "SELECT id, bucket, key, started_ms, owner, fields, tags, acl, checksum_algorithm, checksum_type,
                storage_class, lock
         FROM uploads WHERE id = ?",
    )
    .bind(number)
    .fetch_optional(pool)
    .await
    .map_err(read_failed)?;
    row.as_ref().map(upload_row).transpose()
}

fn stored_blobs(rows: &[SqliteRow]) -> Result<Vec<StoredBlob>, MetaError> {
    rows.iter()
        .map(|row| blob_of(row, get(row, "id")?, "length"))
        .collect()
}

pub(super) async fn blobs(
    pool: &SqlitePool,
    after: Option<BlobId>,
    limit: usize,
) -> Result<Vec<StoredBlob>, MetaError> {
    let rows = sqlx::query(
        "SELECT id, length, place, block_crcs FROM blobs WHERE id > ? ORDER BY id LIMIT ?",
    )
    .bind(after.map_or(i64::MIN, BlobId::row))
    .bind(signed(limit as u64))
    .fetch_all(pool)
    .await
    .map_err(read_failed)?;
    stored_blobs(&rows)
}

pub(super) async fn blobs_in_pack(
    pool: &SqlitePool,
    pack: PackId,
) -> Result<Vec<StoredBlob>, MetaError> {
    let rows =
        sqlx::query("SELECT id, length, place, block_crcs FROM blobs WHERE pack = ? ORDER BY id")
            .bind(pack.row())
            .fetch_all(pool)
            .await
            .map_err(read_failed)?;
    stored_blobs(&rows)
}

pub(super) async fn packs(pool: &SqlitePool) -> Result<Vec<(PackId, u64)>, MetaError> {
    let rows = sqlx::query(
        "SELECT pack, sum(length) AS live FROM blobs WHERE pack IS NOT NULL GROUP BY pack ORDER BY pack",
    )
    .fetch_all(pool)
    .await
    .map_err(read_failed)?;
    rows.iter()
        .map(|row| Ok((PackId::from_row(get(row, "pack")?), unsigned(row, "live")?)))
        .collect()
}

pub(super) async fn garbage(pool: &SqlitePool, limit: usize) -> Result<Vec<StoredBlob>, MetaError> {
    let rows = sqlx::query("SELECT id, length, place, block_crcs FROM garbage ORDER BY id LIMIT ?")
        .bind(signed(limit as u64))
        .fetch_all(pool)
        .await
        .map_err(read_failed)?;
    stored_blobs(&rows)
}

/// Blobs whose count is wrong: what their rows say, and how many rows name them.
pub(super) async fn miscounted(
    pool: &SqlitePool,
    limit: usize,
) -> Result<Vec<(BlobId, u64, u64)>, MetaError> {
    let rows = sqlx::query(
        "WITH names AS (
             SELECT blob FROM versions WHERE blob IS NOT NULL
             UNION ALL SELECT blob FROM parts WHERE blob IS NOT NULL
             UNION ALL SELECT blob FROM extents WHERE blob IS NOT NULL
         ), named AS (SELECT blob, count(*) AS names FROM names GROUP BY blob)
         SELECT coalesce(blobs.id, named.blob) AS id, coalesce(refs, 0) AS counted, coalesce(names, 0) AS names
         FROM blobs FULL JOIN named ON named.blob = blobs.id
         WHERE refs IS NOT names ORDER BY 1 LIMIT ?",
    )
    .bind(signed(limit as u64))
    .fetch_all(pool)
    .await
    .map_err(read_failed)?;
    let wrong = rows.iter().map(|row| {
        let id = BlobId::from_row(get(row, "id")?);
        Ok((id, unsigned(row, "counted")?, unsigned(row, "names")?))
    });
    wrong.collect()
}

pub(super) async fn misplaced(
    pool: &SqlitePool,
    limit: usize,
) -> Result<Vec<(BlobId, StorageClass)>, MetaError> {
    let mut rows = sqlx::query(
        "WITH names AS (
             SELECT blob, storage_class FROM versions WHERE blob IS NOT NULL
             UNION SELECT extents.blob, storage_class
                 FROM extents JOIN versions ON versions.id = holder WHERE extents.blob IS NOT NULL
             UNION SELECT blob, storage_class
                 FROM parts JOIN uploads ON uploads.id = upload WHERE blob IS NOT NULL
             UNION SELECT extents.blob, storage_class
                 FROM extents JOIN parts ON parts.id = holder JOIN uploads ON uploads.id = upload
                 WHERE extents.blob IS NOT NULL
         )
         SELECT blobs.id AS id, place, storage_class
         FROM names JOIN blobs ON blobs.id = names.blob ORDER BY 1, 3",
    )
    .fetch(pool);
    let mut misplaced = Vec::new();
    while let Some(row) = rows.try_next().await.map_err(read_failed)? {
        let class = storage_class(&row)?;
        if place(&row)?.tier() != class.tier() {
            misplaced.push((BlobId::from_row(get(&row, "id")?), class));
            if misplaced.len() >= limit {
                break;
            }
        }
    }
    Ok(misplaced)
}

pub(super) async fn census(pool: &SqlitePool) -> Result<Census, MetaError> {
    let row = sqlx::query(
        "SELECT (SELECT count(*) FROM buckets) AS buckets,
                of_versions.*,
                (SELECT count(*) FROM blobs) AS blobs,
                (SELECT coalesce(sum(length), 0) FROM blobs) AS blob_bytes,
                (SELECT count(*) FROM garbage) AS garbage,
                (SELECT coalesce(sum(length), 0) FROM garbage) AS garbage_bytes,
                (SELECT count(*) FROM uploads) AS uploads,
                (SELECT count(*) FROM tasks) AS tasks,
                (SELECT count(*) FROM dead_letters) AS dead_letters
         FROM (SELECT count(*) FILTER (WHERE kind <> 1) AS versions,
                      count(*) FILTER (WHERE kind = 1) AS delete_markers,
                      coalesce(sum(size), 0) AS version_bytes,
                      count(*) FILTER (WHERE storage_class = 1) AS cold_versions,
                      coalesce(sum(size) FILTER (WHERE storage_class = 1), 0) AS cold_version_bytes
               FROM versions) AS of_versions",
    )
    .fetch_one(pool)
    .await
    .map_err(read_failed)?;
    let number = |column: &'static str| -> Result<u64, MetaError> {
        let value: i64 = row.try_get(column).map_err(read_failed)?;
        u64::try_from(value).map_err(|_| impossible(column))
    };
    Ok(Census {
        buckets: number("buckets")?,
        versions: number("versions")?,
        delete_markers: number("delete_markers")?,
        version_bytes: number("version_bytes")?,
        cold_versions: number("cold_versions")?,
        cold_version_bytes: number("cold_version_bytes")?,
        blobs: number("blobs")?,
        blob_bytes: number("blob_bytes")?,
        garbage: number("garbage")?,
        garbage_bytes: number("garbage_bytes")?,
        uploads: number("uploads")?,
        tasks: number("tasks")?,
        dead_letters: number("dead_letters")?,
    })
}
