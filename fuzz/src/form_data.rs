//! Forms that browsers post to the store.

use tidegate::origin::form_data::{FIELDS_MAX_BYTES, FormDecoder, FormError, Piece, boundary};

use super::{take_number, take_text};

/// What a form says: fields, the file's name, its bytes.
type Said = (Vec<(String, String)>, Option<String>, Vec<u8>);

/// Two lines (a content type, how many bytes arrive at once), then the body.
///
/// A form says the same however its bytes are cut, and nothing is both refused and accepted.
pub fn check(data: &[u8]) {
    let mut rest = data;
    let Some(content_type) = take_text(&mut rest) else {
        return;
    };
    let step = usize::try_from(take_number(&mut rest) % 100).expect("small") + 1;
    let Ok(boundary) = boundary(content_type) else {
        return;
    };
    let whole = decode(&boundary, rest, rest.len().max(1));
    let cut = decode(&boundary, rest, step);
    match (&whole, &cut) {
        (Ok(whole), Ok(cut)) => assert_eq!(whole, cut),
        (Err(_), Err(_)) => {}
        // Only where it is found that there is too much may depend on the cutting.
        (Err(error), Ok(_)) | (Ok(_), Err(error)) => panic!("{error} only when cut in one way"),
    }
    if let Ok((fields, filename, bytes)) = whole {
        let held: usize = fields
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        assert!(held <= FIELDS_MAX_BYTES);
        let filename = filename.expect("a form that is complete has a file");
        assert!(!filename.contains(['/', '\\']));
        let delimiter = format!("\r\n--{boundary}");
        let file = &*bytes;
        assert!(
            !file
                .windows(delimiter.len())
                .any(|window| window == delimiter.as_bytes())
        );
    }
}

fn decode(boundary: &str, body: &[u8], step: usize) -> Result<Said, FormError> {
    let mut decoder = FormDecoder::new(boundary);
    let mut said: Said = Default::default();
    for bytes in body.chunks(step) {
        decoder.push(bytes);
        while let Some(piece) = decoder.next_piece()? {
            match piece {
                Piece::Field { name, value } => said.0.push((name, value)),
                Piece::File { filename } => assert!(said.1.replace(filename).is_none()),
                Piece::Data(bytes) => {
                    assert!(!bytes.is_empty());
                    said.2.extend_from_slice(&bytes);
                }
                Piece::FileEnd => assert!(decoder.is_done()),
            }
        }
    }
    decoder.finish().map(|()| said)
}
