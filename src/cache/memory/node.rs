//! What is held in memory under one name.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};

use super::Entry;
use super::block::MemoryBlock;
use super::queues::{Place, Resident, Used};
use crate::cache::key::CacheKey;
use crate::cache::stored::Generation;

/// What is looked up.
#[derive(PartialEq, Eq)]
pub enum Slot {
    /// What is remembered of a cache key.
    Head(CacheKey),
    /// A block of a body.
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

enum Value {
    Entry(ArcSwap<Entry>),
    Block(MemoryBlock),
}

/// A slot and what it holds. An entry can be exchanged, a block never changes.
pub struct Node {
    /// The hash of the slot.
    pub hash: u64,
    slot: Slot,
    value: Value,
    /// The next of the same bucket; the table's.
    pub next: ArcSwapOption<Node>,
    /// How often it was used.
    pub used: Used,
    place: AtomicU32,
}

impl Node {
    /// An entry that is not held yet.
    pub fn entry(slot: Slot, hash: u64, entry: Arc<Entry>) -> Self {
        Self::new(slot, hash, Value::Entry(ArcSwap::new(entry)))
    }

    /// A block that is not held yet.
    pub fn block(slot: Slot, hash: u64, block: MemoryBlock) -> Self {
        Self::new(slot, hash, Value::Block(block))
    }

    fn new(slot: Slot, hash: u64, value: Value) -> Self {
        Node {
            hash,
            slot,
            value,
            next: ArcSwapOption::empty(),
            used: Used::default(),
            place: AtomicU32::new(Place::NONE.number()),
        }
    }

    /// Whether this is the node for `slot`.
    pub fn is_for(&self, hash: u64, slot: &Slot) -> bool {
        self.hash == hash && self.slot == *slot
    }

    /// The entry, when it holds one.
    pub fn as_entry(&self) -> Option<&ArcSwap<Entry>> {
        match &self.value {
            Value::Entry(entry) => Some(entry),
            Value::Block(_) => None,
        }
    }

    /// The block, when it holds one.
    pub fn as_block(&self) -> Option<&MemoryBlock> {
        match &self.value {
            Value::Entry(_) => None,
            Value::Block(block) => Some(block),
        }
    }

    /// The cache key of an entry.
    pub fn key(&self) -> Option<&CacheKey> {
        match &self.slot {
            Slot::Head(key) => Some(key),
            Slot::Block(..) => None,
        }
    }

    /// Whether the queues hold it.
    pub fn is_held(&self) -> bool {
        self.place() != Place::NONE
    }

    /// Notes that they do not hold it any more.
    pub fn set_not_held(&self) {
        self.set_place(Place::NONE);
    }

    /// Where the queues hold it. For who changes them, one at a time.
    pub fn place(&self) -> Place {
        Place::from_number(self.place.load(Ordering::Relaxed))
    }

    /// Notes where the queues hold it.
    pub fn set_place(&self, place: Place) {
        self.place.store(place.number(), Ordering::Relaxed);
    }
}

impl Resident for Arc<Node> {
    fn hash(&self) -> u64 {
        self.hash
    }

    fn used(&self) -> &Used {
        &self.used
    }
}
