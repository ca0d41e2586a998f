//! Reads `edge.cache`, and the rules in it that each route may change in a `cache` of its own.
//! Keys, defaults and ranges stand here and nowhere else in the code.

use std::sync::Arc;
use std::time::Duration;

use http::header::{ACCEPT_ENCODING, ACCEPT_LANGUAGE};
use serde_yaml::Mapping;

use super::checked::{Cache, Disk};
use super::parsers::{
    count, duration, field_name, one_of, or_none, path, percent, query_parameter, size, status,
    true_or_false,
};
use super::problem::Reason;
use super::reader::{Parser, Reader, Section};
use super::relations::Relations;
use super::rules::{
    CacheRules, QueryRule, StatusKey, StatusTtl, VaryRule, VaryRules, never_stored,
};
use super::units::show_duration;

const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;
const YEAR: Duration = Duration::from_secs(365 * 86_400);
const AS_IN_EDGE_CACHE: &str = "as in edge.cache";

/// The rules of a route where neither it nor `edge.cache` says anything.
impl Default for CacheRules {
    fn default() -> Self {
        // Read from nothing, so that the defaults are written once.
        Reader::default()
            .root(&Mapping::new(), |nothing| read_rules(nothing, None))
            .expect("defaults-pass-their-own-check")
    }
}

/// Fewer segments would make each reclaiming lose too much at once.
const MIN_SEGMENTS: u64 = 8;

/// The index names segments by 12 bits.
const MAX_SEGMENTS: u64 = 4095;

/// `edge.cache.disk.segment` for a tier of `size_bytes`.
fn default_segment(size_bytes: u64) -> u64 {
    (size_bytes / 256)
        .next_multiple_of(MIB)
        .clamp(MIB, 1024 * MIB)
}

/// `edge.cache`, and the rules in it.
pub(super) fn read(
    cache: &Section<'_>,
    relations: &Relations<'_>,
) -> Option<(Cache, Arc<CacheRules>)> {
    let memory_bytes = cache.or_default("memory", "256MiB", size(MIB..=64 * TIB));
    let disk = cache.optional_section("disk", "memory only", |disk| {
        let folder = disk.required("path", path("a folder of its own", relations.base_dir));
        let size_bytes = disk.required("size", size(64 * MIB..=4 * TIB));
        let segment_bytes = disk.optional("segment", "a 256th of size", size(MIB..=1024 * MIB));
        let size_bytes = size_bytes?;
        let segment_bytes = segment_bytes?.unwrap_or_else(|| default_segment(size_bytes));
        if size_bytes / segment_bytes < MIN_SEGMENTS || size_bytes / segment_bytes > MAX_SEGMENTS {
            let reason = Reason::SegmentCount {
                segments: size_bytes / segment_bytes,
                least: MIN_SEGMENTS,
                most: MAX_SEGMENTS,
            };
            disk.problem("segment", reason);
            return None;
        }
        Some(Disk {
            path: folder?,
            size_bytes,
            segment_bytes,
        })
    });
    let rules = read_rules(cache, None).map(Arc::new);
    let cache = Cache {
        memory_bytes: memory_bytes?,
        disk: disk?,
        default_ttl: rules.as_ref()?.default_ttl,
    };
    Some((cache, rules?))
}

/// `edge.routes[].cache`: what it does not say is as in `edge.cache`.
pub(super) fn read_of_route(
    route: &Section<'_>,
    edge_rules: &Arc<CacheRules>,
) -> Option<Arc<CacheRules>> {
    let rules = route.section("cache", |cache| read_rules(cache, Some(edge_rules)))?;
    Some(if rules == **edge_rules {
        Arc::clone(edge_rules)
    } else {
        Arc::new(rules)
    })
}

/// The keys of one `cache`, and what an absent one means there.
struct Rules<'s, 'r> {
    section: &'s Section<'r>,
    /// Those of `edge.cache`; `None` when these are them.
    inherited: Option<&'s CacheRules>,
}

impl Rules<'_, '_> {
    fn key<T: Clone>(
        &self,
        key: &'static str,
        default: &'static str,
        inherited: fn(&CacheRules) -> &T,
        parser: Parser<'_, T>,
    ) -> Option<T> {
        match self.inherited {
            None => self.section.or_default(key, default, parser),
            Some(rules) => {
                let given = self.section.optional(key, AS_IN_EDGE_CACHE, parser)?;
                Some(given.unwrap_or_else(|| inherited(rules).clone()))
            }
        }
    }

    /// The description of an absent key that holds more than a scalar.
    fn absent(&self, default: &'static str) -> String {
        match self.inherited {
            None => format!("default {default}"),
            Some(_) => format!("absent = {AS_IN_EDGE_CACHE}"),
        }
    }

    fn lifetime_or_none(
        &self,
        key: &'static str,
        inherited: fn(&CacheRules) -> &Option<Duration>,
    ) -> Option<Option<Duration>> {
        self.key(key, "none", inherited, or_none(lifetime()))
    }

    fn flag(&self, key: &'static str, inherited: fn(&CacheRules) -> &bool) -> Option<bool> {
        self.key(key, "false", inherited, true_or_false())
    }

    fn status_ttl(&self) -> Option<StatusTtl> {
        let given = self.section.mapped(
            "status_ttl",
            &self.absent("{}"),
            &status(),
            &or_none(lifetime()),
        )?;
        let mut status_ttl = self
            .inherited
            .map_or_else(StatusTtl::default, |rules| rules.status_ttl.clone());
        let mut fits = Some(());
        for (key, lifetime) in given {
            if let StatusKey::Exact(status) = key
                && never_stored(status)
                && lifetime.is_some_and(|lifetime| !lifetime.is_zero())
            {
                let place = format!("status_ttl.{}", status.as_str());
                self.section.problem(&place, Reason::NeverStored(status));
                fits = None;
            }
            status_ttl.set(key, lifetime);
        }
        fits.map(|()| status_ttl)
    }

    fn query(&self) -> Option<QueryRule> {
        const WORDS: &[&str] = &["all", "none"];
        let words = one_of(WORDS, WORDS).map(|word| match word {
            "none" => QueryRule::None,
            _ => QueryRule::All,
        });
        let given =
            (self.section).word_or_section("query", &self.absent("all"), words, |query| {
                let allow = query.optional_scalars("allow", "deny is given", query_parameter());
                let deny = query.optional_scalars("deny", "allow is given", query_parameter());
                match (allow?, deny?) {
                    (Some(allow), None) => Some(QueryRule::Allow(allow)),
                    (None, Some(deny)) => Some(QueryRule::Deny(deny)),
                    _ => {
                        query.problem_here(Reason::NotExactlyOne(&["allow", "deny"]));
                        None
                    }
                }
            })?;
        let inherited = || {
            self.inherited
                .map_or(QueryRule::All, |rules| rules.query.clone())
        };
        Some(given.unwrap_or_else(inherited))
    }

    fn vary(&self) -> Option<VaryRules> {
        const DEFAULT: &str = "{ accept-encoding: normalise, accept-language: normalise }";
        let normalised = [ACCEPT_ENCODING, ACCEPT_LANGUAGE];
        let rule = one_of(
            &["normalise", "passthrough", "bypass"],
            &[VaryRule::Normalise, VaryRule::Passthrough, VaryRule::Bypass],
        );
        let given = (self.section).mapped("vary", &self.absent(DEFAULT), &field_name(), &rule)?;
        let mut vary = match self.inherited {
            Some(rules) => rules.vary.clone(),
            None => {
                let mut vary = VaryRules::default();
                for field in normalised.clone() {
                    vary.set(field, VaryRule::Normalise);
                }
                vary
            }
        };
        let mut fits = Some(());
        for (field, rule) in given {
            if rule == VaryRule::Normalise && !normalised.contains(&field) {
                let place = format!("vary.{field}");
                self.section.problem(&place, Reason::NoNormalForm);
                fits = None;
            }
            vary.set(field, rule);
        }
        fits.map(|()| vary)
    }

    /// A route that changes neither end inherits a relation that was checked before.
    fn check_order(&self, min: Option<Duration>, max: Option<Duration>) -> Option<()> {
        let (Some(min), Some(max)) = (min, max) else {
            return Some(());
        };
        let here = ["min_ttl", "max_ttl"]
            .into_iter()
            .find(|key| self.section.gives(key));
        match here {
            Some(key) if min > max => {
                let reason = Reason::MinAboveMax {
                    min: show_duration(min),
                    max: show_duration(max),
                };
                self.section.problem(key, reason);
                None
            }
            _ => Some(()),
        }
    }
}

fn lifetime() -> Parser<'static, Duration> {
    duration(Duration::ZERO..=YEAR)
}

fn read_rules(section: &Section<'_>, inherited: Option<&CacheRules>) -> Option<CacheRules> {
    let rules = Rules { section, inherited };
    let default_ttl = rules.key("default_ttl", "60s", |from| &from.default_ttl, lifetime());
    let min_ttl = rules.lifetime_or_none("min_ttl", |from| &from.min_ttl);
    let max_ttl = rules.lifetime_or_none("max_ttl", |from| &from.max_ttl);
    let in_order = match (min_ttl, max_ttl) {
        (Some(min), Some(max)) => rules.check_order(min, max),
        _ => None,
    };
    let override_ttl = rules.lifetime_or_none("override_ttl", |from| &from.override_ttl);
    let status_ttl = rules.status_ttl();
    let grace = rules.key("grace", "1h", |from| &from.grace, lifetime());
    let stale_while_revalidate = rules.key(
        "stale_while_revalidate",
        "0s",
        |from| &from.stale_while_revalidate,
        lifetime(),
    );
    let ttl_jitter_percent = rules.key(
        "ttl_jitter",
        "5%",
        |from| &from.ttl_jitter_percent,
        percent(0..=50),
    );
    let query = rules.query();
    let sort_query = rules.flag("sort_query", |from| &from.sort_query);
    let vary = rules.vary();
    let max_variants = rules.key(
        "max_variants",
        "32",
        |from| &from.max_variants,
        count(1..=256),
    );
    let ignore_request_cache_control = rules.flag("ignore_request_cache_control", |from| {
        &from.ignore_request_cache_control
    });
    let max_object_bytes = rules.key(
        "max_object_size",
        "none",
        |from| &from.max_object_bytes,
        or_none(size(1..=64 * TIB)),
    );
    let store_set_cookie = rules.flag("store_set_cookie", |from| &from.store_set_cookie);
    let expose_key = rules.flag("expose_key", |from| &from.expose_key);
    in_order?;
    Some(CacheRules {
        default_ttl: default_ttl?,
        min_ttl: min_ttl?,
        max_ttl: max_ttl?,
        override_ttl: override_ttl?,
        status_ttl: status_ttl?,
        grace: grace?,
        stale_while_revalidate: stale_while_revalidate?,
        ttl_jitter_percent: ttl_jitter_percent?,
        query: query?,
        sort_query: sort_query?,
        vary: vary?,
        max_variants: max_variants?,
        ignore_request_cache_control: ignore_request_cache_control?,
        max_object_bytes: max_object_bytes?,
        store_set_cookie: store_set_cookie?,
        expose_key: expose_key?,
    })
}

#[cfg(test)]
mod tests;
