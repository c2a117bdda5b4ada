//! What can be said to `tidegate bench`.

use std::time::Duration;

use clap::{Args, Subcommand};
use tidegate_core::pack::Preset;
use tidegate_runtime::spec::Span;

use super::preset;

/// `tidegate bench`.
#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Time the packer, phase by phase, for groups of several sizes.
    Planner(PlannerBenchArgs),
}

/// `tidegate bench planner`.
#[derive(Debug, Args)]
pub(crate) struct PlannerBenchArgs {
    /// Sizes of groups.
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [1_000, 10_000, 100_000],
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) partitions: Vec<u32>,
    /// So many partitions fill a consumer on average.
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [2, 50],
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) per_consumer: Vec<u32>,
    /// Decisions after the first, as loads change.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) decisions: u32,
    /// The same seed gives the same loads and the same decisions.
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub(crate) seed: u64,
    /// How the packer is tuned.
    #[arg(long, value_name = "NAME", default_value = "balanced", value_parser = preset)]
    pub(crate) preset: Preset,
    /// The time that the search may take.
    #[arg(long, value_name = "TIME", default_value = "50ms", value_parser = Span::parse)]
    pub(crate) budget: Duration,
}
