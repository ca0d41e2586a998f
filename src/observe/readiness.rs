//! Whether the process should be sent requests.

use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};

/// A set of named conditions that must all hold.
///
/// Without any condition the process is not ready: it has not said yet what it serves.
#[derive(Debug, Default)]
pub struct Readiness {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    conditions: Vec<(&'static str, Result<(), String>)>,
    draining: bool,
}

impl Readiness {
    /// A process that has declared nothing.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Declares a condition, not ready for the reason `starting`.
    pub fn condition(self: &Arc<Self>, name: &'static str) -> Condition {
        let mut state = self.lock();
        state.conditions.push((name, Err("starting".to_owned())));
        Condition {
            readiness: Arc::clone(self),
            index: state.conditions.len() - 1,
        }
    }

    /// The process is stopping: not ready from now on, whatever the conditions say.
    pub fn drain(&self) {
        self.lock().draining = true;
    }

    /// Whether every condition holds.
    ///
    /// # Errors
    ///
    /// The reasons against it, one a line, each `name: reason`.
    pub fn verdict(&self) -> Result<(), String> {
        let state = self.lock();
        let mut reasons = String::new();
        if state.draining {
            reasons.push_str("draining: the process is stopping\n");
        }
        if state.conditions.is_empty() {
            reasons.push_str("starting: nothing is served yet\n");
        }
        for (name, condition) in &state.conditions {
            if let Err(reason) = condition {
                writeln!(reasons, "{name}: {reason}").expect("writing to a String cannot fail");
            }
        }
        if reasons.is_empty() {
            Ok(())
        } else {
            Err(reasons)
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One condition of a [`Readiness`], held by the part it speaks for.
#[derive(Debug)]
pub struct Condition {
    readiness: Arc<Readiness>,
    index: usize,
}

impl Condition {
    /// The condition holds.
    pub fn ready(&self) {
        self.readiness.lock().conditions[self.index].1 = Ok(());
    }

    /// The condition does not hold, for a reason that is shown to operators.
    pub fn not_ready(&self, reason: impl Into<String>) {
        self.readiness.lock().conditions[self.index].1 = Err(reason.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_only_while_every_condition_holds_and_nothing_drains() {
        let readiness = Readiness::new();
        let reasons = || readiness.verdict().unwrap_err();
        assert_eq!(reasons(), "starting: nothing is served yet\n");
        let edge = readiness.condition("edge");
        let origin = readiness.condition("origin");
        assert_eq!(reasons(), "edge: starting\norigin: starting\n");
        edge.ready();
        assert_eq!(reasons(), "origin: starting\n");
        origin.ready();
        assert_eq!(readiness.verdict(), Ok(()));
        origin.not_ready("a sync failed");
        assert_eq!(reasons(), "origin: a sync failed\n");
        origin.ready();
        readiness.drain();
        assert_eq!(reasons(), "draining: the process is stopping\n");
        edge.not_ready("closed");
        assert_eq!(
            reasons(),
            "draining: the process is stopping\nedge: closed\n"
        );
    }
}
