//! The rules of one route's stored responses: what an operator may change about RFC 9111's answers.
//!
//! A route's `cache` key wins over the same key of `edge.cache`, which wins over the built-in
//! default; only the resolved [`CacheRules`] leaves `src/config`.

use std::time::Duration;

use http::{HeaderName, StatusCode};

/// The rules of one route, resolved: every key has its final value here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheRules {
    /// `default_ttl`: freshness lifetime of a 200 that says nothing about its own but carries both a
    /// strong ETag and Last-Modified, as stored objects do; default 60s, `0s` = revalidate every time.
    pub default_ttl: Duration,
    /// `min_ttl`: explicit lifetimes below it are raised to it; default none. Never above `max_ttl`.
    pub min_ttl: Option<Duration>,
    /// `max_ttl`: explicit lifetimes above it are cut to it; default none.
    pub max_ttl: Option<Duration>,
    /// `override_ttl`: the lifetime of whatever may be stored, in place of every lifetime that the
    /// origin gives; default none. `no-store` and `private` are obeyed all the same, and a status in
    /// `status_ttl` keeps the lifetime given there.
    pub override_ttl: Option<Duration>,
    /// `status_ttl`: lifetimes by status; default {}.
    pub status_ttl: StatusTtl,
    /// `grace`: how long past its lifetime a response may be served while the origin is down, when it
    /// has no `stale-if-error` (RFC 5861 §4) of its own; default 1h.
    pub grace: Duration,
    /// `stale_while_revalidate`: for responses that do not say (RFC 5861 §3); default 0s.
    pub stale_while_revalidate: Duration,
    /// `ttl_jitter` in percent: a lifetime that the origin did not give is shortened at random by up
    /// to this much, so that what was stored together does not expire together; default 5%.
    pub ttl_jitter_percent: u8,
    /// `query`: the parameters that are part of the cache key and are forwarded; default all.
    pub query: QueryRule,
    /// `sort_query`: whether parameters are sorted, by name and then value, before they are keyed and
    /// forwarded; default false.
    pub sort_query: bool,
    /// `vary`: what is done about a response whose `Vary` names a field;
    /// default { accept-encoding: normalise, accept-language: normalise }.
    pub vary: VaryRules,
    /// `max_variants`: stored responses per cache key, the one stored or validated longest ago
    /// gives way; default 32.
    pub max_variants: usize,
    /// `ignore_request_cache_control`: whether `Cache-Control` and `Pragma` of requests are
    /// disregarded (against RFC 9111 §5.2.1, as nginx and Varnish do); default false.
    pub ignore_request_cache_control: bool,
    /// `max_object_size` in bytes: a longer body is passed on and not stored; default none.
    pub max_object_bytes: Option<u64>,
    /// `store_set_cookie`: whether a response that sets a cookie is stored without saying that it is
    /// meant for all (`public`, `s-maxage` or a targeted field); default false.
    pub store_set_cookie: bool,
    /// `expose_key`: whether `Cache-Status` carries `key` (RFC 9211 §2.7) when a client asks for it;
    /// default false.
    pub expose_key: bool,
}

impl CacheRules {
    /// Whether a query is keyed and forwarded byte for byte as it was sent.
    pub fn keep_queries_as_sent(&self) -> bool {
        self.query == QueryRule::All && !self.sort_query
    }
}

/// `status_ttl`: lifetimes by status, an exact status before its class.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StatusTtl {
    /// Sorted by status, each once.
    exact: Vec<(StatusCode, Option<Duration>)>,
    client_error: Option<Duration>,
    server_error: Option<Duration>,
}

/// One key of `status_ttl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StatusKey {
    Exact(StatusCode),
    /// `4xx`
    ClientError,
    /// `5xx`
    ServerError,
}

impl StatusTtl {
    /// The lifetime of a response with `status` that has no explicit one; zero forbids to store that
    /// status at all, whatever the origin says. `None`: no rule here.
    ///
    /// What [`never_stored`] names belongs to no class: its answer is always `None`. A 400 tells one
    /// client what is wrong with its request, so that only a rule of its own makes it last.
    pub fn of(&self, status: StatusCode) -> Option<Duration> {
        if never_stored(status) {
            return None;
        }
        if let Ok(index) = self
            .exact
            .binary_search_by_key(&status, |(known, _)| *known)
        {
            return self.exact[index].1;
        }
        if status == StatusCode::BAD_REQUEST {
            self.client_error.filter(Duration::is_zero)
        } else if status.is_client_error() {
            self.client_error
        } else if status.is_server_error() {
            self.server_error
        } else {
            None
        }
    }

    /// Sets or, with `None`, lifts one rule.
    pub(super) fn set(&mut self, key: StatusKey, lifetime: Option<Duration>) {
        match key {
            StatusKey::ClientError => self.client_error = lifetime,
            StatusKey::ServerError => self.server_error = lifetime,
            StatusKey::Exact(status) => {
                match self
                    .exact
                    .binary_search_by_key(&status, |(known, _)| *known)
                {
                    Ok(index) => self.exact[index].1 = lifetime,
                    Err(index) => self.exact.insert(index, (status, lifetime)),
                }
            }
        }
    }
}

/// Statuses that are never stored, however fresh they claim to be: neither the origin nor a rule of
/// the operator's changes that. 206 and 304 (RFC 9111 §3.3, §4.3.4) are a part of something else; the
/// errors tell one client what is wrong with one request, and kept they would be served to everybody
/// who asks for the same URL properly (field hazard "CPDoS").
pub fn never_stored(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        100..=199 | 206 | 304 | 408 | 412 | 413 | 416 | 417 | 421 | 425 | 428 | 429 | 431
    )
}

/// `query`: which parameters are part of the cache key. The same ones are forwarded, so that an
/// origin never answers to something that is not keyed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueryRule {
    /// `all`: the query as it was sent.
    All,
    /// `none`: as if there were no query.
    None,
    /// `allow`: these, in the order in which they were sent.
    Allow(Vec<String>),
    /// `deny`: all but these.
    Deny(Vec<String>),
}

impl QueryRule {
    /// Whether a parameter with this name is kept. Names are compared as sent, without decoding:
    /// another spelling is another parameter to the key and to the origin alike.
    pub fn keeps(&self, name: &[u8]) -> bool {
        let listed = |names: &[String]| names.iter().any(|known| known.as_bytes() == name);
        match self {
            QueryRule::All => true,
            QueryRule::None => false,
            QueryRule::Allow(names) => listed(names),
            QueryRule::Deny(names) => !listed(names),
        }
    }
}

/// `vary`: a rule for each request field that a response may name in `Vary` (RFC 9110 §12.5.5).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VaryRules(Vec<(HeaderName, VaryRule)>);

/// What is done about one field in `Vary`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VaryRule {
    /// `normalise`: requests that prefer the same variant share it; `Accept-Encoding` and
    /// `Accept-Language` only.
    Normalise,
    /// `passthrough`: each value of the field has a variant of its own.
    Passthrough,
    /// `bypass`: a response that varies by this field is not stored.
    Bypass,
}

impl VaryRules {
    /// The rule of a field; [`VaryRule::Passthrough`] unless another one was given.
    pub fn of(&self, field: &HeaderName) -> VaryRule {
        (self.0.iter())
            .find(|(known, _)| known == field)
            .map_or(VaryRule::Passthrough, |(_, rule)| *rule)
    }

    pub(super) fn set(&mut self, field: HeaderName, rule: VaryRule) {
        match self.0.iter_mut().find(|(known, _)| *known == field) {
            Some((_, known)) => *known = rule,
            None => self.0.push((field, rule)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::{ACCEPT_ENCODING, COOKIE};

    fn status(code: u16) -> StatusCode {
        StatusCode::from_u16(code).unwrap()
    }

    #[test]
    fn an_exact_status_is_asked_before_its_class() {
        let (short, long) = (Duration::from_secs(1), Duration::from_secs(60));
        let mut rules = StatusTtl::default();
        for (key, lifetime) in [
            (StatusKey::Exact(status(404)), Some(long)),
            (StatusKey::ClientError, Some(short)),
            (StatusKey::Exact(status(410)), None),
            (StatusKey::Exact(status(301)), Some(long)),
            (StatusKey::ServerError, Some(Duration::ZERO)),
            (StatusKey::Exact(status(501)), Some(short)),
            (StatusKey::Exact(status(501)), Some(long)),
        ] {
            rules.set(key, lifetime);
        }
        for (code, expected) in [
            (200, None),
            (301, Some(long)),
            (302, None),
            (399, None),
            (403, Some(short)),
            (404, Some(long)),
            (410, None),
            (499, Some(short)),
            (500, Some(Duration::ZERO)),
            (501, Some(long)),
            (599, Some(Duration::ZERO)),
            (600, None),
        ] {
            assert_eq!(rules.of(status(code)), expected, "{code}");
        }
    }

    #[test]
    fn what_one_odd_request_caused_is_in_no_class() {
        let mut rules = StatusTtl::default();
        rules.set(StatusKey::ClientError, Some(Duration::from_secs(1)));
        for code in [408, 412, 413, 416, 417, 421, 425, 428, 429, 431] {
            assert!(never_stored(status(code)), "{code}");
            assert_eq!(rules.of(status(code)), None, "{code}");
        }
        for code in [200, 301, 400, 401, 403, 404, 405, 410, 414, 451, 500, 503] {
            assert!(!never_stored(status(code)), "{code}");
        }
    }

    #[test]
    fn a_bad_request_lasts_by_a_rule_of_its_own_only() {
        let (bad, short) = (StatusCode::BAD_REQUEST, Duration::from_secs(1));
        let mut rules = StatusTtl::default();
        rules.set(StatusKey::ClientError, Some(short));
        assert_eq!(rules.of(bad), None);
        rules.set(StatusKey::ClientError, Some(Duration::ZERO));
        assert_eq!(rules.of(bad), Some(Duration::ZERO));
        rules.set(StatusKey::Exact(bad), Some(short));
        assert_eq!(rules.of(bad), Some(short));
    }

    #[test]
    fn parameters_are_kept_by_their_name_as_sent() {
        let names = || vec!["a".to_owned(), "utm_source".to_owned()];
        for (rule, a, utm, encoded, empty) in [
            (QueryRule::All, true, true, true, true),
            (QueryRule::None, false, false, false, false),
            (QueryRule::Allow(names()), true, true, false, false),
            (QueryRule::Deny(names()), false, false, true, true),
        ] {
            assert_eq!(rule.keeps(b"a"), a, "{rule:?}");
            assert_eq!(rule.keeps(b"utm_source"), utm, "{rule:?}");
            assert_eq!(rule.keeps(b"utm%5fsource"), encoded, "{rule:?}");
            assert_eq!(rule.keeps(b""), empty, "{rule:?}");
        }
    }

    #[test]
    fn a_field_without_a_rule_passes_through() {
        let mut rules = VaryRules::default();
        assert_eq!(rules.of(&COOKIE), VaryRule::Passthrough);
        rules.set(ACCEPT_ENCODING, VaryRule::Normalise);
        rules.set(COOKIE, VaryRule::Normalise);
        rules.set(COOKIE, VaryRule::Bypass);
        assert_eq!(rules.of(&COOKIE), VaryRule::Bypass);
        assert_eq!(rules.of(&ACCEPT_ENCODING), VaryRule::Normalise);
    }
}
