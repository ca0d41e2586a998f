//! URLs presigned with Signature Version 2.

use std::time::Duration;

use http::HeaderMap;
use tidegate::signing::{
    PresignV2Spec, SignedRequest, carries_presignature, presign_v2, query_without_signature,
    verify_presigned,
};

use super::{
    ACCESS_KEY_ID, KEYRING_V2, Line, RULES, fields, now, percent_decoded, secret, take_line,
    take_number, take_text,
};

/// Six lines (method, host, path, query, position of an edit, text of the edit), then fields.
///
/// The line is verified as it stands, then signed, verified, edited and verified again.
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
    let Some(signed) = sign(&line, &fields) else {
        return;
    };
    assert!(
        is_genuine(&signed, &fields),
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
            None => (decoded(item), None),
        })
        .collect();
    pairs.sort();
    pairs
}

fn is_genuine(line: &Line, headers: &HeaderMap) -> bool {
    let request = SignedRequest {
        method: &line.method,
        path: &line.path,
        query: &line.query,
        host: &line.host,
        headers,
    };
    verify_presigned(&request, &KEYRING_V2, &RULES, now()).is_ok()
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
