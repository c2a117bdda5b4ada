//! Everything that can be struck, and how each fault is done and undone.
//!
//! A lane of the schedule runs as one task. A fault that finds nobody to strike waits a while for somebody, since a group
//! that has just been struck may own nothing; then it is given up and counted as missed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidegate_runtime::ports::Clock;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use crate::broker::{Broker, NODES};
use crate::fault::{Fault, Kind};
use crate::folder::Folder;
use crate::observer;
use crate::output;
use crate::process::Who;
use crate::proxy::{Proxy, Weather};
use crate::random::Random;
use crate::schedule::Planned;
use crate::staff::{Deed, Staff};
use crate::status::Seen;
use crate::tally::{Struck, Tally};

/// How long a fault waits for somebody to strike: a re-election and a hand-off are over by then.
const PATIENCE: Duration = Duration::from_secs(15);

/// Time between two looks for somebody.
const LOOK: Duration = Duration::from_millis(200);

/// A fault that has become this late is put off, so that those behind it come in time.
const MOST_LATE: Duration = Duration::from_secs(60);

/// The group and what it stands on.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) staff: Staff,
    pub(crate) observed: observer::Shared,
    pub(crate) seen: watch::Receiver<Seen>,
    pub(crate) broker: Broker,
    /// The proxies of consumers that have one, by number.
    pub(crate) proxies: BTreeMap<u32, Proxy>,
    pub(crate) folder: Arc<Folder>,
    pub(crate) tally: Tally,
    pub(crate) clock: Arc<dyn Clock>,
    /// Consumers that are being struck: two faults at once meet two of them.
    pub(crate) afflicted: Mutex<BTreeSet<u32>>,
}

/// Runs the faults of a lane, one after the other.
pub(crate) async fn run_lane(
    world: Arc<World>,
    lane: Vec<Planned>,
    mut random: Random,
    began: Instant,
) -> anyhow::Result<()> {
    let mut again = Vec::new();
    for Planned { at, fault } in lane {
        sleep_until(began + at).await;
        let is_late = began.elapsed().saturating_sub(at) > MOST_LATE;
        if is_late || !world.inject(&fault, &mut random, began).await? {
            say(began, &format!("{fault}: {}", if is_late { "late" } else { "nobody to strike" }));
            again.push(fault);
        }
    }
    for fault in again {
        // One of its kind is enough; else a slow machine would never come to an end.
        if world.tally.has(fault.kind()) || !world.inject(&fault, &mut random, began).await? {
            world.tally.missed(fault.kind());
        }
    }
    Ok(())
}

fn say(began: Instant, text: &str) {
    let at = began.elapsed().as_secs();
    output::say(&format!("{:02}:{:02}  {text}", at / 60, at % 60));
}

impl World {
    /// Does a fault and undoes it; false when there was nobody to strike.
    async fn inject(
        &self,
        fault: &Fault,
        random: &mut Random,
        began: Instant,
    ) -> anyhow::Result<bool> {
        let done = match fault {
            Fault::Sigkill { .. }
            | Fault::Death { .. }
            | Fault::Sigstop { .. }
            | Fault::Sigterm { .. } => self.strike_consumers(fault, random, began).await,
            Fault::BlackHole { .. } => self.cloud(fault, Weather::BlackHole, random, began).await,
            Fault::Delay { each, .. } => {
                self.cloud(fault, Weather::Delay(*each), random, began).await
            }
            Fault::HalfOpen { lost, .. } => {
                self.cloud(fault, Weather::HalfOpen(*lost), random, began).await
            }
            Fault::ControllerKill { .. } | Fault::ControllerStop { .. } => {
                self.strike_leader(fault, began).await
            }
            Fault::BrokerKill { .. } => self.kill_node(fault, random, began).await?,
            Fault::FullDisk { .. } => self.fill_disk(fault, random, began).await?,
            Fault::SinkOutage { .. } => self.cut_sink(fault, began).await?,
        };
        if done {
            self.tally.count(fault.kind());
        }
        Ok(done)
    }

    /// Undoes whatever may have been left undone.
    pub(crate) async fn heal(&self) -> anyhow::Result<()> {
        for proxy in self.proxies.values() {
            proxy.set(Weather::Clear);
        }
        for who in self.everybody() {
            self.staff.order(who, Deed::Resume).await;
        }
        self.folder.mend_sink()?;
        self.folder.empty_disk()?;
        self.broker.restore().await
    }

    /// Whoever may stand still.
    fn everybody(&self) -> Vec<Who> {
        let struck = self.afflicted().iter().map(|number| Who::Consumer(*number)).collect();
        let controllers = vec![Who::Controller(1), Who::Controller(2)];
        [controllers, struck].concat()
    }

    // === consumers ===

    async fn strike_consumers(&self, fault: &Fault, random: &mut Random, began: Instant) -> bool {
        let count = if let Fault::Sigterm { consumers, .. } = fault { *consumers } else { 1 };
        let victims = self.victims(count, random, |_| true).await;
        if victims.is_empty() {
            return false;
        }
        say(began, &format!("{fault}: consumer {}", list(&victims)));
        let (first, then) = deeds(fault);
        self.deal(fault, &victims, first).await;
        sleep(fault.span()).await;
        if let Some(then) = then {
            self.deal(fault, &victims, then).await;
        }
        self.release(&victims);
        true
    }

    async fn deal(&self, fault: &Fault, victims: &[u32], deed: Deed) {
        for victim in victims {
            // Noted before: what follows from it may be seen at once.
            self.note(fault, Some(*victim));
            self.staff.order(Who::Consumer(*victim), deed).await;
        }
    }

    /// Consumers that own something and run, and that nothing else strikes: up to so many, at random.
    async fn victims(
        &self,
        count: usize,
        random: &mut Random,
        may: impl Fn(u32) -> bool,
    ) -> Vec<u32> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let running: BTreeSet<Who> = self.staff.running().await.into_iter().collect();
            let may = |number| may(number) && running.contains(&Who::Consumer(number));
            let victims = self.pick(count, random, may);
            if !victims.is_empty() {
                return victims;
            }
            sleep(LOOK).await;
        }
        Vec::new()
    }

    fn pick(&self, count: usize, random: &mut Random, may: impl Fn(u32) -> bool) -> Vec<u32> {
        let owners = self.observed.lock().owners();
        let mut afflicted = self.afflicted();
        let eligible = |number: &u32| !afflicted.contains(number) && may(*number);
        let mut victims: Vec<u32> = owners.into_iter().filter(eligible).collect();
        random.shuffle(&mut victims);
        victims.truncate(count);
        afflicted.extend(&victims);
        victims
    }

    fn release(&self, victims: &[u32]) {
        let mut afflicted = self.afflicted();
        for victim in victims {
            afflicted.remove(victim);
        }
    }

    fn afflicted(&self) -> MutexGuard<'_, BTreeSet<u32>> {
        self.afflicted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, fault: &Fault, consumer: Option<u32>) {
        let from_ms = self.clock.unix_ms();
        let span = u64::try_from(fault.span().as_millis()).unwrap_or(u64::MAX);
        let to_ms = from_ms.saturating_add(span);
        self.tally.struck(Struck { kind: fault.kind(), consumer, from_ms, to_ms });
    }

    // === the network ===

    async fn cloud(
        &self,
        fault: &Fault,
        weather: Weather,
        random: &mut Random,
        began: Instant,
    ) -> bool {
        let victims = self.victims(1, random, |number| self.proxies.contains_key(&number)).await;
        let Some(proxy) = victims.first().and_then(|victim| self.proxies.get(victim)) else {
            return false;
        };
        say(began, &format!("{fault}: consumer {}", list(&victims)));
        self.note(fault, victims.first().copied());
        proxy.set(weather);
        sleep(fault.span()).await;
        proxy.set(Weather::Clear);
        self.release(&victims);
        true
    }

    // === what all share ===

    async fn strike_leader(&self, fault: &Fault, began: Instant) -> bool {
        let Some(leader) = self.leader().await else { return false };
        say(began, &format!("{fault}: controller {leader}"));
        self.note(fault, None);
        let who = Who::Controller(leader);
        let (first, then) = deeds(fault);
        let struck = self.staff.order(who, first).await;
        sleep(fault.span()).await;
        if let Some(then) = then {
            self.staff.order(who, then).await;
        }
        struck
    }

    async fn leader(&self) -> Option<u32> {
        let mut seen = self.seen.clone();
        let leads = seen.wait_for(|seen| seen.leader.is_some());
        let found = tokio::time::timeout(PATIENCE, leads).await.ok()?.ok()?;
        found.leader
    }

    async fn kill_node(
        &self,
        fault: &Fault,
        random: &mut Random,
        began: Instant,
    ) -> anyhow::Result<bool> {
        let node = 1 + u8::try_from(random.below(usize::from(NODES)))?;
        say(began, &format!("{fault}: node {node}"));
        self.note(fault, None);
        self.broker.kill(node).await?;
        sleep(fault.span()).await;
        self.broker.restore().await?;
        Ok(true)
    }

    /// While the disk is full a consumer is told to end: it cannot say on its disk that its stop was a clean one, and the
    /// next one of its number starts on a full disk.
    async fn fill_disk(
        &self,
        fault: &Fault,
        random: &mut Random,
        began: Instant,
    ) -> anyhow::Result<bool> {
        let victims = self.victims(1, random, |_| true).await;
        say(began, &format!("{fault}: consumer {} is told to end meanwhile", list(&victims)));
        self.folder.fill_disk()?;
        self.deal(fault, &victims, Deed::Terminate).await;
        sleep(fault.span()).await;
        self.folder.empty_disk()?;
        self.release(&victims);
        Ok(true)
    }

    async fn cut_sink(&self, fault: &Fault, began: Instant) -> anyhow::Result<bool> {
        say(began, &fault.to_string());
        self.note(fault, None);
        self.folder.cut_sink()?;
        sleep(fault.span()).await;
        self.folder.mend_sink()?;
        Ok(true)
    }
}

/// What is done to a process for a fault, and what at its end.
fn deeds(fault: &Fault) -> (Deed, Option<Deed>) {
    match *fault {
        Fault::Sigstop { .. } | Fault::ControllerStop { .. } => (Deed::Stop, Some(Deed::Resume)),
        Fault::Sigterm { .. } => (Deed::Terminate, Some(Deed::Terminate)),
        _ => (Deed::Kill { restart_after: fault.span() }, None),
    }
}

fn list(numbers: &[u32]) -> String {
    let numbers: Vec<_> = numbers.iter().map(ToString::to_string).collect();
    numbers.join(", ")
}

/// Kinds whose faults must be followed by another controller.
pub(crate) const DETHRONING: [Kind; 2] = [Kind::ControllerKill, Kind::ControllerStop];
