//! One shard: an open-addressed hash table in two parallel arrays, tags and places.
//!
//! Invariant `sorted-by-tag`: an entry's home is its tag scaled to the number of slots. Entries stand at
//! their home or as close behind it as the order allows (the end of the arrays leads back to their beginning),
//! and walked from the lowest home on, tags never descend; entries with one tag stand in the order in
//! which they came. So a look-up ends at the first tag that comes later, even at a load of 0.9, a
//! removal closes its gap and leaves no tombstone, and a new size takes one pass over the old.

use std::cmp::Ordering;
use std::ops::Range;

use super::{LENGTH_BITS, LENGTH_UNITS, Location, OFFSET_BITS, OFFSET_UNITS, SEGMENT_BITS, SHARDS};

/// The tag of an empty slot.
const EMPTY: u32 = 0;

/// Bits of the hash that are kept beside those that decide the place.
pub(super) const REST_BITS: u32 = 12;
pub(super) const REST_MASK: u16 = (1 << REST_BITS) - 1;

const HITS_BITS: u32 = 2;
const HITS_SHIFT: u32 = REST_BITS;
const HITS_MASK: u64 = (HITS_LIMIT as u64) << HITS_SHIFT;
const LENGTH_SHIFT: u32 = HITS_SHIFT + HITS_BITS;
const OFFSET_SHIFT: u32 = LENGTH_SHIFT + LENGTH_BITS;
const SEGMENT_SHIFT: u32 = OFFSET_SHIFT + OFFSET_BITS;
const _: () = assert!(SEGMENT_SHIFT + SEGMENT_BITS == u64::BITS);

/// Hit counters stop here.
pub const HITS_LIMIT: u8 = 3;

/// The most locations under one hash. More precisely: under hashes with the same first 42 bits, which
/// decide the place, so that no run of equal tags is longer.
pub const MAX_CANDIDATES: usize = 64;

/// An entry costs 12 bytes. Between these two loads that makes 13.3 to 17 bytes.
const MOST_LOAD: (usize, usize) = (90, 100);
const LEAST_LOAD: (usize, usize) = (71, 100);
/// A table grows and shrinks by this factor. Either way, a tenth of the entries must come or go
/// before the next change of size.
const STEP: (u64, u64) = (23, 20);
/// The size of the first array of the first shard, in slots.
const LEAST_SLOTS: u64 = 8;

/// Numbers of slots are kept as multiples of 1/1024, so that rounding does not make the sizes of the shards
/// equal.
const SIZE_BITS: u32 = 10;

/// Where an entry lies, how often it was hit, and the rest of its hash.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Place(pub(super) u64);

impl Place {
    fn new(rest: u16, location: Location) -> Self {
        Place(
            u64::from(location.segment) << SEGMENT_SHIFT
                | u64::from(location.offset) << OFFSET_SHIFT
                | u64::from(location.length) << LENGTH_SHIFT
                | u64::from(rest & REST_MASK),
        )
    }

    // The masks keep what the casts can hold.
    fn location(self) -> Location {
        Location {
            segment: (self.0 >> SEGMENT_SHIFT) as u16,
            offset: (self.0 >> OFFSET_SHIFT) as u32 & (OFFSET_UNITS - 1),
            length: (self.0 >> LENGTH_SHIFT) as u16 & (LENGTH_UNITS - 1),
        }
    }

    fn rest(self) -> u16 {
        self.0 as u16 & REST_MASK
    }

    fn hits(self) -> u8 {
        (self.0 >> HITS_SHIFT) as u8 & HITS_LIMIT
    }

    /// The same location under the same hash, whatever the counters say.
    fn is_at(self, other: Place) -> bool {
        (self.0 ^ other.0) & !HITS_MASK == 0
    }
}

/// What became of an entry that was to be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Added {
    /// It is there now.
    New,
    /// It was there.
    Already,
    /// It is there now, and the oldest of its tag is not.
    InPlaceOfOldest,
}

/// See the [module](self).
pub(super) struct Table {
    tags: Box<[u32]>,
    places: Box<[u64]>,
    len: usize,
    /// The size that the arrays have, or will have once there is an entry, times 1024.
    size: u64,
    least_size: u64,
}

impl Table {
    /// An empty table without memory. Tables of different `phase`, below the number of shards, grow
    /// at different times.
    pub(super) fn new(phase: u64) -> Self {
        let least = LEAST_SLOTS << SIZE_BITS;
        let (up, down) = STEP;
        let size = least + least * (up - down) * phase / (down * SHARDS as u64);
        Table {
            tags: Box::default(),
            places: Box::default(),
            len: 0,
            size,
            least_size: size,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// What the arrays take, in bytes.
    pub(super) fn memory_bytes(&self) -> usize {
        size_of_val(&*self.tags) + size_of_val(&*self.places)
    }

    pub(super) fn clear(&mut self) {
        self.len = 0;
        self.size = self.least_size;
        self.tags = Box::default();
        self.places = Box::default();
    }

    /// The slots of one hash, the oldest entry first.
    pub(super) fn slots_of(&self, tag: u32, rest: u16) -> impl Iterator<Item = usize> {
        let is_named = move |slot: &usize| Place(self.places[*slot]).rest() == rest;
        self.run(tag).filter(is_named)
    }

    /// The slot of one entry.
    pub(super) fn slot_of(&self, tag: u32, rest: u16, location: Location) -> Option<usize> {
        if !location.is_addressable() {
            return None;
        }
        let wanted = Place::new(rest, location);
        self.run(tag)
            .find(|slot| Place(self.places[*slot]).is_at(wanted))
    }

    pub(super) fn location(&self, slot: usize) -> Location {
        Place(self.places[slot]).location()
    }

    pub(super) fn hits(&self, slot: usize) -> u8 {
        Place(self.places[slot]).hits()
    }

    pub(super) fn note_hit(&mut self, slot: usize) {
        if self.hits(slot) < HITS_LIMIT {
            self.places[slot] += 1 << HITS_SHIFT;
        }
    }

    /// Puts an entry of the same hash, not hit yet, where another one stands.
    pub(super) fn replace(&mut self, slot: usize, location: Location) {
        let rest = Place(self.places[slot]).rest();
        self.places[slot] = Place::new(rest, location).0;
    }

    /// Adds an entry, not hit yet, as the newest of its tag.
    pub(super) fn insert(&mut self, tag: u32, rest: u16, location: Location) -> Added {
        self.add(tag, Place::new(rest, location))
    }

    /// See [`Table::insert`]; the counter is that of `place`.
    pub(super) fn add(&mut self, tag: u32, place: Place) -> Added {
        self.reserve(1);
        let first = self.first_slot(tag);
        let mut slot = first;
        let mut equals = 0;
        while self.tags[slot] == tag {
            if Place(self.places[slot]).is_at(place) {
                return Added::Already;
            }
            slot = self.after(slot);
            equals += 1;
        }
        if equals == MAX_CANDIDATES {
            self.close_gap(first);
            self.open_gap(self.before(slot), tag, place.0);
            return Added::InPlaceOfOldest;
        }
        self.open_gap(slot, tag, place.0);
        Added::New
    }

    pub(super) fn remove(&mut self, slot: usize) {
        self.close_gap(slot);
        self.fit();
    }

    /// Keeps the entries that `stays` wants, and tells how many others there were.
    pub(super) fn retain(&mut self, stays: impl Fn(Location) -> bool) -> usize {
        let stays = |place: u64| stays(Place(place).location());
        let kept = self.walk().filter(|(_, place)| stays(*place)).count();
        let removed = self.len - kept;
        if removed > 0 {
            let size = self.size_for(kept);
            self.rebuild(size, stays);
        }
        removed
    }

    /// Tags and places, from the lowest tag to the highest.
    pub(super) fn walk(&self) -> impl Iterator<Item = (u32, u64)> {
        let wrapped = |slot: &usize| {
            let tag = self.tags[*slot];
            tag != EMPTY && self.home(tag) > *slot
        };
        // Those that found no place before the end of the arrays.
        let first = (0..self.tags.len()).take_while(wrapped).count();
        let slots = (first..self.tags.len()).chain(0..first);
        let entries = slots.map(|slot| (self.tags[slot], self.places[slot]));
        entries.filter(|(tag, _)| *tag != EMPTY)
    }

    /// Makes room for `more` entries at once.
    pub(super) fn reserve(&mut self, more: usize) {
        let needed = self.len + more;
        if self.tags.is_empty() || needed > at_load(self.tags.len(), MOST_LOAD) {
            let size = self.size_for(needed);
            self.rebuild(size, |_| true);
        }
    }

    /// Shrinks the arrays when they have become too large.
    fn fit(&mut self) {
        let size = self.size_for(self.len);
        if self.len == 0 {
            self.clear();
        } else if size != self.size {
            self.rebuild(size, |_| true);
        }
    }

    /// The size for `len` entries that takes the fewest steps from the present one.
    fn size_for(&self, len: usize) -> u64 {
        let slots = |size: u64| (size >> SIZE_BITS) as usize;
        let (up, down) = STEP;
        let mut size = self.size;
        while len > at_load(slots(size), MOST_LOAD) {
            size = size * up / down;
        }
        while len < at_load(slots(size), LEAST_LOAD) {
            let smaller = size * down / up;
            if smaller < self.least_size || len > at_load(slots(smaller), MOST_LOAD) {
                break;
            }
            size = smaller;
        }
        size
    }

    /// Moves the entries that `stays` wants into arrays of `size`.
    fn rebuild(&mut self, size: u64, stays: impl Fn(u64) -> bool) {
        let slots = (size >> SIZE_BITS) as usize;
        let mut new = Table {
            tags: vec![EMPTY; slots].into_boxed_slice(),
            places: vec![0; slots].into_boxed_slice(),
            len: 0,
            size,
            least_size: self.least_size,
        };
        let mut free = 0;
        for (tag, place) in self.walk().filter(|(_, place)| stays(*place)) {
            // In order of their tags, so each goes behind the one before it.
            free = free.max(new.home(tag));
            if free < slots {
                new.tags[free] = tag;
                new.places[free] = place;
                new.len += 1;
                free += 1;
            } else {
                // The few that find no place before the end push others aside.
                let behind = new.first_slot(tag) + new.run(tag).count();
                new.open_gap(behind % slots, tag, place);
            }
        }
        *self = new;
    }

    fn home(&self, tag: u32) -> usize {
        // Below the number of slots, as a tag is below 2^32.
        ((u64::from(tag) * self.tags.len() as u64) >> u32::BITS) as usize
    }

    fn after(&self, slot: usize) -> usize {
        if slot + 1 == self.tags.len() {
            0
        } else {
            slot + 1
        }
    }

    fn before(&self, slot: usize) -> usize {
        slot.checked_sub(1).unwrap_or(self.tags.len() - 1)
    }

    /// How far behind its home the entry in `slot` stands, if it has `tag`.
    fn distance(&self, slot: usize, tag: u32) -> usize {
        let home = self.home(tag);
        match slot.checked_sub(home) {
            Some(distance) => distance,
            None => slot + self.tags.len() - home,
        }
    }

    /// Where the entries of `tag` begin, or would stand: at the first slot from its home on that is
    /// empty or holds no lower tag. There must be an empty slot.
    fn first_slot(&self, tag: u32) -> usize {
        let mut slot = self.home(tag);
        let mut walked = 0;
        loop {
            let held = self.tags[slot];
            if held == EMPTY {
                return slot;
            }
            // Who has come as far from another home comes from an earlier one.
            match self.distance(slot, held).cmp(&walked) {
                Ordering::Less => return slot,
                Ordering::Equal if held >= tag => return slot,
                _ => {}
            }
            slot = self.after(slot);
            walked += 1;
        }
    }

    /// The slots that hold `tag`, the oldest entry first.
    fn run(&self, tag: u32) -> impl Iterator<Item = usize> {
        let first = (self.len > 0).then(|| self.first_slot(tag));
        let slots = std::iter::successors(first, |slot| Some(self.after(*slot)));
        slots.take_while(move |slot| self.tags[*slot] == tag)
    }

    /// Puts an entry into `slot`; what stands there and behind it moves on by one.
    fn open_gap(&mut self, slot: usize, tag: u32, place: u64) {
        let mut empty = slot;
        while self.tags[empty] != EMPTY {
            empty = self.after(empty);
        }
        if empty < slot {
            self.move_slots(0..empty, 1);
            self.move_slots(self.tags.len() - 1..self.tags.len(), 0);
            self.move_slots(slot..self.tags.len() - 1, slot + 1);
        } else {
            self.move_slots(slot..empty, slot + 1);
        }
        self.tags[slot] = tag;
        self.places[slot] = place;
        self.len += 1;
    }

    /// Empties `slot`; what stands behind it and not at home moves back by one.
    fn close_gap(&mut self, slot: usize) {
        let mut end = self.after(slot);
        while self.tags[end] != EMPTY && self.distance(end, self.tags[end]) > 0 {
            end = self.after(end);
        }
        if end <= slot {
            self.move_slots(slot + 1..self.tags.len(), slot);
            if end > 0 {
                self.move_slots(0..1, self.tags.len() - 1);
                self.move_slots(1..end, 0);
            }
        } else {
            self.move_slots(slot + 1..end, slot);
        }
        let last = self.before(end);
        self.tags[last] = EMPTY;
        self.len -= 1;
    }

    fn move_slots(&mut self, from: Range<usize>, to: usize) {
        self.tags.copy_within(from.clone(), to);
        self.places.copy_within(from, to);
    }
}

/// How many of `slots` are taken at a load.
fn at_load(slots: usize, (share, whole): (usize, usize)) -> usize {
    slots * share / whole
}

#[cfg(test)]
impl Table {
    /// Asserts what every method relies on.
    pub(super) fn check(&self) {
        let entries: Vec<_> = self.walk().collect();
        assert_eq!(entries.len(), self.len, "len counts the entries");
        let is_sorted = entries.windows(2).all(|pair| pair[0].0 <= pair[1].0);
        assert!(is_sorted, "sorted-by-tag: {entries:?}");
        let slots = self.tags.len();
        assert!(self.len <= at_load(slots, MOST_LOAD));
        if self.size > self.least_size * 2 {
            assert!(self.len >= at_load(slots, LEAST_LOAD), "too large");
        }
        for slot in (0..slots).filter(|slot| self.tags[*slot] != EMPTY) {
            let tag = self.tags[slot];
            assert!(self.run(tag).count() <= MAX_CANDIDATES, "bounded-run");
            assert!(self.run(tag).any(|found| found == slot), "it is found");
        }
    }
}
