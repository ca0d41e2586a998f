//! The newest bytes of an object that grows, in memory for all who follow it.

use std::collections::VecDeque;

use bytes::Bytes;

/// How many bytes of one object are kept: eight of the reads that follow one another.
pub const TAIL_BYTES: usize = 2 * 1024 * 1024;

/// What is known of a position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Bytes from there on.
    Bytes(Bytes),
    /// It lies before what is kept: whoever is there has to read by itself.
    Behind,
    /// It lies at the end of what is kept or further: whoever reads there reads for all.
    Ahead,
}

/// Pieces that follow one another without a gap; the oldest go when there are more than [`TAIL_BYTES`].
#[derive(Debug, Default)]
pub struct Tail {
    /// The version that the bytes are of.
    version: i64,
    pieces: VecDeque<Bytes>,
    /// Where the first piece begins.
    start: u64,
    /// Where the last one ends.
    end: u64,
}

impl Tail {
    /// Looks up a position of a version.
    pub fn find(&self, version: i64, position: u64) -> Found {
        if version != self.version || position >= self.end {
            return Found::Ahead;
        }
        if position < self.start {
            return Found::Behind;
        }
        let mut piece_start = self.start;
        for piece in &self.pieces {
            let piece_end = piece_start + piece.len() as u64;
            if position < piece_end {
                // Less than the length of a piece in memory.
                return Found::Bytes(piece.slice((position - piece_start) as usize..));
            }
            piece_start = piece_end;
        }
        Found::Ahead
    }

    /// Keeps what was read at a position that was [`Found::Ahead`].
    pub fn keep(&mut self, version: i64, position: u64, bytes: Bytes) {
        if version != self.version || position != self.end {
            self.version = version;
            self.pieces.clear();
            self.start = position;
            self.end = position;
        }
        self.end += bytes.len() as u64;
        self.pieces.push_back(bytes);
        // The newest piece stays, however long it is.
        while self.end - self.start > TAIL_BYTES as u64 && self.pieces.len() > 1 {
            if let Some(oldest) = self.pieces.pop_front() {
                self.start += oldest.len() as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_behind_within_or_ahead_at_each_boundary() {
        let mut tail = Tail::default();
        assert_eq!(tail.find(7, 0), Found::Ahead);
        tail.keep(7, 10, Bytes::from_static(b"abc"));
        tail.keep(7, 13, Bytes::from_static(b"de"));
        for (position, found) in [
            (9, Found::Behind),
            (10, Found::Bytes(Bytes::from_static(b"abc"))),
            (12, Found::Bytes(Bytes::from_static(b"c"))),
            (13, Found::Bytes(Bytes::from_static(b"de"))),
            (14, Found::Bytes(Bytes::from_static(b"e"))),
            (15, Found::Ahead),
            (16, Found::Ahead),
        ] {
            assert_eq!(tail.find(7, position), found, "{position}");
        }
        assert_eq!(tail.find(8, 10), Found::Ahead, "of another version");
        tail.keep(7, 20, Bytes::from_static(b"x"));
        assert_eq!(tail.find(7, 14), Found::Behind, "a gap is not kept");
    }

    #[test]
    fn the_oldest_pieces_go_when_there_is_too_much() {
        let mut tail = Tail::default();
        let piece = Bytes::from(vec![0; TAIL_BYTES / 2]);
        let length = piece.len() as u64;
        for position in [0, length] {
            tail.keep(1, position, piece.clone());
        }
        assert_eq!(tail.find(1, 0), Found::Bytes(piece.clone()));
        tail.keep(1, 2 * length, Bytes::from_static(b"x"));
        assert_eq!(tail.find(1, length - 1), Found::Behind);
        assert_eq!(tail.find(1, length), Found::Bytes(piece));
        let huge = Bytes::from(vec![1; 2 * TAIL_BYTES]);
        tail.keep(1, 2 * length + 1, huge.clone());
        assert_eq!(tail.find(1, 2 * length), Found::Behind);
        assert_eq!(tail.find(1, 2 * length + 1), Found::Bytes(huge));
    }
}
