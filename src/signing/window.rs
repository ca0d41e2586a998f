//! From when to when a credential counts. Seconds since 1970, as every scheme here writes them.

use std::time::{Duration, SystemTime};

use super::CredentialRefusal;

/// More digits than any date that is meant has; the largest instant is the year 33658.
const DIGITS_MAX: usize = 12;

/// The last second that there is: the largest number of [`DIGITS_MAX`] digits.
pub(super) const LAST: u64 = 999_999_999_999;

/// Reads a number of seconds: decimal digits and nothing else.
pub(super) fn seconds(text: &str) -> Option<u64> {
    let plain = !text.is_empty()
        && text.len() <= DIGITS_MAX
        && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

/// The instant that many seconds after 1970; the last one that there is when it lies beyond.
pub(super) fn instant(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.min(LAST))
}

/// The first instant at which something no longer counts has not come yet.
///
/// # Errors
/// [`CredentialRefusal::Expired`].
pub(super) fn not_expired(end: SystemTime, now: SystemTime) -> Result<(), CredentialRefusal> {
    match now.duration_since(end) {
        Ok(since) => Err(CredentialRefusal::Expired { since }),
        Err(_) => Ok(()),
    }
}

/// The first instant at which something counts has come, or is no further ahead than `leeway`.
///
/// # Errors
/// [`CredentialRefusal::NotYetValid`].
pub(super) fn has_begun(
    start: SystemTime,
    now: SystemTime,
    leeway: Duration,
) -> Result<(), CredentialRefusal> {
    match start.duration_since(now) {
        Ok(ahead) if ahead > leeway => Err(CredentialRefusal::NotYetValid { ahead, leeway }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_digits_and_nothing_else() {
        for (text, expected) in [
            ("0", Some(0)),
            ("1700000000", Some(1_700_000_000)),
            ("007", Some(7)),
            ("999999999999", Some(999_999_999_999)),
            ("1000000000000", None),
            ("", None),
            ("-1", None),
            ("+1", None),
            ("1.5", None),
            (" 1", None),
            ("1e9", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }

    #[test]
    fn an_end_is_refused_from_its_instant_on() {
        let end = instant(1_000);
        let nanosecond = Duration::from_nanos(1);
        assert_eq!(not_expired(end, end - nanosecond), Ok(()));
        let since = Duration::ZERO;
        assert_eq!(
            not_expired(end, end),
            Err(CredentialRefusal::Expired { since })
        );
    }

    #[test]
    fn a_start_may_lie_ahead_by_the_leeway_and_no_more() {
        let (start, leeway) = (instant(1_000), Duration::from_secs(5));
        let nanosecond = Duration::from_nanos(1);
        assert_eq!(has_begun(start, start - leeway, leeway), Ok(()));
        let ahead = leeway + nanosecond;
        assert_eq!(
            has_begun(start, start - ahead, leeway),
            Err(CredentialRefusal::NotYetValid { ahead, leeway })
        );
        assert_eq!(has_begun(start, start, Duration::ZERO), Ok(()));
        assert_eq!(instant(u64::MAX), instant(999_999_999_999));
    }
}
