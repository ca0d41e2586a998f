use std::time::Duration;

use http::HeaderMap;
use proptest::prelude::*;

use super::test_guide::{self, DOMAIN, KEY_ID, RULES, SECRET, at, keyring};
use super::{PresignV2Spec, presign_v2};
use crate::secret::Secret;
use crate::signing::{
    Grant, Keyring, PresignError, Refusal, Rules, SignedRequest, explain_presigned,
    query_without_signature, verify_presigned,
};
use crate::test_fields::fields as headers;

/// The bucket of every example.
const HOST: &str = "johnsmith.s3.amazonaws.com";
const EXPIRES: u64 = 1_175_139_620;
/// "Query String Request Authentication Alternative" in that guide.
const PUBLISHED: &str = "AWSAccessKeyId=AKIAIOSFODNN7EXAMPLE\
                         &Signature=NpgCjnDzrM%2BWFzoENXmpNDUsSn8%3D&Expires=1175139620";

fn request<'a>(target: &'a str, headers: &'a HeaderMap) -> SignedRequest<'a> {
    test_guide::request("GET", HOST, target, headers)
}

fn verify(target: &str, pairs: &[(&str, &str)]) -> Result<Grant, Refusal> {
    verify_presigned(
        &request(target, &headers(pairs)),
        &keyring(),
        &RULES,
        at(EXPIRES),
    )
}

/// Signs for ten seconds, so that it ends at `EXPIRES`.
fn sign(
    path: &str,
    query: &[(&str, &str)],
    pairs: &[(&str, &str)],
) -> Result<String, PresignError> {
    let query: Vec<(String, String)> = query
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let spec = PresignV2Spec {
        method: "GET",
        host: HOST,
        domain: Some(DOMAIN),
        path,
        query: &query,
        headers: &headers(pairs),
        access_key_id: KEY_ID,
        expires: Duration::from_secs(10),
    };
    presign_v2(&spec, &Secret::new(SECRET), at(EXPIRES - 10))
}

#[test]
fn the_published_url_is_made_verified_and_explained() {
    let target = format!("/photos/puppy.jpg?{PUBLISHED}");
    let grant = verify(&target, &[]).unwrap();
    assert_eq!(grant.access_key_id, KEY_ID);
    assert_eq!(grant.expires, at(EXPIRES));
    assert!(grant.signed_headers.is_empty());
    let none = HeaderMap::new();
    let explanation = explain_presigned(&request(&target, &none), Some(DOMAIN)).unwrap();
    assert_eq!(
        (
            explanation.canonical_request.as_str(),
            explanation.string_to_sign.as_str()
        ),
        ("", "GET\n\n\n1175139620\n/johnsmith/photos/puppy.jpg")
    );
    let made = sign("/photos/puppy.jpg", &[], &[]).unwrap();
    assert!(
        made.ends_with("&Signature=NpgCjnDzrM%2BWFzoENXmpNDUsSn8%3D"),
        "{made}"
    );
}

#[test]
fn bucket_in_host_and_bucket_in_path_are_one_resource() {
    let none = HeaderMap::new();
    let target = format!("/johnsmith/photos/puppy.jpg?{PUBLISHED}");
    for (host, genuine) in [
        ("s3.amazonaws.com", true),
        ("other.example", true),
        ("johnsmith.s3.amazonaws.com", false),
    ] {
        let request = SignedRequest {
            host,
            ..request(&target, &none)
        };
        let outcome = verify_presigned(&request, &keyring(), &RULES, at(EXPIRES));
        assert_eq!(outcome.is_ok(), genuine, "{host}");
    }
    let no_domain = Rules {
        domain: None,
        ..RULES
    };
    let in_host = format!("/photos/puppy.jpg?{PUBLISHED}");
    let outcome = verify_presigned(
        &request(&in_host, &none),
        &keyring(),
        &no_domain,
        at(EXPIRES),
    );
    assert_eq!(outcome.unwrap_err(), Refusal::SignatureMismatch);
}

#[test]
fn a_url_is_good_through_its_last_second_and_expired_after_it() {
    let target = format!("/photos/puppy.jpg?{PUBLISHED}");
    let none = HeaderMap::new();
    let later = at(EXPIRES) + Duration::from_nanos(1);
    for (now, expected) in [
        (at(0), None),
        (at(EXPIRES), None),
        (
            later,
            Some(Refusal::Expired {
                since: Duration::from_nanos(1),
            }),
        ),
    ] {
        let outcome = verify_presigned(&request(&target, &none), &keyring(), &RULES, now);
        assert_eq!(outcome.err(), expected);
    }
}

#[test]
fn each_fault_has_its_own_reason() {
    let missing = |name| Refusal::MissingParameter { name };
    let duplicate = |name| Refusal::DuplicateParameter { name };
    for (query, expected) in [
        ("AWSAccessKeyId=AKIAIOSFODNN7EXAMPLE", missing("Expires")),
        (
            "AWSAccessKeyId=AKIAIOSFODNN7EXAMPLE&Expires=9",
            missing("Signature"),
        ),
        (&format!("{PUBLISHED}&Expires=1"), duplicate("Expires")),
        (
            &format!("{PUBLISHED}&AWS%41ccessKeyId=x"),
            duplicate("AWSAccessKeyId"),
        ),
        (
            &PUBLISHED.replace("1175139620", "12345678901"),
            Refusal::MalformedExpires,
        ),
        (
            &PUBLISHED.replace("1175139620", "+175139620"),
            Refusal::MalformedExpires,
        ),
        (
            &PUBLISHED.replace("1175139620", ""),
            Refusal::MalformedExpires,
        ),
        (
            &PUBLISHED.replace("1175139620", "1175139619"),
            Refusal::Expired {
                since: Duration::from_secs(1),
            },
        ),
        (
            &PUBLISHED.replace("1175139620", "1175139621"),
            Refusal::SignatureMismatch,
        ),
        (
            &PUBLISHED.replace("%3D", ""),
            Refusal::MalformedSignature { length: 27 },
        ),
        (&PUBLISHED.replace("Npg", "npg"), Refusal::SignatureMismatch),
        (&PUBLISHED.replace("%2B", "+"), Refusal::SignatureMismatch),
        (
            &PUBLISHED.replace("AKIA", "akia"),
            Refusal::UnknownAccessKeyId,
        ),
        (
            &PUBLISHED.replace("AKIAIOSFODNN7EXAMPLE", "modern"),
            Refusal::UnsupportedScheme,
        ),
        (&format!("{PUBLISHED}&acl"), Refusal::SignatureMismatch),
        (&format!("{PUBLISHED}&prefix=a"), Refusal::UnsignedParameter),
        (&format!("{PUBLISHED}&x=1"), Refusal::UnsignedParameter),
        (&format!("{PUBLISHED}&"), Refusal::UnsignedParameter),
        (&format!("{PUBLISHED}&acl&acl"), Refusal::UnsignedParameter),
        (
            &format!("{PUBLISHED}&X-Amz-Meta-A=1"),
            Refusal::UnsignedParameter,
        ),
        (
            &format!("{PUBLISHED}&x-amz-meta-a=1"),
            Refusal::SignatureMismatch,
        ),
        (
            &format!("{PUBLISHED}&x-amz-meta-a=1%0Ax-amz-meta-b:2"),
            Refusal::UnsignedParameter,
        ),
        (
            &format!("{PUBLISHED}&response-expires=1%26versionId=2"),
            Refusal::UnsignedParameter,
        ),
        (&format!("{PUBLISHED}&X-Amz-Date=1"), Refusal::SignedTwice),
    ] {
        let outcome = verify(&format!("/photos/puppy.jpg?{query}"), &[]);
        assert_eq!(outcome.err(), Some(expected), "{query}");
    }
    let target = format!("/photos/puppy.jpg?{PUBLISHED}");
    let outcome = verify(&target, &[("authorization", "AWS a:b")]);
    assert_eq!(outcome.err(), Some(Refusal::SignedTwice));
    let unsigned = verify(&target, &[("x-amz-acl", "public-read")]);
    assert_eq!(unsigned.err(), Some(Refusal::SignatureMismatch));
}

#[test]
fn without_a_key_that_allows_it_the_scheme_is_not_spoken() {
    let keys = Keyring::new([(KEY_ID.to_owned(), Secret::new(SECRET))]);
    let target = format!("/photos/puppy.jpg?{PUBLISHED}");
    let none = HeaderMap::new();
    let outcome = verify_presigned(&request(&target, &none), &keys, &RULES, at(EXPIRES));
    assert_eq!(outcome.err(), Some(Refusal::UnsupportedScheme));
}

#[test]
fn sub_resources_are_signed_decoded_and_sorted() {
    let none = HeaderMap::new();
    for (query, signed) in [
        ("versionId=2&acl", "?acl&versionId=2"),
        ("acl=", "?acl="),
        (
            "response-content-type=a%2Fb%3Bc+d",
            "?response-content-type=a/b;c d",
        ),
        (
            "response-content-disposition=a%26b",
            "?response-content-disposition=a&b",
        ),
        ("uploads&partNumber=1", "?partNumber=1&uploads"),
    ] {
        let target = format!("/k%20k?{query}&{PUBLISHED}");
        let explanation = explain_presigned(&request(&target, &none), Some(DOMAIN)).unwrap();
        let text = format!("GET\n\n\n1175139620\n/johnsmith/k%20k{signed}");
        assert_eq!(explanation.string_to_sign, text);
    }
}

#[test]
fn signed_fields_are_granted_by_name_and_may_stand_in_the_query() {
    let sent = [
        ("content-type", "text/plain"),
        ("x-amz-meta-b", " 2 "),
        ("x-amz-meta-a", "1"),
        ("x-amz-meta-a", "3"),
    ];
    let target = sign("/k", &[], &sent).unwrap();
    assert_eq!(
        verify(&target, &sent).unwrap().signed_headers,
        ["content-type", "x-amz-meta-a", "x-amz-meta-b"]
    );
    let none = HeaderMap::new();
    assert_eq!(
        verify(&target, &sent[..3]).err(),
        Some(Refusal::SignatureMismatch)
    );
    assert_eq!(
        verify(&target, &sent[1..]).err(),
        Some(Refusal::SignatureMismatch)
    );
    // As botocore does: the fields that it signed stand in the query.
    let signature = target.rsplit_once("&Signature=").unwrap().1;
    let hoisted = format!(
        "/k?AWSAccessKeyId={KEY_ID}&Expires={EXPIRES}&Signature={signature}\
         &content-type=text%2Fplain&x-amz-meta-a=1%2C3&x-amz-meta-b=2"
    );
    let grant = verify(&hoisted, &sent[..1]).unwrap();
    assert_eq!(grant.signed_headers, ["content-type"]);
    assert!(verify(&hoisted, &sent).is_ok(), "both, and they agree");
    let other = [("content-type", "text/plain"), ("x-amz-meta-b", "3")];
    assert_eq!(
        verify(&hoisted, &other).err(),
        Some(Refusal::UnsignedParameter)
    );
    let renamed = hoisted.replace("text%2Fplain", "text%2Fhtml");
    assert_eq!(
        verify(&renamed, &sent[..1]).err(),
        Some(Refusal::SignatureMismatch),
        "the field is what was signed, and the query says something else"
    );
    let twice = hoisted.replacen("&x-amz-meta-b", "&x-amz-meta-b=1&x-amz-meta-b", 1);
    assert_eq!(
        verify(&twice, &sent[..1]).err(),
        Some(Refusal::UnsignedParameter),
        "the last of them is the one that was signed"
    );
    let absent = verify_presigned(&request(&hoisted, &none), &keyring(), &RULES, at(EXPIRES));
    assert_eq!(
        absent.err().map(|refusal| refusal.reason()),
        Some("signed_header_absent")
    );
}

#[test]
fn what_would_be_refused_is_not_signed() {
    for (path, query, expected) in [
        ("k", ("acl", ""), PresignError::RelativePath),
        ("/k", ("prefix", "a"), PresignError::UnsignedParameter),
        (
            "/k",
            ("Signature", "a"),
            PresignError::ReservedParameter { name: "Signature" },
        ),
        (
            "/k",
            ("X-Amz-Date", "a"),
            PresignError::ReservedParameter { name: "X-Amz-Date" },
        ),
    ] {
        assert_eq!(sign(path, &[query], &[]).err(), Some(expected));
    }
}

/// What a piece of a query says; a broken escape says something of its own.
fn decoded(piece: &str) -> Vec<u8> {
    match crate::signing::sigv4::decode_query(piece) {
        Ok(bytes) => bytes.into_owned(),
        Err(_) => [b"\n", piece.as_bytes()].concat(),
    }
}

proptest! {
    #[test]
    fn whatever_is_signed_verifies_and_one_changed_character_is_refused(
        path in "/[ -~é€]{0,12}",
        value in "[ -~é€]{0,8}",
        place in any::<prop::sample::Index>(),
        put in "[ -~]",
    ) {
        let Ok(target) = sign(&path, &[("response-content-type", &value)], &[]) else {
            // The one thing that is refused: a value that reads as a further sub-resource.
            return Err(TestCaseError::reject("not signed"));
        };
        prop_assert!(verify(&target, &[]).is_ok(), "{}", target);
        let query = target.split_once('?').map_or("", |(_, query)| query);
        prop_assert!(query_without_signature(query).starts_with("response-content-type="));
        prop_assert!(!query_without_signature(query).contains('&'));
        let at = place.index(target.len());
        let mutant = [&target[..at], &put, &target[at + 1..]].concat();
        let meaning = |target: &str| {
            let (path, query) = target.split_once('?').unwrap_or((target, ""));
            let mut items: Vec<_> = query.split('&').map(|item| {
                let (name, value) = item.split_once('=').map_or((item, None), |(n, v)| (n, Some(v)));
                (decoded(name), value.map(decoded))
            }).collect();
            items.sort();
            (path.to_owned(), items)
        };
        if meaning(&mutant) != meaning(&target) {
            prop_assert!(verify(&mutant, &[]).is_err(), "{} from {}", mutant, target);
        }
    }
}
