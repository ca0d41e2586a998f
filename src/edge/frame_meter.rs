//! Counts the frames by which an HTTP/2 client can make work without asking for anything. Pure.
//!
//! The h2 crate bounds what one frame can cost: header blocks and their CONTINUATIONs, small and empty DATA,
//! resets of streams that nobody has accepted yet, and resets that it sends itself. It takes any number of
//! PING, SETTINGS, PRIORITY, WINDOW_UPDATE, of unknown frames, and of resets of streams that are being
//! answered. Those are counted here, on the bytes that a connection has read and before h2 sees them.
//!
//! Each kind may come as often as its allowance says, at once, and a tenth of that again each second.
//! WINDOW_UPDATEs belong to what was sent: there may be one more for each KiB.

use std::time::Duration;

/// What a client sends too much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flood {
    /// RST_STREAM (CVE-2023-44487).
    Resets,
    /// PING, with and without ACK (CVE-2019-9512).
    Pings,
    /// SETTINGS (CVE-2019-9515).
    Settings,
    /// PRIORITY (CVE-2019-9513).
    Priorities,
    /// WINDOW_UPDATE.
    WindowUpdates,
    /// Frames of a type that HTTP/2 does not know, or that a client never sends.
    UnknownFrames,
}

impl Flood {
    /// All of them.
    pub const ALL: [Flood; 6] = [
        Flood::Resets,
        Flood::Pings,
        Flood::Settings,
        Flood::Priorities,
        Flood::WindowUpdates,
        Flood::UnknownFrames,
    ];

    /// The label in log and metrics.
    pub fn reason(self) -> &'static str {
        match self {
            Flood::Resets => "resets",
            Flood::Pings => "pings",
            Flood::Settings => "settings",
            Flood::Priorities => "priorities",
            Flood::WindowUpdates => "window_updates",
            Flood::UnknownFrames => "unknown_frames",
        }
    }

    /// What a frame of a type counts for; `None` for those that h2 keeps within bounds.
    fn of(kind: u8) -> Option<Self> {
        match kind {
            // DATA, HEADERS, CONTINUATION.
            0 | 1 | 9 => None,
            2 => Some(Flood::Priorities),
            3 => Some(Flood::Resets),
            4 => Some(Flood::Settings),
            6 => Some(Flood::Pings),
            8 => Some(Flood::WindowUpdates),
            _ => Some(Flood::UnknownFrames),
        }
    }
}

/// The connection preface (RFC 9113 §3.4) comes before the first frame.
const PREFACE_BYTES: usize = 24;
const HEAD_BYTES: usize = 9;

/// So many bytes sent entitle to one more WINDOW_UPDATE.
const BYTES_PER_UPDATE: u64 = 1024;

/// The part of its allowance that comes back each second.
const REFILL_SECONDS: u64 = 10;

/// Follows what one client sends, however it is cut.
#[derive(Debug)]
pub struct FrameMeter {
    allowance: u32,
    /// Bytes that are not looked at: the preface, then the payload of the current frame.
    skip: usize,
    /// The head of the next frame, as far as it has come.
    head: [u8; HEAD_BYTES],
    head_bytes: usize,
    purses: [Purse; Flood::ALL.len()],
    /// Of what was sent, so much has been turned into WINDOW_UPDATEs.
    credited_bytes: u64,
}

#[derive(Debug, Clone, Copy)]
struct Purse {
    left: u32,
    /// When it was filled up last.
    filled: Duration,
}

impl FrameMeter {
    /// For a connection that begins `now`; each kind of frame may come `allowance` times at once.
    pub fn new(allowance: u32, now: Duration) -> Self {
        FrameMeter {
            allowance,
            skip: PREFACE_BYTES,
            head: [0; HEAD_BYTES],
            head_bytes: 0,
            purses: [Purse {
                left: allowance,
                filled: now,
            }; Flood::ALL.len()],
            credited_bytes: 0,
        }
    }

    /// Looks at what was read next; tells the first flood in it. `sent_bytes` is what was sent on the connection so far; `now` is asked only
    /// when an allowance is used up.
    pub fn read(
        &mut self,
        mut bytes: &[u8],
        sent_bytes: u64,
        now: impl Fn() -> Duration,
    ) -> Option<Flood> {
        let mut found = None;
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            if bytes.is_empty() {
                return found;
            }
            let part = (HEAD_BYTES - self.head_bytes).min(bytes.len());
            let end = self.head_bytes + part;
            self.head[self.head_bytes..end].copy_from_slice(&bytes[..part]);
            self.head_bytes = end;
            bytes = &bytes[part..];
            if self.head_bytes < HEAD_BYTES {
                return found;
            }
            self.head_bytes = 0;
            let [high, middle, low, kind, ..] = self.head;
            self.skip = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
            if let Some(flood) = Flood::of(kind)
                && !self.pays(flood, sent_bytes, &now)
            {
                found = found.or(Some(flood));
            }
        }
    }

    fn pays(&mut self, flood: Flood, sent_bytes: u64, now: &impl Fn() -> Duration) -> bool {
        if self.purses[flood as usize].left == 0 {
            self.refill(flood, sent_bytes, now());
        }
        let purse = &mut self.purses[flood as usize];
        match purse.left.checked_sub(1) {
            Some(left) => {
                purse.left = left;
                true
            }
            None => false,
        }
    }

    fn refill(&mut self, flood: Flood, sent_bytes: u64, now: Duration) {
        let purse = &mut self.purses[flood as usize];
        let elapsed = now.saturating_sub(purse.filled);
        let by_time =
            elapsed.as_millis() as u64 * u64::from(self.allowance) / (1000 * REFILL_SECONDS);
        let mut more = by_time;
        if flood == Flood::WindowUpdates {
            let updates = sent_bytes.saturating_sub(self.credited_bytes) / BYTES_PER_UPDATE;
            self.credited_bytes += updates * BYTES_PER_UPDATE;
            more += updates;
        }
        if by_time > 0 {
            purse.filled = now;
        }
        // Never more than two allowances, so that what was sent long ago does not pay for a flood.
        let most = u64::from(self.allowance) * 2;
        purse.left = u32::try_from(more.min(most)).unwrap_or(u32::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOWANCE: u32 = 50;
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    fn frame(kind: u8, payload: usize) -> Vec<u8> {
        let mut bytes = vec![0, (payload >> 8) as u8, payload as u8, kind, 0, 0, 0, 0, 1];
        // Would be frames of all kinds, if a payload were read as such.
        bytes.extend((0..payload).map(|byte| byte as u8));
        bytes
    }

    fn meter() -> FrameMeter {
        let mut meter = FrameMeter::new(ALLOWANCE, Duration::ZERO);
        assert_eq!(meter.read(PREFACE, 0, || Duration::ZERO), None);
        meter
    }

    #[test]
    fn each_kind_has_an_allowance_of_its_own() {
        for (kind, flood) in [
            (2, Flood::Priorities),
            (3, Flood::Resets),
            (4, Flood::Settings),
            (5, Flood::UnknownFrames),
            (6, Flood::Pings),
            (7, Flood::UnknownFrames),
            (8, Flood::WindowUpdates),
            (10, Flood::UnknownFrames),
            (255, Flood::UnknownFrames),
        ] {
            let mut meter = meter();
            for number in 0..ALLOWANCE {
                let others = [frame(0, 300), frame(1, 20), frame(9, 0)].concat();
                assert_eq!(meter.read(&others, 0, || Duration::ZERO), None);
                let found = meter.read(&frame(kind, 8), 0, || Duration::ZERO);
                assert_eq!(found, None, "{kind} {number}");
            }
            let found = meter.read(&frame(kind, 8), 0, || Duration::ZERO);
            assert_eq!(found, Some(flood));
            let other = if kind == 6 { 3 } else { 6 };
            assert_eq!(meter.read(&frame(other, 8), 0, || Duration::ZERO), None);
        }
    }

    #[test]
    fn frames_are_counted_however_they_are_cut() {
        let mut bytes = PREFACE.to_vec();
        for _ in 0..ALLOWANCE {
            bytes.extend(frame(6, 8));
            bytes.extend(frame(0, 700));
        }
        for size in [1, 2, 3, 7, 9, 16, 1000, bytes.len()] {
            let mut meter = FrameMeter::new(ALLOWANCE, Duration::ZERO);
            for part in bytes.chunks(size) {
                assert_eq!(meter.read(part, 0, || Duration::ZERO), None, "{size}");
            }
            let found = meter.read(&frame(6, 8), 0, || Duration::ZERO);
            assert_eq!(found, Some(Flood::Pings), "{size}");
        }
    }

    #[test]
    fn a_tenth_of_the_allowance_comes_back_each_second() {
        let mut meter = meter();
        for _ in 0..ALLOWANCE {
            assert_eq!(meter.read(&frame(3, 4), 0, || Duration::ZERO), None);
        }
        let mut later = |millis| meter.read(&frame(3, 4), 0, || Duration::from_millis(millis));
        for _ in 0..ALLOWANCE / 10 {
            assert_eq!(later(1000), None);
        }
        assert_eq!(later(1000), Some(Flood::Resets));
        assert_eq!(later(1199), Some(Flood::Resets));
        assert_eq!(later(1200), None);
        assert_eq!(later(1200), Some(Flood::Resets));
    }

    #[test]
    fn window_updates_belong_to_what_was_sent() {
        let mut meter = meter();
        let mut sent = 0;
        // As a client that asks for more with each KiB.
        for _ in 0..10 * ALLOWANCE {
            sent += BYTES_PER_UPDATE;
            let found = meter.read(&frame(8, 4), sent, || Duration::ZERO);
            assert_eq!(found, None, "{sent}");
        }
        let mut updates = 0;
        while meter.read(&frame(8, 4), sent, || Duration::ZERO).is_none() {
            updates += 1;
        }
        assert!(updates <= 2 * ALLOWANCE, "{updates}");
    }
}
