//! What is counted of TLS.

use std::fmt;
use std::path::Path;

use prometheus::{IntCounterVec, IntGaugeVec, Registry};

use super::families::{counters, gauges};

/// The families of all listeners.
#[derive(Clone)]
pub(super) struct TlsVectors {
    expiry: IntGaugeVec,
    reloads: IntCounterVec,
    handshakes: IntCounterVec,
}

impl TlsVectors {
    pub(super) fn new(registry: &Registry) -> Self {
        TlsVectors {
            expiry: gauges(
                registry,
                "tidegate_tls_certificate_expiry_timestamp_seconds",
                "Unix time at which the first certificate of a chain expires.",
                &["listener", "chain"],
            ),
            reloads: counters(
                registry,
                "tidegate_tls_certificate_reloads_total",
                "Times that the certificate files of a listener were read again: done, or failed and kept as they were.",
                &["listener", "result"],
            ),
            handshakes: counters(
                registry,
                "tidegate_tls_handshakes_total",
                "TLS handshakes: full, resumed, failed, or timed_out.",
                &["listener", "result"],
            ),
        }
    }
}

/// The TLS metrics of one listener. Get them with [`super::Metrics::tls_listener`] and keep them.
#[derive(Clone)]
pub struct TlsMetrics {
    listener: String,
    vectors: TlsVectors,
}

impl TlsMetrics {
    pub(super) fn new(listener: &str, vectors: &TlsVectors) -> Self {
        for result in ["full", "resumed", "failed", "timed_out"] {
            vectors.handshakes.with_label_values(&[listener, result]);
        }
        for result in ["done", "failed"] {
            vectors.reloads.with_label_values(&[listener, result]);
        }
        TlsMetrics {
            listener: listener.to_owned(),
            vectors: vectors.clone(),
        }
    }

    /// Publishes when the first certificate of the chain in the file `chain` expires, in seconds of Unix time.
    pub fn set_expiry(&self, chain: &Path, seconds: i64) {
        let labels = [self.listener.as_str(), &chain.to_string_lossy()];
        self.vectors.expiry.with_label_values(&labels).set(seconds);
    }

    /// Counts that the files were read again; `result` is a word of ours.
    pub fn record_reload(&self, result: &'static str) {
        let labels = [self.listener.as_str(), result];
        self.vectors.reloads.with_label_values(&labels).inc();
    }

    /// Counts a handshake; `result` is a word of ours.
    pub fn record_handshake(&self, result: &'static str) {
        let labels = [self.listener.as_str(), result];
        self.vectors.handshakes.with_label_values(&labels).inc();
    }
}

impl fmt::Debug for TlsMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsMetrics").finish_non_exhaustive()
    }
}
