//! What waits for the writer.
//!
//! Invariant `requests-never-wait`: whoever hands something over goes on at once. When the disk is
//! slower than the fills, records are dropped and counted; erasures are never dropped.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::log::Record;

/// How long the writer waits for more when something has come. Waking it for each record costs the thread
/// that hands it over more than the record (`benches/README.md`, "Misses").
const GATHERING: Duration = Duration::from_millis(2);

/// So many bytes are written at once.
const GATHERED_BYTES: u64 = 1024 * 1024;

/// Something for the writer to do, in the order in which it was asked for.
pub(super) enum Order {
    /// Write a record.
    Write(Record),
    /// Take back all responses under this hash up to this generation.
    Erase {
        /// Of the cache key.
        hash: u64,
        /// The newest that was handed out when it was asked for.
        generation: u64,
    },
    /// Remove everything.
    Clear(Reply<Result<(), String>>),
    /// Write the footer, the index and the list of what was hot, and stop.
    Close(Vec<u8>, Reply<()>),
}

impl Order {
    fn is_waited_for(&self) -> bool {
        matches!(self, Order::Clear(_) | Order::Close(..))
    }
}

/// Where an answer goes.
pub(super) type Reply<T> = tokio::sync::oneshot::Sender<T>;

/// A queue bounded in bytes.
pub(super) struct Queue {
    state: Mutex<State>,
    wake: Condvar,
    limit_bytes: u64,
}

#[derive(Default)]
struct State {
    orders: VecDeque<Order>,
    /// Of the records among them, and of those that the writer has in hand.
    bytes: u64,
    /// Of the records that were taken last: they wait until the writer comes for more.
    in_hand_bytes: u64,
    /// Somebody waits for one of the orders.
    is_urgent: bool,
}

impl State {
    fn waiting_bytes(&self) -> u64 {
        self.bytes - self.in_hand_bytes
    }
}

/// The record was not taken: the queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

impl Queue {
    /// A queue for records of `limit_bytes` together.
    pub(super) fn new(limit_bytes: u64) -> Self {
        Queue {
            state: Mutex::default(),
            wake: Condvar::new(),
            limit_bytes,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_while<'q>(
        &self,
        state: MutexGuard<'q, State>,
        longest: Duration,
        condition: impl FnMut(&mut State) -> bool,
    ) -> MutexGuard<'q, State> {
        let waited = self.wake.wait_timeout_while(state, longest, condition);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Hands over a record.
    pub(super) fn write(&self, record: Record) -> Result<(), Full> {
        let bytes = record.bytes();
        let mut state = self.lock();
        if state.bytes + bytes > self.limit_bytes {
            return Err(Full);
        }
        let before_bytes = state.waiting_bytes();
        let is_first = state.orders.is_empty();
        state.bytes += bytes;
        state.orders.push_back(Order::Write(record));
        let is_enough = before_bytes < GATHERED_BYTES && before_bytes + bytes >= GATHERED_BYTES;
        drop(state);
        if is_first || is_enough {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Hands over anything else.
    pub(super) fn order(&self, order: Order) {
        let mut state = self.lock();
        // What nobody waits for is gathered like records are.
        let is_first = state.orders.is_empty();
        state.is_urgent |= order.is_waited_for();
        let wakes = is_first || state.is_urgent;
        state.orders.push_back(order);
        drop(state);
        if wakes {
            self.wake.notify_one();
        }
    }

    /// Whether records wait, or are being written.
    pub(super) fn has_records(&self) -> bool {
        self.lock().bytes > 0
    }

    /// Bytes of the records that wait, or are being written.
    pub(super) fn bytes(&self) -> u64 {
        self.lock().bytes
    }

    /// Takes the next orders: records and erasures that follow one another, up to `limit_bytes`, or
    /// one of the others alone. Waits up to `patience` for one, and then a moment for more. The records that were
    /// taken before have been dealt with when it is called.
    pub(super) fn take(&self, limit_bytes: u64, patience: Duration) -> Vec<Order> {
        let mut state = self.lock();
        state.bytes -= state.in_hand_bytes;
        state.in_hand_bytes = 0;
        if !patience.is_zero() {
            state = self.wait_while(state, patience, |state| state.orders.is_empty());
            state = self.wait_while(state, GATHERING, |state| {
                let is_enough = state.is_urgent || state.waiting_bytes() >= GATHERED_BYTES;
                !(state.orders.is_empty() || is_enough)
            });
        }
        let mut taken = Vec::new();
        let mut bytes = 0;
        while bytes < limit_bytes {
            match state.orders.front() {
                Some(Order::Write(record)) => bytes += record.bytes(),
                Some(Order::Erase { .. }) => {}
                Some(_) if taken.is_empty() => bytes = limit_bytes,
                Some(_) | None => break,
            }
            taken.extend(state.orders.pop_front());
        }
        state.is_urgent &= state.orders.iter().any(Order::is_waited_for);
        let records = taken.iter().map(|order| match order {
            Order::Write(record) => record.bytes(),
            _ => 0,
        });
        state.in_hand_bytes = records.sum();
        taken
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::cache::disk::format::Kind;

    fn record(body_bytes: usize) -> Record {
        Record {
            kind: Kind::Block,
            hash: 1,
            generation: 1,
            number: 1,
            head: Bytes::new(),
            body: Bytes::from(vec![7; body_bytes]),
            place: 1,
        }
    }

    #[test]
    fn what_comes_in_a_moment_is_taken_together_and_nobody_waits_longer_than_there_is_need() {
        const LONG: Duration = Duration::from_secs(3600);
        let queue = Queue::new(u64::MAX);
        std::thread::scope(|scope| {
            let taken = scope.spawn(|| queue.take(u64::MAX, LONG));
            // Enough at once, be it that the moment has passed between the two.
            queue.write(record(1)).unwrap();
            queue.write(record(GATHERED_BYTES as usize)).unwrap();
            assert!(!taken.join().unwrap().is_empty());
        });
        while queue.bytes() > 0 {
            queue.take(u64::MAX, Duration::ZERO);
        }
        queue.write(record(1)).unwrap();
        queue.write(record(1)).unwrap();
        assert_eq!(queue.take(u64::MAX, LONG).len(), 2);
        let (reply, _answer) = tokio::sync::oneshot::channel();
        queue.order(Order::Close(Vec::new(), reply));
        assert!(matches!(queue.take(1, LONG)[..], [Order::Close(..)]));
        assert!(!queue.lock().is_urgent);
    }

    #[test]
    fn records_wait_until_the_writer_comes_back() {
        let queue = Queue::new(1000);
        let record = || record(500);
        let bytes = record().bytes();
        assert_eq!(queue.write(record()), Ok(()));
        assert_eq!(queue.take(1, Duration::ZERO).len(), 1);
        assert!(queue.has_records());
        assert_eq!((queue.bytes(), queue.write(record())), (bytes, Err(Full)));
        assert!(queue.take(1, Duration::ZERO).is_empty());
        assert!(!queue.has_records());
        assert_eq!((queue.bytes(), queue.write(record())), (0, Ok(())));
    }
}
