//! The only file that reads a clock.
//!
//! Pure rules take the time as an argument; everything else holds a [`Clock`] so that a test can
//! bend time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// A source of time.
///
/// Signatures and `Date` fields are judged by [`Clock::wall`]; the age of a stored response is
/// measured with [`Clock::monotonic`], so a step of the wall clock neither expires nor revives
/// anything that is stored (field hazard "clock skew").
pub trait Clock: Send + Sync + 'static {
    /// Wall-clock time.
    fn wall(&self) -> SystemTime;
    /// Time that never steps back, counted from an arbitrary start.
    fn monotonic(&self) -> Duration;
    /// Both readings.
    fn now(&self) -> Moment {
        Moment {
            wall: self.wall(),
            monotonic: self.monotonic(),
        }
    }
}

/// One reading of both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// See [`Clock::wall`].
    pub wall: SystemTime,
    /// See [`Clock::monotonic`].
    pub monotonic: Duration,
}

/// A clock that can be shared between tasks.
pub type SharedClock = Arc<dyn Clock>;

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A shared handle on the machine's clocks.
    pub fn shared() -> SharedClock {
        Arc::new(SystemClock {
            start: Instant::now(),
        })
    }
}

impl Clock for SystemClock {
    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}

/// A clock that stands still until it is told to move. For tests.
#[derive(Debug)]
pub struct ManualClock {
    time: Mutex<(SystemTime, Duration)>,
}

impl ManualClock {
    /// A clock that stands at `wall`.
    pub fn at(wall: SystemTime) -> Arc<Self> {
        Arc::new(ManualClock {
            time: Mutex::new((wall, Duration::ZERO)),
        })
    }

    /// Moves both clocks forward.
    pub fn advance(&self, by: Duration) {
        let mut time = self.time.lock().unwrap_or_else(PoisonError::into_inner);
        time.0 += by;
        time.1 += by;
    }
}

impl Clock for ManualClock {
    fn wall(&self) -> SystemTime {
        self.time.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    fn monotonic(&self) -> Duration {
        self.time.lock().unwrap_or_else(PoisonError::into_inner).1
    }
}
