//! Starting other programs from the repository's root.

use std::env;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// The repository's root.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the root")
}

/// A program to be run in the root.
pub(crate) fn program(name: &str) -> Command {
    let mut command = Command::new(name);
    command.current_dir(root());
    command
}

/// Cargo, as if the user had called it: without what the cargo that started this program put into the environment.
///
/// Build scripts that watch such a variable would otherwise run again whenever cargo is called the other way.
pub(crate) fn cargo() -> Command {
    let mut command = program("cargo");
    for (name, _) in env::vars_os() {
        let set_by_cargo = name.to_str().is_some_and(|name| {
            name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
        });
        if set_by_cargo {
            command.env_remove(name);
        }
    }
    command
}

/// Prints the command, runs it and fails if it fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let line = show(command);
    eprintln!("\n$ {line}");
    let status = command.status().with_context(|| format!("failed to start {line}"))?;
    if !status.success() {
        bail!("{line} failed ({status})");
    }
    Ok(())
}

/// The standard output of a command.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let line = show(command);
    let output = command.output().with_context(|| format!("failed to start {line}"))?;
    if !output.status.success() {
        bail!(
            "{line} failed ({}): {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    String::from_utf8(output.stdout)
        .with_context(|| format!("{line} printed something that is no text"))
}

/// What cargo knows about the packages of this workspace. Fails when Cargo.lock would have to change.
pub(crate) fn metadata() -> Result<Value> {
    let text =
        output(cargo().args(["metadata", "--locked", "--no-deps", "--format-version", "1"]))?;
    serde_json::from_str(&text).context("failed to read the output of cargo metadata")
}

/// Where cargo builds.
pub(crate) fn target_directory() -> Result<String> {
    let metadata = metadata()?;
    let directory = metadata["target_directory"].as_str().context("no target directory")?;
    Ok(directory.to_owned())
}

/// The packages in the output of [`metadata`].
pub(crate) fn packages(metadata: &Value) -> Result<&[Value]> {
    let packages = metadata["packages"].as_array().context("cargo metadata names no packages")?;
    Ok(packages)
}

fn show(command: &Command) -> String {
    let set = command.get_envs().filter_map(|(name, value)| Some((name, value?)));
    let set = set.map(|(name, value)| format!("{}='{}'", name.display(), value.display()));
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words = words.map(|word| word.display().to_string());
    set.chain(words).collect::<Vec<_>>().join(" ")
}
