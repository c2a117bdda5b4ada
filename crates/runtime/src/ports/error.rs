//! One error type for all calls to Kafka, and the classes that decide what a caller does with it.

use std::fmt;

use crate::errors::Code;

/// What a caller may do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// It may heal: try again after a pause.
    Transient,
    /// It will not heal by itself: tell a person.
    Permanent,
    /// Somebody with a later token has taken over: stop at once.
    Fenced,
}

impl Class {
    /// A fixed word for labels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Permanent => "permanent",
            Self::Fenced => "fenced",
        }
    }
}

/// A call through a port that failed.
///
/// ```
/// use tidegate_runtime::ports::{Class, Error};
/// let error = Error::new(Class::Transient, "failed to fetch the end of topic orders");
/// assert_eq!(error.class(), Class::Transient);
/// ```
#[derive(Debug)]
pub struct Error {
    class: Class,
    doing: String,
    code: Option<Code>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error whose text says what was being done and with which object.
    pub fn new(class: Class, doing: impl Into<String>) -> Self {
        Self { class, doing: doing.into(), code: None, source: None }
    }

    /// The same error with its cause, which is not repeated in the text.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(cause.into());
        self
    }

    /// The same error with the code under which a person finds more.
    #[must_use]
    pub fn coded(mut self, code: impl Into<Option<Code>>) -> Self {
        self.code = code.into();
        self
    }

    /// The code under which a person finds more, where it has one.
    pub fn code(&self) -> Option<Code> {
        self.code
    }

    /// What the caller may do about it.
    pub fn class(&self) -> Class {
        self.class
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.doing)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|cause| -> &(dyn std::error::Error + 'static) { cause.as_ref() })
    }
}
