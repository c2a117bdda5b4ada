//! Tells the program the commit it is built from; `unknown` outside of a repository.

use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let commit = commit().unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=TIDEGATE_COMMIT={commit}");
}

/// The commit that `HEAD` names, shortened. Reads git's files itself, so that git need not be installed, and asks to
/// run again only when one of them changes.
fn commit() -> Option<String> {
    let git = git_directory(Path::new(&env::var_os("CARGO_MANIFEST_DIR")?))?;
    let head = watched(&git.join("HEAD"))?;
    // It grows with every commit, also when the branch was packed away and so has no file of its own to watch.
    let _reflog = watched(&git.join("logs/HEAD"));
    let Some(reference) = head.trim().strip_prefix("ref: ") else { return Some(short(&head)) };
    let common = fs::read_to_string(git.join("commondir"));
    let common = common.map_or_else(|_| git.clone(), |path| git.join(path.trim()));
    watched(&common.join(reference)).or_else(|| packed(&common, reference)).map(|id| short(&id))
}

/// `.git` of the work tree, or the directory that a file of this name points to.
fn git_directory(from: &Path) -> Option<PathBuf> {
    let git = from.ancestors().map(|folder| folder.join(".git")).find(|path| path.exists())?;
    if git.is_dir() {
        return Some(git);
    }
    let text = fs::read_to_string(&git).ok()?;
    Some(git.parent()?.join(text.trim().strip_prefix("gitdir: ")?))
}

fn packed(git: &Path, reference: &str) -> Option<String> {
    let refs = watched(&git.join("packed-refs"))?;
    let line = refs.lines().find(|line| line.ends_with(reference))?;
    line.split(' ').next().map(str::to_owned)
}

fn watched(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    println!("cargo::rerun-if-changed={}", path.display());
    Some(text)
}

fn short(id: &str) -> String {
    id.trim().chars().take(12).collect()
}
