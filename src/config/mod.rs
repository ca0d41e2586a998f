//! YAML text → raw → checked.

mod checked;

pub use checked::*;
