//! Multipart uploads and their parts.

use sqlx::Row as _;

use super::super::super::{NewPart, NewUpload, PartSource, Refused};
use super::super::columns::{signed, storage_class_number};
use super::super::writer::Change;
use super::Changes;
use super::content::{self, RowExtent, RowPlace};
use crate::origin::blobs::StoredBlob;
use crate::origin::names::ObjectKey;

pub(in super::super) struct Create(pub(in super::super) Box<NewUpload>);

impl Change for Create {
    type Outcome = Result<i64, Refused>;
    async fn apply(self, changes: &mut Changes<'_>) -> Result<Self::Outcome, sqlx::Error> {
        let new = *self.0;
        let Some((bucket, _)) = changes.bucket(&new.bucket).await? else {
            return Ok(Err(Refused::NoSuchBucket));
        };
        let number = changes.next_row().await?;
        sqlx::query(
            "INSERT INTO uploads (id, bucket, key, started_ms, owner, fields, tags, acl, checksum_algorithm,
                checksum_type, storage_class, lock)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(number)
        .bind(bucket)
        .bind(new.key.as_str().as_bytes())
        .bind(new.started_ms)
        .bind(&new.owner)
        .bind(&new.fields)
        .bind(&new.tags)
        .bind(&new.acl)
        .bind(new.checksum.map(|(algorithm, _)| algorithm.s3_name()))
        .bind(new.checksum.map(|(_, kind)| kind.name()))
        .bind(storage_class_number(new.storage_class))
        .bind(new.lock.to_row())
        .execute(changes.sql())
        .await?;
        Ok(Ok(number))
    }
}

pub(in super::super) struct PutPart(pub(in super::super) Box<NewPart>);

impl Change for PutPart {
    type Outcome = Result<Vec<StoredBlob>, Refused>;
    async fn apply(self, changes: &mut Changes<'_>) -> Result<Self::Outcome, sqlx::Error> {
        let NewPart {
            upload,
            row,
            source,
        } = *self.0;
        let class: Option<i64> =
            sqlx::query_scalar("SELECT storage_class FROM uploads WHERE id = ?")
                .bind(upload)
                .fetch_optional(changes.sql())
                .await?;
        let Some(class) = class else {
            return Ok(Err(Refused::NoSuchUpload));
        };
        let shared = match &source {
            PartSource::Written(_) => None,
            PartSource::Version { number, start, end } => {
                let found = sqlx::query(
                    "SELECT size, storage_class, inline, blob FROM versions WHERE id = ? AND kind <> 1",
                )
                .bind(number)
                .fetch_optional(changes.sql())
                .await?;
                let Some(found) = found else {
                    return Ok(Err(Refused::NoSuchVersion));
                };
                let place = RowPlace::of(&found)?;
                let size: i64 = found.try_get("size")?;
                let (start, end) = (signed(*start), signed(*end));
                if end > size {
                    return Ok(Err(Refused::NoSuchVersion));
                }
                if found.try_get::<i64, _>("storage_class")? != class {
                    return Ok(Err(Refused::Moved));
                }
                Some(content::extents_of(changes, *number, &place, start, end).await?)
            }
        };
        let released = match find(changes, upload, row.number).await? {
            Some(earlier) => remove(changes, &earlier).await?,
            None => Vec::new(),
        };
        let id = changes.next_row().await?;
        let place = match (source, shared) {
            (_, Some(extents)) => content::share_all(changes, id, extents).await?,
            (PartSource::Written(content), None) => {
                content::name_written(changes, id, content).await?
            }
            (PartSource::Version { .. }, None) => RowPlace::default(),
        };
        sqlx::query(
            "INSERT INTO parts (id, upload, number, size, etag, modified_ms, checksum_algorithm, checksum, inline,
                blob)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(id)
        .bind(upload)
        .bind(row.number)
        .bind(signed(row.size_bytes))
        .bind(&row.etag)
        .bind(row.modified_ms)
        .bind(row.checksum.algorithm().s3_name())
        .bind(row.checksum.bytes())
        .bind(place.inline)
        .bind(place.blob)
        .execute(changes.sql())
        .await?;
        Ok(Ok(released))
    }
}

pub(in super::super) struct Abort(pub(in super::super) i64);

impl Change for Abort {
    type Outcome = Result<Vec<StoredBlob>, Refused>;
    async fn apply(self, changes: &mut Changes<'_>) -> Result<Self::Outcome, sqlx::Error> {
        let alive: Option<i64> = sqlx::query_scalar("SELECT 1 FROM uploads WHERE id = ?")
            .bind(self.0)
            .fetch_optional(changes.sql())
            .await?;
        if alive.is_none() {
            return Ok(Err(Refused::NoSuchUpload));
        }
        end(changes, self.0).await.map(Ok)
    }
}

struct ExistingPart {
    id: i64,
    number: u16,
    size: i64,
    etag: String,
    place: RowPlace,
}

async fn find(
    changes: &mut Changes<'_>,
    upload: i64,
    number: u16,
) -> Result<Option<ExistingPart>, sqlx::Error> {
    let row = sqlx::query(
        "SELECT id, size, etag, inline, blob FROM parts WHERE upload = ? AND number = ?",
    )
    .bind(upload)
    .bind(number)
    .fetch_optional(changes.sql())
    .await?;
    row.map(|row| {
        Ok(ExistingPart {
            id: row.try_get("id")?,
            number,
            size: row.try_get("size")?,
            etag: row.try_get("etag")?,
            place: RowPlace::of(&row)?,
        })
    })
    .transpose()
}

async fn remove(
    changes: &mut Changes<'_>,
    part: &ExistingPart,
) -> Result<Vec<StoredBlob>, sqlx::Error> {
    sqlx::query("DELETE FROM parts WHERE id = ?")
        .bind(part.id)
        .execute(changes.sql())
        .await?;
    content::release(changes, part.id, &part.place).await
}

/// Removes the upload with whatever parts it has left.
pub(super) async fn end(
    changes: &mut Changes<'_>,
    upload: i64,
) -> Result<Vec<StoredBlob>, sqlx::Error> {
    let numbers: Vec<u16> = sqlx::query_scalar("SELECT number FROM parts WHERE upload = ?")
        .bind(upload)
        .fetch_all(changes.sql())
        .await?;
    let mut released = Vec::new();
    for number in numbers {
        if let Some(part) = find(changes, upload, number).await? {
            released.extend(remove(changes, &part).await?);
        }
    }
    sqlx::query("DELETE FROM uploads WHERE id = ?")
        .bind(upload)
        .execute(changes.sql())
        .await?;
    Ok(released)
}

/// An upload whose listed parts are all there.
pub(super) struct Completion {
    upload: i64,
    parts: Vec<ExistingPart>,
}

/// Finds the parts that a completion lists.
pub(super) async fn find_parts(
    changes: &mut Changes<'_>,
    upload: i64,
    bucket: i64,
    key: &ObjectKey,
    listed: Vec<(u16, String)>,
) -> Result<Result<Completion, Refused>, sqlx::Error> {
    let alive: Option<i64> =
        sqlx::query_scalar("SELECT 1 FROM uploads WHERE id = ? AND bucket = ? AND key = ?")
            .bind(upload)
            .bind(bucket)
            .bind(key.as_str().as_bytes())
            .fetch_optional(changes.sql())
            .await?;
    if alive.is_none() {
        return Ok(Err(Refused::NoSuchUpload));
    }
    let mut parts = Vec::with_capacity(listed.len());
    for (number, etag) in listed {
        match find(changes, upload, number).await? {
            Some(part) if part.etag == etag => parts.push(part),
            Some(_) | None => return Ok(Err(Refused::InvalidPart { number })),
        }
    }
    Ok(Ok(Completion { upload, parts }))
}

/// Gives the bytes of the parts to the version `holder` and ends the upload. Blobs keep their counts: one name goes,
/// another comes.
pub(super) async fn complete(
    changes: &mut Changes<'_>,
    completion: Completion,
    holder: i64,
) -> Result<(RowPlace, Vec<StoredBlob>), sqlx::Error> {
    let Completion { upload, parts } = completion;
    let mut extents: Vec<RowExtent> = Vec::new();
    for part in &parts {
        extents.extend(content::extents_of(changes, part.id, &part.place, 0, part.size).await?);
        sqlx::query("DELETE FROM extents WHERE holder = ?")
            .bind(part.id)
            .execute(changes.sql())
            .await?;
        sqlx::query("DELETE FROM parts WHERE upload = ? AND number = ?")
            .bind(upload)
            .bind(part.number)
            .execute(changes.sql())
            .await?;
    }
    let released = end(changes, upload).await?;
    let place = content::place_all(changes, holder, extents).await?;
    Ok((place, released))
}
