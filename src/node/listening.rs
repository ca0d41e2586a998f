//! Opens listening sockets, and says who holds an address that is taken.

use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use rustix::net::sockopt::set_socket_reuseaddr;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with};

/// Connections that may wait to be accepted. The standard library's 128 is filled by one burst of
/// clients; the kernel takes the lesser of this and its own `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Why nothing listens on an address.
#[derive(Debug)]
pub struct ListenError {
    /// The address.
    pub address: SocketAddr,
    /// The configuration key that asks for it.
    pub key: String,
    /// What the system said.
    pub error: io::Error,
    /// Who listens there, when that could be found out.
    pub holder: Option<Holder>,
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot listen on {} ({}): ", self.address, self.key)?;
        match self.error.kind() {
            io::ErrorKind::AddrInUse => f.write_str("address already in use")?,
            io::ErrorKind::AddrNotAvailable => f.write_str("this machine has no such address")?,
            io::ErrorKind::PermissionDenied => f.write_str("permission denied")?,
            _ => self.error.fmt(f)?,
        }
        match &self.holder {
            Some(holder) => write!(f, ", held by {holder}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ListenError {}

/// A process that listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its name as the kernel keeps it.
    pub name: String,
    /// Its process id.
    pub pid: u32,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {})", self.name, self.pid)
    }
}

/// Listens on `address`, non-blocking; `key` names it in an error.
///
/// # Errors
/// When the address is taken, not this machine's, or not allowed.
pub(super) fn open(address: SocketAddr, key: String) -> Result<TcpListener, ListenError> {
    try_open(address).map_err(|errno| {
        let error = io::Error::from(errno);
        let holder = match error.kind() {
            io::ErrorKind::AddrInUse => holder(address),
            _ => None,
        };
        ListenError {
            address,
            key,
            error,
            holder,
        }
    })
}

fn try_open(address: SocketAddr) -> Result<TcpListener, rustix::io::Errno> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    // Without this a restart fails for a minute, until the kernel forgets the old connections.
    set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &address)?;
    listen(&socket, BACKLOG)?;
    Ok(TcpListener::from(socket))
}

/// The process that keeps us off `address`. Only a help: `None` when `/proc` will not tell.
fn holder(address: SocketAddr) -> Option<Holder> {
    let mut sockets = Vec::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let table = fs::read_to_string(table).unwrap_or_default();
        sockets.extend(listening_inodes(&table, address));
    }
    let links: Vec<String> = (sockets.iter())
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    fs::read_dir("/proc").ok()?.flatten().find_map(|process| {
        let pid: u32 = process.file_name().to_str()?.parse().ok()?;
        let holds = fs::read_dir(process.path().join("fd"))
            .ok()?
            .flatten()
            .filter_map(|fd| fs::read_link(fd.path()).ok())
            .any(|link| links.iter().any(|held| link.as_os_str() == held.as_str()));
        let name = fs::read_to_string(process.path().join("comm")).ok()?;
        let name = name.trim_end().to_owned();
        holds.then_some(Holder { name, pid })
    })
}

/// The sockets of a `/proc/net/tcp` or `tcp6` table that listen where `address` would, by inode.
fn listening_inodes(table: &str, address: SocketAddr) -> Vec<u64> {
    (table.lines())
        .filter_map(|line| {
            let columns: Vec<&str> = line.split_ascii_whitespace().collect();
            let (local, state, inode) = (columns.get(1)?, columns.get(3)?, columns.get(9)?);
            let local = socket_address(local)?;
            let same_ip = local.ip() == address.ip()
                || local.ip().is_unspecified()
                || address.ip().is_unspecified();
            let listens = *state == LISTEN && local.port() == address.port() && same_ip;
            listens.then(|| inode.parse().ok())?
        })
        .collect()
}

/// `TCP_LISTEN` as `/proc/net/tcp` writes it (proc(5)).
const LISTEN: &str = "0A";

/// Reads `0100007F:1F90`: the address as words in the machine's byte order, the port as a number.
fn socket_address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| {
        let word = u32::from_str_radix(ip.get(at..at + 8)?, 16).ok()?;
        Some(word.to_ne_bytes())
    };
    let ip = match ip.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut octets = [0; 16];
            for (index, four) in octets.chunks_exact_mut(4).enumerate() {
                four.copy_from_slice(&word(8 * index)?);
            }
            IpAddr::V6(Ipv6Addr::from(octets))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    // Written as a little-endian machine shows them; every machine that this runs on is one.
    const TABLE: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 101 1 0 100 0 0 10 0
   1: 0100007F:1F90 0100007F:A6D2 01 00000000:00000000 00:00000000 00000000     0        0 102 1 0 20 4 30 10 -1
   2: 0200007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 103 1 0 100 0 0 10 0
   3: 00000000:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 104 1 0 100 0 0 10 0
   4: 00000000000000000000000001000000:1F92 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 105 1 0 100 0 0 10 0
   5: garbled
";

    #[test]
    fn only_sockets_that_listen_on_the_address_are_found() {
        for (address, inodes) in [
            ("127.0.0.1:8080", vec![101]),
            ("127.0.0.2:8080", vec![103]),
            ("127.0.0.3:8080", vec![]),
            ("0.0.0.0:8080", vec![101, 103]),
            ("127.0.0.1:8081", vec![104]),
            ("[::1]:8082", vec![105]),
            ("[::2]:8082", vec![]),
        ] {
            let found = listening_inodes(TABLE, address.parse().unwrap());
            assert_eq!(found, inodes, "{address}");
        }
    }

    #[test]
    fn a_taken_address_names_the_key_and_the_process() {
        let held = open("127.0.0.1:0".parse().unwrap(), "a".to_owned()).unwrap();
        let address = held.local_addr().unwrap();
        let error = open(address, "admin.address".to_owned()).unwrap_err();
        let name = fs::read_to_string("/proc/self/comm").unwrap();
        let expected = format!(
            "cannot listen on {address} (admin.address): address already in use, held by {} (pid {})",
            name.trim_end(),
            std::process::id()
        );
        assert_eq!(error.to_string(), expected);
    }
}
