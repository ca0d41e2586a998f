//! The engine under a seed: clients, origin, time, invalidations and losses in every order that a
//! seed can think of, and after each run a look at what everybody has seen.
//!
//! Everything runs on one thread and is decided by the seed, so a seed that fails fails again:
//! `SIMULATION_SEED=n cargo test --lib simulation` replays it and prints what happened.
//! `SIMULATION_SEEDS=n` runs that many.

mod clients;

mod engine;
mod executor;
mod ledger;
mod origin;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::cache::dice::Dice;
use clients::Wish;
use engine::Engine;
use executor::{Executor, Halt, Party, Spawner};
use ledger::Ledger;
use origin::{SeededOrigin, VARIANTS};

use super::policy::blocks::Blocks;
use super::purge::PurgeLog;
use super::sizes::Sizes;
use super::{Cache, Places};
use crate::clock::ManualClock;
use crate::config::{self, CacheRules};
use crate::observe::Metrics;

/// Blocks of 64 bytes.
const BLOCK_SHIFT: u32 = 6;

const SIZES: Sizes = Sizes {
    blocks: Blocks::of_two_to_the(BLOCK_SHIFT),
    lead_bytes: 200,
    retained_bytes: 400,
    finish_anyway_bytes: 150,
    windows_share: 2,
};

/// What the memory tier may hold. Losses come from the seed: what is evicted depends on hashes that differ from run to
/// run.
const MEMORY_BYTES: u64 = 64 << 20;

/// With this much in all windows together one fill is enough to fill them.
const FULL_WINDOWS_BYTES: u64 = 100;

/// Seeds of an ordinary test run.
const SEEDS: u64 = 2_000;

thread_local! {
    /// Made once: the counters of one seed are of no use to it.
    static METRICS: Arc<Metrics> = Metrics::new();
}

/// What came of a seed.
struct Outcome {
    violations: Vec<String>,
    trace: Vec<String>,
    counts: BTreeMap<&'static str, u64>,
}

fn simulate(seed: u64, traced: bool) -> Outcome {
    let mut dice = Dice::new(seed);
    let clock = ManualClock::at(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000));
    let rules = CacheRules {
        grace: Duration::from_secs(dice.pick(&[0, 0, 4])),
        stale_while_revalidate: Duration::from_secs(dice.pick(&[0, 0, 2])),
        ttl_jitter_percent: 0,
        ..CacheRules::default()
    };
    let grace = rules.grace.max(rules.stale_while_revalidate);
    let ledger = Ledger::new(clock.clone(), grace, traced);
    let mut executor = Executor::new(dice.fork());
    let config = config::Cache {
        memory_bytes: MEMORY_BYTES,
        disk: None,
        default_ttl: Duration::from_secs(60),
    };
    let sizes = Sizes {
        windows_share: dice.pick(&[SIZES.windows_share, MEMORY_BYTES / FULL_WINDOWS_BYTES]),
        ..SIZES
    };
    let tasks = Box::new(Spawner(executor.inbox.clone()));
    let purges = Arc::new(PurgeLog::in_memory());
    let metrics = METRICS.with(|metrics| metrics.purges());
    let cache = Cache::with(
        &config,
        clock,
        purges,
        metrics,
        Places::none(),
        sizes,
        tasks,
    );
    let left = Arc::downgrade(&cache);
    let calm = dice.chance(10);
    let fault_percent = if calm { 0 } else { dice.pick(&[0, 10, 40]) };
    let origin = SeededOrigin::new(dice.fork(), fault_percent, ledger.clone(), SIZES);
    let origin = Arc::new(origin);
    let engine = Arc::new(Engine {
        cache,
        origin: origin.clone(),
        ledger: ledger.clone(),
        rules: Arc::new(rules),
    });
    let urls = origin.resources();
    let clients = 1 + dice.below(8) as usize;
    for number in 0..clients {
        let wishes = (0..1 + dice.below(3))
            .map(|_| Wish::draw(&mut dice, urls, |url| origin.longest(url), calm))
            .collect();
        let client = clients::client(engine.clone(), wishes);
        executor.spawn(Party::Client(number), Box::pin(client));
    }
    if !calm {
        executor.kills_per_myriad = dice.pick(&[0, 0, 0, 50]);
        // To those who wait it looks like a fault of the origin's.
        ledger.lock().faults = executor.kills_per_myriad;
        let nature = clients::nature(engine.clone(), dice.fork(), dice.pick(&[0, 2, 6, 15]));
        executor.spawn(Party::Nature, Box::pin(nature));
    }
    if run(&mut executor, &ledger) {
        if calm {
            judge_calm(&ledger);
        }
        // The storm is over: whoever asks now gets what they want.
        origin.stop_faults();
        executor.kills_per_myriad = 0;
        probe(&engine, &mut executor);
        for url in 0..urls {
            for variant in 0..VARIANTS.len() {
                engine.audit(url, variant, executor.kills > 0);
            }
        }
    }
    ledger.lock().counts.insert("steps", executor.steps);
    drop((engine, executor));
    if left.strong_count() != 0 {
        ledger.violation("nothing-is-leaked: somebody still holds the cache".to_owned());
    }
    let counts = std::mem::take(&mut ledger.lock().counts);
    let (violations, trace) = ledger.finish();
    Outcome {
        violations,
        trace,
        counts,
    }
}

/// Runs until everybody is done; a halt is a violation.
fn run(executor: &mut Executor, ledger: &Arc<Ledger>) -> bool {
    let halted = executor.run(|number, party| ledger.trace(|| format!("-- {party:?} ({number})")));
    match halted {
        Ok(()) => true,
        Err(Halt::Stuck(left)) => {
            ledger.violation(format!("everybody-ends: stuck: {left:?}"));
            false
        }
        Err(Halt::Endless) => {
            ledger.violation("everybody-ends: it goes on and on".to_owned());
            false
        }
    }
}

/// Where nothing fails, changes or is lost, one head is asked for, however many want it.
fn judge_calm(ledger: &Arc<Ledger>) {
    let state = ledger.lock();
    let doubled: Vec<_> = state
        .heads_asked
        .iter()
        .filter(|(url, asked)| **asked > 1 && !state.unsteady.contains(url))
        .map(|(url, asked)| format!("one-fill-per-key: /{url} was asked for {asked} times"))
        .collect();
    drop(state);
    for violation in doubled {
        ledger.violation(violation);
    }
}

/// A patient client for everything there is, of an origin that behaves.
fn probe(engine: &Arc<Engine>, executor: &mut Executor) {
    let ledger = &engine.ledger;
    for url in 0..engine.origin.resources() {
        for variant in 0..VARIANTS.len() {
            let ended = |what| ledger.lock().counts.get(what).copied().unwrap_or(0);
            // A stored response that lacks a block and has changed at the origin cannot be
            // completed. It is forgotten then, and whoever asks again gets the new one.
            let wishes = [(); 2].map(|()| Wish::of_all(url, variant)).to_vec();
            let before = ended("whole") + ended("passed");
            let changed = ended("changed");
            let client = clients::client(engine.clone(), wishes);
            executor.spawn(Party::Client(usize::MAX), Box::pin(client));
            if !run(executor, ledger) {
                return;
            }
            let changed = (ended("changed") - changed).min(1);
            if ended("whole") + ended("passed") + changed != before + 2 {
                ledger.violation(format!("the-origin-can-still-answer: /{url} is not served"));
            }
        }
    }
}

/// Runs a seed; a panic of the engine is a violation too.
fn judged(seed: u64, traced: bool) -> Outcome {
    catch_unwind(AssertUnwindSafe(|| simulate(seed, traced))).unwrap_or_else(|_| Outcome {
        violations: vec!["panicked (see above)".to_owned()],
        trace: Vec::new(),
        counts: BTreeMap::new(),
    })
}

fn number_of(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    Some(value.parse().expect("a seed is a number"))
}

fn report(seed: u64, violations: &[String]) -> String {
    format!("SIMULATION_SEED={seed}: {}", violations.join("; "))
}

#[test]
fn no_seed_breaks_a_rule() {
    if let Some(seed) = number_of("SIMULATION_SEED") {
        let outcome = judged(seed, true);
        println!("{}", outcome.trace.join("\n"));
        assert!(
            outcome.violations.is_empty(),
            "{}",
            report(seed, &outcome.violations)
        );
        return;
    }
    let seeds = number_of("SIMULATION_SEEDS").unwrap_or(SEEDS);
    let first = number_of("SIMULATION_FIRST").unwrap_or(0);
    let mut counts = BTreeMap::<_, u64>::new();
    let mut failed = Vec::new();
    for seed in first..first + seeds {
        let outcome = judged(seed, false);
        for (what, count) in outcome.counts {
            *counts.entry(what).or_default() += count;
        }
        if !outcome.violations.is_empty() {
            failed.push(report(seed, &outcome.violations));
        }
    }
    println!("{seeds} seeds: {counts:?}");
    let shown = failed
        .iter()
        .take(20)
        .cloned()
        .collect::<Vec<_>>()
        .join("\n");
    assert!(
        failed.is_empty(),
        "{} seeds of {seeds} failed:\n{shown}",
        failed.len()
    );
}

#[test]
fn a_seed_replays_step_by_step() {
    for seed in 0..50 {
        let (first, second) = (judged(seed, true), judged(seed, true));
        assert!(first.trace.len() > 10);
        assert_eq!(first.trace, second.trace, "seed {seed}");
    }
}
