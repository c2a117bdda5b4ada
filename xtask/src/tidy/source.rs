//! Rules for single source files: their size, their first line, words that must not be in them.

use std::collections::BTreeMap;

use super::File;

/// A file that is longer is hard to hold in one's head.
const LONGEST: usize = 500;

/// Words that show that a text leans on something outside the repository. Written in two parts, so that this file
/// passes its own rule.
const FOREIGN: [&str; 6] = [
    concat!("../sha", "red"),
    concat!("DESIGN", " section"),
    concat!("DESIGN", ".md"),
    concat!("STYLE", ".md"),
    concat!("issues ", "show"),
    concat!("/wo", "rk/"),
];

/// Marks of unfinished work, which must name an issue on the same line.
const MARKS: [&str; 2] = [concat!("TO", "DO"), concat!("FIX", "ME")];

/// Problems in any text file.
pub(super) fn problems(file: &File) -> Vec<String> {
    let mut problems = Vec::new();
    let is_source = !file.has_extension("md") && !file.has_extension("lock");
    for (index, line) in file.text.lines().enumerate() {
        for word in FOREIGN.iter().filter(|word| line.contains(**word)) {
            problems.push(file.problem(index + 1, &format!("`{word}` is outside the repository")));
        }
        let is_marked = MARKS.iter().any(|mark| has_word(line, mark));
        if is_source && is_marked && !names_an_issue(line) {
            problems
                .push(file.problem(index + 1, "unfinished work without the number of an issue"));
        }
    }
    // Tests in a file of their own are described by the module they test.
    if file.has_extension("rs") && !file.path.ends_with("/tests.rs") && !has_module_doc(&file.text)
    {
        problems
            .push(file.problem(1, "a module starts with `//!`: what it does and why it exists"));
    }
    problems
}

/// The number of lines without tests.
pub(super) fn size(file: &File) -> usize {
    let is_test = file.path.contains("/tests/") || file.path.ends_with("/tests.rs");
    if is_test { 0 } else { without_tests(&file.text) }
}

/// Files that are too long, unless the ratchet allows it, and entries of the ratchet that could be smaller.
pub(super) fn ratchet_problems(sizes: &BTreeMap<String, usize>, ratchet: &str) -> Vec<String> {
    let mut allowed = BTreeMap::new();
    let mut problems = Vec::new();
    for line in ratchet.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        let entry = line.rsplit_once(' ');
        match entry.and_then(|(path, number)| Some((path, number.parse::<usize>().ok()?))) {
            Some((path, number)) => drop(allowed.insert(path, number)),
            None => problems.push(format!("ratchet: `{line}` is not `path lines`")),
        }
    }
    for (path, size) in sizes {
        let limit = allowed.remove(path.as_str());
        if *size > limit.unwrap_or(LONGEST) {
            let limit = limit.unwrap_or(LONGEST);
            problems
                .push(format!("{path}: {size} lines without tests, at most {limit} are allowed"));
        } else if limit.is_some_and(|limit| limit > *size) {
            problems
                .push(format!("ratchet: {path} has {size} lines now, lower or remove its entry"));
        }
    }
    problems.extend(allowed.keys().map(|path| format!("ratchet: {path} does not exist")));
    problems
}

fn has_module_doc(text: &str) -> bool {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    lines.find(|line| !line.starts_with("#![")).is_some_and(|line| line.starts_with("//!"))
}

/// Counts the lines outside of modules that are compiled for tests only.
fn without_tests(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    let mut count = 0;
    let mut index = 0;
    while index < lines.len() {
        if let Some(end) = end_of_test_module(&lines, index) {
            index = end;
        } else {
            count += 1;
        }
        index += 1;
    }
    count
}

/// The last line of the test module whose `#[cfg(test)]` is at `start`. Formatted code closes it at its own indentation.
fn end_of_test_module(lines: &[&str], start: usize) -> Option<usize> {
    let attribute = lines[start];
    if attribute.trim() != "#[cfg(test)]" {
        return None;
    }
    let indentation = &attribute[..attribute.len() - attribute.trim_start().len()];
    let mut after = lines.iter().enumerate().skip(start + 1);
    let (opening, module) = after.find(|(_, line)| !line.trim_start().starts_with("#["))?;
    let is_inline = module.trim_start().starts_with("mod ") && module.ends_with('{');
    let closing = format!("{indentation}}}");
    let mut body = lines.iter().enumerate().skip(opening);
    if is_inline { Some(body.find(|(_, line)| **line == closing)?.0) } else { None }
}

fn has_word(line: &str, word: &str) -> bool {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|found| found == word)
}

fn names_an_issue(line: &str) -> bool {
    line.split('#').skip(1).any(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rust(text: &str) -> File {
        File { path: "crates/a/src/b.rs".to_owned(), text: text.to_owned() }
    }

    #[test]
    fn a_module_without_doc_is_a_problem() {
        assert_eq!(problems(&rust("use std::fs;\n")).len(), 1);
        assert!(problems(&rust("#![no_std]\n\n//! Decides.\nuse core::fmt;\n")).is_empty());
    }

    #[test]
    fn unfinished_work_needs_an_issue() {
        let mark = MARKS[0];
        assert_eq!(problems(&rust(&format!("//! Doc.\n// {mark}: later\n"))).len(), 1);
        assert!(problems(&rust(&format!("//! Doc.\n// {mark}(#12): later\n"))).is_empty());
        assert!(problems(&rust(&format!("//! Doc.\n// {mark}S are elsewhere\n"))).is_empty());
    }

    #[test]
    fn a_text_that_leans_on_other_places_is_a_problem() {
        for word in FOREIGN {
            assert_eq!(problems(&rust(&format!("//! See {word} for more.\n"))).len(), 1, "{word}");
        }
    }

    #[test]
    fn lines_of_test_modules_do_not_count() {
        let text =
            "//! Doc.\nfn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {\n    }\n}\nfn c() {}\n";
        assert_eq!(size(&rust(text)), 3);
        let elsewhere = "//! Doc.\n#[cfg(test)]\nmod tests;\nfn c() {}\n";
        assert_eq!(size(&rust(elsewhere)), 4);
    }

    #[test]
    fn a_file_may_be_as_long_as_the_ratchet_says_and_the_ratchet_only_turns_one_way() {
        let sizes = |size| BTreeMap::from([("a.rs".to_owned(), size)]);
        assert!(ratchet_problems(&sizes(LONGEST), "").is_empty());
        assert_eq!(ratchet_problems(&sizes(LONGEST + 1), "").len(), 1);
        assert!(ratchet_problems(&sizes(600), "# comment\na.rs 600\n").is_empty());
        assert_eq!(ratchet_problems(&sizes(601), "a.rs 600").len(), 1);
        assert_eq!(ratchet_problems(&sizes(599), "a.rs 600").len(), 1);
        assert_eq!(ratchet_problems(&sizes(1), "gone.rs 600").len(), 1);
    }
}
