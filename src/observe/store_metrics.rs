//! What is told of the store: what looking after it has done, and what there was when it was counted last.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use prometheus::{IntCounterVec, IntGaugeVec, Registry};

use super::families::{counters, gauge_value, gauges};

/// What the store has counted, as it stands now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(
    missing_docs,
    reason = "the table in `StoreMetrics::new` says what each is"
)]
pub struct StoreCounts {
    pub verified_blobs: u64,
    pub verified_bytes: u64,
    pub damaged_blobs: u64,
    pub repaired_blobs: u64,
    pub lost_blobs: u64,
    pub collected_blobs: u64,
    pub collected_bytes: u64,
    pub removed_packs: u64,
    pub moved_bytes: u64,
    pub transitioned_bytes: u64,
    pub messages_handled: u64,
    pub messages_put_off: u64,
    pub messages_given_up: u64,
    pub received_bytes: u64,
    pub sent_bytes: u64,
    pub followed_from_store: u64,
    pub followed_from_memory: u64,
    pub pack_live_bytes: u64,
    pub pack_dead_bytes: u64,
    pub garbage_bytes: u64,
    pub buckets: u64,
    pub versions: u64,
    pub version_bytes: u64,
    pub cold_version_bytes: u64,
    pub messages_waiting: u64,
    pub messages_dead: u64,
}

/// The metrics of the store. Get them with [`super::Metrics::store`].
pub struct StoreMetrics {
    requests: IntCounterVec,
    body_bytes: IntCounterVec,
    verified_blobs: IntCounterVec,
    verified_bytes: IntCounterVec,
    damage: IntCounterVec,
    collected_blobs: IntCounterVec,
    collected_bytes: IntCounterVec,
    removed_packs: IntCounterVec,
    moved_bytes: IntCounterVec,
    transitioned_bytes: IntCounterVec,
    messages: IntCounterVec,
    followed: IntCounterVec,
    bytes: IntGaugeVec,
    rows: IntGaugeVec,
    /// Held while counters are brought up to date: two scrapes at once would count twice.
    settling: Mutex<()>,
}

impl StoreMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let counter = |name, help, labels: &[&str]| counters(registry, name, help, labels);
        StoreMetrics {
            requests: counter(
                "tidegate_store_requests_total",
                "Responses of the store, by operation; status 0 is one that is not counted apart.",
                &["operation", "status"],
            ),
            body_bytes: counter(
                "tidegate_store_body_bytes_total",
                "Bytes of request bodies as they travelled (received), and of response bodies (sent).",
                &["direction"],
            ),
            verified_blobs: counter(
                "tidegate_store_verified_blobs_total",
                "Blobs read on all of their disks and compared.",
                &[],
            ),
            verified_bytes: counter(
                "tidegate_store_verified_bytes_total",
                "Bytes of the blobs that were compared.",
                &[],
            ),
            damage: counter(
                "tidegate_store_damaged_blobs_total",
                "Blobs found damaged, those of them that were mended, and those of which something is on no disk.",
                &["outcome"],
            ),
            collected_blobs: counter(
                "tidegate_store_collected_blobs_total",
                "Blobs that no row named any more and whose files were removed.",
                &[],
            ),
            collected_bytes: counter(
                "tidegate_store_collected_bytes_total",
                "Bytes of the blobs whose files were removed.",
                &[],
            ),
            removed_packs: counter(
                "tidegate_store_removed_packs_total",
                "Packs removed after what lived in them was moved.",
                &[],
            ),
            moved_bytes: counter(
                "tidegate_store_moved_bytes_total",
                "Bytes moved out of packs that were mostly dead.",
                &[],
            ),
            transitioned_bytes: counter(
                "tidegate_store_transitioned_bytes_total",
                "Bytes of versions that lifecycle rules brought to another storage class.",
                &[],
            ),
            messages: counter(
                "tidegate_store_messages_total",
                "Tries to hand on messages of the outbox, by how they ended.",
                &["result"],
            ),
            followed: counter(
                "tidegate_store_followed_pieces_total",
                "Pieces of growing objects handed to followers: read from the store, or from memory after another follower's read.",
                &["from"],
            ),
            bytes: gauges(
                registry,
                "tidegate_store_bytes",
                "Bytes when they were counted last, at most an hour ago: of versions, in packs, in files to be removed.",
                &["of"],
            ),
            rows: gauges(
                registry,
                "tidegate_store_rows",
                "Rows when they were counted last, at most an hour ago.",
                &["of"],
            ),
            settling: Mutex::new(()),
        }
    }

    /// Publishes how often an operation was answered with a status. Counters never go back.
    pub fn publish_requests(&self, operation: &str, status: u16, count: u64) {
        let _settling = self.settling.lock().unwrap_or_else(PoisonError::into_inner);
        let status = status.to_string();
        let counter = self.requests.with_label_values(&[operation, &status]);
        counter.inc_by(count.saturating_sub(counter.get()));
    }

    /// Publishes what else the store has counted. Counters never go back.
    pub fn publish(&self, counts: &StoreCounts) {
        let _settling = self.settling.lock().unwrap_or_else(PoisonError::into_inner);
        let none: &[&str] = &[];
        for (vector, labels, now) in [
            (&self.body_bytes, &["received"][..], counts.received_bytes),
            (&self.body_bytes, &["sent"], counts.sent_bytes),
            (&self.verified_blobs, none, counts.verified_blobs),
            (&self.verified_bytes, none, counts.verified_bytes),
            (&self.damage, &["found"], counts.damaged_blobs),
            (&self.damage, &["repaired"], counts.repaired_blobs),
            (&self.damage, &["lost"], counts.lost_blobs),
            (&self.collected_blobs, none, counts.collected_blobs),
            (&self.collected_bytes, none, counts.collected_bytes),
            (&self.removed_packs, none, counts.removed_packs),
            (&self.moved_bytes, none, counts.moved_bytes),
            (&self.transitioned_bytes, none, counts.transitioned_bytes),
            (&self.messages, &["handled"], counts.messages_handled),
            (&self.messages, &["put_off"], counts.messages_put_off),
            (&self.messages, &["given_up"], counts.messages_given_up),
            (&self.followed, &["store"], counts.followed_from_store),
            (&self.followed, &["memory"], counts.followed_from_memory),
        ] {
            let counter = vector.with_label_values(labels);
            counter.inc_by(now.saturating_sub(counter.get()));
        }
        for (of, now) in [
            ("versions", counts.version_bytes),
            ("cold_versions", counts.cold_version_bytes),
            ("pack_live", counts.pack_live_bytes),
            ("pack_dead", counts.pack_dead_bytes),
            ("garbage", counts.garbage_bytes),
        ] {
            self.bytes.with_label_values(&[of]).set(gauge_value(now));
        }
        for (of, now) in [
            ("buckets", counts.buckets),
            ("versions", counts.versions),
            ("messages_waiting", counts.messages_waiting),
            ("messages_dead", counts.messages_dead),
        ] {
            self.rows.with_label_values(&[of]).set(gauge_value(now));
        }
    }
}

impl fmt::Debug for StoreMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreMetrics").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Metrics;
    use super::*;

    #[test]
    fn what_the_store_has_counted_is_told_once_however_often_it_is_published() {
        let metrics = Metrics::new();
        assert!(!metrics.gather_text().contains("tidegate_store_"));
        let counts = StoreCounts {
            lost_blobs: 2,
            verified_bytes: 7,
            pack_dead_bytes: 9,
            ..StoreCounts::default()
        };
        for _ in 0..2 {
            metrics.store().publish(&counts);
            metrics.store().publish_requests("GetObject", 206, 5);
        }
        let text = metrics.gather_text();
        for line in [
            "tidegate_store_damaged_blobs_total{outcome=\"lost\"} 2",
            "tidegate_store_damaged_blobs_total{outcome=\"repaired\"} 0",
            "tidegate_store_verified_bytes_total 7",
            "tidegate_store_requests_total{operation=\"GetObject\",status=\"206\"} 5",
            "tidegate_store_bytes{of=\"pack_dead\"} 9",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
    }
}
