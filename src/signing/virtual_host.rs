//! Buckets that are named in the host: `bucket.domain` instead of `domain/bucket`.

use percent_encoding::percent_decode_str;

/// The bucket that a host names under `domain`, without any port: `films` of `films.s3.example:9000` under
/// `s3.example`. `None` for the domain itself and for every other host. Letters of the domain compare without
/// case (RFC 9110 §4.2.3); the bucket is given back as it was sent, dots included.
pub fn virtual_bucket<'a>(host: &'a str, domain: &str) -> Option<&'a str> {
    let (name, _) = split_port(host);
    let bucket_end = name.len().checked_sub(domain.len() + 1)?;
    let (bucket, rest) = name.split_at_checked(bucket_end)?;
    let rest = rest.strip_prefix('.')?;
    (rest.eq_ignore_ascii_case(domain) && !bucket.is_empty()).then_some(bucket)
}

/// Host and path under which the other style names the same object, by the raw `path` of a request for `host`:
/// `s3.example:9000` and `/films/a.mp4` for `films.s3.example:9000` and `/a.mp4`, and the reverse for every host
/// that names no bucket under `domain`. `None` when the path names no object, or a bucket that no host can name.
pub fn other_style(host: &str, path: &str, domain: &str) -> Option<(String, String)> {
    let (_, port) = split_port(host);
    if let Some(bucket) = virtual_bucket(host, domain) {
        return (path != "/").then(|| (format!("{domain}{port}"), format!("/{bucket}{path}")));
    }
    let (bucket, key) = path.strip_prefix('/')?.split_once('/')?;
    let bucket = percent_decode_str(bucket).decode_utf8().ok()?;
    let may_be_in_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let is_named = !bucket.is_empty() && bucket.bytes().all(may_be_in_host) && !key.is_empty();
    is_named.then(|| (format!("{bucket}.{domain}{port}"), format!("/{key}")))
}

/// A host, and its port with the colon; empty when there is none.
fn split_port(host: &str) -> (&str, &str) {
    match host.rfind(':') {
        Some(colon) if host[colon + 1..].bytes().all(|byte| byte.is_ascii_digit()) => {
            host.split_at(colon)
        }
        _ => (host, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_styles_of_an_object_lead_to_each_other() {
        for (host, path, other) in [
            (
                "films.s3.example",
                "/a.mp4",
                Some(("s3.example", "/films/a.mp4")),
            ),
            (
                "films.s3.example:80",
                "//a%20b",
                Some(("s3.example:80", "/films//a%20b")),
            ),
            ("a.b.S3.Example", "/c/d", Some(("s3.example", "/a.b/c/d"))),
            ("films.s3.example", "/", None),
            (
                "s3.example",
                "/films/a.mp4",
                Some(("films.s3.example", "/a.mp4")),
            ),
            (
                "10.0.0.1:9000",
                "/films//a",
                Some(("films.s3.example:9000", "//a")),
            ),
            (
                "[::1]:9000",
                "/films/a",
                Some(("films.s3.example:9000", "/a")),
            ),
            (
                "cdn.example",
                "/%66ilms/a%2Bb",
                Some(("films.s3.example", "/a%2Bb")),
            ),
            (
                "s3.example",
                "/old_bucket/a",
                Some(("old_bucket.s3.example", "/a")),
            ),
            ("s3.example", "/films", None),
            ("s3.example", "/films/", None),
            ("s3.example", "//a", None),
            ("s3.example", "/a%20b/c", None),
            ("s3.example", "/%C3%A9/c", None),
            ("s3.example", "/%ff/c", None),
            ("s3.example", "/", None),
        ] {
            let other = other.map(|(host, path)| (host.to_owned(), path.to_owned()));
            assert_eq!(other_style(host, path, "s3.example"), other, "{host}{path}");
        }
    }

    #[test]
    fn a_host_names_a_bucket_only_in_front_of_the_whole_domain() {
        for (host, bucket) in [
            ("films.s3.example", Some("films")),
            ("films.s3.example:9000", Some("films")),
            ("a.b.S3.Example", Some("a.b")),
            ("s3.example", None),
            (".s3.example", None),
            ("filmss3.example", None),
            ("films.s3.example.org", None),
            ("films.s3.example:x", None),
            ("é.s3.example", Some("é")),
            ("é3.example", None),
            ("example", None),
            ("", None),
        ] {
            assert_eq!(virtual_bucket(host, "s3.example"), bucket, "{host}");
        }
    }
}
