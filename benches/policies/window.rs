//! Memory as moka behind a window, for comparison: W-TinyLFU (Einziger, Friedman and Manes, ACM ToS 2017).
//!
//! Two lists by recency. What leaves the window stands for admission to the main one as moka has it:
//! the oldest there must give way until what they weigh is what the newcomer does, and it must have
//! been asked for more often than all of them together.

use super::lists::{Links, List};
use super::memory::Memory;
use super::rivals::Sketch;
use super::workload::Workload;

/// Who spends time in the window before standing for admission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Newcomers {
    /// Whatever is new.
    All,
    /// Blocks of large bodies; heads and small bodies stand for admission at once.
    Blocks,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Region {
    Out,
    Window,
    Main,
}

/// The two lists.
pub struct Window<'a> {
    workload: &'a Workload,
    newcomers: Newcomers,
    window_limit: u64,
    main_limit: u64,
    links: Links,
    window: List,
    main: List,
    region: Vec<Region>,
    sketch: Sketch,
}

impl<'a> Window<'a> {
    /// Memory of `limit` bytes, of which the window has this part; all of it is plain LRU.
    pub fn new(workload: &'a Workload, limit: u64, part: f64, newcomers: Newcomers) -> Self {
        let units = workload.unit_bytes.len();
        let total = workload.catalogue_bytes.max(1);
        let entries = u128::from(limit) * units as u128 / u128::from(total);
        let window_limit = (limit as f64 * part) as u64;
        Window {
            workload,
            newcomers,
            window_limit,
            main_limit: limit - window_limit,
            links: Links::new(units),
            window: List::default(),
            main: List::default(),
            region: vec![Region::Out; units],
            sketch: Sketch::for_entries(entries as usize),
        }
    }

    fn move_to(&mut self, unit: u32, region: Region) {
        let bytes = self.workload.unit_bytes[unit as usize];
        match self.region[unit as usize] {
            Region::Out => {}
            Region::Window => self.links.remove(&mut self.window, unit, bytes),
            Region::Main => self.links.remove(&mut self.main, unit, bytes),
        }
        match region {
            Region::Out => {}
            Region::Window => self.links.push(&mut self.window, unit, bytes),
            Region::Main => self.links.push(&mut self.main, unit, bytes),
        }
        self.region[unit as usize] = region;
    }

    fn stand_for_admission(&mut self, unit: u32) {
        let bytes = u64::from(self.workload.unit_bytes[unit as usize]);
        if self.main.bytes + bytes <= self.main_limit {
            return self.move_to(unit, Region::Main);
        }
        let frequency = u32::from(self.sketch.estimate(unit));
        let (mut freed, mut victims_frequency, mut victims) = (0, 0, Vec::new());
        let mut at = self.main.oldest();
        while let Some(victim) = at
            && freed < bytes
            && victims_frequency <= frequency
        {
            freed += u64::from(self.workload.unit_bytes[victim as usize]);
            victims_frequency += u32::from(self.sketch.estimate(victim));
            victims.push(victim);
            at = self.links.newer(victim);
        }
        if freed < bytes || frequency <= victims_frequency {
            return self.move_to(unit, Region::Out);
        }
        for victim in victims {
            self.move_to(victim, Region::Out);
        }
        self.move_to(unit, Region::Main);
    }
}

impl Memory for Window<'_> {
    fn holds(&self, unit: u32) -> bool {
        self.region[unit as usize] != Region::Out
    }

    fn get(&mut self, unit: u32) -> bool {
        self.sketch.raise(unit);
        self.move_to(unit, self.region[unit as usize]);
        self.holds(unit)
    }

    fn put(&mut self, unit: u32) {
        if self.newcomers == Newcomers::Blocks && !self.workload.is_block(unit) {
            return self.stand_for_admission(unit);
        }
        self.move_to(unit, Region::Window);
        while self.window.bytes > self.window_limit {
            let Some(oldest) = self.window.oldest() else {
                break;
            };
            self.stand_for_admission(oldest);
        }
    }
}
