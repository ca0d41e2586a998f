//! The `aws-chunked` coding of uploads.

use bytes::Bytes;
use tidegate::origin::upload_body::{ChunkDecoder, Framing, FramingError, Piece};

use super::{take_line, take_number};

/// The most cuts that are tried per input.
const CUTS_MAX: usize = 64;

/// Two lines, the form (a letter of `ptsx`) and the announced length, then the body.
pub fn check(data: &[u8]) {
    let mut rest = data;
    let form = take_line(&mut rest).first().copied().unwrap_or_default();
    let framing = Framing {
        signed: matches!(form, b's' | b'x'),
        trailer: matches!(form, b't' | b'x'),
    };
    let announced = take_number(&mut rest);
    let body = Bytes::copy_from_slice(rest);

    let whole = decode(framing, announced, [body.clone()]);
    if whole.end.is_ok() {
        assert_eq!(whole.data.len() as u64, announced);
        let trailers = |piece: &Piece| matches!(piece, Piece::Trailer(_));
        let count = whole
            .marks
            .iter()
            .filter(|(_, piece)| trailers(piece))
            .count();
        assert_eq!(count, usize::from(framing.trailer));
        for (_, piece) in &whole.marks {
            check_mark(piece, framing);
        }
    }
    assert!(whole.data.len() <= body.len());

    let bytes = (0..body.len()).map(|at| body.slice(at..at + 1));
    assert_eq!(decode(framing, announced, bytes), whole, "byte by byte");
    let step = body.len() / CUTS_MAX + 1;
    for cut in (0..body.len()).step_by(step) {
        let parts = [body.slice(..cut), body.slice(cut..)];
        assert_eq!(decode(framing, announced, parts), whole, "cut at {cut}");
    }
}

/// What a body comes to, with neighbouring data joined.
#[derive(Debug, PartialEq, Eq)]
struct Decoded {
    data: Vec<u8>,
    /// Ends of chunks and the trailer, each with the data before it.
    marks: Vec<(usize, Piece)>,
    end: Result<(), FramingError>,
}

fn decode(framing: Framing, announced: u64, parts: impl IntoIterator<Item = Bytes>) -> Decoded {
    let mut decoder = ChunkDecoder::new(framing, announced);
    let (mut data, mut marks) = (Vec::new(), Vec::new());
    for mut part in parts {
        loop {
            match decoder.decode(&mut part) {
                Ok(Some(Piece::Data(bytes))) => {
                    assert!(!bytes.is_empty(), "an empty piece could be given for ever");
                    data.extend_from_slice(&bytes);
                }
                Ok(Some(mark)) => marks.push((data.len(), mark)),
                Ok(None) => break,
                Err(error) => {
                    let end = Err(error);
                    return Decoded { data, marks, end };
                }
            }
        }
        assert!(part.is_empty(), "the decoder left input behind");
    }
    let end = decoder.finish();
    Decoded { data, marks, end }
}

fn check_mark(piece: &Piece, framing: Framing) {
    match piece {
        Piece::Data(_) => {}
        Piece::ChunkEnd(signature) => assert_eq!(signature.is_some(), framing.signed),
        Piece::Trailer(trailer) => {
            assert_eq!(trailer.signature.is_some(), framing.signed);
            // The canonical form must be readable in one way only.
            let lines = trailer
                .canonical()
                .iter()
                .filter(|byte| **byte == b'\n')
                .count();
            assert_eq!(lines, trailer.fields.len());
        }
    }
}
