//! Times in documents.

use std::time::{Duration, SystemTime};

use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{Date, OffsetDateTime};

/// Reads `2030-01-01T00:00:00Z`, with or without parts of a second and an offset, or `2030-01-01`.
pub(super) fn parse(text: &str) -> Option<SystemTime> {
    let moment = OffsetDateTime::parse(text, &Rfc3339).ok().or_else(|| {
        let day = format_description!("[year]-[month]-[day]");
        let day = Date::parse(text, &day).ok()?;
        Some(day.midnight().assume_utc())
    })?;
    // Only `SystemTime` itself knows how far it reaches.
    let seconds = moment.unix_timestamp();
    let nanos = Duration::from_nanos(moment.nanosecond().into());
    let whole = match u64::try_from(seconds) {
        Ok(seconds) => SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)),
        Err(_) => SystemTime::UNIX_EPOCH.checked_sub(Duration::from_secs(seconds.unsigned_abs())),
    };
    whole?.checked_add(nanos)
}

/// Writes `2030-01-01T00:00:00.000Z`; empty for a year that has not four digits, which [`parse`] never gives.
pub(super) fn write(time: SystemTime) -> String {
    let format =
        format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    let since_epoch = match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => i128::try_from(after.as_nanos()).unwrap_or(i128::MAX),
        Err(before) => -i128::try_from(before.duration().as_nanos()).unwrap_or(i128::MAX),
    };
    OffsetDateTime::from_unix_timestamp_nanos(since_epoch)
        .ok()
        .and_then(|moment| moment.format(&format).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_written() {
        for (text, written) in [
            ("2030-01-01T00:00:00Z", Some("2030-01-01T00:00:00.000Z")),
            ("2030-01-01", Some("2030-01-01T00:00:00.000Z")),
            (
                "2030-01-01T01:00:00+01:00",
                Some("2030-01-01T00:00:00.000Z"),
            ),
            ("2030-01-01T00:00:00.125Z", Some("2030-01-01T00:00:00.125Z")),
            ("1969-12-31T23:59:59.5Z", Some("1969-12-31T23:59:59.500Z")),
            ("9999-12-31", Some("9999-12-31T00:00:00.000Z")),
            ("2030-02-30", None),
            ("2030-01-01T00:00:00", None),
            ("", None),
        ] {
            assert_eq!(parse(text).map(write).as_deref(), written, "{text}");
        }
    }
}
