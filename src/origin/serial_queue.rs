//! Work that blocks, in the order in which it comes: [`SerialQueue`].

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Takes in pieces on a thread that may block.
pub(super) trait Worker: Send + 'static {
    /// What is taken in.
    type Piece: Send + 'static;
    /// Why no more is taken in.
    type Error: Send + 'static;

    /// Takes in the next piece. Blocks.
    ///
    /// # Errors
    /// The worker is lost with them.
    fn take_in(&mut self, piece: Self::Piece) -> Result<(), Self::Error>;
}

/// A worker and what waits for it. As long as something does, a thread for blocking work is at it and goes from one batch to
/// the next by itself; when nothing does, the worker has no thread. Dropped half-way it takes in no more and is dropped.
pub(super) struct SerialQueue<W: Worker> {
    shared: Arc<Shared<W>>,
}

/// Why a queue has no worker any more.
#[derive(Debug)]
pub(super) enum QueueError<E> {
    /// It took in no more.
    Failed(E),
    /// Its thread died: a bug of ours.
    Died,
}

struct Shared<W: Worker> {
    state: Mutex<State<W>>,
    /// Told after every batch.
    turned: Notify,
}

struct State<W: Worker> {
    place: Place<W>,
    waiting: VecDeque<Batch<W::Piece>>,
    /// Bytes of what waits and of what is being taken in.
    bytes: usize,
}

enum Place<W: Worker> {
    Idle(W),
    AtWork,
    Failed(W::Error),
    /// Its thread died, or its error has been given out.
    Gone,
}

struct Batch<P> {
    pieces: Vec<P>,
    bytes: usize,
}

impl<W: Worker> SerialQueue<W> {
    pub(super) fn new(worker: W) -> Self {
        SerialQueue {
            shared: Arc::new(Shared {
                state: Mutex::new(State {
                    place: Place::Idle(worker),
                    waiting: VecDeque::new(),
                    bytes: 0,
                }),
                turned: Notify::new(),
            }),
        }
    }

    /// Hands over pieces that have `bytes` together. Does not block; who hands over much waits for [`SerialQueue::room`] first.
    pub(super) fn push(&self, pieces: Vec<W::Piece>, bytes: usize) {
        let mut state = self.shared.lock();
        state.bytes += bytes;
        state.waiting.push_back(Batch { pieces, bytes });
        match std::mem::replace(&mut state.place, Place::AtWork) {
            Place::Idle(worker) => {
                let shared = Arc::clone(&self.shared);
                tokio::task::spawn_blocking(move || work(&shared, worker));
            }
            place => state.place = place,
        }
    }

    /// Waits until at most `limit_bytes` have not been taken in.
    ///
    /// # Errors
    /// [`QueueError`].
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub(super) async fn room(&self, limit_bytes: usize) -> Result<(), QueueError<W::Error>> {
        self.when(|state| (state.bytes <= limit_bytes).then_some(()))
            .await
    }

    /// Waits until everything has been taken in, and gives the worker back.
    ///
    /// # Errors
    /// [`QueueError`].
    pub(super) async fn finish(self) -> Result<W, QueueError<W::Error>> {
        self.when(|state| {
            let place = std::mem::replace(&mut state.place, Place::Gone);
            match place {
                Place::Idle(worker) => return Some(worker),
                place => state.place = place,
            }
            None
        })
        .await
    }

    async fn when<T>(
        &self,
        is_so: impl Fn(&mut State<W>) -> Option<T>,
    ) -> Result<T, QueueError<W::Error>> {
        loop {
            let turned = self.shared.turned.notified();
            {
                let mut state = self.shared.lock();
                match std::mem::replace(&mut state.place, Place::Gone) {
                    Place::Failed(error) => return Err(QueueError::Failed(error)),
                    Place::Gone => return Err(QueueError::Died),
                    place => state.place = place,
                }
                if let Some(so) = is_so(&mut state) {
                    return Ok(so);
                }
            }
            turned.await;
        }
    }
}

impl<W: Worker> Drop for SerialQueue<W> {
    fn drop(&mut self) {
        self.shared.lock().waiting.clear();
    }
}

impl<W: Worker> Shared<W> {
    fn lock(&self) -> MutexGuard<'_, State<W>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes in what waits until nothing does.
fn work<W: Worker>(shared: &Shared<W>, mut worker: W) {
    let mut end = End {
        shared,
        place: Some(Place::Gone),
    };
    loop {
        let batch = {
            let mut state = shared.lock();
            let Some(batch) = state.waiting.pop_front() else {
                state.place = Place::Idle(worker);
                end.place = None;
                return;
            };
            batch
        };
        for piece in batch.pieces {
            if let Err(error) = worker.take_in(piece) {
                end.place = Some(Place::Failed(error));
                return;
            }
        }
        shared.lock().bytes -= batch.bytes;
        shared.turned.notify_one();
    }
}

/// Says how the work ended, also when it did in a panic.
struct End<'a, W: Worker> {
    shared: &'a Shared<W>,
    place: Option<Place<W>>,
}

impl<W: Worker> Drop for End<'_, W> {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            self.shared.lock().place = place;
        }
        self.shared.turned.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Takes in a number when it is let; 0 is refused, and at 99 it panics.
    struct Gated {
        gate: mpsc::Receiver<()>,
        taken: Vec<u32>,
        gone: Option<mpsc::Sender<()>>,
    }

    impl Worker for Gated {
        type Piece = u32;
        type Error = &'static str;

        fn take_in(&mut self, piece: u32) -> Result<(), &'static str> {
            self.gate.recv().unwrap();
            match piece {
                0 => return Err("zero"),
                99 => panic!("a-test-panics"),
                piece => self.taken.push(piece),
            }
            Ok(())
        }
    }

    impl Drop for Gated {
        fn drop(&mut self) {
            if let Some(gone) = self.gone.take() {
                gone.send(()).unwrap();
            }
        }
    }

    fn gated() -> (mpsc::Sender<()>, SerialQueue<Gated>) {
        let (open, gate) = mpsc::channel();
        let worker = Gated {
            gate,
            taken: Vec::new(),
            gone: None,
        };
        (open, SerialQueue::new(worker))
    }

    #[tokio::test]
    async fn pieces_are_taken_in_order_and_room_is_what_has_not_been_taken_in() {
        let (open, queue) = gated();
        queue.push(vec![1, 2], 20);
        queue.push(vec![3], 10);
        queue.room(30).await.unwrap();
        {
            let room = queue.room(10);
            tokio::pin!(room);
            open.send(()).unwrap();
            assert!(futures_util::poll!(&mut room).is_pending(), "one of two");
            open.send(()).unwrap();
            room.await.unwrap();
        }
        open.send(()).unwrap();
        queue.room(0).await.unwrap();
        // Its thread may be gone by now, and comes again.
        queue.push(vec![4], 10);
        open.send(()).unwrap();
        let mut worker = queue.finish().await.unwrap();
        assert_eq!(std::mem::take(&mut worker.taken), [1, 2, 3, 4]);
    }

    #[tokio::test]
    async fn failure_is_told_once_and_to_whoever_waits() {
        let (open, queue) = gated();
        queue.push(vec![1, 0, 2], 30);
        let waiting = queue.room(0);
        (0..2).for_each(|_| open.send(()).unwrap());
        assert!(matches!(waiting.await, Err(QueueError::Failed("zero"))));
        // What comes after is nobody's.
        queue.push(vec![3], 10);
        assert!(matches!(queue.finish().await, Err(QueueError::Died)));
    }

    #[tokio::test]
    async fn panic_of_the_worker_is_told() {
        let (open, queue) = gated();
        queue.push(vec![99], 10);
        open.send(()).unwrap();
        assert!(matches!(queue.finish().await, Err(QueueError::Died)));
    }

    #[tokio::test]
    async fn dropped_queue_takes_in_no_further_batch_and_drops_its_worker() {
        let (open, gate) = mpsc::channel();
        let (tell, told) = mpsc::channel();
        let queue = SerialQueue::new(Gated {
            gate,
            taken: Vec::new(),
            gone: Some(tell),
        });
        queue.push(vec![1], 10);
        queue.push(vec![2], 10);
        drop(queue);
        // Only the first may be under way: a second would wait for ever.
        let _ = open.send(());
        told.recv().unwrap();
    }
}
