//! How slowly a client may send or take: an average over the time that was spent waiting for it.
//!
//! A client that dribbles a byte before every timeout would never run into one. Time counts only while the
//! edge waits for this client and for nobody else, so that a slow origin is nobody's fault but its own; what
//! has moved quickly before is credit for a short pause. No timer runs unless something is waited for, and it is
//! set again only when it has gone off too early.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Sleep, sleep};

use super::held_bodies::HeldUp;
use crate::clock::SharedClock;
use crate::config::MinRate;

/// What was earned before is worth a pause of this many times the patience, and no more: the system takes
/// megabytes for a client that takes nothing.
const MOST_CREDIT: u32 = 6;

/// How one client is doing in one direction: a bucket of time, filled by what moves. Pure.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    rate: MinRate,
    left: Duration,
}

impl Pace {
    pub(super) fn new(rate: MinRate) -> Self {
        Pace {
            rate,
            left: rate.patience,
        }
    }

    /// How long it may still be waited for; zero when it is too slow.
    pub(super) fn allowance(&self) -> Duration {
        self.left
    }

    /// So much has moved after so long a wait.
    pub(super) fn moved(&mut self, bytes: u64, waited: Duration) {
        let earned = u128::from(bytes) * 1_000_000_000 / u128::from(self.rate.bytes.get());
        let earned = Duration::from_nanos(u64::try_from(earned).unwrap_or(u64::MAX));
        let most = self.rate.patience.saturating_mul(MOST_CREDIT);
        self.left = (self.left.saturating_sub(waited))
            .saturating_add(earned)
            .min(most);
    }
}

/// Tells those who answer for a request that its client was cut off.
#[derive(Debug, Clone, Default)]
pub(super) struct TooSlow(Arc<AtomicBool>);

impl TooSlow {
    pub(super) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// An alarm is not set for less than this: where time stands still, one that goes off is set again.
const SHORTEST_ALARM: Duration = Duration::from_millis(10);

/// A [`Pace`] for one direction of a stream that is polled.
pub(super) struct PolledPace {
    pace: Option<Pace>,
    /// The longest that nothing at all may move.
    silence: Duration,
    clock: SharedClock,
    /// While these are held up, no time passes.
    held_up: Option<Arc<HeldUp>>,
    waiting_since: Option<Duration>,
    alarm: Option<Pin<Box<Sleep>>>,
    too_slow: TooSlow,
}

impl PolledPace {
    pub(super) fn new(rate: MinRate, clock: SharedClock, too_slow: TooSlow) -> Self {
        PolledPace {
            pace: Some(Pace::new(rate)),
            silence: Duration::MAX,
            clock,
            held_up: None,
            waiting_since: None,
            alarm: None,
            too_slow,
        }
    }

    /// For a body on a connection where the window may be taken by those that are `held_up`.
    pub(super) fn of_body(
        rate: Option<MinRate>,
        silence: Duration,
        clock: SharedClock,
        held_up: Arc<HeldUp>,
        too_slow: TooSlow,
    ) -> Self {
        PolledPace {
            pace: rate.map(Pace::new),
            silence,
            clock,
            held_up: Some(held_up),
            waiting_since: None,
            alarm: None,
            too_slow,
        }
    }

    /// The time that may be held against the client.
    fn now(&self) -> Duration {
        let now = self.clock.monotonic();
        let held = self.held_up.as_ref();
        now.saturating_sub(held.map_or(Duration::ZERO, |held| held.total(now)))
    }

    /// Something has moved.
    pub(super) fn moved(&mut self, bytes: usize) {
        let since = self.waiting_since.take();
        let waited = since.map_or(Duration::ZERO, |since| self.now().saturating_sub(since));
        if let Some(pace) = &mut self.pace {
            pace.moved(bytes as u64, waited);
        }
    }

    /// The client has to be waited for; ready when it is too slow.
    pub(super) fn poll_too_slow(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let allowance = self.pace.map_or(Duration::MAX, |pace| pace.allowance());
        let allowance = allowance.min(self.silence);
        loop {
            let now = self.now();
            let since = *self.waiting_since.get_or_insert(now);
            let left = allowance.saturating_sub(now.saturating_sub(since));
            if left.is_zero() {
                self.too_slow.set();
                return Poll::Ready(());
            }
            let left = left.max(SHORTEST_ALARM);
            let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep(left)));
            if alarm.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            // It was set for what was known then.
            self.alarm = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU64;

    fn pace(bytes: u64, patience_ms: u64) -> Pace {
        Pace::new(MinRate {
            bytes: NonZeroU64::new(bytes).unwrap(),
            patience: Duration::from_millis(patience_ms),
        })
    }

    #[test]
    fn a_client_may_be_waited_for_as_long_as_its_bytes_are_worth() {
        let ms = Duration::from_millis;
        let mut pace = pace(1_000, 500);
        assert_eq!(pace.allowance(), ms(500));
        pace.moved(0, ms(499));
        assert_eq!(pace.allowance(), ms(1));
        // A second's worth of bytes.
        pace.moved(1_000, ms(1));
        assert_eq!(pace.allowance(), ms(1_000));
        pace.moved(0, ms(1_000));
        assert_eq!(pace.allowance(), ms(0));
        // What the system takes at once is no credit for an hour.
        pace.moved(u64::MAX, ms(0));
        assert_eq!(pace.allowance(), ms(3_000));
    }

    #[test]
    fn one_byte_at_a_time_is_no_way_around() {
        let mut pace = pace(1_000, 500);
        let wait = Duration::from_millis(100);
        let mut waits = 0;
        while pace.allowance() > wait {
            pace.moved(1, wait);
            waits += 1;
        }
        assert_eq!(waits, 5);
    }
}
