//! What waits for the writer.
//!
//! Invariant `requests-never-wait`: whoever hands something over goes on at once. When the disk is
//! slower than the fills, records are dropped and counted; erasures are never dropped.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::log::Record;

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

    /// Hands over a record.
    pub(super) fn write(&self, record: Record) -> Result<(), Full> {
        let bytes = record.bytes();
        let mut state = self.lock();
        if state.bytes + bytes > self.limit_bytes {
            return Err(Full);
        }
        state.bytes += bytes;
        state.orders.push_back(Order::Write(record));
        drop(state);
        self.wake.notify_one();
        Ok(())
    }

    /// Hands over anything else.
    pub(super) fn order(&self, order: Order) {
        self.lock().orders.push_back(order);
        self.wake.notify_one();
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
    /// one of the others alone. Waits up to `patience` for one. The records that were taken before
    /// have been dealt with when it is called.
    pub(super) fn take(&self, limit_bytes: u64, patience: Duration) -> Vec<Order> {
        let mut state = self.lock();
        state.bytes -= state.in_hand_bytes;
        state.in_hand_bytes = 0;
        if state.orders.is_empty() && !patience.is_zero() {
            let waited = self
                .wake
                .wait_timeout_while(state, patience, |state| state.orders.is_empty());
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
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

    #[test]
    fn records_wait_until_the_writer_comes_back() {
        let queue = Queue::new(1000);
        let record = || Record {
            kind: Kind::Block,
            hash: 1,
            generation: 1,
            number: 1,
            head: Bytes::new(),
            body: Bytes::from_static(&[7; 500]),
            place: 1,
        };
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
