//! Why bytes are no message.

use std::fmt;

use crate::kind::Kind;

/// Longest text of a [`Cause`]: the parser quotes what it found, which may be as long as the message.
const MAX_CAUSE_CHARS: usize = 200;

/// What the JSON parser said, cut to a length that a log can bear.
#[derive(Debug)]
pub struct Cause(String);

impl Cause {
    pub(crate) fn new(error: &serde_json::Error) -> Self {
        Self(error.to_string().chars().take(MAX_CAUSE_CHARS).collect())
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Cause {}

/// Why bytes are no message. All of them are permanent: the same bytes fail again, so a reader counts and goes on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Something else than a message of Tidegate, which all have it.
    #[error("a record has no header {name}")]
    MissingHeader {
        /// The header.
        name: &'static str,
    },
    /// A header is there, but its value is none.
    #[error("a record has a malformed header {name}")]
    MalformedHeader {
        /// The header.
        name: &'static str,
    },
    /// A tombstone where there is nothing to delete.
    #[error("a {kind} has no value")]
    MissingValue {
        /// What the header says it is.
        kind: String,
    },
    /// The value is larger than any message: [`crate::MAX_VALUE_BYTES`].
    #[error("a {kind} has a value of {bytes} bytes, more than {}", crate::MAX_VALUE_BYTES)]
    TooLarge {
        /// What the header says it is.
        kind: String,
        /// Its size.
        bytes: usize,
    },
    /// The value is not what the kind demands.
    #[error("failed to read field {field} of a {kind} of version {version}")]
    Field {
        /// What the header says it is.
        kind: String,
        /// The path of the field; `.` for the value as a whole.
        field: String,
        /// The version of the writer.
        version: u32,
        /// What is wrong with it.
        #[source]
        source: Cause,
    },
    /// A message that belongs into another topic.
    #[error("found a {kind} where a {expected} is expected")]
    Misplaced {
        /// What the header says it is.
        kind: String,
        /// What this topic carries.
        expected: Kind,
    },
    /// The record's key is not `group/field`.
    #[error("an Override has a malformed key")]
    MalformedKey,
}
