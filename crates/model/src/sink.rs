//! A sink that fences: one chain of records for each partition, in two kinds.

use std::collections::BTreeMap;

use tidegate_core::consumer::Failure;
use tidegate_core::ids::{FencingToken, PartitionId, Position};
use tidegate_core::mutants::{self, Mutant};

/// What a sink compares before it takes a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SinkKind {
    /// The position and the token: a database that keeps both in the transaction of the rows.
    Epochs,
    /// The position only: a chain of objects that each can be made once.
    Chain,
}

/// What a partition's chain is known by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Chain {
    end: u64,
    /// Of who acquired it last (epochs), or wrote last (chain).
    token: Option<FencingToken>,
}

/// All partitions of the one sink.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Sink {
    kind: SinkKind,
    chains: BTreeMap<PartitionId, Chain>,
}

/// A batch on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Write {
    pub(crate) from: usize,
    pub(crate) id: u64,
    pub(crate) partition: PartitionId,
    pub(crate) token: FencingToken,
    /// Where the writer believes that the chain ends, and where it will end.
    pub(crate) expected: u64,
    pub(crate) end: u64,
}

impl Sink {
    pub(crate) const fn new(kind: SinkKind) -> Self {
        Self { kind, chains: BTreeMap::new() }
    }

    /// True once a partition was acquired.
    pub(crate) fn has_traces(&self) -> bool {
        !self.chains.is_empty()
    }

    /// Number of records of a partition.
    pub(crate) fn end(&self, partition: PartitionId) -> u64 {
        self.chains.get(&partition).map_or(0, |chain| chain.end)
    }

    /// A new owner asks where the chain ends. One below the last is shut out.
    pub(crate) fn acquire(
        &mut self,
        partition: PartitionId,
        token: FencingToken,
    ) -> Result<Position, Failure> {
        let chain = self.chains.entry(partition).or_default();
        if Some(token) < chain.token {
            return Err(Failure::Fenced);
        }
        if self.kind == SinkKind::Epochs {
            chain.token = Some(token);
        }
        Ok(Position(chain.end))
    }

    /// Takes a batch, or refuses it. What was taken and breaks P2 is told as the error's text.
    pub(crate) fn write(&mut self, write: &Write) -> Result<bool, String> {
        let chain = self.chains.entry(write.partition).or_default();
        let stale = Some(write.token) < chain.token;
        if self.kind == SinkKind::Epochs && stale {
            return Ok(false);
        }
        let fits = chain.end == write.expected;
        if !fits && !mutants::is_planted(Mutant::SinkWithoutCompare) {
            return Ok(false);
        }
        let before = chain.end;
        *chain = Chain { end: write.end.max(before), token: Some(write.token) };
        if fits {
            return Ok(true);
        }
        let Write { partition, expected, end, .. } = write;
        Err(format!("{partition}: {expected}..{end} was written where {before} is the end"))
    }
}
