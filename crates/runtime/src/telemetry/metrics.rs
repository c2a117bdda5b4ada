//! All metrics of all processes, each declared once: the field, its doc line, which is also the help text and the line
//! in `docs/metrics.md`, and its labels.
//!
//! Names are `tidegate_<process>_<what>_<base unit>`; the encoder adds `_total` to counters. A label is a topic, a
//! partition, or a word of a closed enum, given as `&'static str` so that it cannot come from outside.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{self, Registry};

/// A counter of seconds.
pub type SecondsCounter = Counter<f64, AtomicU64>;

/// A gauge of seconds or of a ratio.
pub type FloatGauge = Gauge<f64, AtomicU64>;

/// Histograms by label.
pub type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// Histograms by label of what takes minutes.
pub type LongHistograms<L> = Family<L, Histogram, Long>;

/// Upper bounds of the buckets of all histograms, in seconds: from a write to a local disk to a step's deadline.
const SECONDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// The same for what others do and tell in whole seconds: up to a pull of a large image, or a node that is bought first.
const MINUTES: [f64; 9] = [1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0];

macro_rules! labels {
    ($($(#[doc = $doc:literal])* $name:ident { $($label:ident: $kind:ty),* })*) => {
        $(
            $(#[doc = $doc])*
            #[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
            pub struct $name {
                $(
                    #[doc = concat!("The label `", stringify!($label), "`.")]
                    pub $label: $kind,
                )*
            }

            impl Labels for $name {
                const NAMES: &'static [&'static str] = &[$(stringify!($label)),*];
            }
        )*
    };
}

macro_rules! metrics {
    (
        $(#[doc = $about:literal])*
        $name:ident: $prefix:literal;
        $($(#[doc = $doc:literal])* $field:ident: $kind:ty,)*
    ) => {
        $(#[doc = $about])*
        #[derive(Clone, Debug)]
        pub struct $name {
            $($(#[doc = $doc])* pub $field: $kind,)*
        }

        impl $name {
            /// Makes the metrics and adds them to a registry.
            pub fn register(registry: &mut Registry) -> Self {
                let registry = registry.sub_registry_with_prefix(concat!("tidegate_", $prefix));
                let metrics = Self::default();
                $(registry.register(
                    stringify!($field),
                    help(concat!($($doc),*)),
                    metrics.$field.clone(),
                );)*
                metrics
            }

            fn lines() -> Vec<Line> {
                vec![$(Line {
                    name: concat!("tidegate_", $prefix, "_", stringify!($field)),
                    kind: <$kind as Declared>::KIND,
                    labels: <$kind as Declared>::LABELS,
                    help: help(concat!($($doc),*)),
                }),*]
            }
        }

        /// Metrics that nobody sees.
        impl Default for $name {
            fn default() -> Self {
                Self { $($field: <$kind as Declared>::make(),)* }
            }
        }
    };
}

labels! {
    /// One data topic.
    TopicLabels { topic: Arc<str> }
    /// One partition of a data topic.
    PartitionLabels { topic: Arc<str>, partition: u32 }
    /// Why: a word of a closed enum.
    ReasonLabels { reason: &'static str }
    /// In which state: a word of a closed enum.
    StateLabels { state: &'static str }
    /// How it went: a word of a closed enum.
    OutcomeLabels { outcome: &'static str }
    /// What started a plan.
    TriggerLabels { trigger: &'static str }
    /// Which alarm.
    AlarmLabels { alarm: &'static str }
    /// Which kind of sink.
    SinkLabels { sink: &'static str }
    /// How far the start of a pod is.
    StageLabels { stage: &'static str }
    /// Which kind of objects, in the plural.
    ResourceLabels { resource: &'static str }
}

metrics! {
    /// What the monitor measures, and how it fares.
    MonitorMetrics: "monitor";
    /// Write rate of a partition after the low-pass filter: what plans are made of.
    partition_write_bytes_per_second: Family<PartitionLabels, Gauge>,
    /// Write rate of a partition over the window.
    partition_window_bytes_per_second: Family<PartitionLabels, Gauge>,
    /// Records written to a partition in a second.
    partition_write_records_per_second: Family<PartitionLabels, Gauge>,
    /// Partitions of the topics of interest.
    partitions: Gauge,
    /// Partitions whose last sample is older than the window.
    stale_partitions: Gauge,
    /// 1 when the cluster lets the monitor ask for log sizes, else 0.
    log_sizes_permitted: Gauge,
    /// Sampling rounds.
    samples: Counter,
    /// Requests of sampling rounds that failed, by class of error.
    sample_failures: Family<ReasonLabels, Counter>,
    /// Time that a sampling round took.
    sample_duration_seconds: Histogram,
    /// Records written to the monitor topic, by outcome.
    reports: Family<OutcomeLabels, Counter>,
}

metrics! {
    /// What the controller decides, and how it goes.
    ControllerMetrics: "controller";
    /// 1 for the role that this controller has in the ledger, else 0.
    role: Family<StateLabels, Gauge>,
    /// Consumers: wanted by the plan, and ready to be given partitions.
    consumers: Family<StateLabels, Gauge>,
    /// Partitions by their state in the ledger.
    partitions: Family<StateLabels, Gauge>,
    /// Sum of the demand of all partitions.
    demand_bytes_per_second: Gauge,
    /// Plans made, by what started them.
    plans: Family<TriggerLabels, Counter>,
    /// Sum of the write rates of the partitions that the last plan moves.
    plan_migrated_bytes_per_second: Gauge,
    /// Time that making a plan took.
    plan_duration_seconds: Histogram,
    /// Hand-offs under way.
    handoffs_in_flight: Gauge,
    /// Time of a planned move of a partition, from the first Stop to the new owner's start.
    handoff_duration_seconds: Histogram,
    /// Time for which a partition of a lost consumer had no owner.
    recovery_duration_seconds: Histogram,
    /// Consumers whose partitions were taken away, by evidence.
    fenced: Family<ReasonLabels, Counter>,
    /// Records of the ledger that had no effect, by reason.
    messages_ignored: Family<ReasonLabels, Counter>,
    /// Records of control topics that could not be decoded.
    messages_undecodable: Counter,
    /// Records that could not be appended to control topics, by outcome.
    append_failures: Family<OutcomeLabels, Counter>,
    /// Offset in the ledger up to which this controller has read.
    ledger_offset: Gauge,
    /// Workers by phase.
    workers: Family<StateLabels, Gauge>,
    /// Time from asking for a worker to its Hello.
    worker_start_duration_seconds: Histogram,
    /// 1 for each alarm that is raised, else 0.
    alarms: Family<AlarmLabels, Gauge>,
}

metrics! {
    /// What a consumer reads and delivers.
    ConsumerMetrics: "consumer";
    /// Partitions that it owns.
    partitions: Gauge,
    /// Bytes received from Kafka.
    received_bytes: Counter,
    /// Records received from Kafka.
    received_records: Counter,
    /// Bytes made durable by sinks.
    delivered_bytes: Counter,
    /// Records made durable by sinks.
    delivered_records: Counter,
    /// Memory of records that wait to be written or are being written.
    queued_bytes: Gauge,
    /// Time spent working, as opposed to waiting for records: its growth in a second is the utilisation.
    busy_seconds: SecondsCounter,
    /// Time that batches were fetched for, from their first record in memory until they were cut.
    fetch_seconds: SecondsCounter,
    /// Time that progress was on its way to the ledger.
    commit_seconds: SecondsCounter,
    /// Time that a write to a sink took, one for each batch.
    sink_flush_duration_seconds: Histograms<SinkLabels>,
    /// Writes to sinks that failed, by class of error.
    sink_failures: Family<ReasonLabels, Counter>,
    /// Records that a sink rejected and that became dead letters, by topic.
    dead_letters: Family<TopicLabels, Counter>,
    /// Age of records when a sink made them durable.
    freshness_seconds: Histogram,
    /// Offsets that were passed over because their records were gone; each gap is recorded in the sink.
    skipped_offsets: Counter,
    /// Records between a partition's position and its end.
    partition_lag_records: Family<PartitionLabels, Gauge>,
    /// Age of the oldest record of a partition that is not durable yet; of the last one that became so where none is in memory, and 0 where
    /// none is left.
    partition_lag_seconds: Family<PartitionLabels, FloatGauge>,
    /// Commits of group offsets, which mirror the ledger for other tools, by outcome.
    commits: Family<OutcomeLabels, Counter>,
    /// Heartbeats, by outcome.
    heartbeats: Family<OutcomeLabels, Counter>,
    /// Time that is left of the lease.
    lease_remaining_seconds: FloatGauge,
    /// Lives of this consumer in the ledger since it was started: more than 1 means that a lease had lapsed.
    incarnations: Counter,
    /// Commands that were not obeyed, by reason.
    commands_ignored: Family<ReasonLabels, Counter>,
    /// Commands that could not be decoded.
    commands_undecodable: Counter,
    /// 1 for each alarm that is raised, else 0.
    alarms: Family<AlarmLabels, Gauge>,
}

metrics! {
    /// How consumers that are pods fare, beside the metrics of their group's controller.
    KubernetesMetrics: "kubernetes";
    /// Time from a pod's creation until it was scheduled, its image was pulled, its container started, and it was ready, as Kubernetes tells
    /// it: in whole seconds. Without the right to list Events nothing is known of the pull.
    pod_start_duration_seconds: LongHistograms<StageLabels>,
    /// Watches that broke and were begun again, by resource.
    watch_failures: Family<ResourceLabels, Counter>,
    /// Requests to apply or delete an object that failed, by resource; most are tried again.
    apply_failures: Family<ResourceLabels, Counter>,
    /// Workloads that somebody else had changed or deleted and that were put right.
    repairs: Counter,
}

metrics! {
    /// What the process of groups that are resources does for all of them.
    OperatorMetrics: "operator";
    /// 1 while this process holds the Lease as far as it can know, and runs the groups; else 0, also while it is cut off and runs them on.
    holder: Gauge,
    /// Requests about the Lease that failed.
    lease_failures: Counter,
    /// Resources that run in this process, and that are refused, in trouble or draining there; one that is refused may run on by what was
    /// taken up before.
    resources: Family<StateLabels, Gauge>,
    /// Watches that broke and were begun again, by resource.
    watch_failures: Family<ResourceLabels, Counter>,
    /// Writes of the status of a resource, by outcome.
    status_writes: Family<OutcomeLabels, Counter>,
    /// Events written about resources, by outcome.
    events: Family<OutcomeLabels, Counter>,
}

/// `docs/metrics.md`: every metric with its labels and meaning.
pub fn docs() -> String {
    let mut page = String::from(INTRODUCTION);
    let sections = [
        ("Monitor", MonitorMetrics::lines()),
        ("Controller", ControllerMetrics::lines()),
        ("Consumer", ConsumerMetrics::lines()),
        ("Kubernetes", KubernetesMetrics::lines()),
        ("Operator", OperatorMetrics::lines()),
    ];
    let written = sections.iter().try_for_each(|(title, lines)| {
        write!(page, "\n## {title}\n\n| Metric | Kind | Labels | Meaning |\n|---|---|---|---|\n")?;
        lines.iter().try_for_each(|line| writeln!(page, "{line}"))
    });
    written.map(|()| page).unwrap_or_default()
}

/// The text of a registry as `/metrics` serves it, in the `OpenMetrics` format.
pub fn render(registry: &Registry) -> String {
    let mut text = String::new();
    let encoded = prometheus_client::encoding::text::encode(&mut text, registry);
    encoded.map(|()| text).unwrap_or_default()
}

/// The metrics of several registries as one text: what is said of a metric is said once, and its lines stand together.
pub fn render_all<'a>(registries: impl Iterator<Item = &'a Registry>) -> String {
    let mut families: BTreeMap<String, (Vec<String>, Vec<String>)> = BTreeMap::new();
    for text in registries.map(render) {
        let mut current = String::new();
        let mut is_said = false;
        for line in text.lines().filter(|line| *line != "# EOF") {
            let mut words = line.split(' ');
            if words.next() == Some("#") {
                let name = words.nth(1).unwrap_or_default();
                if name != current {
                    name.clone_into(&mut current);
                    is_said = families.contains_key(name);
                }
                if !is_said {
                    families.entry(current.clone()).or_default().0.push(line.to_owned());
                }
            } else {
                families.entry(current.clone()).or_default().1.push(line.to_owned());
            }
        }
    }
    let lines = families.into_values().flat_map(|(said, values)| said.into_iter().chain(values));
    lines.chain(["# EOF".to_owned()]).map(|line| line + "\n").collect()
}

const INTRODUCTION: &str = "<!-- Generated by `cargo xtask docs`: edit the comments in the source instead. -->

# Metrics

Each process serves its metrics at `/metrics` of its HTTP server, in the OpenMetrics format. Times are in seconds, sizes
in bytes. A metric with labels appears with its first value.
";

/// A metric in the documentation.
struct Line {
    name: &'static str,
    kind: Kind,
    labels: &'static [&'static str],
    help: &'static str,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let suffix = if self.kind == Kind::Counter { "_total" } else { "" };
        let labels: Vec<String> = self.labels.iter().map(|label| format!("`{label}`")).collect();
        let (name, kind, labels, help) =
            (self.name, self.kind.text(), labels.join(", "), self.help);
        write!(f, "| `{name}{suffix}` | {kind} | {labels} | {help}. |")
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    fn text(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

trait Labels {
    const NAMES: &'static [&'static str];
}

/// A metric that can be made and documented from its type alone.
trait Declared: registry::Metric + Clone {
    const KIND: Kind;
    const LABELS: &'static [&'static str] = &[];

    fn make() -> Self;
}

macro_rules! declared {
    ($($metric:ty: $kind:ident = $make:expr;)*) => {
        $(impl Declared for $metric {
            const KIND: Kind = Kind::$kind;

            fn make() -> Self {
                $make
            }
        })*
    };
}

macro_rules! declared_families {
    ($($family:ident of $kind:ident = $make:expr;)*) => {
        $(impl<L> Declared for $family<L>
        where
            L: Labels + EncodeLabelSet + Clone + std::hash::Hash + Eq + fmt::Debug + Send + Sync + 'static,
        {
            const KIND: Kind = Kind::$kind;
            const LABELS: &'static [&'static str] = L::NAMES;

            fn make() -> Self {
                $make
            }
        })*
    };
}

type Counters<L> = Family<L, Counter>;
type Gauges<L> = Family<L, Gauge>;
type FloatGauges<L> = Family<L, FloatGauge>;

declared! {
    Counter: Counter = Self::default();
    SecondsCounter: Counter = Self::default();
    Gauge: Gauge = Self::default();
    FloatGauge: Gauge = Self::default();
    Histogram: Histogram = seconds();
}

declared_families! {
    Counters of Counter = Self::default();
    Gauges of Gauge = Self::default();
    FloatGauges of Gauge = Self::default();
    Histograms of Histogram = Self::new_with_constructor(seconds);
    LongHistograms of Histogram = Self::new_with_constructor(Long);
}

fn seconds() -> Histogram {
    Histogram::new(SECONDS)
}

/// Makes the histograms of [`LongHistograms`].
#[derive(Clone, Copy, Debug)]
pub struct Long;

impl MetricConstructor<Histogram> for Long {
    fn new_metric(&self) -> Histogram {
        Histogram::new(MINUTES)
    }
}

/// A doc line as help text: the encoder adds the full stop.
fn help(doc: &'static str) -> &'static str {
    doc.trim().trim_end_matches('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines() -> impl Iterator<Item = Line> {
        let all = [
            MonitorMetrics::lines(),
            ControllerMetrics::lines(),
            ConsumerMetrics::lines(),
            KubernetesMetrics::lines(),
            OperatorMetrics::lines(),
        ];
        all.into_iter().flatten()
    }

    #[test]
    fn names_follow_the_rule_and_every_metric_says_what_it_is() {
        for Line { name, kind, labels, help } in lines() {
            assert!(!name.ends_with("_total"), "{name}: the encoder adds it to counters only");
            for unit in ["_ms", "_millis", "_minutes", "_kb", "_mb", "_permille", "_percent"] {
                assert!(!name.ends_with(unit), "{name}: seconds and bytes only");
            }
            assert!(
                kind != Kind::Histogram || name.ends_with("_seconds"),
                "{name}: all histograms have the buckets of seconds"
            );
            assert!(labels.len() <= 2 && help.len() > 10, "{name}");
        }
    }

    #[test]
    fn a_registry_renders_what_the_page_names() {
        let mut registry = Registry::default();
        let monitor = MonitorMetrics::register(&mut registry);
        let controller = ControllerMetrics::register(&mut registry);
        let consumer = ConsumerMetrics::register(&mut registry);
        let kubernetes = KubernetesMetrics::register(&mut registry);
        OperatorMetrics::register(&mut registry).holder.set(1);
        let partition = PartitionLabels { topic: "orders".into(), partition: 3 };
        monitor.partition_write_bytes_per_second.get_or_create(&partition).set(42);
        controller.plans.get_or_create(&TriggerLabels { trigger: "overload" }).inc();
        consumer
            .sink_flush_duration_seconds
            .get_or_create(&SinkLabels { sink: "file" })
            .observe(0.3);
        kubernetes
            .pod_start_duration_seconds
            .get_or_create(&StageLabels { stage: "ready" })
            .observe(70.0);
        let text = render(&registry);
        for expected in [
            "tidegate_monitor_partition_write_bytes_per_second{topic=\"orders\",partition=\"3\"} 42",
            "tidegate_controller_plans_total{trigger=\"overload\"} 1",
            "tidegate_consumer_sink_flush_duration_seconds_bucket{le=\"0.5\",sink=\"file\"} 1",
            "tidegate_kubernetes_pod_start_duration_seconds_bucket{le=\"60.0\",stage=\"ready\"} 0",
            "tidegate_kubernetes_pod_start_duration_seconds_bucket{le=\"120.0\",stage=\"ready\"} 1",
            "tidegate_operator_holder 1",
            "# HELP tidegate_controller_handoffs_in_flight Hand-offs under way.\n",
            "tidegate_consumer_busy_seconds_total 0",
            "# EOF",
        ] {
            assert!(text.contains(expected), "{expected}\n{text}");
        }
        let page = docs();
        for name in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            let name = name.split(' ').next().unwrap_or_default();
            assert!(
                page.contains(&format!("| `{name}`")) || page.contains(&format!("`{name}_total`"))
            );
        }
    }

    #[test]
    fn the_page_of_the_metrics_is_up_to_date() {
        crate::generated::assert_up_to_date("docs/metrics.md", &docs());
    }
}
