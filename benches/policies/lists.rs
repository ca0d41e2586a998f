//! Doubly linked lists over units, in two arrays: a unit is in one list at most.

const NONE: u32 = u32::MAX;

/// The ends of a list and the bytes in it.
#[derive(Clone, Copy)]
pub struct List {
    newest: u32,
    oldest: u32,
    /// Bytes of all units in the list.
    pub bytes: u64,
}

/// The neighbours of each unit.
#[derive(Default)]
pub struct Links {
    newer: Vec<u32>,
    older: Vec<u32>,
}

impl Default for List {
    fn default() -> Self {
        List {
            newest: NONE,
            oldest: NONE,
            bytes: 0,
        }
    }
}

impl List {
    /// The unit that was pushed first.
    pub fn oldest(&self) -> Option<u32> {
        (self.oldest != NONE).then_some(self.oldest)
    }
}

impl Links {
    /// Links of `units` units, none of which is in a list.
    pub fn new(units: usize) -> Self {
        Links {
            newer: vec![NONE; units],
            older: vec![NONE; units],
        }
    }

    /// The unit that was pushed after this one.
    pub fn newer(&self, unit: u32) -> Option<u32> {
        let newer = self.newer[unit as usize];
        (newer != NONE).then_some(newer)
    }

    /// Adds a unit that is in no list.
    pub fn push(&mut self, list: &mut List, unit: u32, bytes: u32) {
        self.newer[unit as usize] = NONE;
        self.older[unit as usize] = list.newest;
        match list.newest {
            NONE => list.oldest = unit,
            newest => self.newer[newest as usize] = unit,
        }
        list.newest = unit;
        list.bytes += u64::from(bytes);
    }

    /// Takes a unit out of the list that it is in.
    pub fn remove(&mut self, list: &mut List, unit: u32, bytes: u32) {
        let (newer, older) = (self.newer[unit as usize], self.older[unit as usize]);
        match newer {
            NONE => list.newest = older,
            newer => self.older[newer as usize] = older,
        }
        match older {
            NONE => list.oldest = newer,
            older => self.newer[older as usize] = newer,
        }
        list.bytes -= u64::from(bytes);
    }
}
