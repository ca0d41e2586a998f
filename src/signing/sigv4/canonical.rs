//! The canonical request and the string to sign.

use std::borrow::Cow;

use aws_lc_rs::{constant_time, hmac};

use crate::signing::{Component, Refusal};

use super::scope::Timestamp;

/// A signature as 64 lower-case hexadecimal digits.
#[derive(Clone)]
pub(super) struct Signature([u8; 64]);

impl Signature {
    /// Reads a signature. Upper-case digits are refused with the rest: no signer writes them.
    ///
    /// # Errors
    /// [`Refusal::MalformedSignature`].
    pub(super) fn parse(text: &str) -> Result<Self, Refusal> {
        let malformed = Refusal::MalformedSignature { length: text.len() };
        let digits: [u8; 64] = match text.as_bytes().try_into() {
            Ok(digits) => digits,
            Err(_) => return Err(malformed),
        };
        if !digits
            .iter()
            .all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
        {
            return Err(malformed);
        }
        Ok(Signature(digits))
    }

    /// The digits.
    pub(super) fn hex(&self) -> &[u8] {
        &self.0
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
        let mut text = Vec::with_capacity(algorithm.len() + scope.len() + 220);
        text.extend_from_slice(algorithm.as_bytes());
        text.push(b'\n');
        text.extend_from_slice(timestamp.as_bytes());
        text.push(b'\n');
        text.extend_from_slice(scope.as_bytes());
        StringToSign(text)
    }

    /// Adds a line.
    pub(super) fn line(mut self, line: &[u8]) -> Self {
        self.0.push(b'\n');
        self.0.extend_from_slice(line);
        self
    }

    /// Adds a line of lower-case hexadecimal digits.
    pub(super) fn hex(mut self, bytes: &[u8]) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        self.0.push(b'\n');
        for byte in bytes {
            self.0.push(DIGITS[usize::from(byte >> 4)]);
            self.0.push(DIGITS[usize::from(byte & 15)]);
        }
        self
    }

    /// The signature of the whole.
    pub(super) fn sign(&self, key: &hmac::Key) -> Signature {
        let tag = hmac::sign(key, &self.0);
        let mut digits = [0; 64];
        hex::encode_to_slice(tag.as_ref(), &mut digits)
            .expect("an HMAC-SHA256 tag has 32 bytes, 64 digits");
        Signature(digits)
    }
}

/// The bytes that a raw piece of a query stands for: escapes decoded, `+` read as a space.
///
/// # Errors
/// [`Refusal::MalformedEscape`] with the offset inside `raw`.
pub(super) fn decode_query(raw: &str) -> Result<Cow<'_, [u8]>, Refusal> {
    let bytes = raw.as_bytes();
    if !bytes.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return Ok(Cow::Borrowed(bytes));
    }
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'%' => {
                decoded.push(escaped_byte(bytes, at).ok_or(Refusal::MalformedEscape {
                    component: Component::Query,
                    offset: at,
                })?);
                at += 3;
            }
            b'+' => {
                decoded.push(b' ');
                at += 1;
            }
            plain => {
                decoded.push(plain);
                at += 1;
            }
        }
    }
    Ok(Cow::Owned(decoded))
}

/// The byte that the escape at `at` stands for.
fn escaped_byte(bytes: &[u8], at: usize) -> Option<u8> {
    let digit = |offset: usize| {
        bytes
            .get(at + offset)
            .and_then(|byte| char::from(*byte).to_digit(16))
            .and_then(|digit| u8::try_from(digit).ok())
    };
    Some(digit(1)? << 4 | digit(2)?)
}
