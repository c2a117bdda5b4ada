//! Who plays in a run: monitor, controller with its consumers, load, and the observer that takes notes.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use prometheus_client::registry::Registry;
use tidegate_core::ids::ConsumerNumber;
use tidegate_core::random::SplitMix64;
use tidegate_load::generator::{Generator, Outcome, Progress};
use tidegate_load::ledger::Acknowledged;
use tidegate_runtime::ports::Bound;
use tidegate_runtime::task::{Task, spawn_named};
use tidegate_runtime::telemetry::metrics::ControllerMetrics;
use tidegate_runtime::{controller, monitor};
use tidegate_wire::Status;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::live::{Act, Screen};
use super::observed::{Observed, Sample};
use super::observer::{Observer, Shared};
use super::setting::Setting;
use super::stage::Stage;
use super::workers::Mortal;
use crate::commands::load;
use crate::signals::Signals;
use crate::wiring;

/// Time between two looks at what is going on.
const LOOK: Duration = Duration::from_millis(500);

/// Looks to a sample that is kept.
const LOOKS_TO_A_SAMPLE: u64 = 2;

/// The players.
#[derive(Debug, Default)]
pub(super) struct Cast {
    observer: Option<Observer>,
    monitor: Option<(CancellationToken, Task<()>)>,
    controller: Option<(CancellationToken, Task<Result<(), controller::Error>>)>,
    kills: Option<mpsc::Sender<ConsumerNumber>>,
}

/// What a run leaves.
#[derive(Debug)]
pub(super) struct Recording {
    pub(super) acknowledged: Acknowledged,
    pub(super) observed: Shared,
    /// One a second, while records were written.
    pub(super) samples: Vec<Sample>,
    /// Who was killed, and when: milliseconds since the load began.
    pub(super) kills: Vec<(u64, ConsumerNumber)>,
    /// When the load began: milliseconds since the Unix epoch.
    pub(super) began_unix_ms: u64,
    /// For how long records were written.
    pub(super) elapsed_ms: u64,
    last: Sample,
}

impl Recording {
    /// What was seen last.
    pub(super) fn last(&self) -> &Sample {
        &self.last
    }
}

/// The load while it runs.
struct Play {
    began: Instant,
    progress: Arc<Progress>,
    kills: Kills,
    recording: Recording,
}

impl Cast {
    /// Starts everybody but the load.
    pub(super) async fn enter(&mut self, setting: &Setting, stage: &Stage) -> anyhow::Result<()> {
        let (config, kafka) = (&stage.config, &stage.kafka);
        let ledger = wiring::control_log(kafka, config, config.control_topics.ledger())?;
        let rates = wiring::control_log(kafka, config, &config.control_topics.monitor)?;
        self.observer = Some(Observer::start(Observed::new(config.group.clone()), ledger, rates));

        let stop = CancellationToken::new();
        let ports = wiring::monitor_ports(kafka, config)?;
        // Nobody scrapes or asks the processes of a demo: the observer sees what it needs in the topics.
        let mut registry = Registry::default();
        let shown = monitor::Shown::to_nobody();
        let specs = watch::channel(stage.spec.clone()).1;
        let (configs, followed) = wiring::configs(kafka, config, specs).await?;
        let running = monitor::run(configs, ports, shown, stop.clone());
        let running = async move {
            running.await;
            drop(followed);
        };
        self.monitor = Some((stop, spawn_named("monitor", running)));

        let stop = CancellationToken::new();
        let workers = wiring::process_workers(config, wiring::Parent::This).await?;
        let (workers, kills) = Mortal::new(workers);
        let metrics = ControllerMetrics::register(&mut registry);
        let ports = wiring::controller_ports(kafka, config, Box::new(workers), metrics)?;
        let start = wiring::controller_start(config, true)?;
        let specs = watch::channel(stage.spec.clone()).1;
        let (status, _) = watch::channel(Status::default());
        let running = controller::run(specs, start, ports, status, stop.clone());
        self.controller = Some((stop, spawn_named("controller", running)));
        self.kills = Some(kills);
        tracing::info!(group = setting.name, "the demo has begun");
        Ok(())
    }

    /// Waits until the first consumer reads every partition.
    pub(super) async fn wait_for_owner(
        &mut self,
        setting: &Setting,
        deadline: Duration,
        signals: &mut Signals,
    ) -> anyhow::Result<()> {
        let observed = self.observed()?;
        let wanted = setting.partition_count();
        let all_read = async {
            while observed.lock().active() < wanted {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::select! {
            () = all_read => Ok(()),
            ended = self.controller_ended() => Err(ended),
            () = signals.next() => bail!("told to end before the load had begun"),
            () = tokio::time::sleep(deadline) => {
                let active = observed.lock().active();
                bail!("only {active} of {wanted} partitions are read after {} s", deadline.as_secs())
            }
        }
    }

    /// Runs the load for its time.
    pub(super) async fn play(
        &mut self,
        setting: &Setting,
        stage: &Stage,
        screen: &mut Screen<'_>,
        signals: &mut Signals,
    ) -> anyhow::Result<Recording> {
        let generator = generator(setting, stage)?;
        let stop = CancellationToken::new();
        let mut play = Play {
            began: Instant::now(),
            progress: generator.progress(),
            kills: Kills::new(setting),
            recording: self.recording()?,
        };
        let stopped = stop.clone();
        let writing = spawn_named("load", generator.run(async move { stopped.cancelled().await }));
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut count = 0;
        while play.began.elapsed() < setting.args.duration {
            tokio::select! {
                _ = looks.tick() => {}
                ended = self.controller_ended() => return Err(ended),
                () = signals.next() => break,
            }
            play.look(count % LOOKS_TO_A_SAMPLE == 0);
            self.kill_one(&mut play);
            screen.show(Act::Load, &play.recording.last, play.recording.kills.len());
            count += 1;
        }
        stop.cancel();
        play.recording.elapsed_ms = millis(play.began.elapsed());
        let Outcome { mut acknowledged, trouble, .. } = writing.await?;
        if let Some(trouble) = trouble {
            tracing::warn!(trouble, "the load generator had trouble");
        }
        let topics = setting.data_topics();
        load::tell_topic_ids(&*stage.kafka.admin(), &topics, &mut acknowledged).await?;
        play.recording.acknowledged = acknowledged;
        Ok(play.recording)
    }

    /// Waits until the ledger shows that everything written is durable. Gives up when nothing moves for a while: then
    /// the audit tells what is missing.
    pub(super) async fn wait_until_durable(
        &mut self,
        stage: &Stage,
        recording: &mut Recording,
        screen: &mut Screen<'_>,
        standstill: Duration,
        signals: &mut Signals,
    ) -> anyhow::Result<()> {
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
                let observed = recording.observed.lock();
                wanted.iter().map(|(id, end)| observed.durable(*id).min(*end)).sum()
            };
            if durable >= total {
                return Ok(());
            }
            if durable > reached {
                (reached, moved) = (durable, Instant::now());
            }
            if moved.elapsed() > standstill {
                tracing::error!(missing = total - durable, "records do not become durable");
                return Ok(());
            }
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(100)) => {}
                ended = self.controller_ended() => return Err(ended),
                () = signals.next() => return Ok(()),
            }
            let (at, bytes) = (recording.last.at_ms, recording.last.written_bytes);
            recording.last = recording.observed.lock().sample(at, bytes);
            screen.show(Act::Drain, &recording.last, recording.kills.len());
        }
    }

    /// Ends everybody in order: the controller with its consumers, then the monitor.
    pub(super) async fn end(self) -> anyhow::Result<()> {
        let mut ended = Ok(());
        if let Some((stop, controller)) = self.controller {
            stop.cancel();
            ended = controller.await?.context("the controller failed");
        }
        if let Some((stop, monitor)) = self.monitor {
            stop.cancel();
            monitor.await?;
        }
        ended
    }

    fn observed(&self) -> anyhow::Result<Shared> {
        let observer = self.observer.as_ref().context("nobody observes")?;
        Ok(observer.shared.clone())
    }

    fn recording(&self) -> anyhow::Result<Recording> {
        Ok(Recording {
            acknowledged: Acknowledged::default(),
            observed: self.observed()?,
            samples: Vec::new(),
            kills: Vec::new(),
            began_unix_ms: wiring::clock().unix_ms(),
            elapsed_ms: 0,
            last: Sample::default(),
        })
    }

    /// Waits until the controller has ended, which it should not: the error is why. Cancel-safe.
    async fn controller_ended(&mut self) -> anyhow::Error {
        let Some((_, task)) = &mut self.controller else { return std::future::pending().await };
        let ended = match task.await {
            Ok(Ok(())) => anyhow::anyhow!("the controller has ended"),
            Ok(Err(error)) => anyhow::Error::new(error).context("the controller failed"),
            Err(error) => error.into(),
        };
        // It cannot be awaited again.
        self.controller = None;
        ended
    }

    fn kill_one(&self, play: &mut Play) {
        let owners: Vec<_> = play.recording.observed.lock().owners().into_iter().collect();
        let at_ms = play.recording.last.at_ms;
        let Some(victim) = play.kills.due(at_ms, &owners) else { return };
        if self.kills.as_ref().is_some_and(|kills| kills.try_send(victim).is_ok()) {
            play.recording.kills.push((at_ms, victim));
        }
    }
}

impl Play {
    fn look(&mut self, keep: bool) {
        let at_ms = millis(self.began.elapsed());
        let bytes = self.progress.totals().bytes;
        self.recording.last = self.recording.observed.lock().sample(at_ms, bytes);
        if keep {
            self.recording.samples.push(self.recording.last.clone());
        }
    }
}

fn generator(setting: &Setting, stage: &Stage) -> anyhow::Result<Generator> {
    let producer = stage.kafka.producer(load::producer_options())?;
    Ok(Generator::new(
        producer,
        wiring::clock(),
        &setting.profile(),
        load::partitions(&setting.data_topics(), setting.args.load.partitions),
        load::generator_config(&setting.args.load, setting.run),
    ))
}

/// When somebody is killed: spread over the middle of the run, so that there is a group to lose somebody from and time
/// to recover.
#[derive(Debug)]
struct Kills {
    due_ms: Vec<u64>,
    random: SplitMix64,
}

impl Kills {
    fn new(setting: &Setting) -> Self {
        let (count, duration) = (u64::from(setting.args.kill), millis(setting.args.duration));
        // From 35 % of the time to 75 %; the last is the first of the list to be taken.
        let at = |n: u64| duration * 35 / 100 + duration * 40 * (2 * n + 1) / (2 * count) / 100;
        Self { due_ms: (0..count).rev().map(at).collect(), random: SplitMix64::new(setting.seed) }
    }

    /// Who is to be killed now, if it is time and there is somebody.
    fn due(&mut self, now_ms: u64, owners: &[ConsumerNumber]) -> Option<ConsumerNumber> {
        if *self.due_ms.last()? > now_ms || owners.is_empty() {
            return None;
        }
        self.due_ms.pop();
        let choice = self.random.next() % owners.len() as u64;
        owners.get(usize::try_from(choice).ok()?).copied()
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kills_are_spread_and_chosen_by_the_seed() {
        let owners: Vec<_> = (1..=3).filter_map(ConsumerNumber::new).collect();
        let choices = || {
            let mut kills = Kills { due_ms: vec![300, 200, 100], random: SplitMix64::new(5) };
            assert_eq!(kills.due(99, &owners), None);
            assert_eq!(kills.due(100, &[]), None, "nobody to kill");
            let killed: Vec<_> = [100, 250, 300].map(|at| kills.due(at, &owners)).into();
            assert_eq!(kills.due(1000, &owners), None, "no more");
            killed
        };
        assert!(choices().iter().all(Option::is_some));
        assert_eq!(choices(), choices());
    }
}
