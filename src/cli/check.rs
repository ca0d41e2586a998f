//! `tidegate check`: says everything that is wrong with a configuration, or what it holds.

use std::path::Path;
use std::process::ExitCode;

use crate::config::{self, Access, Checked, Config, Edge, show_size};

/// Prints `OK` and a summary, or every problem; exit code 0 or 2.
pub(super) fn run(file: &Path) -> ExitCode {
    match config::load(file) {
        Ok(Checked { config, warnings }) => {
            for warning in warnings {
                eprintln!("warning: {warning}");
            }
            println!("OK: {}", summary(&config));
            ExitCode::SUCCESS
        }
        Err(problems) => {
            eprintln!("{problems}");
            ExitCode::from(2)
        }
    }
}

fn summary(config: &Config) -> String {
    let mut parts = Vec::new();
    if let Some(edge) = &config.edge {
        parts.push(edge_summary(edge));
    }
    if let Some(origin) = &config.origin {
        parts.push(format!(
            "store on {} in {}",
            origin.address,
            origin.data.display()
        ));
    }
    parts.push(format!("admin on {}", config.admin.address));
    parts.join("; ")
}

fn edge_summary(edge: &Edge) -> String {
    let listeners: Vec<String> = (edge.listeners.iter())
        .map(|listener| {
            let scheme = if listener.tls.is_some() {
                "https"
            } else {
                "http"
            };
            format!("{scheme}://{}", listener.address)
        })
        .collect();
    let signed = (edge.routes.iter())
        .filter(|route| route.access == Access::Signed)
        .count();
    let servers: usize = edge.origins.iter().map(|pool| pool.servers.len()).sum();
    format!(
        "edge on {} with {} route(s), {signed} of them signed, {servers} origin server(s) and {} of memory cache",
        listeners.join(", "),
        edge.routes.len(),
        show_size(edge.cache.memory_bytes),
    )
}
