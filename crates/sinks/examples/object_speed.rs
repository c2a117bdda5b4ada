//! How fast the object sink makes records durable in a folder, beside a plain file that is synced as often.
//!
//! `cargo run --release -p tidegate-sinks --example object_speed -- FOLDER`. What the folder's disk does at the time is
//! in both figures.
#![expect(clippy::print_stdout, reason = "an example talks to its user")]

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tidegate_runtime::ports::{BootClock, Clock};
use tidegate_sinks::object::speed::{Workload, measure};
use tidegate_sinks::object::{Compression, ObjectConfig};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder =
        std::env::args().nth(1).unwrap_or_else(|| std::env::temp_dir().display().to_string());
    let clock: Arc<dyn Clock> = Arc::new(BootClock);
    for compression in [Compression::None, Compression::Zstd { level: Compression::DEFAULT_LEVEL }]
    {
        let config = ObjectConfig { compression, ..ObjectConfig::default() };
        let workload = Workload { record_bytes: 200, batch_bytes: 5_000_000, batches: 40, config };
        let place = tempfile::tempdir_in(Path::new(&folder))?;
        let times = measure(place.path(), &workload, &clock).await?;
        // Bytes in a microsecond are megabytes in a second.
        let speed = |took: Duration| u128::from(times.bytes) / took.as_micros().max(1);
        println!(
            "{compression:?}: sink {} MB/s of lines, plain {} MB/s, ratio {} permille; encoding {} MB/s, checksum {} MB/s",
            speed(times.sink),
            speed(times.plain),
            times.permille(),
            speed(times.encode),
            speed(times.checksum),
        );
    }
    Ok(())
}
