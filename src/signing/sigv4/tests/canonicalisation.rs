//! Which spellings of a target share a signature.

use http::HeaderMap;

use crate::signing::sigv4::canonical::canonical_request;
use crate::signing::sigv4::signed_headers::SignedHeaders;
use crate::signing::sigv4::{carries_presignature, query_without_signature};
use crate::signing::{Component, Refusal, SignedRequest};

use super::headers;

fn canonical(
    path: &str,
    query: &str,
    fields: &HeaderMap,
    signed: &'static str,
) -> Result<String, Refusal> {
    let request = SignedRequest {
        method: "GET",
        path,
        query,
        host: "h",
        headers: fields,
    };
    let signed = SignedHeaders::parse(signed.into()).unwrap();
    let text = canonical_request(&request, &signed, "UNSIGNED-PAYLOAD")?;
    Ok(String::from_utf8(text).unwrap())
}

/// Line `number` of the canonical request: 1 is the path, 2 the query, 3 the first field.
fn line(text: &str, number: usize) -> &str {
    text.split('\n').nth(number).unwrap()
}

#[test]
fn a_path_is_signed_encoded_once_whatever_its_spelling() {
    for (sent, signed) in [
        ("", "/"),
        ("/", "/"),
        ("/a b", "/a%20b"),
        ("/a%20b", "/a%20b"),
        ("/a+b", "/a%2Bb"),
        ("/a%2Bb", "/a%2Bb"),
        ("/a%2bb", "/a%2Bb"),
        ("/~", "/~"),
        ("/%7E", "/~"),
        ("/%7e", "/~"),
        ("/%41", "/A"),
        ("/a%2Fb", "/a%2Fb"),
        ("/a%2fb", "/a%2Fb"),
        ("/a/b", "/a/b"),
        ("//a//b/", "//a//b/"),
        ("/a/./b/../c", "/a/./b/../c"),
        ("/%2e%2E/", "/../"),
        ("/%25", "/%25"),
        ("/%2525", "/%2525"),
        ("/ä", "/%C3%A4"),
        ("/%c3%a4", "/%C3%A4"),
        ("/😀", "/%F0%9F%98%80"),
        ("/%ff%00", "/%FF%00"),
        ("/!'()*", "/%21%27%28%29%2A"),
        ("/a=b&c:d@e,f;g$h", "/a%3Db%26c%3Ad%40e%2Cf%3Bg%24h"),
    ] {
        let text = canonical(sent, "", &HeaderMap::new(), "host").unwrap();
        assert_eq!(line(&text, 1), signed, "{sent}");
    }
}

#[test]
fn a_query_is_signed_decoded_encoded_and_sorted() {
    for (sent, signed) in [
        ("", ""),
        ("a", "a="),
        ("a=", "a="),
        ("a==", "a=%3D"),
        ("a=b=c", "a=b%3Dc"),
        ("=v", "=v"),
        ("b=1&a=2", "a=2&b=1"),
        ("a=2&a=1&a=10&a", "a=&a=1&a=10&a=2"),
        ("a=1&a=1", "a=1&a=1"),
        ("a&&b&", "a=&b="),
        ("a+b=c+d", "a%20b=c%20d"),
        ("a%20b=c%20d", "a%20b=c%20d"),
        ("a%2Bb=c%2bd", "a%2Bb=c%2Bd"),
        ("a=%7e~", "a=~~"),
        ("a=b/c%2Fd", "a=b%2Fc%2Fd"),
        ("a=b?c", "a=b%3Fc"),
        ("ä=ö", "%C3%A4=%C3%B6"),
        ("a=%26b=1", "a=%26b%3D1"),
        // Sorted by encoded name and then value, not as one text: `-` sorts before `=`.
        ("a-b=1&a=2", "a=2&a-b=1"),
        ("A=1&a=1&B=1", "A=1&B=1&a=1"),
        ("X-Amz-Signature=0&a", "a="),
        ("X%2DAmz-Signature=0&a", "a="),
        ("x-amz-signature=0", "x-amz-signature=0"),
        ("X-Amz-Security-Token=t", "X-Amz-Security-Token=t"),
        (
            "x-amz-checksum-crc32=AA%3D%3D",
            "x-amz-checksum-crc32=AA%3D%3D",
        ),
    ] {
        let text = canonical("/", sent, &HeaderMap::new(), "host").unwrap();
        assert_eq!(line(&text, 2), signed, "{sent}");
    }
}

#[test]
fn a_broken_escape_is_refused_with_its_place() {
    for (path, query, component, offset) in [
        ("/a%", "", Component::Path, 2),
        ("/a%2", "", Component::Path, 2),
        ("/%2G", "", Component::Path, 1),
        ("/%%20", "", Component::Path, 1),
        ("/%+1", "", Component::Path, 1),
        ("/", "a=%zz", Component::Query, 2),
        ("/", "ab=1&c%=1", Component::Query, 6),
        ("/", "a=b&c=d%", Component::Query, 7),
        ("/", "%4", Component::Query, 0),
    ] {
        assert_eq!(
            canonical(path, query, &HeaderMap::new(), "host"),
            Err(Refusal::MalformedEscape { component, offset }),
            "{path}?{query}"
        );
    }
}

#[test]
fn header_values_are_trimmed_joined_and_kept_in_order() {
    let fields = headers(&[
        ("x-amz-meta-a", "  one   two\t three "),
        ("x-amz-meta-b", "z"),
        ("x-amz-meta-b", " a"),
        ("x-amz-meta-c", ""),
        ("host", "not looked at"),
    ]);
    let text = canonical(
        "/",
        "",
        &fields,
        "host;x-amz-meta-a;x-amz-meta-b;x-amz-meta-c",
    )
    .unwrap();
    assert_eq!(
        text,
        "GET\n/\n\nhost:h\nx-amz-meta-a:one two three\nx-amz-meta-b:z,a\nx-amz-meta-c:\n\n\
         host;x-amz-meta-a;x-amz-meta-b;x-amz-meta-c\nUNSIGNED-PAYLOAD"
    );
}

#[test]
fn only_the_signature_is_stripped_from_a_query() {
    for (sent, kept) in [
        ("", ""),
        ("a=1&b", "a=1&b"),
        ("a=1&X-Amz-Signature=0&b", "a=1&b"),
        ("X-Amz-Signature=0", ""),
        ("X-Amz-Date=0&&b=%7e+&", "&b=%7e+&"),
        (
            "response-content-type=a%2Fb&X-Amz-Algorithm=0&versionId=v&X-Amz-Credential=0\
             &partNumber=1&X-Amz-Date=0&X-Amz-Expires=0&X-Amz-SignedHeaders=0\
             &X-Amz-Security-Token=0&X-Amz-Content-Sha256=0&x-id=GetObject&X-Amz-Signature=0",
            "response-content-type=a%2Fb&versionId=v&partNumber=1&x-id=GetObject",
        ),
        ("X%2DAmz%2dDate=0&b", "b"),
        (
            "x-amz-date=0&X-Amz-Checksum-Mode=0",
            "x-amz-date=0&X-Amz-Checksum-Mode=0",
        ),
        ("a=X-Amz-Date", "a=X-Amz-Date"),
        (
            "Signature=1&Expires=2&AWSAccessKeyI=3",
            "Signature=1&Expires=2&AWSAccessKeyI=3",
        ),
        (
            "a=1&Signature=1&Expires=2&AWSAccessKeyId=3&response-expires=0&x-amz-security-token=4",
            "a=1&response-expires=0",
        ),
    ] {
        assert_eq!(query_without_signature(sent), kept, "{sent}");
    }
}

#[test]
fn a_query_with_nothing_to_strip_is_borrowed() {
    assert!(matches!(
        query_without_signature("a=1"),
        std::borrow::Cow::Borrowed("a=1")
    ));
}

#[test]
fn a_presignature_is_seen_by_any_of_its_parameters() {
    for (query, carried) in [
        ("", false),
        ("a=X-Amz-Date", false),
        ("x-amz-date=1", false),
        ("X-Amz-Meta=1", false),
        ("X-Amz-Date", true),
        ("a&X-Amz-Signature=", true),
        ("X%2dAmz-Expires=1", true),
        ("X-Amz-Expires%=1", false),
        ("AWSAccessKeyId=a", true),
        ("Signature=a&Expires=1", false),
    ] {
        assert_eq!(carries_presignature(query), carried, "{query}");
    }
}
