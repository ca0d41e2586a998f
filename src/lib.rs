//! Tidegate: an edge CDN node and its S3-compatible origin in one binary.
//!
//! Start reading at [`edge`], which lists the steps of a request.

// A panic must name the invariant that is broken: `expect("…")` does, `unwrap` does not. Tests may (clippy.toml).
#![deny(clippy::unwrap_used)]

mod authorities;
pub mod byte_range;
pub mod cache;
pub mod cli;
pub mod clock;
pub mod config;
pub mod edge;
pub mod first_start;
mod next_request;
pub mod node;
pub mod observe;
pub mod origin;
pub mod request_target;
mod response_head;
pub mod routing;
pub mod secret;
pub mod signing;
#[cfg(test)]
mod test_fields;
