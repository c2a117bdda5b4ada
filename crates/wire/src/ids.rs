//! Ids of `core` as they stand in JSON.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error as _, Unexpected};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tidegate_core::ids::{BootId, ConsumerNumber, DirectoryId, ProcessId, TopicId};

/// A wrapper whose JSON is a string that is written and read by two functions.
macro_rules! text_id {
    ($name:ident($id:ident), $write:expr, $parse:expr, $expecting:literal, $pattern:literal) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) struct $name(pub(crate) $id);

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let write: fn($id) -> String = $write;
                serializer.serialize_str(&write(self.0))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = Cow::<'de, str>::deserialize(deserializer)?;
                let parse: fn(&str) -> Option<$id> = $parse;
                parse(&text)
                    .map(Self)
                    .ok_or_else(|| D::Error::invalid_value(Unexpected::Str(&text), &$expecting))
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($id).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "type": "string",
                    "description": concat!("The ", $expecting, "."),
                    "pattern": $pattern,
                })
            }
        }
    };
}

text_id!(
    TopicText(TopicId),
    |id| id.to_string(),
    TopicId::parse,
    "id of a topic as Kafka prints it: 22 digits of URL-safe base 64",
    "^[A-Za-z0-9_-]{22}$"
);
text_id!(
    ProcessText(ProcessId),
    |id| id.to_string(),
    ProcessId::parse,
    "random id of one run of a process: 32 hexadecimal digits",
    "^[0-9a-f]{32}$"
);
text_id!(
    DirectoryText(DirectoryId),
    |id| hex(id.0),
    |text| parse_hex(text).map(DirectoryId),
    "random id of a state directory: 32 hexadecimal digits",
    "^[0-9a-f]{32}$"
);
text_id!(
    BootText(BootId),
    |id| hex(id.0),
    |text| parse_hex(text).map(BootId),
    "id of one boot of a machine: 32 hexadecimal digits",
    "^[0-9a-f]{32}$"
);

fn hex(id: u128) -> String {
    format!("{id:032x}")
}

fn parse_hex(text: &str) -> Option<u128> {
    let is_hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_hex { u128::from_str_radix(text, 16).ok() } else { None }
}

/// A consumer's number, from 1 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Consumer(pub(crate) ConsumerNumber);

impl Serialize for Consumer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.0.get())
    }
}

impl<'de> Deserialize<'de> for Consumer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u32::deserialize(deserializer)?;
        let zero = || D::Error::invalid_value(Unexpected::Unsigned(0), &"a number from 1 on");
        ConsumerNumber::new(number).map(Self).ok_or_else(zero)
    }
}

impl JsonSchema for Consumer {
    fn schema_name() -> Cow<'static, str> {
        "ConsumerNumber".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "integer",
            "description": "The number of a consumer, and of its partition of the controller topic.",
            "minimum": 1,
        })
    }
}
