//! The one place that writes: progress for people to standard error, the result to standard output.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line tool talks to its user"
)]

/// Tells a person how it goes.
pub(crate) fn say(text: &str) {
    eprintln!("{text}");
}

/// Prints the result.
pub(crate) fn result(text: &str) {
    println!("{}", text.trim_end());
}
