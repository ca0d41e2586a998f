//! Sizes and durations as an operator writes them: a whole number and a unit, nothing between.

use std::time::Duration;

/// Why a text is not a size or a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitFault {
    /// A number without a unit.
    #[error("{0:?} has no unit; write one of {1}")]
    NoUnit(String, &'static str),
    /// A unit nobody knows here.
    #[error("{0:?} has no unit that is known here; write one of {1}")]
    UnknownUnit(String, &'static str),
    /// Something that does not begin with a whole number.
    #[error("{0:?} does not begin with a whole number, such as {1}")]
    NotANumber(String, &'static str),
    /// A value that no counter here can hold.
    #[error("{0:?} is too large to be counted")]
    TooLarge(String),
}

/// Units of size in bytes: binary ones first, because [`show_size`] prefers the earliest that fits.
const SIZES: [(&str, u64); 11] = [
    ("PiB", 1 << 50),
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("PB", 1_000_000_000_000_000),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];
const SIZE_UNITS: &str = "B, KiB, MiB, GiB, TiB, PiB, KB, MB, GB, TB, PB";

/// Units of time in milliseconds, largest first.
const TIMES: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];
const TIME_UNITS: &str = "ms, s, m, h, d";

/// Reads a size such as `256MiB` (binary) or `5MB` (decimal); the result is in bytes.
///
/// # Errors
/// A bare number, an unknown unit, a fraction, or more than `u64::MAX` bytes.
pub fn size(text: &str) -> Result<u64, UnitFault> {
    amount(text, &SIZES, SIZE_UNITS, "256MiB")
}

/// Reads a share such as `5%`; the result is in hundredths.
///
/// # Errors
/// A bare number, another unit, a fraction, or more than `u64::MAX` hundredths.
pub fn percent(text: &str) -> Result<u64, UnitFault> {
    amount(text, &[("%", 1)], "%", "5%")
}

/// Reads a duration such as `200ms`, `30s`, `5m`, `1h` or `1d`.
///
/// # Errors
/// A bare number, an unknown unit, a fraction, or more than `u64::MAX` milliseconds.
pub fn duration(text: &str) -> Result<Duration, UnitFault> {
    amount(text, &TIMES, TIME_UNITS, "30s").map(Duration::from_millis)
}

/// Reads a rate such as `50/s`, `100/m` or `1000/h`; the result is the time for one, to the nanosecond.
///
/// # Errors
/// No whole number from 1 on, an unknown unit, or more than a million a second.
pub fn interval(text: &str) -> Result<Duration, UnitFault> {
    let units = [("/s", 1), ("/m", 60), ("/h", 3600)];
    // As many as there are in an hour, so that each unit has one.
    let scaled = units.map(|(unit, seconds)| (unit, 3600 / seconds));
    let per_hour = amount(text, &scaled, "/s, /m, /h", "50/s")?;
    if per_hour == 0 {
        return Err(UnitFault::NotANumber(text.to_owned(), "50/s"));
    }
    if per_hour > 3600 * 1_000_000 {
        return Err(UnitFault::TooLarge(text.to_owned()));
    }
    Ok(Duration::from_nanos(3_600_000_000_000 / per_hour))
}

/// The shortest exact way to write a size that a configuration reads back.
pub fn show_size(bytes: u64) -> String {
    show(bytes, &SIZES[..5], "B")
}

/// The shortest exact way to write a duration that a configuration reads back; below a millisecond is dropped.
pub fn show_duration(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if millis == 0 {
        return "0s".to_owned();
    }
    show(millis, &TIMES, "ms")
}

fn show(value: u64, units: &[(&str, u64)], smallest: &str) -> String {
    for (unit, factor) in units {
        if value != 0 && value.is_multiple_of(*factor) {
            return format!("{}{unit}", value / factor);
        }
    }
    format!("{value}{smallest}")
}

fn amount(
    text: &str,
    units: &[(&str, u64)],
    known: &'static str,
    example: &'static str,
) -> Result<u64, UnitFault> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(UnitFault::NotANumber(text.to_owned(), example));
    }
    if unit.is_empty() {
        return Err(UnitFault::NoUnit(text.to_owned(), known));
    }
    let Some((_, factor)) = units.iter().find(|(name, _)| *name == unit) else {
        return Err(UnitFault::UnknownUnit(text.to_owned(), known));
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(*factor))
        .ok_or_else(|| UnitFault::TooLarge(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_binary_and_decimal_units() {
        for (text, bytes) in [
            ("0B", 0),
            ("1B", 1),
            ("1KiB", 1024),
            ("256MiB", 268_435_456),
            ("10GiB", 10_737_418_240),
            ("2TiB", 2_199_023_255_552),
            ("5KB", 5_000),
            ("5MB", 5_000_000),
            ("1GB", 1_000_000_000),
            ("1TB", 1_000_000_000_000),
            ("18446744073709551615B", u64::MAX),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn durations_are_read_from_milliseconds_to_days() {
        for (text, millis) in [
            ("0s", 0),
            ("200ms", 200),
            ("30s", 30_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("1d", 86_400_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn rates_are_read_as_the_time_for_one() {
        for (text, nanoseconds) in [
            ("1/s", 1_000_000_000),
            ("50/s", 20_000_000),
            ("1000000/s", 1_000),
            ("30/m", 2_000_000_000),
            ("1/h", 3_600_000_000_000),
        ] {
            assert_eq!(
                interval(text),
                Ok(Duration::from_nanos(nanoseconds)),
                "{text}"
            );
        }
        for text in ["0/s", "1", "/s", "1/d", "1.5/s", "-1/s", "1000001/s"] {
            assert!(interval(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_size_is_refused_with_its_reason() {
        let none = |text: &str| UnitFault::NoUnit(text.into(), SIZE_UNITS);
        let unknown = |text: &str| UnitFault::UnknownUnit(text.into(), SIZE_UNITS);
        let not = |text: &str| UnitFault::NotANumber(text.into(), "256MiB");
        for (text, fault) in [
            ("256", none("256")),
            ("", not("")),
            ("MiB", not("MiB")),
            ("-1MiB", not("-1MiB")),
            ("+1MiB", not("+1MiB")),
            (" 1MiB", not(" 1MiB")),
            ("1 MiB", unknown("1 MiB")),
            ("1.5MiB", unknown("1.5MiB")),
            ("1mib", unknown("1mib")),
            ("1MiB ", unknown("1MiB ")),
            ("1s", unknown("1s")),
            ("١KiB", not("١KiB")),
            (
                "18446744073709551616B",
                UnitFault::TooLarge("18446744073709551616B".into()),
            ),
            ("16777216TiB", UnitFault::TooLarge("16777216TiB".into())),
        ] {
            assert_eq!(size(text), Err(fault), "{text}");
        }
        assert_eq!(
            duration("30").map_err(|fault| fault.to_string()),
            Err("\"30\" has no unit; write one of ms, s, m, h, d".to_owned())
        );
        assert_eq!(
            duration("1MiB").map_err(|fault| fault.to_string()),
            Err("\"1MiB\" has no unit that is known here; write one of ms, s, m, h, d".to_owned())
        );
    }

    #[test]
    fn what_is_shown_is_read_back_as_the_same_value() {
        for (bytes, text) in [
            (0, "0B"),
            (1, "1B"),
            (1000, "1000B"),
            (1024, "1KiB"),
            (1536, "1536B"),
            (1 << 30, "1GiB"),
        ] {
            assert_eq!(show_size(bytes), text);
            assert_eq!(size(text), Ok(bytes));
        }
        for (millis, text) in [
            (0, "0s"),
            (200, "200ms"),
            (1_500, "1500ms"),
            (60_000, "1m"),
            (90_000, "90s"),
            (86_400_000, "1d"),
        ] {
            assert_eq!(show_duration(Duration::from_millis(millis)), text);
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)));
        }
    }
}
