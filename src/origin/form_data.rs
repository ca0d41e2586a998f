//! `multipart/form-data` (RFC 7578) as browsers send it to S3, taken apart as it arrives.
//!
//! Fields come first and are kept, within a bound; then comes the file, which passes through and is never
//! held; what follows the file is not looked at, as S3 has it. The decoder holds at most
//! [`FIELDS_MAX_BYTES`] before the file, and in the file no more than a delimiter could be.

use bytes::{Bytes, BytesMut};
use memchr::memmem::Finder;

/// The most bytes before the file's own: all fields, their heads and delimiters (S3, "POST Object").
pub const FIELDS_MAX_BYTES: usize = 20 * 1024;
/// The longest boundary (RFC 2046 §5.1.1).
const BOUNDARY_MAX_BYTES: usize = 70;

/// What comes out of the decoder, in order: fields, the file, its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// A field before the file.
    Field {
        /// The name as sent.
        name: String,
        /// The value as sent.
        value: String,
    },
    /// The file begins.
    File {
        /// Its name at the client, without folders; empty when the client gave none.
        filename: String,
    },
    /// Bytes of the file.
    Data(Bytes),
    /// The file is complete.
    FileEnd,
}

/// A form that breaks its own framing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// The body is not `multipart/form-data` with a boundary.
    #[error("the body is not multipart/form-data with a boundary")]
    NotFormData,
    /// A delimiter, a part's head or a field's value that breaks the rules.
    #[error("the form is malformed at byte {offset}")]
    Malformed {
        /// Where in the body.
        offset: u64,
    },
    /// The fields before the file exceed [`FIELDS_MAX_BYTES`].
    #[error("the fields before the file exceed {FIELDS_MAX_BYTES} bytes")]
    TooLong,
    /// The body ends before its closing delimiter.
    #[error("the form ends after {bytes} bytes, before its closing delimiter")]
    Truncated {
        /// What came.
        bytes: u64,
    },
    /// The form ends, and there was no file.
    #[error("the form has no file")]
    NoFile,
}

/// The boundary that a `Content-Type` names.
///
/// # Errors
/// [`FormError::NotFormData`].
pub fn boundary(content_type: &str) -> Result<String, FormError> {
    let mut parameters = content_type.split(';').map(str::trim);
    let media_type = parameters.next().unwrap_or_default();
    if !media_type.eq_ignore_ascii_case("multipart/form-data") {
        return Err(FormError::NotFormData);
    }
    let named = parameters.filter_map(|parameter| parameter.split_once('='));
    let mut boundaries = named.filter(|(name, _)| name.eq_ignore_ascii_case("boundary"));
    let (_, value) = boundaries.next().ok_or(FormError::NotFormData)?;
    let value = value
        .strip_prefix('"')
        .and_then(|value| value.strip_suffix('"'))
        .unwrap_or(value);
    let fits = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
    let is_valid = (1..=BOUNDARY_MAX_BYTES).contains(&value.len()) && value.bytes().all(fits);
    if !is_valid || boundaries.next().is_some() {
        return Err(FormError::NotFormData);
    }
    Ok(value.to_owned())
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// Before the first delimiter.
    Start,
    /// Behind a delimiter: another part, or the end.
    Delimited,
    /// In the head of a part.
    Head,
    /// In the value of a field.
    Value(String),
    /// In the file.
    File,
    /// Behind the file.
    Done,
}

/// Takes a form apart, however its bytes are cut.
pub struct FormDecoder {
    /// CRLF, two dashes, the boundary.
    delimiter: Finder<'static>,
    buffered: BytesMut,
    /// How much of `buffered` is known to hold no delimiter.
    searched: usize,
    state: State,
    /// Bytes taken out of `buffered` so far.
    consumed: u64,
}

impl FormDecoder {
    /// A decoder for this boundary.
    pub fn new(boundary: &str) -> Self {
        let delimiter = format!("\r\n--{boundary}");
        FormDecoder {
            delimiter: Finder::new(delimiter.as_bytes()).into_owned(),
            buffered: BytesMut::new(),
            searched: 0,
            state: State::Start,
            consumed: 0,
        }
    }

    /// Adds bytes of the body. Behind the file they are forgotten at once.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.state != State::Done {
            self.buffered.extend_from_slice(bytes);
        }
    }

    /// Whether the file is complete.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// The next piece, or `None` when more bytes are needed, or none are any more.
    ///
    /// # Errors
    /// [`FormError`]; the decoder is of no use after it.
    pub fn next_piece(&mut self) -> Result<Option<Piece>, FormError> {
        loop {
            let step = match &self.state {
                State::Start => self.start()?,
                State::Delimited => self.delimited()?,
                State::Head => self.head()?,
                State::Value(_) => self.value()?,
                State::File => return Ok(self.file()),
                State::Done => Step::Starved,
            };
            match step {
                Step::Piece(piece) => return Ok(Some(piece)),
                Step::Further => {}
                Step::Starved => {
                    let before = self.consumed + self.buffered.len() as u64;
                    if self.state != State::Done && before > FIELDS_MAX_BYTES as u64 {
                        return Err(FormError::TooLong);
                    }
                    return Ok(None);
                }
            }
        }
    }

    /// What it means that no more bytes come.
    ///
    /// # Errors
    /// [`FormError::Truncated`] unless the file is complete.
    pub fn finish(&self) -> Result<(), FormError> {
        match self.state {
            State::Done => Ok(()),
            _ => Err(FormError::Truncated {
                bytes: self.consumed + self.buffered.len() as u64,
            }),
        }
    }

    /// The first delimiter begins the body. Nothing that browsers send has a preamble, and one would be a
    /// place to hide a form in.
    fn start(&mut self) -> Result<Step, FormError> {
        let wanted = &self.delimiter.needle()[2..];
        let there = self.buffered.len().min(wanted.len());
        if self.buffered[..there] != wanted[..there] {
            return Err(self.malformed());
        }
        let length = wanted.len();
        if there < length {
            return Ok(Step::Starved);
        }
        self.take(length);
        self.state = State::Delimited;
        Ok(Step::Further)
    }

    fn delimited(&mut self) -> Result<Step, FormError> {
        match self.buffered.get(..2) {
            None => Ok(Step::Starved),
            Some(b"\r\n") => {
                self.take(2);
                self.state = State::Head;
                Ok(Step::Further)
            }
            Some(b"--") => Err(FormError::NoFile),
            Some(_) => Err(self.malformed()),
        }
    }

    fn head(&mut self) -> Result<Step, FormError> {
        // A part without fields has no name, so an empty head is an error like any other.
        let Some(end) = memchr::memmem::find(&self.buffered, b"\r\n\r\n") else {
            return Ok(Step::Starved);
        };
        let name = part_name(&self.buffered[..end]).ok_or(self.malformed())?;
        self.take(end + 4);
        self.check_length()?;
        self.searched = 0;
        if name.name.eq_ignore_ascii_case("file") {
            self.state = State::File;
            let filename = name.filename.unwrap_or_default();
            return Ok(Step::Piece(Piece::File { filename }));
        }
        self.state = State::Value(name.name);
        Ok(Step::Further)
    }

    fn value(&mut self) -> Result<Step, FormError> {
        let Some(end) = self.find_delimiter() else {
            return Ok(Step::Starved);
        };
        let text = std::str::from_utf8(&self.buffered[..end]).map_err(|_| self.malformed())?;
        let value = text.to_owned();
        self.take(end + self.delimiter.needle().len());
        self.check_length()?;
        let State::Value(name) = std::mem::replace(&mut self.state, State::Delimited) else {
            return Err(self.malformed());
        };
        Ok(Step::Piece(Piece::Field { name, value }))
    }

    fn file(&mut self) -> Option<Piece> {
        if let Some(end) = self.find_delimiter() {
            if end > 0 {
                return Some(Piece::Data(self.take(end)));
            }
            self.take(self.delimiter.needle().len());
            // Whatever follows does not count, so it is not looked at.
            self.buffered.clear();
            self.state = State::Done;
            return Some(Piece::FileEnd);
        }
        // What is left over could be the beginning of a delimiter.
        (self.searched > 0).then(|| Piece::Data(self.take(self.searched)))
    }

    fn find_delimiter(&mut self) -> Option<usize> {
        let found = self.delimiter.find(&self.buffered[self.searched..]);
        if let Some(at) = found {
            return Some(self.searched + at);
        }
        let open = self.delimiter.needle().len() - 1;
        self.searched = self.buffered.len().saturating_sub(open);
        None
    }

    fn take(&mut self, length: usize) -> Bytes {
        self.consumed += length as u64;
        self.searched = self.searched.saturating_sub(length);
        self.buffered.split_to(length).freeze()
    }

    fn check_length(&self) -> Result<(), FormError> {
        if self.consumed > FIELDS_MAX_BYTES as u64 {
            return Err(FormError::TooLong);
        }
        Ok(())
    }

    fn malformed(&self) -> FormError {
        FormError::Malformed {
            offset: self.consumed,
        }
    }
}

enum Step {
    Piece(Piece),
    Further,
    Starved,
}

struct PartName {
    name: String,
    filename: Option<String>,
}

/// Reads the name out of a part's head; `None` when there is not exactly one `Content-Disposition: form-data`
/// with a name, all of it UTF-8.
fn part_name(head: &[u8]) -> Option<PartName> {
    let head = std::str::from_utf8(head).ok()?;
    let mut dispositions = head.split("\r\n").filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-disposition")
            .then_some(value.trim())
    });
    let disposition = dispositions.next()?;
    if dispositions.next().is_some() {
        return None;
    }
    let (kind, mut rest) = disposition.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("form-data") {
        return None;
    }
    let (mut name, mut filename) = (None, None);
    loop {
        let (parameter, value, behind) = parameter(rest)?;
        let slot = match parameter {
            parameter if parameter.eq_ignore_ascii_case("name") => &mut name,
            parameter if parameter.eq_ignore_ascii_case("filename") => &mut filename,
            // `filename*` has no place in a form (RFC 7578 §4.2).
            _ => &mut None,
        };
        if slot.replace(value).is_some() {
            return None;
        }
        match behind.trim_start().strip_prefix(';') {
            Some(next) => rest = next,
            None if behind.trim().is_empty() => break,
            None => return None,
        }
    }
    Some(PartName {
        name: name?,
        filename: filename.map(|path| without_folders(&path).to_owned()),
    })
}

/// The first parameter of `text`, decoded, and what stands behind it. In quotes, only `\"` is an escape:
/// browsers send a backslash as it is.
fn parameter(text: &str) -> Option<(&str, String, &str)> {
    let (name, rest) = text.split_once('=')?;
    let name = name.trim();
    let Some(mut quoted) = rest.strip_prefix('"') else {
        let end = rest.find(';').unwrap_or(rest.len());
        return Some((name, rest[..end].trim().to_owned(), &rest[end..]));
    };
    let mut value = String::new();
    loop {
        let end = quoted.find('"')?;
        let piece = &quoted[..end];
        quoted = &quoted[end + 1..];
        match piece.strip_suffix('\\') {
            Some(piece) => {
                value.push_str(piece);
                value.push('"');
            }
            None => {
                value.push_str(piece);
                return Some((name, value, quoted));
            }
        }
    }
}

/// The last part of a path, whichever way its slashes lean: old browsers send the folder as well.
fn without_folders(path: &str) -> &str {
    path.rsplit(['/', '\\']).next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A form in browser order.
    fn form(boundary: &str, fields: &[(&str, &str)], filename: &str, file: &[u8]) -> Vec<u8> {
        let mut body = Vec::new();
        for (name, value) in fields {
            let part = format!(
                "--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
            );
            body.extend_from_slice(part.as_bytes());
        }
        let head = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; \
             filename=\"{filename}\"\r\nContent-Type: text/plain\r\n\r\n"
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(file);
        body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        body
    }

    /// What a form says: its fields, the file's name and bytes.
    type Said = (Vec<(String, String)>, Option<String>, Vec<u8>);

    fn decode(boundary: &str, body: &[u8], step: usize) -> Result<Said, FormError> {
        let mut decoder = FormDecoder::new(boundary);
        let mut said: Said = Default::default();
        for bytes in body.chunks(step) {
            decoder.push(bytes);
            while let Some(piece) = decoder.next_piece()? {
                match piece {
                    Piece::Field { name, value } => said.0.push((name, value)),
                    Piece::File { filename } => said.1 = Some(filename),
                    Piece::Data(bytes) => said.2.extend_from_slice(&bytes),
                    Piece::FileEnd => {}
                }
            }
        }
        decoder.finish()?;
        Ok(said)
    }

    #[test]
    fn a_boundary_is_read_out_of_a_content_type() {
        for (content_type, expected) in [
            ("multipart/form-data; boundary=x", Some("x")),
            (
                "Multipart/Form-Data; charset=utf-8; Boundary=\"a:b\"",
                Some("a:b"),
            ),
            ("multipart/form-data", None),
            ("multipart/form-data; boundary=", None),
            ("multipart/form-data; boundary=a; boundary=b", None),
            ("multipart/form-data; boundary=a b", None),
            ("multipart/mixed; boundary=x", None),
            ("application/x-www-form-urlencoded", None),
        ] {
            assert_eq!(
                boundary(content_type).ok().as_deref(),
                expected,
                "{content_type}"
            );
        }
        let longest = "b".repeat(70);
        assert!(boundary(&format!("multipart/form-data; boundary={longest}")).is_ok());
        assert!(boundary(&format!("multipart/form-data; boundary={longest}b")).is_err());
    }

    #[test]
    fn fields_and_file_come_out_as_they_went_in_however_they_are_cut() {
        let file = b"\r\n--\r\n--x\r\n--b\r\n\0\xff--b--\r\n-";
        let body = form(
            "bb",
            &[("key", "a/${filename}"), ("ä", "")],
            "C:\\d\\f.txt",
            file,
        );
        for step in 1..=body.len() {
            let (fields, filename, bytes) = decode("bb", &body, step).unwrap();
            assert_eq!(
                fields,
                [
                    ("key".to_owned(), "a/${filename}".to_owned()),
                    ("ä".to_owned(), String::new())
                ]
            );
            assert_eq!(filename.as_deref(), Some("f.txt"));
            assert_eq!(bytes, file);
        }
        let empty = decode("b", &form("b", &[], "", b""), 7).unwrap();
        assert_eq!(empty, (vec![], Some(String::new()), vec![]));
    }

    #[test]
    fn names_are_read_with_and_without_quotes() {
        for (disposition, expected) in [
            ("form-data; name=\"a\"", Some(("a", None))),
            ("form-data;name=a", Some(("a", None))),
            (
                "Form-Data; NAME=\"a\\\"b\"; filename=\"x;y=\\\"z\"",
                Some(("a\"b", Some("x;y=\"z"))),
            ),
            (
                "form-data; filename=\"../../etc/passwd\"; name=\"f\"",
                Some(("f", Some("passwd"))),
            ),
            (
                "form-data; name=\"f\"; filename*=UTF-8''x",
                Some(("f", None)),
            ),
            ("form-data; name=\"a\"; name=\"b\"", None),
            ("form-data; name=\"a", None),
            ("form-data; name=\"a\" x", None),
            ("form-data; filename=\"a\"", None),
            ("form-data", None),
            ("attachment; name=\"a\"", None),
        ] {
            let head = format!("Content-Type: x\r\ncontent-disposition: {disposition}");
            let found = part_name(head.as_bytes());
            let found = found
                .as_ref()
                .map(|part| (&*part.name, part.filename.as_deref()));
            assert_eq!(found, expected, "{disposition}");
        }
        assert!(part_name(b"").is_none());
        let twice =
            b"Content-Disposition: form-data; name=a\r\nContent-Disposition: form-data; name=b";
        assert!(part_name(twice).is_none());
    }

    #[test]
    fn what_breaks_the_framing_is_refused() {
        let malformed = |offset| FormError::Malformed { offset };
        let whole = form("b", &[("key", "k")], "f", b"12345");
        let not_utf8 = b"--b\r\nContent-Disposition: form-data; name=k\r\n\r\n\xff\r\n--b";
        for (body, expected) in [
            (&b"preamble\r\n--b\r\n"[..], malformed(0)),
            (b"--b--", FormError::NoFile),
            (b"--bb\r\n", malformed(3)),
            (b"--b\r\n\r\n\r\n", malformed(5)),
            (b"--b\r\nContent-Type: x\r\n\r\n", malformed(5)),
            (not_utf8, malformed(47)),
            (b"", FormError::Truncated { bytes: 0 }),
            (
                &whole[..whole.len() - 6],
                FormError::Truncated {
                    bytes: whole.len() as u64 - 6,
                },
            ),
        ] {
            assert_eq!(
                decode("b", body, 3).err(),
                Some(expected),
                "{}",
                body.escape_ascii()
            );
        }
        assert!(
            decode("b", &whole[..whole.len() - 4], 3).is_ok(),
            "the file is complete"
        );
    }

    #[test]
    fn fields_are_bounded_and_the_file_is_not() {
        let around = form("b", &[("k", "")], "f", b"").len() - "\r\n--b--\r\n".len();
        for (more, fits) in [(0, true), (1, false)] {
            let value = "v".repeat(FIELDS_MAX_BYTES - around + more);
            let body = form("b", &[("k", &value)], "f", &[b'x'; 100_000]);
            let outcome = decode("b", &body, 1);
            assert_eq!(outcome.err(), (!fits).then_some(FormError::TooLong));
        }
        let mut decoder = FormDecoder::new("b");
        decoder.push(b"--b\r\nContent-Disposition: form-data; name=file\r\n\r\n");
        decoder.next_piece().unwrap();
        for _ in 0..100 {
            decoder.push(&[b'\r'; 10_000]);
            while decoder.next_piece().unwrap().is_some() {}
            assert!(decoder.buffered.len() < 8);
        }
    }

    proptest! {
        #[test]
        fn any_file_survives_any_cutting(
            file in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'-'), Just(b'b'), any::<u8>()], 0..200),
            step in 1..50_usize,
        ) {
            prop_assume!(memchr::memmem::find(&file, b"\r\n--bb").is_none());
            let body = form("bb", &[("key", "k")], "f", &file);
            prop_assert_eq!(decode("bb", &body, step).unwrap().2, file);
        }
    }
}
