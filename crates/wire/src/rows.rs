//! Lists of partitions, compact and still readable: grouped by topic, one array for each partition.
//!
//! ```json
//! [{"topicId": "shwAf4D_AQIDBAUGBwgJ_g", "partitions": [[0, 77, 1200], [1, 77, 980]]}]
//! ```
//!
//! The cells of a row have a fixed order, which the schema names. Readers ignore cells beyond those that they know, so a
//! later version may append some. Neighbours of the same topic share a group, so that the order of the list is kept.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error as _, IgnoredAny, SeqAccess, Visitor};
use serde::ser::SerializeTuple as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tidegate_core::ids::{Epoch, Incarnation, Offset, PartitionId, Position};
use tidegate_core::ledger::{Move, Ownership, PartitionFigures};

use crate::ids::{Consumer, TopicText};

/// Most partitions in one message. As many as the largest usual cluster has; at some 40 bytes each they fill
/// [`crate::MAX_VALUE_BYTES`].
pub const MAX_PARTITIONS: usize = 200_000;

/// What one cell of a row may be when the row ends before it.
pub(crate) trait Cell: Sized {
    /// The value of a cell that is not there; `None` where it must be.
    fn absent() -> Option<Self> {
        None
    }
}

impl Cell for u32 {}
impl Cell for u64 {}
impl Cell for String {}

impl<T> Cell for Option<T> {
    fn absent() -> Option<Self> {
        Some(None)
    }
}

/// One partition in a list, without its topic.
pub(crate) trait Row: Sized {
    /// The entry of the list in `core`.
    type Item;

    fn of(item: &Self::Item) -> (PartitionId, Self);
    fn at(self, topic: tidegate_core::ids::TopicId) -> Self::Item;
}

/// Declares a row: an array with one cell for each field, in their order.
macro_rules! row {
    ($(#[doc = $doc:literal])* $name:ident { $($field:ident $label:literal: $type:ty),+ $(,)? }) => {
        $(#[doc = $doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub(crate) struct $name {
            $($field: $type,)+
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut row = serializer.serialize_tuple([$($label),+].len())?;
                $(row.serialize_element(&self.$field)?;)+
                row.end()
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Cells;

                impl<'de> Visitor<'de> for Cells {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        write!(f, "an array of {}", [$($label),+].join(", "))
                    }

                    fn visit_seq<A: SeqAccess<'de>>(self, mut row: A) -> Result<$name, A::Error> {
                        let value = $name {
                            $($field: next_cell::<$type, A>(&mut row, $label)?,)+
                        };
                        while row.next_element::<IgnoredAny>()?.is_some() {}
                        Ok(value)
                    }
                }

                deserializer.deserialize_seq(Cells)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                let cells = vec![$(titled_schema::<$type>(generator, $label)),+];
                let required = [$(<$type as Cell>::absent().is_none()),+];
                json_schema!({
                    "type": "array",
                    "description": concat!($($doc),*).trim_ascii(),
                    "prefixItems": cells,
                    "minItems": required.iter().rposition(|at| *at).map_or(0, |last| last + 1),
                })
            }
        }
    };
}

fn next_cell<'de, T, A>(row: &mut A, label: &'static str) -> Result<T, A::Error>
where
    T: Cell + Deserialize<'de>,
    A: SeqAccess<'de>,
{
    let cell = row.next_element()?.or_else(T::absent);
    cell.ok_or_else(|| A::Error::missing_field(label))
}

fn titled_schema<T: JsonSchema>(generator: &mut SchemaGenerator, label: &str) -> Schema {
    let mut schema = generator.subschema_for::<T>();
    schema.insert("title".to_owned(), label.into());
    schema
}

row! {
    /// A partition and the offset of its next record.
    PositionRow { number "number": u32, next "next": u64 }
}
row! {
    /// A partition and the grant by which it is owned.
    EpochRow { number "number": u32, epoch "epoch": u64 }
}
row! {
    /// A partition, its grant, and the offset of the record after the last durable one.
    ProgressRow { number "number": u32, epoch "epoch": u64, next "next": u64 }
}
row! {
    /// A partition, the grant that ended, and the offset of the record after the last durable one, if it is known.
    StopRow { number "number": u32, epoch "epoch": u64, next "next": Option<u64> }
}
row! {
    /// What was done with a partition since it was granted: records and bytes made durable, microseconds spent on them,
    /// and the records that are left.
    FiguresRow {
        number "number": u32,
        records "records": u64,
        bytes "bytes": u64,
        busy_us "busyUs": u64,
        lag "lag": Option<u64>,
    }
}
row! {
    /// A partition that changes its consumer: from which, to which, and why in one word.
    MoveRow {
        number "number": u32,
        from "from": Option<Consumer>,
        to "to": Option<Consumer>,
        reason "reason": String,
    }
}

row! {
    /// A partition with what is known of its position, its owner (the offset of its `Hello`), the grant, and whether the
    /// owner has said that it reads.
    OwnershipRow {
        number "number": u32,
        next "next": Option<u64>,
        incarnation "incarnation": Option<u64>,
        epoch "epoch": Option<u64>,
        active "active": Option<bool>,
    }
}

impl Row for u32 {
    type Item = PartitionId;

    fn of(item: &PartitionId) -> (PartitionId, Self) {
        (*item, item.number)
    }

    fn at(self, topic: tidegate_core::ids::TopicId) -> PartitionId {
        PartitionId { topic, number: self }
    }
}

impl Row for PositionRow {
    type Item = (PartitionId, Position);

    fn of((id, next): &Self::Item) -> (PartitionId, Self) {
        (*id, Self { number: id.number, next: next.0 })
    }

    fn at(self, topic: tidegate_core::ids::TopicId) -> Self::Item {
        (self.number.at(topic), Position(self.next))
    }
}

impl Row for EpochRow {
    type Item = (PartitionId, Epoch);

    fn of((id, epoch): &Self::Item) -> (PartitionId, Self) {
        (*id, Self { number: id.number, epoch: epoch.0.0 })
    }

    fn at(self, topic: tidegate_core::ids::TopicId) -> Self::Item {
        (self.number.at(topic), Epoch(Offset(self.epoch)))
    }
}

impl Row for ProgressRow {
    type Item = (PartitionId, Epoch, Position);

    fn of((id, epoch, next): &Self::Item) -> (PartitionId, Self) {
        (*id, Self { number: id.number, epoch: epoch.0.0, next: next.0 })
    }

    fn at(self, topic: tidegate_core::ids::TopicId) -> Self::Item {
        (self.number.at(topic), Epoch(Offset(self.epoch)), Position(self.next))
    }
}

impl Row for StopRow {
    type Item = (PartitionId, Epoch, Option<Position>);

    fn of((id, epoch, next): &Self::Item) -> (PartitionId, Self) {
        let next = next.map(|next| next.0);
        (*id, Self { number: id.number, epoch: epoch.0.0, next })
    }

    fn at(self, topic: tidegate_core::ids::TopicId) -> Self::Item {
        (self.number.at(topic), Epoch(Offset(self.epoch)), self.next.map(Position))
    }
}

impl Row for FiguresRow {
    type Item = PartitionFigures;

    fn of(item: &PartitionFigures) -> (PartitionId, Self) {
        let PartitionFigures { partition, records, bytes, busy_us, lag } = *item;
        (partition, Self { number: partition.number, records, bytes, busy_us, lag })
    }

    fn at(self, topic: tidegate_core::ids::TopicId) -> PartitionFigures {
        let Self { number, records, bytes, busy_us, lag } = self;
        PartitionFigures { partition: number.at(topic), records, bytes, busy_us, lag }
    }
}

impl Row for OwnershipRow {
    type Item = (PartitionId, Ownership);

    fn of((id, ownership): &Self::Item) -> (PartitionId, Self) {
        let owner = ownership.owner();
        let row = Self {
            number: id.number,
            next: ownership.next().map(|next| next.0),
            incarnation: owner.map(|(_, incarnation)| incarnation.0.0),
            epoch: owner.map(|(epoch, _)| epoch.0.0),
            active: owner.map(|_| matches!(ownership, Ownership::Active { .. })),
        };
        (*id, row)
    }

    fn at(self, topic: tidegate_core::ids::TopicId) -> Self::Item {
        let next = self.next.map(Position);
        let ownership = match (self.incarnation, self.epoch, next) {
            (Some(incarnation), Some(epoch), Some(next)) => {
                let (incarnation, epoch) = (Incarnation(Offset(incarnation)), Epoch(Offset(epoch)));
                if self.active == Some(true) {
                    Ownership::Active { epoch, incarnation, next }
                } else {
                    Ownership::Granted { epoch, incarnation, next }
                }
            }
            _ => Ownership::Free { next },
        };
        (self.number.at(topic), ownership)
    }
}

impl Row for MoveRow {
    type Item = Move;

    fn of(item: &Move) -> (PartitionId, Self) {
        let row = Self {
            number: item.partition.number,
            from: item.from.map(Consumer),
            to: item.to.map(Consumer),
            reason: item.reason.clone(),
        };
        (item.partition, row)
    }

    fn at(self, topic: tidegate_core::ids::TopicId) -> Move {
        Move {
            partition: self.number.at(topic),
            from: self.from.map(|consumer| consumer.0),
            to: self.to.map(|consumer| consumer.0),
            reason: self.reason,
        }
    }
}

/// Partitions of one topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "TopicOf{R}")]
struct TopicRows<R> {
    /// The topic.
    topic_id: TopicText,
    /// Its partitions, one array each.
    partitions: Vec<R>,
}

/// A list of partitions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(transparent)]
#[schemars(rename = "ListOf{R}")]
pub(crate) struct Grouped<R>(Vec<TopicRows<R>>);

impl<R> Default for Grouped<R> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<R: Row> Grouped<R> {
    pub(crate) fn of(items: &[R::Item]) -> Self {
        let mut groups: Vec<TopicRows<R>> = Vec::new();
        for item in items {
            let (id, row) = R::of(item);
            match groups.last_mut() {
                Some(group) if group.topic_id.0 == id.topic => group.partitions.push(row),
                Some(_) | None => {
                    groups.push(TopicRows { topic_id: TopicText(id.topic), partitions: vec![row] });
                }
            }
        }
        Self(groups)
    }

    pub(crate) fn into_items(self) -> Vec<R::Item> {
        let rows = |group: TopicRows<R>| {
            let topic = group.topic_id.0;
            group.partitions.into_iter().map(move |row| row.at(topic))
        };
        self.0.into_iter().flat_map(rows).collect()
    }
}

impl<'de, R: Deserialize<'de>> Deserialize<'de> for Grouped<R> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let groups = Vec::<TopicRows<R>>::deserialize(deserializer)?;
        refuse_above_limit(groups.iter().map(|group| group.partitions.len()).sum())?;
        Ok(Self(groups))
    }
}

/// Reads a list of partitions that all are of one topic.
pub(crate) fn at_most<'de, T, D>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    let list = Vec::deserialize(deserializer)?;
    refuse_above_limit(list.len())?;
    Ok(list)
}

fn refuse_above_limit<E: serde::de::Error>(partitions: usize) -> Result<(), E> {
    if partitions > MAX_PARTITIONS {
        let message = format_args!("{partitions} partitions, more than {MAX_PARTITIONS}");
        return Err(E::custom(message));
    }
    Ok(())
}
