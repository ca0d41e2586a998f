//! S3's XML: the few documents we write and the one we read.

use quick_xml::Writer;
use quick_xml::escape::escape;
use quick_xml::events::{BytesDecl, BytesEnd, BytesStart, BytesText, Event};
use quick_xml::{Reader, XmlVersion};

/// The namespace of S3's documents; errors have none.
pub const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";
/// The longest document that we read.
pub const DOCUMENT_MAX_BYTES: usize = 4 * 1024 * 1024;

/// A document that is not what the operation takes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum XmlError {
    /// Not well-formed, not UTF-8, or not the expected elements.
    #[error("the document is malformed at byte {offset}")]
    Malformed {
        /// Where reading stopped.
        offset: u64,
    },
    /// More than [`DOCUMENT_MAX_BYTES`].
    #[error("the document exceeds 4 MiB")]
    TooLong,
}

/// A document being written.
pub struct Document {
    writer: Writer<Vec<u8>>,
    open: Vec<&'static str>,
}

impl Document {
    /// Begins a document. `namespace` is absent from errors.
    pub fn new(root: &'static str, namespace: Option<&str>) -> Self {
        let mut document = Document {
            writer: Writer::new(Vec::new()),
            open: Vec::new(),
        };
        document.event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)));
        let mut start = BytesStart::new(root);
        if let Some(namespace) = namespace {
            start.push_attribute(("xmlns", namespace));
        }
        document.event(Event::Start(start));
        document.open.push(root);
        document
    }

    /// Writes what `content` writes inside an element.
    pub fn element(&mut self, name: &'static str, content: impl FnOnce(&mut Self)) {
        self.element_with(name, &[], content);
    }

    /// The same with attributes, whose values are escaped.
    pub fn element_with(
        &mut self,
        name: &'static str,
        attributes: &[(&'static str, &str)],
        content: impl FnOnce(&mut Self),
    ) {
        let mut start = BytesStart::new(name);
        start.extend_attributes(attributes.iter().copied());
        self.event(Event::Start(start));
        content(self);
        self.event(Event::End(BytesEnd::new(name)));
    }

    /// Writes an element that holds only text.
    pub fn text(&mut self, name: &'static str, text: &str) {
        // By hand: a page of a listing has thousands of these, and events would cost more than the database.
        let out = self.writer.get_mut();
        for part in ["<", name, ">"] {
            out.extend_from_slice(part.as_bytes());
        }
        write_text(out, text);
        for part in ["</", name, ">"] {
            out.extend_from_slice(part.as_bytes());
        }
    }

    /// Writes text directly into the open element.
    pub fn bare_text(&mut self, text: &str) {
        self.event(Event::Text(BytesText::from_escaped(escape_text(text))));
    }

    /// Ends the document.
    pub fn finish(mut self) -> Vec<u8> {
        while let Some(name) = self.open.pop() {
            self.event(Event::End(BytesEnd::new(name)));
        }
        self.writer.into_inner()
    }

    fn event(&mut self, event: Event<'_>) {
        self.writer
            .write_event(event)
            .expect("writing to memory cannot fail");
    }
}

/// Appends text, escaped.
fn write_text(out: &mut Vec<u8>, text: &str) {
    let is_plain = |byte: &u8| matches!(byte, b' '..=b'~') && !b"<>&'".contains(byte);
    if !text.as_bytes().iter().all(is_plain) {
        out.extend_from_slice(escape_text(text).as_bytes());
        return;
    }
    let mut parts = text.split('"');
    out.extend_from_slice(parts.next().unwrap_or_default().as_bytes());
    for part in parts {
        out.extend_from_slice(b"&quot;");
        out.extend_from_slice(part.as_bytes());
    }
}

/// Escapes text, and writes control characters as references the way S3 does: a key may hold them although
/// XML 1.0 has no form for most. Clients that must read such keys ask for `encoding-type=url`.
fn escape_text(text: &str) -> String {
    let escaped = escape(text);
    let mut out = String::with_capacity(escaped.len());
    for character in escaped.chars() {
        if character.is_control() || matches!(character, '\u{fffe}' | '\u{ffff}') {
            out.push_str(&format!("&#x{:x};", u32::from(character)));
        } else {
            out.push(character);
        }
    }
    out
}

/// The `LocationConstraint` of a `CreateBucketConfiguration`, `None` when it names none.
///
/// # Errors
/// [`XmlError::Malformed`] also for elements that ask for something else, such as a directory bucket.
pub fn parse_location_constraint(document: &[u8]) -> Result<Option<String>, XmlError> {
    let document = std::str::from_utf8(document).map_err(|error| XmlError::Malformed {
        offset: error.valid_up_to() as u64,
    })?;
    let mut reader = Reader::from_str(document);
    let mut path: Vec<String> = Vec::new();
    let mut location: Option<String> = None;
    let mut seen_root = false;
    loop {
        let malformed = XmlError::Malformed {
            offset: reader.buffer_position(),
        };
        let event = reader.read_event().map_err(|_| malformed.clone())?;
        match event {
            Event::Start(start) | Event::Empty(start) if !known_element(&path, &start) => {
                return Err(malformed);
            }
            Event::Start(start) => {
                seen_root = true;
                path.push(start.local_name().as_ref().to_owned());
            }
            Event::Empty(_) => seen_root = true,
            Event::End(_) => {
                path.pop();
            }
            Event::Text(text) => {
                let text = text.xml_content(XmlVersion::Implicit1_0);
                if path.len() == 2 {
                    location.get_or_insert_default().push_str(text.trim());
                } else if !text.trim().is_empty() {
                    return Err(malformed);
                }
            }
            Event::Decl(_) | Event::Comment(_) => {}
            Event::Eof if path.is_empty() && seen_root => {
                return Ok(location.filter(|location| !location.is_empty()));
            }
            // Entities and processing instructions have no business in this document.
            Event::Eof
            | Event::CData(_)
            | Event::PI(_)
            | Event::DocType(_)
            | Event::GeneralRef(_) => return Err(malformed),
        }
    }
}

fn known_element(path: &[String], start: &BytesStart<'_>) -> bool {
    let name = start.local_name();
    match path {
        [] => name.as_ref() == "CreateBucketConfiguration",
        [_] => name.as_ref() == "LocationConstraint",
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_and_control_characters_become_references() {
        let mut document = Document::new("Root", Some("ns"));
        document.text("Key", "a<b>&\"c\"\u{1}\r\u{fffe}é");
        document.element("Empty", |_| {});
        assert_eq!(
            String::from_utf8(document.finish()).unwrap(),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Root xmlns=\"ns\">\
             <Key>a&lt;b&gt;&amp;&quot;c&quot;&#x1;&#13;&#xfffe;é</Key><Empty></Empty></Root>"
        );
    }

    #[test]
    fn plain_text_is_written_as_any_other() {
        for code in 0..0x180u32 {
            let Some(character) = char::from_u32(code) else {
                continue;
            };
            for text in [format!("{character}"), format!("a{character}\"b\"")] {
                let mut written = Vec::new();
                write_text(&mut written, &text);
                let written = String::from_utf8(written).unwrap();
                assert_eq!(written, escape_text(&text), "{text:?}");
            }
        }
    }

    #[test]
    fn a_location_constraint_is_read_and_anything_else_is_malformed() {
        let root = "CreateBucketConfiguration";
        let good = [
            (format!("<{root}/>"), None),
            (format!("<{root}><LocationConstraint/></{root}>"), None),
            (
                format!(
                    "<?xml version=\"1.0\"?>\n<{root} xmlns=\"{NAMESPACE}\">\n\
                     <LocationConstraint>eu-west-1</LocationConstraint>\n</{root}>"
                ),
                Some("eu-west-1".to_owned()),
            ),
        ];
        for (document, expected) in good {
            assert_eq!(
                parse_location_constraint(document.as_bytes()),
                Ok(expected),
                "{document}"
            );
        }
        let bad = [
            String::new(),
            "text".to_owned(),
            format!("<{root}>"),
            format!("<{root}></other>"),
            format!("<{root}><Bucket/></{root}>"),
            "<Other/>".to_owned(),
            format!("<!DOCTYPE x [<!ENTITY e \"x\">]><{root}/>"),
            format!("<{root}><LocationConstraint>&e;</LocationConstraint></{root}>"),
            format!("<{root}>text</{root}>"),
        ];
        for document in bad {
            let outcome = parse_location_constraint(document.as_bytes());
            assert!(
                matches!(outcome, Err(XmlError::Malformed { .. })),
                "{document}: {outcome:?}"
            );
        }
    }
}
