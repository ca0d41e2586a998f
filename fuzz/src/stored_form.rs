//! The head of a stored response, as the disk tier keeps it.

use std::time::{Duration, SystemTime};

use tidegate::cache::policy::cache_control::RequestDirectives;
use tidegate::cache::policy::freshness::Verdict;
use tidegate::cache::stored::Generation;
use tidegate::cache::stored_form::{BodyFacts, MAX_SECONDS, decode, encode};
use tidegate::clock::Moment;

const UPTIME: Duration = Duration::from_secs(7);

/// The bytes are a form. Unlike the other inputs it has no lines; `docs/FORMATS.md` has its layout.
pub fn check(data: &[u8]) {
    let written = time_of_writing(data).unwrap_or(super::now());
    let at = |wall| Moment {
        wall,
        monotonic: UPTIME,
    };
    let Ok(decoded) = decode(data, at(written)) else {
        return;
    };
    // Nothing else has this form, at the moment at which it was written.
    let facts = BodyFacts {
        generation: Generation::from_number(decoded.generation),
        length: decoded.length,
    };
    let head = &decoded.head;
    let again = encode(&decoded.key, head, facts, decoded.revision, at(written));
    assert_eq!(again.as_deref(), Ok(data));

    // Time makes it older by as much, and a wall clock that was set back makes it unusable.
    let hour = Duration::from_secs(3600);
    let later = at(written + hour);
    let older = decode(data, later).expect("it was read a moment ago").head;
    let age = head.freshness.current_age(at(written));
    assert_eq!(older.freshness.current_age(later), age + hour);
    if let Some(before) = written.checked_sub(Duration::from_nanos(1)) {
        let head = decode(data, at(before))
            .expect("it was read a moment ago")
            .head;
        let verdict = head
            .freshness
            .judge(&RequestDirectives::default(), at(before));
        assert_eq!(verdict, Verdict::Stale { if_error: false });
    }
}

/// The time that a form holds at its fixed place.
fn time_of_writing(form: &[u8]) -> Option<SystemTime> {
    let (seconds, rest) = form.get(32..)?.split_first_chunk()?;
    let (nanoseconds, _) = rest.split_first_chunk()?;
    let seconds = u64::from_le_bytes(*seconds);
    let nanoseconds = u32::from_le_bytes(*nanoseconds);
    let is_time = seconds < MAX_SECONDS && nanoseconds < 1_000_000_000;
    is_time.then(|| SystemTime::UNIX_EPOCH + Duration::new(seconds, nanoseconds))
}
