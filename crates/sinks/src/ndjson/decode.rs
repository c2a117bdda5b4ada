//! From lines to records, sharing the bytes of the line where nothing was escaped.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::{Deserializer, Visitor};
use tidegate_runtime::ports::Record;

use super::base64;

/// A line that is not what the encoder writes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LineError {
    /// Not JSON, or fields missing or of another type.
    #[error("failed to read a record line")]
    Json(#[source] serde_json::Error),
    /// A `…Base64` field holds something else.
    #[error("field {0}Base64 of a record line is not base 64")]
    Base64(&'static str),
}

/// A line taken apart; its texts borrow from the line where nothing in them is escaped.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Line<'a> {
    /// The topic's name.
    #[serde(borrow)]
    pub topic: Cow<'a, str>,
    /// The partition's number.
    pub partition: u32,
    /// The record's offset.
    pub offset: u64,
    /// Milliseconds since the Unix epoch; `None` when the record has none.
    pub timestamp: Option<i64>,
    #[serde(borrow)]
    key: Option<Text<'a>>,
    #[serde(borrow)]
    key_base64: Option<Text<'a>>,
    #[serde(borrow)]
    value: Option<Text<'a>>,
    #[serde(borrow)]
    value_base64: Option<Text<'a>>,
    #[serde(borrow, default)]
    headers: Vec<Header<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Header<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    value: Option<Text<'a>>,
    #[serde(borrow)]
    value_base64: Option<Text<'a>>,
}

/// A string that borrows when it can, inside an `Option` too, where serde's own `Cow` never does.
#[derive(Debug)]
struct Text<'a>(Cow<'a, str>);

// === impl Line ===

impl<'a> Line<'a> {
    /// Takes a line apart; its line feed may be there or not.
    pub fn parse(line: &'a [u8]) -> Result<Self, LineError> {
        serde_json::from_slice(line).map_err(LineError::Json)
    }

    /// The value's text; `None` when it is null or no text.
    pub fn value_text(&self) -> Option<&str> {
        self.value.as_ref().map(|text| &*text.0)
    }

    /// The record. `line` is what was parsed, or a longer buffer that holds it: values share its memory.
    pub fn into_record(self, line: &Bytes) -> Result<Record, LineError> {
        let headers = self.headers.into_iter().map(|header| {
            let value = payload("value", header.value, header.value_base64, line)?;
            Ok((header.name.into_owned(), value))
        });
        Ok(Record {
            offset: self.offset,
            timestamp_ms: self.timestamp.unwrap_or(-1),
            key: payload("key", self.key, self.key_base64, line)?,
            value: payload("value", self.value, self.value_base64, line)?,
            headers: headers.collect::<Result<_, LineError>>()?,
        })
    }
}

fn payload(
    name: &'static str,
    text: Option<Text<'_>>,
    base64: Option<Text<'_>>,
    line: &Bytes,
) -> Result<Option<Bytes>, LineError> {
    match (text, base64) {
        (_, Some(digits)) => {
            base64::decode(&digits.0).map(|bytes| Some(bytes.into())).ok_or(LineError::Base64(name))
        }
        (Some(Text(Cow::Owned(text))), None) => Ok(Some(text.into())),
        (Some(Text(Cow::Borrowed(text))), None) => Ok(Some(shared(text.as_bytes(), line))),
        (None, None) => Ok(None),
    }
}

/// A part of `line` as shared bytes; a copy when the caller's buffer is not what was parsed.
fn shared(part: &[u8], line: &Bytes) -> Bytes {
    let range = line.as_ptr_range();
    let inside = part.as_ptr_range();
    if range.start <= inside.start && inside.end <= range.end && !part.is_empty() {
        line.slice_ref(part)
    } else {
        Bytes::copy_from_slice(part)
    }
}

// === impl Text ===

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Borrowing;

        impl<'de> Visitor<'de> for Borrowing {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E: serde::de::Error>(
                self,
                text: &'de str,
            ) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }

        deserializer.deserialize_str(Borrowing)
    }
}
