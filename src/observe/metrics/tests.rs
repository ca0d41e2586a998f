//! What a scrape says, line by line.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::Metrics;
use crate::observe::{Finished, OriginResult, Outcome, Protocol};

fn finished(outcome: Outcome, status: u16, protocol: Protocol) -> Finished {
    Finished {
        outcome,
        status,
        protocol,
        elapsed: Duration::from_millis(3),
        time_to_first_byte: Some(Duration::from_millis(2)),
        bytes_memory: 5,
        bytes_disk: 0,
        bytes_origin: 7,
    }
}

/// The samples of `text` whose names begin with `name`, without comments.
fn samples<'t>(text: &'t str, name: &str) -> Vec<&'t str> {
    text.lines().filter(|line| line.starts_with(name)).collect()
}

#[test]
fn requests_are_counted_by_route_outcome_status_and_protocol() {
    let metrics = Metrics::new();
    let media = metrics.route("media");
    media.record(&finished(Outcome::Hit, 200, Protocol::Http11));
    media.record(&finished(Outcome::Hit, 200, Protocol::Http11));
    media.record(&finished(Outcome::UriMiss, 206, Protocol::H2));
    media.record(&finished(Outcome::Error, 0, Protocol::Http10));
    media.record(&finished(Outcome::Bypass, 999, Protocol::Http10));
    metrics
        .route("")
        .record(&finished(Outcome::Refused, 400, Protocol::Http11));
    let text = metrics.gather_text();
    assert_eq!(
        samples(&text, "tidegate_requests_total"),
        [
            r#"tidegate_requests_total{outcome="bypass",protocol="http/1.0",route="media",status="999"} 1"#,
            r#"tidegate_requests_total{outcome="error",protocol="http/1.0",route="media",status="none"} 1"#,
            r#"tidegate_requests_total{outcome="hit",protocol="http/1.1",route="media",status="200"} 2"#,
            r#"tidegate_requests_total{outcome="refused",protocol="http/1.1",route="",status="400"} 1"#,
            r#"tidegate_requests_total{outcome="uri-miss",protocol="h2",route="media",status="206"} 1"#,
        ]
    );
    assert_eq!(
        samples(&text, "tidegate_response_bytes_total{route=\"media\""),
        [
            r#"tidegate_response_bytes_total{route="media",source="disk"} 0"#,
            r#"tidegate_response_bytes_total{route="media",source="memory"} 25"#,
            r#"tidegate_response_bytes_total{route="media",source="origin"} 35"#,
        ]
    );
    for expected in [
        r#"tidegate_request_duration_seconds_bucket{route="media",le="0.0025"} 0"#,
        r#"tidegate_request_duration_seconds_bucket{route="media",le="0.005"} 5"#,
        r#"tidegate_time_to_first_byte_seconds_bucket{route="media",le="0.0025"} 5"#,
        r#"tidegate_request_duration_seconds_count{route="media"} 5"#,
    ] {
        assert!(
            text.lines().any(|line| line == expected),
            "{expected} in\n{text}"
        );
    }
}

#[test]
fn no_two_combinations_of_labels_share_a_counter() {
    let outcomes = [
        Outcome::Hit,
        Outcome::Miss,
        Outcome::UriMiss,
        Outcome::VaryMiss,
        Outcome::Stale,
        Outcome::Partial,
        Outcome::Bypass,
        Outcome::Method,
        Outcome::Request,
        Outcome::Refused,
        Outcome::Error,
    ];
    let metrics = Metrics::new();
    let mut combinations = 0;
    for outcome in outcomes {
        for protocol in [Protocol::Http10, Protocol::Http11, Protocol::H2] {
            for status in [0, 100, 101, 200, 999] {
                metrics
                    .route("r")
                    .record(&finished(outcome, status, protocol));
                combinations += 1;
            }
        }
    }
    let text = metrics.gather_text();
    let counted = samples(&text, "tidegate_requests_total");
    assert_eq!(counted.len(), combinations);
    assert!(
        counted.iter().all(|line| line.ends_with("} 1")),
        "{counted:#?}"
    );
}

#[test]
fn handles_of_one_name_are_one_counter() {
    let metrics = Metrics::new();
    assert!(Arc::ptr_eq(&metrics.route("a"), &metrics.route("a")));
    assert!(!Arc::ptr_eq(&metrics.route("a"), &metrics.route("b")));
    let server = metrics.origin_server("store", "a:80");
    assert!(Arc::ptr_eq(
        &server,
        &metrics.origin_server("store", "a:80")
    ));
    assert!(!Arc::ptr_eq(
        &server,
        &metrics.origin_server("store", "b:80")
    ));
    assert!(!Arc::ptr_eq(
        &server,
        &metrics.origin_server("other", "a:80")
    ));
}

#[test]
fn origin_requests_are_counted_by_class_or_fault() {
    let metrics = Metrics::new();
    let server = metrics.origin_server("store", "a:80");
    for status in [100, 199, 200, 299, 304, 404, 500, 599, 600, 99] {
        server.record(OriginResult::Status(status), Duration::from_millis(1));
    }
    server.record(OriginResult::ConnectError, Duration::ZERO);
    server.record(OriginResult::Timeout, Duration::ZERO);
    server.record(OriginResult::Aborted, Duration::ZERO);
    server.set_healthy(true);
    let text = metrics.gather_text();
    let count = |result: &str| {
        let name = format!(
            r#"tidegate_origin_requests_total{{origin="store",result="{result}",server="a:80"}} "#
        );
        samples(&text, &name)[0][name.len()..].to_owned()
    };
    let results = [
        ("1xx", "2"),
        ("2xx", "2"),
        ("3xx", "1"),
        ("4xx", "1"),
        ("5xx", "2"),
        ("other", "2"),
        ("connect_error", "1"),
        ("timeout", "1"),
        ("aborted", "1"),
    ];
    for (result, expected) in results {
        assert_eq!(count(result), expected, "{result}");
    }
    let lines: Vec<_> = text.lines().collect();
    assert!(
        lines.contains(&r#"tidegate_origin_request_duration_seconds_count{origin="store"} 13"#)
    );
    assert!(lines.contains(&r#"tidegate_origin_healthy{origin="store",server="a:80"} 1"#));
}

#[test]
fn gauges_are_brought_up_to_date_by_each_scrape() {
    let metrics = Metrics::new();
    let tier = metrics.cache_tier("memory");
    tier.set_limit(1 << 20);
    let held = Arc::new(Mutex::new((10, 1)));
    let seen = Arc::clone(&held);
    metrics.on_gather(Box::new(move || {
        let (bytes, objects) = *seen.lock().unwrap();
        tier.set_held(bytes, objects);
    }));
    let cache_lines = |metrics: &Metrics| {
        let text = metrics.gather_text();
        samples(&text, "tidegate_cache_").join("\n")
    };
    assert_eq!(
        cache_lines(&metrics),
        "tidegate_cache_bytes{tier=\"memory\"} 10\n\
         tidegate_cache_limit_bytes{tier=\"memory\"} 1048576\n\
         tidegate_cache_memory_files 0\n\
         tidegate_cache_objects{tier=\"memory\"} 1"
    );
    *held.lock().unwrap() = (20, 2);
    assert!(cache_lines(&metrics).starts_with("tidegate_cache_bytes{tier=\"memory\"} 20\n"));
}

#[test]
fn connections_are_counted_while_they_are_open() {
    let metrics = Metrics::new();
    let listener = metrics.listener("127.0.0.1:8080");
    let (first, second) = (listener.opened(), listener.opened());
    drop(first);
    let line = r#"tidegate_connections{listener="127.0.0.1:8080"} "#;
    assert_eq!(samples(&metrics.gather_text(), line), [format!("{line}1")]);
    drop(second);
    assert_eq!(samples(&metrics.gather_text(), line), [format!("{line}0")]);
}

#[test]
fn refusals_and_collapsed_requests_have_counters() {
    let metrics = Metrics::new();
    metrics.route("media").record_signature_refusal("expired");
    metrics.route("media").record_collapsed();
    metrics.record_gate_refusal("bare_lf");
    let text = metrics.gather_text();
    for line in [
        r#"tidegate_signature_refusals_total{reason="expired",route="media"} 1"#,
        r#"tidegate_collapsed_requests_total{route="media"} 1"#,
        r#"tidegate_gate_refusals_total{reason="bare_lf"} 1"#,
        "tidegate_access_log_dropped_total 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
}

#[test]
fn purges_are_counted_by_kind_and_severity() {
    let metrics = Metrics::new();
    let purges = metrics.purges();
    purges.record("tag", "soft");
    purges.record("tag", "soft");
    purges.record("url", "hard");
    purges.record_purged_response();
    purges.set_rules(2);
    let text = metrics.gather_text();
    for line in [
        r#"tidegate_purges_total{kind="tag",severity="soft"} 2"#,
        r#"tidegate_purges_total{kind="url",severity="hard"} 1"#,
        "tidegate_purged_responses_total 1",
        "tidegate_purge_rules 2",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
}

#[test]
fn process_and_build_are_described() {
    let text = Metrics::new().gather_text();
    for name in [
        concat!(
            "tidegate_build_info{version=\"",
            env!("CARGO_PKG_VERSION"),
            "\"} 1"
        ),
        "process_cpu_seconds_total ",
        "process_open_fds ",
        "process_resident_memory_bytes ",
        "process_start_time_seconds ",
    ] {
        assert_eq!(samples(&text, name).len(), 1, "{name} in\n{text}");
    }
}
