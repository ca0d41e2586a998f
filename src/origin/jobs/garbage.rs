//! Removes blobs that are listed as garbage: the process ended between the commit that released them and their removal,
//! or the removal failed.

use super::JobError;
use crate::origin::blobs::Amount;
use crate::origin::store::Store;

/// Blobs removed at a time.
const BATCH: usize = 1000;

/// Removes what can be removed. Gives back how much.
pub(super) async fn collect(store: &Store) -> Result<Amount, JobError> {
    let mut all = Amount::default();
    loop {
        let garbage = store.inner.meta.garbage(BATCH).await?;
        if garbage.is_empty() {
            return Ok(all);
        }
        let gone = store.reclaim_now(garbage).await;
        if gone.files == 0 {
            // Another try right now would not do better.
            return Ok(all);
        }
        all.files += gone.files;
        all.bytes += gone.bytes;
    }
}
