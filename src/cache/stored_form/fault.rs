//! Why a head cannot be written, and why bytes are no head.

use std::time::Duration;

use super::{MAX_BYTES, MAX_FIELDS, MAX_SECONDS, MAX_SELECTING, VERSION};
use crate::cache::key::NotAKey;
use crate::cache::policy::storable::NotStored;

/// Which time of a form is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// When it was written.
    Written,
    /// Its age then.
    Age,
    /// The freshness lifetime.
    Lifetime,
    /// For how long it may be used stale while it is revalidated.
    WhileRevalidating,
    /// For how long it may be used stale when the origin fails.
    IfError,
}

/// Why a head has no stored form. All but the first are limits of the format; such a response stays in
/// memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The response is one that is not stored.
    #[error("the response is not to be stored: {}", .0.word())]
    NotStored(NotStored),
    /// It has too many fields.
    #[error("{count} fields are more than {MAX_FIELDS}")]
    Fields {
        /// How many.
        count: usize,
    },
    /// It has too many selecting fields.
    #[error("{count} selecting fields are more than {MAX_SELECTING}")]
    Selecting {
        /// How many.
        count: usize,
    },
    /// The wall clock stands before 1970.
    #[error("the wall clock stands {0:?} before 1970")]
    BeforeEpoch(Duration),
    /// A time is too long.
    #[error("{time:?} is too long a time ({place:?}); {MAX_SECONDS} s is the limit")]
    Time {
        /// Which.
        place: Place,
        /// The time.
        time: Duration,
    },
    /// The form would be too long.
    #[error("a form of {bytes} bytes is longer than {MAX_BYTES}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
}

/// Why bytes are no stored form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// They are too many.
    #[error("{bytes} bytes are more than {MAX_BYTES}")]
    TooLong {
        /// How many.
        bytes: usize,
    },
    /// They end too early.
    #[error("they end within the {wanted_bytes} bytes from byte {offset} on")]
    Truncated {
        /// Where the part begins that is not all there.
        offset: usize,
        /// How long that part is.
        wanted_bytes: usize,
    },
    /// Bytes follow after the end.
    #[error("{bytes} bytes too many")]
    Trailing {
        /// How many.
        bytes: usize,
    },
    /// A version that is not ours.
    #[error("version {found}; this program reads version {VERSION}")]
    Version {
        /// The version.
        found: u8,
    },
    /// Flags that are never set.
    #[error("flags {found:#010b}")]
    Flags {
        /// The flags.
        found: u8,
    },
    /// No status.
    #[error("status {found}")]
    Status {
        /// What stands in its place.
        found: u16,
    },
    /// A length that is not known and not 0.
    #[error("an unknown length of {found}")]
    UnknownLength {
        /// What stands in its place.
        found: u64,
    },
    /// No time.
    #[error("a time ({place:?}) of {seconds} s and {nanoseconds} ns")]
    Time {
        /// Which.
        place: Place,
        /// Its seconds.
        seconds: u64,
        /// Its nanoseconds.
        nanoseconds: u32,
    },
    /// A lifetime from an unknown source, or a lifetime other than 0 from none.
    #[error("a lifetime of {lifetime:?} from source {found}")]
    Lifetime {
        /// The source.
        found: u8,
        /// The lifetime.
        lifetime: Duration,
    },
    /// No cache key.
    #[error("{0}")]
    Key(#[from] NotAKey),
    /// Too many fields.
    #[error("{count} fields are more than {MAX_FIELDS}")]
    Fields {
        /// How many.
        count: usize,
    },
    /// No field name in lower case.
    #[error("a name of {bytes} bytes that is no field name in lower case")]
    Name {
        /// Its length.
        bytes: usize,
    },
    /// No field value.
    #[error("the value of field {number} is none")]
    Value {
        /// Which field, counted from 0.
        number: usize,
    },
    /// A line of a field that stands apart from the others.
    #[error("field {number} stands apart from the lines of the same name")]
    FieldOrder {
        /// Which field, counted from 0.
        number: usize,
    },
    /// An unknown way to compare a selecting field.
    #[error("selecting field {number} is compared in way {found}")]
    SelectingRule {
        /// Which selecting field, counted from 0.
        number: u8,
        /// The way.
        found: u8,
    },
    /// Flags of a selecting field that are never set, or never without another one.
    #[error("selecting field {number} has flags {flags:#010b}")]
    SelectingFlags {
        /// Which selecting field, counted from 0.
        number: u8,
        /// The flags.
        flags: u8,
    },
    /// Selecting fields in another order than that of their names, or one twice.
    #[error("selecting field {number} is not behind the one before it")]
    SelectingOrder {
        /// Which selecting field, counted from 0.
        number: u8,
    },
    /// A language that is not text in lower case.
    #[error("a language that is not text in lower case")]
    Language,
    /// A Range that is no field value.
    #[error("a Range that is no field value")]
    Range,
}
