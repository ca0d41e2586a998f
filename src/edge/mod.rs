//! The edge: listeners, lanes, and the steps of a request.
//!
//! | step | function | outcomes |
//! |---|---|---|
//! | accept | `accept::accept`, [`workers`], [`listen`] → [`lane_h1`] or [`lane_h2`] | a connection with its worker; a head, as read |
//! | admit | [`admit::admit`] | a [`Request`], or a [`admit::GateRefusal`] |
//! | policy | [`policy`] | the client's address; let in, or a [`policy::PolicyRefusal`]; again once the route is known |
//! | route | [`RouteTable::find`] | a route, or [`Failure::NoRoute`] |
//! | authorize | [`authorize::Authorizer::judge`] | shared, origin only, or a refusal; without credentials from here on, and what is left is asked of the gate again |
//! | cache key | [`CacheKey::new`] | the key |
//! | lookup | [`Cache::lookup`], judged by `course::course` | hit, stale, or a miss |
//! | recall | `Node::recall`: [`Cache::recollect`], [`Cache::take_in`] | what the disk tier holds, when memory could not answer: looked up again, and taken into memory where that is worth it |
//! | credit | `range_cost` | enough for what a range costs the origin, or it is passed as it was asked |
//! | fill | [`Cache::fetch`] | a response that is arriving, or a fetch error |
//! | deliver | `deliver::Node::deliver` | 200, 206, 304, 416, or whatever the origin said |
//! | pass | [`pass`] | what is not for the cache: pingora's proxy answers |
//!
//! Every failure leaves by one door ([`failure`]); every request ends in one access-log line and one
//! set of counters ([`record`]).
//!
//! Invariants:
//! - `authorize-before-lookup`: nothing is looked up, fetched or passed for a request that its
//!   route's access does not allow.
//! - `forward-what-is-keyed`: path and query go to the origin byte for byte as they were keyed; only
//!   the parameters of an AWS signature that was verified are forwarded without being keyed.
//! - `credentials-go-no-further`: what the edge alone verifies is taken out of a request before
//!   anything else is done with it.
//! - `one-line-per-request`: whatever happens, a request is recorded once.
//!
//! The lanes hold nothing clever: each turns its session into a [`Request`], calls [`Node::answer`]
//! and writes what it decides.

pub mod admit;
pub mod authorize;
pub mod cache_admin;
pub mod certificates;
pub mod chunked;
pub mod downstream;
pub mod explain;
pub mod failure;
pub mod frame_meter;
pub mod head_h1;
pub mod key_reload;
pub mod lane_h1;
pub mod lane_h2;
pub mod listen;
pub mod origin_client;
pub mod pass;
pub mod policy;
pub mod presence;
pub mod purge;
pub mod record;
pub mod request;
pub mod tls;
pub mod workers;

mod accept;
mod client_certificates;
mod client_network;
mod course;
mod deliver;
mod file_sender;
mod forwarding;
mod gathered_stream;
mod head_h2;
mod held_bodies;
mod held_stream;
mod idle_connections;
mod lent_socket;
mod multipart;
mod origin_signer;
mod pace;
mod paced_session;
mod part;
mod passed_stream;
mod range_cost;
mod range_credit;
mod refusals;
mod renewed;
mod stream_h2;
mod tls_stream;
mod upgrade_connection;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::header::{HeaderName, IF_RANGE, RANGE};
use http::{HeaderMap, Method, StatusCode};

use tokio::sync::mpsc;

pub use failure::Failure;
pub use listen::{Edge, StartError};
pub use request::Request;

use crate::cache::disk::Bodies;
use crate::cache::fetch::InterimResponse;
use crate::cache::policy::cache_control::{RequestDirectives, list_items};
use crate::cache::url::Url;
use crate::cache::{
    Allowance, Ask, Cache, CacheKey, HeldResponse, Holding, InterimSender, StoredResponse,
};
use crate::clock::{Moment, SharedClock};
use crate::config::{self, CacheRules};
use crate::observe::{AccessLog, Metrics, Outcome, RouteMetrics};
use crate::origin::operations::post_object;
use crate::routing::RouteTable;
use crate::signing::{Refusal, RenewedToken};
use authorize::{Authorized, Authorizer};
use course::{Course, course, directives_of, not_for_the_cache};
use deliver::{Delivered, Delivery};
use downstream::{CacheStatus, Downstream, KeyParameter};
use origin_client::OriginClient;
use pace::TooSlow;
use part::wanted_range;
use policy::RoutePolicy;
use range_credit::{RANGE_BUDGET, RangeCredit};
use request::{AwsParameters, keyed_query};

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// `Tidegate-Debug: key` asks for the cache key in `Cache-Status`; answered where a route's
/// `expose_key` is true.
pub const TIDEGATE_DEBUG: HeaderName = HeaderName::from_static("tidegate-debug");

/// How long the rest of an unwanted request body is read before it is given up.
const LINGER: Duration = Duration::from_secs(2);

/// How often a request starts over because an object changed before its first byte was sent.
const ATTEMPTS: u32 = 3;

/// Everything the steps need, shared by all lanes.
pub struct Node {
    routes: Vec<Routed>,
    table: RouteTable,
    pools: Vec<Arc<OriginClient>>,
    authorizer: Authorizer,
    cache: Arc<Cache>,
    limits: config::Limits,
    h2: config::H2Limits,
    h2_abuse_log: policy::RefusalLog,
    range_credit: RangeCredit,
    timeouts: config::Timeouts,
    metrics: Arc<Metrics>,
    unrouted: Arc<RouteMetrics>,
    access_log: AccessLog,
    clock: SharedClock,
}

struct Routed {
    config: Arc<config::Route>,
    /// `None` when the route asks for nothing.
    policy: Option<RoutePolicy>,
    metrics: Arc<RouteMetrics>,
}

/// A request that has been let in, routed and authorized.
pub struct Visit {
    /// The request.
    pub request: Request,
    /// Its route, by number.
    pub route: usize,
    /// Its cache key.
    pub key: CacheKey,
    /// Credentials were taken out of the request: it is no longer what the client sent.
    pub stripped: bool,
    /// A genuine AWS signature let it in, which covers its `x-amz-*` fields.
    pub aws_signed: bool,
    /// What the client gets for its next requests.
    pub renewed: Option<RenewedToken>,
}

/// A request that pingora's proxy is to answer.
pub struct Ticket {
    /// The request, authorized.
    pub visit: Visit,
    /// Why it is not for the cache.
    pub why: Outcome,
    /// More about that, in the words of `Cache-Status` detail.
    pub detail: Option<&'static str>,
    /// Set when the client sends its body, or takes the response, too slowly.
    pace: Slowness,
}

/// In which direction a client of the pass lane was too slow.
#[derive(Debug, Clone, Default)]
struct Slowness {
    sending: TooSlow,
    taking: TooSlow,
}

impl Answered {
    fn over_budget(visit: Visit) -> Self {
        Answered::pass(visit, Outcome::Bypass, Some(RANGE_BUDGET))
    }

    fn pass(visit: Visit, why: Outcome, detail: Option<&'static str>) -> Self {
        Answered::Pass(Box::new(Ticket {
            visit,
            why,
            detail,
            pace: Slowness::default(),
        }))
    }
}

/// What came of [`Node::answer`].
pub enum Answered {
    /// The client has its answer.
    Done,
    /// Not for the cache: pass it on with this ticket.
    Pass(Box<Ticket>),
}

/// Why the cache was not enough.
struct Shortfall {
    outcome: Outcome,
    stale: Option<Arc<StoredResponse>>,
    /// What is stale may answer if the origin fails.
    if_error: bool,
    directives: RequestDirectives,
}

impl Node {
    /// Takes an admitted request through the steps.
    pub async fn answer<D: Downstream>(
        self: &Arc<Self>,
        mut request: Request,
        client: &mut D,
    ) -> Answered {
        if let Some(terms) = request.peer.terms.clone()
            && let Err(refusal) = terms.admit(&mut request)
        {
            // Not even a log is told what the edge alone verifies.
            if let Some(route) = self.table.find(request.authority(), request.path()) {
                self.authorizer.strip(route, &mut request);
            }
            self.fail(&request, None, refusal.into(), None, client)
                .await;
            return Answered::Done;
        }
        let Some(route) = self.table.find(request.authority(), request.path()) else {
            self.fail(&request, None, Failure::NoRoute, None, client)
                .await;
            return Answered::Done;
        };
        if let Some(policy) = &self.routes[route].policy {
            match policy.admit(&request) {
                Ok(None) => {}
                Ok(Some(preflight)) => {
                    self.authorizer.strip(route, &mut request);
                    self.answer_preflight(&request, route, preflight, client)
                        .await;
                    return Answered::Done;
                }
                Err(refusal) => {
                    self.authorizer.strip(route, &mut request);
                    self.fail(&request, Some(route), refusal.into(), None, client)
                        .await;
                    return Answered::Done;
                }
            }
        }
        let mut now = request.received;
        let is_form = self.is_upload_form(route, &request);
        let mut judged = self.authorizer.judge(route, &mut request, now.wall);
        if is_form && judged.authorized.is_err() {
            judged.authorized = Ok(Authorized::OriginOnly);
        }
        let rest = judged.check_rest(&request);
        let authorized = judged.authorized.map_err(Failure::from);
        let authorized = match authorized.and_then(|authorized| {
            rest?;
            Ok(authorized)
        }) {
            Ok(authorized) => authorized,
            Err(failure) => {
                self.fail(&request, Some(route), failure, None, client)
                    .await;
                return Answered::Done;
            }
        };
        if request.method == Method::HEAD {
            // It means nothing there (RFC 9110 §14.2), but stored parts are told apart by it.
            request.fields.remove(RANGE);
        }
        let aws = AwsParameters::of(judged.aws_signed);
        let key = cache_key(&request, &self.routes[route].config.cache, aws);
        let mut visit = Visit {
            request,
            route,
            key,
            stripped: judged.stripped,
            aws_signed: judged.aws_signed,
            renewed: judged.renewed,
        };
        if let Some(why) = not_for_the_cache(&visit.request, authorized) {
            if let Err(failure) = self.may_be_signed(&visit) {
                self.fail(&visit.request, Some(route), failure, None, client)
                    .await;
                return Answered::Done;
            }
            return Answered::pass(visit, why.outcome(), None);
        }
        if let Some(policy) = &self.routes[route].policy {
            policy.take_asking_origin(&mut visit.request);
        }
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                now = self.clock.now();
            }
            let delivery = match self.find(&visit, now, client).await {
                Ok(Found::Delivery(delivery)) => delivery,
                Ok(Found::Pass(why)) => return Answered::pass(visit, why, None),
                Ok(Found::OverBudget) => return Answered::over_budget(visit),
                Err((failure, cache_status)) => {
                    let status = Some(cache_status);
                    self.fail(&visit.request, Some(route), failure, status, client)
                        .await;
                    return Answered::Done;
                }
            };
            match self.deliver(&visit, delivery, client).await {
                Delivered::Done => return Answered::Done,
                Delivered::StartOver => {}
                Delivered::OverBudget => return Answered::over_budget(visit),
            }
        }
        // The object changes faster than it can be read: let the origin answer alone.
        Answered::pass(visit, Outcome::Bypass, None)
    }

    /// Whether what is to be passed may have the signature of its pool: the credentials of an operator
    /// change nothing for somebody who gave none, and chunks that a client has signed only it can sign.
    fn may_be_signed(&self, visit: &Visit) -> Result<(), Failure> {
        if self.pool_of(visit.route).signer().is_none() {
            return Ok(());
        }
        let request = &visit.request;
        let is_read = request.method == Method::GET || request.method == Method::HEAD;
        if !is_read && self.routes[visit.route].config.access == config::Access::Public {
            return Err(Failure::Signature(Refusal::NotSigned));
        }
        if origin_signer::has_signed_chunks(request.query().unwrap_or_default(), &request.fields) {
            return Err(Failure::SignedChunks);
        }
        Ok(())
    }

    /// Whether this is a form that signs itself and whose verification the route leaves to its origin.
    fn is_upload_form(&self, route: usize, request: &Request) -> bool {
        self.routes[route].config.upload_forms
            && request.method == Method::POST
            && post_object::is_form(
                &request.method,
                request.query().unwrap_or_default(),
                &request.fields,
            )
    }

    /// Lookup, and fill when that is not enough.
    async fn find<D: Downstream>(
        self: &Arc<Self>,
        visit: &Visit,
        mut now: Moment,
        client: &mut D,
    ) -> Result<Found, (Failure, CacheStatus)> {
        let request = &visit.request;
        let directives = directives_of(request, self.rules_of(visit));
        let shortfall = |outcome, stale, if_error| Shortfall {
            outcome,
            stale,
            if_error,
            directives,
        };
        let lookup = || {
            self.cache
                .lookup(&visit.key, &request.fields, &directives, now)
        };
        let mut course_taken = course(request, &directives, now, lookup);
        let mut recalled = false;
        if course_taken.lacks_a_response()
            && let Some((seen, at)) = self.recall(visit, &directives, client.takes_files()).await
        {
            (course_taken, now, recalled) = (seen, at, true);
        }
        match course_taken {
            Course::Serve(response, stale) => {
                let mut delivery = self.hit(visit, response, stale, now);
                delivery.just_recalled = recalled;
                Ok(Found::Delivery(delivery))
            }
            Course::ServeAndValidate(response) => {
                // Whatever goes wrong behind the client's back, it has its answer.
                let stale = Some(Arc::clone(&response));
                let shortfall = shortfall(Outcome::Miss, stale, true);
                self.cache.refresh(&self.ask(visit, shortfall, None));
                let why = Some(Allowance::WhileRevalidating);
                Ok(Found::Delivery(self.hit(visit, response, why, now)))
            }
            Course::Pass(why) => Ok(Found::Pass(why)),
            Course::NotCached => Err((Failure::NotCached, CacheStatus::Own { detail: None })),
            Course::Fetch {
                outcome,
                stale,
                if_error,
            } => {
                let shortfall = shortfall(outcome, stale, if_error);
                self.fetch(visit, shortfall, client).await
            }
        }
    }

    /// The course that what the disk tier holds allows, and when; `None` when memory knows all there is.
    async fn recall(
        &self,
        visit: &Visit,
        directives: &RequestDirectives,
        takes_files: bool,
    ) -> Option<(Course, Moment)> {
        let (key, fields) = (&visit.key, &visit.request.fields);
        let mut bodies = match takes_files {
            true => Bodies::LeftInFiles,
            false => Bodies::Read,
        };
        loop {
            let found = self.cache.recollect(key, bodies).await?;
            let now = found.at();
            let lookup = || {
                self.cache
                    .lookup_in(found.entry(), key, fields, directives, now)
            };
            let seen = course(&visit.request, directives, now, lookup);
            let stays_on_disk = seen
                .whole_answer()
                .is_some_and(|response| !self.cache.wants_in_memory(key, response));
            if stays_on_disk {
                return Some((seen, now));
            }
            if !found.leaves_bodies_in_files() {
                self.cache.take_in(key, found);
                return Some((seen, now));
            }
            // What memory keeps, or the origin validates, is read.
            bodies = Bodies::Read;
        }
    }

    fn hit(
        &self,
        visit: &Visit,
        response: HeldResponse,
        stale: Option<Allowance>,
        now: Moment,
    ) -> Delivery {
        let mut ttl_seconds = response.head.freshness.ttl_seconds(now);
        if stale.is_some() {
            // A soft purge ends a lifetime that the head still counts.
            ttl_seconds = ttl_seconds.min(0);
        }
        let holding = part::holding(&self.cache, &visit.request, &response, now.wall);
        let collapsed = holding == Holding::Arriving;
        let (outcome, cache_status) = if holding == Holding::Whole {
            let hit = CacheStatus::Hit {
                ttl_seconds,
                detail: stale.map(Allowance::word),
            };
            (Outcome::Hit, hit)
        } else {
            let partial = CacheStatus::Forward {
                why: Outcome::Partial.as_str(),
                status: None,
                collapsed,
                stored: true,
                detail: None,
            };
            (Outcome::Partial, partial)
        };
        let response = match response.body.is_in_one_piece() {
            true => response,
            // It may take long to send.
            false => response.counted(),
        };
        Delivery {
            response,
            at: now,
            outcome,
            cache_status,
            reader: None,
            reserved: None,
            just_fetched: false,
            origin_server: None,
            collapsed,
            just_recalled: false,
        }
    }

    fn ask(&self, visit: &Visit, shortfall: Shortfall, interim: Option<InterimSender>) -> Ask {
        let request = &visit.request;
        Ask {
            key: visit.key.clone(),
            request: Arc::new(self.origin_request(visit)),
            range: wanted_range(request).first_fetch(),
            if_range: request.fields.get(IF_RANGE).cloned(),
            stale: shortfall.stale,
            if_error: shortfall.if_error,
            directives: shortfall.directives,
            rules: self.rules_of(visit).clone(),
            interim,
            alone: false,
            origin: self.pool_of(visit.route).clone(),
        }
    }

    async fn fetch<D: Downstream>(
        self: &Arc<Self>,
        visit: &Visit,
        shortfall: Shortfall,
        client: &mut D,
    ) -> Result<Found, (Failure, CacheStatus)> {
        let outcome = shortfall.outcome;
        let Ok(mut reserved) = self.reserve_first(visit) else {
            return Ok(Found::OverBudget);
        };
        let (sender, interim) = mpsc::unbounded_channel();
        let ask = self.ask(visit, shortfall, Some(sender));
        let answer = self.cache.fetch(ask);
        let answer = relay_interim(answer, interim, client).await;
        let has_body = answer.as_ref().is_ok_and(|answer| {
            !answer.collapsed && answer.forward_status != Some(StatusCode::NOT_MODIFIED)
        });
        if let Some(reserved) = reserved.take_if(|_| !has_body) {
            reserved.cancel();
        }
        let answer = answer.map_err(|error| {
            let origin = self.pool_of(visit.route).name().to_owned();
            let cache_status = CacheStatus::Forward {
                why: outcome.as_str(),
                status: None,
                collapsed: false,
                stored: false,
                detail: None,
            };
            (Failure::Fetch { origin, error }, cache_status)
        })?;
        if let Some(failed) = &answer.failed {
            record::log_stale(&visit.request, self.pool_of(visit.route).name(), failed);
        }
        let not_stored = answer.response.head.not_stored;
        Ok(Found::Delivery(Delivery {
            at: self.clock.now(),
            outcome,
            cache_status: CacheStatus::Forward {
                why: outcome.as_str(),
                status: answer.forward_status.map(|status| status.as_u16()),
                collapsed: answer.collapsed,
                stored: not_stored.is_none() && answer.failed.is_none(),
                detail: match &answer.failed {
                    Some(_) => Some("stale-if-error"),
                    None => not_stored.map(|why| why.word()),
                },
            },
            reader: answer.reader,
            reserved,
            just_fetched: answer.failed.is_none()
                && answer
                    .forward_status
                    .is_some_and(|status| status != StatusCode::NOT_MODIFIED),
            origin_server: answer.server,
            collapsed: answer.collapsed,
            just_recalled: false,
            response: answer.response.into(),
        }))
    }

    /// What of a URL's query is keyed, by the rules of the route that its requests would take. One
    /// that no route takes names nothing that is stored, whatever its query.
    fn keyed_query(&self, url: &Url) -> Option<String> {
        let query = url.query.as_deref();
        let Some(route) = self.table.find(&url.authority, &url.path) else {
            return query.map(str::to_owned);
        };
        let kept = query.map(|query| self.authorizer.query_without_credentials(route, query));
        // As for requests: a query that held nothing but credentials is none.
        let kept = kept.as_deref();
        let kept = kept.filter(|kept| !kept.is_empty() || query == Some(""));
        let config = &self.routes[route].config;
        let aws = AwsParameters::of(config.access == config::Access::Signed);
        request::keyed_query(kept, &config.cache, aws)
    }

    /// The cache key for a client that asks for it, where the route shows it.
    fn key_parameter(&self, visit: &Visit) -> Option<KeyParameter> {
        let asks = |fields: &HeaderMap| {
            let lines = fields.get_all(TIDEGATE_DEBUG).iter();
            let mut items = lines.flat_map(|line| list_items(line.as_bytes()));
            items.any(|item| item.eq_ignore_ascii_case(b"key"))
        };
        (self.rules_of(visit).expose_key && asks(&visit.request.fields))
            .then(|| KeyParameter::of(&visit.key))
    }

    fn rules_of(&self, visit: &Visit) -> &Arc<CacheRules> {
        &self.routes[visit.route].config.cache
    }

    fn pool_of(&self, route: usize) -> &Arc<OriginClient> {
        &self.pools[self.routes[route].config.origin]
    }
}

/// What the look-up and the fill came to.
#[expect(
    clippy::large_enum_variant,
    reason = "a box would cost every hit an allocation"
)]
enum Found {
    Delivery(Delivery),
    Pass(Outcome),
    /// The client has no credit for what its range would cost the origin.
    OverBudget,
}

/// Hands interim responses to the client while the answer is awaited.
async fn relay_interim<D: Downstream, T>(
    answer: impl Future<Output = T>,
    mut interim: mpsc::UnboundedReceiver<Arc<InterimResponse>>,
    client: &mut D,
) -> T {
    let mut answer = pin!(answer);
    loop {
        tokio::select! {
            biased;
            Some(interim) = interim.recv() => {
                // A client that is gone will be noticed when it is answered.
                let _ = client.interim(&interim).await;
            }
            answer = &mut answer => return answer,
        }
    }
}

fn cache_key(request: &Request, rules: &CacheRules, aws: AwsParameters) -> CacheKey {
    CacheKey::new(
        request.peer.scheme(),
        request.authority(),
        request.path(),
        keyed_query(request.query(), rules, aws).as_deref(),
    )
}
