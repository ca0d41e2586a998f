//! `tidegate purge`: tells a running node to forget stored responses.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgGroup, Args};
use serde_json::{Map, Value};

use crate::cache::purge::{Order, OrderFault, Severity};
use crate::config::{self, Problems};
use crate::edge::purge::PATH;

/// How long the node may take to be reached, and then to answer: it waits for its disk.
const PATIENCE: Duration = Duration::from_secs(30);

/// The node's answers are one line.
const ANSWER_LIMIT_BYTES: u64 = 64 * 1024;

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
    #[error("the configuration {} is not sound:\n{problems}\nnext: mend it, or give --admin instead", .file.display())]
    Config { file: PathBuf, problems: Problems },
    #[error("{} lets the system choose the admin port\nnext: give --admin with the address that the node logged at its start", .0.display())]
    NoPort(PathBuf),
    #[error(
        "no node answers at {address}: {error}\nnext: start the node, or give the address of another with --admin"
    )]
    Unreachable {
        address: SocketAddr,
        error: io::Error,
    },
    #[error(
        "the connection to {address} ended before the answer did: {error}\nnext: look at the node's log, and purge again; twice does no harm"
    )]
    Broken {
        address: SocketAddr,
        error: io::Error,
    },
    #[error(
        "what answers at {0} is no Tidegate admin surface\nnext: give the address under admin.address"
    )]
    NotAdmin(SocketAddr),
    #[error(
        "the node at {0} has no edge, so it stores nothing that could be purged\nnext: give the admin address of an edge node"
    )]
    NoEdge(SocketAddr),
    #[error("the node refuses with status {status}: {reason}\nnext: {}", advice(*.status))]
    Refused { status: u16, reason: String },
    #[error("cannot print the outcome: {0}\nnext: nothing; the purge is in force")]
    Print(io::Error),
}

impl PurgeFailure {
    fn exit_code(&self) -> ExitCode {
        match self {
            PurgeFailure::Order(_) | PurgeFailure::Config { .. } | PurgeFailure::NoPort(_) => {
                ExitCode::from(2)
            }
            PurgeFailure::Unreachable { .. }
            | PurgeFailure::Broken { .. }
            | PurgeFailure::NotAdmin(_)
            | PurgeFailure::NoEdge(_)
            | PurgeFailure::Refused { .. }
            | PurgeFailure::Print(_) => ExitCode::from(1),
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
        let answer = post(address, &order.to_json())?;
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

    fn address(&self) -> Result<SocketAddr, PurgeFailure> {
        match (&self.config, self.admin) {
            (Some(file), None) => configured(file),
            (_, Some(address)) => Ok(address),
            (None, None) => Ok(config::DEFAULT_ADMIN_ADDRESS
                .parse()
                .expect("the default of admin.address is an address")),
        }
    }
}

/// Where a node with this configuration listens, as seen from its own machine.
fn configured(file: &Path) -> Result<SocketAddr, PurgeFailure> {
    let checked = config::load(file).map_err(|problems| PurgeFailure::Config {
        file: file.to_owned(),
        problems,
    })?;
    let mut address = checked.config.admin.address;
    if address.port() == 0 {
        return Err(PurgeFailure::NoPort(file.to_owned()));
    }
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    Ok(address)
}

/// Sends `body` and gives back the answer's bytes.
fn post(address: SocketAddr, body: &str) -> Result<Vec<u8>, PurgeFailure> {
    let unreachable = |error| PurgeFailure::Unreachable { address, error };
    let broken = |error| PurgeFailure::Broken { address, error };
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(unreachable)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(broken)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(broken)?;
    let request = format!(
        "POST {PATH} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).map_err(broken)?;
    let mut answer = Vec::new();
    stream
        .take(ANSWER_LIMIT_BYTES)
        .read_to_end(&mut answer)
        .map_err(broken)?;
    Ok(answer)
}

/// The sequence that the node's answer tells.
fn sequence(address: SocketAddr, answer: &[u8]) -> Result<u64, PurgeFailure> {
    let not_admin = || PurgeFailure::NotAdmin(address);
    let mut fields = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Response::new(&mut fields);
    let Ok(httparse::Status::Complete(end)) = head.parse(answer) else {
        return Err(not_admin());
    };
    let status = head.code.ok_or_else(not_admin)?;
    let body: Option<Value> = serde_json::from_slice(&answer[end..]).ok();
    let part = |key| body.as_ref().and_then(|body| body.get(key));
    match status {
        200 => part("sequence")
            .and_then(Value::as_u64)
            .ok_or_else(not_admin),
        404 => Err(PurgeFailure::NoEdge(address)),
        status => {
            let reason = part("error").and_then(Value::as_str);
            let reason = reason.ok_or_else(not_admin)?.to_owned();
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
            let told = sequence(address, answer.as_bytes());
            told.map_err(|failure| failure.to_string().lines().next().unwrap().to_owned())
        };
        let ok = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n";
        assert_eq!(
            said(&format!("{ok}{{\"rules\":1,\"sequence\":12}}")),
            Ok(12)
        );
        for (answer, expected) in [
            (ok.to_owned() + "hello", "is no Tidegate admin surface"),
            (ok.to_owned(), "is no Tidegate admin surface"),
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
