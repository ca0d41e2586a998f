//! Hit ratios that others have published, to show that the rivals here are what they claim to be:
//! 10,000 entries of one size, Zipf with exponent 1, as the benchmark of the tinyufo crate has it.

use super::compare::{Cache, play};
use super::rivals::{Lru, S3Fifo, Sieve, TinyLfu};
use super::workload::{Dice, Workload};

const ENTRIES: usize = 10_000;

/// For each cache size, as a part of the entries: what tinyufo publishes for itself and for LRU, in
/// percent.
pub const PUBLISHED: [(f64, f64, f64); 2] = [(0.005, 45.26, 31.06), (0.25, 85.34, 79.94)];

/// Object hit ratios of LRU, W-TinyLFU, S3-FIFO and SIEVE in percent, for a cache of `size`.
pub fn hit_ratios(workload: &Workload, size: f64) -> [f64; 4] {
    let limit = (workload.catalogue_bytes as f64 * size) as u64;
    let mut caches: [Box<dyn Cache + '_>; 4] = [
        Box::new(Lru::new(workload, limit)),
        Box::new(TinyLfu::new(workload, limit)),
        Box::new(S3Fifo::new(workload, limit)),
        Box::new(Sieve::new(workload, limit)),
    ];
    std::array::from_fn(|at| play(workload, caches[at].as_mut()).object_hits)
}

/// The published workload with `requests` requests.
pub fn workload(requests: usize, seed: u64) -> Workload {
    let mut reached = 0.0;
    let sums: Vec<f64> = (1..=ENTRIES)
        .map(|rank| {
            reached += 1.0 / rank as f64;
            reached
        })
        .collect();
    let mut dice = Dice::new(seed);
    let requests = (0..requests)
        .map(|_| {
            let at = dice.part() * reached;
            sums.partition_point(|sum| *sum < at) as u32
        })
        .collect();
    Workload::new(requests, &[100; ENTRIES])
}
