//! The fields that decide whether and for how long a response is stored.

use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue, StatusCode};
use tidegate::cache::policy::cache_control::{
    MAX_DELTA_SECONDS, RequestDirectives, ResponseDirectives,
};
use tidegate::cache::policy::freshness::{Freshness, Lifetime, Verdict, initial_age, lifetime};
use tidegate::cache::policy::storable::may_store;
use tidegate::cache::policy::vary::Vary;
use tidegate::clock::Moment;
use tidegate::config::CacheRules;

use super::{fields, take_number};

/// More than any default lifetime that the configuration allows.
const DEFAULT_TTL_MAX_SECONDS: u64 = 400 * 24 * 60 * 60;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Read once: the built-in rules are made by reading an empty configuration.
static RULES: LazyLock<CacheRules> = LazyLock::new(CacheRules::default);

/// Three lines of numbers (status, seconds since receipt, default lifetime), then fields: those of the request
/// begin with `>`.
pub fn check(data: &[u8]) {
    let mut rest = data;
    let status =
        StatusCode::from_u16((take_number(&mut rest) % 1000) as u16).unwrap_or(StatusCode::OK);
    let since = Duration::from_secs(take_number(&mut rest) % u64::from(u32::MAX));
    let default_ttl = Duration::from_secs(take_number(&mut rest) % DEFAULT_TTL_MAX_SECONDS);
    let rules = CacheRules {
        default_ttl,
        ..RULES.clone()
    };
    let lines = || rest.split(|byte| *byte == b'\n');
    let request = fields(lines().filter_map(|line| line.strip_prefix(b">")));
    let response = fields(lines().filter(|line| !line.starts_with(b">")));

    let asked = RequestDirectives::of(&request);
    let granted = ResponseDirectives::of(&response);
    check_asked(&asked);
    check_granted(&granted, &response);

    let received = Moment {
        wall: super::now(),
        monotonic: Duration::ZERO,
    };
    let lifetime = lifetime(status, &response, &granted, received.wall, &rules);
    check_lifetime(lifetime, received.wall, default_ttl);
    let freshness = Freshness::new(
        lifetime,
        initial_age(&response, received, received),
        received.monotonic,
        &granted,
        &rules,
    );
    check_freshness(&freshness, &asked, received, since);

    let stored = may_store(&request, status, &response, &granted, lifetime, &rules);
    let forbidden = granted.no_store && !granted.must_understand;
    if forbidden || granted.private.is_response() || asked.no_store {
        assert!(stored.is_err());
    }
    if Vary::of(&response) == Vary::Anything {
        assert!(stored.is_err());
    }
}

fn check_asked(asked: &RequestDirectives) {
    let numbers = [
        ("max-age", asked.max_age),
        ("min-fresh", asked.min_fresh),
        ("max-stale", asked.max_stale),
        ("stale-if-error", asked.stale_if_error),
    ];
    let words = [
        ("no-cache", asked.no_cache),
        ("no-store", asked.no_store),
        ("only-if-cached", asked.only_if_cached),
    ];
    let mut spelled = HeaderMap::new();
    for (name, seconds) in numbers {
        if let Some(seconds) = seconds {
            assert!(seconds <= MAX_DELTA_SECONDS);
            let directive = HeaderValue::try_from(format!("{name}={seconds}"));
            spelled.append("cache-control", directive.expect("it is visible text"));
        }
    }
    for (name, _) in words.iter().filter(|(_, there)| *there) {
        spelled.append("cache-control", HeaderValue::from_static(name));
    }
    assert_eq!(RequestDirectives::of(&spelled), *asked);
}

fn check_granted(granted: &ResponseDirectives, fields: &HeaderMap) {
    // Whatever stands there already, a further line can make it stricter and never laxer; beside a field that is
    // meant for us it counts for nothing.
    let mut stricter = fields.clone();
    stricter.append(
        "cache-control",
        HeaderValue::from_static("no-store, max-age=0"),
    );
    let stricter = ResponseDirectives::of(&stricter);
    if granted.targeted {
        assert_eq!(stricter, *granted);
        return;
    }
    assert!(stricter.no_store);
    assert_eq!(stricter.max_age, Some(0));
    // A name more makes the part that is private larger; the whole response it becomes by other directives only.
    let mut named = fields.clone();
    named.append(
        "cache-control",
        HeaderValue::from_static("private=\"x-tidegate-fuzz\""),
    );
    let named = ResponseDirectives::of(&named).private;
    assert_eq!(named.is_response(), granted.private.is_response());
    assert!(named.is_response() || named.fields().len() == granted.private.fields().len() + 1);
}

fn check_lifetime(lifetime: Lifetime, received: SystemTime, default_ttl: Duration) {
    match lifetime {
        // HTTP dates end with the year 9999.
        Lifetime::Explicit(lifetime) => assert!(received.checked_add(lifetime).is_some()),
        Lifetime::Heuristic(lifetime) => assert!(lifetime <= DAY.max(default_ttl)),
        Lifetime::Configured(_) => panic!("these rules configure no lifetime"),
        Lifetime::Unknown => {}
    }
}

fn check_freshness(
    freshness: &Freshness,
    asked: &RequestDirectives,
    received: Moment,
    since: Duration,
) {
    let later = Moment {
        wall: received.wall + since,
        monotonic: since,
    };
    let fresh = |now| freshness.judge(asked, now) == Verdict::Fresh;
    assert!(
        fresh(received) || !fresh(later),
        "nothing becomes fresh by waiting"
    );
    assert!(freshness.ttl_seconds(later) <= freshness.ttl_seconds(received));
    if fresh(later) {
        assert!(!freshness.always_validate && !asked.no_cache);
        assert!(freshness.ttl_seconds(later) >= 0);
    }
    if freshness.judge(asked, later) == Verdict::Tolerated {
        assert!(asked.max_stale.is_some() && !freshness.never_stale);
    }
}
