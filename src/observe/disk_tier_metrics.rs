//! What is shown of the cache's disk tier.

use std::sync::{Mutex, PoisonError};

use prometheus::{IntCounter, IntCounterVec, IntGauge, Registry};

use super::cache_metrics::CacheTierMetrics;
use super::families::{counters, gauge_value, gauges};

/// What the tier holds, and what it has done since its folder was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskTierState {
    /// It takes what it is given.
    pub is_up: bool,
    /// It does not know yet all that lies in its folder.
    pub is_recovering: bool,
    /// Bytes of all segments.
    pub bytes: u64,
    /// Bytes they may have.
    pub limit_bytes: u64,
    /// Records in the index: heads and blocks.
    pub records: u64,
    /// Bytes of the index in memory.
    pub index_bytes: u64,
    /// Bytes that wait to be written.
    pub queued_bytes: u64,
    /// Bytes written for new records.
    pub written_bytes: u64,
    /// Bytes written to keep records of a segment that was reclaimed.
    pub reinserted_bytes: u64,
    /// Records that went with their segment.
    pub evicted_records: u64,
    /// Records read.
    pub read_records: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes sent from the files without being copied.
    pub sent_bytes: u64,
    /// Reads that the disk failed.
    pub read_errors: u64,
    /// Records that were not what was written.
    pub bad_records: u64,
    /// Reads that were given up because the disk took too long.
    pub slow_reads: u64,
    /// Records dropped because the disk is slower than the fills, or failed.
    pub dropped_records: u64,
    /// Records that were not worth writing.
    pub refused_records: u64,
    /// Writes that failed.
    pub write_faults: u64,
}

/// What a counter shows of a state.
type Count = fn(&DiskTierState) -> u64;

/// The metrics of the disk tier. Get it with [`super::Metrics::disk_tier`] and keep it.
#[derive(Debug)]
pub struct DiskTierMetrics {
    tier: CacheTierMetrics,
    up: IntGauge,
    recovering: IntGauge,
    index_bytes: IntGauge,
    queued_bytes: IntGauge,
    counters: Vec<(IntCounter, Count)>,
    /// As it was shown last.
    shown: Mutex<DiskTierState>,
}

/// The families that only the disk tier has.
#[derive(Debug, Clone)]
pub(super) struct DiskTierVectors {
    up: prometheus::IntGaugeVec,
    recovering: prometheus::IntGaugeVec,
    index_bytes: prometheus::IntGaugeVec,
    queued_bytes: prometheus::IntGaugeVec,
    written_bytes: IntCounterVec,
    read_bytes: IntCounterVec,
    sent_bytes: IntCounterVec,
    reads: IntCounterVec,
    records_lost: IntCounterVec,
    write_faults: IntCounterVec,
}

impl DiskTierVectors {
    pub(super) fn new(registry: &Registry) -> Self {
        DiskTierVectors {
            up: gauges(
                registry,
                "tidegate_cache_disk_up",
                "Whether the disk tier writes: 0 while its disk is at fault.",
                &[],
            ),
            recovering: gauges(
                registry,
                "tidegate_cache_disk_recovering",
                "Whether the disk tier is still reading what an earlier process left.",
                &[],
            ),
            index_bytes: gauges(
                registry,
                "tidegate_cache_disk_index_bytes",
                "Memory of the disk tier's index.",
                &[],
            ),
            queued_bytes: gauges(
                registry,
                "tidegate_cache_disk_queued_bytes",
                "Bytes that wait to be written to disk.",
                &[],
            ),
            written_bytes: counters(
                registry,
                "tidegate_cache_disk_written_bytes_total",
                "Bytes written to disk, for new records or to keep old ones.",
                &["why"],
            ),
            read_bytes: counters(
                registry,
                "tidegate_cache_disk_read_bytes_total",
                "Bytes read from disk and found right.",
                &[],
            ),
            sent_bytes: counters(
                registry,
                "tidegate_cache_disk_sent_bytes_total",
                "Bytes given to sockets from the files of the disk tier without being copied.",
                &[],
            ),
            reads: counters(
                registry,
                "tidegate_cache_disk_reads_total",
                "Records read from disk, by what came of it.",
                &["result"],
            ),
            records_lost: counters(
                registry,
                "tidegate_cache_disk_records_not_kept_total",
                "Records that are not on disk: evicted, dropped for want of speed, or not worth it.",
                &["why"],
            ),
            write_faults: counters(
                registry,
                "tidegate_cache_disk_write_faults_total",
                "Writes that the disk failed.",
                &[],
            ),
        }
    }

    pub(super) fn resolve(&self, tier: CacheTierMetrics) -> DiskTierMetrics {
        let written = |why| self.written_bytes.with_label_values(&[why]);
        let reads = |result| self.reads.with_label_values(&[result]);
        let lost = |why| self.records_lost.with_label_values(&[why]);
        let none: &[&str] = &[];
        DiskTierMetrics {
            tier,
            up: self.up.with_label_values(none),
            recovering: self.recovering.with_label_values(none),
            index_bytes: self.index_bytes.with_label_values(none),
            queued_bytes: self.queued_bytes.with_label_values(none),
            counters: vec![
                (written("new"), |state| state.written_bytes),
                (written("kept"), |state| state.reinserted_bytes),
                (self.read_bytes.with_label_values(none), |state| {
                    state.read_bytes
                }),
                (self.sent_bytes.with_label_values(none), |state| {
                    state.sent_bytes
                }),
                (reads("right"), |state| state.read_records),
                (reads("damaged"), |state| state.bad_records),
                (reads("failed"), |state| state.read_errors),
                (reads("slow"), |state| state.slow_reads),
                (lost("evicted"), |state| state.evicted_records),
                (lost("dropped"), |state| state.dropped_records),
                (lost("rare"), |state| state.refused_records),
                (self.write_faults.with_label_values(none), |state| {
                    state.write_faults
                }),
            ],
            shown: Mutex::default(),
        }
    }
}

impl DiskTierMetrics {
    /// Shows `state`.
    pub fn publish(&self, state: &DiskTierState) {
        self.tier.set_limit(state.limit_bytes);
        self.tier.set_held(state.bytes, state.records);
        self.up.set(i64::from(state.is_up));
        self.recovering.set(i64::from(state.is_recovering));
        self.index_bytes.set(gauge_value(state.index_bytes));
        self.queued_bytes.set(gauge_value(state.queued_bytes));
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        for (counter, count) in &self.counters {
            let (now, before) = (count(state), count(&shown));
            // A folder that was opened anew counts from zero.
            counter.inc_by(now.checked_sub(before).unwrap_or(now));
        }
        *shown = *state;
    }
}
