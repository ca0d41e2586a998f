//! Blobs and extents: who names which bytes.
//!
//! A blob's `refs` counts the rows of versions, parts and extents that name it. The change that takes the last name
//! away takes the row away, too; a blob with a file of its own becomes garbage in the same transaction
//! (`delete-needs-proof`), one in a pack only leaves dead bytes there.

use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::super::columns::{blob_of, signed, undecodable};
use super::Changes;
use crate::origin::blobs::{Content, NewBlob, StoredBlob};

/// Where the bytes of a version or part are, as its row says it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct RowPlace {
    pub(super) inline: Option<Vec<u8>>,
    pub(super) blob: Option<i64>,
}

impl RowPlace {
    /// Reads it out of a row with the columns `inline` and `blob`.
    pub(super) fn of(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        Ok(RowPlace {
            inline: row.try_get("inline")?,
            blob: row.try_get("blob")?,
        })
    }

    fn is_extents(&self) -> bool {
        self.inline.is_none() && self.blob.is_none()
    }
}

/// One extent, as its row says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RowExtent {
    pub(super) length: i64,
    pub(super) inline: Option<Vec<u8>>,
    pub(super) blob: Option<i64>,
    pub(super) skip: i64,
}

/// Names the bytes that were just written for the row `holder`.
pub(super) async fn name_written(
    changes: &mut Changes<'_>,
    holder: i64,
    content: Content,
) -> Result<RowPlace, sqlx::Error> {
    match content {
        Content::Inline(bytes) => Ok(RowPlace {
            inline: Some(bytes.to_vec()),
            blob: None,
        }),
        Content::Blobs(blobs) => {
            let extents = name_blobs(changes, blobs).await?;
            place_all(changes, holder, extents).await
        }
    }
}

/// Writes the rows of new blobs, each with one name: that of the extent that the caller makes of it.
pub(super) async fn name_blobs(
    changes: &mut Changes<'_>,
    blobs: Vec<NewBlob>,
) -> Result<Vec<RowExtent>, sqlx::Error> {
    let mut extents = Vec::with_capacity(blobs.len());
    for blob in blobs {
        let length = signed(blob.length_bytes);
        sqlx::query(
            "INSERT INTO blobs (id, length, refs, pack, place, block_crcs) VALUES (?, ?, 1, ?, ?, ?)",
        )
        .bind(blob.id.row())
        .bind(length)
        .bind(blob.place.pack().map(|pack| pack.row()))
        .bind(blob.place.to_bytes())
        .bind(blob.block_crcs.to_bytes())
        .execute(changes.sql())
        .await?;
        extents.push(RowExtent {
            length,
            inline: None,
            blob: Some(blob.id.row()),
            skip: 0,
        });
    }
    Ok(extents)
}

/// Gives the row `holder` these extents. A single one that is whole needs no row of its own.
pub(super) async fn place_all(
    changes: &mut Changes<'_>,
    holder: i64,
    extents: Vec<RowExtent>,
) -> Result<RowPlace, sqlx::Error> {
    match extents.as_slice() {
        [] => Ok(RowPlace {
            inline: Some(Vec::new()),
            blob: None,
        }),
        [only] if only.skip == 0 && (only.inline.is_some() || is_whole(changes, only).await?) => {
            Ok(RowPlace {
                inline: only.inline.clone(),
                blob: only.blob,
            })
        }
        _ => {
            insert_extents(changes, holder, 0, extents).await?;
            Ok(RowPlace::default())
        }
    }
}

/// Gives the row `holder` extents that other rows name as well.
pub(super) async fn share_all(
    changes: &mut Changes<'_>,
    holder: i64,
    extents: Vec<RowExtent>,
) -> Result<RowPlace, sqlx::Error> {
    for blob in extents.iter().filter_map(|extent| extent.blob) {
        sqlx::query("UPDATE blobs SET refs = refs + 1 WHERE id = ?")
            .bind(blob)
            .execute(changes.sql())
            .await?;
    }
    place_all(changes, holder, extents).await
}

async fn is_whole(changes: &mut Changes<'_>, extent: &RowExtent) -> Result<bool, sqlx::Error> {
    let length: Option<i64> = sqlx::query_scalar("SELECT length FROM blobs WHERE id = ?")
        .bind(extent.blob)
        .fetch_optional(changes.sql())
        .await?;
    Ok(length == Some(extent.length))
}

/// Writes rows of extents one behind the other.
pub(super) async fn insert_extents(
    changes: &mut Changes<'_>,
    holder: i64,
    mut position: i64,
    extents: Vec<RowExtent>,
) -> Result<(), sqlx::Error> {
    for extent in extents {
        if extent.length == 0 {
            continue;
        }
        sqlx::query(
            "INSERT INTO extents (holder, position, length, inline, blob, skip) VALUES (?, ?, ?, ?, ?, ?)",
        )
        .bind(holder)
        .bind(position)
        .bind(extent.length)
        .bind(extent.inline)
        .bind(extent.blob)
        .bind(extent.skip)
        .execute(changes.sql())
        .await?;
        position += extent.length;
    }
    Ok(())
}

/// The bytes `start..end` of what the row `holder` holds, as extents. Nothing is counted.
pub(super) async fn extents_of(
    changes: &mut Changes<'_>,
    holder: i64,
    place: &RowPlace,
    start: i64,
    end: i64,
) -> Result<Vec<RowExtent>, sqlx::Error> {
    let whole = if place.is_extents() {
        let rows = sqlx::query(
            "SELECT position, length, inline, blob, skip FROM extents
             WHERE holder = ? AND position < ? AND position + length > ? ORDER BY position",
        )
        .bind(holder)
        .bind(end)
        .bind(start)
        .fetch_all(changes.sql())
        .await?;
        let extents = rows.iter().map(|row| {
            let extent = RowExtent {
                length: row.try_get("length")?,
                inline: row.try_get("inline")?,
                blob: row.try_get("blob")?,
                skip: row.try_get("skip")?,
            };
            Ok((row.try_get("position")?, extent))
        });
        extents.collect::<Result<Vec<(i64, RowExtent)>, sqlx::Error>>()?
    } else {
        let extent = RowExtent {
            length: end,
            inline: place.inline.clone(),
            blob: place.blob,
            skip: 0,
        };
        vec![(0, extent)]
    };
    let clipped = whole.into_iter().map(|(position, mut extent)| {
        let front = (start - position).max(0);
        let back = (position + extent.length - end).max(0);
        extent.length -= front + back;
        match &mut extent.inline {
            Some(bytes) => {
                // An inline extent is a few KiB long.
                let (from, length) = (front as usize, extent.length as usize);
                *bytes = bytes.iter().skip(from).take(length).copied().collect();
            }
            None => extent.skip += front,
        }
        extent
    });
    Ok(clipped.filter(|extent| extent.length > 0).collect())
}

/// Takes the names away that the row `holder` gave. Gives back the blobs that have none left.
pub(super) async fn release(
    changes: &mut Changes<'_>,
    holder: i64,
    place: &RowPlace,
) -> Result<Vec<StoredBlob>, sqlx::Error> {
    let mut released = Vec::new();
    if let Some(blob) = place.blob {
        released.extend(release_blob(changes, blob).await?);
    }
    if place.is_extents() {
        let blobs: Vec<Option<i64>> =
            sqlx::query_scalar("DELETE FROM extents WHERE holder = ? RETURNING blob")
                .bind(holder)
                .fetch_all(changes.sql())
                .await?;
        for blob in blobs.into_iter().flatten() {
            released.extend(release_blob(changes, blob).await?);
        }
    }
    Ok(released)
}

async fn release_blob(
    changes: &mut Changes<'_>,
    id: i64,
) -> Result<Option<StoredBlob>, sqlx::Error> {
    let last = sqlx::query(
        "DELETE FROM blobs WHERE id = ? AND refs = 1 RETURNING length, place, block_crcs, pack",
    )
    .bind(id)
    .fetch_optional(changes.sql())
    .await?;
    let Some(row) = last else {
        sqlx::query("UPDATE blobs SET refs = refs - 1 WHERE id = ?")
            .bind(id)
            .execute(changes.sql())
            .await?;
        return Ok(None);
    };
    let blob = blob_of(&row, id, "length").map_err(undecodable)?;
    let pack: Option<i64> = row.try_get("pack")?;
    if pack.is_none() {
        sqlx::query("INSERT INTO garbage (id, length, place, block_crcs) VALUES (?, ?, ?, ?)")
            .bind(id)
            .bind(signed(blob.length_bytes))
            .bind(blob.place.to_bytes())
            .bind(blob.block_crcs.to_bytes())
            .execute(changes.sql())
            .await?;
    }
    Ok(Some(blob))
}
