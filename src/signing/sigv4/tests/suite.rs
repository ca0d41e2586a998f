//! AWS's test suite for Signature Version 4, as far as S3 signs alike.
//!
//! `aws_suite.json` holds the vectors of `tests/aws-signing-test-suite/v4` in github.com/awslabs/aws-c-auth
//! (Apache-2.0, commit 495329c), a line each: the request as signed, its canonical request and its signature.
//! Left out are those that collapse `//` and dot segments, which S3 does not, one field folded over several
//! lines, which HTTP no longer has (RFC 9112 §5.2), and one with a token in the query that is not signed. The
//! suite signs for a service called `service`; all keys of ours are for `s3`, so the last step is made here.

use std::borrow::Cow;

use aws_lc_rs::hmac;
use serde_json::Value;

use crate::signing::SignedRequest;
use crate::signing::sigv4::canonical::{canonical_request, string_to_sign};
use crate::signing::sigv4::scope::Timestamp;
use crate::signing::sigv4::signed_headers::SignedHeaders;

use super::headers;

const SUITE: &str = include_str!("aws_suite.json");
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const SCOPE: &str = "20150830/us-east-1/service/aws4_request";

fn signing_key() -> hmac::Key {
    let start = format!("AWS4{SECRET}").into_bytes();
    SCOPE
        .split('/')
        .fold(hmac::Key::new(hmac::HMAC_SHA256, &start), |key, part| {
            let next = hmac::sign(&key, part.as_bytes());
            hmac::Key::new(hmac::HMAC_SHA256, next.as_ref())
        })
}

#[test]
fn the_suite_of_aws_is_signed_as_aws_signs_it() {
    let suite: Vec<Value> = serde_json::from_str(SUITE).unwrap();
    assert_eq!(suite.len(), 61);
    let timestamp = Timestamp::parse("20150830T123600Z").unwrap();
    let key = signing_key();
    for vector in &suite {
        let text = |name: &str| vector[name].as_str().unwrap();
        let name = text("name");
        let (path, query) = text("target")
            .split_once('?')
            .unwrap_or((text("target"), ""));
        let fields: Vec<(&str, &str)> = (vector["fields"].as_array().unwrap().iter())
            .map(|field| (field[0].as_str().unwrap(), field[1].as_str().unwrap()))
            .collect();
        let request = SignedRequest {
            method: text("method"),
            path,
            query,
            host: "example.amazonaws.com",
            headers: &headers(&fields),
        };
        let expected = text("canonical_request");
        let mut last = expected.rsplit('\n');
        let (payload, signed) = (last.next().unwrap(), last.next().unwrap());
        let signed = SignedHeaders::parse(Cow::Borrowed(signed)).unwrap();
        let canonical = canonical_request(&request, &signed, payload).unwrap();
        assert_eq!(
            String::from_utf8(canonical.clone()).unwrap(),
            expected,
            "{name}"
        );
        let signature = string_to_sign(&canonical, &timestamp, SCOPE).sign(&key);
        assert_eq!(signature.as_str(), text("signature"), "{name}");
    }
}
