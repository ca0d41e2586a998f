//! The tags by which responses are purged together.

use http::{HeaderMap, HeaderValue};
use tidegate::cache::policy::tags::{MAX_TAGS, check_tag, tags_of};

use super::fields;

/// The lines are fields of a response.
pub fn check(data: &[u8]) {
    let response = fields(data.split(|byte| *byte == b'\n'));
    let tags = tags_of(&response);
    let names = tags.names();
    assert!(names.len() <= MAX_TAGS);
    assert!(names.windows(2).all(|pair| pair[0] < pair[1]));
    assert!(names.iter().all(|name| check_tag(name).is_ok()));

    // Whatever tag was kept, the same response says again in the plainest way.
    let mut plain = HeaderMap::new();
    for name in names {
        let field = if name.contains(',') {
            "surrogate-key"
        } else {
            "cache-tag"
        };
        let value = HeaderValue::from_str(name).expect("it stood in a field before");
        plain.append(field, value);
    }
    let again = tags_of(&plain);
    assert_eq!(again.names(), names);
    assert!(again.is_complete());

    // A tag that cannot be kept is not forgotten.
    let mut more = response.clone();
    more.append(
        "cache-tag",
        HeaderValue::from_bytes(b"\xff").expect("obs-text is allowed"),
    );
    assert!(!tags_of(&more).is_complete());
}
