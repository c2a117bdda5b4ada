//! A sink of your own: the records of each partition as lines of a file.
//!
//! It promises at-least-once and keeps no positions. `cargo run --example custom_sink FOLDER` shows that it does what a
//! sink must; `cargo test -p tidegate-runtime --example custom_sink` does so as a test.
#![expect(clippy::print_stdout, reason = "the report is for people")]

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;

use tidegate_runtime::sink::{
    Batch, FencingToken, Guarantee, Sink, SinkError, TopicPartition, async_trait, conformance,
};

#[derive(Debug)]
struct Files(PathBuf);

#[async_trait]
impl Sink for Files {
    fn guarantee(&self) -> Guarantee {
        Guarantee::AtLeastOnce
    }

    async fn write(
        &self,
        partition: &TopicPartition,
        _: FencingToken,
        batch: Batch<'_>,
    ) -> Result<(), SinkError> {
        let unavailable = |cause: Box<dyn std::error::Error + Send + Sync>| {
            SinkError::Unavailable { partition: partition.clone(), source: cause }
        };
        // A line that a crash has left half written ends here, and is repeated whole.
        let mut lines = String::from("\n");
        for record in batch.records {
            let value = String::from_utf8_lossy(record.value.as_deref().unwrap_or_default());
            writeln!(lines, "{}\t{}", record.offset, value.escape_debug())
                .map_err(|cause| unavailable(cause.into()))?;
        }
        // A topic that is deleted and made again has another id.
        let path = self.0.join(format!("{partition}-{}.txt", partition.id.topic));
        let append = move || -> io::Result<()> {
            let mut file = OpenOptions::new().create(true).append(true).open(path)?;
            file.write_all(lines.as_bytes())?;
            file.sync_data() // durable before `write` returns
        };
        let appended = tokio::task::spawn_blocking(append).await;
        appended
            .unwrap_or_else(|died| Err(io::Error::other(died)))
            .map_err(|cause| unavailable(cause.into()))
    }
}

#[tokio::main]
async fn main() -> io::Result<()> {
    let folder = std::env::args().nth(1).map(PathBuf::from);
    let folder = folder.unwrap_or_else(|| std::env::temp_dir().join("tidegate-custom-sink"));
    std::fs::create_dir_all(&folder)?;
    let report = conformance(async || Arc::new(Files(folder.clone())) as Arc<dyn Sink>).await;
    print!("{report}");
    if report.passed() { Ok(()) } else { Err(io::Error::other("the sink does not conform")) }
}

#[cfg(test)]
mod tests {
    use tidegate_runtime::sink::conformance::Suite;

    use super::*;

    #[tokio::test]
    async fn the_sink_conforms_and_what_it_wrote_is_there() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path();
        let suite = Suite::new(async || Arc::new(Files(path.to_owned())) as Arc<dyn Sink>);
        let report = suite.reading(|partition| {
            let file = path.join(format!("{partition}-{}.txt", partition.id.topic));
            let lines = std::fs::read_to_string(file).unwrap();
            let offsets = lines.lines().filter_map(|line| line.split_once('\t')?.0.parse().ok());
            let offsets = offsets.collect();
            Box::pin(async move { Ok(offsets) })
        });
        report.run().await.assert_passed();
    }
}
