//! What only the log can prove: that a record which the sink has at two offsets stands at both of them in the log.
//!
//! A producer whose acknowledgement was lost with its broker may write a record again. Whoever delivers both offsets is
//! right; whoever delivers one record under an offset that is another's is not.

use std::time::Duration;

use anyhow::Context as _;
use tidegate_core::ids::Position;
use tidegate_kafka::{Kafka, ReaderOptions};
use tidegate_load::audit::{AuditReport, Repeat};
use tidegate_load::stamp::Stamp;
use tidegate_runtime::ports::{PartitionReader, ReadEvent, Record, TopicPartition};

/// How long one record may take to be read.
const PATIENCE: Duration = Duration::from_secs(60);

/// How many of the repeated records stand in the log as they stand in the sink. Those beyond the report's list do not
/// count as such.
pub(crate) async fn repeated_in_log(
    kafka: &Kafka,
    partitions: &[TopicPartition],
    run: u64,
    report: &AuditReport,
) -> anyhow::Result<u64> {
    let mut proven = 0;
    for repeat in &report.repeats {
        let partition = partitions.iter().find(|partition| {
            partition.topic == repeat.topic && partition.id.number == repeat.partition
        });
        let Some(partition) = partition else { continue };
        let mut reader = kafka.partition_reader(ReaderOptions::default());
        reader.assign(partition, Position(repeat.offset)).await?;
        let read = tokio::time::timeout(PATIENCE, first(&mut *reader)).await;
        let record = read.with_context(|| format!("{partition} cannot be read"))?;
        proven += u64::from(record.is_some_and(|record| is_it(&record, repeat, run)));
    }
    Ok(proven)
}

/// The first record that comes; `None` when the position is not in the log.
async fn first(reader: &mut dyn PartitionReader) -> Option<Record> {
    loop {
        match reader.next().await {
            ReadEvent::Records(batches) => {
                let mut records = batches.into_iter().flat_map(|batch| batch.records);
                if let Some(record) = records.next() {
                    return Some(record);
                }
            }
            ReadEvent::OutOfRange(_) => return None,
            ReadEvent::Failed(_, error) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "not read yet");
            }
        }
    }
}

fn is_it(record: &Record, repeat: &Repeat, run: u64) -> bool {
    let text = record.value.as_deref().and_then(|value| std::str::from_utf8(value).ok());
    let stamp = text.and_then(Stamp::parse);
    record.offset == repeat.offset
        && stamp.is_some_and(|stamp| {
            (stamp.run, stamp.partition, stamp.sequence) == (run, repeat.partition, repeat.sequence)
        })
}

#[cfg(test)]
mod tests {
    use tidegate_load::stamp::Stamper;

    use super::*;

    #[test]
    fn only_the_same_record_at_the_same_offset_is_proof() {
        let repeat = Repeat { topic: "orders".to_owned(), partition: 3, offset: 41, sequence: 30 };
        let record = |offset, sequence| {
            let stamp = Stamp { run: 5, partition: 3, sequence, time_ms: 1 };
            let value = Some(Stamper::new(1, 100).value(stamp));
            Record { offset, timestamp_ms: 0, key: None, value, headers: Vec::new() }
        };
        assert!(is_it(&record(41, 30), &repeat, 5));
        assert!(!is_it(&record(42, 30), &repeat, 5));
        assert!(!is_it(&record(41, 31), &repeat, 5));
        assert!(!is_it(&record(41, 30), &repeat, 6));
        let strange = Record { value: Some("a stranger".into()), ..record(41, 30) };
        assert!(!is_it(&strange, &repeat, 5));
    }
}
