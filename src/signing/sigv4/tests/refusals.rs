//! Each cause of a refusal, and each boundary from both sides.

use std::time::{Duration, SystemTime};

use http::HeaderMap;

use crate::secret::Secret;
use crate::signing::sigv4::{AuthorizeSpec, authorize_headers, verify_presigned};
use crate::signing::{Keyring, Refusal, Rules};

use super::{HOST, KEY_ID, LEEWAY, RULES, Sent, at, headers, keyring, secret, signed_at};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

fn url() -> Sent {
    Sent::presigned("/bucket/key", &[("versionId", "1")], HOUR)
}

fn reason<T: std::fmt::Debug>(outcome: Result<T, Refusal>) -> &'static str {
    outcome.unwrap_err().reason()
}

#[test]
fn a_url_is_good_through_its_last_instant_and_expired_after_it() {
    let last = signed_at() + HOUR;
    assert_eq!(url().verify_presigned(last).unwrap().expires, last);
    assert!(url().verify_presigned(last - SECOND).is_ok());
    assert_eq!(
        url().verify_presigned(last + SECOND).unwrap_err(),
        Refusal::Expired { since: SECOND }
    );
    let nanosecond = Duration::from_nanos(1);
    assert_eq!(
        url().verify_presigned(last + nanosecond).unwrap_err(),
        Refusal::Expired { since: nanosecond }
    );
}

#[test]
fn a_url_from_the_future_is_good_within_the_leeway_only() {
    let earliest = signed_at() - LEEWAY;
    assert!(url().verify_presigned(earliest).is_ok());
    assert_eq!(
        url().verify_presigned(earliest - SECOND).unwrap_err(),
        Refusal::NotYetValid {
            ahead: LEEWAY + SECOND,
            leeway: LEEWAY
        }
    );
}

#[test]
fn a_leeway_of_zero_accepts_the_present_and_no_future() {
    let rules = Rules {
        clock_leeway: Duration::ZERO,
        domain: None,
        ..RULES
    };
    let sent = url();
    let verify = |now| verify_presigned(&sent.view(), &keyring(), &rules, now);
    assert!(verify(signed_at()).is_ok());
    assert_eq!(reason(verify(signed_at() - SECOND)), "not_yet_valid");
}

/// Replaces a part of the query and says why the result is refused an instant after signing.
fn altered(from: &str, to: &str) -> &'static str {
    let mut sent = url();
    assert!(sent.query.contains(from), "{from} is not in the query");
    sent.query = sent.query.replace(from, to);
    reason(sent.verify_presigned(signed_at() + SECOND))
}

#[test]
fn each_fault_in_the_query_has_its_own_reason() {
    let date = "X-Amz-Date=20130524T000000Z";
    for (from, to, reason) in [
        ("X-Amz-Algorithm=AWS4-HMAC-SHA256&", "", "missing_parameter"),
        (
            "AWS4-HMAC-SHA256",
            "AWS4-ECDSA-P256-SHA256",
            "unsupported_scheme",
        ),
        ("AWS4-HMAC-SHA256", "aws4-hmac-sha256", "unsupported_scheme"),
        ("X-Amz-Expires=3600&", "", "missing_parameter"),
        ("X-Amz-Signature=", "Signature=", "missing_parameter"),
        (
            "X-Amz-Expires=3600",
            "X-Amz-Expires=3600&AWSAccessKeyId=a",
            "signed_twice",
        ),
        (
            "X-Amz-Expires=3600",
            "X-Amz-Expires=3600&X-Amz-Expires=3600",
            "duplicate_parameter",
        ),
        (
            "X-Amz-Expires=3600",
            "X-Amz-Expires=3600&X%2DAmz-Expires=1",
            "duplicate_parameter",
        ),
        (
            "X-Amz-Signature=",
            "X-Amz-Signature=&X-Amz-Signature=",
            "duplicate_parameter",
        ),
        ("=3600", "=0", "expires_out_of_range"),
        ("=3600", "=604801", "expires_out_of_range"),
        ("=3600", "=604800", "signature_mismatch"),
        ("=3600", "=1", "signature_mismatch"),
        ("=3600", "=99999999999999999999999", "expires_out_of_range"),
        ("=3600", "=", "malformed_expires"),
        ("=3600", "=%2B3600", "malformed_expires"),
        ("=3600", "=-1", "malformed_expires"),
        ("=3600", "=3600.0", "malformed_expires"),
        ("=3600", "=%FF", "malformed_expires"),
        (date, "X-Amz-Date=20130524T000000", "malformed_date"),
        (date, "X-Amz-Date=20130524 000000Z", "malformed_date"),
        (date, "X-Amz-Date=20130230T000000Z", "malformed_date"),
        (date, "X-Amz-Date=20130524T240000Z", "malformed_date"),
        (date, "X-Amz-Date=20130524T235960Z", "malformed_date"),
        (date, "X-Amz-Date=2013052%C3%A40000Z", "malformed_date"),
        (
            date,
            "X-Amz-Date=20130523T235959Z",
            "credential_date_mismatch",
        ),
        (date, "X-Amz-Date=20130524T000001Z", "signature_mismatch"),
        (
            "%2F20130524%2F",
            "%2F20130525%2F",
            "credential_date_mismatch",
        ),
        ("%2F20130524%2F", "%2F2013-5-4%2F", "malformed_credential"),
        ("%2F20130524%2F", "%2F2013%2F", "malformed_credential"),
        ("%2Faws4_request", "", "malformed_credential"),
        ("%2Faws4_request", "%2Faws4_reques", "malformed_credential"),
        (
            "%2Faws4_request",
            "%2Faws4_request%2F",
            "malformed_credential",
        ),
        ("us-east-1", "", "malformed_credential"),
        (KEY_ID, "", "malformed_credential"),
        (KEY_ID, "%FF", "malformed_credential"),
        ("us-east-1", "eu-west-1", "wrong_region"),
        ("%2Fs3%2F", "%2Fec2%2F", "wrong_service"),
        (KEY_ID, "AKIAIOSFODNN7EXAMPLF", "unknown_access_key_id"),
        (KEY_ID, "akiaiosfodnn7example", "unknown_access_key_id"),
        (KEY_ID, "AKIAIOSFODNN7EXAMPLE%2Fx", "unknown_access_key_id"),
        (
            "SignedHeaders=host",
            "SignedHeaders=",
            "malformed_signed_headers",
        ),
        (
            "SignedHeaders=host",
            "SignedHeaders=host%3B",
            "malformed_signed_headers",
        ),
        (
            "SignedHeaders=host",
            "SignedHeaders=Host",
            "malformed_signed_headers",
        ),
        (
            "SignedHeaders=host",
            "SignedHeaders=host%3Bhost",
            "malformed_signed_headers",
        ),
        (
            "SignedHeaders=host",
            "SignedHeaders=range%3Bhost",
            "malformed_signed_headers",
        ),
        (
            "SignedHeaders=host",
            "SignedHeaders=ho%20st",
            "malformed_signed_headers",
        ),
        (
            "SignedHeaders=host",
            "SignedHeaders=host%3Brange",
            "signed_header_absent",
        ),
        (
            "X-Amz-Signature=",
            "X-Amz-Signature=0",
            "malformed_signature",
        ),
        ("versionId=1", "versionId=%1", "malformed_escape"),
        ("versionId=1", "versionId=2", "signature_mismatch"),
        (
            "versionId=1",
            "versionId=1&versionId=1",
            "signature_mismatch",
        ),
        ("versionId=1&", "", "signature_mismatch"),
        ("versionId=1", "versionid=1", "signature_mismatch"),
        (
            "versionId=1",
            "versionId=1&X-Amz-Security-Token=t",
            "signature_mismatch",
        ),
        (
            "versionId=1",
            "X-Amz-Content-Sha256=x",
            "malformed_payload_hash",
        ),
        (
            "versionId=1",
            "X-Amz-Content-Sha256=STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD",
            "unsupported_payload",
        ),
    ] {
        assert_eq!(altered(from, to), reason, "{from} -> {to}");
    }
}

#[test]
fn an_upper_case_signature_is_malformed() {
    let mut sent = url();
    let (rest, signature) = sent.query.rsplit_once('=').unwrap();
    sent.query = format!("{rest}={}", signature.to_uppercase());
    assert_eq!(
        sent.verify_presigned(signed_at()).unwrap_err(),
        Refusal::MalformedSignature { length: 64 }
    );
}

#[test]
fn a_missing_parameter_is_named() {
    let mut sent = url();
    sent.query = sent.query.replace("X-Amz-Date=20130524T000000Z&", "");
    assert_eq!(
        sent.verify_presigned(signed_at()).unwrap_err(),
        Refusal::MissingParameter { name: "X-Amz-Date" }
    );
}

#[test]
fn method_path_and_host_are_signed_byte_for_byte() {
    let alterations: [fn(&mut Sent); 9] = [
        |sent| sent.method = "HEAD".into(),
        |sent| sent.method = "get".into(),
        |sent| sent.path = "/bucket/key/".into(),
        |sent| sent.path = "/bucket//key".into(),
        |sent| sent.path = "/bucket%2Fkey".into(),
        |sent| sent.path = "/bucket/./key".into(),
        |sent| sent.path = "/bucket/Key".into(),
        |sent| sent.host = sent.host.to_uppercase(),
        |sent| sent.host.push_str(":443"),
    ];
    for alter in alterations {
        let mut sent = url();
        alter(&mut sent);
        assert_eq!(
            sent.verify_presigned(signed_at()).unwrap_err(),
            Refusal::SignatureMismatch,
            "{sent:?}"
        );
    }
}

#[test]
fn the_right_id_with_another_secret_is_a_mismatch() {
    let keys = Keyring::new([(KEY_ID.to_owned(), Secret::new("another"))]);
    let outcome = verify_presigned(&url().view(), &keys, &RULES, signed_at());
    assert_eq!(reason(outcome), "signature_mismatch");
}

#[test]
fn without_a_rule_any_region_is_good() {
    let rules = Rules {
        region: None,
        ..RULES
    };
    assert!(verify_presigned(&url().view(), &keyring(), &rules, signed_at()).is_ok());
}

#[test]
fn requests_without_a_signature_and_with_version_2_are_told_apart() {
    for (target, expected) in [
        ("/b/k", "not_signed"),
        ("/b/k?a=1", "not_signed"),
        ("/b/k?Signature=a&Expires=1", "not_signed"),
        (
            "/b/k?AWSAccessKeyId=a&Signature=b&Expires=1",
            "unsupported_scheme",
        ),
    ] {
        let sent = Sent::new("GET", target, &[]);
        assert_eq!(reason(sent.verify_presigned(signed_at())), expected);
    }
}

#[test]
fn a_request_signed_both_ways_is_refused_by_both() {
    let authorization = "AWS4-HMAC-SHA256 Credential=a, SignedHeaders=host, Signature=0";
    let mut sent = url();
    sent.headers = headers(&[("authorization", authorization)]);
    assert_eq!(reason(sent.verify_presigned(signed_at())), "signed_twice");
    assert_eq!(reason(sent.verify_header(signed_at())), "signed_twice");
}

#[test]
fn a_foreign_authorization_does_not_disturb_a_presigned_url() {
    let mut sent = url();
    sent.headers = headers(&[("authorization", "Bearer token")]);
    assert!(sent.verify_presigned(signed_at()).is_ok());
}

/// A GET signed in its headers at [`signed_at`].
fn authorized() -> Sent {
    let mut sent = Sent::new("GET", "/bucket/key?list-type=2", &[("range", "bytes=0-9")]);
    let spec = AuthorizeSpec {
        method: &sent.method,
        host: HOST,
        path: &sent.path,
        query: &sent.query,
        headers: &sent.headers,
        payload: "UNSIGNED-PAYLOAD",
        access_key_id: KEY_ID,
        region: "us-east-1",
    };
    let added = authorize_headers(&spec, &secret(), signed_at()).unwrap();
    sent.headers.extend(HeaderMap::from_iter(added));
    sent
}

#[test]
fn a_signed_header_request_is_good_within_fifteen_minutes_either_way() {
    let limit = Duration::from_secs(900);
    let now: [(SystemTime, bool); 4] = [
        (signed_at() + limit, true),
        (signed_at() - limit, true),
        (signed_at() + limit + SECOND, false),
        (signed_at() - limit - SECOND, false),
    ];
    for (now, good) in now {
        let outcome = authorized().verify_header(now).map(|_| ());
        let skew = Refusal::ClockSkew {
            skew: limit + SECOND,
            allowed: limit,
        };
        assert_eq!(outcome, if good { Ok(()) } else { Err(skew) });
    }
}

#[test]
fn each_fault_in_the_authorization_header_has_its_own_reason() {
    let date = "20130524/us-east-1";
    for (from, to, expected) in [
        (
            "AWS4-HMAC-SHA256 ",
            "AWS4-ECDSA-P256-SHA256 ",
            "unsupported_scheme",
        ),
        ("AWS4-HMAC-SHA256 ", "AWS ", "unsupported_scheme"),
        (
            "AWS4-HMAC-SHA256 ",
            "AWS4-HMAC-SHA256",
            "unsupported_scheme",
        ),
        ("AWS4-HMAC-SHA256 ", "Bearer ", "not_signed"),
        ("Credential=", "credential=", "malformed_authorization"),
        ("Credential=", "Credential:", "malformed_authorization"),
        (
            "Signature=",
            "Signature=0,Signature=",
            "duplicate_parameter",
        ),
        (", Signature=", ", ", "malformed_authorization"),
        (date, "20130524/eu-west-1", "wrong_region"),
        (date, "20130525/us-east-1", "credential_date_mismatch"),
        ("/s3/", "/sts/", "wrong_service"),
        ("/aws4_request", "", "malformed_credential"),
        (KEY_ID, "nobody", "unknown_access_key_id"),
        ("range;", "", "signature_mismatch"),
        ("host;range", "range", "host_not_signed"),
        (
            "x-amz-date,",
            "x-amz-date;x-amz-meta-a,",
            "signed_header_absent",
        ),
        (";x-amz-date,", ",", "unsigned_header"),
        ("Signature=", "Signature=00", "malformed_signature"),
    ] {
        let mut sent = authorized();
        let value = sent.headers["authorization"].to_str().unwrap().to_owned();
        assert!(value.contains(from), "{from} is not in {value}");
        let value = value.replace(from, to).parse().unwrap();
        sent.headers.insert("authorization", value);
        assert_eq!(
            reason(sent.verify_header(signed_at())),
            expected,
            "{from} -> {to}"
        );
    }
}

#[test]
fn each_fault_in_a_field_of_a_signed_request_has_its_own_reason() {
    for (name, value, expected) in [
        ("x-amz-date", "", "missing_parameter"),
        ("x-amz-date", "20130524", "malformed_date"),
        ("x-amz-date", "20130524T000001Z", "signature_mismatch"),
        ("x-amz-content-sha256", "", "missing_parameter"),
        ("x-amz-content-sha256", "abc", "malformed_payload_hash"),
        ("range", "bytes=0-8", "signature_mismatch"),
        ("range", "", "signed_header_absent"),
        ("x-amz-acl", "public-read", "unsigned_header"),
        ("authorization", "", "not_signed"),
    ] {
        let mut sent = authorized();
        match value {
            "" => sent.headers.remove(name),
            value => sent.headers.insert(name, value.parse().unwrap()),
        };
        assert_eq!(
            reason(sent.verify_header(signed_at())),
            expected,
            "{name}: {value}"
        );
    }
}

#[test]
fn a_repeated_field_of_the_signature_is_refused() {
    for name in ["authorization", "x-amz-date", "x-amz-content-sha256"] {
        let mut sent = authorized();
        let value = sent.headers[name].clone();
        sent.headers.append(name, value);
        assert_eq!(
            sent.verify_header(signed_at()).unwrap_err(),
            Refusal::DuplicateParameter { name }
        );
    }
}

#[test]
fn every_calendar_day_is_read_as_the_calendar_has_it() {
    let seconds = |text| {
        at(text)
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap()
            .as_secs()
    };
    assert_eq!(seconds("19700101T000000Z"), 0);
    assert_eq!(seconds("20130524T000000Z"), 1_369_353_600);
    assert_eq!(seconds("20240229T235959Z"), 1_709_251_199);
    assert_eq!(seconds("99991231T235959Z"), 253_402_300_799);
}
