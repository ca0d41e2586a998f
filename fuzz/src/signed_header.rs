//! Requests signed in their `Authorization` header.

use http::header::{AUTHORIZATION, HOST};
use http::{HeaderMap, HeaderValue};
use tidegate::signing::{
    AuthorizeSpec, SignedRequest, authorize_headers, carries_presignature, verify_header,
};

use super::{
    ACCESS_KEY_ID, KEYRING, Line, REGION, RULES, fields, now, secret, take_line, take_number,
    take_text,
};

/// Seven lines (method, host, path, query, payload hash, position of an edit, text of the edit), then fields.
///
/// The request is verified as it stands, then signed, verified, edited and verified again.
pub fn check(data: &[u8]) {
    let mut rest = data;
    let texts = (
        take_text(&mut rest),
        take_text(&mut rest),
        take_text(&mut rest),
        take_text(&mut rest),
        take_text(&mut rest),
    );
    let (Some(method), Some(host), Some(path), Some(query), Some(payload)) = texts else {
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

    let spec = AuthorizeSpec {
        method,
        host,
        path,
        query,
        headers: &fields,
        payload,
        access_key_id: ACCESS_KEY_ID,
        region: REGION,
    };
    let Ok(signature) = authorize_headers(&spec, &secret(), now()) else {
        return;
    };
    let mut signed = fields.clone();
    signed.remove(HOST);
    for (name, value) in signature {
        signed.insert(name, value);
    }
    let genuine = is_genuine(&line, &signed);
    assert_eq!(
        genuine,
        !carries_presignature(query),
        "what we sign, we accept"
    );
    if genuine {
        check_edits(&line, &signed, position, text);
    }
}

fn check_edits(line: &Line, signed: &HeaderMap, position: u64, text: &[u8]) {
    if let Some(edited) = line.edited(position, text)
        && is_genuine(&edited, signed)
    {
        line.assert_same_meaning(&edited);
    }
    // Nothing that is signed can be dropped, repeated or exchanged.
    for name in signed.keys() {
        let mut other = signed.clone();
        other.append(name, HeaderValue::from_static("more"));
        assert!(!is_genuine(line, &other), "{name} was repeated");
        other.insert(name, HeaderValue::from_static("other"));
        let exchanged = signed.get_all(name).iter().ne(other.get_all(name).iter());
        assert!(
            !exchanged || !is_genuine(line, &other),
            "{name} was exchanged"
        );
        other.remove(name);
        assert!(!is_genuine(line, &other), "{name} was dropped");
    }
    let mut more = signed.clone();
    if more
        .insert("x-amz-tidegate-fuzz", HeaderValue::from_static("1"))
        .is_none()
    {
        assert!(
            !is_genuine(line, &more),
            "a field of Amazon's came unsigned"
        );
    }
    // The header itself, edited: whatever is still accepted differs in white space and order only.
    let mut authorization = signed[AUTHORIZATION].as_bytes().to_vec();
    let at = (position % authorization.len() as u64) as usize;
    authorization.splice(at..=at, text.iter().copied());
    if let Ok(value) = HeaderValue::from_bytes(&authorization) {
        let parts = |value: &[u8]| {
            let text = String::from_utf8_lossy(value).into_owned();
            let text = text
                .split_once(' ')
                .map(|(scheme, rest)| (scheme.to_owned(), rest.to_owned()));
            let (scheme, rest) = text.unwrap_or_default();
            let mut parts: Vec<String> =
                rest.split(',').map(|part| part.trim().to_owned()).collect();
            parts.sort();
            (scheme, parts)
        };
        let mut other = signed.clone();
        other.insert(AUTHORIZATION, value);
        if is_genuine(line, &other) {
            assert_eq!(
                parts(&authorization),
                parts(signed[AUTHORIZATION].as_bytes())
            );
        }
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
    verify_header(&request, &KEYRING, &RULES, now()).is_ok()
}
