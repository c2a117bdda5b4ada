//! `tidegate plan`: what the controller would do about loads and an assignment from files, and why. It connects to nothing.

mod describe;
mod input;

use std::collections::BTreeMap;

use tidegate_core::demand::{self, Demand, Fleet, Trigger};
use tidegate_core::ids::{ConsumerNumber, Instant, PartitionId};
use tidegate_core::pack::{self, Fault, Preset, Problem, Solution};
use tidegate_sim::planner::stream::{PartitionName, ids};
use tidegate_sim::planner::{Tuning, rates};
use tidegate_wire::status::ByteRate;

use self::describe::Named;
use self::input::{Current, Loads};
use crate::args::{PlanArgs, SpecArgs};
use crate::failure::{Exit, Refused};
use crate::output::Output;
use crate::setup;

/// The names of the partitions that the packer knows by ids.
type Names = BTreeMap<PartitionId, PartitionName>;

pub(super) fn run(args: &PlanArgs, output: &Output) -> anyhow::Result<Exit> {
    let settings = settings(args)?;
    let loads = input::loads(&args.loads)?;
    let current = input::current(&args.current)?;
    let unknown = current.iter().find(|(partition, _)| !loads.contains_key(*partition));
    if let Some((partition, (place, _))) = unknown {
        let what = format!("{place}: {partition} has no load in {}", args.loads.display());
        return Err(Refused::input(&args.current, what).into());
    }
    let names: Names = ids(loads.keys()).into_iter().zip(loads.keys().cloned()).collect();
    let mut problem = problem(settings, &names, &loads, &current);
    // Without a specification as with one that says nothing of it.
    if let Some(preset) = args.preset.or_else(|| args.spec.is_none().then(Preset::default)) {
        Tuning::of(preset).apply(&mut problem);
    }
    let solution = pack::solve(&problem).map_err(|error| match error {
        pack::Error::TotalTooLarge => Refused::input(&args.loads, format!("line 1: {error}")),
        _ => Refused::usage(error.to_string()),
    })?;
    let named = Named { names: &names, problem: &problem, solution: &solution };
    let reason = fault(&named);
    output.result(&named.text()?, &named.json(reason.as_deref()))?;
    match reason {
        Some(reason) => Err(Refused::infeasible(format!("no feasible plan: {reason}")).into()),
        None => Ok(Exit::Done),
    }
}

/// Those of the specification, or the defaults.
fn settings(args: &PlanArgs) -> anyhow::Result<demand::Settings> {
    let mut settings = match &args.spec {
        Some(file) => {
            let spec = SpecArgs { spec: file.clone(), bootstrap: None };
            tidegate_runtime::settings::demand(&*setup::load_config(&spec)?)
        }
        None => demand::Settings::default(),
    };
    if let Some(capacity) = args.capacity {
        settings.capacity_bytes_per_sec = capacity;
    }
    if let Some(most) = args.max_consumers {
        settings.max_consumers = most.get();
        settings.min_consumers = settings.min_consumers.min(most.get());
    }
    Ok(settings)
}

/// What the controller would solve at a moment when it may give consumers up, with loads that it is sure of.
fn problem(settings: demand::Settings, names: &Names, loads: &Loads, current: &Current) -> Problem {
    let now = Instant::default();
    let mut demand = Demand::new(settings);
    let load = |(id, name): (&PartitionId, &PartitionName)| Some((*id, *loads.get(name)?));
    for (topic, report) in rates::reports(names.iter().filter_map(load)) {
        demand.report(now, topic, &report);
    }
    let home = |(id, name): (&PartitionId, &PartitionName)| Some((*id, current.get(name)?.1?));
    let assignment: pack::Assignment = names.iter().filter_map(home).collect();
    let running = assignment.values().copied().collect();
    demand.problem(now, &Fleet { assignment, running, ..Fleet::default() }, Trigger::Sentinel)
}

/// Why a solution is none, if so. A single partition that is larger than a consumer is named in the report instead: it has a consumer to
/// itself, and no plan can do more for it.
fn fault(named: &Named<'_>) -> Option<String> {
    let Named { problem, solution, .. } = named;
    let most = problem.max_consumers;
    let waiting = problem.items.keys().find(|id| !solution.assignment.contains_key(id));
    if let Some(id) = waiting {
        return Some(format!("{} has no consumer, as at most {most} may run", named.name(*id)));
    }
    if let Some((consumer, load, limit)) = overloaded(problem, solution) {
        let (load, limit) = (ByteRate(load), ByteRate(limit));
        let needed = solution.report.packing_bound.consumers();
        return Some(format!(
            "consumer {consumer} would get {load}, above its limit of {limit}, as at most {most} may run; at least {needed} are needed"
        ));
    }
    // What is above the packing limit only is bound by the maximum, and can be lived with.
    let is_other = |fault: &Fault| !matches!(fault, Fault::Overfilled(_) | Fault::Overloaded(_));
    let faults = pack::check(problem, &solution.assignment);
    faults.into_iter().find(is_other).map(|fault| format!("{fault:?}"))
}

/// The consumer that is most above its overload limit, of those that have several partitions to read.
fn overloaded(problem: &Problem, solution: &Solution) -> Option<(ConsumerNumber, u64, u64)> {
    let mut loads: BTreeMap<_, (u64, usize)> = BTreeMap::new();
    for (partition, at) in &solution.assignment {
        let weight = problem.items.get(partition).map_or(0, |item| item.weight);
        let (load, count) = loads.entry(*at).or_default();
        *load = load.saturating_add(weight);
        *count += usize::from(weight > 0);
    }
    let several = loads.into_iter().filter(|(_, (_, count))| *count > 1);
    let with_limit = several.map(|(at, (load, _))| (at, load, problem.overload_limit_of(at)));
    with_limit.filter(|(_, load, limit)| load > limit).max_by_key(|(_, load, limit)| load - limit)
}
