//! Giving back the room of records that no row names any more: what is alive moves, and the pack goes as a whole.
//!
//! The order that makes it safe (`delete-needs-proof`):
//!
//! 1. [`DiskBlobs::compactable`] tells whether a pack can be taken.
//! 2. [`DiskBlobs::compact`] copies the blobs of the rows that name the pack, verified, to where new ones of their tier go.
//! 3. One transaction gives each of these rows its new place, and finds that no row names the pack any more. It must
//!    look: a row may have been committed after the rows were listed.
//! 4. Only after that commit [`DiskBlobs::remove_pack`] removes the files, when their last readers are done.
//!
//! A stop in between leaves copies that no row names, or a pack that none names: the next sweep or compaction has them.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::parts::Parts;
use super::pins::Pin;
use super::{BlobError, BlobId, DiskBlobs, Inner, PackId, Place, StoredBlob};

/// Blobs that are in memory at a time, and share a sync.
const BATCH: usize = 32;

/// Where a blob lies after a compaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPlace {
    /// The blob; its id stays.
    pub id: BlobId,
    /// For its row. Keep it until the row is committed, as [`Place`] says.
    pub place: Place,
}

impl DiskBlobs {
    /// Whether nothing is added to a pack any more, and no publication is on its way to a row that would name it.
    pub fn compactable(&self, pack: PackId) -> bool {
        !self.inner.packs.is_busy(pack)
    }

    /// Copies blobs out of a pack, each durable on return. `live` are those of the rows that name it.
    ///
    /// # Errors
    /// [`BlobError::Write`] with [`io::ErrorKind::ResourceBusy`] when the pack is not [`DiskBlobs::compactable`];
    /// the error of a read when a blob is lost, in which case the pack must stay; or that of a publication.
    pub async fn compact(
        &self,
        pack: PackId,
        live: Vec<StoredBlob>,
    ) -> Result<Vec<NewPlace>, BlobError> {
        let inner = &self.inner;
        inner.refuse_busy(pack)?;
        let mut places = Vec::with_capacity(live.len());
        let mut live = live.into_iter();
        loop {
            let mut waiting = Vec::with_capacity(BATCH);
            for blob in live.by_ref().take(BATCH) {
                let id = blob.id;
                let inner = Arc::clone(inner);
                let copy = tokio::task::spawn_blocking(move || {
                    let tier = blob.place.tier();
                    let payload = read_whole(&inner, blob)?;
                    let set = inner.next_pack_set(tier)?;
                    let form = inner.disks.form(tier);
                    Ok::<_, BlobError>(inner.packs.append(id, payload, form, set))
                });
                waiting.push((id, copy.await.map_err(|_| BlobError::WritesRefused)??));
            }
            if waiting.is_empty() {
                break;
            }
            for (id, durable) in waiting {
                let place = durable.await.map_err(|_| BlobError::WritesRefused)??;
                places.push(NewPlace { id, place });
            }
        }
        Ok(places)
    }

    /// Removes a pack that no committed row names any more, when its last reader is done. Blocks.
    ///
    /// # Errors
    /// [`BlobError::Write`]: with [`io::ErrorKind::ResourceBusy`] when the pack is not [`DiskBlobs::compactable`], else
    /// it costs space, not truth, and the next sweep repeats it.
    pub fn remove_pack(&self, pack: PackId) -> Result<(), BlobError> {
        let inner = &self.inner;
        inner.refuse_busy(pack)?;
        inner.packs.forget(pack);
        if !inner.pins.doom(Pin::Pack(pack), &[]) {
            return Ok(());
        }
        let outcome = inner.unlink_pack(pack);
        inner.pins.forget(Pin::Pack(pack));
        outcome.map_err(|source| BlobError::Write {
            id: pack.row(),
            source,
        })
    }
}

impl Inner {
    fn refuse_busy(&self, pack: PackId) -> Result<(), BlobError> {
        if self.packs.is_busy(pack) {
            return Err(BlobError::Write {
                id: pack.row(),
                source: io::ErrorKind::ResourceBusy.into(),
            });
        }
        Ok(())
    }
}

/// The bytes of a blob that lies in a pack, verified.
fn read_whole(inner: &Inner, blob: StoredBlob) -> Result<Bytes, BlobError> {
    // What lies in a pack is short.
    let mut payload = vec![0; blob.length_bytes as usize];
    let parts = Parts::new(blob, Arc::clone(&inner.disks));
    parts.check()?;
    parts.read(parts.blocks(), &mut payload)?;
    Ok(payload.into())
}
