//! What the cache would do with a request now, and from what it would conclude that: the data of
//! `tidegate explain`.
//!
//! Invariant `explained-as-served`: every judgement here is made by the function that serves
//! requests ([`Cache::lookup`] and this share theirs), so that an explanation cannot differ from
//! what a client sees.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use http::header::HeaderName;
use http::{HeaderMap, StatusCode};

use super::memory::Entry;
use super::policy::cache_control::{RequestDirectives, ResponseDirectives};
use super::policy::freshness::{Freshness, LifetimeSource, lifetime_and_source};
use super::policy::storable::NotStored;
use super::policy::targeted;
use super::policy::vary::Difference;
use super::purge::{Sequence, Severity};
use super::stored::Generation;
use super::{Cache, CacheKey, Lookup, StoredResponse};
use crate::clock::Moment;
use crate::config::CacheRules;

/// How long the reason for which a response was not stored is told.
const REFUSAL_MEMORY: Duration = Duration::from_secs(10 * 60);

/// No more blocks of a body than this are looked for: 16 GiB, of which nobody reads a block list.
const BLOCKS_LOOKED_FOR: u64 = 1 << 16;

/// What is known of a cache key, as one request sees it.
pub struct KeyState {
    /// What a look-up finds.
    pub lookup: Lookup,
    /// The stored responses, the newest first.
    pub variants: Vec<Variant>,
    /// Requests pass for this much longer, because the last response could not be shared.
    pub passes_for: Option<Duration>,
    /// Why the last response that came was not stored, if it came within ten minutes.
    pub refused: Option<Refusal>,
    /// The variant for this request.
    pub chosen: Option<Chosen>,
    /// Requests to the origin for this key that are under way and have not ended yet.
    pub under_way: usize,
}

/// A stored response among those of its key.
#[derive(Debug)]
pub struct Variant {
    /// Its status.
    pub status: StatusCode,
    /// The fields that select it.
    pub selecting: Vec<HeaderName>,
    /// Why it is not for this request; `None` when it may be.
    pub difference: Option<Difference>,
    /// It is the one for this request.
    pub is_chosen: bool,
    /// Where it lay when it was asked for.
    pub tier: Tier,
}

/// Where something is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    /// In memory, and perhaps on disk.
    Memory,
    /// On disk only.
    Disk,
}

/// What both tiers know of a key.
pub struct Known {
    /// Memory's entry, with what was recalled from disk.
    entry: Arc<Entry>,
    /// What memory knew before that.
    in_memory: Vec<Generation>,
}

impl Known {
    fn tier_of(&self, response: &StoredResponse) -> Tier {
        match self.in_memory.contains(&response.body.generation) {
            true => Tier::Memory,
            false => Tier::Disk,
        }
    }
}

/// A response that was not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub why: NotStored,
    /// Its status.
    pub status: StatusCode,
    /// How long ago.
    pub ago: Duration,
}

/// The stored response that is for this request.
pub struct Chosen {
    /// The response.
    pub response: Arc<StoredResponse>,
    /// The severest purge that touches it.
    pub purged: Option<Severity>,
    /// No purge up to this one touches it.
    pub untouched_up_to: Sequence,
    /// The newest purge.
    pub latest_purge: Sequence,
    /// Its freshness as it is judged: after a soft purge, with a lifetime that has ended.
    pub freshness: Freshness,
    /// What its lifetime was read from.
    pub source: LifetimeSource,
    /// The targeted field that stands in for `Cache-Control`, if there is one.
    pub targeted_field: Option<HeaderName>,
    /// What the rules make of that source, before jitter.
    pub before_jitter: Duration,
    /// How long ago it was received or last validated.
    pub resident: Duration,
    /// How much longer a failed validation keeps the origin from being asked again.
    pub failed_validation_pause: Duration,
    /// What of its body is held.
    pub bytes: Held,
}

/// What of a body is held, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The length of the body, once known.
    pub length: Option<u64>,
    /// Where the head lay.
    pub tier: Tier,
    /// It is held in one piece beside its head.
    pub is_whole: bool,
    /// The length of a block in bytes.
    pub block_bytes: u64,
    /// Blocks held in memory, of those looked for.
    pub blocks_present: u64,
    /// Blocks held on disk only, of those looked for.
    pub blocks_on_disk: u64,
    /// Blocks looked for: all, up to 65,536.
    pub blocks_looked_for: u64,
    /// Fills under way: where each began, and how far it has come.
    pub fills: Vec<Range<u64>>,
    /// What is missing can be asked for, because a strong `ETag` ties the parts together.
    pub can_be_completed: bool,
}

impl Cache {
    /// What is known of `key`. What lies on disk only comes to memory, as for a request.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn known(&self, key: &CacheKey) -> Known {
        let before = self.memory.peek(key).unwrap_or_default();
        let generations = before.variants.iter().map(|known| known.body.generation);
        let in_memory = generations.collect();
        let entry = self.recall(key).await.unwrap_or(before);
        Known { entry, in_memory }
    }

    /// What a request with these fields would find under `key`, of which `known` is known, without
    /// asking anybody and without changing what is stored.
    pub fn explain(
        &self,
        known: &Known,
        key: &CacheKey,
        fields: &HeaderMap,
        directives: &RequestDirectives,
        rules: &CacheRules,
        now: Moment,
    ) -> KeyState {
        let entry = &*known.entry;
        let selected = entry.variant_for(fields);
        // Read first: a judgement that finds no purge takes note of that.
        let untouched_up_to = selected.map(|response| response.head.untouched_up_to());
        let judgement = self.judge(key, entry, fields, directives, now);
        let variants = entry.variants.iter().map(|response| Variant {
            status: response.head.status,
            selecting: response.head.selecting.names().cloned().collect(),
            difference: response.head.selecting.difference(fields),
            is_chosen: (judgement.selected).is_some_and(|chosen| Arc::ptr_eq(chosen, response)),
            tier: known.tier_of(response),
        });
        let chosen = judgement.selected.zip(untouched_up_to);
        let chosen = chosen.map(|(response, untouched_up_to)| {
            let held = self.held(response, known.tier_of(response));
            self.chosen(
                response,
                held,
                judgement.purged,
                untouched_up_to,
                rules,
                now,
            )
        });
        let refused = entry.refused.map(|refused| Refusal {
            why: refused.why,
            status: refused.status,
            ago: now.monotonic.saturating_sub(refused.at),
        });
        let passes_for = entry
            .pass_until
            .map(|until| until.saturating_sub(now.monotonic));
        KeyState {
            variants: variants.collect(),
            passes_for: passes_for.filter(|left| !left.is_zero()),
            refused: refused.filter(|refused| refused.ago < REFUSAL_MEMORY),
            chosen,
            under_way: self.collapser.under_way(key),
            lookup: judgement.lookup.map(|response| response.clone().into()),
        }
    }

    fn chosen(
        &self,
        response: &Arc<StoredResponse>,
        bytes: Held,
        purged: Option<Severity>,
        untouched_up_to: Sequence,
        rules: &CacheRules,
        now: Moment,
    ) -> Chosen {
        let head = &response.head;
        let resident = now.monotonic.saturating_sub(head.freshness.received);
        let received = now.wall.checked_sub(resident).unwrap_or(now.wall);
        let directives = ResponseDirectives::of(&head.fields);
        let (lifetime, source) =
            lifetime_and_source(head.status, &head.fields, &directives, received, rules);
        Chosen {
            purged,
            untouched_up_to,
            latest_purge: self.purges.latest(),
            freshness: match purged {
                Some(Severity::Soft) => head.freshness.expired(now),
                Some(Severity::Hard) | None => head.freshness,
            },
            source,
            targeted_field: targeted::field_in_force(&head.fields),
            before_jitter: lifetime.duration(),
            resident,
            failed_validation_pause: head.failed_validation_pause(now.monotonic),
            bytes,
            response: response.clone(),
        }
    }

    fn held(&self, response: &StoredResponse, tier: Tier) -> Held {
        let body = &response.body;
        let length = body.length();
        let blocks = self.sizes.blocks.covering(&(0..length.unwrap_or(0)));
        let looked_for = blocks.start..blocks.end.min(BLOCKS_LOOKED_FOR);
        let (mut in_memory, mut on_disk) = (0, 0);
        for number in looked_for.clone() {
            if self.memory.has_block(body.generation, number) {
                in_memory += 1;
            } else if self.has_block_on_disk(body.generation, number) {
                on_disk += 1;
            }
        }
        Held {
            length,
            tier,
            is_whole: body.whole().is_some(),
            block_bytes: self.sizes.blocks.bytes(),
            blocks_looked_for: looked_for.end - looked_for.start,
            blocks_present: in_memory,
            blocks_on_disk: on_disk,
            fills: body.with_fills(|fills| fills.iter().map(|fill| fill.span()).collect()),
            can_be_completed: response.head.part_validator().is_some(),
        }
    }
}
