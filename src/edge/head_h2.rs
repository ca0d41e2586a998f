//! Heads on HTTP/2: what is a request at all, what the gate is told of it, and the head of a response.

use bytes::Bytes;
use http::header::{
    AGE, CONTENT_LENGTH, CONTENT_RANGE, HOST, HeaderName, HeaderValue, TRANSFER_ENCODING, VIA,
};
use http::request::Parts;
use http::{HeaderMap, Method, Response, Uri};
use pingora::protocols::http::authority::{RawTargetAuthority, raw_target_authority};

use super::X_REQUEST_ID;
use super::admit::{GateRefusal, RawHead};
use super::downstream::{OrNothing, ReplyHead, ReplyLength, Selection};
use crate::config::Limits;
use crate::observe::Protocol;

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// Why what the h2 crate has read is no request (RFC 9113 §8.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Malformed {
    /// A byte in `:path` that no target may have, or lengths that contradict each other.
    Framing,
    /// Several authorities, none, or one that parsers may read differently (§8.3.1).
    Authority,
}

/// Looks for what must not get as far as the gate, where refusals are recorded as requests: it is counted
/// against its connection.
///
/// # Errors
/// [`Malformed`].
pub(super) fn check_form(head: &Parts) -> Result<(), Malformed> {
    let path = path_of(&head.uri).as_bytes();
    if path.iter().any(|byte| b"\0\r\n ".contains(byte)) {
        return Err(Malformed::Framing);
    }
    let mut has_host = false;
    for name in head.headers.keys() {
        if *name == HOST {
            has_host = true;
        } else if *name == TRANSFER_ENCODING {
            return Err(Malformed::Framing);
        } else if *name == CONTENT_LENGTH {
            check_lengths(&head.headers)?;
        }
    }
    check_authority(head, path, has_host)
}

/// The path and query, which are all of the target here.
fn path_of(uri: &Uri) -> &str {
    uri.path_and_query().map_or("", |path| path.as_str())
}

/// RFC 9110 §8.6: several lengths have to be one.
fn check_lengths(fields: &HeaderMap) -> Result<(), Malformed> {
    let mut known = None;
    let lines = fields.get_all(CONTENT_LENGTH).iter();
    for length in lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b',')) {
        let length = length_of(length.trim_ascii()).ok_or(Malformed::Framing)?;
        if *known.get_or_insert(length) != length {
            return Err(Malformed::Framing);
        }
    }
    Ok(())
}

fn length_of(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// RFC 9113 §8.3.1, RFC 9112 §3.2, RFC 9110 §4.2.4.
fn check_authority(head: &Parts, path: &[u8], has_host: bool) -> Result<(), Malformed> {
    let named = head.uri.authority().map(|name| name.as_str().as_bytes());
    if named.is_some_and(|name| name.contains(&b'@')) || (named.is_none() && !has_host) {
        return Err(Malformed::Authority);
    }
    if has_host {
        let mut hosts = head.headers.get_all(HOST).iter().map(HeaderValue::as_bytes);
        let host = hosts.next().unwrap_or_default();
        let differs = named.is_some_and(|name| name != host);
        if differs || host.contains(&b'@') || hosts.next().is_some() {
            return Err(Malformed::Authority);
        }
    }
    // CONNECT has no path of its own, and the gate refuses it.
    if head.method == Method::CONNECT || raw_target_authority(path) == RawTargetAuthority::None {
        Ok(())
    } else {
        Err(Malformed::Authority)
    }
}

/// What the gate is told of a request with the fields `fields`.
pub(super) fn raw_head<'a>(
    method: &'a Method,
    uri: &Uri,
    fields: HeaderMap,
    ends_with_head: bool,
) -> RawHead<'a> {
    let authority = uri.authority();
    RawHead {
        protocol: Protocol::H2,
        method: method.as_str(),
        target: Bytes::copy_from_slice(path_of(uri).as_bytes()),
        authority: authority.map(|name| Bytes::copy_from_slice(name.as_str().as_bytes())),
        fields,
        ends_with_head,
    }
}

/// The limits that the HTTP/1.1 lane applies while it reads.
///
/// # Errors
/// [`GateRefusal::TooManyFields`], [`GateRefusal::TargetTooLong`], [`GateRefusal::HeadTooLarge`].
pub(super) fn check_limits(raw: &RawHead<'_>, limits: &Limits) -> Result<(), GateRefusal> {
    if raw.fields.len() > limits.request_fields {
        return Err(GateRefusal::TooManyFields);
    }
    if raw.target.len() > limits.request_head_bytes {
        return Err(GateRefusal::TargetTooLong);
    }
    let lines = raw.fields.iter();
    let fields: usize = lines
        .map(|(name, value)| name.as_str().len() + value.len() + 4)
        .sum();
    if raw.target.len() + fields > limits.request_head_bytes {
        return Err(GateRefusal::HeadTooLarge);
    }
    Ok(())
}

/// More fields than are added to those that are stored.
const OWN_FIELDS: usize = 8;

/// The head of a response as the h2 crate takes it; `None` when there are more fields than it can.
pub(super) fn response_head(head: &ReplyHead<'_>) -> Option<Response<()>> {
    let mut fields = stored_fields(head)?;
    let mut add = |name: HeaderName, value: HeaderValue| fields.try_append(name, value).ok();
    for (name, value) in head.fields {
        add(name.clone(), value.clone())?;
    }
    if let ReplyLength::Known(length) = head.length {
        add(CONTENT_LENGTH, HeaderValue::from(length))?;
    }
    if let Some(range) = &head.content_range {
        add(
            CONTENT_RANGE,
            HeaderValue::try_from(range.to_string()).ok()?,
        )?;
    }
    if let Some(age) = head.age_seconds {
        add(AGE, HeaderValue::from(age))?;
    }
    if head.cache_status.is_some() {
        add(CACHE_STATUS, cache_status(head)?)?;
    }
    add(VIA, HeaderValue::from_static("2 tidegate"))?;
    let mut request_id = HeaderValue::from_str(head.request_id.as_str()).ok()?;
    // Never the same again: in h2's table of fields it would push out what is, and every new one would be
    // compared with all before it.
    request_id.set_sensitive(true);
    add(X_REQUEST_ID, request_id)?;
    let mut response = Response::new(());
    *response.status_mut() = head.status;
    *response.headers_mut() = fields;
    Some(response)
}

/// The stored fields that are sent, with room for more.
fn stored_fields(head: &ReplyHead<'_>) -> Option<HeaderMap> {
    match head.stored {
        // A copy of the map is made without a look at its names.
        Some((stored, Selection::All)) if head.withheld.is_empty() => {
            let mut fields = stored.fields.clone();
            fields.try_reserve(head.fields.len() + OWN_FIELDS).ok()?;
            Some(fields)
        }
        _ => {
            let stored = head.stored.map_or(0, |(stored, _)| stored.fields.len());
            let mut fields = HeaderMap::with_capacity(stored + head.fields.len() + OWN_FIELDS);
            for (name, value) in head.stored_fields() {
                fields.try_append(name.clone(), value.clone()).ok()?;
            }
            Some(fields)
        }
    }
}

fn cache_status(head: &ReplyHead<'_>) -> Option<HeaderValue> {
    use std::io::Write as _;
    let mut value = Vec::with_capacity(64);
    head.cache_status.as_ref()?.append_to(&mut value);
    if head.key_parameter.is_some() {
        write!(value, "{}", OrNothing(&head.key_parameter)).ok()?;
    }
    HeaderValue::from_maybe_shared(Bytes::from(value)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn form(uri: &str, fields: &[(HeaderName, &str)]) -> Result<(), Malformed> {
        let mut request = Request::builder().uri(uri);
        for (name, value) in fields {
            request = request.header(name, *value);
        }
        check_form(&request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn several_lengths_have_to_be_one() {
        for (fields, is_good) in [
            (&["5"][..], true),
            (&["5", "5"], true),
            (&["5, 5", "05"], true),
            (&["5", "6"], false),
            (&["5, 6"], false),
            (&["5,"], false),
            (&[""], false),
            (&["-5"], false),
            (&["+5"], false),
            (&["18446744073709551615"], true),
            (&["18446744073709551616"], false),
        ] {
            let named: Vec<_> = fields
                .iter()
                .map(|value| (CONTENT_LENGTH, *value))
                .collect();
            let expected = if is_good {
                Ok(())
            } else {
                Err(Malformed::Framing)
            };
            assert_eq!(form("https://a/", &named), expected, "{fields:?}");
        }
        let coded = form("https://a/", &[(TRANSFER_ENCODING, "chunked")]);
        assert_eq!(coded, Err(Malformed::Framing));
    }

    #[test]
    fn authority_is_one_and_read_alike_by_all() {
        for (uri, hosts) in [
            ("https://a/", &[][..]),
            ("https://a/", &["a"]),
            ("https://a:443/", &["a:443"]),
            ("/", &["a"]),
        ] {
            let hosts: Vec<_> = hosts.iter().map(|host| (HOST, *host)).collect();
            assert_eq!(form(uri, &hosts), Ok(()), "{uri} {hosts:?}");
        }
        for (uri, hosts) in [
            ("/", &[][..]),
            ("https://a/", &["b"]),
            ("https://a/", &["A"]),
            ("https://a/", &["a:443"]),
            ("https://a/", &["a", "a"]),
            ("/", &["a", "a"]),
            ("/", &["u@a"]),
            ("https://u@a/", &[]),
        ] {
            let hosts: Vec<_> = hosts.iter().map(|host| (HOST, *host)).collect();
            let refused = Err(Malformed::Authority);
            assert_eq!(form(uri, &hosts), refused, "{uri} {hosts:?}");
        }
    }

    #[test]
    fn path_is_no_url() {
        let with_path = |path: &str| {
            let uri = Uri::builder().scheme("https").authority("a");
            let mut head = Request::new(()).into_parts().0;
            head.uri = uri.path_and_query(path).build().ok()?;
            Some(check_form(&head))
        };
        for path in ["/", "/a?b=c", "*"] {
            assert_eq!(with_path(path), Some(Ok(())), "{path}");
        }
        for path in ["http://a/", "https:/a", "://a/"] {
            // The http crate may not have it in the first place.
            assert_ne!(with_path(path), Some(Ok(())), "{path}");
        }
    }
}
