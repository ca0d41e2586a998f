//! A cache folder with many small objects: how long until the first is found after a process has died
//! or has stopped cleanly, how long until all are, and how long a read takes.
//!
//! `cargo bench --bench disk_restart` writes ten million; `-- --quick` a hundredth, `cargo test` a
//! thousandth; `-- --folder DIR` says where.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidegate::cache::disk::erasures::Erasures;
use tidegate::cache::disk::folder::{Folder, RealFolder};
use tidegate::cache::disk::format::Kind;
use tidegate::cache::disk::identity::{Identity, RecordHasher};
use tidegate::cache::disk::log::{Log, LogSizes, Record};
use tidegate::cache::disk::policy::Policy;

const RECORDS: u64 = 10_000_000;
const READS: u64 = 200_000;

/// A stored head of this length and a body of that are typical of an API's small responses.
const HEAD_BYTES: usize = 220;
const BODY_BYTES: usize = 150;

const SIZES: LogSizes = LogSizes {
    limit_bytes: 16 << 30,
    segment_bytes: 64 << 20,
};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let records = match (has("--bench"), has("--quick")) {
        (false, _) => RECORDS / 1000,
        (true, true) => RECORDS / 100,
        (true, false) => RECORDS,
    };
    let own = format!("tidegate-disk-restart-{}", std::process::id());
    let chosen = arguments.iter().position(|argument| argument == "--folder");
    let folder = chosen
        .and_then(|at| arguments.get(at + 1))
        .map_or_else(std::env::temp_dir, PathBuf::from)
        .join(own);
    let identity = Identity::new([5; 32]);
    let bench = Bench {
        folder: folder.clone(),
        hasher: identity.hasher(),
        identity,
        records,
    };
    bench.run();
    std::fs::remove_dir_all(folder).expect("the folder is ours");
}

struct Bench {
    folder: PathBuf,
    hasher: RecordHasher,
    identity: Identity,
    records: u64,
}

impl Bench {
    fn run(&self) {
        let (mut log, _) = self.open();
        let started = Instant::now();
        self.fill(&mut log);
        let filled = started.elapsed();
        let rate = self.records as f64 / filled.as_secs_f64();
        println!(
            "{} records written in {filled:.1?}: {rate:.0}/s",
            self.records
        );
        // The process dies: nothing is sealed or noted.
        drop(log);
        let (mut log, opened) = self.open();
        let first = self.until_found(&mut log);
        while log.is_recovering() {
            log.recover_segment();
        }
        let all = opened.elapsed();
        println!(
            "after a crash: the newest found after {:.1?}, all after {all:.1?}",
            first - opened
        );
        let index = &log.shelf().index;
        let found = index.len() as u64;
        let each = index.memory_bytes() as f64 / found as f64;
        println!("{found} records found again, {each:.1} bytes of memory each");
        self.read(&log, "after a crash");
        let started = Instant::now();
        log.close().expect("the folder can be written to");
        println!("clean stop: {:.1?}", started.elapsed());
        drop(log);
        let (mut log, opened) = self.open();
        let first = self.until_found(&mut log);
        assert!(
            !log.is_recovering(),
            "a clean stop leaves nothing to recover"
        );
        println!("after a clean stop: all found after {:.1?}", first - opened);
        self.read(&log, "after a clean stop");
    }

    fn open(&self) -> (Log, Instant) {
        let opened = Instant::now();
        let folder: Arc<dyn Folder> = Arc::new(RealFolder::new(&self.folder));
        folder.prepare().expect("the folder can be made");
        let policy = Arc::new(Policy::new(SIZES.limit_bytes, SIZES.segment_bytes));
        let log = Log::open(
            folder,
            &self.identity,
            SIZES,
            policy,
            Arc::new(Erasures::default()),
        );
        (log.expect("the folder can be read"), opened)
    }

    fn hash(&self, number: u64) -> u64 {
        self.hasher
            .of_key(format!("http://cdn.example/{number}").as_bytes())
    }

    fn fill(&self, log: &mut Log) {
        let head = Bytes::from(vec![b'h'; HEAD_BYTES]);
        let body = Bytes::from(vec![b'b'; BODY_BYTES]);
        let mut batch = Vec::new();
        for number in 0..self.records {
            batch.push(Record {
                kind: Kind::Response,
                hash: self.hash(number),
                generation: number + 1,
                number: 0,
                head: head.clone(),
                body: body.clone(),
                place: 0,
            });
            if batch.len() == 4096 || number + 1 == self.records {
                log.append(&batch).expect("the folder has room");
                batch.clear();
            }
        }
    }

    /// Recovers until the record that was written last can be read.
    fn until_found(&self, log: &mut Log) -> Instant {
        let hash = self.hash(self.records - 1);
        while !log.shelf().index.contains(hash) && log.is_recovering() {
            log.recover_segment();
        }
        let location = log.shelf().index.find(hash)[0];
        log.shelf()
            .read(hash, location)
            .expect("what was written is read");
        Instant::now()
    }

    fn read(&self, log: &Log, when: &str) {
        let reads = READS.min(self.records);
        let mut times = Vec::with_capacity(reads as usize);
        let mut number = 1;
        for _ in 0..reads {
            // Walks all records in no order: the step has no factor in common with a power of ten.
            number = (number + 6_180_339_887) % self.records;
            let hash = self.hash(number);
            let started = Instant::now();
            let location = log.shelf().index.find(hash)[0];
            let found = log
                .shelf()
                .read(hash, location)
                .expect("what was written is read");
            times.push(started.elapsed());
            assert_eq!(found.generation, number + 1);
        }
        times.sort();
        let at = |percent: usize| times[times.len() * percent / 100 - 1];
        let (p50, p99): (Duration, Duration) = (at(50), at(99));
        println!("{when}: look-up and read p50 {p50:.1?}, p99 {p99:.1?}");
    }
}
