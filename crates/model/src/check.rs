//! Explores configurations to their end, and tells what was found.

use std::collections::BTreeSet;
use std::time::Duration;

use stateright::{Checker, HasDiscoveries, Model};

use crate::audit::{Promise, Reached};
use crate::scenario::Scenario;
use crate::world::World;

/// What an exploration found.
#[derive(Clone, Debug)]
pub struct Findings {
    /// The configuration.
    pub name: &'static str,
    /// States that were generated, those that were seen before among them.
    pub states: usize,
    /// States.
    pub unique: usize,
    /// Length of the longest shortest path.
    pub depth: usize,
    /// What was reached.
    pub reached: BTreeSet<Reached>,
    /// Broken promises, each with a path in words.
    pub broken: Vec<(Promise, String)>,
}

/// How far to go.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Threads.
    pub threads: usize,
    /// States at most; none for all.
    pub states: Option<usize>,
    /// Time at most.
    pub time: Option<Duration>,
}

/// Explores a configuration until a promise is broken, or there is nothing left.
pub fn explore(world: World, bounds: Bounds) -> Findings {
    let name = world.scenario().name;
    let tell = world.clone();
    let mut builder =
        world.checker().threads(bounds.threads).finish_when(HasDiscoveries::AnyFailures);
    if let Some(states) = bounds.states {
        builder = builder.target_state_count(states);
    }
    if let Some(time) = bounds.time {
        builder = builder.timeout(time);
    }
    let checker = builder.spawn_bfs().join();
    let found = |name| checker.discovery(name);
    let broken = Promise::ALL.into_iter().filter_map(|promise| {
        let path = found(promise.name())?;
        Some((promise, tell.tell(path)))
    });
    let broken = broken.collect();
    let reached = Reached::ALL.into_iter().filter(|what| found(what.name()).is_some()).collect();
    Findings {
        name,
        states: checker.state_count(),
        unique: checker.unique_state_count(),
        depth: checker.max_depth(),
        reached,
        broken,
    }
}

/// All configurations, or those with this in their name.
pub fn scenarios(deep: bool, filter: Option<&str>) -> Vec<Scenario> {
    let all = if deep { Scenario::deep() } else { Scenario::all() };
    all.into_iter()
        .filter(|scenario| filter.is_none_or(|part| scenario.name.contains(part)))
        .collect()
}
