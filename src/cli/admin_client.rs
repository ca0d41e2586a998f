//! How commands speak to a running node: where its admin address is, and one exchange with it.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use crate::config::{self, Problems};

/// How long the node may take to be reached, and then to answer: it may wait for its disk.
const PATIENCE: Duration = Duration::from_secs(30);

/// More than any answer to a command.
const ANSWER_LIMIT_BYTES: u64 = 1024 * 1024;

/// Why a node did not answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum AdminFault {
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
        "the connection to {address} ended before the answer did: {error}\nnext: look at the node's log, and run the command again; twice does no harm"
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
        "the node at {0} has no edge, so it stores no responses\nnext: give the admin address of an edge node"
    )]
    NoEdge(SocketAddr),
    #[error(
        "the node at {0} has no store\nnext: give the admin address of a node whose configuration has an origin section"
    )]
    NoStore(SocketAddr),
}

impl AdminFault {
    pub(super) fn exit_code(&self) -> ExitCode {
        match self {
            AdminFault::Config { .. } | AdminFault::NoPort(_) => ExitCode::from(2),
            AdminFault::Unreachable { .. }
            | AdminFault::Broken { .. }
            | AdminFault::NotAdmin(_)
            | AdminFault::NoEdge(_)
            | AdminFault::NoStore(_) => ExitCode::from(1),
        }
    }
}

/// What a node answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

/// The admin address that a command line names.
pub(super) fn address(
    config: Option<&Path>,
    admin: Option<SocketAddr>,
) -> Result<SocketAddr, AdminFault> {
    match (config, admin) {
        (Some(file), None) => configured(file),
        (_, Some(address)) => Ok(address),
        (None, None) => Ok(config::DEFAULT_ADMIN_ADDRESS
            .parse()
            .expect("the default of admin.address is an address")),
    }
}

/// Where a node with this configuration listens, as seen from its own machine.
fn configured(file: &Path) -> Result<SocketAddr, AdminFault> {
    let checked = config::load(file).map_err(|problems| AdminFault::Config {
        file: file.to_owned(),
        problems,
    })?;
    let mut address = checked.config.admin.address;
    if address.port() == 0 {
        return Err(AdminFault::NoPort(file.to_owned()));
    }
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    Ok(address)
}

/// Sends a request whose first line and fields are `head` (each with its CRLF, without `Host` and
/// framing) and gives back the answer.
pub(super) fn exchange(address: SocketAddr, head: &str, body: &str) -> Result<Answer, AdminFault> {
    exchange_within(Some(PATIENCE), address, head, body)
}

/// The same, for an answer that may take longer; `None` waits as long as the node is there.
pub(super) fn exchange_within(
    patience: Option<Duration>,
    address: SocketAddr,
    head: &str,
    body: &str,
) -> Result<Answer, AdminFault> {
    let unreachable = |error| AdminFault::Unreachable { address, error };
    let broken = |error| AdminFault::Broken { address, error };
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(unreachable)?;
    stream.set_read_timeout(patience).map_err(broken)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(broken)?;
    let length = body.len();
    let request = format!(
        "{head}Host: {address}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).map_err(broken)?;
    let mut answer = Vec::new();
    stream
        .take(ANSWER_LIMIT_BYTES)
        .read_to_end(&mut answer)
        .map_err(broken)?;
    read(address, &answer)
}

/// Takes an answer apart; a node without the path that was asked for has no edge.
pub(super) fn read(address: SocketAddr, answer: &[u8]) -> Result<Answer, AdminFault> {
    let mut fields = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Response::new(&mut fields);
    let Ok(httparse::Status::Complete(end)) = head.parse(answer) else {
        return Err(AdminFault::NotAdmin(address));
    };
    match head.code {
        None => Err(AdminFault::NotAdmin(address)),
        Some(404) => Err(AdminFault::NoEdge(address)),
        Some(status) => Ok(Answer {
            status,
            body: answer[end..].to_vec(),
        }),
    }
}
