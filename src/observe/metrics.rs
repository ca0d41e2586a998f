//! The names Prometheus scrapes, all spelled here.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use prometheus::process_collector::ProcessCollector;
use prometheus::{
    HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry, TextEncoder,
};

use super::cache_metrics::{CacheTierMetrics, MemoryFileMetrics};
use super::connection_metrics::ConnectionMetrics;
use super::disk_tier_metrics::{DiskTierMetrics, DiskTierVectors};
use super::families::{
    counters, gauges, histograms, register, registered, route_histograms, valid,
};
use super::origin_metrics::OriginMetrics;
use super::purge_metrics::PurgeMetrics;
use super::route_metrics::{RouteMetrics, RouteVectors};
use super::sharded::RouteHistograms;
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

#[cfg(test)]
mod tests;
