//! Presigned URLs.

use std::time::Duration;

use http::HeaderMap;
use tidegate::signing::{
    PresignSpec, SignedRequest, carries_presignature, carries_signature_header, presign,
    query_without_signature, verify_presigned,
};

use super::{
    ACCESS_KEY_ID, KEYRING, Line, REGION, RULES, fields, now, secret, take_line, take_number,
    take_text,
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

    check_stripping(query);
    let line = Line {
        method: method.to_owned(),
        host: host.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
    };
    assert!(!is_genuine(&line, &fields), "nobody has signed this");

    let Some(signed) = sign(&line) else {
        return;
    };
    let nothing = HeaderMap::new();
    assert!(
        is_genuine(&signed, &nothing),
        "what we sign, we accept: {signed:?}"
    );
    assert!(
        signed
            .query
            .starts_with(&*query_without_signature(&signed.query))
    );
    let must_be_signed = fields
        .keys()
        .any(|name| name.as_str().starts_with("x-amz-"));
    let expected = !must_be_signed && !carries_signature_header(&fields);
    assert_eq!(is_genuine(&signed, &fields), expected);

    let Some(edited) = signed.edited(position, text) else {
        return;
    };
    check_stripping(&edited.query);
    if is_genuine(&edited, &nothing) {
        signed.assert_same_meaning(&edited);
    }
}

fn is_genuine(line: &Line, headers: &HeaderMap) -> bool {
    let request = SignedRequest {
        method: &line.method,
        path: &line.path,
        query: &line.query,
        host: &line.host,
        headers,
    };
    verify_presigned(&request, &KEYRING, &RULES, now()).is_ok()
}

fn sign(line: &Line) -> Option<Line> {
    let pairs = line.query.split('&').filter(|pair| !pair.is_empty());
    let pairs: Vec<_> = pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let spec = PresignSpec {
        method: &line.method,
        host: &line.host,
        path: &line.path,
        query: &pairs,
        access_key_id: ACCESS_KEY_ID,
        region: REGION,
        expires: Duration::from_secs(60),
    };
    let target = presign(&spec, &secret(), now()).ok()?;
    let (path, query) = target.split_once('?').expect("a signature is in a query");
    Some(Line {
        path: path.to_owned(),
        query: query.to_owned(),
        ..line.clone()
    })
}

fn check_stripping(query: &str) {
    let kept = query_without_signature(query);
    assert_eq!(query_without_signature(&kept), kept);
    let is_version_2 = |item: &str| {
        let name = item.split('=').next().unwrap_or_default();
        super::percent_decoded(name.as_bytes()) == b"AWSAccessKeyId"
    };
    let rest: Vec<&str> = kept.split('&').filter(|item| !is_version_2(item)).collect();
    assert!(!carries_presignature(&rest.join("&")));
    let mut items = query.split('&');
    let in_order = kept.split('&').all(|item| items.any(|other| other == item));
    assert!(kept.is_empty() || in_order, "what is kept, stays as it was");
}
