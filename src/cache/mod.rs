//! The cache engine: stored responses, fills, the memory tier.
//!
//! A request takes two steps here: [`Cache::lookup`] (never waits) and, unless that is a hit,
//! [`Cache::fetch`], which asks the origin or joins somebody who already does. Either way the
//! edge gets an [`Arc<StoredResponse>`] and reads its body with a [`BodyReader`] while it is still
//! arriving.
//!
//! Invariants:
//! - `one-fill-per-key`: however many requests miss a key at once, one of them asks the origin.
//! - `one-generation-one-body` (see [`stored`]): versions never mix.
//! - `visible-only-when-complete` (see [`fill`]): a body that broke off never looks whole.
//! - `a-tier-fault-is-a-miss`: what a tier has lost is fetched again.

pub mod disk;
pub mod explain;
pub mod fetch;
pub mod file_span;
pub mod fill;
pub mod key;
pub mod memory;
pub mod policy;
pub mod purge;
pub mod query;
pub mod read;
pub mod sightings;
pub mod sizes;
pub mod stored;
pub mod stored_form;
pub mod tasks;
pub mod turn;
pub mod url;

mod assess;
mod collapse;
#[cfg(test)]
mod dice;
mod held_response;
mod persist;
mod produce;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use crate::clock::{Moment, SharedClock};
use crate::config::{self, CacheRules};
use crate::observe::PurgeMetrics;

pub use collapse::{Answer, Ask, InterimSender, ValidationFailure};
pub use held_response::HeldResponse;
pub use key::{CacheKey, Scheme};
pub use read::{BodyError, BodyReader, Piece};
pub use stored::StoredResponse;

use collapse::Collapser;
use disk::DiskTier;
use memory::block::MemoryFiles;
use memory::{Entry, MemoryTier, Refused};
use persist::Persistence;
use policy::cache_control::RequestDirectives;
use policy::freshness::{Freshness, Verdict};
use policy::storable::NotStored;
use policy::tags::Tags;
use purge::{PurgeLog, Sequence, Severity, Subject};
use sizes::Sizes;
use stored::Generation;
use tasks::{OnTokio, Tasks};

/// How long a key whose last response could not be shared stays known as such.
const PASS_MEMORY: Duration = Duration::from_secs(10);

/// What a look-up found.
#[derive(Clone)]
pub enum Lookup<R = HeldResponse> {
    /// A stored response that may be used as it is.
    Hit(R),
    /// A stale response that may be used as it is.
    StaleHit(R, Allowance),
    /// A stale response that may be used at once and is to be validated meanwhile.
    WhileRevalidating(R),
    /// A stored response that must be validated first.
    Stale {
        /// The response.
        response: R,
        /// If the origin fails, it may be used all the same.
        if_error: bool,
        /// Its freshness, which a soft purge ends before its head does.
        freshness: Freshness,
    },
    /// Nothing.
    Miss(Miss),
}

impl<R> Lookup<R> {
    /// The same, with what `change` makes of the response.
    fn map<S>(self, change: impl FnOnce(R) -> S) -> Lookup<S> {
        match self {
            Lookup::Hit(response) => Lookup::Hit(change(response)),
            Lookup::StaleHit(response, why) => Lookup::StaleHit(change(response), why),
            Lookup::WhileRevalidating(response) => Lookup::WhileRevalidating(change(response)),
            Lookup::Stale {
                response,
                if_error,
                freshness,
            } => Lookup::Stale {
                response: change(response),
                if_error,
                freshness,
            },
            Lookup::Miss(miss) => Lookup::Miss(miss),
        }
    }
}

/// What lets a stale response answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowance {
    /// The request's `max-stale` (RFC 9111 §5.2.1.2).
    MaxStale,
    /// `stale-while-revalidate` (RFC 5861 §3).
    WhileRevalidating,
    /// `stale-if-error` (RFC 5861 §4), or the operator's `grace`: its validation has failed a moment
    /// ago.
    IfError,
}

impl Allowance {
    /// The word for `Cache-Status` detail.
    pub fn word(self) -> &'static str {
        match self {
            Allowance::MaxStale => "max-stale",
            Allowance::WhileRevalidating => "stale-while-revalidate",
            Allowance::IfError => "stale-if-error",
        }
    }
}

/// The head of a response that did not come by way of [`Cache::fetch`].
pub struct Aside<'a> {
    /// The fields of the request, as the client sent them.
    pub request: &'a HeaderMap,
    /// Status.
    pub status: http::StatusCode,
    /// All fields of the response.
    pub fields: &'a HeaderMap,
    /// When the request was sent.
    pub requested: Moment,
    /// When the head had arrived.
    pub received: Moment,
    /// [`Cache::purge_sequence`] when the request was sent.
    pub asked: Sequence,
}

/// What of a span of a stored body is at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holding {
    /// All of it.
    Whole,
    /// Another request's fill is about to bring the first byte that is missing.
    Arriving,
    /// A part; the rest must be asked for.
    Part,
}

/// The kinds of nothing, as RFC 9211 §2.2 tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Miss {
    /// No response is stored under this key.
    Key,
    /// Responses are stored, but none for these selecting fields.
    Variant,
    /// The last response could not be shared: this request waits for nobody.
    Pass,
}

/// The cache of one edge node.
pub struct Cache {
    memory: MemoryTier,
    files: Arc<MemoryFiles>,
    persistence: Option<Arc<Persistence>>,
    collapser: Collapser,
    clock: SharedClock,
    purges: Arc<PurgeLog>,
    purge_metrics: PurgeMetrics,
    sizes: Sizes,
    windows: Arc<fill::Windows>,
    tasks: Box<dyn Tasks>,
}

/// Where bodies may lie beside plain memory.
pub struct Places {
    /// The disk tier, if there is one.
    pub disk: Option<Arc<DiskTier>>,
    /// Files of memory, for long blocks.
    pub files: Arc<MemoryFiles>,
}

impl Places {
    /// Plain memory only.
    pub fn none() -> Self {
        Places {
            disk: None,
            files: MemoryFiles::none(),
        }
    }
}

impl Cache {
    /// An empty cache.
    pub fn new(
        config: &config::Cache,
        clock: SharedClock,
        purges: Arc<PurgeLog>,
        purge_metrics: PurgeMetrics,
        places: Places,
    ) -> Arc<Self> {
        let tasks = Box::new(OnTokio);
        let sizes = Sizes::STANDARD;
        Self::with(config, clock, purges, purge_metrics, places, sizes, tasks)
    }

    fn with(
        config: &config::Cache,
        clock: SharedClock,
        purges: Arc<PurgeLog>,
        purge_metrics: PurgeMetrics,
        places: Places,
        sizes: Sizes,
        tasks: Box<dyn Tasks>,
    ) -> Arc<Self> {
        let Places { disk, files } = places;
        let persistence = disk.map(|disk| Persistence::new(disk, clock.clone()));
        let leaving = persistence
            .clone()
            .map(|own| own as Arc<dyn memory::Leaving>);
        Arc::new(Cache {
            memory: MemoryTier::new(config.memory_bytes, leaving),
            files,
            persistence,
            collapser: Collapser::default(),
            clock,
            purges,
            purge_metrics,
            sizes,
            windows: fill::Windows::new(config.memory_bytes / sizes.windows_share),
            tasks,
        })
    }

    /// The sequence of the newest purge. What an origin is asked for from now on is not touched by it.
    pub fn purge_sequence(&self) -> Sequence {
        self.purges.latest()
    }

    /// The files of memory that long bodies lie in.
    pub fn memory_files(&self) -> &MemoryFiles {
        &self.files
    }

    /// The sizes that it works with.
    pub fn sizes(&self) -> &Sizes {
        &self.sizes
    }

    /// The memory tier, for its gauges.
    pub fn memory(&self) -> &MemoryTier {
        &self.memory
    }

    /// Looks for a stored response (RFC 9111 §4). Never waits.
    pub fn lookup(
        &self,
        key: &CacheKey,
        fields: &HeaderMap,
        directives: &RequestDirectives,
        now: Moment,
    ) -> Lookup {
        let Some(entry) = self.memory.entry(key) else {
            return Lookup::Miss(Miss::Key);
        };
        let (lookup, purged) = self.consult(&entry, key, fields, directives, now);
        self.note_request(key, &lookup, purged);
        let numbered = lookup.map(|response| {
            let is_it = |variant| Arc::ptr_eq(variant, response);
            let number = entry.variants.iter().position(is_it);
            number.ok_or_else(|| response.clone())
        });
        numbered.map(|found| match found {
            Ok(number) => HeldResponse::variant(entry, number),
            Err(response) => response.into(),
        })
    }

    /// The same in what [`Cache::recall`] gave: memory may have had no room for it.
    pub fn lookup_in(
        &self,
        entry: &Entry,
        key: &CacheKey,
        fields: &HeaderMap,
        directives: &RequestDirectives,
        now: Moment,
    ) -> Lookup {
        let (lookup, purged) = self.consult(entry, key, fields, directives, now);
        self.note_request(key, &lookup, purged);
        lookup.map(|response| response.clone().into())
    }

    /// Counts a look-up that was for a request.
    fn note_request(
        &self,
        key: &CacheKey,
        lookup: &Lookup<&Arc<StoredResponse>>,
        purged: Option<Severity>,
    ) {
        if purged.is_some() {
            self.purge_metrics.record_purged_response();
        }
        if let (Some(own), Lookup::Hit(response)) = (&self.persistence, lookup) {
            response.body.note_use();
            own.keep_used(key, response, self.sizes.blocks.bytes());
        }
    }

    /// A look-up that is not counted, and the purge that shaped it.
    fn consult<'e>(
        &self,
        entry: &'e Entry,
        key: &CacheKey,
        fields: &HeaderMap,
        directives: &RequestDirectives,
        now: Moment,
    ) -> (Lookup<&'e Arc<StoredResponse>>, Option<Severity>) {
        let judgement = self.judge(key, entry, fields, directives, now);
        if let (Some(selected), Some(Severity::Hard)) = (judgement.selected, judgement.purged) {
            self.forget_generation(key, selected);
        }
        (judgement.lookup, judgement.purged)
    }

    /// What is remembered of `key`, judged for one request. Changes nothing that anybody could see.
    fn judge<'e>(
        &self,
        key: &CacheKey,
        entry: &'e Entry,
        fields: &HeaderMap,
        directives: &RequestDirectives,
        now: Moment,
    ) -> Judgement<'e> {
        let selected = entry.variant_for(fields);
        let missed = |miss, purged| Judgement {
            lookup: Lookup::Miss(miss),
            selected,
            purged,
        };
        let Some(response) = selected.filter(|response| self.is_usable(response)) else {
            let miss = match entry.pass_until {
                Some(until) if now.monotonic < until => Miss::Pass,
                _ if entry.variants.is_empty() || selected.is_some() => Miss::Key,
                _ => Miss::Variant,
            };
            return missed(miss, None);
        };
        let purged = self.purged(key, &response.head);
        let freshness = match purged {
            Some(Severity::Hard) => return missed(Miss::Key, purged),
            Some(Severity::Soft) => response.head.freshness.expired(now),
            None => response.head.freshness,
        };
        let failing = response.head.has_failed_validation(now.monotonic);
        let lookup = match freshness.judge(directives, now) {
            Verdict::Fresh => Lookup::Hit(response),
            Verdict::Tolerated => Lookup::StaleHit(response, Allowance::MaxStale),
            // Asking an origin that has just failed again and again would help nobody.
            Verdict::Stale { if_error: true } if failing => {
                Lookup::StaleHit(response, Allowance::IfError)
            }
            Verdict::WhileRevalidating if failing => {
                Lookup::StaleHit(response, Allowance::WhileRevalidating)
            }
            Verdict::WhileRevalidating => Lookup::WhileRevalidating(response),
            Verdict::Stale { if_error } => Lookup::Stale {
                response,
                if_error,
                freshness,
            },
        };
        Judgement {
            lookup,
            selected,
            purged,
        }
    }

    /// The severest purge since the origin was asked for a response. Costs one atomic load unless
    /// there was a purge of anything since it was last looked up.
    fn purged(&self, key: &CacheKey, head: &stored::Head) -> Option<Severity> {
        let latest = self.purges.latest();
        let since = head.untouched_up_to();
        if since >= latest {
            return None;
        }
        let tags = &head.tags;
        let purged = self.purges.judge(&Subject { key, tags }, since);
        if purged.is_none() {
            head.set_untouched_up_to(latest);
        }
        purged
    }

    /// Whether a response that is under way since `asked` may be purged, whatever its tags will be.
    fn may_be_purged(&self, key: &CacheKey, asked: Sequence) -> bool {
        let tags = &Tags::unknown();
        asked < self.purges.latest() && self.purges.judge(&Subject { key, tags }, asked).is_some()
    }

    /// The key by which requests that may share a response wait for one another: with what the
    /// newest response varies by.
    fn collapse_key(&self, key: &CacheKey, fields: &HeaderMap) -> CacheKey {
        match self.memory.peek(key) {
            Some(entry) => match entry.variants.first() {
                Some(newest) if !newest.head.selecting.is_empty() => {
                    key.with_variant(|key| newest.head.selecting.append_key(fields, key))
                }
                _ => key.clone(),
            },
            None => key.clone(),
        }
    }

    /// Makes `response` what `key` leads to for requests like `fields`, unless `invalidated`.
    fn store(
        &self,
        key: &CacheKey,
        fields: &HeaderMap,
        response: &Arc<StoredResponse>,
        invalidated: &AtomicBool,
        max_variants: usize,
    ) {
        self.memory.update(key, |entry| {
            // Inside the update: an invalidation sets its mark before it removes the entry.
            if invalidated.load(Ordering::Acquire) {
                return;
            }
            // It may stand in the way of one that was asked for after the purge.
            if self.purged(key, &response.head).is_some() {
                return;
            }
            entry.forget(response.body.generation);
            entry
                .variants
                .retain(|stored| !stored.head.selecting.matches(fields));
            if response.head.selecting.is_empty() {
                entry.variants.clear();
            }
            entry.variants.insert(0, response.clone());
            entry.variants.truncate(max_variants);
            entry.pass_until = None;
            entry.refused = None;
            if let Some(own) = &self.persistence {
                own.keep_new(key, response, self.sizes.blocks.bytes());
            }
        });
    }

    /// Replaces the head of a stored generation.
    fn freshen(&self, key: &CacheKey, response: &Arc<StoredResponse>, invalidated: &AtomicBool) {
        if response.head.not_stored.is_some() {
            self.erase_on_disk(key, response.body.generation);
        }
        self.memory.update(key, |entry| {
            if invalidated.load(Ordering::Acquire) {
                return;
            }
            // An entry that was evicted meanwhile may come back; one that holds something newer
            // has no need of it.
            let is_wanted = entry.variants.is_empty() || entry.forget(response.body.generation);
            if is_wanted && response.head.not_stored.is_none() {
                entry.variants.insert(0, response.clone());
            }
        });
    }

    /// A body of several blocks without strong validator cannot be completed from the origin, so
    /// it is only of use while every block is there.
    fn is_usable(&self, response: &StoredResponse) -> bool {
        let body = &response.body;
        if body.is_in_one_piece() || response.head.part_validator().is_some() {
            return true;
        }
        body.length().is_some_and(|length| {
            length == 0
                || self
                    .sizes
                    .blocks
                    .covering(&(0..length))
                    .all(|number| self.has_block(body.generation, number))
        })
    }

    /// What is at hand of `span`. Looks at no more than the first 64 blocks: what follows is fetched
    /// while those are sent.
    pub fn holds(&self, response: &StoredResponse, span: &std::ops::Range<u64>) -> Holding {
        if span.is_empty() || response.body.is_in_one_piece() {
            return Holding::Whole;
        }
        let generation = response.body.generation;
        let is_missing = |number: &u64| !self.has_block(generation, *number);
        loop {
            let Some(missing) = self.sizes.blocks.covering(span).take(64).find(is_missing) else {
                return Holding::Whole;
            };
            let position = self.sizes.blocks.start_of(missing).max(span.start);
            let arrives = response.body.with_fills(|fills| {
                let reaches =
                    |fill: &Arc<fill::Fill>| fill.reaches(position, self.sizes.lead_bytes);
                fills.iter().any(reaches)
            });
            if arrives {
                return Holding::Arriving;
            }
            // It may have come in since we looked.
            if is_missing(&missing) {
                return Holding::Part;
            }
        }
    }

    /// Bytes of the blocks around `span` that are not held, be they on their way or not. Of a long span
    /// the first 64 blocks are looked at; what follows counts as missing.
    pub fn missing_bytes(&self, response: &StoredResponse, span: &std::ops::Range<u64>) -> u64 {
        if span.is_empty() || response.body.is_in_one_piece() {
            return 0;
        }
        let blocks = self.sizes.blocks;
        let covering = blocks.covering(span);
        let generation = response.body.generation;
        let is_held = |number: &u64| self.has_block(generation, *number);
        let held = covering.clone().take(64).filter(is_held).count() as u64;
        let missing = covering.end - covering.start - held;
        missing.saturating_mul(blocks.bytes())
    }

    /// Invalidates what is stored under `key`, all variants with it (RFC 9111 §4.4).
    pub fn invalidate(&self, key: &CacheKey) {
        // Flights first: one that lands in between finds itself invalidated.
        self.collapser.invalidate(key);
        // Before memory: what is being recalled meanwhile is not taken in any more.
        self.erase_on_disk(key, Generation::latest());
        self.memory.remove(key);
    }

    /// Takes note of a 200 to a HEAD (RFC 9111 §4.3.5): it brings what is stored up to date, or shows
    /// that it is outdated.
    pub fn note_head(&self, key: &CacheKey, answer: &Aside<'_>, rules: &CacheRules) {
        let Some(entry) = self.memory.peek(key) else {
            return;
        };
        let Some(stored) = entry.variant_for(answer.request) else {
            return;
        };
        let length = answer
            .fields
            .get(http::header::CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        let same_length = match (length, stored.body.length()) {
            (Some(new), Some(old)) => new == old,
            _ => true,
        };
        if !same_length || !assess::speaks_of(&stored.head.fields, answer.fields) {
            self.forget_generation(key, stored);
            return;
        }
        let head = assess::freshen(
            &stored.head,
            answer.fields.clone(),
            answer.requested,
            answer.received,
            rules,
        );
        let body = stored.body.clone();
        let freshened = Arc::new(StoredResponse { head, body });
        self.freshen(key, &freshened, &AtomicBool::new(false));
    }

    /// Stores a whole body that came as the response to a POST, for later GETs (RFC 9110 §9.3.3).
    pub fn store_whole(&self, key: &CacheKey, answer: &Aside<'_>, body: Bytes, rules: &CacheRules) {
        let stored = stored::Body::new(None);
        let received = assess::Received {
            request: answer.request,
            status: answer.status,
            fields: answer.fields.clone(),
            partial: false,
            framing: fetch::Framing::Length(body.len() as u64),
            requested: answer.requested,
            received: answer.received,
            noise: stored.generation.number(),
        };
        let head = assess::assess(received, rules);
        if head.not_stored.is_some() || !head.freshness.lifetime.is_given() {
            return;
        }
        head.set_untouched_up_to(answer.asked);
        stored.set_whole(body.into());
        let response = Arc::new(StoredResponse { head, body: stored });
        let valid = AtomicBool::new(false);
        self.store(key, answer.request, &response, &valid, rules.max_variants);
    }

    /// Forgets a response that has turned out to be of no use.
    pub fn forget(&self, key: &CacheKey, response: &StoredResponse) {
        self.forget_generation(key, response);
    }

    /// Forgets the generation of `response`.
    fn forget_generation(&self, key: &CacheKey, response: &StoredResponse) {
        self.erase_on_disk(key, response.body.generation);
        self.memory.update(key, |entry| {
            entry.forget(response.body.generation);
        });
    }

    /// Notes that a response was not stored and why; when that is the rule for this key, requests
    /// pass for a while.
    fn note_refused(&self, key: &CacheKey, why: NotStored, status: StatusCode, is_the_rule: bool) {
        let at = self.clock.monotonic();
        self.memory.update(key, |entry| {
            entry.refused = Some(Refused { why, status, at });
            if is_the_rule {
                entry.pass_until = Some(at + PASS_MEMORY);
            }
        });
    }
}

/// What is remembered of a key, judged for one request.
struct Judgement<'e> {
    lookup: Lookup<&'e Arc<StoredResponse>>,
    /// The variant for this request, usable or not.
    selected: Option<&'e Arc<StoredResponse>>,
    /// The purge that shaped the look-up.
    purged: Option<Severity>,
}
