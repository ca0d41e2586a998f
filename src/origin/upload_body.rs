//! The `aws-chunked` coding: frames and trailers around an upload's bytes, taken apart as they arrive.
//!
//! Four forms exist (S3, "Signature calculations … transferring payload in multiple chunks"): with or without chunk
//! signatures, with or without a trailer. The decoder holds at most one line; data passes through without a
//! copy and without a bound on the chunk, because nothing becomes visible before every check has passed.

use bytes::{Buf as _, Bytes};

/// The longest chunk head: 16 hexadecimal digits, `;chunk-signature=` and 64 more digits, with room to spare.
const CHUNK_HEAD_MAX_BYTES: usize = 128;
/// The longest trailer in all. SDKs send one checksum and one signature.
const TRAILER_MAX_BYTES: usize = 4096;

/// Which of the four forms a body claims to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Framing {
    /// Every chunk, and the trailer if there is one, carries a signature.
    pub signed: bool,
    /// The last chunk is followed by fields.
    pub trailer: bool,
}

/// What comes out of the decoder, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Bytes of the object.
    Data(Bytes),
    /// A chunk is complete; with [`Framing::signed`] this is its signature. The empty last chunk comes too.
    ChunkEnd(Option<String>),
    /// The trailer is complete.
    Trailer(Trailer),
}

impl Piece {
    /// Bytes of the object in it.
    pub fn data_bytes(&self) -> usize {
        match self {
            Piece::Data(bytes) => bytes.len(),
            Piece::ChunkEnd(_) | Piece::Trailer(_) => 0,
        }
    }
}

/// The fields behind the last chunk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trailer {
    /// Lower-case names with trimmed values, without the signature.
    pub fields: Vec<(String, String)>,
    /// `x-amz-trailer-signature`; present exactly when the framing is signed.
    pub signature: Option<String>,
}

/// A body that breaks its own framing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    /// A chunk head that is not `size` or `size;chunk-signature=…`, or exceeds its bound.
    #[error("malformed head of the chunk that begins at byte {offset} of the body")]
    ChunkHead {
        /// Where the chunk begins.
        offset: u64,
    },
    /// The chunk's bytes are not followed by CRLF.
    #[error("the chunk does not end where it said, at byte {offset} of the body")]
    ChunkEnd {
        /// Where CRLF was expected.
        offset: u64,
    },
    /// The chunks hold more than `x-amz-decoded-content-length` announced.
    #[error("the chunks hold more than the announced {announced_bytes} bytes")]
    TooMuchData {
        /// What was announced.
        announced_bytes: u64,
    },
    /// The chunks hold less than announced.
    #[error("the chunks hold {actual_bytes} bytes, {announced_bytes} were announced")]
    TooLittleData {
        /// What was announced.
        announced_bytes: u64,
        /// What came.
        actual_bytes: u64,
    },
    /// The body ended inside its framing.
    #[error("the body ended inside its framing after {offset} bytes")]
    Truncated {
        /// Bytes that came.
        offset: u64,
    },
    /// Bytes behind the end of the framing.
    #[error("the body goes on behind its framing at byte {offset}")]
    Excess {
        /// Where the framing ended.
        offset: u64,
    },
    /// The trailer is too long, not made of `name:value` lines, or lacks its signature.
    #[error("malformed trailer at byte {offset} of the body")]
    Trailer {
        /// Where the offending line starts.
        offset: u64,
    },
}

impl Trailer {
    /// What the trailer's signature covers: one `name:value` line per field, each ended by a newline.
    pub fn canonical(&self) -> Vec<u8> {
        self.fields
            .iter()
            .flat_map(|(name, value)| format!("{name}:{value}\n").into_bytes())
            .collect()
    }
}

/// The decoder: feed it bytes, take pieces.
#[derive(Debug)]
pub struct ChunkDecoder {
    framing: Framing,
    announced_bytes: u64,
    data_bytes: u64,
    offset: u64,
    line: Vec<u8>,
    state: State,
}

#[derive(Debug)]
enum State {
    ChunkHead,
    Data {
        left: u64,
        signature: Option<String>,
    },
    DataEnd {
        signature: Option<String>,
    },
    /// Behind the empty chunk: fields up to an empty line.
    Trailer {
        taken_bytes: usize,
        trailer: Trailer,
    },
    /// Behind the empty chunk of a form without trailer: one empty line.
    LastLine,
    End,
}

impl ChunkDecoder {
    /// A decoder for a body whose chunks must hold exactly `announced_bytes`.
    pub fn new(framing: Framing, announced_bytes: u64) -> Self {
        ChunkDecoder {
            framing,
            announced_bytes,
            data_bytes: 0,
            offset: 0,
            line: Vec::new(),
            state: State::ChunkHead,
        }
    }

    /// Takes the next piece out of `input`; `None` when more input is needed.
    ///
    /// # Errors
    /// The way in which the body breaks its framing. The decoder is of no use afterwards.
    pub fn decode(&mut self, input: &mut Bytes) -> Result<Option<Piece>, FramingError> {
        while !input.is_empty() {
            match std::mem::replace(&mut self.state, State::End) {
                State::ChunkHead => {
                    let begins = self.offset - self.line.len() as u64;
                    let malformed = FramingError::ChunkHead { offset: begins };
                    match self.take_line(input, CHUNK_HEAD_MAX_BYTES) {
                        Line::Partial => self.state = State::ChunkHead,
                        Line::TooLong => return Err(malformed),
                        Line::Whole(line) => {
                            let (size, signature) =
                                chunk_head(&line, self.framing.signed).ok_or(malformed)?;
                            if let Some(piece) = self.enter_chunk(size, signature)? {
                                return Ok(Some(piece));
                            }
                        }
                    }
                }
                State::Data { left, signature } => {
                    let here = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                    let data = input.split_to(here);
                    self.offset += here as u64;
                    let left = left - here as u64;
                    self.state = match left {
                        0 => State::DataEnd { signature },
                        left => State::Data { left, signature },
                    };
                    return Ok(Some(Piece::Data(data)));
                }
                State::DataEnd { signature } => {
                    let misplaced = FramingError::ChunkEnd {
                        offset: self.offset - self.line.len() as u64,
                    };
                    match self.take_line(input, 2) {
                        Line::Partial => self.state = State::DataEnd { signature },
                        Line::Whole(line) if line.is_empty() => {
                            self.state = State::ChunkHead;
                            return Ok(Some(Piece::ChunkEnd(signature)));
                        }
                        Line::Whole(_) | Line::TooLong => return Err(misplaced),
                    }
                }
                State::LastLine => {
                    let offset = self.line_start();
                    match self.take_line(input, 2) {
                        Line::Partial => self.state = State::LastLine,
                        Line::Whole(line) if line.is_empty() => self.state = State::End,
                        Line::Whole(_) | Line::TooLong => {
                            return Err(FramingError::Excess { offset });
                        }
                    }
                }
                State::Trailer {
                    taken_bytes,
                    trailer,
                } => {
                    if let Some(piece) = self.trailer_line(input, taken_bytes, trailer)? {
                        return Ok(Some(piece));
                    }
                }
                State::End => {
                    return Err(FramingError::Excess {
                        offset: self.offset,
                    });
                }
            }
        }
        Ok(None)
    }

    /// The body has ended.
    ///
    /// # Errors
    /// [`FramingError::Truncated`] when the framing has not.
    pub fn finish(&self) -> Result<(), FramingError> {
        match self.state {
            State::End => Ok(()),
            _ => Err(FramingError::Truncated {
                offset: self.offset,
            }),
        }
    }

    fn enter_chunk(
        &mut self,
        size: u64,
        signature: Option<String>,
    ) -> Result<Option<Piece>, FramingError> {
        let announced_bytes = self.announced_bytes;
        if size > announced_bytes - self.data_bytes {
            return Err(FramingError::TooMuchData { announced_bytes });
        }
        self.data_bytes += size;
        if size > 0 {
            self.state = State::Data {
                left: size,
                signature,
            };
            return Ok(None);
        }
        if self.data_bytes < announced_bytes {
            return Err(FramingError::TooLittleData {
                announced_bytes,
                actual_bytes: self.data_bytes,
            });
        }
        self.state = if self.framing.trailer {
            State::Trailer {
                taken_bytes: 0,
                trailer: Trailer::default(),
            }
        } else {
            State::LastLine
        };
        Ok(Some(Piece::ChunkEnd(signature)))
    }

    fn trailer_line(
        &mut self,
        input: &mut Bytes,
        taken_bytes: usize,
        mut trailer: Trailer,
    ) -> Result<Option<Piece>, FramingError> {
        let malformed = FramingError::Trailer {
            offset: self.line_start(),
        };
        let line = match self.take_line(input, TRAILER_MAX_BYTES - taken_bytes) {
            Line::Partial => {
                self.state = State::Trailer {
                    taken_bytes,
                    trailer,
                };
                return Ok(None);
            }
            Line::TooLong => return Err(malformed),
            Line::Whole(line) => line,
        };
        let taken_bytes = taken_bytes + line.len() + 2;
        if taken_bytes > TRAILER_MAX_BYTES {
            return Err(malformed);
        }
        let signed = self.framing.signed;
        if line.is_empty() {
            // Some clients put an empty line between the fields and their signature, so with signatures only
            // the empty line behind the signature is the end.
            if signed && trailer.signature.is_none() {
                self.state = State::Trailer {
                    taken_bytes,
                    trailer,
                };
                return Ok(None);
            }
            self.state = State::End;
            return Ok(Some(Piece::Trailer(trailer)));
        }
        let (name, value) = trailer_field(&line).ok_or(malformed.clone())?;
        let is_signature = name == "x-amz-trailer-signature";
        match trailer.signature {
            // The signature is the last line.
            Some(_) => return Err(malformed),
            None if is_signature && signed => trailer.signature = Some(value),
            None if is_signature => return Err(malformed),
            None => trailer.fields.push((name, value)),
        }
        self.state = State::Trailer {
            taken_bytes,
            trailer,
        };
        Ok(None)
    }

    /// Where the line that is being taken starts, however the body was cut.
    fn line_start(&self) -> u64 {
        self.offset - self.line.len() as u64
    }

    /// Takes bytes up to and including a newline, at most `max_bytes` of them; the line comes without CRLF.
    fn take_line(&mut self, input: &mut Bytes, max_bytes: usize) -> Line {
        let room = max_bytes.saturating_sub(self.line.len());
        let window = &input[..room.min(input.len())];
        match window.iter().position(|b| *b == b'\n') {
            Some(at) => {
                self.line.extend_from_slice(&window[..at]);
                self.offset += at as u64 + 1;
                input.advance(at + 1);
                let mut line = std::mem::take(&mut self.line);
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
                Line::Whole(line)
            }
            None if room <= input.len() => Line::TooLong,
            None => {
                let taken = window.len();
                self.line.extend_from_slice(window);
                self.offset += taken as u64;
                input.advance(taken);
                Line::Partial
            }
        }
    }
}

enum Line {
    Whole(Vec<u8>),
    Partial,
    TooLong,
}

fn chunk_head(line: &[u8], signed: bool) -> Option<(u64, Option<String>)> {
    let line = std::str::from_utf8(line).ok()?;
    let (size, signature) = match line.split_once(';') {
        Some((size, extension)) => (size, Some(extension.strip_prefix("chunk-signature=")?)),
        None => (line, None),
    };
    let is_hex = |text: &str| text.bytes().all(|b| b.is_ascii_hexdigit());
    if size.is_empty() || size.len() > 16 || !is_hex(size) {
        return None;
    }
    let size = u64::from_str_radix(size, 16).ok()?;
    match signature {
        Some(text) if signed && text.len() == 64 && is_hex(text) => {
            Some((size, Some(text.to_owned())))
        }
        None if !signed => Some((size, None)),
        Some(_) | None => None,
    }
}

fn trailer_field(line: &[u8]) -> Option<(String, String)> {
    let (name, value) = std::str::from_utf8(line).ok()?.split_once(':')?;
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    if name.is_empty() || !name.bytes().all(is_token) {
        return None;
    }
    Some((name.to_ascii_lowercase(), value.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNATURE: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    const PLAIN: Framing = Framing {
        signed: false,
        trailer: false,
    };
    const TRAILED: Framing = Framing {
        signed: false,
        trailer: true,
    };
    const SIGNED: Framing = Framing {
        signed: true,
        trailer: false,
    };
    const SIGNED_TRAILED: Framing = Framing {
        signed: true,
        trailer: true,
    };

    /// Decodes a body that arrives in the given parts; neighbouring data is joined.
    fn decode(
        framing: Framing,
        announced: u64,
        parts: &[&[u8]],
    ) -> Result<Vec<Piece>, FramingError> {
        let mut decoder = ChunkDecoder::new(framing, announced);
        let mut pieces: Vec<Piece> = Vec::new();
        for part in parts {
            let mut input = Bytes::copy_from_slice(part);
            while let Some(piece) = decoder.decode(&mut input)? {
                if let (Piece::Data(data), Some(Piece::Data(before))) = (&piece, pieces.last_mut())
                {
                    *before = Bytes::from([&before[..], &data[..]].concat());
                } else {
                    pieces.push(piece);
                }
            }
            assert!(input.is_empty(), "the decoder left input behind");
        }
        decoder.finish()?;
        Ok(pieces)
    }

    fn data(bytes: &'static str) -> Piece {
        Piece::Data(Bytes::from_static(bytes.as_bytes()))
    }

    fn bodies() -> Vec<(Framing, u64, String, Vec<Piece>)> {
        let sign = || Some(SIGNATURE.to_owned());
        let field = || vec![("x-amz-checksum-crc32".to_owned(), "AAAAAA==".to_owned())];
        vec![
            (PLAIN, 0, "0\r\n\r\n".into(), vec![Piece::ChunkEnd(None)]),
            (
                PLAIN,
                14,
                "5\r\nhello\r\n009\r\n, wor\r\nld\r\n0\r\n\r\n".into(),
                vec![
                    data("hello"),
                    Piece::ChunkEnd(None),
                    data(", wor\r\nld"),
                    Piece::ChunkEnd(None),
                    Piece::ChunkEnd(None),
                ],
            ),
            (
                TRAILED,
                5,
                "5\r\nhello\r\n0\r\nX-Amz-Checksum-Crc32: AAAAAA==\r\n\r\n".into(),
                vec![
                    data("hello"),
                    Piece::ChunkEnd(None),
                    Piece::ChunkEnd(None),
                    Piece::Trailer(Trailer {
                        fields: field(),
                        signature: None,
                    }),
                ],
            ),
            (
                SIGNED,
                5,
                format!(
                    "5;chunk-signature={SIGNATURE}\r\nhello\r\n0;chunk-signature={SIGNATURE}\r\n\r\n"
                ),
                vec![
                    data("hello"),
                    Piece::ChunkEnd(sign()),
                    Piece::ChunkEnd(sign()),
                ],
            ),
            (
                SIGNED_TRAILED,
                1,
                format!(
                    "1;chunk-signature={SIGNATURE}\r\n!\r\n0;chunk-signature={SIGNATURE}\r\n\
                     x-amz-checksum-crc32:AAAAAA==\n\r\nx-amz-trailer-signature:{SIGNATURE}\r\n\r\n"
                ),
                vec![
                    data("!"),
                    Piece::ChunkEnd(sign()),
                    Piece::ChunkEnd(sign()),
                    Piece::Trailer(Trailer {
                        fields: field(),
                        signature: sign(),
                    }),
                ],
            ),
        ]
    }

    #[test]
    fn a_body_split_at_any_byte_decodes_the_same() {
        for (framing, announced, body, expected) in bodies() {
            let body = body.as_bytes();
            for at in 0..=body.len() {
                let parts = [&body[..at], &body[at..]];
                assert_eq!(
                    decode(framing, announced, &parts).as_ref(),
                    Ok(&expected),
                    "split at {at}"
                );
            }
            let single: Vec<&[u8]> = body.chunks(1).collect();
            assert_eq!(decode(framing, announced, &single), Ok(expected));
        }
    }

    #[test]
    fn a_body_cut_anywhere_is_never_complete() {
        for (framing, announced, body, _) in bodies() {
            for end in 0..body.len() {
                let outcome = decode(framing, announced, &[&body.as_bytes()[..end]]);
                assert!(
                    matches!(outcome, Err(FramingError::Truncated { .. })),
                    "cut at {end} of {body:?}: {outcome:?}"
                );
            }
            let longer = format!("{body}!");
            let outcome = decode(framing, announced, &[longer.as_bytes()]);
            assert!(
                matches!(outcome, Err(FramingError::Excess { .. })),
                "{outcome:?}"
            );
        }
    }

    #[test]
    fn broken_framing_is_named() {
        let long_head = "1".repeat(CHUNK_HEAD_MAX_BYTES + 1);
        let long_trailer = format!("0\r\nx:{}\r\n\r\n", "y".repeat(TRAILER_MAX_BYTES));
        let many_trailers = format!("0\r\n{}\r\n", "x:y\r\n".repeat(TRAILER_MAX_BYTES / 5 + 1));
        let unsigned_trailer = format!("0\r\nx-amz-trailer-signature:{SIGNATURE}\r\n\r\n");
        let head = |offset| FramingError::ChunkHead { offset };
        let cases: Vec<(Framing, u64, &str, FramingError)> = vec![
            (PLAIN, 5, "x\r\n", head(0)),
            (PLAIN, 5, "\r\n", head(0)),
            (PLAIN, 5, "+5\r\nhello\r\n", head(0)),
            (PLAIN, 5, "5 \r\nhello\r\n", head(0)),
            (PLAIN, 5, "5;x=y\r\nhello\r\n", head(0)),
            (PLAIN, 5, &long_head, head(0)),
            (PLAIN, 5, "10000000000000000\r\n", head(0)),
            (PLAIN, 6, "5\r\nhello\r\n!\r\n", head(10)),
            (SIGNED, 5, "5\r\nhello\r\n", head(0)),
            (SIGNED, 5, "5;chunk-signature=12\r\nhello\r\n", head(0)),
            (
                PLAIN,
                5,
                "5\r\nhello!\r\n",
                FramingError::ChunkEnd { offset: 8 },
            ),
            (
                PLAIN,
                5,
                "6\r\nhello!\r\n",
                FramingError::TooMuchData { announced_bytes: 5 },
            ),
            (
                PLAIN,
                5,
                "ffffffffffffffff\r\n",
                FramingError::TooMuchData { announced_bytes: 5 },
            ),
            (
                PLAIN,
                5,
                "4\r\nhell\r\n0\r\n\r\n",
                FramingError::TooLittleData {
                    announced_bytes: 5,
                    actual_bytes: 4,
                },
            ),
            (
                TRAILED,
                0,
                "0\r\nno colon\r\n\r\n",
                FramingError::Trailer { offset: 3 },
            ),
            (
                TRAILED,
                0,
                "0\r\n:x\r\n\r\n",
                FramingError::Trailer { offset: 3 },
            ),
            (
                TRAILED,
                0,
                &long_trailer,
                FramingError::Trailer { offset: 3 },
            ),
        ];
        for (framing, announced, body, expected) in cases {
            assert_eq!(
                decode(framing, announced, &[body.as_bytes()]),
                Err(expected),
                "{body:?}"
            );
        }
        for body in [&many_trailers, &unsigned_trailer] {
            let outcome = decode(TRAILED, 0, &[body.as_bytes()]);
            assert!(
                matches!(outcome, Err(FramingError::Trailer { .. })),
                "{outcome:?}"
            );
        }
    }

    #[test]
    fn the_canonical_trailer_has_one_line_per_field() {
        let trailer = Trailer {
            fields: vec![("a".into(), "1".into()), ("b".into(), "2".into())],
            signature: None,
        };
        assert_eq!(trailer.canonical(), b"a:1\nb:2\n");
    }
}
