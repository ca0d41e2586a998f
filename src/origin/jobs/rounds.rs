//! What is looked after every hour, one after the other.

use std::time::Duration;

use super::{Job, compaction, garbage, lifecycle};
use crate::origin::meta::MetaError;
use crate::origin::stats::Level;
use crate::origin::store::Store;

/// Between two rounds. Lifecycle rules count in days; S3 applies them once a day.
const PAUSE: Duration = Duration::from_secs(3600);

/// Makes rounds for ever.
pub(super) async fn run(store: &Store) {
    loop {
        round(store).await;
        tokio::time::sleep(PAUSE).await;
    }
}

async fn round(store: &Store) {
    let turns = &store.inner.turns;
    {
        let _turn = turns.wait(Job::Garbage).await;
        if let Err(error) = garbage::collect(store).await {
            tracing::warn!(%error, "garbage stays for the next round");
        }
    }
    {
        let _turn = turns.wait(Job::Lifecycle).await;
        match lifecycle::apply(store).await {
            Ok(applied) if applied == lifecycle::Applied::default() => {}
            Ok(lifecycle::Applied {
                ended,
                moved,
                moved_bytes,
            }) => tracing::info!(ended, moved, moved_bytes, "lifecycle rules were applied"),
            Err(error) => tracing::warn!(%error, "lifecycle rules wait for the next round"),
        }
    }
    {
        // After the rules, because what they end dies in packs, too.
        let _turn = turns.wait(Job::Compact).await;
        if let Err(error) = compaction::compact(store).await {
            tracing::warn!(%error, "compaction waits for the next round");
        }
    }
    if let Err(error) = count(store).await {
        tracing::warn!(%error, "what there is was not counted");
    }
}

/// Counts what there is, for the metrics. It reads every row, so it is not done for each scrape.
async fn count(store: &Store) -> Result<(), MetaError> {
    let census = store.inner.meta.census().await?;
    let stats = store.stats();
    for (level, value) in [
        (Level::Buckets, census.buckets),
        (Level::Versions, census.versions),
        (Level::VersionBytes, census.version_bytes),
        (Level::ColdVersionBytes, census.cold_version_bytes),
        (Level::GarbageBytes, census.garbage_bytes),
        (Level::MessagesWaiting, census.tasks),
        (Level::MessagesDead, census.dead_letters),
    ] {
        stats.set_level(level, value);
    }
    Ok(())
}
