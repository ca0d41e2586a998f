//! The folder of a node that is stopped, for commands: the log without the thread that writes.
//!
//! Opening it does what a start does: it takes the lock, reads the index or the segments, and removes
//! segment files that are foreign or above the limit. No epoch begins, since nothing is stored.

use std::sync::Arc;

use super::Stats;
use super::erasures::Erasures;
use super::folder::Folder;
use super::format::Fault;
use super::identity::{self, Identity};
use super::log::{Log, LogSizes, OpenFault, WriteFault};
use super::policy::Policy;
use super::shelf::Shelf;
use super::writer::{HOT_FILE_NAME, prepare};

/// A cache folder that no node uses meanwhile.
pub struct Stopped {
    folder: Arc<dyn Folder>,
    log: Log,
    sizes: LogSizes,
}

/// Why a folder cannot be worked on.
#[derive(Debug, thiserror::Error)]
pub enum StoppedFault {
    /// It is not there, or holds no identity.
    #[error("there is no cache in it")]
    Absent,
    /// Its identity cannot be used.
    #[error("its identity cannot be used: {0}")]
    Identity(Fault),
    /// It is locked, or the system said no.
    #[error(transparent)]
    Open(#[from] OpenFault),
}

impl Stopped {
    /// Takes the lock and finds out what lies in `folder`. `progress` is told how many segments were
    /// read, and of how many.
    ///
    /// # Errors
    /// [`StoppedFault`]; nothing was made or changed.
    pub fn open(
        folder: Arc<dyn Folder>,
        sizes: LogSizes,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<Self, StoppedFault> {
        // Before the lock, which would make the folder.
        read_identity(&*folder)?;
        prepare(&*folder)?;
        // A node may have changed it until now.
        let identity = read_identity(&*folder)?;
        let policy = Arc::new(Policy::new(sizes.limit_bytes, sizes.segment_bytes));
        let erasures = Arc::new(Erasures::default());
        let mut log = Log::open(folder.clone(), &identity, sizes, policy, erasures)?;
        let total = log.shelf().segments.len() as u64;
        let mut read = 0;
        while log.is_recovering() {
            log.recover_segment();
            read += 1;
            progress(read, total);
        }
        Ok(Stopped { folder, log, sizes })
    }

    /// What can be read.
    pub fn shelf(&self) -> &Shelf {
        self.log.shelf()
    }

    /// What it holds; what it has done is counted from [`Stopped::open`] on.
    pub fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        stats.shown.limit_bytes = self.sizes.limit_bytes;
        stats.note(self.shelf());
        stats
    }

    /// Removes everything that is stored.
    ///
    /// # Errors
    /// [`WriteFault`].
    pub fn clear(&mut self) -> Result<(), WriteFault> {
        let hot = self.folder.remove(HOT_FILE_NAME);
        self.log.clear()?;
        hot.map_err(|error| WriteFault {
            doing: "remove the list of what the memory tier held",
            error,
        })
    }

    /// Leaves the index for the next start, and lets the lock go.
    ///
    /// # Errors
    /// [`WriteFault`]; the next start then reads the segments.
    pub fn close(mut self) -> Result<(), WriteFault> {
        self.log.close()
    }
}

fn read_identity(folder: &dyn Folder) -> Result<Identity, StoppedFault> {
    let contents = folder.read(identity::FILE_NAME).map_err(|error| {
        let doing = "read the identity";
        OpenFault::Io { doing, error }
    })?;
    let contents = contents.ok_or(StoppedFault::Absent)?;
    Identity::decode(&contents).map_err(StoppedFault::Identity)
}
