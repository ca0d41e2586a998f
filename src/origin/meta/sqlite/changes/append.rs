//! Bytes at the end of a stream (S3 Express One Zone, "Appending data to objects").

use md5::{Digest as _, Md5};
use sqlx::Row as _;

use super::super::super::{Append, Appended, Committed, Grown, Refused, Source, VersionKind};
use super::super::columns::{kind_number, signed};
use super::super::outbox::enqueue;
use super::super::writer::Change;
use super::Changes;
use super::content::{self, RowExtent, RowPlace};
use super::objects::{Existing, Put, decide, latest};
use crate::origin::blobs::Content;
use crate::origin::checksums::{Algorithm, Checksum};

pub(in super::super) struct AppendTo(pub(in super::super) Box<Append>);

impl Change for AppendTo {
    type Outcome = Result<Appended, Refused>;
    async fn apply(self, changes: &mut Changes<'_>) -> Result<Self::Outcome, sqlx::Error> {
        let append = *self.0;
        let Some((bucket, _)) = changes.bucket(&append.new.bucket).await? else {
            return Ok(Err(Refused::NoSuchBucket));
        };
        let current = latest(changes, bucket, &append.new.key).await?;
        match current {
            Some(current) if current.kind != VersionKind::DeleteMarker => {
                grow(changes, bucket, current, append).await
            }
            _ if append.offset_bytes == 0 => {
                let begun = Put(Box::new(append.new)).apply(changes).await?;
                Ok(begun.map(|committed| Appended {
                    committed,
                    grown: None,
                }))
            }
            _ => Ok(Err(Refused::NoSuchKey)),
        }
    }
}

async fn grow(
    changes: &mut Changes<'_>,
    bucket: i64,
    current: Existing,
    append: Append,
) -> Result<Result<Appended, Refused>, sqlx::Error> {
    let new = append.new;
    if let Err(refused) = decide(&new.condition, Some(&current)) {
        return Ok(Err(refused));
    }
    let (VersionKind::Stream, Source::Written(content)) = (current.kind, new.source) else {
        return Ok(Err(Refused::NotAppendable));
    };
    if current.lock.keeps(new.modified_ms, false) {
        return Ok(Err(Refused::Locked));
    }
    let offset = signed(append.offset_bytes);
    if current.size != offset {
        return Ok(Err(Refused::WrongOffset {
            length_bytes: current.size.cast_unsigned(),
        }));
    }
    changes.touch_object(bucket, &new.key);
    let number = current.number;
    if current.place != RowPlace::default() {
        let whole = content::extents_of(changes, number, &current.place, 0, current.size).await?;
        content::insert_extents(changes, number, 0, whole).await?;
    }
    let extents = match content {
        Content::Inline(bytes) => vec![RowExtent {
            length: signed(bytes.len() as u64),
            inline: Some(bytes.to_vec()),
            blob: None,
            skip: 0,
        }],
        Content::Blobs(blobs) => content::name_blobs(changes, blobs).await?,
    };
    content::insert_extents(changes, number, offset, extents).await?;
    let size = offset + signed(new.size_bytes);
    let etag = appended_etag(&current.etag, &new.etag);
    let checksum = joined_checksum(changes, number, &append.crc64, new.size_bytes).await?;
    let kind = if append.seal {
        VersionKind::Object
    } else {
        VersionKind::Stream
    };
    sqlx::query(
        "UPDATE versions SET size = ?, etag = ?, modified_ms = ?, kind = ?, checksum = ?, inline = NULL, blob = NULL
         WHERE id = ?",
    )
    .bind(size)
    .bind(&etag)
    .bind(new.modified_ms)
    .bind(kind_number(kind))
    .bind(checksum.bytes())
    .bind(number)
    .execute(changes.sql())
    .await?;
    enqueue(changes, &new.messages, &current.version_id.to_string()).await?;
    Ok(Ok(Appended {
        committed: Committed {
            bucket,
            version_id: None,
            released: Vec::new(),
        },
        grown: Some(Grown {
            etag,
            length_bytes: size.cast_unsigned(),
        }),
    }))
}

/// The tag changes with every append and is no MD5 of the bytes, so it has another shape (S3 Express has it so, too).
fn appended_etag(earlier: &str, md5: &str) -> String {
    let appends = earlier
        .rsplit_once("-a")
        .and_then(|(_, count)| count.parse::<u64>().ok())
        .unwrap_or(0);
    let mut both = Md5::new();
    both.update(earlier.as_bytes());
    both.update(b" ");
    both.update(md5.as_bytes());
    format!("{}-a{}", hex::encode(both.finalize()), appends + 1)
}

/// The checksum of what was there and what came. Streams have CRC-64/NVME, which can be joined without reading.
async fn joined_checksum(
    changes: &mut Changes<'_>,
    version: i64,
    appended: &Checksum,
    appended_bytes: u64,
) -> Result<Checksum, sqlx::Error> {
    let row = sqlx::query("SELECT checksum FROM versions WHERE id = ?")
        .bind(version)
        .fetch_one(changes.sql())
        .await?;
    let decode = |error: crate::origin::checksums::ChecksumError| sqlx::Error::Decode(error.into());
    let earlier =
        Checksum::from_bytes(Algorithm::Crc64Nvme, row.try_get("checksum")?).map_err(decode)?;
    earlier.joined(appended, appended_bytes).map_err(decode)
}
