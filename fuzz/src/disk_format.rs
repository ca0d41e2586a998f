//! The headers, footers and files of the disk tier.

use std::collections::HashSet;

use tidegate::cache::disk::format::{
    FOOTER_ENTRY_BYTES, Fault, FolderId, MAX_RECORD_BYTES, RecordHeader, SegmentHeader, Trailer,
    UNIT_BYTES, crc32c, decode_footer, encode_footer,
};
use tidegate::cache::disk::identity::Identity;
use tidegate::cache::disk::segments::MAX_SEGMENTS;
use tidegate::cache::disk::snapshot::{self, Snapshot};

/// The first byte names a layout, and the rest are its bytes without checksums, which nobody can guess:
/// they are put right here. `docs/FORMATS.md` has the layouts.
pub fn check(data: &[u8]) {
    let Some((layout, bytes)) = data.split_first() else {
        return;
    };
    // As they are: whatever they are, they are refused or read, and nothing breaks.
    as_they_are(bytes);
    match layout {
        b's' => segment_header(&signed(bytes)),
        b'r' => record_header(&signed(bytes)),
        b't' => trailer(&signed(bytes)),
        b'f' => footer(bytes),
        b'i' => identity(&signed(bytes)),
        b'x' => index_file(bytes),
        _ => {}
    }
}

fn as_they_are(bytes: &[u8]) {
    let segment = SegmentHeader {
        folder: FolderId([0; 16]),
        sequence: 0,
    };
    // The outcomes do not matter.
    let _ = SegmentHeader::decode(bytes);
    let _ = RecordHeader::decode(bytes, 0);
    let _ = Trailer::decode(bytes, &segment, u64::MAX);
    let _ = Identity::decode(bytes);
    let _ = Snapshot::decode(bytes, FolderId([0; 16]), &[0]);
}

/// A header out of 60 bytes, of which missing ones are zero.
fn signed(bytes: &[u8]) -> [u8; 64] {
    let mut header = [0; 64];
    let length = bytes.len().min(60);
    header[..length].copy_from_slice(&bytes[..length]);
    let checksum = crc32c(&header[..60]);
    header[60..].copy_from_slice(&checksum.to_le_bytes());
    header
}

fn number(bytes: &[u8], at: usize) -> u64 {
    let eight = bytes[at..].first_chunk().expect("headers are long enough");
    u64::from_le_bytes(*eight)
}

fn folder(bytes: &[u8]) -> FolderId {
    FolderId(*bytes[16..].first_chunk().expect("headers are long enough"))
}

fn segment_header(bytes: &[u8; 64]) {
    if let Ok(header) = SegmentHeader::decode(bytes) {
        assert_eq!(SegmentHeader::decode(&header.encode()), Ok(header));
    }
}

fn record_header(bytes: &[u8; 64]) {
    let sequence = number(bytes, 32);
    let Ok(header) = RecordHeader::decode(bytes, sequence) else {
        return;
    };
    assert!(header.record_bytes() <= MAX_RECORD_BYTES);
    assert!(header.record_bytes().is_multiple_of(UNIT_BYTES));
    assert!(header.head_bytes <= header.payload_bytes);
    assert_eq!(RecordHeader::decode(&header.encode(), sequence), Ok(header));
    let other = RecordHeader::decode(bytes, sequence.wrapping_add(1));
    assert_eq!(other, Err(Fault::Foreign));
}

fn trailer(bytes: &[u8; 64]) {
    let segment = SegmentHeader {
        folder: folder(bytes),
        sequence: number(bytes, 32),
    };
    let offset = number(bytes, 40);
    for file_bytes in [0, 4096, 1 << 30, offset.wrapping_add(4096)] {
        let Ok(trailer) = Trailer::decode(bytes, &segment, file_bytes) else {
            continue;
        };
        // Between the header of the segment and the trailer.
        assert!(trailer.footer_offset >= UNIT_BYTES);
        let end = trailer.footer_offset + trailer.footer_bytes();
        assert!(end + UNIT_BYTES <= file_bytes);
        let again = Trailer::decode(&trailer.encode(), &segment, file_bytes);
        assert_eq!(again, Ok(trailer));
    }
}

/// Eight bytes of the footer's place, then its entries.
fn footer(bytes: &[u8]) {
    let Some((offset, entries)) = bytes.split_first_chunk::<8>() else {
        return;
    };
    let trailer = Trailer {
        segment: SegmentHeader {
            folder: FolderId([0; 16]),
            sequence: 1,
        },
        footer_offset: u64::from_le_bytes(*offset),
        entries: u32::try_from(entries.len() as u64 / FOOTER_ENTRY_BYTES)
            .expect("inputs are short"),
        footer_crc: crc32c(entries),
    };
    let Ok(read) = decode_footer(entries, &trailer) else {
        return;
    };
    for entry in &read {
        let end = u64::from(entry.offset) + u64::from(entry.length);
        assert!(entry.offset >= 1 && entry.length >= 1);
        assert!(end * UNIT_BYTES <= trailer.footer_offset);
        assert!(u64::from(entry.length) * UNIT_BYTES <= MAX_RECORD_BYTES);
    }
    let (again, signed) = encode_footer(trailer.segment, trailer.footer_offset, &read);
    assert_eq!((again.as_slice(), signed), (entries, trailer));
}

fn identity(bytes: &[u8; 64]) {
    if let Ok(identity) = Identity::decode(bytes) {
        assert_eq!(Identity::decode(&identity.encode()), Ok(identity));
    }
}

/// The file without the checksum of the index in it and its own.
fn index_file(bytes: &[u8]) {
    if bytes.len() < 32 {
        return;
    }
    let table = bytes[32..].as_chunks::<16>().0;
    let announced = u32::from_le_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]);
    let announced = announced.min(table.len() as u32) as usize;
    let sequences: Vec<u64> = table[..announced]
        .iter()
        .map(|entry| number(entry, 0))
        .collect();
    let index = &bytes[32 + announced * 16..];
    let mut file = bytes.to_vec();
    file.extend_from_slice(&crc32c(index).to_le_bytes());
    file.extend_from_slice(&crc32c(&file).to_le_bytes());
    let folder = folder(bytes);
    let Ok(read) = Snapshot::decode(&file, folder, &sequences) else {
        return;
    };
    assert_eq!(read.slots.len(), sequences.len());
    let distinct: HashSet<u16> = read.slots.iter().copied().collect();
    assert_eq!(distinct.len(), read.slots.len());
    assert!(
        read.slots
            .iter()
            .all(|slot| usize::from(*slot) < MAX_SEGMENTS)
    );
    let segments = sequences.iter().copied().zip(read.slots.iter().copied());
    let segments: Vec<(u64, u16)> = segments.collect();
    let again = snapshot::encode(folder, segments.into_iter(), &read.index);
    let again = again.expect("memory takes what is written to it");
    let read_again = Snapshot::decode(&again, folder, &sequences).expect("it was just written");
    assert_eq!(read_again.slots, read.slots);
    assert_eq!(read_again.index.len(), read.index.len());
    // Some other folder's, or for other segments: not used.
    assert!(Snapshot::decode(&file, FolderId([!folder.0[0]; 16]), &sequences).is_err());
    assert!(Snapshot::decode(&file, folder, &[&sequences[..], &[7]].concat()).is_err());
}
