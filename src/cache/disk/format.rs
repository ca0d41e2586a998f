//! The bytes of the disk tier's files. Pure; `docs/FORMATS.md` shows the same layouts as tables.
//!
//! A segment file is
//!
//! ```text
//! segment header   64 bytes
//! record*          64-byte header, payload, zeros up to the next multiple of 64
//! footer           24 bytes per record, only in a sealed segment
//! (unused)
//! trailer          the last 64 bytes of the file, only in a sealed segment
//! ```
//!
//! All numbers are little-endian, all checksums CRC-32C. What does not carry our magic, our version,
//! the folder's identity and a right checksum is not ours, and is never guessed at.

use crc_fast::CrcAlgorithm;

/// Records begin at multiples of this; headers are this long.
pub const UNIT_BYTES: u64 = 64;

/// The version of every layout here. A file with another one is not read.
pub const VERSION: u16 = 1;

/// The longest record, header and padding included: its length in units must fit 14 bits.
pub const MAX_RECORD_BYTES: u64 = ((1 << 14) - 1) * UNIT_BYTES;

/// The bytes of a record, a footer entry aside, that are not payload: header and worst padding.
pub const RECORD_OVERHEAD_BYTES: u64 = 2 * UNIT_BYTES - 1;

/// Bytes of a footer entry.
pub const FOOTER_ENTRY_BYTES: u64 = 24;

const SEGMENT_MAGIC: [u8; 8] = *b"TIDESEG\n";
const TRAILER_MAGIC: [u8; 8] = *b"TIDEEND\n";
const RECORD_MAGIC: [u8; 4] = *b"TDRC";
const HEADER: usize = UNIT_BYTES as usize;

/// CRC-32C (Castagnoli).
pub fn crc32c(bytes: &[u8]) -> u32 {
    // The algorithm yields 32 bits in a wider integer.
    crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

/// CRC-32C of slices that follow one another.
pub fn crc32c_of(slices: &[&[u8]]) -> u32 {
    let mut digest = crc_fast::Digest::new(CrcAlgorithm::Crc32Iscsi);
    for slice in slices {
        digest.update(slice);
    }
    digest.finalize() as u32
}

/// Why bytes are not what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Fewer bytes than the layout has.
    #[error("{found} bytes where {expected} were expected")]
    Short {
        /// What there should have been.
        expected: u64,
        /// What there was.
        found: u64,
    },
    /// The magic number is another.
    #[error("not written by this program")]
    Magic,
    /// Another version of the layout.
    #[error("version {0} of the format, not {VERSION}")]
    Version(u16),
    /// The checksum of a header or of a footer is another.
    #[error("the checksum of the {0} is wrong")]
    Checksum(&'static str),
    /// It belongs to another cache folder, or to a segment that lay here before.
    #[error("belongs to another segment")]
    Foreign,
    /// A number that no writer of ours would have put there.
    #[error("{field} is {value}")]
    Range {
        /// Which.
        field: &'static str,
        /// The number.
        value: u64,
    },
}

impl Fault {
    /// The word for the metric's label.
    pub fn word(self) -> &'static str {
        match self {
            Fault::Short { .. } => "short",
            Fault::Magic => "magic",
            Fault::Version(_) => "version",
            Fault::Checksum(_) => "checksum",
            Fault::Foreign => "foreign",
            Fault::Range { .. } => "range",
        }
    }

    /// All words, for resolving metrics once.
    pub const WORDS: [&'static str; 6] =
        ["short", "magic", "version", "checksum", "foreign", "range"];
}

/// The identity of a cache folder: random, made with it. Files of another folder are foreign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FolderId(pub [u8; 16]);

/// The first bytes of a segment file.
///
/// | offset | bytes | |
/// |---|---|---|
/// | 0 | 8 | `TIDESEG\n` |
/// | 8 | 2 | version |
/// | 10 | 6 | zero |
/// | 16 | 16 | folder id |
/// | 32 | 8 | sequence |
/// | 40 | 20 | zero |
/// | 60 | 4 | checksum of the bytes before |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Whose it is.
    pub folder: FolderId,
    /// Its place in the log; later segments are greater, and no number is given twice.
    pub sequence: u64,
}

impl SegmentHeader {
    /// The bytes.
    pub fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[0..8].copy_from_slice(&SEGMENT_MAGIC);
        bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.folder.0);
        bytes[32..40].copy_from_slice(&self.sequence.to_le_bytes());
        sign(&mut bytes);
        bytes
    }

    /// Reads the bytes.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Fault> {
        let bytes = header(bytes)?;
        if bytes[0..8] != SEGMENT_MAGIC {
            return Err(Fault::Magic);
        }
        check_version(u16_at(bytes, 8))?;
        check_signature(bytes, "segment header")?;
        Ok(SegmentHeader {
            folder: FolderId(array_at(bytes, 16)),
            sequence: u64_at(bytes, 32),
        })
    }
}

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A stored head, with the whole body behind it when that is small; it takes the place of every
    /// response of its key that was written before. `number` is the head's revision.
    Response,
    /// The same, but it stands beside what was written before under its key.
    Variant,
    /// A head brought up to date, without body. Of several heads of a generation the one with the
    /// highest `number` counts.
    Update,
    /// A block of a body. `number` is the block's.
    Block,
    /// Takes back responses of a key: all whose generation is not greater. `number` is zero.
    Erasure,
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Kind::Response => 1,
            Kind::Variant => 2,
            Kind::Update => 3,
            Kind::Block => 4,
            Kind::Erasure => 5,
        }
    }

    fn of(code: u8) -> Result<Self, Fault> {
        match code {
            1 => Ok(Kind::Response),
            2 => Ok(Kind::Variant),
            3 => Ok(Kind::Update),
            4 => Ok(Kind::Block),
            5 => Ok(Kind::Erasure),
            _ => Err(Fault::Range {
                field: "kind",
                value: u64::from(code),
            }),
        }
    }
}

/// What precedes a payload.
///
/// | offset | bytes | |
/// |---|---|---|
/// | 0 | 4 | `TDRC` |
/// | 4 | 2 | version |
/// | 6 | 1 | kind: 1 response, 2 variant, 3 update, 4 block, 5 erasure |
/// | 7 | 1 | zero |
/// | 8 | 8 | hash: keyed hash of the cache key, or of generation and number for a block |
/// | 16 | 8 | generation |
/// | 24 | 8 | number: see [`Kind`] |
/// | 32 | 8 | sequence of the segment it was written for |
/// | 40 | 4 | payload length |
/// | 44 | 4 | checksum of the payload |
/// | 48 | 4 | of a response: how much of the payload is its head |
/// | 52 | 8 | of a block: keyed hash of its place, cache key and number |
/// | 60 | 4 | checksum of the bytes before |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordHeader {
    /// What follows.
    pub kind: Kind,
    /// See the table.
    pub hash: u64,
    /// Of the body.
    pub generation: u64,
    /// See [`Kind`].
    pub number: u64,
    /// Of the segment.
    pub sequence: u64,
    /// Bytes of the payload.
    pub payload_bytes: u32,
    /// CRC-32C of the payload.
    pub payload_crc: u32,
    /// Bytes of the payload that are a stored head.
    pub head_bytes: u32,
    /// Of a block: the same in every generation, so that it can be known again. Else zero.
    pub place: u64,
}

impl RecordHeader {
    /// The bytes.
    pub fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[0..4].copy_from_slice(&RECORD_MAGIC);
        bytes[4..6].copy_from_slice(&VERSION.to_le_bytes());
        bytes[6] = self.kind.code();
        bytes[8..16].copy_from_slice(&self.hash.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.generation.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.number.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.payload_bytes.to_le_bytes());
        bytes[44..48].copy_from_slice(&self.payload_crc.to_le_bytes());
        bytes[48..52].copy_from_slice(&self.head_bytes.to_le_bytes());
        bytes[52..60].copy_from_slice(&self.place.to_le_bytes());
        sign(&mut bytes);
        bytes
    }

    /// Reads the bytes of a record in the segment `sequence`.
    ///
    /// # Errors
    /// [`Fault`]; of what lay in the file before, [`Fault::Foreign`].
    pub fn decode(bytes: &[u8], sequence: u64) -> Result<Self, Fault> {
        let bytes = header(bytes)?;
        if bytes[0..4] != RECORD_MAGIC {
            return Err(Fault::Magic);
        }
        check_version(u16_at(bytes, 4))?;
        check_signature(bytes, "record header")?;
        let header = RecordHeader {
            kind: Kind::of(bytes[6])?,
            hash: u64_at(bytes, 8),
            generation: u64_at(bytes, 16),
            number: u64_at(bytes, 24),
            sequence: u64_at(bytes, 32),
            payload_bytes: u32_at(bytes, 40),
            payload_crc: u32_at(bytes, 44),
            head_bytes: u32_at(bytes, 48),
            place: u64_at(bytes, 52),
        };
        if header.sequence != sequence {
            return Err(Fault::Foreign);
        }
        if record_bytes(u64::from(header.payload_bytes)) > MAX_RECORD_BYTES {
            return Err(Fault::Range {
                field: "payload length",
                value: u64::from(header.payload_bytes),
            });
        }
        if header.head_bytes > header.payload_bytes {
            return Err(Fault::Range {
                field: "head length",
                value: u64::from(header.head_bytes),
            });
        }
        Ok(header)
    }

    /// Checks a payload against this header.
    ///
    /// # Errors
    /// [`Fault::Short`] and [`Fault::Checksum`].
    pub fn check_payload(&self, payload: &[u8]) -> Result<(), Fault> {
        if payload.len() as u64 != u64::from(self.payload_bytes) {
            return Err(Fault::Short {
                expected: u64::from(self.payload_bytes),
                found: payload.len() as u64,
            });
        }
        if crc32c(payload) != self.payload_crc {
            return Err(Fault::Checksum("payload"));
        }
        Ok(())
    }

    /// Bytes of the whole record.
    pub fn record_bytes(&self) -> u64 {
        record_bytes(u64::from(self.payload_bytes))
    }
}

/// Bytes that a record with this much payload takes.
pub fn record_bytes(payload_bytes: u64) -> u64 {
    UNIT_BYTES + payload_bytes.next_multiple_of(UNIT_BYTES)
}

/// One line of a segment's index.
///
/// | offset | bytes | |
/// |---|---|---|
/// | 0 | 8 | hash |
/// | 8 | 8 | generation; of a block, the hash of its place |
/// | 16 | 4 | offset of the record in units of 64 bytes (24 bits), kind (8 bits) |
/// | 20 | 4 | its length in units |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FooterEntry {
    /// See [`RecordHeader::hash`].
    pub hash: u64,
    /// See [`RecordHeader::generation`]; of a block, [`RecordHeader::place`].
    pub generation_or_place: u64,
    /// What the record is.
    pub kind: Kind,
    /// Where it begins, in units.
    pub offset: u32,
    /// How long it is, in units.
    pub length: u16,
}

impl FooterEntry {
    fn encode(&self) -> [u8; FOOTER_ENTRY_BYTES as usize] {
        let mut bytes = [0; FOOTER_ENTRY_BYTES as usize];
        bytes[0..8].copy_from_slice(&self.hash.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.generation_or_place.to_le_bytes());
        let place = self.offset | u32::from(self.kind.code()) << 24;
        bytes[16..20].copy_from_slice(&place.to_le_bytes());
        bytes[20..24].copy_from_slice(&u32::from(self.length).to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8], limit_units: u64) -> Result<Self, Fault> {
        let place = u32_at(bytes, 16);
        let offset = place & 0x00ff_ffff;
        let length = u32_at(bytes, 20);
        let is_inside = offset >= 1 && u64::from(offset) + u64::from(length) <= limit_units;
        let is_short = u64::from(length) * UNIT_BYTES <= MAX_RECORD_BYTES;
        let short = u16::try_from(length).ok().filter(|_| is_inside && is_short);
        Ok(FooterEntry {
            hash: u64_at(bytes, 0),
            generation_or_place: u64_at(bytes, 8),
            kind: Kind::of((place >> 24) as u8)?,
            offset,
            length: short.filter(|units| *units >= 1).ok_or(Fault::Range {
                field: "record end",
                value: u64::from(offset) + u64::from(length),
            })?,
        })
    }
}

/// The index of a segment, and how to find it again.
///
/// | offset | bytes | |
/// |---|---|---|
/// | 0 | 8 | `TIDEEND\n` |
/// | 8 | 2 | version |
/// | 10 | 6 | zero |
/// | 16 | 16 | folder id |
/// | 32 | 8 | sequence |
/// | 40 | 8 | offset of the footer in bytes |
/// | 48 | 4 | entries |
/// | 52 | 4 | checksum of the footer |
/// | 56 | 4 | zero |
/// | 60 | 4 | checksum of the bytes before |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trailer {
    /// The same as in the segment's header.
    pub segment: SegmentHeader,
    /// Where the footer begins, in bytes.
    pub footer_offset: u64,
    /// How many entries it has.
    pub entries: u32,
    /// CRC-32C of the footer.
    pub footer_crc: u32,
}

impl Trailer {
    /// Bytes of the footer.
    pub fn footer_bytes(&self) -> u64 {
        u64::from(self.entries) * FOOTER_ENTRY_BYTES
    }

    /// The bytes of the trailer.
    pub fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[0..8].copy_from_slice(&TRAILER_MAGIC);
        bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.segment.folder.0);
        bytes[32..40].copy_from_slice(&self.segment.sequence.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.footer_offset.to_le_bytes());
        bytes[48..52].copy_from_slice(&self.entries.to_le_bytes());
        bytes[52..56].copy_from_slice(&self.footer_crc.to_le_bytes());
        sign(&mut bytes);
        bytes
    }

    /// Reads the trailer of a file of `file_bytes` whose header is `segment`.
    ///
    /// # Errors
    /// [`Fault`]; a segment that was not sealed has zeros there, which is [`Fault::Magic`].
    pub fn decode(bytes: &[u8], segment: &SegmentHeader, file_bytes: u64) -> Result<Self, Fault> {
        let bytes = header(bytes)?;
        if bytes[0..8] != TRAILER_MAGIC {
            return Err(Fault::Magic);
        }
        check_version(u16_at(bytes, 8))?;
        check_signature(bytes, "trailer")?;
        let trailer = Trailer {
            segment: SegmentHeader {
                folder: FolderId(array_at(bytes, 16)),
                sequence: u64_at(bytes, 32),
            },
            footer_offset: u64_at(bytes, 40),
            entries: u32_at(bytes, 48),
            footer_crc: u32_at(bytes, 52),
        };
        if trailer.segment != *segment {
            return Err(Fault::Foreign);
        }
        let end = trailer.footer_offset.saturating_add(trailer.footer_bytes());
        if trailer.footer_offset < UNIT_BYTES || end.saturating_add(UNIT_BYTES) > file_bytes {
            return Err(Fault::Range {
                field: "footer end",
                value: end,
            });
        }
        Ok(trailer)
    }
}

/// The footer of a segment, and the trailer that says where it is.
pub fn encode_footer(
    segment: SegmentHeader,
    footer_offset: u64,
    entries: &[FooterEntry],
) -> (Vec<u8>, Trailer) {
    let footer: Vec<u8> = entries.iter().flat_map(FooterEntry::encode).collect();
    let trailer = Trailer {
        segment,
        footer_offset,
        // A segment has at most 2^24 units, and no record is shorter than one.
        entries: entries.len() as u32,
        footer_crc: crc32c(&footer),
    };
    (footer, trailer)
}

/// Reads a footer.
///
/// # Errors
/// [`Fault`].
pub fn decode_footer(bytes: &[u8], trailer: &Trailer) -> Result<Vec<FooterEntry>, Fault> {
    if bytes.len() as u64 != trailer.footer_bytes() {
        return Err(Fault::Short {
            expected: trailer.footer_bytes(),
            found: bytes.len() as u64,
        });
    }
    if crc32c(bytes) != trailer.footer_crc {
        return Err(Fault::Checksum("footer"));
    }
    let limit_units = trailer.footer_offset / UNIT_BYTES;
    bytes
        .chunks_exact(FOOTER_ENTRY_BYTES as usize)
        .map(|entry| FooterEntry::decode(entry, limit_units))
        .collect()
}

fn header(bytes: &[u8]) -> Result<&[u8; HEADER], Fault> {
    bytes.first_chunk().ok_or(Fault::Short {
        expected: UNIT_BYTES,
        found: bytes.len() as u64,
    })
}

fn check_version(version: u16) -> Result<(), Fault> {
    match version {
        VERSION => Ok(()),
        other => Err(Fault::Version(other)),
    }
}

/// Puts the checksum of a header into its last four bytes.
fn sign(bytes: &mut [u8; HEADER]) {
    let (body, checksum) = bytes.split_at_mut(HEADER - 4);
    checksum.copy_from_slice(&crc32c(body).to_le_bytes());
}

fn check_signature(bytes: &[u8; HEADER], what: &'static str) -> Result<(), Fault> {
    let (body, checksum) = bytes.split_at(HEADER - 4);
    match *checksum == crc32c(body).to_le_bytes() {
        true => Ok(()),
        false => Err(Fault::Checksum(what)),
    }
}

/// `N` bytes at a place that the layout has.
fn array_at<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    *bytes[offset..]
        .first_chunk()
        .expect("fixed-layouts-have-fixed-places")
}

fn u16_at(bytes: &[u8], offset: usize) -> u16 {
    u16::from_le_bytes(array_at(bytes, offset))
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, offset))
}

fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: SegmentHeader = SegmentHeader {
        folder: FolderId(*b"0123456789abcdef"),
        sequence: 77,
    };

    fn record() -> RecordHeader {
        RecordHeader {
            kind: Kind::Response,
            hash: u64::MAX,
            generation: 1 << 40,
            number: 3,
            sequence: 77,
            payload_bytes: 10,
            payload_crc: crc32c(b"0123456789"),
            head_bytes: 4,
            place: 0,
        }
    }

    fn entries() -> Vec<FooterEntry> {
        [Kind::Variant, Kind::Block, Kind::Erasure]
            .into_iter()
            .zip(1..)
            .map(|(kind, offset)| FooterEntry {
                hash: 5,
                generation_or_place: 6,
                kind,
                offset,
                length: 1,
            })
            .collect()
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(SegmentHeader::decode(&SEGMENT.encode()), Ok(SEGMENT));
        assert_eq!(RecordHeader::decode(&record().encode(), 77), Ok(record()));
        let (footer, trailer) = encode_footer(SEGMENT, 4 * UNIT_BYTES, &entries());
        let read = Trailer::decode(&trailer.encode(), &SEGMENT, 1024).unwrap();
        assert_eq!(read, trailer);
        assert_eq!(decode_footer(&footer, &read), Ok(entries()));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let (footer, trailer) = encode_footer(SEGMENT, 4 * UNIT_BYTES, &entries());
        for bit in 0..HEADER * 8 {
            let flipped = |mut bytes: [u8; HEADER]| {
                bytes[bit / 8] ^= 1 << (bit % 8);
                bytes
            };
            assert!(SegmentHeader::decode(&flipped(SEGMENT.encode())).is_err());
            assert!(RecordHeader::decode(&flipped(record().encode()), 77).is_err());
            assert!(Trailer::decode(&flipped(trailer.encode()), &SEGMENT, 1024).is_err());
        }
        for bit in 0..footer.len() * 8 {
            let mut flipped = footer.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let fault = Err(Fault::Checksum("footer"));
            assert_eq!(decode_footer(&flipped, &trailer), fault);
        }
    }

    #[test]
    fn what_lay_in_the_file_before_is_foreign() {
        let found = RecordHeader::decode(&record().encode(), 78);
        assert_eq!(found, Err(Fault::Foreign));
        let (_, trailer) = encode_footer(SEGMENT, 4 * UNIT_BYTES, &entries());
        let newer = SegmentHeader {
            sequence: 78,
            ..SEGMENT
        };
        let found = Trailer::decode(&trailer.encode(), &newer, 1024);
        assert_eq!(found, Err(Fault::Foreign));
    }

    #[test]
    fn another_version_is_refused_and_named() {
        let mut bytes = SEGMENT.encode();
        bytes[8] = 2;
        assert_eq!(SegmentHeader::decode(&bytes), Err(Fault::Version(2)));
    }

    #[test]
    fn a_footer_that_points_outside_is_refused() {
        let (_, trailer) = encode_footer(SEGMENT, 4 * UNIT_BYTES, &entries());
        let bytes = trailer.encode();
        let end = 4 * UNIT_BYTES + 3 * FOOTER_ENTRY_BYTES;
        assert!(Trailer::decode(&bytes, &SEGMENT, end + UNIT_BYTES).is_ok());
        let found = Trailer::decode(&bytes, &SEGMENT, end + UNIT_BYTES - 1);
        assert!(matches!(found, Err(Fault::Range { .. })), "{found:?}");
        let beyond = FooterEntry {
            offset: 4,
            ..entries()[0]
        };
        let (footer, trailer) = encode_footer(SEGMENT, 4 * UNIT_BYTES, &[beyond]);
        let found = decode_footer(&footer, &trailer);
        assert!(matches!(found, Err(Fault::Range { .. })), "{found:?}");
    }

    #[test]
    fn a_record_fills_whole_units() {
        assert_eq!(record_bytes(0), 64);
        assert_eq!(record_bytes(1), 128);
        assert_eq!(record_bytes(64), 128);
        assert_eq!(record_bytes(65), 192);
    }
}
