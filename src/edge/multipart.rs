//! `multipart/byteranges`: several parts of a body in one response (RFC 9110 §14.6).
//!
//! All that goes between the parts is made before the first byte is sent, so that the length of
//! the response is exact.

use std::fmt::Write as _;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use http::HeaderValue;

use crate::byte_range::ContentRange;
use crate::cache::{BodyError, BodyReader, Piece};

/// First bytes of a part up to this many are copied behind the part's head, so that small parts
/// take one write each.
const JOINED_BYTES: usize = 16 * 1024;

/// The parts of a response, and what goes between them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Multipart {
    content_type: HeaderValue,
    parts: Vec<(Bytes, Range<u64>)>,
    closing: Bytes,
    length: u64,
}

impl Multipart {
    /// Parts `spans` of a representation of `complete` bytes that is of type `part_type`, if it has
    /// one. `boundary` must be hex digits that whoever made the bytes could not know, so that they
    /// cannot hold it.
    pub(super) fn new(
        spans: Vec<Range<u64>>,
        complete: u64,
        part_type: Option<&HeaderValue>,
        boundary: &str,
    ) -> Self {
        let mut length = 0;
        let mut parts = Vec::with_capacity(spans.len());
        for span in spans {
            let mut opening = BytesMut::new();
            if !parts.is_empty() {
                opening.extend_from_slice(b"\r\n");
            }
            // Writing to a buffer in memory cannot fail.
            let _ = write!(opening, "--{boundary}\r\n");
            if let Some(part_type) = part_type {
                opening.extend_from_slice(b"Content-Type: ");
                opening.extend_from_slice(part_type.as_bytes());
                opening.extend_from_slice(b"\r\n");
            }
            let range = ContentRange::part(span.clone(), complete);
            let _ = write!(opening, "Content-Range: {range}\r\n\r\n");
            length += opening.len() as u64 + (span.end - span.start);
            parts.push((opening.freeze(), span));
        }
        let closing = Bytes::from(format!("\r\n--{boundary}--\r\n"));
        length += closing.len() as u64;
        let content_type = format!("multipart/byteranges; boundary={boundary}");
        Multipart {
            content_type: HeaderValue::try_from(content_type)
                .expect("a boundary consists of hex digits"),
            parts,
            closing,
            length,
        }
    }

    /// The `Content-Type` of the response.
    pub(super) fn content_type(&self) -> HeaderValue {
        self.content_type.clone()
    }

    /// The length of the response's body, in bytes.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// The first part.
    pub(super) fn first(&self) -> Option<Range<u64>> {
        self.parts.first().map(|(_, span)| span.clone())
    }
}

/// What a response's body is made of.
pub(super) enum ReplyBody<'a> {
    /// Bytes of the stored body.
    Span(BodyReader<'a>),
    /// Parts of it, one after the other.
    Parts(PartsReader<'a>),
}

impl<'a> ReplyBody<'a> {
    /// `body` as it is or, when there are parts, in parts; it must have been made for the first.
    pub(super) fn new(body: BodyReader<'a>, parts: Option<Multipart>) -> Self {
        match parts {
            None => ReplyBody::Span(body),
            Some(multipart) => {
                let mut parts = multipart.parts.into_iter();
                ReplyBody::Parts(PartsReader {
                    opening: parts.next().map(|(opening, _)| opening),
                    body,
                    parts,
                    held: None,
                    closing: Some(multipart.closing),
                    framing_bytes: 0,
                })
            }
        }
    }

    /// The next bytes, in a file if they are in one and the client `takes_files`; `None` at the end.
    ///
    /// # Errors
    /// [`BodyError`] when the response cannot be completed.
    pub(super) async fn next(&mut self, takes_files: bool) -> Result<Option<Piece<'a>>, BodyError> {
        match self {
            ReplyBody::Span(body) => body.next_piece(takes_files).await,
            ReplyBody::Parts(parts) => parts.next(takes_files).await,
        }
    }

    /// Goes back by the last `bytes` of the piece in a file that was given out last.
    pub(super) fn unread_from_file(&mut self, bytes: u64) {
        match self {
            ReplyBody::Span(body) => body.unread_from_file(bytes),
            ReplyBody::Parts(parts) => parts.body.unread_from_file(bytes),
        }
    }

    /// The reader of the stored body, which counts its bytes.
    pub(super) fn stored(&self) -> &BodyReader<'a> {
        match self {
            ReplyBody::Span(body) => body,
            ReplyBody::Parts(parts) => &parts.body,
        }
    }

    /// Bytes given out that are not of the stored body.
    pub(super) fn framing_bytes(&self) -> u64 {
        match self {
            ReplyBody::Span(_) => 0,
            ReplyBody::Parts(parts) => parts.framing_bytes,
        }
    }
}

/// Reads parts of a body, with what goes between them.
pub(super) struct PartsReader<'a> {
    body: BodyReader<'a>,
    /// Of the part that is being read, if it has not been given out.
    opening: Option<Bytes>,
    /// What follows an opening that was given out alone.
    held: Option<Piece<'a>>,
    parts: std::vec::IntoIter<(Bytes, Range<u64>)>,
    closing: Option<Bytes>,
    framing_bytes: u64,
}

impl<'a> PartsReader<'a> {
    async fn next(&mut self, takes_files: bool) -> Result<Option<Piece<'a>>, BodyError> {
        if let Some(held) = self.held.take() {
            return Ok(Some(held));
        }
        loop {
            if let Some(piece) = self.body.next_piece(takes_files).await? {
                let Some(opening) = self.opening.take() else {
                    return Ok(Some(piece));
                };
                self.framing_bytes += opening.len() as u64;
                return Ok(Some(Piece::of_bytes(match piece {
                    Piece::Bytes(bytes) if bytes.len() <= JOINED_BYTES => {
                        let mut joined = BytesMut::from(opening);
                        joined.extend_from_slice(&bytes);
                        joined.freeze()
                    }
                    longer => {
                        self.held = Some(longer);
                        opening
                    }
                })));
            }
            let Some((opening, span)) = self.parts.next() else {
                let closing = self.closing.take();
                self.framing_bytes += closing.as_ref().map_or(0, |bytes| bytes.len() as u64);
                return Ok(closing.map(Piece::of_bytes));
            };
            self.opening = Some(opening);
            self.body.go_on_with(span);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_framed_as_rfc_9110_shows_and_counted_to_the_byte() {
        let pdf = HeaderValue::from_static("application/pdf");
        let multipart = Multipart::new(vec![7000..8000, 500..1000], 8000, Some(&pdf), "5A");
        assert_eq!(
            multipart.content_type(),
            "multipart/byteranges; boundary=5A"
        );
        let openings: Vec<_> = multipart.parts.iter().map(|(opening, _)| opening).collect();
        assert_eq!(
            openings,
            [
                "--5A\r\nContent-Type: application/pdf\r\nContent-Range: bytes 7000-7999/8000\r\n\r\n",
                "\r\n--5A\r\nContent-Type: application/pdf\r\nContent-Range: bytes 500-999/8000\r\n\r\n",
            ]
        );
        assert_eq!(multipart.closing, "\r\n--5A--\r\n");
        let framing = openings.iter().map(|opening| opening.len()).sum::<usize>() + 10;
        assert_eq!(multipart.length(), 1500 + framing as u64);
    }

    #[test]
    fn parts_of_a_representation_without_type_have_none() {
        let multipart = Multipart::new(vec![0..1, 200..201], 300, None, "5A");
        assert_eq!(
            multipart.parts[0].0,
            "--5A\r\nContent-Range: bytes 0-0/300\r\n\r\n"
        );
    }
}
