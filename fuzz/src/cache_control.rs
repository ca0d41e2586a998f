//! The fields that decide whether, for how long and for whom a response is stored.

use std::time::{Duration, SystemTime};

use http::header::{ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, VARY};
use http::{HeaderMap, HeaderValue, StatusCode};
use tidegate::cache::policy::cache_control::{CacheControl, MAX_DELTA_SECONDS};
use tidegate::cache::policy::conditional::{
    EntityTag, Precondition, evaluate, if_range_holds, validators,
};
use tidegate::cache::policy::freshness::{Freshness, Lifetime, initial_age, lifetime};
use tidegate::cache::policy::storable::may_store;
use tidegate::cache::policy::vary::{Vary, secondary_key};
use tidegate::clock::Moment;

use super::{fields, take_number};

/// More than any default lifetime that the configuration allows.
const DEFAULT_TTL_MAX_SECONDS: u64 = 400 * 24 * 60 * 60;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Three lines of numbers (status, seconds since receipt, default lifetime), then fields: those of the request
/// begin with `>`.
pub fn check(data: &[u8]) {
    let mut rest = data;
    let status =
        StatusCode::from_u16((take_number(&mut rest) % 1000) as u16).unwrap_or(StatusCode::OK);
    let since = Duration::from_secs(take_number(&mut rest) % u64::from(u32::MAX));
    let default_ttl = Duration::from_secs(take_number(&mut rest) % DEFAULT_TTL_MAX_SECONDS);
    let lines = || rest.split(|byte| *byte == b'\n');
    let request = fields(lines().filter_map(|line| line.strip_prefix(b">")));
    let response = fields(lines().filter(|line| !line.starts_with(b">")));

    let asked = CacheControl::of_request(&request);
    let granted = CacheControl::of_response(&response);
    check_directives(&granted, &response);
    check_directives(&asked, &request);

    let received = Moment {
        wall: super::now(),
        monotonic: Duration::ZERO,
    };
    let lifetime = lifetime(status, &response, &granted, received.wall, default_ttl);
    check_lifetime(lifetime, received.wall, default_ttl);
    check_freshness(lifetime, &asked, &granted, &response, received, since);
    check_vary(&request, &response);
    check_preconditions(&request, &response);

    let stored = may_store(&request, status, &response, &granted, lifetime);
    if granted.no_store || granted.private || asked.no_store {
        assert!(stored.is_err());
    }
    if Vary::of(&response) == Vary::Anything {
        assert!(stored.is_err());
    }
}

fn check_directives(directives: &CacheControl, fields: &HeaderMap) {
    let numbers = [
        directives.max_age,
        directives.s_maxage,
        directives.min_fresh,
        directives.max_stale,
    ];
    assert!(
        numbers
            .iter()
            .flatten()
            .all(|seconds| *seconds <= MAX_DELTA_SECONDS)
    );
    // Whatever stands there already, a further line can make it stricter and never laxer.
    let mut stricter = fields.clone();
    stricter.append(
        "cache-control",
        HeaderValue::from_static("no-store, max-age=0"),
    );
    let stricter = CacheControl::of_response(&stricter);
    assert!(stricter.no_store);
    assert_eq!(stricter.max_age, Some(0));
}

fn check_lifetime(lifetime: Lifetime, received: SystemTime, default_ttl: Duration) {
    match lifetime {
        // HTTP dates end with the year 9999.
        Lifetime::Explicit(lifetime) => assert!(received.checked_add(lifetime).is_some()),
        Lifetime::Heuristic(lifetime) => assert!(lifetime <= DAY.max(default_ttl)),
        Lifetime::Unknown => {}
    }
}

fn check_freshness(
    lifetime: Lifetime,
    asked: &CacheControl,
    granted: &CacheControl,
    response: &HeaderMap,
    received: Moment,
    since: Duration,
) {
    let freshness = Freshness {
        lifetime: lifetime.duration(),
        initial_age: initial_age(response, received, received),
        received: received.monotonic,
        always_validate: granted.no_cache,
    };
    let later = Moment {
        wall: received.wall + since,
        monotonic: since,
    };
    let fresh_now = freshness.satisfies(asked, received);
    let fresh_later = freshness.satisfies(asked, later);
    assert!(
        fresh_now || !fresh_later,
        "nothing becomes fresh by waiting"
    );
    assert!(freshness.ttl_seconds(later) <= freshness.ttl_seconds(received));
    if fresh_later {
        assert!(!granted.no_cache && !asked.no_cache);
        assert!(freshness.ttl_seconds(later) >= 0);
    }
}

fn check_vary(request: &HeaderMap, response: &HeaderMap) {
    let names = match Vary::of(response) {
        Vary::Fields(names) => names,
        Vary::Nothing | Vary::Anything => return,
    };
    let ascending = names
        .windows(2)
        .all(|pair| pair[0].as_str() < pair[1].as_str());
    assert!(!names.is_empty() && ascending);
    let key = |request: &HeaderMap| {
        let mut key = Vec::new();
        secondary_key(&names, request, &mut key);
        key
    };
    let mut other = request.clone();
    other.append(&names[0], HeaderValue::from_static("tidegate-fuzz"));
    assert_ne!(key(request), key(&other), "a selecting field selects");
    let mut unrelated = request.clone();
    unrelated.append("x-tidegate-fuzz", HeaderValue::from_static("1"));
    if !names.iter().any(|name| name == "x-tidegate-fuzz") {
        assert_eq!(key(request), key(&unrelated));
    }
    let mut reversed = HeaderMap::new();
    for value in response
        .get_all(VARY)
        .iter()
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
    {
        reversed.append(VARY, value.clone());
    }
    assert_eq!(Vary::of(&reversed), Vary::Fields(names));
}

fn check_preconditions(request: &HeaderMap, stored: &HeaderMap) {
    let conditional =
        request.contains_key(IF_NONE_MATCH) || request.contains_key(IF_MODIFIED_SINCE);
    if evaluate(request, stored) == Precondition::NotModified {
        assert!(conditional, "304 only to those who asked for it");
    }
    let mut plain = request.clone();
    plain.remove(IF_RANGE);
    assert!(if_range_holds(&plain, stored));

    if let Some(tag) = EntityTag::of(stored) {
        let ours = validators(stored);
        assert_eq!(ours.get(IF_NONE_MATCH), stored.get(ETAG));
        assert_eq!(evaluate(&ours, stored), Precondition::NotModified);
        let mut range = HeaderMap::new();
        range.insert(IF_RANGE, tag.value().clone());
        assert_eq!(if_range_holds(&range, stored), tag.is_strong());
    }
}
