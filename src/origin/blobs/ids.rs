//! What blobs and packs are called.

/// Bits of an id that count within one writer generation; the bits above are the generation.
pub(super) const SEQUENCE_BITS: u32 = 40;
/// The last generation whose ids are positive 64-bit integers, the range of a SQLite rowid.
pub const GENERATION_MAX: i64 = (1 << (63 - SEQUENCE_BITS)) - 1;
/// A blob's name: writer generation and a count within it. Never reused, because a generation never is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobId(pub(super) i64);

/// A pack's name, made like a [`BlobId`] and never reused either.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackId(pub(super) i64);

impl BlobId {
    /// Takes an id from a metadata row.
    pub fn from_row(id: i64) -> Self {
        BlobId(id)
    }

    /// The form in a metadata row.
    pub fn row(self) -> i64 {
        self.0
    }

    pub(super) fn new(generation: i64, sequence: i64) -> Self {
        BlobId((generation << SEQUENCE_BITS) | sequence)
    }

    pub(super) fn generation(self) -> i64 {
        self.0 >> SEQUENCE_BITS
    }

    pub(super) fn file_name(self) -> String {
        format!("{:016x}", self.0)
    }

    pub(super) fn folder_name(self) -> String {
        format!("{:02x}", self.0 & 0xff)
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        read_hex(name, 16).map(BlobId)
    }
}

impl PackId {
    /// Takes an id from a metadata row.
    pub fn from_row(id: i64) -> Self {
        PackId(id)
    }

    /// The form in a metadata row.
    pub fn row(self) -> i64 {
        self.0
    }

    pub(super) fn new(generation: i64, sequence: i64) -> Self {
        PackId((generation << SEQUENCE_BITS) | sequence)
    }

    pub(super) fn generation(self) -> i64 {
        self.0 >> SEQUENCE_BITS
    }

    pub(super) fn folder_name(generation: i64) -> String {
        format!("{generation:06x}")
    }

    pub(super) fn parse_folder(name: &str) -> Option<i64> {
        read_hex(name, 6)
    }

    pub(super) fn file_name(self) -> String {
        let sequence = self.0 & ((1 << SEQUENCE_BITS) - 1);
        format!("{sequence:010x}.pack")
    }

    pub(super) fn parse(generation: i64, name: &str) -> Option<Self> {
        let sequence = read_hex(name.strip_suffix(".pack")?, 10)?;
        Some(PackId::new(generation, sequence))
    }
}

/// Reads what `{:0digits x}` writes.
fn read_hex(text: &str, digits: usize) -> Option<i64> {
    let fits = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if text.len() != digits || !text.bytes().all(fits) {
        return None;
    }
    i64::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_are_read_as_they_are_written_and_no_others() {
        let id = BlobId::new(0x1b, 0x2c3d);
        assert_eq!(id.file_name(), "00001b0000002c3d");
        assert_eq!(BlobId::parse("00001b0000002c3d"), Some(id));
        let pack = PackId::new(0x1b, 0x2c3d);
        assert_eq!(PackId::folder_name(pack.generation()), "00001b");
        assert_eq!(pack.file_name(), "0000002c3d.pack");
        assert_eq!(PackId::parse(0x1b, "0000002c3d.pack"), Some(pack));
        for other in ["00001B0000002c3d", "1b0000002c3d", "+0001b0000002c3d", ""] {
            assert_eq!(BlobId::parse(other), None, "{other}");
        }
        for other in [
            "0000002C3d.pack",
            "0000002c3d",
            "2c3d.pack",
            "+000002c3d.pack",
        ] {
            assert_eq!(PackId::parse(0x1b, other), None, "{other}");
        }
    }
}
