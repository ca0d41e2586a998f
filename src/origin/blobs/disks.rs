//! The data folders: which there are, whose they are, and which of them may still be written.
//!
//! - A folder is used only with the identity of its store and number: one that was swapped or emptied is told at
//!   the start, not by what is missing later.
//! - A disk whose write or sync has failed is not written again by this process: nobody knows which of its earlier
//!   writes the kernel has dropped, so a later success would prove nothing. It is still read.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use super::folder::{make_private_folder, prepare};
use super::identity::{Identity, Role, StoreId};
use super::place::Form;
use super::{BlobError, BlobId, PackId};
use crate::config::{self, Redundancy};
use crate::origin::disk::Disk;
use crate::origin::latch::WriteLatch;

/// What an operator puts into an empty folder to say that it takes the place of a lost one; the number follows.
const REPLACES: &str = "replaces-disk-";

/// Which folders a store has, and how it spreads blobs over them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The folder that says whose the disks are.
    pub home: PathBuf,
    /// The folder of each disk, by number; at least one, at most 255.
    pub disks: Vec<PathBuf>,
    /// What is kept beyond the bytes themselves.
    pub redundancy: Redundancy,
}

/// Why the data folders cannot be used. Nothing on them was changed.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// A folder cannot be made, read or written.
    #[error("cannot use the folder {path}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The system's word for it.
        source: io::Error,
    },
    /// A folder that belongs to another store, or to another disk of this one.
    #[error(
        "{path} is configured as disk {number} of store {store}, but its identity file says {found}; \
         nothing was written to it"
    )]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// The number that it is configured as.
        number: u8,
        /// This store.
        store: StoreId,
        /// What the folder says it is.
        found: String,
    },
    /// Disks that are lost, or not mounted, and more of them than the redundancy makes up for.
    #[error(
        "of disks {absent:?} there is only a folder without an identity, if that; {tolerated} may be absent. \
         Mount them; or, where a disk was replaced, put an empty file named {REPLACES}<its number> into the new folder"
    )]
    Absent {
        /// Their numbers.
        absent: Vec<u8>,
        /// How many the redundancy makes up for.
        tolerated: usize,
    },
    /// There used to be more disks.
    #[error("{configured} disks are configured, but the store has used {used}")]
    TooFew {
        /// Folders in the configuration.
        configured: usize,
        /// Folders that have been used.
        used: u8,
    },
}

/// What may be done with a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskState {
    /// Read and written.
    Ready,
    /// Read only: a write or a sync has failed since the start.
    Failed,
    /// Neither: its folder has no identity.
    Absent,
}

/// One data folder.
#[derive(Debug)]
pub(super) struct DataDisk {
    pub(super) number: u8,
    pub(super) path: PathBuf,
    state: AtomicU8,
}

/// All of them.
pub(super) struct Disks {
    pub(super) all: Vec<DataDisk>,
    pub(super) io: Arc<dyn Disk>,
    /// Disks of a set.
    pub(super) width: usize,
    latch: Arc<WriteLatch>,
}

impl Layout {
    /// The layout that a configuration asks for: one folder inside `data` unless it names others.
    pub fn of(config: &config::Origin) -> Self {
        let home = config.data.join("blobs");
        let disks = match config.disks.as_slice() {
            [] => vec![home.join("d0")],
            disks => disks.iter().map(|disk| disk.path.clone()).collect(),
        };
        Layout {
            home,
            disks,
            redundancy: config.redundancy,
        }
    }

    fn tolerated(&self) -> usize {
        self.redundancy.width() - Form::of(self.redundancy).needed()
    }
}

impl DataDisk {
    fn new(number: u8, path: PathBuf, state: DiskState) -> Self {
        DataDisk {
            number,
            path,
            state: AtomicU8::new(state as u8),
        }
    }

    pub(super) fn state(&self) -> DiskState {
        match self.state.load(Ordering::SeqCst) {
            0 => DiskState::Ready,
            1 => DiskState::Failed,
            _ => DiskState::Absent,
        }
    }

    /// Where a blob is while it is written.
    pub(super) fn temporary(&self, id: BlobId) -> PathBuf {
        self.path.join("tmp").join(id.file_name())
    }

    /// Where a damaged file of a blob is written again.
    pub(super) fn mending(&self, id: BlobId) -> PathBuf {
        self.path
            .join("tmp")
            .join(format!("{}.mend", id.file_name()))
    }

    pub(super) fn blob_folder(&self, id: BlobId) -> PathBuf {
        self.path.join("big").join(id.folder_name())
    }

    pub(super) fn blob_file(&self, id: BlobId) -> PathBuf {
        self.blob_folder(id).join(id.file_name())
    }

    pub(super) fn pack_folder(&self, generation: i64) -> PathBuf {
        self.path.join("pack").join(PackId::folder_name(generation))
    }

    pub(super) fn pack_file(&self, pack: PackId) -> PathBuf {
        self.pack_folder(pack.generation()).join(pack.file_name())
    }
}

impl Disks {
    /// Recognises the folders, and makes those that are new.
    pub(super) fn open(
        layout: &Layout,
        io: Arc<dyn Disk>,
        latch: Arc<WriteLatch>,
    ) -> Result<Self, LayoutError> {
        let home = &layout.home;
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| LayoutError::Folder { path, source }
        };
        make_private_folder(home, io.as_ref()).map_err(failed(home))?;
        let (store, used) = match Identity::read(home).map_err(failed(home))? {
            Some(Identity {
                store,
                role: Role::Home { disks },
            }) => (store, disks),
            Some(_) => return Err(failed(home)(io::ErrorKind::InvalidData.into())),
            None => {
                let store = StoreId::random().map_err(failed(home))?;
                (store, 0)
            }
        };
        let configured = layout.disks.len();
        if configured < used.into() {
            return Err(LayoutError::TooFew { configured, used });
        }
        let mut found = Vec::with_capacity(configured);
        for (number, path) in (0..).zip(&layout.disks) {
            let recognised = recognise(store, number, path, number < used)?;
            found.push((number, path, recognised));
        }
        let absent: Vec<u8> = (found.iter())
            .filter(|(_, _, found)| *found == Recognised::Absent)
            .map(|(number, ..)| *number)
            .collect();
        let tolerated = layout.tolerated();
        if absent.len() > tolerated {
            return Err(LayoutError::Absent { absent, tolerated });
        }
        if !absent.is_empty() {
            tracing::error!(
                ?absent,
                "disks are absent: blobs are read from the others, and only sets without them are written"
            );
        }
        let write_home = |disks| {
            let role = Role::Home { disks };
            let identity = Identity { store, role };
            identity.write(home, io.as_ref()).map_err(failed(home))
        };
        // First of all, so that a stop in the middle leaves disks that name a store which is there.
        if used == 0 {
            write_home(0)?;
        }
        for (number, path, recognised) in &found {
            settle(store, *number, path, *recognised, io.as_ref()).map_err(failed(path))?;
        }
        let disks = u8::try_from(configured).expect("the-configuration-counts-disks");
        if disks > used {
            write_home(disks)?;
        }
        let all = (found.into_iter())
            .map(|(number, path, recognised)| {
                let state = match recognised {
                    Recognised::Absent => DiskState::Absent,
                    Recognised::Ours | Recognised::New | Recognised::Replacement => {
                        DiskState::Ready
                    }
                };
                DataDisk::new(number, path.clone(), state)
            })
            .collect();
        Ok(Disks {
            all,
            io,
            width: layout.redundancy.width(),
            latch,
        })
    }

    /// The disk of this number, unless a row names one that is not configured.
    pub(super) fn get(&self, number: u8) -> Option<&DataDisk> {
        self.all.get(usize::from(number))
    }

    /// One of a set that was chosen among these disks.
    pub(super) fn of_set(&self, number: u8) -> &DataDisk {
        self.get(number).expect("sets-are-chosen-among-the-disks")
    }

    pub(super) fn ready(&self) -> impl Iterator<Item = &DataDisk> {
        (self.all.iter()).filter(|disk| disk.state() == DiskState::Ready)
    }

    pub(super) fn is_ready(&self, number: u8) -> bool {
        self.get(number)
            .is_some_and(|disk| disk.state() == DiskState::Ready)
    }

    /// Whether new blobs are refused.
    pub(super) fn refuses_writes(&self) -> bool {
        self.latch.has_fallen() || self.ready().count() < self.width
    }

    /// A set of disks that can be written: the first that can, from the `turn`-th on.
    pub(super) fn choose(&self, turn: usize) -> Result<Vec<u8>, BlobError> {
        if self.latch.has_fallen() {
            return Err(BlobError::WritesRefused);
        }
        let count = self.all.len();
        let set: Vec<u8> = (0..count)
            .map(|step| &self.all[(turn % count + step) % count])
            .filter(|disk| disk.state() == DiskState::Ready)
            .map(|disk| disk.number)
            .take(self.width)
            .collect();
        if set.len() < self.width {
            return Err(BlobError::WritesRefused);
        }
        Ok(set)
    }

    /// Sorts a failed write of a blob: a full disk fails this upload alone, after anything else the disk is not
    /// written again.
    pub(super) fn write_failed(&self, number: u8, id: i64, source: io::Error) -> BlobError {
        if is_full(&source) {
            return BlobError::NoSpace { id, source };
        }
        self.fail(number, &source);
        BlobError::Write { id, source }
    }

    /// Sorts what came of something on each disk of a set. Every disk that failed is told; the last of the errors stands for
    /// all.
    pub(super) fn sort(
        &self,
        id: BlobId,
        set: &[u8],
        outcomes: Vec<io::Result<()>>,
    ) -> Result<(), BlobError> {
        let mut error = None;
        for (number, outcome) in set.iter().zip(outcomes) {
            if let Err(source) = outcome {
                error = Some(self.write_failed(*number, id.0, source));
            }
        }
        error.map_or(Ok(()), Err)
    }

    /// Stops the writing of a disk. Where too few are left to write to, the store refuses all writes until it is
    /// opened again.
    pub(super) fn fail(&self, number: u8, error: &io::Error) {
        let disk = self.of_set(number);
        let before = disk.state.swap(DiskState::Failed as u8, Ordering::SeqCst);
        if before == DiskState::Ready as u8 {
            tracing::error!(disk = number, path = %disk.path.display(), %error,
                "a disk is not written to any more until the store is opened again");
        }
        if self.ready().count() < self.width {
            self.latch.fall();
        }
    }
}

/// Whether a write failed for want of room.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// What a configured folder turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Recognised {
    /// The disk that it should be.
    Ours,
    /// Never used, and expected to be.
    New,
    /// Empty, and an operator says that it takes the place of a lost one.
    Replacement,
    /// Empty or not there at all, although this disk has been used.
    Absent,
}

/// Looks at a folder and changes nothing.
fn recognise(
    store: StoreId,
    number: u8,
    path: &Path,
    used: bool,
) -> Result<Recognised, LayoutError> {
    let foreign = |found: String| LayoutError::Foreign {
        path: path.to_owned(),
        number,
        store,
        found,
    };
    match Identity::read(path) {
        Ok(Some(identity)) => {
            let ours = Identity {
                store,
                role: Role::Disk { number },
            };
            match identity.role {
                _ if identity == ours => Ok(Recognised::Ours),
                Role::Disk { number } => Err(foreign(format!(
                    "disk {number} of store {}",
                    identity.store
                ))),
                Role::Home { .. } => Err(foreign(format!("the home of store {}", identity.store))),
            }
        }
        Ok(None) if !used => Ok(Recognised::New),
        Ok(None) if marker(path, number).exists() => Ok(Recognised::Replacement),
        Ok(None) => Ok(Recognised::Absent),
        Err(source) => Err(LayoutError::Folder {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Makes a recognised folder ready.
fn settle(
    store: StoreId,
    number: u8,
    path: &Path,
    recognised: Recognised,
    io: &dyn Disk,
) -> io::Result<()> {
    match recognised {
        Recognised::Absent => return Ok(()),
        Recognised::Ours => {}
        Recognised::New | Recognised::Replacement => {
            make_private_folder(path, io)?;
            let role = Role::Disk { number };
            Identity { store, role }.write(path, io)?;
        }
    }
    if recognised == Recognised::Replacement {
        tracing::warn!(disk = number, path = %path.display(), "a new folder takes the place of a lost disk");
        io.unlink(&marker(path, number))?;
    }
    prepare(path, io)
}

fn marker(path: &Path, number: u8) -> PathBuf {
    path.join(format!("{REPLACES}{number}"))
}
