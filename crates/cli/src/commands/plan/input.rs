//! Loads and assignments from files: CSV with a partition and a value on each line, or a JSON object with a value for each partition.
//! Every fault has a line and a column.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::Deserializer;
use serde::de::{DeserializeOwned, DeserializeSeed, Error as _, MapAccess, Visitor};
use tidegate_core::ids::ConsumerNumber;
use tidegate_sim::planner::stream::{PartitionName, Stream};

use crate::commands::simulate::input::read;
use crate::failure::Refused;

/// The load of each partition in bytes per second.
pub(super) type Loads = BTreeMap<PartitionName, u64>;

/// The place of each partition in the file, and its consumer if it has one.
pub(super) type Current = BTreeMap<PartitionName, (Place, Option<ConsumerNumber>)>;

/// A place in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    line: usize,
    column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// A value as it stands in a file.
type Entries<T> = Vec<(PartitionName, Place, T)>;

/// A fault and its place.
type Fault = (Place, String);

/// Reads loads. A stream is taken as well: its last measurement.
pub(super) fn loads(file: &Path) -> anyhow::Result<Loads> {
    let text = read(file)?;
    if is_stream(&text) {
        let stream = Stream::from_csv(&text).map_err(|error| Refused::input(file, error))?;
        let last = stream.rows().last().cloned().unwrap_or_default();
        return Ok(stream.partitions().iter().cloned().zip(last).collect());
    }
    let found = entries(
        &text,
        |field| field.parse::<u64>().ok(),
        "a load in bytes/s, a whole number of 0 or more",
    );
    let found = found.map_err(|(place, what)| Refused::input(file, format!("{place}: {what}")))?;
    Ok(found.into_iter().map(|(partition, _, load)| (partition, load)).collect())
}

/// Reads who has what.
pub(super) fn current(file: &Path) -> anyhow::Result<Current> {
    let number = |field: &str| -> Option<Option<u32>> {
        if field.is_empty() { Some(None) } else { field.parse().ok().map(Some) }
    };
    let expected = "the number of a consumer, from 1 on, or nothing";
    let found = entries(&read(file)?, number, expected).and_then(|found| {
        let consumer = |(partition, place, number): (PartitionName, Place, Option<u32>)| {
            let consumer =
                number.map(|number| ConsumerNumber::new(number).ok_or(number)).transpose();
            let wrong = |number| (place, format!("expected {expected}, found {number}"));
            Ok((partition, (place, consumer.map_err(wrong)?)))
        };
        found.into_iter().map(consumer).collect::<Result<Current, Fault>>()
    });
    found.map_err(|(place, what)| Refused::input(file, format!("{place}: {what}")).into())
}

/// Whether the first line names partitions, and nothing else.
fn is_stream(text: &str) -> bool {
    let mut heads = text.lines().next().unwrap_or_default().split(',');
    heads.all(|head| PartitionName::parse(head.trim()).is_some())
}

fn entries<T: DeserializeOwned>(
    text: &str,
    value: impl Fn(&str) -> Option<T>,
    expected: &'static str,
) -> Result<Entries<T>, Fault> {
    if text.trim_start().starts_with('{') {
        return from_json(text, expected);
    }
    let mut entries = Vec::new();
    let mut seen = BTreeMap::new();
    for (line, text) in (1..).zip(text.lines()) {
        let at = |column| Place { line, column };
        let (name, rest) = text.split_once(',').map_or((text, None), |(a, b)| (a, Some(b)));
        let partition = PartitionName::parse(name.trim());
        // The first line may be a header, and an empty one says nothing.
        if text.trim().is_empty() || (line == 1 && partition.is_none() && rest.is_some()) {
            continue;
        }
        let Some(partition) = partition else {
            return Err((at(1), format!("expected topic:partition, found {:?}", name.trim())));
        };
        let fields = text.split(',').count();
        let Some(field) = rest.filter(|_| fields == 2) else {
            return Err((at(fields.clamp(1, 2) + 1), format!("expected 2 fields, found {fields}")));
        };
        if let Some(first) = seen.insert(partition.clone(), line) {
            return Err((at(1), format!("partition {partition} is already in line {first}")));
        }
        let wrong = || (at(2), format!("expected {expected}, found {:?}", field.trim()));
        entries.push((partition, at(2), value(field.trim()).ok_or_else(wrong)?));
    }
    if text.trim().is_empty() {
        return Err((Place { line: 1, column: 1 }, "the file is empty".to_owned()));
    }
    Ok(entries)
}

fn from_json<T: DeserializeOwned>(text: &str, expected: &'static str) -> Result<Entries<T>, Fault> {
    let mut json = serde_json::Deserializer::from_str(text);
    let found = Seed { expected, value: std::marker::PhantomData }.deserialize(&mut json);
    let found = found.and_then(|found| json.end().map(|()| found));
    let found = found.map_err(|error| {
        let place = Place { line: error.line(), column: error.column() };
        let text = error.to_string();
        let what = text.rsplit_once(" at line ").map_or(text.as_str(), |(what, _)| what);
        (place, what.to_owned())
    })?;
    // Places of single values are not known here; the object is what there is to point at.
    let begin = Place { line: 1, column: 1 };
    Ok(found.into_iter().map(|(partition, value)| (partition, begin, value)).collect())
}

/// Reads an object key by key, so that the first fault is told with its place, and no key is there twice.
struct Seed<T> {
    expected: &'static str,
    value: std::marker::PhantomData<T>,
}

impl<'de, T: DeserializeOwned> DeserializeSeed<'de> for Seed<T> {
    type Value = BTreeMap<PartitionName, T>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, T: DeserializeOwned> Visitor<'de> for Seed<T> {
    type Value = BTreeMap<PartitionName, T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with a value for each topic:partition")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = BTreeMap::new();
        while let Some(key) = map.next_key::<String>()? {
            let partition = PartitionName::parse(&key);
            let wrong = || A::Error::custom(format!("expected topic:partition, found {key:?}"));
            let partition = partition.ok_or_else(wrong)?;
            let value: serde_json::Value = map.next_value()?;
            let wrong = |_| A::Error::custom(format!("expected {}, found {value}", self.expected));
            let value = T::deserialize(&value).map_err(wrong)?;
            if found.insert(partition, value).is_some() {
                return Err(A::Error::custom(format!("partition {key} is there twice")));
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(text: &str) -> Result<Vec<u64>, String> {
        let found = entries(text, |field| field.parse::<u64>().ok(), "a number");
        let found = found.map_err(|(place, what)| format!("{place}: {what}"))?;
        Ok(found.into_iter().map(|(_, _, value)| value).collect())
    }

    #[test]
    fn lines_and_objects_say_the_same() {
        let lines = "partition,rate\na:0,5\n\nb:7, 6\r\n";
        assert_eq!(numbers(lines), Ok(vec![5, 6]));
        assert_eq!(numbers("a:0,5\nb:7,6\n"), Ok(vec![5, 6]), "a header may be left out");
        assert_eq!(numbers("{\"a:0\": 5, \"b:7\": 6}"), Ok(vec![5, 6]));
    }

    #[test]
    fn faults_have_their_place() {
        for (text, wrong) in [
            ("", "line 1, column 1: the file is empty"),
            ("p,r\na:0,-1\n", "line 2, column 2: expected a number, found \"-1\""),
            ("p,r\na,1\n", "line 2, column 1: expected topic:partition, found \"a\""),
            ("p,r\na:0\n", "line 2, column 2: expected 2 fields, found 1"),
            ("p,r\na:0,1,2\n", "line 2, column 3: expected 2 fields, found 3"),
            ("p,r\na:0,1\na:0,2\n", "line 3, column 1: partition a:0 is already in line 2"),
            ("{\"a:0\": 1,\n \"a\": 2}", "line 2, column 4: expected topic:partition, found \"a\""),
            ("{\"a:0\": \"x\"}", "line 1, column 12: expected a number, found \"x\""),
            ("{\"a:0\": 1, \"a:0\": 2}", "line 1, column 20: partition a:0 is there twice"),
            ("{\"a:0\": 1", "line 1, column 9: EOF while parsing an object"),
        ] {
            assert_eq!(numbers(text), Err(wrong.to_owned()));
        }
    }
}
