//! Memory in front of the disk, or alone: the real queues of the memory tier, and what they are compared
//! with.

use std::rc::Rc;

use tidegate::cache::memory::queues::{Queues, Resident, Used};

use super::compare::Cache;
use super::window::{Newcomers, Window};
use super::workload::{Workload, spread};

/// Memory that holds units.
pub trait Memory {
    /// Whether the unit is there; not a use.
    fn holds(&self, unit: u32) -> bool;

    /// Asks for a unit; whether it was there.
    fn get(&mut self, unit: u32) -> bool;

    /// Stores a unit that is not there.
    fn put(&mut self, unit: u32);

    /// Whether a unit that was found on disk should be stored.
    fn wants(&mut self, _unit: u32) -> bool {
        true
    }
}

/// How memory is divided.
#[derive(Debug, Clone, Copy, PartialEq)]
// The tests play the real thing only.
#[allow(dead_code)]
pub enum Shape {
    /// One list by recency.
    Recency,
    /// A window with this part of memory before a main list that admits by frequency.
    Window(f64, Newcomers),
    /// The real thing, of which newcomers have the part that this divides by.
    Queues(u64),
}

impl Shape {
    /// Memory of `limit` bytes.
    pub fn memory<'a>(self, workload: &'a Workload, limit: u64) -> Box<dyn Memory + 'a> {
        match self {
            Shape::Recency => Box::new(Window::new(workload, limit, 1.0, Newcomers::All)),
            Shape::Window(part, newcomers) => {
                Box::new(Window::new(workload, limit, part, newcomers))
            }
            Shape::Queues(newcomers) => Box::new(TwoQueues {
                workload,
                queues: Queues::new(limit, newcomers),
                units: vec![None; workload.unit_bytes.len()],
            }),
        }
    }
}

/// Memory alone.
#[allow(dead_code)]
pub struct Alone<'a>(pub Box<dyn Memory + 'a>);

impl Cache for Alone<'_> {
    fn ask(&mut self, unit: u32) -> bool {
        let is_hit = self.0.get(unit);
        if !is_hit {
            self.0.put(unit);
        }
        is_hit
    }

    fn written_bytes(&self) -> u64 {
        0
    }
}

#[derive(Clone)]
struct Held(Rc<Unit>);

struct Unit {
    number: u32,
    used: Used,
}

impl Resident for Held {
    fn hash(&self) -> u64 {
        spread(u64::from(self.0.number) + 1)
    }

    fn used(&self) -> &Used {
        &self.0.used
    }
}

struct TwoQueues<'a> {
    workload: &'a Workload,
    queues: Queues<Held>,
    units: Vec<Option<Held>>,
}

impl Memory for TwoQueues<'_> {
    fn holds(&self, unit: u32) -> bool {
        self.units[unit as usize].is_some()
    }

    fn get(&mut self, unit: u32) -> bool {
        let held = self.units[unit as usize].as_ref();
        if let Some(held) = held {
            match self.workload.is_block(unit) {
                true => held.used().note(self.queues.tick()),
                false => held.used().note_request(),
            }
        }
        held.is_some()
    }

    fn wants(&mut self, unit: u32) -> bool {
        let bytes = u64::from(self.workload.unit_bytes[unit as usize]);
        self.queues.wants(spread(u64::from(unit) + 1), bytes)
    }

    fn put(&mut self, unit: u32) {
        let held = Held(Rc::new(Unit {
            number: unit,
            used: Used::default(),
        }));
        let bytes = u64::from(self.workload.unit_bytes[unit as usize]);
        self.queues.insert(held.clone(), bytes);
        self.units[unit as usize] = Some(held);
        while let Some(gone) = self.queues.surplus() {
            self.units[gone.0.number as usize] = None;
        }
    }
}
