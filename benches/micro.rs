//! What each step of a hit costs by itself.
//!
//! `cargo bench --bench micro` takes its time; `cargo test` runs each once, so that it keeps working.
//! `benches/README.md` has results. What a whole hit costs, in instructions: `benches/hit_path`.

#[path = "micro/credentials.rs"]
mod credentials;

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue};

use tidegate::byte_range;
use tidegate::cache::policy::cache_control::RequestDirectives;
use tidegate::cache::purge::PurgeLog;
use tidegate::cache::{Aside, Cache, CacheKey, Lookup, Places, Scheme};
use tidegate::clock::Moment;
use tidegate::config::{self, CacheRules};
use tidegate::edge::downstream::CacheStatus;
use tidegate::edge::head_h1::read_head_from;
use tidegate::edge::request::{AwsParameters, Peer, Request, keyed_query};
use tidegate::observe::Metrics;
use tidegate::routing::OriginRing;
use tidegate::secret::Secret;
use tidegate::signing::{
    Keyring, PresignSpec, PresignV2Spec, Rules, presign, presign_v2, verify_presigned,
};

/// As in the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What a browser sends.
const FIELDS: &str = "Host: media.example\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
    Accept: */*\r\nAccept-Language: en-US,en;q=0.5\r\nAccept-Encoding: identity\r\n\
    Referer: https://www.example/films/42\r\nConnection: keep-alive\r\n\
    Sec-Fetch-Dest: video\r\nSec-Fetch-Mode: no-cors\r\nSec-Fetch-Site: same-site\r\n\
    Range: bytes=1048576-2097151\r\n\r\n";

const LIMITS: config::Limits = config::Limits {
    request_head_bytes: 32 * 1024,
    request_fields: 100,
    min_receive_rate: None,
    min_send_rate: None,
};

fn now() -> Moment {
    Moment {
        wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000),
        monotonic: Duration::from_secs(1_000),
    }
}

fn request(target: &str) -> Request {
    let head = format!("GET {target} HTTP/1.1\r\n{FIELDS}");
    let peer = Peer::new(IpAddr::V4(Ipv4Addr::LOCALHOST), None);
    let read = read_head_from([head.as_bytes()], &LIMITS, now(), peer);
    read.expect("the head is admitted")
        .expect("the head is whole")
        .0
}

fn head(criterion: &mut Criterion) {
    criterion.bench_function("head: read and admitted", |bencher| {
        bencher.iter(|| request(black_box("/films/42/segment-0017.m4s?quality=1080")));
    });
}

fn key(criterion: &mut Criterion) {
    let request = request("/films/42/segment-0017.m4s?quality=1080");
    let rules = CacheRules::default();
    criterion.bench_function("cache key", |bencher| {
        bencher.iter(|| {
            let query = keyed_query(request.query(), &rules, AwsParameters::Plain);
            let (authority, path) = (request.authority(), request.path());
            CacheKey::new(Scheme::Https, authority, path, query.as_deref())
        });
    });
}

/// A cache of one object, and its key.
fn cache() -> (Arc<Cache>, CacheKey) {
    let yaml = "edge: { listeners: [ { address: '127.0.0.1:0' } ], \
                origins: { store: { servers: [ '127.0.0.1:1' ] } }, \
                routes: [ { path: /, origin: store, access: public } ] }";
    let checked = config::parse(yaml, Path::new(".")).expect("the configuration is valid");
    let edge = checked.config.edge.expect("there is an edge");
    let cache = Cache::new(
        &edge.cache,
        tidegate::clock::SystemClock::shared(),
        Arc::new(PurgeLog::in_memory()),
        Metrics::new().purges(),
        Places::none(),
    );
    let key = CacheKey::new(Scheme::Https, "media.example", "/films/42", None);
    let mut fields = HeaderMap::new();
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=3600"));
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("video/mp4"));
    fields.insert(ETAG, HeaderValue::from_static("\"v1\""));
    let answer = Aside {
        request: &HeaderMap::new(),
        status: StatusCode::OK,
        fields: &fields,
        requested: now(),
        received: now(),
        asked: cache.purge_sequence(),
    };
    let body = Bytes::from_static(b"0123456789");
    cache.store_whole(&key, &answer, body, &CacheRules::default());
    (cache, key)
}

fn lookup(criterion: &mut Criterion) {
    let (cache, key) = cache();
    let request = request("/films/42");
    let directives = RequestDirectives::default();
    criterion.bench_function("look-up, judged fresh", |bencher| {
        bencher.iter(|| {
            let found = cache.lookup(&key, &request.fields, &directives, now());
            assert!(matches!(found, Lookup::Hit(_)));
            found
        });
    });
    let Lookup::Hit(stored) = cache.lookup(&key, &request.fields, &directives, now()) else {
        panic!("the object is stored");
    };
    criterion.bench_function("policy: freshness of a stored response", |bencher| {
        bencher.iter(|| stored.head.freshness.judge(black_box(&directives), now()));
    });
    criterion.bench_function("policy: directives of a request", |bencher| {
        let mut fields = request.fields.clone();
        fields.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=0"));
        bencher.iter(|| RequestDirectives::of(black_box(&fields)));
    });
}

fn signature(criterion: &mut Criterion) {
    let secret = Secret::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned());
    let spec = PresignSpec {
        method: "GET",
        host: "media.example",
        path: "/films/42/segment-0017.m4s",
        query: &[],
        access_key_id: "demo",
        region: "us-east-1",
        expires: Duration::from_secs(3600),
    };
    let target = presign(&spec, &secret, now().wall).expect("the URL can be signed");
    let version_2 = PresignV2Spec {
        method: spec.method,
        host: spec.host,
        domain: None,
        path: spec.path,
        query: &[],
        headers: &HeaderMap::new(),
        access_key_id: spec.access_key_id,
        expires: spec.expires,
    };
    let target_v2 = presign_v2(&version_2, &secret, now().wall).expect("the URL can be signed");
    let requests = [
        ("signature: presigned URL", request(&target)),
        ("signature: presigned URL, Version 2", request(&target_v2)),
    ];
    let keyring = Keyring::new([("demo".to_owned(), secret)]).allow_sigv2("demo");
    let rules = Rules {
        region: Some("us-east-1"),
        clock_leeway: Duration::from_secs(60),
        domain: None,
    };
    for (name, request) in &requests {
        criterion.bench_function(name, |bencher| {
            bencher.iter(|| {
                verify_presigned(&request.signed(), &keyring, &rules, now().wall)
                    .expect("the signature is genuine")
            });
        });
    }
}

fn reply_head(criterion: &mut Criterion) {
    let status = CacheStatus::Hit {
        ttl_seconds: 3599,
        detail: None,
    };
    criterion.bench_function("head: Cache-Status written", |bencher| {
        use std::io::Write;
        let mut out = Vec::with_capacity(256);
        bencher.iter(|| {
            out.clear();
            write!(out, "{}", black_box(&status)).expect("a Vec takes every byte");
            out.len()
        });
    });
}

fn ranges(criterion: &mut Criterion) {
    let length = 1 << 30;
    criterion.bench_function("range: one, read and resolved", |bencher| {
        bencher.iter(
            || match byte_range::parse(black_box(b"bytes=1048576-2097151")) {
                byte_range::RangeRequest::Single(spec) => byte_range::resolve(spec, length),
                other => panic!("one range was read as {other:?}"),
            },
        );
    });
    criterion.bench_function("range: three, merged", |bencher| {
        bencher.iter(
            || match byte_range::parse(black_box(b"bytes=0-99,50-199,-100")) {
                byte_range::RangeRequest::Several(several) => several.parts(length),
                other => panic!("several ranges were read as {other:?}"),
            },
        );
    });
}

fn ring(criterion: &mut Criterion) {
    let servers: Vec<String> = (1..=16).map(|n| format!("'127.0.0.{n}:1'")).collect();
    let yaml = format!(
        "edge: {{ listeners: [ {{ address: '127.0.0.1:0' }} ], \
         origins: {{ store: {{ servers: [ {} ] }} }}, \
         routes: [ {{ path: /, origin: store, access: public }} ] }}",
        servers.join(", ")
    );
    let checked = config::parse(&yaml, Path::new(".")).expect("the configuration is valid");
    let edge = checked.config.edge.expect("there is an edge");
    let ring = OriginRing::new(&edge.origins[0]).expect("all servers are addresses");
    let key = CacheKey::new(Scheme::Https, "media.example", "/films/42", None);
    criterion.bench_function("ring: the owner of a key among 16 servers", |bencher| {
        bencher.iter(|| {
            let mut candidates = ring.candidates(black_box(key.as_bytes()));
            candidates.next().map(|server| server.is_healthy())
        });
    });
}

criterion_group!(
    steps,
    head,
    key,
    lookup,
    signature,
    credentials::credentials,
    reply_head,
    ranges,
    ring
);
criterion_main!(steps);
