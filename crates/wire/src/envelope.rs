//! What all messages have in common: two headers and a JSON value.
//!
//! ```text
//! key      topic name | group/field | none
//! headers  tidegate-type: Grant
//!          tidegate-version: 0
//! value    {"generation": 1, ...}
//! ```
//!
//! The version tells a person who wrote a message. A reader does not go by it: it reads the fields that it knows, ignores
//! the others, and lets fields be absent that an older version did not have.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Cause, Error};
use crate::kind::Kind;

/// Name of the header with the kind of the message.
pub const TYPE_HEADER: &str = "tidegate-type";

/// Name of the header with the version of the writer's format, as a decimal number.
pub const VERSION_HEADER: &str = "tidegate-version";

/// The version that this crate writes.
pub const VERSION: u32 = 0;

/// Largest value that is looked at. Kafka's own default limit for a batch is 1 MB; eight times that leaves room for
/// clusters that raised it. The densest values take some 20 times their size in memory, for as long as they are read.
pub const MAX_VALUE_BYTES: usize = 8 * 1024 * 1024;

/// Longest name of a kind, of ASCII letters and digits: three times the longest there is.
pub const MAX_KIND_BYTES: usize = 64;

/// A message as Kafka carries it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoded {
    /// The record's key.
    pub key: Option<Vec<u8>>,
    /// The record's headers, in order.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The record's value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
}

impl Encoded {
    /// The headers in the form that the decoders take.
    pub fn header_refs(&self) -> Vec<(&str, &[u8])> {
        self.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect()
    }

    /// Bytes of key, headers and value.
    pub fn size(&self) -> usize {
        let headers: usize =
            self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        let len = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
        headers + len(&self.key) + len(&self.value)
    }
}

/// Puts a value into its envelope.
pub(crate) fn seal<T: Serialize>(kind: Kind, value: &T) -> Encoded {
    seal_named(kind.name(), Some(to_json(value)))
}

/// An envelope with a kind by name: also for kinds of other versions, and for tombstones.
pub(crate) fn seal_named(kind: &str, value: Option<Vec<u8>>) -> Encoded {
    let headers = vec![
        (TYPE_HEADER.to_owned(), kind.as_bytes().to_vec()),
        (VERSION_HEADER.to_owned(), VERSION.to_string().into_bytes()),
    ];
    Encoded { key: None, headers, value }
}

pub(crate) fn to_json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("messages have only string keys and infallible fields")
}

/// An envelope that was opened, its value still unread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opened<'a> {
    pub(crate) kind: &'a str,
    version: u32,
    value: Option<&'a [u8]>,
}

impl<'a> Opened<'a> {
    pub(crate) fn new(
        headers: &[(&'a str, &'a [u8])],
        value: Option<&'a [u8]>,
    ) -> Result<Self, Error> {
        let kind = text(headers, TYPE_HEADER)?.ok_or(Error::MissingHeader { name: TYPE_HEADER })?;
        if !(1..=MAX_KIND_BYTES).contains(&kind.len())
            || !kind.bytes().all(|byte| byte.is_ascii_alphanumeric())
        {
            return Err(Error::MalformedHeader { name: TYPE_HEADER });
        }
        let version = match text(headers, VERSION_HEADER)? {
            Some(version) => {
                version.parse().map_err(|_| Error::MalformedHeader { name: VERSION_HEADER })?
            }
            None => VERSION,
        };
        let bytes = value.map_or(0, <[u8]>::len);
        if bytes > MAX_VALUE_BYTES {
            return Err(Error::TooLarge { kind: kind.to_owned(), bytes });
        }
        Ok(Self { kind, version, value })
    }

    /// Reads the value.
    pub(crate) fn parse<T: DeserializeOwned>(&self) -> Result<T, Error> {
        let value = self.value.ok_or_else(|| Error::MissingValue { kind: self.kind.to_owned() })?;
        serde_json::from_slice(value).map_err(|error| self.field_error::<T>(value, &error))
    }

    /// Finds the field that is at fault by reading once more: keeping the path costs more than reading does, and errors
    /// are rare.
    fn field_error<T: DeserializeOwned>(&self, value: &[u8], error: &serde_json::Error) -> Error {
        let mut reader = serde_json::Deserializer::from_slice(value);
        let field = match serde_path_to_error::deserialize::<_, T>(&mut reader) {
            Ok(_) => ".".to_owned(),
            Err(error) => error.path().to_string(),
        };
        let (kind, source) = (self.kind.to_owned(), Cause::new(error));
        Error::Field { kind, field, version: self.version, source }
    }
}

/// The first header of this name as text.
fn text<'a>(headers: &[(&'a str, &'a [u8])], name: &'static str) -> Result<Option<&'a str>, Error> {
    let found = headers.iter().find(|(found, _)| *found == name);
    let to_text = |bytes| std::str::from_utf8(bytes).map_err(|_| Error::MalformedHeader { name });
    found.map(|(_, bytes)| to_text(*bytes)).transpose()
}
