//! What an unsafe request changes besides its own URL: what its answer names, and S3's other style.

use tidegate::cache::policy::invalidation::also_named;
use tidegate::request_target::is_authority;
use tidegate::signing::other_style;

use super::{fields, take_text};

/// Two lines, the authority and the path of a request, then fields of its response.
pub fn check(data: &[u8]) {
    let mut rest = data;
    let (Some(authority), Some(path)) = (take_text(&mut rest), take_text(&mut rest)) else {
        return;
    };
    // The gate lets no other in.
    if !is_authority(authority.as_bytes()) || !path.starts_with('/') {
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
    let is_address = authority.starts_with('[');
    if !is_address {
        check_other_style(authority, path);
    }
}

/// Both styles lead to each other.
fn check_other_style(authority: &str, path: &str) {
    const DOMAIN: &str = "s3.example";
    let Some((host, target)) = other_style(authority, path, DOMAIN) else {
        return;
    };
    let back = other_style(&host, &target, DOMAIN);
    let (host_again, path_again) = back.expect("the other style has another");
    // A bucket in a path may be escaped, and a path may stand behind any host.
    let bucket_in_path = path.split('/').nth(1).unwrap_or_default();
    if !bucket_in_path.contains('%') {
        assert_eq!(path_again, path, "{host}{target}");
    }
    if host.split(':').next() == Some(DOMAIN) {
        assert!(host_again.eq_ignore_ascii_case(authority), "{host_again}");
    }
}
