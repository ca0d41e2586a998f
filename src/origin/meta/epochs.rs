//! A cache in front of the metadata that never gives an answer older than the last commit.
//!
//! Invariant `never-behind-a-commit`: every row falls into a slot with a count. The writer makes the counts of the
//! rows it changes odd before it commits and even again afterwards, before anybody is told. An entry carries
//! the even count that stood before its row was read, and is good only while the count is still that one:
//! nobody who begins after an answer about a commit gets an earlier row, and nobody gets an earlier row after
//! somebody else got the later one.

use std::collections::BTreeSet;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use moka::sync::Cache;

/// More of them make it rarer that a commit to one row makes entries of others useless.
const SLOTS: usize = 4096;

/// The counts.
pub(super) struct Epochs {
    counts: Box<[AtomicU64]>,
    hasher: RandomState,
}

/// Slots whose rows a transaction changes.
#[derive(Debug, Default)]
pub(super) struct Touched(BTreeSet<usize>);

impl Default for Epochs {
    fn default() -> Self {
        Epochs {
            counts: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(),
            hasher: RandomState::new(),
        }
    }
}

impl Epochs {
    fn slot(&self, row: &impl Hash) -> usize {
        // Fewer than the slots.
        (self.hasher.hash_one(row) % SLOTS as u64) as usize
    }

    /// Notes that `row` will change.
    pub(super) fn touch(&self, row: &impl Hash, touched: &mut Touched) {
        touched.0.insert(self.slot(row));
    }

    /// Notes that any row may change.
    pub(super) fn touch_all(&self, touched: &mut Touched) {
        touched.0.extend(0..SLOTS);
    }

    /// Called by the one writer before it commits.
    pub(super) fn begin(&self, touched: &Touched) {
        for slot in &touched.0 {
            self.counts[*slot].fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Called by the one writer when the commit has succeeded or failed.
    pub(super) fn end(&self, touched: &Touched) {
        for slot in &touched.0 {
            self.counts[*slot].fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Rows that were read.
pub(super) struct RowCache<K, V> {
    entries: Cache<K, (u64, Arc<V>)>,
    epochs: Arc<Epochs>,
}

/// The right to put a row in that is read from now on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Since(Option<u64>);

impl<K: Hash + Eq + Send + Sync + 'static, V: Send + Sync + 'static> RowCache<K, V> {
    /// A cache of rows that weigh `max_bytes` together.
    pub(super) fn new(
        max_bytes: u64,
        weigh: impl Fn(&K, &V) -> u32 + Send + Sync + 'static,
        epochs: Arc<Epochs>,
    ) -> Self {
        let entries = Cache::builder()
            .max_capacity(max_bytes)
            .weigher(move |key: &K, (_, row): &(u64, Arc<V>)| weigh(key, row))
            .build();
        RowCache { entries, epochs }
    }

    /// The row, or the right to put it in.
    pub(super) fn get(&self, key: &K) -> Result<Arc<V>, Since> {
        let count = self.epochs.counts[self.epochs.slot(key)].load(Ordering::SeqCst);
        if count % 2 == 1 {
            return Err(Since(None));
        }
        match self.entries.get(key) {
            Some((since, row)) if since == count => Ok(row),
            Some(_) | None => Err(Since(Some(count))),
        }
    }

    /// Puts in a row that was read after [`RowCache::get`] had said `since`.
    pub(super) fn put(&self, key: K, row: Arc<V>, since: Since) {
        if let Since(Some(count)) = since {
            self.entries.insert(key, (count, row));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_good_until_the_next_commit_to_its_slot_and_not_during_one() {
        let epochs = Arc::new(Epochs::default());
        let cache = RowCache::new(1000, |_, _| 1, Arc::clone(&epochs));
        let mut touched = Touched::default();
        epochs.touch(&7, &mut touched);

        let Err(early) = cache.get(&7) else {
            panic!("nothing is in yet")
        };
        cache.put(7, Arc::new("old"), early);
        assert_eq!(cache.get(&7).ok().as_deref(), Some(&"old"));

        epochs.begin(&touched);
        let Err(during) = cache.get(&7) else {
            panic!("old while a commit may have happened")
        };
        cache.put(7, Arc::new("either"), during);
        epochs.end(&touched);
        assert!(
            cache.get(&7).is_err(),
            "a row that was read during a commit is no answer"
        );

        // A slow reader comes with what it had read before.
        cache.put(7, Arc::new("old"), early);
        let Err(late) = cache.get(&7) else {
            panic!("old after the commit")
        };
        cache.put(7, Arc::new("new"), late);
        assert_eq!(cache.get(&7).ok().as_deref(), Some(&"new"));
    }

    #[test]
    fn two_rows_of_one_slot_in_a_transaction_count_once() {
        let epochs = Epochs::default();
        let mut touched = Touched::default();
        for row in 0..10 * SLOTS {
            epochs.touch(&row, &mut touched);
        }
        epochs.begin(&touched);
        // With ten rows for each slot, some slots have none now and then.
        let counts = epochs.counts.iter();
        let counts: Vec<u64> = counts.map(|count| count.load(Ordering::SeqCst)).collect();
        assert!(counts.contains(&1) && counts.iter().all(|count| *count <= 1));
    }
}
