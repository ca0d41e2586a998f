//! Tags, as a field and as a document.

use tidegate::origin::documents::{TagOwner, Tags};
use tidegate::origin::xml::Document;

use super::{percent_decoded, take_text};

/// A line that is the field, then a document.
///
/// Tags say the same in a field and in a document, and a field says what a query does.
pub fn check(data: &[u8]) {
    let mut rest = data;
    let Some(field) = take_text(&mut rest) else {
        return;
    };
    if let Ok(tags) = Tags::from_header(field) {
        let pairs = field.split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let decoded = |text: &str| percent_decoded(text.replace('+', " ").as_bytes());
        let said: Vec<_> = pairs
            .map(|(key, value)| (decoded(key), decoded(value)))
            .collect();
        let read: Vec<_> = (tags.iter())
            .map(|tag| (tag.key.clone().into_bytes(), tag.value.clone().into_bytes()))
            .collect();
        assert_eq!(read, said);
        same_in_both(&tags, TagOwner::Object);
    }
    for owner in [TagOwner::Object, TagOwner::Bucket] {
        if let Ok(tags) = Tags::parse(rest, owner) {
            same_in_both(&tags, owner);
        }
    }
}

fn same_in_both(tags: &Tags, owner: TagOwner) {
    let mut document = Document::new("Tagging", None);
    tags.write(&mut document);
    assert_eq!(Tags::parse(&document.finish(), owner).as_ref(), Ok(tags));
    if owner == TagOwner::Object {
        assert_eq!(Tags::from_header(&tags.to_header()).as_ref(), Ok(tags));
    }
}
