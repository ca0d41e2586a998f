//! `OwnershipControls` (S3 API, PutBucketOwnershipControls).

use super::DocumentError;
use super::element::{Element, Limits};
use crate::origin::xml::Document;

/// The longest document that is read, in bytes.
pub const OWNERSHIP_MAX_BYTES: usize = 16 * 1024;

const LIMITS: Limits = Limits {
    bytes: OWNERSHIP_MAX_BYTES,
    elements: 8,
};

/// Whose an object is and whether lists count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ownership {
    /// `BucketOwnerPreferred`: lists count. What is put with the list `bucket-owner-full-control` is the bucket owner's,
    /// everything else its writer's.
    BucketOwnerPreferred,
    /// `ObjectWriter`: lists count. Everything is its writer's.
    ObjectWriter,
    /// `BucketOwnerEnforced`: lists do not count and cannot be put. Everything is the bucket owner's.
    BucketOwnerEnforced,
}

const WORDS: [(&str, Ownership); 3] = [
    ("BucketOwnerPreferred", Ownership::BucketOwnerPreferred),
    ("ObjectWriter", Ownership::ObjectWriter),
    ("BucketOwnerEnforced", Ownership::BucketOwnerEnforced),
];

impl Ownership {
    /// Reads `OwnershipControls`, which have one rule.
    ///
    /// # Errors
    /// A malformed document.
    pub fn parse(document: &[u8]) -> Result<Self, DocumentError> {
        let root = Element::parse(document, "OwnershipControls", LIMITS)?;
        root.only(&["Rule"])?;
        let rule = root.required("Rule")?;
        rule.only(&["ObjectOwnership"])?;
        rule.required("ObjectOwnership")?.one_of(&WORDS)
    }

    /// Reads the word of `x-amz-object-ownership` and of a metadata row.
    ///
    /// # Errors
    /// [`DocumentError::OutOfRange`].
    pub fn from_word(word: &str) -> Result<Self, DocumentError> {
        let found = WORDS.iter().find(|(known, _)| *known == word);
        (found.map(|(_, ownership)| *ownership)).ok_or(DocumentError::OutOfRange {
            what: "Invalid x-amz-object-ownership header",
        })
    }

    /// S3's word.
    pub fn word(self) -> &'static str {
        match self {
            Ownership::BucketOwnerPreferred => "BucketOwnerPreferred",
            Ownership::ObjectWriter => "ObjectWriter",
            Ownership::BucketOwnerEnforced => "BucketOwnerEnforced",
        }
    }

    /// Whether access control lists count.
    pub fn has_lists(self) -> bool {
        self != Ownership::BucketOwnerEnforced
    }

    /// Writes it into `OwnershipControls`.
    pub fn write(self, document: &mut Document) {
        document.element("Rule", |document| {
            document.text("ObjectOwnership", self.word());
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::xml::NAMESPACE;

    #[test]
    fn what_is_written_is_read_again() {
        for (word, ownership) in WORDS {
            let mut document = Document::new("OwnershipControls", Some(NAMESPACE));
            ownership.write(&mut document);
            assert_eq!(Ownership::parse(&document.finish()), Ok(ownership));
            assert_eq!(Ownership::from_word(word), Ok(ownership));
            assert_eq!(ownership.word(), word);
        }
    }

    #[test]
    fn there_is_one_rule_with_a_known_word() {
        let rule = |word: &str| format!("<Rule><ObjectOwnership>{word}</ObjectOwnership></Rule>");
        for inner in [
            String::new(),
            "<Rule/>".to_owned(),
            rule("Everybody"),
            rule("ObjectWriter").repeat(2),
        ] {
            let document = format!("<OwnershipControls>{inner}</OwnershipControls>");
            let error = Ownership::parse(document.as_bytes()).unwrap_err();
            assert_eq!(error.code(), "MalformedXML", "{inner}");
        }
        let error = Ownership::from_word("objectwriter").unwrap_err();
        assert_eq!(error.code(), "InvalidArgument");
    }
}
