//! Schemas and messages agree. (A full validator would be a large dependency for what the types already ensure.)

use serde_json::Value;
use tidegate_wire::schemas;

use crate::golden;

fn schema(name: &str) -> Value {
    let found = schemas().into_iter().find(|(found, _)| found == name);
    serde_json::from_str(&found.unwrap().1).unwrap()
}

#[test]
fn the_schema_of_each_kind_lists_the_fields_of_its_golden_message() {
    for (file, encoded) in golden::all() {
        let schema = schema(file.strip_suffix(".json").unwrap());
        let value: Value = serde_json::from_slice(&encoded.value.unwrap()).unwrap();
        let value = value.as_object().unwrap();
        for field in value.keys() {
            assert!(
                schema["properties"].get(field).is_some(),
                "{file}: {field} is not in the schema"
            );
        }
        for required in schema["required"].as_array().unwrap() {
            let required = required.as_str().unwrap();
            assert!(value.contains_key(required), "{file}: {required} is not in the message");
        }
    }
}

#[test]
fn names_are_unique_and_sorted_and_every_field_is_explained() {
    let schemas = schemas();
    assert!(schemas.is_sorted());
    for (name, text) in &schemas {
        let schema: Value = serde_json::from_str(text).unwrap();
        for (field, about) in schema["properties"].as_object().unwrap() {
            let is_explained = about.get("description").is_some();
            assert!(is_explained, "{name}.{field} has no description");
        }
    }
}
