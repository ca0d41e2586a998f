//! How many connections are open, in all and of each client.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::ConnectionRefusal;
use crate::edge::client_network::ClientNetwork;

/// The open connections of one listener.
#[derive(Debug)]
pub(super) struct Connections {
    limit: Option<usize>,
    limit_per_client: Option<usize>,
    open: AtomicUsize,
    /// Only clients that have a connection are in here, so it is no larger than what the system allows.
    by_client: Mutex<HashMap<ClientNetwork, usize>>,
}

impl Connections {
    pub(super) fn new(limit: Option<usize>, limit_per_client: Option<usize>) -> Arc<Self> {
        Arc::new(Connections {
            limit,
            limit_per_client,
            open: AtomicUsize::new(0),
            by_client: Mutex::default(),
        })
    }

    /// A place among all connections, until it is dropped.
    ///
    /// # Errors
    /// [`ConnectionRefusal::TooMany`].
    pub(super) fn enter(self: &Arc<Self>) -> Result<Option<Place>, ConnectionRefusal> {
        let Some(limit) = self.limit else {
            return Ok(None);
        };
        let place = Place {
            connections: self.clone(),
        };
        if self.open.fetch_add(1, Ordering::Relaxed) < limit {
            Ok(Some(place))
        } else {
            // Dropping the place takes it off again.
            Err(ConnectionRefusal::TooMany)
        }
    }

    /// A place among the connections of one client, until it is dropped.
    ///
    /// # Errors
    /// [`ConnectionRefusal::TooManyOfClient`].
    pub(super) fn enter_client(
        self: &Arc<Self>,
        client: ClientNetwork,
    ) -> Result<Option<ClientPlace>, ConnectionRefusal> {
        let Some(limit) = self.limit_per_client else {
            return Ok(None);
        };
        let mut by_client = self.by_client();
        let open = by_client.entry(client).or_insert(0);
        if *open >= limit {
            return Err(ConnectionRefusal::TooManyOfClient);
        }
        *open += 1;
        Ok(Some(ClientPlace {
            connections: self.clone(),
            client,
        }))
    }

    fn by_client(&self) -> MutexGuard<'_, HashMap<ClientNetwork, usize>> {
        self.by_client
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection of all.
#[derive(Debug)]
pub(super) struct Place {
    connections: Arc<Connections>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One connection of a client.
#[derive(Debug)]
pub(super) struct ClientPlace {
    connections: Arc<Connections>,
    client: ClientNetwork,
}

impl Drop for ClientPlace {
    fn drop(&mut self) {
        let mut by_client = self.connections.by_client();
        if let Entry::Occupied(mut open) = by_client.entry(self.client) {
            match *open.get() {
                0 | 1 => drop(open.remove()),
                _ => *open.get_mut() -= 1,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    fn client(text: &str) -> ClientNetwork {
        text.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn no_more_than_the_limit_are_open_and_a_closed_one_makes_room() {
        let connections = Connections::new(Some(2), None);
        let first = connections.enter().unwrap();
        let second = connections.enter().unwrap();
        for _ in 0..3 {
            assert_eq!(connections.enter().unwrap_err(), ConnectionRefusal::TooMany);
        }
        drop(first);
        let third = connections.enter().unwrap();
        assert!(connections.enter().is_err());
        drop((second, third));
        assert_eq!(connections.open.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn each_client_has_its_own_limit_and_an_ipv6_64_is_one_client() {
        let connections = Connections::new(None, Some(1));
        let first = connections.enter_client(client("2001:db8::1")).unwrap();
        let refused = connections.enter_client(client("2001:db8::2"));
        assert_eq!(refused.unwrap_err(), ConnectionRefusal::TooManyOfClient);
        let other = connections.enter_client(client("192.0.2.1")).unwrap();
        drop(first);
        let again = connections.enter_client(client("2001:db8::2")).unwrap();
        drop((other, again));
        assert!(connections.by_client().is_empty());
    }

    #[test]
    fn without_a_limit_nothing_is_counted() {
        let connections = Connections::new(None, None);
        assert!(connections.enter().unwrap().is_none());
        assert!(connections.enter_client(client("::1")).unwrap().is_none());
    }
}
