//! Freshness lifetime and age (RFC 9111 §4.2).

use std::time::{Duration, SystemTime};

use http::header::{AGE, DATE, EXPIRES, HeaderName, LAST_MODIFIED};
use http::{HeaderMap, StatusCode};

use super::cache_control::{CacheControl, MAX_DELTA_SECONDS};
use super::conditional::EntityTag;
use crate::clock::Moment;

/// No heuristic lifetime is longer than a day: RFC 9111 §4.2.2 asks for care beyond that.
const HEURISTIC_LIMIT: Duration = Duration::from_secs(24 * 60 * 60);

/// Where a freshness lifetime comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// `s-maxage`, `max-age` or `Expires`.
    Explicit(Duration),
    /// Guessed from `Last-Modified`, or the configured default.
    Heuristic(Duration),
    /// Nothing to go by: stale at once.
    Unknown,
}

impl Lifetime {
    /// The lifetime, zero when unknown.
    pub fn duration(self) -> Duration {
        match self {
            Lifetime::Explicit(lifetime) | Lifetime::Heuristic(lifetime) => lifetime,
            Lifetime::Unknown => Duration::ZERO,
        }
    }
}

/// The freshness lifetime of a response for a shared cache (RFC 9111 §4.2.1, §4.2.2).
///
/// `default_ttl` is granted to a 200 without explicit lifetime that carries a strong `ETag` and
/// `Last-Modified`, which is how stored objects and files look and how generated pages rarely do.
pub fn lifetime(
    status: StatusCode,
    fields: &HeaderMap,
    directives: &CacheControl,
    received: SystemTime,
    default_ttl: Duration,
) -> Lifetime {
    if let Some(seconds) = directives.s_maxage.or(directives.max_age) {
        return Lifetime::Explicit(Duration::from_secs(u64::from(seconds)));
    }
    let date = date_field(fields, DATE).unwrap_or(received);
    if fields.contains_key(EXPIRES) {
        // RFC 9111 §5.3: a value that is no date, "0" above all, lies in the past.
        let expires = date_field(fields, EXPIRES).unwrap_or(SystemTime::UNIX_EPOCH);
        return Lifetime::Explicit(expires.duration_since(date).unwrap_or_default());
    }
    let Some(last_modified) = date_field(fields, LAST_MODIFIED) else {
        return Lifetime::Unknown;
    };
    if status != StatusCode::OK {
        return Lifetime::Unknown;
    }
    let tenth = date.duration_since(last_modified).unwrap_or_default() / 10;
    let looks_stored = EntityTag::of(fields).is_some_and(|tag| tag.is_strong());
    let floor = if looks_stored {
        default_ttl
    } else {
        Duration::ZERO
    };
    Lifetime::Heuristic(tenth.min(HEURISTIC_LIMIT).max(floor))
}

/// The age a response had when its last byte of head arrived (`corrected_initial_age`,
/// RFC 9111 §4.2.3).
pub fn initial_age(fields: &HeaderMap, requested: Moment, received: Moment) -> Duration {
    let apparent = date_field(fields, DATE)
        .and_then(|date| received.wall.duration_since(date).ok())
        .unwrap_or_default();
    let delay = received.monotonic.saturating_sub(requested.monotonic);
    let corrected = age_field(fields) + delay;
    apparent.max(corrected)
}

/// The `Age` field, zero when absent or not a number; the largest of several wins.
fn age_field(fields: &HeaderMap) -> Duration {
    let mut age = 0;
    for value in fields.get_all(AGE) {
        for item in value.as_bytes().split(|b| *b == b',') {
            let item = item.trim_ascii();
            if !item.is_empty() && item.iter().all(u8::is_ascii_digit) {
                let number = std::str::from_utf8(item)
                    .ok()
                    .and_then(|digits| digits.parse::<u64>().ok())
                    .unwrap_or(u64::from(MAX_DELTA_SECONDS));
                age = age.max(number.min(u64::from(MAX_DELTA_SECONDS)));
            }
        }
    }
    Duration::from_secs(age)
}

/// A date field in any of the three forms of RFC 9110 §5.6.7.
pub fn date_field(fields: &HeaderMap, name: HeaderName) -> Option<SystemTime> {
    let text = fields.get(name)?.to_str().ok()?;
    httpdate::parse_http_date(text.trim()).ok()
}

/// How fresh a stored response is, fixed when it was received or last validated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freshness {
    /// The freshness lifetime.
    pub lifetime: Duration,
    /// Its age on arrival.
    pub initial_age: Duration,
    /// The monotonic time of its arrival.
    pub received: Duration,
    /// `no-cache`: never used without validation.
    pub always_validate: bool,
}

impl Freshness {
    /// `current_age` (RFC 9111 §4.2.3).
    pub fn current_age(&self, now: Moment) -> Duration {
        self.initial_age + now.monotonic.saturating_sub(self.received)
    }

    /// Remaining freshness in whole seconds; negative once stale (the `ttl` of RFC 9211 §2.4).
    pub fn ttl_seconds(&self, now: Moment) -> i64 {
        let lifetime = i64::try_from(self.lifetime.as_secs()).unwrap_or(i64::MAX);
        let age = i64::try_from(self.current_age(now).as_secs()).unwrap_or(i64::MAX);
        lifetime.saturating_sub(age)
    }

    /// Whether the stored response may answer `request` without validation (RFC 9111 §4.2, §5.2.1).
    pub fn satisfies(&self, request: &CacheControl, now: Moment) -> bool {
        if self.always_validate || request.no_cache {
            return false;
        }
        let age = self.current_age(now);
        if request
            .max_age
            .is_some_and(|limit| age > Duration::from_secs(u64::from(limit)))
        {
            return false;
        }
        let needed = Duration::from_secs(u64::from(request.min_fresh.unwrap_or(0)));
        // RFC 9111 §4.2: fresh while the lifetime exceeds the age.
        self.lifetime > age + needed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use http::header::{CACHE_CONTROL, ETAG};

    const NOW: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

    fn wall() -> SystemTime {
        httpdate::parse_http_date(NOW).unwrap()
    }

    fn fields(lines: &[(HeaderName, &str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    fn seconds(lines: &[(HeaderName, &str)]) -> Lifetime {
        let fields = fields(lines);
        let directives = CacheControl::of_response(&fields);
        lifetime(
            StatusCode::OK,
            &fields,
            &directives,
            wall(),
            Duration::from_secs(60),
        )
    }

    #[test]
    fn the_most_specific_source_of_freshness_wins() {
        let explicit = |s| Lifetime::Explicit(Duration::from_secs(s));
        let heuristic = |s| Lifetime::Heuristic(Duration::from_secs(s));
        let later = "Sun, 06 Nov 1994 08:50:07 GMT";
        let day_ago = "Sat, 05 Nov 1994 08:49:37 GMT";
        for (lines, expected) in [
            (
                vec![
                    (CACHE_CONTROL, "max-age=5, s-maxage=9"),
                    (EXPIRES, later),
                    (DATE, NOW),
                ],
                explicit(9),
            ),
            (
                vec![(CACHE_CONTROL, "max-age=5"), (EXPIRES, later)],
                explicit(5),
            ),
            (vec![(EXPIRES, later), (DATE, NOW)], explicit(30)),
            (vec![(EXPIRES, later)], explicit(30)),
            (vec![(EXPIRES, NOW), (DATE, later)], explicit(0)),
            (vec![(EXPIRES, "0")], explicit(0)),
            (
                vec![(EXPIRES, "Sunday, 06-Nov-94 08:50:07 GMT")],
                explicit(30),
            ),
            (vec![(EXPIRES, "Sun Nov  6 08:50:07 1994")], explicit(30)),
            (vec![(LAST_MODIFIED, day_ago), (DATE, NOW)], heuristic(8640)),
            (vec![(LAST_MODIFIED, NOW), (ETAG, "\"a\"")], heuristic(60)),
            (vec![(LAST_MODIFIED, NOW), (ETAG, "W/\"a\"")], heuristic(0)),
            (vec![(ETAG, "\"a\"")], Lifetime::Unknown),
            (vec![], Lifetime::Unknown),
        ] {
            assert_eq!(seconds(&lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn initial_age_takes_the_larger_of_date_and_age() {
        let requested = Moment {
            wall: wall(),
            monotonic: Duration::from_secs(100),
        };
        let received = Moment {
            wall: wall() + Duration::from_secs(2),
            monotonic: Duration::from_secs(102),
        };
        for (lines, expected) in [
            (vec![(DATE, NOW)], 2),
            (vec![(DATE, NOW), (AGE, "10")], 12),
            (vec![(AGE, "abc")], 2),
            (vec![(AGE, "-3")], 2),
            (vec![(AGE, "3, 7")], 9),
            (vec![(AGE, "99999999999")], (1_u64 << 31) + 2),
            (vec![(DATE, "Sun, 06 Nov 1994 08:48:37 GMT")], 62),
            (vec![(DATE, "Sun, 06 Nov 1994 09:48:37 GMT")], 2),
        ] {
            let age = initial_age(&fields(&lines), requested, received);
            assert_eq!(age, Duration::from_secs(expected), "{lines:?}");
        }
    }

    #[test]
    fn a_response_is_fresh_until_its_age_reaches_its_lifetime() {
        let freshness = Freshness {
            lifetime: Duration::from_secs(10),
            initial_age: Duration::from_secs(4),
            received: Duration::from_secs(100),
            always_validate: false,
        };
        let at = |seconds| Moment {
            wall: wall(),
            monotonic: Duration::from_secs(seconds),
        };
        let plain = CacheControl::default();
        assert!(freshness.satisfies(&plain, at(105)));
        assert!(!freshness.satisfies(&plain, at(106)));
        assert_eq!(freshness.ttl_seconds(at(105)), 1);
        assert_eq!(freshness.ttl_seconds(at(108)), -2);
        let max_age = |max_age| CacheControl {
            max_age: Some(max_age),
            ..CacheControl::default()
        };
        assert!(freshness.satisfies(&max_age(4), at(100)));
        assert!(!freshness.satisfies(&max_age(3), at(100)));
        let min_fresh = CacheControl {
            min_fresh: Some(5),
            ..CacheControl::default()
        };
        assert!(freshness.satisfies(&min_fresh, at(100)));
        assert!(!freshness.satisfies(&min_fresh, at(101)));
        let no_cache = CacheControl {
            no_cache: true,
            ..CacheControl::default()
        };
        assert!(!freshness.satisfies(&no_cache, at(100)));
    }
}
