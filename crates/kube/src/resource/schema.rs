//! From a schema of JSON to a structural one, which is what the API server takes: one type for each value, no alternatives, and no
//! defaults.
//!
//! Defaults would be written into every stored object, and keep what was usual when it was made. Keys that no schema names need no word:
//! the API server refuses them by itself.

use serde_json::{Map, Value, json};

/// Longest text of a unit such as `30s`. Rules that read them need a bound to be cheap.
const UNIT_LENGTH: u32 = 32;

/// The same as a structural schema.
pub(super) fn structural(schema: &Value) -> Value {
    let mut structural = match alternatives(schema).as_slice() {
        [one] => plain(one),
        several => choice(several),
    };
    // What it means here, rather than in general.
    if let Some(description) = schema["description"].as_str() {
        structural["description"] = json!(description.replace('\n', " "));
    }
    structural
}

/// What a value may be, other than nothing: a value that is nothing is left out.
fn alternatives(schema: &Value) -> Vec<&Value> {
    match ["oneOf", "anyOf"].iter().find_map(|key| schema[*key].as_array()) {
        Some(branches) => {
            let branches = branches.iter().flat_map(alternatives);
            branches.filter(|branch| branch["type"] != "null").collect()
        }
        None => vec![schema],
    }
}

/// Words become an enumeration, and maps of one key each a map that has one of them. For both together there is no structural schema:
/// such a value is checked by its reader.
fn choice(branches: &[&Value]) -> Value {
    let words: Vec<&Value> =
        branches.iter().map(|branch| &branch["const"]).filter(|word| !word.is_null()).collect();
    let maps: Vec<_> = branches.iter().filter_map(|it| it["properties"].as_object()).collect();
    if words.len() == branches.len() {
        return json!({ "type": "string", "enum": words });
    }
    if maps.len() == branches.len() {
        let properties: Map<String, Value> = maps
            .into_iter()
            .flatten()
            .map(|(key, inner)| (key.clone(), structural(inner)))
            .collect();
        return json!({ "type": "object", "properties": properties, "minProperties": 1, "maxProperties": 1 });
    }
    json!({ "x-kubernetes-preserve-unknown-fields": true })
}

fn plain(schema: &Value) -> Value {
    let mut made = Map::new();
    let kind = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().find(|kind| **kind != "null").unwrap_or(&Value::Null),
        kind => kind,
    };
    if !kind.is_null() {
        made.insert("type".to_owned(), kind.clone());
    }
    for key in ["minimum", "maximum", "pattern", "required", "x-kubernetes-preserve-unknown-fields"]
    {
        if let Some(value) = schema.get(key) {
            made.insert(key.to_owned(), value.clone());
        }
    }
    if schema["format"].is_string() && *kind == "string" {
        made.insert("maxLength".to_owned(), json!(UNIT_LENGTH));
    }
    if let Some(properties) = schema["properties"].as_object() {
        let inner = |(key, inner): (&String, &Value)| (key.clone(), structural(inner));
        let properties: Map<String, Value> = properties.iter().map(inner).collect();
        made.insert("properties".to_owned(), Value::Object(properties));
    }
    if schema["items"].is_object() {
        made.insert("items".to_owned(), structural(&schema["items"]));
        if schema["uniqueItems"] == true {
            made.insert("x-kubernetes-list-type".to_owned(), json!("set"));
        }
    }
    if schema["additionalProperties"].is_object() {
        let inner = structural(&schema["additionalProperties"]);
        made.insert("additionalProperties".to_owned(), inner);
    }
    Value::Object(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_has_one_type_and_no_default() {
        let schema = json!({
            "type": "object",
            "properties": {
                "size": { "type": ["string", "null"], "default": "1Gi", "description": "How\nlarge." },
                "mode": { "oneOf": [{ "const": "own", "type": "string" }, { "const": "observe", "type": "string" }] },
                "secret": { "anyOf": [
                    { "oneOf": [
                        { "type": "object", "properties": { "env": { "type": "string" } } },
                        { "type": "object", "properties": { "file": { "type": "string" } } },
                    ] },
                    { "type": "null" },
                ] },
                "start": { "oneOf": [
                    { "const": "latest", "type": "string" },
                    { "type": "object", "properties": { "timestamp": { "type": "integer" } } },
                ] },
            },
            "additionalProperties": false,
        });
        let structural = structural(&schema);
        let properties = &structural["properties"];
        assert_eq!(properties["size"], json!({ "type": "string", "description": "How large." }));
        assert_eq!(properties["mode"], json!({ "type": "string", "enum": ["own", "observe"] }));
        assert_eq!(properties["secret"]["maxProperties"], 1);
        assert_eq!(properties["secret"]["properties"]["file"], json!({ "type": "string" }));
        assert_eq!(properties["start"], json!({ "x-kubernetes-preserve-unknown-fields": true }));
        assert_eq!(structural.get("additionalProperties"), None);
    }
}
