//! What goes in comes out, by whatever way it is stored. Faults and damage: `tests/origin_blobs*.rs`.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;

use super::*;
use crate::config::Redundancy;

/// The machine's files, of which nobody cares whether they outlive it.
struct Quick;

impl Disk for Quick {
    fn sync_file(&self, _: &File) -> io::Result<()> {
        Ok(())
    }

    fn sync_data(&self, _: &File) -> io::Result<()> {
        Ok(())
    }

    fn sync_folder(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
}

/// As [`Quick`], and all that is read is in memory already.
struct Warm;

impl Disk for Warm {
    fn sync_file(&self, file: &File) -> io::Result<()> {
        Quick.sync_file(file)
    }

    fn sync_data(&self, file: &File) -> io::Result<()> {
        Quick.sync_data(file)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        Quick.sync_folder(folder)
    }

    fn open_at_once(&self, path: &Path) -> Option<File> {
        self.open(path).ok()
    }

    fn read_at_once(&self, file: &File, buffer: &mut [u8], offset: u64) -> bool {
        self.read_at(file, buffer, offset).is_ok()
    }
}

fn start(folder: &Path, redundancy: Redundancy, generation: i64) -> DiskBlobs {
    start_on(Arc::new(Quick), folder, redundancy, generation)
}

fn start_on(
    disk: Arc<dyn Disk>,
    folder: &Path,
    redundancy: Redundancy,
    generation: i64,
) -> DiskBlobs {
    let layout = Layout {
        home: folder.to_owned(),
        data: DiskGroup {
            disks: (0..redundancy.width())
                .map(|number| folder.join(format!("d{number}")))
                .collect(),
            redundancy,
        },
        cold: DiskGroup::default(),
    };
    DiskBlobs::start(&layout, generation, disk, Arc::default()).unwrap()
}

fn blobs(redundancy: Redundancy) -> (TempDir, DiskBlobs) {
    // In memory where the machine has such: a store makes hundreds of folders.
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() {
        tempfile::tempdir_in(memory).unwrap()
    } else {
        tempfile::tempdir().unwrap()
    };
    let blobs = start(folder.path(), redundancy, 1);
    (folder, blobs)
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length as u64)
        .map(|n| ((n * 2_654_435_761) >> 13) as u8)
        .collect()
}

async fn publish(blobs: &DiskBlobs, bytes: &[u8], piece: usize) -> Published {
    publish_to(blobs, Tier::Data, bytes, piece).await
}

async fn publish_to(blobs: &DiskBlobs, tier: Tier, bytes: &[u8], piece: usize) -> Published {
    let mut writer = blobs.writer(tier).unwrap();
    for part in bytes.chunks(piece) {
        writer.write(part).unwrap();
    }
    assert_eq!(writer.length_bytes(), bytes.len() as u64);
    writer.publish().await.unwrap()
}

fn whole(blob: StoredBlob) -> Extent {
    Extent {
        skip_bytes: 0,
        length_bytes: blob.length_bytes,
        blob,
    }
}

fn extents(published: Published) -> Vec<Extent> {
    match published.content {
        Content::Inline(bytes) => panic!("{} bytes are inline", bytes.len()),
        Content::Blobs(blobs) => blobs.into_iter().map(whole).collect(),
    }
}

fn read(reader: &DiskReader, range: std::ops::Range<u64>) -> Vec<u8> {
    let mut read = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let part = reader.read(at..range.end).unwrap();
        assert!(!part.is_empty() && part.len() <= READ_BYTES);
        at += part.len() as u64;
        read.extend_from_slice(&part);
    }
    read
}

const LAYOUTS: [Redundancy; 4] = [
    Redundancy::None,
    Redundancy::Copies(2),
    Redundancy::Shards { data: 4, parity: 2 },
    Redundancy::Shards { data: 3, parity: 1 },
];

#[tokio::test]
async fn what_is_in_memory_is_read_at_once_and_compared_like_any_other() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = start_on(Arc::new(Warm), folder.path(), Redundancy::None, 1);
    for length in [4097, 700_001, (1 << 20) + 70_001] {
        let bytes = pattern(length);
        let extent = extents(publish(&blobs, &bytes, length).await).remove(0);
        let reader = blobs.open_at_once(&extent).unwrap();
        let mut read = Vec::new();
        while read.len() < length {
            let rest = read.len() as u64..length as u64;
            read.extend_from_slice(&reader.read_at_once(rest).unwrap());
        }
        assert!(read == bytes);
        assert_eq!(reader.read_at_once(length as u64..length as u64 + 1), None);
        let part = reader.read_at_once(4000..4010).unwrap();
        assert_eq!(part[..], bytes[4000..4010]);
        // One bit of the first block.
        let parts = parts::Parts::new(extent.blob.clone(), Arc::clone(&blobs.inner.disks));
        let file = Quick.open_to_mend(&parts.path(0).unwrap()).unwrap();
        let flipped = [bytes[9] ^ 1];
        Quick
            .write_at(&file, &mut [io::IoSlice::new(&flipped)], parts.base() + 9)
            .unwrap();
        let reader = blobs.open_at_once(&extent).unwrap();
        assert_eq!(reader.read_at_once(4000..4010), None);
        let behind = reader.read_at_once(BLOCK_BYTES as u64..BLOCK_BYTES as u64 + 1);
        assert_eq!(behind.is_some(), length > BLOCK_BYTES);
        assert!(reader.read(4000..4010).is_err());
    }
}

#[tokio::test]
async fn what_has_to_be_found_out_is_not_opened_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let shards = Redundancy::Shards { data: 2, parity: 1 };
    let blobs = start_on(Arc::new(Warm), folder.path(), shards, 1);
    let extent = extents(publish(&blobs, &pattern(5000), 5000).await).remove(0);
    assert!(blobs.open_at_once(&extent).is_none());

    let folder = tempfile::tempdir().unwrap();
    let blobs = start_on(Arc::new(Warm), folder.path(), Redundancy::None, 1);
    let long = (1 << 20) + 1;
    let extent = extents(publish(&blobs, &pattern(long), long).await).remove(0);
    let parts = parts::Parts::new(extent.blob.clone(), Arc::clone(&blobs.inner.disks));
    let path = parts.path(0).unwrap();
    let file = Quick.open_to_mend(&path).unwrap();
    Quick.truncate(&file, long as u64 - 1).unwrap();
    assert!(
        blobs.open_at_once(&extent).is_none(),
        "it has another length"
    );
    Quick.unlink(&path).unwrap();
    assert!(blobs.open_at_once(&extent).is_none(), "it is gone");
    let pin = Pin::Blob(extent.blob.id);
    assert!(blobs.inner.pins.doom(pin, &[]), "nobody holds it");
}

#[tokio::test]
async fn a_range_comes_back_whole_however_it_was_written_and_kept() {
    for redundancy in LAYOUTS {
        let (_folder, blobs) = blobs(redundancy);
        for length in [4097, 65_536, 700_001, (1 << 20) + 70_001] {
            let bytes = pattern(length);
            for piece in [1000, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, length] {
                let published = publish(&blobs, &bytes, piece).await;
                let reader = blobs.open(extents(published)).unwrap();
                let (end, block) = (length as u64, BLOCK_BYTES as u64);
                assert_eq!(reader.length_bytes(), end);
                for range in [
                    0..end,
                    0..1,
                    block - 1..block + 1,
                    block..block + 1,
                    end - 1..end,
                ] {
                    let range = range.start.min(end)..range.end.min(end);
                    let expected = &bytes[range.start as usize..range.end as usize];
                    let found = read(&reader, range.clone());
                    assert!(
                        found == expected,
                        "{redundancy:?} {range:?} of {length} by {piece}"
                    );
                }
                assert!(reader.read(end..end + 1).unwrap().is_empty());
            }
        }
    }
}

#[tokio::test]
async fn the_length_decides_where_the_bytes_go() {
    let (folder, blobs) = blobs(Redundancy::None);
    for (length, place) in [
        (0, "row"),
        (INLINE_MAX_BYTES, "row"),
        (INLINE_MAX_BYTES + 1, "pack"),
        (PACKED_MAX_BYTES, "pack"),
        (PACKED_MAX_BYTES + 1, "file"),
    ] {
        let bytes = pattern(length);
        let mut writer = blobs.writer(Tier::Data).unwrap();
        assert!(writer.has_room_for(length.min(PACKED_MAX_BYTES)));
        writer.write(&bytes).unwrap();
        assert_eq!(writer.buffers_only(), place != "file", "{length}");
        let published = writer.publish().await.unwrap();
        assert_eq!(published.length_bytes, length as u64);
        let found = match &published.content {
            Content::Inline(inline) => {
                assert!(*inline == bytes);
                "row"
            }
            Content::Blobs(blobs) => match blobs.as_slice() {
                [blob] if blob.place.pack().is_some() => "pack",
                [_] => "file",
                several => panic!("{} blobs", several.len()),
            },
        };
        assert_eq!(found, place, "{length}");
    }
    let usage = &blobs.usage().unwrap()[0];
    let disk = |files: &str| folder.path().join("d0").join(files);
    assert_eq!(usage.files.files, 1);
    assert_eq!(usage.files.bytes, PACKED_MAX_BYTES as u64 + 1);
    assert_eq!(usage.unfinished.files, 0);
    let pack = std::fs::metadata(disk("pack/000001/0000000000.pack")).unwrap();
    let records = 2 * record::HEADER_BYTES + INLINE_MAX_BYTES + 1 + PACKED_MAX_BYTES;
    assert_eq!(pack.len(), records as u64);
    assert_eq!((usage.packs.files, usage.packs.bytes), (1, pack.len()));
}

#[tokio::test]
async fn many_bytes_are_cut_into_extents_and_parts_of_them_are_read_as_one() {
    let (_folder, blobs) = blobs(Redundancy::None);
    let length = EXTENT_MAX_BYTES as usize + 100_000;
    let bytes = pattern(length);
    let parts = extents(publish(&blobs, &bytes, 1 << 20).await);
    let lengths: Vec<u64> = parts.iter().map(|part| part.length_bytes).collect();
    assert_eq!(lengths, [EXTENT_MAX_BYTES, 100_000]);
    let reader = blobs.open(parts.clone()).unwrap();
    let seam = EXTENT_MAX_BYTES - 10..EXTENT_MAX_BYTES + 10;
    let expected = &bytes[seam.start as usize..seam.end as usize];
    assert_eq!(read(&reader, seam), expected);
    // As a copy of ranges of other objects would: not one bound is that of a block.
    let pieces = [
        (0, 99_990, 10),
        (1, 70_001, 29_000),
        (0, 65_535, 2),
        (1, 0, 0),
    ];
    let mut joined = Vec::new();
    let mut cut = Vec::new();
    for (index, skip_bytes, length_bytes) in pieces {
        cut.push(Extent {
            skip_bytes,
            length_bytes,
            ..parts[index].clone()
        });
        let start = (index as u64 * EXTENT_MAX_BYTES + skip_bytes) as usize;
        joined.extend_from_slice(&bytes[start..start + length_bytes as usize]);
    }
    let reader = blobs.open(cut).unwrap();
    let end = reader.length_bytes();
    assert_eq!(end, joined.len() as u64);
    for from in [0, 9, 10, 29_009, 29_010, end - 1] {
        assert_eq!(
            read(&reader, from..end),
            &joined[from as usize..],
            "from {from}"
        );
    }
    let beyond = Extent {
        skip_bytes: 1,
        ..parts[1].clone()
    };
    let refused = blobs.open(vec![beyond]).err();
    assert!(
        matches!(refused, Some(BlobError::Length { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_writer_that_is_dropped_leaves_nothing() {
    for redundancy in LAYOUTS {
        let (_folder, blobs) = blobs(redundancy);
        for length in [0, 10_000, (1 << 20) + 1, 3 << 20] {
            let mut writer = blobs.writer(Tier::Data).unwrap();
            writer.write(&pattern(length)).unwrap();
            drop(writer);
            for usage in blobs.usage().unwrap() {
                assert_eq!(usage.unfinished.files + usage.files.files, 0, "{length}");
            }
        }
    }
}

#[tokio::test]
async fn a_removed_blob_goes_with_its_last_reader_and_is_missing_then() {
    let (_folder, blobs) = blobs(Redundancy::Copies(2));
    let bytes = pattern((1 << 20) + 1);
    let parts = extents(publish(&blobs, &bytes, 1 << 16).await);
    let blob = parts[0].blob.clone();
    let reader = blobs.open(parts.clone()).unwrap();
    blobs.remove(&blob).unwrap();
    assert!(read(&reader, 0..reader.length_bytes()) == bytes);
    assert_eq!(blobs.usage().unwrap()[1].files.files, 1);
    drop(reader);
    assert!(matches!(
        blobs.open(parts),
        Err(BlobError::Missing { id }) if id == blob.id.row()
    ));
    for usage in blobs.usage().unwrap() {
        assert_eq!(usage.files.files, 0);
    }
    blobs.remove(&blob).unwrap();
}

/// `delete-needs-proof`
#[tokio::test]
async fn a_sweep_removes_what_no_row_names_of_dead_generations_only() {
    let (folder, blobs) = blobs(Redundancy::None);
    let mut named = Vec::new();
    let mut orphans = Vec::new();
    for length in [5_000, (1 << 20) + 1] {
        named.push(extents(publish(&blobs, &pattern(length), 1 << 16).await));
    }
    orphans.push(extents(
        publish(&blobs, &pattern((1 << 20) + 1), 1 << 16).await,
    ));
    drop(blobs);
    // A pack in which no row names a blob, by a writer that died before its commit.
    let blobs = start(folder.path(), Redundancy::None, 2);
    orphans.push(extents(publish(&blobs, &pattern(5_000), 1 << 16).await));
    drop(blobs);
    let disk = folder.path().join("d0");
    std::fs::write(disk.join("tmp/0000010000000077"), b"unfinished").unwrap();
    std::fs::write(disk.join("tmp/0000010000000000.mend"), b"half mended").unwrap();
    std::fs::write(disk.join("big/00/README"), b"somebody's").unwrap();
    std::fs::write(disk.join("pack/notes"), b"somebody's").unwrap();
    let blobs = start(folder.path(), Redundancy::None, 3);
    let live = extents(publish(&blobs, &pattern(5_000), 1 << 16).await);
    let rows: Vec<StoredBlob> = named
        .iter()
        .flatten()
        .map(|part| part.blob.clone())
        .collect();
    let swept = blobs
        .sweep(&|id| rows.iter().any(|row| row.id == id), &|pack| {
            rows.iter().any(|row| row.place.pack() == Some(pack))
        })
        .unwrap();
    let expected = Swept {
        unfinished: 2,
        orphans: 1,
        packs: 1,
        foreign: 2,
    };
    assert_eq!(swept, expected);
    assert!(!disk.join("pack/000002").exists());
    for parts in named.into_iter().chain([live]) {
        blobs.open(parts).unwrap();
    }
    for parts in orphans {
        assert!(matches!(blobs.open(parts), Err(BlobError::Missing { .. })));
    }
}

#[tokio::test]
async fn a_compacted_pack_gives_its_room_back_and_its_blobs_stay() {
    for redundancy in LAYOUTS {
        let (folder, blobs) = blobs(redundancy);
        let mut rows = Vec::new();
        for number in 0..10 {
            let bytes = pattern(5_000 + number * 9_000);
            let parts = extents(publish(&blobs, &bytes, 1 << 16).await);
            rows.push((parts[0].blob.clone(), bytes));
        }
        let pack = rows[0].0.place.pack().unwrap();
        // Rows may yet be committed; and the pack is still being written.
        assert!(!blobs.compactable(pack));
        let busy = blobs.remove_pack(pack).unwrap_err();
        assert!(
            matches!(&busy, BlobError::Write { source, .. } if source.kind() == io::ErrorKind::ResourceBusy),
            "{busy:?}"
        );
        drop(blobs);
        let blobs = start(folder.path(), redundancy, 2);
        let mut rows: Vec<_> = rows.into_iter().step_by(3).collect();
        // The hold of the process that published them has ended with it.
        for (row, _) in &mut rows {
            row.place = Place::from_bytes(&row.place.to_bytes()).unwrap();
        }
        assert!(blobs.compactable(pack));
        let live = rows.iter().map(|(row, _)| row.clone()).collect();
        let moved = blobs.compact(pack, live).await.unwrap();
        let late = blobs.open(vec![whole(rows[1].0.clone())]).unwrap();
        blobs.remove_pack(pack).unwrap();
        assert!(read(&late, 0..late.length_bytes()) == rows[1].1);
        drop(late);
        let gone = blobs.open(vec![whole(rows[1].0.clone())]).err();
        assert!(matches!(gone, Some(BlobError::Missing { .. })), "{gone:?}");
        let mut expected_bytes = 0;
        for ((row, bytes), moved) in rows.iter_mut().zip(moved) {
            assert_eq!(row.id, moved.id);
            assert_ne!(moved.place.pack(), Some(pack));
            row.place = moved.place;
            expected_bytes += row.place.bytes_on_each_disk(row.length_bytes);
            let reader = blobs.open(vec![whole(row.clone())]).unwrap();
            assert!(read(&reader, 0..reader.length_bytes()) == *bytes);
            assert!(matches!(blobs.verify(row), Verdict::Intact));
        }
        for usage in blobs.usage().unwrap() {
            assert_eq!((usage.packs.files, usage.packs.bytes), (1, expected_bytes));
        }
    }
}

fn with_cold(folder: &Path) -> Layout {
    let disks = |name: &str, count: usize| {
        let path = |number| folder.join(format!("{name}{number}"));
        (0..count).map(path).collect()
    };
    Layout {
        home: folder.to_owned(),
        data: DiskGroup {
            disks: disks("d", 1),
            redundancy: Redundancy::None,
        },
        cold: DiskGroup {
            disks: disks("cold", 3),
            redundancy: Redundancy::Shards { data: 2, parity: 1 },
        },
    }
}

#[tokio::test]
async fn each_tier_has_disks_and_a_redundancy_of_its_own_and_compaction_leaves_blobs_in_theirs() {
    let folder = tempfile::tempdir().unwrap();
    let layout = with_cold(folder.path());
    let start = |generation| {
        DiskBlobs::start(&layout, generation, Arc::new(Quick), Arc::default()).unwrap()
    };
    let blobs = start(1);
    let bytes = pattern(PACKED_MAX_BYTES + 1);
    let mut packed = Vec::new();
    for (tier, disks) in [(Tier::Data, &[0][..]), (Tier::Cold, &[128, 129, 130])] {
        for length in [10_000, bytes.len()] {
            let published = publish_to(&blobs, tier, &bytes[..length], 1 << 20).await;
            let extents = extents(published);
            let blob = extents[0].blob.clone();
            assert_eq!(blob.place.tier(), tier);
            let mut on: Vec<u8> = blob.place.disks().to_vec();
            on.sort_unstable();
            assert_eq!(on, disks);
            let reader = blobs.open(extents).unwrap();
            assert_eq!(read(&reader, 0..length as u64), bytes[..length]);
            assert!(matches!(blobs.verify(&blob), Verdict::Intact));
            packed.extend(blob.place.pack().map(|_| blob));
        }
    }
    // As rows give them back: places that hold no pack.
    for blob in &mut packed {
        blob.place = Place::from_bytes(&blob.place.to_bytes()).unwrap();
    }
    drop(blobs);
    let blobs = start(2);
    for blob in packed {
        let pack = blob.place.pack().unwrap();
        let moved = blobs.compact(pack, vec![blob.clone()]).await.unwrap();
        assert_eq!(moved[0].place.tier(), blob.place.tier());
        assert_ne!(moved[0].place.pack(), Some(pack));
        blobs.remove_pack(pack).unwrap();
        let place = moved[0].place.clone();
        let reader = blobs.open(vec![whole(StoredBlob { place, ..blob })]);
        assert_eq!(read(&reader.unwrap(), 0..10_000), bytes[..10_000]);
    }
}

#[tokio::test]
async fn cold_disks_that_fail_refuse_what_goes_to_them_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let latch = Arc::<WriteLatch>::default();
    let layout = with_cold(folder.path());
    let blobs = DiskBlobs::start(&layout, 1, Arc::new(Quick), Arc::clone(&latch)).unwrap();
    let kept = publish_to(&blobs, Tier::Cold, &pattern(10_000), 10_000).await;
    blobs.inner.disks.fail(129, &io::ErrorKind::Other.into());
    assert!(blobs.writer(Tier::Cold).is_err());
    assert!(!latch.has_fallen());
    publish_to(&blobs, Tier::Data, &pattern(10_000), 10_000).await;
    let reader = blobs.open(extents(kept)).unwrap();
    assert_eq!(read(&reader, 0..10_000), pattern(10_000));
    blobs.inner.disks.fail(0, &io::ErrorKind::Other.into());
    assert!(latch.has_fallen());
}

#[tokio::test]
async fn cold_disks_that_were_used_must_stay_configured() {
    let folder = tempfile::tempdir().unwrap();
    let layout = with_cold(folder.path());
    let start = |layout: &Layout, generation| {
        DiskBlobs::start(layout, generation, Arc::new(Quick), Arc::default())
    };
    // A store of before there were any takes them, and then needs them.
    let before = Layout {
        cold: DiskGroup::default(),
        ..layout.clone()
    };
    let blobs = start(&before, 1).unwrap();
    assert!(blobs.writer(Tier::Cold).is_err() && !blobs.has_cold());
    assert!(start(&layout, 2).unwrap().has_cold());
    let refused = start(&before, 3).err().unwrap();
    assert_eq!(
        refused.to_string(),
        "0 cold disks are configured, but the store has used 3"
    );
}
