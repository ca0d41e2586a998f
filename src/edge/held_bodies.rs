//! Bodies of requests on one HTTP/2 connection, of which one can keep the others from coming.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::SharedClock;

/// How long the bodies that come on one HTTP/2 connection were left unread. They share one window (RFC 9113
/// §5.2): while the edge has one of them wait for its origin, the client may not be able to send any other.
#[derive(Debug, Default)]
pub(super) struct HeldUp(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    bodies: usize,
    /// When the first of them came to be, by the monotonic clock.
    since: Duration,
    /// What was over before that.
    total: Duration,
}

impl HeldUp {
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A body is left unread from `now` on.
    fn begin(&self, now: Duration) {
        let mut held = self.lock();
        if held.bodies == 0 {
            held.since = now;
        }
        held.bodies += 1;
    }

    /// It is not any more.
    fn end(&self, now: Duration) {
        let held = &mut *self.lock();
        held.bodies -= 1;
        if held.bodies == 0 {
            held.total += now.saturating_sub(held.since);
        }
    }

    /// For how long at least one was, up to `now`.
    pub(super) fn total(&self, now: Duration) -> Duration {
        let held = self.lock();
        match held.bodies {
            0 => held.total,
            _ => held.total + now.saturating_sub(held.since),
        }
    }
}

/// One body that is either awaited or held up.
pub(super) struct HeldBody {
    held_up: Arc<HeldUp>,
    clock: SharedClock,
    is_held: bool,
}

impl HeldBody {
    /// One that nobody reads yet.
    pub(super) fn new(held_up: Arc<HeldUp>, clock: SharedClock) -> Self {
        held_up.begin(clock.monotonic());
        HeldBody {
            held_up,
            clock,
            is_held: true,
        }
    }

    fn set(&mut self, is_held: bool) {
        if self.is_held == is_held {
            return;
        }
        self.is_held = is_held;
        let now = self.clock.monotonic();
        match is_held {
            true => self.held_up.begin(now),
            false => self.held_up.end(now),
        }
    }

    /// All that has come was read: its client is to send more, or has sent it all.
    pub(super) fn is_awaited(&mut self) {
        self.set(false);
    }

    /// Something has come, and is on its way to the origin.
    pub(super) fn is_held(&mut self) {
        self.set(true);
    }
}

impl Drop for HeldBody {
    fn drop(&mut self) {
        self.set(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_in_which_any_body_was_held_up_is_counted_once() {
        let ms = Duration::from_millis;
        let held_up = HeldUp::default();
        assert_eq!(held_up.total(ms(5)), ms(0));
        held_up.begin(ms(10));
        held_up.begin(ms(20));
        assert_eq!(held_up.total(ms(30)), ms(20));
        held_up.end(ms(40));
        held_up.end(ms(50));
        assert_eq!(held_up.total(ms(90)), ms(40));
        held_up.begin(ms(100));
        assert_eq!(held_up.total(ms(101)), ms(41));
    }
}
