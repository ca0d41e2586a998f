//! `VersioningConfiguration` (S3 API, PutBucketVersioning and GetBucketVersioning).

use super::DocumentError;
use super::element::{Element, Limits};
use crate::origin::xml::Document;

/// The longest document that is read, in bytes.
pub const VERSIONING_MAX_BYTES: usize = 16 * 1024;

const LIMITS: Limits = Limits {
    bytes: VERSIONING_MAX_BYTES,
    elements: 8,
};

/// Whether a bucket keeps versions. A bucket that once did never becomes unversioned again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Versioning {
    /// It never has.
    #[default]
    Unversioned,
    /// Every write makes a version.
    Enabled,
    /// Writes replace the version `null`; others are kept.
    Suspended,
}

impl Versioning {
    /// Reads what a client puts: [`Versioning::Enabled`] or [`Versioning::Suspended`].
    ///
    /// # Errors
    /// [`DocumentError::VersioningStatus`] without either, [`DocumentError::NotImplemented`] for MFA delete, or a
    /// malformed document.
    pub fn parse(document: &[u8]) -> Result<Self, DocumentError> {
        let root = Element::parse(document, "VersioningConfiguration", LIMITS)?;
        root.only(&["Status", "MfaDelete", "MFADelete"])?;
        for name in ["MfaDelete", "MFADelete"] {
            let is_asked_for = match root.one(name)? {
                Some(mfa) => mfa.one_of(&[("Enabled", true), ("Disabled", false)])?,
                None => false,
            };
            if is_asked_for {
                return Err(DocumentError::NotImplemented {
                    what: "MFA delete is not implemented",
                });
            }
        }
        let status = (root.one("Status")?).ok_or(DocumentError::VersioningStatus)?;
        match status.word()? {
            "Enabled" => Ok(Versioning::Enabled),
            "Suspended" => Ok(Versioning::Suspended),
            _ => Err(DocumentError::VersioningStatus),
        }
    }

    /// Writes it into a `VersioningConfiguration`, which is empty for a bucket that never had versions.
    pub fn write(self, document: &mut Document) {
        match self {
            Versioning::Unversioned => {}
            Versioning::Enabled => document.text("Status", "Enabled"),
            Versioning::Suspended => document.text("Status", "Suspended"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::xml::NAMESPACE;

    #[test]
    fn versioning_is_enabled_or_suspended() {
        let root = |inner: &str| {
            format!(
                "<VersioningConfiguration xmlns=\"{NAMESPACE}\">{inner}</VersioningConfiguration>"
            )
        };
        for (inner, expected) in [
            ("<Status>Enabled</Status>", Ok(Versioning::Enabled)),
            ("<Status>Suspended</Status>", Ok(Versioning::Suspended)),
            (
                "<MfaDelete>Disabled</MfaDelete><Status>Enabled</Status>",
                Ok(Versioning::Enabled),
            ),
            ("", Err("IllegalVersioningConfigurationException")),
            ("<Status/>", Err("IllegalVersioningConfigurationException")),
            (
                "<Status>enabled</Status>",
                Err("IllegalVersioningConfigurationException"),
            ),
            (
                "<Status>Enabled</Status><Status>Enabled</Status>",
                Err("MalformedXML"),
            ),
            ("<Status>Enabled</Status><Other/>", Err("MalformedXML")),
            (
                "<Status>Enabled</Status><MfaDelete>Enabled</MfaDelete>",
                Err("NotImplemented"),
            ),
        ] {
            let read = Versioning::parse(root(inner).as_bytes());
            assert_eq!(read.map_err(|error| error.code()), expected, "{inner}");
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let written = |versioning: Versioning| {
            let mut document = Document::new("VersioningConfiguration", Some(NAMESPACE));
            versioning.write(&mut document);
            document.finish()
        };
        for versioning in [Versioning::Enabled, Versioning::Suspended] {
            assert_eq!(Versioning::parse(&written(versioning)), Ok(versioning));
        }
        let never = Versioning::parse(&written(Versioning::Unversioned));
        assert_eq!(never, Err(DocumentError::VersioningStatus));
    }
}
