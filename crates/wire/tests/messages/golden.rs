//! The bytes of each version stay as they are. Files of later versions are added beside these, and never edited.
//!
//! `TIDEGATE_BLESS=1 cargo test -p tidegate-wire golden` writes the files of this version: for a new kind, or while the
//! version is not published yet.

use std::fs;
use std::path::PathBuf;

use tidegate_wire::{Encoded, VERSION};

use crate::samples::{decode, encode, one_of_each};

const VALUE: &str = "\"value\": ";

/// All golden messages of this version, by file name.
pub(crate) fn all() -> Vec<(String, Encoded)> {
    let file = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().unwrap();
        (name, parse(&fs::read_to_string(entry.path()).unwrap()))
    };
    let mut all: Vec<_> = fs::read_dir(directory()).unwrap().map(|at| file(at.unwrap())).collect();
    all.sort_by(|one, other| one.0.cmp(&other.0));
    all
}

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("golden/v{VERSION}"))
}

/// A JSON object with a member in each line; the value's line has the very bytes.
fn print(encoded: &Encoded) -> String {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let key = serde_json::to_string(&encoded.key.as_deref().map(text)).unwrap();
    let headers: Vec<_> = encoded
        .headers
        .iter()
        .map(|(name, value)| format!("{name:?}: {:?}", text(value)))
        .collect();
    let value = encoded.value.as_deref().map_or_else(|| "null".to_owned(), text);
    format!("{{\n\"key\": {key},\n\"headers\": {{{}}},\n{VALUE}{value}\n}}\n", headers.join(", "))
}

fn parse(text: &str) -> Encoded {
    let file: serde_json::Value = serde_json::from_str(text).unwrap();
    let header = |(name, value): (&String, &serde_json::Value)| {
        (name.clone(), value.as_str().unwrap().as_bytes().to_vec())
    };
    let value = text.lines().find_map(|line| line.strip_prefix(VALUE)).unwrap();
    Encoded {
        key: file["key"].as_str().map(|key| key.as_bytes().to_vec()),
        headers: file["headers"].as_object().unwrap().iter().map(header).collect(),
        value: Some(value.as_bytes().to_vec()),
    }
}

#[test]
fn golden_bytes_are_what_is_written_and_what_is_read() {
    for (kind, message) in one_of_each() {
        let path = directory().join(format!("{kind}.json"));
        let printed = print(&encode(&message));
        if std::env::var_os("TIDEGATE_BLESS").is_some() {
            fs::write(&path, &printed).unwrap();
        }
        let golden = fs::read_to_string(&path).unwrap();
        assert_eq!(printed, golden, "{kind} is written differently from {}", path.display());
        assert_eq!(decode(&parse(&golden)).unwrap(), message, "{kind} is read differently");
    }
}

#[test]
fn golden_files_are_of_known_kinds_and_complete() {
    let expected: Vec<_> = one_of_each().keys().map(|kind| format!("{kind}.json")).collect();
    let mut expected = expected;
    expected.sort();
    let found: Vec<_> = all().into_iter().map(|(name, _)| name).collect();
    assert_eq!(found, expected);
}
