//! What a successful unsafe request makes invalid (RFC 9111 §4.4).

use http::header::{CONTENT_LOCATION, HeaderValue, LOCATION};
use http::{HeaderMap, Method, StatusCode};
use url::{Position, Url};

/// Whether a response to `method` invalidates what is stored of its target.
pub fn invalidates(method: &Method, status: StatusCode) -> bool {
    let is_safe = [
        &Method::GET,
        &Method::HEAD,
        &Method::OPTIONS,
        &Method::TRACE,
    ]
    .contains(&method);
    !is_safe && (status.is_success() || status.is_redirection())
}

/// The other URLs of the same origin that the response names, as path and query.
pub fn also_named(response: &HeaderMap, scheme: &str, authority: &str, path: &str) -> Vec<String> {
    let Ok(base) = Url::parse(&format!("{scheme}://{authority}{path}")) else {
        return Vec::new();
    };
    let resolve = |value: &HeaderValue| {
        let target = base.join(value.to_str().ok()?).ok()?;
        // Another origin's URLs are none of this one's business.
        (target.origin() == base.origin())
            .then(|| target[Position::BeforePath..Position::AfterQuery].to_owned())
    };
    [LOCATION, CONTENT_LOCATION]
        .iter()
        .filter_map(|name| response.get(name).and_then(resolve))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_success_of_an_unsafe_method_invalidates() {
        let search = Method::from_bytes(b"M-SEARCH").unwrap();
        for (method, status, expected) in [
            (&Method::PUT, 200, true),
            (&Method::POST, 201, true),
            (&Method::DELETE, 204, true),
            (&search, 200, true),
            (&Method::POST, 303, true),
            (&Method::POST, 404, false),
            (&Method::PUT, 500, false),
            (&Method::GET, 200, false),
            (&Method::OPTIONS, 200, false),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(invalidates(method, status), expected, "{method} {status}");
        }
    }

    #[test]
    fn named_urls_count_if_they_are_of_the_same_origin() {
        for (value, expected) in [
            ("/b?x=1", Some("/b?x=1")),
            ("b", Some("/dir/b")),
            ("http://h:8080/b", Some("/b")),
            ("http://H:8080/b#part", Some("/b")),
            ("https://h:8080/b", None),
            ("http://h/b", None),
            ("http://elsewhere/b", None),
            ("//elsewhere/b", None),
            ("mailto:a@b", None),
        ] {
            for name in [LOCATION, CONTENT_LOCATION] {
                let mut response = HeaderMap::new();
                response.insert(name, HeaderValue::from_static(value));
                let named = also_named(&response, "http", "h:8080", "/dir/a?q");
                assert_eq!(named.first().map(String::as_str), expected, "{value}");
            }
        }
    }
}
