//! What is counted for one route.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus::{IntCounter, IntCounterVec};

use super::sharded::{Count, DurationHistogram, RouteHistograms, Sharded};
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
    bytes_memory: IntCounter,
    bytes_disk: IntCounter,
    bytes_origin: IntCounter,
    counts: Sharded<Counts>,
    duration: Arc<DurationHistogram>,
    time_to_first_byte: Arc<DurationHistogram>,
    collapsed: IntCounter,
    signature_refusals: IntCounterVec,
}

/// What one worker has counted since the start.
#[derive(Debug, Default)]
struct Counts {
    requests: [[StatusPage; Protocol::ALL.len()]; Outcome::ALL.len()],
    bytes_memory: Count,
    bytes_disk: Count,
    bytes_origin: Count,
}

impl Counts {
    fn page(&self, outcome: Outcome, protocol: Protocol) -> &StatusPage {
        &self.requests[outcome as usize][protocol as usize]
    }
}

/// The vectors a route takes its children from.
pub(super) struct RouteVectors<'a> {
    pub(super) requests: &'a IntCounterVec,
    pub(super) bytes: &'a IntCounterVec,
    pub(super) duration: &'a RouteHistograms,
    pub(super) time_to_first_byte: &'a RouteHistograms,
    pub(super) collapsed: &'a IntCounterVec,
    pub(super) signature_refusals: &'a IntCounterVec,
}

impl RouteMetrics {
    pub(super) fn new(route: &str, vectors: RouteVectors<'_>) -> Self {
        let bytes = |source: Source| vectors.bytes.with_label_values(&[route, source.as_str()]);
        RouteMetrics {
            route: route.to_owned(),
            requests: vectors.requests.clone(),
            bytes_memory: bytes(Source::Memory),
            bytes_disk: bytes(Source::Disk),
            bytes_origin: bytes(Source::Origin),
            counts: Sharded::new(),
            duration: vectors.duration.add(route),
            time_to_first_byte: vectors.time_to_first_byte.add(route),
            collapsed: vectors.collapsed.with_label_values(&[route]),
            signature_refusals: vectors.signature_refusals.clone(),
        }
    }

    /// Counts a request that has ended. Takes no lock and writes nothing that another worker writes,
    /// unless there are more workers than processors.
    pub fn record(&self, finished: &Finished) {
        let counts = self.counts.own();
        counts
            .page(finished.outcome, finished.protocol)
            .count(finished.status);
        for (count, bytes) in [
            (&counts.bytes_memory, finished.bytes_memory),
            (&counts.bytes_disk, finished.bytes_disk),
            (&counts.bytes_origin, finished.bytes_origin),
        ] {
            if bytes > 0 {
                count.add(bytes);
            }
        }
        self.duration.observe(finished.elapsed);
        if let Some(first_byte) = finished.time_to_first_byte {
            self.time_to_first_byte.observe(first_byte);
        }
    }

    /// Brings the counters that are scraped up to date. Not to be called by two threads at a time, who
    /// would both add what is new.
    pub(super) fn settle(&self) {
        let sum = |of: fn(&Counts) -> &Count| -> u64 {
            self.counts.iter().map(|counts| of(counts).get()).sum()
        };
        raise(&self.bytes_memory, sum(|counts| &counts.bytes_memory));
        raise(&self.bytes_disk, sum(|counts| &counts.bytes_disk));
        raise(&self.bytes_origin, sum(|counts| &counts.bytes_origin));
        for outcome in Outcome::ALL {
            for protocol in Protocol::ALL {
                self.settle_page(outcome, protocol);
            }
        }
    }

    fn settle_page(&self, outcome: Outcome, protocol: Protocol) {
        let pages = self.counts.iter();
        let pages = pages.filter_map(|counts| counts.page(outcome, protocol).0.get());
        let pages: Vec<_> = pages.collect();
        if pages.is_empty() {
            return;
        }
        for slot in 0..SLOTS {
            let sum = pages.iter().map(|page| page[slot].get()).sum();
            if sum > 0 {
                let status = status_in(slot).map_or("none".to_owned(), |status| status.to_string());
                let labels = [&self.route, outcome.as_str(), &status, protocol.as_str()];
                raise(&self.requests.with_label_values(&labels), sum);
            }
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
}

/// Sets a counter that only this raises.
fn raise(counter: &IntCounter, to: u64) {
    counter.inc_by(to.saturating_sub(counter.get()));
}

const STATUSES: std::ops::RangeInclusive<u16> = 100..=999;
/// One slot per status and one for "none".
const SLOTS: usize = 901;

fn slot_of(status: u16) -> usize {
    if STATUSES.contains(&status) {
        usize::from(status - STATUSES.start()) + 1
    } else {
        0
    }
}

/// The status that `slot` counts; `None` for those that have no slot of their own.
fn status_in(slot: usize) -> Option<usize> {
    let above = slot.checked_sub(1)?;
    Some(usize::from(*STATUSES.start()) + above)
}

/// The requests of one outcome and protocol by status. The slots (7 KiB) are allocated with the first
/// request, since most of the 36 pages of a route are never used.
#[derive(Debug, Default)]
struct StatusPage(OnceLock<Box<[Count]>>);

impl StatusPage {
    fn count(&self, status: u16) {
        let slots = self
            .0
            .get_or_init(|| (0..SLOTS).map(|_| Count::default()).collect());
        slots[slot_of(status)].add(1);
    }
}
