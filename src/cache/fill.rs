//! One origin response on its way in: a writer pushes bytes, any number of readers follow.
//!
//! Invariants:
//! - `visible-only-when-complete`: only [`FillWriter::finish`] makes a fill finished. A writer that
//!   is dropped leaves it failed, so a body that broke off can never look whole.
//! - `bounded-lead`: the writer waits once it is [`Sizes::lead_bytes`] ahead of its fastest reader.
//! - `bounded-window`: bytes are kept for the slowest reader, but never more than
//!   [`Sizes::retained_bytes`] behind the newest; a reader that falls out of the window goes on from the
//!   tiers.
//! - `bounded-in-total`: while the windows of all fills hold more than their common limit
//!   ([`Windows`]), each keeps no more than a fill's lead and what the fastest reader is at.
//! - `no-gap`: bytes that are on their way into a tier stay in the window until they are there, so
//!   a reader that comes late finds every byte in one place or the other.
//!
//! Readers and writer wake each other by events. Dropping a reader at any await is safe: its slot
//! is freed and the writer looks again.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Buf, Bytes};
use tokio::sync::Notify;

use super::fetch::FetchError;
use super::sizes::Sizes;

/// Why a fill did not finish.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum FillError {
    /// The origin failed.
    #[error(transparent)]
    Origin(#[from] FetchError),
    /// The body ended before the length that the head announced.
    #[error("the origin ended the body after {received} of {expected} bytes")]
    Truncated {
        /// Announced bytes.
        expected: u64,
        /// Received bytes.
        received: u64,
    },
    /// The body went on after the length that the head announced.
    #[error("the origin sent {excess} bytes after the announced {expected}")]
    TooLong {
        /// Announced bytes.
        expected: u64,
        /// Bytes beyond, as far as they were looked at.
        excess: u64,
    },
    /// The object changed at the origin while it was being read in parts.
    #[error("the object changed at the origin")]
    Changed,
    /// The writer was dropped: nobody read any more, or the process is stopping.
    #[error("the fill was abandoned")]
    Abandoned,
}

/// The shared state of a fill.
pub struct Fill {
    sizes: Sizes,
    state: Mutex<State>,
    /// Wakes readers.
    progress: Notify,
    /// Wakes the writer.
    demand: Notify,
}

struct State {
    /// Offset of the first byte of this fill; known once the head arrived.
    start: u64,
    /// Chunks that follow one another, the first at `window_start`.
    window: VecDeque<Bytes>,
    window_start: u64,
    /// Offset after the newest byte.
    next: u64,
    /// Offset of the first byte that is still on its way into a tier.
    unstored: u64,
    outcome: Option<Result<(), FillError>>,
    readers: Vec<Slot>,
    windows: Arc<Windows>,
}

/// What the windows of all fills of a cache hold together.
#[derive(Debug)]
pub struct Windows {
    held_bytes: AtomicU64,
    limit_bytes: u64,
}

impl Windows {
    /// Windows that share `limit_bytes`.
    pub fn new(limit_bytes: u64) -> Arc<Self> {
        Arc::new(Windows {
            held_bytes: AtomicU64::new(0),
            limit_bytes,
        })
    }

    fn are_full(&self) -> bool {
        self.held_bytes.load(Ordering::Relaxed) > self.limit_bytes
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Slot {
    Free,
    /// Interested, but does not know yet where to read.
    Unplaced,
    At(u64),
}

impl State {
    fn positions(&self) -> impl Iterator<Item = u64> {
        self.readers.iter().filter_map(|slot| match slot {
            Slot::Free => None,
            Slot::Unplaced => Some(self.start),
            Slot::At(position) => Some(*position),
        })
    }

    /// Keeps `bounded-window`. Only the writer does this, once per chunk: a look at every reader's
    /// position is too dear to be taken by every reader.
    fn trim(&mut self, sizes: &Sizes) {
        let slowest = self.positions().min().unwrap_or(self.next);
        let fastest = self.positions().max().unwrap_or(self.next);
        let oldest = if self.windows.are_full() {
            // No less than a block, or what is on its way into a tier would not fit; and what the fastest reader
            // is at, since a chunk that is asked for within the lead may end beyond it.
            let lead_bytes = sizes.lead_bytes.max(sizes.blocks.bytes());
            self.next.saturating_sub(lead_bytes).min(fastest)
        } else {
            self.next.saturating_sub(sizes.retained_bytes)
        };
        let keep_from = slowest.min(self.unstored).max(oldest);
        while let Some(chunk) = self.window.front() {
            let chunk_end = self.window_start + chunk.len() as u64;
            if chunk_end > keep_from {
                break;
            }
            let len = chunk.len() as u64;
            self.windows.held_bytes.fetch_sub(len, Ordering::Relaxed);
            self.window_start = chunk_end;
            self.window.pop_front();
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        let held: u64 = self.window.iter().map(|chunk| chunk.len() as u64).sum();
        self.windows.held_bytes.fetch_sub(held, Ordering::Relaxed);
    }
}

/// What a reader finds at its position.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// These bytes; the position has moved past them.
    Bytes(Bytes),
    /// Nothing yet.
    Wait,
    /// The fill finished before this position.
    Finished,
    /// The position lies outside of what this fill holds or will hold.
    Elsewhere,
    /// The fill failed.
    Failed(FillError),
}

/// What has become of a byte that was waited for.
#[derive(Debug, PartialEq, Eq)]
pub enum Reached {
    /// It has arrived.
    Arrived,
    /// The body is whole and ends before it.
    Ended {
        /// Where: the length of the representation.
        length: u64,
    },
    /// The fill failed before it arrived.
    Failed(FillError),
}

/// What the writer finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Demand {
    /// A reader wants more.
    Wanted,
    /// Nobody reads.
    Unread,
}

impl Fill {
    /// A new fill and its only writer.
    pub fn new(sizes: Sizes, windows: &Arc<Windows>) -> (Arc<Self>, FillWriter) {
        let fill = Arc::new(Fill {
            sizes,
            state: Mutex::new(State {
                start: 0,
                window: VecDeque::new(),
                window_start: 0,
                next: 0,
                unstored: u64::MAX,
                outcome: None,
                readers: Vec::new(),
                windows: windows.clone(),
            }),
            progress: Notify::new(),
            demand: Notify::new(),
        });
        let writer = FillWriter { fill: fill.clone() };
        (fill, writer)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while the lock is held is a bug of ours; the state is still consistent enough
        // to be read as failed by everyone else.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a reader that does not know its position yet; it counts as interest.
    pub fn reader(self: &Arc<Self>) -> FillReader {
        let mut state = self.lock();
        let free = state.readers.iter().position(|slot| *slot == Slot::Free);
        let slot = free.unwrap_or_else(|| {
            state.readers.push(Slot::Free);
            state.readers.len() - 1
        });
        state.readers[slot] = Slot::Unplaced;
        drop(state);
        FillReader {
            fill: self.clone(),
            slot,
        }
    }

    /// Where this fill began, and the offset after its newest byte.
    pub fn span(&self) -> Range<u64> {
        let state = self.lock();
        state.start..state.next.max(state.start)
    }

    /// Whether this fill holds `position` or will within `patience` bytes more.
    pub fn reaches(&self, position: u64, patience: u64) -> bool {
        let state = self.lock();
        match &state.outcome {
            Some(_) => state.window_start <= position && position < state.next,
            None => {
                state.window_start <= position && position <= state.next.saturating_add(patience)
            }
        }
    }
}

/// A reader of a fill; dropping it withdraws its interest.
pub struct FillReader {
    fill: Arc<Fill>,
    slot: usize,
}

impl FillReader {
    /// Moves to `position`.
    pub fn place(&mut self, position: u64) {
        let mut state = self.fill.lock();
        state.readers[self.slot] = Slot::At(position);
        drop(state);
        self.fill.demand.notify_one();
    }

    /// See [`Fill::reaches`].
    pub fn reaches(&self, position: u64, patience: u64) -> bool {
        self.fill.reaches(position, patience)
    }

    /// The bytes that the fill holds: those that have arrived, but for what `bounded-window` let
    /// go.
    pub fn window(&self) -> Range<u64> {
        let state = self.fill.lock();
        state.window_start..state.next
    }

    /// Waits until the byte at `offset` has arrived or never will, and takes nothing. The offset
    /// must be less than the lead of a fill from this reader's position: the writer goes no further.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn reached(&mut self, offset: u64) -> Reached {
        loop {
            let progress = self.fill.progress.notified();
            tokio::pin!(progress);
            progress.as_mut().enable();
            {
                let state = self.fill.lock();
                match &state.outcome {
                    _ if offset < state.next => return Reached::Arrived,
                    Some(Ok(())) => return Reached::Ended { length: state.next },
                    Some(Err(error)) => return Reached::Failed(error.clone()),
                    None => {}
                }
            }
            progress.await;
        }
    }

    /// Takes what is there, without waiting.
    pub fn step(&mut self) -> Step {
        let mut state = self.fill.lock();
        let position = match state.readers[self.slot] {
            Slot::At(position) => position,
            Slot::Unplaced | Slot::Free => state.start,
        };
        if position < state.window_start {
            return Step::Elsewhere;
        }
        if position < state.next {
            let bytes = slice_at(&state.window, position - state.window_start);
            state.readers[self.slot] = Slot::At(position + bytes.len() as u64);
            drop(state);
            self.fill.demand.notify_one();
            return Step::Bytes(bytes);
        }
        match &state.outcome {
            None => Step::Wait,
            Some(Ok(())) => Step::Finished,
            Some(Err(error)) => Step::Failed(error.clone()),
        }
    }

    /// Waits until [`FillReader::step`] has something to say and says it.
    ///
    /// # Cancel safety
    /// Dropping the future loses no bytes.
    pub async fn next(&mut self) -> Step {
        loop {
            let fill = self.fill.clone();
            let progress = fill.progress.notified();
            tokio::pin!(progress);
            progress.as_mut().enable();
            match self.step() {
                Step::Wait => progress.await,
                step => return step,
            }
        }
    }
}

impl Drop for FillReader {
    fn drop(&mut self) {
        let mut state = self.fill.lock();
        state.readers[self.slot] = Slot::Free;
        drop(state);
        self.fill.demand.notify_one();
    }
}

/// The rest of the chunk that holds the byte at `skip` from the window's start.
fn slice_at(window: &VecDeque<Bytes>, mut skip: u64) -> Bytes {
    for chunk in window {
        let len = chunk.len() as u64;
        if skip < len {
            let mut bytes = chunk.clone();
            // `skip` is smaller than a chunk's length.
            bytes.advance(skip as usize);
            return bytes;
        }
        skip -= len;
    }
    Bytes::new()
}

/// The only writer of a fill.
pub struct FillWriter {
    fill: Arc<Fill>,
}

impl FillWriter {
    /// Says where the body that follows starts; before the first push.
    pub fn open_at(&mut self, start: u64) {
        let mut state = self.fill.lock();
        state.start = start;
        state.window_start = start;
        state.next = start;
    }

    /// Says that bytes from `offset` on are on their way into a tier (`no-gap`), and that those
    /// before it are there or will never be. Unless it is said, no byte is awaited there.
    pub fn unstored_from(&mut self, offset: u64) {
        self.fill.lock().unstored = offset;
    }

    /// Adds bytes and wakes the readers.
    pub fn push(&mut self, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        let mut state = self.fill.lock();
        let len = bytes.len() as u64;
        state.windows.held_bytes.fetch_add(len, Ordering::Relaxed);
        state.next += len;
        state.window.push_back(bytes);
        state.trim(&self.fill.sizes);
        drop(state);
        self.fill.progress.notify_waiters();
    }

    /// Waits until a reader wants more than was pushed and the `hidden_bytes` that the writer has at hand
    /// (`bounded-lead`), or nobody reads any more.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn demand(&mut self, hidden_bytes: u64) -> Demand {
        let lead_bytes = self.fill.sizes.lead_bytes;
        loop {
            {
                let state = self.fill.lock();
                match state.positions().max() {
                    None => return Demand::Unread,
                    Some(fastest)
                        if state.next + hidden_bytes < fastest.saturating_add(lead_bytes) =>
                    {
                        return Demand::Wanted;
                    }
                    Some(_) => {}
                }
            }
            self.fill.demand.notified().await;
        }
    }

    /// The body is whole and verified.
    pub fn finish(self) {
        self.end(Ok(()));
    }

    /// The body is not to be had.
    pub fn fail(self, error: FillError) {
        self.end(Err(error));
    }

    fn end(&self, outcome: Result<(), FillError>) {
        let mut state = self.fill.lock();
        if state.outcome.is_none() {
            state.outcome = Some(outcome);
        }
        drop(state);
        self.fill.progress.notify_waiters();
    }
}

impl Drop for FillWriter {
    fn drop(&mut self) {
        // Does nothing after `finish` or `fail`.
        self.end(Err(FillError::Abandoned));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: Sizes = Sizes::STANDARD;

    fn plenty() -> Arc<Windows> {
        Windows::new(u64::MAX)
    }

    fn bytes(step: Step) -> Bytes {
        match step {
            Step::Bytes(bytes) => bytes,
            other => panic!("expected bytes, found {other:?}"),
        }
    }

    #[tokio::test]
    async fn a_dropped_writer_leaves_a_failed_fill() {
        let (fill, mut writer) = Fill::new(SIZES, &plenty());
        let mut reader = fill.reader();
        writer.push(Bytes::from_static(b"abc"));
        drop(writer);
        assert_eq!(bytes(reader.next().await), "abc");
        assert_eq!(reader.next().await, Step::Failed(FillError::Abandoned));
    }

    #[tokio::test]
    async fn readers_follow_the_writer_from_their_own_positions() {
        let (fill, mut writer) = Fill::new(SIZES, &plenty());
        let (mut a, mut b) = (fill.reader(), fill.reader());
        b.place(4);
        writer.push(Bytes::from_static(b"abc"));
        writer.push(Bytes::from_static(b"defg"));
        assert_eq!(bytes(b.next().await), "efg");
        assert_eq!(bytes(a.next().await), "abc");
        assert_eq!(bytes(a.next().await), "defg");
        assert_eq!(a.step(), Step::Wait);
        writer.finish();
        assert_eq!(a.next().await, Step::Finished);
        assert_eq!(b.next().await, Step::Finished);
    }

    #[tokio::test]
    async fn a_waiting_reader_is_woken_by_each_push() {
        let (fill, mut writer) = Fill::new(SIZES, &plenty());
        let mut reader = fill.reader();
        let follower = tokio::spawn(async move {
            let mut all = Vec::new();
            while let Step::Bytes(bytes) = reader.next().await {
                all.extend_from_slice(&bytes);
            }
            all
        });
        for part in ["ab", "cd", "ef"] {
            tokio::task::yield_now().await;
            writer.push(Bytes::from_static(part.as_bytes()));
        }
        writer.finish();
        assert_eq!(follower.await.unwrap(), b"abcdef");
    }

    #[tokio::test]
    async fn a_reader_is_told_when_a_byte_arrives_or_never_will() {
        let (fill, mut writer) = Fill::new(SIZES, &plenty());
        let mut reader = fill.reader();
        let waiting = tokio::spawn(async move {
            let reached = reader.reached(3).await;
            (reached, reader)
        });
        writer.push(Bytes::from_static(b"abc"));
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        writer.push(Bytes::from_static(b"d"));
        let (reached, mut reader) = waiting.await.unwrap();
        assert_eq!((reached, reader.window()), (Reached::Arrived, 0..4));
        // Nothing was taken.
        assert_eq!(bytes(reader.step()), "abc");
        writer.finish();
        assert_eq!(reader.reached(3).await, Reached::Arrived);
        assert_eq!(reader.reached(4).await, Reached::Ended { length: 4 });

        let (fill, writer) = Fill::new(SIZES, &plenty());
        let mut reader = fill.reader();
        drop(writer);
        let failed = Reached::Failed(FillError::Abandoned);
        assert_eq!(reader.reached(0).await, failed);
    }

    #[tokio::test]
    async fn the_writer_waits_for_its_fastest_reader() {
        let (fill, mut writer) = Fill::new(SIZES, &plenty());
        let mut reader = fill.reader();
        writer.push(Bytes::from(vec![0; SIZES.lead_bytes as usize]));
        let waiting = tokio::spawn(async move {
            let demand = writer.demand(0).await;
            (demand, writer)
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        assert_eq!(bytes(reader.step()).len() as u64, SIZES.lead_bytes);
        let (demand, mut writer) = waiting.await.unwrap();
        assert_eq!(demand, Demand::Wanted);
        drop(reader);
        assert_eq!(writer.demand(0).await, Demand::Unread);
    }

    #[test]
    fn a_reader_that_falls_out_of_the_window_is_sent_elsewhere() {
        let (fill, mut writer) = Fill::new(SIZES, &plenty());
        let mut slow = fill.reader();
        let chunk = Bytes::from(vec![0; 1 << 20]);
        for _ in 0..=(SIZES.retained_bytes >> 20) {
            writer.push(chunk.clone());
        }
        assert_eq!(slow.step(), Step::Elsewhere);
        slow.place(1 << 20);
        assert_eq!(bytes(slow.step()).len(), 1 << 20);
    }

    #[test]
    fn bytes_on_their_way_into_a_tier_are_kept_for_late_readers() {
        let (fill, mut writer) = Fill::new(SIZES, &plenty());
        let mut reader = fill.reader();
        writer.unstored_from(0);
        writer.push(Bytes::from_static(b"abc"));
        bytes(reader.step());
        writer.push(Bytes::from_static(b"def"));
        assert!(fill.reaches(0, 0));
        assert_eq!(bytes(fill.reader().step()), "abc");
        bytes(reader.step());
        writer.unstored_from(6);
        writer.push(Bytes::from_static(b"ghi"));
        assert!(!fill.reaches(0, 0));
        assert!(fill.reaches(6, 0));
    }

    #[test]
    fn bytes_that_every_reader_has_are_let_go() {
        let (fill, mut writer) = Fill::new(SIZES, &plenty());
        let mut reader = fill.reader();
        writer.push(Bytes::from_static(b"abc"));
        writer.push(Bytes::from_static(b"def"));
        bytes(reader.step());
        writer.push(Bytes::from_static(b"ghi"));
        assert!(!fill.reaches(0, 0));
        assert!(fill.reaches(3, 0));
        assert!(!fill.reaches(10, 0));
        assert!(fill.reaches(10, 1));
    }

    #[tokio::test]
    async fn full_windows_keep_what_the_fastest_reader_is_at() {
        let (fill, mut writer) = Fill::new(SIZES, &Windows::new(0));
        let mut reader = fill.reader();
        let mut pushed = 0;
        // The last is asked for in one piece and shown in two: to the end of a block, and the rest.
        for lens in [
            vec![50_000],
            vec![SIZES.lead_bytes as usize - 50_001],
            vec![60_000, 10],
        ] {
            assert_eq!(writer.demand(0).await, Demand::Wanted);
            for len in lens {
                writer.push(Bytes::from(vec![0; len]));
                pushed += len;
            }
        }
        let mut read = 0;
        while read < pushed {
            read += bytes(reader.step()).len();
        }
        assert_eq!(read, pushed);
    }

    #[test]
    fn full_windows_keep_no_more_than_a_lead_each() {
        let windows = Windows::new(4 << 20);
        let chunk = Bytes::from(vec![0; 1 << 18]);
        let mut fills = Vec::new();
        for _ in 0..8 {
            let (fill, mut writer) = Fill::new(SIZES, &windows);
            let slow = fill.reader();
            let mut fast = fill.reader();
            for _ in 0..16 {
                writer.push(chunk.clone());
                bytes(fast.step());
            }
            fills.push((fill, writer, slow, fast));
        }
        // The first fills fill it; those that write on later give way.
        let held = windows.held_bytes.load(Ordering::Relaxed);
        assert!(
            held <= (4 << 20) + 8 * (SIZES.lead_bytes + (1 << 18)),
            "{held}"
        );
        assert!(fills[0].0.reaches(0, 0));
        assert!(!fills[7].0.reaches(0, 0));
        drop(fills);
        assert_eq!(windows.held_bytes.load(Ordering::Relaxed), 0);
    }
}
