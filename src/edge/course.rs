//! What is done with a request: passed at once, served, or fetched. Pure, apart from the look-up that
//! it is given; clients are served and inquiries are explained by the same functions.

use std::sync::Arc;

use http::Method;

use super::authorize::Authorized;
use super::presence::Presence;
use super::request::{BodyLength, Request};
use crate::cache::policy::cache_control::RequestDirectives;
use crate::cache::policy::conditional;
use crate::cache::policy::freshness::Freshness;
use crate::cache::{Allowance, HeldResponse, Lookup, Miss, StoredResponse};
use crate::clock::Moment;
use crate::config::CacheRules;
use crate::observe::Outcome;

/// Why pingora's proxy must answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotForCache {
    /// Neither GET nor HEAD.
    Method,
    /// The client asks to switch protocols.
    Upgrade,
    /// A body follows.
    Body,
    /// The signature covers more than the URL.
    SignedFields,
    /// A precondition that only the origin can judge.
    Precondition,
}

impl NotForCache {
    pub(super) fn outcome(self) -> Outcome {
        match self {
            NotForCache::Method => Outcome::Method,
            NotForCache::Upgrade
            | NotForCache::Body
            | NotForCache::SignedFields
            | NotForCache::Precondition => Outcome::Bypass,
        }
    }
}

/// Why a request is not for the cache; `None` when it is.
pub(super) fn not_for_the_cache(request: &Request, authorized: Authorized) -> Option<NotForCache> {
    if request.method != Method::GET && request.method != Method::HEAD {
        return Some(NotForCache::Method);
    }
    if request.upgrade {
        return Some(NotForCache::Upgrade);
    }
    if request.body != BodyLength::None {
        return Some(NotForCache::Body);
    }
    if authorized == Authorized::OriginOnly {
        return Some(NotForCache::SignedFields);
    }
    let conditional = request.presence.has(Presence::CONDITIONS);
    (conditional && conditional::needs_origin(&request.fields)).then_some(NotForCache::Precondition)
}

/// What of the request's directives counts under `rules`.
pub(super) fn directives_of(request: &Request, rules: &CacheRules) -> RequestDirectives {
    if rules.ignore_request_cache_control || !request.presence.has(Presence::DIRECTIVES) {
        RequestDirectives::default()
    } else {
        RequestDirectives::of(&request.fields)
    }
}

/// What is done after the look-up.
pub(super) enum Course {
    /// This answers, with what lets it when it is stale.
    Serve(HeldResponse, Option<Allowance>),
    /// This answers, and is validated meanwhile.
    ServeAndValidate(HeldResponse),
    /// The request goes to the origin as it is.
    Pass(Outcome),
    /// 504: the client wants nothing from the origin (RFC 9111 §5.2.1.7).
    NotCached,
    /// The cache asks the origin.
    Fetch {
        outcome: Outcome,
        stale: Option<Arc<StoredResponse>>,
        if_error: bool,
    },
}

impl Course {
    /// What answers, when it is whole and nothing will be added to it or changed: memory need not have it.
    pub(super) fn whole_answer(&self) -> Option<&StoredResponse> {
        match self {
            Course::Serve(response, None) if response.body.is_in_one_piece() => Some(response),
            _ => None,
        }
    }

    /// Nothing that memory knows could answer.
    pub(super) fn lacks_a_response(&self) -> bool {
        matches!(self, Course::NotCached | Course::Fetch { stale: None, .. })
    }
}

/// The course of a request that is for the cache.
pub(super) fn course(
    request: &Request,
    directives: &RequestDirectives,
    now: Moment,
    lookup: impl FnOnce() -> Lookup,
) -> Course {
    if directives.no_store {
        // RFC 9111 §5.2.1.5: nothing of this exchange may be stored, so nobody may share it.
        return Course::Pass(Outcome::Request);
    }
    let (outcome, stale, if_error) = match lookup() {
        Lookup::Hit(response) => return Course::Serve(response, None),
        Lookup::StaleHit(response, why) => return Course::Serve(response, Some(why)),
        Lookup::WhileRevalidating(response) => return Course::ServeAndValidate(response),
        Lookup::Miss(Miss::Pass) => return Course::Pass(Outcome::Bypass),
        Lookup::Miss(Miss::Key) => (Outcome::Miss, None, false),
        Lookup::Miss(Miss::Variant) => (Outcome::VaryMiss, None, false),
        Lookup::Stale {
            response,
            if_error,
            freshness,
        } => (
            why_validated(&freshness, now),
            Some(response.into()),
            if_error,
        ),
    };
    if directives.only_if_cached {
        return Course::NotCached;
    }
    if request.method == Method::HEAD {
        return Course::Pass(outcome);
    }
    Course::Fetch {
        outcome,
        stale,
        if_error,
    }
}

/// Why a stored response must be validated: because of its age, or because of what this request asks
/// of a response that would do for others.
fn why_validated(freshness: &Freshness, now: Moment) -> Outcome {
    if freshness.ttl_seconds(now) > 0 && !freshness.always_validate {
        Outcome::Request
    } else {
        Outcome::Stale
    }
}
