//! Reading a body wherever its bytes are: in one piece, in blocks, arriving, or still at the origin.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;

use super::Cache;
use super::fetch::{Origin, OriginRequest};
use super::file_span::FileSpan;
use super::fill::{Fill, FillError, FillReader, Step};
use super::key::CacheKey;
use super::memory::block::MemoryBlock;
use super::produce::SpanProduction;
use super::stored::StoredResponse;

/// How often a reader may start over from the origin without having got a byte since.
const FRUITLESS_FETCHES: u32 = 2;

/// Why a body cannot be read on. The client's connection must be cut: its response can no longer
/// be completed.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum BodyError {
    /// A fill failed.
    #[error(transparent)]
    Fill(#[from] FillError),
    /// Bytes were evicted and the response has no strong validator to fetch them again by.
    #[error("byte {position} was evicted and cannot be fetched again")]
    Evicted {
        /// The first byte that is missing.
        position: u64,
    },
}

/// How to ask the origin for what is missing. Most readers miss nothing, so nothing is made before it is needed.
pub trait Refetch: Sync {
    /// The primary key.
    fn key(&self) -> &CacheKey;

    /// The client's request as it may be sent to the origin.
    fn request(&self) -> OriginRequest;

    /// Where to ask.
    fn origin(&self) -> Arc<dyn Origin>;
}

/// Some of a body's bytes, in order.
#[derive(Debug)]
pub enum Piece<'a> {
    /// As bytes; borrowed where they are a whole body that memory holds.
    Bytes(Cow<'a, Bytes>),
    /// In a file, of memory or of the disk tier, for who can send them from there.
    File(FileSpan),
}

impl Piece<'_> {
    /// A piece of bytes that are no other's.
    pub fn of_bytes(bytes: Bytes) -> Self {
        Piece::Bytes(Cow::Owned(bytes))
    }
}

/// Reads a span of a body.
pub struct BodyReader<'a> {
    cache: &'a Arc<Cache>,
    response: &'a Arc<StoredResponse>,
    position: u64,
    /// Where to stop; `None` = at the end, which is not known yet.
    end: Option<u64>,
    attached: Option<FillReader>,
    refetch: Option<&'a dyn Refetch>,
    fruitless: u32,
    /// The fill that this reader came with has brought what the tier holds.
    just_fetched: bool,
    /// See [`BodyReader::staying_attached`].
    stays_attached: bool,
    /// What is held in one piece was read from disk for this request.
    just_recalled: bool,
    /// The last piece that was given out in a file lies on disk.
    last_file_on_disk: bool,
    /// The whole body, left in its file.
    whole_in_file: Option<FileSpan>,
    /// What was read of it when it could not be sent from there.
    read_from_file: Option<Bytes>,
    /// A block that the disk tier could not give after all.
    not_on_disk: Option<u64>,
    /// Bytes that were stored before this request.
    pub from_memory: u64,
    /// Bytes that were read from disk for this request.
    pub from_disk: u64,
    /// Bytes that the origin sent for this request, or for a fill that it shared. Whether they were
    /// read as they arrived or a moment later out of the tier makes no difference.
    pub from_origin: u64,
    /// Bytes for which this reader has asked the origin itself, be they read by it or not.
    pub asked_bytes: u64,
}

impl<'a> BodyReader<'a> {
    /// A reader of `start..end`; `attached` is a place at a fill that may bring those bytes.
    pub fn new(
        cache: &'a Arc<Cache>,
        response: &'a Arc<StoredResponse>,
        start: u64,
        end: Option<u64>,
        attached: Option<FillReader>,
        refetch: Option<&'a dyn Refetch>,
    ) -> Self {
        let mut reader = BodyReader {
            cache,
            whole_in_file: response.body.take_file(),
            read_from_file: None,
            response,
            position: start,
            end,
            attached,
            refetch,
            fruitless: 0,
            just_fetched: false,
            stays_attached: false,
            just_recalled: false,
            last_file_on_disk: false,
            not_on_disk: None,
            from_memory: 0,
            from_disk: 0,
            from_origin: 0,
            asked_bytes: 0,
        };
        reader.keep_or_leave_fill();
        reader
    }

    /// Says that this reader is to wait for its fill however far ahead its bytes are: the origin
    /// would send the whole again if it were asked for less.
    pub fn staying_attached(mut self, attached: FillReader) -> Self {
        self.stays_attached = true;
        self.attached = Some(attached);
        self.keep_or_leave_fill();
        self
    }

    /// Goes on with another span of the same body. A fill that brings it as well is kept, so that
    /// nobody ends it in between.
    pub fn go_on_with(&mut self, span: std::ops::Range<u64>) {
        self.position = span.start;
        self.end = Some(span.end);
        self.fruitless = 0;
        self.keep_or_leave_fill();
    }

    /// Moves to the position in the fill if it will bring that soon enough, else lets it go.
    fn keep_or_leave_fill(&mut self) {
        let patience = if self.can_refetch() && !self.stays_attached {
            self.cache.sizes.lead_bytes
        } else {
            u64::MAX
        };
        // Where the end is not known, only the fill can tell that it has been reached: it is kept
        // though it may have finished without a byte.
        let end_is_unknown = self.end.is_none();
        match &mut self.attached {
            Some(fill) if end_is_unknown || fill.reaches(self.position, patience) => {
                fill.place(self.position);
            }
            _ => self.attached = None,
        }
    }

    fn can_refetch(&self) -> bool {
        self.refetch.is_some() && self.response.head.part_validator().is_some()
    }

    /// Says that the response was fetched for this request and not found in the cache.
    pub fn just_fetched(mut self) -> Self {
        self.just_fetched = true;
        self
    }

    /// Says that the response was read from disk for this request.
    pub fn just_recalled(mut self) -> Self {
        self.just_recalled = true;
        self
    }

    /// The next bytes, left where they are when that is a file and `takes_files`; `None` at the end of the span.
    ///
    /// # Errors
    /// As [`BodyReader::next`].
    pub async fn next_piece(&mut self, takes_files: bool) -> Result<Option<Piece<'a>>, BodyError> {
        if let Some(whole) = self.take_whole() {
            return Ok(Some(Piece::Bytes(Cow::Borrowed(whole))));
        }
        let in_file = match takes_files {
            true => self.take_in_file(),
            false => None,
        };
        match in_file {
            Some(span) => Ok(Some(Piece::File(span))),
            None => Ok(self.next().await?.map(Piece::of_bytes)),
        }
    }

    /// The whole body, when that is asked for and lies in plain memory. It is not even counted a reference of: that
    /// count is one for all workers.
    fn take_whole(&mut self) -> Option<&'a Bytes> {
        if self.position > 0 || self.attached.is_some() {
            return None;
        }
        let whole = self.response.body.whole()?.in_plain_memory()?;
        let length = whole.len() as u64;
        if length == 0 || self.end.is_some_and(|end| end != length) {
            return None;
        }
        self.position = length;
        self.fruitless = 0;
        *self.stored_counter() += length;
        Some(whole)
    }

    /// Goes back by the last `bytes` of the piece in a file that was read last: they could not be sent
    /// from there.
    pub fn unread_from_file(&mut self, bytes: u64) {
        self.position -= bytes;
        match self.last_file_on_disk {
            true => self.from_disk -= bytes,
            false => *self.stored_counter() -= bytes,
        }
    }

    /// The next bytes; `None` at the end of the span.
    ///
    /// # Errors
    /// [`BodyError`] when the response cannot be completed.
    ///
    /// # Cancel safety
    /// Dropping the future loses no bytes.
    pub async fn next(&mut self) -> Result<Option<Bytes>, BodyError> {
        loop {
            if self.is_at_end() {
                return Ok(None);
            }
            if let Some(bytes) = self.take_from_tier() {
                self.attached = None;
                self.fruitless = 0;
                *self.stored_counter() += bytes.len() as u64;
                return Ok(Some(bytes));
            }
            if let Some(bytes) = self.take_from_disk().await {
                self.fruitless = 0;
                self.from_disk += bytes.len() as u64;
                return Ok(Some(bytes));
            }
            let Some(attached) = &mut self.attached else {
                self.attach()?;
                continue;
            };
            match attached.next().await {
                Step::Bytes(bytes) => {
                    let bytes = self.clip(bytes);
                    self.fruitless = 0;
                    self.from_origin += bytes.len() as u64;
                    return Ok(Some(bytes));
                }
                Step::Finished if self.end.is_none() && self.at_unknown_end() => return Ok(None),
                Step::Finished | Step::Elsewhere => {
                    self.attached = None;
                    let position = self.position;
                    // An origin that keeps sending less than it was asked for is not asked for ever.
                    self.count_fruitless(BodyError::Evicted { position })?;
                }
                Step::Failed(error) => {
                    self.attached = None;
                    if !self.can_refetch() || error == FillError::Changed {
                        return Err(error.into());
                    }
                    self.count_fruitless(error.into())?;
                }
                Step::Wait => {}
            }
        }
    }

    /// A body whose end was not known when the reading began gets a length when it is whole.
    fn is_at_end(&self) -> bool {
        let body = &self.response.body;
        let is_at = |end: u64| self.position >= end;
        if self.attached.is_some() && body.has_its_length_from_its_end() {
            // The fill says when it has come to its end: by then it is stored, too.
            return self
                .end
                .is_some_and(|end| is_at(end) && body.length() != Some(end));
        }
        self.end.or_else(|| body.length()).is_some_and(is_at)
    }

    /// A fill without known end has finished: is that the end of the body?
    fn at_unknown_end(&self) -> bool {
        self.response
            .body
            .length()
            .is_none_or(|length| self.position >= length)
    }

    fn count_fruitless(&mut self, error: BodyError) -> Result<(), BodyError> {
        self.fruitless += 1;
        if self.fruitless > FRUITLESS_FETCHES {
            return Err(error);
        }
        Ok(())
    }

    /// Counts what comes out of memory.
    fn stored_counter(&mut self) -> &mut u64 {
        match (self.just_fetched, self.just_recalled) {
            (true, _) => &mut self.from_origin,
            (false, true) if self.response.body.whole().is_some() => &mut self.from_disk,
            (false, _) => &mut self.from_memory,
        }
    }

    /// Takes what can be sent from a file at the position, unless a fill brings it. What lies in memory and in no
    /// file there is better sent from the disk tier's, when that has it too, than copied.
    fn take_in_file(&mut self) -> Option<FileSpan> {
        if self.attached.is_some() || self.is_at_end() {
            return None;
        }
        let blocks = self.cache.sizes.blocks;
        let number = blocks.block_of(self.position);
        let (mut span, is_on_disk) = self.block_file(number)?;
        span.skip(self.position - blocks.start_of(number));
        if let Some(end) = self.end {
            span.truncate(end - self.position);
        }
        let bytes = span.remaining();
        if bytes == 0 {
            return None;
        }
        self.fruitless = 0;
        self.position += bytes;
        self.last_file_on_disk = is_on_disk;
        match is_on_disk {
            true => self.from_disk += bytes,
            false => *self.stored_counter() += bytes,
        }
        Some(span)
    }

    /// The file that a block can be sent from, and whether that lies on disk.
    fn block_file(&self, number: u64) -> Option<(FileSpan, bool)> {
        let body = &self.response.body;
        // A body in one piece is at most a block long.
        if body.was_left_in_file() {
            return Some((self.whole_in_file.clone()?, true));
        }
        if let Some(whole) = body.whole() {
            return Some((whole.in_file(&self.cache.files)?, false));
        }
        let block = self.block_in_memory(number);
        match block.and_then(|block| block.in_file(&self.cache.files)) {
            Some(span) => Some((span, false)),
            None => Some((self.cache.block_in_file(body.generation, number)?, true)),
        }
    }

    /// The block, when memory has it; it is offered to the disk tier then.
    fn block_in_memory(&self, number: u64) -> Option<MemoryBlock> {
        let generation = self.response.body.generation;
        let block = self.cache.memory.block(generation, number)?;
        if let (Some(own), Some(refetch)) = (&self.cache.persistence, self.refetch) {
            own.keep_block(refetch.key(), self.response, number, &block.bytes(), false);
        }
        Some(block)
    }

    /// Takes what the disk tier holds at the position, unless a fill brings it.
    async fn take_from_disk(&mut self) -> Option<Bytes> {
        if self.response.body.was_left_in_file() {
            return self.read_left_in_file().await;
        }
        let blocks = self.cache.sizes.blocks;
        let number = blocks.block_of(self.position);
        let generation = self.response.body.generation;
        if self.attached.is_some()
            || self.not_on_disk == Some(number)
            || !self.cache.has_block_on_disk(generation, number)
        {
            return None;
        }
        let block = self.cache.recall_block(generation, number).await;
        // The offset inside a block is smaller than the block size.
        let skip = (self.position - blocks.start_of(number)) as usize;
        match block.filter(|block| skip < block.len()) {
            Some(block) => Some(self.clip(block.slice(skip..))),
            None => {
                self.not_on_disk = Some(number);
                None
            }
        }
    }

    /// Reads what could not be sent from its file after all, and lets that go.
    async fn read_left_in_file(&mut self) -> Option<Bytes> {
        if let Some(span) = self.whole_in_file.clone() {
            let read = tokio::task::spawn_blocking(move || span.read()).await;
            self.whole_in_file = None;
            self.read_from_file = read.ok()?.ok();
        }
        // A body that is left in one piece is at most a block long.
        let bytes = self.read_from_file.as_ref()?;
        let bytes = bytes.slice(self.position as usize..);
        Some(self.clip(bytes))
    }

    /// Takes what the tier holds at the position. While a fill brings these very bytes, the tier
    /// is not asked: it has them a moment before the response is what its key leads to
    /// (`stored-before-seen-whole`).
    fn take_from_tier(&mut self) -> Option<Bytes> {
        let body = &self.response.body;
        let blocks = self.cache.sizes.blocks;
        if self.attached.is_some() {
            return None;
        }
        if let Some(whole) = body.whole() {
            let start = (self.position as usize).min(whole.len());
            let bytes = whole.bytes().slice(start..);
            return (!bytes.is_empty()).then(|| self.clip(bytes));
        }
        let number = blocks.block_of(self.position);
        let block = self.block_in_memory(number)?;
        let block = block.bytes();
        // The offset inside a block is smaller than the block size.
        let skip = (self.position - blocks.start_of(number)) as usize;
        (skip < block.len()).then(|| self.clip(block.slice(skip..)))
    }

    /// Cuts at the end of the span and moves on.
    fn clip(&mut self, mut bytes: Bytes) -> Bytes {
        if let Some(end) = self.end {
            let room = end - self.position;
            if (bytes.len() as u64) > room {
                bytes.truncate(room as usize);
            }
        }
        self.position += bytes.len() as u64;
        bytes
    }

    /// Finds a fill that brings the position, or starts one for the missing blocks from here on.
    fn attach(&mut self) -> Result<(), BodyError> {
        let body = self.response.body.clone();
        let position = self.position;
        let sizes = self.cache.sizes;
        let (Some(end), true) = (self.end, self.can_refetch()) else {
            let under_way = body.with_fills(|fills| {
                let fill = fills.iter().find(|fill| fill.reaches(position, u64::MAX));
                fill.map(Fill::reader)
            });
            let Some(mut reader) = under_way else {
                return Err(BodyError::Evicted { position });
            };
            reader.place(position);
            self.attached = Some(reader);
            return Ok(());
        };
        let mut reader = body.with_fills(|fills| {
            if let Some(fill) = fills
                .iter()
                .find(|fill| fill.reaches(position, sizes.lead_bytes))
            {
                return Some(fill.reader());
            }
            // A block may have come in since we looked.
            if self
                .cache
                .memory
                .has_block(body.generation, sizes.blocks.block_of(position))
            {
                return None;
            }
            let (fill, writer) = Fill::new(sizes, &self.cache.windows);
            let reader = fill.reader();
            let refetch = self.refetch?;
            let production = SpanProduction {
                cache: self.cache.clone(),
                key: refetch.key().clone(),
                response: self.response.clone(),
                fill: fill.clone(),
                request: refetch.request(),
                origin: refetch.origin(),
                span: self.missing_from(position, end),
            };
            let mut writer = writer;
            writer.open_at(production.span.start);
            self.asked_bytes += production.span.end - production.span.start;
            self.cache.tasks.spawn(Box::pin(production.run(writer)));
            fills.push(fill);
            Some(reader)
        });
        if let Some(reader) = &mut reader {
            reader.place(position);
        }
        self.attached = reader;
        Ok(())
    }

    /// The run of missing blocks that starts at `position`'s, no further than the span needs.
    fn missing_from(&self, position: u64, end: u64) -> std::ops::Range<u64> {
        let body = &self.response.body;
        let blocks = self.cache.sizes.blocks;
        let first = blocks.block_of(position);
        let wanted = blocks.covering(&(position..end));
        let stop = (first + 1..wanted.end)
            .find(|number| self.cache.has_block(body.generation, *number))
            .unwrap_or(wanted.end);
        let length = body.length().unwrap_or(end);
        blocks.start_of(first)..blocks.end_of(stop - 1, length)
    }
}
