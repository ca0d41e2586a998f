//! How often each client may ask: a token bucket for every client, in memory that does not grow.
//!
//! A bucket is one number, the time at which it will be full again (the generic cell rate algorithm, ATM
//! Forum TM 4.0 §4.4.2). One whose time has come is as good as forgotten, so a table of fixed size does: what
//! it holds are the clients that are in debt just now.
//!
//! Invariants:
//! - `bounded`: a limit holds [`BUCKETS`] buckets, 1 MiB, however many clients there are. When a client finds
//!   no room, the one of eight that owes least is forgotten, and may have its burst once more.
//! - `no-waiting`: nobody waits for anybody. When two threads change one bucket, the loser tries again with
//!   what the winner left; when a bucket changes hands under a request's feet, that one request is charged to
//!   the wrong client or to none.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::config::RequestLimit;
use crate::edge::client_network::ClientNetwork;

/// Clients in debt that are remembered.
const BUCKETS: usize = 65_536;

/// Buckets among which one client is looked for: two cache lines.
const WAYS: usize = 8;

/// One limit, and where its clients stand.
#[derive(Debug)]
pub(super) struct RequestRate {
    /// Nanoseconds in which one request is earned.
    interval: u64,
    /// Nanoseconds in which a whole burst is.
    burst: u64,
    sets: Box<[Set]>,
    /// Keyed, so that nobody can choose with whom to share a set.
    hasher: RandomState,
}

/// The buckets of clients with one hash.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Set([Bucket; WAYS]);

#[derive(Debug, Default)]
struct Bucket {
    /// Whose; zero is nobody's.
    client: AtomicU64,
    /// When it is full again, in nanoseconds of the monotonic clock.
    full_at: AtomicU64,
}

/// This client has asked too often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooOften {
    /// How long until it may ask again.
    pub(super) wait: Duration,
}

impl RequestRate {
    pub(super) fn new(limit: RequestLimit) -> Self {
        let interval = nanoseconds(limit.interval);
        RequestRate {
            interval,
            burst: interval.saturating_mul(limit.burst.into()),
            sets: (0..BUCKETS / WAYS).map(|_| Set::default()).collect(),
            hasher: RandomState::new(),
        }
    }

    /// Charges `client` with one request; `now` is monotonic.
    ///
    /// # Errors
    /// [`TooOften`], and nothing is charged.
    pub(super) fn charge(&self, client: ClientNetwork, now: Duration) -> Result<(), TooOften> {
        let now = nanoseconds(now);
        let client = client.number();
        let hash = self.hasher.hash_one(client);
        let set = &self.sets[hash as usize % self.sets.len()].0;
        let mine = set
            .iter()
            .find(|bucket| bucket.client.load(Ordering::Relaxed) == client);
        match mine {
            Some(bucket) => self.charge_bucket(bucket, now),
            None => self.charge_newcomer(set, client, now),
        }
    }

    fn charge_bucket(&self, bucket: &Bucket, now: u64) -> Result<(), TooOften> {
        let mut full_at = bucket.full_at.load(Ordering::Relaxed);
        loop {
            let charged = full_at.max(now).saturating_add(self.interval);
            let over = charged.saturating_sub(now.saturating_add(self.burst));
            if over > 0 {
                let wait = Duration::from_nanos(over);
                return Err(TooOften { wait });
            }
            match bucket.full_at.compare_exchange_weak(
                full_at,
                charged,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Ok(()),
                Err(changed) => full_at = changed,
            }
        }
    }

    /// A client without a bucket owes nothing, so its first request is within any burst.
    fn charge_newcomer(&self, set: &[Bucket; WAYS], client: u64, now: u64) -> Result<(), TooOften> {
        let owed = |bucket: &&Bucket| bucket.full_at.load(Ordering::Relaxed);
        if let Some(bucket) = set.iter().min_by_key(owed) {
            bucket.client.store(client, Ordering::Relaxed);
            let charged = now.saturating_add(self.interval);
            bucket.full_at.store(charged, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// 2^64 nanoseconds are more than five hundred years.
fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{IpAddr, Ipv4Addr};

    fn limit(interval_ms: u64, burst: u32) -> RequestRate {
        RequestRate::new(RequestLimit {
            interval: Duration::from_millis(interval_ms),
            burst,
        })
    }

    fn client(number: u32) -> ClientNetwork {
        IpAddr::V4(Ipv4Addr::from_bits(number)).into()
    }

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn a_burst_may_come_at_once_and_then_one_request_an_interval() {
        let rate = limit(100, 3);
        let start = ms(5_000);
        for _ in 0..3 {
            assert_eq!(rate.charge(client(1), start), Ok(()));
        }
        assert_eq!(
            rate.charge(client(1), start),
            Err(TooOften { wait: ms(100) })
        );
        let early = start + ms(99);
        assert_eq!(rate.charge(client(1), early), Err(TooOften { wait: ms(1) }));
        assert_eq!(rate.charge(client(1), start + ms(100)), Ok(()));
        assert!(rate.charge(client(1), start + ms(100)).is_err());
        // Full again, and not more than full.
        let later = start + ms(100_000);
        for _ in 0..3 {
            assert_eq!(rate.charge(client(1), later), Ok(()));
        }
        assert!(rate.charge(client(1), later).is_err());
    }

    #[test]
    fn who_is_refused_is_not_charged() {
        let rate = limit(100, 1);
        assert_eq!(rate.charge(client(1), ms(0)), Ok(()));
        for _ in 0..1000 {
            assert_eq!(
                rate.charge(client(1), ms(50)),
                Err(TooOften { wait: ms(50) })
            );
        }
        assert_eq!(rate.charge(client(1), ms(100)), Ok(()));
    }

    #[test]
    fn clients_do_not_pay_for_each_other() {
        let rate = limit(1_000, 1);
        for number in 0..1_000 {
            assert_eq!(rate.charge(client(number), ms(0)), Ok(()), "{number}");
        }
        for number in 0..1_000 {
            assert!(rate.charge(client(number), ms(0)).is_err(), "{number}");
        }
    }

    /// `bounded`
    #[test]
    fn a_million_addresses_take_no_more_room_than_a_few() {
        let rate = limit(1_000, 1);
        for number in 0..1_000_000 {
            assert_eq!(rate.charge(client(number), ms(0)), Ok(()));
        }
        let sets = rate.sets.iter();
        let held: usize = sets
            .map(|set| {
                set.0
                    .iter()
                    .filter(|bucket| bucket.client.load(Ordering::Relaxed) != 0)
                    .count()
            })
            .sum();
        assert!(held <= BUCKETS);
        assert_eq!(rate.sets.len() * size_of::<Set>(), 1 << 20);
    }

    #[test]
    fn a_client_that_owes_much_is_not_forgotten_for_one_that_owes_little() {
        let rate = limit(1_000, 1_000);
        for _ in 0..1_000 {
            assert_eq!(rate.charge(client(1), ms(0)), Ok(()));
        }
        for number in 2..1_000_000 {
            assert_eq!(rate.charge(client(number), ms(0)), Ok(()));
        }
        assert!(rate.charge(client(1), ms(0)).is_err());
    }

    #[test]
    fn threads_together_get_no_more_than_one_alone() {
        let rate = limit(1_000_000, 500);
        let admitted = std::sync::atomic::AtomicUsize::new(0);
        // The bucket is there: only a client's first requests can race for one.
        assert_eq!(rate.charge(client(1), ms(0)), Ok(()));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        if rate.charge(client(1), ms(0)).is_ok() {
                            admitted.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert_eq!(admitted.into_inner(), 499);
    }

    proptest! {
        /// Compared with a bucket that is filled step by step.
        #[test]
        fn a_bucket_never_gives_more_than_burst_and_rate(
            burst in 1_u32..20,
            gaps in proptest::collection::vec(0_u64..400, 1..200),
        ) {
            let rate = limit(100, burst);
            let (mut now, mut tokens) = (ms(1_000_000), u64::from(burst) * 100);
            for gap in gaps {
                now += ms(gap);
                tokens = (tokens + gap).min(u64::from(burst) * 100);
                let expected = tokens >= 100;
                prop_assert_eq!(rate.charge(client(7), now).is_ok(), expected);
                if expected {
                    tokens -= 100;
                }
            }
        }
    }
}
