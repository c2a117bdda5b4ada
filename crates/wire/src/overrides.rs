//! The service topic: fields of a group's spec that are set to something else than in its file.
//!
//! The topic is compacted, its key is `group/field`, and a tombstone takes the field back to the file.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidegate_core::ids::GroupName;

use crate::envelope::{Encoded, Opened, seal_named, to_json};
use crate::error::Error;
use crate::kind::Kind;

/// Longest key: four times the longest group name, which leaves plenty for the path of a field.
const MAX_KEY_BYTES: usize = 1024;

/// One field of one group's spec.
#[derive(Clone, Debug, PartialEq)]
pub struct Override {
    /// The group.
    pub group: GroupName,
    /// The path of the field in the spec, such as `consumers.max`.
    pub field: String,
    /// What it is set to; `None` takes it back to the file.
    pub value: Option<serde_json::Value>,
}

/// A field of the spec is set to this.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Override")]
pub(crate) struct Body {
    /// The value, as in the file.
    value: serde_json::Value,
}

/// Writes an override.
pub fn encode_override(change: &Override) -> Encoded {
    let value = change.value.clone().map(|value| to_json(&Body { value }));
    let key = format!("{}/{}", change.group, change.field).into_bytes();
    Encoded { key: Some(key), ..seal_named(Kind::Override.name(), value) }
}

/// Reads an override. A tombstone needs no headers: it may come from any tool.
pub fn decode_override(
    key: Option<&[u8]>,
    headers: &[(&str, &[u8])],
    value: Option<&[u8]>,
) -> Result<Override, Error> {
    let (group, field) = key.and_then(split_key).ok_or(Error::MalformedKey)?;
    let (group, field) = (GroupName(group.to_owned()), field.to_owned());
    if value.is_none() {
        return Ok(Override { group, field, value: None });
    }
    let opened = Opened::new(headers, value)?;
    if Kind::parse(opened.kind) != Some(Kind::Override) {
        let kind = opened.kind.to_owned();
        return Err(Error::Misplaced { kind, expected: Kind::Override });
    }
    Ok(Override { group, field, value: Some(opened.parse::<Body>()?.value) })
}

/// Group and field; a group's name has no slash.
fn split_key(key: &[u8]) -> Option<(&str, &str)> {
    if key.len() > MAX_KEY_BYTES {
        return None;
    }
    let (group, field) = std::str::from_utf8(key).ok()?.split_once('/')?;
    (!group.is_empty() && !field.is_empty()).then_some((group, field))
}
