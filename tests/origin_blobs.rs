//! What the blobs of the store keep through failing disks and power losses.

mod blobs_support;

use std::io::ErrorKind;
use std::sync::Arc;

use blobs_support::{
    Call, Chance, Fault, FaultyDisk, UnsyncedDisk, folder, layout, number, open, publish, read,
    rows, start, start_soundly,
};
use futures_util::future::join_all;
use tempfile::TempDir;
use tidegate::config::Redundancy;
use tidegate::origin::blobs::{
    BlobError, DiskBlobs, DiskState, Layout, LayoutError, PackId, Place, StoredBlob, Tier, Verdict,
};

const NONE: Redundancy = Redundancy::None;
const TWO_COPIES: Redundancy = Redundancy::Copies(2);
const TWO_AND_ONE: Redundancy = Redundancy::Shards { data: 2, parity: 1 };
/// Too long for a pack.
const EXTENT_BYTES: usize = (1 << 20) + 12_345;

/// An acknowledged object: its blobs, as the rows have them, and its bytes.
type Object = (Vec<StoredBlob>, Vec<u8>);

/// The executable model: objects are either acknowledged, and then they are read back on every disk of their set after
/// any stop, or they are not. What no row names is gone after a sweep.
#[tokio::test]
async fn whatever_fails_what_was_published_is_there_after_a_power_loss() {
    for seed in 0..number("BLOB_MODEL_SEEDS", 40) {
        println!("seed {seed}");
        Model::new(seed).run().await;
    }
}

struct Model {
    chance: Chance,
    layout: Layout,
    generation: i64,
    objects: Vec<Object>,
    _folder: TempDir,
}

impl Model {
    fn new(seed: u64) -> Self {
        let folder = folder();
        let (disks, redundancy) =
            [(1, NONE), (2, NONE), (3, TWO_COPIES), (4, TWO_AND_ONE)][seed as usize % 4];
        Model {
            chance: Chance(seed),
            layout: layout(folder.path(), disks, redundancy),
            generation: 0,
            objects: Vec::new(),
            _folder: folder,
        }
    }

    async fn run(mut self) {
        for _ in 0..5 {
            self.generation += 1;
            let disk = FaultyDisk::new(&self.layout, Vec::new());
            let blobs = start(&self.layout, self.generation, disk.clone()).unwrap();
            self.check(&blobs);
            for _ in 0..self.chance.below(4) {
                disk.strike(self.fault());
            }
            for _ in 0..2 + self.chance.below(8) {
                self.step(&blobs).await;
            }
            if self.chance.one_in(4) {
                self.readable(&blobs);
            } else {
                disk.power_loss(&mut self.chance);
            }
        }
        self.generation += 1;
        let blobs = start_soundly(&self.layout, self.generation);
        self.check(&blobs);
    }

    fn fault(&mut self) -> Fault {
        let calls = [
            Call::Create,
            Call::Write,
            Call::Sync,
            Call::Sync,
            Call::Rename,
            Call::SyncFolder,
            Call::Unlink,
            Call::Read,
        ];
        let disk = self.chance.below(self.layout.data.disks.len() as u64) as usize;
        let full = self.chance.one_in(3);
        Fault {
            call: calls[self.chance.below(calls.len() as u64) as usize],
            folder: self.layout.data.disks[disk].clone(),
            healthy: self.chance.below(12),
            error: if full {
                ErrorKind::StorageFull
            } else {
                ErrorKind::Other
            },
        }
    }

    async fn step(&mut self, blobs: &DiskBlobs) {
        match self.chance.below(8) {
            0 if !self.objects.is_empty() => {
                let index = self.chance.below(self.objects.len() as u64) as usize;
                let (rows, _) = self.objects.swap_remove(index);
                for row in rows {
                    // A failure costs space until the next sweep.
                    drop(blobs.remove(&row));
                }
            }
            1 => self.compact(blobs).await,
            _ => {
                let count = 1 + self.chance.below(6);
                let bytes: Vec<Vec<u8>> = (0..count).map(|_| self.bytes()).collect();
                let published = join_all(bytes.iter().map(|bytes| publish(blobs, bytes))).await;
                for (bytes, published) in bytes.into_iter().zip(published) {
                    match published {
                        Ok(published) => self.objects.push((rows(published), bytes)),
                        Err(
                            BlobError::WritesRefused
                            | BlobError::NoSpace { .. }
                            | BlobError::Write { .. },
                        ) => {}
                        Err(other) => panic!("{other:?}"),
                    }
                }
            }
        }
    }

    fn bytes(&mut self) -> Vec<u8> {
        let length = match self.chance.below(10) {
            0 => EXTENT_BYTES as u64 + self.chance.below(200_000),
            1 => 65_536 + self.chance.below(200_000),
            _ => 4097 + self.chance.below(20_000),
        };
        self.chance.bytes(length as usize)
    }

    /// Moves what is alive out of the pack of some object.
    async fn compact(&mut self, blobs: &DiskBlobs) {
        let packs = (self.objects.iter()).filter_map(|(rows, _)| rows[0].place.pack());
        let packs: Vec<PackId> = packs.filter(|pack| blobs.compactable(*pack)).collect();
        if packs.is_empty() {
            return;
        }
        let pack = packs[self.chance.below(packs.len() as u64) as usize];
        let live: Vec<StoredBlob> = (self.objects.iter().flat_map(|(rows, _)| rows))
            .filter(|row| row.place.pack() == Some(pack))
            .cloned()
            .collect();
        let Ok(moved) = blobs.compact(pack, live).await else {
            return;
        };
        for row in self.objects.iter_mut().flat_map(|(rows, _)| rows) {
            if let Some(moved) = moved.iter().find(|moved| moved.id == row.id) {
                row.place = Place::from_bytes(&moved.place.to_bytes()).unwrap();
            }
        }
        drop(blobs.remove_pack(pack));
    }

    /// What holds after every start.
    fn check(&self, blobs: &DiskBlobs) {
        let rows = || self.objects.iter().flat_map(|(rows, _)| rows);
        blobs
            .sweep(&|id| rows().any(|row| row.id == id), &|pack| {
                rows().any(|row| row.place.pack() == Some(pack))
            })
            .unwrap();
        for usage in blobs.usage().unwrap() {
            assert_eq!(usage.state, DiskState::Ready);
            let on_it = rows().filter(|row| row.place.disks().contains(&usage.number));
            let (mut files, mut records) = (0, 0);
            for row in on_it {
                let bytes = row.place.bytes_on_each_disk(row.length_bytes);
                match row.place.pack() {
                    Some(_) => records += bytes,
                    None => files += bytes,
                }
            }
            assert_eq!((usage.files.bytes, usage.unfinished.bytes), (files, 0));
            assert!(
                usage.packs.bytes >= records,
                "{} < {records}",
                usage.packs.bytes
            );
        }
        self.readable(blobs);
        for row in rows() {
            let verdict = blobs.verify(row);
            assert!(matches!(verdict, Verdict::Intact), "{row:?} {verdict:?}");
        }
    }

    fn readable(&self, blobs: &DiskBlobs) {
        for (rows, bytes) in &self.objects {
            match read(blobs, rows) {
                Ok(read) => assert!(read == *bytes, "{rows:?} has other bytes"),
                // A disk may fail to read; it may not lie.
                Err(BlobError::Read { .. }) => {}
                Err(other) => panic!("{rows:?}: {other:?}"),
            }
        }
    }
}

/// `no-write-behind-a-failure`
#[tokio::test]
async fn after_a_failed_write_or_sync_the_disk_is_read_but_not_written() {
    for length in [10_000, EXTENT_BYTES] {
        for call in [
            Call::Write,
            Call::Sync,
            Call::SyncFolder,
            Call::Rename,
            Call::Create,
        ] {
            // What a pack does once only is over when the fault comes.
            let in_every_pack_write = matches!(call, Call::Write | Call::Sync);
            if length == 10_000 && !in_every_pack_write {
                continue;
            }
            let folder = folder();
            let layout = layout(folder.path(), 1, NONE);
            let disk = FaultyDisk::new(&layout, Vec::new());
            let blobs = start(&layout, 1, disk.clone()).unwrap();
            let mut chance = Chance(7);
            let bytes = chance.bytes(length);
            let good = rows(publish(&blobs, &bytes).await.unwrap());
            disk.strike(Fault {
                call,
                folder: layout.data.disks[0].clone(),
                healthy: 0,
                error: ErrorKind::Other,
            });
            let failed = publish(&blobs, &bytes).await.unwrap_err();
            assert!(
                matches!(failed, BlobError::Write { .. }),
                "{call:?} {failed:?}"
            );
            assert_eq!(disk.struck(), 1);
            assert_eq!(blobs.disk_states(), [DiskState::Failed]);
            // The disk would work again; nobody tries.
            for _ in 0..3 {
                let refused = publish(&blobs, &bytes).await.unwrap_err();
                assert!(
                    matches!(refused, BlobError::WritesRefused),
                    "{call:?} {refused:?}"
                );
            }
            assert_eq!(disk.violations(), [""; 0], "{call:?}");
            assert!(read(&blobs, &good).unwrap() == bytes);
            drop(blobs);
            let blobs = start_soundly(&layout, 2);
            assert!(read(&blobs, &good).unwrap() == bytes);
            publish(&blobs, &bytes).await.unwrap();
        }
    }
}

#[tokio::test]
async fn writes_go_to_the_disks_that_are_sound_while_they_are_enough() {
    for redundancy in [TWO_COPIES, TWO_AND_ONE] {
        let folder = folder();
        let disks = redundancy.width() + 1;
        let layout = layout(folder.path(), disks, redundancy);
        let disk = FaultyDisk::new(&layout, Vec::new());
        let blobs = start(&layout, 1, disk.clone()).unwrap();
        let mut chance = Chance(8);
        let mut objects: Vec<Object> = Vec::new();
        let fail_disk = |number: usize| {
            disk.strike(Fault {
                call: Call::Sync,
                folder: layout.data.disks[number].clone(),
                healthy: 0,
                error: ErrorKind::Other,
            });
        };
        fail_disk(0);
        let mut failures = 0;
        for round in 0..24 {
            let bytes = chance.bytes(if round % 4 == 0 { EXTENT_BYTES } else { 5_000 });
            match publish(&blobs, &bytes).await {
                Ok(published) => objects.push((rows(published), bytes)),
                Err(BlobError::Write { .. }) => failures += 1,
                Err(other) => panic!("{other:?}"),
            }
        }
        assert_eq!(failures, 1, "one set met the failing disk");
        assert_eq!(blobs.disk_states()[0], DiskState::Failed);
        for (rows, _) in &objects[objects.len() - 10..] {
            assert!(rows.iter().all(|row| !row.place.disks().contains(&0)));
        }
        fail_disk(1);
        let refused = loop {
            let bytes = chance.bytes(5_000);
            match publish(&blobs, &bytes).await {
                Ok(published) => objects.push((rows(published), bytes)),
                Err(BlobError::Write { .. }) => {}
                Err(refused) => break refused,
            }
        };
        assert!(matches!(refused, BlobError::WritesRefused), "{refused:?}");
        assert_eq!(disk.violations(), [""; 0]);
        for (rows, bytes) in &objects {
            assert!(read(&blobs, rows).unwrap() == *bytes);
        }
    }
}

#[tokio::test]
async fn a_full_disk_fails_one_upload_and_the_pack_stays_usable() {
    for (disks, redundancy) in [(1, NONE), (2, TWO_COPIES), (3, TWO_AND_ONE)] {
        for length in [10_000, EXTENT_BYTES] {
            let folder = folder();
            let layout = layout(folder.path(), disks, redundancy);
            let disk = FaultyDisk::new(&layout, Vec::new());
            let blobs = start(&layout, 1, disk.clone()).unwrap();
            let mut chance = Chance(9);
            let before = chance.bytes(length);
            let first = rows(publish(&blobs, &before).await.unwrap());
            disk.strike(Fault {
                call: Call::Write,
                folder: layout.data.disks[disks - 1].clone(),
                healthy: 0,
                error: ErrorKind::StorageFull,
            });
            let failed = publish(&blobs, &before).await.unwrap_err();
            assert!(matches!(failed, BlobError::NoSpace { .. }), "{failed:?}");
            assert!(
                blobs
                    .disk_states()
                    .iter()
                    .all(|state| *state == DiskState::Ready)
            );
            let after = chance.bytes(length + 1);
            let second = rows(publish(&blobs, &after).await.unwrap());
            assert!(first[0].place.pack() == second[0].place.pack());
            for usage in blobs.usage().unwrap() {
                let expected: u64 = (first.iter().chain(&second))
                    .map(|row| row.place.bytes_on_each_disk(row.length_bytes))
                    .sum();
                assert_eq!(
                    usage.files.bytes + usage.packs.bytes,
                    expected,
                    "nothing is left of it"
                );
                assert_eq!(usage.unfinished.files, 0);
            }
            // Nor does a power loss bring the half-written one back over a good one.
            disk.power_loss(&mut chance);
            drop(blobs);
            let blobs = start_soundly(&layout, 2);
            assert!(read(&blobs, &first).unwrap() == before);
            assert!(read(&blobs, &second).unwrap() == after);
        }
    }
}

/// Records that wait together share a sync, and one for which there is no room fails by itself.
#[tokio::test]
async fn records_that_wait_share_a_sync_and_only_the_one_without_room_fails() {
    let folder = folder();
    let layout = layout(folder.path(), 1, NONE);
    let disk = FaultyDisk::new(&layout, Vec::new());
    let blobs = start(&layout, 1, disk.clone()).unwrap();
    let mut chance = Chance(10);
    let bytes: Vec<Vec<u8>> = (0..200).map(|_| chance.bytes(5_000)).collect();
    let (syncs, gate) = (disk.syncs(), disk.hold_syncs());
    let publications = join_all(bytes.iter().map(|bytes| publish(&blobs, bytes)));
    // The gate opens when all have been handed over.
    let (published, ()) = tokio::join!(publications, async move { drop(gate) });
    assert!(published.iter().all(Result::is_ok));
    // What came before the gate, and at most 128 in each of the others.
    let syncs = disk.syncs() - syncs;
    assert!(syncs <= 3, "200 records took {syncs} syncs");
    // The batch meets the full disk, then each record is tried by itself, of which the second does.
    for healthy in [0, 1] {
        disk.strike(Fault {
            call: Call::Write,
            folder: layout.data.disks[0].clone(),
            healthy,
            error: ErrorKind::StorageFull,
        });
    }
    let published = join_all(bytes.iter().map(|bytes| publish(&blobs, bytes))).await;
    let failed = published.iter().filter(|published| published.is_err());
    assert!((1..=2).contains(&failed.count()));
    for (published, bytes) in published.into_iter().zip(&bytes) {
        if let Ok(published) = published {
            assert!(read(&blobs, &rows(published)).unwrap() == *bytes);
        }
    }
}

#[tokio::test]
async fn a_folder_that_is_not_what_it_should_be_is_told_at_the_start() {
    let folder = folder();
    let layout = layout(folder.path(), 3, TWO_COPIES);
    drop(start_soundly(&layout, 1));
    let refused = |layout: &Layout| start(layout, 2, Arc::new(UnsyncedDisk)).err();
    let mut swapped = layout.clone();
    swapped.data.disks.swap(0, 1);
    match refused(&swapped) {
        Some(LayoutError::Foreign {
            number: 0, found, ..
        }) => {
            assert!(found.starts_with("disk 1 of store "), "{found}");
        }
        other => panic!("{other:?}"),
    }
    let mut fewer = layout.clone();
    fewer.data.disks.pop();
    match refused(&fewer) {
        Some(LayoutError::TooFew {
            tier: Tier::Data,
            configured: 2,
            used: 3,
        }) => {}
        other => panic!("{other:?}"),
    }
    // One more is welcome, unless it belongs to another store.
    let other_folder = blobs_support::folder();
    let other = blobs_support::layout(other_folder.path(), 4, TWO_COPIES);
    drop(start_soundly(&other, 1));
    let mut more = layout.clone();
    more.data.disks.push(other.data.disks[3].clone());
    match refused(&more) {
        Some(LayoutError::Foreign { number: 3, .. }) => {}
        other => panic!("{other:?}"),
    }
    more.data.disks[3] = folder.path().join("disk3");
    drop(start_soundly(&more, 2));
    // An unmounted disk looks like an empty folder. One may be absent; it is not used, not even for files.
    let emptied = |number: usize| {
        std::fs::remove_dir_all(&more.data.disks[number]).unwrap();
        std::fs::create_dir(&more.data.disks[number]).unwrap();
    };
    emptied(2);
    let blobs = start_soundly(&more, 3);
    assert_eq!(blobs.disk_states()[2], DiskState::Absent);
    for _ in 0..8 {
        publish(&blobs, &[7; EXTENT_BYTES]).await.unwrap();
    }
    drop(blobs);
    assert_eq!(std::fs::read_dir(&more.data.disks[2]).unwrap().count(), 0);
    emptied(1);
    match refused(&more) {
        Some(LayoutError::Absent {
            absent,
            tolerated: 1,
        }) => assert_eq!(absent, [1, 2]),
        other => panic!("{other:?}"),
    }
    // The operator says so for each.
    std::fs::write(more.data.disks[1].join("replaces-disk-2"), "").unwrap();
    assert!(refused(&more).is_some(), "the file names another disk");
    std::fs::write(more.data.disks[1].join("replaces-disk-1"), "").unwrap();
    let blobs = start_soundly(&more, 4);
    assert_eq!(blobs.disk_states()[1], DiskState::Ready);
    assert!(!more.data.disks[1].join("replaces-disk-1").exists());
}

#[tokio::test]
async fn a_reader_keeps_what_it_has_opened_when_it_is_removed() {
    let folder = folder();
    let layout = layout(folder.path(), 2, TWO_COPIES);
    let blobs = start_soundly(&layout, 1);
    let mut chance = Chance(11);
    let first = chance.bytes(EXTENT_BYTES);
    let second = chance.bytes(5_000);
    let mut rows_of_both = rows(publish(&blobs, &first).await.unwrap());
    rows_of_both.extend(rows(publish(&blobs, &second).await.unwrap()));
    let reader = open(&blobs, &rows_of_both).unwrap();
    for row in &rows_of_both {
        blobs.remove(row).unwrap();
    }
    let mut read = Vec::new();
    while (read.len() as u64) < reader.length_bytes() {
        let range = read.len() as u64..reader.length_bytes();
        read.extend_from_slice(&reader.read(range).unwrap());
    }
    assert!(read == [first, second].concat());
    drop(reader);
    match open(&blobs, &rows_of_both).err() {
        Some(BlobError::Missing { id }) => assert_eq!(id, rows_of_both[0].id.row()),
        other => panic!("{other:?}"),
    }
}
