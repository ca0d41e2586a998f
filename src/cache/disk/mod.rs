//! The disk tier: stored responses in append-only segment files.

pub mod index;
pub mod policy;
