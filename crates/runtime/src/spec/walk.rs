//! Walks a JSON value along its schema and cuts off what does not fit, with a fault for each cut.
//!
//! A derived deserializer stops at the first unknown key; this collects them all. It knows as much of JSON Schema as
//! the generated schema uses: `type`, `properties`, `additionalProperties`, `required`, `items`, `const`,
//! `oneOf`, `anyOf`, `minimum`, `maximum`, and `format` for the units of [`super::units`].

use serde_json::{Map, Value};

use super::{Fault, units};

/// Marks what is passed on to Kubernetes as it is; its API server knows the same mark.
const FOREIGN: &str = "x-kubernetes-preserve-unknown-fields";

/// What a walk found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The faults.
    pub faults: Vec<Fault>,
    /// Paths of what was cut off or was missing: its default stands there now.
    pub cuts: Vec<String>,
}

/// Cuts what does not fit out of a value. Returns false when the value itself must go.
pub(super) fn prune(value: &mut Value, schema: &Value, path: &str, found: &mut Found) -> bool {
    if is_choice(schema) {
        return choose(value, &alternatives(schema), path, found);
    }
    let fits = has_type(value, schema);
    match value {
        // Somebody else's: what fits into it is theirs to say.
        Value::Object(_) if fits && schema[FOREIGN] == true => true,
        Value::Object(map) if fits && schema["additionalProperties"].is_object() => {
            let entry = &schema["additionalProperties"];
            map.retain(|key, value| prune(value, entry, &join(path, key), found));
            true
        }
        Value::Object(map) if fits => prune_map(map, schema, path, found),
        Value::Array(items) if fits => {
            prune_list(items, &schema["items"], path, found);
            true
        }
        leaf => found.accepts(path, check_leaf(leaf, schema)),
    }
}

impl Found {
    /// Notes the fault of a value that is to be cut off; true when there is none.
    fn accepts(&mut self, path: &str, outcome: Result<(), String>) -> bool {
        let fault = outcome.err().map(|message| Fault::new(path, message));
        let accepted = fault.is_none();
        self.cuts.extend(fault.iter().map(|fault| fault.path.clone()));
        self.faults.extend(fault);
        accepted
    }
}

/// The path of a key below another.
pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// The alternatives of a choice, those of choices among them included; else the schema itself.
pub(super) fn alternatives(schema: &Value) -> Vec<&Value> {
    match ["oneOf", "anyOf"].iter().find_map(|key| schema[*key].as_array()) {
        Some(branches) => branches.iter().flat_map(alternatives).collect(),
        None => vec![schema],
    }
}

/// True when a schema is made of alternatives.
pub(super) fn is_choice(schema: &Value) -> bool {
    !schema["oneOf"].is_null() || !schema["anyOf"].is_null()
}

/// The candidate that a mistyped name most likely means: equal but for case and separators, or at most two letters
/// away.
pub(super) fn closest<'a>(
    name: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    let wanted = plain(name);
    candidates
        .map(|candidate| (distance(&wanted, &plain(candidate)), candidate))
        .filter(|(distance, candidate)| *distance <= 2 && *distance < candidate.len())
        .min()
        .map(|(_, candidate)| candidate)
}

fn prune_map(map: &mut Map<String, Value>, schema: &Value, path: &str, found: &mut Found) -> bool {
    let nothing = Map::new();
    let properties = schema["properties"].as_object().unwrap_or(&nothing);
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    for key in required.clone().filter(|key| is_absent(map, key)) {
        found.accepts(&join(path, key), Err("is required".to_owned()));
    }
    map.retain(|key, value| match properties.get(key) {
        // A key without a value, as a section whose content is commented out, is a key left out.
        Some(_) if value.is_null() => false,
        Some(schema) => prune(value, schema, &join(path, key), found),
        None => {
            let hint = hint(key, properties.keys().map(String::as_str));
            found.faults.push(Fault::new(join(path, key), format!("unknown key{hint}")));
            false
        }
    });
    required.into_iter().all(|key| map.contains_key(key))
}

fn is_absent(map: &Map<String, Value>, key: &str) -> bool {
    map.get(key).is_none_or(Value::is_null)
}

/// An item that must go leaves an empty map in its place, so that those after it keep their numbers.
fn prune_list(items: &mut [Value], schema: &Value, path: &str, found: &mut Found) {
    for (index, item) in items.iter_mut().enumerate() {
        let path = format!("{path}[{index}]");
        if !prune(item, schema, &path, found) {
            *item = Value::Object(Map::new());
            found.cuts.push(path);
        }
    }
}

/// Takes the alternative that fits best: a word of an enumeration, else the branch with the fewest faults.
fn choose(value: &mut Value, branches: &[&Value], path: &str, found: &mut Found) -> bool {
    let words: Vec<&str> = branches.iter().filter_map(|branch| branch["const"].as_str()).collect();
    if let (Value::String(text), false) = (&*value, words.is_empty()) {
        return found.accepts(path, check_word(text, &words));
    }
    let tries = branches.iter().map(|branch| {
        let (mut pruned, mut inside) = (value.clone(), Found::default());
        let kept = prune(&mut pruned, branch, path, &mut inside);
        (!has_type(value, branch), inside, kept, pruned)
    });
    let best = tries.min_by_key(|(foreign, inside, ..)| (*foreign, inside.faults.len()));
    let Some((_, inside, kept, pruned)) = best else { return true };
    found.faults.extend(inside.faults);
    found.cuts.extend(inside.cuts);
    *value = pruned;
    kept
}

fn check_leaf(leaf: &Value, schema: &Value) -> Result<(), String> {
    if let (Some(format), false) = (schema["format"].as_str(), is_compound(leaf)) {
        units::check(format, &leaf.as_str().map_or_else(|| leaf.to_string(), str::to_owned))?;
    }
    if !has_type(leaf, schema) {
        return Err(format!("expected {}, found {}", expected(schema), kind(leaf)));
    }
    let bound = |key: &str| schema[key].as_f64();
    match (leaf.as_f64(), bound("minimum"), bound("maximum")) {
        (Some(number), Some(low), _) if number < low => {
            Err(format!("expected at least {low}, found {leaf}"))
        }
        (Some(number), _, Some(high)) if number > high => {
            Err(format!("expected at most {high}, found {leaf}"))
        }
        _ => Ok(()),
    }
}

fn check_word(text: &str, words: &[&str]) -> Result<(), String> {
    if words.contains(&text) {
        return Ok(());
    }
    let hint = hint(text, words.iter().copied());
    Err(format!("expected one of {}, found {text:?}{hint}", words.join(", ")))
}

fn hint<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> String {
    closest(name, candidates).map_or_else(String::new, |close| format!(", did you mean {close}?"))
}

/// The types that a schema allows, by their JSON names.
pub(super) fn types(schema: &Value) -> Vec<&str> {
    match &schema["type"] {
        Value::String(name) => vec![name.as_str()],
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn has_type(value: &Value, schema: &Value) -> bool {
    let types = types(schema);
    types.is_empty()
        || types.iter().any(|name| match *name {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            "boolean" => value.is_boolean(),
            _ => value.is_null(),
        })
}

fn is_compound(value: &Value) -> bool {
    value.is_object() || value.is_array()
}

fn expected(schema: &Value) -> String {
    let names = types(schema).into_iter().filter(|name| *name != "null").map(|name| match name {
        "object" => "a map of keys",
        "array" => "a list",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "true or false",
        _ => "text",
    });
    names.collect::<Vec<_>>().join(" or ")
}

/// What a value is; never what it says, because it may be a secret in the wrong place.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Object(_) => "a map of keys",
        Value::Array(_) => "a list",
        Value::String(_) => "text",
        Value::Number(_) => "a number",
        Value::Bool(_) => "true or false",
        Value::Null => "nothing",
    }
}

fn plain(name: &str) -> String {
    name.chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|letter| letter.to_ascii_lowercase())
        .collect()
}

/// Number of letters to add, drop or change to turn one word into the other.
fn distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (index, left) in from.bytes().enumerate() {
        let mut diagonal = index;
        row[0] = index + 1;
        for (column, right) in to.bytes().enumerate() {
            let changed = diagonal + usize::from(left != right);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}
