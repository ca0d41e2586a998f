//! What memory keeps: two queues in order of arrival, and what gives way. Pure: no map, no lock, no
//! clock.
//!
//! This is S3-FIFO (Yang et al., SOSP 2023) by bytes. Newcomers have a queue of their own. Who was
//! asked for again by its end moves on to the main queue, the others leave and are remembered: one that
//! comes back soon goes to the main queue at once. There, who was asked for goes round again, once for
//! each use. A hit only counts, up to [`MOST_USES`]; nothing is moved for it.
//!
//! Uses of a block that follow upon one another, as those of a player that reads it in small ranges, are
//! one use (the correlated references of O'Neil, O'Neil and Weikum, SIGMOD 1993): time is counted in what
//! arrives ([`Queues::tick`]), and such a use counts once in a tick. What is asked for by its key counts each
//! time: what was popular while nothing else arrived must not leave with the first flood.
//!
//! Invariants:
//! - `within-the-limit`: when [`Queues::surplus`] gives nothing, what is held weighs at most the limit.
//! - `place-until-taken`: a [`Place`] names the same resident until it is taken out.
//!
//! The shares were chosen by simulation: `benches/README.md`, "Memory tier".

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use crate::cache::sightings::Sightings;

/// The most uses that are told apart.
pub const MOST_USES: u8 = 3;

/// Places that are made room for at a time, so that growing never copies what is there.
const CHUNK: usize = 1024;

const NONE: u32 = u32::MAX;

/// What can be held.
pub trait Resident {
    /// A hash of what it is looked up by, the same when it comes back later.
    fn hash(&self) -> u64;
    /// How often it was used.
    fn used(&self) -> &Used;
}

/// How often something was used since it was taken in or judged, and when last.
#[derive(Default)]
pub struct Used {
    uses: AtomicU8,
    tick: AtomicU32,
}

impl Used {
    /// Counts a use, whatever the tick: a request for all of it, not for a range.
    pub fn note_request(&self) {
        let uses = self.uses.load(Ordering::Relaxed);
        if uses < MOST_USES {
            // Two that meet here count as one.
            self.uses.store(uses + 1, Ordering::Relaxed);
        }
    }

    /// Counts a use at `tick`. Writes nothing if it was used in this tick, or often: readers on other
    /// cores share this.
    pub fn note(&self, tick: u32) {
        if self.uses() < MOST_USES && self.tick.load(Ordering::Relaxed) != tick {
            self.tick.store(tick, Ordering::Relaxed);
            self.note_request();
        }
    }

    fn uses(&self) -> u8 {
        self.uses.load(Ordering::Relaxed)
    }

    fn set(&self, uses: u8) {
        self.uses.store(uses, Ordering::Relaxed);
    }
}

/// The part of memory, as a divisor, that newcomers have to themselves when nothing is behind it.
pub const NEWCOMERS_ALONE: u64 = 10;

/// The same before a disk tier, for which memory is where a record waits for its second request.
pub const NEWCOMERS_BEFORE_DISK: u64 = 2;

/// Newcomers have at least this much, unless that is more than half of all: a block that has just
/// been fetched must not leave before its reader has come to it.
const LEAST_NEWCOMERS_BYTES: u64 = 1024 * 1024;

/// A tick lasts until this part of what newcomers may take has arrived, as a divisor.
const TICKS: u64 = 4;

/// Where a resident is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place(u32);

impl Place {
    /// No place.
    pub const NONE: Place = Place(NONE);

    /// As a number, for an atomic.
    pub fn number(self) -> u32 {
        self.0
    }

    /// The place of that number.
    pub fn from_number(number: u32) -> Self {
        Place(number)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Queue {
    Newcomers,
    Main,
}

#[derive(Clone, Copy)]
struct Ends {
    newest: u32,
    oldest: u32,
    bytes: u64,
}

struct Slot<R> {
    newer: u32,
    older: u32,
    queue: Queue,
    bytes: u64,
    resident: Option<R>,
}

/// The queues.
pub struct Queues<R> {
    limit_bytes: u64,
    newcomers_bytes: u64,
    slots: Vec<Box<[Slot<R>]>>,
    /// The first free place; `older` of each leads to the next.
    free: u32,
    newcomers: Ends,
    main: Ends,
    /// Residents.
    count: u64,
    /// Bytes that ever arrived.
    arrived_bytes: u64,
    /// Who has left the newcomers lately.
    left: Sightings,
}

impl<R: Resident> Queues<R> {
    /// Empty queues for `limit_bytes`, of which newcomers have the part that `newcomers` divides by.
    pub fn new(limit_bytes: u64, newcomers: u64) -> Self {
        let share_bytes = limit_bytes / newcomers.max(1);
        let empty = Ends {
            newest: NONE,
            oldest: NONE,
            bytes: 0,
        };
        Queues {
            limit_bytes,
            newcomers_bytes: share_bytes.max(LEAST_NEWCOMERS_BYTES.min(limit_bytes / 2)),
            slots: Vec::new(),
            free: NONE,
            newcomers: empty,
            main: empty,
            count: 0,
            arrived_bytes: 0,
            left: Sightings::for_records(0),
        }
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        self.newcomers.bytes + self.main.bytes
    }

    /// The time, for the uses of residents: see [`Used`].
    pub fn tick(&self) -> u32 {
        // Only whether two differ matters, and they differ for the next four thousand million.
        (self.arrived_bytes / (self.newcomers_bytes / TICKS).max(1)) as u32
    }

    /// Takes a resident in. It may make more than the limit: see [`Queues::surplus`].
    pub fn insert(&mut self, resident: R, bytes: u64) -> Place {
        // Counts this sighting: one more is one that was remembered.
        let queue = match self.left.raise(resident.hash()) {
            0 | 1 => Queue::Newcomers,
            _ => Queue::Main,
        };
        self.arrived_bytes += bytes;
        self.count += 1;
        // About as many are remembered as are held. More would come back to a queue that they leave unused.
        if let Some(larger) = self.left.fitted(self.count) {
            self.left = larger;
        }
        let used = resident.used();
        used.set(0);
        used.tick.store(self.tick(), Ordering::Relaxed);
        let at = self.free_place();
        let slot = self.slot_mut(at);
        slot.bytes = bytes;
        slot.resident = Some(resident);
        self.push(at, queue);
        Place(at)
    }

    /// Whether one that is not held, of `bytes`, and was answered from elsewhere is worth taking in: there is
    /// room, or it was asked for lately, and then it belongs in the main queue. Takes note of this time.
    pub fn wants(&self, hash: u64, bytes: u64) -> bool {
        let comes_back = self.left.raise(hash) > 1;
        comes_back || self.bytes() + bytes <= self.limit_bytes
    }

    /// Changes what a resident weighs.
    pub fn weigh(&mut self, place: Place, bytes: u64) {
        let slot = self.slot_mut(place.0);
        let before = std::mem::replace(&mut slot.bytes, bytes);
        let queue = slot.queue;
        let ends = self.ends_mut(queue);
        ends.bytes = ends.bytes - before + bytes;
    }

    /// Takes a resident out. Its place is another's from then on.
    pub fn take(&mut self, place: Place) -> Option<R> {
        self.unlink(place.0);
        self.release(place.0)
    }

    /// While more than the limit is held: who has to go, taken out already.
    pub fn surplus(&mut self) -> Option<R> {
        while self.bytes() > self.limit_bytes {
            let queue =
                match self.newcomers.bytes > self.newcomers_bytes || self.main.oldest == NONE {
                    true => Queue::Newcomers,
                    false => Queue::Main,
                };
            let at = self.ends_mut(queue).oldest;
            if at == NONE {
                return None;
            }
            let uses = self
                .slot(at)
                .resident
                .as_ref()
                .map_or(0, |resident| resident.used().uses());
            self.unlink(at);
            if uses > 0 {
                // A newcomer starts anew there: what made it popular may be over.
                let left = match queue {
                    Queue::Newcomers => 0,
                    Queue::Main => uses - 1,
                };
                self.set_uses(at, left);
                self.push(at, Queue::Main);
                continue;
            }
            let gone = self.release(at);
            if let (Queue::Newcomers, Some(gone)) = (queue, &gone) {
                self.left.keep(gone.hash());
            }
            return gone;
        }
        None
    }

    /// Who is held: first the main queue, then the newcomers, each from its newest on.
    pub fn residents(&self) -> impl Iterator<Item = &R> {
        [self.main.newest, self.newcomers.newest]
            .into_iter()
            .flat_map(|newest| {
                let next = |at: &u32| Some(self.slot(*at).older).filter(|at| *at != NONE);
                std::iter::successors(Some(newest).filter(|at| *at != NONE), next)
            })
            .filter_map(|at| self.slot(at).resident.as_ref())
    }

    fn set_uses(&self, at: u32, uses: u8) {
        if let Some(resident) = &self.slot(at).resident {
            resident.used().set(uses);
        }
    }

    fn slot(&self, at: u32) -> &Slot<R> {
        &self.slots[at as usize / CHUNK][at as usize % CHUNK]
    }

    fn slot_mut(&mut self, at: u32) -> &mut Slot<R> {
        &mut self.slots[at as usize / CHUNK][at as usize % CHUNK]
    }

    fn ends_mut(&mut self, queue: Queue) -> &mut Ends {
        match queue {
            Queue::Newcomers => &mut self.newcomers,
            Queue::Main => &mut self.main,
        }
    }

    fn push(&mut self, at: u32, queue: Queue) {
        let newest = self.ends_mut(queue).newest;
        let slot = self.slot_mut(at);
        (slot.newer, slot.older, slot.queue) = (NONE, newest, queue);
        let bytes = slot.bytes;
        if newest != NONE {
            self.slot_mut(newest).newer = at;
        }
        let ends = self.ends_mut(queue);
        ends.newest = at;
        ends.bytes += bytes;
        if newest == NONE {
            ends.oldest = at;
        }
    }

    fn unlink(&mut self, at: u32) {
        let Slot {
            newer,
            older,
            queue,
            bytes,
            ..
        } = *self.slot(at);
        if newer != NONE {
            self.slot_mut(newer).older = older;
        }
        if older != NONE {
            self.slot_mut(older).newer = newer;
        }
        let ends = self.ends_mut(queue);
        ends.bytes -= bytes;
        if newer == NONE {
            ends.newest = older;
        }
        if older == NONE {
            ends.oldest = newer;
        }
    }

    fn free_place(&mut self) -> u32 {
        if self.free == NONE {
            // Four thousand million residents are most of a terabyte of nodes alone.
            let first = u32::try_from(self.slots.len() * CHUNK).unwrap_or(NONE);
            let end = first + CHUNK as u32;
            let slots = (first + 1..=end).map(|next| Slot {
                newer: NONE,
                older: if next == end { NONE } else { next },
                queue: Queue::Newcomers,
                bytes: 0,
                resident: None,
            });
            self.slots.push(slots.collect());
            self.free = first;
        }
        let at = self.free;
        self.free = self.slot(at).older;
        at
    }

    fn release(&mut self, at: u32) -> Option<R> {
        let free = std::mem::replace(&mut self.free, at);
        let slot = self.slot_mut(at);
        slot.older = free;
        let resident = slot.resident.take();
        self.count -= 1;
        resident
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::rc::Rc;

    use super::*;
    use crate::cache::dice::Dice;

    struct Held {
        number: u64,
        used: Used,
    }

    impl Resident for &Held {
        fn hash(&self) -> u64 {
            Dice::new(self.number).next()
        }

        fn used(&self) -> &Used {
            &self.used
        }
    }

    fn all(count: u64) -> Vec<Held> {
        let held = |number| Held {
            number,
            used: Used::default(),
        };
        (0..count).map(held).collect()
    }

    fn insert<'h>(queues: &mut Queues<&'h Held>, held: &'h Held, bytes: u64) -> Vec<u64> {
        queues.insert(held, bytes);
        std::iter::from_fn(|| queues.surplus())
            .map(|gone| gone.number)
            .collect()
    }

    fn wants(queues: &Queues<&Held>, held: &Held, bytes: u64) -> bool {
        queues.wants((&held).hash(), bytes)
    }

    const MIB: u64 = 1 << 20;

    #[test]
    fn the_oldest_newcomer_gives_way_unless_it_was_asked_for() {
        let all = all(30);
        // One part in ten is for newcomers: two of twenty.
        let mut queues = Queues::new(20 * MIB, NEWCOMERS_ALONE);
        for held in &all[..20] {
            assert_eq!(insert(&mut queues, held, MIB), [0; 0]);
        }
        all[1].used.set(1);
        assert_eq!(insert(&mut queues, &all[20], MIB), [0]);
        // 1 moves on to the main queue, so 2 has to go.
        assert_eq!(insert(&mut queues, &all[21], MIB), [2]);
        assert_eq!(queues.bytes(), 20 * MIB);
    }

    #[test]
    fn one_that_comes_back_soon_is_no_newcomer_and_goes_round_once_for_each_use() {
        let all = all(100);
        let mut queues = Queues::new(10 * MIB, NEWCOMERS_ALONE);
        for held in &all[..11] {
            insert(&mut queues, held, MIB);
        }
        // 0 has just left. It comes back, and the others are never asked for.
        insert(&mut queues, &all[0], MIB);
        all[0].used.set(2);
        let mut gone = Vec::new();
        for held in &all[20..60] {
            gone.extend(insert(&mut queues, held, MIB));
        }
        assert!(!gone.contains(&0), "{gone:?}");
        let order: Vec<u64> = queues.residents().map(|held| held.number).collect();
        assert_eq!(order[0], 0, "the main queue comes first");
        // Newcomers that move on drive the main queue round; it has two rounds left.
        for held in &all[60..100] {
            insert(&mut queues, held, MIB);
            held.used.set(1);
        }
        assert!(queues.residents().all(|held| held.number != 0));
    }

    #[test]
    fn one_that_is_answered_from_elsewhere_is_wanted_while_there_is_room_and_when_it_comes_back() {
        let all = all(100);
        let mut queues = Queues::new(10 * MIB, NEWCOMERS_BEFORE_DISK);
        assert!(wants(&queues, &all[50], 10 * MIB));
        assert!(!wants(&queues, &all[51], 10 * MIB + 1));
        for held in &all[..11] {
            insert(&mut queues, held, MIB);
        }
        assert!(!wants(&queues, &all[60], MIB), "for the first time");
        assert!(wants(&queues, &all[60], MIB), "for the second");
        assert!(wants(&queues, &all[0], MIB), "it has just left");
    }

    #[test]
    fn few_large_residents_remember_few_that_came_by() {
        let all = all(1_000);
        let mut queues = Queues::new(10 * MIB, NEWCOMERS_BEFORE_DISK);
        for held in &all[..10] {
            insert(&mut queues, held, MIB);
        }
        let came_by = &all[10..];
        let wanted = |held: &&Held| wants(&queues, held, MIB);
        assert_eq!(came_by.iter().filter(wanted).count(), 0, "the first time");
        assert_eq!(came_by.iter().filter(wanted).count(), 0, "the second");
    }

    #[test]
    fn a_large_one_drives_out_what_it_must_and_one_that_is_too_large_only_newcomers() {
        let all = all(10);
        let mut queues = Queues::new(8 * MIB, NEWCOMERS_BEFORE_DISK);
        for held in &all[..4] {
            insert(&mut queues, held, 2 * MIB);
        }
        assert_eq!(insert(&mut queues, &all[4], 3 * MIB), [0, 1]);
        assert_eq!(insert(&mut queues, &all[5], 9 * MIB), [2, 3, 4, 5]);
        assert_eq!(queues.bytes(), 0);
    }

    #[test]
    fn uses_in_one_tick_are_one_use_and_more_than_the_most_are_not_told_apart() {
        let used = Used::default();
        let after = |ticks: &[u32]| {
            ticks.iter().for_each(|tick| used.note(*tick));
            used.uses()
        };
        assert_eq!(after(&[0, 0]), 0);
        assert_eq!(after(&[8, 8, 8]), 1);
        assert_eq!(after(&[9, 10, 11, 12]), MOST_USES);
        used.set(0);
        used.note_request();
        used.note_request();
        assert_eq!(used.uses(), 2);
        let all = all(9);
        let mut queues = Queues::new(8 * MIB, NEWCOMERS_BEFORE_DISK);
        let mut ticks = Vec::new();
        for held in &all {
            insert(&mut queues, held, MIB / 2);
            ticks.push(queues.tick());
        }
        // A quarter of half of 8 MiB.
        assert_eq!(ticks, [0, 1, 1, 2, 2, 3, 3, 4, 4]);
    }

    #[test]
    fn the_queues_hold_what_a_plain_map_says_they_do() {
        let mut dice = Dice::new(11);
        let all: Vec<Rc<Held>> = all(3_000).into_iter().map(Rc::new).collect();
        let mut queues: Queues<&Held> = Queues::new(300_000, NEWCOMERS_ALONE);
        let mut model: HashMap<u64, (Place, u64)> = HashMap::new();
        for step in 0..200_000 {
            let held = &*all[dice.below(3_000) as usize];
            let bytes = 1 + dice.below(2_000);
            match (model.get(&held.number).copied(), dice.below(10)) {
                (None, _) => {
                    let place = queues.insert(held, bytes);
                    model.insert(held.number, (place, bytes));
                }
                (Some((place, _)), 0) => {
                    let taken = queues.take(place).map(|held| held.number);
                    assert_eq!(taken, Some(held.number));
                    model.remove(&held.number);
                }
                (Some((place, _)), 1) => {
                    queues.weigh(place, bytes);
                    model.insert(held.number, (place, bytes));
                }
                (Some(_), _) => held.used.note(step),
            }
            while let Some(gone) = queues.surplus() {
                assert!(model.remove(&gone.number).is_some(), "step {step}");
            }
            let bytes: u64 = model.values().map(|(_, bytes)| bytes).sum();
            assert_eq!(queues.bytes(), bytes);
            assert!(bytes <= 300_000);
            if step % 1_000 == 0 {
                let mut held: Vec<u64> = queues.residents().map(|held| held.number).collect();
                held.sort_unstable();
                let mut expected: Vec<u64> = model.keys().copied().collect();
                expected.sort_unstable();
                assert_eq!(held, expected);
            }
        }
    }
}
