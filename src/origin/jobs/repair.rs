//! Reads a blob on all of its disks, and mends what can be mended. Readers report what they have met
//! ([`crate::origin::blobs::Repairs`]); the scrub looks at everything.

use std::sync::Arc;

use super::{JobError, on_disks};
use crate::origin::blobs::{BlobId, StoredBlob, Verdict};
use crate::origin::meta::MetaError;
use crate::origin::stats::Care;
use crate::origin::store::Store;

/// What was found, and done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing is wrong.
    Intact,
    /// Something was wrong and is not any more.
    Repaired,
    /// Something is wrong, but nothing is lost.
    Damaged,
    /// Some of it is on no disk.
    Lost,
    /// No row names it any more.
    Gone,
}

/// Mends what readers report, for ever.
pub(super) async fn run(store: &Store) {
    loop {
        let id = store.inner.disks.repairs().next().await;
        if let Err(error) = look_again(store, id).await {
            tracing::warn!(blob = id.row(), %error, "a damaged blob waits for the scrub");
        }
    }
}

async fn look_again(store: &Store, id: BlobId) -> Result<Found, JobError> {
    match row(store, id).await? {
        Some(blob) => look_at(store, blob).await,
        None => Ok(Found::Gone),
    }
}

async fn row(store: &Store, id: BlobId) -> Result<Option<StoredBlob>, MetaError> {
    let before = BlobId::from_row(id.row() - 1);
    let next = store.inner.meta.blobs(Some(before), 1).await?;
    Ok(next.into_iter().find(|blob| blob.id == id))
}

/// Reads a blob, mends it if that is possible, and counts both.
pub(super) async fn look_at(store: &Store, mut blob: StoredBlob) -> Result<Found, JobError> {
    let stats = store.stats();
    loop {
        let (blobs, looked_at) = (Arc::clone(&store.inner.disks), blob.clone());
        let verdict = on_disks(move || blobs.verify(&looked_at)).await?;
        stats.add(Care::VerifiedBlobs, 1);
        stats.add(Care::VerifiedBytes, blob.length_bytes);
        match verdict {
            Verdict::Intact => return Ok(Found::Intact),
            Verdict::Repairable { disks } => {
                tracing::warn!(blob = blob.id.row(), ?disks, "a blob is damaged");
                stats.add(Care::DamagedBlobs, 1);
                return repair(store, blob).await;
            }
            Verdict::Lost(error) => match row(store, blob.id).await? {
                None => return Ok(Found::Gone),
                // It was moved while it was looked at.
                Some(now) if now.place != blob.place => blob = now,
                Some(_) => {
                    tracing::error!(blob = blob.id.row(), %error, "a blob is lost");
                    stats.add(Care::DamagedBlobs, 1);
                    stats.add(Care::LostBlobs, 1);
                    return Ok(Found::Lost);
                }
            },
        }
    }
}

async fn repair(store: &Store, blob: StoredBlob) -> Result<Found, JobError> {
    let blobs = Arc::clone(&store.inner.disks);
    let id = blob.id;
    match on_disks(move || blobs.repair(&blob)).await? {
        Ok(report) if report.left.is_empty() => {
            store.stats().add(Care::RepairedBlobs, 1);
            Ok(Found::Repaired)
        }
        Ok(report) => {
            let disks = report.left;
            tracing::warn!(
                blob = id.row(),
                ?disks,
                "a blob stays damaged: disks cannot be written"
            );
            Ok(Found::Damaged)
        }
        Err(error) => {
            tracing::warn!(blob = id.row(), %error, "a blob stays damaged");
            Ok(Found::Damaged)
        }
    }
}
