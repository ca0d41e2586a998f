//! Who does what only one process may: [`Coord`]. [`Alone`] is the implementation for one machine.
//!
//! `ownership-is-speed`: a term that is over while its holder has not heard of it yet makes work be done twice, never wrong.
//! What must not be wrong is decided in the transaction of a commit, which knows the epoch of whoever asks for it.

use std::fs::File;
use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;

/// Agrees with the other processes that have the same store.
#[async_trait]
pub trait Coord: Send + Sync + 'static {
    /// The epoch of this process: no other has had or will have it, and its blobs and commits carry it.
    fn epoch(&self) -> i64;

    /// Waits until this process is the one that looks after the store.
    ///
    /// # Cancel safety
    /// Dropped it gives up what it waited for.
    async fn lead(&self) -> Term;

    /// Lets go of everything, so that nobody has to wait for it. Blocks no longer than the system does.
    ///
    /// # Errors
    /// It is held until the process ends.
    fn resign(&self) -> io::Result<()>;
}

/// As long as it is not over, this process looks after the store.
#[derive(Debug)]
pub struct Term(watch::Receiver<bool>);

impl Term {
    /// A term that is over when `over` holds true; never, when its sender has gone without a word.
    pub fn new(over: watch::Receiver<bool>) -> Self {
        Term(over)
    }

    /// Returns when it is over.
    pub async fn over(&mut self) {
        if self.0.wait_for(|is_over| *is_over).await.is_err() {
            std::future::pending().await
        }
    }
}

/// Does `work` in every term of this process, from its beginning, until it ends by itself.
pub async fn in_terms<W: Future<Output = ()>>(coord: &dyn Coord, mut work: impl FnMut() -> W) {
    loop {
        let mut term = coord.lead().await;
        tokio::select! {
            () = work() => return,
            () = term.over() => tracing::info!("another process looks after the store"),
        }
    }
}

/// A process that has a folder for itself: the lock on a file in it says so, and the database has counted an epoch for it.
#[derive(Debug)]
pub struct Alone {
    lock: Arc<File>,
    epoch: i64,
}

impl Alone {
    /// For whoever holds `lock` in this epoch.
    pub(super) fn new(lock: Arc<File>, epoch: i64) -> Self {
        Alone { lock, epoch }
    }
}

#[async_trait]
impl Coord for Alone {
    fn epoch(&self) -> i64 {
        self.epoch
    }

    async fn lead(&self) -> Term {
        let (_, over) = watch::channel(false);
        Term::new(over)
    }

    fn resign(&self) -> io::Result<()> {
        self.lock.unlock()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::{Mutex, mpsc};

    use super::*;

    /// Hands out the terms that a test makes.
    struct Scripted(Mutex<mpsc::Receiver<Term>>);

    #[async_trait]
    impl Coord for Scripted {
        fn epoch(&self) -> i64 {
            1
        }

        async fn lead(&self) -> Term {
            let next = self.0.lock().await.recv().await;
            next.expect("a term comes")
        }

        fn resign(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn work_begins_with_a_term_stops_with_it_and_begins_anew_with_the_next() {
        let (give, terms) = mpsc::channel(1);
        let coord = Scripted(Mutex::new(terms));
        let (begun, under_way) = (AtomicUsize::new(0), Arc::new(()));
        let (tell, mut told) = mpsc::channel(1);
        let work = || async {
            let _is_under_way = Arc::clone(&under_way);
            begun.fetch_add(1, Ordering::Relaxed);
            tell.send(()).await.unwrap();
            if begun.load(Ordering::Relaxed) < 2 {
                std::future::pending::<()>().await;
            }
        };
        let script = async {
            let (end, over) = watch::channel(false);
            assert_eq!(begun.load(Ordering::Relaxed), 0, "before any term");
            give.send(Term::new(over)).await.unwrap();
            told.recv().await.unwrap();
            assert_eq!(Arc::strong_count(&under_way), 2);
            end.send(true).unwrap();
            let (_, over) = watch::channel(false);
            give.send(Term::new(over)).await.unwrap();
            told.recv().await.unwrap();
        };
        tokio::join!(in_terms(&coord, work), script);
        assert_eq!(begun.load(Ordering::Relaxed), 2);
        assert_eq!(Arc::strong_count(&under_way), 1, "the first was dropped");
    }
}
