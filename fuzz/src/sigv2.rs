//! URLs and requests signed with Signature Version 2.

use std::time::Duration;

use http::header::{AUTHORIZATION, DATE};
use http::{HeaderMap, HeaderValue};
use tidegate::signing::{
    PresignV2Spec, SignedRequest, authorize_v2, carries_presignature, carries_signature_header,
    presign_v2, query_without_signature, verify_header_of_either, verify_presigned,
};

use super::{
    ACCESS_KEY_ID, KEYRING_V2, Line, RULES, fields, now, percent_decoded, secret, take_line,
    take_number, take_text,
};

/// Six lines (method, host, path, query, position of an edit, text of the edit), then fields.
///
/// The line is verified as it stands, then signed, verified, edited and verified again: by its query, and by its header.
pub fn check(data: &[u8]) {
    let mut rest = data;
    let texts = (
        take_text(&mut rest),
        take_text(&mut rest),
        take_text(&mut rest),
        take_text(&mut rest),
    );
    let (Some(method), Some(host), Some(path), Some(query)) = texts else {
        return;
    };
    let position = take_number(&mut rest);
    let text = take_line(&mut rest);
    let fields = fields(rest.split(|byte| *byte == b'\n'));
    let line = Line {
        method: method.to_owned(),
        host: host.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
    };
    assert!(!is_genuine(&line, &fields), "nobody has signed this");
    check_header(&line, &fields, position, text);
    let Some(signed) = sign(&line, &fields) else {
        return;
    };
    // Beside a header of its own it is signed twice.
    let expected = !carries_signature_header(&fields);
    assert_eq!(
        is_genuine(&signed, &fields),
        expected,
        "what we sign, we accept: {signed:?}"
    );
    let stripped = query_without_signature(&signed.query);
    assert!(!carries_presignature(&stripped));
    let Some(edited) = signed.edited(position, text) else {
        return;
    };
    if is_genuine(&edited, &fields) {
        // The path as it is spelled, the parameters in any order; of the host nothing without a domain.
        assert_eq!(
            (&signed.method, or_root(&signed.path)),
            (&edited.method, or_root(&edited.path))
        );
        assert_eq!(parameters(&signed.query), parameters(&edited.query));
    }
}

/// The same request, signed in its header. It is dated now unless its fields have a date.
fn check_header(line: &Line, fields: &HeaderMap, position: u64, text: &[u8]) {
    assert!(
        !is_genuine_by_header(line, fields),
        "nobody has signed this"
    );
    let mut signed = fields.clone();
    signed.remove(AUTHORIZATION);
    if !signed.contains_key(DATE) && !signed.contains_key("x-amz-date") {
        let date = httpdate::fmt_http_date(now());
        signed.insert(
            DATE,
            HeaderValue::try_from(date).expect("a date is a value"),
        );
    }
    let Ok(value) = authorize_v2(&request(line, &signed), None, ACCESS_KEY_ID, &secret()) else {
        return;
    };
    signed.insert(AUTHORIZATION, value.clone());
    if !is_genuine_by_header(line, &signed) {
        // Only a date of its own can be too far away.
        let has_date = fields.contains_key(DATE) || fields.contains_key("x-amz-date");
        assert!(has_date, "what we sign, we accept");
        return;
    }
    if let Some(edited) = line.edited(position, text)
        && is_genuine_by_header(&edited, &signed)
    {
        assert_eq!(
            (&line.method, resource(&line.path)),
            (&edited.method, resource(&edited.path))
        );
        assert_eq!(operation(&line.query), operation(&edited.query));
    }
    for name in signed.keys() {
        let name = name.as_str();
        let is_covered = name.starts_with("x-amz-")
            || ["authorization", "content-md5", "content-type"].contains(&name);
        let mut other = signed.clone();
        other.insert(
            http::HeaderName::try_from(name).expect("it is one"),
            HeaderValue::from_static("other"),
        );
        let says_so = signed.get(name).is_some_and(|value| value == "other");
        assert!(
            !is_covered
                || says_so && signed.get_all(name).iter().count() == 1
                || !is_genuine_by_header(line, &other),
            "{name} was exchanged"
        );
    }
    let mut authorization = value.as_bytes().to_vec();
    let at = (position % authorization.len() as u64) as usize;
    authorization.splice(at..=at, text.iter().copied());
    if let Ok(edited) = HeaderValue::from_bytes(&authorization) {
        let without_spaces = |value: &HeaderValue| {
            let bytes = value.as_bytes().iter();
            bytes
                .filter(|byte| !b" \t".contains(byte))
                .copied()
                .collect::<Vec<_>>()
        };
        signed.insert(AUTHORIZATION, edited.clone());
        if is_genuine_by_header(line, &signed) {
            assert_eq!(without_spaces(&edited), without_spaces(&value));
        }
    }
}

/// What of a query makes the operation: all but what narrows a listing.
fn operation(query: &str) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    let mut parameters = parameters(query);
    parameters.retain(|(name, _)| {
        let name = String::from_utf8_lossy(name);
        !name.is_empty()
            && ![
                "marker",
                "max-",
                "prefix",
                "delimiter",
                "encoding-type",
                "list-type",
                "start-after",
            ]
            .iter()
            .any(|part| name.contains(part))
            && !["continuation-token", "fetch-owner", "bucket-region", "x-id"].contains(&&*name)
    });
    parameters
}

fn request<'a>(line: &'a Line, headers: &'a HeaderMap) -> SignedRequest<'a> {
    SignedRequest {
        method: &line.method,
        path: &line.path,
        query: &line.query,
        host: &line.host,
        headers,
    }
}

fn is_genuine_by_header(line: &Line, headers: &HeaderMap) -> bool {
    verify_header_of_either(&request(line, headers), &KEYRING_V2, &RULES, now()).is_ok()
}

/// A path as its bucket is signed: with a slash behind it.
fn resource(path: &str) -> String {
    let is_bucket = path
        .strip_prefix('/')
        .is_some_and(|name| !name.is_empty() && !name.contains('/'));
    format!("{}{}", or_root(path), if is_bucket { "/" } else { "" })
}

fn or_root(path: &str) -> &str {
    if path.is_empty() { "/" } else { path }
}

/// What the parameters say, apart from their order.
fn parameters(query: &str) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    let decoded = |text: &str| percent_decoded(text.replace('+', " ").as_bytes());
    let mut pairs: Vec<_> = query
        .split('&')
        .map(|item| match item.split_once('=') {
            // What is signed as a field is trimmed like one.
            Some((name, value)) if name.starts_with("x-amz-") => {
                let value = String::from_utf8_lossy(&decoded(value)).trim().to_owned();
                (decoded(name), Some(value.into_bytes()))
            }
            Some((name, value)) => (decoded(name), Some(decoded(value))),
            // An empty field, with `=` or without.
            None if item.starts_with("x-amz-") => (decoded(item), Some(Vec::new())),
            None => (decoded(item), None),
        })
        .collect();
    pairs.sort();
    pairs
}

fn is_genuine(line: &Line, headers: &HeaderMap) -> bool {
    verify_presigned(&request(line, headers), &KEYRING_V2, &RULES, now()).is_ok()
}

fn sign(line: &Line, headers: &HeaderMap) -> Option<Line> {
    let pairs = line.query.split('&').filter(|pair| !pair.is_empty());
    let pairs: Vec<_> = pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let spec = PresignV2Spec {
        method: &line.method,
        host: &line.host,
        domain: None,
        path: &line.path,
        query: &pairs,
        headers,
        access_key_id: ACCESS_KEY_ID,
        expires: Duration::from_secs(60),
    };
    let target = presign_v2(&spec, &secret(), now()).ok()?;
    let (path, query) = target.split_once('?').expect("a signature is in a query");
    Some(Line {
        path: path.to_owned(),
        query: query.to_owned(),
        ..line.clone()
    })
}
