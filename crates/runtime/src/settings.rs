//! From the checked spec to the settings of the state machines in `core`.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::time::Duration;

use tidegate_core::consumer::{Gone, SinkBehind};
use tidegate_core::ids::Generation;
use tidegate_core::{consumer, controller, demand, pack, rates};

use crate::spec::{Config, Mode, OnOutOfRange, OnSinkBehind, PlannerPreset};

/// Pause before something that was not answered is sent again.
const RESEND: Duration = Duration::from_secs(1);

/// Offsets of the ledger from one mark to the next. Twenty busy consumers write some 100 records a second: a mark every
/// 40 s, and two marks are replayed at a start in some tens of milliseconds.
const MARK_EVERY: u64 = 4096;

/// Shortest time between two snapshots: one of 100,000 partitions takes 4 MB, which is nothing a minute.
const SNAPSHOT_PAUSE: Duration = Duration::from_secs(60);

/// The controller's settings. `jitter` keeps two candidates from standing at the same moment.
pub fn controller(
    config: &Config,
    jitter: Duration,
    deposes: bool,
    genesis: Generation,
) -> controller::Settings {
    controller::Settings {
        mode: match config.mode {
            Mode::Observe => controller::Mode::Observe,
            Mode::Own => controller::Mode::Own,
        },
        lease: config.ownership.lease,
        fence: config.ownership.fence,
        tick: config.ownership.tick,
        elect_after: config.ownership.elect_after.saturating_add(jitter),
        deposes,
        genesis,
        mark_every: MARK_EVERY,
        snapshot_pause: SNAPSHOT_PAUSE,
        resend: RESEND,
        // A worker that died with proof is started again by its keeper after the first backoff, and says Hello within a
        // second: five times that, and its partitions go elsewhere.
        restart_grace: config
            .workers
            .restart_backoff
            .initial
            .saturating_add(Duration::from_secs(5)),
        start_deadline: config.controller.worker_start_deadline,
        late_penalty: config.controller.worker_start_deadline,
        evacuation_deadline: config.controller.handoff_deadline,
        write_timeout: config.ownership.write_timeout,
        demand: demand(config),
    }
}

/// What the group's size is decided by.
pub fn demand(config: &Config) -> demand::Settings {
    let controller = &config.controller;
    let preset = match controller.preset {
        PlannerPreset::Calm => pack::Preset::Calm,
        PlannerPreset::Balanced => pack::Preset::Balanced,
        PlannerPreset::Tight => pack::Preset::Tight,
    };
    demand::Settings {
        capacity_bytes_per_sec: config.capacity.bytes_per_second,
        capacity_overrides: BTreeMap::new(),
        limits: pack::Limits {
            packing_permille: config.capacity.packing.0,
            overload_permille: config.capacity.overload.0,
        },
        alpha_permille: controller.alpha.map_or(preset.alpha_permille(), |alpha| alpha.0),
        effort: preset.effort(pack::Effort::steps_in(controller.planner_budget), 0),
        paused: config.paused,
        min_consumers: config.consumers.min.get(),
        max_consumers: config.consumers.max.get(),
        max_surge: config.consumers.max_surge,
        max_moved_load: controller.max_moved_load.map_or(u64::MAX, NonZeroU64::get),
        decision_period: controller.decision_period,
        lag_limit: config.controller.lag_threshold,
        drain_target: config.controller.drain_target,
        hold: config.controller.hold_scale_in,
        ..demand::Settings::default()
    }
}

/// The consumer's settings.
pub fn consumer(config: &Config) -> consumer::Settings {
    consumer::Settings {
        lease: config.ownership.lease,
        heartbeat: config.ownership.heartbeat,
        write_timeout: config.ownership.write_timeout,
        sink_behind: match config.consumer.on_sink_behind {
            OnSinkBehind::Stop => SinkBehind::Stop,
            OnSinkBehind::Rewind => SinkBehind::Rewind,
            OnSinkBehind::Continue => SinkBehind::Continue,
        },
        out_of_range: match config.consumer.on_out_of_range {
            OnOutOfRange::Stop => Gone::Stop,
            OnOutOfRange::Skip => Gone::Skip,
        },
        ..consumer::Settings::default()
    }
}

/// The monitor's settings.
pub fn monitor(config: &Config) -> rates::Settings {
    rates::Settings {
        window: config.monitor.window,
        time_constant: config.monitor.filter_time_constant,
        full_every: config.monitor.full_report,
        basis: if config.monitor.log_sizes_only {
            rates::Basis::LogSizesOnly
        } else {
            rates::Basis::Best
        },
        ..rates::Settings::default()
    }
}
