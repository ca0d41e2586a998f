//! Reads the gate's policies, which listeners and routes share. Keys, defaults and ranges stand here and
//! nowhere else in the code.

use std::num::NonZeroU64;
use std::path::Path;
use std::time::Duration;

use http::{HeaderName, Method};

use super::network::{Network, Networks};
use super::parsers::{
    ca_file, cors_origin, count, duration, field_name, field_value, method, network, one_of, rate,
    size, true_or_false,
};
use super::policies::{
    AddressRules, ClientAddressField, ClientCertificates, Cors, FieldOwner, HeaderEdits, Listed,
    ListenerLimits, MinRate, ProxyProtocol, RequestLimit, RouteLimits, Trust, request_field_owner,
    response_field_owner,
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

/// `client_certificates` of a listener's `tls`.
pub(super) fn read_client_certificates(
    tls: &Section<'_>,
    base_dir: &Path,
) -> Option<Option<ClientCertificates>> {
    tls.optional_section("client_certificates", "none are asked for", |clients| {
        let ca_file = clients.required("ca_file", ca_file(base_dir));
        let required = clients.or_default("required", "true", true_or_false());
        let forward_as = clients.optional("forward_as", "the origin is not told", field_name());
        if let Some(Some(name)) = &forward_as
            && let Some(owner) = request_field_owner(name.as_str())
        {
            let name = name.to_string();
            clients.problem("forward_as", Reason::ForeignField { name, owner });
        }
        Some(ClientCertificates {
            ca_file: ca_file?,
            required: required?,
            forward_as: forward_as?,
        })
    })
}

/// `limits` of a route.
pub(super) fn read_route_limits(route: &Section<'_>) -> Option<RouteLimits> {
    route.section("limits", |limits| {
        let requests_per_client = read_request_limit(limits);
        let request_body_bytes = limits.optional("request_body", NO_LIMIT, size(0..=64 * TIB));
        Some(RouteLimits {
            requests_per_client: requests_per_client?,
            request_body_bytes: request_body_bytes?,
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

/// A lowest speed of clients.
pub(super) fn read_min_rate(limits: &Section<'_>, key: &'static str) -> Option<Option<MinRate>> {
    limits.optional_section(key, NO_LIMIT, |rate| {
        let bytes = rate.required("bytes", size(1..=GIB));
        let span = duration(Duration::from_millis(100)..=Duration::from_secs(3600));
        let patience = rate.or_default("patience", "10s", span);
        Some(MinRate {
            bytes: NonZeroU64::new(bytes?).expect("the range starts at one"),
            patience: patience?,
        })
    })
}

const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;
const DAY: Duration = Duration::from_secs(86_400);

/// `cors` of a route.
pub(super) fn read_cors(route: &Section<'_>) -> Option<Option<Cors>> {
    route.optional_section("cors", "what the origin says", |cors| {
        let origins = cors.scalars_or_all("origins", None, cors_origin());
        let methods = cors.optional_scalars("methods", "GET and HEAD", method());
        let headers = cors.scalars_or_all("headers", Some("none"), field_name());
        let expose = cors.optional_scalars("expose", "none", field_name());
        let credentials = cors.or_default("credentials", "false", true_or_false());
        let max_age = cors.or_default("max_age", "10m", duration(Duration::ZERO..=DAY));
        let origins = origins??;
        if origins == Listed::All && credentials == Some(true) {
            cors.problem("credentials", Reason::CredentialsForAll);
        }
        Some(Cors {
            origins,
            methods: methods?.unwrap_or_else(|| vec![Method::GET, Method::HEAD]),
            headers: headers?.unwrap_or(Listed::These(Vec::new())),
            expose: expose?.unwrap_or_default(),
            credentials: credentials?,
            max_age: max_age?,
        })
    })
}

/// `response_headers` of a route.
pub(super) fn read_response_headers(route: &Section<'_>, has_cors: bool) -> Option<HeaderEdits> {
    route.section("response_headers", |edits| {
        read_edits(edits, |name| response_field_owner(name, has_cors))
    })
}

/// `request_headers` of a route.
pub(super) fn read_request_headers(route: &Section<'_>) -> Option<HeaderEdits> {
    route.section("request_headers", |edits| {
        read_edits(edits, request_field_owner)
    })
}

fn read_edits(
    edits: &Section<'_>,
    owner: impl Fn(&str) -> Option<FieldOwner>,
) -> Option<HeaderEdits> {
    let set = edits.mapped("set", "default {}", &field_name(), &field_value());
    let add = edits.mapped("add", "default {}", &field_name(), &field_value());
    let remove = edits.optional_scalars("remove", "none", field_name());
    let mut seen: Vec<(HeaderName, String)> = Vec::new();
    let mut check = |name: &HeaderName, place: String| {
        if let Some(owner) = owner(name.as_str()) {
            let name = name.to_string();
            edits.problem(&place, Reason::ForeignField { name, owner });
        }
        match seen.iter().find(|(known, _)| known == name) {
            Some((_, first)) => {
                let (value, first) = (name.to_string(), edits.path_of(first));
                edits.problem(&place, Reason::Duplicate { value, first });
            }
            None => seen.push((name.clone(), place)),
        }
    };
    for (key, fields) in [("set", &set), ("add", &add)] {
        for (name, _) in fields.iter().flatten() {
            check(name, format!("{key}.{name}"));
        }
    }
    for (index, name) in remove.iter().flatten().flatten().enumerate() {
        check(name, format!("remove[{index}]"));
    }
    Some(HeaderEdits {
        set: set?,
        add: add?,
        remove: remove?.unwrap_or_default(),
    })
}
