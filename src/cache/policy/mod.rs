//! The rules of HTTP caching (RFC 9110, 9111), pure: fields, bytes and `now` in, a decision out.
//!
//! Nothing here knows a socket, a clock or pingora.

pub mod blocks;
pub mod cache_control;
pub mod conditional;
pub mod fields;
pub mod freshness;
pub mod http_date;
pub mod invalidation;
pub mod storable;
pub mod tags;
pub mod targeted;
pub mod vary;
