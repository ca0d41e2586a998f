//! `tidegate origin`: the store without an edge.

use std::path::Path;

use super::{Failure, load, run_node};
use crate::config::Config;
use crate::node::Ended;

pub(super) fn run(file: &Path) -> Result<Ended, Failure> {
    let config = load(file)?;
    if config.origin.is_none() {
        return Err(Failure::NoSection {
            file: file.to_owned(),
            section: "origin",
        });
    }
    let config = Config {
        edge: None,
        ..config
    };
    run_node(&config, |_| {})
}
