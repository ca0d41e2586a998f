//! Object lock: for how long nobody may be rid of a version (S3, "Locking objects with Object Lock"). Pure rules.

use time::{Month, OffsetDateTime};

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// How firmly a version is retained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetentionMode {
    /// Who may `s3:BypassGovernanceRetention`, and says so, may delete it anyway.
    Governance,
    /// Nobody may delete it, nor shorten the time.
    Compliance,
}

impl RetentionMode {
    /// Each under S3's word.
    pub const WORDS: [(&'static str, RetentionMode); 2] = [
        ("GOVERNANCE", RetentionMode::Governance),
        ("COMPLIANCE", RetentionMode::Compliance),
    ];

    /// S3's word.
    pub fn name(self) -> &'static str {
        match self {
            RetentionMode::Governance => "GOVERNANCE",
            RetentionMode::Compliance => "COMPLIANCE",
        }
    }

    /// Reads S3's word.
    pub fn from_name(name: &str) -> Option<Self> {
        let mut words = RetentionMode::WORDS.into_iter();
        words.find(|(word, _)| *word == name).map(|(_, mode)| mode)
    }
}

/// Until when a version is retained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// How firmly.
    pub mode: RetentionMode,
    /// From then on no longer, in milliseconds since 1970.
    pub until_ms: i64,
}

impl Retention {
    fn is_over(&self, now_ms: i64) -> bool {
        self.until_ms <= now_ms
    }

    /// The days of 24 hours that are left, a begun one for a whole, so that ten days from a moment ago are ten.
    pub fn days_left(&self, now_ms: i64) -> u64 {
        let left_ms = self.until_ms.saturating_sub(now_ms);
        u64::try_from(left_ms).unwrap_or(0).div_ceil(DAY_MS)
    }
}

/// What keeps a version from being deleted. Nothing by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ObjectLock {
    /// A time.
    pub retention: Option<Retention>,
    /// A hold, which has no end but that somebody takes it off; `None` if there never was one.
    pub legal_hold: Option<bool>,
}

impl ObjectLock {
    /// Whether the version must stay. `bypasses`: who asks may delete what is under governance.
    pub fn keeps(&self, now_ms: i64, bypasses: bool) -> bool {
        let is_retained = self.retention.is_some_and(|retention| {
            let is_firm = retention.mode == RetentionMode::Compliance || !bypasses;
            is_firm && !retention.is_over(now_ms)
        });
        is_retained || self.legal_hold == Some(true)
    }

    /// Whether its retention may become `new`: it may always be extended.
    pub fn may_become(&self, new: Option<Retention>, now_ms: i64, bypasses: bool) -> bool {
        let Some(old) = self.retention.filter(|old| !old.is_over(now_ms)) else {
            return true;
        };
        let extends = new.is_some_and(|new| new.mode == old.mode && new.until_ms >= old.until_ms);
        extends || (old.mode == RetentionMode::Governance && bypasses)
    }

    /// The form in a row: `MODE until` and `ON` or `OFF`, each only if there is one.
    pub fn to_row(&self) -> String {
        let retention = (self.retention).map(|r| format!("{} {}", r.mode.name(), r.until_ms));
        let hold = self.legal_hold.map(hold_word).map(str::to_owned);
        let words: Vec<String> = retention.into_iter().chain(hold).collect();
        words.join(" ")
    }

    /// Reads the form in a row.
    pub fn from_row(row: &str) -> Option<Self> {
        let mut lock = ObjectLock::default();
        let mut words = row.split(' ').filter(|word| !word.is_empty()).peekable();
        if let Some(mode) = words.peek().copied().and_then(RetentionMode::from_name) {
            words.next();
            let until_ms = words.next()?.parse().ok()?;
            lock.retention = Some(Retention { mode, until_ms });
        }
        if let Some(word) = words.next() {
            lock.legal_hold = Some(hold_of(word)?);
        }
        words.next().is_none().then_some(lock)
    }
}

/// S3's word for whether there is a hold.
pub fn hold_word(is_held: bool) -> &'static str {
    if is_held { "ON" } else { "OFF" }
}

/// Reads S3's word.
pub fn hold_of(word: &str) -> Option<bool> {
    match word {
        "ON" => Some(true),
        "OFF" => Some(false),
        _ => None,
    }
}

/// For how long the versions of a bucket are retained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Period {
    /// So many days of 24 hours.
    Days(u16),
    /// So many years of the calendar.
    Years(u16),
}

/// The retention of versions that come without one of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DefaultRetention {
    /// How firmly.
    pub mode: RetentionMode,
    /// For how long.
    pub period: Period,
}

impl DefaultRetention {
    /// That of a version of this moment. None of a moment outside the years 0 to 9999, of which no clock is.
    pub fn from(&self, now_ms: i64) -> Option<Retention> {
        let now = OffsetDateTime::from_unix_timestamp_nanos(i128::from(now_ms) * 1_000_000).ok()?;
        let until = match self.period {
            Period::Days(days) => now.checked_add(time::Duration::days(days.into()))?,
            Period::Years(years) => {
                let year = now.year().checked_add(years.into())?;
                match now.replace_year(year) {
                    Ok(until) => until,
                    // 29 February of a year that has none.
                    Err(_) => now
                        .replace_day(1)
                        .and_then(|day| day.replace_month(Month::March))
                        .and_then(|day| day.replace_year(year))
                        .ok()?,
                }
            }
        };
        Some(Retention {
            mode: self.mode,
            until_ms: i64::try_from(until.unix_timestamp_nanos() / 1_000_000).ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::RetentionMode::{Compliance, Governance};
    use super::*;

    fn retained(mode: RetentionMode, until_ms: i64) -> ObjectLock {
        ObjectLock {
            retention: Some(Retention { mode, until_ms }),
            legal_hold: None,
        }
    }

    #[test]
    fn a_version_stays_until_its_time_is_over_and_its_hold_is_off() {
        let held = |mut lock: ObjectLock, hold| {
            lock.legal_hold = Some(hold);
            lock
        };
        for (lock, keeps, keeps_from_bypass) in [
            (ObjectLock::default(), false, false),
            (retained(Governance, 101), true, false),
            (retained(Governance, 100), false, false),
            (retained(Compliance, 101), true, true),
            (retained(Compliance, 100), false, false),
            (held(ObjectLock::default(), true), true, true),
            (held(ObjectLock::default(), false), false, false),
            (held(retained(Governance, 101), true), true, true),
            (held(retained(Governance, 101), false), true, false),
        ] {
            assert_eq!(lock.keeps(100, false), keeps, "{lock:?}");
            assert_eq!(lock.keeps(100, true), keeps_from_bypass, "{lock:?}");
        }
    }

    #[test]
    fn a_retention_may_be_extended_and_governance_bypassed() {
        let some = |mode, until_ms| Some(Retention { mode, until_ms });
        for (old, new, may, may_bypassing) in [
            (ObjectLock::default(), None, true, true),
            (ObjectLock::default(), some(Compliance, 101), true, true),
            (retained(Governance, 200), some(Governance, 200), true, true),
            (retained(Governance, 200), some(Governance, 300), true, true),
            (
                retained(Governance, 200),
                some(Governance, 199),
                false,
                true,
            ),
            (
                retained(Governance, 200),
                some(Compliance, 300),
                false,
                true,
            ),
            (retained(Governance, 200), None, false, true),
            (retained(Governance, 100), None, true, true),
            (retained(Compliance, 200), some(Compliance, 300), true, true),
            (
                retained(Compliance, 200),
                some(Compliance, 199),
                false,
                false,
            ),
            (
                retained(Compliance, 200),
                some(Governance, 300),
                false,
                false,
            ),
            (retained(Compliance, 200), None, false, false),
            (retained(Compliance, 100), some(Governance, 101), true, true),
        ] {
            assert_eq!(old.may_become(new, 100, false), may, "{old:?} {new:?}");
            assert_eq!(
                old.may_become(new, 100, true),
                may_bypassing,
                "{old:?} {new:?}"
            );
        }
    }

    #[test]
    fn a_lock_survives_the_row() {
        for legal_hold in [None, Some(true), Some(false)] {
            for retention in [None, retained(Compliance, 1_900_000_000_123).retention] {
                let lock = ObjectLock {
                    retention,
                    legal_hold,
                };
                assert_eq!(ObjectLock::from_row(&lock.to_row()), Some(lock));
            }
        }
        for wrong in [
            "GOVERNANCE",
            "GOVERNANCE x",
            "NEVER 1",
            "ON ON",
            "OFF GOVERNANCE 1",
        ] {
            assert_eq!(ObjectLock::from_row(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_default_is_counted_from_the_moment_in_days_and_years() {
        let ms = |text: &str| {
            let format = time::format_description::well_known::Rfc3339;
            OffsetDateTime::parse(text, &format)
                .unwrap()
                .unix_timestamp()
                * 1000
                + 7
        };
        for (now, period, until) in [
            (
                "2027-03-01T10:00:00Z",
                Period::Days(1),
                "2027-03-02T10:00:00Z",
            ),
            (
                "2027-03-01T10:00:00Z",
                Period::Days(36_500),
                "2127-02-05T10:00:00Z",
            ),
            (
                "2027-03-01T10:00:00Z",
                Period::Years(1),
                "2028-03-01T10:00:00Z",
            ),
            (
                "2028-02-29T10:00:00Z",
                Period::Years(1),
                "2029-03-01T10:00:00Z",
            ),
            (
                "2028-02-29T10:00:00Z",
                Period::Years(4),
                "2032-02-29T10:00:00Z",
            ),
        ] {
            let default = DefaultRetention {
                mode: Governance,
                period,
            };
            let expected = Retention {
                mode: Governance,
                until_ms: ms(until),
            };
            assert_eq!(default.from(ms(now)), Some(expected), "{now} {period:?}");
        }
    }
}
