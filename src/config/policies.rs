//! The checked values of the gate's policies: who may come in, how often, and what is said to
//! browsers. All of them are off unless they are given.

use std::time::Duration;

use super::network::Networks;

/// Whose word is taken for where a client is.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// `edge.trusted_proxies`; empty = nobody.
    pub proxies: Networks,
    /// `edge.client_address_field`.
    pub field: ClientAddressField,
}

/// `edge.client_address_field`: the one field that trusted proxies name their client in.
///
/// One and not both: a proxy that writes one of them passes the other on as its client sent it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ClientAddressField {
    /// `x-forwarded-for` (default).
    #[default]
    XForwardedFor,
    /// `forwarded` (RFC 7239).
    Forwarded,
}

/// `edge.listeners[].proxy_protocol`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// `off` (default): connections begin with TLS or HTTP.
    #[default]
    Off,
    /// `required`: connections come from `edge.trusted_proxies` only and begin with a header of the PROXY
    /// protocol, version 1 or 2.
    Required,
}

/// `allow` and `deny` of a listener or a route. What is in `deny` is kept out; where there is an `allow`, so
/// is what is not in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddressRules {
    /// `allow`; absent = everybody.
    pub allow: Option<Networks>,
    /// `deny`; empty = nobody.
    pub deny: Networks,
}

impl AddressRules {
    /// Whether a client at `address` may come in.
    pub fn admit(&self, address: std::net::IpAddr) -> bool {
        !self.deny.contains(address)
            && self
                .allow
                .as_ref()
                .is_none_or(|allow| allow.contains(address))
    }

    /// Whether everybody may.
    pub fn is_open(&self) -> bool {
        self.allow.is_none() && self.deny.is_empty()
    }
}

/// `edge.listeners[].limits`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListenerLimits {
    /// `connections`: open at a time; absent = no limit.
    pub connections: Option<usize>,
    /// `connections_per_client`: open at a time, of one client; absent = no limit.
    pub connections_per_client: Option<usize>,
    /// `requests_per_client`; absent = no limit.
    pub requests_per_client: Option<RequestLimit>,
}

/// `edge.routes[].limits`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RouteLimits {
    /// `requests_per_client`; absent = no limit.
    pub requests_per_client: Option<RequestLimit>,
}

/// `requests_per_client` of a listener or a route: a token bucket for each client, which is an IPv4
/// address or an IPv6 /64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestLimit {
    /// `rate`, as the time in which one request is earned.
    pub interval: Duration,
    /// `burst`: requests that may come at once, at least one.
    pub burst: u32,
}
