//! What a run is like: its clocks, its load, and the specifications of its group.

use std::num::{NonZeroU32, NonZeroU64};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tidegate_load::generator::GeneratorConfig;
use tidegate_load::profile::{Profile, Shape};
use tidegate_runtime::spec::{
    Capacity, Consumers, ControlTopics, Controller, GroupSpec, Mode, Monitor, Ownership,
    TopicOfInterest, WorkerKind, Workers,
};

use crate::folder::Folder;

/// Partitions in all, over two topics: a consumer has several, and two cores bear the fetching.
pub(crate) const TOPICS: u32 = 2;
pub(crate) const PARTITIONS_EACH: u32 = 12;

/// The full rate is what so many consumers can bear: packed to three quarters, they are six.
const CONSUMERS_AT_FULL_RATE: u64 = 4;

/// Enough that a fault leaves somebody to take over, few enough for two cores.
const MIN_CONSUMERS: NonZeroU32 = NonZeroU32::new(3).unwrap();
const MAX_CONSUMERS: NonZeroU32 = NonZeroU32::new(7).unwrap();

/// Small, so that there are many to lose.
const RECORD_BYTES: usize = 500;

/// Runs from here on have the time for six of the default leases, which are 90 s.
const LONG_RUN: Duration = Duration::from_secs(8 * 60);

/// The clocks of the ledger that the schedule goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Clocks {
    pub(crate) lease: Duration,
    pub(crate) fence: Duration,
    pub(crate) elect_after: Duration,
    ownership: Ownership,
}

/// A run.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) seed: u64,
    /// Marks its records.
    pub(crate) run: u64,
    pub(crate) duration: Duration,
    pub(crate) clocks: Clocks,
    pub(crate) rate: NonZeroU64,
    /// Name of the group, and what the names of its topics begin with.
    pub(crate) name: String,
}

// === impl Clocks ===

impl Clocks {
    /// The defaults where there is time for them or they are wanted, else clocks that keep their proportions and fit six
    /// leases into three minutes.
    pub(crate) fn for_run(duration: Duration, defaults: bool) -> Self {
        let seconds = Duration::from_secs;
        let ownership = if defaults || duration >= LONG_RUN {
            Ownership::default()
        } else {
            Ownership {
                lease: seconds(6),
                write_timeout: seconds(2),
                heartbeat: seconds(1),
                fence: seconds(8),
                tick: seconds(1),
                elect_after: seconds(5),
            }
        };
        let Ownership { lease, fence, elect_after, .. } = ownership;
        Self { lease, fence, elect_after, ownership }
    }
}

// === impl Setting ===

impl Setting {
    /// The topics that are written to.
    pub(crate) fn data_topics(&self) -> Vec<String> {
        (0..TOPICS).map(|number| format!("{}.data-{number}", self.name)).collect()
    }

    /// All partitions that are written to.
    pub(crate) fn lanes(&self) -> Vec<(Arc<str>, u32)> {
        let of = |topic: String| {
            let topic: Arc<str> = topic.into();
            (0..PARTITIONS_EACH).map(move |number| (Arc::clone(&topic), number))
        };
        self.data_topics().into_iter().flat_map(of).collect()
    }

    pub(crate) fn partition_count() -> usize {
        usize::try_from(TOPICS * PARTITIONS_EACH).unwrap_or(usize::MAX)
    }

    /// The rates go up and down in steps, so that consumers must come and go while faults strike.
    pub(crate) fn profile(&self) -> Profile {
        let partitions = NonZeroU32::new(TOPICS * PARTITIONS_EACH).unwrap_or(NonZeroU32::MIN);
        Profile::new(Shape::Steps, self.seed, partitions, self.rate, self.capacity())
            .with_step(Duration::from_secs(20))
    }

    pub(crate) fn generator(&self) -> GeneratorConfig {
        GeneratorConfig {
            run: self.run,
            record_bytes: RECORD_BYTES,
            // A node that is killed may take a while to be missed.
            drain: Duration::from_secs(60),
            ..GeneratorConfig::default()
        }
    }

    fn capacity(&self) -> NonZeroU64 {
        NonZeroU64::new(self.rate.get() / CONSUMERS_AT_FULL_RATE).unwrap_or(NonZeroU64::MIN)
    }

    /// The specification for this cluster, for processes with this data directory.
    pub(crate) fn spec(&self, bootstrap: &str, folder: &Folder, data: &Path) -> GroupSpec {
        let mut spec = GroupSpec {
            group: self.name.clone(),
            mode: Mode::Own,
            topics: vec![TopicOfInterest {
                name: format!("{}.data-*", self.name),
                sink: folder.sink_url(),
                ..TopicOfInterest::default()
            }],
            control_topics: ControlTopics {
                monitor: format!("{}.monitor", self.name),
                controller: format!("{}.controller", self.name),
                service: format!("{}.service", self.name),
                ..ControlTopics::default()
            },
            capacity: Capacity { bytes_per_second: self.capacity(), ..Capacity::default() },
            consumers: Consumers { min: MIN_CONSUMERS, max: MAX_CONSUMERS, ..Consumers::default() },
            // Shorter than for production, so that many plans fit into a run.
            monitor: Monitor {
                period: Duration::from_millis(500),
                filter_time_constant: Duration::from_secs(4),
                full_report: Duration::from_secs(5),
                ..Monitor::default()
            },
            controller: Controller {
                hold_scale_in: Duration::from_secs(8),
                worker_start_deadline: Duration::from_secs(20),
                ..Controller::default()
            },
            ownership: self.clocks.ownership,
            // Process workers belong to one controller. Here there are two, and the chaos itself runs the consumers
            // that the leader wants, as a cluster would.
            workers: Workers {
                kind: WorkerKind::Manual,
                data_directory: data.display().to_string(),
                ..Workers::default()
            },
            ..GroupSpec::default()
        };
        bootstrap.clone_into(&mut spec.cluster.bootstrap_servers);
        spec
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sets_of_clocks_are_valid() {
        for minutes in [1, 3, 10] {
            let duration = Duration::from_secs(minutes * 60);
            let clocks = Clocks::for_run(duration, false);
            let rate = NonZeroU64::new(2_000_000).unwrap();
            let name = "chaos".to_owned();
            let setting = Setting { seed: 1, run: 1, duration, clocks, rate, name };
            let folder = Folder::new().unwrap();
            let spec = setting.spec("127.0.0.1:1", &folder, Path::new("/data"));
            assert!(spec.validate().is_ok(), "{:?}", spec.validate());
        }
    }
}
