//! Reads the gate's policies, which listeners and routes share. Keys, defaults and ranges stand here and
//! nowhere else in the code.

use super::network::{Network, Networks};
use super::parsers::{count, network, one_of, rate};
use super::policies::{
    AddressRules, ClientAddressField, ListenerLimits, ProxyProtocol, RequestLimit, RouteLimits,
    Trust,
};
use super::problem::Reason;
use super::reader::Section;

/// More connections than one process can have.
const MOST_CONNECTIONS: usize = 10_000_000;

const NO_LIMIT: &str = "no limit";

/// `edge.trusted_proxies` and what belongs to it.
pub(super) fn read_trust(edge: &Section<'_>) -> Option<Trust> {
    let proxies = edge.optional_scalars("trusted_proxies", "none", network());
    let field = edge.or_default(
        "client_address_field",
        "x-forwarded-for",
        one_of(
            &["x-forwarded-for", "forwarded"],
            &[
                ClientAddressField::XForwardedFor,
                ClientAddressField::Forwarded,
            ],
        ),
    );
    Some(Trust {
        proxies: networks(proxies?),
        field: field?,
    })
}

fn networks(blocks: Option<Vec<Network>>) -> Networks {
    blocks.into_iter().flatten().collect()
}

/// `proxy_protocol` of a listener; `trust` is `None` when it could not be read.
pub(super) fn read_proxy_protocol(
    listener: &Section<'_>,
    trust: Option<&Trust>,
) -> Option<ProxyProtocol> {
    let proxy_protocol = listener.or_default(
        "proxy_protocol",
        "off",
        one_of(
            &["off", "required"],
            &[ProxyProtocol::Off, ProxyProtocol::Required],
        ),
    )?;
    let nobody = trust.is_some_and(|trust| trust.proxies.is_empty());
    if proxy_protocol == ProxyProtocol::Required && nobody {
        listener.problem("proxy_protocol", Reason::ProxyProtocolFromNobody);
    }
    Some(proxy_protocol)
}

/// `allow` and `deny`.
pub(super) fn read_address_rules(section: &Section<'_>) -> Option<AddressRules> {
    let allow = section.optional_scalars("allow", "everybody", network());
    let deny = section.optional_scalars("deny", "nobody", network());
    Some(AddressRules {
        allow: allow?.map(|blocks| blocks.into_iter().collect()),
        deny: networks(deny?),
    })
}

/// `limits` of a listener.
pub(super) fn read_listener_limits(listener: &Section<'_>) -> Option<ListenerLimits> {
    listener.section("limits", |limits| {
        let most = || count(1..=MOST_CONNECTIONS);
        let connections = limits.optional("connections", NO_LIMIT, most());
        let connections_per_client = limits.optional("connections_per_client", NO_LIMIT, most());
        let requests_per_client = read_request_limit(limits);
        Some(ListenerLimits {
            connections: connections?,
            connections_per_client: connections_per_client?,
            requests_per_client: requests_per_client?,
        })
    })
}

/// `limits` of a route.
pub(super) fn read_route_limits(route: &Section<'_>) -> Option<RouteLimits> {
    route.section("limits", |limits| {
        let requests_per_client = read_request_limit(limits);
        Some(RouteLimits {
            requests_per_client: requests_per_client?,
        })
    })
}

fn read_request_limit(limits: &Section<'_>) -> Option<Option<RequestLimit>> {
    limits.optional_section("requests_per_client", NO_LIMIT, |limit| {
        let interval = limit.required("rate", rate());
        let burst = limit.required("burst", count(1..=1_000_000));
        Some(RequestLimit {
            interval: interval?,
            burst: u32::try_from(burst?).expect("the range ends at a million"),
        })
    })
}
