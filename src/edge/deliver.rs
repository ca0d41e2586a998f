//! Delivery: a stored (or arriving) response becomes the answer to one request.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use http::header::{CONTENT_TYPE, DATE, HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use http::{Method, StatusCode};

use super::downstream::{
    CacheStatus, ClientGone, Downstream, Follows, ReplyHead, ReplyLength, Selection, Unsent,
};
use super::failure::{Failure, FailureReply};
use super::multipart::{Multipart, ReplyBody};
use super::part::{self, NoPart, Part};
use super::policy::{PolicyRefusal, Preflight};
use super::range_credit::Reservation;
use super::record::{Ending, log_failure};
use super::renewed::TheirLocation;
use super::request::Request;
use super::{Node, Visit};
use crate::byte_range::ContentRange;
use crate::cache::fetch::{Origin, OriginRequest};
use crate::cache::fill::FillReader;
use crate::cache::policy::http_date;
use crate::cache::read::Refetch;
use crate::cache::turn::Turn;
use crate::cache::{BodyError, BodyReader, CacheKey, HeldResponse, Piece, StoredResponse};
use crate::clock::Moment;
use crate::observe::Outcome;

/// The reason in the access log, and the detail in `Cache-Status`, of an answer to a preflight.
const PREFLIGHT: &str = "preflight";

/// A response and how we came by it.
pub(super) struct Delivery {
    pub(super) response: HeldResponse,
    /// When the cache gave it.
    pub(super) at: Moment,
    pub(super) outcome: Outcome,
    pub(super) cache_status: CacheStatus,
    /// A place at the fill that brings the body.
    pub(super) reader: Option<FillReader>,
    /// What was taken from the client's credit for the part that the origin was asked for.
    pub(super) reserved: Option<Reservation>,
    /// The origin sent the body for this request, or for one whose fill it shares.
    pub(super) just_fetched: bool,
    pub(super) origin_server: Option<Arc<str>>,
    pub(super) collapsed: bool,
    /// It was read from disk for this request.
    pub(super) just_recalled: bool,
}

/// How a delivery ended.
pub(super) enum Delivered {
    /// The client has it all, or as much as it waited for; the connection's fate is the lane's.
    Done,
    /// Not a byte was sent, because the object changed under our hands: start over.
    StartOver,
    /// Not a byte was sent: the client has no credit for what its ranges would cost the origin.
    OverBudget,
}

impl Node {
    /// Answers `visit` with `delivery`.
    pub(super) async fn deliver<D: Downstream>(
        self: &Arc<Self>,
        visit: &Visit,
        mut delivery: Delivery,
        client: &mut D,
    ) -> Delivered {
        let request = &visit.request;
        let at = delivery.at;
        let part = match part::choose(&self.cache, request, &mut delivery, at.wall).await {
            Ok(part) => part,
            Err(none) => {
                let failure = match none {
                    NoPart::Unsatisfiable { length } => Failure::RangeNotSatisfiable { length },
                    NoPart::Fill(error) => self.body_failure(visit, error.into()),
                };
                let status = Some(delivery.cache_status);
                self.fail(request, Some(visit.route), failure, status, client)
                    .await;
                return Delivered::Done;
            }
        };
        let Ok(mut reserved) = self.reserve_part(visit, &mut delivery, &part) else {
            return Delivered::OverBudget;
        };
        // Only for what is arriving may there have been a wait.
        let now = if delivery.reader.is_some() {
            self.clock.now()
        } else {
            at
        };
        let arriving = delivery.reader.is_some();
        let reader = delivery.reader.take();
        let response = &delivery.response;
        let length = response.body.length();
        let mut status = response.head.status;
        let mut selection = Selection::All;
        let mut content_range = None;
        let mut own_fields = Vec::new();
        let mut multipart = None;
        let (reply_length, span) = match part {
            Part::NotModified => {
                status = StatusCode::NOT_MODIFIED;
                selection = Selection::NotModified;
                (ReplyLength::Nothing, Some(0..0))
            }
            Part::Span { span, complete } => {
                status = StatusCode::PARTIAL_CONTENT;
                let length = ReplyLength::Known(span.end - span.start);
                content_range = Some(ContentRange::Part {
                    span: span.clone(),
                    complete,
                });
                (length, Some(span))
            }
            Part::Several { spans, complete } => {
                status = StatusCode::PARTIAL_CONTENT;
                selection = Selection::OfParts;
                let part_type = response.head.fields.get(CONTENT_TYPE);
                let parts = Multipart::new(spans, complete, part_type, request.id.as_str());
                own_fields.push((CONTENT_TYPE, parts.content_type()));
                let framing = (ReplyLength::Known(parts.length()), parts.first());
                multipart = Some(parts);
                framing
            }
            Part::Whole => {
                let framing = match (status, length) {
                    (StatusCode::NO_CONTENT, _) => ReplyLength::Nothing,
                    (_, Some(length)) => ReplyLength::Known(length),
                    (_, None) => ReplyLength::Unknown,
                };
                (framing, length.map(|length| 0..length))
            }
        };
        if delivery.just_fetched && !delivery.collapsed && selection != Selection::NotModified {
            // Meant for this client alone (RFC 9111 §5.2.2.7).
            let withheld = &response.head.withheld;
            own_fields.extend(
                withheld
                    .iter()
                    .map(|(name, value)| (name.clone(), value.clone())),
            );
        }
        let mut withheld: Cow<'_, [HeaderName]> = Cow::Borrowed(&[]);
        if let Some(policy) = &self.routes[visit.route].policy {
            withheld = Cow::Borrowed(policy.withheld());
            own_fields.retain(|(name, _)| !withheld.contains(name));
            policy.add_to(request, &mut own_fields);
        }
        let location = response.head.fields.get(LOCATION);
        let location = location.filter(|_| !withheld.contains(&LOCATION));
        if visit.add_renewed(status, location, &mut own_fields) == TheirLocation::IsReplaced {
            withheld.to_mut().push(LOCATION);
        }
        let head = ReplyHead {
            status,
            stored: Some((&response.head, selection)),
            withheld: &withheld,
            fields: &own_fields,
            length: reply_length,
            content_range: content_range.clone(),
            age_seconds: age(&delivery, now),
            cache_status: Some(delivery.cache_status),
            key_parameter: self.key_parameter(visit),
            request_id: request.id,
            close: false,
        };
        let mut ending = Ending::new(delivery.outcome);
        ending.route = Some(visit.route);
        ending.status = Some(status.as_u16());
        ending.reason = response.head.not_stored.map(|why| why.word());
        ending.content_range = content_range.as_ref();
        ending.origin_server = delivery.origin_server.as_deref();
        ending.collapsed = delivery.collapsed;

        let no_body = request.method == Method::HEAD || reply_length == ReplyLength::Nothing;
        if no_body {
            ending.first_byte = Some(self.clock.monotonic());
            ending.aborted = client
                .head(&head, &Bytes::new(), Follows::Nothing)
                .await
                .is_err();
            self.record(request, &ending);
            return Delivered::Done;
        }

        let origin = OriginOfVisit { node: self, visit };
        let body = self.read_body(&origin, &delivery, span, reader);
        let mut body = ReplyBody::new(body, multipart);
        let mut first = None;
        // What has arrived already goes out with the head, in one write.
        let beginning = if arriving {
            body.next(false).now_or_never()
        } else {
            Some(body.next(client.takes_files()).await)
        };
        match beginning {
            None => {}
            Some(Ok(piece)) => first = piece,
            Some(Err(BodyError::Fill(crate::cache::fill::FillError::Changed))) => {
                return Delivered::StartOver;
            }
            Some(Err(BodyError::Evicted { .. })) if !delivery.just_fetched => {
                // A tier has lost what it seemed to hold, and only the whole can be asked for.
                self.cache.forget(&visit.key, response);
                return Delivered::StartOver;
            }
            Some(Err(error)) => {
                let failure = self.body_failure(visit, error);
                let status = Some(delivery.cache_status);
                self.fail(request, Some(visit.route), failure, status, client)
                    .await;
                return Delivered::Done;
            }
        }
        ending.first_byte = Some(self.clock.monotonic());
        let mut fault = None;
        let sent = send(&head, first, &mut body, client, &mut fault).await;
        ending.bytes_memory = body.stored().from_memory;
        ending.bytes_disk = body.stored().from_disk;
        ending.bytes_origin = body.stored().from_origin;
        ending.bytes_own = body.framing_bytes();
        if let Some(reserved) = &mut reserved {
            let written = ending.bytes_memory + ending.bytes_origin;
            reserved.used(written, body.stored().asked_bytes);
        }
        ending.aborted = sent.is_err() || fault.is_some();
        if sent.is_err() && client.is_too_slow() {
            ending.reason = Some(self.refuse_slow_client(visit.route));
        }
        if let Some(error) = fault {
            let failure = self.body_failure(visit, error);
            let reply = failure.reply();
            ending.reason = Some(reply.reason);
            log_failure(request, &failure, reply.fault);
            client.abort().await;
        }
        self.record(request, &ending);
        Delivered::Done
    }

    /// A reader of `span`, or of all when its end is not known.
    fn read_body<'a>(
        &'a self,
        origin: &'a OriginOfVisit<'a>,
        delivery: &'a Delivery,
        span: Option<Range<u64>>,
        reader: Option<FillReader>,
    ) -> BodyReader<'a> {
        let response = &delivery.response;
        let stays = part::origin_ignored_range(&origin.visit.request, delivery);
        let (attached, staying) = match reader {
            Some(reader) if stays => (None, Some(reader)),
            reader => (reader, None),
        };
        let mut body = BodyReader::new(
            &self.cache,
            response,
            span.as_ref().map_or(0, |span| span.start),
            span.map(|span| span.end),
            attached,
            can_refetch(response).then_some(origin as &dyn Refetch),
        );
        if let Some(reader) = staying {
            body = body.staying_attached(reader);
        }
        if delivery.just_fetched {
            body = body.just_fetched();
        }
        if delivery.just_recalled {
            body = body.just_recalled();
        }
        body
    }

    fn body_failure(&self, visit: &Visit, error: BodyError) -> Failure {
        Failure::Body {
            origin: self.pool_of(visit.route).name().to_owned(),
            error,
        }
    }

    /// Tells a browser what scripts of other origins may do.
    pub(super) async fn answer_preflight<D: Downstream>(
        &self,
        request: &Request,
        route: usize,
        preflight: Preflight,
        client: &mut D,
    ) {
        let Preflight { status, mut fields } = preflight;
        let date = http_date::value(self.clock.wall());
        fields.extend(date.map(|date| (DATE, date)));
        if let Some(policy) = &self.routes[route].policy {
            policy.add_to_own(request, &mut fields);
        }
        let head = ReplyHead {
            status,
            stored: None,
            withheld: &[],
            fields: &fields,
            length: ReplyLength::Nothing,
            content_range: None,
            age_seconds: None,
            cache_status: Some(CacheStatus::Own {
                detail: Some(PREFLIGHT),
            }),
            key_parameter: None,
            request_id: request.id,
            close: false,
        };
        let mut ending = Ending::new(Outcome::Own);
        ending.route = Some(route);
        ending.status = Some(status.as_u16());
        ending.reason = Some(PREFLIGHT);
        ending.first_byte = Some(self.clock.monotonic());
        ending.aborted = client
            .head(&head, &Bytes::new(), Follows::Nothing)
            .await
            .is_err();
        self.record(request, &ending);
    }

    /// Counts what a policy has refused.
    pub(super) fn count_refusal(&self, route: Option<usize>, refusal: PolicyRefusal) {
        let route = route.map_or("", |route| &self.routes[route].config.name);
        self.metrics.record_policy_refusal(route, refusal.reason());
    }

    /// Counts a response that was cut off because its client took too little of it; gives the reason.
    pub(super) fn refuse_slow_client(&self, route: usize) -> &'static str {
        let refusal = PolicyRefusal::ClientTooSlow;
        self.count_refusal(Some(route), refusal);
        let reason = refusal.reason();
        tracing::debug!(reason, "response cut off");
        reason
    }

    /// The one door: answers with a failure and records it. `cache_status` is what the cache had to
    /// say before that, once it was asked.
    ///
    /// RFC 9211 §2 would rather have no `Cache-Status` on responses that rest on nothing stored. It is
    /// sent all the same: no cache keeps these, and an operator who looks at a 502 wants to know how
    /// the request got there.
    pub(super) async fn fail<D: Downstream>(
        &self,
        request: &Request,
        route: Option<usize>,
        failure: Failure,
        cache_status: Option<CacheStatus>,
        client: &mut D,
    ) {
        let reply = failure.reply();
        log_failure(request, &failure, reply.fault);
        if let (Failure::Signature(refusal), Some(route)) = (&failure, route) {
            self.routes[route]
                .metrics
                .record_signature_refusal(refusal.reason());
        }
        if let Failure::Policy(refusal) = &failure {
            self.count_refusal(route, *refusal);
        }
        let body = reply.body(&request.id);
        let mut fields = failure_fields(&reply, self.clock.wall());
        let policy = route.and_then(|route| self.routes[route].policy.as_ref());
        if let Some(policy) = policy {
            policy.add_to_own(request, &mut fields);
        }
        let content_range = match failure {
            Failure::RangeNotSatisfiable { length } => {
                Some(ContentRange::Unsatisfied { complete: length })
            }
            _ => None,
        };
        let cache_status = match failure {
            // This rests on the length of what is stored or has just come.
            Failure::RangeNotSatisfiable { .. } => cache_status,
            _ => cache_status.map(|status| status.failed(reply.reason)),
        };
        let head = ReplyHead {
            content_range: content_range.clone(),
            cache_status,
            ..ReplyHead::of_failure(&reply, &fields, body.len() as u64, request.id)
        };
        let body = if request.method == Method::HEAD {
            Bytes::new()
        } else {
            body
        };
        let mut ending = Ending::new(reply.outcome);
        ending.route = route;
        ending.status = Some(reply.status.as_u16());
        ending.reason = Some(reply.reason);
        ending.content_range = content_range.as_ref();
        ending.first_byte = Some(self.clock.monotonic());
        ending.bytes_own = body.len() as u64;
        ending.aborted = client.head(&head, &body, Follows::Nothing).await.is_err();
        self.record(request, &ending);
    }
}

/// The fields of an error document. No cache may keep it.
pub(super) fn failure_fields(
    reply: &FailureReply,
    now: std::time::SystemTime,
) -> Vec<(HeaderName, HeaderValue)> {
    let mut fields = vec![
        (CONTENT_TYPE, HeaderValue::from_static("application/xml")),
        (
            http::header::CACHE_CONTROL,
            HeaderValue::from_static("no-store"),
        ),
    ];
    fields.extend(http_date::value(now).map(|date| (DATE, date)));
    if let Some(seconds) = reply.retry_after_seconds {
        fields.push((RETRY_AFTER, HeaderValue::from(seconds)));
    }
    if reply.status == StatusCode::METHOD_NOT_ALLOWED {
        // What a client could use instead (RFC 9110 §15.5.6).
        let allowed = "GET, HEAD, PUT, POST, DELETE, OPTIONS, PATCH";
        fields.push((http::header::ALLOW, HeaderValue::from_static(allowed)));
    }
    fields
}

/// Asks for what is missing of a body, as the request for it would have.
struct OriginOfVisit<'a> {
    node: &'a Node,
    visit: &'a Visit,
}

impl Refetch for OriginOfVisit<'_> {
    fn key(&self) -> &CacheKey {
        &self.visit.key
    }

    fn request(&self) -> OriginRequest {
        self.node.origin_request(self.visit)
    }

    fn origin(&self) -> Arc<dyn Origin> {
        self.node.pool_of(self.visit.route).clone()
    }
}

/// Whether something may be missing of a body and can be asked for. A body in one piece is whole.
fn can_refetch(response: &StoredResponse) -> bool {
    response.head.not_stored.is_none() && !response.body.is_in_one_piece()
}

/// `Age` goes with what came out of the cache, and with what was old on arrival (RFC 9111 §5.1).
fn age(delivery: &Delivery, now: Moment) -> Option<u64> {
    let age = delivery.response.head.freshness.current_age(now).as_secs();
    let reused = delivery.outcome == Outcome::Hit || delivery.outcome == Outcome::Partial;
    (reused || age > 0).then_some(age)
}

/// Sends head and body; a fault of the body's is left in `fault`.
async fn send<D: Downstream>(
    head: &ReplyHead<'_>,
    first: Option<Piece<'_>>,
    body: &mut ReplyBody<'_>,
    client: &mut D,
    fault: &mut Option<BodyError>,
) -> Result<(), ClientGone> {
    let (bytes, mut piece) = match first {
        Some(Piece::Bytes(bytes)) => (bytes, None),
        other => (Cow::Owned(Bytes::new()), other),
    };
    let last = head.length == ReplyLength::Known(bytes.len() as u64);
    let follows = match piece {
        _ if last => Follows::Nothing,
        Some(Piece::File(_)) => Follows::File,
        _ => Follows::Bytes,
    };
    client.head(head, &bytes, follows).await?;
    drop(bytes);
    if follows == Follows::Nothing {
        return Ok(());
    }
    let mut takes_files = client.takes_files();
    let mut turn = Turn::default();
    loop {
        let moved = match piece.take() {
            Some(Piece::Bytes(bytes)) => {
                let moved = bytes.len() as u64;
                client.data(bytes.into_owned()).await?;
                moved
            }
            Some(Piece::File(span)) => {
                let moved = span.remaining();
                if let Err(Unsent(bytes)) = client.file(span).await {
                    body.unread_from_file(bytes);
                    takes_files = false;
                }
                moved
            }
            None => 0,
        };
        turn.moved(moved).await;
        match body.next(takes_files).await {
            Ok(Some(next)) => piece = Some(next),
            Ok(None) => return client.finish().await,
            Err(error) => {
                *fault = Some(error);
                return Ok(());
            }
        }
    }
}
