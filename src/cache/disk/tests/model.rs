//! Random puts, erasures, crashes and faults; after each step what is found is compared with what was
//! written. `DISK_MODEL_STEPS=n` takes that many steps; `DISK_MODEL_SEED=n` replays one seed.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::paper_folder::PaperFolder;
use crate::cache::dice::Dice;
use crate::cache::disk::erasures::Erasures;
use crate::cache::disk::format::Kind;
use crate::cache::disk::identity::Identity;
use crate::cache::disk::log::{Log, LogSizes, OpenFault, Record};
use crate::cache::disk::policy::Policy;
use crate::cache::disk::shelf::Found;

const STEPS: u64 = 60_000;
const STEPS_PER_SEED: u64 = 400;
const KEYS: u64 = 24;

/// What may happen to the folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum World {
    /// Plenty of room, no faults, and a process that dies now and then: nothing may be lost.
    Safe,
    /// Little room, faults, and power cuts: entries may be lost, but nothing wrong may be found.
    Harsh,
}

struct Written {
    generation: u64,
    number: u64,
    head: Bytes,
    body: Bytes,
}

struct Model {
    world: World,
    dice: Dice,
    folder: PaperFolder,
    sizes: LogSizes,
    identity: Identity,
    log: Log,
    erasures: Arc<Erasures>,
    /// All that was ever handed over under a hash.
    written: BTreeMap<u64, Vec<Written>>,
    /// The generation up to which a hash was erased, as far as the log can know.
    erased: BTreeMap<u64, u64>,
    /// The newest response under a hash, when nothing may have lost it.
    expected: BTreeMap<u64, u64>,
    generation: u64,
    lost: u64,
}

fn open(
    folder: &PaperFolder,
    identity: &Identity,
    sizes: LogSizes,
    erasures: &Arc<Erasures>,
) -> Result<Log, OpenFault> {
    let policy = Arc::new(Policy::new(sizes.limit_bytes, sizes.segment_bytes));
    let folder = Arc::new(folder.clone());
    Log::open(folder, identity, sizes, policy, erasures.clone())
}

impl Model {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let world = dice.pick(&[World::Safe, World::Harsh]);
        let sizes = LogSizes {
            segment_bytes: 4096,
            limit_bytes: match world {
                World::Safe => 4096 * 3000,
                World::Harsh => 4096 * 8 + dice.below(4096),
            },
        };
        let folder = PaperFolder::new(dice.next());
        let identity = Identity::new([3; 32]);
        let erasures = Arc::new(Erasures::default());
        let log = open(&folder, &identity, sizes, &erasures).unwrap();
        Model {
            world,
            dice,
            folder,
            sizes,
            identity,
            log,
            erasures,
            written: BTreeMap::new(),
            erased: BTreeMap::new(),
            expected: BTreeMap::new(),
            generation: 1,
            lost: 0,
        }
    }

    fn step(&mut self) {
        match self.dice.below(100) {
            0..45 => self.put(),
            45..60 => self.erase(),
            60..90 => self.get(),
            90..96 => self.log.recover_segment(),
            96..98 => self.stop(),
            _ => self.fault(),
        }
        assert!(
            self.folder.peak_bytes() <= self.sizes.limit_bytes,
            "over the limit"
        );
    }

    /// One of a few, spread as keyed hashes are. Blocks and responses share none.
    fn hash(&mut self, is_block: bool) -> u64 {
        Dice::new(self.dice.below(KEYS) << 1 | u64::from(is_block)).next()
    }

    fn record(&mut self) -> Record {
        self.generation += 1;
        let kind = self
            .dice
            .pick(&[Kind::Response, Kind::Variant, Kind::Update, Kind::Block]);
        let bytes = |dice: &mut Dice, limit| {
            let length = dice.below(limit);
            (0..length).map(|_| dice.next() as u8).collect::<Bytes>()
        };
        let limit = self.dice.pick(&[2, 70, 900]);
        Record {
            kind,
            hash: self.hash(kind == Kind::Block),
            generation: self.generation,
            number: self.dice.below(3),
            head: bytes(&mut self.dice, limit),
            body: bytes(&mut self.dice, limit),
            place: 7,
        }
    }

    fn put(&mut self) {
        let count = self.dice.pick(&[1, 1, 2, 12]);
        let records: Vec<Record> = (0..count).map(|_| self.record()).collect();
        for record in &records {
            self.written.entry(record.hash).or_default().push(Written {
                generation: record.generation,
                number: record.number,
                head: record.head.clone(),
                body: record.body.clone(),
            });
        }
        let outcome = self.log.append(&records);
        for record in records {
            match &outcome {
                Ok(0) => {
                    self.expected.insert(record.hash, record.generation);
                }
                Ok(too_long) => panic!("{too_long} records were too long"),
                Err(fault) => {
                    assert_eq!(self.world, World::Harsh, "{fault}");
                    self.expected.remove(&record.hash);
                }
            }
        }
    }

    fn erase(&mut self) {
        let hash = self.hash(false);
        let generation = self.generation;
        let shelf = self.log.shelf().clone();
        self.erasures.erase(hash, generation, || {
            shelf.index.remove_all(hash);
        });
        self.expected.remove(&hash);
        let record = Record::erasure(hash, generation);
        match self.log.append(&[record]) {
            Ok(_) => {
                self.erased.insert(hash, generation);
            }
            Err(fault) => assert_eq!(self.world, World::Harsh, "{fault}"),
        }
        assert!(
            self.found(hash).is_empty(),
            "found right after it was erased"
        );
    }

    fn found(&self, hash: u64) -> Vec<Found> {
        let shelf = self.log.shelf();
        let locations = shelf.index.find(hash);
        let read = |location| {
            let found = shelf.read(hash, location).ok();
            shelf.index.note_hit(hash, location);
            found
        };
        locations.into_iter().filter_map(read).collect()
    }

    fn get(&mut self) {
        let is_block = self.dice.chance(40);
        let hash = self.hash(is_block);
        self.check(hash);
    }

    fn check(&mut self, hash: u64) {
        let found = self.found(hash);
        for found in &found {
            let all = self.written.get(&hash).into_iter().flatten();
            let is_as_written = |written: &Written| {
                written.generation == found.generation
                    && written.number == found.number
                    && written.head == found.head
                    && written.body == found.body
            };
            assert!(
                all.into_iter().any(is_as_written),
                "a wrong byte under {hash:x}"
            );
            let erased = self.erased.get(&hash).copied().unwrap_or(0);
            assert!(
                found.kind == Kind::Block || found.generation > erased,
                "{hash:x}: generation {} is back, erased up to {erased}",
                found.generation
            );
        }
        let Some(expected) = self.expected.get(&hash) else {
            return;
        };
        if self.log.is_recovering() {
            return;
        }
        if !found.iter().any(|found| found.generation == *expected) {
            assert_eq!(
                self.world,
                World::Harsh,
                "{hash:x}: generation {expected} is lost"
            );
            self.lost += 1;
            self.expected.remove(&hash);
        }
    }

    /// The process ends, in one way or another, and starts again.
    fn stop(&mut self) {
        match self.dice.below(3) {
            0 if self.world == World::Harsh => {
                self.folder.lose_power();
                // What was erased a moment ago may be back: it is not synced.
                self.erased.clear();
            }
            1 => {
                let closed = self.log.close();
                assert!(self.world == World::Harsh || closed.is_ok());
            }
            _ => {}
        }
        self.folder.mend();
        self.erasures = Arc::default();
        self.log = open(&self.folder, &self.identity, self.sizes, &self.erasures).unwrap();
        if self.dice.chance(80) {
            self.recover();
            for hash in self.written.keys().copied().collect::<Vec<_>>() {
                self.check(hash);
            }
        }
    }

    fn recover(&mut self) {
        while self.log.is_recovering() {
            self.log.recover_segment();
        }
    }

    fn fault(&mut self) {
        if self.world == World::Harsh {
            let nth = 1 + self.dice.below(30);
            let stays_broken = self.dice.chance(30);
            self.folder.fail_in(nth, stays_broken);
            for _ in 0..self.dice.below(20) {
                match self.dice.below(4) {
                    0 => self.erase(),
                    _ => self.put(),
                }
            }
            self.folder.mend();
        }
    }
}

#[test]
fn whatever_happens_to_the_folder_nothing_wrong_is_found_and_nothing_more_than_documented_is_lost()
{
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .map(|text| text.parse::<u64>().unwrap())
    };
    let steps = number("DISK_MODEL_STEPS").unwrap_or(STEPS);
    let seeds = match number("DISK_MODEL_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..steps.div_ceil(STEPS_PER_SEED),
    };
    let mut lost = 0;
    for seed in seeds.clone() {
        let run = std::panic::catch_unwind(|| {
            let mut model = Model::new(seed);
            for _ in 0..STEPS_PER_SEED {
                model.step();
            }
            model.lost
        });
        match run {
            Ok(of_seed) => lost += of_seed,
            Err(_) => panic!("DISK_MODEL_SEED={seed} replays it"),
        }
    }
    println!(
        "{} steps in {} seeds: nothing wrong found, {lost} entries lost to faults, power cuts and want of room",
        seeds.clone().count() as u64 * STEPS_PER_SEED,
        seeds.count()
    );
}
