//! Programs that tests drive, and names that do not collide.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{env, process};

/// The path of a program such as `kcat`.
///
/// # Panics
///
/// When it is not in `PATH`; the message tells how to get it.
pub fn require_tool(name: &str) -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
        .unwrap_or_else(|| {
            panic!("{name} is missing: `cargo xtask test` installs it or says how to")
        })
}

/// `prefix` with a suffix that no other test has, for topics and groups on a cluster that tests share.
pub fn unique_name(prefix: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{prefix}-{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}
