//! `tidegate bench planner`: how long decisions take on this machine. The workloads are those of `tidegate-sim`; here they get a
//! clock, and their times are printed.

use tidegate_core::ids::Instant;
use tidegate_core::pack::Phase;
use tidegate_sim::planner::bench::{GroupSize, GroupTimes, PlannerBench};

use crate::args::PlannerBenchArgs;
use crate::commands::{table, work};
use crate::failure::Exit;
use crate::output::Output;
use crate::signals::Signals;
use crate::wiring;

pub(super) async fn run(
    args: PlannerBenchArgs,
    output: &Output,
    signals: Signals,
) -> anyhow::Result<Exit> {
    let Some(found) = work::run(signals, move || measure(&args)).await? else {
        return Ok(work::interrupted());
    };
    let legend = "Milliseconds; phases and p50 are medians of the decisions after the first. Plan is everything but the search.";
    output.result(&format!("{}\n\n{legend}", text(&found)), &found)?;
    Ok(Exit::Done)
}

fn measure(args: &PlannerBenchArgs) -> anyhow::Result<Vec<GroupTimes>> {
    let clock = wiring::clock();
    let began = clock.now();
    let time = || Instant::since(clock.now(), began);
    let bench = PlannerBench {
        decisions: args.decisions,
        seed: args.seed,
        budget: args.budget,
        preset: args.preset,
        clock: &time,
    };
    let groups = args.partitions.iter().flat_map(|partitions| {
        let size =
            |per_consumer: &u32| GroupSize { partitions: *partitions, per_consumer: *per_consumer };
        args.per_consumer.iter().map(size)
    });
    let mut progress = work::Progress::new("bench planner", "groups");
    let total = args.partitions.len() * args.per_consumer.len();
    let mut found = Vec::new();
    for size in groups {
        found.push(bench.run(size)?);
        progress.tell(found.len(), total);
    }
    Ok(found)
}

fn text(found: &[GroupTimes]) -> String {
    let phases = Phase::ALL.map(Phase::name);
    let heads = [
        "partitions",
        "per consumer",
        "consumers",
        "moved [‰]",
        "plan first",
        "plan p50",
        "plan max",
    ];
    let heads = heads.into_iter().chain(phases).map(str::to_owned).collect::<Vec<_>>();
    let row = |times: &GroupTimes| {
        let GroupTimes { partitions, per_consumer, consumers, moved_permille, .. } = times;
        let plan = times.constructive_ms;
        let sizes = [
            partitions.to_string(),
            per_consumer.to_string(),
            consumers.to_string(),
            moved_permille.to_string(),
        ];
        let times = [plan.first, plan.p50, plan.max]
            .into_iter()
            .chain(phases.map(|phase| times.next_ms[phase]));
        sizes.into_iter().chain(times.map(|time| format!("{time:.2}"))).collect()
    };
    table::aligned(&heads, &found.iter().map(row).collect::<Vec<_>>())
}
