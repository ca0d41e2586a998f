//! The names Prometheus scrapes, all spelled here.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use super::disk_tier_metrics::{DiskTierMetrics, DiskTierVectors};
use super::origin_metrics::OriginMetrics;
use super::purge_metrics::PurgeMetrics;
use super::route_metrics::{RouteMetrics, RouteVectors};
use super::sharded::{RouteHistograms, bounds_seconds};
use super::store_metrics::StoreMetrics;
use super::tls_metrics::{TlsMetrics, TlsVectors};

/// All metrics of the process.
///
/// Handles ([`RouteMetrics`], [`OriginMetrics`], [`CacheTierMetrics`], [`ConnectionMetrics`]) are
/// resolved by name once, when a configuration is put to work, and then kept.
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    response_bytes: IntCounterVec,
    request_duration: RouteHistograms,
    time_to_first_byte: RouteHistograms,
    origin_requests: IntCounterVec,
    origin_request_duration: HistogramVec,
    origin_healthy: IntGaugeVec,
    cache_bytes: IntGaugeVec,
    cache_objects: IntGaugeVec,
    cache_limit_bytes: IntGaugeVec,
    cache_memory_files: IntGauge,
    disk_tier: DiskTierVectors,
    collapsed_requests: IntCounterVec,
    signature_refusals: IntCounterVec,
    gate_refusals: IntCounterVec,
    policy_refusals: IntCounterVec,
    connection_refusals: IntCounterVec,
    h2_abuse: IntCounterVec,
    connections: IntGaugeVec,
    tls: TlsVectors,
    access_log_dropped: IntCounter,
    purges: PurgeMetrics,
    store: OnceLock<StoreMetrics>,
    routes: Mutex<HashMap<String, Arc<RouteMetrics>>>,
    origin_servers: Mutex<HashMap<(String, String), Arc<OriginMetrics>>>,
    on_gather: Mutex<Vec<OnGather>>,
}

/// A callback that brings gauges up to date before they are read.
type OnGather = Arc<dyn Fn() + Send + Sync>;

impl Metrics {
    /// The media type of [`Metrics::gather_text`].
    pub const TEXT_FORMAT: &'static str = prometheus::TEXT_FORMAT;

    /// The metrics of a process that has just started; everything counts from zero.
    pub fn new() -> Arc<Self> {
        let registry = Registry::new();
        register(&registry, ProcessCollector::for_self());
        let build = gauges(
            &registry,
            "tidegate_build_info",
            "Always 1; the labels say which build runs.",
            &["version"],
        );
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Arc::new(Metrics {
            requests: counters(
                &registry,
                "tidegate_requests_total",
                "Requests by how the edge answered them (RFC 9211 words).",
                &["route", "outcome", "status", "protocol"],
            ),
            response_bytes: counters(
                &registry,
                "tidegate_response_bytes_total",
                "Body bytes sent to clients, by where they came from.",
                &["route", "source"],
            ),
            request_duration: route_histograms(
                &registry,
                "tidegate_request_duration_seconds",
                "From the first byte of a request to the last byte of its response.",
            ),
            time_to_first_byte: route_histograms(
                &registry,
                "tidegate_time_to_first_byte_seconds",
                "From the first byte of a request to the first byte of its response.",
            ),
            origin_requests: counters(
                &registry,
                "tidegate_origin_requests_total",
                "Requests to origin servers by status class or what went wrong.",
                &["origin", "server", "result"],
            ),
            origin_request_duration: histograms(
                &registry,
                "tidegate_origin_request_duration_seconds",
                "From the start of a request to an origin server to the end of its response.",
                &["origin"],
            ),
            origin_healthy: gauges(
                &registry,
                "tidegate_origin_healthy",
                "1 while an origin server takes requests, else 0.",
                &["origin", "server"],
            ),
            cache_bytes: gauges(
                &registry,
                "tidegate_cache_bytes",
                "Bytes a cache tier holds.",
                &["tier"],
            ),
            cache_objects: gauges(
                &registry,
                "tidegate_cache_objects",
                "Stored responses a cache tier holds.",
                &["tier"],
            ),
            disk_tier: DiskTierVectors::new(&registry),
            cache_limit_bytes: gauges(
                &registry,
                "tidegate_cache_limit_bytes",
                "Bytes a cache tier may hold.",
                &["tier"],
            ),
            cache_memory_files: registered(
                &registry,
                valid(IntGauge::new(
                    "tidegate_cache_memory_files",
                    "Files of memory in which long blocks lie, to be sent without a copy.",
                )),
            ),
            collapsed_requests: counters(
                &registry,
                "tidegate_collapsed_requests_total",
                "Requests answered by another request's fill.",
                &["route"],
            ),
            signature_refusals: counters(
                &registry,
                "tidegate_signature_refusals_total",
                "Requests whose signature was refused.",
                &["route", "reason"],
            ),
            gate_refusals: counters(
                &registry,
                "tidegate_gate_refusals_total",
                "Requests refused before routing.",
                &["reason"],
            ),
            policy_refusals: counters(
                &registry,
                "tidegate_policy_refusals_total",
                "Well-formed requests refused by a policy of their listener or route.",
                &["route", "reason"],
            ),
            connection_refusals: counters(
                &registry,
                "tidegate_connection_refusals_total",
                "Connections closed before their first request.",
                &["listener", "reason"],
            ),
            h2_abuse: counters(
                &registry,
                "tidegate_h2_connections_cut_off_total",
                "HTTP/2 connections that were ended because of what their clients sent.",
                &["reason"],
            ),
            connections: gauges(
                &registry,
                "tidegate_connections",
                "Open client connections.",
                &["listener"],
            ),
            tls: TlsVectors::new(&registry),
            access_log_dropped: registered(
                &registry,
                valid(IntCounter::new(
                    "tidegate_access_log_dropped_total",
                    "Access-log lines lost because the log could not keep up or failed.",
                )),
            ),
            purges: PurgeMetrics {
                purges: counters(
                    &registry,
                    "tidegate_purges_total",
                    "Purge rules put in force since the start.",
                    &["kind", "severity"],
                ),
                purged_responses: registered(
                    &registry,
                    valid(IntCounter::new(
                        "tidegate_purged_responses_total",
                        "Stored responses found purged when they were looked up.",
                    )),
                ),
                rules: registered(
                    &registry,
                    valid(IntGauge::new(
                        "tidegate_purge_rules",
                        "URLs, tags, prefixes and hosts that have a purge in force.",
                    )),
                ),
            },
            store: OnceLock::new(),
            routes: Mutex::default(),
            origin_servers: Mutex::default(),
            on_gather: Mutex::default(),
            registry,
        })
    }

    /// The counters of the route `name`; the empty name counts requests refused before routing.
    pub fn route(&self, name: &str) -> Arc<RouteMetrics> {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        let route = routes.entry(name.to_owned()).or_insert_with(|| {
            Arc::new(RouteMetrics::new(
                name,
                RouteVectors {
                    requests: &self.requests,
                    bytes: &self.response_bytes,
                    duration: &self.request_duration,
                    time_to_first_byte: &self.time_to_first_byte,
                    collapsed: &self.collapsed_requests,
                    signature_refusals: &self.signature_refusals,
                },
            ))
        });
        Arc::clone(route)
    }

    /// The counters of `server` (as configured) of the origin pool `pool`.
    pub fn origin_server(&self, pool: &str, server: &str) -> Arc<OriginMetrics> {
        let mut servers = self
            .origin_servers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let key = (pool.to_owned(), server.to_owned());
        let metrics = servers.entry(key).or_insert_with(|| {
            Arc::new(OriginMetrics::new(
                pool,
                server,
                &self.origin_requests,
                self.origin_request_duration.with_label_values(&[pool]),
                self.origin_healthy.with_label_values(&[pool, server]),
            ))
        });
        Arc::clone(metrics)
    }

    /// The gauges of a cache tier (`memory`, `disk`).
    pub fn cache_tier(&self, tier: &str) -> CacheTierMetrics {
        CacheTierMetrics {
            bytes: self.cache_bytes.with_label_values(&[tier]),
            objects: self.cache_objects.with_label_values(&[tier]),
            limit_bytes: self.cache_limit_bytes.with_label_values(&[tier]),
        }
    }

    /// The gauge of the files of memory.
    pub fn memory_files(&self) -> MemoryFileMetrics {
        MemoryFileMetrics(self.cache_memory_files.clone())
    }

    /// The metrics of the disk tier; they appear with the first call.
    pub fn disk_tier(&self) -> DiskTierMetrics {
        self.disk_tier.resolve(self.cache_tier("disk"))
    }

    /// The connection gauge of a listener, named by its address.
    pub fn listener(&self, listener: &str) -> ConnectionMetrics {
        ConnectionMetrics(self.connections.with_label_values(&[listener]))
    }

    /// The TLS metrics of a listener, named by its address.
    pub fn tls_listener(&self, listener: &str) -> TlsMetrics {
        TlsMetrics::new(listener, &self.tls)
    }

    /// Counts a request refused before routing. `reason` is the refusal's name, never text from
    /// a client.
    pub fn record_gate_refusal(&self, reason: &'static str) {
        self.gate_refusals.with_label_values(&[reason]).inc();
    }

    /// Counts a request refused by a policy; `route` is empty when it is the listener's. `reason` is
    /// the refusal's name.
    pub fn record_policy_refusal(&self, route: &str, reason: &'static str) {
        (self.policy_refusals)
            .with_label_values(&[route, reason])
            .inc();
    }

    /// Counts a connection that was closed before its first request. `reason` is the refusal's name.
    pub fn record_connection_refusal(&self, listener: &str, reason: &'static str) {
        (self.connection_refusals)
            .with_label_values(&[listener, reason])
            .inc();
    }

    /// Counts an HTTP/2 connection that is cut off. `reason` is a name of ours.
    pub fn record_h2_abuse(&self, reason: &'static str) {
        self.h2_abuse.with_label_values(&[reason]).inc();
    }

    /// The counters of purges.
    pub fn purges(&self) -> PurgeMetrics {
        self.purges.clone()
    }

    /// The metrics of the store; they appear with the first call.
    pub fn store(&self) -> &StoreMetrics {
        self.store.get_or_init(|| StoreMetrics::new(&self.registry))
    }

    /// Counts the access-log lines that are lost.
    pub(super) fn access_log_dropped(&self) -> IntCounter {
        self.access_log_dropped.clone()
    }

    /// Registers a callback that runs before every scrape and sets gauges whose truth lives
    /// elsewhere (what a cache holds, which servers are healthy).
    pub fn on_gather(&self, callback: Box<dyn Fn() + Send + Sync>) {
        self.on_gather
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Arc::from(callback));
    }

    /// Moves into the registry what workers have counted apart. One scrape at a time.
    fn settle_routes(&self) {
        let routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        for route in routes.values() {
            route.settle();
        }
    }

    /// Everything in the Prometheus text format 0.0.4.
    pub fn gather_text(&self) -> String {
        // Run outside the lock, so a callback may register another or ask for a handle.
        let callbacks = self
            .on_gather
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        for callback in callbacks {
            callback();
        }
        self.settle_routes();
        let mut text = String::new();
        TextEncoder::new()
            .encode_utf8(&self.registry.gather(), &mut text)
            .expect("a gathered registry has only named families with samples");
        text
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// The gauges of one cache tier.
#[derive(Debug, Clone)]
pub struct CacheTierMetrics {
    bytes: IntGauge,
    objects: IntGauge,
    limit_bytes: IntGauge,
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
pub struct MemoryFileMetrics(IntGauge);

impl MemoryFileMetrics {
    /// Publishes how many there are now.
    pub fn set(&self, files: usize) {
        self.0.set(gauge_value(files as u64));
    }
}

/// The open connections of one listener.
#[derive(Debug, Clone)]
pub struct ConnectionMetrics(IntGauge);

impl ConnectionMetrics {
    /// Counts a connection as open until the guard is dropped.
    pub fn opened(&self) -> ConnectionGuard {
        self.0.inc();
        ConnectionGuard(self.0.clone())
    }
}

/// One open connection.
#[derive(Debug)]
pub struct ConnectionGuard(IntGauge);

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

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

fn histograms(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> HistogramVec {
    let opts = HistogramOpts::new(name, help).buckets(bounds_seconds());
    registered(registry, valid(HistogramVec::new(opts, labels)))
}

fn route_histograms(registry: &Registry, name: &str, help: &str) -> RouteHistograms {
    registered(registry, valid(RouteHistograms::new(name, help)))
}

fn valid<T>(metric: prometheus::Result<T>) -> T {
    metric.expect("metric names, labels and buckets are constants of this file and valid")
}

fn registered<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> C {
    register(registry, collector.clone());
    collector
}

fn register(registry: &Registry, collector: impl Collector + 'static) {
    registry
        .register(Box::new(collector))
        .expect("each metric name is registered once, in Metrics::new");
}

#[cfg(test)]
mod tests {
    use super::super::{Finished, OriginResult, Outcome, Protocol};
    use super::*;
    use std::time::Duration;

    fn finished(outcome: Outcome, status: u16, protocol: Protocol) -> Finished {
        Finished {
            outcome,
            status,
            protocol,
            elapsed: Duration::from_millis(3),
            time_to_first_byte: Some(Duration::from_millis(2)),
            bytes_memory: 5,
            bytes_disk: 0,
            bytes_origin: 7,
        }
    }

    /// The samples of `text` whose names begin with `name`, without comments.
    fn samples<'t>(text: &'t str, name: &str) -> Vec<&'t str> {
        text.lines().filter(|line| line.starts_with(name)).collect()
    }

    #[test]
    fn requests_are_counted_by_route_outcome_status_and_protocol() {
        let metrics = Metrics::new();
        let media = metrics.route("media");
        media.record(&finished(Outcome::Hit, 200, Protocol::Http11));
        media.record(&finished(Outcome::Hit, 200, Protocol::Http11));
        media.record(&finished(Outcome::UriMiss, 206, Protocol::H2));
        media.record(&finished(Outcome::Error, 0, Protocol::Http10));
        media.record(&finished(Outcome::Bypass, 999, Protocol::Http10));
        metrics
            .route("")
            .record(&finished(Outcome::Refused, 400, Protocol::Http11));
        let text = metrics.gather_text();
        assert_eq!(
            samples(&text, "tidegate_requests_total"),
            [
                r#"tidegate_requests_total{outcome="bypass",protocol="http/1.0",route="media",status="999"} 1"#,
                r#"tidegate_requests_total{outcome="error",protocol="http/1.0",route="media",status="none"} 1"#,
                r#"tidegate_requests_total{outcome="hit",protocol="http/1.1",route="media",status="200"} 2"#,
                r#"tidegate_requests_total{outcome="refused",protocol="http/1.1",route="",status="400"} 1"#,
                r#"tidegate_requests_total{outcome="uri-miss",protocol="h2",route="media",status="206"} 1"#,
            ]
        );
        assert_eq!(
            samples(&text, "tidegate_response_bytes_total{route=\"media\""),
            [
                r#"tidegate_response_bytes_total{route="media",source="disk"} 0"#,
                r#"tidegate_response_bytes_total{route="media",source="memory"} 25"#,
                r#"tidegate_response_bytes_total{route="media",source="origin"} 35"#,
            ]
        );
        for expected in [
            r#"tidegate_request_duration_seconds_bucket{route="media",le="0.0025"} 0"#,
            r#"tidegate_request_duration_seconds_bucket{route="media",le="0.005"} 5"#,
            r#"tidegate_time_to_first_byte_seconds_bucket{route="media",le="0.0025"} 5"#,
            r#"tidegate_request_duration_seconds_count{route="media"} 5"#,
        ] {
            assert!(
                text.lines().any(|line| line == expected),
                "{expected} in\n{text}"
            );
        }
    }

    #[test]
    fn no_two_combinations_of_labels_share_a_counter() {
        let outcomes = [
            Outcome::Hit,
            Outcome::Miss,
            Outcome::UriMiss,
            Outcome::VaryMiss,
            Outcome::Stale,
            Outcome::Partial,
            Outcome::Bypass,
            Outcome::Method,
            Outcome::Request,
            Outcome::Refused,
            Outcome::Error,
        ];
        let metrics = Metrics::new();
        let mut combinations = 0;
        for outcome in outcomes {
            for protocol in [Protocol::Http10, Protocol::Http11, Protocol::H2] {
                for status in [0, 100, 101, 200, 999] {
                    metrics
                        .route("r")
                        .record(&finished(outcome, status, protocol));
                    combinations += 1;
                }
            }
        }
        let text = metrics.gather_text();
        let counted = samples(&text, "tidegate_requests_total");
        assert_eq!(counted.len(), combinations);
        assert!(
            counted.iter().all(|line| line.ends_with("} 1")),
            "{counted:#?}"
        );
    }

    #[test]
    fn handles_of_one_name_are_one_counter() {
        let metrics = Metrics::new();
        assert!(Arc::ptr_eq(&metrics.route("a"), &metrics.route("a")));
        assert!(!Arc::ptr_eq(&metrics.route("a"), &metrics.route("b")));
        let server = metrics.origin_server("store", "a:80");
        assert!(Arc::ptr_eq(
            &server,
            &metrics.origin_server("store", "a:80")
        ));
        assert!(!Arc::ptr_eq(
            &server,
            &metrics.origin_server("store", "b:80")
        ));
        assert!(!Arc::ptr_eq(
            &server,
            &metrics.origin_server("other", "a:80")
        ));
    }

    #[test]
    fn origin_requests_are_counted_by_class_or_fault() {
        let metrics = Metrics::new();
        let server = metrics.origin_server("store", "a:80");
        for status in [100, 199, 200, 299, 304, 404, 500, 599, 600, 99] {
            server.record(OriginResult::Status(status), Duration::from_millis(1));
        }
        server.record(OriginResult::ConnectError, Duration::ZERO);
        server.record(OriginResult::Timeout, Duration::ZERO);
        server.record(OriginResult::Aborted, Duration::ZERO);
        server.set_healthy(true);
        let text = metrics.gather_text();
        let count = |result: &str| {
            let name = format!(
                r#"tidegate_origin_requests_total{{origin="store",result="{result}",server="a:80"}} "#
            );
            samples(&text, &name)[0][name.len()..].to_owned()
        };
        let results = [
            ("1xx", "2"),
            ("2xx", "2"),
            ("3xx", "1"),
            ("4xx", "1"),
            ("5xx", "2"),
            ("other", "2"),
            ("connect_error", "1"),
            ("timeout", "1"),
            ("aborted", "1"),
        ];
        for (result, expected) in results {
            assert_eq!(count(result), expected, "{result}");
        }
        let lines: Vec<_> = text.lines().collect();
        assert!(
            lines.contains(&r#"tidegate_origin_request_duration_seconds_count{origin="store"} 13"#)
        );
        assert!(lines.contains(&r#"tidegate_origin_healthy{origin="store",server="a:80"} 1"#));
    }

    #[test]
    fn gauges_are_brought_up_to_date_by_each_scrape() {
        let metrics = Metrics::new();
        let tier = metrics.cache_tier("memory");
        tier.set_limit(1 << 20);
        let held = Arc::new(Mutex::new((10, 1)));
        let seen = Arc::clone(&held);
        metrics.on_gather(Box::new(move || {
            let (bytes, objects) = *seen.lock().unwrap();
            tier.set_held(bytes, objects);
        }));
        let cache_lines = |metrics: &Metrics| {
            let text = metrics.gather_text();
            samples(&text, "tidegate_cache_").join("\n")
        };
        assert_eq!(
            cache_lines(&metrics),
            "tidegate_cache_bytes{tier=\"memory\"} 10\n\
             tidegate_cache_limit_bytes{tier=\"memory\"} 1048576\n\
             tidegate_cache_memory_files 0\n\
             tidegate_cache_objects{tier=\"memory\"} 1"
        );
        *held.lock().unwrap() = (20, 2);
        assert!(cache_lines(&metrics).starts_with("tidegate_cache_bytes{tier=\"memory\"} 20\n"));
    }

    #[test]
    fn connections_are_counted_while_they_are_open() {
        let metrics = Metrics::new();
        let listener = metrics.listener("127.0.0.1:8080");
        let (first, second) = (listener.opened(), listener.opened());
        drop(first);
        let line = r#"tidegate_connections{listener="127.0.0.1:8080"} "#;
        assert_eq!(samples(&metrics.gather_text(), line), [format!("{line}1")]);
        drop(second);
        assert_eq!(samples(&metrics.gather_text(), line), [format!("{line}0")]);
    }

    #[test]
    fn refusals_and_collapsed_requests_have_counters() {
        let metrics = Metrics::new();
        metrics.route("media").record_signature_refusal("expired");
        metrics.route("media").record_collapsed();
        metrics.record_gate_refusal("bare_lf");
        let text = metrics.gather_text();
        for line in [
            r#"tidegate_signature_refusals_total{reason="expired",route="media"} 1"#,
            r#"tidegate_collapsed_requests_total{route="media"} 1"#,
            r#"tidegate_gate_refusals_total{reason="bare_lf"} 1"#,
            "tidegate_access_log_dropped_total 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
    }

    #[test]
    fn purges_are_counted_by_kind_and_severity() {
        let metrics = Metrics::new();
        let purges = metrics.purges();
        purges.record("tag", "soft");
        purges.record("tag", "soft");
        purges.record("url", "hard");
        purges.record_purged_response();
        purges.set_rules(2);
        let text = metrics.gather_text();
        for line in [
            r#"tidegate_purges_total{kind="tag",severity="soft"} 2"#,
            r#"tidegate_purges_total{kind="url",severity="hard"} 1"#,
            "tidegate_purged_responses_total 1",
            "tidegate_purge_rules 2",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
    }

    #[test]
    fn process_and_build_are_described() {
        let text = Metrics::new().gather_text();
        for name in [
            concat!(
                "tidegate_build_info{version=\"",
                env!("CARGO_PKG_VERSION"),
                "\"} 1"
            ),
            "process_cpu_seconds_total ",
            "process_open_fds ",
            "process_resident_memory_bytes ",
            "process_start_time_seconds ",
        ] {
            assert_eq!(samples(&text, name).len(), 1, "{name} in\n{text}");
        }
    }
}
