//! Blob folders on a disk that does what a test wants of it.

#![allow(
    dead_code,
    reason = "each test binary uses its own part of this support"
)]

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use tempfile::TempDir;
use tidegate::config::Redundancy;
use tidegate::origin::blobs::{
    BlobError, Content, DiskBlobs, DiskGroup, DiskReader, Extent, Layout, LayoutError, Place,
    Published, StoredBlob, Tier,
};
use tidegate::origin::disk::{Disk, RealDisk};
use tidegate::origin::latch::WriteLatch;

/// Pseudo-random numbers (splitmix64): a failing test prints its seed, and the seed repeats it.
#[derive(Debug, Clone)]
pub struct Chance(pub u64);

impl Chance {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }
}

/// A number that the environment may raise for a long run.
pub fn number(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().expect("a number"),
        Err(_) => default,
    }
}

/// A folder in memory where the machine has such: what is asked for is what is written, not for how long, and a
/// store makes hundreds of folders.
pub fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory).unwrap()
    } else {
        tempfile::tempdir().unwrap()
    }
}

pub fn layout(folder: &Path, disks: usize, redundancy: Redundancy) -> Layout {
    Layout {
        home: folder.join("home"),
        data: DiskGroup {
            disks: (0..disks)
                .map(|number| folder.join(format!("disk{number}")))
                .collect(),
            redundancy,
        },
        cold: DiskGroup::default(),
    }
}

/// A generation of writers.
pub fn start(
    layout: &Layout,
    generation: i64,
    disk: Arc<dyn Disk>,
) -> Result<DiskBlobs, LayoutError> {
    DiskBlobs::start(layout, generation, disk, Arc::new(WriteLatch::default()))
}

/// On a disk that does as it is told, and is not asked to outlive a power loss.
pub fn start_soundly(layout: &Layout, generation: i64) -> DiskBlobs {
    start(layout, generation, Arc::new(UnsyncedDisk)).unwrap()
}

/// The machine's files without the wait for stable storage.
pub struct UnsyncedDisk;

impl Disk for UnsyncedDisk {
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

pub async fn publish(blobs: &DiskBlobs, bytes: &[u8]) -> Result<Published, BlobError> {
    let mut writer = blobs.writer(Tier::Data)?;
    for part in bytes.chunks(300_000) {
        writer.write(part)?;
    }
    writer.publish().await
}

/// What a row would hold: what was published, by way of its bytes.
pub fn rows(published: Published) -> Vec<StoredBlob> {
    match published.content {
        Content::Inline(bytes) => panic!("{} bytes are inline", bytes.len()),
        Content::Blobs(blobs) => blobs
            .into_iter()
            .map(|blob| StoredBlob {
                place: Place::from_bytes(&blob.place.to_bytes()).unwrap(),
                ..blob
            })
            .collect(),
    }
}

pub fn open(blobs: &DiskBlobs, rows: &[StoredBlob]) -> Result<DiskReader, BlobError> {
    let extents = rows.iter().map(|blob| Extent {
        blob: blob.clone(),
        skip_bytes: 0,
        length_bytes: blob.length_bytes,
    });
    blobs.open(extents.collect())
}

pub fn read(blobs: &DiskBlobs, rows: &[StoredBlob]) -> Result<Vec<u8>, BlobError> {
    let reader = open(blobs, rows)?;
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < reader.length_bytes() {
        bytes.extend_from_slice(&reader.read(bytes.len() as u64..reader.length_bytes())?);
    }
    Ok(bytes)
}

/// Every file below a folder with its bytes.
pub fn tree(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let bytes = std::fs::read(&path).unwrap();
                files.push((path, bytes));
            }
        }
    }
    files.sort();
    files
}

/// A call that a fault can strike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Call {
    Create,
    Write,
    Sync,
    Rename,
    SyncFolder,
    Unlink,
    Read,
    Truncate,
}

/// What happens to the call that comes after `healthy` others of its kind, on files below `folder`.
#[derive(Debug, Clone)]
pub struct Fault {
    pub call: Call,
    pub folder: PathBuf,
    pub healthy: u64,
    pub error: io::ErrorKind,
}

/// A disk whose page cache can be lost.
///
/// It works on real files, undoes at a power loss what was not synced, each piece or not as chance wills, and
/// remembers every write to a folder after a sync below it has failed.
pub struct FaultyDisk {
    state: Mutex<State>,
    gate: Mutex<()>,
}

#[derive(Default)]
struct State {
    faults: Vec<Fault>,
    is_off: bool,
    paths: HashMap<u64, PathBuf>,
    unsynced: HashMap<u64, Vec<Undo>>,
    /// What a failed sync has dropped; no later sync brings it back.
    dropped: Vec<(u64, Vec<Undo>)>,
    names: Vec<Named>,
    roots: Vec<PathBuf>,
    failed_roots: Vec<PathBuf>,
    violations: Vec<String>,
    struck: u64,
    syncs: u64,
}

enum Undo {
    Length(u64),
    Bytes(u64, Vec<u8>),
}

/// A name whose folder was not synced since.
enum Named {
    Created(PathBuf),
    Renamed {
        from: PathBuf,
        to: PathBuf,
        replaced: Option<Vec<u8>>,
    },
    Unlinked(PathBuf, Vec<u8>),
}

impl FaultyDisk {
    pub fn new(layout: &Layout, faults: Vec<Fault>) -> Arc<Self> {
        Arc::new(FaultyDisk {
            state: Mutex::new(State {
                faults,
                roots: layout.data.disks.clone(),
                ..State::default()
            }),
            gate: Mutex::new(()),
        })
    }

    pub fn strike(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    /// How many faults have struck.
    pub fn struck(&self) -> u64 {
        self.state().struck
    }

    /// Until this is dropped, syncs wait.
    pub fn hold_syncs(&self) -> MutexGuard<'_, ()> {
        self.gate.lock().unwrap()
    }

    pub fn syncs(&self) -> u64 {
        self.state().syncs
    }

    /// Writes to a disk after one of its syncs or writes had failed.
    pub fn violations(&self) -> Vec<String> {
        self.state().violations.clone()
    }

    /// From now on nothing works, and what was not synced is gone, as far as chance wills.
    pub fn power_loss(&self, chance: &mut Chance) {
        let mut state = self.state();
        state.is_off = true;
        // Bytes first: names may lead to files that are about to go.
        let unsynced = std::mem::take(&mut state.unsynced);
        let dropped = std::mem::take(&mut state.dropped);
        for (inode, undos) in unsynced {
            let all = chance.one_in(2);
            undo(state.paths.get(&inode), undos, |_| all || chance.one_in(2));
        }
        for (inode, undos) in dropped {
            undo(state.paths.get(&inode), undos, |_| true);
        }
        for named in std::mem::take(&mut state.names).into_iter().rev() {
            if chance.one_in(2) {
                continue;
            }
            match named {
                Named::Created(path) => drop(std::fs::remove_file(path)),
                Named::Renamed { from, to, replaced } => {
                    if std::fs::rename(&to, &from).is_ok()
                        && let Some(bytes) = replaced
                    {
                        std::fs::write(&to, bytes).unwrap();
                    }
                }
                Named::Unlinked(path, bytes) => {
                    if !path.exists() {
                        // A sweep may have removed the emptied folder too.
                        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                        std::fs::write(&path, bytes).unwrap();
                    }
                }
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Lets a call pass, or not.
    fn pass(&self, call: Call, path: &Path) -> io::Result<MutexGuard<'_, State>> {
        let mut guard = self.state();
        let state = &mut *guard;
        if state.is_off {
            return Err(io::Error::other("the power is off"));
        }
        state.syncs += u64::from(call == Call::Sync);
        let changes = !matches!(call, Call::Read | Call::Unlink);
        if changes
            && let Some(root) = state
                .failed_roots
                .iter()
                .find(|root| path.starts_with(root))
        {
            let violation = format!(
                "{call:?} of {} after {} failed",
                path.display(),
                root.display()
            );
            state.violations.push(violation);
        }
        let mut error = None;
        state.faults.retain_mut(|fault| {
            if error.is_some() || fault.call != call || !path.starts_with(&fault.folder) {
                return true;
            }
            if fault.healthy > 0 {
                fault.healthy -= 1;
                return true;
            }
            error = Some(fault.error);
            false
        });
        let Some(error) = error else {
            return Ok(guard);
        };
        state.struck += 1;
        let is_full = error == io::ErrorKind::StorageFull;
        if changes && !is_full {
            let root = state.roots.iter().find(|root| path.starts_with(root));
            state.failed_roots.extend(root.cloned());
        }
        Err(error.into())
    }

    fn path_of(&self, file: &File) -> PathBuf {
        let inode = file.metadata().unwrap().ino();
        self.state().paths.get(&inode).cloned().unwrap_or_default()
    }

    fn remember(&self, file: &File, path: &Path) -> io::Result<()> {
        let inode = file.metadata()?.ino();
        self.state().paths.insert(inode, path.to_owned());
        Ok(())
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        drop(self.gate.lock().unwrap());
        let path = self.path_of(file);
        let inode = file.metadata()?.ino();
        match self.pass(Call::Sync, &path) {
            Ok(mut state) => {
                state.unsynced.remove(&inode);
                Ok(())
            }
            Err(error) => {
                let mut state = self.state();
                if let Some(undos) = state.unsynced.remove(&inode) {
                    state.dropped.push((inode, undos));
                }
                Err(error)
            }
        }
    }

    /// Writes at an offset; half of it when the disk is full.
    fn write_bytes(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        let path = self.path_of(file);
        let (bytes, outcome) = match self.pass(Call::Write, &path) {
            Ok(_) => (bytes, Ok(())),
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                (&bytes[..bytes.len() / 2], Err(error))
            }
            Err(error) => return Err(error),
        };
        let metadata = file.metadata()?;
        let (length, end) = (metadata.len(), offset + bytes.len() as u64);
        let mut state = self.state();
        let undos = state.unsynced.entry(metadata.ino()).or_default();
        if offset < length {
            let mut old = vec![0; (length.min(end) - offset) as usize];
            file.read_exact_at(&mut old, offset)?;
            undos.push(Undo::Bytes(offset, old));
        }
        if end > length {
            undos.push(Undo::Length(length));
        }
        drop(state);
        file.write_all_at(bytes, offset)?;
        outcome
    }
}

fn undo(path: Option<&PathBuf>, undos: Vec<Undo>, mut chosen: impl FnMut(&Undo) -> bool) {
    let Some(file) = path.and_then(|path| File::options().write(true).open(path).ok()) else {
        return;
    };
    for undo in undos.into_iter().rev() {
        if !chosen(&undo) {
            continue;
        }
        match undo {
            Undo::Length(length) => {
                if file.metadata().unwrap().len() > length {
                    file.set_len(length).unwrap();
                }
            }
            Undo::Bytes(offset, old) => file.write_all_at(&old, offset).unwrap(),
        }
    }
}

impl Disk for FaultyDisk {
    fn create(&self, path: &Path) -> io::Result<File> {
        self.pass(Call::Create, path)?
            .names
            .push(Named::Created(path.to_owned()));
        let file = RealDisk.create(path)?;
        self.remember(&file, path)?;
        Ok(file)
    }

    fn open(&self, path: &Path) -> io::Result<File> {
        drop(self.pass(Call::Read, path)?);
        let file = RealDisk.open(path)?;
        self.remember(&file, path)?;
        Ok(file)
    }

    fn open_to_mend(&self, path: &Path) -> io::Result<File> {
        let file = RealDisk.open_to_mend(path)?;
        self.remember(&file, path)?;
        Ok(file)
    }

    fn write(&self, file: &File, bytes: &[u8]) -> io::Result<()> {
        let end = file.metadata()?.len();
        self.write_bytes(file, bytes, end)
    }

    fn write_at(&self, file: &File, slices: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
        let bytes = slices.iter().flat_map(|slice| slice.to_vec());
        let bytes: Vec<u8> = bytes.collect();
        self.write_bytes(file, &bytes, offset)
    }

    fn read_at(&self, file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let path = self.path_of(file);
        drop(self.pass(Call::Read, &path)?);
        RealDisk.read_at(file, buffer, offset)
    }

    fn truncate(&self, file: &File, length_bytes: u64) -> io::Result<()> {
        let path = self.path_of(file);
        drop(self.pass(Call::Truncate, &path)?);
        RealDisk.truncate(file, length_bytes)
    }

    fn sync_file(&self, file: &File) -> io::Result<()> {
        self.sync(file)
    }

    fn sync_data(&self, file: &File) -> io::Result<()> {
        self.sync(file)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.pass(Call::Rename, to)?;
        let replaced = std::fs::read(to).ok();
        RealDisk.rename(from, to)?;
        let inode = std::fs::metadata(to)?.ino();
        state.paths.insert(inode, to.to_owned());
        state.names.push(Named::Renamed {
            from: from.to_owned(),
            to: to.to_owned(),
            replaced,
        });
        Ok(())
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        let mut state = self.pass(Call::SyncFolder, folder)?;
        state.names.retain(|named| {
            let path = match named {
                Named::Created(path) | Named::Unlinked(path, _) => path,
                Named::Renamed { to, .. } => to,
            };
            path.parent() != Some(folder)
        });
        Ok(())
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        let mut state = self.pass(Call::Unlink, path)?;
        let bytes = std::fs::read(path)?;
        let inode = std::fs::metadata(path)?.ino();
        RealDisk.unlink(path)?;
        // Another file may get the number.
        state.unsynced.remove(&inode);
        state.dropped.retain(|(dropped, _)| *dropped != inode);
        state.names.push(Named::Unlinked(path.to_owned(), bytes));
        Ok(())
    }
}
