//! How fast the `postgres` sink is, beside a bare `COPY` of the same rows into a table of the same shape.
//!
//! `postgres_speed URL [BATCHES] [ROUNDS]`, where the database of the URL is one for tests: the tables `speed_sink` and
//! `speed_bare` are made in it. Both take batches of 5 MB of records of 200 bytes, in turn.
#![expect(clippy::print_stdout, reason = "an example shows its figures")]

use std::error::Error;
use std::sync::Arc;

use bytes::Bytes;
use tidegate_core::ids::{Epoch, FencingToken, Generation, Offset, PartitionId, Position, TopicId};
use tidegate_runtime::ports::{Batch, BootClock, Clock as _, Record, Sink as _, TopicPartition};
use tidegate_sinks::postgres::{BareCopy, PostgresConfig, PostgresSink};

const RECORD_BYTES: usize = 200;
const BATCH_BYTES: usize = 5_000_000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().ok_or("usage: postgres_speed URL [BATCHES] [ROUNDS]")?;
    let batches = arguments.next().map_or(Ok(20), |text| text.parse())?;
    let rounds: u32 = arguments.next().map_or(Ok(3), |text| text.parse())?;
    let rest = url.split_once(':').ok_or("the URL has no scheme")?.1;
    let joint = if rest.contains('?') { '&' } else { '?' };
    let config = |table: &str| PostgresConfig::parse(&format!("{rest}{joint}table={table}"));
    for round in 1..=rounds {
        let sink = PostgresSink::open(config("speed_sink")?).await?;
        let bare = BareCopy::open(config("speed_bare")?).await?;
        let by_sink = through_the_sink(&sink, round, batches).await?;
        let by_copy = by_bare_copy(&bare, round, batches).await?;
        let permille = by_sink * 1000 / by_copy.max(1);
        println!(
            "round {round}: sink {by_sink} rows/s, bare COPY BINARY {by_copy} rows/s, {permille} permille of it"
        );
    }
    Ok(())
}

async fn through_the_sink(
    sink: &PostgresSink,
    round: u32,
    batches: u64,
) -> Result<u64, Box<dyn Error>> {
    let token = FencingToken { generation: Generation(1), epoch: Epoch(Offset(1)) };
    let (partition, records) = (partition(round), records());
    sink.acquire(&partition, token).await?;
    timed(batches, records, async |batch| Ok(sink.write(&partition, token, batch).await?)).await
}

async fn by_bare_copy(bare: &BareCopy, round: u32, batches: u64) -> Result<u64, Box<dyn Error>> {
    let partition = partition(round);
    timed(batches, records(), async |batch| {
        bare.copy(&partition, batch).await?;
        Ok(())
    })
    .await
}

/// Writes batches and returns how many rows a second that was.
async fn timed(
    batches: u64,
    mut records: Vec<Record>,
    write: impl AsyncFn(Batch<'_>) -> Result<(), Box<dyn Error>>,
) -> Result<u64, Box<dyn Error>> {
    let (clock, rows) = (Arc::new(BootClock), records.len() as u64);
    let mut spent = std::time::Duration::ZERO;
    for number in 0..batches {
        let expected = number * rows;
        for (record, offset) in records.iter_mut().zip(expected..) {
            record.offset = offset;
        }
        let batch = Batch {
            expected: Position(expected),
            records: &records,
            end: Position(expected + rows),
        };
        let began = clock.now();
        write(batch).await?;
        spent += clock.now().since(began);
    }
    let micros = u64::try_from(spent.as_micros())?.max(1);
    Ok(rows * batches * 1_000_000 / micros)
}

/// A partition that was not written before.
fn partition(round: u32) -> TopicPartition {
    let id = u128::from(BootClock.unix_ms()).to_be_bytes();
    let id = PartitionId { topic: TopicId(id), number: round };
    TopicPartition { topic: "orders".to_owned(), id }
}

fn records() -> Vec<Record> {
    let record = |number: usize| {
        let key = format!("customer-{:06}", number % 100_000);
        let mut value = format!("{{\"order\":{number:010},\"text\":\"").into_bytes();
        value.resize(RECORD_BYTES - key.len(), b'x');
        Record {
            offset: 0,
            timestamp_ms: 1_700_000_000_000,
            key: Some(Bytes::from(key)),
            value: Some(Bytes::from(value)),
            headers: Vec::new(),
        }
    };
    (0..BATCH_BYTES / RECORD_BYTES).map(record).collect()
}
