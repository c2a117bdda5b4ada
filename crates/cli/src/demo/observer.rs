//! Reads the ledger and the rates of a run, from the beginning and live.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidegate_core::ids::Offset;
use tidegate_runtime::ports::{ControlLog, RawRecord, ReadError};
use tidegate_runtime::task::{Task, spawn_named};

use super::observed::Observed;

/// Pause before a log that could not be read is read again.
const RETRY: Duration = Duration::from_millis(500);

/// What is observed, shared between the readers and the demo; never locked across an await.
#[derive(Clone, Debug)]
pub(super) struct Shared(Arc<Mutex<Observed>>);

/// The readers; they end when this is dropped.
#[derive(Debug)]
pub(super) struct Observer {
    pub(super) shared: Shared,
    _tasks: [Task<()>; 2],
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, Observed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer {
    /// Begins to read.
    pub(super) fn start(
        observed: Observed,
        ledger: Arc<dyn ControlLog>,
        rates: Arc<dyn ControlLog>,
    ) -> Self {
        let shared = Shared(Arc::new(Mutex::new(observed)));
        let (of_ledger, of_rates) = (shared.clone(), shared.clone());
        let read_ledger = follow(ledger, move |record| {
            let entry = tidegate_wire::decode_entry(&headers(record), record.value.as_deref());
            of_ledger.lock().ledger(Offset(record.offset), entry.ok().as_ref());
        });
        let read_rates = follow(rates, move |record| {
            let rates = tidegate_wire::decode_rates(&headers(record), record.value.as_deref());
            if let Ok(rates) = rates {
                of_rates.lock().rates(&rates);
            }
        });
        let tasks = [spawn_named("see-ledger", read_ledger), spawn_named("see-rates", read_rates)];
        Self { shared, _tasks: tasks }
    }
}

fn headers(record: &RawRecord) -> Vec<(&str, &[u8])> {
    record.headers.iter().map(|(name, value)| (name.as_str(), &**value)).collect()
}

/// Hands every record on, for ever; after an error it goes on where it was.
async fn follow(log: Arc<dyn ControlLog>, take: impl Fn(&RawRecord) + Send) {
    let mut next = 0;
    loop {
        if let Err(error) = read(&*log, &mut next, &take).await {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "a control topic is read again"
            );
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn read(
    log: &dyn ControlLog,
    next: &mut u64,
    take: &(impl Fn(&RawRecord) + Send),
) -> Result<(), ReadError> {
    let mut reader = log.read(0, *next).await.map_err(ReadError::Failed)?;
    loop {
        for record in reader.next().await? {
            *next = record.offset + 1;
            take(&record);
        }
    }
}
