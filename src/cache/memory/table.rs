//! What memory holds, by what it is looked up by: a hash table that is read without a lock.
//!
//! A bucket leads to a chain of nodes. Who changes the table does so one after the other, which the
//! caller sees to; who reads it waits for nobody and writes to no memory that others use. A reader that
//! stands on a node while it is taken out goes on from there along what follows it.
//!
//! The number of buckets is fixed by what memory may hold, so nothing is ever moved, and buckets take no
//! memory until one near them is used.

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwapOption;

use super::node::{Node, Slot};

/// Buckets that are made at a time: a page of them.
const SEGMENT: usize = 512;

/// One bucket for so many bytes that memory may hold: hardly anything held is smaller, so chains are
/// about one node long at most.
const BYTES_PER_BUCKET: u64 = 2048;

const LEAST_BUCKETS: u64 = SEGMENT as u64;

type Bucket = ArcSwapOption<Node>;

/// The table.
pub struct Table {
    segments: Box<[OnceLock<Box<[Bucket]>>]>,
    /// The number of buckets less one; a power of two less one.
    mask: u64,
}

impl Table {
    /// An empty table for a memory of `limit_bytes`.
    pub fn new(limit_bytes: u64) -> Self {
        let buckets = (limit_bytes / BYTES_PER_BUCKET)
            .max(LEAST_BUCKETS)
            .next_power_of_two();
        let segments = buckets / SEGMENT as u64;
        Table {
            segments: (0..segments).map(|_| OnceLock::new()).collect(),
            mask: buckets - 1,
        }
    }

    /// Bytes that it takes once every part of it has been used.
    pub fn bytes(&self) -> u64 {
        (self.mask + 1) * size_of::<Bucket>() as u64
    }

    /// Gives `look` the node for `slot`; `None` when there is none.
    pub fn look<T>(&self, hash: u64, slot: &Slot, look: impl FnOnce(&Node) -> T) -> Option<T> {
        let (segment, at) = self.bucket(hash);
        let mut at_hand = self.segments[segment].get()?[at].load();
        loop {
            let node = at_hand.as_deref()?;
            if node.is_for(hash, slot) {
                return Some(look(node));
            }
            // Two steps: what is at hand is looked at until the next is.
            let next = node.next.load();
            at_hand = next;
        }
    }

    /// The node for `slot`.
    pub fn get(&self, hash: u64, slot: &Slot) -> Option<Arc<Node>> {
        let (segment, at) = self.bucket(hash);
        let mut at_hand = self.segments[segment].get()?[at].load_full();
        while let Some(node) = at_hand {
            if node.is_for(hash, slot) {
                return Some(node);
            }
            at_hand = node.next.load_full();
        }
        None
    }

    /// Adds a node for what has none. One change at a time.
    pub fn add(&self, node: Arc<Node>) {
        let (segment, at) = self.bucket(node.hash);
        let made = || (0..SEGMENT).map(|_| Bucket::empty()).collect();
        let bucket = &self.segments[segment].get_or_init(made)[at];
        node.next.store(bucket.load_full());
        bucket.store(Some(node));
    }

    /// Takes a node out; nothing happens when it is not there. One change at a time.
    pub fn remove(&self, node: &Arc<Node>) {
        let (segment, at) = self.bucket(node.hash);
        let Some(buckets) = self.segments[segment].get() else {
            return;
        };
        let is_it = |found: &Option<Arc<Node>>| {
            let found = found.as_ref();
            found.is_some_and(|found| Arc::ptr_eq(found, node))
        };
        let first = buckets[at].load_full();
        if is_it(&first) {
            return buckets[at].store(node.next.load_full());
        }
        let mut before = first;
        while let Some(here) = before {
            let next = here.next.load_full();
            if is_it(&next) {
                return here.next.store(node.next.load_full());
            }
            before = next;
        }
    }

    /// The segment of a hash's bucket, and the bucket's place in it.
    fn bucket(&self, hash: u64) -> (usize, usize) {
        // The mask keeps both within what there is.
        let bucket = (hash & self.mask) as usize;
        (bucket / SEGMENT, bucket % SEGMENT)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use bytes::Bytes;

    use super::*;
    use crate::cache::dice::Dice;
    use crate::cache::stored::Generation;

    fn node(generation: Generation, number: u64, hash: u64) -> Arc<Node> {
        let slot = Slot::Block(generation, number);
        Arc::new(Node::block(
            slot,
            hash,
            Bytes::from(number.to_string()).into(),
        ))
    }

    #[test]
    fn nodes_are_found_by_their_whole_slot_however_few_buckets_and_hashes_there_are() {
        let mut dice = Dice::new(7);
        let table = Table::new(0);
        let generation = Generation::fresh();
        let mut model: HashMap<u64, Arc<Node>> = HashMap::new();
        for _ in 0..20_000 {
            let number = dice.below(40);
            // Three hashes, of which two share a bucket.
            let hash = [1, 2, 1 + (1 << 40)][number as usize % 3];
            match model.remove(&number) {
                Some(node) => table.remove(&node),
                None => {
                    let node = node(generation, number, hash);
                    table.add(node.clone());
                    model.insert(number, node);
                }
            }
            let asked = dice.below(40);
            let hash = [1, 2, 1 + (1 << 40)][asked as usize % 3];
            let slot = Slot::Block(generation, asked);
            let bytes = |node: &Node| node.as_block().map(|block| block.bytes());
            let found = table.look(hash, &slot, bytes);
            let expected = model.get(&asked).map(|node| bytes(node));
            assert_eq!(found, expected);
            assert_eq!(table.get(hash, &slot).is_some(), model.contains_key(&asked));
        }
    }

    #[test]
    fn a_reader_finds_what_stays_while_its_neighbours_come_and_go() {
        let table = Table::new(0);
        let generation = Generation::fresh();
        let stays: Vec<u64> = (0..4).collect();
        for number in &stays {
            table.add(node(generation, *number, 5));
        }
        let (table, stays) = (&table, &stays);
        std::thread::scope(|threads| {
            let reader = move || {
                for round in 0..50_000 {
                    let number = stays[round % stays.len()];
                    let slot = Slot::Block(generation, number);
                    assert!(table.look(5, &slot, |_| ()).is_some(), "{number}");
                }
            };
            let readers = [threads.spawn(reader), threads.spawn(reader)];
            let mut number = 100;
            while !readers.iter().all(|reader| reader.is_finished()) {
                let passing = node(generation, number, 5);
                table.add(passing.clone());
                table.remove(&passing);
                number += 1;
            }
        });
    }
}
