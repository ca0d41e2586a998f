//! Disks that fail: clients get what they ask for all the same.

mod disk_support;
mod harness;

use std::fs;
use std::path::{Path, PathBuf};

use disk_support::{
    Dice, KIB, LARGE, Library, body, bytes_from, crash, first_body, in_own_mounts, is_up, mount,
    records_of, recovered, shown, written,
};
use harness::Edge;

/// What is logged once when the disk fails.
const FAULT: &str = "the disk tier writes nothing";
const WELL: &str = "the disk tier writes again";

/// Gets `count` objects, small and large ones; none may fail or be wrong. Returns what was got.
async fn get_some(edge: &Edge, name: &str, count: usize) -> Vec<String> {
    let length = |at| if at % 4 == 0 { LARGE } else { 30 * KIB };
    let targets: Vec<_> = (0..count)
        .map(|at| format!("/{}/{name}/{at}", length(at)))
        .collect();
    get_again(edge, &targets).await;
    targets
}

/// Gets all of these again and returns how many were hits.
async fn get_again(edge: &Edge, targets: &[String]) -> usize {
    let mut client = edge.client().await;
    let mut hits = 0;
    for target in targets {
        let response = client.get(target).await;
        assert_eq!(response.status, 200, "{target}: {response:?}");
        assert!(response.body == first_body(target), "{target}");
        hits += usize::from(response.is_hit());
    }
    hits
}

fn records(targets: &[String]) -> usize {
    targets.iter().map(|target| records_of(target)).sum()
}

#[tokio::test]
async fn folder_that_cannot_be_made_costs_the_disk_tier_and_nothing_else() {
    let library = Library::open().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "not a folder").unwrap();
    let paths = [
        file.clone(),
        file.join("cache"),
        PathBuf::from("/proc/tidegate-cache"),
    ];
    for (at, path) in paths.into_iter().enumerate() {
        let edge = library.edge("64MiB", &path).start().await;
        assert!(!is_up(&edge.metrics().await), "{path:?}");
        let targets = get_some(&edge, &at.to_string(), 5).await;
        assert_eq!(
            get_again(&edge, &targets).await,
            targets.len(),
            "memory serves"
        );
        assert_eq!(edge.lines_with(FAULT), 1, "{path:?}");
        assert!(edge.stop().await.status.success());
    }
    assert_eq!(fs::read_to_string(file).unwrap(), "not a folder");
}

#[tokio::test]
async fn second_node_on_a_folder_serves_from_memory_until_the_first_has_ended() {
    let library = Library::open().await;
    let disk = tempfile::tempdir().unwrap();
    let first = library.edge("64MiB", disk.path()).start().await;
    let mut second = library.edge("64MiB", disk.path()).start().await;
    assert!(is_up(&first.metrics().await) && !is_up(&second.metrics().await));
    let of_first = get_some(&first, "first", 9).await;
    get_some(&second, "second", 5).await;
    let metrics = written(&first, records(&of_first)).await;
    assert!(is_up(&metrics));
    crash(first);
    second.logged(WELL).await;
    assert_eq!(second.lines_with(FAULT), 1);
    assert!(is_up(&recovered(&second).await));
    assert_eq!(get_again(&second, &of_first).await, of_first.len());
    let sizes = of_first.iter().map(|target| first_body(target).len());
    let of_first_bytes: usize = sizes.sum();
    let takes_over = |metrics: &_| bytes_from(metrics, "disk") == of_first_bytes;
    shown(&second, "all bytes of the first come from disk", takes_over).await;
    let later = get_some(&second, "later", 5).await;
    written(&second, records(&of_first) + records(&later)).await;
    crash(second);
    let third = library.edge("64MiB", disk.path()).start().await;
    recovered(&third).await;
    for targets in [&of_first, &later] {
        assert_eq!(get_again(&third, targets).await, targets.len());
    }
}

#[tokio::test]
async fn what_ended_before_the_folder_could_be_opened_does_not_come_back() {
    let library = Library::open().await;
    let disk = tempfile::tempdir().unwrap();
    let first = library.edge("64MiB", disk.path()).start().await;
    let mut second = library.edge("64MiB", disk.path()).start().await;
    let stored = get_some(&first, "x", 9).await;
    written(&first, records(&stored)).await;
    let [large, invalidated, replaced, kept @ ..] = &stored[..] else {
        unreachable!("nine objects");
    };
    library.change();
    let mut client = second.client().await;
    for target in [large, invalidated] {
        let response = client
            .request("POST", target, "Content-Length: 0\r\n")
            .await;
        assert_eq!(response.status, 204);
    }
    let response = client.get(replaced).await;
    assert!(response.body == body(replaced, 2, ""));
    crash(first);
    second.logged(WELL).await;
    recovered(&second).await;
    for target in [large, invalidated] {
        let response = client.get(target).await;
        assert!(!response.is_hit() && response.body == body(target, 2, ""));
    }
    assert_eq!(get_again(&second, kept).await, kept.len());
    // Written after what was taken back.
    let last = "/5000/last";
    client.get(last).await;
    assert!(client.get(last).await.is_hit());
    written(&second, 1).await;
    crash(second);
    let third = library.edge("64MiB", disk.path()).start().await;
    recovered(&third).await;
    for target in [large, invalidated, replaced] {
        let response = third.get(target).await;
        assert!(response.body == body(target, 2, ""), "{response:?}");
    }
    assert_eq!(get_again(&third, kept).await, kept.len());
}

#[tokio::test]
async fn folder_that_vanishes_is_made_again() {
    let library = Library::open().await;
    let parent = tempfile::tempdir().unwrap();
    let disk = parent.path().join("cache");
    let mut edge = library.edge("2MiB", &disk).start().await;
    let before = get_some(&edge, "before", 9).await;
    written(&edge, records(&before)).await;
    fs::remove_dir_all(&disk).unwrap();
    let during = get_some(&edge, "during", 9).await;
    get_again(&edge, &before).await;
    edge.logged(FAULT).await;
    get_again(&edge, &before).await;
    get_again(&edge, &during).await;
    edge.logged(WELL).await;
    assert_eq!(edge.lines_with(FAULT), 1);
    get_again(&edge, &before).await;
    let after = get_some(&edge, "after", 9).await;
    written(&edge, records(&after)).await;
    crash(edge);
    let edge = library.edge("2MiB", &disk).start().await;
    recovered(&edge).await;
    assert_eq!(get_again(&edge, &after).await, after.len());
    get_again(&edge, &before).await;
}

/// What is done to the files of a node that is not running.
#[derive(Debug, Clone, Copy)]
enum Damage {
    /// Bytes here and there, in nearly every record.
    Flips,
    Truncated,
    Zeros,
    /// Each holds what another should.
    Exchanged,
}

fn damage(path: &Path, how: Damage, dice: &mut Dice) {
    let mut bytes = fs::read(path).unwrap();
    match how {
        Damage::Flips => {
            for _ in 0..(bytes.len() / 8192).max(1) {
                let at = dice.below(bytes.len());
                bytes[at] ^= 1 << dice.below(8);
            }
        }
        Damage::Truncated => bytes.truncate(dice.below(bytes.len())),
        Damage::Zeros => {
            let start = dice.below(bytes.len());
            bytes[start..].fill(0);
        }
        Damage::Exchanged => bytes.rotate_left(64),
    }
    fs::write(path, bytes).unwrap();
}

fn files_of(disk: &Path, name: &str) -> Vec<PathBuf> {
    match name {
        "segments" => fs::read_dir(disk.join(name))
            .unwrap()
            .map(|file| file.unwrap().path())
            .collect(),
        name => vec![disk.join(name)],
    }
}

#[tokio::test]
async fn files_that_were_damaged_between_two_runs_cost_hits_and_nothing_else() {
    let mut dice = Dice(4);
    for name in ["segments", "index", "identity", "hot", "purges.jsonl"] {
        for how in [
            Damage::Flips,
            Damage::Truncated,
            Damage::Zeros,
            Damage::Exchanged,
        ] {
            for stop_is_clean in [true, false] {
                let library = Library::open().await;
                let disk = tempfile::tempdir().unwrap();
                let edge = library.edge("64MiB", disk.path()).start().await;
                let targets = get_some(&edge, "x", 9).await;
                written(&edge, records(&targets)).await;
                match stop_is_clean {
                    true => assert!(edge.stop().await.status.success()),
                    false => crash(edge),
                }
                for path in files_of(disk.path(), name) {
                    // A crash leaves no index, and without purges there are none to damage.
                    if fs::metadata(&path).is_ok_and(|file| file.len() > 0) {
                        damage(&path, how, &mut dice);
                    }
                }
                let edge = library.edge("64MiB", disk.path()).start().await;
                let hits = get_again(&edge, &targets).await;
                recovered(&edge).await;
                get_again(&edge, &targets).await;
                println!(
                    "{name} {how:?} clean={stop_is_clean}: {hits} of {} hits",
                    targets.len()
                );
                if let ("segments", Damage::Flips) = (name, how) {
                    let metrics = edge.metrics().await;
                    let damaged = [r#"result="damaged""#];
                    let damaged = metrics.sum("tidegate_cache_disk_reads_total", &damaged);
                    assert!(hits < targets.len() && damaged > 0.0, "{hits} {damaged}");
                }
                assert!(edge.stop().await.status.success());
            }
        }
    }
}

#[tokio::test]
async fn foreign_files_in_the_folder_are_not_misread() {
    let library = Library::open().await;
    let disk = tempfile::tempdir().unwrap();
    let segments = disk.path().join("segments");
    fs::create_dir(&segments).unwrap();
    fs::write(segments.join("0000000000000001.seg"), "not a segment").unwrap();
    fs::write(segments.join("x.seg"), vec![7; 1024 * KIB]).unwrap();
    fs::create_dir(segments.join("folder.seg")).unwrap();
    fs::write(segments.join("notes.txt"), "mine").unwrap();
    fs::write(disk.path().join("index"), "not an index").unwrap();
    let edge = library.edge("64MiB", disk.path()).start().await;
    assert!(is_up(&edge.metrics().await));
    let targets = get_some(&edge, "x", 5).await;
    written(&edge, records(&targets)).await;
    crash(edge);
    let edge = library.edge("64MiB", disk.path()).start().await;
    recovered(&edge).await;
    assert_eq!(get_again(&edge, &targets).await, targets.len());
    assert_eq!(
        fs::read_to_string(segments.join("notes.txt")).unwrap(),
        "mine"
    );
}

#[tokio::test]
async fn full_disk_fails_no_request_and_is_used_again_when_there_is_room() {
    if !in_own_mounts("full_disk_fails_no_request_and_is_used_again_when_there_is_room") {
        return;
    }
    let library = Library::open().await;
    let disk = tempfile::tempdir().unwrap();
    mount("size=8m", disk.path());
    let mut edge = library.edge("2MiB", disk.path()).start().await;
    assert!(is_up(&edge.metrics().await));
    let targets = get_some(&edge, "fill", 60).await;
    edge.logged(FAULT).await;
    let metrics = shown(&edge, "the fault", |metrics| !is_up(metrics)).await;
    assert!(metrics.sum("tidegate_cache_disk_write_faults_total", &[]) >= 1.0);
    // What fitted is still a hit. How much that is depends on how many records were dropped while the
    // writer was busy.
    let hits = get_again(&edge, &targets).await;
    assert!((1..60).contains(&hits), "{hits}");
    mount("remount,size=100m", disk.path());
    edge.logged(WELL).await;
    assert_eq!(edge.lines_with(FAULT), 1);
    let after = get_some(&edge, "after", 9).await;
    written(&edge, 0).await;
    crash(edge);
    let edge = library.edge("2MiB", disk.path()).start().await;
    recovered(&edge).await;
    assert_eq!(get_again(&edge, &after).await, after.len());
    get_again(&edge, &targets).await;
}

#[tokio::test]
async fn disk_that_is_read_only_fails_no_request() {
    if !in_own_mounts("disk_that_is_read_only_fails_no_request") {
        return;
    }
    let library = Library::open().await;
    let disk = tempfile::tempdir().unwrap();
    mount("size=200m", disk.path());
    let edge = library.edge("64MiB", disk.path()).start().await;
    let targets = get_some(&edge, "before", 9).await;
    written(&edge, records(&targets)).await;
    crash(edge);

    mount("remount,ro", disk.path());
    let mut edge = library.edge("64MiB", disk.path()).start().await;
    assert!(!is_up(&edge.metrics().await));
    let more = get_some(&edge, "during", 5).await;
    // What is fetched again now replaces what lies there, and cannot be written.
    let (fetched_again, left) = targets.split_at(4);
    get_again(&edge, fetched_again).await;
    mount("remount,rw", disk.path());
    edge.logged(WELL).await;
    assert_eq!(edge.lines_with(FAULT), 1);
    get_again(&edge, &more).await;
    let later = get_some(&edge, "later", 5).await;
    written(&edge, 0).await;
    crash(edge);

    let edge = library.edge("64MiB", disk.path()).start().await;
    recovered(&edge).await;
    for targets in [left, &later] {
        assert_eq!(get_again(&edge, targets).await, targets.len());
    }
    get_again(&edge, fetched_again).await;
}
