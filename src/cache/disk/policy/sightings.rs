//! How often a record was asked for lately although it was not on disk: a table of fingerprints.
//!
//! A full cache needs to know of a record that it does *not* hold whether it has been asked for
//! before. This is the ghost queue of S3-FIFO (Yang et al., SOSP 2023) in 16 bits an entry: buckets
//! of eight slots, the youngest first; a sighting moves its slot to the front and the last one falls
//! out. What is remembered is therefore a number of sightings, not a span of time: as many as the
//! disk holds records, so that the memory reaches about as far back as the disk does.
//!
//! Everything is atomic and relaxed, and updates that meet in one bucket may lose one of them: a
//! lost sighting delays a write to disk, and nothing else depends on it.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// Slots of a bucket.
const SLOTS: usize = 8;

/// The table is never smaller than this many buckets.
const LEAST_BUCKETS: usize = 64;

/// Bits of a slot that count; the others are the fingerprint.
const COUNT_BITS: u32 = 4;

/// The largest count of a slot.
pub const MOST: u8 = (1 << COUNT_BITS) - 1;

/// Four slots to a word, the youngest in the lowest bits of the first. A slot is 12 bits of the hash
/// and 4 bits of count; a count of zero is an empty slot.
type Bucket = [AtomicU64; 2];

/// The table.
pub struct Sightings {
    buckets: Box<[Bucket]>,
    /// Slots of each bucket that are in use, so that the table can be fitted between two doublings.
    ways: AtomicU8,
}

impl Sightings {
    /// An empty table for about `records` records.
    pub fn for_records(records: u64) -> Self {
        let buckets = usize::try_from(records.div_ceil(SLOTS as u64))
            .unwrap_or(usize::MAX / 2)
            .max(LEAST_BUCKETS)
            .next_power_of_two();
        let table = Sightings {
            buckets: (0..buckets).map(|_| Bucket::default()).collect(),
            ways: AtomicU8::new(SLOTS as u8),
        };
        table.use_ways_for(records);
        table
    }

    /// Fits the table to `records` records: `None` when it did so in place, otherwise a larger table
    /// that remembers what this one does. It never shrinks: its memory is what the most records
    /// needed.
    pub fn fitted(&self, records: u64) -> Option<Self> {
        if records <= (self.buckets.len() * SLOTS) as u64 {
            self.use_ways_for(records);
            return None;
        }
        let larger = Sightings::for_records(records);
        for (position, bucket) in larger.buckets.iter().enumerate() {
            // A hash's place in the smaller table is that of its lower bits, so each old bucket
            // splits over several. Copies that landed in the wrong one are never found and fall out.
            let old = &self.buckets[position & (self.buckets.len() - 1)];
            for (to, from) in bucket.iter().zip(old) {
                to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
            }
        }
        Some(larger)
    }

    /// Counts a sighting of `hash` and returns how many there were lately with this one: 1 to
    /// [`MOST`].
    pub fn raise(&self, hash: u64) -> u8 {
        let mut slots = self.read(hash);
        let tag = tag(hash);
        let ways = self.ways();
        let found = slots[..ways]
            .iter()
            .position(|slot| tag_of(*slot) == tag && count_of(*slot) > 0);
        let count = found.map_or(1, |at| count_of(slots[at]).saturating_add(1).min(MOST));
        to_front(&mut slots[..ways], found, slot(tag, count));
        self.write(hash, slots);
        count
    }

    /// Makes sure that the next sighting of `hash` is not the first: used for what has just left
    /// the disk.
    pub fn keep(&self, hash: u64) {
        let mut slots = self.read(hash);
        let tag = tag(hash);
        let ways = self.ways();
        let found = slots[..ways]
            .iter()
            .position(|slot| tag_of(*slot) == tag && count_of(*slot) > 0);
        let count = found.map_or(1, |at| count_of(slots[at]));
        to_front(&mut slots[..ways], found, slot(tag, count));
        self.write(hash, slots);
    }

    /// Bytes of memory the table takes.
    pub fn memory_bytes(&self) -> usize {
        self.buckets.len() * size_of::<Bucket>()
    }

    fn use_ways_for(&self, records: u64) {
        let ways = records
            .div_ceil(self.buckets.len() as u64)
            .clamp(1, SLOTS as u64);
        self.ways.store(ways as u8, Ordering::Relaxed);
    }

    fn ways(&self) -> usize {
        usize::from(self.ways.load(Ordering::Relaxed)).min(SLOTS)
    }

    fn bucket(&self, hash: u64) -> &Bucket {
        // The table has a power of two of buckets, so the mask keeps within it; a truncated hash
        // has the same lower bits.
        &self.buckets[hash as usize & (self.buckets.len() - 1)]
    }

    fn read(&self, hash: u64) -> [u16; SLOTS] {
        let [young, old] = self.bucket(hash);
        let words = u128::from(young.load(Ordering::Relaxed))
            | u128::from(old.load(Ordering::Relaxed)) << 64;
        std::array::from_fn(|at| (words >> (16 * at)) as u16)
    }

    fn write(&self, hash: u64, slots: [u16; SLOTS]) {
        let words = slots
            .iter()
            .rev()
            .fold(0u128, |words, slot| words << 16 | u128::from(*slot));
        let [young, old] = self.bucket(hash);
        young.store(words as u64, Ordering::Relaxed);
        old.store((words >> 64) as u64, Ordering::Relaxed);
    }
}

/// Moves the slot at `found`, or the last one, to the front and makes it `slot`.
fn to_front(slots: &mut [u16], found: Option<usize>, slot: u16) {
    let end = found.unwrap_or(slots.len() - 1);
    slots[..=end].rotate_right(1);
    slots[0] = slot;
}

/// The fingerprint: the upper bits of the hash, as the lower ones choose the bucket.
fn tag(hash: u64) -> u16 {
    (hash >> (64 - 16 + COUNT_BITS)) as u16
}

fn slot(tag: u16, count: u8) -> u16 {
    tag << COUNT_BITS | u16::from(count)
}

fn tag_of(slot: u16) -> u16 {
    slot >> COUNT_BITS
}

fn count_of(slot: u16) -> u8 {
    (slot & u16::from(MOST)) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hash whose bits are well spread, as those of the keyed hash are.
    fn hash(number: u64) -> u64 {
        let mut bits = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ bits >> 31
    }

    #[test]
    fn sightings_are_counted_up_to_the_most() {
        for any in [0, u64::MAX, hash(1)] {
            let table = Sightings::for_records(1000);
            let counts: Vec<u8> = (0..17).map(|_| table.raise(any)).collect();
            assert_eq!(counts[..3], [1, 2, 3]);
            assert_eq!(counts[13..], [14, MOST, MOST, MOST]);
        }
    }

    #[test]
    fn what_left_the_disk_is_known_and_keeps_its_count() {
        let table = Sightings::for_records(1000);
        table.keep(hash(1));
        assert_eq!(table.raise(hash(1)), 2);
        table.keep(hash(1));
        assert_eq!(table.raise(hash(1)), 3);
    }

    #[test]
    fn memory_reaches_back_about_as_many_sightings_as_there_are_records() {
        for records in [600, 1000, 1024, 1500] {
            let table = Sightings::for_records(records);
            let known_after = |distance: u64| {
                let first = distance << 32;
                let known = (0..200).filter(|round| {
                    let subject = hash(first + round * 10_000);
                    table.raise(subject);
                    for other in 1..=distance {
                        table.raise(hash(first + round * 10_000 + other));
                    }
                    table.raise(subject) > 1
                });
                known.count()
            };
            let (near, far) = (known_after(records / 3), known_after(records * 3));
            assert!(near > 180, "{records}: {near} of 200 known");
            assert!(far < 20, "{records}: {far} of 200 known");
        }
    }

    #[test]
    fn few_strangers_look_known() {
        let table = Sightings::for_records(8 * 1024);
        for number in 0..20_000 {
            table.raise(hash(number));
        }
        let mistaken = (0..10_000)
            .filter(|number| table.raise(hash(1 << 40 | number)) > 1)
            .count();
        // Eight slots of 12 bits: 1 in 512.
        assert!(mistaken < 60, "{mistaken} of 10,000");
    }

    #[test]
    fn a_larger_table_remembers_what_the_smaller_did() {
        let small = Sightings::for_records(1000);
        for number in 0..400 {
            small.raise(hash(number));
        }
        assert!(small.fitted(1024).is_none());
        let large = small.fitted(5000).expect("it must grow");
        assert_eq!(large.memory_bytes(), 8 * small.memory_bytes());
        let known = (0..400).filter(|number| large.raise(hash(*number)) == 2);
        assert!(known.count() > 390);
    }

    #[test]
    fn a_table_takes_two_to_four_bytes_a_record() {
        for records in [100_000, 1_000_000, 1_048_577] {
            let bytes = Sightings::for_records(records).memory_bytes() as u64;
            assert!(bytes >= 2 * records && bytes <= 4 * records, "{records}");
        }
    }
}
