//! Imports stand in three groups with a blank line between them: the standard library, other crates (those of this
//! workspace among them), this crate.
//!
//! `rustfmt` can sort them so, but its `group_imports = "StdExternalCrate"` is not stable. Re-exports (`pub use`) may stand in any order.

use std::collections::BTreeSet;

use super::File;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    Standard,
    External,
    Ours,
}

/// Places where a group is mixed with another, split in two or before its turn.
pub(super) fn problems(file: &File) -> Vec<String> {
    let modules = declared_modules(&file.text);
    let mut problems = Vec::new();
    // The group of the import before, and whether a blank line came since.
    let mut before: Option<Group> = None;
    let mut blank = false;
    let mut inside = false;
    for (index, line) in file.text.lines().enumerate() {
        let code = line.trim();
        if inside {
            inside = !code.ends_with(';');
        } else if let Some(path) = code.strip_prefix("use ") {
            let group = group(path, &modules);
            if let Some(what) = before.and_then(|before| fault(before, group, blank)) {
                problems.push(file.problem(index + 1, what));
            }
            before = Some(group);
            blank = false;
            inside = !code.ends_with(';');
        } else if code.is_empty() {
            blank = true;
        } else if !code.starts_with("#[") && !code.starts_with("//") {
            before = None;
            blank = false;
        }
    }
    problems
}

fn fault(before: Group, group: Group, blank: bool) -> Option<&'static str> {
    match (before == group, blank) {
        (true, true) => Some("a blank line inside a group of imports"),
        (false, false) => Some("no blank line between std, external and own imports"),
        (false, true) if group < before => Some("imports are in the order std, external, own"),
        _ => None,
    }
}

fn group(path: &str, modules: &BTreeSet<String>) -> Group {
    let path = path.trim_start_matches("::");
    let first = path.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
    match first {
        "std" | "core" | "alloc" => Group::Standard,
        "crate" | "self" | "super" => Group::Ours,
        _ if modules.contains(first) => Group::Ours,
        // An enum of the file itself, as in `use State::*`.
        _ if first.starts_with(char::is_uppercase) => Group::Ours,
        _ => Group::External,
    }
}

fn declared_modules(text: &str) -> BTreeSet<String> {
    let declaration = |line: &str| {
        let line = line.trim().trim_start_matches("pub(crate) ").trim_start_matches("pub ");
        let name = line.strip_prefix("mod ")?;
        Some(name.trim_end_matches([';', ' ', '{']).to_owned())
    };
    text.lines().filter_map(declaration).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        problems(&File { path: "a.rs".to_owned(), text: text.to_owned() })
    }

    #[test]
    fn three_groups_in_order_are_well() {
        let text = "use std::fs;\nuse std::{\n    env,\n    io,\n};\n\nuse anyhow::Result;\nuse tidegate_core::Rate;\n\nuse crate::run;\n";
        assert!(found(text).is_empty());
    }

    #[test]
    fn a_module_of_the_file_and_its_enums_are_ours() {
        assert!(found("mod ports;\n\nuse crate::a;\nuse ports::Port;\nuse State::*;\n").is_empty());
    }

    #[test]
    fn mixed_split_and_misplaced_groups_are_problems() {
        assert_eq!(found("use std::fs;\nuse anyhow::Result;\n").len(), 1);
        assert_eq!(found("use std::fs;\n\nuse std::env;\n").len(), 1);
        assert_eq!(found("use anyhow::Result;\n\nuse std::env;\n").len(), 1);
    }

    #[test]
    fn imports_of_different_places_are_not_compared() {
        assert!(found("use crate::a;\n\nfn f() {\n    use std::fs;\n}\n").is_empty());
    }
}
