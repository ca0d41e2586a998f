use http::HeaderName;
use proptest::prelude::*;

use super::super::test_guide::{DOMAIN, KEY_ID, RULES, SECRET, at, keyring, request};
use super::*;
use crate::signing::test_support::Asked;
use crate::signing::{Accept, Key, KeyKind, Methods, Payload, Verifier, verify_header_of_either};
use crate::test_fields::fields as headers;

/// Tue, 27 Mar 2007 19:36:42 GMT, the date of the first example.
const SIGNED_AT: u64 = 1_175_024_202;

/// An example of the guide, with the fields that are signed.
struct Published {
    method: &'static str,
    host: &'static str,
    target: &'static str,
    fields: &'static [(&'static str, &'static str)],
    signature: &'static str,
}

/// All but the one of DELETE: its signature puts the value of `x-amz-date` into the line of the date, where the rules
/// of the same page have an empty line and a field. SDKs follow the rules.
const PUBLISHED: [Published; 9] = [
    Published {
        method: "GET",
        host: "johnsmith.s3.amazonaws.com",
        target: "/photos/puppy.jpg",
        fields: &[("date", "Tue, 27 Mar 2007 19:36:42 +0000")],
        signature: "bWq2s1WEIj+Ydj0vQ697zp+IXMU=",
    },
    Published {
        method: "GET",
        host: "awsexamplebucket1.s3.amazonaws.com",
        target: "/photos/puppy.jpg",
        fields: &[("date", "Tue, 27 Mar 2007 19:36:42 +0000")],
        signature: "qgk2+6Sv9/oM7G3qLEjTH1a1l1g=",
    },
    Published {
        method: "PUT",
        host: "johnsmith.s3.amazonaws.com",
        target: "/photos/puppy.jpg",
        fields: &[
            ("content-type", "image/jpeg"),
            ("date", "Tue, 27 Mar 2007 21:15:45 +0000"),
        ],
        signature: "MyyxeRY7whkBe+bq8fHCL/2kKUg=",
    },
    Published {
        method: "GET",
        host: "johnsmith.s3.amazonaws.com",
        target: "/?prefix=photos&max-keys=50&marker=puppy",
        fields: &[("date", "Tue, 27 Mar 2007 19:42:41 +0000")],
        signature: "htDYFYduRNen8P9ZfE/s9SuKy0U=",
    },
    Published {
        method: "GET",
        host: "johnsmith.s3.amazonaws.com",
        target: "/?acl",
        fields: &[("date", "Tue, 27 Mar 2007 19:44:46 +0000")],
        signature: "c2WLPFtWHVgbEmeEG93a4cG37dM=",
    },
    // With a host of its own in the guide: the bucket is signed wherever it stands.
    Published {
        method: "PUT",
        host: "s3.amazonaws.com",
        target: "/static.johnsmith.net/db-backup.dat.gz",
        fields: &[
            ("date", "Tue, 27 Mar 2007 21:06:08 +0000"),
            ("x-amz-acl", "public-read"),
            ("content-type", "application/x-download"),
            ("content-md5", "4gJE4saaMU4BqNR0kLY+lw=="),
            ("x-amz-meta-reviewedby", "joe@johnsmith.net"),
            ("x-amz-meta-reviewedby", "jane@johnsmith.net"),
            ("x-amz-meta-filechecksum", "0x02661779"),
            ("x-amz-meta-checksumalgorithm", "crc32"),
            ("content-disposition", "attachment; filename=database.dat"),
        ],
        signature: "ilyl83RwaSoYIEdixDQcA4OnAnc=",
    },
    Published {
        method: "GET",
        host: "s3.amazonaws.com",
        target: "/",
        fields: &[("date", "Wed, 28 Mar 2007 01:29:59 +0000")],
        signature: "qGdzdERIC03wnaRNKh6OqZehG9s=",
    },
    Published {
        method: "GET",
        host: "s3.amazonaws.com",
        target: "/dictionary/fran%C3%A7ais/pr%c3%a9f%c3%a8re",
        fields: &[("date", "Wed, 28 Mar 2007 01:49:49 +0000")],
        signature: "DNEZGsoieTZ92F3bUfSPQcbGmlM=",
    },
    // Of the one of DELETE, by the rules: made with Python's `hmac`.
    Published {
        method: "DELETE",
        host: "s3.amazonaws.com",
        target: "/johnsmith/photos/puppy.jpg",
        fields: &[
            ("date", "Tue, 27 Mar 2007 21:20:27 +0000"),
            ("x-amz-date", "Tue, 27 Mar 2007 21:20:26 +0000"),
        ],
        signature: "R4dJ53KECjStyBO5iTBJZ4XVOaI=",
    },
];

#[test]
fn the_published_requests_are_made_and_verified() {
    for example in &PUBLISHED {
        let mut sent = headers(example.fields);
        let (now, _) = signing_date(&sent).unwrap();
        let unsigned = request(example.method, example.host, example.target, &sent);
        let made = authorize_v2(&unsigned, Some(DOMAIN), KEY_ID, &Secret::new(SECRET)).unwrap();
        let published = format!("AWS {KEY_ID}:{}", example.signature);
        assert_eq!(made, published, "{}", example.target);
        sent.insert(AUTHORIZATION, made);
        let signed = request(example.method, example.host, example.target, &sent);
        let grant = verify_header_of_either(&signed, &keyring(), &RULES, now).unwrap();
        assert_eq!((&*grant.access_key_id, grant.signed_at), (KEY_ID, now));
        assert!(matches!(grant.payload, Payload::Unsigned));
    }
}

/// Verifies the first example at its date with other fields, or more.
fn verify(target: &str, pairs: &[(&str, &str)]) -> Result<HeaderGrant, Refusal> {
    let first = &PUBLISHED[0];
    let mut sent = headers(first.fields);
    sent.insert(
        AUTHORIZATION,
        HeaderValue::try_from(format!("AWS {KEY_ID}:{}", first.signature)).unwrap(),
    );
    for (name, values) in headers(pairs).into_iter().fold(
        Vec::<(HeaderName, Vec<HeaderValue>)>::new(),
        |mut all, (name, value)| {
            match (name, all.last_mut()) {
                (Some(name), _) => all.push((name, vec![value])),
                (None, Some((_, values))) => values.push(value),
                (None, None) => {}
            }
            all
        },
    ) {
        sent.remove(&name);
        for value in values {
            sent.append(&name, value);
        }
    }
    let request = request("GET", first.host, target, &sent);
    verify_header_of_either(&request, &keyring(), &RULES, at(SIGNED_AT))
}

#[test]
fn each_fault_has_its_own_reason() {
    let target = "/photos/puppy.jpg";
    assert!(verify(target, &[]).is_ok());
    let good = format!("AWS {KEY_ID}:bWq2s1WEIj+Ydj0vQ697zp+IXMU=");
    let of = |from: &str, to: &str| good.replace(from, to);
    for (value, reason) in [
        (of("AWS ", "AWS  "), "granted"),
        (of("bWq", "bwq"), "signature_mismatch"),
        (of("=", ""), "signature_mismatch"),
        (of("=", "=="), "signature_mismatch"),
        (of("AKIA", "akia"), "unknown_access_key_id"),
        (of(KEY_ID, "modern"), "unsupported_scheme"),
        (of(":", ""), "malformed_version_2"),
        (of(KEY_ID, ""), "malformed_version_2"),
        ("AWS HAHAHA".to_owned(), "malformed_version_2"),
        ("AWS :".to_owned(), "malformed_version_2"),
        (of("AWS ", "AWS4-"), "malformed_authorization"),
        (of("AWS ", "aws "), "not_signed"),
    ] {
        let outcome = verify(target, &[("authorization", &value)]);
        let reason_of = outcome.map_or_else(|refusal| refusal.reason(), |_| "granted");
        assert_eq!(reason_of, reason, "{value}");
    }
    let twice = [("authorization", &*good), ("authorization", &*good)];
    let version_4 = [
        ("authorization", &*good),
        ("authorization", "AWS4-HMAC-SHA256 x"),
    ];
    for values in [twice, version_4] {
        let refusal = verify(target, &values).unwrap_err();
        assert_eq!(refusal.reason(), "duplicate_parameter", "{values:?}");
    }
}

#[test]
fn what_is_signed_twice_is_refused() {
    for query in ["AWSAccessKeyId=a", "X-Amz-Signature=a", "X-Amz-Date=a"] {
        let outcome = verify(&format!("/photos/puppy.jpg?{query}"), &[]);
        assert_eq!(outcome.unwrap_err(), Refusal::SignedTwice, "{query}");
    }
}

#[test]
fn a_date_is_needed_and_lies_within_fifteen_minutes() {
    for (pairs, reason) in [
        (&[("date", "Bad Date")][..], "no_signing_date"),
        (&[("date", "")], "no_signing_date"),
        (&[("x-amz-date", "")], "no_signing_date"),
        // It counts before `Date`, which is good.
        (&[("x-amz-date", "20070327T193642Z")], "no_signing_date"),
        (
            &[("x-amz-date", "Tue, 27 Mar 1950 19:36:42 GMT")],
            "no_signing_date",
        ),
        (
            &[("x-amz-date", "Tue, 27 Mar 2007 19:21:41 GMT")],
            "clock_skew",
        ),
        (
            &[("x-amz-date", "Tue, 27 Mar 2007 19:21:42 GMT")],
            "signature_mismatch",
        ),
        (
            &[("x-amz-date", "Tue, 27 Mar 2007 19:51:42 GMT")],
            "signature_mismatch",
        ),
        (
            &[("x-amz-date", "Tue, 27 Mar 2007 19:51:43 GMT")],
            "clock_skew",
        ),
        (
            &[("date", "Tue, 27 Mar 2007 19:36:42 GMT")],
            "signature_mismatch",
        ),
        // It was a Tuesday.
        (
            &[("x-amz-date", "Mon, 27 Mar 2007 19:36:42 GMT")],
            "signature_mismatch",
        ),
        (
            &[("x-amz-date", "Tuesday, 27-Mar-07 19:36:42 GMT")],
            "signature_mismatch",
        ),
        (
            &[("x-amz-date", "Tue Mar 27 19:36:42 2007")],
            "signature_mismatch",
        ),
        (
            &[("x-amz-date", "Thu, 31 Dec 1969 23:59:59 GMT")],
            "no_signing_date",
        ),
        (
            &[("x-amz-date", "Thu, 01 Jan 1970 00:00:00 GMT")],
            "clock_skew",
        ),
        (
            &[("x-amz-date", "Fri, 32 Mar 2007 19:36:42 GMT")],
            "no_signing_date",
        ),
        (
            &[("date", "Tue, 27 Mar 2007 19:36:42 +0100")],
            "no_signing_date",
        ),
        (
            &[
                ("x-amz-date", "Tue, 27 Mar 2007 19:36:42 GMT"),
                ("x-amz-date", "Tue, 27 Mar 2007 19:36:42 GMT"),
            ],
            "duplicate_parameter",
        ),
    ] {
        let refusal = verify("/photos/puppy.jpg", pairs).unwrap_err();
        assert_eq!(refusal.reason(), reason, "{pairs:?}");
    }
    let mut sent = headers(&[]);
    sent.insert(AUTHORIZATION, HeaderValue::from_static("AWS a:b"));
    let request = request("GET", "h", "/", &sent);
    let outcome = verify_header_of_either(&request, &keyring(), &RULES, at(SIGNED_AT));
    assert_eq!(outcome.unwrap_err(), Refusal::NoSigningDate);
}

#[test]
fn of_a_query_only_what_narrows_a_listing_need_not_be_signed() {
    let target = "/photos/puppy.jpg";
    for known in OF_LISTINGS {
        assert!(
            verify(&format!("{target}?{known}=1"), &[]).is_ok(),
            "{known}"
        );
    }
    assert!(OF_LISTINGS.is_sorted_by(|a, b| a < b));
    for (query, reason) in [
        ("acl", "signature_mismatch"),
        ("uploadId=1", "signature_mismatch"),
        ("ownershipControls", "unsigned_parameter"),
        ("retention", "unsigned_parameter"),
        ("follow", "unsigned_parameter"),
        ("x-amz-acl=public-read", "unsigned_parameter"),
        ("Signature=a", "unsigned_parameter"),
        ("prefix=a&acl&acl", "unsigned_parameter"),
        ("%zz", "malformed_escape"),
    ] {
        let refusal = verify(&format!("{target}?{query}"), &[]).unwrap_err();
        assert_eq!(refusal.reason(), reason, "{query}");
    }
    assert!(verify(&format!("{target}?"), &[]).is_ok());
}

#[test]
fn a_bucket_is_signed_with_a_slash_behind_it_or_without() {
    for (host, signed, sent, expected) in [
        ("h", "/b", "/b", true),
        ("h", "/b/", "/b/", true),
        ("h", "/b/", "/b", true),
        ("h", "/b", "/b/", false),
        ("h", "/b/k/", "/b/k", false),
        ("h", "/", "", true),
        ("h", "//", "/", false),
        // Here it is an object.
        ("b.s3.amazonaws.com", "/k/", "/k", false),
    ] {
        let mut headers = headers(PUBLISHED[0].fields);
        let made = request("GET", host, signed, &headers);
        let made = authorize_v2(&made, Some(DOMAIN), KEY_ID, &Secret::new(SECRET)).unwrap();
        headers.insert(AUTHORIZATION, made);
        let request = request("GET", host, sent, &headers);
        let outcome = verify_header_of_either(&request, &keyring(), &RULES, at(SIGNED_AT));
        assert_eq!(outcome.is_ok(), expected, "{host} {signed} {sent}");
    }
}

#[test]
fn the_body_is_what_its_signed_field_says() {
    let sha256 = "0".repeat(64);
    for (text, expected) in [
        ("UNSIGNED-PAYLOAD", Ok("Unsigned")),
        (&sha256, Ok("Sha256")),
        (
            "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
            Ok("StreamingUnsignedTrailer"),
        ),
        (
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
            Err(Refusal::UnsupportedPayload),
        ),
        ("x", Err(Refusal::MalformedPayloadHash)),
    ] {
        let found = payload_without_seed(&headers(&[("x-amz-content-sha256", text)]));
        let found = found.map(|payload| format!("{payload:?}"));
        match expected {
            Ok(word) => assert!(found.unwrap().starts_with(word), "{text}"),
            Err(refusal) => assert_eq!(found.unwrap_err(), refusal),
        }
    }
    // It is covered, like every field of Amazon's.
    let added = verify(
        "/photos/puppy.jpg",
        &[("x-amz-content-sha256", "UNSIGNED-PAYLOAD")],
    );
    assert_eq!(added.unwrap_err(), Refusal::SignatureMismatch);
}

#[test]
fn without_a_key_that_allows_it_and_at_the_edge_the_scheme_is_not_spoken() {
    let mut asked = Asked::new("http://johnsmith.s3.amazonaws.com/photos/puppy.jpg");
    asked.fields = headers(PUBLISHED[0].fields);
    let value = format!("AWS {KEY_ID}:{}", PUBLISHED[0].signature);
    let value = HeaderValue::try_from(value).unwrap();
    asked.fields.insert(AUTHORIZATION, value);
    let strict = Keyring::new([(KEY_ID.to_owned(), Secret::new(SECRET))]);
    let request = asked.view().request;
    let by_strict = verify_header_of_either(&request, &strict, &RULES, at(SIGNED_AT));
    assert_eq!(by_strict.unwrap_err(), Refusal::UnsupportedScheme);
    assert!(verify_header_of_either(&request, &keyring(), &RULES, at(SIGNED_AT)).is_ok());

    let key = Key {
        id: KEY_ID.to_owned(),
        methods: Methods::default(),
        kind: KeyKind::SigV4 {
            secret: Secret::new(SECRET),
            allow_sigv2: true,
        },
    };
    let edge = Verifier::new(&[key], &Accept::default());
    let by_edge = edge.verify(&asked.view(), &RULES, at(SIGNED_AT));
    assert_eq!(by_edge.unwrap_err(), Refusal::UnsupportedScheme);
}

proptest! {
    #[test]
    fn whatever_is_signed_verifies_and_one_changed_character_is_refused(
        path in "/[a-z%é/]{0,12}",
        value in "[a-z0-9]{1,8}",
        meta in "[ -~]{0,12}",
        place in any::<prop::sample::Index>(),
        put in "[a-z/]",
    ) {
        let target = format!("{path}?uploadId={value}&partNumber=1");
        let mut sent = headers(&[("date", "Tue, 27 Mar 2007 19:36:42 GMT"), ("x-amz-meta-a", &meta)]);
        let unsigned = request("PUT", "h", &target, &sent);
        let made = authorize_v2(&unsigned, None, KEY_ID, &Secret::new(SECRET)).unwrap();
        sent.insert(AUTHORIZATION, made);
        let verify = |target: &str, sent: &HeaderMap| {
            let request = request("PUT", "h", target, sent);
            verify_header_of_either(&request, &keyring(), &RULES, at(SIGNED_AT)).is_ok()
        };
        prop_assert!(verify(&target, &sent));
        let at = place.index(target.len());
        if target.is_char_boundary(at) && target.is_char_boundary(at + 1) && target[at..=at] != put {
            let mutant = [&target[..at], &put, &target[at + 1..]].concat();
            prop_assert!(!verify(&mutant, &sent), "{} from {}", mutant, target);
        }
        sent.insert("x-amz-meta-a", HeaderValue::try_from(format!("{meta}{put}")).unwrap());
        prop_assert!(!verify(&target, &sent));
    }
}
