//! Where records go: the sinks of Tidegate, and the reader of what they keep.
//!
//! | Sink | Guarantee | With a stale token |
//! |---|---|---|
//! | [`object`], in a folder or a bucket | exactly-once | `acquire` is fenced once a later owner has written or, in the same process, acquired; a write is fenced at a position that is taken |
//! | `postgres`, with the cargo feature of that name | exactly-once | `acquire` and every write are fenced once a later owner has acquired |
//! | `http` | at-least-once; exactly-once with a receiver that compares positions and tokens | what the receiver says |
//! | [`blackhole`], [`stdout`] | at-least-once | written like any other |
//! | [`delay`] | that of the sink behind it | the same |
//!
//! All of them implement [`tidegate_runtime::ports::Sink`] and pass [`tidegate_runtime::sink::conformance()`]. They are opened
//! by URL: see [`spec`].

pub mod blackhole;
pub mod dead_letters;
pub mod delay;
#[cfg(feature = "http")]
pub mod http;
pub mod ndjson;
pub mod object;
#[cfg(feature = "postgres")]
pub mod postgres;
pub mod scratch;
pub mod spec;
pub mod stdout;
#[cfg(any(feature = "http", feature = "postgres", feature = "s3"))]
mod tls;

pub use spec::{Error, SinkSpec, open, open_dead_letters, open_reader};
