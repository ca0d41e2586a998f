//! Reads the secret that a command signs or verifies with.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::secret::Secret;

/// Why there is no secret.
#[derive(Debug, Error)]
pub enum SecretFileError {
    /// The file could not be read as text.
    #[error(
        "cannot read the secret file {}: {cause}\n\
         next: give the file that the key's `secret_file` names in the configuration",
        path.display()
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The file holds nothing but white space.
    #[error(
        "the secret file {} is empty\nnext: write the key's secret into it, on one line",
        path.display()
    )]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

/// The contents of a secret file, surrounding white space removed, as the configuration reads it.
///
/// # Errors
/// [`SecretFileError`]; it names the file and never its contents.
pub fn read(path: &Path) -> Result<Secret, SecretFileError> {
    let path = path.to_owned();
    match std::fs::read_to_string(&path) {
        Ok(text) if text.trim().is_empty() => Err(SecretFileError::Empty { path }),
        Ok(text) => Ok(Secret::new(text.trim())),
        Err(cause) => Err(SecretFileError::Unreadable { path, cause }),
    }
}

#[cfg(test)]
mod tests {
    use super::{SecretFileError, read};

    #[test]
    fn a_secret_is_read_without_the_white_space_around_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("demo.key");
        std::fs::write(&file, "  s3cret with spaces\n").unwrap();
        assert_eq!(read(&file).unwrap().reveal(), "s3cret with spaces");
    }

    #[test]
    fn an_empty_or_absent_file_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("demo.key");
        let error = read(&file).unwrap_err();
        assert!(matches!(error, SecretFileError::Unreadable { .. }));
        assert!(error.to_string().contains("demo.key"));

        std::fs::write(&file, " \n").unwrap();
        let error = read(&file).unwrap_err();
        assert!(matches!(error, SecretFileError::Empty { .. }));
        assert!(error.to_string().contains("demo.key"));
    }
}
