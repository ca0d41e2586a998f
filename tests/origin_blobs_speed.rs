//! How many small blobs a second are made durable. A figure, not a test:
//!
//! ```text
//! BLOB_SPEED_FOLDER=/srv cargo test --release --test origin_blobs_speed -- --ignored --nocapture
//! ```

mod blobs_support;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use blobs_support::{Chance, layout, number, publish, start};
use tidegate::config::Redundancy;
use tidegate::origin::disk::RealDisk;

/// Publishers that wait at a time.
const PUBLISHERS: u64 = 64;
const RECORD_BYTES: usize = 16 * 1024;

#[test]
#[ignore = "it measures"]
fn small_records_a_second() {
    let records = number("BLOB_SPEED_RECORDS", 40_000);
    let parent = std::env::var("BLOB_SPEED_FOLDER").map_or(std::env::temp_dir(), PathBuf::from);
    for redundancy in [
        Redundancy::None,
        Redundancy::Copies(2),
        Redundancy::Shards { data: 4, parity: 2 },
    ] {
        let folder = tempfile::tempdir_in(&parent).unwrap();
        let layout = layout(folder.path(), redundancy.width(), redundancy);
        let blobs = Arc::new(start(&layout, 1, Arc::new(RealDisk)).unwrap());
        let bytes = Arc::new(Chance(1).bytes(RECORD_BYTES));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .build()
            .unwrap();
        let begin = Instant::now();
        runtime.block_on(async {
            let mut publishers = tokio::task::JoinSet::new();
            for _ in 0..PUBLISHERS {
                let (blobs, bytes) = (Arc::clone(&blobs), Arc::clone(&bytes));
                publishers.spawn(async move {
                    for _ in 0..records / PUBLISHERS {
                        publish(&blobs, &bytes).await.unwrap();
                    }
                });
            }
            publishers.join_all().await;
        });
        let rate = records as f64 / begin.elapsed().as_secs_f64();
        println!("{redundancy:?}: {rate:.0} records of {RECORD_BYTES} bytes a second");
    }
}
