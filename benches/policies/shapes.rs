//! How memory should be divided, with and without a disk tier behind it.

use tidegate::cache::memory::queues::{NEWCOMERS_ALONE, NEWCOMERS_BEFORE_DISK};

use super::compare::{Cache, Outcome, play};
use super::memory::{Alone, Shape};
use super::ours::Tiers;
use super::window::Newcomers;
use super::workload::{CLASSES, Popularity, Workload};

/// Sizes as parts of the catalogue's bytes: of memory alone, or of memory and disk together.
const SIZES: [f64; 3] = [0.005, 0.05, 0.25];

const SHAPES: [Shape; 9] = [
    Shape::Recency,
    Shape::Window(1.0 / 16.0, Newcomers::Blocks),
    Shape::Window(0.25, Newcomers::All),
    Shape::Window(0.75, Newcomers::All),
    Shape::Queues(20),
    Shape::Queues(NEWCOMERS_ALONE),
    Shape::Queues(4),
    Shape::Queues(NEWCOMERS_BEFORE_DISK),
    Shape::Queues(1),
];

/// Sums over the contests of a class, or of all.
#[derive(Clone, Copy, Default)]
struct Sums {
    contests: f64,
    alone: [f64; 2],
    tiers: [f64; 2],
    /// Units answered from memory when there is a disk tier, in percent of all that were asked for.
    from_memory: f64,
}

impl Sums {
    fn add(&mut self, alone: Outcome, tiers: Outcome, from_memory: f64) {
        self.contests += 1.0;
        for (sums, outcome) in [(&mut self.alone, alone), (&mut self.tiers, tiers)] {
            sums[0] += outcome.object_hits;
            sums[1] += outcome.byte_hits;
        }
        self.from_memory += from_memory;
    }

    fn cell(&self) -> String {
        let mean = |sum: f64| sum / self.contests.max(1.0);
        format!(
            "{:.2} / {:.2}; {:.2} / {:.2}, {:.1}",
            mean(self.alone[0]),
            mean(self.alone[1]),
            mean(self.tiers[0]),
            mean(self.tiers[1]),
            mean(self.from_memory),
        )
    }
}

struct Counted<'a> {
    tiers: Tiers<'a>,
    asked: u64,
    from_memory: u64,
}

impl Cache for Counted<'_> {
    fn ask(&mut self, unit: u32) -> bool {
        self.asked += 1;
        self.from_memory += u64::from(self.tiers.memory.holds(unit));
        self.tiers.ask(unit)
    }

    fn written_bytes(&self) -> u64 {
        self.tiers.written_bytes()
    }
}

/// Prints the table.
pub fn print(scale: f64, seed: u64) {
    println!(
        "\n### Memory\n\nObject hits / byte hits in percent: of memory alone; of memory and disk, and \
         what memory answered of that.\n"
    );
    let names: Vec<&str> = CLASSES.iter().map(|class| class.name).collect();
    println!("| memory | {} | all |", names.join(" | "));
    println!("|---|{}", "---|".repeat(CLASSES.len() + 1));
    let mut rows = [[Sums::default(); CLASSES.len() + 1]; SHAPES.len()];
    for (column, class) in CLASSES.iter().enumerate() {
        for popularity in Popularity::ALL {
            let workload = Workload::of(class, popularity, scale, seed);
            for (row, shape) in rows.iter_mut().zip(SHAPES) {
                for size in SIZES {
                    let limit = (workload.catalogue_bytes as f64 * size) as u64;
                    let alone = play(&workload, &mut Alone(shape.memory(&workload, limit)));
                    let mut counted = Counted {
                        tiers: Tiers::with_memory(&workload, limit, shape),
                        asked: 0,
                        from_memory: 0,
                    };
                    let tiers = play(&workload, &mut counted);
                    let part = 100.0 * counted.from_memory as f64 / counted.asked.max(1) as f64;
                    row[column].add(alone, tiers, part);
                    row[CLASSES.len()].add(alone, tiers, part);
                }
            }
        }
    }
    for (row, shape) in rows.iter().zip(SHAPES) {
        let cells: Vec<String> = row.iter().map(Sums::cell).collect();
        println!("| {shape:?} | {} |", cells.join(" | "));
    }
}
