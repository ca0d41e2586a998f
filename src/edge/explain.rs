//! `GET /explain` and `tidegate explain`: how a request would be answered now, and why, without
//! asking the origin and without changing what is stored. What lies on disk only is brought to
//! memory, as for the request itself.
//!
//! The request goes through the steps of the edge itself: the gate, the route, the key, the look-up
//! and the course taken after it are the functions that serve clients (`explained-as-served`, see
//! [`crate::cache::explain`]). [`inquiry`] reads what is asked, `words` writes what was found,
//! [`endpoint`] speaks HTTP.

pub mod endpoint;
pub mod inquiry;

mod words;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use http::header::{HOST, HeaderValue, RANGE};

use self::inquiry::Inquiry;
use super::admit::{GateRefusal, RawHead, admit};
use super::authorize::presumed;
use super::course::{Course, NotForCache, course, directives_of, not_for_the_cache};
use super::downstream::{CacheStatus, KeyParameter};
use super::request::{AwsParameters, Peer, Request, RequestId};
use super::{Node, Visit, cache_key};
use crate::cache::explain::KeyState;
use crate::cache::policy::cache_control::RequestDirectives;
use crate::cache::url::Url;
use crate::cache::{Allowance, HeldResponse, Holding, Scheme};
use crate::clock::Moment;
use crate::config::Route;
use crate::observe::{Outcome, Protocol};

/// The TLS version of the client that an inquiry after an `https` URL stands for; none is judged by
/// it.
const ANY_TLS: &str = "TLSv1.3";

/// How a request would be answered, and all that counted.
struct Explanation {
    /// When.
    now: Moment,
    /// The request as the gate let it in.
    request: Request,
    /// What follows from its route; `None` when it has none.
    routed: Option<Routed>,
}

/// What follows from a route.
struct Routed {
    route: Arc<Route>,
    /// The name of the route's origin.
    origin: String,
    /// The cache key as a URL.
    key: Url,
    /// `key` of `Cache-Status`, if this request gets it.
    key_parameter: Option<KeyParameter>,
    /// Names of query parameters that are not part of the key.
    left_out: Vec<String>,
    /// Why the request is not for the cache, when it is not.
    not_for_the_cache: Option<NotForCache>,
    /// The request's directives, as far as they count.
    directives: RequestDirectives,
    /// What the cache knows.
    state: KeyState,
    /// What of the bytes asked for is at hand, when a stored response answers.
    holding: Option<Holding>,
    /// How it ends.
    end: End,
}

/// How a request ends.
enum End {
    /// A stored response answers, with what lets it if it is stale.
    Served {
        status: CacheStatus,
        stale: Option<Allowance>,
        outcome: Outcome,
    },
    /// The request goes to the origin.
    Forwarded {
        status: CacheStatus,
        outcome: Outcome,
        /// A stored response is validated with it.
        validates: bool,
    },
    /// 504, because of `only-if-cached`.
    NotCached,
}

impl Node {
    /// Explains the answer to an inquiry.
    ///
    /// # Errors
    /// [`GateRefusal`] when no such request is let in.
    async fn explain(&self, inquiry: &Inquiry) -> Result<Explanation, GateRefusal> {
        let now = self.clock.now();
        let mut request = as_request(inquiry, now)?;
        let Some(number) = self.table.find(request.authority(), request.path()) else {
            return Ok(Explanation {
                now,
                request,
                routed: None,
            });
        };
        let route = &self.routes[number].config;
        let rules = &route.cache;
        if request.method == Method::HEAD {
            request.fields.remove(RANGE);
        }
        // A genuine signature says itself what it covers; of another one only the form is known.
        let presumed = presumed(route.access, &request);
        let asked = request.query().map(str::to_owned);
        let judged = self.authorizer.judge(number, &mut request, now.wall);
        judged.check_rest(&request)?;
        // What is refused here would have been let in by an AWS signature.
        let aws = AwsParameters::of(judged.aws_signed || judged.authorized.is_err());
        let authorized = judged.authorized.unwrap_or(presumed);
        let key = cache_key(&request, rules, aws);
        let not_for_the_cache = not_for_the_cache(&request, authorized);
        let directives = directives_of(&request, rules);
        let mut visit = Visit {
            request,
            route: number,
            key,
            stripped: judged.stripped,
            aws_signed: judged.aws_signed,
            renewed: None,
        };
        if let (None, Some(policy)) = (not_for_the_cache, &self.routes[number].policy) {
            policy.take_asking_origin(&mut visit.request);
        }
        let fields = &visit.request.fields;
        let known = self.cache.known(&visit.key).await;
        let state = (self.cache).explain(&known, &visit.key, fields, &directives, rules, now);
        let (end, holding) = match not_for_the_cache {
            Some(why) => (forwarded(why.outcome(), false), None),
            None => self.end(&visit, &directives, &state, now),
        };
        let keyed = Url::from(visit.key.parts());
        let routed = Routed {
            origin: self.pool_of(number).name().to_owned(),
            left_out: left_out(asked.as_deref(), keyed.query.as_deref()),
            key: keyed,
            key_parameter: self.key_parameter(&visit),
            route: route.clone(),
            not_for_the_cache,
            directives,
            state,
            holding,
            end,
        };
        Ok(Explanation {
            now,
            request: visit.request,
            routed: Some(routed),
        })
    }

    fn end(
        &self,
        visit: &Visit,
        directives: &RequestDirectives,
        state: &KeyState,
        now: Moment,
    ) -> (End, Option<Holding>) {
        let served = |response: &HeldResponse, stale| {
            let holding = super::part::holding(&self.cache, &visit.request, response, now.wall);
            let delivery = self.hit(visit, response.clone(), stale, now);
            let end = End::Served {
                status: delivery.cache_status,
                stale,
                outcome: delivery.outcome,
            };
            (end, Some(holding))
        };
        match course(&visit.request, directives, now, || state.lookup.clone()) {
            Course::Serve(response, stale) => served(&response, stale),
            Course::ServeAndValidate(response) => {
                served(&response, Some(Allowance::WhileRevalidating))
            }
            Course::Pass(why) => (forwarded(why, false), None),
            Course::Fetch { outcome, stale, .. } => (forwarded(outcome, stale.is_some()), None),
            Course::NotCached => (End::NotCached, None),
        }
    }
}

/// The origin's answer adds to it, which is why it ends with what is known before.
fn forwarded(outcome: Outcome, validates: bool) -> End {
    let status = CacheStatus::Forward {
        why: outcome.as_str(),
        status: None,
        collapsed: false,
        stored: false,
        detail: None,
    };
    End::Forwarded {
        status,
        outcome,
        validates,
    }
}

/// The request that an inquiry stands for, let in by the gate.
fn as_request(inquiry: &Inquiry, now: Moment) -> Result<Request, GateRefusal> {
    let url = &inquiry.url;
    let mut target = url.path.clone();
    if let Some(query) = &url.query {
        target.push('?');
        target.push_str(query);
    }
    let mut fields = inquiry.fields.clone();
    let host = HeaderValue::from_str(&url.authority).map_err(|_| GateRefusal::Host)?;
    fields.insert(HOST, host);
    let head = RawHead {
        protocol: Protocol::Http11,
        method: &inquiry.method,
        target: Bytes::from(target),
        authority: None,
        fields,
        ends_with_head: true,
    };
    let tls = (url.scheme == Scheme::Https).then_some(ANY_TLS);
    let peer = Peer::new(IpAddr::V4(Ipv4Addr::LOCALHOST), tls);
    admit(head, RequestId::random(), now, peer)
}

/// The names of the parameters that a query has and its key has not.
fn left_out(query: Option<&str>, keyed: Option<&str>) -> Vec<String> {
    let items = |query: Option<&str>| -> Vec<String> {
        let query = query.unwrap_or_default().split('&');
        query.map(str::to_owned).collect()
    };
    let mut kept = items(keyed);
    let mut missing = items(query);
    missing.retain(|item| match kept.iter().position(|known| known == item) {
        Some(place) => {
            kept.swap_remove(place);
            false
        }
        None => !item.is_empty(),
    });
    let name = |item: String| item.split('=').next().unwrap_or_default().to_owned();
    missing.into_iter().map(name).collect()
}
