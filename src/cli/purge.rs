//! `tidegate purge`: tells a running node to forget stored responses.

use std::fmt;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgGroup, Args};
use serde_json::{Map, Value};

use super::admin_client::{self, AdminFault, Answer};
use crate::cache::purge::{Order, OrderFault, Severity};
use crate::edge::purge::PATH;

/// Tell a running node to forget stored responses.
#[derive(Debug, Clone, Args)]
#[command(group = ArgGroup::new("node"), group = ArgGroup::new("subject").required(true).multiple(true))]
pub struct PurgeArgs {
    /// The node's configuration; its admin.address is where the purge is sent.
    #[arg(long, value_name = "FILE", group = "node")]
    pub config: Option<PathBuf>,
    /// The node's admin address; without --config, the one that a configuration has by default.
    #[arg(long, value_name = "IP:PORT", group = "node")]
    pub admin: Option<SocketAddr>,
    /// One URL with all its variants, such as https://cdn.example/a?b=c.
    #[arg(long, group = "subject", conflicts_with_all = ["tag", "prefix", "host"])]
    pub url: Option<String>,
    /// Everything that carries a tag in Cache-Tag or Surrogate-Key; may be repeated.
    #[arg(long, group = "subject", conflicts_with_all = ["prefix", "host"])]
    pub tag: Vec<String>,
    /// Every path that begins so: https://cdn.example/dir/, or /dir/ of --host or of every host.
    #[arg(long, group = "subject")]
    pub prefix: Option<String>,
    /// Everything of a host, on every port unless one is given.
    #[arg(long, group = "subject", value_name = "HOST[:PORT]")]
    pub host: Option<String>,
    /// Only make it stale: it is validated before use, or served while the origin cannot be asked.
    #[arg(long)]
    pub soft: bool,
}

/// Why nothing is known to be purged.
#[derive(Debug, thiserror::Error)]
enum PurgeFailure {
    #[error(
        "{0}\nnext: name what is stored as clients ask for it; tidegate purge --help shows the forms"
    )]
    Order(#[from] OrderFault),
    #[error(transparent)]
    Admin(#[from] AdminFault),
    #[error(
        "the answer of {0} tells no sequence\nnext: the node runs another version than this command; use its own"
    )]
    NoSequence(SocketAddr),
    #[error("the node refuses with status {status}: {reason}\nnext: {}", advice(*.status))]
    Refused { status: u16, reason: String },
    #[error("cannot print the outcome: {0}\nnext: nothing; the purge is in force")]
    Print(io::Error),
}

impl PurgeFailure {
    fn exit_code(&self) -> ExitCode {
        match self {
            PurgeFailure::Order(_) => ExitCode::from(2),
            PurgeFailure::Admin(fault) => fault.exit_code(),
            PurgeFailure::NoSequence(_) | PurgeFailure::Refused { .. } | PurgeFailure::Print(_) => {
                ExitCode::from(1)
            }
        }
    }
}

fn advice(status: u16) -> &'static str {
    match status {
        400 => "the node runs another version than this command; use its own",
        500..=599 => "look at the node's log and at its disk, then purge again",
        _ => "look at the node's log",
    }
}

impl PurgeArgs {
    /// Purges, and says what and under which sequence; or says what to do next.
    pub fn run(&self) -> ExitCode {
        match self.purge() {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => {
                eprintln!("tidegate purge: {failure}");
                failure.exit_code()
            }
        }
    }

    fn purge(&self) -> Result<(), PurgeFailure> {
        let order = self.order()?;
        let address = self.address()?;
        let head = format!("POST {PATH} HTTP/1.1\r\nContent-Type: application/json\r\n");
        let answer = admin_client::exchange(address, &head, &order.to_json())?;
        let sequence = sequence(address, &answer)?;
        writeln!(io::stdout(), "{}", Outcome { order, sequence }).map_err(PurgeFailure::Print)
    }

    /// Read by the node's own rules, so that a slip is told without a node.
    fn order(&self) -> Result<Order, OrderFault> {
        let mut object = Map::new();
        let named = [
            ("url", &self.url),
            ("prefix", &self.prefix),
            ("host", &self.host),
        ];
        for (key, value) in named {
            if let Some(value) = value {
                object.insert(key.to_owned(), value.as_str().into());
            }
        }
        if !self.tag.is_empty() {
            object.insert("tags".to_owned(), self.tag.clone().into());
        }
        object.insert("soft".to_owned(), self.soft.into());
        Order::parse(Value::Object(object).to_string().as_bytes())
    }

    fn address(&self) -> Result<SocketAddr, AdminFault> {
        admin_client::address(self.config.as_deref(), self.admin)
    }
}

/// The sequence that the node's answer tells.
fn sequence(address: SocketAddr, answer: &Answer) -> Result<u64, PurgeFailure> {
    let body: Option<Value> = serde_json::from_slice(&answer.body).ok();
    let part = |key| body.as_ref().and_then(|body| body.get(key));
    match answer.status {
        200 => part("sequence")
            .and_then(Value::as_u64)
            .ok_or(PurgeFailure::NoSequence(address)),
        status => {
            let reason = part("error").and_then(Value::as_str);
            let reason = reason.ok_or(AdminFault::NotAdmin(address))?.to_owned();
            Err(PurgeFailure::Refused { status, reason })
        }
    }
}

/// What was purged.
struct Outcome {
    order: Order,
    sequence: u64,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let effect = match self.order.severity {
            Severity::Hard => "purged",
            Severity::Soft => "made stale",
        };
        for rule in &self.order.rules {
            writeln!(f, "{effect}: {rule}")?;
        }
        write!(f, "sequence {}", self.sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        args: PurgeArgs,
    }

    fn parse(arguments: &[&str]) -> Result<PurgeArgs, clap::Error> {
        let fixed = ["purge", "--admin", "127.0.0.1:9900"];
        Ok(Command::try_parse_from(fixed.iter().chain(arguments))?.args)
    }

    #[test]
    fn each_flag_makes_the_order_that_the_node_reads() {
        for (arguments, expected) in [
            (&["--url", "http://h/a"][..], r#"{"url":"http://h/a"}"#),
            (&["--tag", "a"], r#"{"tag":"a"}"#),
            (&["--tag", "a", "--tag", "b"], r#"{"tags":["a","b"]}"#),
            (&["--prefix", "/d/"], r#"{"prefix":"/d/"}"#),
            (
                &["--prefix", "/d/", "--host", "H"],
                r#"{"host":"h","prefix":"/d/"}"#,
            ),
            (
                &["--host", "h:81", "--soft"],
                r#"{"host":"h:81","soft":true}"#,
            ),
        ] {
            let order = parse(arguments).unwrap().order().unwrap();
            assert_eq!(order.to_json(), expected);
        }
        let refused = parse(&["--url", "/a"]).unwrap().order();
        assert!(matches!(refused, Err(OrderFault::Url { .. })));
    }

    #[test]
    fn one_node_and_one_thing_to_purge_must_be_named() {
        for arguments in [
            &[][..],
            &["--soft"],
            &["--url", "http://h/", "--tag", "a"],
            &["--tag", "a", "--host", "h"],
            &["--url", "http://h/", "--prefix", "/"],
            &["--tag", "a", "--config", "f"],
        ] {
            assert!(parse(arguments).is_err(), "{arguments:?}");
        }
        let without = Command::try_parse_from(["purge", "--tag", "a"]);
        let address = without.unwrap().args.address().unwrap();
        assert_eq!(address.to_string(), config::DEFAULT_ADMIN_ADDRESS);
    }

    #[test]
    fn answers_are_told_apart() {
        let address = SocketAddr::from(([127, 0, 0, 1], 9900));
        let said = |answer: &str| {
            let answer = admin_client::read(address, answer.as_bytes());
            let told = answer.map_err(PurgeFailure::from);
            let told = told.and_then(|answer| sequence(address, &answer));
            told.map_err(|failure| failure.to_string().lines().next().unwrap().to_owned())
        };
        let ok = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n";
        assert_eq!(
            said(&format!("{ok}{{\"rules\":1,\"sequence\":12}}")),
            Ok(12)
        );
        for (answer, expected) in [
            (ok.to_owned() + "hello", "tells no sequence"),
            (ok.to_owned(), "tells no sequence"),
            (String::new(), "is no Tidegate admin surface"),
            ("HTTP/1.1 404 X\r\n\r\n".to_owned(), "has no edge"),
            (
                "HTTP/1.1 500 X\r\n\r\n{\"error\":\"disk full\"}".to_owned(),
                "refuses with status 500: disk full",
            ),
        ] {
            let told = said(&answer).unwrap_err();
            assert!(told.contains(expected), "{answer}: {told}");
        }
    }
}
