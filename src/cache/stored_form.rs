//! A stored response's head as bytes, for the disk tier, and back.
//!
//! Version 1, quoted in `docs/FORMATS.md`:
//!
//! ```text
//! offset  bytes
//!      0      1  version, 1
//!      1      1  flags: 1 the length of the body is known, 2 never used without validation, 4 never used
//!                stale, 8 in one language, 16 answers one Range only
//!      2      2  status, 100 to 999
//!      4      4  revision of the head
//!      8      8  generation of the body
//!     16      8  length of the body in bytes, 0 when it is not known
//!     24      8  sequence of the newest purge that is known not to touch it
//!     32     12  time at which it was written, since 1970-01-01T00:00:00Z by the wall clock
//!     44     12  time: its age when it was written
//!     56     12  time: freshness lifetime
//!     68     12  time: for how long it may be used stale while it is revalidated
//!     80     12  time: for how long it may be used stale when the origin fails
//!     92      1  the lifetime comes from: 0 nowhere (and is 0), 1 the origin, 2 the configuration, 3 heuristics
//!     93      1  number of selecting fields
//!     94      2  number of fields, at most 1024
//!     96         string: the cache key
//!                the fields in their order, the lines of one field together, each:
//!                  string: name in lower case
//!                  string: value
//!                the selecting fields in ascending order of their names, each:
//!             1    compared: 0 by preference, 1 as it came, 2 never (the response is not reused)
//!             1    flags: 1 came on one line, 2 was in the request
//!                  string: name in lower case
//!                  string, if on one line: the value as it came
//!                  string, if in the request: the value as it is compared
//!                string, if in one language: that language in lower case
//!                string, if it answers one Range only: the value of that field
//!
//! time:   8 bytes of seconds, below 2^40, then 4 bytes of nanoseconds, below 10^9
//! string: 4 bytes of length, then as many bytes
//! All numbers are little-endian. Nothing may follow, and all of it has at most 262144 bytes.
//! ```
//!
//! Ages are measured with a clock that ends with the process, so the form holds the age at the moment of
//! writing, and the wall clock says how much time has passed since. When it says less than nothing, what has
//! passed is not known, and the response comes back as one that must be validated (`never-fresher`).
//!
//! What is not written: the fields that were meant for the first client alone, the note of a failed
//! validation, and what follows from the rest (tags, wire form).

mod fault;
mod reader;
#[cfg(test)]
mod tests;

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use self::reader::Reader;
use super::key::CacheKey;
use super::policy::freshness::{Freshness, Lifetime};
use super::policy::vary::{Selected, Selecting};
use super::purge::Sequence;
use super::stored::{Generation, Head};
use crate::clock::Moment;
use crate::config::VaryRule;

pub use fault::{DecodeError, EncodeError, Place};

/// The version that is written, and the only one that is read.
pub const VERSION: u8 = 1;

/// The longest form in bytes. A head beyond it is not stored on disk.
pub const MAX_BYTES: usize = 256 * 1024;

/// The most fields of a stored head.
pub const MAX_FIELDS: usize = 1024;

/// The most selecting fields of a stored head; they are counted in one byte.
pub const MAX_SELECTING: usize = u8::MAX as usize;

/// Times are shorter than this many seconds, some 35,000 years, so that adding them up never overflows.
pub const MAX_SECONDS: u64 = 1 << 40;

const LENGTH_KNOWN: u8 = 1;
const ALWAYS_VALIDATE: u8 = 2;
const NEVER_STALE: u8 = 4;
const ONE_LANGUAGE: u8 = 8;
const ONE_RANGE: u8 = 16;
const ALL_FLAGS: u8 = 31;

const VERBATIM: u8 = 1;
const PRESENT: u8 = 2;

/// What a head must know of its body to find it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyFacts {
    /// Its generation.
    pub generation: Generation,
    /// Its length in bytes, once known.
    pub length: Option<u64>,
}

/// What a form held.
#[derive(Debug)]
pub struct Decoded {
    /// The key under which the response is stored.
    pub key: CacheKey,
    /// The head. Whether purges with a [sequence](Head::untouched_up_to) as high as its own were ever given
    /// is for the caller to judge: a log that was lost begins anew.
    pub head: Head,
    /// The number of the body's generation (see [`Generation::from_number`]).
    pub generation: u64,
    /// The length of the body in bytes, if it was known.
    pub length: Option<u64>,
    /// Which of several heads of one generation is the newest: the one with the highest revision.
    pub revision: u32,
}

/// The form of `head`, which answers requests with `key`. Each head of one generation has a higher `revision`
/// than the one it replaces.
///
/// # Errors
/// When the response is one that is not stored, or exceeds a limit of the format.
pub fn encode(
    key: &CacheKey,
    head: &Head,
    body: BodyFacts,
    revision: u32,
    now: Moment,
) -> Result<Vec<u8>, EncodeError> {
    if let Some(why) = head.not_stored {
        return Err(EncodeError::NotStored(why));
    }
    let selecting = &head.selecting;
    let (fields, selected) = (head.fields.len(), selecting.fields.len());
    if fields > MAX_FIELDS {
        return Err(EncodeError::Fields { count: fields });
    }
    let selected =
        u8::try_from(selected).map_err(|_| EncodeError::Selecting { count: selected })?;
    let written = (now.wall.duration_since(SystemTime::UNIX_EPOCH))
        .map_err(|before| EncodeError::BeforeEpoch(before.duration()))?;
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    let freshness = &head.freshness;
    let flags = flag(body.length.is_some(), LENGTH_KNOWN)
        | flag(freshness.always_validate, ALWAYS_VALIDATE)
        | flag(freshness.never_stale, NEVER_STALE)
        | flag(selecting.language.is_some(), ONE_LANGUAGE)
        | flag(selecting.range.is_some(), ONE_RANGE);

    let mut form = Vec::with_capacity(256 + key.as_bytes().len() + head.wire.len() * 2);
    form.extend([VERSION, flags]);
    form.extend(head.status.as_u16().to_le_bytes());
    form.extend(revision.to_le_bytes());
    form.extend(body.generation.number().to_le_bytes());
    form.extend(body.length.unwrap_or_default().to_le_bytes());
    form.extend(head.untouched_up_to().number().to_le_bytes());
    for (place, time) in [
        (Place::Written, written),
        (Place::Age, freshness.current_age(now)),
        (Place::Lifetime, freshness.lifetime.duration()),
        (Place::WhileRevalidating, freshness.while_revalidating),
        (Place::IfError, freshness.if_error),
    ] {
        if time.as_secs() >= MAX_SECONDS {
            return Err(EncodeError::Time { place, time });
        }
        form.extend(time.as_secs().to_le_bytes());
        form.extend(time.subsec_nanos().to_le_bytes());
    }
    form.extend([source_of(freshness.lifetime), selected]);
    // At most MAX_FIELDS.
    form.extend((fields as u16).to_le_bytes());
    push_string(&mut form, key.as_bytes());
    for (name, value) in &head.fields {
        push_string(&mut form, name.as_str().as_bytes());
        push_string(&mut form, value.as_bytes());
    }
    for selected in &selecting.fields {
        push_selected(&mut form, selected);
    }
    if let Some(language) = &selecting.language {
        push_string(&mut form, language.as_bytes());
    }
    if let Some(range) = &selecting.range {
        push_string(&mut form, range.as_bytes());
    }
    match form.len() {
        bytes if bytes > MAX_BYTES => Err(EncodeError::TooLong { bytes }),
        _ => Ok(form),
    }
}

fn push_string(form: &mut Vec<u8>, string: &[u8]) {
    // A form with a string of 4 GiB is refused for its length.
    form.extend((string.len() as u32).to_le_bytes());
    form.extend(string);
}

fn push_selected(form: &mut Vec<u8>, selected: &Selected) {
    let verbatim = selected.verbatim.as_ref().map_or(0, |_| VERBATIM);
    let present = selected.value.as_ref().map_or(0, |_| PRESENT);
    let rule = match selected.rule {
        VaryRule::Normalise => 0,
        VaryRule::Passthrough => 1,
        VaryRule::Bypass => 2,
    };
    form.extend([rule, verbatim | present]);
    push_string(form, selected.name.as_str().as_bytes());
    for value in [&selected.verbatim, &selected.value].into_iter().flatten() {
        push_string(form, value);
    }
}

fn source_of(lifetime: Lifetime) -> u8 {
    match lifetime {
        Lifetime::Unknown => 0,
        Lifetime::Explicit(_) => 1,
        Lifetime::Configured(_) => 2,
        Lifetime::Heuristic(_) => 3,
    }
}

/// The head that was encoded as `form`, as old as the wall clock makes it; must be validated when the wall
/// clock stands before the time of writing.
///
/// # Errors
/// When `form` is nothing that [`encode`] writes.
pub fn decode(form: &[u8], now: Moment) -> Result<Decoded, DecodeError> {
    if form.len() > MAX_BYTES {
        return Err(DecodeError::TooLong { bytes: form.len() });
    }
    let mut form = Reader::new(form);
    let [version, flags] = form.array()?;
    if version != VERSION {
        return Err(DecodeError::Version { found: version });
    }
    if flags & !ALL_FLAGS != 0 {
        return Err(DecodeError::Flags { found: flags });
    }
    let status = u16::from_le_bytes(form.array()?);
    let status = StatusCode::from_u16(status).map_err(|_| DecodeError::Status { found: status })?;
    let revision = u32::from_le_bytes(form.array()?);
    let generation = form.u64()?;
    let length = match (form.u64()?, flags & LENGTH_KNOWN != 0) {
        (length, true) => Some(length),
        (0, false) => None,
        (found, false) => return Err(DecodeError::UnknownLength { found }),
    };
    let untouched_up_to = Sequence::new(form.u64()?);
    let freshness = read_freshness(&mut form, flags, now)?;
    let [selected] = form.array()?;
    let fields = u16::from_le_bytes(form.array()?);
    let key = CacheKey::from_bytes(form.string()?)?;
    let fields = read_fields(&mut form, usize::from(fields))?;
    let selecting = read_selecting(&mut form, selected, flags)?;
    form.end()?;
    let head = Head::new(status, fields, freshness, selecting);
    head.set_untouched_up_to(untouched_up_to);
    Ok(Decoded {
        key,
        head,
        generation,
        length,
        revision,
    })
}

fn read_freshness(form: &mut Reader<'_>, flags: u8, now: Moment) -> Result<Freshness, DecodeError> {
    let written = SystemTime::UNIX_EPOCH + form.time(Place::Written)?;
    let age = form.time(Place::Age)?;
    let lifetime = form.time(Place::Lifetime)?;
    let while_revalidating = form.time(Place::WhileRevalidating)?;
    let if_error = form.time(Place::IfError)?;
    let [source] = form.array()?;
    let lifetime = match (source, lifetime) {
        (0, Duration::ZERO) => Lifetime::Unknown,
        (1, lifetime) => Lifetime::Explicit(lifetime),
        (2, lifetime) => Lifetime::Configured(lifetime),
        (3, lifetime) => Lifetime::Heuristic(lifetime),
        (found, lifetime) => return Err(DecodeError::Lifetime { found, lifetime }),
    };
    let freshness = Freshness {
        lifetime,
        initial_age: age,
        // All that has passed since the origin answered is in its age.
        received: now.monotonic,
        always_validate: flags & ALWAYS_VALIDATE != 0,
        never_stale: flags & NEVER_STALE != 0,
        while_revalidating,
        if_error,
    };
    Ok(match now.wall.duration_since(written) {
        Ok(passed) => Freshness {
            // Cannot overflow: the one is below MAX_SECONDS, the other what a SystemTime can hold.
            initial_age: age + passed,
            ..freshness
        },
        Err(_) => Freshness {
            never_stale: true,
            while_revalidating: Duration::ZERO,
            if_error: Duration::ZERO,
            ..freshness.expired(now)
        },
    })
}

fn read_fields(form: &mut Reader<'_>, count: usize) -> Result<HeaderMap, DecodeError> {
    if count > MAX_FIELDS {
        return Err(DecodeError::Fields { count });
    }
    let mut fields = HeaderMap::with_capacity(count);
    let mut previous = None;
    for number in 0..count {
        let name = read_name(form)?;
        // A HeaderMap keeps the lines of one field together.
        if previous.as_ref() != Some(&name) && fields.contains_key(&name) {
            return Err(DecodeError::FieldOrder { number });
        }
        let value = form.string()?;
        let value = HeaderValue::from_bytes(value).map_err(|_| DecodeError::Value { number })?;
        fields.append(name.clone(), value);
        previous = Some(name);
    }
    Ok(fields)
}

fn read_name(form: &mut Reader<'_>) -> Result<HeaderName, DecodeError> {
    let name = form.string()?;
    HeaderName::from_lowercase(name).map_err(|_| DecodeError::Name { bytes: name.len() })
}

fn read_selecting(form: &mut Reader<'_>, count: u8, flags: u8) -> Result<Selecting, DecodeError> {
    let mut fields: Vec<Selected> = Vec::with_capacity(usize::from(count));
    for number in 0..count {
        let selected = read_selected(form, number)?;
        let last = fields.last().map(|last| last.name.as_str());
        if last.is_some_and(|last| last >= selected.name.as_str()) {
            return Err(DecodeError::SelectingOrder { number });
        }
        fields.push(selected);
    }
    let language = match flags & ONE_LANGUAGE {
        0 => None,
        _ => Some(read_language(form)?),
    };
    let range = match flags & ONE_RANGE {
        0 => None,
        _ => Some(HeaderValue::from_bytes(form.string()?).map_err(|_| DecodeError::Range)?),
    };
    Ok(Selecting {
        fields,
        language,
        range,
    })
}

fn read_selected(form: &mut Reader<'_>, number: u8) -> Result<Selected, DecodeError> {
    let [rule, flags] = form.array()?;
    let rule = match (rule, flags) {
        // What came on one line was in the request.
        (_, VERBATIM) | (_, 4..) => return Err(DecodeError::SelectingFlags { number, flags }),
        (0, _) => VaryRule::Normalise,
        (1, _) => VaryRule::Passthrough,
        (2, _) => VaryRule::Bypass,
        (found, _) => return Err(DecodeError::SelectingRule { number, found }),
    };
    let name = read_name(form)?;
    let mut value_if = |flag: u8| match flags & flag {
        0 => Ok(None),
        _ => form.string().map(|value| Some(Box::from(value))),
    };
    Ok(Selected {
        name,
        rule,
        verbatim: value_if(VERBATIM)?,
        value: value_if(PRESENT)?,
    })
}

fn read_language(form: &mut Reader<'_>) -> Result<Box<str>, DecodeError> {
    match std::str::from_utf8(form.string()?) {
        Ok(language) if !language.bytes().any(|byte| byte.is_ascii_uppercase()) => {
            Ok(language.into())
        }
        _ => Err(DecodeError::Language),
    }
}
