//! The planner's work for one group, without the search and with a clock that stands still: fixed work, whose instructions
//! `cargo xtask bench` counts. Arguments: partitions, partitions for each consumer, decisions after the first.

use std::env;
use std::error::Error;
use std::time::Duration;

use tidegate_core::pack::Preset;
use tidegate_sim::planner::bench::{GroupSize, PlannerBench};

fn main() -> Result<(), Box<dyn Error>> {
    // Cargo adds `--bench`.
    let numbers = env::args().skip(1).filter(|word| !word.starts_with("--"));
    let numbers: Vec<u32> = numbers.map(|word| word.parse()).collect::<Result<_, _>>()?;
    let [partitions, per_consumer, decisions] = numbers[..] else {
        return Err(
            "expected three numbers: partitions, partitions for each consumer, decisions".into()
        );
    };
    let bench = PlannerBench {
        decisions,
        seed: 1,
        budget: Duration::ZERO,
        preset: Preset::Calm,
        clock: &|| Duration::ZERO,
    };
    bench.run(GroupSize { partitions, per_consumer })?;
    Ok(())
}
