//! What the answer to an unsafe request names as changed.

use tidegate::cache::policy::invalidation::also_named;

use super::{fields, take_text};

/// Two lines, the authority and the path of a request, then fields of its response.
pub fn check(data: &[u8]) {
    let mut rest = data;
    let (Some(authority), Some(path)) = (take_text(&mut rest), take_text(&mut rest)) else {
        return;
    };
    // The gate lets no other in.
    let is_authority =
        (authority.bytes()).all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte));
    if !is_authority || !path.starts_with('/') {
        return;
    }
    let response = fields(rest.split(|byte| *byte == b'\n'));
    let named = also_named(&response, "http", authority, path);
    assert!(named.len() <= 2);
    for target in named {
        assert!(
            target.starts_with('/') && !target.contains(['#', ' ']),
            "{target}"
        );
    }
}
