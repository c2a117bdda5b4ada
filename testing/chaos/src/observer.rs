//! Reads the ledger of a run, from the beginning and live.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidegate_core::ids::{GroupName, Offset};
use tidegate_runtime::ports::{Clock, ControlLog, RawRecord, ReadError};
use tidegate_runtime::task::{Task, spawn_named};

use crate::observed::Observed;

/// Pause before a log that could not be read is read again.
const RETRY: Duration = Duration::from_millis(500);

/// What is observed, shared between the reader and the run; never locked across an await.
#[derive(Clone, Debug)]
pub(crate) struct Shared(Arc<Mutex<Observed>>);

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Observed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Begins to read. The reader ends when the task is dropped.
pub(crate) fn start(
    group: GroupName,
    ledger: Arc<dyn ControlLog>,
    clock: Arc<dyn Clock>,
) -> (Shared, Task<()>) {
    let shared = Shared(Arc::new(Mutex::new(Observed::new(group))));
    let seen = shared.clone();
    let reading = async move {
        let mut next = 0;
        loop {
            if let Err(error) = read(&*ledger, &mut next, &seen, &*clock).await {
                let error = &error as &dyn std::error::Error;
                tracing::debug!(error, "the ledger is read again");
            }
            tokio::time::sleep(RETRY).await;
        }
    };
    (shared, spawn_named("see-ledger", reading))
}

async fn read(
    log: &dyn ControlLog,
    next: &mut u64,
    seen: &Shared,
    clock: &dyn Clock,
) -> Result<(), ReadError> {
    let mut reader = log.read(0, *next).await.map_err(ReadError::Failed)?;
    loop {
        for record in reader.next().await? {
            *next = record.offset + 1;
            let entry = tidegate_wire::decode_entry(&headers(&record), record.value.as_deref());
            seen.lock().ledger(Offset(record.offset), entry.ok().as_ref(), clock.unix_ms());
        }
    }
}

fn headers(record: &RawRecord) -> Vec<(&str, &[u8])> {
    record.headers.iter().map(|(name, value)| (name.as_str(), &**value)).collect()
}
