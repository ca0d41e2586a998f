//! Damage on the disks of a redundant store: all of it is found, none of it is served, and it is mended byte for byte.

mod blobs_support;

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use blobs_support::{Chance, folder, layout, number, publish, read, rows, start_soundly, tree};
use tempfile::TempDir;
use tidegate::config::Redundancy;
use tidegate::origin::blobs::{BlobError, DiskBlobs, Layout, StoredBlob, Verdict};

const TWO_COPIES: Redundancy = Redundancy::Copies(2);
const FOUR_AND_TWO: Redundancy = Redundancy::Shards { data: 4, parity: 2 };

/// A store whose every byte some row names.
struct Filled {
    blobs: DiskBlobs,
    layout: Layout,
    objects: Vec<(Vec<StoredBlob>, Vec<u8>)>,
    sound: Vec<(PathBuf, Vec<u8>)>,
    folder: TempDir,
    generation: i64,
}

async fn fill(redundancy: Redundancy, chance: &mut Chance) -> Filled {
    let folder = folder();
    let layout = layout(folder.path(), redundancy.width(), redundancy);
    let blobs = start_soundly(&layout, 1);
    let mut objects = Vec::new();
    for length in [4097, 5_000, 65_536, 70_000, 200_001, (1 << 20) + 77] {
        let bytes = chance.bytes(length);
        let rows = rows(publish(&blobs, &bytes).await.unwrap());
        objects.push((rows, bytes));
    }
    Filled {
        sound: tree(folder.path()),
        blobs,
        layout,
        objects,
        folder,
        generation: 1,
    }
}

impl Filled {
    fn rows(&self) -> impl Iterator<Item = &StoredBlob> {
        self.objects.iter().flat_map(|(rows, _)| rows)
    }

    /// Files with bytes of blobs on one disk.
    fn files_on(&self, disk: usize) -> Vec<&PathBuf> {
        let root = &self.layout.data.disks[disk];
        let files = self.sound.iter().map(|(path, _)| path);
        files
            .filter(|path| path.starts_with(root) && !path.ends_with("identity"))
            .collect()
    }

    fn nothing_wrong_is_served(&self) {
        for (rows, bytes) in &self.objects {
            assert!(read(&self.blobs, rows).unwrap() == *bytes);
        }
    }

    /// The disks on which some blob is not as it was written.
    fn found(&self) -> Vec<u8> {
        let mut found = Vec::new();
        for row in self.rows() {
            match self.blobs.verify(row) {
                Verdict::Intact => {}
                Verdict::Repairable { disks } => found.extend(disks),
                Verdict::Lost(error) => panic!("{error:?}"),
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    fn repair(&self) {
        for row in self.rows() {
            assert_eq!(self.blobs.repair(row).unwrap().left, [0; 0]);
        }
    }

    fn is_as_it_was(&self) {
        let now = tree(self.folder.path());
        let names = |tree: &[(PathBuf, Vec<u8>)]| -> Vec<PathBuf> {
            tree.iter().map(|(path, _)| path.clone()).collect()
        };
        assert_eq!(names(&now), names(&self.sound));
        for ((path, now), (_, sound)) in now.iter().zip(&self.sound) {
            assert!(now == sound, "{} has other bytes", path.display());
        }
    }

    fn restart(&mut self) {
        self.generation += 1;
        self.blobs = start_soundly(&self.layout, self.generation);
    }
}

fn flip(path: &Path, bit: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, bit / 8).unwrap();
    file.write_all_at(&[byte[0] ^ (1 << (bit % 8))], bit / 8)
        .unwrap();
}

/// Shows 6, `verify-on-read`
#[tokio::test]
async fn every_flipped_bit_is_found_none_is_served_and_all_are_mended() {
    let flips = number("BLOB_FLIPS", 300);
    for (redundancy, tolerated) in [(TWO_COPIES, 1), (FOUR_AND_TWO, 2)] {
        let mut chance = Chance(flips);
        let filled = fill(redundancy, &mut chance).await;
        let disks = filled.layout.data.disks.len() as u64;
        let mut flipped = 0;
        while flipped < flips {
            let mut damaged = Vec::new();
            for _ in 0..=chance.below(tolerated) {
                let disk = chance.below(disks);
                if damaged.contains(&(disk as u8)) {
                    continue;
                }
                let files = filled.files_on(disk as usize);
                let path = files[chance.below(files.len() as u64) as usize];
                let bits = std::fs::metadata(path).unwrap().len() * 8;
                flip(path, chance.below(bits));
                damaged.push(disk as u8);
                flipped += 1;
            }
            damaged.sort_unstable();
            filled.nothing_wrong_is_served();
            assert_eq!(filled.found(), damaged, "after {flipped} flips");
            filled.repair();
            assert_eq!(filled.found(), [0; 0]);
        }
        filled.is_as_it_was();
        println!("{redundancy:?}: {flipped} flips");
    }
}

#[tokio::test]
async fn a_reader_reports_what_it_found_damaged_once() {
    let mut chance = Chance(1);
    for redundancy in [TWO_COPIES, FOUR_AND_TWO] {
        let filled = fill(redundancy, &mut chance).await;
        // Every bit of the longest object that is on one disk and that reads begin with.
        let (rows, _) = filled.objects.last().unwrap();
        let row = &rows[0];
        let first = match redundancy {
            Redundancy::Copies(_) => row.id.row() as usize % 2,
            _ => 0,
        };
        let disk = usize::from(row.place.disks()[first]);
        let path = (filled.files_on(disk).into_iter())
            .find(|path| path.extension().is_none_or(|end| end != "pack"))
            .unwrap();
        for block in 0..4 {
            flip(path, block * 8 * 16_384 + 5);
        }
        filled.nothing_wrong_is_served();
        filled.nothing_wrong_is_served();
        let repairs = filled.blobs.repairs();
        assert_eq!(repairs.next().await, row.id);
        assert_eq!(repairs.take(), None);
        let damage = filled.blobs.read_damage();
        assert!(damage.rescued_blocks >= 2, "{damage:?}");
        assert_eq!(damage.lost_blocks, 0);
        filled.repair();
        filled.is_as_it_was();
        filled.nothing_wrong_is_served();
        assert_eq!(repairs.take(), None);
    }
}

/// Shows 6
#[tokio::test]
async fn a_deleted_disk_is_rebuilt_byte_for_byte() {
    let mut chance = Chance(2);
    for redundancy in [TWO_COPIES, FOUR_AND_TWO] {
        let mut filled = fill(redundancy, &mut chance).await;
        for lost in 0..filled.layout.data.disks.len() {
            let folder = filled.layout.data.disks[lost].clone();
            std::fs::remove_dir_all(&folder).unwrap();
            // While the process runs, the others serve.
            filled.nothing_wrong_is_served();
            // Nor is it used when it is not there at the start.
            filled.restart();
            filled.nothing_wrong_is_served();
            assert_eq!(filled.found(), [lost as u8]);
            for row in filled.rows() {
                let report = filled.blobs.repair(row).unwrap();
                assert_eq!((report.mended, report.left), (vec![], vec![lost as u8]));
            }
            assert!(!folder.exists());
            let refused = publish(&filled.blobs, &[1; 5_000]).await.unwrap_err();
            assert!(matches!(refused, BlobError::WritesRefused), "{refused:?}");
            std::fs::create_dir(&folder).unwrap();
            std::fs::write(folder.join(format!("replaces-disk-{lost}")), "").unwrap();
            filled.restart();
            filled.nothing_wrong_is_served();
            filled.repair();
            assert_eq!(filled.found(), [0; 0]);
            filled.is_as_it_was();
        }
    }
}

#[tokio::test]
async fn files_that_are_cut_or_gone_are_made_up_for_and_made_anew() {
    let mut chance = Chance(3);
    for redundancy in [TWO_COPIES, FOUR_AND_TWO] {
        let filled = fill(redundancy, &mut chance).await;
        for disk in 0..filled.layout.data.disks.len() {
            for path in filled.files_on(disk) {
                let length = std::fs::metadata(path).unwrap().len();
                let is_pack = path.extension().is_some_and(|end| end == "pack");
                for new_length in [None, Some(0), Some(length - 1), Some(length + 1)] {
                    match new_length {
                        // Of a pack only what rows name is known; a tail is just garbage.
                        Some(new) if new > length && is_pack => continue,
                        Some(new) => {
                            let file = File::options().write(true).open(path).unwrap();
                            file.set_len(new).unwrap();
                        }
                        None => std::fs::remove_file(path).unwrap(),
                    }
                    filled.nothing_wrong_is_served();
                    assert_eq!(filled.found(), [disk as u8], "{path:?} {new_length:?}");
                    filled.repair();
                }
            }
        }
        filled.is_as_it_was();
    }
}

/// More damage than the redundancy makes up for is an error, and never other bytes.
#[tokio::test]
async fn what_is_lost_is_not_served_and_not_mended() {
    let mut chance = Chance(4);
    for (redundancy, tolerated) in [(TWO_COPIES, 1), (FOUR_AND_TWO, 2)] {
        let filled = fill(redundancy, &mut chance).await;
        let (rows, bytes) = filled.objects.last().unwrap();
        for disk in 0..=tolerated {
            let path = (filled.files_on(disk).into_iter())
                .find(|path| path.extension().is_none_or(|end| end != "pack"))
                .unwrap();
            flip(path, 77);
        }
        let error = read(&filled.blobs, rows).unwrap_err();
        assert!(
            matches!(error, BlobError::Corrupt { block: 0, .. }),
            "{error:?}"
        );
        assert!(matches!(
            filled.blobs.verify(&rows[0]),
            Verdict::Lost(BlobError::Corrupt { .. })
        ));
        let damaged = tree(filled.folder.path());
        let error = filled.blobs.repair(&rows[0]).unwrap_err();
        assert!(matches!(error, BlobError::Corrupt { .. }), "{error:?}");
        assert!(tree(filled.folder.path()) == damaged, "nothing was written");
        assert_eq!(filled.blobs.read_damage().lost_blocks, 1);
        // The other blocks are as good as ever.
        let reader = blobs_support::open(&filled.blobs, rows).unwrap();
        assert!(reader.read(65_536..70_000).unwrap() == bytes[65_536..70_000]);
    }
}
