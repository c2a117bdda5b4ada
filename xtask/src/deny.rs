//! `cargo xtask deny`: licenses, bans and sources of all dependencies, by cargo-deny.
//!
//! The tool is built once into the user's cache, at a pinned version. `advisories` is left out: it needs a database
//! from the network and fails on days when nothing in this repository has changed.

use std::env;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::run::{self as shell, cargo, program};

/// Releases add checks and change the form of `deny.toml`; change the number together with that file.
const VERSION: &str = "0.20.2";

/// Installs the tool if need be and checks the dependencies.
pub(crate) fn run() -> Result<()> {
    let root = cache()?.join(format!("tools/cargo-deny-{VERSION}"));
    let tool = root.join("bin/cargo-deny");
    if !tool.is_file() {
        let mut install = cargo();
        install
            .args(["install", "cargo-deny", "--locked", "--version", VERSION, "--root"])
            .arg(root);
        // It runs for a second: built quickly is worth more than built well (77 s instead of several minutes).
        install.env("CARGO_PROFILE_RELEASE_LTO", "off").env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1");
        shell::run(install.env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16"))?;
    }
    shell::run(cargo().args(["fetch", "--quiet", "--locked"]))?;
    let tool = tool.to_str().context("the path of the cache directory is no text")?;
    let mut check = program(tool);
    check.args(["--offline", "--locked", "check", "--hide-inclusion-graph"]);
    shell::run(check.args(["bans", "licenses", "sources"]))
}

/// The user's cache directory of this project: it outlives a checkout, so a fresh clone need not build tools again.
fn cache() -> Result<PathBuf> {
    let cache = env::var_os("XDG_CACHE_HOME").filter(|path| !path.is_empty()).map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache")));
    Ok(cache.context("neither XDG_CACHE_HOME nor HOME is set")?.join("tidegate"))
}
