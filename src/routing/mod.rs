//! Which server: the route of a request, and the origin server that owns a key.
//!
//! `route`, `ring` and `health` are pure: no socket, no clock, no log. `pool` joins them
//! to the machine (names are resolved, states are shared between threads, transitions are
//! logged), `checks` asks the servers how they are, and `cause` says why one could not be asked.

mod cause;
mod checks;
mod health;
mod pool;
mod ring;
mod route;

pub use cause::{Cause, is_unconnected};
pub use health::{Thresholds, Transition, Vitality};
pub use pool::{Attempt, Candidates, OriginRing, RingError, Server};
pub use route::RouteTable;
