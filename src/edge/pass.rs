//! The pass lane: what is not for the cache goes through pingora's proxy, streaming both ways.
//!
//! The steps before it have let the request in, routed and authorized it; a [`Ticket`] says so. A
//! request without one is refused (`authorize-before-lookup`).

use std::any::Any;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_LOCATION, COOKIE, HeaderValue, LOCATION, VIA,
};
use http::{HeaderMap, Method, StatusCode};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::Digest;
use pingora::proxy::{FailToProxy, ProxyHttp, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType, Result};

use super::admit::GateRefusal;
use super::deliver::failure_fields;
use super::downstream::{CacheStatus, OrNothing};
use super::failure::Failure;
use super::forwarding::{add_forwarding_fields, via};
use super::held_stream::chunk_fault;
use super::origin_client::{OriginClient, unsigned};
use super::origin_signer::{OriginSigner, Verified};
use super::policy::{PolicyRefusal, RoutePolicy};
use super::range_credit::RANGE_BUDGET;
use super::record::{Ending, log_failure};
use super::renewed::TheirLocation;
use super::upgrade_connection::connect_for_upgrade;
use super::{Node, Request, Ticket, X_REQUEST_ID};
use crate::cache::fetch::Phase;
use crate::cache::policy::{fields, invalidation};
use crate::cache::purge::Sequence;
use crate::cache::url::Url;
use crate::cache::{Aside, CacheKey, Scheme};
use crate::clock::Moment;
use crate::observe::{OriginResult, Outcome};
use crate::routing::{Attempt, Server};

/// The hooks of pingora's proxy.
pub struct PassLane {
    node: Arc<Node>,
}

/// What a request carries through the hooks.
#[derive(Default)]
pub struct Passage {
    ticket: Option<Arc<Ticket>>,
    candidates: Option<Vec<Arc<Server>>>,
    tried: usize,
    server: Option<Arc<Server>>,
    asked: Option<Moment>,
    asked_sequence: Option<Sequence>,
    /// By the monotonic clock.
    first_byte: Option<Duration>,
    /// Bytes of the request's body.
    received: u64,
    failure: Option<Failure>,
    kept: Option<Kept>,
}

/// A response on its way to the client that may answer later requests.
struct Kept {
    status: StatusCode,
    fields: HeaderMap,
    received: Moment,
    body: BytesMut,
}

impl Passage {
    /// The server that is being tried.
    fn current(&self) -> Option<&Arc<Server>> {
        self.candidates.as_ref()?.get(self.tried)
    }

    fn has_another(&self) -> bool {
        self.candidates
            .as_ref()
            .is_some_and(|candidates| self.tried + 1 < candidates.len())
    }
}

impl PassLane {
    pub(super) fn new(node: Arc<Node>) -> Self {
        PassLane { node }
    }

    fn pool(&self, ticket: &Ticket) -> &Arc<OriginClient> {
        self.node.pool_of(ticket.visit.route)
    }

    fn policy(&self, ticket: &Ticket) -> Option<&RoutePolicy> {
        self.node.routes[ticket.visit.route].policy.as_ref()
    }

    /// Counts an attempt at an origin server.
    fn count(&self, passage: &Passage, ticket: &Ticket, result: OriginResult) {
        let Some(server) = passage.server.as_ref().or(passage.current()) else {
            return;
        };
        let now = self.node.clock.monotonic();
        let since = passage.asked.map_or(now, |asked| asked.monotonic);
        let metrics = self.pool(ticket).metrics(server);
        metrics.record(result, now.saturating_sub(since));
    }

    /// Signs for the pool what pingora is about to send.
    fn sign(
        &self,
        signer: &OriginSigner,
        ticket: &Ticket,
        upstream: &mut RequestHeader,
    ) -> Result<()> {
        let target = String::from_utf8_lossy(upstream.raw_path()).into_owned();
        let method = upstream.method.clone();
        let mut fields = upstream.headers.clone();
        let now = self.node.clock.wall();
        let verified = if ticket.visit.aws_signed {
            Verified::S3Signature
        } else {
            Verified::Otherwise
        };
        let target = signer
            .sign(method.as_str(), &target, &mut fields, verified, now)
            .map_err(unsigned)?;
        upstream.set_raw_path(target.as_bytes())?;
        replace_fields(upstream, &fields)
    }

    /// RFC 9111 §4.4: a success of an unsafe method invalidates what is stored of its URI and of
    /// those that it names. Before the client hears of the success, so that its next GET cannot meet
    /// the old response.
    fn invalidate(&self, ticket: &Ticket, response: &ResponseHeader) {
        let request = &ticket.visit.request;
        if !invalidation::invalidates(&request.method, response.status) {
            return;
        }
        self.node.cache.invalidate(&ticket.visit.key);
        let scheme = request.peer.scheme().as_str();
        let (authority, path) = (request.authority(), request.path());
        // A presigned upload has a query of its own, but it is the object that it changes.
        self.invalidate_url(ticket, authority, path, None);
        for target in invalidation::also_named(&response.headers, scheme, authority, path) {
            let (path, query) = match target.split_once('?') {
                Some((path, query)) => (path, Some(query)),
                None => (target.as_str(), None),
            };
            self.invalidate_url(ticket, authority, path, query);
        }
    }

    /// Drops what is stored of a URL under either scheme, and of the one by which S3's other style names the
    /// same object, where its requests would go to the same origin.
    fn invalidate_url(&self, ticket: &Ticket, authority: &str, path: &str, query: Option<&str>) {
        let node = &self.node;
        let origin_of = |route: usize| node.routes[route].config.origin;
        let is_same_origin = |(authority, path): &(String, String)| {
            let route = node.table.find(authority, path);
            route.is_some_and(|route| origin_of(route) == origin_of(ticket.visit.route))
        };
        let other = node.authorizer.other_style(authority, path);
        let other = other.filter(is_same_origin);
        let own = (authority.to_owned(), path.to_owned());
        for (authority, path) in [Some(own), other].into_iter().flatten() {
            for scheme in [Scheme::Http, Scheme::Https] {
                let url = Url {
                    scheme,
                    authority: authority.clone(),
                    path: path.clone(),
                    query: query.map(str::to_owned),
                };
                let keyed = node.keyed_query(&url);
                let key = CacheKey::new(scheme, &url.authority, &url.path, keyed.as_deref());
                node.cache.invalidate(&key);
            }
        }
    }

    /// What a response on this lane tells the cache, before its fields are changed for the client.
    fn note(&self, ticket: &Ticket, response: &ResponseHeader, passage: &mut Passage) {
        self.invalidate(ticket, response);
        let (request, visit) = (&ticket.visit.request, &ticket.visit);
        let rules = self.node.rules_of(visit);
        let received = self.node.clock.now();
        let aside = Aside {
            request: &request.fields,
            status: response.status,
            fields: &response.headers,
            requested: passage.asked.unwrap_or(received),
            received,
            asked: passage.asked_sequence.unwrap_or(Sequence::START),
        };
        if request.method == Method::HEAD && response.status == StatusCode::OK {
            self.node.cache.note_head(&visit.key, &aside, rules);
        }
        if request.method == Method::POST && self.answers_later_gets(ticket, response) {
            passage.kept = Some(Kept {
                status: response.status,
                fields: response.headers.clone(),
                received,
                body: BytesMut::new(),
            });
        }
    }

    /// RFC 9110 §9.3.3: a POST's response with explicit freshness whose `Content-Location` is the
    /// target itself may answer a later GET.
    fn answers_later_gets(&self, ticket: &Ticket, response: &ResponseHeader) -> bool {
        let request = &ticket.visit.request;
        let mut location = HeaderMap::new();
        location.extend(
            response
                .headers
                .get(CONTENT_LOCATION)
                .map(|value| (CONTENT_LOCATION, value.clone())),
        );
        let scheme = request.peer.scheme().as_str();
        let named =
            invalidation::also_named(&location, scheme, request.authority(), request.path());
        response.status == StatusCode::OK
            && named
                .iter()
                .any(|named| named.as_bytes() == &request.target[..])
    }

    /// Collects the body of a response that may answer later requests, and stores it at its end.
    fn keep(&self, passage: &mut Passage, bytes: Option<&Bytes>, end: bool) {
        let (Some(kept), Some(ticket)) = (&mut passage.kept, &passage.ticket) else {
            return;
        };
        kept.body
            .extend_from_slice(bytes.map_or(&[], |bytes| bytes));
        let limit = self.node.cache.sizes().blocks.bytes();
        if kept.body.len() as u64 > limit {
            passage.kept = None;
            return;
        }
        let Some(kept) = passage.kept.take_if(|_| end) else {
            return;
        };
        let announced = kept
            .fields
            .get(CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse().ok());
        if announced.is_some_and(|length: u64| length != kept.body.len() as u64) {
            return;
        }
        let aside = Aside {
            request: &ticket.visit.request.fields,
            status: kept.status,
            fields: &kept.fields,
            requested: passage.asked.unwrap_or(kept.received),
            received: kept.received,
            asked: passage.asked_sequence.unwrap_or(Sequence::START),
        };
        let rules = self.node.rules_of(&ticket.visit);
        let body = kept.body.freeze();
        self.node
            .cache
            .store_whole(&ticket.visit.key, &aside, body, rules);
    }
}

/// Gives `head` the fields `fields`; pingora keeps the spelling of names beside the map, so that each change
/// has to be told.
fn replace_fields(head: &mut RequestHeader, fields: &HeaderMap) -> Result<()> {
    let before = head.headers.clone();
    for name in before.keys().filter(|name| !fields.contains_key(*name)) {
        head.remove_header(name);
    }
    for name in fields.keys() {
        let values: Vec<_> = fields.get_all(name).iter().collect();
        if before.get_all(name).iter().collect::<Vec<_>>() == values {
            continue;
        }
        head.remove_header(name);
        for value in values {
            head.append_header(name.clone(), value.clone())?;
        }
    }
    Ok(())
}

#[async_trait]
impl ProxyHttp for PassLane {
    type CTX = Passage;

    fn new_ctx(&self) -> Passage {
        Passage::default()
    }

    /// The HTTP/1.1 lane hands the ticket over as the connection's context.
    fn on_connection_reuse(
        &self,
        _session: &mut Session,
        passage: &mut Passage,
        context: Box<dyn Any + Send + Sync>,
    ) {
        passage.ticket = context.downcast::<Ticket>().ok().map(Arc::from);
    }

    async fn early_request_filter(
        &self,
        session: &mut Session,
        passage: &mut Passage,
    ) -> Result<()> {
        if passage.ticket.is_none() {
            // The h2 lane hands it over as an extension of the request.
            let extensions = session.req_header_mut().extensions_mut();
            passage.ticket = extensions.remove::<Arc<Ticket>>();
        }
        match passage.ticket {
            Some(_) => Ok(()),
            None => Err(Error::new_in(ErrorType::HTTPStatus(500))),
        }
    }

    async fn upstream_peer(
        &self,
        _session: &mut Session,
        passage: &mut Passage,
    ) -> Result<Box<HttpPeer>> {
        let Some(ticket) = passage.ticket.clone() else {
            return Err(Error::new_in(ErrorType::InternalError));
        };
        let pool = self.pool(&ticket);
        passage.candidates.get_or_insert_with(|| {
            let key = ticket.visit.key.as_bytes();
            pool.ring().candidates(key).cloned().collect()
        });
        passage.asked = Some(self.node.clock.now());
        passage.asked_sequence = Some(self.node.cache.purge_sequence());
        match passage.current() {
            Some(server) => {
                let mut peer = pool.peer(server);
                if ticket.visit.request.upgrade {
                    connect_for_upgrade(&mut peer);
                }
                Ok(Box::new(peer))
            }
            None => Err(Error::new_up(ErrorType::ConnectNoRoute)),
        }
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        passage: &mut Passage,
        mut error: Box<Error>,
    ) -> Box<Error> {
        let Some(ticket) = passage.ticket.clone() else {
            return error;
        };
        self.count(passage, &ticket, OriginResult::ConnectError);
        if let Some(server) = passage.current() {
            self.pool(&ticket).ring().report(server, Attempt::Failed);
        }
        // Nothing was sent yet: any request may go to the next server.
        let another = passage.has_another();
        if another {
            passage.tried += 1;
        }
        error.set_retry(another);
        error
    }

    async fn connected_to_upstream(
        &self,
        _session: &mut Session,
        reused: bool,
        _peer: &HttpPeer,
        #[cfg(unix)] _fd: std::os::unix::io::RawFd,
        _digest: Option<&Digest>,
        passage: &mut Passage,
    ) -> Result<()> {
        passage.server = passage.current().cloned();
        if let (Some(ticket), Some(server), false) = (&passage.ticket, &passage.server, reused) {
            self.pool(ticket).ring().report(server, Attempt::Connected);
        }
        Ok(())
    }

    async fn upstream_request_filter(
        &self,
        _session: &mut Session,
        upstream: &mut RequestHeader,
        passage: &mut Passage,
    ) -> Result<()> {
        let Some(ticket) = &passage.ticket else {
            return Err(Error::new_in(ErrorType::InternalError));
        };
        let request = &ticket.visit.request;
        if ticket.visit.stripped {
            forward_without_credentials(request, upstream)?;
        }
        let mut forwarded = upstream.headers.clone();
        fields::remove_claims(&mut forwarded);
        add_forwarding_fields(&mut forwarded, request, &request.authority);
        if let Some(terms) = &request.peer.terms {
            terms.edit_request(&mut forwarded);
        }
        if let Some(policy) = self.policy(ticket) {
            policy.edit_request(&mut forwarded);
        }
        replace_fields(upstream, &forwarded)?;
        match self.pool(ticket).signer() {
            Some(signer) => self.sign(signer, ticket, upstream),
            None => Ok(()),
        }
    }

    /// A body whose length was not announced is measured as it arrives.
    async fn request_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        _end_of_stream: bool,
        passage: &mut Passage,
    ) -> Result<()> {
        passage.received += body.as_ref().map_or(0, Bytes::len) as u64;
        let policy = passage
            .ticket
            .as_ref()
            .and_then(|ticket| self.policy(ticket));
        if let Some(policy) = policy
            && let Err(refusal) = policy.admit_body(passage.received)
        {
            passage.failure = Some(refusal.into());
            return Err(Error::new_in(ErrorType::HTTPStatus(413)));
        }
        Ok(())
    }

    async fn response_filter(
        &self,
        _session: &mut Session,
        response: &mut ResponseHeader,
        passage: &mut Passage,
    ) -> Result<()> {
        let Some(ticket) = &passage.ticket else {
            return Err(Error::new_in(ErrorType::InternalError));
        };
        if response.status.is_informational() && response.status.as_u16() != 101 {
            return Ok(());
        }
        let ticket = ticket.clone();
        self.note(&ticket, response, passage);
        let request = &ticket.visit.request;
        let status = CacheStatus::Forward {
            why: ticket.why.as_str(),
            status: Some(response.status.as_u16()),
            collapsed: false,
            stored: false,
            detail: ticket.detail,
        };
        let mut added = Vec::new();
        if let Some(policy) = self.policy(&ticket) {
            for name in policy.withheld() {
                response.remove_header(name);
            }
            policy.add_to(request, &mut added);
        }
        let location = response.headers.get(LOCATION);
        let location = (ticket.visit).add_renewed(response.status, location, &mut added);
        if location == TheirLocation::IsReplaced {
            response.remove_header(&LOCATION);
        }
        for (name, value) in added {
            response.append_header(name, value)?;
        }
        let key = self.node.key_parameter(&ticket.visit);
        let status = format!("{status}{}", OrNothing(&key));
        response.append_header("Cache-Status", status)?;
        response.append_header(VIA, via(request))?;
        response.insert_header(X_REQUEST_ID, request.id.as_str())?;
        passage.first_byte = Some(self.node.clock.monotonic());
        Ok(())
    }

    fn response_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        passage: &mut Passage,
    ) -> Result<Option<Duration>> {
        self.keep(passage, body.as_ref(), end_of_stream);
        Ok(None)
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        passage: &mut Passage,
    ) -> FailToProxy {
        let closed = FailToProxy {
            error_code: 0,
            can_reuse_downstream: false,
        };
        if session.response_written().is_some() {
            passage.failure = None;
            return closed;
        }
        let failure = match passage.failure.take() {
            Some(failure) => failure,
            None if *error.esource() == ErrorSource::Downstream && is_about_chunks(error) => {
                let refusal = GateRefusal::Chunks;
                self.node.metrics.record_gate_refusal(refusal.reason());
                Failure::Gate(refusal)
            }
            None if *error.esource() == ErrorSource::Downstream => {
                match self.body_too_slow(error, passage) {
                    Some(refusal) => refusal.into(),
                    None => return closed,
                }
            }
            None => self.failure(error, passage),
        };
        let reply = failure.reply();
        let Some(ticket) = passage.ticket.clone() else {
            return closed;
        };
        let request = &ticket.visit.request;
        log_failure(request, &failure, reply.fault);
        if let Failure::Policy(refusal) = failure {
            self.node.count_refusal(Some(ticket.visit.route), refusal);
        }
        passage.failure = Some(failure);
        let body = reply.body(&request.id);
        let mut header = match ResponseHeader::build(reply.status, Some(8)) {
            Ok(header) => header,
            Err(_) => return closed,
        };
        let status = CacheStatus::Forward {
            why: ticket.why.as_str(),
            status: None,
            collapsed: false,
            stored: false,
            detail: Some(reply.reason),
        };
        let mut own = failure_fields(&reply, self.node.clock.wall());
        if let Some(policy) = self.policy(&ticket) {
            policy.add_to_own(request, &mut own);
        }
        let built = own
            .into_iter()
            .chain([
                (CONTENT_LENGTH, HeaderValue::from(body.len())),
                (VIA, HeaderValue::from_static(via(request))),
            ])
            .try_for_each(|(name, value)| header.append_header(name, value).map(drop))
            .and_then(|()| header.insert_header(X_REQUEST_ID, request.id.as_str()))
            .and_then(|()| {
                header
                    .append_header("Cache-Status", status.to_string())
                    .map(drop)
            });
        if built.is_err() {
            return closed;
        }
        passage.first_byte = Some(self.node.clock.monotonic());
        let is_head = request.method == Method::HEAD;
        let session = session.as_downstream_mut();
        // What is left of the request's body is not worth reading.
        session.set_keepalive(None);
        let sent = session.write_response_header(Box::new(header)).await;
        if sent.is_ok() && !is_head {
            // A client that left in the meantime needs no error document.
            let _ = session.write_response_body(body, true).await;
        }
        FailToProxy {
            error_code: reply.status.as_u16(),
            can_reuse_downstream: false,
        }
    }

    fn suppress_error_log(&self, _: &Session, _: &Passage, _: &Error) -> bool {
        // `fail_to_proxy` has said it, with the request's id.
        true
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, passage: &mut Passage) {
        let Some(ticket) = passage.ticket.clone() else {
            return;
        };
        let status = session.response_written().map(|head| head.status.as_u16());
        if passage.server.is_some() {
            let result = match (status, error) {
                (Some(status), None) => OriginResult::Status(status),
                (_, Some(error)) if *error.etype() == ErrorType::ReadTimedout => {
                    OriginResult::Timeout
                }
                (Some(status), Some(_)) if passage.failure.is_none() => {
                    OriginResult::Status(status)
                }
                _ => OriginResult::Aborted,
            };
            self.count(passage, &ticket, result);
        }
        let reply = passage.failure.as_ref().map(Failure::reply);
        let mut ending = Ending::new(reply.as_ref().map_or(ticket.why, |reply| reply.outcome));
        ending.route = Some(ticket.visit.route);
        ending.status = status;
        ending.reason = reply.as_ref().map(|reply| reply.reason).or(ticket.detail);
        ending.bytes_origin = session.body_bytes_sent() as u64;
        if ticket.detail == Some(RANGE_BUDGET) {
            let (client, now) = (
                ticket.visit.request.peer.client,
                self.node.clock.monotonic(),
            );
            let credit = &self.node.range_credit;
            credit.passed(client, ending.bytes_origin, now);
        }
        ending.first_byte = passage.first_byte;
        ending.origin_server = passage.server.as_ref().map(|server| server.name.as_str());
        ending.aborted = error.is_some() && reply.is_none();
        let write_timeout = error.is_some_and(|error| *error.etype() == ErrorType::WriteTimedout);
        let from_client = error.is_some_and(|error| *error.esource() == ErrorSource::Downstream);
        if ticket.pace.taking.is_set() || (write_timeout && from_client) {
            ending.reason = Some(self.node.refuse_slow_client(ticket.visit.route));
        }
        if ending.aborted && status.is_none() {
            ending.outcome = Outcome::Error;
        }
        self.node.record(&ticket.visit.request, &ending);
    }
}

/// pingora has the request as the client sent it: what the steps have taken out of it must not reach
/// the origin.
fn forward_without_credentials(request: &Request, upstream: &mut RequestHeader) -> Result<()> {
    upstream.set_raw_path(&request.target)?;
    for name in [AUTHORIZATION, COOKIE] {
        upstream.remove_header(&name);
        for value in request.fields.get_all(&name) {
            upstream.append_header(name.clone(), value.clone())?;
        }
    }
    Ok(())
}

/// Whether the client's chunked body was refused while it was read.
fn is_about_chunks(error: &Error) -> bool {
    let cause = error.root_cause().downcast_ref::<io::Error>();
    cause.and_then(chunk_fault).is_some()
}

impl PassLane {
    /// Whether reading the request failed because its client sends too little.
    fn body_too_slow(&self, error: &Error, passage: &Passage) -> Option<PolicyRefusal> {
        let ticket = passage.ticket.as_ref()?;
        let silent = *error.etype() == ErrorType::ReadTimedout;
        (silent || ticket.pace.sending.is_set()).then_some(PolicyRefusal::BodyTooSlow)
    }

    fn failure(&self, error: &Error, passage: &Passage) -> Failure {
        let (Some(ticket), Some(server)) = (
            &passage.ticket,
            passage.server.as_ref().or(passage.current()),
        ) else {
            return Failure::Internal;
        };
        if *error.esource() == ErrorSource::Internal {
            return Failure::Internal;
        }
        let pool = self.pool(ticket);
        Failure::Fetch {
            origin: pool.name().to_owned(),
            error: pool.fetch_error(error, server, Phase::AwaitingHead),
        }
    }
}
