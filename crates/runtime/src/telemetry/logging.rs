//! Events on standard error, for people or for collectors.

use std::io::{IsTerminal as _, stderr};

use tracing_subscriber::EnvFilter;

/// The variable that sets the filter when no flag does.
const VARIABLE: &str = "RUST_LOG";

/// The filter when nothing is said: each change of state once.
const DEFAULT_FILTER: &str = "info";

/// How events are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// A line for people, with colours on a terminal.
    #[default]
    Text,
    /// A JSON object a line.
    Json,
}

/// Logging that could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoggingError {
    /// The filter has another form than `tracing` expects.
    #[error("log filter {filter:?} is malformed: expected such as info or tidegate_runtime=debug")]
    Filter {
        /// What was given.
        filter: String,
        /// Why.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// It was set up before.
    #[error("logging was set up twice")]
    Twice(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Sends events to standard error from now on. The filter is what the flag says, else the variable `RUST_LOG`, else
/// `info`. Once for each process.
pub fn init(flag: Option<&str>, format: Format) -> Result<(), LoggingError> {
    let filter = filter(flag, std::env::var(VARIABLE).ok())?;
    let events = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr);
    match format {
        Format::Text => events.with_ansi(stderr().is_terminal()).try_init(),
        Format::Json => events.json().flatten_event(true).try_init(),
    }
    .map_err(LoggingError::Twice)
}

fn filter(flag: Option<&str>, variable: Option<String>) -> Result<EnvFilter, LoggingError> {
    let given = flag.map(str::to_owned).or(variable.filter(|text| !text.is_empty()));
    let filter = given.unwrap_or_else(|| DEFAULT_FILTER.to_owned());
    EnvFilter::try_new(&filter).map_err(|source| LoggingError::Filter { filter, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_wins_over_the_variable_and_nonsense_is_refused() {
        let text = |flag, variable: Option<&str>| {
            filter(flag, variable.map(str::to_owned)).map(|filter| filter.to_string())
        };
        assert_eq!(text(Some("warn"), Some("debug")).unwrap(), "warn");
        assert_eq!(text(None, Some("debug")).unwrap(), "debug");
        assert_eq!(text(None, Some("")).unwrap(), "info");
        let error = text(Some("a=b=c"), None).unwrap_err();
        assert!(error.to_string().contains("\"a=b=c\""), "{error}");
    }
}
