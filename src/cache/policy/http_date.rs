//! Dates in the three forms of RFC 9110 §5.6.7.
//!
//! Names of days, months and the zone are compared without case, and a day name is not checked
//! against its date: neither changes what instant is meant. Everything else must be spelled as the
//! grammar has it; a date that is not is no date at all (RFC 9111 §5.3).

use std::time::{Duration, SystemTime};

use http::HeaderValue;

/// A year in two digits that seems to lie further than this in the future lies in the past century
/// (RFC 9110 §5.6.7).
const TWO_DIGIT_YEARS_AHEAD: u64 = 50;

/// Reads a date; `now` decides the century of the obsolete RFC 850 form. Dates before 1970 are read
/// as 1970: they are past all the same.
pub fn parse(text: &[u8], now: SystemTime) -> Option<SystemTime> {
    let text = std::str::from_utf8(text).ok()?.trim_ascii();
    let civil = imf_fixdate(text)
        .or_else(|| rfc850(text, now))
        .or_else(|| asctime(text))?;
    civil.instant()
}

/// Writes a date as an IMF-fixdate. `None` for a year of five digits, which the format cannot say.
pub fn value(date: SystemTime) -> Option<HeaderValue> {
    const YEAR_10000: Duration = Duration::from_secs(253_402_300_800);
    if date.duration_since(SystemTime::UNIX_EPOCH).ok()? >= YEAR_10000 {
        return None;
    }
    HeaderValue::try_from(httpdate::fmt_http_date(date)).ok()
}

struct Civil {
    year: u64,
    month: u64,
    day: u64,
    time: u64,
}

impl Civil {
    fn instant(&self) -> Option<SystemTime> {
        let leap = self.year.is_multiple_of(4)
            && (!self.year.is_multiple_of(100) || self.year.is_multiple_of(400));
        let days_in_month = match self.month {
            2 => 28 + u64::from(leap),
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        if self.day == 0 || self.day > days_in_month {
            return None;
        }
        if self.year < 1970 {
            return Some(SystemTime::UNIX_EPOCH);
        }
        let days = days_before_year(self.year) - days_before_year(1970)
            + days_before_month(self.month, leap)
            + self.day
            - 1;
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(days * 86_400 + self.time))
    }
}

/// Days from the year 1 to the start of `year` in the Gregorian calendar.
fn days_before_year(year: u64) -> u64 {
    let past = year - 1;
    past * 365 + past / 4 - past / 100 + past / 400
}

fn days_before_month(month: u64, leap: bool) -> u64 {
    const BEFORE: [u64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    // `month` came out of `month_number`.
    BEFORE[(month - 1) as usize] + u64::from(leap && month > 2)
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`.
fn imf_fixdate(text: &str) -> Option<Civil> {
    let (day_name, rest) = text.split_once(", ")?;
    is_one_of(day_name, &DAYS).then_some(())?;
    let mut parts = rest.split(' ');
    let civil = Civil {
        day: digits(parts.next()?, 2)?,
        month: month_number(parts.next()?)?,
        year: digits(parts.next()?, 4)?,
        time: time_of_day(parts.next()?)?,
    };
    ends_in_gmt(parts)?;
    (civil.year > 0).then_some(civil)
}

/// `Sunday, 06-Nov-94 08:49:37 GMT`.
fn rfc850(text: &str, now: SystemTime) -> Option<Civil> {
    let (day_name, rest) = text.split_once(", ")?;
    is_one_of(day_name, &LONG_DAYS).then_some(())?;
    let mut parts = rest.split(' ');
    let mut date = parts.next()?.split('-');
    let day = digits(date.next()?, 2)?;
    let month = month_number(date.next()?)?;
    let short_year = digits(date.next()?, 2)?;
    date.next().is_none().then_some(())?;
    let time = time_of_day(parts.next()?)?;
    ends_in_gmt(parts)?;
    let this_year = year_of(now);
    let mut year = this_year / 100 * 100 + short_year;
    if year > this_year + TWO_DIGIT_YEARS_AHEAD {
        year -= 100;
    }
    Some(Civil {
        year,
        month,
        day,
        time,
    })
}

/// `Sun Nov  6 08:49:37 1994`.
fn asctime(text: &str) -> Option<Civil> {
    let day_name = text.get(..3)?;
    is_one_of(day_name, &DAYS).then_some(())?;
    let rest = text.get(3..)?.strip_prefix(' ')?;
    let month = month_number(rest.get(..3)?)?;
    let rest = rest.get(3..)?.strip_prefix(' ')?;
    let day = match rest.get(..2)?.strip_prefix(' ') {
        Some(one) => digits(one, 1)?,
        None => digits(rest.get(..2)?, 2)?,
    };
    let (time, year) = rest.get(2..)?.strip_prefix(' ')?.split_once(' ')?;
    let year = digits(year, 4)?;
    (year > 0).then_some(Civil {
        year,
        month,
        day,
        time: time_of_day(time)?,
    })
}

fn year_of(now: SystemTime) -> u64 {
    let since_epoch = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    // Close enough for a rule of fifty years.
    1970 + since_epoch.as_secs() / 31_556_952
}

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const LONG_DAYS: [&str; 7] = [
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
];
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

fn is_one_of(word: &str, words: &[&str]) -> bool {
    words.iter().any(|known| known.eq_ignore_ascii_case(word))
}

fn month_number(name: &str) -> Option<u64> {
    let index = MONTHS
        .iter()
        .position(|month| month.eq_ignore_ascii_case(name))?;
    Some(index as u64 + 1)
}

fn digits(text: &str, count: usize) -> Option<u64> {
    (text.len() == count && text.bytes().all(|b| b.is_ascii_digit()))
        .then(|| text.parse().ok())
        .flatten()
}

/// Seconds since midnight; a leap second counts as the second before it.
fn time_of_day(text: &str) -> Option<u64> {
    let mut parts = text.split(':');
    let hour = digits(parts.next()?, 2)?;
    let minute = digits(parts.next()?, 2)?;
    let second = digits(parts.next()?, 2)?;
    let whole = parts.next().is_none() && hour < 24 && minute < 60 && second <= 60;
    whole.then_some(hour * 3600 + minute * 60 + second.min(59))
}

fn ends_in_gmt<'a>(mut parts: impl Iterator<Item = &'a str>) -> Option<()> {
    let zone = parts.next()?;
    (zone.eq_ignore_ascii_case("GMT") && parts.next().is_none()).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EXAMPLE: u64 = 784_111_777;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn read(text: &str) -> Option<u64> {
        let instant = parse(text.as_bytes(), at(1_790_000_000))?;
        Some(instant.duration_since(at(0)).unwrap().as_secs())
    }

    #[test]
    fn the_three_forms_of_the_rfc_mean_the_same_instant() {
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            " Sun, 06 Nov 1994 08:49:37 GMT ",
            "SUN, 06 nOV 1994 08:49:37 gmt",
            // The day name decides nothing.
            "Mon, 06 Nov 1994 08:49:37 GMT",
        ] {
            assert_eq!(read(text), Some(EXAMPLE), "{text}");
        }
    }

    #[test]
    fn what_the_grammar_does_not_have_is_no_date() {
        for text in [
            "",
            "0",
            "-1",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sun, 06 Nov 1994 08:49:37 AEST",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 94 08:49:37 GMT",
            "Sun 06 Nov 1994 08:49:37 GMT",
            "Sun,  06 Nov 1994 08:49:37 GMT",
            "Sun, 06-Nov-1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08.49.37 GMT",
            "Sun, 06 Nov 1994 8:49:37 GMT",
            "Sun, 6 Nov 1994 08:49:37 GMT",
            "Sun, 31 Feb 1994 08:49:37 GMT",
            "Sun, 00 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:00:00 GMT",
            "Sun, 06 Nov 1994 08:60:37 GMT",
            "Sun, 06 Nov 0000 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov +994 08:49:37 GMT",
            "Sün Nov  6 08:49:37 1994",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn years_of_two_digits_lie_at_most_fifty_years_ahead() {
        // Now is 2026.
        assert!(read("Thursday, 18-Aug-50 02:01:18 GMT").unwrap() > 2_000_000_000);
        assert!(read("Thursday, 18-Aug-76 02:01:18 GMT").unwrap() > 3_000_000_000);
        assert!(read("Thursday, 18-Aug-77 02:01:18 GMT").unwrap() < 300_000_000);
    }

    #[test]
    fn dates_far_away_are_read() {
        assert_eq!(read("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(read("Mon, 01 Jan 1900 00:00:00 GMT"), Some(0));
        assert_eq!(read("Sat, 31 Dec 2016 23:59:60 GMT"), Some(1_483_228_799));
        assert_eq!(read("Tue, 29 Feb 2000 00:00:00 GMT"), Some(951_782_400));
        assert_eq!(read("Fri, 31 Dec 9999 23:59:59 GMT"), Some(253_402_300_799));
    }

    proptest! {
        #[test]
        fn whatever_the_library_writes_is_read_back(seconds in 0_u64..253_402_300_799) {
            let text = httpdate::fmt_http_date(at(seconds));
            prop_assert_eq!(read(&text), Some(seconds));
        }
    }
}
