//! The byte counts that shape bodies and fills.
//!
//! They belong to a cache and not to the program, so that the simulation can turn every boundary
//! (a block, the lead, the window) within a few hundred bytes.

use super::policy::blocks::Blocks;

/// See the fields. [`Sizes::STANDARD`] is what an edge runs with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// How bodies are cut.
    pub blocks: Blocks,
    /// How far a fill may run ahead of its fastest reader.
    pub lead_bytes: u64,
    /// How far behind the newest byte a fill still holds bytes for slower readers.
    pub retained_bytes: u64,
    /// A body that nobody reads any more is still taken to its end when no more than this is
    /// missing.
    pub finish_anyway_bytes: u64,
    /// Fills may hold this part of the memory tier's size beside the tier, as a divisor.
    pub windows_share: u64,
}

impl Sizes {
    /// Blocks of 256 KiB, a lead of 1 MiB, a window of 16 MiB, the last 4 MiB finished anyway, all windows half as
    /// large as the memory tier.
    pub const STANDARD: Sizes = Sizes {
        blocks: Blocks::STANDARD,
        lead_bytes: 1024 * 1024,
        retained_bytes: 16 * 1024 * 1024,
        finish_anyway_bytes: 4 * 1024 * 1024,
        windows_share: 2,
    };
}
