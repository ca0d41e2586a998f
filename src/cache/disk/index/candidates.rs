//! What a look-up found.

use std::fmt;
use std::ops::Deref;

use super::Location;

/// Found locations that are kept without allocation.
const INLINE: usize = 4;

const NOWHERE: Location = Location {
    segment: 0,
    offset: 0,
    length: 0,
};

/// The locations stored under a hash, newest first; a slice. Few: a hash has as many as its
/// response has variants and its segments have copies.
#[derive(Clone)]
pub struct Candidates(Held);

#[derive(Clone)]
enum Held {
    Few([Location; INLINE], usize),
    Many(Vec<Location>),
}

impl Candidates {
    pub(super) fn push(&mut self, location: Location) {
        match &mut self.0 {
            Held::Few(few, count) if *count < INLINE => {
                few[*count] = location;
                *count += 1;
            }
            Held::Few(few, _) => {
                let mut many = few.to_vec();
                many.push(location);
                self.0 = Held::Many(many);
            }
            Held::Many(many) => many.push(location),
        }
    }

    pub(super) fn reverse(&mut self) {
        match &mut self.0 {
            Held::Few(few, count) => few[..*count].reverse(),
            Held::Many(many) => many.reverse(),
        }
    }
}

impl Default for Candidates {
    fn default() -> Self {
        Candidates(Held::Few([NOWHERE; INLINE], 0))
    }
}

impl Deref for Candidates {
    type Target = [Location];

    fn deref(&self) -> &[Location] {
        match &self.0 {
            Held::Few(few, count) => &few[..*count],
            Held::Many(many) => many,
        }
    }
}

impl<'c> IntoIterator for &'c Candidates {
    type Item = &'c Location;
    type IntoIter = std::slice::Iter<'c, Location>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl IntoIterator for Candidates {
    type Item = Location;
    type IntoIter = Found;

    fn into_iter(self) -> Found {
        Found {
            candidates: self,
            next: 0,
        }
    }
}

/// Owning iterator over [`Candidates`].
#[derive(Debug, Clone)]
pub struct Found {
    candidates: Candidates,
    next: usize,
}

impl Iterator for Found {
    type Item = Location;

    fn next(&mut self) -> Option<Location> {
        let location = self.candidates.get(self.next).copied();
        self.next += 1;
        location
    }
}

impl fmt::Debug for Candidates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
