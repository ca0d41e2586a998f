//! The ids of versions, as clients see them.

use std::fmt;

use crate::origin::opaque_number::OpaqueNumbers;

/// How the numbers of versions are spelled.
const SPELLING: OpaqueNumbers = OpaqueNumbers::new(0x9E37_79B9_7F4A_7C15);

/// Which version of an object (S3, "Versioning").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VersionId {
    /// `null`: written while versioning was not enabled.
    Null,
    /// The number of its row, never reused.
    Number(i64),
}

/// Text that names no version of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a version id of ours")]
pub struct ForeignVersionId;

impl VersionId {
    /// Reads the form that clients hand back.
    ///
    /// # Errors
    /// [`ForeignVersionId`] when `Display` could not have written it.
    pub fn parse(text: &str) -> Result<Self, ForeignVersionId> {
        if text == "null" {
            return Ok(VersionId::Null);
        }
        SPELLING
            .read(text)
            .map(VersionId::Number)
            .ok_or(ForeignVersionId)
    }
}

impl fmt::Display for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            VersionId::Null => f.write_str("null"),
            VersionId::Number(number) => f.write_str(&SPELLING.write(*number)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_comes_back_as_it_went_out_and_foreign_ones_are_refused() {
        for number in [0, 1, 2, 77, 1 << 40, i64::MAX] {
            let id = VersionId::Number(number);
            assert_eq!(VersionId::parse(&id.to_string()), Ok(id));
        }
        assert_eq!(VersionId::parse("null"), Ok(VersionId::Null));
        for text in [
            "",
            "NULL",
            "9E3779B97F4A7C15",
            "zz",
            "123456789012345678",
            "+00000000000000a",
        ] {
            assert_eq!(VersionId::parse(text), Err(ForeignVersionId), "{text}");
        }
    }
}
