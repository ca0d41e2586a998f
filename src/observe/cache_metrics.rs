//! What is published of the cache.

use prometheus::IntGauge;

use super::families::gauge_value;

/// The gauges of one cache tier.
#[derive(Debug, Clone)]
pub struct CacheTierMetrics {
    pub(super) bytes: IntGauge,
    pub(super) objects: IntGauge,
    pub(super) limit_bytes: IntGauge,
}

impl CacheTierMetrics {
    /// Publishes what the tier holds now.
    pub fn set_held(&self, bytes: u64, objects: u64) {
        self.bytes.set(gauge_value(bytes));
        self.objects.set(gauge_value(objects));
    }

    /// Publishes what the tier may hold.
    pub fn set_limit(&self, bytes: u64) {
        self.limit_bytes.set(gauge_value(bytes));
    }
}

/// The files of memory that long blocks lie in.
#[derive(Debug, Clone)]
pub struct MemoryFileMetrics(pub(super) IntGauge);

impl MemoryFileMetrics {
    /// Publishes how many there are now.
    pub fn set(&self, files: usize) {
        self.0.set(gauge_value(files as u64));
    }
}
