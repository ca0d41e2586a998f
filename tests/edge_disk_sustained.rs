//! What happens while the disk tier is filled faster than its disk writes.
//!
//! The disk is a file system in a file, mounted so that each write waits for it; about ten
//! megabytes a second, where the page cache takes gigabytes. Without the right to mount one the
//! folder lies in the page cache, and no record is dropped.
//!
//! `DISK_FILL_SECONDS=600 cargo test --release --test edge_disk_sustained -- --ignored --nocapture`

mod disk_support;
mod harness;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use disk_support::{KIB, Library, Mounts, first_body, is_up, own_mounts, written};
use harness::{Client, Edge, Samples};
use tokio::task::JoinSet;

const SIZE: u64 = 64 * 1024 * 1024;
const FILLERS: usize = 4;

/// Small objects that are always in memory.
const HOT: usize = 50;

/// Objects that take more than the memory, so that hits come from disk too.
const WARM: usize = 200;

/// What the node may hold resident: 16 MiB of memory tier, 64 MiB of records that wait for the writer
/// and the batch it has in hand, and what a node without traffic takes, twice over.
const MOST_MEMORY: f64 = 256e6;

/// A file system whose every write waits for its file.
const MOUNT: &str = r#"
    truncate --size=256M "$1/image"
    mkfs.ext2 -q -F -b 2048 "$1/image"
    mkdir -p "$1/disk"
    mount -o loop,sync "$1/image" "$1/disk"
"#;

/// A folder on a disk that is slower than the fillers, if this machine allows it.
struct Disk {
    folder: tempfile::TempDir,
    is_slow: bool,
}

impl Disk {
    /// `None` when the test `name` has been run elsewhere.
    fn of(name: &str) -> Option<Self> {
        let probe = format!("set -- $(mktemp -d)\ntrap 'umount $1/disk; rm -r $1' EXIT\n{MOUNT}");
        let mounts = own_mounts(name, &[&["--mount"]], &probe);
        let folder = tempfile::tempdir().unwrap();
        let is_slow = match mounts {
            Mounts::Elsewhere => return None,
            Mounts::Refused => {
                println!("{name}: no right to mount a slow disk; on the disk of this machine");
                false
            }
            Mounts::Own => {
                let mut shell = Command::new("sh");
                shell.args(["-ec", MOUNT, "sh"]).arg(folder.path());
                let status = shell.status().unwrap();
                assert!(status.success(), "{status}");
                true
            }
        };
        Some(Disk { folder, is_slow })
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("disk")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.is_slow {
            // Not while the node still uses it; then it goes with the mounts of this process.
            let _ = Command::new("umount")
                .arg("--lazy")
                .arg(self.path())
                .status();
        }
    }
}

/// Gets new objects until `is_over`, each twice, and returns how many bytes came.
async fn fill(mut client: Client, next: Arc<AtomicUsize>, is_over: Arc<AtomicBool>) -> usize {
    let mut bytes = 0;
    while !is_over.load(Ordering::Relaxed) {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let target = format!("/{}/fill/{number}", 250 * KIB);
        for _ in 0..2 {
            let response = client.get(&target).await;
            assert!(response.body == first_body(&target), "{target}");
            bytes += response.body.len();
        }
    }
    bytes
}

fn bytes_of_segments(disk: &Path) -> u64 {
    let files = std::fs::read_dir(disk.join("segments")).unwrap();
    let sizes = files.filter_map(|file| file.ok()?.metadata().ok());
    sizes.map(|file| file.len()).sum()
}

fn not_kept(metrics: &Samples, why: &str) -> f64 {
    let label = format!("why={why:?}");
    metrics.sum("tidegate_cache_disk_records_not_kept_total", &[&label])
}

fn written_bytes(metrics: &Samples, why: &str) -> f64 {
    let label = format!("why={why:?}");
    metrics.sum("tidegate_cache_disk_written_bytes_total", &[&label])
}

/// What was seen while the tier was filled.
#[derive(Default)]
struct Seen {
    hot: Vec<Duration>,
    warm: Vec<Duration>,
    most_bytes: u64,
    most_memory: f64,
}

impl Seen {
    /// Asks for what is kept, and looks at the folder and the metrics, until these say that it is
    /// `over`.
    async fn watch(&mut self, edge: &Edge, disk: &Path, over: impl Fn(&Samples) -> bool) {
        let mut client = edge.client().await;
        for at in 0_usize.. {
            let (target, latencies) = match at % 2 {
                0 => (hot(at / 2 % HOT), &mut self.hot),
                _ => (warm(at / 2 % WARM), &mut self.warm),
            };
            let asked = Instant::now();
            let response = client.get(&target).await;
            if response.is_hit() {
                latencies.push(asked.elapsed());
            }
            assert!(response.body == first_body(&target), "{target}");
            self.most_bytes = self.most_bytes.max(bytes_of_segments(disk));
            assert!(self.most_bytes <= SIZE, "{}", self.most_bytes);
            if at % 100 == 0 {
                let metrics = edge.metrics().await;
                let memory = metrics.sum("process_resident_memory_bytes", &[]);
                self.most_memory = self.most_memory.max(memory);
                assert!(memory <= MOST_MEMORY, "{memory} bytes resident");
                if over(&metrics) {
                    return;
                }
            }
        }
    }
}

fn hot(at: usize) -> String {
    format!("/{}/hot/{at}", 10 * KIB)
}

fn warm(at: usize) -> String {
    format!("/{}/warm/{at}", 100 * KIB)
}

/// Fills the tier on `disk` until its metrics say that it is `over`, and shows what was seen.
async fn fill_until(disk: &Disk, over: impl Fn(&Samples) -> bool) {
    let library = Library::open().await;
    let path = disk.path();
    let edge = library.edge("16MiB", &path).start().await;
    for target in (0..HOT).map(hot).chain((0..WARM).map(warm)) {
        edge.get(&target).await;
    }
    written(&edge, HOT + WARM).await;
    let (next, is_over) = (Arc::default(), Arc::new(AtomicBool::new(false)));
    let mut fillers = JoinSet::new();
    for _ in 0..FILLERS {
        fillers.spawn(fill(
            edge.client().await,
            Arc::clone(&next),
            is_over.clone(),
        ));
    }
    let began = Instant::now();
    let mut seen = Seen::default();
    seen.watch(&edge, &path, over).await;
    let took = began.elapsed();
    is_over.store(true, Ordering::Relaxed);
    let mut filled = 0;
    while let Some(filler) = fillers.join_next().await {
        filled += filler.unwrap();
    }
    let metrics = edge.metrics().await;
    for (name, latencies) in [("hot", &mut seen.hot), ("warm", &mut seen.warm)] {
        latencies.sort();
        let part = |percent: usize| latencies.get(latencies.len() * percent / 100);
        println!(
            "{took:.0?}: {} {name} hits, p50 {:?}, p99 {:?}, longest {:?}",
            latencies.len(),
            part(50),
            part(99),
            latencies.last(),
        );
    }
    println!(
        "{} MB answered to those who filled; {:.0} MB written new, {:.0} MB kept; records: {} dropped, {} rare, {} evicted",
        filled / 1_000_000,
        written_bytes(&metrics, "new") / 1e6,
        written_bytes(&metrics, "kept") / 1e6,
        not_kept(&metrics, "dropped"),
        not_kept(&metrics, "rare"),
        not_kept(&metrics, "evicted"),
    );
    println!(
        "segments took {} of {SIZE} bytes at most, memory {:.0} MB",
        seen.most_bytes,
        seen.most_memory / 1e6
    );
    assert!(is_up(&metrics));
    assert!(!seen.hot.is_empty());
    written(&edge, 0).await;
    assert!(bytes_of_segments(&path) <= SIZE);
}

/// Twice the size of the tier was written: newcomers got in after it was full.
fn is_still_admitting(metrics: &Samples) -> bool {
    written_bytes(metrics, "new") > 2.0 * SIZE as f64 && not_kept(metrics, "evicted") > 0.0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_hold_while_more_is_filled_than_the_disk_takes() {
    let Some(disk) = Disk::of("limits_hold_while_more_is_filled_than_the_disk_takes") else {
        return;
    };
    let is_slow = disk.is_slow;
    fill_until(&disk, |metrics| {
        let is_behind = not_kept(metrics, "dropped") > 0.0;
        // A machine may be so quick, or its clients so slow, that this disk keeps up.
        let is_enough = written_bytes(metrics, "new") > 20.0 * SIZE as f64;
        is_still_admitting(metrics) && (!is_slow || is_behind || is_enough)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes as long as DISK_FILL_SECONDS says, a minute by default"]
async fn hits_stay_quick_while_more_is_filled_than_the_disk_takes() {
    let seconds = std::env::var("DISK_FILL_SECONDS").map_or(60, |text| text.parse().unwrap());
    let Some(disk) = Disk::of("hits_stay_quick_while_more_is_filled_than_the_disk_takes") else {
        return;
    };
    let end = Instant::now() + Duration::from_secs(seconds);
    fill_until(&disk, |metrics| {
        Instant::now() >= end && (seconds < 10 || is_still_admitting(metrics))
    })
    .await;
}
