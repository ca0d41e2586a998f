//! Reads that may have to wait for the disk.
//!
//! What lies in the page cache is read at once, on the caller's thread. The rest goes to a bounded
//! number of threads; concurrent reads of one record are one read.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio::sync::Semaphore;

use super::index::Location;
use super::shelf::{Found, Missed, Shelf};

/// Reads that wait for the disk at once. More make a disk with one arm slower, and a flash disk is
/// busy with fewer.
const READS_AT_ONCE: usize = 32;

/// How long a request waits for the disk before it goes to the origin.
const PATIENCE: Duration = Duration::from_secs(1);

type Pending = Shared<BoxFuture<'static, Option<Found>>>;

/// The reads under way.
pub(super) struct Reads {
    under_way: Mutex<HashMap<Location, Pending>>,
    permits: Arc<Semaphore>,
}

impl Default for Reads {
    fn default() -> Self {
        Reads {
            under_way: Mutex::default(),
            permits: Arc::new(Semaphore::new(READS_AT_ONCE)),
        }
    }
}

/// Why a read brought nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotRead {
    /// See [`Missed`].
    Missed,
    /// The disk took too long.
    Slow,
}

impl Reads {
    /// The record at `location`.
    ///
    /// # Cancel safety
    /// May be dropped at any time; others who wait for the same read get it all the same.
    pub(super) async fn read(
        self: &Arc<Self>,
        shelf: &Arc<Shelf>,
        hash: u64,
        location: Location,
    ) -> Result<Found, NotRead> {
        match shelf.read_cached(hash, location) {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => {}
            Err(Missed) => return Err(NotRead::Missed),
        }
        let pending = self.join(shelf, hash, location);
        match tokio::time::timeout(PATIENCE, pending).await {
            Ok(Some(found)) => Ok(found),
            Ok(None) => Err(NotRead::Missed),
            Err(_) => Err(NotRead::Slow),
        }
    }

    /// The read of `location` that is under way, or a new one.
    fn join(self: &Arc<Self>, shelf: &Arc<Shelf>, hash: u64, location: Location) -> Pending {
        let mut under_way = self
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(pending) = under_way.get(&location) {
            return pending.clone();
        }
        let (reads, shelf, permits) = (self.clone(), shelf.clone(), self.permits.clone());
        // A task of its own: whoever started it may go while others wait.
        let task = tokio::spawn(async move {
            let found = match permits.acquire_owned().await {
                Ok(permit) => {
                    let read = move || (shelf.read(hash, location).ok(), permit);
                    tokio::task::spawn_blocking(read)
                        .await
                        .ok()
                        .and_then(|(found, _)| found)
                }
                Err(_) => None,
            };
            let mut under_way = reads
                .under_way
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            under_way.remove(&location);
            found
        });
        let pending = task.map(|joined| joined.ok().flatten()).boxed().shared();
        under_way.insert(location, pending.clone());
        pending
    }
}
