//! The disk tier across a clean stop, and what must not come back from it.

mod disk_support;
mod harness;

use std::path::Path;

use disk_support::{
    BLOCK, KIB, LARGE, Library, body, counted, crash, first_body, records_of, recovered, written,
};
use harness::{Client, Edge, Response};

async fn get_in(edge: &Edge, target: &str, language: &str) -> Response {
    let fields = format!("Accept-Language: {language}\r\n");
    edge.client().await.request("GET", target, &fields).await
}

async fn range(edge: &Edge, target: &str, start: usize, end: usize) -> Response {
    let fields = format!("Range: bytes={start}-{}\r\n", end - 1);
    edge.client().await.request("GET", target, &fields).await
}

async fn stop(edge: Edge) {
    let status = edge.stop().await.status;
    assert!(status.success(), "{status}");
}

/// The fields that do not tell how a response was found.
fn told(response: &Response) -> Vec<&str> {
    let found = ["age:", "cache-status:", "x-request-id:", "connection:"];
    let lines = response.head.split("\r\n");
    lines
        .filter(|line| {
            let line = line.to_ascii_lowercase();
            !found.iter().any(|name| line.starts_with(name))
        })
        .collect()
}

#[tokio::test]
async fn what_was_stored_before_a_stop_is_a_hit_after_the_start() {
    for stop_is_clean in [true, false] {
        let library = Library::open().await;
        let disk = tempfile::tempdir().unwrap();
        let small = "/20000/a/aged";
        let vary = "/3000/b/vary";
        let edge = library.edge("64MiB", disk.path()).start().await;
        let before = edge.get(small).await;
        for language in ["de", "fr"] {
            get_in(&edge, vary, language).await;
        }
        written(&edge, 3).await;
        match stop_is_clean {
            true => stop(edge).await,
            false => crash(edge),
        }
        // What was hot would come to memory before anybody asks.
        std::fs::remove_file(disk.path().join("hot")).ok();

        let edge = library.edge("64MiB", disk.path()).start().await;
        recovered(&edge).await;
        let asked = library.origin.count();
        let after = edge.get(small).await;
        assert!(after.is_hit(), "{after:?}");
        assert_eq!(told(&after), told(&before));
        assert_eq!(after.body, first_body(small));
        let age: u64 = after.field("age").unwrap().parse().unwrap();
        assert!((100..200).contains(&age), "{age}");
        assert_eq!(counted(&edge, 20_000).await, [20_000, 0, 0]);
        let again = edge.get(small).await;
        assert_eq!((again.is_hit(), &again.body), (true, &after.body));
        assert_eq!(counted(&edge, 40_000).await, [20_000, 20_000, 0]);
        for language in ["fr", "de"] {
            let response = get_in(&edge, vary, language).await;
            assert!(response.is_hit(), "{response:?}");
            assert_eq!(response.body, body(vary, 1, language));
        }
        assert_eq!(library.origin.count(), asked);
        let other = get_in(&edge, vary, "it").await;
        assert!(!other.is_hit() && other.body == body(vary, 1, "it"));
    }
}

#[tokio::test]
async fn ranges_of_a_large_object_are_hits_after_a_stop() {
    for stop_is_clean in [true, false] {
        let library = Library::open().await;
        let disk = tempfile::tempdir().unwrap();
        let target = format!("/{LARGE}/film");
        let edge = library.edge("64MiB", disk.path()).start().await;
        assert_eq!(edge.get(&target).await.body, first_body(&target));
        written(&edge, records_of(&target)).await;
        match stop_is_clean {
            true => stop(edge).await,
            false => crash(edge),
        }
        let edge = library.edge("64MiB", disk.path()).start().await;
        recovered(&edge).await;
        let asked = library.origin.count();
        let whole = first_body(&target);
        let mut total = 0;
        for (start, end) in [
            (0, 1),
            (BLOCK - 1, BLOCK + 1),
            (3 * BLOCK + 5, 5 * BLOCK),
            (LARGE - 1, LARGE),
            (BLOCK / 2, LARGE),
        ] {
            let response = range(&edge, &target, start, end).await;
            assert_eq!(response.status, 206);
            assert!(response.is_hit(), "{start}-{end}: {response:?}");
            assert!(response.body == whole[start..end], "{start}-{end}");
            total += end - start;
        }
        // There is room in memory, so what was read once is there.
        let [disk, memory, origin] = counted(&edge, total).await;
        assert_eq!((disk + memory, origin), (total, 0));
        assert!(disk > 0);
        let response = edge.get(&target).await;
        assert!(response.is_hit() && response.body == whole);
        assert_eq!(library.origin.count(), asked);
    }
}

#[tokio::test]
async fn blocks_that_were_missing_before_a_stop_are_all_that_is_asked_for_after_it() {
    let library = Library::open().await;
    let disk = tempfile::tempdir().unwrap();
    let target = format!("/{LARGE}/film");
    let edge = library.edge("64MiB", disk.path()).start().await;
    let whole = first_body(&target);
    let part = range(&edge, &target, 10, BLOCK + 10).await;
    assert!(part.body == whole[10..BLOCK + 10]);
    written(&edge, 3).await;
    crash(edge);
    let edge = library.edge("64MiB", disk.path()).start().await;
    recovered(&edge).await;
    let asked = library.origin.count();
    let part = range(&edge, &target, 0, 2 * BLOCK).await;
    assert!(part.is_hit() && part.body == whole[..2 * BLOCK], "{part:?}");
    assert_eq!(library.origin.count(), asked);
    let response = edge.get(&target).await;
    assert!(response.body == whole, "{response:?}");
    let requests = library.origin.requests();
    let [request] = &requests[asked..] else {
        panic!("{:?}", &requests[asked..]);
    };
    let wanted = request.field("range").unwrap();
    let first = wanted.strip_prefix("bytes=").unwrap().split('-').next();
    let first: usize = first.unwrap().parse().unwrap();
    assert!(first >= 2 * BLOCK, "{wanted}");
    assert_eq!(request.field("if-range"), Some("\"v1\""));
}

#[tokio::test]
async fn what_was_hot_is_in_memory_again_after_a_clean_stop() {
    let library = Library::open().await;
    let disk = tempfile::tempdir().unwrap();
    let edge = library.edge("64MiB", disk.path()).start().await;
    let targets: Vec<String> = (0..20).map(|at| format!("/5000/{at}")).collect();
    for target in &targets {
        edge.get(target).await;
    }
    written(&edge, targets.len()).await;
    stop(edge).await;
    let mut edge = library.edge("64MiB", disk.path()).start().await;
    if edge.lines_with("brought back to memory") == 0 {
        edge.logged("brought back to memory").await;
    }
    for target in &targets {
        let response = edge.get(target).await;
        assert!(response.is_hit() && response.body == first_body(target));
    }
    assert_eq!(counted(&edge, 20 * 5000).await, [0, 20 * 5000, 0]);
    assert_eq!(library.origin.count(), targets.len());
}

#[tokio::test]
async fn full_memory_takes_in_what_is_read_from_disk_when_it_comes_back() {
    let library = Library::open().await;
    let disk = tempfile::tempdir().unwrap();
    let target = "/20000/kept";
    let edge = library.edge("1MiB", disk.path()).start().await;
    assert_eq!(edge.get(target).await.body, first_body(target));
    written(&edge, 1).await;
    crash(edge);
    let edge = library.edge("1MiB", disk.path()).start().await;
    recovered(&edge).await;
    // More than memory holds, and shorter: what is left is less than one of them took.
    for at in 0..100 {
        edge.get(&format!("/19000/filler/{at}")).await;
    }
    for _ in 0..3 {
        let response = edge.get(target).await;
        assert!(response.is_hit() && response.body == first_body(target));
    }
    let log = edge.stop().await.access_log;
    let of_target = log.iter().filter(|line| line["path"] == target);
    // Lines of several workers are in no order.
    let mut sources: Vec<_> = of_target.map(|line| line["source"].to_string()).collect();
    sources.sort();
    let expected = ["disk", "disk", "memory"].map(|source| format!("\"{source}\""));
    assert_eq!(sources, expected);
}

async fn purge(edge: &Edge, order: &str) {
    let mut admin = Client::connect(edge.admin).await;
    let length = order.len();
    let head = format!(
        "POST /purge HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n"
    );
    admin.send(head + order).await;
    let response = admin.response("POST").await;
    assert_eq!(response.status, 200, "{response:?}");
}

/// Ways in which what is stored under a path becomes out of date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Unsafe(&'static str),
    Purge { soft: bool },
    Replaced,
}

const ENDS: [End; 6] = [
    End::Unsafe("POST"),
    End::Unsafe("PUT"),
    End::Unsafe("DELETE"),
    End::Purge { soft: false },
    End::Purge { soft: true },
    End::Replaced,
];

/// One small and one large object for each way, all of them stored at version 1 and then ended while
/// the origin serves version 2; and two that are left alone.
async fn edge_with_ended_objects(library: &Library, disk: &Path) -> (Edge, Vec<(End, String)>) {
    let lengths = [20 * KIB, LARGE];
    let objects: Vec<_> = ENDS
        .into_iter()
        .enumerate()
        .flat_map(|(at, end)| lengths.map(|length| (end, format!("/{length}/{at}"))))
        .collect();
    let kept = lengths.map(|length| format!("/{length}/kept"));
    let edge = library.edge("1MiB", disk).start().await;
    let mut records = 0;
    for target in objects.iter().map(|(_, target)| target).chain(&kept) {
        assert_eq!(edge.get(target).await.body, first_body(target));
        records += records_of(target);
    }
    written(&edge, records).await;
    library.change();
    for (end, target) in &objects {
        let mut client = edge.client().await;
        match end {
            End::Unsafe(method) => {
                let fields = "Content-Length: 0\r\n";
                assert_eq!(client.request(method, target, fields).await.status, 204);
            }
            End::Purge { soft } => {
                let url = format!("http://media.example{target}");
                purge(&edge, &format!(r#"{{"url": "{url}", "soft": {soft}}}"#)).await;
            }
            End::Replaced => {
                let fields = "Cache-Control: no-cache\r\n";
                let response = client.request("GET", target, fields).await;
                assert!(response.body == body(target, 2, ""));
            }
        }
    }
    // Written after all of these.
    let last = format!("/{}/last", 4 * KIB);
    edge.get(&last).await;
    assert!(edge.get(&last).await.is_hit());
    written(&edge, 1).await;
    (edge, objects)
}

async fn expect_no_first_version(edge: &Edge, objects: &[(End, String)]) {
    for (end, target) in objects {
        let response = edge.get(target).await;
        assert!(
            response.body == body(target, 2, ""),
            "{end:?} {target}: {response:?}"
        );
        // All of the others were validated or fetched now.
        if *end != End::Replaced {
            assert!(!response.is_hit(), "{end:?} {target}: {response:?}");
        }
    }
}

#[tokio::test]
async fn what_was_invalidated_purged_or_replaced_does_not_come_back_after_a_stop() {
    for stop_is_clean in [false, true] {
        let library = Library::open().await;
        let disk = tempfile::tempdir().unwrap();
        let (edge, objects) = edge_with_ended_objects(&library, disk.path()).await;
        match stop_is_clean {
            true => stop(edge).await,
            false => crash(edge),
        }
        let edge = library.edge("1MiB", disk.path()).start().await;
        // While it recovers, and once it has.
        expect_no_first_version(&edge, &objects[..2]).await;
        recovered(&edge).await;
        expect_no_first_version(&edge, &objects[2..]).await;
        for length in [20 * KIB, LARGE] {
            let target = format!("/{length}/kept");
            let response = edge.get(&target).await;
            assert!(response.is_hit(), "{response:?}");
            assert!(response.body == first_body(&target));
        }
    }
}

#[tokio::test]
async fn what_was_invalidated_purged_or_replaced_does_not_come_back_when_it_leaves_memory() {
    let library = Library::open().await;
    let disk = tempfile::tempdir().unwrap();
    let (edge, objects) = edge_with_ended_objects(&library, disk.path()).await;
    // More popular than all of these, and more than memory holds.
    for _ in 0..5 {
        for at in 0..100 {
            edge.get(&format!("/20000/filler/{at}")).await;
        }
    }
    let kept = format!("/{}/kept", 20 * KIB);
    let response = edge.get(&kept).await;
    assert!(response.is_hit() && response.body == first_body(&kept));
    expect_no_first_version(&edge, &objects).await;
    let log = edge.stop().await.access_log;
    let of_kept: Vec<_> = log.iter().filter(|line| line["path"] == kept).collect();
    assert_eq!(of_kept.len(), 2);
    assert_eq!(of_kept[1]["source"], "disk", "memory still held it");
}

/// Bytes that the segments in `disk` take: as they say, and of the disk's blocks.
fn segments(disk: &Path) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    let files = std::fs::read_dir(disk.join("segments")).unwrap();
    // One that has gone meanwhile takes nothing.
    let sizes = files.filter_map(|file| file.ok()?.metadata().ok());
    sizes.fold((0, 0), |(length, room), file| {
        (length + file.len(), room + 512 * file.blocks())
    })
}

#[tokio::test]
async fn segments_never_take_more_than_their_size_however_much_is_filled() {
    const SIZE: u64 = 64 * 1024 * 1024;
    let library = Library::open().await;
    let disk = tempfile::tempdir().unwrap();
    let edge = library.edge("1MiB", disk.path()).start().await;
    let mut dice = disk_support::Dice(4);
    let mut filled = 0;
    let mut most = (0, 0);
    let mut client = edge.client().await;
    let mut look = || {
        let (length, room) = segments(disk.path());
        assert!(length <= SIZE && room <= SIZE, "{length} {room}");
        most = (most.0.max(length), most.1.max(room));
    };
    for at in 0.. {
        if filled > 4 * SIZE {
            break;
        }
        let length = 1 + dice.below(900 * KIB);
        let target = format!("/{length}/{at}");
        // A full tier writes what is asked for more than once.
        for _ in 0..2 {
            let response = client.get(&target).await;
            assert!(response.body == first_body(&target), "{target}");
            look();
        }
        filled += length as u64;
        // A slow disk would make the tier drop what the test is about.
        if at % 32 == 0 {
            written(&edge, 1).await;
        }
    }
    let metrics = written(&edge, 1).await;
    look();
    let lost = |why| metrics.sum("tidegate_cache_disk_records_not_kept_total", &[why]);
    let written = metrics.sum("tidegate_cache_disk_written_bytes_total", &[]);
    println!("filled {filled}, written {written}, at most {most:?} of {SIZE}");
    assert!(
        most.0 >= SIZE - 2 * 1024 * 1024,
        "it was never full: {most:?}"
    );
    assert!(written > 1.5 * SIZE as f64, "{written}");
    assert!(lost(r#"why="evicted""#) > 0.0);
    assert_eq!(lost(r#"why="dropped""#), 0.0);
    let taken = metrics.sum("tidegate_cache_bytes", &[r#"tier="disk""#]);
    assert!(taken <= SIZE as f64, "{taken}");
}
