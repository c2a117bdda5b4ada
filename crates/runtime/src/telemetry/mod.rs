//! What a process tells about itself: metrics, a small HTTP server, and events on standard error.

pub mod http;
pub mod logging;
pub mod metrics;
