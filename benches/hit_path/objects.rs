//! What a look-up costs, from a thousand to ten million stored responses.
//!
//! `cargo bench --bench objects` fills a memory tier with responses of tiny bodies, ten times as many each
//! time, and looks up a million of them in no order; ten million take 15 GiB. `-- --quick` ends at a
//! million, and `cargo test` at ten thousand, so that it keeps working. `benches/README.md` has results.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::StatusCode;
use http::header::{CACHE_CONTROL, ETAG, HeaderMap, HeaderValue};

use tidegate::cache::policy::cache_control::RequestDirectives;
use tidegate::cache::purge::PurgeLog;
use tidegate::cache::{Aside, Cache, CacheKey, Lookup, Places, Scheme};
use tidegate::clock::Moment;
use tidegate::config::{self, CacheRules};
use tidegate::observe::Metrics;

/// As in the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Look-ups for each number of objects.
const LOOKUPS: u64 = 1_000_000;

/// Look-ups go round among so many of the objects.
const POPULAR: u64 = 1_000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |argument: &str| arguments.iter().any(|given| given == argument);
    // Cargo says `--bench` unless the tests are run.
    let (most, lookups) = match (has("--bench"), has("--quick")) {
        (true, false) => (10_000_000, LOOKUPS),
        (true, true) => (1_000_000, LOOKUPS),
        (false, _) => (10_000, LOOKUPS / 100),
    };
    println!("objects     any of them   {POPULAR} of them   resident  by its own count");
    let cache = cache();
    let mut stored = 0;
    let mut objects = 1_000;
    while objects <= most {
        for number in stored..objects {
            store(&cache, number);
        }
        stored = objects;
        assert_eq!(cache.memory().objects(), objects);
        let any = time(&cache, lookups, |number| scatter(number) % objects);
        let popular = time(&cache, lookups, |number| scatter(number) % POPULAR);
        println!(
            "{objects:>10}  {any:>7.0} ns     {popular:>7.0} ns        {} MiB  {} MiB",
            resident_mib(),
            cache.memory().bytes() >> 20
        );
        objects *= 10;
    }
}

fn cache() -> Arc<Cache> {
    let yaml = "edge: { listeners: [ { address: '127.0.0.1:0' } ], \
                origins: { store: { servers: [ '127.0.0.1:1' ] } }, \
                routes: [ { path: /, origin: store, access: public } ], \
                cache: { memory: 64GiB } }";
    let checked = config::parse(yaml, Path::new(".")).expect("the configuration is valid");
    let edge = checked.config.edge.expect("there is an edge");
    Cache::new(
        &edge.cache,
        tidegate::clock::SystemClock::shared(),
        Arc::new(PurgeLog::in_memory()),
        Metrics::new().purges(),
        Places::none(),
    )
}

fn key(number: u64) -> CacheKey {
    CacheKey::new(
        Scheme::Https,
        "media.example",
        &format!("/o/{number}"),
        None,
    )
}

fn store(cache: &Cache, number: u64) {
    let mut fields = HeaderMap::new();
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=3600"));
    fields.insert(ETAG, HeaderValue::from_static("\"v1\""));
    let answer = Aside {
        request: &HeaderMap::new(),
        status: StatusCode::OK,
        fields: &fields,
        requested: now(),
        received: now(),
        asked: cache.purge_sequence(),
    };
    let body = Bytes::copy_from_slice(&number.to_be_bytes());
    cache.store_whole(&key(number), &answer, body, &CacheRules::default());
}

/// Nanoseconds for one of `lookups` look-ups of the objects that `choose` names.
fn time(cache: &Cache, lookups: u64, choose: impl Fn(u64) -> u64) -> f64 {
    let (fields, directives) = (HeaderMap::new(), RequestDirectives::default());
    let mut took = Vec::new();
    for chunk in 0..lookups / 1_000 {
        // Keys are made beforehand, and in no larger number than a processor's cache has room for.
        let keys: Vec<CacheKey> = (0..1_000)
            .map(|number| key(choose(chunk * 1_000 + number)))
            .collect();
        let began = Instant::now();
        for key in &keys {
            let found = cache.lookup(key, &fields, &directives, now());
            let Lookup::Hit(response) = found else {
                panic!("an object that was stored is not there");
            };
            assert!(response.body.length() == Some(8));
        }
        took.push(began.elapsed());
    }
    // The median: while one chunk is looked up, the tier may tidy up, or the machine do something else.
    took.sort();
    took[took.len() / 2].as_nanos() as f64 / 1_000.0
}

fn now() -> Moment {
    Moment {
        wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000),
        monotonic: Duration::from_secs(1_000),
    }
}

/// Spreads consecutive numbers (the finaliser of SplitMix64).
fn scatter(number: u64) -> u64 {
    let mut mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kib.unwrap_or_default() / 1024
}
