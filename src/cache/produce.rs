//! Bringing responses in: the tasks that talk to the origin, decide what is stored, and [`pump`] bodies
//! into fills and tiers.

mod assembly;
mod pump;

use std::ops::Range;
use std::sync::Arc;

use http::header::{CONTENT_RANGE, ETAG, HeaderValue, IF_RANGE, RANGE};
use http::{HeaderMap, StatusCode};

use super::Cache;
use super::assess::{Received, assess, freshen, speaks_of};
use super::collapse::{Flight, HeadState};
use super::fetch::{
    FetchError, Framing, Origin, OriginBody, OriginRequest, OriginResponse, no_interim,
};
use super::fill::{FillError, FillWriter};
use super::key::CacheKey;
use super::policy::blocks::Blocks;
use super::policy::conditional;
use super::policy::storable::NotStored;
use super::stored::{Body, StoredResponse};
use crate::byte_range::{RangeRequest, RangeSpec, parse_content_range, resolve};
use crate::config::CacheRules;
use pump::Pump;

/// The longest suffix that is asked for as it is.
const PROBE_BYTES: u64 = 4096;

/// A task that produces the head of a response for one flight, and then its body.
pub(super) struct Production {
    pub(super) cache: Arc<Cache>,
    pub(super) flight: Arc<Flight>,
    pub(super) range: RangeRequest,
    pub(super) if_range: Option<HeaderValue>,
    pub(super) stale: Option<Arc<StoredResponse>>,
    /// The stale response may answer when the origin fails.
    pub(super) if_error: bool,
    pub(super) rules: Arc<CacheRules>,
    pub(super) origin: Arc<dyn Origin>,
}

/// Ends a flight, however its task ends: nobody is left waiting.
pub(super) struct Landing {
    pub(super) cache: Arc<Cache>,
    pub(super) flight: Arc<Flight>,
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.cache.collapser.land(&self.flight);
        self.flight.head.send_if_modified(|state| {
            let pending = matches!(state, HeadState::Pending);
            if pending {
                *state = HeadState::Failed(FetchError::Abandoned);
            }
            pending
        });
    }
}

/// A response that is known to be storable or not, ready to be pumped.
struct Arrival {
    response: Arc<StoredResponse>,
    body: Box<dyn OriginBody>,
    /// Where the body that follows starts.
    start: u64,
    /// Where it must end, when that is known.
    end: Option<u64>,
}

impl Production {
    /// `landing` is made before the task is: one that is never run ends the flight too.
    pub(super) async fn run(self, writer: FillWriter, landing: Landing) {
        self.produce(writer).await;
        drop(landing);
    }

    async fn produce(&self, mut writer: FillWriter) {
        let response = match self.ask_origin().await {
            Ok(response) => response,
            Err(error) => return self.fail(writer, error),
        };
        let server = response.server.clone();
        let forward_status = response.status;
        if let Some(stale) = self.validated(&response) {
            let freshened = Arc::new(self.freshen(stale, response));
            self.cache.freshen(
                &self.flight.primary_key,
                &freshened,
                &self.flight.invalidated,
            );
            writer.finish();
            self.land();
            self.publish(freshened, forward_status, server);
            return;
        }
        let arrival = match self.judge(response) {
            Ok(arrival) => arrival,
            Err(error) => return self.fail(writer, error),
        };
        let Arrival {
            response,
            body,
            start,
            end,
        } = arrival;
        writer.open_at(start);
        response
            .body
            .with_fills(|fills| fills.push(self.flight.fill.clone()));
        if let Some(why) = response.head.not_stored {
            let is_the_rule = self.flight.is_shared() && why.is_the_rule_for(response.head.status);
            let status = response.head.status;
            let key = &self.flight.primary_key;
            self.cache.note_refused(key, why, status, is_the_rule);
        } else if response
            .body
            .length()
            .is_some_and(|length| length > self.cache.sizes.blocks.bytes())
            && response.head.part_validator().is_some()
        {
            // Visible at once: whatever blocks arrive, the rest can be fetched.
            self.commit(&response);
        }
        let at_end = |is_stored| {
            if is_stored {
                self.commit(&response);
            }
            self.land();
        };
        let limit = self.rules.max_object_bytes;
        let key = &self.flight.primary_key;
        let mut pump = Pump::new(&self.cache, key, &response, start, end, limit, at_end);
        // An empty body is whole already.
        pump.settle();
        self.publish(response.clone(), forward_status, server);
        let forgetting = Forgetting {
            response: &response,
            fill: &self.flight.fill,
        };
        let outcome = pump.run(body, &mut writer).await;
        drop(forgetting);
        // One that broke off is not joined either by those who have seen it break off.
        self.land();
        match outcome {
            Ok(()) => writer.finish(),
            Err(error) => writer.fail(error),
        }
    }

    fn fail(&self, writer: FillWriter, error: FetchError) {
        self.note_failed_validation();
        self.land();
        let failed = HeadState::Failed(error.clone());
        self.flight.head.send_replace(failed);
        writer.fail(FillError::Origin(error));
    }

    /// Ends the flight: who comes from now on finds what came of it in the tier, or asks anew.
    ///
    /// Invariant `landed-before-seen-whole`: a client that has its answer to the end may ask for another one,
    /// with directives that forbid this very answer, and must not join the flight that brought it.
    fn land(&self) {
        self.cache.collapser.land(&self.flight);
    }

    fn publish(&self, response: Arc<StoredResponse>, forward_status: StatusCode, server: Arc<str>) {
        self.flight.head.send_replace(HeadState::Ready {
            response,
            forward_status,
            server,
        });
    }

    fn note_failed_validation(&self) {
        if let Some(stale) = &self.stale {
            stale
                .head
                .note_failed_validation(self.cache.clock.monotonic());
        }
    }

    /// Asks, with conditions when there is something to validate, for the part that the client
    /// wants rounded out to blocks.
    async fn ask_origin(&self) -> Result<OriginResponse, FetchError> {
        let plain = &*self.flight.request;
        let range = rounded_out(&self.range, self.cache.sizes.blocks);
        if self.stale.is_none() && range.is_none() {
            return self.fetch(plain).await;
        }
        let mut request = plain.clone();
        if let Some(stale) = &self.stale {
            let validators = conditional::validators(&stale.head.fields);
            request.fields.extend(validators);
        }
        if let Some(range) = range {
            request.fields.insert(RANGE, range);
            // Beside If-None-Match an If-Range adds nothing: a change is answered in full anyway.
            if let (Some(condition), None) = (&self.if_range, &self.stale) {
                request.fields.insert(IF_RANGE, condition.clone());
            }
        }
        let response = self.fetch(&request).await?;
        if self.is_usable(&response) {
            return Ok(response);
        }
        self.fetch(plain).await
    }

    async fn fetch(&self, request: &OriginRequest) -> Result<OriginResponse, FetchError> {
        let flight = &self.flight;
        self.origin
            .fetch(request, &|interim| flight.announce(interim))
            .await
    }

    /// Whether a response can answer the client. If not, the whole is asked for without conditions.
    fn is_usable(&self, response: &OriginResponse) -> bool {
        match response.status {
            StatusCode::NOT_MODIFIED => self
                .stale
                .as_ref()
                .is_none_or(|stale| speaks_of(&stale.head.fields, &response.fields)),
            StatusCode::PARTIAL_CONTENT if self.probe().is_some() => {
                matches!(response.framing, Framing::Length(_))
            }
            StatusCode::PARTIAL_CONTENT => {
                // A part of an unknown whole can neither be stored nor be cut to the client's range.
                let part = parse_range_of(&response.fields);
                let complete = part.as_ref().and_then(|part| part.complete);
                let (Some(part), Some(complete)) = (part, complete) else {
                    return false;
                };
                response.framing != Framing::UntilClose
                    && starts_within(&self.range, &part.span, complete)
            }
            _ => true,
        }
    }

    /// The client's `Range` when it was forwarded as it came: the answer is kept and served as it
    /// came too, since it is no run of blocks.
    fn probe(&self) -> Option<&HeaderValue> {
        let RangeRequest::Single(spec) = &self.range else {
            return None;
        };
        is_probe(*spec)
            .then(|| self.flight.request.selecting.get(RANGE))
            .flatten()
    }

    fn validated(&self, response: &OriginResponse) -> Option<&Arc<StoredResponse>> {
        self.stale
            .as_ref()
            .filter(|_| response.status == StatusCode::NOT_MODIFIED)
    }

    fn freshen(&self, stale: &StoredResponse, response: OriginResponse) -> StoredResponse {
        let head = freshen(
            &stale.head,
            response.fields,
            response.requested,
            response.received,
            &self.rules,
        );
        head.set_untouched_up_to(self.flight.asked);
        StoredResponse {
            head,
            body: stale.body.clone(),
        }
    }

    /// Decides what a final response is and whether it is stored.
    fn judge(&self, response: OriginResponse) -> Result<Arrival, FetchError> {
        let invalid = |reason: &str| FetchError::Invalid {
            server: response.server.clone(),
            reason: reason.to_owned(),
        };
        let announced = match response.framing {
            Framing::Length(length) => Some(length),
            Framing::Chunked | Framing::UntilClose => None,
        };
        let probe = self
            .probe()
            .filter(|_| response.status == StatusCode::PARTIAL_CONTENT);
        let partial = response.status == StatusCode::PARTIAL_CONTENT && probe.is_none();
        let (status, span, length) = if probe.is_some() {
            (StatusCode::OK, 0..announced.unwrap_or(u64::MAX), announced)
        } else if partial {
            // Without the length of the whole its end could not be told from that of the part.
            let part = parse_range_of(&response.fields)
                .filter(|part| part.complete.is_some())
                .ok_or_else(|| invalid("206 without a usable Content-Range"))?;
            if announced.is_some_and(|length| length != part.span.end - part.span.start) {
                return Err(invalid("Content-Length contradicts Content-Range"));
            }
            (StatusCode::OK, part.span, part.complete)
        } else {
            (response.status, 0..announced.unwrap_or(u64::MAX), announced)
        };
        if status == StatusCode::NOT_MODIFIED {
            return Err(invalid("304 to an unconditional request"));
        }
        let body = Body::new(length);
        let received = Received {
            request: &self.flight.request.selecting,
            status,
            fields: response.fields,
            partial,
            framing: response.framing,
            requested: response.requested,
            received: response.received,
            noise: body.generation.number(),
        };
        let mut head = assess(received, &self.rules);
        head.set_untouched_up_to(self.flight.asked);
        if let Some(range) = probe {
            head.status = StatusCode::PARTIAL_CONTENT;
            head.selecting = std::mem::take(&mut head.selecting).for_range(range);
        }
        if self.is_failure(status) {
            self.note_failed_validation();
            // What is stored is worth more than the origin's regrets (RFC 9111 §4.3.3).
            head.not_stored.get_or_insert(NotStored::OriginFailed);
        }
        let end = (partial || announced.is_some()).then_some(span.end);
        Ok(Arrival {
            response: Arc::new(StoredResponse { head, body }),
            body: response.body,
            start: span.start,
            end,
        })
    }

    /// Whether a response to a validation counts as no answer, so that the stale response is used.
    fn is_failure(&self, status: StatusCode) -> bool {
        self.if_error && self.stale.is_some() && is_origin_failure(status)
    }

    /// Makes `response` what its key leads to.
    fn commit(&self, response: &Arc<StoredResponse>) {
        let flight = &self.flight;
        self.cache.store(
            &flight.primary_key,
            &flight.request.selecting,
            response,
            &flight.invalidated,
            self.rules.max_variants,
        );
    }
}

/// The statuses that stand for an error in the sense of `stale-if-error` (RFC 5861 §4).
pub(super) fn is_origin_failure(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502 | 503 | 504)
}

/// Whether the first byte that `range` asks of a representation of `complete` bytes lies in `span`;
/// what follows can be fetched then.
fn starts_within(range: &RangeRequest, span: &Range<u64>, complete: u64) -> bool {
    match range {
        RangeRequest::Single(spec) => match resolve(*spec, complete) {
            Ok(wanted) => span.contains(&wanted.start),
            Err(_) => true,
        },
        RangeRequest::Whole | RangeRequest::Several(_) => span.start == 0,
    }
}

fn parse_range_of(fields: &HeaderMap) -> Option<crate::byte_range::ReceivedPart> {
    parse_content_range(fields.get(CONTENT_RANGE)?.as_bytes())
}

/// Whether a range of an unknown object is so short a suffix (the last 8 bytes of a Parquet file, 22
/// of a ZIP archive) that a block around it would be thousands of times what was asked for.
fn is_probe(spec: RangeSpec) -> bool {
    matches!(spec, RangeSpec::Suffix { length } if length <= PROBE_BYTES)
}

/// The `Range` to send for a range of an object that nothing is known of.
fn rounded_out(range: &RangeRequest, blocks: Blocks) -> Option<HeaderValue> {
    let text = match *range {
        RangeRequest::Whole | RangeRequest::Several(_) => return None,
        RangeRequest::Single(RangeSpec::From { first, last: None }) => {
            format!("bytes={}-", blocks.start_of(blocks.block_of(first)))
        }
        RangeRequest::Single(RangeSpec::From {
            first,
            last: Some(last),
        }) => {
            let wanted = blocks.covering(&(first..last.saturating_add(1)));
            let last = blocks.start_of(wanted.end).saturating_sub(1);
            format!("bytes={}-{last}", blocks.start_of(wanted.start))
        }
        RangeRequest::Single(spec @ RangeSpec::Suffix { length }) if is_probe(spec) => {
            format!("bytes=-{length}")
        }
        // Where its blocks start is not known yet: one block more holds the start of the first.
        RangeRequest::Single(RangeSpec::Suffix { length }) => {
            format!("bytes=-{}", length.saturating_add(blocks.bytes()))
        }
    };
    HeaderValue::try_from(text).ok()
}

/// A task that fetches missing blocks of a body whose head is known, pinned to its strong ETag.
pub(super) struct SpanProduction {
    pub(super) cache: Arc<Cache>,
    pub(super) key: CacheKey,
    pub(super) response: Arc<StoredResponse>,
    pub(super) fill: Arc<super::fill::Fill>,
    pub(super) request: OriginRequest,
    pub(super) origin: Arc<dyn Origin>,
    pub(super) span: Range<u64>,
}

/// Takes an ended fill off its body, however its task ends.
struct Forgetting<'a> {
    response: &'a StoredResponse,
    fill: &'a Arc<super::fill::Fill>,
}

impl Drop for Forgetting<'_> {
    fn drop(&mut self) {
        self.response.body.forget(self.fill);
    }
}

impl SpanProduction {
    pub(super) async fn run(self, mut writer: FillWriter) {
        let forgetting = Forgetting {
            response: &self.response,
            fill: &self.fill,
        };
        let outcome = self.produce(&mut writer).await;
        drop(forgetting);
        match outcome {
            Ok(()) => writer.finish(),
            Err(error) => {
                if error == FillError::Changed {
                    self.cache.forget_generation(&self.key, &self.response);
                }
                writer.fail(error);
            }
        }
    }

    async fn produce(&self, writer: &mut FillWriter) -> Result<(), FillError> {
        let Some(etag) = self.response.head.part_validator() else {
            return Err(FillError::Changed);
        };
        let mut request = self.request.clone();
        let range = format!("bytes={}-{}", self.span.start, self.span.end - 1);
        let range = HeaderValue::try_from(range).map_err(|_| FillError::Changed)?;
        request.fields.insert(RANGE, range);
        request.fields.insert(IF_RANGE, etag.value().clone());
        let response = self.origin.fetch(&request, &no_interim).await?;
        let same_etag = response.fields.get(ETAG) == Some(etag.value());
        let length = self.response.body.length();
        let (start, end) = match response.status {
            StatusCode::PARTIAL_CONTENT if same_etag => {
                let part = parse_range_of(&response.fields).ok_or(FillError::Changed)?;
                if part.complete.is_some() && part.complete != length {
                    return Err(FillError::Changed);
                }
                (part.span.start, part.span.end)
            }
            StatusCode::OK if same_etag => match (response.framing, length) {
                (Framing::Length(announced), Some(length)) if announced == length => (0, length),
                // It must come out as long as it is known to be.
                (Framing::Chunked, Some(length)) => (0, length),
                _ => return Err(FillError::Changed),
            },
            status if status.is_server_error() || status == StatusCode::FORBIDDEN => {
                return Err(FillError::Origin(FetchError::Invalid {
                    server: response.server,
                    reason: format!("status {} for a range", status.as_u16()),
                }));
            }
            _ => return Err(FillError::Changed),
        };
        if start > self.span.start {
            return Err(FillError::Changed);
        }
        writer.open_at(start);
        let (cache, key) = (&*self.cache, &self.key);
        let pump = Pump::new(cache, key, &self.response, start, Some(end), None, |_| {});
        pump.run(response.body, writer).await?;
        if end < self.span.end {
            // Whoever waits for the rest asks again, but not for ever.
            return Err(FillError::Truncated {
                expected: self.span.end,
                received: end,
            });
        }
        Ok(())
    }
}
