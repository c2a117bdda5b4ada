//! What comes from a broker, or from whoever writes to its topics, and is damaged or made up: it ends in an error and not
//! in a panic, and what is allocated for it is bounded by its size.
//!
//! A binary of its own, because its allocator counts.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::sync::{Mutex, MutexGuard, PoisonError};

use peak_alloc::PeakAlloc;

#[path = "../../src/bounded.rs"]
mod bounded;
#[path = "../../src/decompress.rs"]
mod decompress;
#[path = "../../src/record_batch.rs"]
mod record_batch;

mod batches;
mod damage;
mod frames;

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

/// The allocator counts for the whole process, so each test has it for itself from its beginning to its end.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does something, and tells how many bytes it had at most, besides what there was before.
fn measured<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = ALLOCATED.current_usage();
    ALLOCATED.reset_peak_usage();
    let outcome = work();
    (outcome, ALLOCATED.peak_usage().saturating_sub(before))
}
