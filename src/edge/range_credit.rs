//! What the ranges of one client may cost the origin (field hazard "RangeAmp").
//!
//! A range that is not stored is rounded out to blocks, which pays off when its neighbours are asked
//! for next, and is a lever for whoever asks for scattered bytes. Every client therefore has a
//! credit: what its range misses make the origin send is taken from it, and what is written to the
//! client pays [`ORIGIN_BYTES_PER_CLIENT_BYTE`] times over. Ranges that a client has no credit for
//! are passed to the origin exactly as they were asked for.
//!
//! Invariant `origin-bytes-follow-client-bytes`: for the range misses that one client causes, the
//! origin sends at most the burst, once more for every hour, and four bytes for each that is written
//! to that client. What is about to be sent is taken beforehand, so that many requests at once get
//! no more than one after the other.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::client_network::ClientNetwork;
use crate::byte_range::RangeSpec;
use crate::cache::sizes::Sizes;

/// Bytes from the origin that one byte written to a client pays for.
///
/// Players and downloads stay below 2. Readers of single records (64 KiB out of a block or two)
/// come to about 4 to 8 and live on the burst until their blocks meet.
pub const ORIGIN_BYTES_PER_CLIENT_BYTE: u64 = 4;

/// The detail in `Cache-Status`, and the reason in the access log, of a range that was passed on
/// because there is no credit for more than it asks for.
pub const RANGE_BUDGET: &str = "range-budget";

/// The time in which an empty credit becomes a full one without the client's doing.
const REFILL: Duration = Duration::from_secs(3600);

/// Clients that are remembered. Who is forgotten has its burst again, so that an attacker needs this
/// many addresses to profit; each costs about 200 bytes.
const MOST_CLIENTS: u64 = 65_536;

/// The credits of all clients with range misses.
pub struct RangeCredit {
    burst_bytes: u64,
    sizes: Sizes,
    accounts: moka::sync::Cache<ClientNetwork, Arc<Mutex<Account>>>,
}

/// One client's credit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Account {
    /// Below zero when a fill brought more than could be foreseen.
    bytes: i64,
    /// When it was last refilled, by the monotonic clock.
    refilled: Duration,
}

impl Account {
    fn full(burst_bytes: u64, now: Duration) -> Self {
        Account {
            bytes: signed(burst_bytes),
            refilled: now,
        }
    }

    fn refill(&mut self, burst_bytes: u64, now: Duration) {
        let passed = now.saturating_sub(self.refilled).as_millis();
        let grown = u128::from(burst_bytes).saturating_mul(passed) / REFILL.as_millis();
        // Else a client that asks all the time would never see a byte of it.
        if grown > 0 {
            self.give(i64::try_from(grown).unwrap_or(i64::MAX), burst_bytes);
            self.refilled = now;
        }
    }

    fn take(&mut self, bytes: u64) -> bool {
        let enough = self.bytes >= signed(bytes);
        if enough {
            self.bytes -= signed(bytes);
        }
        enough
    }

    fn give(&mut self, bytes: i64, burst_bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes).min(signed(burst_bytes));
    }
}

/// What a range miss may make the origin send.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Cost {
    /// Bytes of the blocks that are missing.
    rounded: u64,
    /// How far the origin may have sent beyond what the client got.
    ahead: u64,
    /// With no more than this left of it, a fill is finished even when the client has gone.
    finish_anyway: u64,
}

impl Cost {
    /// Of `rounded` bytes for `parts` ranges. Each part is up to two blocks longer than asked for;
    /// all but the one that is being sent have been sent, or not been begun.
    fn of(rounded: u64, parts: u64, sizes: &Sizes) -> Self {
        let around = parts.saturating_mul(2 * sizes.blocks.bytes());
        Cost {
            rounded,
            ahead: sizes.lead_bytes.saturating_add(around),
            finish_anyway: sizes.finish_anyway_bytes,
        }
    }

    /// What the origin has sent at most when the client has got `written` bytes.
    fn at_most(&self, written: u64) -> u64 {
        let reached = written.saturating_add(self.ahead);
        if reached.saturating_add(self.finish_anyway) >= self.rounded {
            self.rounded
        } else {
            reached
        }
    }

    /// The most by which [`Cost::at_most`] is ever ahead of what was written.
    fn in_advance(&self) -> u64 {
        self.rounded
            .min(self.ahead.saturating_add(self.finish_anyway))
    }

    /// What the credit grows by, or shrinks, once `written` bytes are written.
    fn balance(&self, written: u64) -> i64 {
        let paid = written.saturating_mul(ORIGIN_BYTES_PER_CLIENT_BYTE);
        signed(paid).saturating_sub(signed(self.at_most(written)))
    }
}

impl RangeCredit {
    /// Credits that start at `burst_bytes`, and never hold more.
    pub fn new(burst_bytes: u64, sizes: Sizes) -> Self {
        RangeCredit {
            burst_bytes,
            sizes,
            accounts: moka::sync::Cache::new(MOST_CLIENTS),
        }
    }

    fn account(&self, client: IpAddr, now: Duration) -> Arc<Mutex<Account>> {
        let full = || Arc::new(Mutex::new(Account::full(self.burst_bytes, now)));
        let account = self.accounts.get_with(client.into(), full);
        lock(&account).refill(self.burst_bytes, now);
        account
    }

    /// Takes what `missing` bytes of blocks, for `parts` ranges of `client`, may cost; `now` is
    /// monotonic. `None`: there is no credit for that.
    pub fn reserve(
        &self,
        client: IpAddr,
        missing: u64,
        parts: u64,
        now: Duration,
    ) -> Option<Reservation> {
        let cost = Cost::of(missing, parts, &self.sizes);
        let account = self.account(client, now);
        let taken = cost.in_advance();
        let enough = lock(&account).take(taken);
        enough.then(|| Reservation {
            account,
            burst_bytes: self.burst_bytes,
            sizes: self.sizes,
            cost,
            parts,
            first_bytes: 0,
            taken,
            written: 0,
        })
    }

    /// As [`RangeCredit::reserve`], for a range of an object that nothing is known of.
    pub fn reserve_first(
        &self,
        client: IpAddr,
        range: RangeSpec,
        now: Duration,
    ) -> Option<Reservation> {
        let blocks = self.sizes.blocks;
        let rounded = match range {
            RangeSpec::From { last: None, .. } => u64::MAX,
            RangeSpec::From {
                first,
                last: Some(last),
            } => {
                let covering = blocks.covering(&(first..last.saturating_add(1)));
                blocks.start_of(covering.end) - blocks.start_of(covering.start)
            }
            RangeSpec::Suffix { length } => length.saturating_add(2 * blocks.bytes()),
        };
        let mut reservation = self.reserve(client, rounded, 1, now)?;
        reservation.first_bytes = rounded;
        Some(reservation)
    }

    /// Takes note of `written` bytes that the origin has sent for `client` exactly as asked.
    pub fn passed(&self, client: IpAddr, written: u64, now: Duration) {
        let asked = Cost {
            rounded: written,
            ..Cost::default()
        };
        let balance = asked.balance(written);
        lock(&self.account(client, now)).give(balance, self.burst_bytes);
    }
}

/// What was taken for one response. Dropping it settles: what was taken comes back, and the balance
/// of what the origin has sent and the client has got is drawn.
pub struct Reservation {
    account: Arc<Mutex<Account>>,
    burst_bytes: u64,
    sizes: Sizes,
    cost: Cost,
    parts: u64,
    /// The part of the cost that is for the first fetch of an object.
    first_bytes: u64,
    taken: u64,
    written: u64,
}

impl Reservation {
    /// Takes as much again as `missing` more bytes for `parts` ranges may cost; false: there is no
    /// credit for that, and nothing is taken.
    pub fn extend(&mut self, missing: u64, parts: u64) -> bool {
        let parts = self.parts.saturating_add(parts);
        let rounded = self.cost.rounded.saturating_add(missing);
        let cost = Cost::of(rounded, parts, &self.sizes);
        let more = cost.in_advance().saturating_sub(self.taken);
        let enough = lock(&self.account).take(more);
        if enough {
            (self.cost, self.parts) = (cost, parts);
            self.taken += more;
        }
        enough
    }

    /// Says that the representation has `length` bytes: no more than those can have been sent.
    pub fn limit(&mut self, length: u64) {
        self.cost.rounded = self.cost.rounded.min(length);
        self.first_bytes = self.first_bytes.min(length);
    }

    /// Says that the origin sends the whole, of `length` bytes if that is known, and the part that
    /// was asked for begins at `start`.
    pub fn whole(&mut self, start: u64, length: Option<u64>) {
        self.cost.ahead = self.cost.ahead.saturating_add(start);
        self.first_bytes = length.unwrap_or(u64::MAX);
        self.cost.rounded = self.first_bytes;
    }

    /// Says how many bytes were written to the client, and for how many the origin was asked in the
    /// end, after the first fetch: others may have asked for the same blocks.
    pub fn used(&mut self, written: u64, asked: u64) {
        self.written = written;
        self.cost.rounded = self.first_bytes.saturating_add(asked);
    }

    /// Gives all back: the origin has sent nothing for this client.
    pub fn cancel(mut self) {
        self.cost = Cost::default();
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let balance = self.cost.balance(self.written);
        let back = signed(self.taken).saturating_add(balance);
        lock(&self.account).give(back, self.burst_bytes);
    }
}

fn lock(account: &Mutex<Account>) -> MutexGuard<'_, Account> {
    // Every change of an account is a single assignment, so that it is whole whoever panicked.
    account.lock().unwrap_or_else(PoisonError::into_inner)
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    const MIB: u64 = 1 << 20;
    const BLOCK: u64 = Sizes::STANDARD.blocks.bytes();
    const START: Duration = Duration::ZERO;

    fn client() -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))
    }

    fn credit(burst_bytes: u64) -> RangeCredit {
        RangeCredit::new(burst_bytes, Sizes::STANDARD)
    }

    impl RangeCredit {
        fn left(&self, now: Duration) -> i64 {
            lock(&self.account(client(), now)).bytes
        }
    }

    #[test]
    fn origin_bytes_follow_client_bytes_whatever_is_asked_for() {
        let burst = 8 * MIB;
        // Bytes asked for, blocks around them, and how many of the bytes the client takes.
        for (asked, missing, taken) in [
            (1, BLOCK, 1),
            (64, 64 * BLOCK, 64),
            (64 * 1024, 2 * BLOCK, 64 * 1024),
            (MIB, MIB + 2 * BLOCK, MIB),
            (100 * MIB, 100 * MIB, 0),
            (100 * MIB, 100 * MIB, MIB),
            (100 * MIB, 100 * MIB, 99 * MIB),
        ] {
            let credit = credit(burst);
            let (mut origin, mut client_bytes, mut passed) = (0, 0, 0);
            for _ in 0..200 {
                match credit.reserve(client(), missing, 1, START) {
                    Some(mut reservation) => {
                        reservation.used(taken, missing);
                        origin += reservation.cost.at_most(taken);
                    }
                    None => {
                        credit.passed(client(), taken, START);
                        origin += taken;
                        passed += 1;
                    }
                }
                client_bytes += taken;
                let bound = burst + ORIGIN_BYTES_PER_CLIENT_BYTE * client_bytes;
                assert!(origin <= bound, "{asked}: {origin} for {client_bytes}");
            }
            let is_hostile = missing > ORIGIN_BYTES_PER_CLIENT_BYTE * asked || taken == 0;
            let expected = if is_hostile { 50..200 } else { 0..1 };
            assert!(
                expected.contains(&passed),
                "{asked}, {taken}: {passed} passed"
            );
        }
    }

    #[test]
    fn requests_at_once_get_no_more_than_one_after_the_other() {
        let credit = credit(4 * BLOCK);
        let reserve = || credit.reserve(client(), BLOCK, 1, START);
        let held: Vec<_> = std::iter::from_fn(reserve).take(9).collect();
        assert_eq!(held.len(), 4);
        drop(held);
        assert!(reserve().is_none());
    }

    #[test]
    fn what_is_taken_ahead_comes_back_when_the_origin_has_not_sent_it() {
        let credit = credit(64 * MIB);
        let full = credit.left(START);
        let open = RangeSpec::From {
            first: 0,
            last: None,
        };
        let reservation = credit.reserve_first(client(), open, START).unwrap();
        assert!(credit.left(START) < full);
        reservation.cancel();
        assert_eq!(credit.left(START), full);

        let mut small = credit.reserve_first(client(), open, START).unwrap();
        small.limit(10);
        drop(small);
        assert_eq!(credit.left(START), full - 10);

        // Another client's fill brought it.
        let mut shared = credit.reserve(client(), 9 * BLOCK, 9, START).unwrap();
        shared.used(0, 0);
        drop(shared);
        assert_eq!(credit.left(START), full - 10);
    }

    #[test]
    fn an_extension_is_taken_whole_or_not_at_all() {
        let credit = credit(8 * BLOCK);
        let mut reservation = credit.reserve(client(), BLOCK, 1, START).unwrap();
        assert!(!reservation.extend(8 * BLOCK, 8));
        assert_eq!(credit.left(START), signed(7 * BLOCK));
        assert!(reservation.extend(7 * BLOCK, 7));
        assert_eq!(credit.left(START), 0);
        drop(reservation);
        assert_eq!(credit.left(START), 0);
    }

    #[test]
    fn an_origin_that_sends_the_whole_is_paid_for_up_to_the_part() {
        let credit = credit(64 * MIB);
        let mut reservation = credit.reserve(client(), BLOCK, 1, START).unwrap();
        reservation.whole(40 * MIB, Some(1000 * MIB));
        drop(reservation);
        assert!(credit.left(START) <= signed(24 * MIB));
        assert!(credit.left(START) > signed(20 * MIB));
    }

    #[test]
    fn a_credit_is_full_again_after_an_hour_and_never_fuller() {
        let burst = 36 * MIB;
        let credit = credit(burst);
        drop(credit.reserve(client(), 4 * MIB, 1, START));
        drop(credit.reserve(client(), 32 * MIB, 64, START));
        assert_eq!(credit.left(START), 0);
        assert_eq!(credit.left(REFILL / 2), signed(burst / 2));
        assert_eq!(credit.left(REFILL), signed(burst));
        assert_eq!(credit.left(REFILL * 9), signed(burst));
        credit.passed(client(), MIB, REFILL * 9);
        assert_eq!(credit.left(REFILL * 9), signed(burst));
    }

    #[test]
    fn a_refill_that_is_asked_for_all_the_time_adds_up() {
        let credit = credit(MIB);
        drop(credit.reserve(client(), MIB, 1, START));
        let mut left = 0;
        for millis in 0..=10_000 {
            left = credit.left(Duration::from_millis(millis));
        }
        // 10 s of 3,600.
        let expected = signed(MIB * 10 / 3600);
        assert!((expected - left).abs() < 600, "{left} is not {expected}");
    }

    #[test]
    fn a_host_that_changes_its_address_within_a_64_has_one_credit() {
        let v6 = |text: &str| ClientNetwork::from(IpAddr::V6(text.parse::<Ipv6Addr>().unwrap()));
        assert_eq!(v6("2001:db8:1:2::1"), v6("2001:db8:1:2:ffff::9"));
        assert_ne!(v6("2001:db8:1:2::1"), v6("2001:db8:1:3::1"));
        assert_eq!(v6("::ffff:192.0.2.1"), ClientNetwork::from(client()));
        assert_ne!(v6("::ffff:192.0.2.2"), ClientNetwork::from(client()));
    }
}
