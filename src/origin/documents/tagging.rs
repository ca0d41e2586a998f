//! Tags of objects and buckets: `Tagging`, and the field `x-amz-tagging` (S3 user guide, "Categorizing your storage
//! using tags").

use super::DocumentError;
use super::element::{Element, Limits};
use crate::origin::query::Query;
use crate::origin::xml::Document;

/// The most tags of an object.
pub const OBJECT_TAGS_MAX: usize = 10;
/// The most tags of a bucket.
pub const BUCKET_TAGS_MAX: usize = 50;
/// The longest `Tagging` that is read, in bytes: fifty tags whose every character is written as a reference.
pub const TAGGING_MAX_BYTES: usize = 256 * 1024;

/// In characters (S3 user guide: "Unicode characters in UTF-16").
const KEY_MAX: usize = 128;
const VALUE_MAX: usize = 256;
const LIMITS: Limits = Limits {
    bytes: TAGGING_MAX_BYTES,
    elements: 1000,
};

/// What bears tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TagOwner {
    /// At most [`OBJECT_TAGS_MAX`].
    Object,
    /// At most [`BUCKET_TAGS_MAX`].
    Bucket,
}

/// One tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// 1 to 128 characters, letters of both cases told apart.
    pub key: String,
    /// 0 to 256 characters.
    pub value: String,
}

/// Tags with distinct keys, in the order they came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tags(Vec<Tag>);

impl Tags {
    /// Reads a `Tagging`.
    ///
    /// # Errors
    /// [`DocumentError`]: a malformed document, or tags that break a rule.
    pub fn parse(document: &[u8], owner: TagOwner) -> Result<Self, DocumentError> {
        let root = Element::parse(document, "Tagging", LIMITS)?;
        root.only(&["TagSet"])?;
        let set = root.required("TagSet")?;
        Tags::new(read_tags(set)?, owner)
    }

    /// Reads `x-amz-tagging`: a query such as `team=red&cost=1`.
    ///
    /// # Errors
    /// [`DocumentError::TaggingHeader`] when it is no query or names a tag twice; tags that break another rule.
    pub fn from_header(value: &str) -> Result<Self, DocumentError> {
        let query = Query::parse(value).map_err(|_| DocumentError::TaggingHeader)?;
        let tags = query.iter().map(|(key, value)| Tag {
            key: key.to_owned(),
            value: value.to_owned(),
        });
        Tags::new(tags.collect(), TagOwner::Object).map_err(|error| match error {
            DocumentError::TagRepeated => DocumentError::TaggingHeader,
            other => other,
        })
    }

    /// Checks tags that are already taken apart.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn new(tags: Vec<Tag>, owner: TagOwner) -> Result<Self, DocumentError> {
        let max = match owner {
            TagOwner::Object => OBJECT_TAGS_MAX,
            TagOwner::Bucket => BUCKET_TAGS_MAX,
        };
        if tags.len() > max {
            return Err(DocumentError::TooManyTags { max });
        }
        for (index, tag) in tags.iter().enumerate() {
            let length = tag.key.encode_utf16().count();
            let is_reserved = tag
                .key
                .get(..4)
                .is_some_and(|start| start.eq_ignore_ascii_case("aws:"));
            if length == 0 || length > KEY_MAX || is_reserved || !tag.key.chars().all(is_allowed) {
                return Err(DocumentError::TagKey);
            }
            let length = tag.value.encode_utf16().count();
            if length > VALUE_MAX || !tag.value.chars().all(is_allowed) {
                return Err(DocumentError::TagValue);
            }
            if tags[..index].iter().any(|other| other.key == tag.key) {
                return Err(DocumentError::TagRepeated);
            }
        }
        Ok(Tags(tags))
    }

    /// The tags.
    pub fn iter(&self) -> impl Iterator<Item = &Tag> {
        self.0.iter()
    }

    /// Keys and values.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|tag| (tag.key.as_str(), tag.value.as_str()))
    }

    /// The value of a tag.
    pub fn get(&self, key: &str) -> Option<&str> {
        let found = self.0.iter().find(|tag| tag.key == key);
        found.map(|tag| tag.value.as_str())
    }

    /// How many there are (`x-amz-tagging-count`).
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Writes them into a `Tagging`.
    pub fn write(&self, document: &mut Document) {
        document.element("TagSet", |document| write_tags(&self.0, document));
    }

    /// The form of `x-amz-tagging`, also what a metadata row may keep; [`Tags::from_header`] reads it.
    pub fn to_header(&self) -> String {
        let mut text = url::form_urlencoded::Serializer::new(String::new());
        for tag in &self.0 {
            text.append_pair(&tag.key, &tag.value);
        }
        text.finish()
    }
}

/// Reads the `Tag` children of an element.
pub(super) fn read_tags(set: &Element) -> Result<Vec<Tag>, DocumentError> {
    set.only(&["Tag"])?;
    set.all("Tag").map(read_tag).collect()
}

pub(super) fn read_tag(tag: &Element) -> Result<Tag, DocumentError> {
    tag.only(&["Key", "Value"])?;
    Ok(Tag {
        key: tag.required("Key")?.text()?.to_owned(),
        value: tag.required("Value")?.text()?.to_owned(),
    })
}

pub(super) fn write_tags(tags: &[Tag], document: &mut Document) {
    for tag in tags {
        document.element("Tag", |document| {
            document.text("Key", &tag.key);
            document.text("Value", &tag.value);
        });
    }
}

/// Letters, digits and spaces of any script, and `_ . : / = + - @` (S3 user guide, "Tag restrictions"). What scripts
/// other than ours need to write a letter is left to them.
fn is_allowed(character: char) -> bool {
    if character.is_ascii() {
        character.is_ascii_alphanumeric() || " _.:/=+-@".contains(character)
    } else {
        !character.is_control()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::origin::xml::NAMESPACE;

    fn tagging(tags: &[(&str, &str)]) -> String {
        let tags = tags
            .iter()
            .map(|(key, value)| format!("<Tag><Key>{key}</Key><Value>{value}</Value></Tag>"));
        let tags = tags.collect::<String>();
        format!("<Tagging xmlns=\"{NAMESPACE}\">\n<TagSet>{tags}</TagSet></Tagging>")
    }

    fn parse(tags: &[(&str, &str)]) -> Result<usize, &'static str> {
        let read = Tags::parse(tagging(tags).as_bytes(), TagOwner::Object);
        read.map(|tags| tags.len()).map_err(|error| error.code())
    }

    #[test]
    fn keys_and_values_have_their_lengths_and_alphabet() {
        let (key, long_key) = ("k".repeat(128), "k".repeat(129));
        let (value, long_value) = ("v".repeat(256), "v".repeat(257));
        // Two units of UTF-16 each.
        let (wide, too_wide) = ("𝒳".repeat(64), "𝒳".repeat(65));
        for (name, content, expected) in [
            ("k", "", Ok(1)),
            ("", "v", Err("InvalidTag")),
            (&key, &value, Ok(1)),
            (&long_key, "v", Err("InvalidTag")),
            ("k", &long_value, Err("InvalidTag")),
            (&wide, "v", Ok(1)),
            (&too_wide, "v", Err("InvalidTag")),
            ("a b_.:/=+-@", "ü日本", Ok(1)),
            ("a!", "v", Err("InvalidTag")),
            ("a", "v;", Err("InvalidTag")),
            ("a", "&#10;", Err("InvalidTag")),
            ("aws:a", "v", Err("InvalidTag")),
            ("AWS:a", "v", Err("InvalidTag")),
            ("aws", "v", Ok(1)),
        ] {
            assert_eq!(parse(&[(name, content)]), expected, "{name} {content}");
        }
        assert_eq!(parse(&[("a", "1"), ("A", "2")]), Ok(2));
        assert_eq!(parse(&[("a", "1"), ("a", "2")]), Err("InvalidTag"));
    }

    #[test]
    fn an_object_has_ten_tags_and_a_bucket_fifty() {
        let names: Vec<String> = (0..51).map(|number| format!("k{number}")).collect();
        let tags: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "v")).collect();
        for (count, owner, expected) in [
            (0, TagOwner::Object, Ok(0)),
            (10, TagOwner::Object, Ok(10)),
            (11, TagOwner::Object, Err("BadRequest")),
            (50, TagOwner::Bucket, Ok(50)),
            (51, TagOwner::Bucket, Err("BadRequest")),
        ] {
            let read = Tags::parse(tagging(&tags[..count]).as_bytes(), owner);
            let read = read.map(|tags| tags.len()).map_err(|error| error.code());
            assert_eq!(read, expected, "{count} {owner:?}");
        }
    }

    #[test]
    fn documents_of_another_shape_are_malformed() {
        for document in [
            "<Tagging/>",
            "<Tagging><TagSet/><TagSet/></Tagging>",
            "<Tagging><TagSet><Tag><Key>a</Key></Tag></TagSet></Tagging>",
            "<Tagging><TagSet><Tag><Key>a</Key><Key>b</Key><Value/></Tag></TagSet></Tagging>",
            "<Tagging><TagSet><Tags/></TagSet></Tagging>",
        ] {
            let error = Tags::parse(document.as_bytes(), TagOwner::Object).unwrap_err();
            assert_eq!(error.code(), "MalformedXML", "{document}");
        }
    }

    #[test]
    fn the_field_is_a_query_without_repetitions() {
        let read = |text| {
            let tags = Tags::from_header(text).map_err(|error| error.code())?;
            let pairs = tags.iter().map(|tag| (tag.key.clone(), tag.value.clone()));
            Ok(pairs.collect::<Vec<_>>())
        };
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        for (text, expected) in [
            ("", Ok(vec![])),
            (
                "team=red&cost=",
                Ok(vec![pair("team", "red"), pair("cost", "")]),
            ),
            ("a+b=c%2Bd", Ok(vec![pair("a b", "c+d")])),
            ("flag", Ok(vec![pair("flag", "")])),
            ("a=1&a=2", Err("InvalidArgument")),
            ("a=%zz", Err("InvalidArgument")),
            ("a=%ff", Err("InvalidArgument")),
            ("=v", Err("InvalidTag")),
            ("a=%3B", Err("InvalidTag")),
            ("a&b&c&d&e&f&g&h&i&j&k", Err("BadRequest")),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            tags in proptest::collection::btree_map("[a-zA-Zé _.:/=+@-]{1,10}", "[a-z日 +=/]{0,10}", 0..10),
        ) {
            let tags = tags.into_iter().map(|(key, value)| Tag { key, value });
            let Ok(tags) = Tags::new(tags.collect(), TagOwner::Object) else {
                return Ok(());
            };
            let mut document = Document::new("Tagging", Some(NAMESPACE));
            tags.write(&mut document);
            prop_assert_eq!(Tags::parse(&document.finish(), TagOwner::Object), Ok(tags.clone()));
            prop_assert_eq!(Tags::from_header(&tags.to_header()), Ok(tags));
        }
    }
}
