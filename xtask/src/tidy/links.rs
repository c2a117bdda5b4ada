//! Relative links in Markdown lead to files, and to headings, that exist.

use std::path::Path;

use super::File;

/// Links that lead nowhere. `read` gives the text of a file and `exists` tells of files and directories; both take paths
/// relative to the root.
pub(super) fn problems(
    file: &File,
    read: &dyn Fn(&str) -> Option<String>,
    exists: &dyn Fn(&str) -> bool,
) -> Vec<String> {
    let mut problems = Vec::new();
    for (line, target) in links(&file.text) {
        let is_absolute = target.contains("://") || target.starts_with("mailto:");
        if is_absolute {
            continue;
        }
        let (path, anchor) = target.split_once('#').unwrap_or((&target, ""));
        let path = if path.is_empty() { file.path.clone() } else { resolve(&file.path, path) };
        if !exists(&path) {
            problems.push(file.problem(line, &format!("the link leads nowhere: {target}")));
        } else if !anchor.is_empty() && is_markdown(&path) {
            let has_heading =
                read(&path).is_some_and(|text| anchors(&text).any(|found| found == anchor));
            if !has_heading {
                problems.push(file.problem(line, &format!("no such heading: {target}")));
            }
        }
    }
    problems
}

/// The lines of a text that are not in a fenced block of code, counted from 1.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let is_fence = line.trim_start().starts_with("```");
        fenced ^= is_fence;
        (!fenced && !is_fence).then_some((index + 1, line))
    })
}

/// The targets of `[text](target)`, each with its line.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut links = Vec::new();
    for (number, line) in prose(text) {
        // Every other part stands between backticks.
        for part in line.split('`').step_by(2) {
            for rest in part.split("](").skip(1) {
                let target = rest.split([')', ' ']).next().unwrap_or_default();
                links.push((number, target.to_owned()));
            }
        }
    }
    links
}

/// The anchors that headings get: lower case, spaces become hyphens, punctuation goes.
fn anchors(text: &str) -> impl Iterator<Item = String> {
    prose(text).filter(|(_, line)| line.starts_with('#')).map(|(_, line)| {
        let heading = line.trim_start_matches('#').trim().to_lowercase();
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    })
}

fn is_markdown(path: &str) -> bool {
    Path::new(path).extension().is_some_and(|extension| extension == "md")
}

/// The path from the root of a link in the file `from`.
fn resolve(from: &str, link: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in link.split('/') {
        match part {
            "." | "" => {}
            ".." => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let file = File { path: "docs/adr/a.md".to_owned(), text: text.to_owned() };
        let read =
            |path: &str| (path == "README.md").then(|| "# Try it\n## What's `new`?\n".to_owned());
        problems(&file, &read, &|path| ["README.md", "docs/adr/a.md", "docs"].contains(&path))
    }

    #[test]
    fn links_to_what_exists_are_well() {
        assert!(
            found("See [a](../../README.md), [b](a.md), [c](../), [d](https://example.org/x).")
                .is_empty()
        );
        assert!(found("[a](../../README.md#try-it) [b](../../README.md#whats-new)").is_empty());
    }

    #[test]
    fn links_to_nothing_are_problems() {
        assert_eq!(found("[a](b.md)"), ["docs/adr/a.md:1: the link leads nowhere: b.md"]);
        assert_eq!(found("\n[a](../../README.md#no)").len(), 1);
    }

    #[test]
    fn code_holds_no_links() {
        assert!(found("```\n[a](b.md)\n```\nand `[a](b.md)`").is_empty());
    }
}
