//! What the endpoints of the admin surface that speak JSON share: whom they answer, and how.
//!
//! The admin address asks for no credentials, so a browser on an operator's machine must not be made to use it: a page
//! of another site cannot send `application/json` without asking first, which nothing here permits, and a name that its
//! owner points at this machine is not let in.

use std::net::IpAddr;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;

/// Whether the body is said to be JSON, which a page of another site cannot say without asking first.
pub fn is_json(fields: &HeaderMap) -> bool {
    let mut values = fields.get_all(CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return false;
    };
    let essence = value.as_bytes().split(|byte| *byte == b';').next();
    essence.is_some_and(|essence| {
        essence
            .trim_ascii()
            .eq_ignore_ascii_case(b"application/json")
    })
}

/// DNS rebinding makes a browser send its own site's name to this machine; it cannot make it send
/// an address or `localhost`.
pub fn names_this_machine<B>(request: &Request<B>, reached: IpAddr) -> bool {
    let mut hosts = request.headers().get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return false;
    };
    let Ok(host) = Authority::try_from(host.as_bytes()) else {
        return false;
    };
    let is_ours = |authority: &Authority| {
        let host = authority.host();
        let address = host.trim_start_matches('[').trim_end_matches(']');
        match address.parse() {
            Ok(address) => {
                let address = IpAddr::to_canonical(&address);
                address.is_loopback() || address == reached.to_canonical()
            }
            Err(_) => host.eq_ignore_ascii_case("localhost"),
        }
    };
    is_ours(&host) && request.uri().authority().is_none_or(is_ours)
}

/// An answer in JSON.
pub fn reply(status: StatusCode, body: &serde_json::Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(format!("{body}\n"))));
    *response.status_mut() = status;
    let format = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, format);
    response
}
