//! Plays a workload to a cache and measures.

use super::workload::Workload;

/// The part of a run that only warms the cache, as a divisor.
const WARMING: usize = 4;

/// A cache of units.
pub trait Cache {
    /// Asks for a unit; whether it was there. If not, it is fetched.
    fn ask(&mut self, unit: u32) -> bool;

    /// Bytes written to disk so far.
    fn written_bytes(&self) -> u64;
}

/// What came out.
#[derive(Debug, Clone, Copy, Default)]
pub struct Outcome {
    /// Requests of which every unit was there, in percent.
    pub object_hits: f64,
    /// Bytes that were there, in percent.
    pub byte_hits: f64,
    /// Bytes written to disk.
    pub written_bytes: u64,
}

/// Measures `cache` over the run after its first quarter.
pub fn play(workload: &Workload, cache: &mut dyn Cache) -> Outcome {
    let warm_after = workload.requests.len() / WARMING;
    let mut written_before = 0;
    let (mut requests, mut hits, mut bytes, mut hit_bytes) = (0u64, 0u64, 0u64, 0u64);
    for (number, object) in workload.requests.iter().enumerate() {
        if number == warm_after {
            written_before = cache.written_bytes();
            (requests, hits, bytes, hit_bytes) = (0, 0, 0, 0);
        }
        let mut is_whole = true;
        for unit in workload.units(*object) {
            let unit_bytes = u64::from(workload.unit_bytes[unit as usize]);
            let is_hit = cache.ask(unit);
            is_whole &= is_hit;
            bytes += unit_bytes;
            hit_bytes += if is_hit { unit_bytes } else { 0 };
        }
        requests += 1;
        hits += u64::from(is_whole);
    }
    let percent = |part: u64, whole: u64| 100.0 * part as f64 / whole.max(1) as f64;
    Outcome {
        object_hits: percent(hits, requests),
        byte_hits: percent(hit_bytes, bytes),
        written_bytes: cache.written_bytes() - written_before,
    }
}
