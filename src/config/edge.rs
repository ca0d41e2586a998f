//! Reads the `edge` section. Keys, defaults and ranges stand here and nowhere else in the code.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use super::cache;
use super::checked::{
    Access, Certificate, Credential, Edge, H2Limits, Health, Limits, Listener, Misdirected,
    OriginPool, OriginSigning, Route, Signing, Timeouts, Tls,
};
use super::gate;
use super::parsers::{
    access_log, address, at_least_one, authority, chain_file, check_name, count, credential_part,
    duration, host, name, one_of, path_prefix, private_key_file, server, size, true_or_false,
};
use super::policies::Trust;
use super::problem::{Reason, Warning};
use super::reader::{Entries, Section};
use super::relations::{Names, Relations, shadows};
use super::rights::Rights;
use super::rules::CacheRules;
use super::signing;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;
const MILLISECOND: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// The origins of the file by name; `None` for one that has a problem: a route may name it all the same.
type ReadOrigins = [(String, Option<Arc<OriginPool>>)];

pub(super) fn read(edge: &Section<'_>, relations: &Relations<'_>) -> Option<Edge> {
    let workers = edge.optional("workers", "one per core", at_least_one(1024));
    let trust = gate::read_trust(edge);
    let listeners = edge.list("listeners", Entries::AtLeastOne, |listener| {
        read_listener(listener, trust.as_ref(), relations)
    });
    let origins = edge.named("origins", |name, origin| {
        read_origin(name, origin, relations)
    });
    let signing = edge.section("signing", |signing| signing::read(signing, relations));
    let cache = edge.section("cache", |cache| cache::read(cache, relations));
    let (cache, rules) = cache.unzip();
    // When `edge.cache` itself could not be read, the routes are checked against the built-in rules.
    let rules = rules.unwrap_or_default();
    let routes = read_routes(edge, origins.as_deref(), signing.as_ref(), &rules);
    let limits = edge.section("limits", read_limits);
    let timeouts = edge.section("timeouts", read_timeouts);
    let access_log = edge.or_default("access_log", "stdout", access_log(relations.base_dir));
    let (limits, h2, range_fetch_credit_bytes) = limits?;
    let origins: Option<Vec<_>> = origins?.into_iter().map(|(_, pool)| pool).collect();
    Some(Edge {
        workers: workers?.unwrap_or_else(one_per_core),
        trust: trust?,
        listeners: listeners?,
        origins: origins?,
        routes: routes?,
        cache: cache?,
        signing: signing?,
        limits,
        h2,
        range_fetch_credit_bytes,
        timeouts: timeouts?,
        access_log: access_log?,
    })
}

/// One when the system will not say how many there are.
fn one_per_core() -> NonZeroUsize {
    available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

fn read_listener(
    listener: &Section<'_>,
    trust: Option<&Trust>,
    relations: &Relations<'_>,
) -> Option<Listener> {
    let address = listener.required("address", address());
    if let Some(address) = address {
        relations.claim_address(listener, address);
    }
    let proxy_protocol = gate::read_proxy_protocol(listener, trust);
    let addresses = gate::read_address_rules(listener);
    let limits = gate::read_listener_limits(listener);
    let tls = listener.optional_section("tls", "plain HTTP", |tls| {
        let certificates = tls.list("certificates", Entries::AtLeastOne, |certificate| {
            read_certificate(certificate, relations)
        });
        let reload_interval =
            tls.or_default("reload_interval", "10s", duration(100 * MILLISECOND..=DAY));
        let misdirected = tls.or_default(
            "misdirected",
            "refuse",
            one_of(
                &["refuse", "serve"],
                &[Misdirected::Refuse, Misdirected::Serve],
            ),
        );
        let clients = gate::read_client_certificates(tls, relations.base_dir);
        Some(Tls {
            certificates: certificates?,
            reload_interval: reload_interval?,
            misdirected: misdirected?,
            client_certificates: clients?,
        })
    });
    Some(Listener {
        address: address?,
        proxy_protocol: proxy_protocol?,
        addresses: addresses?,
        limits: limits?,
        tls: tls?,
    })
}

fn read_certificate(certificate: &Section<'_>, relations: &Relations<'_>) -> Option<Certificate> {
    let base: &Path = relations.base_dir;
    let chain = certificate.required("chain", chain_file(base));
    let private_key = certificate.required("key", private_key_file(base));
    let (key, open_mode) = private_key?;
    if let Some(mode) = open_mode {
        relations.warn(Warning::PrivateKeyOpen {
            key: certificate.path_of("key"),
            file: key.clone(),
            mode,
        });
    }
    Some(Certificate { chain: chain?, key })
}

fn read_origin(
    name: &str,
    origin: &Section<'_>,
    relations: &Relations<'_>,
) -> Option<Arc<OriginPool>> {
    let name_fits = check_name(name)
        .map_err(|reason| origin.problem_here(reason))
        .ok();
    let servers = origin.scalars("servers", server());
    let timeout = |key, default| origin.or_default(key, default, duration(MILLISECOND..=HOUR));
    let connect_timeout = timeout("connect_timeout", "5s");
    let read_timeout = timeout("read_timeout", "30s");
    let write_timeout = timeout("write_timeout", "30s");
    let idle_timeout = timeout("idle_timeout", "60s");
    let health = origin.section("health", read_health);
    let signing = origin.optional_section("signing", "as the client signed", |signing| {
        read_origin_signing(signing, relations)
    });
    name_fits?;
    Some(Arc::new(OriginPool {
        name: name.to_owned(),
        servers: servers?,
        connect_timeout: connect_timeout?,
        read_timeout: read_timeout?,
        write_timeout: write_timeout?,
        idle_timeout: idle_timeout?,
        health: health?,
        signing: signing?,
    }))
}

fn read_origin_signing(section: &Section<'_>, relations: &Relations<'_>) -> Option<OriginSigning> {
    let region = section.required("region", credential_part("a region"));
    // Named so that a file says it; there is no other service whose signatures would differ.
    let service = section.or_default("service", "s3", one_of(&["s3"], &[()]));
    let host = section.optional("host", "as the client sent it", authority());
    let credentials = section.section("credentials", |credentials| {
        let id = credentials.required("access_key_id", credential_part("an access key id"));
        let secret = signing::read_secret(credentials, relations.base_dir);
        Some(Credential {
            access_key_id: id?,
            secret: secret?,
            allow_sigv2: false,
            rights: Rights::default(),
        })
    });
    service?;
    Some(OriginSigning {
        region: region?,
        host: host?,
        credentials: credentials?,
    })
}

fn read_health(health: &Section<'_>) -> Option<Health> {
    let span = || duration(10 * MILLISECOND..=HOUR);
    let interval = health.or_default("interval", "2s", span());
    let timeout = health.or_default("timeout", "1s", span());
    let path = health.optional("path", "a TCP connect is enough", path_prefix());
    let healthy_after = health.or_default("healthy_after", "1", count(1..=100));
    let unhealthy_after = health.or_default("unhealthy_after", "2", count(1..=100));
    Some(Health {
        interval: interval?,
        timeout: timeout?,
        path: path?,
        healthy_after: healthy_after?,
        unhealthy_after: unhealthy_after?,
    })
}

fn read_routes(
    edge: &Section<'_>,
    origins: Option<&ReadOrigins>,
    signing: Option<&Signing>,
    rules: &Arc<CacheRules>,
) -> Option<Vec<Arc<Route>>> {
    let mut names = Names::default();
    let mut earlier: Vec<(String, Arc<Route>)> = Vec::new();
    edge.list("routes", Entries::AtLeastOne, |section| {
        let route = Arc::new(read_route(section, origins, signing, rules)?);
        match earlier.iter().find(|(_, first)| shadows(first, &route)) {
            Some((first, _)) => section.problem_here(Reason::Unreachable {
                first: first.clone(),
            }),
            None => names.claim(section, "name", &route.name),
        }
        earlier.push((section.path().to_owned(), Arc::clone(&route)));
        Some(route)
    })
}

fn read_route(
    route: &Section<'_>,
    origins: Option<&ReadOrigins>,
    signing: Option<&Signing>,
    rules: &Arc<CacheRules>,
) -> Option<Route> {
    let given_name = route.optional("name", "host and path", name());
    let host = route.optional("host", "any host", host());
    let path = route.or_default("path", "/", path_prefix());
    let origin_name = route.required("origin", name());
    // When `edge.origins` itself could not be read, its own problem is enough.
    let origin = match (origin_name, origins) {
        (Some(name), Some(origins)) => {
            let origin = origins.iter().position(|(known, _)| *known == name);
            if origin.is_none() {
                let known = origins.iter().map(|(known, _)| known.clone()).collect();
                route.problem("origin", Reason::UnknownOrigin { name, known });
            }
            origin
        }
        _ => None,
    };
    let access = route.required(
        "access",
        one_of(&["public", "signed"], &[Access::Public, Access::Signed]),
    );
    let accept = signing::read_of_route(route, access, signing);
    let addresses = gate::read_address_rules(route);
    let limits = gate::read_route_limits(route);
    let cors = gate::read_cors(route);
    let has_cors = route.gives("cors");
    let response_headers = gate::read_response_headers(route, has_cors);
    let request_headers = gate::read_request_headers(route);
    let upload_forms = route.or_default("upload_forms", "false", true_or_false());
    let pool = origin.and_then(|origin| origins?.get(origin)?.1.as_ref());
    if upload_forms == Some(true) && pool.is_some_and(|pool| pool.signing.is_some()) {
        route.problem("upload_forms", Reason::FormsToSigningOrigin);
    }
    let cache = cache::read_of_route(route, rules);
    let (host, path) = (host?, path?);
    let default_name = || format!("{}{path}", host.as_deref().unwrap_or_default());
    Some(Route {
        name: given_name?.unwrap_or_else(default_name),
        host,
        path,
        origin: origin?,
        access: access?,
        addresses: addresses?,
        limits: limits?,
        signing: accept?,
        cors: cors?,
        response_headers: response_headers?,
        request_headers: request_headers?,
        upload_forms: upload_forms?,
        cache: cache?,
    })
}

/// The limits, those of HTTP/2, and `range_fetch_credit`, which is about what a client causes and not what it sends.
fn read_limits(limits: &Section<'_>) -> Option<(Limits, H2Limits, u64)> {
    let request_head = limits.or_default("request_head", "32KiB", size(KIB..=MIB));
    let request_fields = limits.or_default("request_fields", "100", count(1..=1000));
    let h2_streams = limits.or_default("h2_streams", "100", count(1..=10_000));
    let h2_control_frames = limits.or_default("h2_control_frames", "200", count(50..=1_000_000));
    let range_fetch_credit = limits.or_default("range_fetch_credit", "64MiB", size(MIB..=TIB));
    let min_receive_rate = gate::read_min_rate(limits, "min_receive_rate");
    let min_send_rate = gate::read_min_rate(limits, "min_send_rate");
    let limits = Limits {
        request_head_bytes: usize::try_from(request_head?)
            .expect("the range ends at 1MiB, which every usize holds"),
        request_fields: request_fields?,
        min_receive_rate: min_receive_rate?,
        min_send_rate: min_send_rate?,
    };
    let h2 = H2Limits {
        streams: u32::try_from(h2_streams?).expect("the range ends at 10,000"),
        control_frames: u32::try_from(h2_control_frames?).expect("the range ends at a million"),
    };
    Some((limits, h2, range_fetch_credit?))
}

fn read_timeouts(timeouts: &Section<'_>) -> Option<Timeouts> {
    let span = || duration(100 * MILLISECOND..=HOUR);
    let request_head = timeouts.or_default("request_head", "30s", span());
    let request_body = timeouts.or_default("request_body", "60s", span());
    let keep_alive = timeouts.or_default("keep_alive", "75s", span());
    let write = timeouts.or_default("write", "60s", span());
    let drain = timeouts.or_default("drain", "5s", duration(Duration::ZERO..=DAY));
    Some(Timeouts {
        request_head: request_head?,
        request_body: request_body?,
        keep_alive: keep_alive?,
        write: write?,
        drain: drain?,
    })
}
