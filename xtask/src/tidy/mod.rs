//! `cargo xtask tidy`: rules of this repository that no other tool knows. A rule is a pure function from text to
//! problems, tested beside it; this module finds the files, applies the rules and shows what they found.

mod changelog;
mod imports;
mod layers;
mod links;
mod source;

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, bail};

use crate::docs;
use crate::run::{metadata, output, program, root};

/// A file of the repository.
struct File {
    /// Relative to the root, with `/` between its parts.
    path: String,
    text: String,
}

impl File {
    fn has_extension(&self, extension: &str) -> bool {
        self.path.rsplit_once('.').is_some_and(|(_, found)| found == extension)
    }

    /// A problem at a line, counted from 1.
    fn problem(&self, line: usize, what: &str) -> String {
        format!("{}:{line}: {what}", self.path)
    }
}

/// Fails, after having listed them, when there are problems.
pub(crate) fn run() -> Result<()> {
    let paths = paths()?;
    let mut problems = layers::problems(&metadata()?)?;
    problems.extend(misplaced_settings(&paths));
    let ratchet = read("xtask/tidy-ratchet.txt")?;
    let mut sizes = BTreeMap::new();
    for path in &paths {
        // What is no text has no lines to be tidy about.
        let Ok(text) = fs::read_to_string(root().join(path)) else { continue };
        let file = File { path: path.clone(), text };
        problems.extend(source::problems(&file));
        if file.has_extension("rs") {
            problems.extend(imports::problems(&file));
            sizes.insert(path.clone(), source::size(&file));
        }
        if file.has_extension("md") {
            problems.extend(links::problems(
                &file,
                &|path| fs::read_to_string(root().join(path)).ok(),
                &exists,
            ));
        }
        if path == "CHANGELOG.md" {
            problems.extend(changelog::problems(&file));
        }
    }
    problems.extend(source::ratchet_problems(&sizes, &ratchet));
    problems.extend(docs::problems()?);
    for problem in &problems {
        eprintln!("{problem}");
    }
    if !problems.is_empty() {
        bail!("{} places are not tidy", problems.len());
    }
    eprintln!("{} files are tidy", paths.len());
    Ok(())
}

/// All files that are, or will be, under version control.
fn paths() -> Result<Vec<String>> {
    let mut git = program("git");
    git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let listed = output(&mut git)?;
    let present = listed.split('\0').filter(|path| root().join(path).is_file());
    let mut paths: Vec<String> = present.map(str::to_owned).collect();
    paths.sort();
    paths.dedup();
    Ok(paths)
}

/// A `clippy.toml` inside a crate replaces that of the root, it does not add to it.
fn misplaced_settings(paths: &[String]) -> Vec<String> {
    let inside = |path: &&String| path.ends_with("/clippy.toml") || path.ends_with(".clippy.toml");
    let problem = |path| format!("{path}: this hides the settings of the root's clippy.toml");
    paths.iter().filter(inside).map(problem).collect()
}

fn exists(path: &str) -> bool {
    root().join(path).exists()
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(root().join(path)).with_context(|| format!("failed to read {path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_roots_clippy_settings_are_in_place() {
        let paths = ["clippy.toml", "crates/core/clippy.toml", "crates/.clippy.toml"];
        let problems = misplaced_settings(&paths.map(str::to_owned));
        assert_eq!(problems.len(), 2);
    }
}
