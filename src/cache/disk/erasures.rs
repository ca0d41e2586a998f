//! Keeps what was taken back from coming again by a way that was already under way.
//!
//! Invariant `erased-stays-erased`: once [`Erasures::erase`] has returned, no record of the hash
//! whose generation is covered gets into the index, though it may still wait for the writer; and
//! whoever was reading one learns that it must not be used ([`Erasures::mark`]).
//!
//! Hashes share buckets. A collision costs at most that an innocent record is not kept. While
//! recovery goes on, erasures are also kept by their exact hash: nearly all that it finds is older
//! than they are, and innocent.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

const BUCKETS: usize = 4096;

struct Bucket {
    /// No response of a generation up to this one is written or found any more.
    floor: Mutex<u64>,
    /// Raised by every erasure.
    mark: AtomicU64,
}

/// What was erased since the start.
pub struct Erasures {
    buckets: Box<[Bucket]>,
    /// While recovery goes on: the generations up to which hashes were erased.
    exact: Mutex<Option<HashMap<u64, u64>>>,
}

/// The erasures that had happened when a read began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark(u64);

impl Default for Erasures {
    fn default() -> Self {
        let bucket = |_| Bucket {
            floor: Mutex::new(0),
            mark: AtomicU64::new(0),
        };
        Erasures {
            buckets: (0..BUCKETS).map(bucket).collect(),
            exact: Mutex::new(None),
        }
    }
}

impl Erasures {
    fn bucket(&self, hash: u64) -> &Bucket {
        // The index picks its shards by the top bits.
        &self.buckets[hash as usize % BUCKETS]
    }

    /// Takes back generations up to `generation`; `remove` takes what is there out of the index.
    pub fn erase(&self, hash: u64, generation: u64, remove: impl FnOnce()) {
        let bucket = self.bucket(hash);
        let mut floor = bucket.floor.lock().unwrap_or_else(PoisonError::into_inner);
        *floor = generation.max(*floor);
        bucket.mark.fetch_add(1, Ordering::AcqRel);
        if let Some(exact) = &mut *self.exact() {
            let up_to = exact.entry(hash).or_default();
            *up_to = generation.max(*up_to);
        }
        remove();
    }

    fn exact(&self) -> MutexGuard<'_, Option<HashMap<u64, u64>>> {
        self.exact.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that [`Erasures::recover`] will be called from now on, or no more.
    pub fn set_recovering(&self, is_recovering: bool) {
        *self.exact() = is_recovering.then(HashMap::new);
    }

    /// Runs `insert` for a response of an earlier process, unless it was erased meanwhile.
    pub fn recover(&self, hash: u64, generation: u64, insert: impl FnOnce()) {
        let floor = self.bucket(hash).floor.lock();
        // Held while inserting, as in `unless_erased`.
        let _floor = floor.unwrap_or_else(PoisonError::into_inner);
        let is_erased = match &*self.exact() {
            Some(exact) => exact.get(&hash) >= Some(&generation),
            None => false,
        };
        if !is_erased {
            insert();
        }
    }

    /// Runs `insert` unless the generation was taken back.
    pub fn unless_erased(&self, hash: u64, generation: u64, insert: impl FnOnce()) -> bool {
        let floor = self.bucket(hash).floor.lock();
        // Held while inserting: an erasure in between would find nothing to remove.
        let floor = floor.unwrap_or_else(PoisonError::into_inner);
        let is_kept = generation > *floor;
        if is_kept {
            insert();
        }
        is_kept
    }

    /// Raises every mark: everything was removed, and what is being read must not be used.
    pub fn mark_all(&self) {
        for bucket in &self.buckets {
            bucket.mark.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// The mark of a hash, to be taken before a read.
    pub fn mark(&self, hash: u64) -> Mark {
        Mark(self.bucket(hash).mark.load(Ordering::Acquire))
    }
}
