//! Bringing responses in: the tasks that talk to the origin, decide what is stored, and pump bodies
//! into fills and tiers.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_RANGE, ETAG, HeaderValue, IF_RANGE, RANGE};
use http::{HeaderMap, StatusCode};

use super::Cache;
use super::collapse::{Flight, HeadState};
use super::fetch::{FetchError, Framing, Origin, OriginBody, OriginRequest, OriginResponse};
use super::fill::{Demand, FillError, FillWriter};
use super::key::CacheKey;
use super::memory::Entry;
use super::policy::blocks::Blocks;
use super::policy::cache_control::CacheControl;
use super::policy::storable::{NotStored, may_store};
use super::policy::vary::{Vary, secondary_key};
use super::policy::{conditional, fields, freshness};
use super::stored::{Body, Head, StoredResponse};
use crate::byte_range::{RangeRequest, RangeSpec, parse_content_range};

/// A task that produces the head of a response for one flight, and then its body.
pub(super) struct Production {
    pub(super) cache: Arc<Cache>,
    pub(super) flight: Arc<Flight>,
    /// Nobody else may join.
    pub(super) alone: bool,
    pub(super) request: OriginRequest,
    pub(super) range: RangeRequest,
    pub(super) if_range: Option<HeaderValue>,
    pub(super) stale: Option<Arc<StoredResponse>>,
    pub(super) origin: Arc<dyn Origin>,
}

/// Ends a flight, however its task ends: nobody is left waiting.
struct Landing {
    cache: Arc<Cache>,
    flight: Arc<Flight>,
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
    pub(super) async fn run(self, writer: FillWriter) {
        let landing = Landing {
            cache: self.cache.clone(),
            flight: self.flight.clone(),
        };
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
            let freshened = Arc::new(self.freshen(stale, &response));
            self.commit(&freshened);
            writer.finish();
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
            if !self.alone && why.is_the_rule_for(response.head.status) {
                self.cache.remember_pass(&self.flight.primary_key);
            }
        } else if response
            .body
            .length()
            .is_some_and(|length| length > self.cache.sizes.blocks.bytes())
            && response.head.strong_etag().is_some()
        {
            // Visible at once: whatever blocks arrive, the rest can be fetched.
            self.commit(&response);
        }
        let commit = || self.commit(&response);
        let mut pump = Pump::new(&self.cache, &response, start, end, commit);
        pump.settle();
        self.publish(response.clone(), forward_status, server);
        let outcome = pump.run(body, &mut writer).await;
        response.body.forget(&self.flight.fill);
        match outcome {
            Ok(()) => writer.finish(),
            Err(error) => writer.fail(error),
        }
    }

    fn fail(&self, writer: FillWriter, error: FetchError) {
        let failed = HeadState::Failed(error.clone());
        self.flight.head.send_replace(failed);
        writer.fail(FillError::Origin(error));
    }

    fn publish(&self, response: Arc<StoredResponse>, forward_status: StatusCode, server: Arc<str>) {
        self.flight.head.send_replace(HeadState::Ready {
            response,
            forward_status,
            server,
        });
    }

    /// Asks, with conditions when there is something to validate, else for the part that the
    /// client wants rounded out to blocks.
    async fn ask_origin(&self) -> Result<OriginResponse, FetchError> {
        let mut request = self.request.clone();
        if let Some(stale) = &self.stale {
            request
                .fields
                .extend(conditional::validators(&stale.head.fields));
            return self.origin.fetch(&request).await;
        }
        let Some(range) = rounded_out(&self.range, self.cache.sizes.blocks) else {
            return self.origin.fetch(&request).await;
        };
        request.fields.insert(RANGE, range);
        if let Some(condition) = &self.if_range {
            request.fields.insert(IF_RANGE, condition.clone());
        }
        let response = self.origin.fetch(&request).await?;
        let tells_length = parse_range_of(&response.fields).is_some_and(|range| {
            range.complete.is_some() && response.framing != Framing::UntilClose
        });
        if response.status == StatusCode::PARTIAL_CONTENT && !tells_length {
            // A part of an unknown whole can neither be stored nor be cut to the client's range.
            return self.origin.fetch(&self.request).await;
        }
        Ok(response)
    }

    fn validated(&self, response: &OriginResponse) -> Option<&Arc<StoredResponse>> {
        self.stale
            .as_ref()
            .filter(|_| response.status == StatusCode::NOT_MODIFIED)
    }

    /// RFC 9111 §4.3.4.
    fn freshen(&self, stale: &StoredResponse, response: &OriginResponse) -> StoredResponse {
        let fields = fields::freshen(&stale.head.fields, response.fields.clone());
        // The age fields of the 304 count, not those of the response that it validates.
        let mut timed = fields.clone();
        timed.extend(
            response
                .fields
                .get(http::header::AGE)
                .map(|age| (http::header::AGE, age.clone())),
        );
        let freshness = self.freshness(stale.head.status, &timed, response);
        StoredResponse {
            head: Head::new(stale.head.status, fields, freshness, None),
            body: stale.body.clone(),
        }
    }

    fn freshness(
        &self,
        status: StatusCode,
        fields: &HeaderMap,
        response: &OriginResponse,
    ) -> freshness::Freshness {
        let directives = CacheControl::of_response(fields);
        let lifetime = freshness::lifetime(
            status,
            fields,
            &directives,
            response.received.wall,
            self.cache.default_ttl,
        );
        freshness::Freshness {
            lifetime: lifetime.duration(),
            initial_age: freshness::initial_age(fields, response.requested, response.received),
            received: response.received.monotonic,
            always_validate: directives.no_cache,
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
        let (status, span, length) = if response.status == StatusCode::PARTIAL_CONTENT {
            let part = parse_range_of(&response.fields)
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
        let partial = response.status == StatusCode::PARTIAL_CONTENT;
        let lifetime = freshness::lifetime(
            status,
            &response.fields,
            &CacheControl::of_response(&response.fields),
            response.received.wall,
            self.cache.default_ttl,
        );
        let freshness = self.freshness(status, &response.fields, &response);
        let not_stored = self.not_stored(&response, status, lifetime, partial).err();
        let head = Head::new(
            status,
            fields::stored(response.fields),
            freshness,
            not_stored,
        );
        let end = (partial || announced.is_some()).then_some(span.end);
        Ok(Arrival {
            response: Arc::new(StoredResponse {
                head,
                body: Body::new(length),
            }),
            body: response.body,
            start: span.start,
            end,
        })
    }

    fn not_stored(
        &self,
        response: &OriginResponse,
        status: StatusCode,
        lifetime: freshness::Lifetime,
        partial: bool,
    ) -> Result<(), NotStored> {
        let directives = CacheControl::of_response(&response.fields);
        may_store(
            &self.flight.fields,
            status,
            &response.fields,
            &directives,
            lifetime,
        )?;
        if response.framing == Framing::UntilClose && status != StatusCode::NO_CONTENT {
            return Err(NotStored::UnverifiableEnd);
        }
        let strong =
            conditional::EntityTag::of(&response.fields).is_some_and(|tag| tag.is_strong());
        if partial && !strong {
            return Err(NotStored::PartialWithoutValidator);
        }
        Ok(())
    }

    /// Makes `response` what its key leads to.
    fn commit(&self, response: &Arc<StoredResponse>) {
        if self.flight.invalidated.load(Ordering::Acquire) {
            return;
        }
        let primary_key = &self.flight.primary_key;
        let memory = &self.cache.memory;
        match Vary::of(&response.head.fields) {
            Vary::Fields(names) => {
                let variant = primary_key.with_variant(|key| {
                    secondary_key(&names, &self.flight.fields, key);
                });
                // The variant first: the entry that leads to it must not lead nowhere.
                memory.insert(variant, Entry::Response(response.clone()));
                memory.insert(primary_key.clone(), Entry::Variants(names.into()));
            }
            Vary::Nothing => {
                memory.insert(primary_key.clone(), Entry::Response(response.clone()));
            }
            Vary::Anything => {}
        }
    }
}

fn parse_range_of(fields: &HeaderMap) -> Option<crate::byte_range::ReceivedPart> {
    parse_content_range(fields.get(CONTENT_RANGE)?.as_bytes())
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

impl SpanProduction {
    pub(super) async fn run(self, mut writer: FillWriter) {
        let outcome = self.produce(&mut writer).await;
        self.response.body.forget(&self.fill);
        match outcome {
            Ok(()) => writer.finish(),
            Err(error) => {
                if error == FillError::Changed {
                    let key = self.cache.effective_key(&self.key, &self.request.selecting);
                    self.cache.forget_generation(&key, &self.response);
                }
                writer.fail(error);
            }
        }
    }

    async fn produce(&self, writer: &mut FillWriter) -> Result<(), FillError> {
        let Some(etag) = self.response.head.strong_etag() else {
            return Err(FillError::Changed);
        };
        let mut request = self.request.clone();
        let range = format!("bytes={}-{}", self.span.start, self.span.end - 1);
        let range = HeaderValue::try_from(range).map_err(|_| FillError::Changed)?;
        request.fields.insert(RANGE, range);
        request.fields.insert(IF_RANGE, etag.value().clone());
        let response = self.origin.fetch(&request).await?;
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
        let pump = Pump::new(&self.cache, &self.response, start, Some(end), || {});
        pump.run(response.body, writer).await
    }
}

/// Moves a body from the origin into a fill and, block by block, into the tier.
///
/// Invariant `stored-before-seen-whole`: what a client has read to its end is stored already, so
/// that its next request is a hit. A body of known length is therefore settled before its last
/// bytes are pushed, and one that ends with a last chunk before its fill is finished.
struct Pump<'a, C: FnOnce()> {
    cache: &'a Cache,
    response: &'a StoredResponse,
    next: u64,
    end: Option<u64>,
    /// The block under construction: chunks from its first byte on.
    block: Vec<Bytes>,
    block_bytes: u64,
    /// Makes the response visible; taken when the body is whole.
    commit: Option<C>,
}

impl<'a, C: FnOnce()> Pump<'a, C> {
    fn new(
        cache: &'a Cache,
        response: &'a StoredResponse,
        start: u64,
        end: Option<u64>,
        commit: C,
    ) -> Self {
        Pump {
            cache,
            response,
            next: start,
            end,
            block: Vec::new(),
            block_bytes: 0,
            commit: Some(commit),
        }
    }

    async fn run(
        mut self,
        mut body: Box<dyn OriginBody>,
        writer: &mut FillWriter,
    ) -> Result<(), FillError> {
        while self.end != Some(self.next) {
            if writer.demand().await == Demand::Unread && !self.is_nearly_done() {
                return Err(FillError::Abandoned);
            }
            let Some(chunk) = body.next().await? else {
                break;
            };
            self.take(chunk.clone());
            writer.unstored_from(self.next - self.block_bytes);
            if self.end == Some(self.next) {
                // The last bytes are shown once the end is verified, the connection is free for
                // the next request, and the response is stored.
                self.verify_end(&mut body).await?;
                self.settle();
                writer.push(chunk);
                return Ok(());
            }
            writer.push(chunk);
        }
        match self.end {
            Some(end) if self.next != end => Err(FillError::Truncated {
                expected: end,
                received: self.next,
            }),
            Some(_) => self.verify_end(&mut body).await,
            None => {
                self.end = Some(self.next);
                self.settle();
                Ok(())
            }
        }
    }

    /// After its announced length a body must end.
    async fn verify_end(&self, body: &mut Box<dyn OriginBody>) -> Result<(), FillError> {
        match body.next().await? {
            None => Ok(()),
            Some(more) => Err(FillError::TooLong {
                expected: self.next,
                excess: more.len() as u64,
            }),
        }
    }

    /// Keeps and commits the body if its end has been reached.
    fn settle(&mut self) {
        if self.end != Some(self.next) {
            return;
        }
        let Some(commit) = self.commit.take() else {
            return;
        };
        if self.response.head.not_stored.is_none() {
            self.complete();
            commit();
        }
    }

    fn is_nearly_done(&self) -> bool {
        self.response.head.not_stored.is_none()
            && self.end.is_some_and(|end| {
                end.saturating_sub(self.next) <= self.cache.sizes.finish_anyway_bytes
            })
    }

    /// Cuts a chunk at block boundaries. Bytes before the first boundary belong to a block whose
    /// start we do not have; they are not kept.
    fn take(&mut self, mut chunk: Bytes) {
        let blocks = self.cache.sizes.blocks;
        if self.response.head.not_stored.is_some() {
            self.next += chunk.len() as u64;
            return;
        }
        while !chunk.is_empty() {
            let boundary = blocks.start_of(blocks.block_of(self.next) + 1);
            let room = boundary - self.next;
            let len = (chunk.len() as u64).min(room);
            // `len` is at most the chunk's length.
            let part = chunk.split_to(len as usize);
            let whole_so_far =
                self.next - self.block_bytes == blocks.start_of(blocks.block_of(self.next));
            if whole_so_far {
                self.block.push(part);
                self.block_bytes += len;
            }
            self.next += len;
            if self.next == boundary {
                if self.block_bytes == blocks.bytes() && self.is_in_blocks() {
                    self.store_block();
                } else if self.block_bytes != blocks.bytes() {
                    self.block.clear();
                    self.block_bytes = 0;
                }
            }
        }
    }

    /// A body that fits one block is kept whole beside its head, so its only block is not stored
    /// before it is known to be the only one.
    fn is_in_blocks(&self) -> bool {
        self.response.body.length() != Some(self.cache.sizes.blocks.bytes())
    }

    fn store_block(&mut self) {
        let number = self.cache.sizes.blocks.block_of(self.next - 1);
        let bytes = self.assemble();
        self.cache
            .memory
            .insert_block(self.response.body.generation, number, bytes);
    }

    fn assemble(&mut self) -> Bytes {
        let chunks = std::mem::take(&mut self.block);
        // A block is at most one block's size long.
        let mut bytes = BytesMut::with_capacity(self.block_bytes as usize);
        self.block_bytes = 0;
        for chunk in chunks {
            bytes.extend_from_slice(&chunk);
        }
        bytes.freeze()
    }

    /// The end is verified: keeps the last block, or the whole body when it fits one.
    fn complete(&mut self) {
        let body = &self.response.body;
        if body.length().is_none() {
            body.set_length(self.next);
        }
        let Some(length) = body.length() else { return };
        if self.next != length {
            return;
        }
        if length <= self.cache.sizes.blocks.bytes() {
            if self.block_bytes == length {
                let bytes = self.assemble();
                body.set_whole(bytes);
            } else if let Some(bytes) = self.cache.memory.block(body.generation, 0) {
                body.set_whole(bytes);
            }
        } else if self.block_bytes > 0 {
            self.store_block();
        }
    }
}
