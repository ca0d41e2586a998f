//! What has happened in a run, and what may not happen.
//!
//! The origin writes down every response it gives, the clients write down every byte they get. Each
//! response carries its number in a field, so a client's response leads back to the origin's.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;

use super::origin::Edition;
use crate::clock::{ManualClock, Moment};

/// Carries the number of the response whose body and head this is.
pub(super) const RESPONSE: &str = "x-response";
/// Carries the number of the 304 that validated it last.
pub(super) const VALIDATION: &str = "x-validation";

/// A response of the origin.
#[derive(Debug, Clone)]
pub(super) struct Exchange {
    pub(super) url: usize,
    /// `None`: an error document.
    pub(super) edition: Option<Edition>,
    pub(super) body: Bytes,
    /// Any client may get it, and any number of times.
    pub(super) shareable: bool,
    pub(super) lifetime: Duration,
    pub(super) age: Duration,
    pub(super) requested: Duration,
    /// The end of the connection ends the body, so that a cut cannot be told from the end.
    pub(super) cut_is_invisible: bool,
    /// It is stored only once it has ended.
    pub(super) stored_when_ended: bool,
    /// No other response can bring what this one failed to.
    pub(super) whole_when_ended: bool,
    /// It has come to its end, and the end could be verified.
    pub(super) ended: bool,
}

impl Exchange {
    fn has_broken_off(&self) -> bool {
        !self.ended && !self.cut_is_invisible
    }
}

/// Where a response that a client got came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// Found, and fresh.
    Stored,
    /// Found, and used within its grace.
    Stale,
    /// Fetched, by the client or by somebody it joined.
    Fetched,
}

/// A request while it goes on.
#[derive(Debug)]
pub(super) struct Visit {
    pub(super) url: usize,
    pub(super) variant: usize,
    /// The oldest version of the resource that was not invalidated when it began.
    pub(super) oldest_version: usize,
    /// It wants nothing older; a response that is not as old is good enough.
    pub(super) oldest_age: Option<Duration>,
    /// Where its reader stands, once there is one.
    pub(super) position: Option<u64>,
}

/// A request for a head that the origin is working on.
pub(super) struct HeadRequest {
    pub(super) url: usize,
    pub(super) variant: usize,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) exchanges: Vec<Exchange>,
    pub(super) visits: BTreeMap<u64, Visit>,
    begun: u64,
    /// The visits that got a response that one client only may get.
    sole_readers: BTreeMap<usize, BTreeSet<u64>>,
    pub(super) head_requests: BTreeMap<u64, HeadRequest>,
    pub(super) heads_asked: BTreeMap<usize, u64>,
    heads_begun: u64,
    /// The oldest version of each resource that was not invalidated.
    pub(super) oldest_version: BTreeMap<usize, usize>,
    /// Resources for which more than one head may be asked for at a time: one was invalidated or
    /// gave a response that cannot be shared.
    pub(super) unsteady: BTreeSet<usize>,
    /// Responses that went wrong, or may have.
    pub(super) faults: u64,
    violations: Vec<String>,
    trace: Option<Vec<String>>,
    /// How often something happened: a simulation that reaches nothing proves nothing.
    pub(super) counts: BTreeMap<&'static str, u64>,
}

pub(super) struct Ledger {
    pub(super) clock: Arc<ManualClock>,
    /// How long past its lifetime a response may be used.
    grace: Duration,
    state: Mutex<State>,
}

impl Ledger {
    pub(super) fn new(clock: Arc<ManualClock>, grace: Duration, traced: bool) -> Arc<Self> {
        Arc::new(Ledger {
            clock,
            grace,
            state: Mutex::new(State {
                trace: traced.then(Vec::new),
                ..State::default()
            }),
        })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(super) fn trace(&self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.lock().trace {
            trace.push(line());
        }
    }

    pub(super) fn count(&self, what: &'static str) {
        *self.lock().counts.entry(what).or_default() += 1;
    }

    pub(super) fn violation(&self, what: String) {
        self.trace(|| format!("VIOLATION {what}"));
        self.lock().violations.push(what);
    }

    pub(super) fn finish(&self) -> (Vec<String>, Vec<String>) {
        let mut state = self.lock();
        let trace = state.trace.take().unwrap_or_default();
        (std::mem::take(&mut state.violations), trace)
    }

    pub(super) fn begin(
        self: &Arc<Self>,
        url: usize,
        variant: usize,
        oldest_age: Option<Duration>,
    ) -> Seat {
        let mut state = self.lock();
        let visit = state.begun;
        state.begun += 1;
        let oldest_version = state.oldest_version.get(&url).copied().unwrap_or(0);
        state.visits.insert(
            visit,
            Visit {
                url,
                variant,
                oldest_version,
                oldest_age,
                position: None,
            },
        );
        drop(state);
        Seat {
            ledger: self.clone(),
            visit,
        }
    }

    /// One more request for a head; `one-fill-per-key` is judged here.
    pub(super) fn ask_head(self: &Arc<Self>, url: usize, variant: usize) -> HeadSeat {
        let mut state = self.lock();
        let number = state.heads_begun;
        state.heads_begun += 1;
        *state.heads_asked.entry(url).or_default() += 1;
        let same = |other: &&HeadRequest| other.url == url && other.variant == variant;
        let doubled = state.head_requests.values().find(same).is_some();
        state
            .head_requests
            .insert(number, HeadRequest { url, variant });
        let steady = !state.unsteady.contains(&url);
        drop(state);
        if doubled && steady {
            self.violation(format!(
                "one-fill-per-key: two heads of /{url} asked for at once"
            ));
        }
        HeadSeat {
            ledger: self.clone(),
            number,
        }
    }

    /// Whether the origin may be asked for the byte at `offset` of a body of `url` that spans `span` and comes in
    /// chunks of up to `chunk` bytes (`bounded-lead`). A reader is at the end of the piece that it took last,
    /// also when its client wants only the beginning of it; pieces are chunks, or what was gathered of a block.
    pub(super) fn judge_lead(
        &self,
        url: usize,
        span: Range<u64>,
        offset: u64,
        chunk: u64,
        sizes: crate::cache::sizes::Sizes,
    ) {
        let state = self.lock();
        let positions = state
            .visits
            .values()
            .filter(|visit| visit.url == url)
            .map(|visit| visit.position.unwrap_or(span.start));
        let fastest = positions.max();
        drop(state);
        let piece = chunk.max(sizes.blocks.bytes());
        let reach = fastest.map(|fastest| fastest.max(span.start) + sizes.lead_bytes + piece);
        let nearly_done = span.end.saturating_sub(offset) <= sizes.finish_anyway_bytes;
        if !nearly_done && reach.is_none_or(|reach| offset > reach) {
            self.violation(format!(
                "bounded-lead: /{url} asked for byte {offset}, its fastest reader is at {fastest:?}"
            ));
        }
    }
}

/// A visit's place in the ledger.
pub(super) struct Seat {
    ledger: Arc<Ledger>,
    pub(super) visit: u64,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.ledger.lock().visits.remove(&self.visit);
    }
}

/// A head request's place in the ledger.
pub(super) struct HeadSeat {
    ledger: Arc<Ledger>,
    number: u64,
}

impl Drop for HeadSeat {
    fn drop(&mut self) {
        self.ledger.lock().head_requests.remove(&self.number);
    }
}

fn number_in(fields: &HeaderMap, name: &str) -> Option<usize> {
    fields.get(name)?.to_str().ok()?.parse().ok()
}

/// A response as a client sees it.
pub(super) struct Sight {
    exchange: usize,
    body: Bytes,
    cut_is_invisible: bool,
    got: u64,
    span: Range<u64>,
}

impl Seat {
    fn violation(&self, rule: &str, what: String) {
        let visit = self.visit;
        self.ledger
            .violation(format!("{rule}: visit {visit}: {what}"));
    }

    /// A head has come.
    pub(super) fn head(
        &self,
        fields: &HeaderMap,
        source: Source,
        looked: Moment,
        length: Option<u64>,
    ) -> Sight {
        let mut state = self.ledger.lock();
        let number = number_in(fields, RESPONSE).expect("the origin numbers its responses");
        let exchange = state.exchanges[number].clone();
        let validation = number_in(fields, VALIDATION);
        let vouched = validation.map(|number| state.exchanges[number].clone());
        let readers = state.sole_readers.entry(number).or_default();
        readers.insert(self.visit);
        let readers = readers.len();
        let visit = &state.visits[&self.visit];
        let (url, variant, oldest) = (visit.url, visit.variant, visit.oldest_version);
        let oldest_age = visit.oldest_age;
        drop(state);
        self.ledger.trace(|| {
            format!(
                "visit {}: {source:?} response {number} validated by {validation:?}, {:?}",
                self.visit, exchange.edition
            )
        });

        if exchange.url != url {
            self.violation(
                "right-resource",
                format!("asked /{url}, got /{}", exchange.url),
            );
        }
        if !exchange.shareable && (readers > 1 || source != Source::Fetched) {
            self.violation(
                "not-shared",
                format!("response {number} was for one client only"),
            );
        }
        if let Some(edition) = &exchange.edition {
            if edition.variant.is_some_and(|of| of != variant) {
                self.violation("right-variant", format!("asked {variant}, got {edition:?}"));
            }
            let version = vouched
                .iter()
                .filter_map(|vouched| vouched.edition.as_ref())
                .fold(edition.version, |version, vouched| {
                    version.max(vouched.version)
                });
            if version < oldest {
                self.violation(
                    "invalidated",
                    format!("got version {version}, but all before {oldest} were invalidated"),
                );
            }
            if length.is_some_and(|length| length != exchange.body.len() as u64) {
                self.violation(
                    "true-length",
                    format!("length {length:?} of {} bytes", exchange.body.len()),
                );
            }
        }
        if source != Source::Fetched {
            let current = vouched.as_ref().unwrap_or(&exchange);
            let age = current.age + looked.monotonic.saturating_sub(current.requested);
            let grace = self.ledger.grace;
            // A client that asked for a validation which then failed may get what is fresh.
            let refused =
                self.ledger.lock().faults == 0 && oldest_age.is_some_and(|oldest| age > oldest);
            // What must always be validated has no lifetime here, and no grace either.
            let limit = match current.lifetime {
                lifetime if lifetime.is_zero() || source == Source::Stored => lifetime,
                lifetime => lifetime + grace,
            };
            if age >= limit || refused {
                self.violation(
                    "fresh",
                    format!(
                        "age {age:?}, lifetime {:?}, wanted {oldest_age:?}",
                        current.lifetime
                    ),
                );
            }
        }
        Sight {
            exchange: number,
            cut_is_invisible: exchange.cut_is_invisible,
            span: 0..exchange.body.len() as u64,
            body: exchange.body,
            got: 0,
        }
    }

    /// The span that the client reads.
    pub(super) fn reads(&self, sight: &mut Sight, span: Range<u64>) {
        self.at(span.start);
        sight.span = span;
    }

    fn at(&self, position: u64) {
        if let Some(visit) = self.ledger.lock().visits.get_mut(&self.visit) {
            visit.position = Some(position);
        }
    }

    /// Bytes have come.
    pub(super) fn bytes(&self, sight: &mut Sight, bytes: &Bytes) {
        let start = (sight.span.start + sight.got) as usize;
        let end = start + bytes.len();
        sight.got += bytes.len() as u64;
        let (number, visit) = (sight.exchange, self.visit);
        self.ledger
            .trace(|| format!("visit {visit}: bytes {start}..{end} of response {number}"));
        if sight.body.get(start..end) != Some(&bytes[..]) {
            self.violation(
                "one-generation-one-body",
                format!("bytes {start}..{end} are not those of response {number}"),
            );
        }
        if bytes.is_empty() {
            self.violation("progress", "no bytes".to_owned());
        }
        self.at(sight.span.start + sight.got);
    }

    /// The response has ended as a whole one does.
    pub(super) fn end(&self, sight: &Sight) {
        self.ledger
            .trace(|| format!("visit {}: complete", self.visit));
        let expected = sight.span.end - sight.span.start;
        let to_the_end = sight.span.end == sight.body.len() as u64;
        let exchange = self.ledger.lock().exchanges[sight.exchange].clone();
        if to_the_end && exchange.whole_when_ended && exchange.has_broken_off() {
            self.violation(
                "visible-only-when-complete",
                format!("response {} ended, but not at the origin", sight.exchange),
            );
        }
        if sight.got != expected && !sight.cut_is_invisible {
            self.violation(
                "visible-only-when-complete",
                format!("ended after {} of {expected} bytes", sight.got),
            );
        }
    }
}

impl Ledger {
    /// The body that a stored response with `fields` must have; `None` when it must not be stored.
    pub(super) fn body_of(&self, fields: &HeaderMap) -> Option<Bytes> {
        let exchange = self.lock().exchanges[number_in(fields, RESPONSE)?].clone();
        exchange.shareable.then_some(exchange.body)
    }

    /// Whether a stored response with `fields` was never brought to its end.
    pub(super) fn is_broken(&self, fields: &HeaderMap) -> bool {
        number_in(fields, RESPONSE).is_some_and(|number| {
            let exchange = &self.lock().exchanges[number];
            exchange.stored_when_ended && exchange.has_broken_off()
        })
    }
}
