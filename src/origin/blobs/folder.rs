//! The folders that blobs live in: making them, and sweeping what dead writers left behind.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use super::{BlobId, SHARDS};
use crate::origin::disk::Disk;

/// What a sweep did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Uploads of dead writers that never got their name.
    pub unfinished: u64,
    /// Named blobs of dead writers that no row names.
    pub orphans: u64,
    /// Files that are none of ours; they stay.
    pub foreign: u64,
}

/// Makes the folders of a blob root that does not have them yet.
pub fn prepare(root: &Path, disk: &dyn Disk) -> io::Result<()> {
    make_private_folder(&root.join("tmp"), disk)?;
    let big = root.join("d0/big");
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
    for folder in [&big, &root.join("d0"), root] {
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

/// Removes what dead writers left behind. `named` holds every id that a row names, in ascending order.
///
/// Files of the live generation stay whatever the rows say: their commit may be under way. Files whose names we
/// did not make stay too.
pub fn sweep(
    root: &Path,
    live_generation: i64,
    named: &[i64],
    disk: &dyn Disk,
) -> io::Result<Swept> {
    let mut swept = Swept::default();
    let dead = |id: BlobId| id.generation() != live_generation;
    for_each_file(&root.join("tmp"), |path, id| {
        match id {
            Some(id) if dead(id) => {
                disk.unlink(path)?;
                swept.unfinished += 1;
            }
            Some(_) => {}
            None => swept.foreign += 1,
        }
        Ok(())
    })?;
    for shard in 0..SHARDS {
        for_each_file(&root.join(format!("d0/big/{shard:02x}")), |path, id| {
            match id {
                Some(id) if dead(id) && named.binary_search(&id.row()).is_err() => {
                    disk.unlink(path)?;
                    swept.orphans += 1;
                }
                Some(_) => {}
                None => swept.foreign += 1,
            }
            Ok(())
        })?;
    }
    Ok(swept)
}

fn for_each_file(
    folder: &Path,
    mut visit: impl FnMut(&Path, Option<BlobId>) -> io::Result<()>,
) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let id = entry.file_name().to_str().and_then(BlobId::parse);
        visit(&entry.path(), id)?;
    }
    Ok(())
}
