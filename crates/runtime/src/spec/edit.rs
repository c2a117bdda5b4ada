//! Changes to a spec before it is read: variables of the environment, and overrides from the service topic.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{Fault, walk};

/// What the names of variables start with.
const PREFIX: &str = "TIDEGATE_";

/// The one list whose entries have names, so that single entries can be overridden.
const TOPICS: &str = "topics";

/// Puts the values of variables in their places. A variable that names no key is a fault when it is a slip away from
/// one that does; else it is somebody else's, such as those that Kubernetes sets for a service called `tidegate`.
pub(super) fn apply_environment(
    spec: &mut Value,
    schema: &Value,
    environment: &BTreeMap<String, String>,
) -> Vec<Fault> {
    let known = variables(schema);
    let mut slips = Vec::new();
    for (name, text) in environment.iter().filter(|(name, _)| name.starts_with(PREFIX)) {
        if let Some((path, is_text)) = known.get(name) {
            let keys: Vec<&str> = path.iter().map(String::as_str).collect();
            set(spec, &keys, variable_value(text, *is_text));
        } else if let Some(close) = walk::closest(name, known.keys().map(String::as_str)) {
            slips.push(Fault::new(name, format!("unknown variable, did you mean {close}?")));
        }
    }
    slips
}

/// Sets the field at a path of keys; `topics.` and a name is the entry of that name, which null removes.
pub(super) fn set_field(spec: &mut Value, field: &str, value: Value) {
    match field.split_once('.') {
        Some((TOPICS, name)) => set_topic(spec, name, value),
        _ => set(spec, &field.split('.').collect::<Vec<_>>(), value),
    }
}

/// The variable of a key's path: `TIDEGATE_` and its words in capitals.
fn variable(path: &[String]) -> String {
    let mut name = PREFIX.to_owned();
    for letter in path.join("_").chars() {
        if letter.is_ascii_uppercase() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

/// Path of a key, and whether its value is text, by the name of its variable.
type Variables = BTreeMap<String, (Vec<String>, bool)>;

pub(super) fn variables(schema: &Value) -> Variables {
    let mut known = BTreeMap::new();
    collect_variables(schema, &mut Vec::new(), &mut known);
    known
}

fn collect_variables(schema: &Value, path: &mut Vec<String>, known: &mut Variables) {
    let alternatives = walk::alternatives(schema);
    let sections = alternatives.iter().filter_map(|branch| branch["properties"].as_object());
    let mut is_leaf = true;
    for (key, property) in sections.flatten() {
        is_leaf = false;
        path.push(key.clone());
        collect_variables(property, path, known);
        path.pop();
    }
    if is_leaf {
        let is_text = alternatives.iter().any(|branch| walk::types(branch).contains(&"string"));
        known.insert(variable(path), (path.clone(), is_text));
    }
}

/// Text stays text even when it looks like a number; everything else is read as YAML.
fn variable_value(text: &str, is_text: bool) -> Value {
    let read = if is_text { None } else { super::from_yaml(text).ok() };
    read.unwrap_or_else(|| Value::String(text.to_owned()))
}

fn set(value: &mut Value, keys: &[&str], new: Value) {
    let Some((key, below)) = keys.split_first() else {
        *value = new;
        return;
    };
    if value.is_null() {
        *value = Value::Object(Map::new());
    }
    // What is no map here is reported by the walk, and nothing can be set below it.
    if let Value::Object(map) = value {
        set(map.entry(*key).or_insert(Value::Null), below, new);
    }
}

fn set_topic(spec: &mut Value, name: &str, entry: Value) {
    let Some(topics) = spec[TOPICS].as_array_mut() else { return };
    topics.retain(|topic| topic["name"] != name);
    match entry {
        Value::Null => {}
        Value::Object(mut map) => {
            map.insert("name".to_owned(), Value::String(name.to_owned()));
            topics.push(Value::Object(map));
        }
        other => topics.push(other),
    }
}
