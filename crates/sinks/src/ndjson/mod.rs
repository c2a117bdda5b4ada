//! Records as lines of JSON: what the `object` and `stdout` sinks write, and how it is read back.
//!
//! A line is one object with the fields, in this order,
//!
//! ```json
//! {"topic":"orders","partition":3,"offset":17,"timestamp":1700000000000,"key":"k","value":"v","headers":[{"name":"n","value":"v"}]}
//! ```
//!
//! `timestamp` is milliseconds since the Unix epoch, or null when the record has none. A key or value is null when
//! absent and a string when it is UTF-8; other bytes are in `keyBase64` or `valueBase64` instead (standard alphabet,
//! padded). `headers` keep their order and names may repeat; the field is absent when there are none. Readers pass over
//! fields that they do not know.

pub(crate) mod base64;
mod decode;
mod encode;

pub use decode::{Line, LineError};
pub use encode::Encoder;

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use tidegate_runtime::ports::Record;

    use super::{Encoder, Line};

    fn payload() -> impl Strategy<Value = Option<Bytes>> {
        prop_oneof![
            Just(None),
            any::<Vec<u8>>().prop_map(|bytes| Some(Bytes::from(bytes))),
            any::<String>().prop_map(|text| Some(Bytes::from(text))),
            "[ -~\\\\\"\n\t]{0,40}".prop_map(|text| Some(Bytes::from(text))),
        ]
    }

    fn record() -> impl Strategy<Value = Record> {
        let headers = proptest::collection::vec((any::<String>(), payload()), 0..3);
        (any::<u64>(), -1_i64.., payload(), payload(), headers).prop_map(
            |(offset, timestamp_ms, key, value, headers)| Record {
                offset,
                timestamp_ms,
                key,
                value,
                headers,
            },
        )
    }

    fn encoded(topic: &str, partition: u32, record: &Record) -> Bytes {
        let mut out = Vec::new();
        Encoder::new(topic, partition).line(record, &mut out);
        Bytes::from(out)
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(topic in any::<String>(), partition: u32, record in record()) {
            let bytes = encoded(&topic, partition, &record);
            prop_assert_eq!(bytes.last(), Some(&b'\n'));
            let text = bytes.slice(..bytes.len() - 1);
            prop_assert!(!text.contains(&b'\n'), "one line");
            prop_assert!(serde_json::from_slice::<serde_json::Value>(&text).is_ok());
            let line = Line::parse(&text).unwrap();
            prop_assert_eq!(&*line.topic, topic.as_str());
            prop_assert_eq!(line.partition, partition);
            prop_assert_eq!(line.into_record(&text).unwrap(), record);
        }

        #[test]
        fn corrupt_lines_are_errors_and_never_panics(
            record in record(),
            flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        ) {
            let mut bytes = encoded("orders", 1, &record).to_vec();
            for (at, byte) in flips {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            let bytes = Bytes::from(bytes);
            if let Ok(line) = Line::parse(&bytes) {
                drop(line.into_record(&bytes));
            }
        }
    }

    #[test]
    fn lines_look_as_documented() {
        let mut record = Record {
            offset: 17,
            timestamp_ms: 1_700_000_000_000,
            key: Some(Bytes::from_static(b"k\"1")),
            value: Some(Bytes::from_static(&[0xff, 0xfe, 0xfd, 0xfc])),
            headers: vec![("n".to_owned(), None), ("n".to_owned(), Some(Bytes::from_static(b"v")))],
        };
        assert_eq!(
            encoded("orders", 3, &record),
            "{\"topic\":\"orders\",\"partition\":3,\"offset\":17,\"timestamp\":1700000000000,\
             \"key\":\"k\\\"1\",\"valueBase64\":\"//79/A==\",\
             \"headers\":[{\"name\":\"n\",\"value\":null},{\"name\":\"n\",\"value\":\"v\"}]}\n"
        );
        record = Record { timestamp_ms: -1, key: None, value: None, headers: Vec::new(), ..record };
        assert_eq!(
            encoded("orders", 3, &record),
            "{\"topic\":\"orders\",\"partition\":3,\"offset\":17,\"timestamp\":null,\"key\":null,\"value\":null}\n"
        );
    }
}
