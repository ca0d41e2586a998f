//! Which part of a response answers a request: nothing of it, all of it, or the bytes that its
//! `Range` selects (RFC 9110 §13, §14).
//!
//! Several ranges are answered with one part each, but for two cases in which the bytes are not to
//! be had that way: of a response that is not stored only what the origin has sent is at hand, and
//! an origin that sends the whole for a range sends it once, from its beginning.

use std::ops::Range;
use std::time::SystemTime;

use http::header::CONTENT_RANGE;
use http::{Method, StatusCode};

use super::deliver::Delivery;
use super::downstream::CacheStatus;
use super::presence::Presence;
use super::request::Request;
use crate::byte_range::{
    RangeRequest, RangeSpec, SeveralRanges, Unsatisfiable, parse, resolve as span_of,
};
use crate::cache::fill::{FillError, Reached};
use crate::cache::policy::conditional::{Precondition, evaluate, if_range_holds};
use crate::cache::{Cache, Holding, StoredResponse};
use crate::observe::Outcome;

/// What of the body is sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Nothing: 304.
    NotModified,
    /// All of it, under its own status.
    Whole,
    /// A 206 of one span.
    Span {
        span: Range<u64>,
        /// The length of the whole, when it is known already.
        complete: Option<u64>,
    },
    /// A 206 of several spans, which are disjoint.
    Several {
        spans: Vec<Range<u64>>,
        complete: u64,
    },
}

/// Why there is no part to send.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoPart {
    /// 416.
    Unsatisfiable {
        /// The length of the whole.
        length: u64,
    },
    /// The body broke off before it could be told.
    Fill(FillError),
}

/// The range that a request asks for; several `Range` fields ask for none, and so does a HEAD
/// (RFC 9110 §14.2).
pub(super) fn wanted_range(request: &Request) -> RangeRequest {
    if !request.presence.has(Presence::RANGE) {
        return RangeRequest::Whole;
    }
    let mut fields = request.fields.get_all(http::header::RANGE).iter();
    match (fields.next(), fields.next()) {
        (Some(value), None) if request.method == Method::GET => parse(value.as_bytes()),
        _ => RangeRequest::Whole,
    }
}

/// The range that a request asks for of `response`, given its `If-Range`.
fn applicable_range(request: &Request, response: &StoredResponse, now: SystemTime) -> RangeRequest {
    let head = &response.head;
    if request.presence.has(Presence::RANGE)
        && head.status == StatusCode::OK
        // A 200 that says it is a part of something is sent as it came.
        && !head.fields.contains_key(CONTENT_RANGE)
        && if_range_holds(&request.fields, &head.fields, now)
    {
        wanted_range(request)
    } else {
        RangeRequest::Whole
    }
}

fn is_not_modified(request: &Request, response: &StoredResponse, now: SystemTime) -> bool {
    let head = &response.head;
    request.presence.has(Presence::CONDITIONS)
        && head.status == StatusCode::OK
        && evaluate(&request.fields, &head.fields, now) == Precondition::NotModified
}

/// What is at hand of the bytes with which a stored response answers `request`.
pub(super) fn holding(
    cache: &Cache,
    request: &Request,
    response: &StoredResponse,
    now: SystemTime,
) -> Holding {
    let Some(length) = response.body.length() else {
        return Holding::Whole;
    };
    if request.method == Method::HEAD || is_not_modified(request, response, now) {
        return Holding::Whole;
    }
    let held = |span: &Range<u64>| cache.holds(response, span);
    match applicable_range(request, response, now) {
        RangeRequest::Whole => held(&(0..length)),
        RangeRequest::Single(spec) => {
            span_of(spec, length).map_or(Holding::Whole, |span| held(&span))
        }
        RangeRequest::Several(several) => several
            .parts(length)
            .ok()
            .and_then(|parts| {
                let held = parts.iter().map(held);
                held.into_iter().find(|held| *held != Holding::Whole)
            })
            .unwrap_or(Holding::Whole),
    }
}

/// Chooses what to send. Waits only where the length of the whole is not known yet, see
/// [`part_while_arriving`].
///
/// # Errors
/// [`NoPart`].
pub(super) async fn choose(
    cache: &Cache,
    request: &Request,
    delivery: &mut Delivery,
    now: SystemTime,
) -> Result<Part, NoPart> {
    if is_not_modified(request, &delivery.response, now) {
        return Ok(Part::NotModified);
    }
    let range = applicable_range(request, &delivery.response, now);
    match (range, delivery.response.body.length()) {
        (RangeRequest::Whole, _) => Ok(Part::Whole),
        (RangeRequest::Single(spec), Some(length)) => part_of(spec, length),
        (RangeRequest::Several(several), Some(length)) => {
            parts_of(&several, length, request, delivery)
        }
        (
            RangeRequest::Single(RangeSpec::From {
                first,
                last: Some(last),
            }),
            None,
        ) => part_while_arriving(first, last, cache, delivery).await,
        // Where it ends, and where a suffix starts, is not known before the end: the whole is
        // sent, which is sooner than to wait for that (RFC 9110 §14.2 allows it). That goes for
        // several ranges too, whose heads have to be counted beforehand.
        (RangeRequest::Single(_) | RangeRequest::Several(_), None) => Ok(Part::Whole),
    }
}

fn part_of(spec: RangeSpec, length: u64) -> Result<Part, NoPart> {
    let span = span_of(spec, length).map_err(|Unsatisfiable| NoPart::Unsatisfiable { length })?;
    Ok(Part::Span {
        span,
        complete: Some(length),
    })
}

fn parts_of(
    several: &SeveralRanges,
    length: u64,
    request: &Request,
    delivery: &Delivery,
) -> Result<Part, NoPart> {
    let has_part_only = delivery.origin_status() == Some(StatusCode::PARTIAL_CONTENT);
    if delivery.response.head.not_stored.is_some() && has_part_only {
        // The others would have to be asked for one by one and need not belong to the same
        // version. A client looks at what it got and asks for the rest (RFC 9110 §15.3.7).
        return part_of(several.probe(), length);
    }
    let mut spans = several
        .parts(length)
        .map_err(|Unsatisfiable| NoPart::Unsatisfiable { length })?;
    if spans.len() == 1 {
        return Ok(Part::Span {
            span: spans.remove(0),
            complete: Some(length),
        });
    }
    let is_ascending = spans.is_sorted_by_key(|span| span.start);
    if comes_from_one_fill(request, delivery) && !is_ascending {
        return Ok(Part::Whole);
    }
    Ok(Part::Several {
        spans,
        complete: length,
    })
}

/// Whether every byte has to come from the fill under way, in its order: the rest cannot be asked
/// for, or the origin would send the whole again.
fn comes_from_one_fill(request: &Request, delivery: &Delivery) -> bool {
    let head = &delivery.response.head;
    let can_ask = head.not_stored.is_none() && head.part_validator().is_some();
    delivery.reader.is_some() && (!can_ask || origin_ignored_range(request, delivery))
}

/// Whether the origin was asked for a part and sent the whole: it would do so again.
pub(super) fn origin_ignored_range(request: &Request, delivery: &Delivery) -> bool {
    // A validation asks for no part, and neither may have who asked before us.
    let asked = matches!(delivery.outcome, Outcome::Miss | Outcome::VaryMiss)
        && !delivery.collapsed
        && wanted_range(request) != RangeRequest::Whole;
    asked && delivery.origin_status() == Some(StatusCode::OK)
}

/// The part `first..=last` of a body that is arriving and whose length is not known. It can be
/// answered once its last byte is here, or the end is; the length is then still `*`, or known
/// (RFC 9110 §14.4).
///
/// Waits only for what a fill brings without the part having been read: less than a fill's lead
/// from its first byte, and no further than that ahead of what has arrived. Beyond, and of bytes
/// that are gone already, the whole is sent.
async fn part_while_arriving(
    first: u64,
    last: u64,
    cache: &Cache,
    delivery: &mut Delivery,
) -> Result<Part, NoPart> {
    let Some(reader) = &mut delivery.reader else {
        return Ok(Part::Whole);
    };
    let window = reader.window();
    let lead = cache.sizes().lead_bytes;
    let is_near = last - first < lead && last < window.end.saturating_add(lead);
    let is_at_hand = || {
        window.start <= first
            || cache.holds(&delivery.response, &(first..last + 1)) != Holding::Part
    };
    if !is_near || !is_at_hand() {
        return Ok(Part::Whole);
    }
    reader.place(first);
    match reader.reached(last).await {
        Reached::Arrived => Ok(Part::Span {
            span: first..last + 1,
            complete: delivery.response.body.length(),
        }),
        Reached::Ended { length } => part_of(
            RangeSpec::From {
                first,
                last: Some(last),
            },
            length,
        ),
        Reached::Failed(error) => Err(NoPart::Fill(error)),
    }
}

impl Delivery {
    /// What the origin answered to this request, or to the one whose fill it shares.
    fn origin_status(&self) -> Option<StatusCode> {
        match self.cache_status {
            CacheStatus::Forward { status, .. } => {
                status.and_then(|status| StatusCode::from_u16(status).ok())
            }
            CacheStatus::Hit { .. } | CacheStatus::Own { .. } => None,
        }
    }
}
