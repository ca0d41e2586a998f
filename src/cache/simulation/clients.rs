//! What clients want, and what befalls everybody.

use std::sync::Arc;
use std::time::Duration;

use super::engine::{Ended, Engine};
use super::executor::{dropped_after, pause};
use super::origin::VARIANTS;
use crate::byte_range::{RangeRequest, RangeSpec};
use crate::cache::dice::Dice;
use crate::cache::policy::blocks::Blocks;

/// What a request's `Cache-Control` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Directive {
    None,
    NoCache,
    MaxAgeZero,
}

/// One request.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    pub(super) url: usize,
    pub(super) variant: usize,
    pub(super) range: RangeRequest,
    pub(super) directive: Directive,
    /// Turns that the client lets pass before each read.
    pub(super) slowness: u64,
    /// It leaves after so many bytes.
    pub(super) enough: Option<u64>,
    /// It is dropped at this poll.
    pub(super) cancelled_at: Option<u64>,
    /// Turns that it lets pass before it begins.
    pub(super) delay: u64,
}

impl Wish {
    /// A patient client that wants everything.
    pub(super) fn of_all(url: usize, variant: usize) -> Self {
        Wish {
            url,
            variant,
            range: RangeRequest::Whole,
            directive: Directive::None,
            slowness: 0,
            enough: None,
            cancelled_at: None,
            delay: 0,
        }
    }

    pub(super) fn draw(
        dice: &mut Dice,
        urls: usize,
        length: impl Fn(usize) -> u64,
        calm: bool,
    ) -> Self {
        let url = dice.below(urls as u64) as usize;
        let length = length(url);
        let mut wish = Wish {
            range: draw_range(dice, length),
            slowness: dice.pick(&[0, 0, 1, 3, 12]),
            delay: dice.pick(&[0, 0, 5, 30, 100]),
            ..Wish::of_all(url, dice.pick(&[0, 0, 0, 1, 2]) % VARIANTS.len())
        };
        if !calm {
            wish.directive = match dice.below(20) {
                0 => Directive::NoCache,
                1 => Directive::MaxAgeZero,
                _ => Directive::None,
            };
            wish.enough = dice.chance(10).then(|| 1 + dice.below(length + 1));
            let patience = dice.pick(&[3, 10, 30, 100]);
            wish.cancelled_at = dice.chance(25).then(|| dice.below(patience));
        }
        wish
    }
}

fn draw_range(dice: &mut Dice, length: u64) -> RangeRequest {
    let block = Blocks::of_two_to_the(super::BLOCK_SHIFT).bytes();
    // Mostly inside, at times beyond the end.
    let first = dice.below(length + length / 8 + 2);
    let few = dice.pick(&[1, 7, block, block + 1, 3 * block]);
    match dice.below(10) {
        0..5 => RangeRequest::Whole,
        5 => RangeRequest::Single(RangeSpec::From { first, last: None }),
        6 => RangeRequest::Single(RangeSpec::Suffix {
            length: dice.below(length + 2),
        }),
        _ => RangeRequest::Single(RangeSpec::From {
            first,
            last: Some(first + dice.below(few)),
        }),
    }
}

/// A client that makes its requests one after the other.
pub(super) async fn client(engine: Arc<Engine>, wishes: Vec<Wish>) {
    for wish in wishes {
        pause(wish.delay).await;
        let ended = dropped_after(wish.cancelled_at, engine.answer(&wish)).await;
        engine.ledger.trace(|| format!("{wish:?} ended {ended:?}"));
        engine.ledger.count(match ended {
            None => "cancelled",
            Some(Ended::Whole) => "whole",
            Some(Ended::EnoughRead) => "enough read",
            Some(Ended::Passed) => "passed",
            Some(Ended::NoHead) => "no head",
            Some(Ended::BrokenOff) => "broken off",
            Some(Ended::Changed) => "changed",
            Some(Ended::Unsatisfiable) => "unsatisfiable",
        });
    }
}

/// Lets time pass, objects change, invalidations arrive and the tier lose things.
pub(super) async fn nature(engine: Arc<Engine>, mut dice: Dice, happenings: u64) {
    for _ in 0..happenings {
        let patience = dice.pick(&[0, 3, 20, 60]);
        pause(dice.below(patience + 1)).await;
        let url = dice.below(engine.origin.resources() as u64) as usize;
        let variant = dice.below(VARIANTS.len() as u64) as usize;
        let ledger = &engine.ledger;
        match dice.below(10) {
            0 | 1 => {
                let by = Duration::from_millis(dice.pick(&[500, 1000, 5000, 61_000]));
                ledger.trace(|| format!("{by:?} pass"));
                ledger.clock.advance(by);
            }
            2 => engine.origin.change(url),
            3 | 4 => {
                engine.origin.change(url);
                invalidate(&engine, url, &mut dice);
            }
            5 => invalidate(&engine, url, &mut dice),
            6 => {
                ledger.trace(|| format!("/{url} is lost"));
                engine.lose(url);
            }
            _ => {
                let number = dice.below(6);
                ledger.trace(|| format!("/{url} variant {variant} block {number} is lost"));
                engine.lose_block(url, variant, number);
            }
        }
    }
}

/// By an unsafe request's success, or by a purge.
fn invalidate(engine: &Engine, url: usize, dice: &mut Dice) {
    let current = engine.origin.version(url);
    engine
        .ledger
        .trace(|| format!("/{url} is invalidated, version {current} is the oldest"));
    engine.ledger.lock().unsteady.insert(url);
    if dice.chance(50) {
        engine.invalidate(url);
    } else {
        engine.purge(url);
    }
    // Whoever begins from here on may not get anything older.
    engine.ledger.lock().oldest_version.insert(url, current);
}
