//! What is counted for one origin server.

use std::sync::OnceLock;
use std::time::Duration;

use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge};

/// How a request to an origin server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OriginResult {
    /// The server sent this final status.
    Status(u16),
    /// No connection could be made.
    ConnectError,
    /// The server was silent for too long.
    Timeout,
    /// The connection ended before the response did.
    Aborted,
}

impl OriginResult {
    const COUNT: usize = 9;

    /// The label: the status class, or what went wrong. A status outside 100–599 is
    /// `other`, since RFC 9110 §15 gives it no class.
    pub fn as_str(self) -> &'static str {
        LABELS[self.slot()]
    }

    fn slot(self) -> usize {
        match self {
            OriginResult::Status(status @ 100..=599) => usize::from(status / 100) - 1,
            OriginResult::Status(_) => 5,
            OriginResult::ConnectError => 6,
            OriginResult::Timeout => 7,
            OriginResult::Aborted => 8,
        }
    }
}

const LABELS: [&str; OriginResult::COUNT] = [
    "1xx",
    "2xx",
    "3xx",
    "4xx",
    "5xx",
    "other",
    "connect_error",
    "timeout",
    "aborted",
];

/// The counters of one server of one origin pool. Get it with
/// [`super::Metrics::origin_server`] and keep it.
#[derive(Debug)]
pub struct OriginMetrics {
    origin: String,
    server: String,
    requests: IntCounterVec,
    requests_by: [OnceLock<IntCounter>; OriginResult::COUNT],
    duration: Histogram,
    healthy: IntGauge,
}

impl OriginMetrics {
    pub(super) fn new(
        origin: &str,
        server: &str,
        requests: &IntCounterVec,
        duration: Histogram,
        healthy: IntGauge,
    ) -> Self {
        OriginMetrics {
            origin: origin.to_owned(),
            server: server.to_owned(),
            requests: requests.clone(),
            requests_by: [const { OnceLock::new() }; OriginResult::COUNT],
            duration,
            healthy,
        }
    }

    /// Counts a request to the server that has ended, `elapsed` after it was begun (the wait for
    /// a connection included).
    pub fn record(&self, result: OriginResult, elapsed: Duration) {
        self.requests_by[result.slot()]
            .get_or_init(|| {
                self.requests.with_label_values(&[
                    self.origin.as_str(),
                    self.server.as_str(),
                    result.as_str(),
                ])
            })
            .inc();
        self.duration.observe(elapsed.as_secs_f64());
    }

    /// Publishes whether the server takes requests.
    pub fn set_healthy(&self, healthy: bool) {
        self.healthy.set(i64::from(healthy));
    }
}
