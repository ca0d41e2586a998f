//! `ObjectLockConfiguration`, `Retention` and `LegalHold` (S3 API, PutObjectLockConfiguration, PutObjectRetention,
//! PutObjectLegalHold).

use std::time::{Duration, SystemTime};

use super::element::{Element, Limits};
use super::{DocumentError, times};
use crate::origin::retention::{
    DefaultRetention, Period, Retention, RetentionMode, hold_of, hold_word,
};
use crate::origin::xml::Document;

/// The longest document that is read, in bytes.
pub const OBJECT_LOCK_MAX_BYTES: usize = 16 * 1024;

/// The longest default retention (S3, "Object Lock", retention periods): a hundred years.
const DAYS_MAX: u16 = 36_500;
const YEARS_MAX: u16 = 100;

const LIMITS: Limits = Limits {
    bytes: OBJECT_LOCK_MAX_BYTES,
    elements: 8,
};

/// How a bucket locks its versions. That there is such a document means that it does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ObjectLockConfiguration {
    /// The retention of versions without one of their own.
    pub default: Option<DefaultRetention>,
}

impl ObjectLockConfiguration {
    /// Reads an `ObjectLockConfiguration`.
    ///
    /// # Errors
    /// [`DocumentError::OutOfRange`] for a period of no time or too much, or a malformed document.
    pub fn parse(document: &[u8]) -> Result<Self, DocumentError> {
        let root = Element::parse(document, "ObjectLockConfiguration", LIMITS)?;
        root.only(&["ObjectLockEnabled", "Rule"])?;
        root.required("ObjectLockEnabled")?
            .one_of(&[("Enabled", ())])?;
        let Some(rule) = root.one("Rule")? else {
            return Ok(ObjectLockConfiguration::default());
        };
        rule.only(&["DefaultRetention"])?;
        let retention = rule.required("DefaultRetention")?;
        retention.only(&["Mode", "Days", "Years"])?;
        let mode = retention.required("Mode")?.one_of(&RetentionMode::WORDS)?;
        let period = match (retention.one("Days")?, retention.one("Years")?) {
            (Some(days), None) => Period::Days(length(days, DAYS_MAX)?),
            (None, Some(years)) => Period::Years(length(years, YEARS_MAX)?),
            (Some(_), Some(years)) => return Err(years.bad_value()),
            (None, None) => return Err(DocumentError::Missing { element: "Days" }),
        };
        let default = Some(DefaultRetention { mode, period });
        Ok(ObjectLockConfiguration { default })
    }

    /// Writes it into an `ObjectLockConfiguration`.
    pub fn write(&self, document: &mut Document) {
        document.text("ObjectLockEnabled", "Enabled");
        if let Some(default) = self.default {
            document.element("Rule", |document| {
                document.element("DefaultRetention", |document| {
                    document.text("Mode", default.mode.name());
                    match default.period {
                        Period::Days(days) => document.text("Days", &days.to_string()),
                        Period::Years(years) => document.text("Years", &years.to_string()),
                    }
                });
            });
        }
    }
}

fn length(element: &Element, most: u16) -> Result<u16, DocumentError> {
    let number = element.number()?;
    let length = u16::try_from(number).ok().filter(|length| *length > 0);
    let length = length.filter(|length| *length <= most);
    length.ok_or(DocumentError::OutOfRange {
        what: "Default retention period must be a positive integer value of at most 36500 days or 100 years",
    })
}

/// Reads a `Retention`; an empty one takes retention away.
///
/// # Errors
/// A malformed document.
pub fn parse_retention(document: &[u8]) -> Result<Option<Retention>, DocumentError> {
    let root = Element::parse(document, "Retention", LIMITS)?;
    root.only(&["Mode", "RetainUntilDate"])?;
    let until = root.one("RetainUntilDate")?;
    let (mode, until) = match (root.one("Mode")?, until) {
        (None, None) => return Ok(None),
        (Some(mode), Some(until)) => (mode, until),
        (None, Some(_)) => return Err(DocumentError::Missing { element: "Mode" }),
        (Some(_), None) => {
            return Err(DocumentError::Missing {
                element: "RetainUntilDate",
            });
        }
    };
    Ok(Some(Retention {
        mode: mode.one_of(&RetentionMode::WORDS)?,
        until_ms: time_of(until.word()?).ok_or(until.bad_value())?,
    }))
}

/// Writes a `Retention`.
pub fn write_retention(retention: &Retention, document: &mut Document) {
    document.text("Mode", retention.mode.name());
    document.text("RetainUntilDate", &time_text(retention.until_ms));
}

/// Reads a `LegalHold`: whether there is one.
///
/// # Errors
/// A malformed document.
pub fn parse_legal_hold(document: &[u8]) -> Result<bool, DocumentError> {
    let root = Element::parse(document, "LegalHold", LIMITS)?;
    root.only(&["Status"])?;
    let status = root.required("Status")?;
    hold_of(status.word()?).ok_or(status.bad_value())
}

/// Writes a `LegalHold`.
pub fn write_legal_hold(is_held: bool, document: &mut Document) {
    document.text("Status", hold_word(is_held));
}

/// Reads a time from 1970 on, such as `2030-01-01T00:00:00Z`, to the millisecond.
pub fn time_of(text: &str) -> Option<i64> {
    let since = times::parse(text)?.duration_since(SystemTime::UNIX_EPOCH);
    i64::try_from(since.ok()?.as_millis()).ok()
}

/// Writes a time, as S3 does: `2030-01-01T00:00:00.000Z`.
pub fn time_text(ms: i64) -> String {
    let since = Duration::from_millis(u64::try_from(ms).unwrap_or(0));
    times::write(SystemTime::UNIX_EPOCH + since)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::xml::NAMESPACE;

    fn parse(inside: &str) -> Result<ObjectLockConfiguration, &'static str> {
        let document = format!("<ObjectLockConfiguration>{inside}</ObjectLockConfiguration>");
        ObjectLockConfiguration::parse(document.as_bytes()).map_err(|error| error.code())
    }

    #[test]
    fn what_is_written_is_read_again() {
        let periods = [Period::Days(1), Period::Days(36_500), Period::Years(100)];
        let defaults = periods.map(|period| {
            let mode = RetentionMode::Compliance;
            Some(DefaultRetention { mode, period })
        });
        for default in defaults.into_iter().chain([None]) {
            let configuration = ObjectLockConfiguration { default };
            let mut document = Document::new("ObjectLockConfiguration", Some(NAMESPACE));
            configuration.write(&mut document);
            let read = ObjectLockConfiguration::parse(&document.finish());
            assert_eq!(read, Ok(configuration));
        }
        let retention = Retention {
            mode: RetentionMode::Governance,
            until_ms: 1_900_000_000_123,
        };
        let mut document = Document::new("Retention", Some(NAMESPACE));
        write_retention(&retention, &mut document);
        assert_eq!(parse_retention(&document.finish()), Ok(Some(retention)));
        for is_held in [true, false] {
            let mut document = Document::new("LegalHold", Some(NAMESPACE));
            write_legal_hold(is_held, &mut document);
            assert_eq!(parse_legal_hold(&document.finish()), Ok(is_held));
        }
    }

    #[test]
    fn a_default_has_a_mode_and_one_period() {
        let on = "<ObjectLockEnabled>Enabled</ObjectLockEnabled>";
        let with = |inside: &str| {
            parse(&format!(
                "{on}<Rule><DefaultRetention>{inside}</DefaultRetention></Rule>"
            ))
        };
        assert!(with("<Mode>GOVERNANCE</Mode><Days>1</Days>").is_ok());
        for (inside, code) in [
            ("<Mode>GOVERNANCE</Mode>", "MalformedXML"),
            ("<Days>1</Days>", "MalformedXML"),
            ("<Mode>governance</Mode><Days>1</Days>", "MalformedXML"),
            (
                "<Mode>GOVERNANCE</Mode><Days>1</Days><Years>1</Years>",
                "MalformedXML",
            ),
            ("<Mode>GOVERNANCE</Mode><Days>one</Days>", "MalformedXML"),
            ("<Mode>GOVERNANCE</Mode><Days>0</Days>", "InvalidArgument"),
            ("<Mode>GOVERNANCE</Mode><Days>-1</Days>", "InvalidArgument"),
            (
                "<Mode>GOVERNANCE</Mode><Days>36501</Days>",
                "InvalidArgument",
            ),
            (
                "<Mode>GOVERNANCE</Mode><Years>101</Years>",
                "InvalidArgument",
            ),
        ] {
            assert_eq!(with(inside), Err(code), "{inside}");
        }
        for inside in ["", "<ObjectLockEnabled>enabled</ObjectLockEnabled>"] {
            assert_eq!(parse(inside), Err("MalformedXML"), "{inside}");
        }
    }

    #[test]
    fn a_retention_has_both_or_neither() {
        let parse =
            |inside: &str| parse_retention(format!("<Retention>{inside}</Retention>").as_bytes());
        assert_eq!(parse(""), Ok(None));
        for inside in [
            "<Mode>GOVERNANCE</Mode>",
            "<RetainUntilDate>2030-01-01T00:00:00Z</RetainUntilDate>",
            "<Mode>FOREVER</Mode><RetainUntilDate>2030-01-01T00:00:00Z</RetainUntilDate>",
            "<Mode>GOVERNANCE</Mode><RetainUntilDate>tomorrow</RetainUntilDate>",
        ] {
            let error = parse(inside).unwrap_err();
            assert_eq!(error.code(), "MalformedXML", "{inside}");
        }
        assert!(parse_legal_hold(b"<LegalHold><Status>on</Status></LegalHold>").is_err());
        assert!(parse_legal_hold(b"<LegalHold/>").is_err());
    }
}
