//! Where a chunked body ends, read more strictly than anybody behind us reads it. Pure.
//!
//! pingora's proxy decodes chunked bodies and writes its own chunks, so the origin sees clean framing
//! whatever a client sent. What is left is the other direction: whoever stands before us must see the
//! same end of the body as we do. What other parsers are known to read in another way is therefore
//! refused, also where httparse, which pingora uses, lets it pass: a line feed inside an extension, a
//! size without digits, spaces that belong to nothing (RFC 9112 §7.1).

/// A size of more digits cannot be one of 64 bits.
const MAX_SIZE_DIGITS: u8 = 16;

/// Extensions and trailers of one body, which nobody reads, may have so many bytes in all.
const MAX_IGNORED_BYTES: usize = 16 * 1024;

/// Why a chunked body is refused; always the client's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChunkFault {
    /// No hexadecimal digit, more than 16 of them, or something else behind them.
    #[error("a chunk's size is not a hexadecimal number of at most 16 digits")]
    Size,
    /// A control character in an extension, or a line feed without carriage return.
    #[error("a chunk's extension holds a control character")]
    Extension,
    /// What follows a chunk's data is not CRLF.
    #[error("a chunk does not end with CRLF")]
    DataEnd,
    /// A carriage return that no line feed follows.
    #[error("a line of the chunked body does not end with CRLF")]
    LineEnd,
    /// A trailer field breaks the syntax of fields.
    #[error("a trailer field is malformed")]
    Trailer,
    /// More than 16 KiB of extensions and trailers.
    #[error("extensions and trailers of the chunked body are too long")]
    TooLong,
}

/// Follows a chunked body as it arrives, however it is cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkedBody {
    state: State,
    ignored_bytes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size {
        size: u64,
        digits: u8,
    },
    /// Spaces that only an extension may follow.
    BeforeExtension {
        size: u64,
    },
    Extension {
        size: u64,
    },
    /// The carriage return behind a size was read.
    SizeEnd {
        size: u64,
    },
    Data {
        left: u64,
    },
    /// The chunk's data is over.
    DataCarriageReturn,
    DataLineFeed,
    /// At the beginning of a line behind the last chunk.
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLineFeed,
    LastLineFeed,
    Done,
    Refused(ChunkFault),
}

impl Default for ChunkedBody {
    fn default() -> Self {
        ChunkedBody {
            state: State::Size { size: 0, digits: 0 },
            ignored_bytes: 0,
        }
    }
}

impl ChunkedBody {
    /// Whether the end of the body, with its trailers, was seen.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Looks at what arrived next; returns how many of `bytes` belong to the body. That is all of them
    /// unless [`ChunkedBody::is_done`] afterwards.
    ///
    /// # Errors
    /// The first [`ChunkFault`], from then on each time.
    pub fn take(&mut self, bytes: &[u8]) -> Result<usize, ChunkFault> {
        let mut at = 0;
        while at < bytes.len() && !self.is_done() {
            if let State::Data { left } = self.state {
                let here = bytes.len() - at;
                let taken = usize::try_from(left).map_or(here, |left| left.min(here));
                at += taken;
                self.state = match left - taken as u64 {
                    0 => State::DataCarriageReturn,
                    left => State::Data { left },
                };
            } else {
                let after = self.after(bytes[at]);
                self.state = after.unwrap_or_else(State::Refused);
                after?;
                at += 1;
            }
        }
        Ok(at)
    }

    /// The state after a byte that is not data.
    fn after(&mut self, byte: u8) -> Result<State, ChunkFault> {
        Ok(match (self.state, byte) {
            (State::Size { size, digits }, _) if byte.is_ascii_hexdigit() => {
                if digits == MAX_SIZE_DIGITS {
                    return Err(ChunkFault::Size);
                }
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                State::Size {
                    // Sixteen digits are 64 bits: nothing is shifted out.
                    size: size << 4 | u64::from(digit),
                    digits: digits + 1,
                }
            }
            (State::Size { digits: 0, .. }, _) => return Err(ChunkFault::Size),
            (State::Size { size, .. } | State::BeforeExtension { size }, b';') => {
                State::Extension { size }
            }
            (State::Size { size, .. }, b'\r') => State::SizeEnd { size },
            (State::Size { size, .. } | State::BeforeExtension { size }, b' ' | b'\t') => {
                self.ignore()?;
                State::BeforeExtension { size }
            }
            (State::Size { .. } | State::BeforeExtension { .. }, _) => {
                return Err(ChunkFault::Size);
            }
            (State::Extension { size }, b'\r') => State::SizeEnd { size },
            (State::Extension { size }, _) => {
                if is_control(byte) {
                    return Err(ChunkFault::Extension);
                }
                self.ignore()?;
                State::Extension { size }
            }
            (State::SizeEnd { size: 0 }, b'\n') => State::TrailerStart,
            (State::SizeEnd { size }, b'\n') => State::Data { left: size },
            (State::DataCarriageReturn, b'\r') => State::DataLineFeed,
            (State::DataLineFeed, b'\n') => State::Size { size: 0, digits: 0 },
            (State::DataCarriageReturn | State::DataLineFeed, _) => {
                return Err(ChunkFault::DataEnd);
            }
            (State::TrailerStart, b'\r') => State::LastLineFeed,
            (State::TrailerName, b':') => {
                self.ignore()?;
                State::TrailerValue
            }
            (State::TrailerStart | State::TrailerName, _) => {
                if !is_token(byte) {
                    return Err(ChunkFault::Trailer);
                }
                self.ignore()?;
                State::TrailerName
            }
            (State::TrailerValue, b'\r') => State::TrailerLineFeed,
            (State::TrailerValue, _) => {
                if is_control(byte) {
                    return Err(ChunkFault::Trailer);
                }
                self.ignore()?;
                State::TrailerValue
            }
            (State::TrailerLineFeed, b'\n') => State::TrailerStart,
            (State::LastLineFeed, b'\n') => State::Done,
            (State::SizeEnd { .. } | State::TrailerLineFeed | State::LastLineFeed, _) => {
                return Err(ChunkFault::LineEnd);
            }
            (State::Refused(fault), _) => return Err(fault),
            // `take` keeps these to itself.
            (state @ (State::Data { .. } | State::Done), _) => state,
        })
    }

    /// Counts a byte that nobody will read.
    fn ignore(&mut self) -> Result<(), ChunkFault> {
        self.ignored_bytes += 1;
        if self.ignored_bytes > MAX_IGNORED_BYTES {
            return Err(ChunkFault::TooLong);
        }
        Ok(())
    }
}

/// What may not stand in a field's value (RFC 9110 §5.5), nor in an extension.
fn is_control(byte: u8) -> bool {
    byte.is_ascii_control() && byte != b'\t'
}

/// RFC 9110 §5.6.2.
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many bytes belong to the body, `None` when its end is missing; the same however it is cut.
    fn end(bytes: &[u8]) -> Result<Option<usize>, ChunkFault> {
        let read = |parts: &[&[u8]]| {
            let mut body = ChunkedBody::default();
            let mut taken = 0;
            for part in parts {
                taken += body.take(part)?;
            }
            Ok(body.is_done().then_some(taken))
        };
        let whole = read(&[bytes]);
        for cut in 1..bytes.len() {
            let (first, second) = bytes.split_at(cut);
            assert_eq!(read(&[first, second]), whole, "cut at {cut}");
        }
        let single: Vec<_> = bytes.chunks(1).collect();
        assert_eq!(read(&single), whole, "byte by byte");
        whole
    }

    #[test]
    fn the_end_of_a_body_is_found_however_it_is_cut() {
        for (bytes, expected) in [
            (&b"0\r\n\r\n"[..], Some(5)),
            (b"0\r\n\r\nGET /", Some(5)),
            (b"000\r\n\r\n", Some(7)),
            (b"5\r\nhello\r\n0\r\n\r\n", Some(15)),
            (b"00000000000000aA\r\n", None),
            (b"2\r\n\r\n\r\n0\r\n\r\n", Some(12)),
            (b"1;a\r\nx\r\n0\r\n\r\n", Some(13)),
            (b"1 ;a=\"b c\"\t\r\nx\r\n0;d\r\n\r\n", Some(23)),
            (b"0\r\nA: b\r\nC:\r\n\r\nx", Some(15)),
            (b"0\r\nA: b\r\n", None),
            (b"5\r\nhello", None),
            (b"", None),
        ] {
            assert_eq!(end(bytes), Ok(expected), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn what_others_might_read_in_another_way_is_refused() {
        for (bytes, fault) in [
            (&b"\r\n"[..], ChunkFault::Size),
            (b";a\r\n", ChunkFault::Size),
            (b" 0\r\n", ChunkFault::Size),
            (b"0 \r\n", ChunkFault::Size),
            (b"0 1\r\n", ChunkFault::Size),
            (b"0x1\r\n", ChunkFault::Size),
            (b"+1\r\n", ChunkFault::Size),
            (b"-1\r\n", ChunkFault::Size),
            (b"1_0\r\n", ChunkFault::Size),
            (b"1\n", ChunkFault::Size),
            (b"00000000000000000\r\n", ChunkFault::Size),
            (b"1\rx", ChunkFault::LineEnd),
            (b"1;a\nx", ChunkFault::Extension),
            (b"1;a\rx", ChunkFault::LineEnd),
            (b"1;\0", ChunkFault::Extension),
            (b"1\r\nxx\r\n", ChunkFault::DataEnd),
            (b"1\r\nx\n", ChunkFault::DataEnd),
            (b"1\r\nx\rx", ChunkFault::DataEnd),
            (b"0\r\n\n", ChunkFault::Trailer),
            (b"0\r\n\rx", ChunkFault::LineEnd),
            (b"0\r\n a: b\r\n", ChunkFault::Trailer),
            (b"0\r\na : b\r\n", ChunkFault::Trailer),
            (b"0\r\na\r\n", ChunkFault::Trailer),
            (b"0\r\na: b\n", ChunkFault::Trailer),
            (b"0\r\na: b\rc", ChunkFault::LineEnd),
        ] {
            assert_eq!(end(bytes), Err(fault), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn ignored_bytes_are_allowed_up_to_their_limit() {
        let longest = "x".repeat(MAX_IGNORED_BYTES);
        let read = |bytes: String| ChunkedBody::default().take(bytes.as_bytes());
        let body = format!("0;{longest}\r\n\r\n");
        assert_eq!(read(body.clone()), Ok(body.len()));
        assert_eq!(read(format!("0;x{longest}")), Err(ChunkFault::TooLong));
        assert_eq!(read(format!("0\r\nx{longest}")), Err(ChunkFault::TooLong));
        let chunks = "1;xxxxxxx\r\nx\r\n".repeat(MAX_IGNORED_BYTES / 7);
        assert!(read(chunks.clone()).is_ok());
        assert_eq!(read(format!("{chunks}{chunks}")), Err(ChunkFault::TooLong));
    }
}
