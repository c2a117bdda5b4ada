//! What can be said to `tidegate sink`.

use clap::{Args, Subcommand};

/// `tidegate sink`.
#[derive(Debug, Subcommand)]
pub(crate) enum SinkCommand {
    /// Print the records of an object sink in order, as lines of JSON; or list the objects that hold them.
    Read(SinkReadArgs),
    /// Check every object of an object sink, and every record in it: nothing missing, doubled, out of order or damaged.
    /// Ends with 1 when something is.
    Verify(SinkSelection),
}

/// `tidegate sink read`.
#[derive(Debug, Args)]
pub(crate) struct SinkReadArgs {
    #[command(flatten)]
    pub(crate) selection: SinkSelection,
    /// Begins with this offset, in each partition.
    #[arg(long, value_name = "OFFSET", default_value_t = 0)]
    pub(crate) from: u64,
    /// Lists the objects instead: where each begins and ends, what it holds, and who wrote it when. Only their headers
    /// are read.
    #[arg(long)]
    pub(crate) list: bool,
}

/// A sink, and which of its partitions.
#[derive(Debug, Args)]
pub(crate) struct SinkSelection {
    /// The sink, as the specification names it: `file:///folder` or `s3://bucket/prefix`.
    #[arg(value_name = "URL")]
    pub(crate) url: String,
    /// Only the topic with this name.
    #[arg(long, value_name = "NAME")]
    pub(crate) topic: Option<String>,
    /// Only the partitions with this number.
    #[arg(long, value_name = "N")]
    pub(crate) partition: Option<u32>,
}
