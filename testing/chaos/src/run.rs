//! A run from its beginning to its verdict.
//!
//! ```text
//! stage    brokers, topics, proxies, folders
//! staff    monitor, two controllers, consumers: processes, kept running
//! load     records that say who they are, from before the first fault until after the last
//! lanes    the schedule of faults
//! end      faults are undone, the load stops, everything becomes durable, processes end in order
//! verdict  the audit reads the sink; nothing that a process counted goes into it
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tidegate_kafka::{Kafka, ProducerOptions};
use tidegate_load::audit::audit;
use tidegate_load::generator::{Generator, Outcome};
use tidegate_load::ledger::Acknowledged;
use tidegate_runtime::ports::{BootClock, Bound, Clock, TopicPartition};
use tidegate_runtime::task::{Task, spawn_named};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::args::{Args, OutputFormat};
use crate::broker::Broker;
use crate::fault::Kind;
use crate::folder::Folder;
use crate::observer;
use crate::output;
use crate::proof;
use crate::random::Random;
use crate::report::Evidence;
use crate::schedule::{self, Plan, Planned};
use crate::setting::{Clocks, Setting};
use crate::signals::Signals;
use crate::staff::{Record, Staff};
use crate::stage::{CONTROLLERS, Stage};
use crate::status;
use crate::tally::Tally;
use crate::world::{self, World};

/// How long the first owners may take: processes start, the ledger begins.
const BEGIN_DEADLINE: Duration = Duration::from_secs(120);

/// How long the faults may go on after their time: a node of Apache Kafka that starts on a busy machine.
const LANES_DEADLINE: Duration = Duration::from_secs(180);

/// For how long the ledger may stand still at the end before what is missing is called lost: three fences.
const STANDSTILL: Duration = Duration::from_secs(60);

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(100);

/// What a run leaves behind for the verdict.
struct Recording {
    kafka: Kafka,
    acknowledged: Acknowledged,
    observed: observer::Shared,
    tally: Tally,
    partitions: Vec<TopicPartition>,
    record: Record,
    scheduled: BTreeSet<Kind>,
}

/// The tasks and handles of a run, in whatever way it ends.
struct Company {
    world: Arc<World>,
    stage: Stage,
    staff: Task<Record>,
    _looking: Task<()>,
    _reading: Task<()>,
}

/// Runs it; true when all is as it must be.
pub(crate) async fn run(args: &Args, mut signals: Signals) -> anyhow::Result<bool> {
    let mut folder = Folder::new()?;
    let mounted = folder.mount();
    if let Err(reason) = &mounted {
        output::say(&format!("{} is SKIPPED: no disk to fill up ({reason})", Kind::FullDisk));
    }
    let clock: Arc<dyn Clock> = Arc::new(BootClock);
    let setting = setting(args, &*clock);
    let lanes = opening(args, &setting, mounted.is_ok());
    let folder = Arc::new(folder);
    let broker = Broker::start(args.broker).await?;
    let played = play(&setting, &folder, &broker, lanes, &mut signals).await;
    let judged = match played {
        Ok(recording) => judge(args, &folder, recording, clock).await,
        Err(error) => Err(error),
    };
    let logged = broker.save_logs(&folder.logs());
    logged.unwrap_or_else(|error| tracing::warn!("{error:#}"));
    let stopped = broker.stop().await;
    let good = judged.and_then(|good| stopped.map(|()| good));
    if args.keep || !matches!(good, Ok(true)) {
        output::say(&format!("logs, ledger of the load and sink: {}", folder.keep().display()));
    }
    if !matches!(good, Ok(true)) {
        output::say(&format!("repeat the schedule: {}", args.repeat(setting.seed)));
    }
    good
}

fn setting(args: &Args, clock: &dyn Clock) -> Setting {
    let run = Random::new(clock.unix_ms(), u64::from(std::process::id())).next();
    let duration = Duration::from_secs(u64::from(args.minutes.get()) * 60);
    Setting {
        // Seeds are short enough to be typed again.
        seed: args.seed.unwrap_or(run % 100_000),
        run,
        duration,
        clocks: Clocks::for_run(duration, !args.only.is_empty()),
        rate: args.rate,
        name: format!("tidegate-chaos-{:08x}", run & 0xffff_ffff),
    }
}

/// Makes the schedule and tells it.
fn opening(args: &Args, setting: &Setting, full_disk: bool) -> [Vec<Planned>; schedule::LANES] {
    let Setting { seed, duration, clocks, .. } = *setting;
    let only = args.only.clone();
    let lanes = Plan { seed, duration, clocks, full_disk, only }.lanes();
    let (lease, fence) = (clocks.lease.as_secs(), clocks.fence.as_secs());
    output::say(&format!("{}\nlease {lease} s, fence {fence} s; schedule:", args.repeat(seed)));
    for Planned { at, fault } in schedule::merged(&lanes) {
        output::say(&format!("  {:02}:{:02}  {fault}", at.as_secs() / 60, at.as_secs() % 60));
    }
    lanes
}

/// Everything up to the moment when all processes have ended.
async fn play(
    setting: &Setting,
    folder: &Arc<Folder>,
    broker: &Broker,
    lanes: [Vec<Planned>; schedule::LANES],
    signals: &mut Signals,
) -> anyhow::Result<Recording> {
    let company = company(setting, folder, broker).await?;
    let scheduled = schedule::merged(&lanes).iter().map(|planned| planned.fault.kind()).collect();
    let performed = tokio::select! {
        performed = perform(&company, setting, lanes) => performed,
        () = signals.next() => Err(anyhow::anyhow!("interrupted")),
    };
    // What was begun is taken down in either case, before anything is judged.
    let Company { world, stage, staff, .. } = company;
    if performed.is_err() {
        let healed = world.heal().await;
        healed.unwrap_or_else(|error| tracing::warn!("not everything was undone: {error:#}"));
    }
    world.staff.end(performed.is_ok()).await;
    let record = staff.await?;
    Ok(Recording {
        kafka: stage.kafka,
        acknowledged: performed?,
        observed: world.observed.clone(),
        tally: world.tally.clone(),
        partitions: stage.partitions,
        record,
        scheduled,
    })
}

async fn company(
    setting: &Setting,
    folder: &Arc<Folder>,
    broker: &Broker,
) -> anyhow::Result<Company> {
    let mut stage = Stage::build(setting, folder, broker).await?;
    let clock: Arc<dyn Clock> = Arc::new(BootClock);
    let options = tidegate_kafka::ControlOptions::default();
    let ledger = stage.kafka.control_log(stage.config.control_topics.ledger(), options)?;
    let group = stage.config.group.clone();
    let (observed, reading) = observer::start(group, ledger, Arc::clone(&clock));
    let data = CONTROLLERS.map(|number| (number, folder.controller(number)));
    let (seen, looking) = status::watch(data.to_vec());
    let (staff, task) = Staff::start(stage.recipe(folder)?, folder.logs(), seen.clone());
    let world = World {
        staff,
        observed,
        seen,
        broker: broker.clone(),
        proxies: std::mem::take(&mut stage.proxies),
        folder: Arc::clone(folder),
        tally: Tally::default(),
        clock,
        afflicted: std::sync::Mutex::default(),
    };
    let (world, staff) = (Arc::new(world), task);
    Ok(Company { world, stage, staff, _looking: looking, _reading: reading })
}

/// Load and faults, and then the time until all records are durable.
async fn perform(
    company: &Company,
    setting: &Setting,
    lanes: [Vec<Planned>; schedule::LANES],
) -> anyhow::Result<Acknowledged> {
    let Company { world, stage, .. } = company;
    wait_for_owners(world).await?;
    let stop = CancellationToken::new();
    let (generator, stopped) = (generator(setting, stage)?, stop.clone());
    let writing = spawn_named("load", generator.run(async move { stopped.cancelled().await }));
    let began = Instant::now();
    let struck = strike(world, setting, lanes, began);
    tokio::time::timeout(setting.duration + LANES_DEADLINE, struck)
        .await
        .context("the faults do not end")??;
    world.heal().await?;
    stop.cancel();
    output::say("faults and load have ended; waiting until everything is durable");
    let Outcome { mut acknowledged, trouble, .. } = writing.await?;
    if let Some(trouble) = trouble {
        output::say(&format!("the load generator had trouble: {trouble}"));
    }
    for partition in &stage.partitions {
        acknowledged.set_topic_id(&partition.topic, partition.id.topic);
    }
    wait_until_durable(world, stage).await?;
    Ok(acknowledged)
}

async fn wait_for_owners(world: &World) -> anyhow::Result<()> {
    let wanted = Setting::partition_count();
    let all_read = async {
        while world.observed.lock().active() < wanted {
            sleep(LOOK).await;
        }
    };
    if tokio::time::timeout(BEGIN_DEADLINE, all_read).await.is_err() {
        let active = world.observed.lock().active();
        bail!("only {active} of {wanted} partitions are read after {BEGIN_DEADLINE:?}");
    }
    Ok(())
}

/// Runs the lanes, and waits until the time of the load is over.
async fn strike(
    world: &Arc<World>,
    setting: &Setting,
    lanes: [Vec<Planned>; schedule::LANES],
    began: Instant,
) -> anyhow::Result<()> {
    let mut purpose = 10;
    let [long, short, shared] = lanes.map(|lane| {
        purpose += 1;
        let random = Random::new(setting.seed, purpose);
        let lane = world::run_lane(Arc::clone(world), lane, random, began);
        let lane = spawn_named(format!("lane-{purpose}"), lane);
        async { lane.await? }
    });
    tokio::try_join!(long, short, shared)?;
    tokio::time::sleep_until(began + setting.duration).await;
    Ok(())
}

fn generator(setting: &Setting, stage: &Stage) -> anyhow::Result<Generator> {
    // An idempotent producer keeps each record single and in order only as long as none of its records expires.
    let timeout = Duration::from_secs(600);
    let options = ProducerOptions { timeout, max_bytes: 16 << 20, ..ProducerOptions::default() };
    Ok(Generator::new(
        stage.kafka.producer(options)?,
        Arc::new(BootClock),
        &setting.profile(),
        setting.lanes(),
        setting.generator(),
    ))
}

/// Waits until the ledger shows that everything written is durable. Gives up when nothing moves for a while: then the
/// audit tells what is missing.
async fn wait_until_durable(world: &World, stage: &Stage) -> anyhow::Result<()> {
    let names: Vec<_> =
        stage.partitions.iter().map(|at| (at.topic.clone(), at.id.number)).collect();
    let ends = stage.kafka.offsets().bounds(&names, Bound::Latest).await?;
    let wanted: Vec<_> = stage
        .partitions
        .iter()
        .zip(&names)
        .map(|(partition, name)| (partition.id, ends.get(name).copied().unwrap_or(0)))
        .collect();
    let total: u64 = wanted.iter().map(|(_, end)| end).sum();
    let (mut reached, mut moved) = (0, Instant::now());
    loop {
        let durable: u64 = {
            let observed = world.observed.lock();
            wanted.iter().map(|(id, end)| observed.durable(*id).min(*end)).sum()
        };
        if durable >= total {
            return Ok(());
        }
        if durable > reached {
            (reached, moved) = (durable, Instant::now());
        }
        if moved.elapsed() > STANDSTILL {
            output::say(&format!("{} records do not become durable", total - durable));
            return Ok(());
        }
        sleep(LOOK).await;
    }
}

/// Audits the sink and prints the result.
async fn judge(
    args: &Args,
    folder: &Folder,
    recording: Recording,
    clock: Arc<dyn Clock>,
) -> anyhow::Result<bool> {
    let reader = tidegate_sinks::open_reader(&folder.sink_url(), clock).await?;
    let report = audit(&reader, &recording.acknowledged).await?;
    std::fs::write(folder.acknowledged(), serde_json::to_vec(&recording.acknowledged)?)?;
    let Recording { kafka, observed, tally, partitions, record, scheduled, acknowledged } =
        recording;
    let in_log = proof::repeated_in_log(&kafka, &partitions, acknowledged.run, &report).await?;
    let observed = observed.lock();
    let evidence = Evidence {
        report: &report,
        in_log,
        observed: &observed,
        tally: &tally,
        partitions: &partitions,
        record,
        scheduled: scheduled.into_iter().collect(),
    };
    let summary = evidence.summary();
    match args.output {
        OutputFormat::Text => output::result(&summary.text()),
        OutputFormat::Json => {
            output::say(&summary.text());
            output::result(&serde_json::to_string(&summary)?);
        }
    }
    Ok(summary.is_good())
}
