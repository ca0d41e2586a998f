//! The health of one server: a small state machine over check results.
//!
//! `out-at-once, back-by-check`: a connect failure seen by a request takes a server out without
//! waiting for the next check, and only active checks bring it back. Traffic never does: in the
//! fail-open case a connect can succeed on a server whose checked path still fails.

/// How many results in a row flip a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    /// Successful checks in a row that bring a server back, at least 1.
    pub healthy_after: usize,
    /// Failed checks in a row that take a server out, at least 1.
    pub unhealthy_after: usize,
}

/// A flip of a server's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transition {
    /// The server takes requests again.
    CameBack,
    /// The server takes no requests.
    WentOut,
}

/// The state of one server. A new server counts as healthy, so an edge that has just started
/// serves before the first check has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vitality {
    healthy: bool,
    /// Check results in a row that disagree with `healthy`.
    dissent: usize,
}

impl Vitality {
    /// A server nothing is known about.
    pub fn new() -> Self {
        Vitality {
            healthy: true,
            dissent: 0,
        }
    }

    /// Whether the server takes requests.
    pub fn is_healthy(&self) -> bool {
        self.healthy
    }

    /// Takes in the result of an active check.
    pub fn check_ended(&mut self, passed: bool, thresholds: Thresholds) -> Option<Transition> {
        if passed == self.healthy {
            self.dissent = 0;
            return None;
        }
        self.dissent += 1;
        let needed = if passed {
            thresholds.healthy_after
        } else {
            thresholds.unhealthy_after
        };
        if self.dissent < needed {
            return None;
        }
        self.dissent = 0;
        self.healthy = passed;
        Some(if passed {
            Transition::CameBack
        } else {
            Transition::WentOut
        })
    }

    /// Takes in that a request could not connect.
    pub fn connect_failed(&mut self) -> Option<Transition> {
        self.dissent = 0;
        if !self.healthy {
            return None;
        }
        self.healthy = false;
        Some(Transition::WentOut)
    }
}

impl Default for Vitality {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THRESHOLDS: Thresholds = Thresholds {
        healthy_after: 3,
        unhealthy_after: 2,
    };

    /// `+` a passed check, `-` a failed one, `x` a connect failure; the state after each.
    #[test]
    fn only_results_in_a_row_flip_a_server_and_a_connect_failure_does_at_once() {
        let cases = [
            ("++", "uu"),
            ("-", "u"),
            ("--", "ud"),
            ("-+-", "uuu"),
            ("-+--", "uuud"),
            ("--++", "uddd"),
            ("--+++", "udddu"),
            ("--++-++", "udddddd"),
            ("--++-+++", "uddddddu"),
            ("x", "d"),
            ("x++", "ddd"),
            ("x+++", "dddu"),
            ("x++x++", "dddddd"),
            ("x++x+++", "ddddddu"),
            ("-x", "ud"),
        ];
        for (events, states) in cases {
            let mut vitality = Vitality::new();
            let mut was_healthy = true;
            for (step, (event, state)) in events.chars().zip(states.chars()).enumerate() {
                let transition = match event {
                    'x' => vitality.connect_failed(),
                    sign => vitality.check_ended(sign == '+', THRESHOLDS),
                };
                let healthy = vitality.is_healthy();
                assert_eq!(healthy, state == 'u', "{events} at {step}");
                let expected = match (was_healthy, healthy) {
                    (false, true) => Some(Transition::CameBack),
                    (true, false) => Some(Transition::WentOut),
                    _ => None,
                };
                assert_eq!(transition, expected, "{events} at {step}");
                was_healthy = healthy;
            }
        }
    }
}
