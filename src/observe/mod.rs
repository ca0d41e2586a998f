//! What operators see: metrics, the access log, readiness and the admin surface.
//!
//! Every name that Prometheus scrapes is spelled in [`Metrics`], every outcome word in
//! [`Outcome`]. Handles are resolved once; a request touches only atomics.

mod access_log;
mod access_record;
pub mod admin;
pub mod admin_json;
mod cache_metrics;
mod connection_metrics;
mod disk_tier_metrics;
mod families;
mod line_queue;
mod metrics;
mod origin_metrics;
mod purge_metrics;
mod readiness;
mod route_metrics;
mod sharded;
mod store_metrics;
mod tls_metrics;
mod vocabulary;

pub use access_log::{AccessLog, AccessLogError};
pub use access_record::AccessRecord;
pub use cache_metrics::{CacheTierMetrics, MemoryFileMetrics};
pub use connection_metrics::{ConnectionGuard, ConnectionMetrics};
pub use disk_tier_metrics::{DiskTierMetrics, DiskTierState};
pub use metrics::Metrics;
pub use origin_metrics::{OriginMetrics, OriginResult};
pub use purge_metrics::PurgeMetrics;
pub use readiness::{Condition, Readiness};
pub use route_metrics::{Finished, RouteMetrics};
pub use store_metrics::{StoreCounts, StoreMetrics};
pub use tls_metrics::TlsMetrics;
pub use vocabulary::{Outcome, Protocol, Source};
