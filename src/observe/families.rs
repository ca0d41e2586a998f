//! How families of metrics are made and put into the registry.

use prometheus::core::Collector;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry};

use super::sharded::{RouteHistograms, bounds_seconds};

/// Gauges are signed; no machine holds 2^63 bytes.
pub(super) fn gauge_value(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

pub(super) fn counters(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> IntCounterVec {
    registered(
        registry,
        valid(IntCounterVec::new(Opts::new(name, help), labels)),
    )
}

pub(super) fn gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    registered(
        registry,
        valid(IntGaugeVec::new(Opts::new(name, help), labels)),
    )
}

pub(super) fn histograms(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> HistogramVec {
    let opts = HistogramOpts::new(name, help).buckets(bounds_seconds());
    registered(registry, valid(HistogramVec::new(opts, labels)))
}

pub(super) fn route_histograms(registry: &Registry, name: &str, help: &str) -> RouteHistograms {
    registered(registry, valid(RouteHistograms::new(name, help)))
}

pub(super) fn valid<T>(metric: prometheus::Result<T>) -> T {
    metric.expect("metric names, labels and buckets are constants of this folder and valid")
}

pub(super) fn registered<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> C {
    register(registry, collector.clone());
    collector
}

pub(super) fn register(registry: &Registry, collector: impl Collector + 'static) {
    registry
        .register(Box::new(collector))
        .expect("each metric name is registered once, in Metrics::new");
}
