//! Objects of the storage class STANDARD_IA: their bytes lie on the cold disks, and clients see nothing else of it.

mod origin_support;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use origin_support::{Call, Response, Server, config, element, folder, pattern};
use tempfile::TempDir;
use tidegate::clock::{Clock as _, ManualClock, SharedClock, SystemClock};
use tidegate::config::{ColdDisks, Redundancy, StoreDisk};
use tidegate::origin::disk::RealDisk;
use tidegate::origin::jobs::{Done, Job, run_now};

const INLINE: usize = 1000;
const PACKED: usize = 100_000;
const LARGE: usize = 3 << 20;
const PART: usize = 5 << 20;
/// As transitions of long ago say it.
const LONG_AGO: &str = "<Date>2020-01-01T00:00:00Z</Date>";

/// A store with two cold disks that have the same bytes.
struct Cold {
    folder: TempDir,
    server: Server,
}

impl Cold {
    fn start() -> Self {
        Cold::start_at(SystemClock::shared())
    }

    fn start_at(clock: SharedClock) -> Self {
        let folder = folder();
        let server = serve(folder.path(), clock);
        Cold { folder, server }
    }

    /// Bytes of files, of the data disk and of each cold one.
    fn stored_bytes(&self) -> [u64; 3] {
        let of = |path: &str| bytes_below(&self.folder.path().join(path));
        [of("data/blobs/d0"), of("cold0"), of("cold1")]
    }

    /// Has the class of what is current in a bucket changed by a rule.
    fn put_rule(&self, bucket: &str, transition: &str) -> Response {
        let rule = format!(
            "<LifecycleConfiguration><Rule><Filter/><Status>Enabled</Status>{transition}</Rule></LifecycleConfiguration>"
        );
        let target = format!("{bucket}?lifecycle");
        self.server.put(&target, rule.as_bytes())
    }

    fn move_all(&self, bucket: &str) {
        let transition =
            format!("<Transition>{LONG_AGO}<StorageClass>STANDARD_IA</StorageClass></Transition>");
        assert_eq!(self.put_rule(bucket, &transition).status, 200);
    }

    /// Versions moved, and their bytes.
    fn apply_rules(&self) -> (u64, u64) {
        let applied = run_now(&self.server.store, Job::Lifecycle);
        match self.server.runtime.block_on(applied).unwrap() {
            Done::Lifecycle(applied) => (applied.moved, applied.moved_bytes),
            other => panic!("{other:?}"),
        }
    }

    fn collect(&self) {
        for job in [Job::Garbage, Job::Compact] {
            let done = run_now(&self.server.store, job);
            self.server.runtime.block_on(done).unwrap();
        }
    }

    fn put_as(&self, target: &str, class: &str, body: &[u8]) -> Response {
        let call = Call::new("PUT", target).body(body);
        self.server.call(call.field("x-amz-storage-class", class))
    }

    /// Of two parts, the second of which is packed. Gives back the bytes.
    fn upload(&self, target: &str, class: &str) -> Vec<u8> {
        let uploads = format!("{target}?uploads");
        let begun = Call::new("POST", &uploads).empty();
        let begun = self.server.call(begun.field("x-amz-storage-class", class));
        let id = element(&begun.text(), "UploadId").unwrap();
        let bytes = pattern(PART + PACKED);
        let mut list = String::new();
        for (index, part) in bytes.chunks(PART).enumerate() {
            let number = index + 1;
            let part = self
                .server
                .put(&format!("{target}?partNumber={number}&uploadId={id}"), part);
            let etag = part.field("etag");
            list += &format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>");
        }
        let listed = self.server.get(&format!("{target}?uploadId={id}")).text();
        assert_eq!(element(&listed, "StorageClass").as_deref(), Some(class));
        let list = format!("<CompleteMultipartUpload>{list}</CompleteMultipartUpload>");
        let target = format!("{target}?uploadId={id}");
        let call = Call::new("POST", &target).body(list.as_bytes());
        assert_eq!(self.server.call(call).status, 200);
        bytes
    }

    /// The class that each answer about an object tells.
    fn classes(&self, bucket: &str, key: &str) -> Vec<String> {
        let target = format!("{bucket}/{key}");
        let [get, head] = ["GET", "HEAD"].map(|method| {
            let answer = self.server.call(Call::new(method, &target));
            assert_eq!(answer.status, 200);
            match answer.field("x-amz-storage-class") {
                "" => "STANDARD".to_owned(),
                class => class.to_owned(),
            }
        });
        let attributes = format!("{target}?attributes");
        let call = Call::new("GET", &attributes);
        let call = call.field("x-amz-object-attributes", "StorageClass");
        let mut classes = vec![get, head];
        let lists = ["list-type=2&prefix=", "prefix=", "versions&prefix="];
        let lists = lists.map(|list| self.server.get(&format!("{bucket}?{list}{key}")));
        for answer in [self.server.call(call)].into_iter().chain(lists) {
            classes.push(element(&answer.text(), "StorageClass").unwrap());
        }
        classes
    }

    fn assert_class(&self, bucket: &str, key: &str, class: &str) {
        let classes = self.classes(bucket, key);
        assert!(
            classes.iter().all(|told| told == class),
            "{key}: {classes:?}"
        );
    }
}

fn serve(folder: &Path, clock: SharedClock) -> Server {
    let mut config = config(&folder.join("data"));
    config.cold = Some(ColdDisks {
        disks: ["cold0", "cold1"]
            .map(|name| StoreDisk {
                path: folder.join(name),
            })
            .into(),
        redundancy: Redundancy::Copies(2),
    });
    Server::with(&config, clock, Arc::new(RealDisk)).unwrap()
}

fn bytes_below(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    let bytes = entries.map(|entry| match entry.metadata().unwrap() {
        metadata if metadata.is_dir() => bytes_below(&entry.path()),
        _ if entry.file_name() == "identity" => 0,
        metadata => metadata.len(),
    });
    bytes.sum()
}

#[test]
fn a_transition_moves_the_bytes_and_leaves_all_else_as_it_was() {
    let cold = Cold::start();
    let server = &cold.server;
    server.put("/films", b"");
    let mut objects = Vec::new();
    for (key, length) in [("inline", INLINE), ("packed", PACKED), ("large", LARGE)] {
        let bytes = pattern(length);
        let target = format!("/films/{key}");
        let call = Call::new("PUT", &target).body(&bytes);
        let call = call
            .field("x-amz-meta-a", "b")
            .field("x-amz-tagging", "c=d");
        assert_eq!(server.call(call).status, 200);
        objects.push((key, bytes));
    }
    objects.push(("parts", cold.upload("/films/parts", "STANDARD")));
    let told = |key: &str| {
        let target = format!("/films/{key}");
        let call = Call::new("GET", &target);
        let mut answer = server.call(call.field("x-amz-checksum-mode", "ENABLED"));
        let of_request = ["date", "x-amz-request-id", "x-amz-storage-class"];
        answer
            .fields
            .retain(|(name, _)| !of_request.contains(&name.as_str()));
        answer
    };
    let before: Vec<Response> = objects.iter().map(|(key, _)| told(key)).collect();
    assert_eq!(cold.stored_bytes()[1..], [0, 0]);
    assert_eq!(cold.apply_rules(), (0, 0), "there is no rule");
    cold.move_all("/films");
    let all: usize = objects.iter().map(|(_, bytes)| bytes.len()).sum();
    assert_eq!(cold.apply_rules(), (4, all as u64));
    assert_eq!(cold.apply_rules(), (0, 0), "once is enough");
    for ((key, bytes), before) in objects.iter().zip(before) {
        let after = told(key);
        assert!(after.body == *bytes, "{key}");
        assert_eq!(after.fields, before.fields, "{key}");
        cold.assert_class("/films", key, "STANDARD_IA");
    }
    // What is in the row stays there; each cold disk has all the rest, and the data disk none of it.
    cold.collect();
    let [data, one, two] = cold.stored_bytes();
    assert!(one as usize >= all - INLINE && one == two, "{one} {two}");
    // Its last pack is given up by the next start.
    assert!(data < PACKED as u64 * 3, "{data}");
    let Cold { folder, server } = cold;
    server.stop();
    let server = serve(folder.path(), SystemClock::shared());
    let cold = Cold { folder, server };
    cold.collect();
    assert_eq!(cold.stored_bytes()[0], 0);
    for (key, bytes) in &objects {
        assert!(cold.server.get(&format!("/films/{key}")).body == *bytes);
    }
}

#[test]
fn who_reads_while_an_object_moves_gets_it_whole() {
    let cold = Cold::start();
    cold.server.put("/films", b"");
    let bytes = pattern(48 << 20);
    cold.server.put("/films/long", &bytes);
    cold.move_all("/films");
    let mut reader = cold.server.client();
    reader.send(
        &Call::new("GET", "/films/long").head(cold.server.address),
        b"",
    );
    assert_eq!(reader.head().unwrap().0, 200);
    let mut read = reader.body(100_000);
    assert_eq!(cold.apply_rules(), (1, bytes.len() as u64));
    read.extend(reader.body(bytes.len() - read.len()));
    assert!(read == bytes);
    assert!(cold.server.get("/films/long").body == bytes);
    drop(reader);
    cold.collect();
}

#[test]
fn what_is_put_or_copied_into_a_class_lies_there() {
    let cold = Cold::start();
    let server = &cold.server;
    server.put("/films", b"");
    let bytes = pattern(LARGE);
    assert_eq!(cold.put_as("/films/put", "STANDARD_IA", &bytes).status, 200);
    cold.assert_class("/films", "put", "STANDARD_IA");
    assert_eq!(cold.stored_bytes(), [0, LARGE as u64, LARGE as u64]);
    let small = cold.put_as("/films/small", "STANDARD_IA", b"few");
    assert_eq!(small.status, 200);
    cold.assert_class("/films", "small", "STANDARD_IA");
    let parts = cold.upload("/films/parts", "STANDARD_IA");
    cold.assert_class("/films", "parts", "STANDARD_IA");
    assert_eq!(cold.stored_bytes()[0], 0);

    let copy = |from: &str, to: &str, class: Option<&str>| {
        let target = format!("/films/{to}");
        let mut call = Call::new("PUT", &target);
        call = call.field("x-amz-copy-source", &format!("/films/{from}"));
        if let Some(class) = class {
            call = call.field("x-amz-storage-class", class);
        }
        let answer = server.call(call);
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    // A copy is of the class that it asks for, and of STANDARD when it asks for none.
    copy("parts", "copy", None);
    cold.assert_class("/films", "copy", "STANDARD");
    assert!(cold.stored_bytes()[0] >= parts.len() as u64);
    copy("copy", "back", Some("STANDARD_IA"));
    cold.assert_class("/films", "back", "STANDARD_IA");
    // Onto itself, which moves it.
    let head = |key: &str| server.call(Call::new("HEAD", &format!("/films/{key}")));
    let etag = head("put").field("etag").to_owned();
    copy("put", "put", Some("STANDARD"));
    cold.assert_class("/films", "put", "STANDARD");
    assert_eq!(head("put").field("etag"), etag);
    for (key, expected) in [("put", &bytes), ("copy", &parts), ("back", &parts)] {
        assert!(server.get(&format!("/films/{key}")).body == *expected);
    }
}

#[test]
fn parts_that_are_copied_lie_where_their_upload_says() {
    let cold = Cold::start();
    let server = &cold.server;
    server.put("/films", b"");
    let bytes = pattern(LARGE);
    server.put("/films/source", &bytes);
    let begun = Call::new("POST", "/films/joined?uploads").empty();
    let begun = server.call(begun.field("x-amz-storage-class", "STANDARD_IA"));
    let id = element(&begun.text(), "UploadId").unwrap();
    let target = format!("/films/joined?partNumber=1&uploadId={id}");
    let call = Call::new("PUT", &target).field("x-amz-copy-source", "/films/source");
    let part = server.call(call.field("x-amz-copy-source-range", "bytes=5-2000004"));
    let etag = element(&part.text(), "ETag").unwrap();
    let list = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part></CompleteMultipartUpload>"
    );
    let target = format!("/films/joined?uploadId={id}");
    let done = server.call(Call::new("POST", &target).body(list.as_bytes()));
    assert_eq!(done.status, 200, "{}", done.text());
    cold.assert_class("/films", "joined", "STANDARD_IA");
    assert_eq!(cold.stored_bytes(), [LARGE as u64, 2_000_000, 2_000_000]);
    assert!(server.get("/films/joined").body == bytes[5..2_000_005]);
}

#[test]
fn a_class_that_there_is_not_is_refused() {
    let refused = |response: &Response| {
        let told = (response.status, response.code());
        assert_eq!(told, (400, "InvalidStorageClass".to_owned()));
    };
    let transition = |class: &str| {
        format!("<Transition>{LONG_AGO}<StorageClass>{class}</StorageClass></Transition>")
    };
    let cold = Cold::start();
    cold.server.put("/films", b"");
    // They promise what the store does not do: other prices, a restoration, fewer copies.
    for class in ["GLACIER", "DEEP_ARCHIVE", "GLACIER_IR", "ONEZONE_IA"] {
        refused(&cold.put_as("/films/a", class, b"bytes"));
        refused(&cold.put_rule("/films", &transition(class)));
        let noncurrent = format!(
            "<NoncurrentVersionTransition><NoncurrentDays>30</NoncurrentDays><StorageClass>{class}</StorageClass></NoncurrentVersionTransition>"
        );
        refused(&cold.put_rule("/films", &noncurrent));
    }
    let call = Call::new("PUT", "/films/log").body(b"bytes");
    let call = call.field("x-amz-write-offset-bytes", "0");
    refused(
        &cold
            .server
            .call(call.field("x-amz-storage-class", "STANDARD_IA")),
    );

    let folder = folder();
    let plain = Cold {
        server: Server::start(folder.path()),
        folder,
    };
    plain.server.put("/films", b"");
    refused(&plain.put_as("/films/a", "STANDARD_IA", b"bytes"));
    refused(&plain.put_rule("/films", &transition("STANDARD_IA")));
    assert_eq!(plain.server.get("/films?lifecycle").status, 404);
}

#[test]
fn an_object_that_grows_moves_when_it_is_sealed() {
    let cold = Cold::start();
    cold.server.put("/films", b"");
    cold.move_all("/films");
    let append = |offset: &str, seal: bool| {
        let bytes = pattern(PACKED);
        let call = Call::new("PUT", "/films/log").body(&bytes);
        let mut call = call.field("x-amz-write-offset-bytes", offset);
        if seal {
            call = call.field("x-tidegate-seal", "true");
        }
        assert_eq!(cold.server.call(call).status, 200);
    };
    append("0", false);
    assert_eq!(cold.apply_rules(), (0, 0));
    append("100000", true);
    assert_eq!(cold.apply_rules(), (1, 200_000));
    cold.assert_class("/films", "log", "STANDARD_IA");
    let whole = [pattern(PACKED), pattern(PACKED)].concat();
    assert!(cold.server.get("/films/log").body == whole);
}

#[test]
fn versions_that_are_not_current_move_by_their_age_and_number() {
    let now = SystemTime::now();
    let began = now - Duration::from_secs(40 * 86_400);
    let clock = ManualClock::at(began);
    let cold = Cold::start_at(Arc::clone(&clock) as SharedClock);
    let server = &cold.server;
    let put = |bytes: Vec<u8>| {
        let media_type = http::HeaderValue::from_static("video/mp4");
        let put = server
            .store
            .put_object("tapes", "a", media_type, bytes.into());
        server.runtime.block_on(put).unwrap();
    };
    let made = server.store.create_bucket("tapes");
    server.runtime.block_on(made).unwrap();
    let query = [("versioning".to_owned(), String::new())];
    let target = server.presign_at("PUT", "/tapes", &query, Duration::from_secs(60), began);
    let document = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    let head = format!(
        "PUT {target} HTTP/1.1\r\nhost: {}\r\ncontent-length: {}\r\n\r\n",
        server.address,
        document.len()
    );
    let mut client = server.client();
    client.send(&head, document);
    assert_eq!(client.response("PUT").status, 200);
    // Two that have long been replaced, one that was replaced just now, and the current one.
    for length in [10_000, 20_000, 30_000] {
        put(pattern(length));
        clock.advance(Duration::from_secs(1));
    }
    clock.advance(now.duration_since(clock.wall()).unwrap());
    put(pattern(40_000));
    let transition = "<NoncurrentVersionTransition><NoncurrentDays>30</NoncurrentDays>\
        <NewerNoncurrentVersions>2</NewerNoncurrentVersions><StorageClass>STANDARD_IA</StorageClass>\
        </NoncurrentVersionTransition>";
    assert_eq!(cold.put_rule("/tapes", transition).status, 200);
    // The newest two of those that are not current stay, whatever their age.
    assert_eq!(cold.apply_rules(), (1, 10_000));
    let transition = transition.replace("<NewerNoncurrentVersions>2</NewerNoncurrentVersions>", "");
    assert_eq!(cold.put_rule("/tapes", &transition).status, 200);
    assert_eq!(cold.apply_rules(), (1, 20_000));
    let listed = server.get("/tapes?versions").text();
    let classes: Vec<_> = (listed.split("<Version>").skip(1))
        .map(|version| {
            let size = element(version, "Size").unwrap();
            (size, element(version, "StorageClass").unwrap())
        })
        .collect();
    let expected = [
        ("40000", "STANDARD"),
        ("30000", "STANDARD"),
        ("20000", "STANDARD_IA"),
        ("10000", "STANDARD_IA"),
    ];
    let expected = expected.map(|(size, class)| (size.to_owned(), class.to_owned()));
    assert_eq!(classes, expected);
}
