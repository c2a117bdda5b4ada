//! How fast records become durable on a disk, beside what the disk can do: the same bytes appended to one file, which is
//! synced after each batch.
//!
//! Both go to the same folder, in turns, so that whatever else the machine does strikes both. The parts of the sink's
//! own work that need no disk are timed by themselves, to tell where the time goes.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidegate_core::ids::{Epoch, FencingToken, Generation, Offset, PartitionId, Position, TopicId};
use tidegate_runtime::ports::{Batch, Clock, Record, Sink as _, TopicPartition};

use super::batch::{self, Piece};
use super::file::FileStore;
use super::store::StoreError;
use super::{ObjectConfig, ObjectSink};

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// Bytes of each record's value.
    pub record_bytes: usize,
    /// Bytes of the values of a batch.
    pub batch_bytes: usize,
    /// Batches written by each side.
    pub batches: u32,
    /// How objects are kept.
    pub config: ObjectConfig,
}

/// Times of all batches together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Times {
    /// Bytes of the lines of all batches.
    pub bytes: u64,
    /// Writes by the sink.
    pub sink: Duration,
    /// The same bytes appended to one file, synced after each batch.
    pub plain: Duration,
    /// Encoding alone, a part of the sink's time.
    pub encode: Duration,
    /// Checksums alone, a part of the sink's time.
    pub checksum: Duration,
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpeedError {
    /// The sink failed.
    #[error("the sink failed")]
    Sink(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The plain file could not be written.
    #[error("failed to write a plain file to {folder}")]
    Plain {
        /// Where.
        folder: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl Times {
    /// The sink's speed in thousandths of the plain one.
    pub fn permille(&self) -> u64 {
        let ratio = self.plain.as_micros().saturating_mul(1000) / self.sink.as_micros().max(1);
        u64::try_from(ratio).unwrap_or(u64::MAX)
    }
}

/// Writes the workload to a folder, which should be empty, by the sink and without it.
pub async fn measure(
    folder: &Path,
    workload: &Workload,
    clock: &Arc<dyn Clock>,
) -> Result<Times, SpeedError> {
    let store = FileStore::open(folder, 1, Arc::clone(clock)).await;
    let store = store.map_err(|error: StoreError| SpeedError::Sink(error.into()))?;
    let sink = ObjectSink::new(Arc::new(store), workload.config, Arc::clone(clock));
    let id = PartitionId { topic: TopicId([1; 16]), number: 0 };
    let partition = TopicPartition { topic: "speed".to_owned(), id };
    let token = FencingToken { generation: Generation(1), epoch: Epoch(Offset(1)) };
    let failed = |error: tidegate_runtime::ports::SinkError| SpeedError::Sink(error.into());
    sink.acquire(&partition, token).await.map_err(failed)?;
    let count = (workload.batch_bytes / workload.record_bytes.max(1)).max(1) as u64;
    let mut times = Times::default();
    let unwritten = |source| SpeedError::Plain { folder: folder.display().to_string(), source };
    let file = Arc::new(File::create(folder.join("plain")).map_err(unwritten)?);
    for round in 0..u64::from(workload.batches) {
        let records: Vec<_> =
            (0..count).map(|at| record(round * count + at, workload.record_bytes)).collect();
        let (expected, end) = (Position(round * count), Position((round + 1) * count));
        let batch = Batch { expected, records: &records, end };
        let pieces = batch::cut(&partition, batch, usize::MAX >> 1);
        let (took, pieces) = timed(clock, pieces).await;
        times.encode += took;
        let lines: Vec<u8> =
            pieces.into_iter().flatten().flat_map(|Piece { lines, .. }| lines).collect();
        times.bytes += lines.len() as u64;
        let (took, _) = timed(clock, async { crc32c::crc32c(&lines) }).await;
        times.checksum += took;
        let (took, wrote) = timed(clock, sink.write(&partition, token, batch)).await;
        times.sink += took;
        wrote.map_err(failed)?;
        let (took, wrote) = timed(clock, plain(Arc::clone(&file), lines)).await;
        times.plain += took;
        wrote.map_err(unwritten)?;
    }
    Ok(times)
}

/// A record like those of a log: text with digits that differ.
fn record(offset: u64, bytes: usize) -> Record {
    let mut value = format!("{offset:020} ").into_bytes();
    let filling = b"the quick brown fox jumps over the lazy dog; ".iter().copied().cycle();
    value.extend(filling.take(bytes.saturating_sub(value.len())));
    Record {
        offset,
        timestamp_ms: 1_700_000_000_000,
        key: None,
        value: Some(Bytes::from(value)),
        headers: Vec::new(),
    }
}

/// Appends to the plain file, on a thread like the sink's.
async fn plain(file: Arc<File>, lines: Vec<u8>) -> std::io::Result<()> {
    let written = tokio::task::spawn_blocking(move || {
        (&*file).write_all(&lines)?;
        file.sync_all()
    });
    written.await.map_err(std::io::Error::other)?
}

async fn timed<T>(clock: &Arc<dyn Clock>, work: impl Future<Output = T>) -> (Duration, T) {
    let start = clock.now();
    let done = work.await;
    (clock.now().since(start), done)
}
