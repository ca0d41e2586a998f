//! The store is killed at every step of its writing path, again and again, while clients write and lifecycle rules move what
//! was written to a cold disk: what it acknowledged is
//! there byte for byte, what it did not is there whole or not at all, every byte on disk is named or declared garbage, and
//! no garbage stays.
//!
//! A step is a system call on a kind of file: strace(1) kills the process before the n-th of them. Where that cannot be
//! had, the test says so and kills at any moment instead.
//!
//! `STORE_KILLS` says how often (25: once at each step); `STORE_SEED` repeats a run.

mod origin_support;

use std::collections::BTreeMap;
use std::sync::mpsc::channel;
use std::time::Instant;

use origin_support::Dice;
use origin_support::accounts::{account, empty, in_parallel};
use origin_support::load::{self, Trouble, Writer};
use origin_support::machine::{File, Machine, Running};
use origin_support::strace::{self, Effect, Injection};

const WRITERS: u64 = 4;
/// About the most answers that one process gives.
const ANSWERS_MAX: u64 = 60;
/// Kills between two looks at every byte on disk, and between two times that everything is deleted.
const ACCOUNTS_EVERY: u64 = 10;
const EMPTY_EVERY: u64 = 100;

/// A system call of the writing path.
struct Step {
    call: &'static str,
    file: File,
    /// The most of them that one thread comes to make before a process has given so many answers.
    most: u64,
    /// Whether it wants objects so long that they are synced on their way.
    is_long: bool,
}

const fn step(call: &'static str, file: File, most: u64) -> Step {
    Step {
        call,
        file,
        most,
        is_long: false,
    }
}

const fn long_step(call: &'static str, file: File, most: u64) -> Step {
    Step {
        is_long: true,
        ..step(call, file, most)
    }
}

const STEPS: [Step; 25] = [
    // A long upload is synced after each 16 MiB, and goes on.
    long_step("fdatasync", File::Upload, 1),
    long_step("write", File::Upload, 100),
    long_step("fsync", File::Upload, 2),
    // An upload gets a file, bytes, and its name.
    step("openat", File::Upload, 4),
    step("write", File::Upload, 20),
    step("fsync", File::Upload, 3),
    step("rename", File::Any, 3),
    step("fsync", File::BlobFolder, 3),
    // Or a record in a pack.
    step("mkdir", File::PackFolder, 1),
    step("openat", File::Pack, 1),
    step("fsync", File::PackFolder, 1),
    step("pwritev", File::Any, 12),
    step("fdatasync", File::Any, 12),
    // Its row is committed.
    step("pwrite64", File::Log, 400),
    step("fsync", File::Log, 40),
    step("pwrite64", File::Metadata, 500),
    step("pwrite64", File::Database, 60),
    step("fsync", File::Database, 3),
    step("ftruncate", File::Any, 3),
    // It is answered.
    step("writev", File::Any, 40),
    // What it released goes.
    step("unlink", File::Any, 3),
    step("rmdir", File::Any, 3),
    // A start does all this, too, and prepares the folders.
    step("mkdir", File::Any, 260),
    step("fsync", File::Any, 60),
    step("openat", File::Metadata, 6),
];

/// What is written to the terminal: kills by where they struck.
#[derive(Default)]
struct Table(BTreeMap<String, u64>);

impl Table {
    fn count(&mut self, place: String) {
        *self.0.entry(place).or_default() += 1;
    }

    fn print(&self) {
        for (place, kills) in &self.0 {
            println!("{kills:>6}  {place}");
        }
    }
}

#[test]
fn what_was_acknowledged_survives_every_kill_and_no_garbage_stays() {
    let number =
        |name, default: u64| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let kills = number("STORE_KILLS", STEPS.len() as u64);
    let seed = number("STORE_SEED", u64::from(std::process::id()));
    println!("STORE_SEED={seed}");
    let traced = strace::usable();
    if let Err(reason) = &traced {
        println!("kills come at any moment, because no process may be traced here: {reason}");
    }
    let mut machine = Machine::with_cold();
    let mut dice = Dice(seed);
    let mut writers = Writer::all(WRITERS, seed);
    for writer in &mut writers {
        writer.moves_to_cold();
    }
    let mut table = Table::default();
    let mut acknowledged = 0;
    let began = Instant::now();
    let store = machine.start();
    load::prepare(store.address);
    load::move_to_cold(store.address);
    store.kill();
    store.ended();
    for kill in 1..=kills {
        let step = traced.is_ok().then(|| {
            // All of them in turn, and the moment of each by chance.
            let step = &STEPS[(kill % STEPS.len() as u64) as usize];
            let most = match dice.roll(2) {
                0 => step.most,
                _ => step.most.div_ceil(8),
            };
            (step, 1 + dice.roll(most))
        });
        let answers = match step {
            // The database itself is written when there is enough in its log.
            Some((step, _)) if step.file == File::Database => 4 * ANSWERS_MAX,
            _ => ANSWERS_MAX / 4 + dice.roll(ANSWERS_MAX),
        };
        let is_long = step.is_some_and(|(step, _)| step.is_long);
        writers
            .iter_mut()
            .for_each(|writer| writer.set_long(is_long));
        let (place, answered) = kill_once(&mut machine, &mut writers, step, answers);
        table.count(place);
        acknowledged += answered;
        if kill % ACCOUNTS_EVERY == 0 || kill == kills {
            account(&mut machine, &mut writers);
        }
        if kill % EMPTY_EVERY == 0 || kill == kills {
            empty(&mut machine, &mut writers);
        }
    }
    table.print();
    println!(
        "{kills} kills, {acknowledged} acknowledged changes, {:?}",
        began.elapsed()
    );
}

/// Starts the store, looks whether everything is there, and lets clients write until it is killed: before a call, or
/// when it has given so many answers. Tells where it was, and how many answers there were.
fn kill_once(
    machine: &mut Machine,
    writers: &mut [Writer],
    step: Option<(&Step, u64)>,
    answers: u64,
) -> (String, u64) {
    let at_any_moment = "at any moment".to_owned();
    let Some((step, which)) = step else {
        let store = machine.start();
        let (_, answered) = write_until_killed(store, writers, answers);
        return (at_any_moment, answered);
    };
    let injection = Injection {
        calls: step.call,
        paths: &machine.paths(step.file),
        when: &which.to_string(),
        effect: Effect::Kill,
    };
    let (is_struck, answered) = match machine.start_with(&injection) {
        Ok(store) => write_until_killed(store, writers, answers),
        Err(ended) => {
            assert!(ended.is_killed(), "{}: {}", ended.status, ended.log);
            (true, 0)
        }
    };
    let place = match strace::last_call(&machine.calls()) {
        Some((call, file)) if is_struck => format!("before {call} of {file}"),
        _ => at_any_moment,
    };
    (place, answered)
}

/// Gives back whether somebody else killed it first, and the answers.
fn write_until_killed(store: Running, writers: &mut [Writer], answers: u64) -> (bool, u64) {
    let (address, admin) = (store.address, store.admin);
    if in_parallel(writers, |writer| writer.settle(address)).is_err() {
        store.ended();
        return (true, 0);
    }
    let (tell, told) = channel();
    let (mut answered, mut is_killed) = (0, false);
    std::thread::scope(|scope| {
        for writer in writers {
            let tell = tell.clone();
            scope.spawn(move || {
                loop {
                    match writer.turn(address, admin) {
                        Ok(_) => tell.send(()).unwrap(),
                        Err(Trouble::Gone) => break,
                        Err(trouble) => panic!("{trouble:?}"),
                    }
                }
            });
        }
        drop(tell);
        // Until they are all gone.
        for () in told {
            answered += 1;
            if answered == answers {
                store.kill();
                is_killed = true;
            }
        }
    });
    store.ended();
    (!is_killed, answered)
}
