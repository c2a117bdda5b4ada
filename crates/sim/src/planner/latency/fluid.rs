//! The fluid model: data flows into partitions at rates that change steadily, and out of them as consumers share their capacity evenly among
//! the partitions that have something to read. A partition that changes its consumer pauses, and one whose new consumer has to be started
//! waits for it, or stays with the old one meanwhile.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use tidegate_core::pack;

use super::{Decider, Late, LatencyFigures, Policy, Sizing, Stream};
use crate::number::{float, length, rounded};

/// What a change of consumers costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handoff {
    /// For so long nobody reads a partition that moves.
    pub pause: Duration,
    /// A new consumer takes so long to start.
    pub start_delay: Duration,
    /// What comes first.
    pub order: HandoffOrder,
}

/// What comes first when a partition moves to a consumer that has to be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandoffOrder {
    /// The old consumer stops at once, and the partition waits.
    BreakFirst,
    /// The old consumer goes on until the new one is ready.
    MakeFirst,
}

impl Default for Handoff {
    /// As published, and with consumers that are ready at once.
    fn default() -> Self {
        let pause = Duration::from_secs(5);
        Self { pause, start_delay: Duration::ZERO, order: HandoffOrder::BreakFirst }
    }
}

/// The model looks at everything so often. What is read within one step of being written counts as read at once, up to half of this.
const STEP_MS: u64 = 50;

/// Packers work with integers: rates are given to them in thousandths, so that rounding does not decide.
pub(crate) const FINE: u64 = 1000;

/// Less than this much data is nothing: what is left over by rounding.
const NOTHING: f64 = 1e-9;

/// Data that was written in one step.
#[derive(Clone, Copy, Debug)]
struct Parcel {
    written_ms: f64,
    amount: f64,
}

/// A partition and who reads it.
#[derive(Clone, Debug)]
struct Partition {
    parcels: VecDeque<Parcel>,
    backlog: f64,
    /// Who has it, or had it until it stopped.
    holder: u32,
    /// Who is to have it, from when on the old one stops, and from when on the new one reads.
    change: Option<Change>,
}

#[derive(Clone, Copy, Debug)]
struct Change {
    to: u32,
    stop_ms: u64,
    resume_ms: u64,
}

/// A group at work.
#[derive(Clone, Debug)]
pub(crate) struct Fluid {
    handoff: Handoff,
    /// What a consumer reads in a step.
    capacity: f64,
    now_ms: u64,
    partitions: Vec<Partition>,
    /// When each consumer that runs or starts is ready.
    ready_ms: BTreeMap<u32, u64>,
    late: Late,
    /// Consumers times steps, and steps.
    consumer_steps: (u64, u64),
}

// === impl Fluid ===

impl Fluid {
    /// A group that is at work already.
    pub(crate) fn new(sizing: Sizing, handoff: Handoff, assignment: &[u32]) -> Self {
        let partition = |holder: &u32| Partition {
            parcels: VecDeque::new(),
            backlog: 0.0,
            holder: *holder,
            change: None,
        };
        Self {
            handoff,
            capacity: float(sizing.capacity) * float(STEP_MS) / 1000.0,
            now_ms: 0,
            partitions: assignment.iter().map(partition).collect(),
            ready_ms: assignment.iter().map(|consumer| (*consumer, 0)).collect(),
            late: Late::default(),
            consumer_steps: (0, 0),
        }
    }

    pub(crate) const fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// Whether a hand-off is going on.
    pub(crate) fn is_busy(&self) -> bool {
        self.partitions.iter().any(|partition| partition.change.is_some())
    }

    /// Consumers that run or start.
    pub(crate) fn running(&self) -> impl Iterator<Item = u32> {
        self.ready_ms.keys().copied()
    }

    /// Who has each partition, or is to have it.
    pub(crate) fn targets(&self) -> impl Iterator<Item = u32> {
        self.partitions.iter().map(|partition| partition.change.map_or(partition.holder, |c| c.to))
    }

    /// What waits to be read of each partition.
    pub(crate) fn backlogs(&self) -> impl Iterator<Item = f64> {
        self.partitions.iter().map(|partition| partition.backlog)
    }

    /// Begins a hand-off. No other one is going on.
    pub(crate) fn hand_over(&mut self, next: &[u32]) {
        let (now, pause) = (self.now_ms, millis(self.handoff.pause));
        let start = now + millis(self.handoff.start_delay);
        for (partition, to) in self.partitions.iter_mut().zip(next) {
            if partition.holder == *to {
                continue;
            }
            let ready = *self.ready_ms.entry(*to).or_insert(start);
            let (stop_ms, resume_ms) = match self.handoff.order {
                HandoffOrder::BreakFirst => (now, (now + pause).max(ready)),
                HandoffOrder::MakeFirst => (ready.max(now), ready.max(now) + pause),
            };
            partition.change = Some(Change { to: *to, stop_ms, resume_ms });
        }
        self.settle();
    }

    /// Lets a step pass in which data is written at these rates.
    pub(crate) fn step(&mut self, rates: impl Iterator<Item = f64>) {
        self.settle();
        let seconds = float(STEP_MS) / 1000.0;
        let written_ms = float(self.now_ms) + float(STEP_MS) / 2.0;
        for (partition, rate) in self.partitions.iter_mut().zip(rates) {
            partition.write(Parcel { written_ms, amount: rate * seconds });
        }
        let mut reading: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for (index, partition) in self.partitions.iter().enumerate() {
            if partition.is_read(self.now_ms) && partition.backlog > 0.0 {
                reading.entry(partition.holder).or_default().push(index);
            }
        }
        for indices in reading.into_values() {
            self.read(indices);
        }
        let consumers = self.ready_ms.len() as u64;
        self.consumer_steps.0 += consumers;
        self.consumer_steps.1 += 1;
        self.now_ms += STEP_MS;
    }

    /// Lets time pass without anything written until all is read, and gives the figures; `r_score` is left at zero.
    pub(crate) fn finish(mut self) -> LatencyFigures {
        let (consumers, steps) = self.consumer_steps;
        while self.partitions.iter().any(|partition| partition.backlog > NOTHING) {
            self.step(std::iter::empty());
        }
        LatencyFigures {
            consumers: float(consumers) / float(steps.max(1)),
            r_score: 0.0,
            latency_s: self.late.seconds(),
            late_share: self.late.late_share(),
        }
    }

    /// Makes true what has come due.
    fn settle(&mut self) {
        for partition in &mut self.partitions {
            if let Some(change) = partition.change.filter(|change| change.resume_ms <= self.now_ms)
            {
                partition.holder = change.to;
                partition.change = None;
            }
        }
        let mut used: BTreeSet<u32> = self.targets().collect();
        // One that has stopped everything it had is not needed any more.
        let holds = |partition: &&Partition| partition.is_read(self.now_ms);
        used.extend(self.partitions.iter().filter(holds).map(|partition| partition.holder));
        self.ready_ms.retain(|consumer, _| used.contains(consumer));
    }

    /// One consumer's step: those with the least to read first, so that what they leave of their share goes to the others.
    fn read(&mut self, mut indices: Vec<usize>) {
        let backlog = |index: &usize| self.partitions.get(*index).map_or(0.0, |p| p.backlog);
        indices.sort_by(|a, b| backlog(a).total_cmp(&backlog(b)));
        let (mut left, mut waiting) = (self.capacity, indices.len());
        for index in indices {
            let share = left / length(waiting.max(1));
            if let Some(partition) = self.partitions.get_mut(index) {
                left -= partition.read(share, self.now_ms, &mut self.late);
            }
            waiting -= 1;
        }
    }
}

// === impl Partition ===

impl Partition {
    fn is_read(&self, now_ms: u64) -> bool {
        self.change.is_none_or(|change| now_ms < change.stop_ms)
    }

    fn write(&mut self, parcel: Parcel) {
        if parcel.amount > 0.0 {
            self.backlog += parcel.amount;
            self.parcels.push_back(parcel);
        }
    }

    /// Reads at most this much, evenly over the step, the oldest first; gives how much it was.
    fn read(&mut self, most: f64, now_ms: u64, late: &mut Late) -> f64 {
        let amount = most.min(self.backlog);
        let mut read = 0.0;
        while let Some(parcel) = self.parcels.front_mut() {
            let part = parcel.amount.min(amount - read);
            if part <= NOTHING && parcel.amount > NOTHING {
                break;
            }
            let progress = if amount > 0.0 { (read + part / 2.0) / amount } else { 0.0 };
            let read_ms = float(now_ms) + float(STEP_MS) * progress;
            late.add((read_ms - parcel.written_ms).max(0.0) / 1000.0, part);
            read += part;
            parcel.amount -= part;
            if parcel.amount > NOTHING {
                break;
            }
            self.parcels.pop_front();
        }
        self.backlog = if self.parcels.is_empty() { 0.0 } else { (self.backlog - read).max(0.0) };
        read
    }
}

/// Rates between measurements.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flow<'a> {
    stream: &'a Stream,
    interval_ms: u64,
}

impl<'a> Flow<'a> {
    pub(crate) fn new(stream: &'a Stream, interval: Duration) -> Self {
        Self { stream, interval_ms: millis(interval).max(1) }
    }

    /// How long it flows.
    pub(crate) fn end_ms(self) -> u64 {
        (self.stream.rows().len() as u64).saturating_sub(1) * self.interval_ms
    }

    /// Each partition's rate in the middle of the step that begins now.
    pub(crate) fn rates(self, now_ms: u64) -> Vec<f64> {
        let at = float(now_ms) + float(STEP_MS) / 2.0;
        let position = at / float(self.interval_ms);
        let rows = self.stream.rows();
        let before = usize::try_from(now_ms / self.interval_ms).unwrap_or(usize::MAX);
        let Some(first) = rows.get(before.min(rows.len().saturating_sub(1))) else {
            return Vec::new();
        };
        let second = rows.get(before + 1).unwrap_or(first);
        let passed = (position - length(before)).clamp(0.0, 1.0);
        let between = |(a, b): (&u64, &u64)| float(*a) + (float(*b) - float(*a)) * passed;
        first.iter().zip(second).map(between).collect()
    }

    /// The rates at its beginning, in the packer's unit.
    pub(crate) fn first(self) -> Vec<u64> {
        let rows = self.stream.rows();
        rows.first()
            .map_or_else(Vec::new, |row| row.iter().map(|rate| rate.saturating_mul(FINE)).collect())
    }
}

/// Adds rates up, for the mean of the time since it was asked last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meter {
    sums: Vec<f64>,
    steps: u64,
}

impl Meter {
    pub(crate) fn add(&mut self, rates: &[f64]) {
        self.sums.resize(rates.len(), 0.0);
        for (sum, rate) in self.sums.iter_mut().zip(rates) {
            *sum += rate;
        }
        self.steps += 1;
    }

    /// The means, in the packer's unit; begins anew.
    pub(crate) fn take(&mut self) -> Vec<u64> {
        let steps = float(self.steps.max(1));
        let means = self.sums.iter().map(|sum| rounded(sum / steps * float(FINE))).collect();
        *self = Self::default();
        means
    }
}

/// A decision after each measurement.
pub(super) fn by_measurements(
    policy: Policy,
    stream: &Stream,
    sizing: Sizing,
    (interval, handoff, seed): (Duration, Handoff, u64),
) -> Result<LatencyFigures, pack::Error> {
    let decider = Decider::new(policy, sizing.scaled(FINE), stream.partitions(), seed);
    periodic(decider, Flow::new(stream, interval), sizing, (interval, handoff))
}

/// A decision at the end of each period, on its mean rates. One that falls into the hand-off of another is left out.
pub(crate) fn periodic(
    mut decider: Decider,
    flow: Flow<'_>,
    sizing: Sizing,
    (period, handoff): (Duration, Handoff),
) -> Result<LatencyFigures, pack::Error> {
    let first = decider.decide(&flow.first())?;
    let mut fluid = Fluid::new(sizing, handoff, &first.next);
    let (mut meter, mut moved, mut due_ms) = (Meter::default(), 0.0, millis(period));
    while fluid.now_ms() < flow.end_ms() {
        if fluid.now_ms() >= due_ms {
            due_ms += millis(period);
            let means = meter.take();
            fluid.settle();
            if !fluid.is_busy() {
                let decision = decider.decide(&means)?;
                moved += float(decision.moved_load);
                fluid.hand_over(&decision.next);
            }
        }
        let rates = flow.rates(fluid.now_ms());
        meter.add(&rates);
        fluid.step(rates.into_iter());
    }
    let mut figures = fluid.finish();
    if let Policy::Kafka(_, consumers) = decider.policy() {
        figures.consumers = f64::from(consumers.get());
    }
    figures.r_score = flow.r_score(moved, sizing);
    Ok(figures)
}

impl Flow<'_> {
    /// What moved in the packer's unit, as loads of a full consumer for each measurement.
    pub(crate) fn r_score(self, moved: f64, sizing: Sizing) -> f64 {
        let measurements = length(self.stream.rows().len().max(1));
        moved / float(FINE) / float(sizing.packing.max(1)) / measurements
    }
}

pub(crate) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZING: Sizing = Sizing { packing: 100, overload: 120, capacity: 100 };

    fn handoff(pause: u64, start_delay: u64, order: HandoffOrder) -> Handoff {
        let (pause, start_delay) = (Duration::from_secs(pause), Duration::from_secs(start_delay));
        Handoff { pause, start_delay, order }
    }

    fn pass(fluid: &mut Fluid, seconds: u64, rates: &[f64]) {
        for _ in 0..seconds * 1000 / STEP_MS {
            fluid.step(rates.iter().copied());
        }
    }

    #[test]
    fn nothing_waits_while_there_is_enough_capacity() {
        let mut fluid = Fluid::new(SIZING, Handoff::default(), &[0, 0, 1]);
        pass(&mut fluid, 10, &[60.0, 40.0, 10.0]);
        let figures = fluid.finish();
        assert!(figures.latency_s.p999 < 1e-9, "{figures:?}");
        assert!((figures.consumers - 2.0).abs() < 1e-9);
    }

    #[test]
    fn a_pause_leaves_a_backlog_that_is_worked_off_with_what_is_free() {
        let order = HandoffOrder::BreakFirst;
        let mut fluid = Fluid::new(SIZING, handoff(5, 0, order), &[0, 0]);
        fluid.hand_over(&[0, 1]);
        pass(&mut fluid, 5, &[50.0, 50.0]);
        assert!(
            (fluid.partitions[1].backlog - 250.0).abs() < 1e-6,
            "{}",
            fluid.partitions[1].backlog
        );
        // 100 can be read and 50 comes: 250 take another 5 seconds.
        pass(&mut fluid, 4, &[50.0, 50.0]);
        assert!((fluid.partitions[1].backlog - 50.0).abs() < 1e-6);
        pass(&mut fluid, 11, &[50.0, 50.0]);
        assert!(fluid.partitions[1].backlog < 1e-6 && !fluid.is_busy());
        // The first unit of the pause waits for 5 s, and half of all data is that of the partition that waited for 10 s of 20.
        let figures = fluid.finish();
        assert!((figures.latency_s.p999 - 5.0).abs() < 0.1, "{figures:?}");
        assert!(figures.late_share > 0.15 && figures.late_share < 0.25, "{figures:?}");
    }

    #[test]
    fn capacity_is_shared_evenly_and_what_one_leaves_goes_to_others() {
        let mut fluid = Fluid::new(SIZING, Handoff::default(), &[0, 0, 0]);
        pass(&mut fluid, 10, &[20.0, 60.0, 60.0]);
        let backlogs: Vec<f64> = fluid.backlogs().collect();
        // 20 of the first are read, and 40 of each of the others.
        assert!(
            backlogs[0] < 1e-6
                && (backlogs[1] - 200.0).abs() < 1e-6
                && (backlogs[2] - 200.0).abs() < 1e-6
        );
    }

    #[test]
    fn make_first_keeps_the_old_consumer_until_the_new_one_is_ready() {
        for (order, most) in [(HandoffOrder::BreakFirst, 25.0), (HandoffOrder::MakeFirst, 5.0)] {
            let mut fluid = Fluid::new(SIZING, handoff(5, 25, order), &[0, 0]);
            pass(&mut fluid, 1, &[30.0, 30.0]);
            fluid.hand_over(&[0, 1]);
            pass(&mut fluid, 100, &[30.0, 30.0]);
            let latency = fluid.finish().latency_s;
            assert!((latency.p999 - most).abs() < 0.2, "{order:?}: {latency:?}");
        }
    }

    #[test]
    fn a_consumer_runs_from_its_start_until_it_has_nothing_left() {
        let mut fluid = Fluid::new(SIZING, handoff(5, 25, HandoffOrder::MakeFirst), &[0, 0]);
        fluid.hand_over(&[1, 1]);
        assert_eq!(fluid.running().collect::<Vec<_>>(), [0, 1]);
        pass(&mut fluid, 26, &[1.0, 1.0]);
        assert_eq!(fluid.running().collect::<Vec<_>>(), [1], "what it had has stopped");
        assert!(fluid.is_busy());
        pass(&mut fluid, 5, &[1.0, 1.0]);
        assert!(!fluid.is_busy());
    }

    #[test]
    fn rates_change_steadily_between_measurements() {
        let stream = Stream::from_csv("a:0\n0\n100\n").unwrap();
        let flow = Flow::new(&stream, Duration::from_secs(10));
        assert_eq!(flow.end_ms(), 10_000);
        let middle = flow.rates(5000)[0];
        assert!((middle - 50.25).abs() < 1e-9, "{middle}");
        let mut meter = Meter::default();
        for step in 0..200 {
            meter.add(&flow.rates(step * STEP_MS));
        }
        assert_eq!(meter.take(), [50_000]);
    }
}
