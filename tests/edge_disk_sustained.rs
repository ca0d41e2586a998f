//! A measurement, not a check that runs every time: what hits cost while the disk tier is filled as
//! fast as clients can.
//!
//! `DISK_FILL_SECONDS=600 cargo test --release --test edge_disk_sustained -- --ignored --nocapture`

mod disk_support;
mod harness;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use disk_support::{KIB, Library, first_body, is_up, written};
use harness::Client;
use tokio::task::JoinSet;

const SIZE: u64 = 64 * 1024 * 1024;
const FILLERS: usize = 4;
const HOT: usize = 50;

/// Gets new objects until `end`, each twice, and returns how many bytes came.
async fn fill(mut client: Client, next: Arc<AtomicUsize>, end: Instant) -> usize {
    let mut bytes = 0;
    while Instant::now() < end {
        let target = format!(
            "/{}/fill/{}",
            250 * KIB,
            next.fetch_add(1, Ordering::Relaxed)
        );
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes as long as DISK_FILL_SECONDS says, a minute by default"]
async fn hits_stay_quick_while_more_is_filled_than_the_disk_takes() {
    let seconds = std::env::var("DISK_FILL_SECONDS").map_or(60, |text| text.parse().unwrap());
    let library = Library::open().await;
    let disk = tempfile::tempdir().unwrap();
    let edge = library.edge("16MiB", disk.path()).start().await;
    let hot: Vec<_> = (0..HOT)
        .map(|at| format!("/{}/hot/{at}", 10 * KIB))
        .collect();
    for target in &hot {
        edge.get(target).await;
    }
    written(&edge, HOT).await;
    let end = Instant::now() + Duration::from_secs(seconds);
    let next = Arc::new(AtomicUsize::new(0));
    let mut fillers = JoinSet::new();
    for _ in 0..FILLERS {
        fillers.spawn(fill(edge.client().await, next.clone(), end));
    }
    let mut client = edge.client().await;
    let (mut latencies, mut most_bytes, mut most_memory) = (Vec::new(), 0, 0.0_f64);
    for at in 0.. {
        let asked = Instant::now();
        if asked >= end {
            break;
        }
        let target = &hot[at % HOT];
        let response = client.get(target).await;
        if response.is_hit() {
            latencies.push(asked.elapsed());
        }
        assert!(response.body == first_body(target), "{target}");
        most_bytes = most_bytes.max(bytes_of_segments(disk.path()));
        assert!(most_bytes <= SIZE, "{most_bytes}");
        if at % 1000 == 0 {
            let metrics = edge.metrics().await;
            most_memory = most_memory.max(metrics.sum("process_resident_memory_bytes", &[]));
        }
    }
    let mut filled = 0;
    while let Some(filler) = fillers.join_next().await {
        filled += filler.unwrap();
    }
    let metrics = edge.metrics().await;
    let lost = |why| metrics.sum("tidegate_cache_disk_records_not_kept_total", &[why]);
    let bytes = |why| metrics.sum("tidegate_cache_disk_written_bytes_total", &[why]);
    latencies.sort();
    let share = |percent: usize| latencies[latencies.len() * percent / 100];
    println!(
        "{seconds} s: {} hits, p50 {:?}, p99 {:?}, longest {:?}",
        latencies.len(),
        share(50),
        share(99),
        latencies[latencies.len() - 1],
    );
    println!(
        "{} MB answered to those who filled; {:.0} MB written new, {:.0} MB kept; records: {} dropped, {} rare, {} evicted",
        filled / 1_000_000,
        bytes(r#"why="new""#) / 1e6,
        bytes(r#"why="kept""#) / 1e6,
        lost(r#"why="dropped""#),
        lost(r#"why="rare""#),
        lost(r#"why="evicted""#),
    );
    println!(
        "segments took {most_bytes} of {SIZE} bytes at most, memory {:.0} MB",
        most_memory / 1e6
    );
    assert!(is_up(&metrics));
}
