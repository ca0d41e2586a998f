//! The credential scope and the instant of signing.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use aws_lc_rs::hmac;
use time::{Date, Month, OffsetDateTime, Time};

use crate::secret::Secret;
use crate::signing::{Refusal, Rules};

/// The last part of every credential.
const TERMINATOR: &str = "aws4_request";

/// The service that every credential here is scoped to.
const SERVICE: &str = "s3";

/// A parsed credential: `id/yyyymmdd/region/service/aws4_request`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Credential<'a> {
    text: Cow<'a, str>,
    id_length: usize,
    date: [u8; 8],
    region_length: usize,
}

impl<'a> Credential<'a> {
    /// Parses a credential, from its end, because an access key id may contain slashes.
    ///
    /// # Errors
    /// [`Refusal::MalformedCredential`].
    pub(super) fn parse(text: Cow<'a, str>) -> Result<Self, Refusal> {
        let mut parts = text.rsplitn(5, '/');
        let mut next = || {
            parts
                .next()
                .filter(|part| !part.is_empty())
                .ok_or(Refusal::MalformedCredential)
        };
        let (terminator, _service, region, date, access_key_id) =
            (next()?, next()?, next()?, next()?, next()?);
        let date = <[u8; 8]>::try_from(date.as_bytes())
            .ok()
            .filter(|date| date.iter().all(u8::is_ascii_digit))
            .ok_or(Refusal::MalformedCredential)?;
        if terminator != TERMINATOR {
            return Err(Refusal::MalformedCredential);
        }
        let (id_length, region_length) = (access_key_id.len(), region.len());
        Ok(Credential {
            text,
            id_length,
            date,
            region_length,
        })
    }

    /// Who signed.
    pub(super) fn access_key_id(&self) -> &str {
        &self.text[..self.id_length]
    }

    /// The day of signing, `yyyymmdd`.
    pub(super) fn date(&self) -> [u8; 8] {
        self.date
    }

    /// The region signed for.
    pub(super) fn region(&self) -> &str {
        &self.scope()[self.date.len() + 1..][..self.region_length]
    }

    /// Everything after the id, as it stands in the string to sign.
    pub(super) fn scope(&self) -> &str {
        &self.text[self.id_length + 1..]
    }

    /// Checks the credential against the date of signing and the rules, and that it is for S3.
    ///
    /// # Errors
    /// [`Refusal::CredentialDateMismatch`], [`Refusal::WrongRegion`], [`Refusal::WrongService`].
    pub(super) fn check_scope(&self, timestamp: &Timestamp, rules: &Rules) -> Result<(), Refusal> {
        if self.date() != timestamp.date() {
            return Err(Refusal::CredentialDateMismatch);
        }
        if rules.region.is_some_and(|region| region != self.region()) {
            return Err(Refusal::WrongRegion);
        }
        self.check_service()
    }

    fn check_service(&self) -> Result<(), Refusal> {
        let tail = &self.scope()[self.date.len() + 1 + self.region_length + 1..];
        match tail.split_once('/') {
            Some((SERVICE, _)) => Ok(()),
            _ => Err(Refusal::WrongService),
        }
    }
}

/// The scope part of a credential that we make ourselves.
pub(super) fn scope(timestamp: &Timestamp, region: &str) -> String {
    let date = &timestamp.as_str()[..8];
    format!("{date}/{region}/{SERVICE}/{TERMINATOR}")
}

/// The signing key: a chain of keyed hashes over date, region, service and terminator, starting
/// from the secret.
pub(in crate::signing) fn derive_signing_key(
    secret: &Secret,
    date: &[u8; 8],
    region: &str,
) -> hmac::Key {
    let start = [b"AWS4".as_slice(), secret.reveal().as_bytes()].concat();
    let parts = [
        date.as_slice(),
        region.as_bytes(),
        SERVICE.as_bytes(),
        TERMINATOR.as_bytes(),
    ];
    parts
        .iter()
        .fold(hmac::Key::new(hmac::HMAC_SHA256, &start), |key, part| {
            hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, part).as_ref())
        })
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
    pub(super) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.text).expect("a timestamp holds ASCII only")
    }
}

/// The value of up to four decimal digits, or `None` when one of them is no digit.
fn digits(text: &[u8]) -> Option<u16> {
    text.iter().try_fold(0, |value: u16, byte| {
        byte.is_ascii_digit()
            .then(|| value * 10 + u16::from(byte - b'0'))
    })
}
