//! Lines on their way to the access log's writer.
//!
//! - `requests-never-wait`: each worker has a buffer of its own. The writer takes the buffers one at a
//!   time, and a worker that finds its buffer taken uses the next one.
//! - `counted-or-written`: a line that is taken in reaches the writer; all others are refused.
//! - `in-order`: the lines of a batch are in the order in which their requests ended.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::SystemTime;

use super::sharded::thread_number;

/// What one buffer may hold: some thousands of lines, half a second or so of a busy worker.
pub(super) const BUFFER_BYTES: usize = 4 << 20;

/// A batch of this size is worth a write of its own; before that, the writer may wait for more.
const BATCH_BYTES: usize = 64 << 10;

/// What workers fill and the writer empties.
#[derive(Debug)]
pub(super) struct LineQueue {
    buffers: Box<[Buffer]>,
    /// The writer sleeps until it is woken. Workers write it only to wake the writer.
    asleep: AtomicBool,
}

/// Two cache lines apart from its neighbours, which other workers write: processors fetch lines in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Buffer(Mutex<Lines>);

#[derive(Debug, Default)]
struct Lines {
    text: Vec<u8>,
    places: Vec<Place>,
    closed: bool,
}

/// A line in the text of its buffer.
#[derive(Debug, Clone)]
struct Place {
    /// When the request ended.
    ended: SystemTime,
    bytes: Range<usize>,
}

/// What became of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// It waits for the writer, who will look by itself.
    In,
    /// The same, and the writer must be woken.
    InWakeWriter,
    /// It is lost: its buffer is full or the queue is closed.
    Not,
}

/// What the writer took at once.
#[derive(Debug, Default)]
pub(super) struct Batch {
    text: Vec<u8>,
    places: Vec<Place>,
    /// The text in another order, when it has to be changed.
    sorted: Vec<u8>,
}

impl LineQueue {
    /// A queue for as many workers as can run at a time, with a buffer left over for whoever finds the
    /// writer at its own.
    pub(super) fn new() -> Self {
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        Self::with_buffers(workers + 1)
    }

    fn with_buffers(count: usize) -> Self {
        LineQueue {
            buffers: (0..count).map(|_| Buffer::default()).collect(),
            asleep: AtomicBool::new(false),
        }
    }

    /// Takes in the line of a request that `ended`.
    pub(super) fn push(&self, line: &[u8], ended: SystemTime) -> Taken {
        let mut lines = self.free_buffer();
        let start = lines.text.len();
        let end = start + line.len();
        if lines.closed || end > BUFFER_BYTES {
            return Taken::Not;
        }
        lines.text.extend_from_slice(line);
        let bytes = start..end;
        lines.places.push(Place { ended, bytes });
        drop(lines);
        let worth_a_write = start < BATCH_BYTES && end >= BATCH_BYTES;
        // Read first: a store would take the cache line away from the other workers.
        let asleep = self.asleep.load(Ordering::Acquire) && self.stay_awake();
        if worth_a_write || asleep {
            Taken::InWakeWriter
        } else {
            Taken::In
        }
    }

    /// The buffer of this thread; the next one that is free while somebody else has it.
    fn free_buffer(&self) -> MutexGuard<'_, Lines> {
        let own = thread_number() % self.buffers.len();
        let (before, after) = self.buffers.split_at(own);
        for buffer in after.iter().chain(before) {
            match buffer.0.try_lock() {
                Ok(lines) => return lines,
                Err(TryLockError::Poisoned(poisoned)) => return poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => {}
            }
        }
        // More threads than processors: one of them was stopped in the middle of a copy.
        self.buffers[own].lock()
    }

    /// Nothing is taken in any more.
    pub(super) fn close(&self) {
        for buffer in &self.buffers {
            buffer.lock().closed = true;
        }
    }

    /// Announces that the writer is going to sleep; whoever brings a line from now on must wake it.
    /// Gives whether it may: nothing has come meanwhile.
    ///
    /// A worker whose line is not seen here took its buffer's lock later, and so sees the announcement.
    pub(super) fn may_sleep(&self) -> bool {
        self.asleep.store(true, Ordering::Release);
        let nothing = |buffer: &Buffer| buffer.lock().text.is_empty();
        let may = self.buffers.iter().all(nothing);
        if !may {
            self.asleep.store(false, Ordering::Relaxed);
        }
        may
    }

    /// Takes the announcement back and says whether it stood.
    pub(super) fn stay_awake(&self) -> bool {
        self.asleep.swap(false, Ordering::AcqRel)
    }

    /// Moves all lines into `batch`, which is empty.
    pub(super) fn take(&self, batch: &mut Batch) {
        let mut sources = 0;
        for buffer in &self.buffers {
            let mut lines = buffer.lock();
            if lines.text.is_empty() {
                continue;
            }
            sources += 1;
            if sources == 1 {
                std::mem::swap(&mut batch.text, &mut lines.text);
                std::mem::swap(&mut batch.places, &mut lines.places);
            } else {
                batch.append(&lines);
                lines.text.clear();
                lines.places.clear();
            }
        }
        if sources > 1 {
            batch.sort();
        }
    }

    /// How many lines wait.
    pub(super) fn waiting(&self) -> usize {
        let waiting = |buffer: &Buffer| buffer.lock().places.len();
        self.buffers.iter().map(waiting).sum()
    }
}

impl Buffer {
    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Batch {
    /// The lines.
    pub(super) fn text(&self) -> &[u8] {
        &self.text
    }

    /// How many lines there are.
    pub(super) fn count(&self) -> usize {
        self.places.len()
    }

    /// Forgets the lines and keeps the room.
    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.places.clear();
    }

    fn append(&mut self, lines: &Lines) {
        let before = self.text.len();
        self.text.extend_from_slice(&lines.text);
        self.places.extend(lines.places.iter().map(|place| Place {
            ended: place.ended,
            bytes: place.bytes.start + before..place.bytes.end + before,
        }));
    }

    /// Each buffer is in order, more or less, which this kind of sort makes use of.
    fn sort(&mut self) {
        self.places.sort_by_key(|place| place.ended);
        self.sorted.clear();
        for place in &self.places {
            self.sorted
                .extend_from_slice(&self.text[place.bytes.clone()]);
        }
        std::mem::swap(&mut self.text, &mut self.sorted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    fn at(second: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(second)
    }

    fn taken(queue: &LineQueue) -> (String, usize) {
        let mut batch = Batch::default();
        queue.take(&mut batch);
        let text = String::from_utf8(batch.text().to_vec()).unwrap();
        (text, batch.count())
    }

    #[test]
    fn lines_of_all_buffers_come_out_in_the_order_of_their_ends() {
        let queue = LineQueue::with_buffers(3);
        let own = thread_number() % 3;
        assert_eq!(queue.push(b"2\n", at(2)), Taken::In);
        assert_eq!(queue.push(b"four\n", at(4)), Taken::In);
        {
            let _writer_is_here = queue.buffers[own].lock();
            queue.push(b"one\n", at(1));
            queue.push(b"3\n", at(3));
            let _and_somebody_there = queue.buffers[(own + 1) % 3].lock();
            queue.push(b"five\n", at(5));
        }
        assert_eq!(queue.waiting(), 5);
        let text = "one\n2\n3\nfour\nfive\n".to_owned();
        assert_eq!(taken(&queue), (text, 5));
        assert_eq!(queue.waiting(), 0);
        queue.push(b"6\n", at(6));
        assert_eq!(taken(&queue), ("6\n".to_owned(), 1));
    }

    #[test]
    fn the_writer_is_woken_out_of_its_sleep_and_by_what_is_worth_a_write() {
        let queue = LineQueue::with_buffers(2);
        assert!(queue.may_sleep());
        assert_eq!(queue.push(b"1\n", at(1)), Taken::InWakeWriter);
        assert_eq!(queue.push(b"2\n", at(2)), Taken::In, "it is on its way");
        assert!(!queue.may_sleep());
        assert_eq!(queue.push(b"3\n", at(3)), Taken::In);
        let filling = vec![b'x'; BATCH_BYTES - 7];
        assert_eq!(queue.push(&filling, at(4)), Taken::In);
        assert_eq!(queue.push(b"5", at(5)), Taken::InWakeWriter);
        assert_eq!(queue.push(b"6", at(6)), Taken::In, "it knows already");
    }

    #[test]
    fn a_line_that_has_no_room_or_comes_too_late_is_refused() {
        let queue = LineQueue::with_buffers(2);
        let filling = vec![b'x'; BUFFER_BYTES - 1];
        assert_ne!(queue.push(&filling, at(1)), Taken::Not);
        assert_eq!(queue.push(b"xy", at(2)), Taken::Not);
        assert_eq!(queue.push(b"x", at(2)), Taken::In);
        assert_eq!(queue.push(b"x", at(3)), Taken::Not);
        assert_eq!(taken(&queue).1, 2);
        queue.close();
        assert_eq!(queue.push(b"x", at(4)), Taken::Not);
        assert_eq!(taken(&queue).1, 0);
    }
}
