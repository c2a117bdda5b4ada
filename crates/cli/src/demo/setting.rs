//! What a run is to be like: names that no other run on the cluster has, and a specification that makes consumers
//! necessary.

use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use tidegate_load::profile::Profile;
use tidegate_runtime::spec::{
    Backoff, Capacity, Consumers, ControlTopics, Controller, GroupSpec, Mode, Monitor,
    TopicOfInterest, Workers,
};

use super::files::Folder;
use crate::args::DemoArgs;
use crate::commands::load;

/// The wanted rate is what so many consumers can bear: packed to three quarters, they are six.
const CONSUMERS_AT_FULL_RATE: u64 = 4;

/// More than the load ever needs, and what two cores bear.
const MAX_CONSUMERS: NonZeroU32 = NonZeroU32::new(12).unwrap();

/// A run.
#[derive(Debug)]
pub(super) struct Setting {
    pub(super) args: DemoArgs,
    /// Marks its records.
    pub(super) run: u64,
    pub(super) seed: u64,
    /// Name of the group, and what the names of its topics begin with.
    pub(super) name: String,
    pub(super) capacity: NonZeroU64,
    spec: GroupSpec,
}

impl Setting {
    pub(super) fn new(args: DemoArgs, folder: &Folder) -> anyhow::Result<Self> {
        let (run, seed) = load::numbers(args.load.seed)?;
        let name = format!("tidegate-demo-{:08x}", run & 0xffff_ffff);
        let capacity = args.load.rate.get() / CONSUMERS_AT_FULL_RATE;
        let capacity = NonZeroU64::new(capacity).unwrap_or(NonZeroU64::MIN);
        let spec = specification(&name, capacity, folder);
        Ok(Self { args, run, seed, name, capacity, spec })
    }

    /// The specification for this cluster.
    pub(super) fn spec(&self, bootstrap: &str) -> GroupSpec {
        let mut spec = self.spec.clone();
        bootstrap.clone_into(&mut spec.cluster.bootstrap_servers);
        spec
    }

    /// The topics that are written to.
    pub(super) fn data_topics(&self) -> Vec<String> {
        (0..self.args.load.topics.get()).map(|n| format!("{}.data-{n}", self.name)).collect()
    }

    /// How many partitions these topics have together.
    pub(super) fn partition_count(&self) -> usize {
        let count = self.args.load.topics.get().saturating_mul(self.args.load.partitions.get());
        usize::try_from(count).unwrap_or(usize::MAX)
    }

    /// The rates. Steps are so short that the run has four of them.
    pub(super) fn profile(&self) -> Profile {
        let profile = load::profile(&self.args.load, self.seed, self.capacity);
        if self.args.load.profile == tidegate_load::profile::Shape::Walk {
            return profile;
        }
        let step = self.args.duration / 4;
        profile.with_step(step.clamp(Duration::from_secs(3), Duration::from_secs(15)))
    }

    /// What a person is told at the beginning.
    pub(super) fn opening(&self, broker: &str) -> String {
        let load = &self.args.load;
        format!(
            "Tidegate demo: {} partitions in {} topics at {} in all, profile {}, seed {}, broker {broker}",
            self.partition_count(),
            load.topics,
            tidegate_runtime::spec::Rate::print(load.rate),
            load.profile,
            self.seed,
        )
    }
}

fn specification(name: &str, capacity: NonZeroU64, folder: &Folder) -> GroupSpec {
    GroupSpec {
        group: name.to_owned(),
        mode: Mode::Own,
        topics: vec![TopicOfInterest {
            name: format!("{name}.data-*"),
            sink: folder.sink_url(),
            ..TopicOfInterest::default()
        }],
        control_topics: ControlTopics::prefixed(name),
        capacity: Capacity { bytes_per_second: capacity, ..Capacity::default() },
        consumers: Consumers { max: MAX_CONSUMERS, ..Consumers::default() },
        // Shorter than for production: a run lasts a minute, and wants to show how the group follows the load.
        monitor: Monitor {
            period: Duration::from_millis(500),
            filter_time_constant: Duration::from_secs(4),
            full_report: Duration::from_secs(5),
            ..Monitor::default()
        },
        controller: Controller {
            hold_scale_in: Duration::from_secs(10),
            worker_start_deadline: Duration::from_secs(20),
            ..Controller::default()
        },
        workers: Workers {
            data_directory: folder.consumers().display().to_string(),
            restart_backoff: Backoff { initial: Duration::from_millis(200), ..Backoff::default() },
            ..Workers::default()
        },
        ..GroupSpec::default()
    }
}
