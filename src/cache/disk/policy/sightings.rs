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

use std::sync::atomic::{AtomicU64, Ordering};

/// Slots of a bucket.
const SLOTS: usize = 16;

/// The table is never smaller than this many buckets.
const LEAST_BUCKETS: usize = 16;

/// Bits of a slot that count.
const COUNT_BITS: u32 = 3;

/// Bits of a slot that tell the epoch of the last sighting.
const EPOCH_BITS: u32 = 3;

/// The largest count of a slot.
pub const MOST: u8 = (1 << COUNT_BITS) - 1;

/// Epochs are counted modulo this.
const EPOCHS: u64 = 1 << EPOCH_BITS;

/// A sighting is forgotten when it is more than this many epochs old. The epochs between this and
/// [`EPOCHS`] are the time to clear its slot before it would look young again.
const OLDEST: u64 = 4;

/// Four slots to a word, the first in the lowest bits. A slot is ten bits of the hash, the epoch and
/// the count; a count of zero is an empty slot.
#[derive(Default)]
#[repr(align(32))]
struct Bucket([AtomicU64; SLOTS / 4]);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Slot {
    tag: u16,
    epoch: u64,
    count: u8,
}

/// The table.
pub struct Sightings {
    buckets: Box<[Bucket]>,
    /// Sightings in an epoch.
    epoch_length: AtomicU64,
    epoch: AtomicU64,
    /// Sightings of this epoch so far.
    noted: AtomicU64,
}

impl Sightings {
    /// An empty table for about `records` records.
    pub fn for_records(records: u64) -> Self {
        // 1.1 * records are alive at most; buckets may be nine tenths full.
        let wanted = records + records / 4;
        let buckets = usize::try_from(wanted.div_ceil(SLOTS as u64))
            .unwrap_or(usize::MAX / 2)
            .max(LEAST_BUCKETS)
            .next_power_of_two();
        let table = Sightings {
            buckets: (0..buckets).map(|_| Bucket::default()).collect(),
            epoch_length: AtomicU64::new(1),
            epoch: AtomicU64::new(0),
            noted: AtomicU64::new(0),
        };
        table.set_epoch_length(records);
        table
    }

    fn set_epoch_length(&self, records: u64) {
        // On average a sighting is alive for as many others as there are records.
        let length = (records * 2 / (2 * OLDEST + 1)).max(self.buckets.len() as u64 / 2);
        self.epoch_length.store(length, Ordering::Relaxed);
    }

    /// Fits the table to `records` records.
    pub fn fitted(&self, records: u64) -> Option<Self> {
        self.set_epoch_length(records);
        if records + records / 4 <= (self.buckets.len() * SLOTS) as u64 {
            return None;
        }
        let larger = Sightings::for_records(records);
        larger
            .epoch
            .store(self.epoch.load(Ordering::Relaxed), Ordering::Relaxed);
        larger
            .noted
            .store(self.noted.load(Ordering::Relaxed), Ordering::Relaxed);
        for (position, bucket) in larger.buckets.iter().enumerate() {
            // A hash's place in the smaller table is that of its lower bits, so each old bucket
            // splits over several. Copies that landed in the wrong one are never found and fall out.
            let old = &self.buckets[position & (self.buckets.len() - 1)];
            for (to, from) in bucket.0.iter().zip(&old.0) {
                to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
            }
        }
        Some(larger)
    }

    /// Counts a sighting of `hash` and returns how many there were lately with this one: 1 to
    /// [`MOST`].
    pub fn raise(&self, hash: u64) -> u8 {
        self.note(hash, |known| known + 1)
    }

    /// Makes sure that the next sighting of `hash` is not the first: used for what has just left
    /// the disk.
    pub fn keep(&self, hash: u64) {
        self.note(hash, |known| known.max(1));
    }

    /// Bytes of memory the table takes.
    pub fn memory_bytes(&self) -> usize {
        self.buckets.len() * size_of::<Bucket>()
    }

    fn note(&self, hash: u64, count: impl FnOnce(u8) -> u8) -> u8 {
        let epoch = self.tick();
        let bucket = self.bucket(hash);
        let mut slots = bucket.read();
        let tag = (hash >> (64 - 16 + COUNT_BITS + EPOCH_BITS)) as u16;
        let is_alive = |slot: &Slot| slot.count > 0 && age(slot, epoch) <= OLDEST;
        let found = slots
            .iter()
            .position(|slot| slot.tag == tag && is_alive(slot));
        let known = found.map_or(0, |at| slots[at].count);
        let victim = || {
            let worth = |at: &usize| {
                if is_alive(&slots[*at]) {
                    OLDEST + 1 - age(&slots[*at], epoch)
                } else {
                    0
                }
            };
            (0..SLOTS).min_by_key(worth).unwrap_or(0)
        };
        let at = found.unwrap_or_else(victim);
        let count = count(known).min(MOST);
        slots[at] = Slot { tag, epoch, count };
        bucket.write(slots);
        count
    }

    /// Counts a sighting towards the epoch, and clears what is forgotten of one bucket: in the
    /// order of the sightings, so each bucket has its turn in each epoch.
    fn tick(&self) -> u64 {
        let noted = self.noted.fetch_add(1, Ordering::Relaxed);
        let epoch = self.epoch.load(Ordering::Relaxed);
        if noted >= self.epoch_length.load(Ordering::Relaxed) {
            self.noted.store(0, Ordering::Relaxed);
            self.epoch.store((epoch + 1) % EPOCHS, Ordering::Relaxed);
        }
        for turn in [2 * noted, 2 * noted + 1] {
            let swept = &self.buckets[turn as usize & (self.buckets.len() - 1)];
            let mut slots = swept.read();
            let mut is_swept = false;
            for slot in &mut slots {
                if slot.count > 0 && age(slot, epoch) > OLDEST {
                    slot.count = 0;
                    is_swept = true;
                }
            }
            if is_swept {
                swept.write(slots);
            }
        }
        epoch
    }

    fn bucket(&self, hash: u64) -> &Bucket {
        &self.buckets[hash as usize & (self.buckets.len() - 1)]
    }
}

fn age(slot: &Slot, epoch: u64) -> u64 {
    (epoch + EPOCHS - slot.epoch) % EPOCHS
}

impl Bucket {
    fn read(&self) -> [Slot; SLOTS] {
        let mut slots = [Slot {
            tag: 0,
            epoch: 0,
            count: 0,
        }; SLOTS];
        for (four, word) in slots.chunks_exact_mut(4).zip(&self.0) {
            let word = word.load(Ordering::Relaxed);
            for (at, slot) in four.iter_mut().enumerate() {
                let bits = (word >> (16 * at)) as u16;
                *slot = Slot {
                    tag: bits >> (COUNT_BITS + EPOCH_BITS),
                    epoch: u64::from(bits >> COUNT_BITS) % EPOCHS,
                    count: (bits & u16::from(MOST)) as u8,
                };
            }
        }
        slots
    }
    fn write(&self, slots: [Slot; SLOTS]) {
        for (four, word) in slots.chunks_exact(4).zip(&self.0) {
            let bits = four.iter().rev().fold(0, |bits, slot| {
                bits << 16
                    | u64::from(
                        slot.tag << (COUNT_BITS + EPOCH_BITS)
                            | (slot.epoch as u16) << COUNT_BITS
                            | u16::from(slot.count),
                    )
            });
            word.store(bits, Ordering::Relaxed);
        }
    }
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
