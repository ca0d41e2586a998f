//! Packs that are read, kept open: a read from one costs no look-up of its name.
//!
//! `no-file-outlives-its-name`: a pack is put in while a pin holds it, and taken out when its name goes, which waits for
//! pins. So nothing that was removed takes up room behind an open file.

use std::collections::HashMap;
use std::fs::File;
use std::sync::{Arc, PoisonError, RwLock};

use super::PackId;

/// How many are kept, on all disks together.
const KEPT_MAX: usize = 64;

/// By the number of the disk.
#[derive(Debug, Default)]
pub(super) struct OpenPacks(RwLock<HashMap<(u8, PackId), Arc<File>>>);

impl OpenPacks {
    /// The pack on a disk, if it is kept.
    pub(super) fn get(&self, disk: u8, pack: PackId) -> Option<Arc<File>> {
        let kept = self.0.read().unwrap_or_else(PoisonError::into_inner);
        kept.get(&(disk, pack)).map(Arc::clone)
    }

    /// Keeps a pack that a pin holds, in place of any other where there are too many.
    pub(super) fn keep(&self, disk: u8, pack: PackId, file: Arc<File>) {
        let mut kept = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT_MAX
            && let Some(any) = kept.keys().next().copied()
        {
            kept.remove(&any);
        }
        kept.insert((disk, pack), file);
    }

    /// The names of a pack go.
    pub(super) fn forget(&self, pack: PackId) {
        let mut kept = self.0.write().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(_, known), _| *known != pack);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pack_is_kept_for_each_disk_until_its_names_go_and_never_too_many() {
        let open = OpenPacks::default();
        let file = Arc::new(File::open("/dev/null").unwrap());
        let (first, other) = (PackId(1), PackId(2));
        for (disk, pack) in [(0, first), (1, first), (0, other)] {
            open.keep(disk, pack, Arc::clone(&file));
        }
        open.forget(first);
        assert!(open.get(0, first).is_none() && open.get(1, first).is_none());
        assert!(open.get(0, other).is_some());
        for pack in 0..2 * KEPT_MAX as i64 {
            open.keep(0, PackId(pack), Arc::clone(&file));
        }
        assert_eq!(Arc::strong_count(&file), 1 + KEPT_MAX);
    }
}
