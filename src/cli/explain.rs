//! `tidegate explain`: asks a running node how it would answer a request now, and why.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgGroup, Args};
use serde_json::Value;

use super::admin_client::{self, AdminFault, Answer};
use crate::edge::explain::endpoint::PATH;
use crate::edge::explain::inquiry::{Inquiry, InquiryFault, to_query};

/// Say how a running node would answer a request now, and why; asks no origin and changes nothing.
#[derive(Debug, Clone, Args)]
#[command(group = ArgGroup::new("node"))]
pub struct ExplainArgs {
    /// The URL that a client would ask for, such as https://cdn.example/a?b=c.
    #[arg(value_name = "URL")]
    pub url: String,
    /// A field of the request, such as 'Accept-Encoding: gzip'; may be repeated.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub headers: Vec<String>,
    /// The method.
    #[arg(long, value_name = "METHOD", default_value = "GET")]
    pub method: String,
    /// The node's configuration; its admin.address is asked.
    #[arg(long, value_name = "FILE", group = "node")]
    pub config: Option<PathBuf>,
    /// The node's admin address; without --config, the one that a configuration has by default.
    #[arg(long, value_name = "IP:PORT", group = "node")]
    pub admin: Option<SocketAddr>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Why nothing is explained.
#[derive(Debug, thiserror::Error)]
enum ExplainFailure {
    #[error(
        "{0}\nnext: give the URL as clients ask for it, quoted for the shell; tidegate explain --help shows the form"
    )]
    Inquiry(#[from] InquiryFault),
    #[error(transparent)]
    Admin(#[from] AdminFault),
    #[error("{0}\nnext: ask for what a client could send")]
    NotLetIn(String),
    #[error("the node refuses with status {status}: {reason}\nnext: look at the node's log")]
    Refused { status: u16, reason: String },
    #[error("cannot print the explanation: {0}\nnext: look at where the output goes")]
    Print(io::Error),
}

impl ExplainFailure {
    fn exit_code(&self) -> ExitCode {
        match self {
            ExplainFailure::Inquiry(_) | ExplainFailure::NotLetIn(_) => ExitCode::from(2),
            ExplainFailure::Admin(fault) => fault.exit_code(),
            ExplainFailure::Refused { .. } | ExplainFailure::Print(_) => ExitCode::from(1),
        }
    }
}

impl ExplainArgs {
    /// Prints the explanation, or says what to do next.
    pub fn run(&self) -> ExitCode {
        match self.explain() {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => {
                eprintln!("tidegate explain: {failure}");
                failure.exit_code()
            }
        }
    }

    fn explain(&self) -> Result<(), ExplainFailure> {
        // Read by the node's own rules, so that a slip is told without a node.
        Inquiry::new(&self.url, &self.method, &self.headers)?;
        let address = admin_client::address(self.config.as_deref(), self.admin)?;
        let query = to_query(&self.url, &self.method, &self.headers);
        let accept = if self.json {
            "application/json"
        } else {
            "text/plain"
        };
        let head = format!("GET {PATH}?{query} HTTP/1.1\r\nAccept: {accept}\r\n");
        let text = self.read(admin_client::exchange(address, &head, "")?)?;
        io::stdout()
            .write_all(text.as_bytes())
            .map_err(ExplainFailure::Print)
    }

    fn read(&self, answer: Answer) -> Result<String, ExplainFailure> {
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        if answer.status == 200 {
            return Ok(text);
        }
        let said = serde_json::from_str::<Value>(&text).ok();
        let said = said.as_ref().and_then(|body| body.get("error")?.as_str());
        let reason = said.unwrap_or(text.trim()).to_owned();
        Err(match answer.status {
            400 => ExplainFailure::NotLetIn(reason),
            status => ExplainFailure::Refused { status, reason },
        })
    }
}
