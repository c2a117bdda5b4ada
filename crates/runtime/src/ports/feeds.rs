//! What a controller is told by others: the monitor's rates, and an operator's overrides of the spec.

use async_trait::async_trait;
use tidegate_wire::{Override, PartitionRates};

/// What the monitor has published.
#[async_trait]
pub trait Rates: Send + std::fmt::Debug {
    /// Waits for rates and returns those at hand, in order. Cancel-safe: what was not returned comes with the next call.
    async fn next(&mut self) -> Vec<PartitionRates>;
}

/// Overrides of the group's spec, from the first that is kept.
#[async_trait]
pub trait Overrides: Send + std::fmt::Debug {
    /// Waits for overrides and returns those at hand, in order; the first call all that there were when the feed was opened, if
    /// none at all. Cancel-safe: what was not returned comes with the next call.
    async fn next(&mut self) -> Vec<Override>;
}
