//! The bytes of a consumer's state file: JSON that a person can read, with a version and a checksum.
//!
//! The checksum covers what the file says and not how it is laid out. What does not fit in every respect is refused
//! with the reason: the file is a hint, and a wrong hint is worse than none.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidegate_core::ids::{BootId, DirectoryId, PartitionId, Position, TopicId};

/// Version of the format; readers refuse any other.
const VERSION: u32 = 1;

/// What the file remembers of the life before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Persisted {
    /// Random id of the directory, made with it.
    pub directory: DirectoryId,
    /// Boot of the machine that wrote the file.
    pub boot: Option<BootId>,
    /// True only after a stop in which every partition was given back.
    pub clean: bool,
    /// The partitions that were owned, with their positions.
    pub partitions: BTreeMap<PartitionId, Position>,
}

/// Why bytes are no state file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateFileError {
    /// It is not JSON of the expected form: truncated, or something else.
    #[error("the state file is not readable")]
    Malformed(#[source] serde_json::Error),
    /// Another version of Tidegate wrote it.
    #[error("the state file has version {found}, and only version 1 is known here")]
    ForeignVersion {
        /// Its version.
        found: u32,
    },
    /// Its content was changed after it was written.
    #[error("the state file does not match its checksum")]
    Checksum,
    /// An id in it is malformed though the checksum fits.
    #[error("the state file holds a malformed {what}")]
    MalformedId {
        /// Which kind of id.
        what: &'static str,
    },
}

#[derive(Serialize, Deserialize)]
struct Envelope<S> {
    version: u32,
    /// FNV-1a of the compact JSON of `state`, in hexadecimal.
    checksum: String,
    state: S,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    directory: String,
    boot: Option<String>,
    clean: bool,
    partitions: Vec<Partition>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Partition {
    topic: String,
    number: u32,
    next: u64,
}

/// Writes the content of a state file.
///
/// ```
/// # use tidegate_core::ids::DirectoryId;
/// use tidegate_wire::state_file::{Persisted, decode, encode};
/// let state =
///     Persisted { directory: DirectoryId(7), boot: None, clean: true, partitions: Default::default() };
/// assert_eq!(decode(&encode(&state)).unwrap(), state);
/// ```
pub fn encode(persisted: &Persisted) -> Vec<u8> {
    let state = State {
        directory: hex(persisted.directory.0),
        boot: persisted.boot.map(|boot| hex(boot.0)),
        clean: persisted.clean,
        partitions: persisted.partitions.iter().map(to_partition).collect(),
    };
    let file = Envelope { version: VERSION, checksum: checksum(&state), state };
    let mut bytes = serde_json::to_vec_pretty(&file).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

/// Reads the content of a state file; never panics, whatever the bytes.
pub fn decode(bytes: &[u8]) -> Result<Persisted, StateFileError> {
    // The version first: the state of another version may have another form.
    let envelope: Envelope<serde_json::Value> =
        serde_json::from_slice(bytes).map_err(StateFileError::Malformed)?;
    if envelope.version != VERSION {
        return Err(StateFileError::ForeignVersion { found: envelope.version });
    }
    let state: State = serde_json::from_value(envelope.state).map_err(StateFileError::Malformed)?;
    if checksum(&state) != envelope.checksum {
        return Err(StateFileError::Checksum);
    }
    Ok(Persisted {
        directory: parse_hex(&state.directory, "directory id").map(DirectoryId)?,
        boot: state.boot.map(|boot| parse_hex(&boot, "boot id").map(BootId)).transpose()?,
        clean: state.clean,
        partitions: state.partitions.iter().map(from_partition).collect::<Result<_, _>>()?,
    })
}

fn to_partition((id, next): (&PartitionId, &Position)) -> Partition {
    Partition { topic: id.topic.to_string(), number: id.number, next: next.0 }
}

fn from_partition(entry: &Partition) -> Result<(PartitionId, Position), StateFileError> {
    let topic =
        TopicId::parse(&entry.topic).ok_or(StateFileError::MalformedId { what: "topic id" })?;
    Ok((PartitionId { topic, number: entry.number }, Position(entry.next)))
}

fn hex(id: u128) -> String {
    format!("{id:032x}")
}

fn parse_hex(text: &str, what: &'static str) -> Result<u128, StateFileError> {
    u128::from_str_radix(text, 16).map_err(|_| StateFileError::MalformedId { what })
}

fn checksum(state: &State) -> String {
    const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    let bytes = serde_json::to_vec(state).unwrap_or_default();
    let hash =
        bytes.iter().fold(OFFSET_BASIS, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME));
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn state() -> Persisted {
        let topic = TopicId(*b"0123456789abcdef");
        let partition = |number| PartitionId { topic, number };
        Persisted {
            directory: DirectoryId(0xd1),
            boot: Some(BootId(0xb007)),
            clean: false,
            partitions: [(partition(0), Position(42)), (partition(7), Position(u64::MAX))].into(),
        }
    }

    /// The bytes of version 1: add the bytes of later versions beside them, never edit these.
    const GOLDEN_V1: &str = r#"{
  "version": 1,
  "checksum": "b92a828829c8a2f1",
  "state": {
    "directory": "000000000000000000000000000000d1",
    "boot": "0000000000000000000000000000b007",
    "clean": false,
    "partitions": [
      {
        "topic": "MDEyMzQ1Njc4OWFiY2RlZg",
        "number": 0,
        "next": 42
      },
      {
        "topic": "MDEyMzQ1Njc4OWFiY2RlZg",
        "number": 7,
        "next": 18446744073709551615
      }
    ]
  }
}
"#;

    #[test]
    fn the_bytes_of_version_1_stay_as_they_are() {
        assert_eq!(String::from_utf8(encode(&state())).unwrap(), GOLDEN_V1);
        assert_eq!(decode(GOLDEN_V1.as_bytes()).unwrap(), state());
    }

    #[test]
    fn each_way_of_being_unusable_is_told_apart() {
        let cut = &GOLDEN_V1.as_bytes()[..GOLDEN_V1.len() / 2];
        assert!(matches!(decode(cut), Err(StateFileError::Malformed(_))));
        let newer = r#"{"version": 2, "checksum": "", "state": {"other": "form"}}"#;
        assert!(matches!(
            decode(newer.as_bytes()),
            Err(StateFileError::ForeignVersion { found: 2 })
        ));
        let edited = GOLDEN_V1.replace("\"clean\": false", "\"clean\": true");
        assert!(matches!(decode(edited.as_bytes()), Err(StateFileError::Checksum)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            drop(decode(&bytes));
        }

        #[test]
        fn a_file_with_one_byte_changed_never_says_something_else(
            at in 0..GOLDEN_V1.len(),
            byte in any::<u8>(),
        ) {
            let mut bytes = GOLDEN_V1.as_bytes().to_vec();
            bytes[at] = byte;
            if let Ok(decoded) = decode(&bytes) {
                prop_assert_eq!(decoded, state());
            }
        }
    }
}
