//! The pages under `docs/` that are generated from code: written by `cargo xtask docs`, compared by `tidy`.
//!
//! The code that they describe renders them: the hidden sub-command `tidegate generate-docs DIRECTORY`.

use std::path::{Path, PathBuf};
use std::{fs, io};

use anyhow::{Context, Result};

use crate::run::{cargo, program, root, run, target_directory};

/// What must be rendered, as paths below `docs/`; a directory stands for all that is in it. While this is empty nothing
/// is generated and nothing compared.
const PAGES: &[&str] = &["cli.md", "config.md", "errors.md", "metrics.md", "schemas"];

/// Writes the generated pages.
pub(crate) fn write() -> Result<()> {
    render(&root().join("docs"))
}

/// Says where the pages in the repository are not what the code renders.
pub(crate) fn problems() -> Result<Vec<String>> {
    if PAGES.is_empty() {
        return Ok(Vec::new());
    }
    let fresh = root().join("target/xtask/docs");
    match fs::remove_dir_all(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => fs::create_dir_all(&fresh)?,
    }
    render(&fresh)?;
    let mut problems = Vec::new();
    for page in PAGES {
        if !fresh.join(page).exists() {
            problems.push(format!("docs/{page}: `tidegate generate-docs` does not render it"));
        }
        for path in stale(&fresh, &root().join("docs"), page)? {
            problems
                .push(format!("docs/{}: not as rendered, run `cargo xtask docs`", path.display()));
        }
    }
    Ok(problems)
}

/// Built as for the tests, of which it is one: by itself the program would have dependencies with other features, and all of them
/// would be built twice.
fn render(directory: &Path) -> Result<()> {
    run(cargo().args(["test", "--quiet", "--workspace", "--no-run"]))?;
    let tidegate = format!("{}/debug/tidegate", target_directory()?);
    run(program(&tidegate).arg("generate-docs").arg(directory))
}

/// The paths at or below `page` whose content differs between the two directories, or which only one of them has.
fn stale(fresh: &Path, committed: &Path, page: &str) -> Result<Vec<PathBuf>> {
    let mut paths = files(fresh, Path::new(page))?;
    paths.extend(files(committed, Path::new(page))?);
    paths.sort();
    paths.dedup();
    paths.retain(|path| fs::read(fresh.join(path)).ok() != fs::read(committed.join(path)).ok());
    Ok(paths)
}

/// The files at or below `path`, which is relative to `base`, as the paths are that are returned.
fn files(base: &Path, path: &Path) -> Result<Vec<PathBuf>> {
    let full = base.join(path);
    if full.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    if full.is_dir() {
        for entry in
            fs::read_dir(&full).with_context(|| format!("failed to list {}", full.display()))?
        {
            found.extend(files(base, &path.join(entry?.file_name()))?);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_missing_and_left_over_pages_are_stale() {
        let base = root().join("target/xtask/test-docs");
        let (fresh, committed) = (base.join("fresh"), base.join("committed"));
        for directory in [&fresh, &committed] {
            fs::create_dir_all(directory.join("pages")).expect("target is writable");
            fs::write(directory.join("pages/same"), "same").expect("target is writable");
        }
        fs::write(fresh.join("pages/changed"), "new").expect("target is writable");
        fs::write(committed.join("pages/changed"), "old").expect("target is writable");
        fs::write(fresh.join("pages/missing"), "new").expect("target is writable");
        fs::write(committed.join("pages/left-over"), "old").expect("target is writable");
        let stale = stale(&fresh, &committed, "pages").expect("both can be read");
        let expected = ["pages/changed", "pages/left-over", "pages/missing"].map(PathBuf::from);
        assert_eq!(stale, expected);
    }
}
