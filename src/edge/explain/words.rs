//! An explanation in words: numbered steps, the outcome, and what would make it a hit.
//!
//! Written for an operator in the middle of the night: one line a step, with the values that
//! counted. Credentials, cookies and signatures are told by their length only.

use std::fmt;
use std::time::Duration;

use http::header::{
    AUTHORIZATION, COOKIE, HOST, HeaderName, PROXY_AUTHORIZATION, RANGE, SET_COOKIE,
};
use serde_json::{Value, json};

use super::super::course::NotForCache;
use super::super::downstream::OrNothing;
use super::{End, Explanation, Routed};
use crate::cache::explain::{Chosen, Held, KeyState, Tier, Variant};
use crate::cache::policy::cache_control::{MAX_DELTA_SECONDS, RequestDirectives};
use crate::cache::policy::storable::NotStored;
use crate::cache::policy::vary::Difference;
use crate::cache::purge::Severity;
use crate::cache::{Allowance, Holding, Lookup, Miss};
use crate::config::{Access, CacheRules};
use crate::observe::Outcome;
use crate::signing::query_without_signature;

/// The words.
pub(super) struct Told {
    steps: Vec<(&'static str, String)>,
    outcome: &'static str,
    cache_status: Option<String>,
    key: Option<String>,
    hints: Vec<String>,
}

impl Told {
    /// An explanation in words.
    pub(super) fn of(explanation: &Explanation) -> Self {
        let mut steps = vec![("request", request(explanation))];
        let Some(routed) = &explanation.routed else {
            let host = explanation.request.authority();
            let path = explanation.request.path();
            steps.push(("route", format!("none matches host {host} and path {path}")));
            return Told {
                steps,
                outcome: Outcome::Refused.as_str(),
                cache_status: None,
                key: None,
                hints: vec![
                    "add a route for this host and path under edge.routes; until then the answer is 404"
                        .to_owned(),
                ],
            };
        };
        let rules = &*routed.route.cache;
        steps.push(("key", key(routed)));
        steps.push(("route", route(routed)));
        steps.push(("for the cache", for_the_cache(routed.not_for_the_cache)));
        steps.push(("directives", directives(&routed.directives, rules)));
        steps.push(("stored", stored(&routed.state)));
        if let Some(chosen) = &routed.state.chosen {
            steps.push(("purges", purges(chosen)));
            steps.push(("freshness", freshness(chosen, explanation)));
            steps.push(("stale use", stale_use(chosen, explanation)));
            steps.push(("bytes", bytes(&chosen.bytes, routed, explanation)));
        }
        if routed.state.under_way > 0 {
            let count = routed.state.under_way;
            let text =
                format!("{count} request(s) to the origin for this key; who asks now may join");
            steps.push(("under way", text));
        }
        let (outcome, cache_status, text) = ending(routed);
        steps.push(("outcome", text));
        Told {
            steps,
            outcome,
            cache_status,
            key: Some(routed.key.to_string()),
            hints: hints(routed, explanation),
        }
    }

    /// `{"outcome", "key", "cache_status", "steps": [{"step", "says"}], "hints"}`.
    pub(super) fn to_json(&self) -> Value {
        let steps = self.steps.iter();
        let steps = steps.map(|(step, says)| json!({ "step": step, "says": says }));
        json!({
            "outcome": self.outcome,
            "key": self.key,
            "cache_status": self.cache_status,
            "steps": steps.collect::<Vec<_>>(),
            "hints": self.hints,
        })
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (step, says)) in self.steps.iter().enumerate() {
            writeln!(f, "{:>2}  {step:<14} {says}", index + 1)?;
        }
        if !self.hints.is_empty() {
            writeln!(f, "\nwhat would make it a hit:")?;
        }
        for hint in &self.hints {
            writeln!(f, "  - {hint}")?;
        }
        Ok(())
    }
}

fn request(explanation: &Explanation) -> String {
    let request = &explanation.request;
    let mut text = format!(
        "{} {}://{}{}",
        request.method,
        request.peer.scheme().as_str(),
        request.authority(),
        request.path()
    );
    if let Some(query) = request.query() {
        let kept = query_without_signature(query);
        let signature = query.len() - kept.len();
        text.push_str(&format!("?{kept}"));
        if signature > 0 {
            text.push_str(&format!(" (+ {signature} bytes of signature)"));
        }
    }
    for (name, value) in &request.fields {
        if *name != HOST {
            let value = String::from_utf8_lossy(value.as_bytes());
            text.push_str(&format!("; {name}: {}", shown(name, &value)));
        }
    }
    text
}

/// A value as it may be told.
fn shown(name: &HeaderName, value: &str) -> String {
    let text = name.as_str();
    let is_secret = [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE, SET_COOKIE].contains(name)
        || [
            "token",
            "secret",
            "signature",
            "password",
            "api-key",
            "apikey",
            "credential",
        ]
        .iter()
        .any(|word| text.contains(word));
    if is_secret {
        format!("({} bytes, not shown)", value.len())
    } else {
        value.escape_debug().to_string()
    }
}

fn key(routed: &Routed) -> String {
    let mut text = routed.key.to_string();
    if !routed.left_out.is_empty() {
        let names = routed.left_out.join(", ");
        text.push_str(&format!(" (query parameters not keyed: {names})"));
    }
    if routed.route.cache.sort_query {
        text.push_str(" (query sorted)");
    }
    text
}

fn route(routed: &Routed) -> String {
    let route = &routed.route;
    let host = route.host.as_deref().unwrap_or("any");
    let access = match route.access {
        Access::Public => "public",
        Access::Signed => {
            "signed (whether a signature is genuine is not judged here: use tidegate verify)"
        }
    };
    let (name, path, origin) = (&route.name, &route.path, &routed.origin);
    format!("{name:?}: host {host}, path {path}, origin {origin}, access {access}")
}

fn for_the_cache(why_not: Option<NotForCache>) -> String {
    let Some(why_not) = why_not else {
        return "yes".to_owned();
    };
    let why = match why_not {
        NotForCache::Method => "the method is neither GET nor HEAD",
        NotForCache::Upgrade => "Upgrade asks to switch protocols",
        NotForCache::Body => "the request has a body",
        NotForCache::SignedFields => "the signature covers more than the URL",
        NotForCache::Precondition => {
            "If-Match or If-Unmodified-Since is for the origin to judge (RFC 9111 section 4.3.2)"
        }
    };
    format!("no: {why}")
}

fn directives(directives: &RequestDirectives, rules: &CacheRules) -> String {
    if rules.ignore_request_cache_control {
        return "not regarded: ignore_request_cache_control is true for this route".to_owned();
    }
    let mut said = Vec::new();
    for (name, is_said) in [
        ("no-store", directives.no_store),
        ("no-cache", directives.no_cache),
        ("only-if-cached", directives.only_if_cached),
    ] {
        if is_said {
            said.push(name.to_owned());
        }
    }
    for (name, value) in [
        ("max-age", directives.max_age),
        ("min-fresh", directives.min_fresh),
        ("stale-if-error", directives.stale_if_error),
    ] {
        said.extend(value.map(|seconds| format!("{name}={seconds}")));
    }
    said.extend(directives.max_stale.map(|seconds| match seconds {
        MAX_DELTA_SECONDS => "max-stale".to_owned(),
        seconds => format!("max-stale={seconds}"),
    }));
    match said.is_empty() {
        true => "none in Cache-Control or Pragma that count".to_owned(),
        false => said.join(", "),
    }
}

fn stored(state: &KeyState) -> String {
    let mut text = match state.variants.len() {
        0 => "nothing under this key".to_owned(),
        1 => "1 response".to_owned(),
        count => format!("{count} variants"),
    };
    for (index, variant) in state.variants.iter().enumerate() {
        text.push_str(&format!("; {}. {}", index + 1, one(variant)));
    }
    if let Some(left) = state.passes_for {
        text.push_str(&format!("; requests pass for {} more", seconds(left)));
    }
    if let Some(refused) = &state.refused {
        let (why, status, ago) = (refused.why.word(), refused.status, seconds(refused.ago));
        let status = status.as_u16();
        text.push_str(&format!(
            "; the last response ({status}, {ago} ago) was not stored: {why}"
        ));
    }
    text
}

fn one(variant: &Variant) -> String {
    let names: Vec<&str> = variant.selecting.iter().map(HeaderName::as_str).collect();
    let vary = match names.is_empty() {
        true => String::new(),
        false => format!(", varies by {}", names.join(", ")),
    };
    let verdict = match &variant.difference {
        Some(difference) => different(difference),
        None if variant.is_chosen => "chosen".to_owned(),
        None => "older than the chosen one".to_owned(),
    };
    let tier = match variant.tier {
        Tier::Memory => "",
        Tier::Disk => ", stored on disk, not in memory",
    };
    format!("{}{vary}: {verdict}{tier}", variant.status.as_u16())
}

fn different(difference: &Difference) -> String {
    let Difference {
        name,
        stored,
        asked,
        is_normalised,
    } = difference;
    let value = |value: &Option<String>| match value {
        Some(value) if *is_normalised => format!("[{}]", preferences(value)),
        Some(value) => format!("\"{}\"", shown(name, value)),
        None => "absent".to_owned(),
    };
    format!("no, {name} is {} and was {}", value(asked), value(stored))
}

/// A normal form of preferences in words; see [`Difference`] for its signs.
fn preferences(normal: &str) -> String {
    let text = normal.strip_prefix(['>', '=', '!']).unwrap_or(normal);
    let words = text.replace('>', ", then ").replace('=', " or ");
    words.replace('!', ", not ").escape_debug().to_string()
}

fn purges(chosen: &Chosen) -> String {
    let (since, latest) = (
        chosen.untouched_up_to.number(),
        chosen.latest_purge.number(),
    );
    match chosen.purged {
        None => format!("none touches it (newest purge: sequence {latest})"),
        Some(Severity::Soft) => {
            format!("purged softly after sequence {since} (newest: {latest}): it counts as stale")
        }
        Some(Severity::Hard) => {
            format!("purged after sequence {since} (newest: {latest}): it is not used")
        }
    }
}

fn freshness(chosen: &Chosen, explanation: &Explanation) -> String {
    let freshness = &chosen.response.head.freshness;
    let age = freshness.current_age(explanation.now);
    let lifetime = freshness.lifetime.duration();
    let field = match &chosen.targeted_field {
        Some(field) => format!(" in {field}"),
        None => String::new(),
    };
    let mut from = format!(
        "{}, {}{field}",
        freshness.lifetime.word(),
        chosen.source.words()
    );
    if chosen.before_jitter > lifetime {
        let before = seconds(chosen.before_jitter);
        from.push_str(&format!(", {before} less ttl_jitter"));
    }
    let verdict = match lifetime.checked_sub(age).filter(|left| !left.is_zero()) {
        Some(left) => format!("fresh for {} more", seconds(left)),
        None => format!("stale since {}", seconds(age.saturating_sub(lifetime))),
    };
    let purged = match chosen.purged {
        Some(Severity::Soft) => ", but for the purge",
        Some(Severity::Hard) | None => "",
    };
    let no_cache = match freshness.always_validate {
        true => "; no-cache: never used without validation",
        false => "",
    };
    format!(
        "{verdict}{purged}: age {} = {} on arrival + {} here, lifetime {} ({from}){no_cache}",
        seconds(age),
        seconds(freshness.initial_age),
        seconds(chosen.resident),
        seconds(lifetime),
    )
}

fn stale_use(chosen: &Chosen, explanation: &Explanation) -> String {
    let freshness = &chosen.freshness;
    let age = freshness.current_age(explanation.now);
    let stale_for = age.saturating_sub(freshness.lifetime.duration());
    let window = |window: Duration| match window.checked_sub(stale_for) {
        _ if window.is_zero() => "no".to_owned(),
        Some(left) if !left.is_zero() && stale_for.is_zero() => seconds(window),
        Some(left) if !left.is_zero() => format!("{}, {} left", seconds(window), seconds(left)),
        _ => format!("{}, over", seconds(window)),
    };
    let mut text = format!(
        "while revalidating: {}; if the origin fails: {}",
        window(freshness.while_revalidating),
        window(freshness.if_error)
    );
    if freshness.never_stale {
        text.push_str("; must-revalidate, proxy-revalidate, no-cache or s-maxage forbids more");
    }
    let pause = chosen.failed_validation_pause;
    if !pause.is_zero() {
        text.push_str(&format!(
            "; a validation failed, the next is tried in {}",
            seconds(pause)
        ));
    }
    text
}

fn bytes(held: &Held, routed: &Routed, explanation: &Explanation) -> String {
    let mut text = match held.length {
        None => "length not known yet".to_owned(),
        Some(length) if held.is_whole => {
            let tier = match held.tier {
                Tier::Memory => "in memory",
                Tier::Disk => "on disk",
            };
            format!("{length} bytes, all {tier} beside the head")
        }
        Some(length) => {
            let (present, of) = (held.blocks_present, held.blocks_looked_for);
            let block = held.block_bytes;
            let on_disk = match held.blocks_on_disk {
                0 => String::new(),
                more => format!(", {more} more on disk"),
            };
            format!("{length} bytes; {present} of {of} blocks of {block} bytes in memory{on_disk}")
        }
    };
    if !held.is_whole && !held.can_be_completed {
        text.push_str("; no strong ETag, so missing blocks cannot be fetched");
    }
    if let Some(range) = explanation.request.fields.get(RANGE) {
        let range = String::from_utf8_lossy(range.as_bytes());
        let found = match routed.holding {
            Some(Holding::Whole) => ": at hand",
            Some(Holding::Arriving) => ": arriving with another request's fill",
            Some(Holding::Part) => ": not all of it at hand",
            None => "",
        };
        text.push_str(&format!("; Range {}{found}", range.escape_debug()));
    }
    for fill in &held.fills {
        text.push_str(&format!(
            "; a fill brings bytes from {}, now at {}",
            fill.start, fill.end
        ));
    }
    text
}

fn ending(routed: &Routed) -> (&'static str, Option<String>, String) {
    let key = OrNothing(&routed.key_parameter);
    match &routed.end {
        End::Served {
            status,
            stale,
            outcome,
        } => {
            let status = format!("{status}{key}");
            let stale = match stale {
                None => "",
                Some(Allowance::WhileRevalidating) => " (stale, and validated meanwhile)",
                Some(Allowance::MaxStale) => " (stale, which the request tolerates)",
                Some(Allowance::IfError) => " (stale, because the origin fails)",
            };
            let text = format!("{}{stale}: Cache-Status: {status}", outcome.as_str());
            (outcome.as_str(), Some(status), text)
        }
        End::Forwarded {
            status,
            outcome,
            validates,
        } => {
            let status = format!("{status}{key}");
            let what = match validates {
                true => "the origin is asked to validate what is stored",
                false => "the origin is asked",
            };
            let text = format!(
                "{}: {what}; Cache-Status: {status} and what its answer adds",
                outcome.as_str()
            );
            (outcome.as_str(), Some(status), text)
        }
        End::NotCached => {
            let text = "504: only-if-cached, and nothing stored may answer".to_owned();
            (Outcome::Error.as_str(), None, text)
        }
    }
}

/// What would make it a hit; nothing when it is one.
fn hints(routed: &Routed, explanation: &Explanation) -> Vec<String> {
    let mut hints = Vec::new();
    let directives = &routed.directives;
    if matches!(
        routed.end,
        End::Served {
            outcome: Outcome::Hit,
            ..
        }
    ) {
        return hints;
    }
    if let Some(why) = routed.not_for_the_cache {
        hints.push(send_otherwise(why).to_owned());
        return hints;
    }
    if directives.no_store {
        hints.push(
            "send no Cache-Control: no-store, or set ignore_request_cache_control".to_owned(),
        );
        return hints;
    }
    match &routed.state.lookup {
        Lookup::Hit(_) | Lookup::StaleHit(..) | Lookup::WhileRevalidating(_) => {
            hints.push("the missing bytes come with this request; the next one finds them".to_owned());
        }
        Lookup::Miss(Miss::Variant) => hints.push(
            "send the values of a stored variant (step \"stored\"), or this request will store its own; \
             for fields that do not matter, let the origin leave them out of Vary"
                .to_owned(),
        ),
        Lookup::Miss(Miss::Key | Miss::Pass) => match (&routed.state.refused, &routed.state.chosen) {
            (Some(refused), _) => hints.push(format!(
                "not stored because of {}: {}",
                refused.why.word(),
                remedy(refused.why)
            )),
            (None, Some(chosen)) if chosen.purged.is_some() => {
                hints.push("it was purged; the next GET stores it anew".to_owned());
            }
            (None, Some(_)) => hints.push(
                "blocks of it were evicted and cannot be fetched alone: let the origin send a strong ETag"
                    .to_owned(),
            ),
            (None, None) => hints.push(
                "nothing is known of this key since the start or its eviction: a GET whose response \
                 may be stored makes the next one a hit"
                    .to_owned(),
            ),
        },
        Lookup::Stale { response, .. } => {
            let freshness = &response.head.freshness;
            let is_fresh = freshness.ttl_seconds(explanation.now) > 0;
            if directives.no_cache {
                hints.push("send no Cache-Control: no-cache and no Pragma: no-cache".to_owned());
            }
            if directives.max_age.is_some() || directives.min_fresh.is_some() {
                hints.push("send no max-age or min-fresh that this age does not meet".to_owned());
            }
            if freshness.always_validate {
                hints.push("the origin would have to leave no-cache out of its Cache-Control".to_owned());
            }
            if !is_fresh {
                hints.push(
                    "a validated or new response makes the next request a hit; for longer, the origin \
                     would have to send a longer max-age or s-maxage, or stale-while-revalidate"
                        .to_owned(),
                );
            }
            if is_fresh && hints.is_empty() {
                hints.push("it was purged softly: once validated, the next request is a hit".to_owned());
            }
        }
    }
    hints
}

fn send_otherwise(why: NotForCache) -> &'static str {
    match why {
        NotForCache::Method => "ask with GET or HEAD",
        NotForCache::Upgrade => "send no Upgrade",
        NotForCache::Body => "send no body (no Content-Length, no Transfer-Encoding)",
        NotForCache::SignedFields => {
            "sign the URL alone: a presigned URL whose X-Amz-SignedHeaders is host"
        }
        NotForCache::Precondition => "send neither If-Match nor If-Unmodified-Since",
    }
}

/// What could be done so that the next response is stored.
fn remedy(why: NotStored) -> &'static str {
    match why {
        NotStored::RequestNoStore => "send no Cache-Control: no-store",
        NotStored::NoStore => "the origin would have to leave no-store out of its Cache-Control",
        NotStored::Private => "the origin would have to leave private out of its Cache-Control",
        NotStored::SetCookie => {
            "the origin would have to send no Set-Cookie, or say public or s-maxage; or set \
             store_set_cookie for the route, which gives every client that cookie"
        }
        NotStored::VaryStar => "the origin would have to name request fields in Vary, not *",
        NotStored::VaryBypass => "the route's vary rule says bypass for a field that Vary names",
        NotStored::Authorization => {
            "send no Authorization, or the origin would have to say public, s-maxage or must-revalidate"
        }
        NotStored::Cookie => {
            "send no Cookie, or the origin would have to say public or give an explicit lifetime"
        }
        NotStored::Status => {
            "responses with this status are stored only with an explicit lifetime, and some never"
        }
        NotStored::StatusTtl => "status_ttl of the route is 0s for this status",
        NotStored::NotUnderstood => {
            "the origin says must-understand with a status that is not registered"
        }
        NotStored::OddRequest => {
            "an error that an unusual request may have caused: ask with fewer and plainer fields"
        }
        NotStored::NoFreshness => {
            "the origin would have to send max-age, Expires, or a validator (ETag, Last-Modified); or \
             set override_ttl for the route"
        }
        NotStored::PartialWithoutValidator => {
            "the origin answers ranges without a strong ETag; it would have to send one"
        }
        NotStored::UnverifiableEnd => {
            "the origin would have to send Content-Length or chunked coding: a body that ends with its \
             connection may be cut short"
        }
        NotStored::TooLarge => "the body is longer than max_object_size of the route",
        NotStored::OriginFailed => "the origin failed while a stale response could be used instead",
    }
}

/// Seconds, with tenths where they matter.
fn seconds(duration: Duration) -> String {
    if duration < Duration::from_secs(10) && duration.subsec_millis() >= 50 {
        format!("{:.1} s", duration.as_secs_f64())
    } else {
        format!("{:.0} s", duration.as_secs_f64())
    }
}
