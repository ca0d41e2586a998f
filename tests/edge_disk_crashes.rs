//! The disk tier across kill -9 under load.

mod disk_support;
mod harness;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use disk_support::{Dice, KIB, Library, crash, first_body, records_of, recovered, shown};
use harness::{Client, Edge, Samples, within};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

/// Rounds of the ordinary run; `DISK_CRASHES` asks for another number.
const ROUNDS: usize = 6;

/// After so many a folder has been filled, and a new one is begun.
const ROUNDS_PER_FOLDER: usize = 8;

const CLIENTS: usize = 4;

/// Objects that are fetched and written before the load begins that the crash interrupts.
const SETTLED: usize = 30;

/// Objects of that load.
const LOADED: usize = 60;

/// Clients that get one target after the other until there is none, or no edge.
async fn load(
    edge: &Edge,
    targets: &Arc<Vec<String>>,
    next: &Arc<AtomicUsize>,
    answered: &UnboundedSender<()>,
) -> JoinSet<usize> {
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let client = edge.client().await;
        let (targets, next) = (targets.clone(), next.clone());
        clients.spawn(take_turns(client, targets, next, answered.clone()));
    }
    clients
}

/// Returns how many were hits. Whatever comes is right, also what a crash cuts short.
async fn take_turns(
    mut client: Client,
    targets: Arc<Vec<String>>,
    next: Arc<AtomicUsize>,
    answered: UnboundedSender<()>,
) -> usize {
    let mut hits = 0;
    while let Some(target) = targets.get(next.fetch_add(1, Ordering::Relaxed)) {
        let request = format!("GET {target} HTTP/1.1\r\nHost: media.example\r\n\r\n");
        client.send_regardless(request).await;
        match client.try_response("GET").await {
            Ok(response) => {
                assert_eq!(response.status, 200, "{target}: {response:?}");
                assert!(response.body == first_body(target), "{target}");
                hits += usize::from(response.is_hit());
            }
            Err(short) => {
                // Of the head, or of the body.
                let is_right = b"HTTP/1.1 200 OK\r\n".starts_with(&short.bytes)
                    || short.bytes.starts_with(b"HTTP/1.1 200 OK\r\n")
                    || first_body(target).starts_with(&short.bytes);
                assert!(is_right, "{target}");
                return hits;
            }
        }
        // Nobody may be counting.
        answered.send(()).ok();
    }
    hits
}

/// Gets all targets, of which each answer must be right, and returns how many were hits.
async fn hits(edge: &Edge, targets: Vec<String>) -> usize {
    let count = targets.len();
    let next = Arc::new(AtomicUsize::new(0));
    let (told, _counting) = unbounded_channel();
    let mut clients = load(edge, &Arc::new(targets), &next, &told).await;
    let mut hits = 0;
    while let Some(client) = within("a client ends", clients.join_next()).await {
        hits += client.unwrap();
    }
    assert!(
        next.load(Ordering::Relaxed) >= count + CLIENTS,
        "all were asked for"
    );
    hits
}

/// Nothing was refused, dropped or evicted by the process that shows this.
fn wrote_all(metrics: &Samples) -> bool {
    metrics.sum("tidegate_cache_disk_records_not_kept_total", &[]) == 0.0
}

/// Half of them small, the others up to three blocks.
fn targets(dice: &mut Dice, round: usize, name: &str, count: usize) -> Vec<String> {
    let length = |dice: &mut Dice| match dice.below(2) {
        0 => 1 + dice.below(20 * KIB),
        _ => 1 + dice.below(600 * KIB),
    };
    (0..count)
        .map(|at| format!("/{}/{round}/{name}/{at}", length(dice)))
        .collect()
}

/// One life of a node: what an earlier crash left is served right, much is written, and under load
/// comes the crash. Returns what was written before, if all of it was.
async fn live(library: &Library, disk: &Path, dice: &mut Dice, round: usize) -> Vec<String> {
    let edge = library.edge("1MiB", disk).start().await;
    let before = recovered(&edge).await;
    let held = before.sum("tidegate_cache_objects", &[r#"tier="disk""#]) as usize;
    let settled = targets(dice, round, "settled", SETTLED);
    hits(&edge, settled.clone()).await;
    let records: usize = settled.iter().map(|target| records_of(target)).sum();
    let expected = (held + records) as f64;
    let metrics = shown(&edge, "all is written, or some is lost", |metrics| {
        metrics.sum("tidegate_cache_disk_queued_bytes", &[]) == 0.0
            && (metrics.sum("tidegate_cache_objects", &[r#"tier="disk""#]) >= expected
                || !wrote_all(metrics))
    })
    .await;
    let acknowledged = match wrote_all(&metrics) {
        true => settled,
        false => Vec::new(),
    };
    let loaded = Arc::new(targets(dice, round, "loaded", LOADED));
    let next = Arc::new(AtomicUsize::new(0));
    let (told, mut answered) = unbounded_channel();
    let mut clients = load(&edge, &loaded, &next, &told).await;
    for _ in 0..dice.below(LOADED - CLIENTS) {
        within("an answer under load", answered.recv()).await;
    }
    crash(edge);
    while let Some(client) = within("a client ends", clients.join_next()).await {
        client.unwrap();
    }
    // Before all is known again: these may have been lost, but none may be wrong.
    let edge = library.edge("1MiB", disk).start().await;
    hits(&edge, loaded.to_vec()).await;
    crash(edge);
    acknowledged
}

#[tokio::test]
async fn after_a_crash_every_answer_is_right_and_what_was_written_is_there() {
    let rounds = std::env::var("DISK_CRASHES").map_or(ROUNDS, |text| text.parse().unwrap());
    let seed = std::env::var("DISK_CRASHES_SEED").map_or(4, |text| text.parse().unwrap());
    let mut dice = Dice(seed);
    let mut disk = tempfile::tempdir().unwrap();
    let (mut acknowledged, mut returned) = (0, 0);
    let library = Library::open().await;
    for round in 0..rounds {
        if round % ROUNDS_PER_FOLDER == 0 {
            disk = tempfile::tempdir().unwrap();
        }
        let settled = live(&library, disk.path(), &mut dice, round).await;
        let edge = library.edge("1MiB", disk.path()).start().await;
        recovered(&edge).await;
        acknowledged += settled.len();
        returned += hits(&edge, settled).await;
        crash(edge);
    }
    println!(
        "seed {seed}, {} crashes: {returned} of {acknowledged} written objects came back",
        3 * rounds
    );
    assert!(acknowledged >= SETTLED * rounds.min(2), "{acknowledged}");
    assert!(
        returned * 100 >= acknowledged * 95,
        "{returned} of {acknowledged}"
    );
}
