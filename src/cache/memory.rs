//! The memory tier: heads and blocks in moka, weighed by the bytes they hold.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use moka::notification::RemovalCause;
use moka::ops::compute::Op;
use moka::policy::EvictionPolicy;

use super::key::CacheKey;
use super::policy::storable::NotStored;
use super::stored::{Generation, StoredResponse};

/// Bytes that an entry costs beside its payload: moka's node, the key, the hash table's slot.
const ENTRY_OVERHEAD_BYTES: u64 = 256;

/// Writes to moka are applied in batches; one block in this many applies them at once, so that the
/// tier cannot overshoot its limit by more than that many blocks.
const BLOCKS_PER_SETTLE: u64 = 16;

/// What is remembered of a cache key.
#[derive(Clone, Default)]
pub struct Entry {
    /// Stored responses, the newest first (RFC 9111 §4: of several that match, the most recent).
    pub variants: Vec<Arc<StoredResponse>>,
    /// The last response could not be shared: do not make requests wait for one another until this
    /// monotonic time.
    pub pass_until: Option<Duration>,
    /// Why the last response that came for the key was not stored; `None` when it was.
    pub refused: Option<Refused>,
    /// All that the disk tier holds under the key is here as well.
    pub is_recalled: bool,
}

/// A response that was not stored, for those who ask why a URL is never a hit. It is remembered for
/// longer than requests pass because of it, and decides nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub why: NotStored,
    /// Its status.
    pub status: StatusCode,
    /// When it was judged, by the monotonic clock.
    pub at: Duration,
}

#[derive(PartialEq, Eq)]
enum Slot {
    Head(CacheKey),
    Block(Generation, u64),
}

impl Hash for Slot {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Slot::Head(key) => state.write(key.as_bytes()),
            Slot::Block(generation, number) => {
                state.write_u64(generation.number());
                state.write_u64(*number);
            }
        }
    }
}

#[derive(Clone)]
enum Value {
    Entry(Arc<Entry>),
    Block(Bytes),
}

/// Is told what leaves the tier for want of room.
pub trait Leaving: Send + Sync {
    /// An entry leaves.
    fn entry(&self, key: &CacheKey, entry: &Entry);
}

/// The part of the tier that new blocks have to themselves, as a divisor.
const WINDOW_SHARE: u64 = 16;

/// But that part is not made smaller than this, while the tier is at least twice as large.
const WINDOW_BYTES: u64 = 1024 * 1024;

/// The memory tier.
///
/// moka admits a newcomer to a full cache only if it is asked for more often than what would have to
/// give way (TinyLFU), which a block that has just been fetched never is: a player that reads a large
/// object in small ranges would fetch every block several times. New blocks therefore spend some
/// time in a window of their own, by recency, and stand for admission when they leave it (W-TinyLFU:
/// Einziger, Friedman and Manes, ACM ToS 2017).
pub struct MemoryTier {
    cache: moka::sync::Cache<Slot, Value>,
    window: moka::sync::Cache<Slot, Bytes>,
    limit_bytes: u64,
    /// Stored responses, not counting what else is remembered.
    responses: Arc<AtomicI64>,
}

impl Entry {
    /// The stored response for requests like `fields`: of several that match, the most recent (RFC
    /// 9111 §4).
    pub fn variant_for(&self, fields: &HeaderMap) -> Option<&Arc<StoredResponse>> {
        self.variants
            .iter()
            .find(|stored| stored.head.selecting.matches(fields))
    }

    /// Forgets one generation and says whether it was there.
    pub fn forget(&mut self, generation: Generation) -> bool {
        let before = self.variants.len();
        self.variants
            .retain(|stored| stored.body.generation != generation);
        self.variants.len() < before
    }

    /// Adds a response that was stored earlier than those that are here, unless one of them is the
    /// same or would always be chosen before it.
    pub fn merge(&mut self, earlier: Arc<StoredResponse>) {
        let generation = earlier.body.generation;
        let hides = |stored: &Arc<StoredResponse>| {
            stored.body.generation == generation
                || (stored.body.generation > generation && stored.head.selecting.is_empty())
        };
        if self.variants.iter().any(hides) {
            return;
        }
        let newer = |stored: &Arc<StoredResponse>| stored.body.generation > generation;
        let place = self.variants.partition_point(newer);
        self.variants.insert(place, earlier);
    }

    fn is_empty(&self) -> bool {
        self.variants.is_empty() && self.pass_until.is_none() && self.refused.is_none()
    }

    fn count(&self) -> i64 {
        i64::try_from(self.variants.len()).unwrap_or(i64::MAX)
    }
}

impl MemoryTier {
    /// A tier that holds at most `limit_bytes`.
    pub fn new(limit_bytes: u64, leaving: Option<Arc<dyn Leaving>>) -> Self {
        let responses = Arc::new(AtomicI64::new(0));
        let gone = responses.clone();
        let window_bytes = (limit_bytes / WINDOW_SHARE)
            .max(WINDOW_BYTES)
            .min(limit_bytes / 2);
        let cache = moka::sync::Cache::builder()
            .max_capacity(limit_bytes - window_bytes)
            .weigher(|slot, value| {
                let bytes = weight(slot, value);
                u32::try_from(bytes).unwrap_or(u32::MAX)
            })
            .eviction_listener(move |slot: Arc<Slot>, value, cause| {
                let Value::Entry(entry) = value else { return };
                gone.fetch_sub(entry.count(), Ordering::Relaxed);
                if let (RemovalCause::Size, Slot::Head(key), Some(leaving)) =
                    (cause, &*slot, &leaving)
                {
                    leaving.entry(key, &entry);
                }
            })
            .build();
        let main = cache.clone();
        let window = moka::sync::Cache::builder()
            .max_capacity(window_bytes)
            .eviction_policy(EvictionPolicy::lru())
            .weigher(|_, bytes: &Bytes| u32::try_from(bytes.len()).unwrap_or(u32::MAX))
            .eviction_listener(move |slot: Arc<Slot>, bytes, cause| {
                if cause == RemovalCause::Size
                    && let Slot::Block(generation, number) = *slot
                {
                    main.insert(Slot::Block(generation, number), Value::Block(bytes));
                }
            })
            .build();
        MemoryTier {
            cache,
            window,
            limit_bytes,
            responses,
        }
    }

    /// What is remembered of `key`.
    pub fn entry(&self, key: &CacheKey) -> Option<Arc<Entry>> {
        match self.cache.get(&Slot::Head(key.clone()))? {
            Value::Entry(entry) => Some(entry),
            Value::Block(_) => None,
        }
    }

    /// Changes what is remembered of `key`; an entry that is left empty is forgotten. Changes of one
    /// key happen one after the other; nobody who looks waits for them.
    pub fn update(&self, key: &CacheKey, change: impl FnOnce(&mut Entry)) {
        let slot = Slot::Head(key.clone());
        self.cache.entry(slot).and_compute_with(|found| {
            let known = found.map(|found| found.into_value());
            let was_known = known.is_some();
            let mut entry = match known {
                Some(Value::Entry(entry)) => Entry::clone(&entry),
                Some(Value::Block(_)) | None => Entry::default(),
            };
            change(&mut entry);
            if entry.is_empty() {
                return if was_known { Op::Remove } else { Op::Nop };
            }
            self.responses.fetch_add(entry.count(), Ordering::Relaxed);
            Op::Put(Value::Entry(Arc::new(entry)))
        });
    }

    /// Forgets `key`.
    pub fn remove(&self, key: &CacheKey) {
        self.cache.invalidate(&Slot::Head(key.clone()));
    }

    /// Forgets everything.
    pub fn clear(&self) {
        // The window first: what leaves it for want of room goes to the cache.
        self.window.invalidate_all();
        self.cache.invalidate_all();
        self.settle();
    }

    /// A block of a body.
    pub fn block(&self, generation: Generation, number: u64) -> Option<Bytes> {
        let slot = Slot::Block(generation, number);
        // Asked first although it knows fewer new blocks: it counts who is asked for.
        match self.cache.get(&slot) {
            Some(Value::Block(bytes)) => Some(bytes),
            Some(Value::Entry(_)) => None,
            None => self.window.get(&slot),
        }
    }

    /// Whether a block is there, without counting as a use.
    pub fn has_block(&self, generation: Generation, number: u64) -> bool {
        let slot = Slot::Block(generation, number);
        self.cache.contains_key(&slot) || self.window.contains_key(&slot)
    }

    /// Stores a block of a body.
    pub fn insert_block(&self, generation: Generation, number: u64, bytes: Bytes) {
        self.window.insert(Slot::Block(generation, number), bytes);
        if number.is_multiple_of(BLOCKS_PER_SETTLE) {
            self.settle();
        }
    }

    fn settle(&self) {
        self.window.run_pending_tasks();
        self.cache.run_pending_tasks();
    }

    /// Loses a block, as an eviction does.
    #[cfg(test)]
    pub(super) fn remove_block(&self, generation: Generation, number: u64) {
        self.window.invalidate(&Slot::Block(generation, number));
        self.cache.invalidate(&Slot::Block(generation, number));
    }

    /// Shows every entry to `look`, in no order.
    pub fn for_each_entry(&self, mut look: impl FnMut(&CacheKey, &Entry)) {
        for (slot, value) in &self.cache {
            if let (Slot::Head(key), Value::Entry(entry)) = (&*slot, value) {
                look(key, &entry);
            }
        }
    }

    /// Bytes held, as of the last settled batch.
    pub fn bytes(&self) -> u64 {
        self.settle();
        self.cache.weighted_size() + self.window.weighted_size()
    }

    /// Stored responses held, as of the last settled batch.
    pub fn objects(&self) -> u64 {
        u64::try_from(self.responses.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// The limit in bytes.
    pub fn limit_bytes(&self) -> u64 {
        self.limit_bytes
    }
}

fn weight(slot: &Slot, value: &Value) -> u64 {
    let key = match slot {
        // Held twice: in the map and in the eviction queue's node.
        Slot::Head(key) => 2 * key.as_bytes().len() as u64,
        Slot::Block(..) => 0,
    };
    let payload = match value {
        Value::Block(bytes) => bytes.len() as u64,
        Value::Entry(entry) => entry
            .variants
            .iter()
            .map(|response| {
                let whole = response.body.whole().map_or(0, |bytes| bytes.len() as u64);
                // The fields are held as a map and as wire text.
                whole + 3 * response.head.wire.len() as u64 + ENTRY_OVERHEAD_BYTES
            })
            .sum(),
    };
    key + payload + ENTRY_OVERHEAD_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::policy::blocks::BLOCK_BYTES;

    #[test]
    fn the_tier_stays_within_its_limit() {
        let limit = 8 * 1024 * 1024;
        let tier = MemoryTier::new(limit, None);
        let generation = Generation::fresh();
        let block = Bytes::from(vec![7; BLOCK_BYTES as usize]);
        for number in 0..200 {
            tier.insert_block(generation, number, block.clone());
        }
        assert!(tier.bytes() <= limit, "{} bytes", tier.bytes());
        assert!(tier.bytes() > limit / 2);
    }

    #[test]
    fn a_new_block_is_there_however_popular_the_others_are() {
        let tier = MemoryTier::new(8 * 1024 * 1024, None);
        let block = Bytes::from(vec![7; BLOCK_BYTES as usize]);
        let popular = Generation::fresh();
        for number in 0..64 {
            tier.insert_block(popular, number, block.clone());
        }
        for _ in 0..10 {
            for number in 0..64 {
                tier.block(popular, number);
            }
            tier.settle();
        }
        let new = Generation::fresh();
        for number in 0..100 {
            tier.insert_block(new, number, block.clone());
            tier.settle();
            assert!(tier.block(new, number).is_some(), "{number}");
        }
        assert!(tier.bytes() <= 8 * 1024 * 1024);
        let kept = (0..64)
            .filter(|number| tier.has_block(popular, *number))
            .count();
        assert!(kept > 20, "{kept} of the popular blocks withstood");
    }

    #[test]
    fn stored_responses_are_counted_and_nothing_else() {
        let tier = MemoryTier::new(1 << 20, None);
        let key = |path| CacheKey::new(crate::cache::Scheme::Http, "h", path, None);
        let response = || crate::cache::stored::StoredResponse::sample(b"x");
        let store = |path, response: &Arc<StoredResponse>| {
            tier.update(&key(path), |entry| entry.variants = vec![response.clone()]);
        };
        store("/a", &response());
        store("/a", &response());
        store("/b", &response());
        tier.update(&key("/b"), |entry| entry.variants.push(response()));
        tier.update(&key("/c"), |entry| entry.pass_until = Some(Duration::ZERO));
        tier.update(&key("/d"), |_| {});
        assert!(tier.entry(&key("/d")).is_none());
        tier.insert_block(Generation::fresh(), 0, Bytes::from_static(b"x"));
        tier.bytes();
        assert_eq!(tier.objects(), 3);
        tier.remove(&key("/a"));
        tier.update(&key("/b"), |entry| entry.variants.clear());
        assert!(tier.entry(&key("/b")).is_none());
        tier.bytes();
        assert_eq!(tier.objects(), 0);
    }

    #[test]
    fn blocks_of_two_generations_never_meet() {
        let tier = MemoryTier::new(1 << 20, None);
        let (old, new) = (Generation::fresh(), Generation::fresh());
        tier.insert_block(old, 0, Bytes::from_static(b"old"));
        assert_eq!(tier.block(new, 0), None);
        assert_eq!(tier.block(old, 0).unwrap(), "old");
    }
}
