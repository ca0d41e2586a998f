//! Store.
pub mod checksums;
pub mod conditional;
pub mod listing;
pub mod names;
pub mod query;
pub mod range;
pub mod upload_body;
