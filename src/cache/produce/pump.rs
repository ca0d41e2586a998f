//! Moves a body from the origin into a fill and, block by block, into the tier.

use bytes::{Bytes, BytesMut};

use super::super::Cache;
use super::super::fetch::OriginBody;
use super::super::fill::{Demand, FillError, FillWriter};
use super::super::key::CacheKey;
use super::super::memory::block::MemoryBlock;
use super::super::stored::StoredResponse;
use super::super::turn::Turn;

/// The mover of one body.
///
/// Invariant `stored-before-seen-whole`: what a client has read to its end is stored already, so
/// that its next request is a hit. A body of known length is therefore settled before its last
/// bytes are pushed, and one that ends with a last chunk before its fill is finished.
pub(super) struct Pump<'a, C: FnOnce(bool)> {
    cache: &'a Cache,
    key: &'a CacheKey,
    response: &'a StoredResponse,
    next: u64,
    end: Option<u64>,
    /// The block under construction: chunks from its first byte on.
    block: Vec<Bytes>,
    block_bytes: u64,
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
            block: Vec::new(),
            block_bytes: 0,
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
        mut body: Box<dyn OriginBody>,
        writer: &mut FillWriter,
    ) -> Result<(), FillError> {
        let mut turn = Turn::default();
        while self.end != Some(self.next) {
            if writer.demand().await == Demand::Unread && !self.is_nearly_done() {
                return Err(FillError::Abandoned);
            }
            let Some(chunk) = body.next().await? else {
                break;
            };
            self.refuse_excess(&chunk)?;
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
            let bytes = chunk.len() as u64;
            writer.push(chunk);
            turn.moved(bytes).await;
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

    /// Bytes beyond the end are nobody's, and must neither be read nor be stored with what is.
    fn refuse_excess(&self, chunk: &Bytes) -> Result<(), FillError> {
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

    /// Keeps the body if its end has been reached, and tells of it.
    pub(super) fn settle(&mut self) {
        if self.end != Some(self.next) {
            return;
        }
        let Some(at_end) = self.at_end.take() else {
            return;
        };
        let is_stored = self.is_stored();
        if is_stored {
            self.complete();
        }
        at_end(is_stored);
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
    /// start we do not have; they are not kept.
    fn take(&mut self, mut chunk: Bytes) {
        let blocks = self.cache.sizes.blocks;
        if !self.is_stored() || self.next + chunk.len() as u64 > self.limit {
            self.block.clear();
            self.block_bytes = 0;
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
                if self.block_bytes == blocks.bytes() && !self.is_last_block() {
                    self.store_block();
                } else if self.block_bytes != blocks.bytes() {
                    self.block.clear();
                    self.block_bytes = 0;
                }
            }
        }
    }

    /// The block that ends a body is kept once the end is verified, also when it is a full one: else
    /// a reader of the tier would see the end before the origin has confirmed it.
    fn is_last_block(&self) -> bool {
        self.response.body.length() == Some(self.next)
    }

    fn store_block(&mut self) {
        let number = self.cache.sizes.blocks.block_of(self.next - 1);
        let block = self.assemble();
        if let Some(own) = &self.cache.persistence {
            own.keep_block(self.key, self.response, number, &block.bytes(), true);
        }
        self.cache
            .memory
            .insert_block(self.response.body.generation, number, block);
    }

    fn assemble(&mut self) -> MemoryBlock {
        let chunks = std::mem::take(&mut self.block);
        // A block is at most one block's size long.
        let mut bytes = BytesMut::with_capacity(self.block_bytes as usize);
        self.block_bytes = 0;
        for chunk in chunks {
            bytes.extend_from_slice(&chunk);
        }
        bytes.freeze().into()
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
                let whole = self.assemble();
                body.set_whole(whole);
            } else if let Some(whole) = self.cache.memory.block(body.generation, 0) {
                body.set_whole(whole);
            }
        } else if self.block_bytes > 0 {
            self.store_block();
        }
    }
}
