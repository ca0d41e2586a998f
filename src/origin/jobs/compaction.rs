//! Gives back the room of dead bytes in packs. The steps, and why they are safe, are those of
//! `src/origin/blobs/compaction.rs`.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use super::{JobError, on_disks};
use crate::origin::blobs::{BlobError, PackOnDisk};
use crate::origin::meta::MetaError;
use crate::origin::stats::{Care, Level};
use crate::origin::store::Store;

/// What a compaction did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Packs removed.
    pub packs: u64,
    /// Blobs that were moved out of them.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of content that there was room for in the removed packs, less those that were moved.
    pub freed_bytes: u64,
    /// Packs that are mostly dead and stay for now: they are in use, or a blob in them cannot be read.
    pub left: u64,
}

/// Whether so much of a pack is dead that it is written anew: more than half of it.
fn is_worth_it(live_bytes: u64, capacity_bytes: u64) -> bool {
    live_bytes < capacity_bytes.div_ceil(2)
}

/// Writes anew every pack that is mostly dead, and removes those that no row names.
pub(super) async fn compact(store: &Store) -> Result<Compacted, JobError> {
    let blobs = Arc::clone(&store.inner.disks);
    let packs = on_disks(move || blobs.packs())
        .await?
        .map_err(JobError::Folder)?;
    let live: HashMap<_, _> = store.inner.meta.packs().await?.into_iter().collect();
    let mut done = Compacted::default();
    let (mut live_bytes, mut capacity_bytes) = (0, 0);
    for pack in packs {
        let live = live.get(&pack.id).copied().unwrap_or(0);
        live_bytes += live;
        capacity_bytes += pack.capacity_bytes;
        if !is_worth_it(live, pack.capacity_bytes) {
            continue;
        }
        match compact_one(store, pack).await {
            Ok(Some((blobs, bytes))) => {
                done.packs += 1;
                done.blobs += blobs;
                done.bytes += bytes;
                done.freed_bytes += pack.capacity_bytes.saturating_sub(bytes);
                live_bytes -= live.min(live_bytes);
                live_bytes += bytes;
                capacity_bytes -= pack.capacity_bytes;
                capacity_bytes += bytes;
            }
            Ok(None) => done.left += 1,
            // These would not do better with the next pack.
            Err(
                error @ (JobError::Meta(_)
                | JobError::Died
                | JobError::Blob(BlobError::WritesRefused | BlobError::NoSpace { .. })),
            ) => return Err(error),
            Err(error) => {
                tracing::warn!(pack = pack.id.row(), %error, "a pack that is mostly dead stays");
                done.left += 1;
            }
        }
    }
    let stats = store.stats();
    stats.set_level(Level::PackLiveBytes, live_bytes);
    stats.set_level(
        Level::PackDeadBytes,
        capacity_bytes.saturating_sub(live_bytes),
    );
    if done.packs > 0 {
        let Compacted {
            packs,
            bytes,
            freed_bytes,
            ..
        } = done;
        tracing::info!(packs, bytes, freed_bytes, "packs were compacted");
    }
    Ok(done)
}

/// Gives back how many blobs and bytes were moved, `None` when the pack is in use.
async fn compact_one(store: &Store, pack: PackOnDisk) -> Result<Option<(u64, u64)>, JobError> {
    let inner = &store.inner;
    // Before the rows are read: from here on no new row can come to name the pack.
    if !inner.disks.compactable(pack.id) {
        return Ok(None);
    }
    let live = inner.meta.blobs_in_pack(pack.id).await?;
    let blobs = live.len() as u64;
    let bytes = live.iter().map(|blob| blob.length_bytes).sum();
    if !live.is_empty() {
        let places = match inner.disks.compact(pack.id, live).await {
            Ok(places) => places,
            Err(error) if is_busy(&error) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // Clones: the places hold the new packs until the rows are committed.
        let moved = places.iter().map(|new| (new.id, new.place.clone()));
        inner.meta.move_blobs(moved.collect()).await?;
        drop(places);
        inner.stats.add(Care::MovedBytes, bytes);
    }
    // `delete-needs-proof`
    if !is_unnamed(store, pack).await? {
        return Ok(None);
    }
    let all = Arc::clone(&inner.disks);
    match on_disks(move || all.remove_pack(pack.id)).await? {
        Ok(()) => {
            inner.stats.add(Care::RemovedPacks, 1);
            Ok(Some((blobs, bytes)))
        }
        Err(error) if is_busy(&error) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn is_unnamed(store: &Store, pack: PackOnDisk) -> Result<bool, MetaError> {
    Ok(store.inner.meta.blobs_in_pack(pack.id).await?.is_empty())
}

fn is_busy(error: &BlobError) -> bool {
    matches!(error, BlobError::Write { source, .. } if source.kind() == io::ErrorKind::ResourceBusy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pack_is_written_anew_when_less_than_half_of_it_lives() {
        for (live, capacity, expected) in [
            (0, 0, false),
            (0, 1, true),
            (49, 100, true),
            (50, 100, false),
            (50, 101, true),
            (101, 100, false),
        ] {
            assert_eq!(
                is_worth_it(live, capacity),
                expected,
                "{live} of {capacity}"
            );
        }
    }
}
