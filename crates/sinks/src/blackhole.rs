//! The `blackhole` sink: takes everything, keeps nothing but a count. For measuring what comes before a sink.

use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use tidegate_core::ids::FencingToken;
use tidegate_runtime::ports::{Batch, Guarantee, Record, Sink, SinkError, TopicPartition};

/// A sink that drops what it is given. It remembers no positions: `acquire` always finds none, and a new owner starts
/// where the ledger says.
#[derive(Debug, Default)]
pub struct Blackhole {
    records: AtomicU64,
    bytes: AtomicU64,
}

// === impl Blackhole ===

impl Blackhole {
    /// Records dropped so far.
    pub fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }

    /// Bytes of keys, values and headers dropped so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl Sink for Blackhole {
    fn guarantee(&self) -> Guarantee {
        Guarantee::AtLeastOnce
    }

    async fn write(
        &self,
        _: &TopicPartition,
        _: FencingToken,
        batch: Batch<'_>,
    ) -> Result<(), SinkError> {
        let bytes: usize = batch.records.iter().map(Record::size).sum();
        self.records.fetch_add(batch.records.len() as u64, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tidegate_runtime::sink::conformance;

    use super::*;

    #[tokio::test]
    async fn the_sink_conforms_and_counts() {
        let sink = Arc::new(Blackhole::default());
        let opened = Arc::clone(&sink);
        conformance(async || Arc::clone(&opened) as Arc<dyn Sink>).await.assert_passed();
        assert!(sink.records() > 20 && sink.bytes() > 100);
    }
}
