//! What comes from a broker, or from whoever writes to its topics, and is damaged or made up: it ends in an error and not
//! in a panic, and what is allocated for it is bounded by its size.
//!
//! A binary of its own, because its allocator counts.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "../../src/bounded.rs"]
mod bounded;
#[path = "../../src/decompress.rs"]
mod decompress;
#[expect(dead_code, reason = "not all of it is for every batch")]
#[path = "../../src/record_batch.rs"]
mod record_batch;

mod batches;
mod damage;
mod frames;

/// Does something, and tells how many bytes this thread had at most for it. Others of the process do not count.
fn measured<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let mut outcome = None;
    let counted = allocation_counter::measure(|| outcome = Some(work()));
    (outcome.unwrap(), usize::try_from(counted.bytes_max).unwrap())
}
