//! Bit flips and truncations anywhere: what is found is as it was written.

use std::sync::Arc;

use bytes::Bytes;

use super::paper_folder::PaperFolder;
use crate::cache::dice::Dice;
use crate::cache::disk::erasures::Erasures;
use crate::cache::disk::folder::Folder;
use crate::cache::disk::format::Kind;
use crate::cache::disk::identity::Identity;
use crate::cache::disk::log::{Log, LogSizes, Record};
use crate::cache::disk::policy::Policy;

const CASES: u64 = 2_000;
const SIZES: LogSizes = LogSizes {
    segment_bytes: 8192,
    limit_bytes: 8192 * 16,
};

fn open(folder: &PaperFolder) -> Log {
    let folder: Arc<dyn Folder> = Arc::new(folder.clone());
    let identity = Identity::new([9; 32]);
    let erasures = Arc::new(Erasures::default());
    let policy = Arc::new(Policy::new(SIZES.limit_bytes, SIZES.segment_bytes));
    Log::open(folder, &identity, SIZES, policy, erasures).unwrap()
}

fn body(hash: u64) -> Bytes {
    let mut dice = Dice::new(hash);
    let length = 1 + dice.below(600);
    (0..length).map(|_| dice.next() as u8).collect()
}

#[test]
fn damage_anywhere_is_a_miss_and_is_counted() {
    let cases = std::env::var("DISK_DAMAGE_CASES").map_or(CASES, |text| text.parse().unwrap());
    let (mut right, mut missed, mut noticed) = (0, 0, 0);
    for seed in 0..cases {
        let mut dice = Dice::new(seed);
        let folder = PaperFolder::new(seed);
        let mut log = open(&folder);
        let hashes: Vec<u64> = (0..60).map(|_| dice.next()).collect();
        let record = |hash: &u64| Record {
            kind: Kind::Response,
            hash: *hash,
            generation: 1,
            number: 0,
            head: Bytes::from_static(b"head"),
            body: body(*hash),
            place: 0,
        };
        log.append(&hashes.iter().map(record).collect::<Vec<_>>())
            .unwrap();
        // Either it is damaged under our eyes, or between two starts.
        let restarts = dice.chance(60);
        if restarts && dice.chance(50) {
            log.close().unwrap();
        }
        let papers = folder.papers();
        for _ in 0..1 + dice.below(8) {
            let mut paper = papers[dice.below(papers.len() as u64) as usize]
                .lock()
                .unwrap();
            let length = paper.written.len() as u64;
            if length == 0 {
                continue;
            }
            let place = dice.below(length) as usize;
            match dice.below(4) {
                0 if restarts => paper.written.truncate(place),
                1 => {
                    let end = (place + 64).min(paper.written.len());
                    paper.written[place..end].fill(0);
                }
                _ => paper.written[place] ^= 1 << dice.below(8),
            }
        }
        let before = log
            .shelf()
            .counters
            .bad_records
            .load(std::sync::atomic::Ordering::Relaxed);
        if restarts {
            log = open(&folder);
            while log.is_recovering() {
                log.recover_segment();
            }
        }
        let mut missed_here = 0;
        for hash in &hashes {
            let shelf = log.shelf();
            let locations = shelf.index.find(*hash);
            let mut found = None;
            for location in locations {
                found = found.or(shelf.read(*hash, location).ok());
            }
            match found {
                Some(found) => {
                    assert_eq!(found.body, body(*hash), "seed {seed}: a wrong byte");
                    assert_eq!(&found.head[..], b"head", "seed {seed}: a wrong byte");
                    right += 1;
                }
                None => missed_here += 1,
            }
        }
        let counters = &log.shelf().counters;
        let bad = counters
            .bad_records
            .load(std::sync::atomic::Ordering::Relaxed)
            + counters
                .read_errors
                .load(std::sync::atomic::Ordering::Relaxed);
        if missed_here > 0 {
            assert!(
                bad > before || restarts,
                "seed {seed}: a miss that nobody counted"
            );
        }
        noticed += u64::from(bad > 0);
        missed += missed_here;
    }
    println!(
        "{cases} cases: {right} records right, {missed} missed, noticed in {noticed}, 0 wrong"
    );
}
