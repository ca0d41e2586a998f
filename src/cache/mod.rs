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

pub mod fetch;
pub mod fill;
pub mod key;
pub mod memory;
pub mod policy;
pub mod read;
pub mod sizes;
pub mod stored;
pub mod tasks;

mod collapse;
mod produce;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;

use crate::clock::{Moment, SharedClock};
use crate::config;

pub use collapse::{Answer, Ask};
pub use key::{CacheKey, Scheme};
pub use read::{BodyError, BodyReader};
pub use stored::StoredResponse;

use collapse::Collapser;
use memory::{Entry, MemoryTier};
use policy::cache_control::CacheControl;
use policy::vary::secondary_key;
use sizes::Sizes;
use tasks::{OnTokio, Tasks};

/// How long a key whose last response could not be shared stays known as such.
const PASS_MEMORY: Duration = Duration::from_secs(10);

/// What a look-up found.
pub enum Lookup {
    /// A stored response that may be used as it is.
    Hit(Arc<StoredResponse>),
    /// A stored response that must be validated first.
    Stale(Arc<StoredResponse>),
    /// Nothing.
    Miss(Miss),
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
    collapser: Collapser,
    clock: SharedClock,
    default_ttl: Duration,
    sizes: Sizes,
    tasks: Box<dyn Tasks>,
}

impl Cache {
    /// An empty cache.
    pub fn new(config: &config::Cache, clock: SharedClock) -> Arc<Self> {
        Self::with(config, clock, Sizes::STANDARD, Box::new(OnTokio))
    }

    fn with(
        config: &config::Cache,
        clock: SharedClock,
        sizes: Sizes,
        tasks: Box<dyn Tasks>,
    ) -> Arc<Self> {
        Arc::new(Cache {
            memory: MemoryTier::new(config.memory_bytes),
            collapser: Collapser::default(),
            clock,
            default_ttl: config.default_ttl,
            sizes,
            tasks,
        })
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
        directives: &CacheControl,
        now: Moment,
    ) -> Lookup {
        let (found, miss) = match self.memory.entry(key) {
            None => (None, Miss::Key),
            Some(Entry::Response(response)) => (Some(response), Miss::Key),
            Some(Entry::Pass(until)) if now.monotonic < until => (None, Miss::Pass),
            Some(Entry::Pass(_)) => (None, Miss::Key),
            Some(Entry::Variants(names)) => {
                let variant = key.with_variant(|key| secondary_key(&names, fields, key));
                match self.memory.entry(&variant) {
                    Some(Entry::Response(response)) => (Some(response), Miss::Variant),
                    Some(Entry::Pass(until)) if now.monotonic < until => (None, Miss::Pass),
                    _ => (None, Miss::Variant),
                }
            }
        };
        match found {
            None => Lookup::Miss(miss),
            Some(response) if !self.is_usable(&response) => Lookup::Miss(Miss::Key),
            Some(response) if response.head.freshness.satisfies(directives, now) => {
                Lookup::Hit(response)
            }
            Some(response) => Lookup::Stale(response),
        }
    }

    /// The key under which a request's response is stored, given what is known of its variants.
    fn effective_key(&self, key: &CacheKey, fields: &HeaderMap) -> CacheKey {
        match self.memory.entry(key) {
            Some(Entry::Variants(names)) => {
                key.with_variant(|key| secondary_key(&names, fields, key))
            }
            _ => key.clone(),
        }
    }

    /// A body of several blocks without strong validator cannot be completed from the origin, so
    /// it is only of use while every block is there.
    fn is_usable(&self, response: &StoredResponse) -> bool {
        let body = &response.body;
        if body.whole().is_some() || response.head.strong_etag().is_some() {
            return true;
        }
        body.length().is_some_and(|length| {
            length == 0
                || self
                    .sizes
                    .blocks
                    .covering(&(0..length))
                    .all(|number| self.memory.has_block(body.generation, number))
        })
    }

    /// What is at hand of `span`. Looks at no more than the first 64 blocks: what follows is fetched
    /// while those are sent.
    pub fn holds(&self, response: &StoredResponse, span: &std::ops::Range<u64>) -> Holding {
        if span.is_empty() || response.body.whole().is_some() {
            return Holding::Whole;
        }
        let generation = response.body.generation;
        let is_missing = |number: &u64| !self.memory.has_block(generation, *number);
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

    /// Invalidates what is stored under `key`, all variants with it (RFC 9111 §4.4).
    pub fn invalidate(&self, key: &CacheKey) {
        // Flights first: one that lands in between finds itself invalidated.
        self.collapser.invalidate(key);
        // Variants become unreachable with the entry that names their selecting fields.
        self.memory.remove(key);
    }

    /// Forgets `response` if it is still what `key` leads to.
    fn forget_generation(&self, key: &CacheKey, response: &StoredResponse) {
        if let Some(Entry::Response(current)) = self.memory.entry(key)
            && current.body.generation == response.body.generation
        {
            self.memory.remove(key);
        }
    }

    fn remember_pass(&self, key: &CacheKey) {
        let until = self.clock.monotonic() + PASS_MEMORY;
        self.memory.insert(key.clone(), Entry::Pass(until));
    }
}
