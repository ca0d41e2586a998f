//! Bodies that lie with their heads on disk and are sent from there.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

use super::super::disk::folder::RealFolder;
use super::super::disk::log::LogSizes;
use super::super::disk::{Bodies, DiskTier};
use super::super::fetch::Framing;
use super::super::read::Piece;
use super::super::{BodyReader, Lookup, StoredResponse, tasks};
use super::{FRESH, World, drain, noise};
use crate::cache::policy::cache_control::RequestDirectives;
use crate::clock::{Clock, ManualClock};

const SIZES: LogSizes = LogSizes {
    segment_bytes: 1 << 20,
    limit_bytes: 16 << 20,
};

/// A cache that has nothing in memory and uses the disk tier in `folder`.
fn world(folder: &Path) -> World {
    let clock = ManualClock::at(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1 << 30));
    let folder = Arc::new(RealFolder::new(folder));
    let disk = DiskTier::new(folder, SIZES, clock.clone(), Box::new(|| Ok(())));
    World::before(Some(Arc::new(disk)), clock, Box::new(tasks::OnTokio))
}

/// A folder in which the disk tier left a response with `body`.
async fn stored(body: &[u8]) -> tempfile::TempDir {
    stored_with(body, &[FRESH]).await
}

async fn stored_with(body: &[u8], fields: &[(&'static str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let world = world(folder.path());
    let framing = Framing::Length(body.len() as u64);
    let feed = world.origin.respond(200, framing, fields);
    feed.send(Ok(Bytes::copy_from_slice(body))).unwrap();
    drop(feed);
    let mut answer = world.fetch_whole().await;
    let mut reader = world.reader(&mut answer, 0..body.len() as u64);
    assert!(drain(&mut reader).await.unwrap() == body);
    world.cache.close().await;
    folder
}

/// What is found on disk, for one request.
async fn recalled(world: &World, bodies: Bodies) -> Arc<StoredResponse> {
    let found = world.cache.recollect(&world.key, bodies).await.unwrap();
    assert_eq!(
        found.leaves_bodies_in_files(),
        bodies == Bodies::LeftInFiles
    );
    let request = world.request(&[]);
    let directives = RequestDirectives::default();
    let now = world.clock.now();
    let entry = found.entry();
    match (world.cache).lookup_in(entry, &world.key, &request.selecting, &directives, now) {
        Lookup::Hit(response) => response.into(),
        _ => panic!("no hit"),
    }
}

fn reader<'a>(
    world: &'a World,
    response: &'a Arc<StoredResponse>,
    span: std::ops::Range<u64>,
) -> BodyReader<'a> {
    let (start, end) = (span.start, Some(span.end));
    BodyReader::new(&world.cache, response, start, end, None, None)
}

#[tokio::test]
async fn body_is_sent_from_its_file_or_read_when_that_fails() {
    let body = noise(20_000);
    let folder = stored(&body).await;
    let world = world(folder.path());
    let whole = recalled(&world, Bodies::Read).await;
    assert!(whole.body.whole().unwrap().bytes() == body);
    for span in [0..20_000, 5_000..19_000] {
        let response = recalled(&world, Bodies::LeftInFiles).await;
        assert_eq!(response.memory_bytes() / 1000, whole.memory_bytes() / 1000);
        let mut reader = reader(&world, &response, span.clone());
        let piece = reader.next_piece(true).await.unwrap();
        let Some(Piece::File(file)) = piece else {
            panic!("{piece:?}");
        };
        assert_eq!(file.remaining(), span.end - span.start);
        assert!(reader.next_piece(true).await.unwrap().is_none());
        assert_eq!(reader.from_disk, span.end - span.start);
        // Ten bytes could not be sent.
        reader.unread_from_file(10);
        let rest = drain(&mut reader).await.unwrap();
        assert!(rest == body[span.end as usize - 10..span.end as usize]);
        assert_eq!(reader.from_disk, span.end - span.start);
    }
}

#[tokio::test]
async fn file_is_given_to_one_reader_and_not_kept_by_the_response() {
    let body = noise(20_000);
    let folder = stored(&body).await;
    let world = world(folder.path());
    let response = recalled(&world, Bodies::LeftInFiles).await;
    assert!(response.body.take_file().is_some());
    assert!(response.body.take_file().is_none());
}

#[tokio::test]
async fn body_behind_a_head_of_any_length_is_left_in_its_file() {
    for length in [100, 900, 1_000, 5_000, 30_000] {
        let long = "x".repeat(length);
        let body = noise(20_000);
        let folder = stored_with(&body, &[FRESH, ("x-long", &long)]).await;
        let world = world(folder.path());
        let response = recalled(&world, Bodies::LeftInFiles).await;
        assert_eq!(response.head.fields["x-long"], long);
        let mut reader = reader(&world, &response, 0..20_000);
        let piece = reader.next_piece(true).await.unwrap();
        let Some(Piece::File(file)) = piece else {
            panic!("{piece:?}");
        };
        assert!(file.read().unwrap() == body);
    }
}

#[tokio::test]
async fn short_body_is_read() {
    let folder = stored(&noise(4_000)).await;
    let world = world(folder.path());
    let found = world.cache.recollect(&world.key, Bodies::LeftInFiles).await;
    assert!(!found.unwrap().leaves_bodies_in_files());
}
