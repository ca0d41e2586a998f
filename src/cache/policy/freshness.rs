//! Freshness lifetime, age, and what may be done with a stale response (RFC 9111 §4.2, RFC 5861).

use std::time::{Duration, SystemTime};

use http::header::{AGE, DATE, EXPIRES, HeaderName, LAST_MODIFIED};
use http::{HeaderMap, StatusCode};

use super::cache_control::{MAX_DELTA_SECONDS, RequestDirectives, ResponseDirectives};
use super::conditional::EntityTag;
use super::http_date;
use crate::clock::Moment;
use crate::config::CacheRules;

/// No heuristic lifetime is longer than a day: RFC 9111 §4.2.2 asks for care beyond that.
const HEURISTIC_LIMIT: Duration = Duration::from_secs(24 * 60 * 60);

/// Where a freshness lifetime comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// The origin's `s-maxage`, `max-age` or `Expires`.
    Explicit(Duration),
    /// The operator's `override_ttl` or `status_ttl`.
    Configured(Duration),
    /// Guessed from `Last-Modified`, or the configured default.
    Heuristic(Duration),
    /// Nothing to go by: stale at once.
    Unknown,
}

impl Lifetime {
    /// The lifetime, zero when unknown.
    pub fn duration(self) -> Duration {
        match self {
            Lifetime::Explicit(lifetime)
            | Lifetime::Configured(lifetime)
            | Lifetime::Heuristic(lifetime) => lifetime,
            Lifetime::Unknown => Duration::ZERO,
        }
    }

    /// Somebody has said it, rather than we guessed it.
    pub fn is_given(self) -> bool {
        matches!(self, Lifetime::Explicit(_) | Lifetime::Configured(_))
    }

    /// The word for `explain`.
    pub fn word(self) -> &'static str {
        match self {
            Lifetime::Explicit(_) => "explicit",
            Lifetime::Configured(_) => "configured",
            Lifetime::Heuristic(_) => "heuristic",
            Lifetime::Unknown => "unknown",
        }
    }

    /// Shortens what nobody promised by up to `jitter_percent`, so that what was stored together
    /// does not expire together; `noise` is anything that differs from object to object.
    pub fn jittered(self, jitter_percent: u8, noise: u64) -> Self {
        let shorten = |lifetime: Duration| {
            let permille = u32::try_from(noise % (u64::from(jitter_percent) * 10 + 1)).unwrap_or(0);
            lifetime - lifetime / 1000 * permille
        };
        match self {
            Lifetime::Heuristic(lifetime) => Lifetime::Heuristic(shorten(lifetime)),
            Lifetime::Configured(lifetime) => Lifetime::Configured(shorten(lifetime)),
            given => given,
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
    directives: &ResponseDirectives,
    received: SystemTime,
    rules: &CacheRules,
) -> Lifetime {
    lifetime_and_source(status, fields, directives, received, rules).0
}

/// What a freshness lifetime was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LifetimeSource {
    /// The operator's `override_ttl`.
    OverrideTtl,
    /// The operator's `status_ttl`.
    StatusTtl,
    /// `s-maxage`.
    SMaxage,
    /// `max-age`.
    MaxAge,
    /// `Expires` − `Date`.
    Expires,
    /// A tenth of `Date` − `Last-Modified`.
    LastModified,
    /// The operator's `default_ttl`.
    DefaultTtl,
    /// Nothing.
    Nothing,
}

impl LifetimeSource {
    /// The words for `explain`.
    pub fn words(self) -> &'static str {
        match self {
            LifetimeSource::OverrideTtl => "override_ttl of the configuration",
            LifetimeSource::StatusTtl => "status_ttl of the configuration",
            LifetimeSource::SMaxage => "s-maxage",
            LifetimeSource::MaxAge => "max-age",
            LifetimeSource::Expires => "Expires - Date",
            LifetimeSource::LastModified => "10 % of Date - Last-Modified",
            LifetimeSource::DefaultTtl => "default_ttl of the configuration",
            LifetimeSource::Nothing => "nothing gives one",
        }
    }
}

/// See [`lifetime`]; also what it was read from.
pub fn lifetime_and_source(
    status: StatusCode,
    fields: &HeaderMap,
    directives: &ResponseDirectives,
    received: SystemTime,
    rules: &CacheRules,
) -> (Lifetime, LifetimeSource) {
    if let Some(ttl) = rules.override_ttl {
        return match rules.status_ttl.of(status) {
            Some(ttl) => (Lifetime::Configured(ttl), LifetimeSource::StatusTtl),
            None => (Lifetime::Configured(ttl), LifetimeSource::OverrideTtl),
        };
    }
    let clamp = |lifetime: Duration| {
        lifetime
            .max(rules.min_ttl.unwrap_or(Duration::ZERO))
            .min(rules.max_ttl.unwrap_or(Duration::MAX))
    };
    if let Some(seconds) = directives.s_maxage.or(directives.max_age) {
        let source = match directives.s_maxage {
            Some(_) => LifetimeSource::SMaxage,
            None => LifetimeSource::MaxAge,
        };
        let lifetime = Lifetime::Explicit(clamp(Duration::from_secs(u64::from(seconds))));
        return (lifetime, source);
    }
    let date = date_field(fields, DATE, received).unwrap_or(received);
    if fields.contains_key(EXPIRES) && !directives.targeted {
        // RFC 9111 §5.3: a value that is no date, "0" above all, lies in the past.
        let expires = date_field(fields, EXPIRES, received).unwrap_or(SystemTime::UNIX_EPOCH);
        let lifetime = Lifetime::Explicit(clamp(expires.duration_since(date).unwrap_or_default()));
        return (lifetime, LifetimeSource::Expires);
    }
    if let Some(ttl) = rules.status_ttl.of(status) {
        return (Lifetime::Configured(ttl), LifetimeSource::StatusTtl);
    }
    if !(is_heuristically_cacheable(status) || directives.public) {
        return (Lifetime::Unknown, LifetimeSource::Nothing);
    }
    let Some(last_modified) = date_field(fields, LAST_MODIFIED, received) else {
        return (Lifetime::Unknown, LifetimeSource::Nothing);
    };
    let tenth = date.duration_since(last_modified).unwrap_or_default() / 10;
    let tenth = tenth.min(HEURISTIC_LIMIT);
    // A part that is kept as it came stands for its 200.
    let is_content = matches!(status, StatusCode::OK | StatusCode::PARTIAL_CONTENT);
    let looks_stored = is_content && EntityTag::of(fields).is_some_and(|tag| tag.is_strong());
    let floor = if looks_stored {
        rules.default_ttl
    } else {
        Duration::ZERO
    };
    let source = match floor > tenth {
        true => LifetimeSource::DefaultTtl,
        false => LifetimeSource::LastModified,
    };
    (Lifetime::Heuristic(clamp(tenth.max(floor))), source)
}

/// RFC 9110 §15.1.
pub fn is_heuristically_cacheable(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200 | 203 | 204 | 206 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501
    )
}

/// The age a response had when its last byte of head arrived (`corrected_initial_age`,
/// RFC 9111 §4.2.3).
pub fn initial_age(fields: &HeaderMap, requested: Moment, received: Moment) -> Duration {
    let apparent = date_field(fields, DATE, received.wall)
        .and_then(|date| received.wall.duration_since(date).ok())
        .unwrap_or_default();
    let delay = received.monotonic.saturating_sub(requested.monotonic);
    let corrected = age_field(fields) + delay;
    apparent.max(corrected)
}

/// The `Age` field: the first member of the first line; zero when that is no number
/// (RFC 9111 §5.1).
fn age_field(fields: &HeaderMap) -> Duration {
    let first = fields
        .get(AGE)
        .and_then(|value| value.as_bytes().split(|b| *b == b',').next())
        .map(<[u8]>::trim_ascii)
        .filter(|digits| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit));
    let seconds = first.map_or(0, |digits| {
        std::str::from_utf8(digits)
            .ok()
            .and_then(|digits| digits.parse::<u64>().ok())
            .unwrap_or(u64::MAX)
            .min(u64::from(MAX_DELTA_SECONDS))
    });
    Duration::from_secs(seconds)
}

/// A date field; `None` unless it stands on one line and is a date (see [`http_date`]).
pub fn date_field(fields: &HeaderMap, name: HeaderName, now: SystemTime) -> Option<SystemTime> {
    let mut lines = fields.get_all(name).iter();
    match (lines.next(), lines.next()) {
        (Some(value), None) => http_date::parse(value.as_bytes(), now),
        _ => None,
    }
}

/// How fresh a stored response is and what it may be used for once stale; fixed when it was
/// received or last validated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freshness {
    /// The freshness lifetime, and where it comes from.
    pub lifetime: Lifetime,
    /// Its age on arrival.
    pub initial_age: Duration,
    /// The monotonic time of its arrival.
    pub received: Duration,
    /// `no-cache`: never used without validation.
    pub always_validate: bool,
    /// `must-revalidate`, `proxy-revalidate` or `s-maxage`: never used stale unless the response
    /// itself says for how long.
    pub never_stale: bool,
    /// How long past its lifetime it may answer while it is being validated (RFC 5861 §3).
    pub while_revalidating: Duration,
    /// How long past its lifetime it may answer when the origin fails (RFC 5861 §4).
    pub if_error: Duration,
}

impl Freshness {
    /// What the response's directives and the operator's rules make of it.
    pub fn new(
        lifetime: Lifetime,
        initial_age: Duration,
        received: Duration,
        directives: &ResponseDirectives,
        rules: &CacheRules,
    ) -> Self {
        // RFC 9111 §5.2.2.2, §5.2.2.8: these forbid it whatever else is said.
        let forbidden = directives.must_revalidate
            || directives.proxy_revalidate
            || directives.no_cache.is_response();
        // s-maxage implies as much (§5.2.2.10), but an origin that adds stale-while-revalidate to it
        // has said more precisely what it wants.
        let never_stale = forbidden || directives.s_maxage.is_some();
        let window = |said: Option<u32>, otherwise: Duration| match said {
            _ if forbidden => Duration::ZERO,
            Some(seconds) => Duration::from_secs(u64::from(seconds)),
            None if never_stale => Duration::ZERO,
            None => otherwise,
        };
        Freshness {
            lifetime,
            initial_age,
            received,
            always_validate: directives.no_cache.is_response(),
            never_stale,
            while_revalidating: window(
                directives.stale_while_revalidate,
                rules.stale_while_revalidate,
            ),
            if_error: window(directives.stale_if_error, rules.grace),
        }
    }

    /// `current_age` (RFC 9111 §4.2.3).
    pub fn current_age(&self, now: Moment) -> Duration {
        self.initial_age + now.monotonic.saturating_sub(self.received)
    }

    /// As if its lifetime had ended by `now` at the latest: what a soft purge makes of it.
    pub fn expired(self, now: Moment) -> Self {
        let lifetime = self.lifetime.duration().min(self.current_age(now));
        Freshness {
            lifetime: Lifetime::Explicit(lifetime),
            ..self
        }
    }

    /// Remaining freshness in whole seconds; negative once stale (the `ttl` of RFC 9211 §2.4).
    pub fn ttl_seconds(&self, now: Moment) -> i64 {
        let lifetime = i64::try_from(self.lifetime.duration().as_secs()).unwrap_or(i64::MAX);
        let age = i64::try_from(self.current_age(now).as_secs()).unwrap_or(i64::MAX);
        lifetime.saturating_sub(age)
    }

    /// What the stored response may be used for now (RFC 9111 §4, §4.2.4, §5.2.1).
    pub fn judge(&self, request: &RequestDirectives, now: Moment) -> Verdict {
        let age = self.current_age(now);
        let lifetime = self.lifetime.duration();
        // RFC 9111 §4.2: fresh while the lifetime exceeds the age.
        let stale_for = (age >= lifetime).then(|| age - lifetime);
        let asked = !self.never_stale && !self.always_validate;
        let if_error = match request.stale_if_error {
            Some(seconds) if asked => self.if_error.max(seconds_of(seconds)),
            _ => self.if_error,
        };
        let must_validate = Verdict::Stale {
            if_error: !self.always_validate && stale_for.is_none_or(|by| by < if_error),
        };
        let too_old = request.max_age.is_some_and(|limit| age > seconds_of(limit));
        if self.always_validate || request.no_cache || too_old {
            return must_validate;
        }
        let Some(stale_for) = stale_for else {
            let needed = seconds_of(request.min_fresh.unwrap_or(0));
            if lifetime > age + needed {
                return Verdict::Fresh;
            }
            return must_validate;
        };
        if request.min_fresh.is_some() {
            return must_validate;
        }
        if asked
            && request
                .max_stale
                .is_some_and(|limit| stale_for <= seconds_of(limit))
        {
            return Verdict::Tolerated;
        }
        if stale_for < self.while_revalidating {
            return Verdict::WhileRevalidating;
        }
        must_validate
    }
}

fn seconds_of(delta: u32) -> Duration {
    Duration::from_secs(u64::from(delta))
}

/// What a stored response may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is fresh enough for this request.
    Fresh,
    /// It is stale, and the request tolerates that (`max-stale`).
    Tolerated,
    /// It is stale, may answer at once, and is to be validated meanwhile.
    WhileRevalidating,
    /// It must be validated first.
    Stale {
        /// If that fails because the origin does, it may answer.
        if_error: bool,
    },
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
        let directives = ResponseDirectives::of(&fields);
        lifetime(
            StatusCode::OK,
            &fields,
            &directives,
            wall(),
            &CacheRules::default(),
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
            (vec![(AGE, "3, 7")], 5),
            (vec![(AGE, "3"), (AGE, "7")], 5),
            (vec![(AGE, "3.5")], 2),
            (vec![(AGE, "3;a=b")], 2),
            (vec![(AGE, "99999999999")], (1_u64 << 31) + 2),
            (vec![(DATE, "Sun, 06 Nov 1994 08:48:37 GMT")], 62),
            (vec![(DATE, "Sun, 06 Nov 1994 09:48:37 GMT")], 2),
        ] {
            let age = initial_age(&fields(&lines), requested, received);
            assert_eq!(age, Duration::from_secs(expected), "{lines:?}");
        }
    }

    const RECEIVED: u64 = 100;

    fn at(seconds: u64) -> Moment {
        Moment {
            wall: wall(),
            monotonic: Duration::from_secs(seconds),
        }
    }

    /// A response of age 4 on arrival.
    fn freshness(cache_control: &str, rules: &CacheRules) -> Freshness {
        let fields = fields(&[(CACHE_CONTROL, cache_control)]);
        let directives = ResponseDirectives::of(&fields);
        let lifetime = lifetime(StatusCode::OK, &fields, &directives, wall(), rules);
        let received = Duration::from_secs(RECEIVED);
        Freshness::new(
            lifetime,
            Duration::from_secs(4),
            received,
            &directives,
            rules,
        )
    }

    fn request(line: &str) -> RequestDirectives {
        RequestDirectives::of(&fields(&[(CACHE_CONTROL, line)]))
    }

    fn without_grace() -> CacheRules {
        CacheRules {
            grace: Duration::ZERO,
            ..CacheRules::default()
        }
    }

    #[test]
    fn what_a_response_may_be_used_for_at_each_boundary() {
        use Verdict::{Fresh, Tolerated, WhileRevalidating};
        let stale = Verdict::Stale { if_error: false };
        let if_error = Verdict::Stale { if_error: true };
        for (response, asked, seconds, expected) in [
            ("max-age=10", "", 5, Fresh),
            ("max-age=10", "", 6, if_error),
            ("max-age=10", "max-age=4", 0, Fresh),
            ("max-age=10", "max-age=3", 0, if_error),
            ("max-age=10", "max-age=0", 0, if_error),
            ("max-age=10", "min-fresh=5", 0, Fresh),
            ("max-age=10", "min-fresh=5", 1, if_error),
            ("max-age=10", "min-fresh=6", 0, if_error),
            ("max-age=10", "no-cache", 0, if_error),
            ("max-age=10", "max-stale", 1000, Tolerated),
            ("max-age=10", "max-stale=3", 9, Tolerated),
            ("max-age=10", "max-stale=3", 10, stale),
            ("max-age=10", "max-stale=3, min-fresh=1", 8, stale),
            ("max-age=10, must-revalidate", "max-stale", 6, stale),
            ("max-age=10, proxy-revalidate", "max-stale", 6, stale),
            ("s-maxage=10", "max-stale", 6, stale),
            ("max-age=10, no-cache", "max-stale", 1, stale),
            ("max-age=10, no-cache=\"x-a\"", "", 1, Fresh),
            (
                "max-age=10, stale-while-revalidate=3",
                "",
                8,
                WhileRevalidating,
            ),
            ("max-age=10, stale-while-revalidate=3", "", 9, stale),
            (
                "s-maxage=10, stale-while-revalidate=3",
                "",
                8,
                WhileRevalidating,
            ),
            (
                "max-age=10, stale-while-revalidate=3, must-revalidate",
                "",
                8,
                stale,
            ),
            ("max-age=10, stale-while-revalidate=3", "no-cache", 8, stale),
            ("max-age=10, stale-if-error=3", "", 8, if_error),
            ("max-age=10, stale-if-error=3", "", 9, stale),
            (
                "max-age=10, stale-if-error=3, must-revalidate",
                "",
                7,
                stale,
            ),
            ("max-age=10", "stale-if-error=3", 8, if_error),
            ("max-age=10", "stale-if-error=3", 9, stale),
            ("s-maxage=10", "stale-if-error=3", 8, stale),
        ] {
            let rules = CacheRules {
                // Shown by the rows that say nothing of errors: at the boundary of a second.
                grace: Duration::from_secs(u64::from(seconds <= 6)),
                ..CacheRules::default()
            };
            let freshness = freshness(response, &rules);
            let verdict = freshness.judge(&request(asked), at(RECEIVED + seconds));
            assert_eq!(verdict, expected, "{response} | {asked} | {seconds}");
        }
    }

    #[test]
    fn the_operator_grants_grace_unless_the_origin_forbids_it() {
        let rules = CacheRules::default();
        for (response, if_error) in [
            ("max-age=10", rules.grace),
            ("max-age=10, stale-if-error=5", Duration::from_secs(5)),
            ("max-age=10, stale-if-error=0", Duration::ZERO),
            ("max-age=10, must-revalidate", Duration::ZERO),
            ("s-maxage=10", Duration::ZERO),
            ("no-cache", Duration::ZERO),
        ] {
            assert_eq!(freshness(response, &rules).if_error, if_error, "{response}");
        }
    }

    #[test]
    fn ttl_is_what_is_left_of_the_lifetime() {
        let freshness = freshness("max-age=10", &without_grace());
        assert_eq!(freshness.ttl_seconds(at(105)), 1);
        assert_eq!(freshness.ttl_seconds(at(108)), -2);
    }

    #[test]
    fn the_operator_may_clamp_replace_and_supply_lifetimes() {
        let second = Duration::from_secs;
        let rules = CacheRules {
            min_ttl: Some(second(10)),
            max_ttl: Some(second(100)),
            ..CacheRules::default()
        };
        assert_eq!(
            freshness("max-age=1", &rules).lifetime,
            Lifetime::Explicit(second(10))
        );
        assert_eq!(
            freshness("max-age=999", &rules).lifetime,
            Lifetime::Explicit(second(100))
        );
        let rules = CacheRules {
            override_ttl: Some(second(7)),
            ..CacheRules::default()
        };
        assert_eq!(
            freshness("max-age=1", &rules).lifetime,
            Lifetime::Configured(second(7))
        );
    }

    #[test]
    fn jitter_shortens_only_what_nobody_promised() {
        let lifetime = Duration::from_secs(1000);
        for noise in 0..200 {
            let Lifetime::Heuristic(jittered) = Lifetime::Heuristic(lifetime).jittered(5, noise)
            else {
                panic!("another kind");
            };
            assert!(
                jittered <= lifetime && jittered >= Duration::from_secs(950),
                "{jittered:?}"
            );
            let explicit = Lifetime::Explicit(lifetime);
            assert_eq!(explicit.jittered(5, noise), explicit);
        }
        let heuristic = Lifetime::Heuristic(lifetime);
        assert_ne!(heuristic.jittered(5, 50), heuristic);
        assert_eq!(heuristic.jittered(0, 50), heuristic);
    }

    #[test]
    fn heuristics_hold_for_the_statuses_that_the_rfc_lists_and_for_what_is_public() {
        let week_ago = "Sun, 30 Oct 1994 08:49:37 GMT";
        for (status, cache_control, heuristic) in [
            (200, "", true),
            (203, "", true),
            (204, "", true),
            (404, "", true),
            (410, "", true),
            (414, "", true),
            (501, "", true),
            (201, "", false),
            (302, "", false),
            (500, "", false),
            (599, "", false),
            (599, "public", true),
        ] {
            let fields = fields(&[
                (LAST_MODIFIED, week_ago),
                (DATE, NOW),
                (CACHE_CONTROL, cache_control),
            ]);
            let directives = ResponseDirectives::of(&fields);
            let status = StatusCode::from_u16(status).unwrap();
            let rules = CacheRules::default();
            let lifetime = lifetime(status, &fields, &directives, wall(), &rules);
            assert_eq!(
                matches!(lifetime, Lifetime::Heuristic(_)),
                heuristic,
                "{status}"
            );
        }
    }
}
