//! Dates in fields, judged by the library that others read them with.

use std::time::{Duration, SystemTime};

use tidegate::cache::policy::http_date::parse;

use super::{take_number, take_text};

/// The last second that a date of HTTP can name: 9999-12-31T23:59:59Z.
const LAST_SECOND: u64 = 253_402_300_799;

/// Two lines: now in seconds, a date.
pub fn check(data: &[u8]) {
    let mut rest = data;
    let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds % LAST_SECOND);
    let now = at(take_number(&mut rest));
    let Some(text) = take_text(&mut rest) else {
        return;
    };
    let Some(instant) = parse(text.as_bytes(), now) else {
        return;
    };
    let seconds = instant
        .duration_since(SystemTime::UNIX_EPOCH)
        .expect("nothing is read as earlier than 1970");
    assert!(seconds.as_secs() <= LAST_SECOND && seconds.subsec_nanos() == 0);
    let spelled = httpdate::fmt_http_date(instant);
    assert_eq!(parse(spelled.as_bytes(), now), Some(instant), "{spelled}");
    // The library takes another century for two digits, and counts a leap second on.
    let same_rules = !text.contains('-') && !text.contains(":60");
    if let Ok(other) = httpdate::parse_http_date(text.trim_ascii())
        && same_rules
    {
        assert_eq!(other, instant, "{text}");
    }
}
