//! What holds for a client that has its answer to the end and comes back at once.

use bytes::Bytes;

use super::super::fetch::Framing;
use super::super::{Answer, BodyReader, Lookup};
use super::{FRESH, World, drain};
use crate::byte_range::RangeRequest;

/// Two threads, as a client comes back while the task that brought its answer is still ending.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_joins_a_request_whose_answer_has_been_read_to_its_end() {
    let world = World::new();
    for round in 0..1_500 {
        let (status, framing) = match round % 3 {
            0 => (200, Framing::Length(3)),
            1 => (200, Framing::Chunked),
            _ => (304, Framing::Length(0)),
        };
        let mut ask = world.ask(&[], RangeRequest::Whole);
        if status == 304 {
            ask.stale = Some(world.hit());
            ask.directives.no_cache = true;
        } else {
            world.cache.invalidate(&world.key);
        }
        let feed = world.origin.respond(status, framing, &[FRESH]);
        if status == 200 {
            feed.send(Ok(Bytes::from_static(b"one"))).unwrap();
        }
        drop(feed);
        let answer = match world.cache.fetch(ask).await {
            Ok(answer) => answer,
            Err(error) => panic!("{error}, {round}"),
        };
        let Answer {
            response, reader, ..
        } = answer;
        // To the end, wherever that is: the length of chunks is not known before.
        let mut reader = BodyReader::new(&world.cache, &response, 0, None, reader, None);
        assert_eq!(drain(&mut reader).await.unwrap(), b"one");
        let under_way = world.cache.collapser.under_way(&world.key);
        assert_eq!(under_way, 0, "landed-before-seen-whole, {round}");
        let stored = matches!(world.lookup(&[]), Lookup::Hit(_));
        assert!(stored, "stored-before-seen-whole, {round}");
    }
}
