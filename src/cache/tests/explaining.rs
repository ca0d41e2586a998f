//! What is explained is what is served, and explaining changes nothing.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use http::HeaderMap;

use super::super::explain::{KeyState, Refusal};
use super::super::fetch::Framing;
use super::super::policy::blocks::BLOCK_BYTES;
use super::super::policy::cache_control::RequestDirectives;
use super::super::policy::freshness::LifetimeSource;
use super::super::policy::storable::NotStored;
use super::super::purge::{Order, Severity};
use super::super::{Allowance, Lookup, Miss};
use super::{World, drain};
use crate::byte_range::RangeRequest;
use crate::clock::Clock;
use crate::config::CacheRules;

impl World {
    fn explain(&self, selecting: &[(&'static str, &str)]) -> KeyState {
        let request = self.request(selecting);
        let directives = RequestDirectives::default();
        let rules = CacheRules::default();
        let now = self.clock.now();
        let known = self.cache.known(&self.key);
        let known = known.now_or_never().expect("memory-does-not-wait");
        (self.cache).explain(
            &known,
            &self.key,
            &request.selecting,
            &directives,
            &rules,
            now,
        )
    }

    /// One request whose answer is `body` with `fields`.
    async fn bring(&self, status: u16, fields: &[(&'static str, &str)], body: &[u8]) {
        let length = body.len() as u64;
        let feed = self.origin.respond(status, Framing::Length(length), fields);
        feed.send(Ok(Bytes::copy_from_slice(body))).unwrap();
        drop(feed);
        let ask = self.ask(&[("x-a", "1")], RangeRequest::Whole);
        let mut answer = self.cache.fetch(ask).await.unwrap();
        drain(&mut self.reader(&mut answer, 0..length))
            .await
            .unwrap();
        self.settle().await;
    }
}

const TAGGED: [(&str, &str); 3] = [
    ("cache-control", "max-age=60"),
    ("etag", "\"v1\""),
    ("cache-tag", "t"),
];

#[tokio::test]
async fn an_unknown_key_has_nothing_to_tell() {
    let state = World::new().explain(&[]);
    assert!(matches!(state.lookup, Lookup::Miss(Miss::Key)));
    assert!(state.variants.is_empty() && state.chosen.is_none());
    assert_eq!(
        (state.refused, state.passes_for, state.under_way),
        (None, None, 0)
    );
}

#[tokio::test]
async fn lifetime_is_told_with_what_it_was_read_from() {
    const STORED: (&str, &str) = ("etag", "\"v1\"");
    const MODIFIED: (&str, &str) = ("last-modified", "Thu, 01 Jan 1970 00:00:00 GMT");
    const AN_HOUR_LATER: (&str, &str) = ("date", "Thu, 01 Jan 1970 01:00:00 GMT");
    for (fields, source, seconds, field) in [
        (
            &[("cache-control", "max-age=9")][..],
            LifetimeSource::MaxAge,
            9,
            None,
        ),
        (
            &[("cache-control", "max-age=9, s-maxage=8")],
            LifetimeSource::SMaxage,
            8,
            None,
        ),
        (
            &[
                ("cache-control", "max-age=9"),
                ("cdn-cache-control", "max-age=7"),
            ],
            LifetimeSource::MaxAge,
            7,
            Some("cdn-cache-control"),
        ),
        (
            &[("expires", "Thu, 01 Jan 1970 00:00:06 GMT")],
            LifetimeSource::Expires,
            6,
            None,
        ),
        (
            &[MODIFIED, AN_HOUR_LATER, STORED],
            LifetimeSource::LastModified,
            360,
            None,
        ),
        (&[STORED, MODIFIED], LifetimeSource::DefaultTtl, 60, None),
        (&[STORED], LifetimeSource::Nothing, 0, None),
    ] {
        let world = World::new();
        world.bring(200, fields, b"x").await;
        world.clock.advance(Duration::from_secs(2));
        let chosen = world.explain(&[]).chosen.unwrap();
        assert_eq!(chosen.source, source, "{fields:?}");
        assert_eq!(
            chosen.before_jitter,
            Duration::from_secs(seconds),
            "{fields:?}"
        );
        assert_eq!(chosen.resident, Duration::from_secs(2));
        assert_eq!(
            chosen.targeted_field.as_ref().map(|field| field.as_str()),
            field
        );
        assert!(chosen.freshness.lifetime.duration() <= chosen.before_jitter);
    }
}

#[tokio::test]
async fn purges_are_told_and_not_carried_out() {
    for (soft, severity) in [(true, Severity::Soft), (false, Severity::Hard)] {
        let world = World::new();
        world.bring(200, &TAGGED, b"x").await;
        let order = format!(r#"{{"tag": "t", "soft": {soft}}}"#);
        let order = Order::parse(order.as_bytes()).unwrap();
        world
            .cache
            .purges
            .append(&order, world.clock.wall())
            .unwrap();
        for _ in 0..2 {
            let state = world.explain(&[]);
            let chosen = state.chosen.as_ref().unwrap();
            assert_eq!(chosen.purged, Some(severity));
            assert_eq!(chosen.latest_purge.number(), 1);
            let stale = matches!(state.lookup, Lookup::Stale { .. });
            let missed = matches!(state.lookup, Lookup::Miss(Miss::Key));
            assert_eq!((stale, missed), (soft, !soft));
        }
    }
}

#[tokio::test]
async fn the_reason_is_told_for_longer_than_requests_pass_and_no_longer_than_it_is_true() {
    let world = World::new();
    world
        .bring(200, &[("cache-control", "private")], b"x")
        .await;
    let told = |world: &World| {
        let state = world.explain(&[]);
        let why = state.refused.map(|Refusal { why, .. }| why);
        (why, state.passes_for.is_some())
    };
    let private = Some(NotStored::Private);
    assert_eq!(told(&world), (private, true));
    world.clock.advance(Duration::from_secs(10));
    assert_eq!(told(&world), (private, false));
    assert!(matches!(world.lookup(&[]), Lookup::Miss(Miss::Key)));
    world.clock.advance(Duration::from_secs(589));
    assert_eq!(told(&world), (private, false));
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(told(&world), (None, false));
    world.bring(500, &[], b"x").await;
    assert_eq!(told(&world), (Some(NotStored::Status), false));
    world.bring(200, &TAGGED, b"x").await;
    assert_eq!(told(&world), (None, false));
}

#[tokio::test]
async fn blocks_and_fills_are_counted() {
    let world = World::new();
    let body = vec![7; 2 * BLOCK_BYTES as usize + 1];
    world.bring(200, &TAGGED, &body).await;
    let held = world.explain(&[]).chosen.unwrap().bytes;
    assert_eq!((held.blocks_present, held.blocks_looked_for), (3, 3));
    assert_eq!(held.length, Some(body.len() as u64));
    assert!(!held.is_whole && held.can_be_completed && held.fills.is_empty());

    let world = World::new();
    let length = body.len() as u64;
    let feed = world.origin.respond(200, Framing::Length(length), &TAGGED);
    feed.send(Ok(Bytes::copy_from_slice(&body[..BLOCK_BYTES as usize])))
        .unwrap();
    let ask = world.ask(&[], RangeRequest::Whole);
    let mut answer = world.cache.fetch(ask).await.unwrap();
    let mut reader = world.reader(&mut answer, 0..length);
    assert!(reader.next().await.unwrap().is_some());
    let state = world.explain(&[]);
    assert_eq!(state.under_way, 1);
    let held = state.chosen.unwrap().bytes;
    assert_eq!(
        (held.fills.len(), held.fills[0].clone()),
        (1, 0..BLOCK_BYTES)
    );
    assert!(held.blocks_present < held.blocks_looked_for);
}

#[tokio::test]
async fn the_variant_that_answers_is_chosen_and_the_others_say_why_not() {
    let world = World::new();
    let varies = [("cache-control", "max-age=60"), ("vary", "x-a")];
    world.bring(200, &varies, b"x").await;
    let state = world.explain(&[("x-a", "2")]);
    assert!(matches!(state.lookup, Lookup::Miss(Miss::Variant)));
    let difference = state.variants[0].difference.as_ref().unwrap();
    assert_eq!(difference.stored.as_deref(), Some("1"));
    assert_eq!(difference.asked.as_deref(), Some("2"));
    let state = world.explain(&[("x-a", "1")]);
    assert!(state.variants[0].is_chosen && state.variants[0].difference.is_none());
    assert!(matches!(state.lookup, Lookup::Hit(_)));
}

#[tokio::test]
async fn what_lets_a_stale_response_answer_is_told_apart() {
    let world = World::new();
    let fields = [
        ("cache-control", "max-age=1, stale-while-revalidate=9"),
        ("etag", "\"v1\""),
    ];
    world.bring(200, &fields, b"x").await;
    world.clock.advance(Duration::from_secs(2));
    assert!(matches!(
        world.explain(&[]).lookup,
        Lookup::WhileRevalidating(_)
    ));
    let tolerant = RequestDirectives {
        max_stale: Some(5),
        ..RequestDirectives::default()
    };
    let now = world.clock.now();
    let found = world
        .cache
        .lookup(&world.key, &HeaderMap::new(), &tolerant, now);
    assert!(matches!(found, Lookup::StaleHit(_, Allowance::MaxStale)));
    let chosen = world.explain(&[]).chosen.unwrap();
    chosen.response.head.note_failed_validation(now.monotonic);
    let state = world.explain(&[]);
    let why = |lookup: &Lookup| match lookup {
        Lookup::StaleHit(_, why) => Some(*why),
        _ => None,
    };
    assert_eq!(why(&state.lookup), Some(Allowance::WhileRevalidating));
    let pause = state.chosen.unwrap().failed_validation_pause;
    assert_eq!(pause, Duration::from_secs(5));
    world.clock.advance(Duration::from_secs(20));
    let now = world.clock.now();
    Arc::clone(&chosen.response)
        .head
        .note_failed_validation(now.monotonic);
    assert_eq!(why(&world.explain(&[]).lookup), Some(Allowance::IfError));
}
