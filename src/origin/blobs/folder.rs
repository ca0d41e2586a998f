//! What lies in a data folder: making it, sweeping what dead writers left behind, and measuring it.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File};
use std::io::{self, Read as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::disks::{DataDisk, DiskState, Disks};
use super::record::{HEADER_BYTES, data_shards};
use super::{BlobId, PackId, SHARDS};
use crate::origin::disk::Disk;

/// What a sweep did, in files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Uploads of dead writers that never got their name.
    pub unfinished: u64,
    /// Named blobs of dead writers that no row names.
    pub orphans: u64,
    /// Packs of dead writers in which no row names a blob.
    pub packs: u64,
    /// Files that are none of ours; they stay.
    pub foreign: u64,
}

/// What a data folder holds, in bytes of files and their number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskUsage {
    /// Number of the disk.
    pub number: u8,
    /// Its folder.
    pub path: PathBuf,
    /// What may be done with it.
    pub state: DiskState,
    /// Uploads under way, and those that a stop has left.
    pub unfinished: Amount,
    /// Blobs with files of their own.
    pub files: Amount,
    /// Packs, with what in them no row names any more.
    pub packs: Amount,
    /// Files that are none of ours.
    pub foreign: Amount,
}

/// Files, and the bytes in them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// Number of files.
    pub files: u64,
    /// Sum of their lengths.
    pub bytes: u64,
}

/// A pack as it lies on the disks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackOnDisk {
    /// Its name.
    pub id: PackId,
    /// Bytes of blobs that it has room for, headers included: its length on one disk, times the shards that blocks are
    /// cut into.
    pub capacity_bytes: u64,
}

/// Makes the folders of a data folder that does not have them yet.
pub(super) fn prepare(root: &Path, disk: &dyn Disk) -> io::Result<()> {
    make_private_folder(&root.join("tmp"), disk)?;
    make_private_folder(&root.join("pack"), disk)?;
    let big = root.join("big");
    make_private_folder(&big, disk)?;
    for shard in 0..SHARDS {
        let folder = big.join(format!("{shard:02x}"));
        match DirBuilder::new().mode(0o700).create(&folder) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    // Also what an earlier opening made: it may have stopped before its sync.
    for folder in [&big, root] {
        disk.sync_folder(folder)?;
    }
    Ok(())
}

/// Makes a folder that only its owner may enter, and those above it that are missing, each durably: the name of a
/// folder is on stable storage before anything is put into it.
pub fn make_private_folder(path: &Path, disk: &dyn Disk) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {
            return Ok(());
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let parent = path.parent().ok_or(error)?;
            make_private_folder(parent, disk)?;
            return make_private_folder(path, disk);
        }
        Err(error) => return Err(error),
    }
    match path.parent() {
        // A relative path of one part lies in the working folder.
        Some(parent) if parent.as_os_str().is_empty() => disk.sync_folder(Path::new(".")),
        Some(parent) => disk.sync_folder(parent),
        None => Ok(()),
    }
}

/// Removes what dead writers left behind (`delete-needs-proof`).
///
/// What belongs to the live generation stays whatever the rows say: its commit may be under way. Files whose
/// names we did not make stay too.
pub(super) fn sweep(
    disks: &Disks,
    live_generation: i64,
    named: &dyn Fn(BlobId) -> bool,
    named_packs: &dyn Fn(PackId) -> bool,
) -> io::Result<Swept> {
    let mut swept = Swept::default();
    let io = disks.io.as_ref();
    for disk in disks.ready() {
        walk(disk, |path, found| {
            match found {
                Found::Unfinished(id) if id.generation() != live_generation => {
                    io.unlink(path)?;
                    swept.unfinished += 1;
                }
                // Somebody was mending it when the process stopped; the damage is still there to be found.
                Found::Mending => {
                    io.unlink(path)?;
                    swept.unfinished += 1;
                }
                Found::File(id) if id.generation() != live_generation && !named(id) => {
                    io.unlink(path)?;
                    swept.orphans += 1;
                }
                Found::Pack(pack) if pack.generation() != live_generation && !named_packs(pack) => {
                    io.unlink(path)?;
                    swept.packs += 1;
                }
                Found::Unfinished(_) | Found::File(_) | Found::Pack(_) => {}
                Found::Foreign => swept.foreign += 1,
            }
            Ok(())
        })?;
        for_each_entry(
            &disk.path.join("pack"),
            |folder, name| match PackId::parse_folder(name) {
                Some(generation) if generation != live_generation => remove_if_empty(folder),
                Some(_) | None => Ok(()),
            },
        )?;
    }
    Ok(swept)
}

/// Measures every data folder that is there.
pub(super) fn usage(disks: &Disks) -> io::Result<Vec<DiskUsage>> {
    let mut usages = Vec::with_capacity(disks.all.len());
    for disk in &disks.all {
        let mut usage = DiskUsage {
            number: disk.number,
            path: disk.path.clone(),
            state: disk.state(),
            unfinished: Amount::default(),
            files: Amount::default(),
            packs: Amount::default(),
            foreign: Amount::default(),
        };
        if usage.state != DiskState::Absent {
            walk(disk, |path, found| {
                let bytes = match std::fs::metadata(path) {
                    Ok(metadata) => metadata.len(),
                    // It was removed, or got its name, since the folder was read.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                    Err(error) => return Err(error),
                };
                let amount = match found {
                    Found::Unfinished(_) | Found::Mending => &mut usage.unfinished,
                    Found::File(_) => &mut usage.files,
                    Found::Pack(_) => &mut usage.packs,
                    Found::Foreign => &mut usage.foreign,
                };
                amount.files += 1;
                amount.bytes += bytes;
                Ok(())
            })?;
        }
        usages.push(usage);
    }
    Ok(usages)
}

/// The packs on the disks that can be written, from which alone a pack can be removed.
pub(super) fn packs(disks: &Disks) -> io::Result<Vec<PackOnDisk>> {
    let mut packs: BTreeMap<PackId, u64> = BTreeMap::new();
    for disk in disks.ready() {
        walk_packs(disk, &mut |path, found| {
            let Found::Pack(id) = found else {
                return Ok(());
            };
            let capacity_bytes = match capacity(path) {
                Ok(bytes) => bytes,
                // It was removed since the folder was read.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(error),
            };
            let most = packs.entry(id).or_default();
            *most = capacity_bytes.max(*most);
            Ok(())
        })?;
    }
    let packs = packs.into_iter();
    Ok(packs
        .map(|(id, capacity_bytes)| PackOnDisk { id, capacity_bytes })
        .collect())
}

/// All records of a pack were made by one process, so the first one tells in what form. One that cannot be read counts as
/// a copy.
fn capacity(path: &Path) -> io::Result<u64> {
    let mut file = File::open(path)?;
    let length_bytes = file.metadata()?.len();
    let mut header = [0; HEADER_BYTES];
    let shards = match file.read_exact(&mut header) {
        Ok(()) => data_shards(&header),
        Err(_) => None,
    };
    Ok(length_bytes.saturating_mul(shards.unwrap_or(1).into()))
}

/// Visits every blob with a file of its own, once for each disk that is there, with the bytes of the file.
pub(super) fn blob_files(disks: &Disks, visit: &mut dyn FnMut(u8, BlobId, u64)) -> io::Result<()> {
    let there = disks.all.iter();
    for disk in there.filter(|disk| disk.state() != DiskState::Absent) {
        walk(disk, |path, found| {
            if let Found::File(id) = found {
                visit(disk.number, id, std::fs::metadata(path)?.len());
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// A file of a data folder, told by its name and where it lies.
#[derive(Debug, Clone, Copy)]
enum Found {
    Unfinished(BlobId),
    Mending,
    File(BlobId),
    Pack(PackId),
    Foreign,
}

/// Visits every file below `tmp`, `big` and `pack`.
fn walk(disk: &DataDisk, mut visit: impl FnMut(&Path, Found) -> io::Result<()>) -> io::Result<()> {
    for_each_entry(&disk.path.join("tmp"), |path, name| {
        let found = match (BlobId::parse(name), name.strip_suffix(".mend")) {
            (Some(id), _) => Found::Unfinished(id),
            (None, Some(name)) if BlobId::parse(name).is_some() => Found::Mending,
            (None, _) => Found::Foreign,
        };
        visit(path, found)
    })?;
    for shard in 0..SHARDS {
        let folder = disk.path.join("big").join(format!("{shard:02x}"));
        for_each_entry(&folder, |path, name| {
            visit(
                path,
                BlobId::parse(name).map_or(Found::Foreign, Found::File),
            )
        })?;
    }
    walk_packs(disk, &mut visit)
}

/// Visits every file below `pack`.
fn walk_packs(
    disk: &DataDisk,
    visit: &mut dyn FnMut(&Path, Found) -> io::Result<()>,
) -> io::Result<()> {
    for_each_entry(&disk.path.join("pack"), |folder, generation| {
        let Some(generation) = PackId::parse_folder(generation).filter(|_| folder.is_dir()) else {
            return visit(folder, Found::Foreign);
        };
        for_each_entry(folder, |path, name| {
            let pack = PackId::parse(generation, name);
            visit(path, pack.map_or(Found::Foreign, Found::Pack))
        })
    })
}

/// Visits the entries of a folder in the order of their names. A name that is not text is none of ours.
fn for_each_entry(
    folder: &Path,
    mut visit: impl FnMut(&Path, &str) -> io::Result<()>,
) -> io::Result<()> {
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        entries.push(entry?.file_name());
    }
    entries.sort();
    for name in entries {
        visit(&folder.join(&name), name.to_str().unwrap_or_default())?;
    }
    Ok(())
}

fn remove_if_empty(folder: &Path) -> io::Result<()> {
    match std::fs::remove_dir(folder) {
        Ok(()) => Ok(()),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(())
        }
        Err(error) => Err(error),
    }
}
