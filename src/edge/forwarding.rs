//! What of a request goes on to the origin, and what the edge says of it there.

use std::borrow::Cow;

use http::HeaderMap;
use http::header::{
    CONTENT_LENGTH, EXPECT, HOST, HeaderName, HeaderValue, IF_MATCH, IF_MODIFIED_SINCE,
    IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE, VIA,
};

use super::request::{AwsParameters, Request};
use super::{Node, Visit, X_REQUEST_ID};
use crate::cache::fetch::OriginRequest;
use crate::cache::key::normal_authority;
use crate::cache::policy::{fields, targeted};
use crate::cache::query::ruled;
use crate::config::CacheRules;
use crate::observe::Protocol;
use crate::signing::query_without_signature;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

impl Node {
    /// The request as the cache sends it to the origin: conditions and ranges are the cache's
    /// business, and nothing goes along that could shape what other clients are served.
    pub(super) fn origin_request(&self, visit: &Visit) -> OriginRequest {
        let request = &visit.request;
        let mut forwarded = request.fields.clone();
        fields::remove_hop_by_hop(&mut forwarded);
        fields::remove_unkeyed(&mut forwarded);
        for name in [
            CONTENT_LENGTH,
            EXPECT,
            IF_MATCH,
            IF_MODIFIED_SINCE,
            IF_NONE_MATCH,
            IF_RANGE,
            IF_UNMODIFIED_SINCE,
            RANGE,
        ] {
            forwarded.remove(name);
        }
        let is_presigned = matches!(
            request.query().map(query_without_signature),
            Some(Cow::Owned(_))
        );
        if is_presigned {
            // The signature was made for the host as the client spells it.
            add_forwarding_fields(&mut forwarded, request, &request.authority);
        } else {
            let host = normal_authority(request.peer.scheme(), request.authority());
            add_forwarding_fields(&mut forwarded, request, host.as_bytes());
        }
        let (name, value) = targeted::SURROGATE_CAPABILITY;
        forwarded.append(name, HeaderValue::from_static(value));
        if let Some(policy) = &self.routes[visit.route].policy {
            policy.edit_request(&mut forwarded);
        }
        OriginRequest {
            target: forwarded_target(
                request,
                self.rules_of(visit),
                AwsParameters::of(visit.aws_signed),
            ),
            fields: forwarded,
            selecting: request.fields.clone(),
            ring_key: visit.key.as_bytes().into(),
        }
    }
}

/// Path and query as the origin gets them: the parameters that are keyed, and those of a signature that was
/// verified.
fn forwarded_target(request: &Request, rules: &CacheRules, aws: AwsParameters) -> String {
    let target = String::from_utf8_lossy(&request.target);
    let Some(query) = request.query() else {
        return target.into_owned();
    };
    if rules.keep_queries_as_sent() {
        return target.into_owned();
    }
    let keyed = ruled(&aws.left_out_of(query), rules).map(Cow::into_owned);
    let signature = query
        .split('&')
        .filter(|item| !item.is_empty() && aws.left_out_of(item).is_empty());
    let query: Vec<&str> = keyed.as_deref().into_iter().chain(signature).collect();
    if query.is_empty() {
        return request.path().to_owned();
    }
    format!("{}?{}", request.path(), query.join("&"))
}

/// Tells the origin whom it is serving: `host`, the client's address, the scheme, the request id, and
/// that we stand between (RFC 9110 §7.6.3).
///
/// The client's address is the only one in `X-Forwarded-For`: what stood before it is the client's own
/// invention, and an origin that reads the list from either end finds the same.
pub(super) fn add_forwarding_fields(forwarded: &mut HeaderMap, request: &Request, host: &[u8]) {
    // Empty for a client on HTTP/1.0 that named none (RFC 9112 §3.2).
    if let Ok(host) = HeaderValue::from_bytes(host) {
        forwarded.insert(HOST, host);
    }
    let client = request.peer.client.to_string();
    if let Ok(client) = HeaderValue::try_from(client) {
        forwarded.insert(X_FORWARDED_FOR, client);
    }
    let scheme = HeaderValue::from_static(request.peer.scheme().as_str());
    forwarded.insert(X_FORWARDED_PROTO, scheme);
    if let Ok(id) = HeaderValue::from_str(request.id.as_str()) {
        forwarded.insert(X_REQUEST_ID, id);
    }
    forwarded.append(VIA, HeaderValue::from_static(via(request)));
}

/// Our mark in `Via`: the protocol the request came in, and our name.
pub(super) fn via(request: &Request) -> &'static str {
    match request.protocol {
        Protocol::Http10 => "1.0 tidegate",
        Protocol::Http11 => "1.1 tidegate",
        Protocol::H2 => "2 tidegate",
    }
}
