//! What is counted for one route.

use std::sync::OnceLock;
use std::time::Duration;

use prometheus::{Histogram, IntCounter, IntCounterVec};

use super::vocabulary::{Outcome, Protocol, Source};

/// A request that has ended, as the counters need it.
#[derive(Debug, Clone)]
pub struct Finished {
    /// How it was answered.
    pub outcome: Outcome,
    /// The status sent; anything outside 100–999 means that none was (label `none`).
    pub status: u16,
    /// What the client spoke.
    pub protocol: Protocol,
    /// From the first byte of the request to the last byte of the response.
    pub elapsed: Duration,
    /// From the first byte of the request to the first byte of the response; `None` when the
    /// client got none.
    pub time_to_first_byte: Option<Duration>,
    /// Body bytes sent from the memory tier.
    pub bytes_memory: u64,
    /// Body bytes sent from the disk tier.
    pub bytes_disk: u64,
    /// Body bytes sent that the origin delivered for this request or for a fill it shared.
    pub bytes_origin: u64,
}

/// The counters of one route. Get it with [`super::Metrics::route`] and keep it.
#[derive(Debug)]
pub struct RouteMetrics {
    route: String,
    requests: IntCounterVec,
    requests_by: Box<[StatusPage; Outcome::COUNT * Protocol::COUNT]>,
    bytes_memory: IntCounter,
    bytes_disk: IntCounter,
    bytes_origin: IntCounter,
    duration: Histogram,
    time_to_first_byte: Histogram,
    collapsed: IntCounter,
    signature_refusals: IntCounterVec,
}

/// The vectors a route takes its children from.
pub(super) struct RouteVectors<'a> {
    pub(super) requests: &'a IntCounterVec,
    pub(super) bytes: &'a IntCounterVec,
    pub(super) duration: &'a prometheus::HistogramVec,
    pub(super) time_to_first_byte: &'a prometheus::HistogramVec,
    pub(super) collapsed: &'a IntCounterVec,
    pub(super) signature_refusals: &'a IntCounterVec,
}

impl RouteMetrics {
    pub(super) fn new(route: &str, vectors: RouteVectors<'_>) -> Self {
        let bytes = |source: Source| vectors.bytes.with_label_values(&[route, source.as_str()]);
        RouteMetrics {
            route: route.to_owned(),
            requests: vectors.requests.clone(),
            requests_by: Box::new([const { StatusPage::new() }; Outcome::COUNT * Protocol::COUNT]),
            bytes_memory: bytes(Source::Memory),
            bytes_disk: bytes(Source::Disk),
            bytes_origin: bytes(Source::Origin),
            duration: vectors.duration.with_label_values(&[route]),
            time_to_first_byte: vectors.time_to_first_byte.with_label_values(&[route]),
            collapsed: vectors.collapsed.with_label_values(&[route]),
            signature_refusals: vectors.signature_refusals.clone(),
        }
    }

    /// Counts a request that has ended. Takes no lock once its combination of labels was seen.
    pub fn record(&self, finished: &Finished) {
        self.requests(finished.outcome, finished.status, finished.protocol)
            .inc();
        for (counter, bytes) in [
            (&self.bytes_memory, finished.bytes_memory),
            (&self.bytes_disk, finished.bytes_disk),
            (&self.bytes_origin, finished.bytes_origin),
        ] {
            if bytes > 0 {
                counter.inc_by(bytes);
            }
        }
        self.duration.observe(finished.elapsed.as_secs_f64());
        if let Some(first_byte) = finished.time_to_first_byte {
            self.time_to_first_byte.observe(first_byte.as_secs_f64());
        }
    }

    /// Counts a request that was answered by another request's fill (RFC 9211 `collapsed`).
    pub fn record_collapsed(&self) {
        self.collapsed.inc();
    }

    /// Counts a refused signature. `reason` is the refusal's name, never text from a client.
    pub fn record_signature_refusal(&self, reason: &'static str) {
        self.signature_refusals
            .with_label_values(&[self.route.as_str(), reason])
            .inc();
    }

    fn requests(&self, outcome: Outcome, status: u16, protocol: Protocol) -> &IntCounter {
        let page = &self.requests_by[outcome as usize * Protocol::COUNT + protocol as usize];
        page.get(status, || {
            let digits;
            let status = if STATUSES.contains(&status) {
                digits = status.to_string();
                digits.as_str()
            } else {
                "none"
            };
            self.requests.with_label_values(&[
                self.route.as_str(),
                outcome.as_str(),
                status,
                protocol.as_str(),
            ])
        })
    }
}

const STATUSES: std::ops::RangeInclusive<u16> = 100..=999;
/// One slot per status and one for "none".
const SLOTS: usize = 901;

/// The counters of one outcome and protocol by status. The slots (14 KiB) are allocated with the
/// first request, since most of the 33 pages of a route are never used.
#[derive(Debug)]
struct StatusPage(OnceLock<Box<[OnceLock<IntCounter>]>>);

impl StatusPage {
    const fn new() -> Self {
        StatusPage(OnceLock::new())
    }

    fn get(&self, status: u16, resolve: impl FnOnce() -> IntCounter) -> &IntCounter {
        let slots = self
            .0
            .get_or_init(|| (0..SLOTS).map(|_| OnceLock::new()).collect());
        let slot = if STATUSES.contains(&status) {
            usize::from(status - STATUSES.start()) + 1
        } else {
            0
        };
        slots[slot].get_or_init(resolve)
    }
}
