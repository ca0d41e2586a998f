//! All policies on one workload and one size.

use super::compare::{Outcome, play};
use super::ours::Tiers;
use super::rivals::{Lru, S3Fifo, Sieve, TinyLfu};
use super::workload::Workload;

/// Cache sizes as parts of the catalogue's bytes.
pub const SIZES: [f64; 5] = [0.005, 0.01, 0.05, 0.1, 0.25];

/// The names of [`Contest::outcomes`].
pub const NAMES: [&str; 5] = ["LRU", "W-TinyLFU", "S3-FIFO", "SIEVE", "ours"];

/// What each policy made of it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Contest {
    /// In the order of [`NAMES`].
    pub outcomes: [Outcome; 5],
}

impl Contest {
    /// Lets each policy play with a cache of this part of the catalogue.
    pub fn hold(workload: &Workload, size: f64) -> Self {
        let limit = (workload.catalogue_bytes as f64 * size) as u64;
        Contest {
            outcomes: [
                play(workload, &mut Lru::new(workload, limit)),
                play(workload, &mut TinyLfu::new(workload, limit)),
                play(workload, &mut S3Fifo::new(workload, limit)),
                play(workload, &mut Sieve::new(workload, limit)),
                play(workload, &mut Tiers::new(workload, limit)),
            ],
        }
    }

    /// The mean of several.
    pub fn mean(contests: &[Contest]) -> Self {
        let count = contests.len().max(1);
        let mut mean = Contest::default();
        for (at, outcome) in mean.outcomes.iter_mut().enumerate() {
            let all = || contests.iter().map(move |contest| contest.outcomes[at]);
            outcome.object_hits = all().map(|o| o.object_hits).sum::<f64>() / count as f64;
            outcome.byte_hits = all().map(|o| o.byte_hits).sum::<f64>() / count as f64;
            outcome.written_bytes = all().map(|o| o.written_bytes).sum::<u64>() / count as u64;
        }
        mean
    }

    /// Our object hit ratio less the best of the others, in points.
    pub fn object_lead(&self) -> f64 {
        self.lead(|outcome| outcome.object_hits)
    }

    /// Our byte hit ratio less the best of the others, in points.
    pub fn byte_lead(&self) -> f64 {
        self.lead(|outcome| outcome.byte_hits)
    }

    /// Bytes that a policy wrote for each byte that LRU did, which writes everything.
    pub fn written_share(&self, policy: usize) -> f64 {
        let everything = self.outcomes[0].written_bytes.max(1);
        self.outcomes[policy].written_bytes as f64 / everything as f64
    }

    fn lead(&self, ratio: impl Fn(&Outcome) -> f64) -> f64 {
        let [rivals @ .., ours] = &self.outcomes;
        ratio(ours) - rivals.iter().map(&ratio).fold(0.0, f64::max)
    }
}
