//! The policies that ours is compared with. Each has the whole size, memory and disk together, as
//! one cache of single entries that can be evicted in any order; ours pays for segments and for
//! holding in memory what is also on disk.
//!
//! Written counts what would reach a disk if the part for newcomers were memory: everything for LRU
//! and SIEVE, which have none, what enters the main part for S3-FIFO and W-TinyLFU. Nobody is charged
//! for moving entries about, which on a log-structured disk costs writes.

use super::compare::Cache;
use super::lists::{Links, List};
use super::workload::{Workload, spread};

/// Least recently used; as every miss is written this is also "write everything".
pub struct Lru<'a> {
    bytes: &'a [u32],
    limit: u64,
    links: Links,
    list: List,
    is_in: Vec<bool>,
    written: u64,
}

impl<'a> Lru<'a> {
    /// A cache of `limit` bytes.
    pub fn new(workload: &'a Workload, limit: u64) -> Self {
        let units = workload.unit_bytes.len();
        Lru {
            bytes: &workload.unit_bytes,
            limit,
            links: Links::new(units),
            list: List::default(),
            is_in: vec![false; units],
            written: 0,
        }
    }
}

impl Cache for Lru<'_> {
    fn ask(&mut self, unit: u32) -> bool {
        let bytes = self.bytes[unit as usize];
        if self.is_in[unit as usize] {
            self.links.remove(&mut self.list, unit, bytes);
            self.links.push(&mut self.list, unit, bytes);
            return true;
        }
        if u64::from(bytes) > self.limit {
            return false;
        }
        while self.list.bytes + u64::from(bytes) > self.limit {
            let Some(victim) = self.list.oldest() else {
                break;
            };
            let freed = self.bytes[victim as usize];
            self.links.remove(&mut self.list, victim, freed);
            self.is_in[victim as usize] = false;
        }
        self.is_in[unit as usize] = true;
        self.written += u64::from(bytes);
        self.links.push(&mut self.list, unit, bytes);
        false
    }

    fn written_bytes(&self) -> u64 {
        self.written
    }
}

/// SIEVE (Zhang et al., NSDI 2024): a queue in order of arrival and a hand that spares once what was
/// asked for.
pub struct Sieve<'a> {
    bytes: &'a [u32],
    limit: u64,
    links: Links,
    list: List,
    is_in: Vec<bool>,
    visited: Vec<bool>,
    hand: Option<u32>,
    written: u64,
}

impl<'a> Sieve<'a> {
    /// A cache of `limit` bytes.
    pub fn new(workload: &'a Workload, limit: u64) -> Self {
        let units = workload.unit_bytes.len();
        Sieve {
            bytes: &workload.unit_bytes,
            limit,
            links: Links::new(units),
            list: List::default(),
            is_in: vec![false; units],
            visited: vec![false; units],
            hand: None,
            written: 0,
        }
    }

    fn evict(&mut self) {
        let mut at = self.hand.or(self.list.oldest());
        while let Some(unit) = at {
            let newer = self.links.newer(unit);
            if !self.visited[unit as usize] {
                let bytes = self.bytes[unit as usize];
                self.links.remove(&mut self.list, unit, bytes);
                self.is_in[unit as usize] = false;
                self.hand = newer;
                return;
            }
            self.visited[unit as usize] = false;
            at = newer.or(self.list.oldest());
        }
    }
}

impl Cache for Sieve<'_> {
    fn ask(&mut self, unit: u32) -> bool {
        let bytes = self.bytes[unit as usize];
        if self.is_in[unit as usize] {
            self.visited[unit as usize] = true;
            return true;
        }
        if u64::from(bytes) > self.limit {
            return false;
        }
        while self.list.bytes + u64::from(bytes) > self.limit {
            self.evict();
        }
        self.is_in[unit as usize] = true;
        self.visited[unit as usize] = false;
        self.written += u64::from(bytes);
        self.links.push(&mut self.list, unit, bytes);
        false
    }

    fn written_bytes(&self) -> u64 {
        self.written
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Queue {
    Out,
    Small,
    Main,
}

/// S3-FIFO (Yang et al., SOSP 2023) by bytes: a tenth for newcomers, which move on when asked for
/// twice more; the main queue spares what was asked for; a ghost queue as long as the main one.
pub struct S3Fifo<'a> {
    bytes: &'a [u32],
    limit: u64,
    small_limit: u64,
    links: Links,
    small: List,
    main: List,
    queue: Vec<Queue>,
    hits: Vec<u8>,
    /// Bytes that had gone to the ghost queue when the unit did, plus one; 0 = not there.
    ghost_since: Vec<u64>,
    ghost_bytes: u64,
    written: u64,
}

impl<'a> S3Fifo<'a> {
    /// A cache of `limit` bytes.
    pub fn new(workload: &'a Workload, limit: u64) -> Self {
        let units = workload.unit_bytes.len();
        S3Fifo {
            bytes: &workload.unit_bytes,
            limit,
            small_limit: limit / 10,
            links: Links::new(units),
            small: List::default(),
            main: List::default(),
            queue: vec![Queue::Out; units],
            hits: vec![0; units],
            ghost_since: vec![0; units],
            ghost_bytes: 0,
            written: 0,
        }
    }

    fn enter_main(&mut self, unit: u32) {
        let bytes = self.bytes[unit as usize];
        self.queue[unit as usize] = Queue::Main;
        self.written += u64::from(bytes);
        self.links.push(&mut self.main, unit, bytes);
    }

    fn evict_from_main(&mut self) {
        while let Some(unit) = self.main.oldest() {
            let bytes = self.bytes[unit as usize];
            self.links.remove(&mut self.main, unit, bytes);
            let hits = &mut self.hits[unit as usize];
            if *hits == 0 {
                self.queue[unit as usize] = Queue::Out;
                return;
            }
            *hits -= 1;
            self.links.push(&mut self.main, unit, bytes);
        }
    }

    fn evict_from_small(&mut self) {
        while let Some(unit) = self.small.oldest() {
            let bytes = self.bytes[unit as usize];
            self.links.remove(&mut self.small, unit, bytes);
            if self.hits[unit as usize] > 1 {
                self.hits[unit as usize] = 0;
                self.enter_main(unit);
                while self.main.bytes > self.limit - self.small_limit {
                    self.evict_from_main();
                }
            } else {
                self.queue[unit as usize] = Queue::Out;
                self.ghost_bytes += u64::from(bytes);
                self.ghost_since[unit as usize] = self.ghost_bytes;
                return;
            }
        }
    }

    fn is_ghost(&self, unit: u32) -> bool {
        let since = self.ghost_since[unit as usize];
        since > 0 && self.ghost_bytes - since < self.limit - self.small_limit
    }
}

impl Cache for S3Fifo<'_> {
    fn ask(&mut self, unit: u32) -> bool {
        let bytes = self.bytes[unit as usize];
        if self.queue[unit as usize] != Queue::Out {
            let hits = &mut self.hits[unit as usize];
            *hits = (*hits + 1).min(3);
            return true;
        }
        if u64::from(bytes) > self.small_limit {
            return false;
        }
        let is_ghost = self.is_ghost(unit);
        while self.small.bytes + self.main.bytes + u64::from(bytes) > self.limit {
            if self.small.bytes > self.small_limit || self.main.oldest().is_none() {
                self.evict_from_small();
            } else {
                self.evict_from_main();
            }
        }
        self.hits[unit as usize] = 0;
        self.ghost_since[unit as usize] = 0;
        if is_ghost {
            self.enter_main(unit);
        } else {
            self.queue[unit as usize] = Queue::Small;
            self.links.push(&mut self.small, unit, bytes);
        }
        false
    }

    fn written_bytes(&self) -> u64 {
        self.written
    }
}

/// Counts of four bits, four to an entry, halved after ten sightings for each: a count-min sketch.
pub struct Sketch {
    counts: Vec<u8>,
    sightings: u64,
    halve_after: u64,
}

impl Sketch {
    /// A sketch for about as many entries.
    pub fn for_entries(entries: usize) -> Self {
        let entries = entries.max(64);
        Sketch {
            counts: vec![0; (entries * 4).next_power_of_two()],
            sightings: 0,
            halve_after: entries as u64 * 10,
        }
    }

    fn places(&self, unit: u32) -> [usize; 4] {
        let mask = self.counts.len() - 1;
        std::array::from_fn(|row| spread(u64::from(unit) << 2 | row as u64) as usize & mask)
    }

    /// How often the unit was seen lately.
    pub fn estimate(&self, unit: u32) -> u8 {
        let counts = self.places(unit).map(|place| self.counts[place]);
        counts.into_iter().min().unwrap_or(0)
    }

    /// Counts a sighting.
    pub fn raise(&mut self, unit: u32) {
        let least = self.estimate(unit);
        if least < 15 {
            for place in self.places(unit) {
                if self.counts[place] == least {
                    self.counts[place] += 1;
                }
            }
        }
        self.sightings += 1;
        if self.sightings >= self.halve_after {
            self.sightings /= 2;
            self.counts.iter_mut().for_each(|count| *count >>= 1);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Region {
    Out,
    Window,
    Probation,
    Protected,
}

/// W-TinyLFU (Einziger, Friedman and Manes, ACM ToS 2017) by bytes, as Caffeine has it: a window of
/// a hundredth, a segmented LRU of which four fifths are protected, and admission by frequency
/// against all that would have to go.
pub struct TinyLfu<'a> {
    bytes: &'a [u32],
    window_limit: u64,
    main_limit: u64,
    links: Links,
    window: List,
    probation: List,
    protected: List,
    region: Vec<Region>,
    sketch: Sketch,
    written: u64,
}

impl<'a> TinyLfu<'a> {
    /// A cache of `limit` bytes.
    pub fn new(workload: &'a Workload, limit: u64) -> Self {
        let units = workload.unit_bytes.len();
        let total: u64 = workload.catalogue_bytes.max(1);
        let entries = u128::from(limit) * units as u128 / u128::from(total);
        let window_limit = limit / 100;
        TinyLfu {
            bytes: &workload.unit_bytes,
            window_limit,
            main_limit: limit - window_limit,
            links: Links::new(units),
            window: List::default(),
            probation: List::default(),
            protected: List::default(),
            region: vec![Region::Out; units],
            sketch: Sketch::for_entries(entries as usize),
            written: 0,
        }
    }

    fn list(&mut self, region: Region) -> Option<&mut List> {
        match region {
            Region::Out => None,
            Region::Window => Some(&mut self.window),
            Region::Probation => Some(&mut self.probation),
            Region::Protected => Some(&mut self.protected),
        }
    }

    fn move_to(&mut self, unit: u32, region: Region) {
        let bytes = self.bytes[unit as usize];
        let mut links = std::mem::take(&mut self.links);
        if let Some(list) = self.list(self.region[unit as usize]) {
            links.remove(list, unit, bytes);
        }
        if let Some(list) = self.list(region) {
            links.push(list, unit, bytes);
        }
        self.links = links;
        self.region[unit as usize] = region;
    }

    /// What has to go for `bytes` more in the main part, oldest first.
    fn victims(&self, bytes: u32) -> Vec<u32> {
        let held = self.probation.bytes + self.protected.bytes;
        let needed = (held + u64::from(bytes)).saturating_sub(self.main_limit);
        let (mut freed, mut victims) = (0, Vec::new());
        for list in [&self.probation, &self.protected] {
            let mut at = list.oldest();
            while let Some(unit) = at
                && freed < needed
            {
                freed += u64::from(self.bytes[unit as usize]);
                victims.push(unit);
                at = self.links.newer(unit);
            }
        }
        victims
    }

    fn leave_window(&mut self, unit: u32) {
        let bytes = self.bytes[unit as usize];
        let victims = self.victims(bytes);
        let best = victims
            .iter()
            .map(|victim| self.sketch.estimate(*victim))
            .max();
        let is_beaten = best.is_some_and(|best| best >= self.sketch.estimate(unit));
        if is_beaten || u64::from(bytes) > self.main_limit {
            return self.move_to(unit, Region::Out);
        }
        for victim in victims {
            self.move_to(victim, Region::Out);
        }
        self.written += u64::from(bytes);
        self.move_to(unit, Region::Probation);
    }
}

impl Cache for TinyLfu<'_> {
    fn ask(&mut self, unit: u32) -> bool {
        self.sketch.raise(unit);
        match self.region[unit as usize] {
            Region::Window => self.move_to(unit, Region::Window),
            Region::Probation | Region::Protected => {
                self.move_to(unit, Region::Protected);
                while self.protected.bytes > self.main_limit / 5 * 4 {
                    let Some(oldest) = self.protected.oldest() else {
                        break;
                    };
                    self.move_to(oldest, Region::Probation);
                }
            }
            Region::Out => {
                self.move_to(unit, Region::Window);
                while self.window.bytes > self.window_limit {
                    let Some(oldest) = self.window.oldest() else {
                        break;
                    };
                    self.leave_window(oldest);
                }
                return false;
            }
        }
        true
    }

    fn written_bytes(&self) -> u64 {
        self.written
    }
}
