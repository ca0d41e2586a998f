//! What a signature must cover, what it may cover, and what the keyring remembers of it.

use std::time::{Duration, SystemTime};

use crate::secret::Secret;
use crate::signing::sigv4::canonical::{canonical_request, string_to_sign};
use crate::signing::sigv4::scope::{Timestamp, derive_signing_key};
use crate::signing::sigv4::signed_headers::SignedHeaders;
use crate::signing::sigv4::{
    AuthorizeSpec, Payload, PresignError, PresignSpec, authorize_headers, presign, verify_presigned,
};
use crate::signing::{Keyring, Refusal, Rules};

use super::{HOST, KEY_ID, LEEWAY, RULES, Sent, headers, keyring, secret, signed_at};

const SHA256: &str = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072";

/// A presigned PUT that covers the given fields and carries a payload hash in the query or in a
/// field or nowhere.
fn put(signed: &'static str, fields: &[(&str, &str)], more_query: &str, payload: &str) -> Sent {
    let list = signed.replace(';', "%3B");
    let mut sent = Sent::new(
        "PUT",
        &format!(
            "/bucket/key?X-Amz-Algorithm=AWS4-HMAC-SHA256\
             &X-Amz-Credential={KEY_ID}%2F20130524%2Fus-east-1%2Fs3%2Faws4_request\
             &X-Amz-Date=20130524T000000Z&X-Amz-Expires=60&X-Amz-SignedHeaders={list}{more_query}"
        ),
        fields,
    );
    let signed = SignedHeaders::parse(signed.into()).unwrap();
    let text = canonical_request(&sent.view(), &signed, payload).unwrap();
    let timestamp = Timestamp::of(signed_at()).unwrap();
    let signature = string_to_sign(&text, &timestamp, "20130524/us-east-1/s3/aws4_request")
        .sign(&derive_signing_key(&secret(), b"20130524", "us-east-1"));
    sent.query.push_str("&X-Amz-Signature=");
    sent.query.push_str(signature.as_str());
    sent
}

/// A URL to be made.
fn spec() -> PresignSpec<'static> {
    PresignSpec {
        method: "GET",
        host: HOST,
        path: "/b/k",
        query: &[],
        access_key_id: KEY_ID,
        region: "us-east-1",
        expires: Duration::from_secs(60),
    }
}

#[test]
fn signed_fields_are_granted_by_name_without_the_host() {
    let fields = [("content-type", "a/b"), ("if-match", "\"x\"")];
    let mut sent = put(
        "content-type;host;if-match",
        &fields,
        "",
        "UNSIGNED-PAYLOAD",
    );
    let grant = sent.verify_presigned(signed_at()).unwrap();
    assert_eq!(grant.signed_headers, ["content-type", "if-match"]);

    sent.headers.insert("if-match", "\"y\"".parse().unwrap());
    assert_eq!(
        sent.verify_presigned(signed_at()).unwrap_err(),
        Refusal::SignatureMismatch
    );
}

#[test]
fn an_amz_field_that_is_not_signed_is_refused_and_others_are_let_be() {
    let mut sent = put("host", &[], "", "UNSIGNED-PAYLOAD");
    sent.headers = headers(&[
        ("user-agent", "u"),
        ("x-amzn-trace-id", "t"),
        ("range", "r"),
    ]);
    assert!(sent.verify_presigned(signed_at()).is_ok());

    sent.headers = headers(&[("x-amz-acl", "public-read")]);
    assert_eq!(
        sent.verify_presigned(signed_at()).unwrap_err(),
        Refusal::UnsignedHeader {
            name: "x-amz-acl".parse().unwrap()
        }
    );
    let mut sent = put(
        "host;x-amz-acl",
        &[("x-amz-acl", "private")],
        "",
        "UNSIGNED-PAYLOAD",
    );
    assert!(sent.verify_presigned(signed_at()).is_ok());
    sent.headers
        .append("x-amz-acl", "public-read".parse().unwrap());
    assert!(sent.verify_presigned(signed_at()).is_err());
}

#[test]
fn a_signature_without_the_host_is_refused() {
    let sent = put("range", &[("range", "bytes=0-1")], "", "UNSIGNED-PAYLOAD");
    assert_eq!(
        sent.verify_presigned(signed_at()).unwrap_err(),
        Refusal::HostNotSigned
    );
}

#[test]
fn a_session_token_and_a_checksum_in_the_query_are_part_of_the_signature() {
    let more = "&X-Amz-Security-Token=a%2Bb%3D&x-amz-checksum-crc32=AAAAAA%3D%3D";
    let mut sent = put("host", &[], more, "UNSIGNED-PAYLOAD");
    assert!(sent.verify_presigned(signed_at()).is_ok());
    sent.query = sent.query.replace("AAAAAA", "AAAAAB");
    assert!(sent.verify_presigned(signed_at()).is_err());
}

#[test]
fn a_payload_hash_in_query_or_signed_field_is_granted() {
    let in_query = format!("&X-Amz-Content-Sha256={SHA256}");
    let fields = [("x-amz-content-sha256", SHA256)];
    for sent in [
        put("host", &[], &in_query, SHA256),
        put("host;x-amz-content-sha256", &fields, "", SHA256),
    ] {
        let grant = sent.verify_presigned(signed_at()).unwrap();
        let Payload::Sha256(sha256) = grant.payload else {
            panic!("{:?}", grant.payload);
        };
        assert_eq!(hex::encode(sha256), SHA256);
    }
    let both = put("host;x-amz-content-sha256", &fields, &in_query, SHA256);
    assert_eq!(
        both.verify_presigned(signed_at()).unwrap_err(),
        Refusal::DuplicateParameter {
            name: "X-Amz-Content-Sha256"
        }
    );
}

#[test]
fn a_key_is_remembered_only_after_it_has_proven_a_signature() {
    let any_region = Rules {
        region: None,
        clock_leeway: LEEWAY,
        domain: None,
    };
    let keys = keyring();
    let good = Sent::presigned("/bucket/key", &[], Duration::from_secs(60));
    let mut bad = good.clone();
    bad.query = bad.query.replace("us-east-1", "mars-1");
    for _ in 0..2 {
        let outcome = verify_presigned(&bad.view(), &keys, &any_region, signed_at());
        assert_eq!(outcome.unwrap_err(), Refusal::SignatureMismatch);
        assert_eq!(keys.derived_keys(KEY_ID), 0);
    }
    for _ in 0..2 {
        verify_presigned(&good.view(), &keys, &any_region, signed_at()).unwrap();
        assert_eq!(keys.derived_keys(KEY_ID), 1);
    }
    // The remembered key is for its own date and region and for nothing else.
    assert!(verify_presigned(&bad.view(), &keys, &any_region, signed_at()).is_err());
}

#[test]
fn the_memory_of_derived_keys_is_bounded_and_forgetting_is_harmless() {
    let keys = keyring();
    let day = Duration::from_secs(86_400);
    for round in 0..2 {
        for days in 0..40 {
            let now = signed_at() + day * days;
            let spec = spec();
            let sent = Sent::new("GET", &presign(&spec, &secret(), now).unwrap(), &[]);
            verify_presigned(&sent.view(), &keys, &RULES, now).unwrap();
            let expected = if round == 0 {
                (days as usize + 1).min(32)
            } else {
                32
            };
            assert_eq!(keys.derived_keys(KEY_ID), expected);
        }
    }
}

#[test]
fn remembered_keys_of_other_regions_do_not_stand_in_for_one_another() {
    let any_region = Rules {
        region: None,
        clock_leeway: LEEWAY,
        domain: None,
    };
    let keys = keyring();
    for region in ["us-east-1", "eu-west-1", "us-east-1", "eu-west-1"] {
        let spec = PresignSpec { region, ..spec() };
        let sent = Sent::new("GET", &presign(&spec, &secret(), signed_at()).unwrap(), &[]);
        let outcome = verify_presigned(&sent.view(), &keys, &any_region, signed_at());
        assert_eq!(outcome.map(|_| ()), Ok(()), "{region}");
    }
    assert_eq!(keys.derived_keys(KEY_ID), 2);
}

/// A GET whose date of signing is in `Date`, as it may be when there is no `x-amz-date`.
fn dated_by_date(date: &str) -> Sent {
    let mut sent = Sent::new(
        "GET",
        "/b/k",
        &[("date", date), ("x-amz-content-sha256", "UNSIGNED-PAYLOAD")],
    );
    let signed = SignedHeaders::parse("date;host;x-amz-content-sha256".into()).unwrap();
    let text = canonical_request(&sent.view(), &signed, "UNSIGNED-PAYLOAD").unwrap();
    let scope = "20130524/us-east-1/s3/aws4_request";
    let signature = string_to_sign(&text, &Timestamp::of(signed_at()).unwrap(), scope)
        .sign(&derive_signing_key(&secret(), b"20130524", "us-east-1"));
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={KEY_ID}/{scope}, SignedHeaders={}, Signature={}",
        signed.as_str(),
        signature.as_str(),
    );
    sent.headers
        .insert("authorization", authorization.parse().unwrap());
    sent
}

#[test]
fn the_date_of_signing_may_be_in_the_date_field() {
    let verify = |date| dated_by_date(date).verify_header(signed_at()).map(|_| ());
    assert_eq!(verify("Fri, 24 May 2013 00:00:00 GMT"), Ok(()));
    assert_eq!(
        verify("Fri, 24 May 2013 00:00:01 GMT"),
        Err(Refusal::SignatureMismatch)
    );
    assert_eq!(verify("yesterday"), Err(Refusal::MalformedDate));
}

#[test]
fn a_request_that_would_be_refused_is_not_signed_in_its_headers() {
    let fields = headers(&[]);
    let good = AuthorizeSpec {
        method: "PUT",
        host: HOST,
        path: "/b/k%20",
        query: "",
        headers: &fields,
        payload: SHA256,
        access_key_id: KEY_ID,
        region: "us-east-1",
    };
    let made = |spec: AuthorizeSpec| authorize_headers(&spec, &secret(), signed_at()).map(|_| ());
    assert_eq!(made(good), Ok(()));
    for (spec, error) in [
        (
            AuthorizeSpec {
                path: "/%2",
                ..good
            },
            PresignError::MalformedEscape,
        ),
        (
            AuthorizeSpec { query: "%", ..good },
            PresignError::MalformedEscape,
        ),
        (
            AuthorizeSpec { path: "k", ..good },
            PresignError::RelativePath,
        ),
        (
            AuthorizeSpec {
                payload: "",
                ..good
            },
            PresignError::MalformedPayload,
        ),
        (
            AuthorizeSpec {
                payload: "STREAMING-X",
                ..good
            },
            PresignError::MalformedPayload,
        ),
        (
            AuthorizeSpec {
                host: "a b",
                ..good
            },
            PresignError::MalformedHost,
        ),
    ] {
        assert_eq!(made(spec), Err(error));
    }
}

#[test]
fn an_empty_keyring_says_so_and_no_form_of_it_shows_a_secret() {
    assert!(Keyring::new([]).is_empty());
    assert!(!keyring().is_empty());
    assert!(!format!("{:?}", keyring()).contains(super::SECRET));
}

#[test]
fn what_would_be_refused_is_not_signed() {
    let good = PresignSpec {
        expires: Duration::from_secs(604_800),
        ..spec()
    };
    let made = |spec: PresignSpec| presign(&spec, &Secret::new("s"), signed_at()).map(|_| ());
    let out_of_range = |expires| Err(PresignError::ExpiresOutOfRange { expires });
    let with_expires = |expires| made(PresignSpec { expires, ..good });
    let second = Duration::from_secs(1);

    assert_eq!(made(good), Ok(()));
    assert_eq!(with_expires(second), Ok(()));
    for expires in [
        Duration::ZERO,
        Duration::from_millis(1500),
        good.expires + second,
    ] {
        assert_eq!(with_expires(expires), out_of_range(expires));
    }
    let reserved = [("X-Amz-Date".to_owned(), String::new())];
    let of_version_2 = [("AWSAccessKeyId".to_owned(), String::new())];
    for (spec, error) in [
        (
            PresignSpec {
                path: "b/k",
                ..good
            },
            PresignError::RelativePath,
        ),
        (PresignSpec { path: "", ..good }, PresignError::RelativePath),
        (
            PresignSpec { method: "", ..good },
            PresignError::MalformedMethod,
        ),
        (
            PresignSpec {
                method: "G T",
                ..good
            },
            PresignError::MalformedMethod,
        ),
        (
            PresignSpec { host: "", ..good },
            PresignError::MalformedHost,
        ),
        (
            PresignSpec {
                host: "h/p",
                ..good
            },
            PresignError::MalformedHost,
        ),
        (
            PresignSpec {
                access_key_id: "",
                ..good
            },
            PresignError::MalformedAccessKeyId,
        ),
        (
            PresignSpec {
                access_key_id: "a,b",
                ..good
            },
            PresignError::MalformedAccessKeyId,
        ),
        (
            PresignSpec { region: "", ..good },
            PresignError::MalformedRegion,
        ),
        (
            PresignSpec {
                region: "a/b",
                ..good
            },
            PresignError::MalformedRegion,
        ),
        (
            PresignSpec {
                query: &reserved,
                ..good
            },
            PresignError::ReservedParameter { name: "X-Amz-Date" },
        ),
        (
            PresignSpec {
                query: &of_version_2,
                ..good
            },
            PresignError::ReservedParameter {
                name: "AWSAccessKeyId",
            },
        ),
    ] {
        assert_eq!(made(spec), Err(error));
    }
    let before_1970 = SystemTime::UNIX_EPOCH - second;
    assert_eq!(
        presign(&good, &Secret::new("s"), before_1970),
        Err(PresignError::ClockOutOfRange)
    );
}
