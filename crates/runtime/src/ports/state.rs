//! The file on a consumer's volume: tells a controlled stop from an uncontrolled one.
//!
//! It is a hint and never authority: its loss costs stickiness and nothing else.

pub use tidegate_wire::state_file::Persisted;

/// A state file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// Another living process holds the directory.
    #[error(
        "directory {path} is in use by another process: each consumer, and each controller that runs consumers as child processes, needs one of its own"
    )]
    Locked {
        /// The directory.
        path: String,
    },
    /// Reading or writing failed.
    #[error("failed to use state directory {path}")]
    Io {
        /// The directory.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Keeps [`Persisted`]; whoever holds the value holds the directory's lock.
pub trait StateFile: Send + std::fmt::Debug {
    /// What the last life left: a missing or corrupt file gives `clean` false and no partitions.
    fn load(&mut self) -> Result<Persisted, StateError>;

    /// Replaces it: write aside, sync, rename, sync the directory.
    fn save(&mut self, state: &Persisted) -> Result<(), StateError>;
}
