//! Where the cache's own tasks run: fills outlive the requests that start them.

use std::future::Future;
use std::pin::Pin;

/// A task of the cache.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Runs tasks. A parameter of the cache, so that the simulation can order every step of them by a
/// seed.
pub trait Tasks: Send + Sync {
    /// Starts `task`; it is driven to its end unless the process stops.
    fn spawn(&self, task: Task);
}

/// On the tokio runtime that the caller runs on.
#[derive(Debug)]
pub struct OnTokio;

impl Tasks for OnTokio {
    fn spawn(&self, task: Task) {
        tokio::spawn(task);
    }
}
