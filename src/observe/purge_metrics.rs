//! What is counted of purges.

use std::fmt;

use prometheus::{IntCounter, IntCounterVec, IntGauge};

use super::families::gauge_value;

/// The counters of purges.
#[derive(Clone)]
pub struct PurgeMetrics {
    pub(super) purges: IntCounterVec,
    pub(super) purged_responses: IntCounter,
    pub(super) rules: IntGauge,
}

impl PurgeMetrics {
    /// Counts a rule that is in force now; both labels are names of ours, never text of an operator.
    pub fn record(&self, kind: &'static str, severity: &'static str) {
        self.purges.with_label_values(&[kind, severity]).inc();
    }

    /// Counts a stored response that was found purged when it was looked up.
    pub fn record_purged_response(&self) {
        self.purged_responses.inc();
    }

    /// Publishes how many subjects have a purge in force.
    pub fn set_rules(&self, rules: usize) {
        self.rules.set(gauge_value(rules as u64));
    }
}

impl fmt::Debug for PurgeMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PurgeMetrics").finish_non_exhaustive()
    }
}
