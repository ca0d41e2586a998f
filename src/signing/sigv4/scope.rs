//! The credential scope and the instant of signing.

use std::time::{Duration, SystemTime};

use time::{Date, Month, OffsetDateTime, Time};

use crate::signing::Refusal;

/// The last part of every credential.
const TERMINATOR: &str = "aws4_request";

/// The service that every credential here is scoped to.
pub(super) const SERVICE: &str = "s3";

/// A parsed credential: `id/yyyymmdd/region/service/aws4_request`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Credential<'a> {
    /// Who signed. May itself contain slashes.
    pub(super) access_key_id: &'a str,
    /// The day of signing, `yyyymmdd`.
    pub(super) date: [u8; 8],
    /// The region signed for.
    pub(super) region: &'a str,
    /// Everything after the id, as it stands in the string to sign.
    pub(super) scope: &'a str,
}

impl<'a> Credential<'a> {
    /// Parses a credential, from its end, because an access key id may contain slashes.
    ///
    /// # Errors
    /// [`Refusal::MalformedCredential`], or [`Refusal::WrongService`] when it is whole but not
    /// for S3.
    pub(super) fn parse(text: &'a str) -> Result<Self, Refusal> {
        let mut parts = text.rsplitn(5, '/');
        let mut next = || parts.next().ok_or(Refusal::MalformedCredential);
        let (terminator, service, region, date, access_key_id) =
            (next()?, next()?, next()?, next()?, next()?);
        let date: [u8; 8] = date
            .as_bytes()
            .try_into()
            .map_err(|_| Refusal::MalformedCredential)?;
        if terminator != TERMINATOR
            || region.is_empty()
            || access_key_id.is_empty()
            || !date.iter().all(u8::is_ascii_digit)
        {
            return Err(Refusal::MalformedCredential);
        }
        if service != SERVICE {
            return Err(Refusal::WrongService);
        }
        Ok(Credential {
            access_key_id,
            date,
            region,
            scope: &text[access_key_id.len() + 1..],
        })
    }
}

/// The scope part of a credential that we make ourselves.
pub(super) fn scope(date: &str, region: &str) -> String {
    format!("{date}/{region}/{SERVICE}/{TERMINATOR}")
}

/// An instant in the only form that is signed: `yyyymmddThhmmssZ`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Timestamp {
    text: [u8; 16],
    instant: SystemTime,
}

impl Timestamp {
    /// Parses `yyyymmddThhmmssZ`. A leap second does not exist for S3 and is refused.
    ///
    /// # Errors
    /// [`Refusal::MalformedDate`].
    pub(super) fn parse(text: &str) -> Result<Self, Refusal> {
        Self::read(text).ok_or(Refusal::MalformedDate)
    }

    fn read(text: &str) -> Option<Self> {
        let text: [u8; 16] = text.as_bytes().try_into().ok()?;
        if text[8] != b'T' || text[15] != b'Z' {
            return None;
        }
        let year = digits(&text[0..4])?;
        let month = Month::try_from(u8::try_from(digits(&text[4..6])?).ok()?).ok()?;
        let day = u8::try_from(digits(&text[6..8])?).ok()?;
        let date = Date::from_calendar_date(i32::from(year), month, day).ok()?;
        let time = Time::from_hms(
            u8::try_from(digits(&text[9..11])?).ok()?,
            u8::try_from(digits(&text[11..13])?).ok()?,
            u8::try_from(digits(&text[13..15])?).ok()?,
        )
        .ok()?;
        Some(Timestamp {
            text,
            instant: OffsetDateTime::new_utc(date, time).into(),
        })
    }

    /// The timestamp of an instant, rounded down to the second; `None` outside the years 1970 to
    /// 9999.
    pub(super) fn of(instant: SystemTime) -> Option<Self> {
        let seconds = instant
            .duration_since(SystemTime::UNIX_EPOCH)
            .ok()?
            .as_secs();
        let moment = OffsetDateTime::from_unix_timestamp(i64::try_from(seconds).ok()?).ok()?;
        let text = format!(
            "{:04}{:02}{:02}T{:02}{:02}{:02}Z",
            moment.year(),
            u8::from(moment.month()),
            moment.day(),
            moment.hour(),
            moment.minute(),
            moment.second(),
        );
        Some(Timestamp {
            text: text.as_bytes().try_into().ok()?,
            instant: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
        })
    }

    /// The instant meant.
    pub(super) fn instant(&self) -> SystemTime {
        self.instant
    }

    /// The day, `yyyymmdd`.
    pub(super) fn date(&self) -> [u8; 8] {
        let mut date = [0; 8];
        date.copy_from_slice(&self.text[..8]);
        date
    }

    /// The text as it is signed.
    pub(super) fn as_bytes(&self) -> &[u8; 16] {
        &self.text
    }
}

/// The value of up to four decimal digits, or `None` when one of them is no digit.
fn digits(text: &[u8]) -> Option<u16> {
    text.iter().try_fold(0, |value: u16, byte| {
        byte.is_ascii_digit()
            .then(|| value * 10 + u16::from(byte - b'0'))
    })
}
