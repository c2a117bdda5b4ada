//! The form of CHANGELOG.md: Keep a Changelog, with full sentences that name their issues.

use super::File;

const SECTIONS: [&str; 6] = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"];

/// Places where the changelog is not in its form.
pub(super) fn problems(file: &File) -> Vec<String> {
    let mut problems = Vec::new();
    let mut releases = 0;
    if !file.text.starts_with("# Changelog\n") {
        problems.push(file.problem(1, "the title is `# Changelog`"));
    }
    for (number, line) in lines_and_entries(&file.text) {
        let fault = if let Some(section) = line.strip_prefix("### ") {
            (!SECTIONS.contains(&section)).then_some("no such section in Keep a Changelog")
        } else if let Some(release) = line.strip_prefix("## ") {
            releases += 1;
            release_fault(release, releases == 1)
        } else if let Some(entry) = line.strip_prefix("- ") {
            entry_fault(entry)
        } else {
            None
        };
        problems.extend(fault.map(|what| file.problem(number, what)));
    }
    if releases == 0 {
        problems.push(file.problem(1, "there is no `## [Unreleased]`"));
    }
    problems
}

/// The lines, counted from 1, those of one entry joined.
fn lines_and_entries(text: &str) -> Vec<(usize, String)> {
    let mut joined: Vec<(usize, String)> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        match joined.last_mut() {
            Some((_, entry)) if line.starts_with("  ") && entry.starts_with("- ") => {
                entry.push(' ');
                entry.push_str(line.trim());
            }
            _ => joined.push((index + 1, line.to_owned())),
        }
    }
    joined
}

/// `[Unreleased]` comes first, then `[1.2.3] - 2026-01-31`.
fn release_fault(release: &str, first: bool) -> Option<&'static str> {
    if first {
        return (release != "[Unreleased]").then_some("the first release is `## [Unreleased]`");
    }
    let shape: String = release.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    let is_dated = shape.starts_with('[') && shape.ends_with("] - 0000-00-00");
    (!is_dated).then_some("a release is `## [1.2.3] - 2026-01-31`")
}

fn entry_fault(entry: &str) -> Option<&'static str> {
    let is_sentence = entry.starts_with(|c: char| c.is_uppercase() || c == '`');
    let issues = entry.rsplit_once(" (#").map_or("", |(_, issues)| issues);
    let is_issue = issues.starts_with(|c: char| c.is_ascii_digit()) && issues.ends_with(").");
    (!is_issue || !is_sentence)
        .then_some("an entry is a sentence that ends in its issues: `(#12).`")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(body: &str) -> usize {
        let text = format!("# Changelog\n\n## [Unreleased]\n{body}");
        problems(&File { path: "CHANGELOG.md".to_owned(), text }).len()
    }

    #[test]
    fn a_changelog_in_its_form_is_well() {
        assert_eq!(
            found(
                "\nWhat matters.\n\n### Added\n\n- A thing that\n  helps (#3).\n\n## [0.1.0] - 2026-01-31\n"
            ),
            0
        );
    }

    #[test]
    fn entries_are_sentences_with_their_issue() {
        assert_eq!(found("- A thing.\n"), 1);
        assert_eq!(found("- a thing (#3).\n"), 1);
        assert_eq!(found("- A thing (#3)\n"), 1);
    }

    #[test]
    fn sections_and_releases_have_their_names() {
        assert_eq!(found("### News\n"), 1);
        assert_eq!(found("## 0.1\n"), 1);
    }
}
