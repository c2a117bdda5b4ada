//! Exit codes, and how an error is told: its chain of causes once, and the code under which `docs/errors.md` has more.

use std::fmt;
use std::path::Path;

use tidegate_runtime::errors::Code;
use tidegate_runtime::ports::{Error, StateError};
use tidegate_runtime::spec::{Fault, Faults};

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// What was asked for is done.
    Done = 0,
    /// It failed.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// The configuration, or a file that was named, is invalid.
    Config = 3,
    /// No plan can do what was asked for.
    Infeasible = 4,
}

/// An error that ends the program with a code of its own.
#[derive(Debug)]
pub(crate) struct Refused {
    exit: Exit,
    text: String,
}

impl Refused {
    /// The options contradict each other.
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, text: text.into() }
    }

    /// A file cannot be used.
    pub(crate) fn input(file: &Path, what: impl fmt::Display) -> Self {
        Self { exit: Exit::Config, text: format!("{}, {what}", file.display()) }
    }

    /// No plan can do what was asked for.
    pub(crate) fn infeasible(text: impl Into<String>) -> Self {
        Self { exit: Exit::Infeasible, text: text.into() }
    }

    /// A file cannot be read; the cause is told behind it.
    pub(crate) fn unreadable(file: &Path) -> Self {
        Self { exit: Exit::Config, text: format!("failed to read {}", file.display()) }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Refused {}

/// A context of an error that has a code.
#[derive(Debug)]
pub(crate) struct Coded {
    pub(crate) code: Code,
    pub(crate) text: String,
}

impl Coded {
    /// A sentence with its code.
    pub(crate) fn new(code: Code, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }
}

impl fmt::Display for Coded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Coded {}

/// A specification that cannot be used.
#[derive(Debug)]
pub(crate) struct InvalidSpec {
    /// The file.
    pub(crate) file: String,
    /// All of its faults.
    pub(crate) faults: Vec<Fault>,
}

impl InvalidSpec {
    pub(crate) fn new(file: String, faults: &Faults) -> Self {
        Self { file, faults: faults.iter().cloned().collect() }
    }
}

impl fmt::Display for InvalidSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, faults } = self;
        let plural = if faults.len() == 1 { "" } else { "s" };
        write!(f, "{file} has {} fault{plural}:", faults.len())?;
        faults.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

impl std::error::Error for InvalidSpec {}

/// The exit code for an error.
pub(crate) fn exit_of(error: &anyhow::Error) -> Exit {
    if let Some(refused) = error.downcast_ref::<Refused>() {
        return refused.exit;
    }
    if code_of(error) == Some(Code::ConfigInvalid) { Exit::Config } else { Exit::Failed }
}

/// The error with its causes, for people.
pub(crate) fn describe(error: &anyhow::Error) -> String {
    match code_of(error) {
        Some(code) => {
            format!("error: {error:#}\n({code}: see docs/errors.md for causes and cures)")
        }
        None => format!("error: {error:#}"),
    }
}

fn code_of(error: &anyhow::Error) -> Option<Code> {
    // A context is found by `downcast_ref` on the error only, a cause by going along the chain.
    let context = error.downcast_ref::<Coded>().map(|coded| coded.code);
    context.or_else(|| error.is::<InvalidSpec>().then_some(Code::ConfigInvalid)).or_else(|| {
        error.chain().find_map(|cause| match cause.downcast_ref::<StateError>() {
            Some(StateError::Locked { .. }) => Some(Code::StateDirectoryInUse),
            _ => cause.downcast_ref::<Error>().and_then(Error::code),
        })
    })
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;
    use tidegate_runtime::ports::Class;

    use super::*;

    #[test]
    fn the_chain_is_told_once_and_the_code_with_it() {
        let coded = Coded::new(Code::BrokerUnreachable, "no broker at a:1 can be reached");
        let error = anyhow!("connection refused").context(coded).context("failed to start");
        assert_eq!(
            describe(&error),
            "error: failed to start: no broker at a:1 can be reached: connection refused\n\
             (TG002: see docs/errors.md for causes and cures)"
        );
        assert_eq!(exit_of(&error), Exit::Failed);
    }

    #[test]
    fn a_specification_that_cannot_be_read_is_a_fault_of_the_configuration() {
        let coded = Coded::new(Code::ConfigInvalid, "failed to read group.yaml");
        assert_eq!(exit_of(&anyhow!("no such file").context(coded)), Exit::Config);
    }

    #[test]
    fn the_code_of_a_call_to_kafka_is_told_wherever_it_is_in_the_chain() {
        let refused = || Error::new(Class::Permanent, "refused").coded(Code::RightMissing);
        let outer = Error::new(Class::Permanent, "failed to begin").because(refused());
        for error in [anyhow::Error::new(refused()), anyhow::Error::new(outer).context("a command")]
        {
            assert!(describe(&error).contains("(TG005: see"), "{}", describe(&error));
        }
    }
}
