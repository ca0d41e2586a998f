//! Tidegate: an edge CDN node and its S3-compatible origin in one binary.
//!
//! Start reading at [`edge`], which lists the steps of a request.

pub mod cache;
pub mod clock;
pub mod config;
pub mod edge;
pub mod first_start;
pub mod observe;
pub mod origin;
pub mod routing;
pub mod secret;
pub mod signing;
