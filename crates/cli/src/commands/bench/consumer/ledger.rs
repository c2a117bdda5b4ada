//! A ledger in memory, and a controller that only grants: what a consumer needs around it to run as it does in a group.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use tidegate_core::ids::{
    ConsumerNumber, Epoch, Generation, GroupName, Incarnation, Offset, PartitionId, Position,
    ProcessId, Term,
};
use tidegate_core::ledger::{Command, CommandBody, Entry, Record, Seal};
use tidegate_runtime::ports::{
    AppendError, ControlLog, ControlReader, Error, RawRecord, ReadError,
};
use tidegate_wire::Encoded;
use tokio::sync::watch;

/// The generation of this ledger, which sees one run only.
const GENERATION: Generation = Generation(1);

/// Where the controller's reign begins: behind the record that begins the ledger.
const TERM: Term = Term(Offset(1));

/// All partitions of a control topic.
#[derive(Clone, Debug)]
pub(super) struct MemoryLog {
    partitions: Arc<Mutex<BTreeMap<u32, Vec<RawRecord>>>>,
    appended: Arc<watch::Sender<u64>>,
}

/// A position in one of them.
#[derive(Debug)]
struct MemoryReader {
    log: MemoryLog,
    appended: watch::Receiver<u64>,
    partition: u32,
    next: usize,
}

/// Grants partitions to the one consumer and takes them back.
#[derive(Debug)]
pub(super) struct Granter {
    log: MemoryLog,
    events: MemoryReader,
    /// The partition that the consumer's commands are in.
    commands: u32,
    seq: u64,
}

// === impl MemoryLog ===

impl MemoryLog {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u32, Vec<RawRecord>>> {
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, partition: u32, record: RawRecord) -> u64 {
        let offset = {
            let mut partitions = self.lock();
            let log = partitions.entry(partition).or_default();
            let offset = log.len() as u64;
            log.push(RawRecord { offset, ..record });
            offset
        };
        self.appended.send_modify(|count| *count += 1);
        offset
    }

    fn reader(&self, partition: u32, next: usize) -> MemoryReader {
        MemoryReader { log: self.clone(), appended: self.appended.subscribe(), partition, next }
    }
}

#[async_trait]
impl ControlLog for MemoryLog {
    async fn append(&self, partition: u32, record: RawRecord) -> Result<u64, AppendError> {
        Ok(self.push(partition, record))
    }

    async fn end(&self, partition: u32) -> Result<u64, Error> {
        Ok(self.lock().get(&partition).map_or(0, Vec::len) as u64)
    }

    async fn start(&self, _partition: u32) -> Result<u64, Error> {
        Ok(0)
    }

    async fn read(&self, partition: u32, from: u64) -> Result<Box<dyn ControlReader>, Error> {
        Ok(Box::new(self.reader(partition, usize::try_from(from).unwrap_or(usize::MAX))))
    }

    async fn trim(&self, _partition: u32, _below: u64) -> Result<(), Error> {
        Ok(())
    }
}

#[async_trait]
impl ControlReader for MemoryReader {
    async fn next(&mut self) -> Result<Vec<RawRecord>, ReadError> {
        loop {
            self.appended.mark_unchanged();
            let records: Vec<RawRecord> = {
                let partitions = self.log.lock();
                let log = partitions.get(&self.partition);
                log.and_then(|log| log.get(self.next..)).unwrap_or_default().to_vec()
            };
            if !records.is_empty() {
                self.next += records.len();
                return Ok(records);
            }
            // The log holds its sender: it cannot be gone.
            drop(self.appended.changed().await);
        }
    }
}

// === impl Granter ===

impl Granter {
    /// A new ledger and its controller, for the consumer whose commands are in this partition.
    pub(super) fn new(group: GroupName, commands: u32) -> (MemoryLog, Self) {
        let appended = Arc::new(watch::Sender::new(0));
        let log = MemoryLog { partitions: Arc::default(), appended };
        let events = log.reader(0, 0);
        let granter = Self { log: log.clone(), events, commands, seq: 0 };
        granter.say(Record::Genesis { group, first: true });
        granter.say(Record::Elect { process: ProcessId(0), attempt: 1 });
        (log, granter)
    }

    /// Waits until the consumer has said Hello.
    pub(super) async fn hello(&mut self) -> anyhow::Result<Incarnation> {
        self.event(|offset, record| {
            matches!(record, Record::Hello(_)).then_some(Incarnation(offset))
        })
        .await
    }

    /// Grants partitions from these positions and tells the consumer to start. Returns the grant.
    pub(super) fn start(
        &mut self,
        consumer: ConsumerNumber,
        incarnation: Incarnation,
        partitions: &[(PartitionId, Position)],
    ) -> Epoch {
        self.seq += 1;
        let seal = Seal { term: TERM, seq: self.seq };
        let partitions = partitions.to_vec();
        let granted = partitions.clone();
        let grant = Record::Grant { seal, consumer, incarnation, partitions };
        let epoch = Epoch(self.say(grant));
        self.command(incarnation, CommandBody::Start { term: TERM, epoch, partitions: granted });
        epoch
    }

    /// Takes partitions back and waits until the consumer has given them.
    pub(super) async fn stop(
        &mut self,
        incarnation: Incarnation,
        epoch: Epoch,
        partitions: Vec<PartitionId>,
        deadline: std::time::Duration,
    ) -> anyhow::Result<()> {
        let mut wanted = partitions.len();
        self.command(incarnation, CommandBody::Stop { term: TERM, epoch, partitions, deadline });
        while wanted > 0 {
            wanted -= self
                .event(|_, record| match record {
                    Record::Stopped { partitions, .. } => Some(partitions.len()),
                    _ => None,
                })
                .await?;
        }
        Ok(())
    }

    /// The next event of the consumer that is of interest.
    async fn event<T>(
        &mut self,
        mut of_interest: impl FnMut(Offset, &Record) -> Option<T>,
    ) -> anyhow::Result<T> {
        loop {
            let next = self.events.next;
            let records = self.events.next().await?;
            for (at, record) in (next..).zip(records) {
                let headers: Vec<(&str, &[u8])> =
                    record.headers.iter().map(|(name, value)| (name.as_str(), &**value)).collect();
                let entry = tidegate_wire::decode_entry(&headers, record.value.as_deref())?;
                if let Some(found) = of_interest(Offset(record.offset), &entry.record) {
                    // What comes behind is read again.
                    self.events.next = at + 1;
                    return Ok(found);
                }
            }
        }
    }

    fn say(&self, record: Record) -> Offset {
        let entry = Entry { generation: GENERATION, record };
        Offset(self.log.push(0, raw(tidegate_wire::encode_entry(&entry))))
    }

    fn command(&self, incarnation: Incarnation, body: CommandBody) {
        let command = Command { generation: GENERATION, incarnation, body };
        self.log.push(self.commands, raw(tidegate_wire::encode_command(&command)));
    }
}

fn raw(encoded: Encoded) -> RawRecord {
    let headers = encoded.headers.into_iter();
    RawRecord {
        key: encoded.key.map(Bytes::from),
        headers: headers.map(|(name, value)| (name, Bytes::from(value))).collect(),
        value: encoded.value.map(Bytes::from),
        ..RawRecord::default()
    }
}
