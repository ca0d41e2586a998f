//! What the commands for the store of a running node share.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgGroup, Args};
use serde_json::Value;

use super::admin_client::{self, AdminFault, Answer};

/// Which node, and how to print.
#[derive(Debug, Clone, Args)]
#[command(group = ArgGroup::new("node"))]
pub(super) struct NodeArgs {
    /// The node's configuration: its admin.address is asked.
    #[arg(long, value_name = "FILE", group = "node")]
    config: Option<PathBuf>,
    /// The node's admin address; without --config, the one that a configuration has by default.
    #[arg(long, value_name = "IP:PORT", group = "node")]
    admin: Option<SocketAddr>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Why a command came to no end.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreFailure {
    #[error(transparent)]
    Admin(#[from] AdminFault),
    #[error("the node refuses with status {status}: {reason}\nnext: {}", advice(*.status))]
    Refused { status: u16, reason: String },
    #[error(
        "the answer of {0} is not JSON\nnext: the node runs another version than this command; use its own"
    )]
    NoJson(SocketAddr),
    #[error("cannot print the outcome: {0}\nnext: look at where the output goes")]
    Print(#[from] io::Error),
}

impl StoreFailure {
    pub(super) fn exit_code(&self) -> ExitCode {
        match self {
            StoreFailure::Admin(fault) => fault.exit_code(),
            StoreFailure::Refused { .. } | StoreFailure::NoJson(_) | StoreFailure::Print(_) => {
                ExitCode::from(1)
            }
        }
    }
}

fn advice(status: u16) -> &'static str {
    match status {
        400 => "the node runs another version than this command; use its own",
        409 => "nothing, if that is how it should be",
        _ => "look at the node's log and at its disks, then run the command again",
    }
}

impl NodeArgs {
    /// Asks, and prints what it was told. A job takes as long as it takes: ending the command ends the job.
    pub(super) fn ask(&self, method: &str, path: &str, body: &str) -> Result<Value, StoreFailure> {
        let address = admin_client::address(self.config.as_deref(), self.admin)?;
        let head = match method {
            "POST" => format!("POST {path} HTTP/1.1\r\nContent-Type: application/json\r\n"),
            _ => format!("{method} {path} HTTP/1.1\r\n"),
        };
        let answer = admin_client::exchange_within(None, address, &head, body);
        let told = read(address, &answer.map_err(named)?)?;
        let text = match self.json {
            true => format!("{told}\n"),
            false => words(&told),
        };
        io::stdout().write_all(text.as_bytes())?;
        Ok(told)
    }
}

/// A node without these paths has no store.
fn named(fault: AdminFault) -> AdminFault {
    match fault {
        AdminFault::NoEdge(address) => AdminFault::NoStore(address),
        other => other,
    }
}

fn read(address: SocketAddr, answer: &Answer) -> Result<Value, StoreFailure> {
    let body: Value =
        serde_json::from_slice(&answer.body).map_err(|_| StoreFailure::NoJson(address))?;
    match answer.status {
        200 => Ok(body),
        status => {
            let reason = body.get("error").and_then(Value::as_str);
            let reason = reason.unwrap_or("it says no reason").to_owned();
            Err(StoreFailure::Refused { status, reason })
        }
    }
}

/// One line for each value: its path, and what it is.
fn words(told: &Value) -> String {
    let mut lines = Vec::new();
    gather(told, String::new(), &mut lines);
    let width = lines.iter().map(|(path, _)| path.len()).max().unwrap_or(0);
    let lines = lines.iter();
    lines
        .map(|(path, value)| format!("{path:<width$}  {value}\n"))
        .collect()
}

fn gather(told: &Value, path: String, lines: &mut Vec<(String, String)>) {
    match told {
        Value::Object(entries) => {
            for (key, value) in entries {
                let inner = match path.as_str() {
                    "" => key.clone(),
                    outer => format!("{outer}.{key}"),
                };
                gather(value, inner, lines);
            }
        }
        Value::Array(values) if values.is_empty() => lines.push((path, "none".to_owned())),
        Value::Array(values) => {
            for (index, value) in values.iter().enumerate() {
                gather(value, format!("{path}[{index}]"), lines);
            }
        }
        Value::Null => lines.push((path, "none".to_owned())),
        Value::String(text) => lines.push((path, text.clone())),
        other => lines.push((path, other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_value_has_a_line() {
        let told = json!({
            "disks": [{ "number": 0, "state": "ready" }],
            "last": null,
            "none": [],
        });
        assert_eq!(
            words(&told),
            "disks[0].number  0\ndisks[0].state   ready\nlast             none\nnone             none\n"
        );
    }

    #[test]
    fn refusals_say_why() {
        let address = SocketAddr::from(([127, 0, 0, 1], 9900));
        let said = |status, body: &str| {
            let body = body.as_bytes().to_vec();
            read(address, &Answer { status, body }).map_err(|failure| failure.to_string())
        };
        assert_eq!(said(200, "{\"a\": 1}"), Ok(json!({ "a": 1 })));
        let refused = said(409, "{\"error\": \"it is under way already\"}").unwrap_err();
        assert!(refused.contains("status 409: it is under way already"));
        assert!(said(200, "hello").unwrap_err().contains("is not JSON"));
        let fault = named(AdminFault::NoEdge(address));
        assert!(fault.to_string().contains("has no store"));
    }
}
