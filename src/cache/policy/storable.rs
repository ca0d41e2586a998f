//! May this response be stored (RFC 9111 §3), and if not, why not?

use http::header::{AUTHORIZATION, COOKIE, RANGE, SET_COOKIE};
use http::{HeaderMap, StatusCode};

use super::cache_control::{RequestDirectives, ResponseDirectives};
use super::conditional;
use super::fields::UNKEYED;
use super::freshness::{Lifetime, is_heuristically_cacheable};
use super::vary::Vary;
use crate::config::{CacheRules, VaryRule, never_stored};

/// A request with more fields than this, or with more bytes in their names and values, is not an
/// ordinary one: see [`NotStored::OddRequest`]. Browsers send about 20 fields and 1 KiB, and cookies.
const PLAIN_REQUEST_FIELDS: usize = 40;
const PLAIN_REQUEST_BYTES: usize = 4 * 1024;

/// Why a response is not stored. The names appear in the access log and in `Cache-Status` detail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotStored {
    /// The request said `no-store`.
    RequestNoStore,
    /// The response said `no-store`.
    NoStore,
    /// The response said `private`.
    Private,
    /// The response sets a cookie, and nothing says that all clients shall have it.
    SetCookie,
    /// `Vary: *`.
    VaryStar,
    /// The response varies by a field for which the operator has chosen `bypass`.
    VaryBypass,
    /// The request carried credentials and the response does not permit sharing (RFC 9111 §3.5).
    Authorization,
    /// The request carried a cookie, so that the response may be one client's own, and nobody has said
    /// that it is fresh for others.
    Cookie,
    /// A status that is never stored without, or at all in spite of, explicit freshness.
    Status,
    /// The operator's `status_ttl` for this status is zero.
    StatusTtl,
    /// `must-understand` with a status that we do not know (RFC 9111 §5.2.2.3).
    NotUnderstood,
    /// An error that the request itself may have provoked: it is larger than requests are, asks for
    /// a range, or holds bytes outside of ASCII or fields that override what it asks for.
    OddRequest,
    /// Neither a freshness lifetime nor a validator: storing it could never help.
    NoFreshness,
    /// A part of a representation without a strong validator to tie other parts to.
    PartialWithoutValidator,
    /// The end of the body cannot be verified (no length, no chunked coding).
    UnverifiableEnd,
    /// Larger than the operator's `max_object_size`.
    TooLarge,
    /// The origin failed to validate a stale response that may be used instead.
    OriginFailed,
}

impl NotStored {
    /// The word for logs and `Cache-Status`.
    pub fn word(self) -> &'static str {
        match self {
            NotStored::RequestNoStore => "request-no-store",
            NotStored::NoStore => "no-store",
            NotStored::Private => "private",
            NotStored::SetCookie => "set-cookie",
            NotStored::VaryStar => "vary-star",
            NotStored::VaryBypass => "vary-bypass",
            NotStored::Authorization => "authorization",
            NotStored::Cookie => "cookie",
            NotStored::Status => "status",
            NotStored::StatusTtl => "status-ttl",
            NotStored::NotUnderstood => "not-understood",
            NotStored::OddRequest => "odd-request",
            NotStored::NoFreshness => "no-freshness",
            NotStored::PartialWithoutValidator => "partial-without-validator",
            NotStored::UnverifiableEnd => "unverifiable-end",
            NotStored::TooLarge => "too-large",
            NotStored::OriginFailed => "origin-failed",
        }
    }

    /// Whether the next response for the same key is likely to be refused for the same reason, so
    /// that requests for it had better not wait for one another. One client's own fields and a
    /// passing error say nothing about the next response.
    pub fn is_the_rule_for(self, status: StatusCode) -> bool {
        match self {
            NotStored::NoStore
            | NotStored::Private
            | NotStored::SetCookie
            | NotStored::VaryStar
            | NotStored::VaryBypass
            | NotStored::NoFreshness
            | NotStored::PartialWithoutValidator
            | NotStored::UnverifiableEnd
            | NotStored::TooLarge => status.is_success() || status.is_redirection(),
            NotStored::StatusTtl => true,
            NotStored::Status
            | NotStored::NotUnderstood
            | NotStored::OddRequest
            | NotStored::OriginFailed
            | NotStored::RequestNoStore
            | NotStored::Cookie
            | NotStored::Authorization => false,
        }
    }
}

/// Decides for a final response to a GET; `status` is 200 for a 206 that answers our own range.
///
/// # Errors
/// The first reason that forbids storing.
pub fn may_store(
    request: &HeaderMap,
    status: StatusCode,
    fields: &HeaderMap,
    directives: &ResponseDirectives,
    lifetime: Lifetime,
    rules: &CacheRules,
) -> Result<(), NotStored> {
    let asks_not_to = RequestDirectives::of(request).no_store;
    if asks_not_to && !rules.ignore_request_cache_control {
        return Err(NotStored::RequestNoStore);
    }
    // RFC 9111 §5.2.2.3: who understands the status may ignore the no-store beside must-understand.
    if directives.must_understand && !is_understood(status) {
        return Err(NotStored::NotUnderstood);
    }
    if directives.no_store && !directives.must_understand {
        return Err(NotStored::NoStore);
    }
    if directives.private.is_response() {
        return Err(NotStored::Private);
    }
    let is_withheld = directives.withheld().any(|name| *name == SET_COOKIE);
    let meant_for_all = directives.public || directives.s_maxage.is_some() || directives.targeted;
    if fields.contains_key(SET_COOKIE) && !is_withheld && !(meant_for_all || rules.store_set_cookie)
    {
        return Err(NotStored::SetCookie);
    }
    let vary = Vary::of(fields);
    match &vary {
        Vary::Anything => return Err(NotStored::VaryStar),
        Vary::Fields(names)
            if names
                .iter()
                .any(|name| rules.vary.of(name) == VaryRule::Bypass) =>
        {
            return Err(NotStored::VaryBypass);
        }
        Vary::Fields(_) | Vary::Nothing => {}
    }
    if request.contains_key(AUTHORIZATION)
        && !(directives.public || directives.must_revalidate || directives.s_maxage.is_some())
    {
        return Err(NotStored::Authorization);
    }
    let varies_by_cookie = matches!(&vary, Vary::Fields(names) if names.contains(&COOKIE));
    let may_be_personal = request.contains_key(COOKIE) && !varies_by_cookie;
    if may_be_personal && !lifetime.is_given() && !directives.public {
        return Err(NotStored::Cookie);
    }
    if rules.status_ttl.of(status).is_some_and(|ttl| ttl.is_zero()) {
        return Err(NotStored::StatusTtl);
    }
    let validated = conditional::has_validators(fields);
    let allowed = !never_stored(status)
        && (lifetime.is_given() || directives.public || is_heuristically_cacheable(status));
    if !allowed {
        return Err(NotStored::Status);
    }
    if is_error_of_this_request(status) && !is_plain(request) {
        return Err(NotStored::OddRequest);
    }
    if lifetime.duration().is_zero() && !validated {
        return Err(NotStored::NoFreshness);
    }
    Ok(())
}

/// Errors that another request for the same URL might not have met.
fn is_error_of_this_request(status: StatusCode) -> bool {
    (status.is_client_error() || status.is_server_error()) && !is_heuristically_cacheable(status)
        || status.as_u16() >= 600
}

/// Whether a request holds nothing that could make an origin fail on it alone.
fn is_plain(request: &HeaderMap) -> bool {
    let bytes: usize = request
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum();
    bytes <= PLAIN_REQUEST_BYTES
        && request.len() <= PLAIN_REQUEST_FIELDS
        && !request.contains_key(RANGE)
        && request.values().all(|value| value.to_str().is_ok())
        && !UNKEYED.iter().any(|name| request.contains_key(*name))
}

/// The final statuses whose caching requirements we know: those of the registry.
fn is_understood(status: StatusCode) -> bool {
    !status.is_informational() && status.canonical_reason().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::policy::freshness;
    use crate::test_fields::fields;
    use std::time::SystemTime;

    fn decide_by(
        rules: &CacheRules,
        request: &[(&str, &str)],
        status: u16,
        response: &[(&str, &str)],
    ) -> Option<NotStored> {
        let status = StatusCode::from_u16(status).unwrap();
        let response = fields(response);
        let directives = ResponseDirectives::of(&response);
        let epoch = SystemTime::UNIX_EPOCH;
        let lifetime = freshness::lifetime(status, &response, &directives, epoch, rules);
        let request = fields(request);
        may_store(&request, status, &response, &directives, lifetime, rules).err()
    }

    fn decide(
        request: &[(&str, &str)],
        status: u16,
        response: &[(&str, &str)],
    ) -> Option<NotStored> {
        decide_by(&CacheRules::default(), request, status, response)
    }

    #[test]
    fn one_client_or_one_error_does_not_stop_collapsing_for_all() {
        let ok = StatusCode::OK;
        assert!(NotStored::Private.is_the_rule_for(ok));
        assert!(!NotStored::RequestNoStore.is_the_rule_for(ok));
        assert!(!NotStored::Authorization.is_the_rule_for(ok));
        assert!(!NotStored::NoStore.is_the_rule_for(StatusCode::SERVICE_UNAVAILABLE));
    }

    #[test]
    fn what_may_be_stored_and_what_not() {
        let cc = |value| ("cache-control", value);
        let fresh = cc("max-age=60");
        let bearer = [("authorization", "Bearer x")];
        let cookie = ("set-cookie", "a=b");
        let jar = [("cookie", "a=b")];
        for (request, status, response, expected) in [
            (&[][..], 200, vec![fresh], None),
            (&[], 200, vec![("etag", "\"a\"")], None),
            (&[], 200, vec![], Some(NotStored::NoFreshness)),
            (
                &[],
                200,
                vec![cc("max-age=0")],
                Some(NotStored::NoFreshness),
            ),
            (
                &[],
                200,
                vec![cc("max-age=60, no-store")],
                Some(NotStored::NoStore),
            ),
            (
                &[],
                200,
                vec![cc("max-age=60, no-store, must-understand")],
                None,
            ),
            (
                &[],
                599,
                vec![cc("max-age=60, no-store, must-understand")],
                Some(NotStored::NotUnderstood),
            ),
            (
                &[],
                599,
                vec![cc("max-age=60, must-understand")],
                Some(NotStored::NotUnderstood),
            ),
            (
                &[],
                200,
                vec![cc("max-age=60, private")],
                Some(NotStored::Private),
            ),
            (&[], 200, vec![cc("max-age=60, private=\"x-a\"")], None),
            (
                &[],
                200,
                vec![cc("no-store"), ("cdn-cache-control", "max-age=60")],
                None,
            ),
            (
                &[],
                200,
                vec![fresh, ("cdn-cache-control", "private")],
                Some(NotStored::Private),
            ),
            (&[], 200, vec![fresh, cookie], Some(NotStored::SetCookie)),
            (&[], 200, vec![cc("public, max-age=60"), cookie], None),
            (&[], 200, vec![cc("s-maxage=60"), cookie], None),
            (
                &[],
                200,
                vec![cc("max-age=60, no-cache=\"set-cookie\""), cookie],
                None,
            ),
            (
                &[],
                200,
                vec![fresh, ("vary", "*")],
                Some(NotStored::VaryStar),
            ),
            (
                &[("cache-control", "no-store")],
                200,
                vec![fresh],
                Some(NotStored::RequestNoStore),
            ),
            (&bearer, 200, vec![fresh], Some(NotStored::Authorization)),
            (&bearer, 200, vec![cc("public, max-age=60")], None),
            (&bearer, 200, vec![cc("s-maxage=60")], None),
            (&bearer, 200, vec![cc("must-revalidate, max-age=6")], None),
            (&jar, 200, vec![fresh], None),
            (&jar, 200, vec![("etag", "\"a\"")], Some(NotStored::Cookie)),
            (&jar, 200, vec![("etag", "\"a\""), ("vary", "cookie")], None),
            (&[], 404, vec![fresh], None),
            (&[], 302, vec![fresh], None),
            (&[], 302, vec![("etag", "\"a\"")], Some(NotStored::Status)),
            (&[], 599, vec![fresh], None),
            (&[], 503, vec![fresh], None),
            (&[], 400, vec![fresh], None),
            (&[], 500, vec![], Some(NotStored::Status)),
            (&[], 412, vec![fresh], Some(NotStored::Status)),
            (&[], 413, vec![fresh], Some(NotStored::Status)),
            (&[], 429, vec![fresh], Some(NotStored::Status)),
            (&[], 431, vec![fresh], Some(NotStored::Status)),
            (&[], 206, vec![fresh], Some(NotStored::Status)),
            (&[], 304, vec![fresh], Some(NotStored::Status)),
        ] {
            assert_eq!(
                decide(request, status, &response),
                expected,
                "{status} {response:?}"
            );
        }
    }

    #[test]
    fn an_error_that_an_odd_request_met_is_its_own() {
        let fresh = [("cache-control", "max-age=60")];
        let long = "x".repeat(PLAIN_REQUEST_BYTES);
        for (name, value) in [
            ("x-long", long.as_str()),
            ("x-meta", "\u{fc}"),
            ("x-http-method-override", "POST"),
            ("range", "bytes=0-3"),
        ] {
            let odd = Some(NotStored::OddRequest);
            for status in [400, 403, 500, 503, 599] {
                assert_eq!(
                    decide(&[(name, value)], status, &fresh),
                    odd,
                    "{name} {status}"
                );
            }
            assert_eq!(decide(&[(name, value)], 200, &fresh), None, "{name}");
        }
    }

    #[test]
    fn the_operator_decides_about_statuses_and_cookies() {
        let rules = CacheRules {
            store_set_cookie: true,
            ..CacheRules::default()
        };
        let response = [("cache-control", "max-age=60"), ("set-cookie", "a=b")];
        assert_eq!(decide_by(&rules, &[], 200, &response), None);
    }
}
