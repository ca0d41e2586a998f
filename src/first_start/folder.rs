//! The data folder: made private, locked, and written to so that a crash leaves old or new, never half.
//!
//! Invariant `whole-or-absent`: a file that [`write`] makes has its final name only once its bytes are on disk.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::FirstStartError;

/// Only the owner reads and writes.
pub(super) const PRIVATE: u32 = 0o600;
/// Everybody may read: for certificates that browsers are to trust.
pub(super) const PUBLIC: u32 = 0o644;

/// Makes the folder and those above it, for the owner only. One that exists is left as it is.
pub(super) fn create(folder: &Path) -> Result<(), FirstStartError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| FirstStartError::Create {
            folder: folder.to_owned(),
            error,
        })
}

/// Holds the folder for this process as long as the file lives; the system lets go of it even after a crash.
pub(super) fn lock(folder: &Path) -> Result<File, FirstStartError> {
    let path = folder.join("LOCK");
    let fault = |error: io::Error| FirstStartError::Write {
        file: path.clone(),
        error,
    };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(PRIVATE)
        .open(&path)
        .map_err(fault)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut holder = String::new();
            file.read_to_string(&mut holder).map_err(fault)?;
            return Err(FirstStartError::InUse {
                folder: folder.to_owned(),
                pid: holder.trim().parse().ok(),
            });
        }
        Err(errno) => return Err(fault(errno.into())),
    }
    file.set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(fault)?;
    Ok(file)
}

/// Where a file is written before it gets its name.
fn temporary(file: &Path) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    file.with_file_name(name)
}

/// Writes a file that appears under its name only when it is complete and durable (`whole-or-absent`).
pub(super) fn write(file: &Path, contents: &[u8], mode: u32) -> Result<(), FirstStartError> {
    let temporary = temporary(file);
    let write = || -> io::Result<()> {
        let mut handle = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(PRIVATE)
            .open(&temporary)?;
        // A file left by a crash keeps the mode it was made with, and the umask may have narrowed this one.
        handle.set_permissions(Permissions::from_mode(mode))?;
        handle.write_all(contents)?;
        handle.sync_all()?;
        fs::rename(&temporary, file)?;
        let folder = file.parent().unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()
    };
    write().map_err(|error| FirstStartError::Write {
        file: file.to_owned(),
        error,
    })
}

/// The text of a file; `None` when there is no such file.
pub(super) fn read(file: &Path) -> Result<Option<String>, FirstStartError> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(FirstStartError::Read {
            file: file.to_owned(),
            error,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_left_half_written_by_a_crash_is_replaced_and_gets_its_mode() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret.key");
        fs::write(temporary(&file), "half").unwrap();
        fs::set_permissions(temporary(&file), Permissions::from_mode(0o644)).unwrap();
        assert_eq!(read(&file).unwrap(), None);
        write(&file, b"whole", PRIVATE).unwrap();
        assert_eq!(read(&file).unwrap().as_deref(), Some("whole"));
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, PRIVATE);
        assert!(!temporary(&file).exists());
    }

    #[test]
    fn a_locked_folder_names_the_process_that_holds_it() {
        let folder = tempfile::tempdir().unwrap();
        let held = lock(folder.path()).unwrap();
        match lock(folder.path()) {
            Err(FirstStartError::InUse { pid, .. }) => {
                assert_eq!(pid, Some(std::process::id()));
            }
            other => panic!("{other:?}"),
        }
        drop(held);
        lock(folder.path()).unwrap();
    }
}
