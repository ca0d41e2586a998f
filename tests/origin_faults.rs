//! System calls of the store fail under it, SQLite's as well: no write that it acknowledged is lost, none is acknowledged
//! behind a failure that may have lost one, clients get a clear error, and when there is room again writes are taken again.
//!
//! strace(1) makes the n-th call of a kind on a kind of file fail. Where that cannot be had, the test says so and does
//! nothing; `origin_durability.rs` and `origin_blobs.rs` fail what goes through the store's own trait everywhere.
//!
//! `STORE_FAULTS` says how many (4; the seed chooses with which kind it begins), `STORE_FAULT` that all are of one kind, by
//! its place in the list; `STORE_SEED` repeats a run.

mod origin_support;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use origin_support::Dice;
use origin_support::accounts::{account, empty, in_parallel};
use origin_support::load::{self, Trouble, Writer};
use origin_support::machine::{File, Machine, Running};
use origin_support::strace::{self, Effect, Injection};

const WRITERS: u64 = 3;
/// Changes that each client makes while a call may fail.
const TURNS: u64 = 20;
/// Changes in a row that show that writes are taken again, and how many attempts that may take.
const GOOD_TURNS: u64 = 10;
const ATTEMPTS_MAX: u64 = 400;
/// The most calls in a row that fail for want of room.
const FULL_MOST: u64 = 6;
/// Faults between two looks at every byte on disk, and between two times that everything is deleted.
const ACCOUNTS_EVERY: u64 = 10;
const EMPTY_EVERY: u64 = 100;

/// What a fault means for the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    /// Something may be lost: until it is opened again it takes no writes.
    Fatal,
    /// There is no room. It costs the writes that needed it, until there is some.
    Full,
    /// What could not be done is done later.
    Harmless,
}

use Meaning::{Fatal, Full, Harmless};

struct Kind {
    calls: &'static str,
    file: File,
    error: &'static str,
    /// The first that fails is at most this one of its thread.
    most: u64,
    meaning: Meaning,
    /// Whether it wants objects so long that they are synced on their way.
    is_long: bool,
}

const fn kind(
    calls: &'static str,
    file: File,
    error: &'static str,
    most: u64,
    meaning: Meaning,
) -> Kind {
    Kind {
        calls,
        file,
        error,
        most,
        meaning,
        is_long: false,
    }
}

impl Kind {
    /// The same, under a load of long objects.
    const fn long(self) -> Self {
        Kind {
            is_long: true,
            ..self
        }
    }
}

const KINDS: [Kind; 21] = [
    kind("fsync", File::Log, "EIO", 40, Fatal),
    kind("pwrite64", File::Log, "EIO", 400, Fatal),
    kind("fsync", File::Database, "EIO", 1, Fatal),
    kind("pwrite64", File::Database, "EIO", 4, Fatal),
    kind("fdatasync", File::Pack, "EIO", 12, Fatal),
    kind("pwritev", File::Pack, "EIO", 12, Fatal),
    kind("fsync", File::PackFolder, "EIO", 1, Fatal),
    kind("fsync", File::Upload, "EIO", 3, Fatal),
    kind("write", File::Upload, "EIO", 12, Fatal),
    kind("rename", File::Any, "EIO", 3, Fatal),
    kind("fsync", File::BlobFolder, "EIO", 3, Fatal),
    kind("openat", File::Upload, "EIO", 3, Fatal),
    kind("fdatasync", File::Upload, "EIO", 1, Fatal).long(),
    // A sync that has no room has dropped what it should have kept.
    kind("fdatasync", File::Pack, "ENOSPC", 12, Fatal),
    kind("unlink", File::Any, "EIO", 2, Harmless),
    kind("pwrite64", File::Log, "ENOSPC", 400, Full),
    kind("pwrite64", File::Database, "ENOSPC", 4, Full),
    kind("pwritev", File::Pack, "ENOSPC", 12, Full),
    kind("write,openat", File::Upload, "ENOSPC", 12, Full),
    // What it has dropped is of this upload alone, which fails with it.
    kind("fdatasync", File::Upload, "ENOSPC", 1, Full).long(),
    // Not `openat`: a database that is there is opened on a full disk too, and is by those who read.
    kind(
        "pwrite64,pwritev,write,mkdir",
        File::All,
        "ENOSPC",
        30,
        Full,
    ),
];

#[test]
fn no_acknowledged_write_is_lost_to_a_failing_disk_and_a_full_one_is_used_again() {
    if let Err(reason) = strace::usable() {
        println!("nothing was tried, because no process may be traced here: {reason}");
        return;
    }
    let number = |name, default| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let faults = number("STORE_FAULTS", 4);
    let seed = number("STORE_SEED", u64::from(std::process::id()));
    println!("STORE_SEED={seed}");
    let mut machine = Machine::new();
    let mut dice = Dice(seed);
    let mut writers = Writer::all(WRITERS, seed);
    let mut table: BTreeMap<String, u64> = BTreeMap::new();
    let began = Instant::now();
    let store = machine.start();
    load::prepare(store.address);
    store.stop();
    let only = std::env::var("STORE_FAULT").map(|text| text.parse::<usize>().unwrap());
    for fault in 0..faults {
        let next = (seed + fault) as usize;
        let kind = &KINDS[only.as_ref().map_or(next, |only| *only) % KINDS.len()];
        let which = 1 + dice.roll(kind.most);
        let when = match kind.meaning {
            Full => format!("{which}..{}", which + dice.roll(FULL_MOST)),
            Fatal | Harmless => which.to_string(),
        };
        let place = fail_once(&mut machine, &mut writers, kind, &when);
        *table.entry(place).or_default() += 1;
        if (fault + 1) % ACCOUNTS_EVERY == 0 {
            account(&mut machine, &mut writers);
        }
        if (fault + 1) % EMPTY_EVERY == 0 {
            empty(&mut machine, &mut writers);
        }
    }
    account(&mut machine, &mut writers);
    empty(&mut machine, &mut writers);
    for (place, count) in table {
        println!("{count:>6}  {place}");
    }
    println!("{faults} faults, {:?}", began.elapsed());
}

/// Runs the store with a fault under it. Tells where that struck first.
fn fail_once(machine: &mut Machine, writers: &mut [Writer], kind: &Kind, when: &str) -> String {
    let injection = Injection {
        calls: kind.calls,
        paths: &machine.paths(kind.file),
        when,
        effect: Effect::Fail(kind.error),
    };
    let calls = machine.calls();
    let struck = || strace::failed_calls(&calls).into_iter().next();
    let place = || {
        struck().map_or_else(
            || "not reached".to_owned(),
            |(call, file)| format!("{} of {call} of {file}", kind.error),
        )
    };
    let turns = match kind.file {
        // It is written when there is enough in its log.
        File::Database => 5 * TURNS,
        _ => TURNS,
    };
    writers
        .iter_mut()
        .for_each(|writer| writer.set_long(kind.is_long));
    match machine.start_with(&injection) {
        // It says so and does not start, which is what an operator needs to know.
        Err(ended) => {
            assert_eq!(ended.status.code(), Some(1), "{}", ended.log);
            assert!(struck().is_some(), "{}", ended.log);
        }
        Ok(store) => {
            // The last fault and its kill have lost nothing.
            in_parallel(writers, |writer| writer.settle(store.address)).unwrap();
            match kind.meaning {
                Fatal => refuses_from_the_first_failure_on(&store, writers, turns),
                Full => takes_writes_again(&store, writers, turns),
                Harmless => succeeds(&store, writers, turns),
            }
            let mut put_all_sizes = || writers[0].put_all_sizes(store.address);
            match kind.meaning {
                Fatal if struck().is_some() => {
                    let refused = |outcome| outcome == Err(Trouble::Refused);
                    let all = put_all_sizes().into_iter().all(refused);
                    assert!(all, "{}: {}", place(), store.log());
                }
                Fatal => {}
                // Other threads may come to calls that have no room yet.
                Full | Harmless => {
                    let are_taken = |_| put_all_sizes().iter().all(Result::is_ok);
                    let taken = (0..ATTEMPTS_MAX).any(are_taken);
                    assert!(taken, "{}: {}", place(), store.log());
                }
            }
            // What is there is read whatever has failed.
            in_parallel(writers, |writer| writer.check(store.address)).unwrap();
            store.kill();
            store.ended();
        }
    }
    if kind.meaning == Full {
        // Whatever did not fit left nothing.
        let seen = machine.verify();
        assert_eq!(seen.left_files, 0, "{}: {seen:?}", place());
    }
    place()
}

/// So many changes of each client, all of which are acknowledged.
fn succeeds(store: &Running, writers: &mut [Writer], turns: u64) {
    in_parallel(writers, |writer| {
        (0..turns).try_for_each(|_| writer.turn(store.address, store.admin).map(|_| ()))
    })
    .unwrap_or_else(|trouble| panic!("{trouble:?}: {}", store.log()));
}

/// `no-success-behind-a-failure`: what begins after some client was told of a failure is refused.
fn refuses_from_the_first_failure_on(store: &Running, writers: &mut [Writer], turns: u64) {
    let has_failed = AtomicBool::new(false);
    in_parallel(writers, |writer| {
        for _ in 0..turns {
            let is_late = has_failed.load(Ordering::SeqCst);
            match writer.turn(store.address, store.admin) {
                Ok(is_change) => {
                    assert!(!is_change || !is_late, "a late success: {}", store.log());
                }
                Err(Trouble::Failed | Trouble::Refused) => has_failed.store(true, Ordering::SeqCst),
                Err(Trouble::Gone) => return Err(Trouble::Gone),
            }
        }
        Ok(())
    })
    .unwrap();
}

/// Nothing but what needed room is refused, and that is over when there is room.
fn takes_writes_again(store: &Running, writers: &mut [Writer], turns: u64) {
    in_parallel(writers, |writer| {
        let (mut turn, mut good) = (0, 0);
        while turn < turns || good < GOOD_TURNS {
            assert!(turn < ATTEMPTS_MAX, "no writes any more: {}", store.log());
            turn += 1;
            match writer.turn(store.address, store.admin) {
                Ok(_) => good += 1,
                Err(Trouble::Refused) => good = 0,
                Err(trouble) => panic!("{trouble:?}: {}", store.log()),
            }
        }
        Ok(())
    })
    .unwrap();
}
