//! The data folders: which there are, whose they are, and which of them may still be written.
//!
//! - A folder is used only with the identity of its store and number: one that was swapped or emptied is told at
//!   the start, not by what is missing later.
//! - A disk whose write or sync has failed is not written again by this process: nobody knows which of its earlier
//!   writes the kernel has dropped, so a later success would prove nothing. It is still read.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use super::folder::{make_private_folder, prepare};
use super::identity::{Identity, Role, StoreId};
use super::place::Form;
use super::{BlobError, BlobId, PackId};
use crate::config::{self, Redundancy};
use crate::origin::disk::Disk;
use crate::origin::latch::WriteLatch;

/// The number of the first cold disk; those below are data disks. Rows keep numbers in a byte.
const COLD_FIRST: u8 = 128;

/// What an operator puts into an empty folder to say that it takes the place of a lost one; the number follows.
const REPLACES: &str = "replaces-disk-";

/// Which of its disks a store writes something to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Tier {
    /// The data disks, which every store has.
    #[default]
    Data,
    /// The cold disks, for what is seldom read.
    Cold,
}

/// Which folders a store has, and how it spreads blobs over them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The folder that says whose the disks are.
    pub home: PathBuf,
    /// The data disks, at least one.
    pub data: DiskGroup,
    /// The cold disks; none unless they are configured.
    pub cold: DiskGroup,
}

/// The disks of a tier.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiskGroup {
    /// The folder of each, by number, at most 64: data disks count from 0, cold ones from 128.
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
    #[error("{configured} {tier} are configured, but the store has used {used}")]
    TooFew {
        /// Of which tier.
        tier: Tier,
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
    /// Data disks at the beginning of `all`; the others are cold.
    data_count: usize,
    data: Spread,
    cold: Spread,
    latch: Arc<WriteLatch>,
}

/// How blobs are spread over the disks of a tier.
#[derive(Debug, Clone, Copy)]
struct Spread {
    form: Form,
    /// Disks of a set.
    width: usize,
}

impl Tier {
    /// The one that a disk belongs to.
    pub(super) fn of_disk(number: u8) -> Self {
        if number < COLD_FIRST {
            Tier::Data
        } else {
            Tier::Cold
        }
    }

    fn first(self) -> u8 {
        match self {
            Tier::Data => 0,
            Tier::Cold => COLD_FIRST,
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Tier::Data => "disks",
            Tier::Cold => "cold disks",
        })
    }
}

impl DiskGroup {
    fn tolerated(&self) -> usize {
        self.redundancy.width() - Form::of(self.redundancy).needed()
    }

    fn spread(&self) -> Spread {
        Spread {
            form: Form::of(self.redundancy),
            width: self.redundancy.width(),
        }
    }
}

impl Layout {
    /// The layout that a configuration asks for: one folder inside `data` unless it names others.
    pub fn of(config: &config::Origin) -> Self {
        let home = config.data.join("blobs");
        let disks = match config.disks.as_slice() {
            [] => vec![home.join("d0")],
            disks => folders(disks),
        };
        let data = DiskGroup {
            disks,
            redundancy: config.redundancy,
        };
        let cold = config.cold.as_ref().map(|cold| DiskGroup {
            disks: folders(&cold.disks),
            redundancy: cold.redundancy,
        });
        Layout {
            home,
            data,
            cold: cold.unwrap_or_default(),
        }
    }

    fn group(&self, tier: Tier) -> &DiskGroup {
        match tier {
            Tier::Data => &self.data,
            Tier::Cold => &self.cold,
        }
    }
}

fn folders(disks: &[config::StoreDisk]) -> Vec<PathBuf> {
    disks.iter().map(|disk| disk.path.clone()).collect()
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
                role: Role::Home { disks, cold },
            }) => (store, Used { disks, cold }),
            Some(_) => return Err(failed(home)(io::ErrorKind::InvalidData.into())),
            None => {
                let store = StoreId::random().map_err(failed(home))?;
                (store, Used::default())
            }
        };
        let mut found = Vec::new();
        for tier in [Tier::Data, Tier::Cold] {
            found.extend(recognise_all(
                store,
                tier,
                layout.group(tier),
                used.of(tier),
            )?);
        }
        let write_home = |Used { disks, cold }| {
            let role = Role::Home { disks, cold };
            let identity = Identity { store, role };
            identity.write(home, io.as_ref()).map_err(failed(home))
        };
        // First of all, so that a stop in the middle leaves disks that name a store which is there.
        if used.disks == 0 {
            write_home(used)?;
        }
        for (number, path, recognised) in &found {
            settle(store, *number, path, *recognised, io.as_ref()).map_err(failed(path))?;
        }
        let count = |tier| {
            u8::try_from(layout.group(tier).disks.len()).expect("the-configuration-counts-disks")
        };
        let configured = Used {
            disks: count(Tier::Data),
            cold: count(Tier::Cold),
        };
        if configured != used {
            write_home(configured)?;
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
            data_count: layout.data.disks.len(),
            data: layout.data.spread(),
            cold: layout.cold.spread(),
            latch,
        })
    }

    /// The disk of this number, unless a row names one that is not configured.
    pub(super) fn get(&self, number: u8) -> Option<&DataDisk> {
        let tier = Tier::of_disk(number);
        self.of_tier(tier).get(usize::from(number - tier.first()))
    }

    /// The disks of a tier, by number.
    fn of_tier(&self, tier: Tier) -> &[DataDisk] {
        let (data, cold) = self.all.split_at(self.data_count);
        match tier {
            Tier::Data => data,
            Tier::Cold => cold,
        }
    }

    fn spread(&self, tier: Tier) -> Spread {
        match tier {
            Tier::Data => self.data,
            Tier::Cold => self.cold,
        }
    }

    /// How blobs lie on the disks of a tier from now on.
    pub(super) fn form(&self, tier: Tier) -> Form {
        self.spread(tier).form
    }

    /// Disks of a set.
    pub(super) fn width(&self, tier: Tier) -> usize {
        self.spread(tier).width
    }

    /// Whether there are any.
    pub(super) fn has(&self, tier: Tier) -> bool {
        !self.of_tier(tier).is_empty()
    }

    /// One of a set that was chosen among these disks.
    pub(super) fn of_set(&self, number: u8) -> &DataDisk {
        self.get(number).expect("sets-are-chosen-among-the-disks")
    }

    pub(super) fn ready(&self) -> impl Iterator<Item = &DataDisk> {
        (self.all.iter()).filter(|disk| disk.state() == DiskState::Ready)
    }

    /// How many disks of a tier can be written.
    pub(super) fn ready_count(&self, tier: Tier) -> usize {
        let disks = self.of_tier(tier).iter();
        disks
            .filter(|disk| disk.state() == DiskState::Ready)
            .count()
    }

    pub(super) fn is_ready(&self, number: u8) -> bool {
        self.get(number)
            .is_some_and(|disk| disk.state() == DiskState::Ready)
    }

    /// Whether a tier takes no new blobs.
    pub(super) fn refuses_writes(&self, tier: Tier) -> bool {
        self.latch.has_fallen() || self.ready_count(tier) < self.width(tier)
    }

    /// A set of disks of a tier that can be written: the first that can, from the `turn`-th on.
    pub(super) fn choose(&self, tier: Tier, turn: usize) -> Result<Vec<u8>, BlobError> {
        if self.refuses_writes(tier) {
            return Err(BlobError::WritesRefused);
        }
        let disks = self.of_tier(tier);
        let (count, width) = (disks.len(), self.width(tier));
        let set: Vec<u8> = (0..count)
            .map(|step| &disks[(turn % count + step) % count])
            .filter(|disk| disk.state() == DiskState::Ready)
            .map(|disk| disk.number)
            .take(width)
            .collect();
        // One may have failed since it was counted.
        if set.len() < width {
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

    /// Stops the writing of a disk. Where too few data disks are left to write to, the store refuses all writes until
    /// it is opened again; where too few cold ones are, only what would go to them.
    pub(super) fn fail(&self, number: u8, error: &io::Error) {
        let disk = self.of_set(number);
        // The latch comes first: whoever is refused because of this disk must not be followed by somebody who needs none.
        let is_needed =
            |other: &&DataDisk| other.state() == DiskState::Ready && !ptr::eq(*other, disk);
        let data = self.of_tier(Tier::Data);
        let left = data.iter().filter(is_needed).count();
        if left < self.width(Tier::Data) {
            self.latch.fall();
        }
        let before = disk.state.swap(DiskState::Failed as u8, Ordering::SeqCst);
        if before == DiskState::Ready as u8 {
            tracing::error!(disk = number, path = %disk.path.display(), %error,
                "a disk is not written to any more until the store is opened again");
        }
        // Another one may have failed at the same moment.
        if self.ready_count(Tier::Data) < self.width(Tier::Data) {
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

/// Disks that have been given an identity.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Used {
    disks: u8,
    cold: u8,
}

impl Used {
    fn of(self, tier: Tier) -> u8 {
        match tier {
            Tier::Data => self.disks,
            Tier::Cold => self.cold,
        }
    }
}

/// Looks at the folders of a tier and changes nothing.
fn recognise_all(
    store: StoreId,
    tier: Tier,
    group: &DiskGroup,
    used: u8,
) -> Result<Vec<(u8, &PathBuf, Recognised)>, LayoutError> {
    let configured = group.disks.len();
    if configured < used.into() {
        return Err(LayoutError::TooFew {
            tier,
            configured,
            used,
        });
    }
    let mut found = Vec::with_capacity(configured);
    for (index, path) in (0..).zip(&group.disks) {
        let number = tier.first() + index;
        let recognised = recognise(store, number, path, index < used)?;
        found.push((number, path, recognised));
    }
    let absent: Vec<u8> = (found.iter())
        .filter(|(_, _, found)| *found == Recognised::Absent)
        .map(|(number, ..)| *number)
        .collect();
    let tolerated = group.tolerated();
    if absent.len() > tolerated {
        return Err(LayoutError::Absent { absent, tolerated });
    }
    if !absent.is_empty() {
        tracing::error!(
            ?absent,
            "disks are absent: blobs are read from the others, and only sets without them are written"
        );
    }
    Ok(found)
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
