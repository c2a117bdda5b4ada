//! The `stdout` sink: every record as a line of JSON, for looking at a stream or piping it on.
//!
//! At-least-once: it remembers no positions. A line is never torn by another batch's.

use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tidegate_core::ids::FencingToken;
use tidegate_runtime::ports::{Batch, Guarantee, Sink, SinkError, TopicPartition};

use crate::ndjson::Encoder;

type Output = Arc<Mutex<dyn Write + Send>>;

/// Writes lines to a stream. A write is done when the stream has been flushed.
pub struct Lines {
    output: Output,
}

// === impl Lines ===

impl Lines {
    /// Lines on standard output.
    pub fn stdout() -> Self {
        Self::new(io::stdout())
    }

    /// Lines on any stream.
    pub fn new(output: impl Write + Send + 'static) -> Self {
        Self { output: Arc::new(Mutex::new(output)) }
    }
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lines")
    }
}

#[async_trait]
impl Sink for Lines {
    fn guarantee(&self) -> Guarantee {
        Guarantee::AtLeastOnce
    }

    async fn write(
        &self,
        partition: &TopicPartition,
        _: FencingToken,
        batch: Batch<'_>,
    ) -> Result<(), SinkError> {
        let encoder = Encoder::new(&partition.topic, partition.id.number);
        let hint = batch.records.iter().map(|record| encoder.size_hint(record)).sum();
        let mut lines = Vec::with_capacity(hint);
        batch.records.iter().for_each(|record| encoder.line(record, &mut lines));
        let output = Arc::clone(&self.output);
        let written = tokio::task::spawn_blocking(move || {
            let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
            output.write_all(&lines)?;
            output.flush()
        });
        let written = written.await.unwrap_or_else(|error| Err(io::Error::other(error)));
        // A closed pipe does not open again.
        written.map_err(|error| SinkError::Refused {
            partition: partition.clone(),
            source: error.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tidegate_core::ids::{Epoch, Generation, Offset, PartitionId, Position, TopicId};
    use tidegate_runtime::ports::Record;

    use super::*;

    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn the_sink_conforms() {
        let open = async || Arc::new(Lines::new(io::sink())) as Arc<dyn Sink>;
        tidegate_runtime::sink::conformance(open).await.assert_passed();
    }

    #[tokio::test]
    async fn records_come_out_as_lines() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = Lines::new(Shared(Arc::clone(&seen)));
        let id = PartitionId { topic: TopicId([1; 16]), number: 2 };
        let partition = TopicPartition { topic: "orders".to_owned(), id };
        let record = |offset| Record {
            offset,
            timestamp_ms: 5,
            key: None,
            value: Some(Bytes::from_static(b"v")),
            headers: Vec::new(),
        };
        let token = FencingToken { generation: Generation(1), epoch: Epoch(Offset(1)) };
        let records = [record(7), record(8)];
        let batch = Batch { expected: Position(7), records: &records, end: Position(9) };
        sink.write(&partition, token, batch).await.unwrap();
        let line = |offset| {
            format!(
                "{{\"topic\":\"orders\",\"partition\":2,\"offset\":{offset},\"timestamp\":5,\
                 \"key\":null,\"value\":\"v\"}}\n"
            )
        };
        assert_eq!(String::from_utf8(seen.lock().unwrap().clone()).unwrap(), line(7) + &line(8));
    }
}
