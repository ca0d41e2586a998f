//! How often something was asked for lately although a tier did not hold it: a table of fingerprints.
//!
//! A full tier needs to know of a record that it does *not* hold whether it was asked for before:
//! the ghost queue of S3-FIFO (Yang et al., SOSP 2023), here in 21 bits an entry. What is remembered
//! is a number of sightings, not a span of time: about as many as the tier holds records, so that
//! this memory reaches as far back as the tier does.
//!
//! Time is counted in epochs of sightings. Whatever was seen in one epoch is forgotten at once, which
//! matters for large objects: were each of their blocks forgotten by chance, few would ever be
//! written whole.
//!
//! Everything is atomic and relaxed, and updates that meet in one word may lose one of them: a lost
//! sighting delays an admission, and nothing else depends on it.

use std::sync::atomic::{AtomicU64, Ordering};

/// Slots of a word.
const WORD_SLOTS: usize = 3;

/// Words of a bucket: one cache line.
const WORDS: usize = 8;

/// Slots of a bucket.
const SLOTS: usize = WORDS * WORD_SLOTS;

/// The table is never smaller than this many buckets.
const LEAST_BUCKETS: usize = 8;

/// Bits of a slot: fingerprint, epoch, count.
const TAG_BITS: u32 = 15;
const EPOCH_BITS: u32 = 3;
const COUNT_BITS: u32 = 3;
const SLOT_BITS: u32 = TAG_BITS + EPOCH_BITS + COUNT_BITS;

/// The largest count.
pub const MOST: u8 = (1 << COUNT_BITS) - 1;

/// Epochs are told apart modulo this.
const EPOCHS: u64 = 1 << EPOCH_BITS;

/// A sighting older than this many epochs is forgotten. The epochs between this and [`EPOCHS`] are
/// the time in which its slot must be cleared, lest it look young again.
const OLDEST: u64 = 4;

/// What is known of one record; a count of zero is nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Slot {
    tag: u64,
    epoch: u64,
    count: u8,
}

#[derive(Default)]
#[repr(align(64))]
struct Bucket([AtomicU64; WORDS]);

/// The table.
pub struct Sightings {
    buckets: Box<[Bucket]>,
    /// The current epoch, modulo [`EPOCHS`].
    epoch: AtomicU64,
    /// Sightings in this epoch so far.
    noted: AtomicU64,
    /// Sightings in an epoch.
    epoch_length: AtomicU64,
}

impl Sightings {
    /// An empty table for about `records` records.
    pub fn for_records(records: u64) -> Self {
        let buckets = usize::try_from(slots_for(records).div_ceil(SLOTS as u64))
            .unwrap_or(usize::MAX / 2)
            .clamp(LEAST_BUCKETS, usize::MAX / 2)
            .next_power_of_two();
        let table = Sightings {
            buckets: (0..buckets).map(|_| Bucket::default()).collect(),
            epoch: AtomicU64::new(0),
            noted: AtomicU64::new(0),
            epoch_length: AtomicU64::new(1),
        };
        table.set_epoch_length(records);
        table
    }

    /// Fits the table to `records` records: `None` when it did so in place, otherwise a larger table
    /// that remembers what this one does. It never shrinks.
    pub fn fitted(&self, records: u64) -> Option<Self> {
        if slots_for(records) <= (self.buckets.len() * SLOTS) as u64 {
            self.set_epoch_length(records);
            return None;
        }
        let larger = Sightings::for_records(records);
        let copy = |to: &AtomicU64, from: &AtomicU64| {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        };
        copy(&larger.epoch, &self.epoch);
        copy(&larger.noted, &self.noted);
        for (position, bucket) in larger.buckets.iter().enumerate() {
            // The lower bits of a hash choose its bucket, so each old bucket splits over several.
            // Copies that landed in the wrong one are never found, and age.
            let old = &self.buckets[position & (self.buckets.len() - 1)];
            for (to, from) in bucket.0.iter().zip(&old.0) {
                copy(to, from);
            }
        }
        Some(larger)
    }

    /// Counts a sighting of `hash` and returns how many there were lately with this one: 1 to
    /// [`MOST`].
    pub fn raise(&self, hash: u64) -> u8 {
        self.note(hash, |known| known.saturating_add(1).min(MOST))
    }

    /// Makes sure that the next sighting of `hash` is not the first: for what has just left the tier.
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
        // The upper bits, as the lower ones choose the bucket.
        let tag = hash >> (u64::BITS - TAG_BITS);
        let (mut chosen, mut chosen_age, mut known) = (0, 0, 0);
        for at in 0..SLOTS {
            let slot = bucket.slot(at);
            let age = slot.age(epoch);
            if slot.tag == tag && age <= OLDEST {
                (chosen, known) = (at, slot.count);
                break;
            }
            if age > chosen_age {
                (chosen, chosen_age) = (at, age);
            }
        }
        let count = count(known);
        bucket.set(chosen, Slot { tag, epoch, count });
        count
    }

    /// Counts a sighting towards the epoch, and clears one bucket of what is forgotten. Buckets take
    /// turns; an epoch is never shorter than a round, so none is left out.
    fn tick(&self) -> u64 {
        let noted = self.noted.fetch_add(1, Ordering::Relaxed);
        let epoch = self.epoch.load(Ordering::Relaxed);
        self.bucket(noted).clear_forgotten(epoch);
        if noted + 1 >= self.epoch_length.load(Ordering::Relaxed) {
            self.noted.store(0, Ordering::Relaxed);
            self.epoch.store((epoch + 1) % EPOCHS, Ordering::Relaxed);
        }
        epoch
    }

    fn set_epoch_length(&self, records: u64) {
        // Four to five epochs are remembered, a little more than the records on disk.
        let length = (records / OLDEST).max(self.buckets.len() as u64);
        self.epoch_length.store(length, Ordering::Relaxed);
    }

    fn bucket(&self, number: u64) -> &Bucket {
        // The table has a power of two of buckets: the mask keeps within it, and a number cut to
        // the machine's width has the same lower bits.
        &self.buckets[number as usize & (self.buckets.len() - 1)]
    }
}

/// Slots that are taken at the end of an epoch when there are `records` on disk.
fn slots_for(records: u64) -> u64 {
    records.saturating_add(records / OLDEST)
}

impl Slot {
    /// Epochs since the last sighting; [`EPOCHS`], which is older than anything, for an empty slot.
    fn age(self, epoch: u64) -> u64 {
        if self.count == 0 {
            return EPOCHS;
        }
        (epoch + EPOCHS - self.epoch) % EPOCHS
    }
}

impl Bucket {
    fn slot(&self, at: usize) -> Slot {
        let word = self.0[at / WORD_SLOTS].load(Ordering::Relaxed);
        let bits = word >> ((at % WORD_SLOTS) as u32 * SLOT_BITS);
        Slot {
            tag: bits >> (EPOCH_BITS + COUNT_BITS) & ((1 << TAG_BITS) - 1),
            epoch: bits >> COUNT_BITS & (EPOCHS - 1),
            count: (bits & u64::from(MOST)) as u8,
        }
    }

    fn set(&self, at: usize, slot: Slot) {
        let word = &self.0[at / WORD_SLOTS];
        let shift = (at % WORD_SLOTS) as u32 * SLOT_BITS;
        let others = word.load(Ordering::Relaxed) & !(((1 << SLOT_BITS) - 1) << shift);
        let bits = slot.tag << (EPOCH_BITS + COUNT_BITS) | slot.epoch << COUNT_BITS;
        let bits = bits | u64::from(slot.count);
        word.store(others | bits << shift, Ordering::Relaxed);
    }

    fn clear_forgotten(&self, epoch: u64) {
        for at in 0..SLOTS {
            let slot = self.slot(at);
            if slot.count > 0 && slot.age(epoch) > OLDEST {
                self.set(at, Slot::default());
            }
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

    fn raise_all(table: &Sightings, numbers: std::ops::Range<u64>) {
        for number in numbers {
            table.raise(hash(number));
        }
    }

    #[test]
    fn sightings_are_counted_up_to_the_most() {
        for any in [0, u64::MAX, hash(1)] {
            let table = Sightings::for_records(1000);
            let counts: Vec<u8> = (0..17).map(|_| table.raise(any)).collect();
            assert_eq!(counts[..3], [1, 2, 3]);
            assert_eq!(counts[5..8], [6, MOST, MOST]);
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
        for records in [1_000, 1_024, 1_500, 10_000] {
            let known_after = |distance: u64| {
                let table = Sightings::for_records(records);
                let strangers = distance + 200;
                raise_all(&table, 0..200);
                raise_all(&table, 200..strangers);
                (0..200)
                    .filter(|subject| table.raise(hash(*subject)) > 1)
                    .count()
            };
            let (near, far) = (known_after(records * 2 / 3), known_after(records * 2));
            assert!(near >= 185, "{records}: {near} of 200 known");
            assert!(far <= 10, "{records}: {far} of 200 known");
        }
    }

    #[test]
    fn what_was_forgotten_does_not_come_back_when_epochs_repeat() {
        let table = Sightings::for_records(1_000);
        raise_all(&table, 0..100);
        for round in 1..40 {
            raise_all(&table, 100 * round..100 * (round + 1));
            if round > 20 {
                let known = (0..100).filter(|subject| {
                    let tag = hash(*subject) >> (u64::BITS - TAG_BITS);
                    let bucket = table.bucket(hash(*subject));
                    (0..SLOTS).any(|at| bucket.slot(at).tag == tag && bucket.slot(at).count > 0)
                });
                assert!(known.count() <= 3, "round {round}");
            }
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
        // Up to 24 slots of 15 bits: 1 in 1,365.
        assert!(mistaken < 20, "{mistaken} of 10,000");
    }

    #[test]
    fn a_larger_table_remembers_what_the_smaller_did() {
        let small = Sightings::for_records(1000);
        for number in 0..400 {
            small.raise(hash(number));
        }
        assert!(small.fitted(1_100).is_none());
        let large = small.fitted(8_000).expect("it must grow");
        assert_eq!(large.memory_bytes(), 8 * small.memory_bytes());
        let known = (0..400).filter(|number| large.raise(hash(*number)) == 2);
        assert!(known.count() > 390);
    }

    #[test]
    fn a_table_takes_less_than_seven_bytes_a_record_and_half_that_at_ten_million() {
        for records in [100_000, 1_000_000, 1_258_292] {
            let bytes = Sightings::for_records(records).memory_bytes() as u64;
            assert!(bytes < 7 * records, "{bytes} bytes for {records}");
        }
        let bytes = Sightings::for_records(10_000_000).memory_bytes();
        assert_eq!(bytes, 33_554_432);
    }
}
