//! Where each record of the disk tier lies: the one structure that grows with every record, so each
//! costs 12 bytes plus the slack of a hash table, 13.4 to 17 bytes in all once there are many.
//!
//! The index keeps 54 bits of a record's hash, never its key. Two hashes that agree in those bits look
//! alike, and so do two keys with one hash: what is found is a *candidate*, and whoever reads the
//! record compares the full key that is stored in it. With ten million records, one look-up in two
//! billion for an absent key meets a candidate.
//!
//! Hashes must be keyed (SipHash, say). The tables stay correct for any 64-bit values, but somebody who
//! can choose hashes can make look-ups slow.
//!
//! Invariants:
//! - `once-per-name`: a location stands at most once under one hash.
//! - `sorted-by-tag` (see `table.rs`): a look-up stops at the first entry that comes later.
//! - `bounded-run`: at most [`MAX_CANDIDATES`] locations share the tag that decides their place; the
//!   oldest gives way.

mod candidates;
mod snapshot;
mod table;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

pub use candidates::{Candidates, Found};
pub use snapshot::SnapshotError;
pub use table::{HITS_LIMIT, MAX_CANDIDATES};

use table::Table;

/// The unit of offsets and lengths on disk, in bytes.
pub const UNIT_BYTES: u64 = 64;

/// Segments have numbers below this.
pub const SEGMENTS: u16 = 1 << SEGMENT_BITS;
/// Offsets are below this, in units: a segment has at most 1 GiB.
pub const OFFSET_UNITS: u32 = 1 << OFFSET_BITS;
/// Lengths are below this, in units: a record is shorter than 1 MiB.
pub const LENGTH_UNITS: u16 = 1 << LENGTH_BITS;

const SEGMENT_BITS: u32 = 12;
const OFFSET_BITS: u32 = 24;
const LENGTH_BITS: u32 = 14;

/// Tables, each behind a lock of its own. So many that the growth of one, which copies it, holds its
/// lock for well under a millisecond even with 100 million records.
const SHARDS: usize = 1 << SHARD_BITS;
const SHARD_BITS: u32 = 10;

/// Where a record lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Location {
    /// Slot number of the segment, below [`SEGMENTS`].
    pub segment: u16,
    /// Where it begins, in units of [`UNIT_BYTES`], below [`OFFSET_UNITS`].
    pub offset: u32,
    /// How long it is, in units of [`UNIT_BYTES`], below [`LENGTH_UNITS`].
    pub length: u16,
}

impl Location {
    /// Whether all three numbers are below their limits, so that the index can hold it.
    pub fn is_addressable(&self) -> bool {
        self.segment < SEGMENTS && self.offset < OFFSET_UNITS && self.length < LENGTH_UNITS
    }
}

/// What a hash is kept as: the shard and the tag decide the place, the rest tells entries apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Name {
    shard: usize,
    tag: u32,
    rest: u16,
}

impl Name {
    fn of(hash: u64) -> Self {
        const TAG_SHIFT: u32 = 64 - SHARD_BITS - 32;
        const REST_SHIFT: u32 = TAG_SHIFT - table::REST_BITS;
        // Each cast keeps the bits that the field is made of.
        Name {
            shard: (hash >> (64 - SHARD_BITS)) as usize,
            // Zero marks an empty slot. Tag 0 thus looks like tag 1, as any two hashes may look alike.
            tag: ((hash >> TAG_SHIFT) as u32).max(1),
            rest: (hash >> REST_SHIFT) as u16 & table::REST_MASK,
        }
    }
}

/// The in-memory index of the disk tier; see the [module](self). Every method may be called from
/// any thread; each takes the lock of one shard unless it says otherwise, and none waits for a disk.
pub struct Index {
    shards: Box<[Mutex<Table>]>,
}

impl Index {
    /// An empty index. Its tables have no memory yet.
    pub fn new() -> Self {
        let phases = 0..SHARDS as u64;
        Index {
            shards: phases.map(|phase| Mutex::new(Table::new(phase))).collect(),
        }
    }

    fn table(&self, name: Name) -> MutexGuard<'_, Table> {
        // A table is whole between any two statements that could panic.
        let shard = &self.shards[name.shard];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tables(&self) -> impl Iterator<Item = MutexGuard<'_, Table>> {
        let shards = self.shards.iter();
        shards.map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// All locations stored under `hash`, and under hashes that look like it; the newest first.
    pub fn find(&self, hash: u64) -> Candidates {
        let name = Name::of(hash);
        let mut candidates = Candidates::default();
        let table = self.table(name);
        for slot in table.slots_of(name.tag, name.rest) {
            candidates.push(table.location(slot));
        }
        drop(table);
        candidates.reverse();
        candidates
    }

    /// Whether anything is stored under `hash` or a hash that looks like it.
    pub fn contains(&self, hash: u64) -> bool {
        let name = Name::of(hash);
        let table = self.table(name);
        table.slots_of(name.tag, name.rest).next().is_some()
    }

    /// Adds `location` beside the others under `hash`, with a hit counter of 0. One that is there
    /// already stays as it is. Of more than [`MAX_CANDIDATES`] the oldest gives way.
    ///
    /// # Panics
    /// When `location` is not [addressable](Location::is_addressable).
    pub fn insert(&self, hash: u64, location: Location) {
        assert!(
            location.is_addressable(),
            "a record lies within a segment: {location:?}"
        );
        let name = Name::of(hash);
        self.table(name).insert(name.tag, name.rest, location);
    }

    /// Removes `location` from under `hash`; false when it was not there.
    pub fn remove(&self, hash: u64, location: Location) -> bool {
        let name = Name::of(hash);
        let mut table = self.table(name);
        let slot = table.slot_of(name.tag, name.rest, location);
        slot.map(|slot| table.remove(slot)).is_some()
    }

    /// Removes everything under `hash`, and tells how many that were.
    pub fn remove_all(&self, hash: u64) -> usize {
        let name = Name::of(hash);
        let mut table = self.table(name);
        let mut removed = 0;
        loop {
            let slot = table.slots_of(name.tag, name.rest).next();
            let Some(slot) = slot else { return removed };
            table.remove(slot);
            removed += 1;
        }
    }

    /// Notes that the record at `from` now lies at `to`, with a hit counter of 0; false, and
    /// nothing is changed, when `from` is no longer there.
    ///
    /// # Panics
    /// When `to` is not [addressable](Location::is_addressable).
    pub fn relocate(&self, hash: u64, from: Location, to: Location) -> bool {
        assert!(
            to.is_addressable(),
            "a record lies within a segment: {to:?}"
        );
        let name = Name::of(hash);
        let mut table = self.table(name);
        let Some(slot) = table.slot_of(name.tag, name.rest, from) else {
            return false;
        };
        match table.slot_of(name.tag, name.rest, to) {
            Some(taken) if taken != slot => table.remove(slot),
            _ => table.replace(slot, to),
        }
        true
    }

    /// Raises the hit counter of a record unless it is at [`HITS_LIMIT`] or no longer live.
    pub fn note_hit(&self, hash: u64, location: Location) {
        let name = Name::of(hash);
        let mut table = self.table(name);
        if let Some(slot) = table.slot_of(name.tag, name.rest, location) {
            table.note_hit(slot);
        }
    }

    /// How often a record was hit, 0 to [`HITS_LIMIT`]; `None` when it is no longer live.
    pub fn hits(&self, hash: u64, location: Location) -> Option<u8> {
        let name = Name::of(hash);
        let table = self.table(name);
        let slot = table.slot_of(name.tag, name.rest, location);
        slot.map(|slot| table.hits(slot))
    }

    /// Removes every record that lies in `segment`, and tells how many those were. Walks all tables,
    /// one after the other.
    pub fn remove_segment(&self, segment: u16) -> usize {
        let stays = |location: Location| location.segment != segment;
        self.tables().map(|mut table| table.retain(stays)).sum()
    }

    /// How many locations are stored. Takes each shard's lock in turn.
    pub fn len(&self) -> usize {
        self.tables().map(|table| table.len()).sum()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What all of it takes in memory, in bytes, without what the allocator adds. Takes each
    /// shard's lock in turn.
    pub fn memory_bytes(&self) -> usize {
        let shards = size_of_val(&*self.shards);
        let tables: usize = self.tables().map(|table| table.memory_bytes()).sum();
        size_of::<Self>() + shards + tables
    }

    /// Removes everything and gives its memory back.
    pub fn clear(&self) {
        self.tables().for_each(|mut table| table.clear());
    }

    /// Writes all of it, hit counters included, in the form that `docs/FORMATS.md` describes. What
    /// changes meanwhile is in it or not, shard by shard; no lock is held during a write.
    ///
    /// # Errors
    /// Those of `destination`.
    pub fn write_to(&self, destination: &mut impl io::Write) -> io::Result<()> {
        snapshot::write(self, destination)
    }

    /// Reads back what [`Index::write_to`] wrote, and not a byte beyond it. Only good for records
    /// whose hashes were made with the same key.
    ///
    /// # Errors
    /// When `source` cannot be read, ends early, or holds anything that is never written.
    pub fn read_from(source: impl io::Read) -> Result<Index, SnapshotError> {
        snapshot::read(source)
    }
}

impl Default for Index {
    fn default() -> Self {
        Index::new()
    }
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index").field("len", &self.len()).finish()
    }
}
