//! Workers that somebody else runs: by hand, or by another tool.
//!
//! The controller still decides how many consumers there should be and says so; nobody starts or ends one for it. A
//! consumer that does not come is passed over, as with any other kind of worker.

use std::collections::BTreeMap;
use std::future::ready;

use async_trait::async_trait;
use tidegate_core::ids::ConsumerNumber;

use crate::ports::{Doing, Error, WorkerChange, WorkerSpec, WorkerState, Workers};

/// Starts and ends nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct ManualWorkers;

#[async_trait]
impl Workers for ManualWorkers {
    fn ensure(&mut self, consumer: ConsumerNumber, _spec: &WorkerSpec) -> Doing {
        tracing::info!(%consumer, "a consumer is wanted: start `tidegate consumer --id {consumer}`");
        Box::pin(ready(Ok(())))
    }

    fn remove(&mut self, consumer: ConsumerNumber) -> Doing {
        tracing::info!(%consumer, "a consumer is not needed any more: it can be ended");
        Box::pin(ready(Ok(())))
    }

    async fn list(&mut self) -> Result<BTreeMap<ConsumerNumber, WorkerState>, Error> {
        Ok(BTreeMap::new())
    }

    async fn changed(&mut self) -> WorkerChange {
        std::future::pending().await
    }

    async fn shut_down(&mut self) {}
}
