//! Neighbouring versions understand each other, and bad input ends in an error that says where.

use serde_json::{Value, json};
use tidegate_core::ids::Generation;
use tidegate_core::ledger::{CommandBody, Entry, Evidence, Record};
use tidegate_wire::{
    Decoded, Encoded, Error, Kind, MAX_PARTITIONS, MAX_VALUE_BYTES, decode_command, decode_entry,
    decode_override, decode_rates,
};

use crate::golden;
use crate::samples::{decode, encode, incarnation, one_of_each};

fn with_value(encoded: &Encoded, change: impl FnOnce(&mut Value)) -> Encoded {
    let mut value = serde_json::from_slice(encoded.value.as_ref().unwrap()).unwrap();
    change(&mut value);
    Encoded { value: Some(serde_json::to_vec(&value).unwrap()), ..encoded.clone() }
}

fn message(kind: Kind, value: &Value) -> Encoded {
    Encoded {
        key: None,
        headers: vec![("tidegate-type".to_owned(), kind.name().as_bytes().to_vec())],
        value: Some(serde_json::to_vec(value).unwrap()),
    }
}

/// The error with its cause, as the edge prints it.
fn refusal(encoded: &Encoded) -> String {
    let error = decode(encoded).unwrap_err();
    let cause = std::error::Error::source(&error);
    cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

/// Adds what a later version might: a field to each object, a cell to each row.
fn grow(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.values_mut().for_each(grow);
            fields.insert("since".to_owned(), json!({"version": [1, null]}));
        }
        Value::Array(items) => {
            items.iter_mut().for_each(grow);
            if items.iter().any(|item| !item.is_object() && !item.is_array()) {
                items.push(json!({"more": true}));
            }
        }
        _ => {}
    }
}

#[test]
fn what_a_later_version_adds_is_ignored() {
    for (file, encoded) in golden::all() {
        // Lists of bare numbers have no room for more, and an Override's value is its own.
        let is_plain = ["StopConsumingCommand.json", "PartitionRates.json", "Override.json"];
        let grown = with_value(&encoded, |value| {
            if is_plain.contains(&file.as_str()) {
                value["since"] = json!("later");
            } else {
                grow(value);
            }
        });
        assert_eq!(decode(&grown).unwrap(), decode(&encoded).unwrap(), "{file}");
    }
}

#[test]
fn a_message_of_the_next_version_is_read_as_far_as_its_fields_allow() {
    for (file, mut encoded) in golden::all() {
        let before = decode(&encoded).unwrap();
        for version in ["1", "4294967295"] {
            for (name, value) in &mut encoded.headers {
                if name == "tidegate-version" {
                    *value = version.as_bytes().to_vec();
                }
            }
            assert_eq!(decode(&encoded).unwrap(), before, "{file}");
        }
        encoded.headers.retain(|(name, _)| name != "tidegate-version");
        assert_eq!(decode(&encoded).unwrap(), before, "{file}");
    }
}

#[test]
fn fields_that_can_be_told_without_may_be_absent() {
    let id = "0000000000000000000000000000000a";
    let hello = json!({
        "generation": 1, "consumer": 2, "process": id, "attempt": 1, "seen": 3, "clean": false
    });
    let Decoded::Entry(Entry { record: Record::Hello(hello), .. }) =
        decode(&message(Kind::Hello, &hello)).unwrap()
    else {
        panic!("it is a Hello");
    };
    assert_eq!((hello.boot, hello.directory, hello.persisted.len()), (None, None, 0));
    let beat = json!({"generation": 1, "consumer": 1, "incarnation": 2, "seq": 3, "heard": 4});
    assert!(decode(&message(Kind::Heartbeat, &beat)).is_ok());
    let figures = json!([{"topicId": "MDEyMzQ1Njc4OWFiY2RlZg", "partitions": [[0, 1, 2, 3]]}]);
    let beat = json!({"generation": 1, "consumer": 1, "incarnation": 2, "seq": 3, "heard": 4, "figures": figures});
    assert!(decode(&message(Kind::Heartbeat, &beat)).is_ok());
}

#[test]
fn unknown_kinds_become_unknown_variants() {
    let value = br#"{"generation": 5, "incarnation": 6, "more": []}"#;
    let headers: [(&str, &[u8]); 1] = [("tidegate-type", b"Rename")];
    let kind = "Rename".to_owned();
    let entry = decode_entry(&headers, Some(value)).unwrap();
    let record = Record::Unknown { kind: kind.clone() };
    assert_eq!(entry, Entry { generation: Generation(5), record });
    let command = decode_command(&headers, Some(value)).unwrap();
    assert_eq!(command.incarnation, incarnation(6));
    assert_eq!(command.body, CommandBody::Unknown { kind: kind.clone() });
    let any = tidegate_wire::decode(None, &headers, Some(value)).unwrap();
    assert_eq!(any, Decoded::Unknown { kind });
    assert!(decode_entry(&headers, Some(b"\xff not JSON")).is_ok(), "whatever its form");
    assert!(decode_entry(&headers, None).is_ok());
    assert!(decode_command(&headers, None).is_err(), "nobody could answer it");
}

#[test]
fn unknown_words_are_read_as_what_is_safest() {
    let all = one_of_each();
    let word = |kind: Kind, field: &str| {
        let changed = with_value(&encode(&all[&kind]), |value| value[field] = json!("novel"));
        match decode(&changed).unwrap() {
            Decoded::Entry(entry) => entry.record,
            other => panic!("{other:?} is no record"),
        }
    };
    let fenced = word(Kind::Fenced, "evidence");
    assert!(matches!(fenced, Record::Fenced { evidence: Evidence::Silence, .. }), "{fenced:?}");
    let plan = word(Kind::Plan, "trigger");
    assert!(matches!(&plan, Record::Plan { plan, .. } if plan.trigger.is_none()), "{plan:?}");
    let stopped = word(Kind::StopConsumingEvent, "reason");
    assert!(matches!(stopped, Record::Stopped { .. }), "{stopped:?}");
    assert_eq!(word(Kind::Reply, "refusal"), Record::Unknown { kind: "Reply".to_owned() });
}

#[test]
fn an_error_names_the_message_and_the_field() {
    let grant = encode(&one_of_each()[&Kind::Grant]);
    let without = with_value(&grant, |value| {
        value.as_object_mut().unwrap().remove("term");
    });
    let text = refusal(&without);
    assert!(text.contains("Grant") && text.contains("missing field `term`"), "{text}");
    let cases = [
        (json!({"topicId": "short", "partitions": []}), "partitions[0].topicId"),
        (
            json!({"topicId": "MDEyMzQ1Njc4OWFiY2RlZg", "partitions": [[1, -2]]}),
            "partitions[0].partitions[0]",
        ),
        (json!({"topicId": "MDEyMzQ1Njc4OWFiY2RlZg", "partitions": [[1]]}), "missing field `next`"),
    ];
    for (group, expected) in cases {
        let text = refusal(&with_value(&grant, |value| value["partitions"] = json!([group])));
        assert!(text.contains(expected) && text.contains("Grant"), "{text}");
    }
    let zero = refusal(&with_value(&grant, |value| value["consumer"] = json!(0)));
    assert!(zero.contains("field consumer of a Grant of version 0"), "{zero}");
}

#[test]
fn an_error_does_not_repeat_the_message() {
    let long = json!({"generation": "x".repeat(100_000)});
    let text = refusal(&message(Kind::Genesis, &long));
    assert!(text.len() < 500, "{} characters", text.len());
}

#[test]
fn too_large_a_value_is_not_looked_at() {
    let mut encoded = encode(&one_of_each()[&Kind::Genesis]);
    encoded.value.as_mut().unwrap().resize(MAX_VALUE_BYTES, b' ');
    assert!(decode(&encoded).is_ok(), "trailing space is JSON");
    encoded.value.as_mut().unwrap().push(b' ');
    assert!(matches!(decode(&encoded), Err(Error::TooLarge { .. })));
}

#[test]
fn too_many_partitions_are_refused() {
    let started = |partitions: usize| {
        let rows: Vec<_> = (0..partitions).map(|number| [number, 1]).collect();
        let partitions = json!([{"topicId": "MDEyMzQ1Njc4OWFiY2RlZg", "partitions": rows}]);
        let value = json!({"generation": 1, "incarnation": 2, "partitions": partitions});
        decode(&message(Kind::StartConsumingEvent, &value))
    };
    assert!(started(MAX_PARTITIONS).is_ok());
    assert!(matches!(started(MAX_PARTITIONS + 1), Err(Error::Field { .. })));
}

#[test]
fn what_is_no_message_is_told_apart() {
    let value = Some(&b"{}"[..]);
    assert!(matches!(decode_entry(&[], value), Err(Error::MissingHeader { .. })));
    for kind in [&b""[..], b"\xff", b"Two Words", &[b'A'; 65]] {
        let decoded = decode_entry(&[("tidegate-type", kind)], value);
        assert!(matches!(decoded, Err(Error::MalformedHeader { .. })), "{kind:?}");
    }
    let headers: [(&str, &[u8]); 2] = [("tidegate-type", b"Tick"), ("tidegate-version", b"one")];
    assert!(matches!(decode_entry(&headers, value), Err(Error::MalformedHeader { .. })));
    assert!(matches!(decode_entry(&headers[..1], None), Err(Error::MissingValue { .. })));
    assert!(matches!(decode_rates(&headers[..1], value), Err(Error::Misplaced { .. })));
    let key = Some(&b"group/field"[..]);
    assert!(matches!(decode_override(key, &headers[..1], value), Err(Error::Misplaced { .. })));
    for key in [None, Some(&b"group"[..]), Some(b"/field"), Some(b"group/"), Some(b"\xff/a")] {
        assert!(matches!(decode_override(key, &headers, None), Err(Error::MalformedKey)));
    }
}

#[test]
fn a_tombstone_takes_an_override_back_whoever_wrote_it() {
    let taken_back = decode_override(Some(b"orders/consumers.max"), &[], None).unwrap();
    assert_eq!(taken_back.value, None);
    let again = encode(&Decoded::Override(taken_back.clone()));
    assert_eq!(again.value, None);
    assert_eq!(decode(&again).unwrap(), Decoded::Override(taken_back));
}
