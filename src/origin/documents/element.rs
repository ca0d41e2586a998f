//! A request's document as a tree, read with bounds.

use quick_xml::events::{BytesRef, BytesStart, Event};
use quick_xml::{Reader, XmlVersion};

use super::DocumentError;

/// The deepest document that S3 has nests six elements.
const DEPTH_MAX: usize = 8;

/// What a document may have at most.
#[derive(Debug, Clone, Copy)]
pub(in crate::origin) struct Limits {
    /// Its bytes.
    pub bytes: usize,
    /// Its elements.
    pub elements: usize,
}

/// An element, by its local name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::origin) struct Element {
    name: String,
    text: String,
    /// The value of an attribute whose local name is `type`: `xsi:type` of a grantee.
    xsi_type: Option<String>,
    children: Vec<Element>,
    /// Where its start tag ends.
    offset: u64,
}

impl Element {
    /// Reads a document whose root has this name. Namespaces and attributes are accepted and mean nothing, but for
    /// `xsi:type`. Neither a document type nor entities other than the five of XML are.
    ///
    /// # Errors
    /// [`DocumentError::TooLong`], [`DocumentError::Malformed`] or [`DocumentError::TooMuch`].
    pub(in crate::origin) fn parse(
        document: &[u8],
        root: &str,
        limits: Limits,
    ) -> Result<Self, DocumentError> {
        if document.len() > limits.bytes {
            return Err(DocumentError::TooLong {
                max_bytes: limits.bytes,
            });
        }
        let text = std::str::from_utf8(document).map_err(|error| DocumentError::Malformed {
            offset: error.valid_up_to() as u64,
        })?;
        // No reference stands for it either, so what held one could not be given back.
        if let Some(at) = text.find('\0') {
            return Err(DocumentError::Malformed { offset: at as u64 });
        }
        let mut tree = Tree {
            open: Vec::new(),
            done: None,
            elements_left: limits.elements,
        };
        let mut reader = Reader::from_str(text.strip_prefix('\u{feff}').unwrap_or(text));
        loop {
            let event = reader.read_event();
            let offset = reader.buffer_position();
            let malformed = DocumentError::Malformed { offset };
            match event.map_err(|_| malformed.clone())? {
                Event::Start(start) => tree.begin(&start, offset)?,
                Event::Empty(start) => {
                    tree.begin(&start, offset)?;
                    tree.end(offset)?;
                }
                Event::End(_) => tree.end(offset)?,
                Event::Text(text) => {
                    tree.text(&text.xml_content(XmlVersion::Implicit1_0), offset)?;
                }
                Event::CData(data) => {
                    tree.text(&data.xml_content(XmlVersion::Implicit1_0), offset)?;
                }
                Event::GeneralRef(reference) => {
                    let character = resolve(&reference).ok_or(malformed)?;
                    tree.text(character.encode_utf8(&mut [0; 4]), offset)?;
                }
                Event::Decl(_) if tree.is_untouched() => {}
                Event::Comment(_) => {}
                Event::Eof => {
                    let done = tree.done.filter(|done| done.name == root);
                    return done.ok_or(malformed);
                }
                Event::Decl(_) | Event::PI(_) | Event::DocType(_) => return Err(malformed),
            }
        }
    }

    /// Refuses children of other names.
    ///
    /// # Errors
    /// [`DocumentError::Unknown`], or [`DocumentError::Value`] for text between them.
    pub(in crate::origin) fn only(&self, known: &[&str]) -> Result<(), DocumentError> {
        if !self.text.trim().is_empty() {
            return Err(self.bad_value());
        }
        let mut children = self.children.iter();
        match children.find(|child| !known.contains(&child.name.as_str())) {
            Some(child) => Err(DocumentError::Unknown {
                element: child.name.chars().take(100).collect(),
                offset: child.offset,
            }),
            None => Ok(()),
        }
    }

    /// The child of this name, if there is one.
    ///
    /// # Errors
    /// [`DocumentError::Repeated`].
    pub(in crate::origin) fn one(
        &self,
        name: &'static str,
    ) -> Result<Option<&Element>, DocumentError> {
        let mut found = self.all(name);
        let first = found.next();
        match found.next() {
            Some(_) => Err(DocumentError::Repeated { element: name }),
            None => Ok(first),
        }
    }

    /// The child of this name.
    ///
    /// # Errors
    /// [`DocumentError::Missing`] or [`DocumentError::Repeated`].
    pub(in crate::origin) fn required(
        &self,
        name: &'static str,
    ) -> Result<&Element, DocumentError> {
        (self.one(name)?).ok_or(DocumentError::Missing { element: name })
    }

    /// The children of this name, in order.
    pub(in crate::origin) fn all<'e>(&'e self, name: &'e str) -> impl Iterator<Item = &'e Element> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// The one child, whatever its name.
    pub(in crate::origin) fn children(&self) -> &[Element] {
        &self.children
    }

    /// Its local name.
    pub(in crate::origin) fn name(&self) -> &str {
        &self.name
    }

    /// The value of `xsi:type`, without a prefix.
    pub(in crate::origin) fn xsi_type(&self) -> Option<&str> {
        let value = self.xsi_type.as_deref()?;
        Some(value.rsplit_once(':').map_or(value, |(_, local)| local))
    }

    /// Its text, white space and all.
    ///
    /// # Errors
    /// [`DocumentError::Value`] when it has children.
    pub(in crate::origin) fn text(&self) -> Result<&str, DocumentError> {
        if self.children.is_empty() {
            Ok(&self.text)
        } else {
            Err(self.bad_value())
        }
    }

    /// Its text without white space around it, which some clients use to lay a document out.
    ///
    /// # Errors
    /// As [`Element::text`].
    pub(in crate::origin) fn word(&self) -> Result<&str, DocumentError> {
        self.text().map(|text| text.trim_ascii())
    }

    /// Its text as one of a few words.
    ///
    /// # Errors
    /// [`DocumentError::Value`].
    pub(in crate::origin) fn one_of<T: Copy>(
        &self,
        words: &[(&str, T)],
    ) -> Result<T, DocumentError> {
        let word = self.word()?;
        let found = words.iter().find(|(known, _)| *known == word);
        found.map(|(_, meaning)| *meaning).ok_or(self.bad_value())
    }

    /// Its text as `true` or `false`.
    ///
    /// # Errors
    /// [`DocumentError::Value`].
    pub(in crate::origin) fn flag(&self) -> Result<bool, DocumentError> {
        match self.word()? {
            "1" => Ok(true),
            "0" => Ok(false),
            word if word.eq_ignore_ascii_case("true") => Ok(true),
            word if word.eq_ignore_ascii_case("false") => Ok(false),
            _ => Err(self.bad_value()),
        }
    }

    /// Its text as a whole number, with a sign or without.
    ///
    /// # Errors
    /// [`DocumentError::Value`].
    pub(in crate::origin) fn number(&self) -> Result<i64, DocumentError> {
        let word = self.word()?;
        let digits = word.strip_prefix('-').unwrap_or(word);
        let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
        let number = word.parse().ok().filter(|_| is_number);
        number.ok_or(self.bad_value())
    }

    /// The error that says that its value is none.
    pub(in crate::origin) fn bad_value(&self) -> DocumentError {
        DocumentError::Value {
            element: self.name.chars().take(100).collect(),
            offset: self.offset,
        }
    }
}

struct Tree {
    open: Vec<Element>,
    done: Option<Element>,
    elements_left: usize,
}

impl Tree {
    fn is_untouched(&self) -> bool {
        self.open.is_empty() && self.done.is_none()
    }

    fn begin(&mut self, start: &BytesStart<'_>, offset: u64) -> Result<(), DocumentError> {
        if self.open.is_empty() && self.done.is_some() {
            return Err(DocumentError::Malformed { offset });
        }
        if self.open.len() == DEPTH_MAX || self.elements_left == 0 {
            return Err(DocumentError::TooMuch { offset });
        }
        self.elements_left -= 1;
        let mut xsi_type = None;
        for attribute in start.attributes() {
            let malformed = DocumentError::Malformed { offset };
            let attribute = attribute.map_err(|_| malformed.clone())?;
            if attribute.key.local_name().as_ref() == "type" {
                let value = attribute.normalized_value(XmlVersion::Implicit1_0);
                xsi_type = Some(value.map_err(|_| malformed)?.into_owned());
            }
        }
        self.open.push(Element {
            name: start.local_name().as_ref().to_owned(),
            text: String::new(),
            xsi_type,
            children: Vec::new(),
            offset,
        });
        Ok(())
    }

    fn end(&mut self, offset: u64) -> Result<(), DocumentError> {
        let element = (self.open.pop()).ok_or(DocumentError::Malformed { offset })?;
        match self.open.last_mut() {
            Some(parent) => parent.children.push(element),
            None => self.done = Some(element),
        }
        Ok(())
    }

    fn text(&mut self, text: &str, offset: u64) -> Result<(), DocumentError> {
        match self.open.last_mut() {
            Some(element) => element.text.push_str(text),
            None if text.trim_ascii().is_empty() => {}
            None => return Err(DocumentError::Malformed { offset }),
        }
        Ok(())
    }
}

/// A reference to a character, or one of the five entities that need no declaration.
fn resolve(reference: &BytesRef<'_>) -> Option<char> {
    let name: &str = reference;
    match name {
        "lt" => Some('<'),
        "gt" => Some('>'),
        "amp" => Some('&'),
        "apos" => Some('\''),
        "quot" => Some('"'),
        _ => reference.resolve_char_ref().ok().flatten(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        bytes: 1000,
        elements: 10,
    };

    fn parse(document: &str) -> Result<Element, DocumentError> {
        Element::parse(document.as_bytes(), "A", LIMITS)
    }

    #[test]
    fn a_document_is_read_with_and_without_namespaces() {
        for document in [
            "<A><B>x</B></A>",
            "\u{feff}<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<A xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\n<B>x</B>\n</A>\n",
            "<s3:A xmlns:s3=\"u\"><s3:B>x</s3:B></s3:A>",
            "<!-- c --><A><B><![CDATA[x]]></B></A><!-- c -->",
            "<A><B>&#x78;</B></A>",
        ] {
            let root = parse(document).unwrap();
            assert_eq!(root.only(&["B"]), Ok(()), "{document}");
            assert_eq!(root.required("B").unwrap().text(), Ok("x"), "{document}");
        }
        let root = parse("<A><B> &lt;&amp;&gt;&quot;&apos;\r\n&#10; </B></A>").unwrap();
        assert_eq!(root.required("B").unwrap().text(), Ok(" <&>\"'\n\n "));
    }

    #[test]
    fn what_is_no_such_document_is_malformed() {
        for document in [
            "",
            "x",
            "<B/>",
            "<A>",
            "<A/><A/>",
            "<A/>x",
            "x<A/>",
            "</A>",
            "<A></B>",
            "<A b=\"1\" b=\"2\"/>",
            "<A b=1/>",
            "<A>&e;</A>",
            "<A>&#0;</A>",
            "<A>\0</A>",
            "<A>&#xd800;</A>",
            "<A><!DOCTYPE x></A>",
            "<!DOCTYPE A [<!ENTITY e \"x\">]><A>&e;</A>",
            "<!DOCTYPE A><A/>",
            "<?php x?><A/>",
            "<A><?xml version=\"1.0\"?></A>",
        ] {
            let outcome = parse(document);
            assert!(
                matches!(outcome, Err(DocumentError::Malformed { .. })),
                "{document}: {outcome:?}"
            );
        }
        let not_utf8 = Element::parse(b"<A>\xff</A>", "A", LIMITS);
        assert_eq!(not_utf8, Err(DocumentError::Malformed { offset: 3 }));
    }

    #[test]
    fn bounds_hold_on_both_sides() {
        let too_much = |outcome| matches!(outcome, Err(DocumentError::TooMuch { .. }));
        let deep = |depth: usize| format!("{}{}", "<A>".repeat(depth), "</A>".repeat(depth));
        assert!(parse(&deep(DEPTH_MAX)).is_ok());
        assert!(too_much(parse(&deep(DEPTH_MAX + 1))));
        let wide = |count: usize| format!("<A>{}</A>", "<B/>".repeat(count - 1));
        assert!(parse(&wide(10)).is_ok());
        assert!(too_much(parse(&wide(11))));
        let long = |bytes: usize| format!("<A>{}</A>", "x".repeat(bytes - 7));
        assert!(parse(&long(1000)).is_ok());
        assert_eq!(
            parse(&long(1001)),
            Err(DocumentError::TooLong { max_bytes: 1000 })
        );
    }

    #[test]
    fn children_are_asked_for_by_name_and_number() {
        let root = parse("<A><B>1</B><C/><C/><D>x<E/></D></A>").unwrap();
        assert!(
            matches!(root.only(&["B", "C"]), Err(DocumentError::Unknown { element, .. }) if element == "D")
        );
        assert_eq!(root.one("X"), Ok(None));
        assert_eq!(
            root.required("X"),
            Err(DocumentError::Missing { element: "X" })
        );
        assert_eq!(root.one("C"), Err(DocumentError::Repeated { element: "C" }));
        let value = |outcome| matches!(outcome, Err(DocumentError::Value { .. }));
        assert!(value(root.required("D").unwrap().only(&["E"])));
        assert!(value(root.required("D").unwrap().text().map(|_| ())));
        assert_eq!(root.required("B").unwrap().number(), Ok(1));
    }

    #[test]
    fn numbers_and_flags_are_read_strictly() {
        let read = |text: &str| parse(&format!("<A>{text}</A>")).unwrap();
        for (text, number) in [
            ("0", Some(0)),
            (" 12\n", Some(12)),
            ("-3", Some(-3)),
            ("+3", None),
            ("", None),
            ("-", None),
            ("1.0", None),
            ("9223372036854775807", Some(i64::MAX)),
            ("9223372036854775808", None),
        ] {
            assert_eq!(read(text).number().ok(), number, "{text:?}");
        }
        for (text, flag) in [
            ("true", Some(true)),
            ("TRUE", Some(true)),
            ("false", Some(false)),
            ("", None),
            ("yes", None),
        ] {
            assert_eq!(read(text).flag().ok(), flag, "{text:?}");
        }
    }
}
