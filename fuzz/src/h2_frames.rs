//! Frames of HTTP/2: the same flood is seen however the bytes arrive, and it is one.

use std::time::Duration;

use tidegate::edge::frame_meter::{Flood, FrameMeter};

const ALLOWANCE: u32 = 3;

/// The preface, which is not looked at, then any bytes.
pub fn check(data: &[u8]) {
    let whole = read(&[data]);
    for at in 1..data.len().min(64) {
        let (first, second) = data.split_at(at);
        assert_eq!(read(&[first, second]), whole, "cut at {at}");
    }
    let bytes: Vec<&[u8]> = data.chunks(1).collect();
    assert_eq!(read(&bytes), whole, "byte by byte");
    assert_eq!(whole, first_kind_beyond_the_allowance(data));
}

fn read(parts: &[&[u8]]) -> Option<Flood> {
    let mut meter = FrameMeter::new(ALLOWANCE, Duration::ZERO);
    let mut found = None;
    for part in parts {
        let flood = meter.read(part, 0, || Duration::ZERO);
        found = found.or(flood);
    }
    found
}

/// The same with all bytes at hand.
fn first_kind_beyond_the_allowance(data: &[u8]) -> Option<Flood> {
    let mut rest = data.get(24..)?;
    let mut counts = [0; 7];
    while let [high, middle, low, kind, _, _, _, _, _, payload @ ..] = rest {
        let (place, flood) = match kind {
            0 | 1 | 9 => (0, None),
            2 => (1, Some(Flood::Priorities)),
            3 => (2, Some(Flood::Resets)),
            4 => (3, Some(Flood::Settings)),
            6 => (4, Some(Flood::Pings)),
            8 => (5, Some(Flood::WindowUpdates)),
            _ => (6, Some(Flood::UnknownFrames)),
        };
        counts[place] += 1;
        if flood.is_some() && counts[place] > ALLOWANCE {
            return flood;
        }
        let length = u32::from_be_bytes([0, *high, *middle, *low]) as usize;
        rest = payload.get(length..).unwrap_or_default();
    }
    None
}
