//! Moves a body from the origin into a fill and, block by block, into the tier.

use bytes::Bytes;
use futures_util::FutureExt;

use super::super::Cache;
use super::super::fetch::OriginBody;
use super::super::fill::{Demand, FillError, FillWriter};
use super::super::key::CacheKey;
use super::super::stored::StoredResponse;
use super::super::turn::Turn;
use super::assembly::{Assembled, Assembly};

/// The mover of one body.
///
/// Invariant `stored-before-seen-whole`: what a client has read to its end is stored already, so
/// that its next request is a hit. A body of known length is therefore settled before its last
/// bytes are shown, and one that ends with a last chunk before its fill is finished.
///
/// Bytes are gathered in the block that will be stored ([`Assembly`]) and shown to the fill's readers once it is
/// whole, or as soon as the origin makes us wait: then they are all that there is to send.
pub(super) struct Pump<'a, C: FnOnce(bool)> {
    cache: &'a Cache,
    key: &'a CacheKey,
    response: &'a StoredResponse,
    next: u64,
    end: Option<u64>,
    /// The block under construction, from its first byte on.
    block: Assembly,
    /// The last bytes, when they belong to no block that is kept.
    last: Bytes,
    /// A body that turns out to be longer than this is not stored.
    limit: u64,
    /// Called once the body is whole and before that can be seen, with whether it was stored.
    at_end: Option<C>,
}

impl<'a, C: FnOnce(bool)> Pump<'a, C> {
    /// A pump from `start` to `end`, where that is known; bodies beyond `limit` bytes are not stored.
    pub(super) fn new(
        cache: &'a Cache,
        key: &'a CacheKey,
        response: &'a StoredResponse,
        start: u64,
        end: Option<u64>,
        limit: Option<u64>,
        at_end: C,
    ) -> Self {
        Pump {
            cache,
            key,
            response,
            next: start,
            end,
            block: Assembly::default(),
            last: Bytes::new(),
            limit: limit.unwrap_or(u64::MAX),
            at_end: Some(at_end),
        }
    }

    /// Runs until the body has ended.
    ///
    /// # Errors
    /// [`FillError`] when it is not whole, or nobody reads it.
    pub(super) async fn run(
        mut self,
        body: Box<dyn OriginBody>,
        writer: &mut FillWriter,
    ) -> Result<(), FillError> {
        let outcome = self.move_body(body, writer).await;
        // A body whose end the origin has not confirmed must not look whole to its readers.
        if outcome.is_err() && !self.is_all_here() {
            self.show(writer);
        }
        outcome
    }

    async fn move_body(
        &mut self,
        mut body: Box<dyn OriginBody>,
        writer: &mut FillWriter,
    ) -> Result<(), FillError> {
        let mut turn = Turn::default();
        while !self.is_all_here() {
            if self.demand(writer).await == Demand::Unread && !self.is_nearly_done() {
                return Err(FillError::Abandoned);
            }
            let mut read = body.next();
            let read = match (&mut read).now_or_never() {
                Some(read) => read,
                None => {
                    self.show(writer);
                    read.await
                }
            };
            let Some(chunk) = read? else {
                break;
            };
            self.refuse_excess(chunk)?;
            self.take(chunk, writer);
            turn.moved(chunk.len() as u64).await;
        }
        match self.end {
            Some(end) if self.next != end => {
                return Err(FillError::Truncated {
                    expected: end,
                    received: self.next,
                });
            }
            // The last bytes are shown once the end is verified, the connection is free for the next
            // request, and the response is stored.
            Some(_) => self.verify_end(&mut body).await?,
            None => self.end = Some(self.next),
        }
        body.release().await;
        if let Some(rest) = self.settle() {
            writer.push(rest);
        }
        self.show(writer);
        writer.push(std::mem::take(&mut self.last));
        Ok(())
    }

    /// Waits for room ahead of the fastest reader, or until nobody reads.
    async fn demand(&mut self, writer: &mut FillWriter) -> Demand {
        let hidden_bytes = self.block.hidden_bytes();
        if let Some(demand) = writer.demand(hidden_bytes).now_or_never() {
            return demand;
        }
        self.show(writer);
        writer.demand(0).await
    }

    fn is_all_here(&self) -> bool {
        self.end == Some(self.next)
    }

    /// Shows what has arrived and was not shown yet.
    fn show(&mut self, writer: &mut FillWriter) {
        let block_bytes = self.block.len();
        let bytes = self.block.show();
        if !bytes.is_empty() {
            writer.unstored_from(self.next - block_bytes);
            writer.push(bytes);
        }
    }

    /// Bytes beyond the end are nobody's, and must neither be read nor be stored with what is.
    fn refuse_excess(&self, chunk: &[u8]) -> Result<(), FillError> {
        let next = self.next.saturating_add(chunk.len() as u64);
        match self.end {
            Some(end) if next > end => Err(FillError::TooLong {
                expected: end,
                excess: next - end,
            }),
            _ => Ok(()),
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

    /// Keeps the body if its end has been reached, and tells of it. Gives the bytes that are to be shown now.
    pub(super) fn settle(&mut self) -> Option<Bytes> {
        if !self.is_all_here() {
            return None;
        }
        let at_end = self.at_end.take()?;
        let is_stored = self.is_stored();
        let rest = if is_stored { self.complete() } else { None };
        at_end(is_stored);
        rest
    }

    fn is_stored(&self) -> bool {
        self.response.head.not_stored.is_none() && self.next <= self.limit
    }

    fn is_nearly_done(&self) -> bool {
        self.is_stored()
            && self.end.is_some_and(|end| {
                end.saturating_sub(self.next) <= self.cache.sizes.finish_anyway_bytes
            })
    }

    /// Cuts a chunk at block boundaries. Bytes before the first boundary belong to a block whose
    /// start we do not have; they are shown and not kept.
    fn take(&mut self, mut chunk: &[u8], writer: &mut FillWriter) {
        if !self.is_stored() || self.next + chunk.len() as u64 > self.limit {
            self.show(writer);
            self.block.clear();
            self.next += chunk.len() as u64;
            self.pass_on(chunk, writer);
            return;
        }
        let blocks = self.cache.sizes.blocks;
        while !chunk.is_empty() {
            let number = blocks.block_of(self.next);
            let boundary = blocks.start_of(number + 1);
            let room = usize::try_from(boundary - self.next).unwrap_or(usize::MAX);
            let (part, more) = chunk.split_at(chunk.len().min(room));
            let has_its_start = self.next - self.block.len() == blocks.start_of(number);
            self.next += part.len() as u64;
            if has_its_start {
                self.block.add(part, self.expected_bytes(number));
                if self.next == boundary && !self.is_last_block() {
                    let rest = self.store_block();
                    writer.unstored_from(self.next);
                    writer.push(rest);
                }
            } else {
                self.pass_on(part, writer);
            }
            chunk = more;
        }
    }

    /// Shows bytes that no block keeps.
    fn pass_on(&mut self, bytes: &[u8], writer: &mut FillWriter) {
        let bytes = Bytes::copy_from_slice(bytes);
        if self.is_all_here() {
            self.last = bytes;
            return;
        }
        writer.unstored_from(self.next);
        writer.push(bytes);
    }

    /// How much of a block will come, where that is known.
    fn expected_bytes(&self, number: u64) -> Option<usize> {
        let blocks = self.cache.sizes.blocks;
        let bytes = blocks.end_of(number, self.end?) - blocks.start_of(number);
        usize::try_from(bytes).ok()
    }

    /// The block that ends a body is kept once the end is verified, also when it is a full one: else
    /// a reader of the tier would see the end before the origin has confirmed it.
    fn is_last_block(&self) -> bool {
        self.response.body.length() == Some(self.next)
    }

    /// Keeps the block that is whole now. Gives what nobody was shown of it.
    fn store_block(&mut self) -> Bytes {
        let number = self.cache.sizes.blocks.block_of(self.next - 1);
        let Assembled { whole, rest } = self.block.finish();
        if let Some(own) = &self.cache.persistence {
            own.keep_block(self.key, self.response, number, &whole, true);
        }
        self.cache
            .memory
            .insert_block(self.response.body.generation, number, whole.into());
        rest
    }

    /// The end is verified: keeps the last block, or the whole body when it fits one. Gives what nobody was
    /// shown of it.
    fn complete(&mut self) -> Option<Bytes> {
        let body = &self.response.body;
        if body.length().is_none() {
            body.set_length(self.next);
        }
        let length = body.length()?;
        if self.next != length {
            return None;
        }
        if length > self.cache.sizes.blocks.bytes() {
            return (self.block.len() > 0).then(|| self.store_block());
        }
        if self.block.len() == length {
            let Assembled { whole, rest } = self.block.finish();
            body.set_whole(whole.into());
            return Some(rest);
        }
        if let Some(whole) = self.cache.memory.block(body.generation, 0) {
            body.set_whole(whole);
        }
        None
    }
}
