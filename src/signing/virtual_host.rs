//! Buckets that are named in the host: `bucket.domain` instead of `domain/bucket`.

/// The bucket that a host names under `domain`, without any port: `films` of `films.s3.example:9000` under
/// `s3.example`. `None` for the domain itself and for every other host. Letters of the domain compare without
/// case (RFC 9110 §4.2.3); the bucket is given back as it was sent, dots included.
pub fn virtual_bucket<'a>(host: &'a str, domain: &str) -> Option<&'a str> {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let bucket_end = name.len().checked_sub(domain.len() + 1)?;
    let (bucket, rest) = name.split_at_checked(bucket_end)?;
    let rest = rest.strip_prefix('.')?;
    (rest.eq_ignore_ascii_case(domain) && !bucket.is_empty()).then_some(bucket)
}

#[cfg(test)]
mod tests {
    use super::*;

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
