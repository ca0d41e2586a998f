//! The rules of a route: where they come from, and every mistake with its exact message.

use super::*;
use crate::config::{Config, parse};
use http::StatusCode;
use http::header::COOKIE;
use std::path::Path;

/// A configuration with these rules in `edge.cache` and in its first route.
fn text(edge: &str, route: &str) -> String {
    format!(
        "edge:
  listeners: [{{ address: 127.0.0.1:8080 }}]
  origins: {{ store: {{ servers: [127.0.0.1:9000] }} }}
  cache: {{ {edge} }}
  routes:
    - {{ path: /a, origin: store, access: public, cache: {{ {route} }} }}
    - {{ origin: store, access: public }}
"
    )
}

fn rules(edge: &str, route: &str) -> [Arc<CacheRules>; 2] {
    let checked = parse(&text(edge, route), Path::new("/")).unwrap();
    let Config {
        edge: Some(edge), ..
    } = checked.config
    else {
        panic!("there is an edge");
    };
    [&edge.routes[0], &edge.routes[1]].map(|route| Arc::clone(&route.cache))
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn the_built_in_rules_are_the_documented_ones() {
    let rules = CacheRules::default();
    assert_eq!(rules.default_ttl, seconds(60));
    assert_eq!((rules.min_ttl, rules.max_ttl), (None, None));
    assert_eq!(rules.override_ttl, None);
    assert_eq!(rules.status_ttl, StatusTtl::default());
    assert_eq!(rules.grace, seconds(3600));
    assert_eq!(rules.stale_while_revalidate, Duration::ZERO);
    assert_eq!(rules.ttl_jitter_percent, 5);
    assert_eq!((rules.query, rules.sort_query), (QueryRule::All, false));
    assert_eq!(rules.vary.of(&ACCEPT_ENCODING), VaryRule::Normalise);
    assert_eq!(rules.vary.of(&ACCEPT_LANGUAGE), VaryRule::Normalise);
    assert_eq!(rules.vary.of(&COOKIE), VaryRule::Passthrough);
    assert_eq!((rules.max_variants, rules.max_object_bytes), (32, None));
    assert!(!rules.ignore_request_cache_control && !rules.expose_key);
}

#[test]
fn a_key_of_a_route_wins_over_the_edge_and_that_over_the_built_in_one() {
    let [own, other] = rules(
        "default_ttl: 1s, min_ttl: 2s, max_ttl: 1h, override_ttl: 3s, grace: 4s, max_object_size: 1MiB, \
             ttl_jitter: 0%, query: none, max_variants: 2, expose_key: true",
        "default_ttl: 5s, max_ttl: none, stale_while_revalidate: 6s, ttl_jitter: 50%, sort_query: true, \
             max_object_size: 1KiB, query: { allow: [a, 'b[]'] }, max_variants: 256, \
             ignore_request_cache_control: true, expose_key: false",
    );
    let expected = CacheRules {
        default_ttl: seconds(1),
        min_ttl: Some(seconds(2)),
        max_ttl: Some(seconds(3600)),
        override_ttl: Some(seconds(3)),
        grace: seconds(4),
        max_object_bytes: Some(1 << 20),
        ttl_jitter_percent: 0,
        query: QueryRule::None,
        max_variants: 2,
        expose_key: true,
        ..CacheRules::default()
    };
    assert_eq!(*other, expected);
    let expected = CacheRules {
        default_ttl: seconds(5),
        max_ttl: None,
        stale_while_revalidate: seconds(6),
        ttl_jitter_percent: 50,
        sort_query: true,
        max_object_bytes: Some(1 << 10),
        query: QueryRule::Allow(vec!["a".to_owned(), "b[]".to_owned()]),
        max_variants: 256,
        ignore_request_cache_control: true,
        expose_key: false,
        ..expected
    };
    assert_eq!(*own, expected);
}

#[test]
fn routes_without_rules_of_their_own_share_those_of_the_edge() {
    let [own, other] = rules("default_ttl: 1s", "default_ttl: 1s");
    assert!(Arc::ptr_eq(&own, &other));
}

#[test]
fn a_route_changes_the_statuses_and_fields_that_it_names_and_no_others() {
    let [own, other] = rules(
        "status_ttl: { 404: 10s, 301: 1h, 5xx: 0s, 400: 0s }, vary: { Cookie: bypass }",
        "status_ttl: { '404': none, 5xx: 1s, 4xx: 2s }, vary: { accept-language: passthrough }",
    );
    let of = |rules: &CacheRules, status: u16| {
        rules.status_ttl.of(StatusCode::from_u16(status).unwrap())
    };
    for (status, expected_own, expected_other) in [
        (301, Some(seconds(3600)), Some(seconds(3600))),
        (403, Some(seconds(2)), None),
        (404, None, Some(seconds(10))),
        (503, Some(seconds(1)), Some(Duration::ZERO)),
        (400, Some(Duration::ZERO), Some(Duration::ZERO)),
        (429, None, None),
    ] {
        assert_eq!(of(&own, status), expected_own, "{status}");
        assert_eq!(of(&other, status), expected_other, "{status}");
    }
    assert_eq!(own.vary.of(&COOKIE), VaryRule::Bypass);
    assert_eq!(own.vary.of(&ACCEPT_LANGUAGE), VaryRule::Passthrough);
    assert_eq!(own.vary.of(&ACCEPT_ENCODING), VaryRule::Normalise);
    assert_eq!(other.vary.of(&ACCEPT_LANGUAGE), VaryRule::Normalise);
}

#[test]
fn every_mistake_in_the_rules_is_named_with_its_key_and_reason() {
    for (given, expected) in [
        (
            "default_ttl: 366d",
            "default_ttl: 366d is out of range: 0s to 365d",
        ),
        ("grace: 5", "grace: 5 has no unit; write 30s, for instance"),
        (
            "min_ttl: off",
            "min_ttl: \"off\" does not begin with a whole number, such as 30s",
        ),
        (
            "min_ttl: 2h, max_ttl: 1h",
            "min_ttl: min_ttl (2h) is longer than max_ttl (1h)",
        ),
        (
            "override_ttl: ''",
            "override_ttl: \"\" does not begin with a whole number, such as 30s",
        ),
        (
            "status_ttl: 10s",
            "status_ttl: expected a mapping, found text",
        ),
        (
            "status_ttl: { 404: 10 }",
            "status_ttl.404: 10 has no unit; write 30s, for instance",
        ),
        (
            "status_ttl: { 404: }",
            "status_ttl.404: no value is given; write one or remove the key",
        ),
        (
            "status_ttl: { 404: 1s, '404': 1s }",
            "status_ttl.404: \"404\" is already used by PLACE.status_ttl.404",
        ),
        (
            "status_ttl: { 3xx: 1s }",
            "status_ttl.3xx: \"3xx\" is not a status from 200 to 599, 4xx or 5xx",
        ),
        (
            "status_ttl: { 199: 1s }",
            "status_ttl.199: \"199\" is not a status from 200 to 599, 4xx or 5xx",
        ),
        (
            "status_ttl: { 600: 1s }",
            "status_ttl.600: \"600\" is not a status from 200 to 599, 4xx or 5xx",
        ),
        (
            "status_ttl: { 206: 1s }",
            "status_ttl.206: a 206 is never stored, so it has no lifetime",
        ),
        (
            "status_ttl: { 412: 1s }",
            "status_ttl.412: a 412 is never stored, so it has no lifetime",
        ),
        (
            "status_ttl: { 428: 1s }",
            "status_ttl.428: a 428 is never stored, so it has no lifetime",
        ),
        (
            "status_ttl: { 304: 1s }",
            "status_ttl.304: a 304 is never stored, so it has no lifetime",
        ),
        (
            "status_ttl: { true: 1s }",
            "status_ttl.a boolean: expected a status, found a boolean",
        ),
        (
            "ttl_jitter: 5",
            "ttl_jitter: 5 has no unit; write 5%, for instance",
        ),
        (
            "ttl_jitter: 51%",
            "ttl_jitter: 51% is out of range: 0% to 50%",
        ),
        (
            "ttl_jitter: 5s",
            "ttl_jitter: \"5s\" has no unit that is known here; write one of %",
        ),
        ("query: some", "query: \"some\" is not one of: all, none"),
        ("query: [a]", "query: expected text, found a list"),
        ("query: {}", "query: give exactly one of: allow, deny"),
        (
            "query: { allow: [a], deny: [b] }",
            "query: give exactly one of: allow, deny",
        ),
        (
            "query: { allow: [] }",
            "query.allow: needs at least one entry",
        ),
        (
            "query: { deny: a }",
            "query.deny: expected a list, found text",
        ),
        (
            "query: { deny: [a, a] }",
            "query.deny[1]: \"a\" is already used by PLACE.query.deny[0]",
        ),
        (
            "query: { deny: ['utm_*'] }",
            "query.deny[0]: \"utm_*\" is not a parameter's name: visible ASCII without &, = and #, whole, no pattern with *",
        ),
        (
            "query: { alow: [a] }",
            "query: give exactly one of: allow, deny\nPLACE.query.alow: unknown key; did you mean allow?",
        ),
        (
            "sort_query: yes",
            "sort_query: expected true or false, found text",
        ),
        (
            "vary: { cookie: normalise }",
            "vary.cookie: normalise is for accept-encoding and accept-language; write passthrough or bypass",
        ),
        (
            "vary: { accept: drop }",
            "vary.accept: \"drop\" is not one of: normalise, passthrough, bypass",
        ),
        (
            "vary: { '*': bypass }",
            "vary.*: \"*\" is not the name of a field",
        ),
        (
            "vary: { a b: bypass }",
            "vary.a b: \"a b\" is not the name of a field",
        ),
        (
            "vary: { Accept: bypass, accept: bypass }",
            "vary.accept: \"accept\" is already used by PLACE.vary.Accept",
        ),
        (
            "max_variants: 0",
            "max_variants: 0 is out of range: 1 to 256",
        ),
        (
            "max_variants: 257",
            "max_variants: 257 is out of range: 1 to 256",
        ),
        (
            "max_object_size: 0B",
            "max_object_size: 0B is out of range: 1B to 64TiB",
        ),
        (
            "expose_key: 1",
            "expose_key: expected true or false, found a number",
        ),
    ] {
        for (place, text) in [
            ("edge.cache", text(given, "")),
            ("edge.routes[0].cache", text("", given)),
        ] {
            let problems = parse(&text, Path::new("/")).unwrap_err().to_string();
            assert_eq!(
                problems,
                format!("{place}.{}", expected.replace("PLACE", place))
            );
        }
    }
}

#[test]
fn a_route_that_breaks_the_order_of_inherited_lifetimes_is_told_at_its_own_key() {
    for (edge, route, expected) in [
        (
            "max_ttl: 1h",
            "min_ttl: 2h",
            "min_ttl: min_ttl (2h) is longer than max_ttl (1h)",
        ),
        (
            "min_ttl: 2h",
            "max_ttl: 1h",
            "max_ttl: min_ttl (2h) is longer than max_ttl (1h)",
        ),
    ] {
        let problems = parse(&text(edge, route), Path::new("/")).unwrap_err();
        assert_eq!(
            problems.to_string(),
            format!("edge.routes[0].cache.{expected}")
        );
    }
    let problems = parse(
        &text("min_ttl: 2h, max_ttl: 1h", "grace: 1s"),
        Path::new("/"),
    );
    assert_eq!(problems.unwrap_err().iter().count(), 1, "told once");
    rules("max_ttl: 1h", "min_ttl: 1h");
}

#[test]
fn rules_of_the_tiers_belong_to_the_edge_alone() {
    let problems = parse(&text("", "memory: 1MiB"), Path::new("/")).unwrap_err();
    assert!(
        problems
            .to_string()
            .starts_with("edge.routes[0].cache.memory: unknown key")
    );
}
