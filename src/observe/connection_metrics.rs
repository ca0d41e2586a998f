//! What is counted of connections.

use prometheus::IntGauge;

/// The open connections of one listener.
#[derive(Debug, Clone)]
pub struct ConnectionMetrics(pub(super) IntGauge);

impl ConnectionMetrics {
    /// Counts a connection as open until the guard is dropped.
    pub fn opened(&self) -> ConnectionGuard {
        self.0.inc();
        ConnectionGuard(self.0.clone())
    }
}

/// One open connection.
#[derive(Debug)]
pub struct ConnectionGuard(IntGauge);

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}
