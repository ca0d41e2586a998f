//! Compares eviction policies over synthetic classes of CDN traffic.
//!
//! `cargo bench --bench policies` prints what `benches/README.md` holds, `-- --quick` does a hundredth
//! of it, `-- --class NAME` one class, and `-- --memory` how memory should be
//! divided. The same seed gives the same numbers on every machine.

mod anchors;
mod compare;
mod contest;
mod lists;
mod memory;
mod ours;
mod rivals;
mod shapes;
mod window;
mod workload;

use std::process::ExitCode;

use contest::{Contest, NAMES, SIZES};
use workload::{CLASSES, Class, Popularity, Workload};

const SEED: u64 = 7;

fn main() -> ExitCode {
    let (mut scale, mut only, mut is_about_memory) = (1.0, None, false);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            // Cargo adds it.
            "--bench" => {}
            "--quick" => scale = 0.01,
            "--class" => only = arguments.next(),
            "--memory" => is_about_memory = true,
            other => {
                eprintln!("{other}: unknown; there are --quick, --memory and --class NAME");
                return ExitCode::from(2);
            }
        }
    }
    println!("seed {SEED}, scale {scale}\n");
    if is_about_memory {
        shapes::print(scale, SEED);
        return ExitCode::SUCCESS;
    }
    print_anchors(scale);
    let classes = CLASSES
        .iter()
        .filter(|class| only.as_ref().is_none_or(|name| name == class.name));
    let summaries: Vec<_> = classes
        .map(|class| (class, print_class(class, scale)))
        .collect();
    if summaries.is_empty() {
        eprintln!("no such class");
        return ExitCode::from(2);
    }
    print_summary(&summaries);
    ExitCode::SUCCESS
}

fn print_anchors(scale: f64) {
    let workload = anchors::workload((5e6 * scale) as usize, SEED);
    println!(
        "| Zipf 1.0, size | LRU | W-TinyLFU | S3-FIFO | SIEVE | tinyufo, published | LRU, published |"
    );
    println!("|---|---|---|---|---|---|---|");
    for (size, tinyufo, lru) in anchors::PUBLISHED {
        let ratios = anchors::hit_ratios(&workload, size).map(|ratio| format!("{ratio:.2}"));
        let size = size * 100.0;
        println!("| {size} % | {} | {tinyufo} | {lru} |", ratios.join(" | "));
    }
}

/// Prints every cell of a class and returns them, by size and popularity.
fn print_class(class: &Class, scale: f64) -> Vec<[Contest; 3]> {
    println!(
        "\n### {}\n\nObject hits / byte hits in percent, bytes written for each that LRU wrote.\n",
        class.name
    );
    println!(
        "| popularity, size | {} | ours less the best |",
        NAMES.join(" | ")
    );
    println!("|---|{}", "---|".repeat(NAMES.len() + 1));
    let workloads = Popularity::ALL.map(|popularity| Workload::of(class, popularity, scale, SEED));
    SIZES
        .map(|size| {
            let mut number = 0;
            Popularity::ALL.map(|popularity| {
                let contest = Contest::hold(&workloads[number], size);
                number += 1;
                println!(
                    "| {}, {} % | {} |",
                    popularity.name(),
                    size * 100.0,
                    cells(&contest)
                );
                contest
            })
        })
        .to_vec()
}

fn cells(contest: &Contest) -> String {
    let mut cells: Vec<String> = (contest.outcomes.iter().enumerate())
        .map(|(at, outcome)| {
            let (objects, bytes) = (outcome.object_hits, outcome.byte_hits);
            format!(
                "{objects:.1} / {bytes:.1}, {:.2}",
                contest.written_share(at)
            )
        })
        .collect();
    cells.push(format!(
        "{:+.1} / {:+.1}",
        contest.object_lead(),
        contest.byte_lead()
    ));
    cells.join(" | ")
}

/// Prints the mean over popularities for each class and size, and over everything for each class.
fn print_summary(summaries: &[(&Class, Vec<[Contest; 3]>)]) {
    println!("\n### Means over the popularities\n");
    println!(
        "| class, size | {} | ours less the best |",
        NAMES.join(" | ")
    );
    println!("|---|{}", "---|".repeat(NAMES.len() + 1));
    for (class, sizes) in summaries {
        for (size, contests) in SIZES.iter().zip(sizes) {
            let mean = Contest::mean(contests);
            println!("| {}, {} % | {} |", class.name, size * 100.0, cells(&mean));
        }
    }
    println!("\n### Classes\n");
    println!(
        "Points that ours is ahead of the best policy: of the one that is best over the class, of the \
         best of each cell on average, and in the worst cell. Then what ours wrote.\n"
    );
    println!(
        "| class | objects: class | cells | worst | bytes: class | cells | worst | written: mean | most |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for (class, sizes) in summaries {
        let all: Vec<Contest> = sizes.iter().flatten().copied().collect();
        let over_class = Contest::mean(&all);
        let mean =
            |of: &dyn Fn(&Contest) -> f64| all.iter().map(of).sum::<f64>() / all.len() as f64;
        let most = |of: &dyn Fn(&Contest) -> f64| all.iter().map(of).fold(f64::MIN, f64::max);
        let written = |contest: &Contest| contest.written_share(NAMES.len() - 1);
        println!(
            "| {} | {:+.2} | {:+.2} | {:+.1} | {:+.2} | {:+.2} | {:+.1} | {:.2} | {:.2} |",
            class.name,
            over_class.object_lead(),
            mean(&Contest::object_lead),
            -most(&|contest| -contest.object_lead()),
            over_class.byte_lead(),
            mean(&Contest::byte_lead),
            -most(&|contest| -contest.byte_lead()),
            mean(&written),
            most(&written),
        );
    }
}
