//! What is looked after from time to time: garbage that a crash left listed, and lifecycle rules.

use std::time::Duration;

use super::lifecycle;
use crate::origin::Fault;
use crate::origin::store::Store;

/// Between two rounds. Lifecycle rules count in days; S3 applies them once a day.
const PAUSE: Duration = Duration::from_secs(3600);
/// Blobs removed at a time.
const GARBAGE_BATCH: usize = 1000;

/// Makes rounds for ever.
pub(super) async fn run(store: &Store) {
    loop {
        if let Err(error) = collect_garbage(store).await {
            tracing::warn!(%error, "garbage stays for the next round");
        }
        match lifecycle::apply(store).await {
            Ok(0) => {}
            Ok(ended) => tracing::info!(ended, "lifecycle rules were applied"),
            Err(error) => tracing::warn!(%error, "lifecycle rules wait for the next round"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Removes blobs that are listed as garbage: the process ended between the commit that released them and their
/// removal.
async fn collect_garbage(store: &Store) -> Result<(), Fault> {
    loop {
        let garbage = store.inner.meta.garbage(GARBAGE_BATCH).await?;
        let before = garbage.len();
        if before == 0 {
            return Ok(());
        }
        store.reclaim_now(garbage).await;
        let left = store.inner.meta.garbage(GARBAGE_BATCH).await?;
        if left.len() >= before && before < GARBAGE_BATCH {
            // Nothing could be removed; another try right now would not do better.
            return Ok(());
        }
    }
}
