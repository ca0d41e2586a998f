//! The memory tier: heads and blocks, weighed by the bytes they take.
//!
//! A look-up reads a table that needs no lock (`memory/table.rs`), and counts a use in what it found
//! until it was used often. Whatever changes what is held is done by those who store, one at a time:
//! [`queues`] says what has to give way.
//!
//! Invariants:
//! - `never-above-the-limit`: once a change is done, what is held weighs at most the limit.
//! - `changes-in-turn`: changes of one key's entry happen one after the other, whatever is evicted
//!   meanwhile; a change is made to what is held, or to nothing when it has been evicted before.
//! - `held-is-found`: what the queues hold is in the table, and nothing else is.

pub mod block;
pub mod queues;

mod mapping;
mod node;
mod table;

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::Guard;
use http::{HeaderMap, StatusCode};

use super::key::CacheKey;
use super::policy::storable::NotStored;
use super::stored::{Generation, StoredResponse};
use block::MemoryBlock;
use node::{Node, Slot};
use queues::{NEWCOMERS_ALONE, NEWCOMERS_BEFORE_DISK, Queues};
use table::Table;

/// Bytes that an entry or a block costs beside its payload: its node with its counters of references, and
/// its places in the queues and in the table.
const NODE_BYTES: u64 = (size_of::<Node>() + 16 + 48 + 8) as u64;

/// Bytes that an entry costs beside what it remembers, with the list of its responses.
const ENTRY_BYTES: u64 = (size_of::<Entry>() + 16 + 16) as u64;

/// Changes of different keys wait for one another when they fall to the same of so many locks.
const STRIPES: usize = 64;

/// Memory is full when less than this part of it is left, as a divisor.
const FULL_SHARE: u64 = 32;

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

/// Is told what leaves the tier for want of room.
pub trait Leaving: Send + Sync {
    /// An entry leaves.
    fn entry(&self, key: &CacheKey, entry: &Entry);
}

/// The memory tier.
pub struct MemoryTier {
    table: Table,
    hasher: RandomState,
    limit_bytes: u64,
    /// The time of the queues: changes seldom, and is read by every hit.
    tick: AtomicU32,
    leaving: Option<Arc<dyn Leaving>>,
    /// Elsewhere, so that what hits read does not leave a core's cache when something is stored.
    changing: Box<Changing>,
}

struct Changing {
    held: Mutex<Held>,
    /// Taken before `held`, by whoever changes an entry.
    stripes: [Mutex<()>; STRIPES],
    /// What [`Held`] said last.
    bytes: AtomicU64,
    responses: AtomicU64,
}

struct Held {
    queues: Queues<Arc<Node>>,
    /// Stored responses, not counting what else is remembered.
    responses: u64,
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

    fn count(&self) -> u64 {
        self.variants.len() as u64
    }
}

impl MemoryTier {
    /// A tier that holds at most `limit_bytes`. `leaving` is told what the tier gives up for want of
    /// room, when something behind it may take it.
    pub fn new(limit_bytes: u64, leaving: Option<Arc<dyn Leaving>>) -> Self {
        let table = Table::new(limit_bytes);
        let newcomers = match leaving {
            Some(_) => NEWCOMERS_BEFORE_DISK,
            None => NEWCOMERS_ALONE,
        };
        let queues = Queues::new(limit_bytes.saturating_sub(table.bytes()), newcomers);
        MemoryTier {
            table,
            hasher: RandomState::new(),
            limit_bytes,
            tick: AtomicU32::new(0),
            leaving,
            changing: Box::new(Changing {
                held: Mutex::new(Held {
                    queues,
                    responses: 0,
                }),
                stripes: std::array::from_fn(|_| Mutex::new(())),
                bytes: AtomicU64::new(0),
                responses: AtomicU64::new(0),
            }),
        }
    }

    /// What is remembered of `key`, for a request: counts as a use. To be looked at and let go; what is
    /// kept for longer is better taken from [`MemoryTier::peek`].
    pub fn entry(&self, key: &CacheKey) -> Option<Guard<Arc<Entry>>> {
        let slot = Slot::Head(key.clone());
        let look = |node: &Node| {
            node.used.note_request();
            node.as_entry().map(|entry| entry.load())
        };
        self.table.look(self.hash(&slot), &slot, look).flatten()
    }

    /// What is remembered of `key`, without counting as a use.
    pub fn peek(&self, key: &CacheKey) -> Option<Arc<Entry>> {
        let slot = Slot::Head(key.clone());
        let look = |node: &Node| node.as_entry().map(|entry| entry.load_full());
        self.table.look(self.hash(&slot), &slot, look).flatten()
    }

    /// Whether a response of `bytes` under `key`, which is not held and was answered from elsewhere, should be
    /// taken in: see [`Queues::wants`].
    pub fn wants(&self, key: &CacheKey, bytes: u64) -> bool {
        self.wants_slot(&Slot::Head(key.clone()), bytes)
    }

    /// The same of a block.
    pub fn wants_block(&self, generation: Generation, number: u64, bytes: u64) -> bool {
        self.wants_slot(&Slot::Block(generation, number), bytes)
    }

    fn wants_slot(&self, slot: &Slot, bytes: u64) -> bool {
        let hash = self.hash(slot);
        let queues = &lock(&self.changing.held).queues;
        queues.wants(hash, NODE_BYTES + bytes)
    }

    /// Changes what is remembered of `key`; an entry that is left empty is forgotten. Changes of one
    /// key happen one after the other; nobody who looks waits for them. `change` must not ask the tier.
    pub fn update(&self, key: &CacheKey, change: impl FnOnce(&mut Entry)) {
        let slot = Slot::Head(key.clone());
        let hash = self.hash(&slot);
        let in_turn = self.in_turn(hash);
        let known = self.table.get(hash, &slot);
        let before = known.as_ref().and_then(|node| node.as_entry());
        let mut entry = before.map_or_else(Entry::default, |entry| Entry::clone(&entry.load()));
        change(&mut entry);
        if entry.is_empty() {
            if let Some(node) = known {
                self.take(&node);
            }
            return;
        }
        let evicted = self.put_entry(slot, hash, known, Arc::new(entry));
        drop(in_turn);
        self.leave(evicted);
    }

    /// Forgets `key`.
    pub fn remove(&self, key: &CacheKey) {
        let slot = Slot::Head(key.clone());
        let hash = self.hash(&slot);
        let _in_turn = self.in_turn(hash);
        if let Some(node) = self.table.get(hash, &slot) {
            self.take(&node);
        }
    }

    /// Forgets everything.
    pub fn clear(&self) {
        // Declared first, so that what it holds is dropped after the locks are.
        let nodes: Vec<Arc<Node>>;
        let _in_turn: Vec<_> = self.changing.stripes.iter().map(lock).collect();
        let mut held = lock(&self.changing.held);
        nodes = held.queues.residents().cloned().collect();
        for node in &nodes {
            self.unlink(&mut held, node);
        }
        self.publish(&held);
    }

    /// A block of a body: counts as a use.
    pub fn block(&self, generation: Generation, number: u64) -> Option<MemoryBlock> {
        let slot = Slot::Block(generation, number);
        let look = |node: &Node| {
            node.used.note(self.tick.load(Ordering::Relaxed));
            node.as_block().cloned()
        };
        self.table.look(self.hash(&slot), &slot, look).flatten()
    }

    /// Whether a block is there, without counting as a use.
    pub fn has_block(&self, generation: Generation, number: u64) -> bool {
        let slot = Slot::Block(generation, number);
        self.table.look(self.hash(&slot), &slot, |_| ()).is_some()
    }

    /// Stores a block of a body; nothing happens when it is there.
    pub fn insert_block(&self, generation: Generation, number: u64, block: MemoryBlock) {
        let slot = Slot::Block(generation, number);
        let hash = self.hash(&slot);
        let mut held = lock(&self.changing.held);
        if self.table.look(hash, &slot, |_| ()).is_some() {
            return;
        }
        let weight = NODE_BYTES + block.memory_bytes();
        self.add(&mut held, Node::block(slot, hash, block), weight);
        let evicted = self.make_room(&mut held);
        drop(held);
        self.leave(evicted);
    }

    /// Loses a block, as an eviction does.
    #[cfg(test)]
    pub(super) fn remove_block(&self, generation: Generation, number: u64) {
        let slot = Slot::Block(generation, number);
        if let Some(node) = self.table.get(self.hash(&slot), &slot) {
            self.take(&node);
        }
    }

    /// Shows every entry to `look`: those that are likely to stay first, the newest first among them.
    pub fn for_each_entry(&self, mut look: impl FnMut(&CacheKey, &Entry)) {
        let nodes: Vec<Arc<Node>> = lock(&self.changing.held)
            .queues
            .residents()
            .cloned()
            .collect();
        for node in nodes {
            if let (Some(key), Some(entry)) = (node.key(), node.as_entry()) {
                look(key, &entry.load());
            }
        }
    }

    /// Bytes held, with what it costs to hold them.
    pub fn bytes(&self) -> u64 {
        self.changing.bytes.load(Ordering::Relaxed)
    }

    /// Stored responses held.
    pub fn objects(&self) -> u64 {
        self.changing.responses.load(Ordering::Relaxed)
    }

    /// The limit in bytes.
    pub fn limit_bytes(&self) -> u64 {
        self.limit_bytes
    }

    /// Whether hardly anything can be stored any more without something else giving way.
    pub fn is_full(&self) -> bool {
        self.bytes() >= self.limit_bytes / FULL_SHARE * (FULL_SHARE - 1)
    }

    fn hash(&self, slot: &Slot) -> u64 {
        self.hasher.hash_one(slot)
    }

    fn in_turn(&self, hash: u64) -> MutexGuard<'_, ()> {
        // The upper bits, as the lower ones choose the bucket. What is left is smaller than the array.
        lock(&self.changing.stripes[(hash >> 32) as usize % STRIPES])
    }

    fn put_entry(
        &self,
        slot: Slot,
        hash: u64,
        known: Option<Arc<Node>>,
        entry: Arc<Entry>,
    ) -> Vec<Arc<Node>> {
        let weight = entry_weight(&slot, &entry);
        let mut held = lock(&self.changing.held);
        // It may have been evicted since it was looked up.
        match known.filter(|node| node.is_held()) {
            Some(node) => {
                if let Some(current) = node.as_entry() {
                    held.responses += entry.count();
                    held.responses -= current.load().count();
                    current.store(entry);
                }
                held.queues.weigh(node.place(), weight);
            }
            None => {
                held.responses += entry.count();
                self.add(&mut held, Node::entry(slot, hash, entry), weight);
            }
        }
        self.make_room(&mut held)
    }

    fn add(&self, held: &mut Held, node: Node, weight: u64) {
        let node = Arc::new(node);
        node.set_place(held.queues.insert(node.clone(), weight));
        self.table.add(node);
    }

    /// Evicts until the limit is kept. What is given back is dropped best when no lock is held.
    fn make_room(&self, held: &mut Held) -> Vec<Arc<Node>> {
        let mut evicted = Vec::new();
        while let Some(node) = held.queues.surplus() {
            self.forget_taken(held, &node);
            evicted.push(node);
        }
        self.publish(held);
        evicted
    }

    fn take(&self, node: &Arc<Node>) {
        let mut held = lock(&self.changing.held);
        self.unlink(&mut held, node);
        self.publish(&held);
    }

    fn unlink(&self, held: &mut Held, node: &Arc<Node>) {
        if node.is_held() {
            held.queues.take(node.place());
            self.forget_taken(held, node);
        }
    }

    /// Forgets a node that the queues do not hold any more.
    fn forget_taken(&self, held: &mut Held, node: &Arc<Node>) {
        node.set_not_held();
        self.table.remove(node);
        held.responses -= node.as_entry().map_or(0, |entry| entry.load().count());
    }

    fn publish(&self, held: &Held) {
        self.changing
            .bytes
            .store(held.queues.bytes(), Ordering::Relaxed);
        let tick = held.queues.tick();
        // Else every core's hits would fetch it again after each change.
        if self.tick.load(Ordering::Relaxed) != tick {
            self.tick.store(tick, Ordering::Relaxed);
        }
        self.changing
            .responses
            .store(held.responses, Ordering::Relaxed);
    }

    fn leave(&self, evicted: Vec<Arc<Node>>) {
        let Some(leaving) = &self.leaving else { return };
        for node in evicted {
            if let (Some(key), Some(entry)) = (node.key(), node.as_entry()) {
                leaving.entry(key, &entry.load());
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn entry_weight(slot: &Slot, entry: &Entry) -> u64 {
    let key = match slot {
        Slot::Head(key) => key.as_bytes().len() as u64,
        Slot::Block(..) => 0,
    };
    let responses = entry
        .variants
        .iter()
        .map(|response| response.memory_bytes());
    key + NODE_BYTES + ENTRY_BYTES + responses.sum::<u64>()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use bytes::Bytes;

    use super::*;
    use crate::cache::dice::Dice;
    use crate::cache::policy::blocks::BLOCK_BYTES;

    #[test]
    fn the_tier_stays_within_its_limit() {
        let limit = 8 * 1024 * 1024;
        let tier = MemoryTier::new(limit, None);
        let generation = Generation::fresh();
        let block: MemoryBlock = Bytes::from(vec![7; BLOCK_BYTES as usize]).into();
        for number in 0..200 {
            tier.insert_block(generation, number, block.clone());
        }
        assert!(tier.bytes() <= limit, "{} bytes", tier.bytes());
        assert!(tier.bytes() > limit / 2);
    }

    #[test]
    fn a_new_block_is_there_however_popular_the_others_are() {
        let tier = MemoryTier::new(8 * 1024 * 1024, None);
        let block: MemoryBlock = Bytes::from(vec![7; BLOCK_BYTES as usize]).into();
        let popular = Generation::fresh();
        for number in 0..64 {
            tier.insert_block(popular, number, block.clone());
        }
        for _ in 0..10 {
            for number in 0..64 {
                tier.block(popular, number);
            }
        }
        let new = Generation::fresh();
        for number in 0..100 {
            tier.insert_block(new, number, block.clone());
            assert!(tier.block(new, number).is_some(), "{number}");
        }
        assert!(tier.bytes() <= 8 * 1024 * 1024);
        let kept = (0..64)
            .filter(|number| tier.has_block(popular, *number))
            .count();
        assert!(kept > 20, "{kept} of the popular blocks withstood");
    }

    #[test]
    fn what_was_asked_for_while_nothing_arrived_withstands_a_flood() {
        let tier = MemoryTier::new(8 * 1024 * 1024, None);
        tier.update(&key(1), |entry| {
            entry.variants = vec![StoredResponse::sample(b"x")];
        });
        assert!(tier.entry(&key(1)).is_some());
        let block: MemoryBlock = Bytes::from(vec![7; BLOCK_BYTES as usize]).into();
        for number in 0..200 {
            tier.insert_block(Generation::fresh(), number, block.clone());
        }
        assert!(tier.peek(&key(1)).is_some());
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
        tier.insert_block(Generation::fresh(), 0, Bytes::from_static(b"x").into());
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
        tier.insert_block(old, 0, Bytes::from_static(b"old").into());
        assert!(tier.block(new, 0).is_none());
        assert_eq!(tier.block(old, 0).unwrap().bytes(), "old");
    }

    /// What a disk tier would be told.
    #[derive(Default)]
    struct Told(Mutex<Vec<CacheKey>>);

    impl Leaving for Told {
        fn entry(&self, key: &CacheKey, _: &Entry) {
            lock(&self.0).push(key.clone());
        }
    }

    fn key(number: u64) -> CacheKey {
        CacheKey::new(crate::cache::Scheme::Http, "h", &format!("/{number}"), None)
    }

    #[test]
    fn the_tier_holds_what_a_plain_map_says_and_tells_of_what_left() {
        let mut dice = Dice::new(3);
        let told = Arc::new(Told::default());
        let tier = MemoryTier::new(1 << 20, Some(told.clone()));
        let mut entries: HashMap<u64, Arc<StoredResponse>> = HashMap::new();
        let mut blocks: HashMap<u64, usize> = HashMap::new();
        let generation = Generation::fresh();
        for step in 0..60_000 {
            let number = dice.below(1_500);
            match dice.below(12) {
                0..=3 => {
                    let response = StoredResponse::sample(b"body");
                    tier.update(&key(number), |entry| {
                        let known = entries.get(&number);
                        if let (Some(known), Some(held)) = (known, entry.variants.first()) {
                            assert!(Arc::ptr_eq(known, held), "changes-in-turn");
                        }
                        entry.variants = vec![response.clone()];
                    });
                    entries.insert(number, response);
                }
                4 => {
                    tier.update(&key(number), |entry| entry.variants.clear());
                    entries.remove(&number);
                }
                5 => {
                    tier.remove(&key(number));
                    entries.remove(&number);
                }
                6..=8 => {
                    let bytes = vec![number as u8; 1 + dice.below(4_000) as usize];
                    if !tier.has_block(generation, number) {
                        blocks.insert(number, bytes.len());
                    }
                    tier.insert_block(generation, number, Bytes::from(bytes).into());
                }
                9 if dice.chance(1) => {
                    tier.clear();
                    (entries, blocks) = (HashMap::new(), HashMap::new());
                }
                _ => {
                    if let Some(found) = tier.entry(&key(number)) {
                        assert!(Arc::ptr_eq(&found.variants[0], &entries[&number]));
                    }
                    if let Some(found) = tier.block(generation, number) {
                        assert_eq!(found.bytes(), vec![number as u8; blocks[&number]]);
                    }
                }
            }
            for left in lock(&told.0).drain(..) {
                assert!(tier.peek(&left).is_none(), "held-is-found");
                entries.retain(|number, _| key(*number) != left);
            }
            assert!(tier.bytes() <= 1 << 20, "never-above-the-limit");
            if step % 500 == 0 {
                // Whatever was neither taken away nor told of is there.
                let found = (entries.iter())
                    .filter(|(number, _)| tier.peek(&key(**number)).is_some())
                    .count();
                assert_eq!(found, entries.len());
                assert_eq!(tier.objects(), entries.len() as u64);
                let mut shown = 0;
                tier.for_each_entry(|_, _| shown += 1);
                assert_eq!(shown, entries.len());
            }
        }
    }

    #[test]
    fn changes_of_a_key_are_not_lost_while_everything_is_evicted_all_the_time() {
        // Each change adds to what the last one left, or begins anew when that was evicted: what is
        // found counts the changes since, and is never less than what its changer saw.
        let tier = MemoryTier::new(1 << 20, None);
        let seen = AtomicU64::new(0);
        std::thread::scope(|threads| {
            for _ in 0..3 {
                threads.spawn(|| {
                    for _ in 0..5_000 {
                        tier.update(&key(0), |entry| {
                            let before = entry.pass_until.unwrap_or_default();
                            let last = Duration::from_nanos(seen.load(Ordering::SeqCst));
                            assert!(before == last || before == Duration::ZERO);
                            let next = before + Duration::from_nanos(1);
                            seen.store(next.as_nanos() as u64, Ordering::SeqCst);
                            entry.pass_until = Some(next);
                        });
                    }
                });
            }
            threads.spawn(|| {
                let generation = Generation::fresh();
                let block: MemoryBlock = Bytes::from(vec![1; 100_000]).into();
                for number in 0..5_000 {
                    tier.insert_block(generation, number, block.clone());
                    assert!(tier.bytes() <= 1 << 20);
                }
            });
        });
    }
}
