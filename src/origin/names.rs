//! Names that clients choose: which bucket names and object keys exist, and how a raw path spells them.
//!
//! Path style, `/bucket/key`, or the bucket in the host and `/key`. A path is decoded once, here, after the signature over its raw form has
//! been verified. Object keys are row data and never become file names, so `//`, dots and a leading `/`
//! mean nothing special.

use std::fmt;
use std::net::Ipv4Addr;

use percent_encoding::percent_decode_str;

/// The longest object key in bytes of UTF-8 (S3, "Naming Amazon S3 objects").
pub const OBJECT_KEY_MAX_BYTES: usize = 1024;

/// The shortest and the longest bucket name in bytes (S3, "Bucket naming rules").
pub const BUCKET_NAME_BYTES: std::ops::RangeInclusive<usize> = 3..=63;

/// Beginnings that S3 reserves for itself.
const RESERVED_PREFIXES: [&str; 2] = ["xn--", "sthree-"];
/// Endings that S3 reserves for access points and their kin.
const RESERVED_SUFFIXES: [&str; 5] = ["-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3"];

/// A bucket name that keeps S3's rules.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BucketName(String);

/// An object key: 1 to [`OBJECT_KEY_MAX_BYTES`] bytes of UTF-8.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey(String);

/// What a request path points at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// `/`
    Service,
    /// `/bucket` or `/bucket/`
    Bucket(BucketName),
    /// `/bucket/key`
    Object(BucketName, ObjectKey),
}

/// Why a name was refused. All of these are the client's to mend.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Outside [`BUCKET_NAME_BYTES`].
    #[error("a bucket name has 3 to 63 bytes, this one has {bytes}")]
    BucketLength {
        /// Length of the refused name.
        bytes: usize,
    },
    /// Something other than `a-z`, `0-9`, `.` and `-`, or one of the latter two at an end.
    #[error("byte {position} of the bucket name is not allowed there")]
    BucketCharacter {
        /// Offset of the first offending byte.
        position: usize,
    },
    /// `..`, which could not be a DNS name.
    #[error("the bucket name has two dots in a row at byte {position}")]
    BucketDots {
        /// Offset of the second dot.
        position: usize,
    },
    /// Formatted like an IPv4 address.
    #[error("the bucket name looks like an IP address")]
    BucketAddress,
    /// A prefix or suffix that S3 keeps for itself.
    #[error("the bucket name has a reserved beginning or ending")]
    BucketReserved,
    /// The key exceeds [`OBJECT_KEY_MAX_BYTES`] after decoding.
    #[error("an object key has at most 1024 bytes, this one has {bytes}")]
    KeyTooLong {
        /// Length of the refused key.
        bytes: usize,
    },
    /// The API was given an empty key.
    #[error("an object key has at least one byte")]
    KeyEmpty,
    /// A `%` that is not followed by two hexadecimal digits.
    #[error("broken percent-encoding at byte {position}")]
    PercentEncoding {
        /// Offset of the `%` in the raw text.
        position: usize,
    },
    /// The decoded bytes are not UTF-8.
    #[error("not UTF-8 after percent-decoding")]
    NotUtf8,
    /// The path does not begin with `/` (`OPTIONS *`, for one).
    #[error("the path does not begin with a slash")]
    NotAbsolute,
}

impl BucketName {
    /// Accepts a name that keeps S3's rules for general purpose buckets.
    ///
    /// # Errors
    /// The first rule it breaks.
    pub fn new(name: impl Into<String>) -> Result<Self, NameError> {
        let name = name.into();
        check_bucket_name(&name)?;
        Ok(BucketName(name))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl ObjectKey {
    /// Accepts any non-empty text within the length limit.
    ///
    /// # Errors
    /// [`NameError::KeyEmpty`] or [`NameError::KeyTooLong`].
    pub fn new(key: impl Into<String>) -> Result<Self, NameError> {
        let key = key.into();
        match key.len() {
            0 => Err(NameError::KeyEmpty),
            1..=OBJECT_KEY_MAX_BYTES => Ok(ObjectKey(key)),
            bytes => Err(NameError::KeyTooLong { bytes }),
        }
    }

    /// The key.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BucketName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Reads the target out of a raw (still encoded) request path.
///
/// # Errors
/// The name that breaks a rule, or the encoding that cannot be undone.
pub fn parse_target(raw_path: &str) -> Result<Target, NameError> {
    let rest = raw_path.strip_prefix('/').ok_or(NameError::NotAbsolute)?;
    if rest.is_empty() {
        return Ok(Target::Service);
    }
    // Split before decoding: an encoded slash belongs to the key, never to the bucket.
    let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
    let bucket = BucketName::new(decode_once(bucket)?)?;
    if key.is_empty() {
        return Ok(Target::Bucket(bucket));
    }
    Ok(Target::Object(bucket, ObjectKey::new(decode_once(key)?)?))
}

/// Reads the target out of a raw request path whose host names the bucket.
///
/// # Errors
/// As [`parse_target`].
pub fn parse_target_in(bucket: &str, raw_path: &str) -> Result<Target, NameError> {
    let key = raw_path.strip_prefix('/').ok_or(NameError::NotAbsolute)?;
    let bucket = BucketName::new(bucket)?;
    if key.is_empty() {
        return Ok(Target::Bucket(bucket));
    }
    Ok(Target::Object(bucket, ObjectKey::new(decode_once(key)?)?))
}

/// Undoes percent-encoding exactly once. Unlike lenient decoders it refuses a stray `%`, because two
/// spellings of one key must not both be guesses.
///
/// # Errors
/// [`NameError::PercentEncoding`] or [`NameError::NotUtf8`].
pub fn decode_once(raw: &str) -> Result<String, NameError> {
    let bytes = raw.as_bytes();
    for (position, byte) in bytes.iter().enumerate() {
        let two_digits = || {
            bytes
                .get(position + 1..position + 3)
                .is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
        };
        if *byte == b'%' && !two_digits() {
            return Err(NameError::PercentEncoding { position });
        }
    }
    percent_decode_str(raw)
        .decode_utf8()
        .map(|decoded| decoded.into_owned())
        .map_err(|_| NameError::NotUtf8)
}

fn check_bucket_name(name: &str) -> Result<(), NameError> {
    let bytes = name.as_bytes();
    if !BUCKET_NAME_BYTES.contains(&bytes.len()) {
        return Err(NameError::BucketLength { bytes: bytes.len() });
    }
    for (position, byte) in bytes.iter().enumerate() {
        let at_an_end = position == 0 || position == bytes.len() - 1;
        let allowed = match byte {
            b'a'..=b'z' | b'0'..=b'9' => true,
            b'.' | b'-' => !at_an_end,
            _ => false,
        };
        if !allowed {
            return Err(NameError::BucketCharacter { position });
        }
        if *byte == b'.' && bytes[position - 1] == b'.' {
            return Err(NameError::BucketDots { position });
        }
    }
    if name.parse::<Ipv4Addr>().is_ok() {
        return Err(NameError::BucketAddress);
    }
    let reserved = RESERVED_PREFIXES.iter().any(|p| name.starts_with(p))
        || RESERVED_SUFFIXES.iter().any(|s| name.ends_with(s));
    if reserved {
        return Err(NameError::BucketReserved);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket_names_keep_the_s3_rules() {
        let long = "a".repeat(63);
        let too_long = "a".repeat(64);
        let cases: &[(&str, Result<(), NameError>)] = &[
            ("abc", Ok(())),
            ("a-b.c9", Ok(())),
            (&long, Ok(())),
            (&too_long, Err(NameError::BucketLength { bytes: 64 })),
            ("ab", Err(NameError::BucketLength { bytes: 2 })),
            ("", Err(NameError::BucketLength { bytes: 0 })),
            ("Abc", Err(NameError::BucketCharacter { position: 0 })),
            ("a_c", Err(NameError::BucketCharacter { position: 1 })),
            ("-bc", Err(NameError::BucketCharacter { position: 0 })),
            ("ab-", Err(NameError::BucketCharacter { position: 2 })),
            (".bc", Err(NameError::BucketCharacter { position: 0 })),
            ("ab.", Err(NameError::BucketCharacter { position: 2 })),
            ("a..c", Err(NameError::BucketDots { position: 2 })),
            ("192.168.5.4", Err(NameError::BucketAddress)),
            ("192.168.5.400", Ok(())),
            ("xn--abc", Err(NameError::BucketReserved)),
            ("abc--ol-s3", Err(NameError::BucketReserved)),
            ("bücher", Err(NameError::BucketCharacter { position: 1 })),
        ];
        for (name, expected) in cases {
            assert_eq!(&BucketName::new(*name).map(|_| ()), expected, "{name}");
        }
    }

    #[test]
    fn a_bucket_in_the_host_leaves_the_whole_path_to_the_key() {
        let bucket = || BucketName::new("films").unwrap();
        let object = |key: &str| Ok(Target::Object(bucket(), ObjectKey::new(key).unwrap()));
        for (path, expected) in [
            ("/", Ok(Target::Bucket(bucket()))),
            ("/films/a", object("films/a")),
            ("//a%20b", object("/a b")),
            ("/%zz", Err(NameError::PercentEncoding { position: 0 })),
            ("", Err(NameError::NotAbsolute)),
        ] {
            assert_eq!(parse_target_in("films", path), expected, "{path}");
        }
        let upper = parse_target_in("Films", "/a");
        assert_eq!(upper, Err(NameError::BucketCharacter { position: 0 }));
    }

    #[test]
    fn a_path_is_split_first_and_decoded_once() {
        let object = |key: &str| {
            Ok(Target::Object(
                BucketName::new("films").unwrap(),
                ObjectKey::new(key).unwrap(),
            ))
        };
        let long = format!("/films/{}", "%61".repeat(1024));
        let too_long = format!("/films/{}", "a".repeat(1025));
        let cases: &[(&str, Result<Target, NameError>)] = &[
            ("/", Ok(Target::Service)),
            (
                "/films",
                Ok(Target::Bucket(BucketName::new("films").unwrap())),
            ),
            (
                "/films/",
                Ok(Target::Bucket(BucketName::new("films").unwrap())),
            ),
            ("/films/a", object("a")),
            ("/films//a", object("/a")),
            ("/films/%2Fa", object("/a")),
            ("/films/a//b/../c/./", object("a//b/../c/./")),
            ("/films/a%252F", object("a%2F")),
            ("/films/a+b%20c", object("a+b c")),
            ("/films/%E2%82%AC", object("€")),
            (&long, object(&"a".repeat(1024))),
            (&too_long, Err(NameError::KeyTooLong { bytes: 1025 })),
            ("/films/%E2%82", Err(NameError::NotUtf8)),
            (
                "/films/a%2",
                Err(NameError::PercentEncoding { position: 1 }),
            ),
            (
                "/films/%zz",
                Err(NameError::PercentEncoding { position: 0 }),
            ),
            (
                "/films%2Fa",
                Err(NameError::BucketCharacter { position: 5 }),
            ),
            ("*", Err(NameError::NotAbsolute)),
            ("", Err(NameError::NotAbsolute)),
        ];
        for (path, expected) in cases {
            assert_eq!(&parse_target(path), expected, "{path}");
        }
    }
}
