//! Records between the reader and the sink, by partition: gathered until a batch is large or old enough.
//!
//! While a batch is written the next one gathers. Memory is bounded by pausing partitions, never by dropping.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tidegate_core::ids::{Epoch, Instant, PartitionId, Position};
use tidegate_core::ledger::PartitionFigures;

use super::reading::ReadingId;
use crate::ports::{Record, RecordBatch, TopicPartition};

/// When a batch is cut and how much may wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) batch_bytes: usize,
    pub(super) wait_time: Duration,
    pub(super) first_batch: Duration,
    pub(super) queue_bytes: usize,
}

/// One partition on its way to the sink.
#[derive(Debug)]
pub(super) struct Gathering {
    pub(super) partition: TopicPartition,
    pub(super) epoch: Epoch,
    /// Where the sink stands.
    pub(super) stands: Position,
    reading: Option<ReadingId>,
    records: Parts,
    bytes: usize,
    /// What they take with all that they are made of.
    memory: usize,
    next: Position,
    /// Up to here all was read: there may be no records after the last that was gathered.
    read: Position,
    since: Option<Instant>,
    wrote: bool,
    announced: bool,
    paused: bool,
    end: Option<Position>,
    /// Age of the first record of the last batch, when it became durable.
    age: Option<Duration>,
    figures: PartitionFigures,
}

/// A batch that was cut.
#[derive(Debug)]
pub(super) struct Cut {
    pub(super) partition: TopicPartition,
    pub(super) expected: Position,
    pub(super) records: Vec<Record>,
    pub(super) bytes: usize,
    pub(super) end: Position,
    /// From its first record in memory until it was cut.
    pub(super) fetched: Duration,
    pub(super) _held: Held,
}

/// Memory of a batch that was cut, until this is dropped with it.
#[derive(Debug, Default)]
pub(super) struct Held {
    of: Arc<AtomicUsize>,
    bytes: usize,
}

/// All partitions of a consumer.
#[derive(Debug)]
pub(super) struct Gatherer {
    limits: Limits,
    partitions: BTreeMap<PartitionId, Gathering>,
    memory: usize,
    /// Of batches that are being written.
    writing: Arc<AtomicUsize>,
    readings: u64,
}

impl Gatherer {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            partitions: BTreeMap::new(),
            memory: 0,
            writing: Arc::default(),
            readings: 0,
        }
    }

    /// Begins with a partition, or again at another position.
    pub(super) fn begin(
        &mut self,
        partition: TopicPartition,
        epoch: Epoch,
        from: Position,
    ) -> ReadingId {
        self.readings += 1;
        let reading = ReadingId(self.readings);
        let id = partition.id;
        let before = self.remove(id).filter(|before| before.epoch == epoch);
        let none = PartitionFigures { partition: id, records: 0, bytes: 0, busy_us: 0, lag: None };
        let gathering = Gathering {
            partition,
            epoch,
            stands: from,
            reading: Some(reading),
            records: Parts::default(),
            bytes: 0,
            memory: 0,
            next: from,
            read: from,
            since: None,
            wrote: false,
            announced: false,
            paused: false,
            end: before.as_ref().and_then(|before| before.end),
            age: before.as_ref().and_then(|before| before.age),
            figures: before.map_or(none, |before| before.figures),
        };
        self.partitions.insert(id, gathering);
        reading
    }

    /// Drops what was gathered; a write in flight keeps its own records.
    pub(super) fn drop_gathered(&mut self, id: PartitionId) -> Option<TopicPartition> {
        let gathering = self.partitions.get_mut(&id)?;
        self.memory -= gathering.memory;
        (gathering.bytes, gathering.memory) = (0, 0);
        gathering.records = Parts::default();
        gathering.reading = None;
        gathering.since = None;
        Some(gathering.partition.clone())
    }

    /// Forgets a partition.
    pub(super) fn remove(&mut self, id: PartitionId) -> Option<Gathering> {
        let gathering = self.partitions.remove(&id)?;
        self.memory -= gathering.memory;
        Some(gathering)
    }

    pub(super) fn get(&self, id: PartitionId) -> Option<&Gathering> {
        self.partitions.get(&id)
    }

    /// The partition that is read under this number.
    pub(super) fn of_reading(&self, id: PartitionId, reading: ReadingId) -> Option<&Gathering> {
        self.get(id).filter(|gathering| gathering.reading == Some(reading))
    }

    /// Takes records in. Returns true when the partition must be paused.
    pub(super) fn add(
        &mut self,
        now: Instant,
        reading: ReadingId,
        batch: RecordBatch,
        end: Option<Position>,
    ) -> bool {
        let Some(gathering) = self.partitions.get_mut(&batch.partition.id) else { return false };
        if gathering.reading != Some(reading) {
            return false;
        }
        gathering.read = batch.next;
        gathering.end = end.or(gathering.end);
        if batch.records.is_empty() {
            return false;
        }
        let (bytes, memory) = sizes(&batch.records);
        gathering.records.push(batch.records);
        gathering.next = batch.next;
        gathering.bytes += bytes;
        gathering.memory += memory;
        gathering.since.get_or_insert(now);
        self.memory += memory;
        let writing = self.writing.load(Ordering::Relaxed);
        let crowded = self.memory + writing >= self.limits.queue_bytes;
        let full = gathering.bytes >= 2 * self.limits.batch_bytes || crowded;
        let pause = full && !gathering.paused;
        gathering.paused |= pause;
        pause
    }

    /// The partitions whose batch is large or old enough and was not announced yet.
    pub(super) fn announce(&mut self, now: Instant) -> Vec<(PartitionId, Epoch)> {
        let crowded = self.is_crowded();
        let all = self.partitions.iter_mut();
        let ready = all.filter_map(|(id, gathering)| {
            gathering.announce(&self.limits, crowded, now).then_some((*id, gathering.epoch))
        });
        ready.collect()
    }

    /// The same of one partition.
    pub(super) fn announce_one(&mut self, now: Instant, id: PartitionId) -> Option<Epoch> {
        let crowded = self.is_crowded();
        let gathering = self.partitions.get_mut(&id)?;
        gathering.announce(&self.limits, crowded, now).then_some(gathering.epoch)
    }

    /// True when all together hold as much as they may: then each batch is large enough.
    pub(super) fn is_crowded(&self) -> bool {
        self.memory() >= self.limits.queue_bytes
    }

    /// Cuts the batch to be written.
    pub(super) fn cut(&mut self, now: Instant, id: PartitionId) -> Option<Cut> {
        let limit = self.limits.batch_bytes;
        let gathering = self.partitions.get_mut(&id)?;
        let (records, left) = gathering.records.take(gathering.bytes, limit);
        let (bytes, memory) = (gathering.bytes - left.0, gathering.memory - left.1);
        let end = gathering.records.first().map_or(gathering.next, |first| Position(first.offset));
        (gathering.bytes, gathering.memory) = left;
        self.memory -= memory;
        let fetched = gathering.since.map_or(Duration::ZERO, |since| now.since(since));
        if gathering.records.is_empty() {
            gathering.since = None;
        }
        Some(Cut {
            partition: gathering.partition.clone(),
            expected: gathering.stands,
            records,
            bytes,
            end,
            fetched,
            _held: Held::new(&self.writing, memory),
        })
    }

    /// Notes a durable write. Returns true when a paused partition can be read on.
    pub(super) fn written(&mut self, id: PartitionId, done: Done, age: Option<Duration>) -> bool {
        let crowded = self.is_crowded();
        let Some(gathering) = self.partitions.get_mut(&id) else { return false };
        gathering.stands = done.end;
        gathering.age = age.or(gathering.age);
        gathering.wrote = true;
        gathering.announced = false;
        let figures = &mut gathering.figures;
        figures.records += done.records;
        figures.bytes += done.bytes;
        figures.busy_us += u64::try_from(done.took.as_micros()).unwrap_or(u64::MAX);
        let resume = gathering.paused && gathering.bytes < self.limits.batch_bytes && !crowded;
        gathering.paused &= !resume;
        resume
    }

    /// Partitions that were paused because all together held too much, and can go on now that they do not.
    pub(super) fn resumable(&mut self) -> Vec<TopicPartition> {
        if self.is_crowded() {
            return Vec::new();
        }
        let limit = self.limits.batch_bytes;
        let idle = self
            .partitions
            .values_mut()
            .filter(|gathering| gathering.paused && gathering.bytes < limit);
        idle.map(|gathering| {
            gathering.paused = false;
            gathering.partition.clone()
        })
        .collect()
    }

    /// What was done so far.
    pub(super) fn figures(&self) -> Vec<PartitionFigures> {
        self.partitions.values().map(Gathering::figures).collect()
    }

    /// Where partitions end, asked of the brokers.
    pub(super) fn ends(&mut self, ends: &BTreeMap<(String, u32), u64>) {
        for gathering in self.partitions.values_mut() {
            let at = (gathering.partition.topic.clone(), gathering.partition.id.number);
            if let Some(end) = ends.get(&at) {
                // The newest answer, also when it is lower: one may be of a topic that was deleted under this name.
                gathering.end = Some(Position(*end));
            }
        }
    }

    /// Memory of the records that wait or are being written.
    pub(super) fn memory(&self) -> usize {
        self.memory + self.writing.load(Ordering::Relaxed)
    }

    /// All partitions, for status.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Gathering> {
        self.partitions.values()
    }
}

impl Held {
    fn new(of: &Arc<AtomicUsize>, bytes: usize) -> Self {
        of.fetch_add(bytes, Ordering::Relaxed);
        Self { of: Arc::clone(of), bytes }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.of.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Records in the order in which they came, and as they came: they are put together once they are a batch.
#[derive(Debug, Default)]
struct Parts(Vec<Vec<Record>>);

impl Parts {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn first(&self) -> Option<&Record> {
        self.0.first()?.first()
    }

    /// Adds records, of which there must be some.
    fn push(&mut self, records: Vec<Record>) {
        self.0.push(records);
    }

    /// Takes what fits into so many bytes of all that there are, or one record. Tells of what stays what it holds and takes.
    fn take(&mut self, mut bytes: usize, limit: usize) -> (Vec<Record>, (usize, usize)) {
        let (mut rest, mut left) = (Vec::new(), (0, 0));
        // Most often all of it fits, but for a little.
        while bytes > limit {
            let least = usize::from(self.0.len() == 1);
            let Some(last) = self.0.last_mut().filter(|last| last.len() > least) else { break };
            let mut count = last.len();
            while count > least && bytes > limit {
                count -= 1;
                let size = last[count].size();
                bytes -= size;
                left = (left.0 + size, left.1 + size + last[count].overhead());
            }
            rest.push(last.split_off(count));
            self.0.pop_if(|last| last.is_empty());
        }
        rest.reverse();
        let mut taken = std::mem::replace(&mut self.0, rest).into_iter();
        let mut records = taken.next().unwrap_or_default();
        records.reserve_exact(taken.as_slice().iter().map(Vec::len).sum());
        taken.for_each(|part| records.extend(part));
        (records, left)
    }
}

/// Bytes of records, and the memory that they take.
fn sizes(records: &[Record]) -> (usize, usize) {
    let each = records.iter().map(|record| (record.size(), record.overhead()));
    let (bytes, overhead) =
        each.fold((0, 0), |(bytes, all), (size, overhead)| (bytes + size, all + overhead));
    (bytes, bytes + overhead)
}

/// A durable write.
#[derive(Clone, Copy, Debug)]
pub(super) struct Done {
    pub(super) records: u64,
    pub(super) bytes: u64,
    pub(super) end: Position,
    pub(super) fetched: Duration,
    pub(super) took: Duration,
    /// Timestamp of the first record, in milliseconds since the Unix epoch: the oldest, where they are in order.
    pub(super) first_unix_ms: Option<i64>,
}

impl Gathering {
    /// True once for each batch, when it is large or old enough.
    fn announce(&mut self, limits: &Limits, crowded: bool, now: Instant) -> bool {
        let wait = if self.wrote { limits.wait_time } else { limits.first_batch };
        let old = self.since.is_some_and(|since| now.since(since) >= wait);
        let large = self.bytes >= limits.batch_bytes;
        let ready = (old || large || (crowded && self.bytes > 0)) && !self.announced;
        self.announced |= ready;
        ready
    }

    /// How far the partition is done: where the sink stands or, if it has all records that were read, where reading is. In between
    /// are the markers of transactions.
    pub(super) fn done(&self) -> Position {
        let all_written = self.records.is_empty() && self.next == self.stands;
        if all_written { self.read.max(self.stands) } else { self.stands }
    }

    /// True while records wait that no write has taken.
    pub(super) fn has_records(&self) -> bool {
        !self.records.is_empty()
    }

    /// Age of the oldest record that is not durable: of the first in memory or, where there is none, of the last that became so.
    pub(super) fn lag_age(&self, unix_ms: u64) -> Option<Duration> {
        let oldest = self.records.first().and_then(|first| u64::try_from(first.timestamp_ms).ok());
        let waits = oldest.map(|at| Duration::from_millis(unix_ms.saturating_sub(at)));
        let none_left = self.figures().lag == Some(0);
        waits.or(if none_left { Some(Duration::ZERO) } else { self.age })
    }

    pub(super) fn figures(&self) -> PartitionFigures {
        let lag = self.end.map(|end| end.0.saturating_sub(self.done().0));
        PartitionFigures { lag, ..self.figures }
    }
}

#[cfg(test)]
mod tests {
    use tidegate_core::ids::{Offset, TopicId};

    use super::*;

    const ID: PartitionId = PartitionId { topic: TopicId([1; 16]), number: 0 };

    fn partition() -> TopicPartition {
        TopicPartition { topic: "orders".to_owned(), id: ID }
    }

    fn gatherer() -> (Gatherer, ReadingId) {
        let limits = Limits {
            batch_bytes: 100,
            wait_time: Duration::from_secs(1),
            first_batch: Duration::from_millis(50),
            queue_bytes: 1000,
        };
        let mut gatherer = Gatherer::new(limits);
        let reading = gatherer.begin(partition(), Epoch(Offset(7)), Position(0));
        (gatherer, reading)
    }

    /// Records at these offsets, of a second of the clock each, and how far reading has come.
    fn batch(offsets: std::ops::Range<u64>, next: u64) -> RecordBatch {
        let record = |offset: u64| Record {
            offset,
            timestamp_ms: i64::try_from(1000 * offset).unwrap(),
            key: None,
            value: Some(bytes::Bytes::from_static(b"0123456789")),
            headers: Vec::new(),
        };
        let records = offsets.map(record).collect();
        RecordBatch { partition: partition(), records, next: Position(next) }
    }

    fn write(gatherer: &mut Gatherer, now: Instant, age: Duration) {
        let cut = gatherer.cut(now, ID).unwrap();
        let done = Done {
            records: 1,
            bytes: 1,
            end: cut.end,
            fetched: cut.fetched,
            took: Duration::ZERO,
            first_unix_ms: None,
        };
        gatherer.written(ID, done, Some(age));
    }

    #[test]
    fn a_batch_is_what_fits_of_records_that_came_in_parts() {
        let value = Some(bytes::Bytes::from_static(b"x"));
        let record = |offset| Record {
            offset,
            timestamp_ms: 0,
            key: None,
            value: value.clone(),
            headers: Vec::new(),
        };
        let all: Vec<Record> = (0..6).map(record).collect();
        for limit in 0..8 {
            let mut parts = Parts::default();
            for part in [0..3, 3..5, 5..6] {
                parts.push(all[part].to_vec());
            }
            let (taken, left) = parts.take(6, limit);
            assert_eq!(taken, all[..limit.clamp(1, 6)], "{limit}");
            let rest = parts.0.concat();
            assert_eq!(rest, all[taken.len()..], "{limit}");
            assert_eq!((left, parts.is_empty()), (sizes(&rest), rest.is_empty()));
            assert!(parts.0.iter().all(|part| !part.is_empty()));
        }
        assert_eq!(Parts::default().take(0, 5), (vec![], (0, 0)));
    }

    #[test]
    fn markers_behind_the_last_record_are_no_lag_once_it_is_durable() {
        let (mut gatherer, reading) = gatherer();
        let now = Instant::default();
        let end = Some(Position(4));
        assert!(!gatherer.add(now, reading, batch(0..3, 3), end));
        assert!(!gatherer.add(now, reading, batch(3..3, 4), end));
        let lag = |gatherer: &Gatherer| gatherer.get(ID).unwrap().figures().lag;
        assert_eq!(lag(&gatherer), Some(4));
        let cut = gatherer.cut(now, ID).unwrap();
        assert_eq!((cut.records.len(), cut.end), (3, Position(3)));
        assert_eq!(lag(&gatherer), Some(4), "it is not durable yet");
        let done = Done {
            records: 3,
            bytes: 30,
            end: cut.end,
            fetched: cut.fetched,
            took: Duration::ZERO,
            first_unix_ms: None,
        };
        gatherer.written(ID, done, None);
        assert_eq!(lag(&gatherer), Some(0));
        assert_eq!(gatherer.get(ID).unwrap().done(), Position(4));
    }

    #[test]
    fn lag_in_time_is_the_age_of_the_oldest_record_that_waits() {
        let (mut gatherer, reading) = gatherer();
        let (now, seconds) = (Instant::default(), Duration::from_secs);
        let age = |gatherer: &Gatherer| gatherer.get(ID).unwrap().lag_age(10_000);
        assert_eq!(age(&gatherer), None);
        gatherer.add(now, reading, batch(4..6, 6), Some(Position(9)));
        assert_eq!(age(&gatherer), Some(seconds(6)));
        let later = now.after(seconds(2));
        write(&mut gatherer, later, seconds(5));
        assert_eq!(age(&gatherer), Some(seconds(5)), "as old as the last that was written");
        gatherer.add(later, reading, batch(6..9, 9), Some(Position(9)));
        write(&mut gatherer, later, seconds(1));
        assert_eq!(age(&gatherer), Some(Duration::ZERO), "nothing is left");
    }

    #[test]
    fn a_batch_knows_how_long_it_was_fetched() {
        let (mut gatherer, reading) = gatherer();
        let now = Instant::default();
        gatherer.add(now, reading, batch(0..1, 1), None);
        let later = now.after(Duration::from_millis(300));
        gatherer.add(later, reading, batch(1..2, 2), None);
        let cut = gatherer.cut(later, ID).unwrap();
        assert_eq!((cut.fetched, cut.records.len()), (Duration::from_millis(300), 2));
    }

    #[test]
    fn what_is_being_written_is_memory_too() {
        let (mut gatherer, reading) = gatherer();
        let now = Instant::default();
        let add = |gatherer: &mut Gatherer, at| {
            gatherer.add(now, reading, batch(at..at + 1, at + 1), None)
        };
        let full = (0..1000).find(|at| add(&mut gatherer, *at)).unwrap();
        assert!(gatherer.is_crowded() && full < 10, "{full}");
        let cut = gatherer.cut(now, ID).unwrap();
        assert!(gatherer.is_crowded() && !gatherer.get(ID).unwrap().has_records());
        assert_eq!(gatherer.resumable(), []);
        drop(cut);
        assert_eq!(gatherer.resumable(), [partition()]);
        assert_eq!(gatherer.memory(), 0);
    }
}
