//! Reads chains back, in order, and names whatever is wrong with them.
//!
//! A reader needs no owner's token and may run beside writers: it sees the objects that were there when it listed, and
//! those that were added since when it comes to the end.

use std::collections::VecDeque;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use tidegate_core::ids::{FencingToken, Position};
use tidegate_runtime::ports::{BootClock, Record, TopicPartition};

use super::ObjectConfig;
use super::file::FileStore;
use super::format::{self, Extent, FormatError, Header};
use super::layout;
use super::store::{Store, StoreError};
use crate::ndjson::{Line, LineError};

/// Names fetched at a time: a page costs a file store a pass over its folder, and memory of 80 MB at most.
const PAGE: usize = 1_000_000;

/// Faults of one chain that a report lists; the rest is counted.
const MAX_FAULTS: usize = 100;

/// Lists the chains below a prefix and reads them.
#[derive(Clone, Debug)]
pub struct ObjectReader {
    store: Arc<dyn Store>,
    max_object_bytes: u64,
}

/// Goes along one chain, object by object.
#[derive(Debug)]
pub struct ChainReader {
    store: Arc<dyn Store>,
    max_object_bytes: u64,
    partition: TopicPartition,
    folder: String,
    /// Names listed and not yet read.
    names: VecDeque<String>,
    last_name: Option<String>,
    /// An object whose faults are told first.
    pending: VecDeque<Link>,
    /// End and token of the last readable object; the end is absent after one that was not readable.
    before: Option<(Option<Position>, FencingToken)>,
}

/// What comes next in a chain.
#[derive(Debug)]
pub enum Link {
    /// An object whose bytes are as they were written.
    Object(Object),
    /// Something is wrong; the chain is read on behind it.
    Fault(Fault),
}

/// An object of a chain.
#[derive(Clone, Debug)]
pub struct Object {
    /// Its range, its writer, its times.
    pub header: Header,
    /// How large it is.
    pub extent: Extent,
    /// When it was durable, in milliseconds since the Unix epoch: as the store tells, and not before it was written.
    pub durable_ms: u64,
    body: Bytes,
}

/// The header of an object, or what is wrong with it.
#[derive(Debug)]
pub struct HeadLink {
    /// The object's name.
    pub name: String,
    /// What its header says.
    pub opened: Result<(Header, Extent), FormatError>,
}

/// What can be wrong with a chain.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// Objects between two others are gone.
    #[error("nothing follows position {end}: the next object is at {next}")]
    Missing {
        /// End of the object before the hole.
        end: u64,
        /// Position of the object after it.
        next: u64,
    },
    /// Two objects cover the same offsets.
    #[error("the object at {next} begins before position {end}, where the one before ends")]
    Overlap {
        /// End of the object before.
        end: u64,
        /// Position of the object that begins too early.
        next: u64,
    },
    /// The bytes of an object are not those that were written; its records are unknown.
    #[error("object {name}: {error}")]
    Damaged {
        /// Its name.
        name: String,
        /// What is wrong.
        error: FormatError,
    },
    /// The header of an object belongs to another place.
    #[error("object {name} is the one of {partition} at {position}")]
    Misplaced {
        /// Its name.
        name: String,
        /// The partition that its header tells.
        partition: TopicPartition,
        /// The position that its header tells.
        position: u64,
    },
    /// An owner wrote after one with a higher token.
    #[error("the object at {position} has a lower token than the one before")]
    TokenWentBack {
        /// Its position.
        position: u64,
    },
    /// A record line cannot be read, or its offset is out of the object's range or order.
    #[error("line {line} of the object at {position}: {reason}")]
    Record {
        /// The object's position.
        position: u64,
        /// Number of the line behind the header, from 1.
        line: u64,
        /// What is wrong.
        reason: String,
    },
    /// The number of record lines is not what the header says.
    #[error("the object at {position} has {found} records instead of {expected}")]
    Count {
        /// The object's position.
        position: u64,
        /// Records that the header promises.
        expected: u64,
        /// Lines that are there.
        found: u64,
    },
}

/// What a verification of one chain found.
#[derive(Debug, Default)]
pub struct ChainReport {
    /// Readable objects.
    pub objects: u64,
    /// Objects among them that have no records.
    pub gaps: u64,
    /// Record lines.
    pub records: u64,
    /// Bytes of the record lines.
    pub bytes: u64,
    /// Bytes of the objects.
    pub object_bytes: u64,
    /// Where the offsets of the first object begin.
    pub start: Option<Position>,
    /// End of the last readable object.
    pub end: Option<Position>,
    /// The first hundred faults.
    pub faults: Vec<Fault>,
    /// Number of all faults.
    pub fault_count: u64,
}

// === impl ObjectReader ===

impl ObjectReader {
    /// A reader of the chains in a store; objects above the configured size are refused.
    pub fn new(store: Arc<dyn Store>, config: ObjectConfig) -> Self {
        Self { store, max_object_bytes: config.max_object_bytes }
    }

    /// A reader of the chains in a folder, which must be there.
    pub async fn folder(root: &Path) -> Result<Self, StoreError> {
        let config = ObjectConfig::default();
        let store = FileStore::existing(root, config.parallel_writes, Arc::new(BootClock)).await?;
        Ok(Self::new(Arc::new(store), config))
    }

    /// All partitions that have a folder, in order of topic name, topic id and number; what is not ours is passed over.
    pub async fn partitions(&self) -> Result<Vec<TopicPartition>, StoreError> {
        let mut partitions = Vec::new();
        for topic in self.store.folders("").await? {
            for id in self.store.folders(&topic).await? {
                let numbers = self.store.folders(&format!("{topic}/{id}")).await?;
                let ours =
                    numbers.iter().filter_map(|number| layout::partition(&topic, &id, number));
                partitions.extend(ours);
            }
        }
        partitions.sort_unstable();
        Ok(partitions)
    }

    /// The chain of a partition; one that no writer can make has no objects.
    pub fn chain(&self, partition: &TopicPartition) -> ChainReader {
        ChainReader {
            store: Arc::clone(&self.store),
            max_object_bytes: self.max_object_bytes,
            partition: partition.clone(),
            folder: layout::folder(partition).unwrap_or_else(|| "-".to_owned()),
            names: VecDeque::new(),
            last_name: None,
            pending: VecDeque::new(),
            before: None,
        }
    }

    /// The chain of a partition from the object on that holds an offset, or the first above.
    pub async fn chain_from(
        &self,
        partition: &TopicPartition,
        offset: Position,
    ) -> Result<ChainReader, StoreError> {
        let mut chain = self.chain(partition);
        let first = self.store.last(&chain.folder, Some(offset), 1).await?.pop();
        chain.begin_at(first);
        Ok(chain)
    }

    /// Reads a whole chain, records included, and reports what is in it and what is wrong.
    pub async fn verify(&self, partition: &TopicPartition) -> Result<ChainReport, StoreError> {
        let mut chain = self.chain(partition);
        let mut report = ChainReport::default();
        while let Some(link) = chain.next().await? {
            match link {
                Link::Object(object) => report.add(&object),
                Link::Fault(fault) => report.fault(fault),
            }
        }
        Ok(report)
    }
}

// === impl ChainReader ===

impl ChainReader {
    fn begin_at(&mut self, first: Option<Position>) {
        let name = first.map(layout::name);
        self.last_name.clone_from(&name);
        self.names.extend(name);
    }

    /// The next object by its header alone, whatever the chain's faults; `None` at the end. Cheap: it reads a few
    /// kilobytes of each.
    pub async fn next_head(&mut self) -> Result<Option<HeadLink>, StoreError> {
        loop {
            let Some(name) = self.next_name().await? else { return Ok(None) };
            if layout::position(&name).is_none() {
                continue;
            }
            let head = self.store.head(&self.folder, &name, format::MAX_HEADER as u64).await?;
            let Some(head) = head else { continue };
            let opened = format::open_head(&head.content, head.object_bytes);
            return Ok(Some(HeadLink { name, opened }));
        }
    }

    /// The next object or fault; `None` at the end. May be called again later, when more has been written.
    pub async fn next(&mut self) -> Result<Option<Link>, StoreError> {
        loop {
            if let Some(link) = self.pending.pop_front() {
                return Ok(Some(link));
            }
            let Some(name) = self.next_name().await? else { return Ok(None) };
            let Some(position) = layout::position(&name) else { continue };
            let stored = self.store.read(&self.folder, &name, self.max_object_bytes).await?;
            let Some(stored) = stored else { continue };
            match format::open(&stored.content) {
                Ok(opened) => {
                    let durable_ms = stored.durable_ms.unwrap_or(0).max(opened.header.written_ms);
                    let format::Opened { header, extent, body } = opened;
                    self.link(name, position, Object { header, extent, durable_ms, body });
                }
                Err(error) => {
                    self.check_link(position);
                    self.forget_end();
                    self.pending.push_back(Link::Fault(Fault::Damaged { name, error }));
                }
            }
        }
    }

    async fn next_name(&mut self) -> Result<Option<String>, StoreError> {
        if self.names.is_empty() {
            let after = self.last_name.as_deref();
            self.names = self.store.list(&self.folder, after, PAGE).await?.into();
            if let Some(last) = self.names.back() {
                self.last_name = Some(last.clone());
            }
        }
        Ok(self.names.pop_front())
    }

    /// Queues an object behind the faults of its place in the chain.
    fn link(&mut self, name: String, position: Position, object: Object) {
        let Header { partition, position: told, end, token, .. } = &object.header;
        self.check_link(position);
        if *partition != self.partition || *told != position {
            let fault = Fault::Misplaced { name, partition: partition.clone(), position: told.0 };
            self.pending.push_back(Link::Fault(fault));
            self.forget_end();
            return;
        }
        if self.before.is_some_and(|(_, before)| before > *token) {
            let fault = Fault::TokenWentBack { position: position.0 };
            self.pending.push_back(Link::Fault(fault));
        }
        self.before = Some((Some(*end), *token));
        self.pending.push_back(Link::Object(object));
    }

    fn check_link(&mut self, next: Position) {
        let Some((Some(end), _)) = self.before else { return };
        let (end, next) = (end.0, next.0);
        if end < next {
            self.pending.push_back(Link::Fault(Fault::Missing { end, next }));
        } else if end > next {
            self.pending.push_back(Link::Fault(Fault::Overlap { end, next }));
        }
    }

    fn forget_end(&mut self) {
        if let Some((end, _)) = &mut self.before {
            *end = None;
        }
    }
}

// === impl Object ===

impl Object {
    /// The record lines taken apart, in their order; a line that cannot be read is an error and the next follows.
    pub fn lines(&self) -> impl Iterator<Item = Result<Line<'_>, LineError>> {
        self.raw_lines().map(Line::parse)
    }

    /// The records, in their order, sharing the object's memory.
    pub fn records(&self) -> impl Iterator<Item = Result<Record, LineError>> {
        self.raw_lines().map(|line| Line::parse(line)?.into_record(&self.body))
    }

    /// The record lines as they were written.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    fn raw_lines(&self) -> impl Iterator<Item = &[u8]> {
        self.body.split_inclusive(|byte| *byte == b'\n')
    }

    /// What is wrong with the record lines, told to `fault`; returns their number.
    fn check_records(&self, mut fault: impl FnMut(Fault)) -> u64 {
        let Header { partition, position, start, end, records, .. } = &self.header;
        let position = position.0;
        let (mut line_number, mut least) = (0, start.0);
        for line in self.lines() {
            line_number += 1;
            let reason = match line {
                Err(error) => error.to_string(),
                Ok(line)
                    if line.topic != partition.topic || line.partition != partition.id.number =>
                {
                    format!("it is of partition {}-{}", line.topic, line.partition)
                }
                Ok(line) if line.offset < least || line.offset >= end.0 => {
                    format!("offset {} is out of range or out of order", line.offset)
                }
                Ok(line) => {
                    least = line.offset + 1;
                    continue;
                }
            };
            fault(Fault::Record { position, line: line_number, reason });
        }
        if line_number != *records {
            fault(Fault::Count { position, expected: *records, found: line_number });
        }
        line_number
    }
}

// === impl ChainReport ===

impl ChainReport {
    /// True when nothing is wrong.
    pub fn is_whole(&self) -> bool {
        self.fault_count == 0
    }

    fn add(&mut self, object: &Object) {
        self.objects += 1;
        self.gaps += u64::from(object.header.records == 0);
        self.bytes += object.extent.lines_bytes;
        self.object_bytes += object.extent.object_bytes;
        self.start = self.start.or(Some(object.header.start));
        self.end = Some(object.header.end);
        self.records += object.check_records(|fault| self.fault(fault));
    }

    fn fault(&mut self, fault: Fault) {
        self.fault_count += 1;
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(fault);
        }
    }
}

impl fmt::Display for ChainReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { objects, gaps, records, bytes, fault_count, .. } = self;
        write!(f, "{objects} objects ({gaps} gaps), {records} records, {bytes} bytes")?;
        write!(f, ", {fault_count} faults")
    }
}
