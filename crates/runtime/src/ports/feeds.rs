//! What a controller is told by others: the monitor's rates, and an operator's overrides of the spec.

use async_trait::async_trait;
use tidegate_wire::{Override, PartitionRates};

/// What the monitor has published.
#[async_trait]
pub trait Rates: Send + std::fmt::Debug {
    /// Waits for rates and returns those at hand, in order. Cancel-safe: what was not returned comes with the next call.
    async fn next(&mut self) -> Vec<PartitionRates>;
}

/// Overrides of the group's spec that were read, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Overridden {
    /// All that there are: whatever was read before counts no more.
    Whole(Vec<Override>),
    /// More of them.
    More(Vec<Override>),
}

/// Overrides of the group's spec, from the first that is kept.
#[async_trait]
pub trait Overrides: Send + std::fmt::Debug {
    /// Waits for overrides and returns those at hand; the first call, and each one after the topic had to be read anew, all that there
    /// are, if none at all. Cancel-safe: what was not returned comes with the next call.
    async fn next(&mut self) -> Overridden;
}
