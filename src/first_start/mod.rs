//! What `tidegate up` makes before it can run: a private folder, credentials, certificates and a
//! configuration that the operator may edit. Everything is kept on later starts, and what a crash or
//! an operator took away is completed.

mod certificate;
mod credentials;
mod folder;
mod samples;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

pub use certificate::Unfit;
pub use samples::{SAMPLE_BUCKET, SAMPLES, Sample};

use folder::{PRIVATE, read, write};

/// A folder that is ready to be run from. It stays locked for this process until this is dropped.
#[derive(Debug)]
pub struct Prepared {
    /// The configuration to load.
    pub config_file: PathBuf,
    /// The certificate that clients must trust to speak HTTPS with the site.
    pub authority_file: PathBuf,
    /// The file that holds the secret, as first written.
    pub secret_file: PathBuf,
    /// What the operator should hear.
    pub notes: Vec<Note>,
    _lock: File,
}

/// Something that was made anew although it, or a part of it, had been there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Note {
    /// `ca.pem` or `ca.key` was missing or damaged.
    #[error("made a new local CA, because ca.pem and ca.key were not a pair: trust the new ca.pem")]
    AuthorityReplaced,
    /// The site certificate was signed anew.
    #[error("renewed the site certificate: {0}")]
    SiteRenewed(Unfit),
    /// The configuration was there and the secret was not.
    #[error("made a new secret, because secret.key was missing: old signatures are no longer good")]
    SecretReplaced,
}

/// Why the folder could not be made ready.
#[derive(Debug, thiserror::Error)]
pub enum FirstStartError {
    /// The folder, or one above it, cannot be made.
    #[error("cannot create the folder {}: {error}", .folder.display())]
    Create {
        /// The folder.
        folder: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file in it cannot be written.
    #[error("cannot write {}: {error}", .file.display())]
    Write {
        /// The file.
        file: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file in it cannot be read.
    #[error("cannot read {}: {error}", .file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Another process runs from this folder.
    #[error("{} is in use by another tidegate{}", .folder.display(), pid_in_words(.pid))]
    InUse {
        /// The folder.
        folder: PathBuf,
        /// Its process id, when it could be read.
        pid: Option<u32>,
    },
    /// The system has no randomness to give.
    #[error("the system gives no random bytes: {0}")]
    NoRandomness(getrandom::Error),
    /// A certificate or a key could not be made.
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
}

fn pid_in_words(pid: &Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (pid {pid})"))
}

/// Makes `folder` ready, or completes it.
///
/// The configuration is written last, so a folder that has one was complete once.
///
/// # Errors
/// When the folder cannot be made, read or written, or another process runs from it. Nothing that was
/// there has been changed then.
pub fn prepare(folder: &Path, now: SystemTime) -> Result<Prepared, FirstStartError> {
    folder::create(folder)?;
    let lock = folder::lock(folder)?;
    let config_file = folder.join("tidegate.yaml");
    let secret_file = folder.join("secret.key");
    let configured = read(&config_file)?.is_some();

    let mut notes = Vec::new();
    if read(&secret_file)?.is_none() {
        let secret = credentials::secret()?;
        write(&secret_file, secret.reveal().as_bytes(), PRIVATE)?;
        if configured {
            notes.push(Note::SecretReplaced);
        }
    }
    let certificates = certificate::Files::in_folder(folder);
    notes.extend(certificate::ensure(&certificates, now)?);
    if !configured {
        let text = configuration(&credentials::access_key_id()?);
        write(&config_file, text.as_bytes(), PRIVATE)?;
    }
    Ok(Prepared {
        config_file,
        authority_file: certificates.authority,
        secret_file,
        notes,
        _lock: lock,
    })
}

/// The configuration of a first start; paths are relative to the folder it is written to.
fn configuration(access_key_id: &str) -> String {
    format!(
        "\
# Made by `tidegate up` on its first start and yours to edit from then on.
# conf/tidegate.yaml in the sources documents every key;
# `tidegate check --config` says what is wrong with this file.
admin:
  address: 127.0.0.1:9900
edge:
  listeners:
    - address: 127.0.0.1:8080
    - address: 127.0.0.1:8443
      tls:
        certificates:
          - chain: site.pem
            key: site.key
  origins:
    store:
      servers: [127.0.0.1:9000]
  routes:
    - path: /
      origin: store
      access: signed
  cache:
    memory: 256MiB
  signing:
    keys:
      - id: {access_key_id}
        secret_file: secret.key
  access_log: access.log
origin:
  address: 127.0.0.1:9000
  data: origin
  credentials:
    - access_key_id: {access_key_id}
      secret_file: secret.key
"
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_800_000_000)
    }

    /// Name, mode and contents of everything in the folder.
    fn listing(folder: &Path) -> BTreeMap<String, (u32, String)> {
        (fs::read_dir(folder).unwrap())
            .map(|entry| {
                let entry = entry.unwrap();
                let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
                let contents = fs::read_to_string(entry.path()).unwrap();
                (entry.file_name().into_string().unwrap(), (mode, contents))
            })
            .collect()
    }

    #[test]
    fn a_first_start_makes_a_private_folder_that_the_loader_accepts() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("some/data");
        let prepared = prepare(&folder, now()).unwrap();
        assert_eq!(prepared.notes, []);
        let mode = fs::metadata(&folder).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        let modes: Vec<(String, u32)> = (listing(&folder).into_iter())
            .map(|(name, (mode, _))| (name, mode))
            .collect();
        let expected = [
            ("LOCK", 0o600),
            ("ca.key", 0o600),
            ("ca.pem", 0o644),
            ("secret.key", 0o600),
            ("site.key", 0o600),
            ("site.pem", 0o644),
            ("tidegate.yaml", 0o600),
        ];
        assert_eq!(modes, expected.map(|(name, mode)| (name.to_owned(), mode)));
        let checked = crate::config::load(&prepared.config_file).unwrap();
        assert_eq!(checked.warnings, []);
        let origin = checked.config.origin.unwrap();
        assert_eq!(origin.data, folder.join("origin"));
        let edge = checked.config.edge.unwrap();
        assert_eq!(edge.signing.keys[0].id, origin.credentials[0].access_key_id);
    }

    #[test]
    fn a_second_start_keeps_everything() {
        let folder = tempfile::tempdir().unwrap();
        drop(prepare(folder.path(), now()).unwrap());
        let first = listing(folder.path());
        let prepared = prepare(folder.path(), now()).unwrap();
        assert_eq!(prepared.notes, []);
        assert_eq!(listing(folder.path()), first);
    }

    #[test]
    fn a_folder_that_a_crash_left_half_made_is_completed_and_the_rest_is_kept() {
        let names = [
            "ca.key",
            "ca.pem",
            "secret.key",
            "site.key",
            "site.pem",
            "tidegate.yaml",
        ];
        for lost in names {
            let folder = tempfile::tempdir().unwrap();
            drop(prepare(folder.path(), now()).unwrap());
            let mut first = listing(folder.path());
            fs::rename(
                folder.path().join(lost),
                folder.path().join(format!("{lost}.new")),
            )
            .unwrap();
            drop(prepare(folder.path(), now()).unwrap());
            let mut second = listing(folder.path());
            let remade: &[&str] = match lost {
                "ca.key" | "ca.pem" => &["ca.key", "ca.pem", "site.key", "site.pem"],
                "site.key" | "site.pem" => &["site.key", "site.pem"],
                "secret.key" => &["secret.key"],
                _ => &["tidegate.yaml"],
            };
            for name in remade {
                assert_ne!(first.remove(*name), second.remove(*name), "{lost}: {name}");
            }
            assert_eq!(first, second, "{lost}");
            let file = folder.path().join("tidegate.yaml");
            crate::config::load(&file).unwrap();
        }
    }

    #[test]
    fn an_edited_configuration_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let prepared = prepare(folder.path(), now()).unwrap();
        let file = prepared.config_file.clone();
        drop(prepared);
        fs::write(&file, "mine").unwrap();
        prepare(folder.path(), now()).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let parent = tempfile::tempdir().unwrap();
        let file = parent.path().join("file");
        fs::write(&file, "").unwrap();
        let error = prepare(&file.join("data"), now()).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "cannot create the folder {}: Not a directory (os error 20)",
                file.join("data").display()
            )
        );
    }
}
