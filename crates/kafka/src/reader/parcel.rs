//! Records on their way from a fetcher to the caller: the parts of an answer are decoded batch by batch, and passed on before
//! they grow large.

use bytes::Bytes;
use tidegate_core::ids::Position;
use tidegate_runtime::ports::{Class, Error, Record, RecordBatch, TopicPartition};

use super::budget::{Budget, Charge};
use super::entry::Generation;
use super::{News, Shared, Unread, Why};
use crate::records::{Aborted, Batches, Garbled};

/// Bytes of records that are passed on together.
const PARCEL: usize = 1 << 20;

/// A part of an answer that is always worth a copy.
const SMALL: usize = 16 << 10;

/// A batch may hold so much once it is decompressed. Producers write up to a megabyte by default, which can stand for very
/// much more; beyond this it may be an attack on memory.
const MOST_PLAIN: usize = 64 << 20;

/// How often the same batch may fail to decode: a transfer can be garbled once, a log that is garbled stays so.
const MAX_GARBLED: u32 = 5;

/// A partition's part of an answer.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) partition: TopicPartition,
    pub(super) generation: Generation,
    pub(super) from: u64,
    pub(super) bytes: Bytes,
    pub(super) aborted: Aborted,
}

/// Records of one partition, with the assignment that they belong to and the position that they follow.
#[derive(Debug)]
pub(super) struct Tagged {
    pub(super) generation: Generation,
    pub(super) from: u64,
    pub(super) batch: RecordBatch,
    /// Memory that it takes.
    pub(super) bytes: usize,
}

/// What is passed on together.
#[derive(Debug)]
pub(super) struct Parcel {
    batches: Vec<Tagged>,
    _charge: Charge,
}

impl Parcel {
    /// What is in it; its memory is the caller's to count from now on.
    pub(super) fn open(self) -> Vec<Tagged> {
        self.batches
    }
}

/// A parcel that is being filled.
#[derive(Debug, Default)]
struct Filling {
    batches: Vec<Tagged>,
    bytes: usize,
}

/// Decodes the parts of one answer and passes their records on.
pub(super) async fn deliver(shared: &Shared, segments: Vec<Segment>) -> Result<(), Unread> {
    let all: usize = segments.iter().map(|segment| segment.bytes.len()).sum();
    let mut filling = Filling::default();
    for segment in segments {
        let bytes = apart(segment.bytes, all);
        let mut batches = Batches::new(bytes, segment.from, segment.aborted, MOST_PLAIN);
        let id = segment.partition.id;
        loop {
            let from = batches.position();
            let mut part = Part::default();
            let outcome = part.fill(&mut batches, PARCEL.saturating_sub(filling.bytes));
            if batches.position() > from {
                let next = Position(batches.position());
                let partition = segment.partition.clone();
                let batch = RecordBatch { partition, records: part.records, next };
                let (generation, bytes) = (segment.generation, part.bytes);
                filling.batches.push(Tagged { generation, from, batch, bytes });
                filling.bytes += bytes;
                shared.board.sound(id, segment.generation);
            }
            let more = match outcome {
                Ok(false) if batches.position() == segment.from => {
                    let cut = Garbled("no whole batch came".to_owned());
                    report(shared, (&segment.partition, segment.generation, segment.from), cut)
                        .await?;
                    false
                }
                Ok(more) => more,
                Err(garbled) => {
                    // What came before is good, and comes before the error.
                    filling.send(shared).await?;
                    let at = (&segment.partition, segment.generation, batches.position());
                    report(shared, at, garbled).await?;
                    false
                }
            };
            if filling.bytes >= PARCEL {
                filling.send(shared).await?;
            }
            if !more {
                break;
            }
        }
    }
    filling.send(shared).await
}

/// A batch that cannot be read is fetched again some times, and then the reading of its partition ends.
pub(super) async fn report(
    shared: &Shared,
    (partition, generation, at): (&TopicPartition, Generation, u64),
    cause: Garbled,
) -> Result<(), Unread> {
    let Some(tries) = shared.board.garbled(partition.id, generation, at) else { return Ok(()) };
    if tries < MAX_GARBLED {
        tracing::debug!(%partition, at, tries, %cause, "a batch is fetched again");
        return Ok(());
    }
    let text =
        format!("failed to decode the records of partition {partition} at offset {at}: {cause}");
    let why = Why::Failed(Error::new(Class::Permanent, text));
    shared.finish(partition.id, generation, why).await
}

/// Records that were decoded.
#[derive(Default)]
struct Part {
    records: Vec<Record>,
    /// Memory that they keep.
    bytes: usize,
}

impl Part {
    /// Decodes batches until there is so much. Returns whether there is more.
    fn fill(&mut self, batches: &mut Batches, most: usize) -> Result<bool, Garbled> {
        while self.bytes < most.max(1) {
            let before = self.records.len();
            let Some(passed) = batches.read(&mut self.records)? else { return Ok(false) };
            let records = self.records.get(before..).unwrap_or_default();
            let held: usize = if passed.is_compressed {
                records.iter().map(Record::size).sum()
            } else {
                passed.bytes
            };
            self.bytes += held + size_of_val(records);
        }
        Ok(true)
    }
}

impl Filling {
    /// Passes on what is there, once there is room.
    async fn send(&mut self, shared: &Shared) -> Result<(), Unread> {
        let Self { batches, bytes } = std::mem::take(self);
        if batches.is_empty() {
            return Ok(());
        }
        shared.budget.room().await;
        let charge = Budget::charge(&shared.budget, bytes);
        let parcel = Parcel { batches, _charge: charge };
        shared.send(News::Records(parcel)).await
    }
}

/// A small part of an answer, or of the memory that answers are read into, moves to memory of its own: its records would else
/// keep the whole of it.
fn apart(part: Bytes, all: usize) -> Bytes {
    if part.len() < (all / 2).max(SMALL) { Bytes::copy_from_slice(&part) } else { part }
}
