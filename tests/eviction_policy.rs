//! A small run of the simulation in `benches/policies`, so that what its table claims stays true.
//!
//! Small caches have few segments and a memory of a few blocks, which costs us more than anybody; the
//! sizes here are those at which a twentieth of the objects tells what all of them do.

#[path = "../benches/policies/anchors.rs"]
mod anchors;
#[path = "../benches/policies/compare.rs"]
mod compare;
#[path = "../benches/policies/contest.rs"]
mod contest;
#[path = "../benches/policies/lists.rs"]
mod lists;
#[path = "../benches/policies/memory.rs"]
mod memory;
#[path = "../benches/policies/ours.rs"]
mod ours;
#[path = "../benches/policies/rivals.rs"]
mod rivals;
#[path = "../benches/policies/window.rs"]
mod window;
#[path = "../benches/policies/workload.rs"]
mod workload;

use contest::{Contest, NAMES, SIZES};
use workload::{CLASSES, Popularity, Workload};

const SEED: u64 = 7;

/// Every contest of a class from the third size on.
fn contests(class: &str, scale: f64) -> Vec<Contest> {
    let class = CLASSES.iter().find(|known| known.name == class).unwrap();
    let mut contests = Vec::new();
    for popularity in Popularity::ALL {
        let workload = Workload::of(class, popularity, scale, SEED);
        for size in &SIZES[2..] {
            let contest = Contest::hold(&workload, *size);
            println!(
                "{}, {}, {size}: {:+.2} objects, {:+.2} bytes, {:.2} written",
                class.name,
                popularity.name(),
                contest.object_lead(),
                contest.byte_lead(),
                contest.written_share(NAMES.len() - 1),
            );
            contests.push(contest);
        }
    }
    contests
}

fn check(contests: &[Contest]) {
    let ours = NAMES.len() - 1;
    for contest in contests {
        let written = contest.written_share(ours);
        assert!(written <= 0.5, "{written:.2} of what LRU writes");
    }
    let mean =
        |of: fn(&Contest) -> f64| contests.iter().map(of).sum::<f64>() / contests.len() as f64;
    let (objects, bytes) = (mean(Contest::object_lead), mean(Contest::byte_lead));
    assert!(objects >= -1.5, "{objects:.2} points of object hits");
    assert!(bytes >= -1.5, "{bytes:.2} points of byte hits");
    let over_all = Contest::mean(contests);
    assert!(over_all.object_lead() >= objects && over_all.byte_lead() >= bytes);
}

#[test]
fn small_objects_are_kept_as_well_as_by_the_best_policy_with_half_the_writes() {
    check(&contests("images", 0.2));
}

#[test]
fn objects_of_all_sizes_are_kept_as_well_as_by_the_best_policy_with_half_the_writes() {
    check(&contests("mix", 0.2));
}

#[test]
fn rivals_reach_the_published_hit_ratios() {
    let workload = anchors::workload(1_000_000, SEED);
    for (size, tinyufo, lru) in anchors::PUBLISHED {
        let [least_recent, others @ ..] = anchors::hit_ratios(&workload, size);
        assert!((least_recent - lru).abs() < 0.5, "LRU {least_recent:.2}");
        for ratio in others {
            assert!(
                (ratio - tinyufo).abs() < 3.0,
                "{ratio:.2}, published {tinyufo}"
            );
            assert!(ratio > lru + 2.0);
        }
    }
}
