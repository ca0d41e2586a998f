//! Long bodies beside short ones on the same thread.

/// How much of a body is moved before others have their turn. Receiving and sending as much takes about as
/// long as ten small hits, and what was received is still in the processor's second cache when it is
/// sent: with a MiB at a time the large body was slower, too (`benches/README.md`).
const TURN_BYTES: u64 = 64 * 1024;

/// How much a task has moved since the others had their turn.
///
/// A connection that gives or takes all that it is asked for never makes its task wait, and a task that
/// never waits keeps its thread, and the thread from looking for requests that have come in.
#[derive(Debug, Default)]
pub struct Turn {
    moved_bytes: u64,
}

impl Turn {
    /// Notes that `bytes` were moved, and lets the others go first when it was enough.
    ///
    /// # Cancel safety
    /// Dropping the future may forget what was noted, nothing else.
    pub async fn moved(&mut self, bytes: u64) {
        self.moved_bytes += bytes;
        if self.moved_bytes >= TURN_BYTES {
            self.moved_bytes = 0;
            tokio::task::yield_now().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[tokio::test]
    async fn others_have_their_turn_whenever_enough_was_moved() {
        let turns = Cell::new(0);
        let long = async {
            let mut turn = Turn::default();
            for _ in 0..10 {
                turn.moved(TURN_BYTES / 2).await;
            }
            turns.get()
        };
        let other = async {
            loop {
                turns.set(turns.get() + 1);
                tokio::task::yield_now().await;
            }
        };
        let seen: i32 = tokio::select! {
            biased;
            seen = long => seen,
            () = other => 0,
        };
        assert_eq!(seen, 5);
    }
}
