//! Checks between values that stand in different places of the file.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use super::checked::{Edge, Origin, Route};
use super::problem::{Reason, Warning};
use super::reader::{Reader, Section};

/// What the reading of one place must know of the others.
pub(super) struct Relations<'p> {
    /// Relative paths start here.
    pub(super) base_dir: &'p Path,
    addresses: RefCell<Vec<(String, SocketAddr)>>,
    warnings: RefCell<Vec<Warning>>,
}

impl<'p> Relations<'p> {
    pub(super) fn new(base_dir: &'p Path) -> Self {
        Relations {
            base_dir,
            addresses: RefCell::default(),
            warnings: RefCell::default(),
        }
    }

    /// Notes that `section` listens on `address`, and a problem when another section does already.
    pub(super) fn claim_address(&self, section: &Section<'_>, address: SocketAddr) {
        let mut addresses = self.addresses.borrow_mut();
        let taken = addresses
            .iter()
            .find(|(_, earlier)| collide(*earlier, address));
        if let Some((first, first_address)) = taken {
            let reason = Reason::AddressTaken {
                address,
                first: first.clone(),
                first_address: *first_address,
            };
            section.problem("address", reason);
        }
        addresses.push((section.path_of("address"), address));
    }

    pub(super) fn warn(&self, warning: Warning) {
        self.warnings.borrow_mut().push(warning);
    }

    pub(super) fn into_warnings(self) -> Vec<Warning> {
        self.warnings.into_inner()
    }
}

/// Two sockets cannot both listen on these. `[::]` takes IPv4 as well, as Linux does by default.
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let covers = |wide: IpAddr, narrow: IpAddr| {
        wide.is_unspecified() && (wide.is_ipv6() || narrow.is_ipv4())
    };
    one.port() == other.port()
        && one.port() != 0
        && (one.ip() == other.ip() || covers(one.ip(), other.ip()) || covers(other.ip(), one.ip()))
}

/// Things that need names of their own, remembered in the order of the file.
#[derive(Default)]
pub(super) struct Names(Vec<(String, String)>);

impl Names {
    /// Notes a problem when an earlier entry has this value.
    pub(super) fn claim(&mut self, section: &Section<'_>, key: &str, value: &str) {
        if let Some((_, first)) = self.0.iter().find(|(seen, _)| seen == value) {
            let (value, first) = (value.to_owned(), first.clone());
            section.problem(key, Reason::Duplicate { value, first });
        }
        self.0.push((value.to_owned(), section.path_of(key)));
    }
}

/// Whether every request that `later` matches is taken by `earlier`, so that it would never be reached.
pub(super) fn shadows(earlier: &Route, later: &Route) -> bool {
    let host = earlier.host.is_none() || earlier.host == later.host;
    host && later.path.starts_with(&earlier.path)
}

/// The cache's disk tier deletes what it finds in its folder, so the store's must lie elsewhere.
pub(super) fn folders(reader: &Reader, edge: &Edge, origin: &Origin) {
    let Some(disk) = &edge.cache.disk else { return };
    let disks = (origin.disks.iter()).map(|disk| ("origin.disks", &disk.path));
    let cold = (origin.cold.iter().flat_map(|cold| &cold.disks))
        .map(|disk| ("origin.cold.disks", &disk.path));
    let data = [("origin.data", &origin.data)].into_iter();
    for (other, other_folder) in data.chain(disks).chain(cold) {
        if disk.path.starts_with(other_folder) || other_folder.starts_with(&disk.path) {
            let reason = Reason::FolderShared {
                folder: disk.path.clone(),
                other,
                other_folder: other_folder.clone(),
            };
            reader.problem("edge.cache.disk.path", reason);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Access;
    use std::sync::Arc;

    #[test]
    fn addresses_collide_when_one_socket_would_keep_the_other_out() {
        for (one, other, expected) in [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("0.0.0.0:80", "127.0.0.1:80", true),
            ("0.0.0.0:80", "[::1]:80", false),
            ("[::]:80", "127.0.0.1:80", true),
            ("[::]:80", "0.0.0.0:80", true),
            ("[::]:80", "[::1]:80", true),
            ("127.0.0.1:0", "127.0.0.1:0", false),
        ] {
            let (one, other) = (one.parse().unwrap(), other.parse().unwrap());
            assert_eq!(collide(one, other), expected, "{one} {other}");
            assert_eq!(collide(other, one), expected, "{other} {one}");
        }
    }

    #[test]
    fn a_route_is_shadowed_by_an_earlier_one_that_is_at_least_as_wide() {
        let route = |host: Option<&str>, path: &str| Route {
            name: String::new(),
            host: host.map(str::to_owned),
            path: path.to_owned(),
            origin: 0,
            access: Access::Public,
            addresses: Default::default(),
            limits: Default::default(),
            signing: Default::default(),
            cors: None,
            response_headers: Default::default(),
            request_headers: Default::default(),
            upload_forms: false,
            cache: Arc::default(),
        };
        for (earlier, later, expected) in [
            (route(None, "/"), route(None, "/public/"), true),
            (route(None, "/public/"), route(None, "/"), false),
            (route(None, "/a"), route(None, "/a"), true),
            (route(None, "/"), route(Some("a"), "/"), true),
            (route(Some("a"), "/"), route(None, "/"), false),
            (route(Some("a"), "/"), route(Some("b"), "/"), false),
            (route(Some("a"), "/"), route(Some("a"), "/x"), true),
        ] {
            assert_eq!(shadows(&earlier, &later), expected, "{earlier:?} {later:?}");
        }
    }
}
