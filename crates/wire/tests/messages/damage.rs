//! What holds for any bytes: they are read without panic, and what is read of them is a message.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use tidegate_core::ledger::{CommandBody, Record};
use tidegate_wire::{Decoded, Encoded, Kind, describe};

use crate::golden;
use crate::properties::json_value;
use crate::samples::{decode, encode};

/// Reads the bytes as any kind there is, and shows what comes of it.
fn survives(kind: &str, value: &[u8]) {
    let headers = [("tidegate-type", kind.as_bytes())];
    drop(tidegate_wire::decode_entry(&headers, Some(value)));
    drop(tidegate_wire::decode_command(&headers, Some(value)));
    if let Ok(decoded) = tidegate_wire::decode(Some(b"group/field"), &headers, Some(value)) {
        let line = describe(&decoded, &|_| None);
        assert!(!line.contains(char::is_control), "{line:?}");
    }
}

/// True for what nothing writes: also a known kind with a word that makes it unknown, as the refusal in a `Reply`.
fn is_unknown(message: &Decoded) -> bool {
    match message {
        Decoded::Entry(entry) => matches!(entry.record, Record::Unknown { .. }),
        Decoded::Command(command) => matches!(command.body, CommandBody::Unknown { .. }),
        Decoded::Unknown { .. } => true,
        Decoded::Rates(_) | Decoded::Override(_) => false,
    }
}

fn any_kind() -> impl Strategy<Value = &'static str> {
    let known = Kind::ALL.iter().map(|kind| kind.name());
    prop::sample::select(known.chain(["Rename"]).collect::<Vec<_>>())
}

/// One change of bytes: what a faulty disk, a wrong offset or an editor by hand does.
#[derive(Clone, Debug)]
enum Damage {
    Replace(prop::sample::Index, u8),
    Insert(prop::sample::Index, Vec<u8>),
    Delete(prop::sample::Index, usize),
    /// Writes a part twice: a list that is nested in itself, a field that comes again.
    Repeat(prop::sample::Index, usize),
}

impl Damage {
    fn apply(self, bytes: &mut Vec<u8>) {
        let place = |at: prop::sample::Index, len: usize| at.index(len + 1);
        match self {
            Self::Replace(at, byte) => {
                let at = place(at, bytes.len());
                bytes.splice(at..bytes.len().min(at + 1), [byte]);
            }
            Self::Insert(at, new) => {
                let at = place(at, bytes.len());
                bytes.splice(at..at, new);
            }
            Self::Delete(at, count) => {
                let at = place(at, bytes.len());
                bytes.drain(at..bytes.len().min(at + count));
            }
            Self::Repeat(at, count) => {
                let at = place(at, bytes.len());
                let part = bytes[at..bytes.len().min(at + count)].to_vec();
                bytes.splice(at..at, part);
            }
        }
    }
}

/// Bytes that mean something in JSON are more likely to get past its parser.
fn damage() -> impl Strategy<Value = Vec<Damage>> {
    let meaning = prop::sample::select(b"0123456789-.eE\"\\[]{},:ntfu \x00\xff".to_vec());
    let byte = || prop_oneof![meaning.clone(), any::<u8>()];
    let at = any::<prop::sample::Index>;
    let one = prop_oneof![
        (at(), byte()).prop_map(|(at, byte)| Damage::Replace(at, byte)),
        (at(), vec(byte(), 1..5)).prop_map(|(at, new)| Damage::Insert(at, new)),
        (at(), 1..20_usize).prop_map(|(at, count)| Damage::Delete(at, count)),
        (at(), 1..60_usize).prop_map(|(at, count)| Damage::Repeat(at, count)),
    ];
    vec(one, 1..6)
}

fn golden_message() -> impl Strategy<Value = Encoded> {
    let all: Vec<_> = golden::all().into_iter().map(|(_, encoded)| encoded).collect();
    prop::sample::select(all)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_bytes_are_read_without_panic(kind in any_kind(), value in vec(any::<u8>(), 0..300)) {
        survives(kind, &value);
    }

    #[test]
    fn any_json_is_read_without_panic(kind in any_kind(), value in json_value()) {
        survives(kind, &serde_json::to_vec(&value).unwrap());
    }

    #[test]
    fn damaged_messages_are_read_without_panic(
        encoded in golden_message(),
        kind in any_kind(),
        cut in any::<prop::sample::Index>(),
        damage in damage(),
    ) {
        let mut value = encoded.value.unwrap();
        for damage in damage {
            damage.apply(&mut value);
        }
        let name = encoded.headers.iter().find(|(name, _)| name == "tidegate-type");
        let own = String::from_utf8(name.unwrap().1.clone()).unwrap();
        survives(&own, &value);
        survives(kind, &value);
        survives(&own, &value[..cut.index(value.len() + 1)]);
    }

    /// What is read although it is damaged is a message like any other: it can be written, and is then read the same.
    #[test]
    fn a_damaged_message_that_is_read_is_written_and_read_again(
        mut encoded in golden_message(),
        damage in damage(),
    ) {
        let value = encoded.value.as_mut().unwrap();
        for damage in damage {
            damage.apply(value);
        }
        if let Ok(message) = decode(&encoded)
            && !is_unknown(&message)
        {
            let again = decode(&encode(&message));
            prop_assert_eq!(again.unwrap(), message);
        }
    }

    #[test]
    fn an_override_of_any_key_is_read_without_panic(
        key in prop_oneof![vec(any::<u8>(), 0..40), ".*/.*".prop_map(String::into_bytes)],
        value in option::of(vec(any::<u8>(), 0..40)),
    ) {
        let headers = [("tidegate-type", &b"Override"[..])];
        if let Ok(change) = tidegate_wire::decode_override(Some(&key), &headers, value.as_deref()) {
            prop_assert_eq!(format!("{}/{}", change.group, change.field).into_bytes(), key);
        }
    }

    #[test]
    fn any_headers_are_read_without_panic(
        names in vec(prop_oneof!["tidegate-type", "tidegate-version", ".*"], 0..4),
        values in vec(vec(any::<u8>(), 0..80), 4),
    ) {
        let headers: Vec<_> =
            names.iter().map(String::as_str).zip(values.iter().map(Vec::as_slice)).collect();
        drop(tidegate_wire::decode(None, &headers, Some(b"{}")));
        drop(tidegate_wire::decode(Some(b"a/b"), &headers, None));
    }
}
