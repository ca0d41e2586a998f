//! The canonical request and the string to sign.
//!
//! Both are made from the target as it was sent. Every piece is decoded and encoded again, byte by
//! byte, so that the spellings of one meaning share one signature and different meanings do not:
//!
//! | sent | read as | signed as |
//! |---|---|---|
//! | `~` or `%7E` or `%7e` | `~` | `~` |
//! | `+` in the path | `+` | `%2B` |
//! | `+` in the query | a space, as S3 reads forms | `%20` |
//! | `/` in the path | a separator | `/` |
//! | `%2F` or `%2f` in the path | a slash inside a segment | `%2F` |
//! | `//`, `.` and `..` in the path | as they stand; S3 collapses nothing | as they stand |
//! | `a` or `a=` in the query | `a` without a value | `a=` |
//! | an empty item in the query (`&&`) | nothing | nothing |
//! | `%` without two hexadecimal digits | – | refused |
//!
//! The slash is the one case where signers could differ. S3 decodes `%2F` in a key to a slash; a
//! signer that sends it also signs it as it stands, and keeping it apart stops a URL for `/a/b`
//! from being turned into one for `/a%2Fb`, which is another resource to most servers.

use std::borrow::Cow;

use aws_lc_rs::{constant_time, digest, hmac};
use http::HeaderMap;

use crate::signing::view::{self, raw_items};
use crate::signing::{Component, Refusal, SignedRequest};

use super::ALGORITHM;
use super::query::AuthParameter;
use super::scope::Timestamp;
use super::signed_headers::SignedHeaders;

const HEX_UPPER: &[u8; 16] = b"0123456789ABCDEF";
const HEX_LOWER: &[u8; 16] = b"0123456789abcdef";

/// The bytes that are never encoded (RFC 3986 §2.3).
const UNRESERVED: [bool; 256] = {
    let mut unreserved = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let character = byte as u8;
        unreserved[byte] =
            character.is_ascii_alphanumeric() || matches!(character, b'-' | b'_' | b'.' | b'~');
        byte += 1;
    }
    unreserved
};

/// The canonical request: method, path, query, signed header fields, their names, payload hash.
///
/// # Errors
/// [`Refusal::MalformedEscape`] and [`Refusal::SignedHeaderAbsent`].
pub(super) fn canonical_request(
    req: &SignedRequest,
    signed_headers: &SignedHeaders,
    payload: &str,
) -> Result<Vec<u8>, Refusal> {
    // Encoding at most triples a byte, but nearly all of a real target needs none.
    let mut out = Vec::with_capacity(req.path.len() + req.query.len() + req.host.len() + 256);
    out.extend_from_slice(req.method.as_bytes());
    out.push(b'\n');
    write_path(&mut out, req.path)?;
    out.push(b'\n');
    write_query(&mut out, req.query)?;
    out.push(b'\n');
    write_headers(&mut out, req.host, req.headers, signed_headers)?;
    out.push(b'\n');
    out.extend_from_slice(signed_headers.as_str().as_bytes());
    out.push(b'\n');
    out.extend_from_slice(payload.as_bytes());
    Ok(out)
}

/// The string to sign for a canonical request.
pub(super) fn string_to_sign(
    canonical_request: &[u8],
    timestamp: &Timestamp,
    scope: &str,
) -> StringToSign {
    let sha256 = digest::digest(&digest::SHA256, canonical_request);
    StringToSign::new(ALGORITHM, timestamp, scope).hex(sha256.as_ref())
}

fn write_path(out: &mut Vec<u8>, path: &str) -> Result<(), Refusal> {
    if path.is_empty() {
        out.push(b'/');
    }
    let bytes = path.as_bytes();
    let mut at = 0;
    loop {
        at += write_unreserved(out, &bytes[at..]);
        match bytes.get(at) {
            None => return Ok(()),
            Some(b'/') => out.push(b'/'),
            Some(b'%') => {
                push_encoded(out, escaped_byte(bytes, at, Component::Path)?);
                at += 2;
            }
            Some(plain) => push_encoded(out, *plain),
        }
        at += 1;
    }
}

/// Where one encoded `name=value` stands in a scratch buffer.
struct Item {
    start: usize,
    equals: usize,
    end: usize,
}

fn write_query(out: &mut Vec<u8>, query: &str) -> Result<(), Refusal> {
    let mut scratch = Vec::with_capacity(query.len() + 32);
    let mut items: Vec<Item> = Vec::with_capacity(16);
    let mut offset = 0;
    for item in raw_items(query) {
        let view::Item { name, value } = view::Item::of(item);
        let excluded =
            item.is_empty() || AuthParameter::of_raw_name(name) == Some(AuthParameter::Signature);
        if !excluded {
            let start = scratch.len();
            write_query_piece(&mut scratch, name, offset)?;
            let equals = scratch.len();
            scratch.push(b'=');
            write_query_piece(&mut scratch, value, offset + name.len() + 1)?;
            items.push(Item {
                start,
                equals,
                end: scratch.len(),
            });
        }
        offset += item.len() + 1;
    }
    let parts = |item: &Item| {
        (
            &scratch[item.start..item.equals],
            &scratch[item.equals + 1..item.end],
        )
    };
    items.sort_unstable_by(|a, b| parts(a).cmp(&parts(b)));
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(b'&');
        }
        out.extend_from_slice(&scratch[item.start..item.end]);
    }
    Ok(())
}

fn write_query_piece(out: &mut Vec<u8>, raw: &str, offset: usize) -> Result<(), Refusal> {
    let bytes = raw.as_bytes();
    let mut at = 0;
    loop {
        at += write_unreserved(out, &bytes[at..]);
        if at == bytes.len() {
            return Ok(());
        }
        let byte = query_byte(bytes, &mut at).map_err(|refusal| shifted(refusal, offset))?;
        push_encoded(out, byte);
    }
}

/// Appends what of the beginning of `bytes` is signed as it stands, and returns how much that is.
fn write_unreserved(out: &mut Vec<u8>, bytes: &[u8]) -> usize {
    let is_other = |byte: &u8| !UNRESERVED[usize::from(*byte)];
    let length = bytes.iter().position(is_other).unwrap_or(bytes.len());
    out.extend_from_slice(&bytes[..length]);
    length
}

/// The refusal of a piece, with its offset counted from the start of the whole query.
fn shifted(refusal: Refusal, by: usize) -> Refusal {
    match refusal {
        Refusal::MalformedEscape { component, offset } => Refusal::MalformedEscape {
            component,
            offset: offset + by,
        },
        other => other,
    }
}

fn write_headers(
    out: &mut Vec<u8>,
    host: &str,
    headers: &HeaderMap,
    signed_headers: &SignedHeaders,
) -> Result<(), Refusal> {
    for name in signed_headers.names() {
        out.extend_from_slice(name.as_bytes());
        out.push(b':');
        if name == "host" {
            write_header_value(out, host.as_bytes());
        } else {
            let mut values = headers.get_all(name).iter();
            let first = values.next().ok_or_else(|| SignedHeaders::absent(name))?;
            write_header_value(out, first.as_bytes());
            for value in values {
                out.push(b',');
                write_header_value(out, value.as_bytes());
            }
        }
        out.push(b'\n');
    }
    Ok(())
}

/// Writes a field value without white space around it and with single spaces inside it.
fn write_header_value(out: &mut Vec<u8>, value: &[u8]) {
    let words = value
        .split(|byte| matches!(byte, b' ' | b'\t'))
        .filter(|word| !word.is_empty());
    for (index, word) in words.enumerate() {
        if index > 0 {
            out.push(b' ');
        }
        out.extend_from_slice(word);
    }
}

/// Writes a byte as it is signed: unreserved characters (RFC 3986 §2.3) as they are, everything
/// else as an upper-case escape.
pub(super) fn push_encoded(out: &mut Vec<u8>, byte: u8) {
    if UNRESERVED[usize::from(byte)] {
        out.push(byte);
    } else {
        out.extend_from_slice(&[
            b'%',
            HEX_UPPER[usize::from(byte >> 4)],
            HEX_UPPER[usize::from(byte & 15)],
        ]);
    }
}

/// The bytes that a raw piece of a query stands for: escapes decoded, `+` read as a space.
///
/// # Errors
/// [`Refusal::MalformedEscape`] with the offset inside `raw`.
pub(in crate::signing) fn decode_query(raw: &str) -> Result<Cow<'_, [u8]>, Refusal> {
    let bytes = raw.as_bytes();
    if memchr::memchr2(b'%', b'+', bytes).is_none() {
        return Ok(Cow::Borrowed(bytes));
    }
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        decoded.push(query_byte(bytes, &mut at)?);
    }
    Ok(Cow::Owned(decoded))
}

/// Reads one byte of a query at `at` and moves behind it.
fn query_byte(bytes: &[u8], at: &mut usize) -> Result<u8, Refusal> {
    let byte = match bytes[*at] {
        b'%' => {
            let byte = escaped_byte(bytes, *at, Component::Query)?;
            *at += 2;
            byte
        }
        b'+' => b' ',
        plain => plain,
    };
    *at += 1;
    Ok(byte)
}

/// The byte that the escape at `at` stands for.
fn escaped_byte(bytes: &[u8], at: usize, component: Component) -> Result<u8, Refusal> {
    let digit = |offset: usize| match bytes.get(at + offset) {
        Some(digit @ b'0'..=b'9') => Some(digit - b'0'),
        Some(digit @ b'a'..=b'f') => Some(digit - b'a' + 10),
        Some(digit @ b'A'..=b'F') => Some(digit - b'A' + 10),
        _ => None,
    };
    match (digit(1), digit(2)) {
        (Some(high), Some(low)) => Ok(high << 4 | low),
        _ => Err(Refusal::MalformedEscape {
            component,
            offset: at,
        }),
    }
}

/// A signature as 64 lower-case hexadecimal digits.
#[derive(Clone)]
pub(super) struct Signature([u8; 64]);

impl Signature {
    /// The signature of a text.
    pub(super) fn of(text: &[u8], key: &hmac::Key) -> Self {
        let tag = hmac::sign(key, text);
        let mut digits = [0; 64];
        hex::encode_to_slice(tag.as_ref(), &mut digits)
            .expect("an HMAC-SHA256 tag has 32 bytes, 64 digits");
        Signature(digits)
    }

    /// Reads a signature. Upper-case digits are refused with the rest: no signer writes them, and
    /// one signature having many spellings would help nobody but a cache buster.
    ///
    /// # Errors
    /// [`Refusal::MalformedSignature`].
    pub(super) fn parse(text: &str) -> Result<Self, Refusal> {
        match <[u8; 64]>::try_from(text.as_bytes()) {
            Ok(digits)
                if digits
                    .iter()
                    .all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')) =>
            {
                Ok(Signature(digits))
            }
            _ => Err(Refusal::MalformedSignature { length: text.len() }),
        }
    }

    /// The digits.
    pub(super) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("a signature holds hexadecimal digits only")
    }

    /// Whether both are the same, in a time that does not tell where they differ
    /// (`constant-time-compare`).
    pub(super) fn matches(&self, other: &Signature) -> bool {
        constant_time::verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

/// A string to sign in the making: lines, the last one without a line feed.
pub(super) struct StringToSign(Vec<u8>);

impl StringToSign {
    /// Begins with the three lines that all of them share.
    pub(super) fn new(algorithm: &str, timestamp: &Timestamp, scope: &str) -> Self {
        // 220 covers the timestamp and three lines of 64 digits.
        let mut text = Vec::with_capacity(algorithm.len() + scope.len() + 220);
        text.extend_from_slice(algorithm.as_bytes());
        text.push(b'\n');
        text.extend_from_slice(timestamp.as_str().as_bytes());
        text.push(b'\n');
        text.extend_from_slice(scope.as_bytes());
        StringToSign(text)
    }

    /// Adds a line.
    pub(super) fn line(mut self, line: &str) -> Self {
        self.0.push(b'\n');
        self.0.extend_from_slice(line.as_bytes());
        self
    }

    /// Adds a line of lower-case hexadecimal digits.
    pub(super) fn hex(mut self, bytes: &[u8]) -> Self {
        self.0.push(b'\n');
        for byte in bytes {
            self.0.push(HEX_LOWER[usize::from(byte >> 4)]);
            self.0.push(HEX_LOWER[usize::from(byte & 15)]);
        }
        self
    }

    /// The signature of the whole.
    pub(super) fn sign(&self, key: &hmac::Key) -> Signature {
        Signature::of(&self.0, key)
    }

    /// The text, for a person. The scope may come from a stranger, but it is text.
    pub(super) fn into_string(self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }
}
