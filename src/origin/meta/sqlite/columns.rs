//! Between rows of SQLite and those of [`crate::origin::meta`].

use std::sync::Arc;

use bytes::Bytes;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::super::rows::{
    ChecksumType, ObjectChecksum, PartOfObject, Place, StorageClass, VersionKind, VersionRow,
    Versioning,
};
use super::super::{MetaError, VersionId};
use super::read_failed;
use crate::origin::blobs::{self, BlobId, BlockCrcs, StoredBlob};
use crate::origin::checksums::{Algorithm, Checksum};
use crate::origin::names::ObjectKey;
use crate::origin::retention::ObjectLock;

/// A column, or the trouble with it.
pub(super) fn get<'r, T>(row: &'r SqliteRow, column: &'static str) -> Result<T, MetaError>
where
    T: sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
{
    row.try_get(column).map_err(read_failed)
}

/// A row that we cannot have written.
pub(super) fn impossible(column: &'static str) -> MetaError {
    MetaError::ImpossibleRow { column }
}

/// A number that is never negative.
pub(super) fn unsigned(row: &SqliteRow, column: &'static str) -> Result<u64, MetaError> {
    u64::try_from(get::<i64>(row, column)?).map_err(|_| impossible(column))
}

/// A count or length on its way into a row.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).expect("nothing here is as long as 2^63 bytes")
}

pub(super) fn object_key(row: &SqliteRow) -> Result<ObjectKey, MetaError> {
    let key: Vec<u8> = get(row, "key")?;
    String::from_utf8(key)
        .ok()
        .and_then(|key| ObjectKey::new(key).ok())
        .ok_or(impossible("key"))
}

pub(super) fn versioning(row: &SqliteRow) -> Result<Versioning, MetaError> {
    match get::<i64>(row, "versioning")? {
        0 => Ok(Versioning::Off),
        1 => Ok(Versioning::Enabled),
        2 => Ok(Versioning::Suspended),
        _ => Err(impossible("versioning")),
    }
}

pub(super) fn versioning_number(versioning: Versioning) -> i64 {
    match versioning {
        Versioning::Off => 0,
        Versioning::Enabled => 1,
        Versioning::Suspended => 2,
    }
}

pub(super) fn kind_number(kind: VersionKind) -> i64 {
    match kind {
        VersionKind::Object => 0,
        VersionKind::DeleteMarker => 1,
        VersionKind::Stream => 2,
    }
}

pub(super) fn kind(row: &SqliteRow) -> Result<VersionKind, MetaError> {
    match get::<i64>(row, "kind")? {
        0 => Ok(VersionKind::Object),
        1 => Ok(VersionKind::DeleteMarker),
        2 => Ok(VersionKind::Stream),
        _ => Err(impossible("kind")),
    }
}

pub(super) fn storage_class_number(class: StorageClass) -> i64 {
    match class {
        StorageClass::Standard => 0,
        StorageClass::StandardIa => 1,
    }
}

pub(super) fn storage_class(row: &SqliteRow) -> Result<StorageClass, MetaError> {
    storage_class_of(get(row, "storage_class")?)
}

pub(super) fn lock(row: &SqliteRow) -> Result<ObjectLock, MetaError> {
    ObjectLock::from_row(get(row, "lock")?).ok_or(impossible("lock"))
}

/// As [`storage_class`], of the column itself.
pub(super) fn storage_class_of(number: i64) -> Result<StorageClass, MetaError> {
    match number {
        0 => Ok(StorageClass::Standard),
        1 => Ok(StorageClass::StandardIa),
        _ => Err(impossible("storage_class")),
    }
}

pub(super) fn version_id(row: &SqliteRow) -> Result<VersionId, MetaError> {
    Ok(if get::<bool>(row, "is_null")? {
        VersionId::Null
    } else {
        VersionId::Number(get(row, "id")?)
    })
}

/// The algorithm and type of a checksum, when there is one.
pub(super) fn algorithm(row: &SqliteRow) -> Result<Option<(Algorithm, ChecksumType)>, MetaError> {
    algorithm_of(get(row, "checksum_algorithm")?, get(row, "checksum_type")?)
}

/// As [`algorithm`], of the columns themselves.
pub(super) fn algorithm_of(
    name: Option<&str>,
    kind: Option<&str>,
) -> Result<Option<(Algorithm, ChecksumType)>, MetaError> {
    let (Some(name), Some(kind)) = (name, kind) else {
        return Ok(None);
    };
    let algorithm = Algorithm::from_s3_name(name).map_err(|_| impossible("checksum_algorithm"))?;
    let kind = ChecksumType::from_name(kind).ok_or(impossible("checksum_type"))?;
    Ok(Some((algorithm, kind)))
}

pub(super) fn blob_of(
    row: &SqliteRow,
    id: i64,
    length_column: &'static str,
) -> Result<StoredBlob, MetaError> {
    let crcs: &[u8] = get(row, "block_crcs")?;
    Ok(StoredBlob {
        id: BlobId::from_row(id),
        length_bytes: unsigned(row, length_column)?,
        block_crcs: BlockCrcs::from_bytes(crcs).ok_or(impossible("block_crcs"))?,
        place: place(row)?,
    })
}

pub(super) fn place(row: &SqliteRow) -> Result<blobs::Place, MetaError> {
    blobs::Place::from_bytes(get(row, "place")?).ok_or(impossible("place"))
}

/// The columns of a version with its blob; `versions` is `v`, `blobs` is `b`.
macro_rules! version_sql {
    ($rest:literal) => {
        concat!(
            "SELECT v.id, v.key, v.is_null, v.kind, v.is_latest, v.size, v.etag, v.modified_ms, v.checksum_algorithm,
                    v.checksum_type, v.checksum, v.owner, v.fields, v.tags, v.acl, v.storage_class, v.lock, v.parts, v.inline, v.blob,
                    b.length AS blob_length, b.place, b.block_crcs
             FROM versions v LEFT JOIN blobs b ON b.id = v.blob ",
            $rest
        )
    };
}
pub(super) use version_sql;

pub(super) fn version_row(row: &SqliteRow) -> Result<VersionRow, MetaError> {
    let checksum = match algorithm(row)? {
        None => None,
        Some((algorithm, kind)) => {
            let value: Vec<u8> = get(row, "checksum")?;
            let checksum =
                Checksum::from_bytes(algorithm, value).map_err(|_| impossible("checksum"))?;
            Some(ObjectChecksum { checksum, kind })
        }
    };
    let kind = kind(row)?;
    let inline: Option<Vec<u8>> = get(row, "inline")?;
    let blob: Option<i64> = get(row, "blob")?;
    let place = match (inline, blob) {
        (Some(bytes), _) => Place::Inline(Bytes::from(bytes)),
        (None, Some(blob)) => Place::Blob(blob_of(row, blob, "blob_length")?),
        (None, None) if kind == VersionKind::DeleteMarker => Place::Inline(Bytes::new()),
        (None, None) => Place::Extents,
    };
    Ok(VersionRow {
        number: get(row, "id")?,
        key: object_key(row)?,
        version_id: version_id(row)?,
        kind,
        is_latest: get(row, "is_latest")?,
        size_bytes: unsigned(row, "size")?,
        etag: get(row, "etag")?,
        modified_ms: get(row, "modified_ms")?,
        checksum,
        owner: get(row, "owner")?,
        fields: get(row, "fields")?,
        tags: get(row, "tags")?,
        acl: get(row, "acl")?,
        storage_class: storage_class(row)?,
        lock: lock(row)?,
        parts: parts_from_row(get(row, "parts")?).ok_or(impossible("parts"))?,
        place,
    })
}

/// The form of parts in a row: `number size algorithm checksum` lines, the last two only where there is one.
pub(super) fn parts_to_row(parts: &[PartOfObject]) -> Vec<u8> {
    let mut row = String::new();
    for part in parts {
        row.push_str(&format!("{} {}", part.number, part.size_bytes));
        if let Some(checksum) = &part.checksum {
            let algorithm = checksum.algorithm().s3_name();
            row.push_str(&format!(" {algorithm} {}", checksum.base64()));
        }
        row.push('\n');
    }
    row.into_bytes()
}

fn parts_from_row(row: &[u8]) -> Option<Vec<PartOfObject>> {
    let lines = std::str::from_utf8(row).ok()?.lines();
    lines
        .map(|line| {
            let mut words = line.split(' ');
            let number = words.next()?.parse().ok()?;
            let size_bytes = words.next()?.parse().ok()?;
            let checksum = match (words.next(), words.next()) {
                (Some(algorithm), Some(value)) => {
                    let algorithm = Algorithm::from_s3_name(algorithm).ok()?;
                    Some(Checksum::parse(algorithm, value).ok()?)
                }
                _ => None,
            };
            Some(PartOfObject {
                number,
                size_bytes,
                checksum,
            })
        })
        .collect()
}

/// A row that cannot be decoded, in the words of the writing side.
pub(super) fn undecodable(error: MetaError) -> sqlx::Error {
    match error {
        MetaError::Sql(error) => Arc::try_unwrap(error).unwrap_or(sqlx::Error::RowNotFound),
        other => sqlx::Error::Decode(other.to_string().into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_survive_the_row() {
        let checksum = Checksum::parse(Algorithm::Crc32, "AAAAAA==").unwrap();
        let parts = vec![
            PartOfObject {
                number: 1,
                size_bytes: 5 << 20,
                checksum: Some(checksum),
            },
            PartOfObject {
                number: 10_000,
                size_bytes: 0,
                checksum: None,
            },
        ];
        assert_eq!(parts_from_row(&parts_to_row(&parts)), Some(parts));
        assert_eq!(parts_from_row(b""), Some(Vec::new()));
        assert_eq!(parts_from_row(b"x\n"), None);
    }
}
