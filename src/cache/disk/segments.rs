//! The segments that there are, and the room they take.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use arc_swap::ArcSwapOption;

use super::folder::SegmentFile;
use super::format::{FooterEntry, SegmentHeader};

/// The most segments: their number must fit 12 bits of an index slot.
pub const MAX_SEGMENTS: usize = 1 << 12;

/// Bytes of the disk that are spoken for. Segments that were removed count until the last reader
/// has let go of them: only then does the system free their blocks.
#[derive(Debug, Default)]
pub struct Room {
    taken_bytes: AtomicU64,
}

impl Room {
    /// Bytes that are taken.
    pub fn taken_bytes(&self) -> u64 {
        self.taken_bytes.load(Ordering::Acquire)
    }

    /// Takes some.
    pub fn take(self: &Arc<Self>, bytes: u64) -> Taken {
        self.taken_bytes.fetch_add(bytes, Ordering::AcqRel);
        Taken {
            room: self.clone(),
            bytes,
        }
    }
}

/// A part of the room; given back when this is dropped.
pub struct Taken {
    room: Arc<Room>,
    bytes: u64,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.room
            .taken_bytes
            .fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

/// A segment file. Invariant `never-overwritten`: a file that has held a record at some place holds
/// nothing else there until it is removed, so readers need no lock.
pub struct Segment {
    /// Its place in the table, by which index slots name it.
    pub slot: u16,
    /// Its file name.
    pub name: String,
    /// Whose it is, and its place in the log.
    pub header: SegmentHeader,
    /// Its length.
    pub bytes: u64,
    /// Closed before its room is given back.
    file: Arc<dyn SegmentFile>,
    _taken: Taken,
    /// The entries of a segment that has no footer.
    unsealed: Mutex<Option<Vec<FooterEntry>>>,
    /// A bit for each [`VERIFIED_BYTES`] of the file: a long record that begins there was read and
    /// found right.
    verified: OnceLock<Box<[AtomicU64]>>,
}

/// No two records that are at least this long begin in the same piece of this length of a file.
///
/// Shorter ones are read: to send them from their file would take as long.
pub const VERIFIED_BYTES: u64 = 8 * 1024;

impl Segment {
    /// The file.
    pub fn file(&self) -> &dyn SegmentFile {
        &*self.file
    }

    /// Notes that the record at `offset`, of [`VERIFIED_BYTES`] at least, was read and found right.
    pub fn note_verified(&self, offset: u64) {
        let verified = self.verified.get_or_init(|| {
            let bits = self.bytes.div_ceil(VERIFIED_BYTES);
            (0..bits.div_ceil(64)).map(|_| AtomicU64::new(0)).collect()
        });
        let (word, bit) = verified_bit(offset);
        // Most reads find it set: a line that is only read stays in every core's cache.
        if let Some(word) = verified.get(word)
            && word.load(Ordering::Relaxed) & bit == 0
        {
            word.fetch_or(bit, Ordering::Relaxed);
        }
    }

    /// Whether the record of [`VERIFIED_BYTES`] at least at `offset` was found right since this process
    /// has the file.
    pub fn is_verified(&self, offset: u64) -> bool {
        let (word, bit) = verified_bit(offset);
        let verified = self.verified.get();
        let word = verified.and_then(|verified| verified.get(word));
        word.is_some_and(|word| word.load(Ordering::Relaxed) & bit != 0)
    }

    /// Keeps the entries of a segment that will get no footer.
    pub fn set_unsealed(&self, entries: Vec<FooterEntry>) {
        *self.unsealed() = Some(entries);
    }

    /// Those entries.
    pub fn unsealed_entries(&self) -> Option<Vec<FooterEntry>> {
        self.unsealed().clone()
    }

    fn unsealed(&self) -> MutexGuard<'_, Option<Vec<FooterEntry>>> {
        self.unsealed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where the bit of a record at `offset` is: its word, and the bit in that.
fn verified_bit(offset: u64) -> (usize, u64) {
    let piece = offset / VERIFIED_BYTES;
    // A segment has at most 2^17 pieces.
    ((piece / 64) as usize, 1 << (piece % 64))
}

/// All segments, by slot for readers and by sequence for the one who appends.
pub struct Segments {
    slots: Box<[ArcSwapOption<Segment>]>,
    by_sequence: Mutex<BTreeMap<u64, u16>>,
    room: Arc<Room>,
}

impl Default for Segments {
    fn default() -> Self {
        Segments {
            slots: (0..MAX_SEGMENTS).map(|_| ArcSwapOption::empty()).collect(),
            by_sequence: Mutex::default(),
            room: Arc::default(),
        }
    }
}

impl Segments {
    /// The segment in `slot`.
    pub fn get(&self, slot: u16) -> Option<Arc<Segment>> {
        self.slots.get(usize::from(slot))?.load_full()
    }

    /// A slot that no segment has.
    pub fn free_slot(&self) -> Option<u16> {
        let free = self.slots.iter().position(|slot| slot.load().is_none())?;
        // There are 2^12 slots.
        Some(free as u16)
    }

    /// Adds a segment in a free slot.
    pub fn add(
        &self,
        slot: u16,
        name: String,
        header: SegmentHeader,
        file: Arc<dyn SegmentFile>,
        bytes: u64,
    ) -> Arc<Segment> {
        let mut by_sequence = self.lock();
        let segment = Arc::new(Segment {
            slot,
            name,
            header,
            bytes,
            file,
            _taken: self.room.take(bytes),
            unsealed: Mutex::new(None),
            verified: OnceLock::new(),
        });
        by_sequence.insert(header.sequence, slot);
        self.slots[usize::from(slot)].store(Some(segment.clone()));
        segment
    }

    /// Takes a segment out of the table.
    pub fn remove(&self, segment: &Segment) {
        let mut by_sequence = self.lock();
        by_sequence.remove(&segment.header.sequence);
        self.slots[usize::from(segment.slot)].store(None);
    }

    /// The segment with the lowest sequence.
    pub fn oldest(&self) -> Option<Arc<Segment>> {
        let slot = self.lock().first_key_value().map(|(_, slot)| *slot)?;
        self.get(slot)
    }

    /// All segments, the newest first.
    pub fn newest_first(&self) -> Vec<Arc<Segment>> {
        let slots: Vec<u16> = self.lock().values().rev().copied().collect();
        slots
            .into_iter()
            .filter_map(|slot| self.get(slot))
            .collect()
    }

    /// Their bytes together; less than what is taken while a reader holds one that was removed.
    pub fn bytes(&self) -> u64 {
        let all = self.newest_first();
        all.iter().map(|segment| segment.bytes).sum()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What they take of the disk.
    pub fn room(&self) -> &Arc<Room> {
        &self.room
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, u16>> {
        self.by_sequence
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
