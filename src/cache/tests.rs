//! The engine against a scripted origin: what every client may see, whatever happens meanwhile.

use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;

use super::fetch::{FetchError, Framing, Phase};
use super::fill::FillError;
use super::policy::blocks::BLOCK_BYTES;
use super::policy::storable::NotStored;
use super::*;
use crate::byte_range::{RangeRequest, RangeSpec};
use world::{FRESH, ScriptedOrigin, World, drain, noise};

mod ending;
mod explaining;
mod left_in_files;
mod take_over;
mod world;

fn range(first: u64, last: u64) -> RangeRequest {
    RangeRequest::Single(RangeSpec::From {
        first,
        last: Some(last),
    })
}

#[tokio::test]
async fn concurrent_misses_make_one_request_and_all_stream() {
    let world = World::new();
    let feed = world.origin.respond(200, Framing::Length(6), &[FRESH]);
    let mut answers = Vec::new();
    for client in 0..20 {
        let answer = world.fetch_whole().await;
        assert_eq!(answer.collapsed, client > 0);
        answers.push(answer);
    }
    let readers = answers.iter_mut().map(|answer| world.reader(answer, 0..6));
    let mut readers: Vec<_> = readers.collect();
    feed.send(Ok(Bytes::from_static(b"abc"))).unwrap();
    for reader in &mut readers {
        // The origin has not finished: waiters read what there is.
        assert_eq!(reader.next().await.unwrap().unwrap(), "abc");
    }
    feed.send(Ok(Bytes::from_static(b"def"))).unwrap();
    drop(feed);
    for reader in &mut readers {
        assert_eq!(drain(reader).await.unwrap(), b"def");
    }
    world.settle().await;
    assert_eq!(world.origin.requests(), 1);
    assert_eq!(
        drain(&mut world.read(&world.hit(), None, 0..6))
            .await
            .unwrap(),
        b"abcdef"
    );
}

#[tokio::test]
async fn a_client_that_comes_in_the_middle_of_a_block_shares_the_fill() {
    let world = World::new();
    let body = noise(3 * BLOCK_BYTES as usize);
    let len = body.len() as u64;
    let fields = [FRESH, ("etag", "\"v1\"")];
    let feed = world.origin.respond(200, Framing::Length(len), &fields);
    let mut answer = world.fetch_whole().await;
    let response = answer.response.clone();
    let mut first = world.reader(&mut answer, 0..len);
    let parts: Vec<_> = body.chunks(100_000).map(Bytes::copy_from_slice).collect();
    let mut late = Vec::new();
    let mut seen = Vec::new();
    for part in &parts {
        feed.send(Ok(part.clone())).unwrap();
        if part.len() == 100_000 {
            // All that has come is read, so that the fill need not keep it for its reader.
            let bytes = first.next().await.unwrap().unwrap();
            seen.extend_from_slice(&bytes);
            assert!(Arc::ptr_eq(&world.hit(), &response));
            assert_eq!(world.cache.holds(&response, &(0..len)), Holding::Arriving);
            let mut reader = world.read(&response, None, 0..len);
            let start = reader.next().await.unwrap().unwrap();
            late.push((reader, start.to_vec()));
        }
    }
    drop(feed);
    seen.extend(drain(&mut first).await.unwrap());
    assert!(seen == body);
    for (mut reader, mut seen) in late {
        seen.extend(drain(&mut reader).await.unwrap());
        assert!(seen == body);
    }
    assert_eq!(world.origin.requests(), 1);
}

#[tokio::test]
async fn a_reader_that_knows_an_end_from_the_body_itself_still_hears_of_it_from_the_fill() {
    let world = World::new();
    let feed = world.origin.respond(200, Framing::Chunked, &[FRESH]);
    let mut answer = world.fetch_whole().await;
    // Whoever asks for the length a moment before the response is stored finds it already.
    let response = answer.response.clone();
    let mut reader = world.reader(&mut answer, 0..3);
    feed.send(Ok(Bytes::from_static(b"abc"))).unwrap();
    assert_eq!(reader.next().await.unwrap().unwrap(), "abc");
    response.body.set_length(3);
    assert!(reader.next().now_or_never().is_none());
    drop(feed);
    assert_eq!(reader.next().await.unwrap(), None);
    world.hit();
}

#[tokio::test]
async fn bytes_that_arrived_are_shown_when_the_origin_pauses_and_before_it_fails() {
    for stored in [true, false] {
        let world = World::new();
        let fields = [(
            "cache-control",
            if stored { "max-age=60" } else { "no-store" },
        )];
        let feed = world.origin.respond(200, Framing::Length(12), &fields);
        let mut answer = world.fetch_whole().await;
        let mut reader = world.reader(&mut answer, 0..12);
        let mut seen = Vec::new();
        for part in ["abc", "def"] {
            feed.send(Ok(Bytes::from_static(part.as_bytes()))).unwrap();
            while !seen.ends_with(part.as_bytes()) {
                seen.extend_from_slice(&reader.next().await.unwrap().unwrap());
            }
        }
        feed.send(Ok(Bytes::from_static(b"ghi"))).unwrap();
        feed.send(Err(FetchError::Abandoned)).unwrap();
        let mut last = Vec::new();
        while let Ok(bytes) = reader.next().await {
            last.extend_from_slice(&bytes.unwrap());
        }
        assert_eq!(last, b"ghi", "stored: {stored}");
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_an_error_for_its_readers_and_is_not_stored() {
    for framing in [Framing::Length(6), Framing::Chunked] {
        let world = World::new();
        let feed = world.origin.respond(200, framing, &[FRESH]);
        let mut answer = world.fetch_whole().await;
        let mut reader = world.reader(&mut answer, 0..6);
        feed.send(Ok(Bytes::from_static(b"abc"))).unwrap();
        assert_eq!(reader.next().await.unwrap().unwrap(), "abc");
        let broken = FetchError::Broken {
            server: Arc::from("scripted"),
            phase: Phase::ReadingBody,
            reason: "reset".to_owned(),
        };
        feed.send(Err(broken.clone())).unwrap();
        let error = reader.next().await.unwrap_err();
        assert_eq!(error, BodyError::Fill(FillError::Origin(broken)));
        world.settle().await;
        assert!(matches!(world.lookup(&[]), Lookup::Miss(Miss::Key)));
    }
}

#[tokio::test]
async fn a_body_shorter_or_longer_than_announced_never_looks_complete() {
    let bodies: [&[&'static str]; 4] = [&["abc"], &["abcdefg"], &["abcdef", "g"], &["abc", "defg"]];
    for (sent, directive) in bodies
        .into_iter()
        .flat_map(|sent| [(sent, "max-age=60"), (sent, "no-store")])
    {
        let world = World::new();
        let fields = [("cache-control", directive)];
        let feed = world.origin.respond(200, Framing::Length(6), &fields);
        for chunk in sent {
            feed.send(Ok(Bytes::from_static(chunk.as_bytes()))).unwrap();
        }
        drop(feed);
        let mut answer = world.fetch_whole().await;
        let mut reader = world.reader(&mut answer, 0..6);
        let error = drain(&mut reader).await.unwrap_err();
        if sent == ["abc"] {
            let truncated = matches!(error, BodyError::Fill(FillError::Truncated { .. }));
            assert!(truncated, "{error:?}");
        }
        world.settle().await;
        assert!(matches!(world.lookup(&[]), Lookup::Miss(_)));
    }
}

#[tokio::test]
async fn a_cold_range_fetches_its_blocks_only_and_a_second_range_the_missing_ones() {
    let world = World::new();
    let block = BLOCK_BYTES as usize;
    let body = noise(5 * block + 100);
    world.origin.respond_part(&body, block..3 * block, "\"v1\"");
    let (first, last) = (BLOCK_BYTES + 10, 2 * BLOCK_BYTES + 10);
    let mut answer = world
        .cache
        .fetch(world.ask(&[], range(first, last)))
        .await
        .unwrap();
    let got = drain(&mut world.reader(&mut answer, first..last + 1))
        .await
        .unwrap();
    assert_eq!(got, body[first as usize..=last as usize]);
    let asked = format!("bytes={}-{}", block, 3 * block - 1);
    assert_eq!(world.origin.sent(0, "range"), Some(asked));
    world.settle().await;

    // Blocks 1 and 2 are here; the rest of the body comes in two pinned pieces.
    world.origin.respond_part(&body, 0..block, "\"v1\"");
    world
        .origin
        .respond_part(&body, 3 * block..body.len(), "\"v1\"");
    let response = world.hit();
    assert_eq!(
        world.cache.holds(&response, &(0..body.len() as u64)),
        Holding::Part
    );
    let got = drain(&mut world.read(&response, None, 0..body.len() as u64))
        .await
        .unwrap();
    assert!(got == body);
    assert_eq!(world.origin.sent(1, "if-range").as_deref(), Some("\"v1\""));
    assert_eq!(
        world.origin.sent(1, "range"),
        Some(format!("bytes=0-{}", block - 1))
    );
    assert_eq!(
        world.origin.sent(2, "range"),
        Some(format!("bytes={}-{}", 3 * block, body.len() - 1))
    );
    world.settle().await;
    assert_eq!(
        world.cache.holds(&world.hit(), &(0..body.len() as u64)),
        Holding::Whole
    );
    assert_eq!(world.origin.requests(), 3);
}

#[tokio::test]
async fn versions_never_mix_when_the_object_changes_under_a_reader() {
    let world = World::new();
    let block = BLOCK_BYTES as usize;
    let (old, new) = (vec![b'o'; 3 * block], vec![b'n'; 3 * block]);
    world.origin.respond_part(&old, 0..block, "\"old\"");
    let mut answer = world
        .cache
        .fetch(world.ask(&[], range(0, 1)))
        .await
        .unwrap();
    let mut reader = world.reader(&mut answer, 0..3 * BLOCK_BYTES);
    world.origin.respond_part(&new, block..3 * block, "\"new\"");
    let mut got = Vec::new();
    let error = loop {
        match reader.next().await {
            Ok(Some(bytes)) => got.extend_from_slice(&bytes),
            Ok(None) => panic!("a mixture was passed off as a whole"),
            Err(error) => break error,
        }
    };
    assert_eq!(error, BodyError::Fill(FillError::Changed));
    assert!(got.iter().all(|byte| *byte == b'o'));
    world.settle().await;
    assert!(matches!(world.lookup(&[]), Lookup::Miss(Miss::Key)));
}

#[tokio::test]
async fn a_stale_response_is_validated_once_and_keeps_its_body() {
    let world = World::new();
    let stored = [FRESH, ("etag", "\"v1\""), ("x-kept", "1")];
    let feed = world.origin.respond(200, Framing::Length(3), &stored);
    feed.send(Ok(Bytes::from_static(b"abc"))).unwrap();
    drop(feed);
    let mut answer = world.fetch_whole().await;
    drain(&mut world.reader(&mut answer, 0..3)).await.unwrap();
    world.settle().await;
    world.clock.advance(Duration::from_secs(61));
    let Lookup::Stale {
        response: stale, ..
    } = world.lookup(&[])
    else {
        panic!("it should be stale");
    };
    drop(
        world
            .origin
            .respond(304, Framing::Length(0), &[("cache-control", "max-age=600")]),
    );
    let mut ask = world.ask(&[], RangeRequest::Whole);
    ask.stale = Some(stale.into());
    let mut answer = world.cache.fetch(ask).await.unwrap();
    assert_eq!(
        world.origin.sent(1, "if-none-match").as_deref(),
        Some("\"v1\"")
    );
    assert_eq!(answer.forward_status, Some(StatusCode::NOT_MODIFIED));
    assert_eq!(answer.response.head.status, StatusCode::OK);
    assert_eq!(answer.response.head.fields["x-kept"], "1");
    assert_eq!(
        drain(&mut world.reader(&mut answer, 0..3)).await.unwrap(),
        b"abc"
    );
    world.hit();
}

#[tokio::test]
async fn what_is_invalidated_while_it_arrives_is_not_stored() {
    let world = World::new();
    let feed = world.origin.respond(200, Framing::Length(3), &[FRESH]);
    let mut answer = world.fetch_whole().await;
    world.cache.invalidate(&world.key);
    feed.send(Ok(Bytes::from_static(b"old"))).unwrap();
    drop(feed);
    assert_eq!(
        drain(&mut world.reader(&mut answer, 0..3)).await.unwrap(),
        b"old"
    );
    world.settle().await;
    assert!(matches!(world.lookup(&[]), Lookup::Miss(Miss::Key)));
}

#[tokio::test]
async fn a_private_response_is_not_shared_with_those_who_waited() {
    let world = World::new();
    let private = [("cache-control", "private, max-age=60")];
    for body in ["a", "b"] {
        let feed = world.origin.respond(200, Framing::Length(1), &private);
        feed.send(Ok(Bytes::from_static(body.as_bytes()))).unwrap();
    }
    let ask = || world.cache.fetch(world.ask(&[], RangeRequest::Whole));
    let (first, second) = tokio::join!(ask(), ask());
    let mut bodies = Vec::new();
    for mut answer in [first.unwrap(), second.unwrap()] {
        assert_eq!(answer.response.head.not_stored, Some(NotStored::Private));
        bodies.push(drain(&mut world.reader(&mut answer, 0..1)).await.unwrap());
    }
    bodies.sort();
    assert_eq!(bodies, [b"a", b"b"]);
    assert_eq!(world.origin.requests(), 2);
    // Nobody waits for anybody now.
    assert!(matches!(world.lookup(&[]), Lookup::Miss(Miss::Pass)));
}

#[tokio::test]
async fn variants_are_kept_apart_even_while_they_arrive() {
    let world = World::new();
    let varies = [FRESH, ("vary", "accept-language")];
    for body in ["en", "de"] {
        let feed = world.origin.respond(200, Framing::Length(2), &varies);
        feed.send(Ok(Bytes::from_static(body.as_bytes()))).unwrap();
    }
    let ask = |language| {
        let ask = world.ask(&[("accept-language", language)], RangeRequest::Whole);
        world.cache.fetch(ask)
    };
    let (first, second) = tokio::join!(ask("en"), ask("de"));
    let first = drain(&mut world.reader(&mut first.unwrap(), 0..2))
        .await
        .unwrap();
    let second = drain(&mut world.reader(&mut second.unwrap(), 0..2))
        .await
        .unwrap();
    assert_eq!((&first[..], &second[..]), (&b"en"[..], &b"de"[..]));
    world.settle().await;
    for (language, body) in [("en", b"en"), ("de", b"de")] {
        let Lookup::Hit(response) = world.lookup(&[("accept-language", language)]) else {
            panic!("{language} should be stored");
        };
        assert_eq!(
            drain(&mut world.read(&response, None, 0..2)).await.unwrap(),
            body
        );
    }
    let french = world.lookup(&[("accept-language", "fr")]);
    assert!(matches!(french, Lookup::Miss(Miss::Variant)));
}

#[tokio::test]
async fn a_fill_outlives_the_client_that_started_it() {
    let world = World::new();
    let feed = world.origin.respond(200, Framing::Length(6), &[FRESH]);
    let starter = world.fetch_whole().await;
    let mut waiter = world.fetch_whole().await;
    drop(starter);
    let mut reader = world.reader(&mut waiter, 0..6);
    feed.send(Ok(Bytes::from_static(b"abc"))).unwrap();
    assert_eq!(reader.next().await.unwrap().unwrap(), "abc");
    // Nearly done: it is finished even when nobody reads any more.
    drop(reader);
    feed.send(Ok(Bytes::from_static(b"def"))).unwrap();
    drop(feed);
    world.settle().await;
    assert_eq!(
        drain(&mut world.read(&world.hit(), None, 0..6))
            .await
            .unwrap(),
        b"abcdef"
    );
}

#[tokio::test]
async fn a_fill_that_nobody_reads_is_abandoned_when_much_is_missing() {
    let world = World::new();
    let length = 64 << 20;
    let feed = world
        .origin
        .respond(200, Framing::Length(length), &[FRESH, ("etag", "\"a\"")]);
    let answer = world.fetch_whole().await;
    feed.send(Ok(Bytes::from(vec![0; 1000]))).unwrap();
    drop(answer);
    feed.closed().await;
}

#[tokio::test]
async fn an_origin_that_fails_fails_everyone_who_waits_and_nobody_after() {
    let world = World::new();
    let first = world.ask(&[], RangeRequest::Whole);
    // 304 without a condition is no answer.
    drop(world.origin.respond(304, Framing::Length(0), &[]));
    let error = world.cache.fetch(first).await.err().unwrap();
    assert!(matches!(error, FetchError::Invalid { .. }));
    let feed = world.origin.respond(200, Framing::Length(1), &[FRESH]);
    feed.send(Ok(Bytes::from_static(b"a"))).unwrap();
    drop(feed);
    let mut answer = world.fetch_whole().await;
    assert_eq!(
        drain(&mut world.reader(&mut answer, 0..1)).await.unwrap(),
        b"a"
    );
}
