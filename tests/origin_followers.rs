//! Many readers of one object that grows: each gets every byte in order, and the store reads once.

mod origin_support;

use origin_support::{Call, Client, Server, folder, pattern};
use tidegate::origin::stats::Care;

const FOLLOWERS: usize = 200;
const TARGET: &str = "/films/live";
const MIB: usize = 1024 * 1024;

/// A stream as its writer sees it.
struct Writer<'a> {
    server: &'a Server,
    written: Vec<u8>,
}

impl<'a> Writer<'a> {
    fn begin(server: &'a Server) -> Self {
        server.put("/films", b"");
        Writer {
            server,
            written: Vec::new(),
        }
    }

    fn append(&mut self, bytes: &[u8]) {
        self.write(bytes, &[]);
    }

    fn seal(&mut self, bytes: &[u8]) {
        self.write(bytes, &[("x-tidegate-seal", "true")]);
    }

    fn write(&mut self, bytes: &[u8], fields: &[(&str, &str)]) {
        let offset = self.written.len().to_string();
        let mut call = Call::new("PUT", TARGET).body(bytes);
        call = call.field("x-amz-write-offset-bytes", &offset);
        for (name, value) in fields {
            call = call.field(name, value);
        }
        assert_eq!(self.server.call(call).status, 200);
        self.written.extend_from_slice(bytes);
    }
}

/// A reader of a stream that has got everything up to a position.
struct Follower {
    client: Client,
    position: usize,
}

impl Follower {
    fn at(server: &Server, offset: usize) -> Self {
        let mut client = server.client();
        let target = format!("{TARGET}?follow&offset={offset}");
        client.send(&Call::new("GET", &target).head(server.address), b"");
        let (status, fields) = client.head().expect("an answer");
        assert_eq!(status, 200);
        let has = |name: &str, value: &str| fields.contains(&(name.to_owned(), value.to_owned()));
        assert!(has("cache-control", "no-store"), "{fields:?}");
        Follower {
            client,
            position: offset,
        }
    }

    /// Takes all that was written, and compares.
    fn catch_up(&mut self, written: &[u8]) {
        while self.position < written.len() {
            let chunk = self.client.chunk().expect("the response goes on");
            let end = self.position + chunk.len();
            assert!(!chunk.is_empty(), "it ended at {}", self.position);
            assert!(written.get(self.position..end) == Some(&chunk[..]));
            self.position = end;
        }
    }
}

fn reads(server: &Server) -> (u64, u64) {
    let stats = server.store.stats();
    let (store, memory) = (Care::FollowedFromStore, Care::FollowedFromMemory);
    (stats.care(store), stats.care(memory))
}

#[test]
fn two_hundred_followers_cost_the_store_one_read_for_each_piece() {
    let data = folder();
    let server = Server::start(data.path());
    let mut writer = Writer::begin(&server);
    writer.append(b"begun");
    let mut followers: Vec<Follower> = (0..FOLLOWERS).map(|_| Follower::at(&server, 0)).collect();
    // In the row, in a pack, and longer than a block; a read is up to 256 KiB long.
    let pieces = [3, 100_000, 4096, 70_001, 200_000, 1];
    for length in pieces {
        for follower in &mut followers {
            follower.catch_up(&writer.written);
        }
        writer.append(&pattern(length));
    }
    writer.seal(b"end");
    for follower in &mut followers {
        follower.catch_up(&writer.written);
        let end = follower.client.chunk();
        assert_eq!(end.as_deref(), Some(&b""[..]), "a sealed stream has an end");
    }
    let appended = pieces.len() as u64 + 2;
    let (from_store, from_memory) = reads(&server);
    // Who is woken by the first of two commits may find the second one there too, which is no further read.
    assert_eq!(from_store, appended);
    assert_eq!(from_memory, appended * (FOLLOWERS as u64 - 1));
    server.stop();
}

#[test]
fn a_slow_follower_gets_all_of_it_and_holds_nobody_up() {
    let data = folder();
    let server = Server::start(data.path());
    let mut writer = Writer::begin(&server);
    writer.append(b"begun");
    let mut slow = Follower::at(&server, 0);
    let mut fast = Follower::at(&server, 2);
    // More than sockets, queues and the shared memory hold together.
    for _ in 0..24 {
        writer.append(&pattern(MIB));
        fast.catch_up(&writer.written);
    }
    let (before, _) = reads(&server);
    slow.catch_up(&writer.written);
    let (after, _) = reads(&server);
    assert!(after > before, "it had to read by itself");
    // Where both are at the end, they read together again.
    let (store_before, memory_before) = reads(&server);
    writer.seal(b"end");
    for follower in [&mut slow, &mut fast] {
        follower.catch_up(&writer.written);
    }
    let (store_after, memory_after) = reads(&server);
    let together = (store_after - store_before, memory_after - memory_before);
    assert_eq!(together, (1, 1));
    server.stop();
}

#[test]
fn a_store_that_stops_breaks_off_what_is_followed_and_does_not_wait_for_it() {
    let data = folder();
    let server = Server::start(data.path());
    let mut writer = Writer::begin(&server);
    writer.append(b"begun");
    let mut follower = Follower::at(&server, 0);
    follower.catch_up(&writer.written);
    server.stop();
    assert_eq!(
        follower.client.chunk(),
        None,
        "an end would say that it is all"
    );
}

#[test]
fn a_stream_that_is_replaced_or_deleted_ends_for_its_followers() {
    let data = folder();
    let server = Server::start(data.path());
    for replacement in [
        Call::new("PUT", TARGET).body(b"another"),
        Call::new("DELETE", TARGET),
    ] {
        let mut writer = Writer::begin(&server);
        server.call(Call::new("DELETE", TARGET));
        writer.append(b"begun");
        let mut follower = Follower::at(&server, 0);
        follower.catch_up(&writer.written);
        let method = replacement.method;
        assert!(server.call(replacement).status < 300, "{method}");
        assert_eq!(
            follower.client.chunk().as_deref(),
            Some(&b""[..]),
            "{method}"
        );
    }
    server.stop();
}
