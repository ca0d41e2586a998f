//! May this response be stored (RFC 9111 §3), and if not, why not?

use http::header::{AUTHORIZATION, SET_COOKIE};
use http::{HeaderMap, StatusCode};

use super::cache_control::CacheControl;
use super::conditional;
use super::freshness::Lifetime;
use super::vary::Vary;

/// Why a response is not stored. The names appear in the access log and in `Cache-Status` detail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotStored {
    /// The request said `no-store`.
    RequestNoStore,
    /// The response said `no-store`.
    NoStore,
    /// The response said `private`.
    Private,
    /// The response sets a cookie, which belongs to one client.
    SetCookie,
    /// `Vary: *`.
    VaryStar,
    /// The request carried credentials and the response does not permit sharing (RFC 9111 §3.5).
    Authorization,
    /// A status that is never stored without, or at all in spite of, explicit freshness.
    Status,
    /// Neither a freshness lifetime nor a validator: storing it could never help.
    NoFreshness,
    /// A part of a representation without a strong validator to tie other parts to.
    PartialWithoutValidator,
    /// The end of the body cannot be verified (no length, no chunked coding).
    UnverifiableEnd,
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
            NotStored::Authorization => "authorization",
            NotStored::Status => "status",
            NotStored::NoFreshness => "no-freshness",
            NotStored::PartialWithoutValidator => "partial-without-validator",
            NotStored::UnverifiableEnd => "unverifiable-end",
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
            | NotStored::NoFreshness
            | NotStored::PartialWithoutValidator
            | NotStored::UnverifiableEnd => status.is_success() || status.is_redirection(),
            NotStored::Status | NotStored::RequestNoStore | NotStored::Authorization => false,
        }
    }
}

/// Decides for a GET and its final response; `status` is 200 for a 206 that answers our own range.
///
/// # Errors
/// The first reason that forbids storing.
pub fn may_store(
    request: &HeaderMap,
    status: StatusCode,
    fields: &HeaderMap,
    directives: &CacheControl,
    lifetime: Lifetime,
) -> Result<(), NotStored> {
    if CacheControl::of_request(request).no_store {
        return Err(NotStored::RequestNoStore);
    }
    if directives.no_store {
        return Err(NotStored::NoStore);
    }
    if directives.private {
        return Err(NotStored::Private);
    }
    if fields.contains_key(SET_COOKIE) {
        return Err(NotStored::SetCookie);
    }
    if Vary::of(fields) == Vary::Anything {
        return Err(NotStored::VaryStar);
    }
    if request.contains_key(AUTHORIZATION)
        && !(directives.public || directives.must_revalidate || directives.s_maxage.is_some())
    {
        return Err(NotStored::Authorization);
    }
    let explicit = matches!(lifetime, Lifetime::Explicit(_));
    if !status_allows(status, explicit) {
        return Err(NotStored::Status);
    }
    if lifetime.duration().is_zero() && conditional::validators(fields).is_empty() {
        return Err(NotStored::NoFreshness);
    }
    Ok(())
}

/// Statuses that are heuristically cacheable (RFC 9110 §15.1) may be stored; others need explicit
/// freshness. What an attacker can provoke with an odd request, and every server error but 501, is
/// not stored at all (field hazard "CPDoS").
fn status_allows(status: StatusCode, explicit: bool) -> bool {
    match status.as_u16() {
        200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501 => true,
        206 | 304 | 400 | 408 | 412 | 413 | 416 | 417 | 421 | 425 | 429 | 431 => false,
        code => explicit && (200..500).contains(&code),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::policy::freshness;
    use http::{HeaderName, HeaderValue};
    use std::time::{Duration, SystemTime};

    fn fields(lines: &[(&str, &str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_bytes(name.as_bytes()).unwrap(),
                    HeaderValue::from_str(value).unwrap(),
                )
            })
            .collect()
    }

    fn decide(
        request: &[(&str, &str)],
        status: u16,
        response: &[(&str, &str)],
    ) -> Option<NotStored> {
        let status = StatusCode::from_u16(status).unwrap();
        let response = fields(response);
        let directives = CacheControl::of_response(&response);
        let lifetime = freshness::lifetime(
            status,
            &response,
            &directives,
            SystemTime::UNIX_EPOCH,
            Duration::from_secs(60),
        );
        may_store(&fields(request), status, &response, &directives, lifetime).err()
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
        let fresh = ("cache-control", "max-age=60");
        let bearer = [("authorization", "Bearer x")];
        for (request, status, response, expected) in [
            (&[][..], 200, vec![fresh], None),
            (&[], 200, vec![("etag", "\"a\"")], None),
            (&[], 200, vec![], Some(NotStored::NoFreshness)),
            (
                &[],
                200,
                vec![("cache-control", "max-age=0")],
                Some(NotStored::NoFreshness),
            ),
            (
                &[],
                200,
                vec![("cache-control", "max-age=60, no-store")],
                Some(NotStored::NoStore),
            ),
            (
                &[],
                200,
                vec![("cache-control", "max-age=60, private")],
                Some(NotStored::Private),
            ),
            (
                &[],
                200,
                vec![fresh, ("set-cookie", "a=b")],
                Some(NotStored::SetCookie),
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
            (
                &bearer,
                200,
                vec![("cache-control", "public, max-age=60")],
                None,
            ),
            (&bearer, 200, vec![("cache-control", "s-maxage=60")], None),
            (
                &bearer,
                200,
                vec![("cache-control", "must-revalidate, max-age=6")],
                None,
            ),
            (&[], 404, vec![fresh], None),
            (&[], 302, vec![fresh], None),
            (&[], 302, vec![("etag", "\"a\"")], Some(NotStored::Status)),
            (&[], 599, vec![fresh], Some(NotStored::Status)),
            (&[], 400, vec![fresh], Some(NotStored::Status)),
            (&[], 429, vec![fresh], Some(NotStored::Status)),
            (&[], 503, vec![fresh], Some(NotStored::Status)),
            (&[], 206, vec![fresh], Some(NotStored::Status)),
        ] {
            assert_eq!(
                decide(request, status, &response),
                expected,
                "{status} {response:?}"
            );
        }
    }
}
