//! The memory tier: heads and blocks in moka, weighed by the bytes they hold.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::HeaderName;

use super::key::CacheKey;
use super::stored::{Generation, StoredResponse};

/// Bytes that an entry costs beside its payload: moka's node, the key, the hash table's slot.
const ENTRY_OVERHEAD_BYTES: u64 = 256;

/// Writes to moka are applied in batches; one block in this many applies them at once, so that the
/// tier cannot overshoot its limit by more than that many blocks.
const BLOCKS_PER_SETTLE: u64 = 16;

/// What is remembered of a cache key.
#[derive(Clone)]
pub enum Entry {
    /// A stored response.
    Response(Arc<StoredResponse>),
    /// Responses differ by these request fields: look under the secondary key.
    Variants(Arc<[HeaderName]>),
    /// The last response could not be shared: do not make requests wait for one another until the
    /// given monotonic time.
    Pass(Duration),
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
    Entry(Entry),
    Block(Bytes),
}

/// The memory tier.
pub struct MemoryTier {
    cache: moka::sync::Cache<Slot, Value>,
    limit_bytes: u64,
    /// Stored responses, not counting what else is remembered.
    responses: Arc<AtomicI64>,
}

impl MemoryTier {
    /// A tier that holds at most `limit_bytes`.
    pub fn new(limit_bytes: u64) -> Self {
        let responses = Arc::new(AtomicI64::new(0));
        let gone = responses.clone();
        let cache = moka::sync::Cache::builder()
            .max_capacity(limit_bytes)
            .weigher(|slot, value| {
                let bytes = weight(slot, value);
                u32::try_from(bytes).unwrap_or(u32::MAX)
            })
            .eviction_listener(move |_, value, _| {
                if let Value::Entry(Entry::Response(_)) = value {
                    gone.fetch_sub(1, Ordering::Relaxed);
                }
            })
            .build();
        MemoryTier {
            cache,
            limit_bytes,
            responses,
        }
    }

    /// What is remembered of `key`.
    pub fn entry(&self, key: &CacheKey) -> Option<Entry> {
        match self.cache.get(&Slot::Head(key.clone()))? {
            Value::Entry(entry) => Some(entry),
            Value::Block(_) => None,
        }
    }

    /// Remembers `entry` under `key`.
    pub fn insert(&self, key: CacheKey, entry: Entry) {
        if let Entry::Response(_) = entry {
            self.responses.fetch_add(1, Ordering::Relaxed);
        }
        self.cache.insert(Slot::Head(key), Value::Entry(entry));
    }

    /// Forgets `key`.
    pub fn remove(&self, key: &CacheKey) {
        self.cache.invalidate(&Slot::Head(key.clone()));
    }

    /// A block of a body.
    pub fn block(&self, generation: Generation, number: u64) -> Option<Bytes> {
        match self.cache.get(&Slot::Block(generation, number))? {
            Value::Block(bytes) => Some(bytes),
            Value::Entry(_) => None,
        }
    }

    /// Whether a block is there, without counting as a use.
    pub fn has_block(&self, generation: Generation, number: u64) -> bool {
        self.cache.contains_key(&Slot::Block(generation, number))
    }

    /// Stores a block of a body.
    pub fn insert_block(&self, generation: Generation, number: u64, bytes: Bytes) {
        self.cache
            .insert(Slot::Block(generation, number), Value::Block(bytes));
        if number.is_multiple_of(BLOCKS_PER_SETTLE) {
            self.cache.run_pending_tasks();
        }
    }

    /// Bytes held, as of the last settled batch.
    pub fn bytes(&self) -> u64 {
        self.cache.run_pending_tasks();
        self.cache.weighted_size()
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
        Value::Entry(Entry::Response(response)) => {
            let whole = response.body.whole().map_or(0, |bytes| bytes.len() as u64);
            // The fields are held as a map and as wire text.
            whole + 3 * response.head.wire.len() as u64 + ENTRY_OVERHEAD_BYTES
        }
        Value::Entry(Entry::Variants(names)) => names
            .iter()
            .map(|name| name.as_str().len() as u64 + 32)
            .sum(),
        Value::Entry(Entry::Pass(_)) => 0,
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
        let tier = MemoryTier::new(limit);
        let generation = Generation::fresh();
        let block = Bytes::from(vec![7; BLOCK_BYTES as usize]);
        for number in 0..200 {
            tier.insert_block(generation, number, block.clone());
        }
        assert!(tier.bytes() <= limit, "{} bytes", tier.bytes());
        assert!(tier.bytes() > limit / 2);
    }

    #[test]
    fn stored_responses_are_counted_and_nothing_else() {
        let tier = MemoryTier::new(1 << 20);
        let key = |path| CacheKey::new(crate::cache::Scheme::Http, "h", path, None);
        let response = || {
            let freshness = crate::cache::policy::freshness::Freshness {
                lifetime: Duration::ZERO,
                initial_age: Duration::ZERO,
                received: Duration::ZERO,
                always_validate: false,
            };
            Arc::new(StoredResponse {
                head: crate::cache::stored::Head::new(
                    http::StatusCode::OK,
                    http::HeaderMap::new(),
                    freshness,
                    None,
                ),
                body: crate::cache::stored::Body::new(Some(0)),
            })
        };
        tier.insert(key("/a"), Entry::Response(response()));
        tier.insert(key("/a"), Entry::Response(response()));
        tier.insert(key("/b"), Entry::Response(response()));
        tier.insert(key("/c"), Entry::Pass(Duration::ZERO));
        tier.insert_block(Generation::fresh(), 0, Bytes::from_static(b"x"));
        tier.bytes();
        assert_eq!(tier.objects(), 2);
        tier.remove(&key("/a"));
        tier.bytes();
        assert_eq!(tier.objects(), 1);
    }

    #[test]
    fn blocks_of_two_generations_never_meet() {
        let tier = MemoryTier::new(1 << 20);
        let (old, new) = (Generation::fresh(), Generation::fresh());
        tier.insert_block(old, 0, Bytes::from_static(b"old"));
        assert_eq!(tier.block(new, 0), None);
        assert_eq!(tier.block(old, 0).unwrap(), "old");
    }
}
