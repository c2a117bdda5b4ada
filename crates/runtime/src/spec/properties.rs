//! What holds for any text, any value and any override: a spec, or faults that name keys, and no panic.

use std::fmt::Write as _;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::json;

use super::*;

const EXAMPLE: &str = include_str!("../../../../examples/group.yaml");

/// Takes a spec for what it is: usable in every respect, or with at least one fault that can be shown.
fn is_settled(outcome: Result<GroupSpec, Faults>) -> Result<(), TestCaseError> {
    match outcome {
        Ok(spec) => {
            prop_assert!(spec.validate().is_ok());
            let printed = GroupSpec::parse(&spec.print(), &BTreeMap::new());
            prop_assert_eq!(printed.unwrap(), spec);
        }
        Err(faults) => {
            prop_assert!(faults.iter().next().is_some());
            let mut shown = String::new();
            write!(shown, "{faults}").unwrap();
            prop_assert!(!shown.is_empty());
        }
    }
    Ok(())
}

fn parse(yaml: &str) -> Result<GroupSpec, Faults> {
    GroupSpec::parse(yaml, &BTreeMap::new())
}

/// One change of the example's text: what a slip of the hand does, and what a template does with a wrong value.
#[derive(Clone, Debug)]
enum Slip {
    Insert(Index, String),
    Delete(Index, usize),
    /// Writes a line once more somewhere else.
    MoveLine(Index, Index),
    /// Another value behind the colon of a line.
    Value(Index, String),
}

impl Slip {
    fn apply(self, text: &str) -> String {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let line = |at: Index| at.index(lines.len().max(1));
        match self {
            Self::Insert(at, new) => {
                let mut chars: Vec<char> = text.chars().collect();
                let at = at.index(chars.len() + 1);
                chars.splice(at..at, new.chars());
                return chars.into_iter().collect();
            }
            Self::Delete(at, count) => {
                let mut chars: Vec<char> = text.chars().collect();
                let at = at.index(chars.len() + 1);
                chars.drain(at..chars.len().min(at + count));
                return chars.into_iter().collect();
            }
            Self::MoveLine(from, to) => {
                let (from, to) = (line(from), line(to));
                if let Some(moved) = lines.get(from).cloned() {
                    lines.insert(to, moved);
                }
            }
            Self::Value(at, value) => {
                let at = line(at);
                if let Some(line) = lines.get_mut(at)
                    && let Some((key, _)) = line.split_once(':')
                {
                    *line = format!("{key}: {value}");
                }
            }
        }
        lines.join("\n")
    }
}

/// Values at the limits of what units and numbers can say, and pieces of YAML.
fn value() -> impl Strategy<Value = String> {
    let known = [
        "0",
        "-1",
        "1e400",
        ".nan",
        "18446744073709551616",
        "99999999999999999999GiB/s",
        "0.5",
        "1001‰",
        "18446744073709551615s",
        "0s",
        "1h",
        "null",
        "~",
        "[]",
        "{}",
        "*x",
        "&x [*x]",
        "!!binary x",
        "'",
        "|",
        "100%",
        "localhost:99999",
        "[::1]:9092",
        "..",
        "true",
        "0x10",
        "1_000",
        "2001-01-01",
        "<<: *x",
    ];
    let known = prop::sample::select(known.map(str::to_owned).to_vec());
    prop_oneof![3 => known, 1 => "[0-9]{1,22}(\\.[0-9]{1,3})? ?[a-zA-Z/%]{0,5}", 1 => ".{0,12}"]
}

fn slips() -> impl Strategy<Value = Vec<Slip>> {
    let at = any::<Index>;
    let piece = prop_oneof!["[\\[\\]{}:,'\"|>&*!%@`#\n\t -]{1,4}", ".{1,4}"];
    let slip = prop_oneof![
        (at(), piece).prop_map(|(at, new)| Slip::Insert(at, new)),
        (at(), 1..30_usize).prop_map(|(at, count)| Slip::Delete(at, count)),
        (at(), at()).prop_map(|(from, to)| Slip::MoveLine(from, to)),
        (at(), value()).prop_map(|(at, value)| Slip::Value(at, value)),
    ];
    vec(slip, 1..4)
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        value().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Value::from),
            btree_map(key(), inner, 0..3).prop_map(|fields| json!(fields)),
        ]
    })
}

/// A key as the spec has it, or some other.
fn key() -> impl Strategy<Value = String> {
    let known = "group mode cluster bootstrapServers security tls sasl topics name sink deadLetters start capacity bytesPerSecond \
                 packing consumers min max monitor window controller ownership lease consumer workers kind http";
    let known: Vec<String> = known.split_whitespace().map(str::to_owned).collect();
    prop_oneof![4 => prop::sample::select(known), 1 => ".{0,9}"]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn any_text_is_a_spec_or_faults(text in ".{0,200}") {
        is_settled(parse(&text))?;
    }

    #[test]
    fn any_text_of_pieces_of_yaml_is_a_spec_or_faults(
        yaml in "([a-z]{0,9}(: ?|\n *|- |\\[|\\{|\\}|[0-9]{0,3}))*"
    ) {
        is_settled(parse(&yaml))?;
    }

    #[test]
    fn the_example_with_slips_is_a_spec_or_faults(slips in slips()) {
        let text = slips.into_iter().fold(EXAMPLE.to_owned(), |text, slip| slip.apply(&text));
        is_settled(parse(&text))?;
    }

    #[test]
    fn any_value_is_a_spec_or_faults(value in json_value()) {
        is_settled(GroupSpec::from_value(value))?;
    }

    #[test]
    fn any_override_makes_a_spec_or_faults(
        field in vec(key(), 1..5).prop_map(|keys| keys.join(".")),
        value in json_value(),
    ) {
        let spec = parse(EXAMPLE).unwrap();
        is_settled(spec.with_override(&field, Some(value)))?;
    }

    #[test]
    fn any_environment_makes_a_spec_or_faults(
        name in prop::sample::select(edit::variables(schema()).into_keys().collect::<Vec<_>>()),
        value in value(),
    ) {
        is_settled(GroupSpec::parse(EXAMPLE, &[(name, value)].into()))?;
    }
}

/// Lists and maps in each other, far deeper than any spec: the reader must not run out of stack.
#[test]
fn a_spec_that_is_nested_without_end_has_faults() {
    for (open, close) in [("[", "]"), ("{a: ", "}"), ("- ", ""), ("topics: [", "]")] {
        let text = format!("{}{}", open.repeat(50_000), close.repeat(50_000));
        assert!(parse(&text).is_err(), "{open}");
    }
}

/// Aliases of aliases: a few lines that stand for a billion values.
#[test]
fn a_spec_of_aliases_of_aliases_has_faults() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let alias = format!("*a{}", level - 1);
        writeln!(text, "a{level}: &a{level} [{}]", [alias.as_str(); 10].join(", ")).unwrap();
    }
    assert!(parse(&text).is_err());
}
