//! What tests of ranges share: an object whose bytes tell where they belong.

use std::ops::Range;

pub const KIB: u64 = 1024;

/// The bytes `span` of the one object that is used here, of any size; each tells where it belongs.
pub fn object(span: Range<u64>) -> Vec<u8> {
    let byte = |at: u64| (at ^ (at >> 8) ^ (at >> 16) ^ (at >> 24)) as u8;
    span.map(byte).collect()
}

/// The fields of a representation that may be stored and asked for in parts.
pub const TYPICAL: &str =
    "ETag: \"v1\"\r\nCache-Control: max-age=60\r\nContent-Type: video/mp4\r\n";
