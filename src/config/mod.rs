//! Configuration: YAML text → a tree → checked values. Only the checked ones leave this folder.
//!
//! | file | what it does |
//! |---|---|
//! | `checked.rs` | the values that everything else works with |
//! | `rules.rs` | those of them that every route may change about the cache |
//! | `policies.rs`, `network.rs` | those of them that say who may come in, and how often |
//! | `reader.rs`, `spelling.rs` | walks the YAML tree and notes every problem, with a guess at what was meant |
//! | `edge.rs`, `gate.rs`, `signing.rs`, `cache.rs`, `origin.rs` | the keys of each section, with defaults and ranges |
//! | `parsers.rs`, `units.rs` | the checks of single values |
//! | `relations.rs` | checks between values in different places |
//! | `problem.rs` | everything that can be wrong |
//!
//! `conf/tidegate.yaml` documents every key; a test proves it complete.

mod cache;
mod checked;
mod edge;
mod gate;
mod network;
mod origin;
mod parsers;
mod policies;
mod problem;
mod reader;
mod relations;
mod rights;
mod rules;
mod signing;
mod spelling;
mod units;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;

use serde_yaml::{Mapping, Value};

pub use checked::*;
pub use network::{Network, NetworkFault, Networks};
pub use parsers::{read_key_file, read_secret};
pub use policies::*;
pub use problem::{Problem, Problems, Reason, Warning};
pub use rights::{BucketPattern, Rights, RightsLevel};
pub use rules::{CacheRules, QueryRule, StatusTtl, VaryRule, VaryRules, never_stored};
pub use units::{UnitFault, duration as read_duration, show_duration, show_size};

use parsers::{address, one_of};
use reader::{Reader, Section, TOP, wrong_type};
use relations::Relations;

/// `admin.address` when a configuration does not give one.
pub const DEFAULT_ADMIN_ADDRESS: &str = "127.0.0.1:9900";

/// A configuration that may be run, and what its operator should still hear.
#[derive(Debug, Clone)]
pub struct Checked {
    /// The values.
    pub config: Config,
    /// Allowed, and yet worth a line in the log.
    pub warnings: Vec<Warning>,
}

/// Reads and checks a file; relative paths in it start at its folder.
///
/// Secret files, certificates and private keys that it names are opened; nothing else is touched.
///
/// # Errors
/// Everything that is wrong with it, at once.
pub fn load(file: &Path) -> Result<Checked, Problems> {
    let unreadable = |error: std::io::Error| {
        let reason = Reason::Unreadable {
            file: file.to_owned(),
            kind: error.kind(),
        };
        Problems::one("--config", reason)
    };
    let text = std::fs::read_to_string(file).map_err(unreadable)?;
    let absolute = std::path::absolute(file).map_err(unreadable)?;
    let base_dir = absolute.parent().unwrap_or(Path::new("/"));
    let mut checked = parse(&text, base_dir)?;
    checked.config.file = Some(absolute);
    Ok(checked)
}

/// Checks a text; relative paths in it start at `base_dir`, which should be absolute.
///
/// # Errors
/// As for [`load`].
pub fn parse(text: &str, base_dir: &Path) -> Result<Checked, Problems> {
    read(text, base_dir).0
}

/// The keys that were asked for, by pattern (`edge.routes[].path`), each with its description.
type Keys = BTreeMap<String, String>;

fn read(text: &str, base_dir: &Path) -> (Result<Checked, Problems>, Keys) {
    let mapping = match top(text) {
        Ok(mapping) => mapping,
        Err(reason) => return (Err(Problems::one(TOP, reason)), Keys::new()),
    };
    let reader = Reader::default();
    let relations = Relations::new(base_dir);
    let config = reader.root(&mapping, |top| read_top(top, &reader, &relations));
    let (problems, keys) = reader.finish();
    let result = match (Problems::some(problems), config) {
        (Some(problems), _) => Err(problems),
        (None, Some(config)) => Ok(Checked {
            config,
            warnings: relations.into_warnings(),
        }),
        (None, None) => panic!("all-problems-at-once: a failed read noted no problem"),
    };
    (result, keys)
}

fn top(text: &str) -> Result<Mapping, Reason> {
    match serde_yaml::from_str(text) {
        Ok(Value::Mapping(mapping)) => Ok(mapping),
        Ok(Value::Null) => Err(Reason::Empty),
        Ok(other) => Err(wrong_type("a mapping", &other)),
        Err(error) => Err(Reason::NotYaml(error.to_string())),
    }
}

fn read_top(top: &Section<'_>, reader: &Reader, relations: &Relations<'_>) -> Option<Config> {
    let admin = top.section("admin", |admin| {
        let address = admin.or_default("address", DEFAULT_ADMIN_ADDRESS, address())?;
        relations.claim_address(admin, address);
        Some(Admin { address })
    });
    let log = top.section("log", |log| {
        const LEVELS: &[&str] = &["error", "warn", "info", "debug", "trace"];
        let level = log.or_default("level", "info", one_of(LEVELS, LEVELS))?;
        Some(Log {
            level: level.to_owned(),
        })
    });
    let edge = top.optional_section("edge", "no edge node", |edge| edge::read(edge, relations));
    let origin = top.optional_section("origin", "no store", |origin| {
        origin::read(origin, relations)
    });
    match (&edge, &origin) {
        (Some(None), Some(None)) => top.problem_here(Reason::NothingToRun),
        (Some(Some(edge)), Some(Some(origin))) => relations::folders(reader, edge, origin),
        _ => {}
    }
    Some(Config {
        file: None,
        admin: admin?,
        log: log?,
        edge: edge?,
        origin: origin?,
    })
}
