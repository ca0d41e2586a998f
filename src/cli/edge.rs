//! `tidegate edge`: an edge node without a store.

use std::path::Path;

use super::{Failure, load, run_node};
use crate::config::Config;
use crate::node::Ended;

pub(super) fn run(file: &Path) -> Result<Ended, Failure> {
    let config = load(file)?;
    if config.edge.is_none() {
        return Err(Failure::NoSection {
            file: file.to_owned(),
            section: "edge",
        });
    }
    let config = Config {
        origin: None,
        ..config
    };
    run_node(&config, |_| {})
}
