//! Validators, the lists of them, and the conditions that requests make of them.

use http::header::{ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE};
use http::{HeaderMap, HeaderValue};
use tidegate::cache::policy::cache_control::list_items;
use tidegate::cache::policy::conditional::{
    EntityTag, Precondition, evaluate, if_range_holds, validators,
};

use super::{fields, now};

/// The lines are fields of a stored response; those of a request for it begin with `>`.
pub fn check(data: &[u8]) {
    let lines = || data.split(|byte| *byte == b'\n');
    let request = fields(lines().filter_map(|line| line.strip_prefix(b">")));
    let stored = fields(lines().filter(|line| !line.starts_with(b">")));
    for value in request.values().chain(stored.values()) {
        check_list(value.as_bytes());
    }

    let conditional =
        request.contains_key(IF_NONE_MATCH) || request.contains_key(IF_MODIFIED_SINCE);
    if evaluate(&request, &stored, now()) == Precondition::NotModified {
        assert!(conditional, "304 only to those who asked for it");
    }
    let mut plain = request.clone();
    plain.remove(IF_RANGE);
    assert!(if_range_holds(&plain, &stored, now()));
    if let Some(tag) = EntityTag::of(&stored) {
        check_tag(&tag, &stored);
    }
}

/// What was taken apart and put together is taken apart in the same way.
fn check_list(value: &[u8]) {
    let items: Vec<&[u8]> = list_items(value).collect();
    assert!(
        items
            .iter()
            .all(|item| item.trim_ascii() == *item && !item.is_empty())
    );
    let joined = items.join(&b" ,, "[..]);
    assert!(list_items(&joined).eq(items));
}

fn check_tag(tag: &EntityTag, stored: &HeaderMap) {
    let ours = validators(stored);
    assert_eq!(ours.get(IF_NONE_MATCH), stored.get(ETAG));
    assert_eq!(evaluate(&ours, stored, now()), Precondition::NotModified);
    let mut range = HeaderMap::new();
    range.insert(IF_RANGE, tag.value().clone());
    assert_eq!(if_range_holds(&range, stored, now()), tag.is_strong());
    if tag.value().as_bytes().contains(&b'\\') {
        // In a list, old recipients take a backslash for an escape (RFC 9110 §8.8.3), and so do we: a tag that ends
        // in one is not found, which costs a transfer and nothing else.
        return;
    }
    // In a list, with and without the mark of weakness, the tag is found (RFC 9110 §13.1.2).
    let opaque = tag.value().as_bytes();
    let opaque = opaque.strip_prefix(b"W/").unwrap_or(opaque);
    for list in [
        [b"\"none, of these\", ", opaque].concat(),
        [b"W/\"\",W/", opaque, b" , \"x\""].concat(),
    ] {
        let mut listed = HeaderMap::new();
        let value = HeaderValue::from_bytes(&list).expect("a tag stood in a field before");
        listed.insert(IF_NONE_MATCH, value);
        assert_eq!(evaluate(&listed, stored, now()), Precondition::NotModified);
    }
}
