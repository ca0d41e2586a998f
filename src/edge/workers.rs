//! The edge's workers: threads with a runtime each.
//!
//! A connection stays with the worker that it was given to, with every task that it starts. One runtime
//! whose threads take each other's tasks serves about half of the requests on another processor than the one before,
//! and every line of memory that a connection's state lies in follows it there (benches/README.md, "Workers").
//!
//! - `fewest-first`: a new connection goes to the worker that has the fewest.

use std::future::Future;
use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::sync::watch;

/// Threads for what would block, of all workers together, as a single runtime has by default.
const BLOCKING_THREADS: usize = 512;

/// However many workers there are, one may read from so many places of a slow disk at once.
const LEAST_BLOCKING_THREADS: usize = 32;

/// The workers of an edge. Clones are the same workers.
#[derive(Debug, Clone)]
pub struct Workers {
    each: Arc<[Worker]>,
    ended: Arc<watch::Sender<bool>>,
}

#[derive(Debug)]
struct Worker {
    runtime: Handle,
    /// That it was given and that have not ended.
    connections: Arc<AtomicUsize>,
}

impl Workers {
    /// Starts so many; they run until [`Workers::end`], or until no clone is left.
    ///
    /// # Errors
    /// When the system gives no more threads or file descriptors.
    pub fn start(count: NonZeroUsize) -> io::Result<Self> {
        let (ended, until) = watch::channel(false);
        let blocking = (BLOCKING_THREADS / count).max(LEAST_BLOCKING_THREADS);
        let each = (0..count.get()).map(|number| {
            let name = format!("edge-{number}");
            let runtime = Builder::new_current_thread()
                .thread_name(format!("{name}-io"))
                .max_blocking_threads(blocking)
                .enable_all()
                .build()?;
            let handle = runtime.handle().clone();
            let mut until = until.clone();
            thread::Builder::new().name(name).spawn(move || {
                let _ = runtime.block_on(until.wait_for(|ended| *ended));
                // Not waited for: what is still running has had its time.
                runtime.shutdown_background();
            })?;
            Ok(Worker {
                runtime: handle,
                connections: Arc::default(),
            })
        });
        Ok(Workers {
            each: each.collect::<io::Result<_>>()?,
            ended: Arc::new(ended),
        })
    }

    /// Has every worker drop its tasks and end. Waits for none.
    pub fn end(&self) {
        self.ended.send_replace(true);
    }

    /// The worker for the `number`th of several things that last as long as the edge, counted from 0.
    pub fn runtime(&self, number: usize) -> &Handle {
        &self.each[number % self.each.len()].runtime
    }

    /// A place at the worker that has the fewest connections; among equals at the `near`th, or the next one
    /// behind it.
    pub(super) fn place(&self, near: usize) -> Place<'_> {
        let workers = self.each.len();
        let in_turn = (0..workers).map(|step| (near + step) % workers);
        let load = |at: &usize| self.each[*at].connections.load(Ordering::Relaxed);
        let at = in_turn.min_by_key(load).unwrap_or_default();
        let worker = &self.each[at];
        worker.connections.fetch_add(1, Ordering::Relaxed);
        Place {
            runtime: &worker.runtime,
            is_near: at == near % workers,
            taken: Taken(worker.connections.clone()),
        }
    }
}

/// A connection's place at a worker.
#[must_use]
pub(super) struct Place<'a> {
    runtime: &'a Handle,
    is_near: bool,
    taken: Taken,
}

impl Place<'_> {
    /// Whether it is with the worker that was asked for.
    pub(super) fn is_near(&self) -> bool {
        self.is_near
    }

    /// Has the connection served there, which gives back what it took of the place in the end. It is made with that,
    /// since a future around it would hold room for it twice.
    pub(super) fn serve<F>(self, connection: impl FnOnce(Taken) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.runtime.spawn(connection(self.taken));
    }
}

/// A connection counts for its worker while this lives.
pub(super) struct Taken(Arc<AtomicUsize>);

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::thread::ThreadId;

    use tokio::sync::{mpsc, oneshot};

    use super::*;

    /// A connection that tells which thread serves it, and ends when its sender is dropped.
    fn connection(
        workers: &Workers,
        near: usize,
        told: &mpsc::UnboundedSender<ThreadId>,
    ) -> oneshot::Sender<()> {
        let (open, until) = oneshot::channel();
        let told = told.clone();
        workers.place(near).serve(|taken| async move {
            told.send(thread::current().id()).unwrap();
            let _ = until.await;
            drop(taken);
        });
        open
    }

    #[test]
    fn connections_go_to_the_worker_that_has_the_fewest() {
        let workers = Workers::start(NonZeroUsize::new(3).unwrap()).unwrap();
        let (told, mut threads) = mpsc::unbounded_channel();
        let mut open = HashMap::<ThreadId, Vec<oneshot::Sender<()>>>::new();
        for near in [0, 0, 0, 1, 1, 1] {
            let sender = connection(&workers, near, &told);
            open.entry(threads.blocking_recv().unwrap())
                .or_default()
                .push(sender);
        }
        assert_eq!(open.values().map(Vec::len).collect::<Vec<_>>(), [2, 2, 2]);

        let emptied = *open.keys().next().unwrap();
        drop(open.remove(&emptied));
        let has_some = |worker: &Worker| worker.connections.load(Ordering::Relaxed) > 0;
        while workers.each.iter().all(has_some) {
            thread::yield_now();
        }
        let _open = connection(&workers, 0, &told);
        assert_eq!(threads.blocking_recv().unwrap(), emptied);
    }

    #[test]
    fn what_a_connection_starts_stays_with_its_worker() {
        let workers = Workers::start(NonZeroUsize::new(2).unwrap()).unwrap();
        let (told, threads) = std::sync::mpsc::channel();
        workers.place(0).serve(|_taken| async move {
            let here = thread::current().id();
            let started = tokio::spawn(async { thread::current().id() });
            told.send((here, started.await.unwrap())).unwrap();
        });
        let (connection, started) = threads.recv().unwrap();
        assert_eq!(connection, started);
    }

    #[test]
    fn whatever_still_runs_is_dropped_in_the_end() {
        let workers = Workers::start(NonZeroUsize::new(2).unwrap()).unwrap();
        let (ended, dropped) = std::sync::mpsc::channel::<()>();
        let held = (ended, workers.clone());
        workers.runtime(1).spawn(async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        let not_yet = Err(std::sync::mpsc::TryRecvError::Empty);
        assert_eq!(dropped.try_recv(), not_yet);
        workers.end();
        assert_eq!(dropped.recv(), Err(std::sync::mpsc::RecvError));
    }
}
