//! What a schema cannot say: ranges, names, and relations between fields.

use std::collections::BTreeSet;
use std::time::Duration;

use tidegate_core::ids::GroupName;

use super::config::{Config, Pin, SinkTarget, Topic, TopicPattern};
use super::dead_letters::DeadLetterTarget;
use super::sections::{Controller, Monitor, Ownership, TopicOfInterest};
use super::units::Span;
use super::workers::WorkerKind;
use super::{Fault, GroupSpec, Permille};
use crate::security::{Mechanism, Sasl, Tls};

/// Longest name of a topic in Kafka, and of a group here.
const MAX_NAME: usize = 249;

/// The published limit of the window: rates are of at most the last 30 seconds.
const MAX_WINDOW: Duration = Duration::from_secs(30);

/// Lowest overload limit: below it a consumer would be relieved that has room.
const MIN_OVERLOAD: Permille = Permille(900);

/// Makes the config and finds all faults; the config holds only when there are none.
pub(super) fn check(spec: &GroupSpec) -> (Config, Vec<Fault>) {
    let mut faults = Checks::default();
    faults.name("group", &spec.group);
    cluster(spec, &mut faults);
    let topics = topics(&spec.topics, &mut faults);
    control_topics(spec, &mut faults);
    capacity(spec, &mut faults);
    monitor(&spec.monitor, &mut faults);
    controller(&spec.controller, &mut faults);
    ownership(&spec.ownership, &mut faults);
    consumer(spec, &mut faults);
    workers(spec, &mut faults);
    let config = Config {
        group: GroupName(spec.group.clone()),
        mode: spec.mode,
        paused: spec.paused,
        cluster: spec.cluster.clone(),
        topics,
        control_topics: spec.control_topics.clone(),
        capacity: spec.capacity,
        consumers: spec.consumers.clone(),
        monitor: spec.monitor,
        controller: spec.controller,
        ownership: spec.ownership,
        consumer: spec.consumer,
        workers: spec.workers.clone(),
        http: spec.http,
    };
    dead_letter_targets(spec, &config, &mut faults);
    (config, faults.0)
}

/// The faults found so far, with one method for each kind of check.
#[derive(Default)]
struct Checks(Vec<Fault>);

impl Checks {
    fn require(&mut self, path: &str, holds: bool, message: impl Into<String>) {
        if !holds {
            self.0.push(Fault::new(path, message));
        }
    }

    fn name(&mut self, path: &str, name: &str) {
        let fits = (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(is_name_byte);
        let message = if name.is_empty() {
            "is required".to_owned()
        } else {
            format!(
                "expected at most {MAX_NAME} of letters, digits, '.', '_' and '-', found {name:?}"
            )
        };
        self.require(path, fits, message);
    }

    fn positive(&mut self, path: &str, span: Duration) {
        self.require(path, !span.is_zero(), "must be above 0s");
    }

    fn at_most(&mut self, path: &str, span: Duration, limit: Duration, what: &str) {
        let (found, limit_text) = (Span::print(span), Span::print(limit));
        let message = format!("must be at most {what} ({limit_text}), found {found}");
        self.require(path, span <= limit, message);
    }

    fn below(&mut self, path: &str, span: Duration, limit: Duration, what: &str) {
        let (found, limit_text) = (Span::print(span), Span::print(limit));
        let message = format!("must be below {what} ({limit_text}), found {found}");
        self.require(path, span < limit, message);
    }
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._-".contains(&byte)
}

fn cluster(spec: &GroupSpec, faults: &mut Checks) {
    let servers = &spec.cluster.bootstrap_servers;
    let is_server = |server: &str| {
        server.trim().rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
        })
    };
    let path = "cluster.bootstrapServers";
    if servers.is_empty() {
        faults.require(path, false, "is required");
    } else {
        let message = format!("expected HOST:PORT, more of them after commas, found {servers:?}");
        faults.require(path, servers.split(',').all(is_server), message);
    }
    if let Some(tls) = &spec.cluster.security.tls {
        tls_files(tls, faults);
    }
    if let Some(sasl) = &spec.cluster.security.sasl {
        credentials(sasl, spec.cluster.security.tls.is_some(), faults);
    }
}

fn tls_files(tls: &Tls, faults: &mut Checks) {
    let path = "cluster.security.tls";
    let both = tls.certificate_file.is_some() == tls.key_file.is_some();
    faults.require(path, both, "certificateFile and keyFile go together");
    let used = tls.key_password.is_none() || tls.key_file.is_some();
    faults.require(path, used, "keyPassword is for keyFile, which is missing");
}

fn credentials(sasl: &Sasl, encrypted: bool, faults: &mut Checks) {
    let path = "cluster.security.sasl";
    if sasl.mechanism == Mechanism::OauthBearer {
        bearer(sasl, encrypted, faults);
        return;
    }
    let by_password = !sasl.username.is_empty() && sasl.password.is_some();
    faults.require(path, by_password, "this mechanism needs username and password");
    let stray = std::iter::once(("tokenFile", sasl.token_file.is_some()))
        .chain(std::iter::once(("tokenEndpoint", sasl.token_endpoint.is_some())))
        .chain(of_endpoint(sasl));
    for (field, given) in stray {
        let message = "is for OAUTHBEARER: leave it out, or set mechanism to OAUTHBEARER";
        faults.require(&format!("{path}.{field}"), !given, message);
    }
    if sasl.mechanism == Mechanism::Plain {
        let message = "PLAIN sends the password in the clear: set cluster.security.tls as well";
        faults.require(path, encrypted, message);
    }
}

/// The fields that say how to ask a token endpoint, and whether each is given.
fn of_endpoint(sasl: &Sasl) -> [(&'static str, bool); 4] {
    [
        ("tokenEndpointCaFile", sasl.token_endpoint_ca_file.is_some()),
        ("clientId", sasl.client_id.is_some()),
        ("clientSecret", sasl.client_secret.is_some()),
        ("scope", sasl.scope.is_some()),
    ]
}

fn bearer(sasl: &Sasl, encrypted: bool, faults: &mut Checks) {
    let path = "cluster.security.sasl";
    let message = "OAUTHBEARER sends the token in the clear: set cluster.security.tls as well";
    faults.require(path, encrypted, message);
    for (field, given) in
        [("username", !sasl.username.is_empty()), ("password", sasl.password.is_some())]
    {
        let message = "is for PLAIN and SCRAM: OAUTHBEARER has tokenFile, or tokenEndpoint with \
                       clientId and clientSecret";
        faults.require(&format!("{path}.{field}"), !given, message);
    }
    match (&sasl.token_file, &sasl.token_endpoint) {
        (Some(_), None) => {
            for (field, given) in of_endpoint(sasl) {
                let message = "is for tokenEndpoint: leave it out with tokenFile";
                faults.require(&format!("{path}.{field}"), !given, message);
            }
        }
        (None, Some(url)) => {
            let id = sasl.client_id.as_ref().is_some_and(|id| !id.is_empty());
            let known = id && sasl.client_secret.is_some();
            faults.require(path, known, "tokenEndpoint needs clientId and clientSecret");
            // What is wrong is not quoted: it may hold a secret.
            let endpoint = format!("{path}.tokenEndpoint");
            let message = "must begin with https://, because the client secret is sent there";
            faults.require(&endpoint, url.starts_with("https://"), message);
            let message = "must not hold credentials: use clientId and clientSecret";
            faults.require(&endpoint, !url.contains('@'), message);
        }
        _ => faults.require(path, false, "OAUTHBEARER needs one of tokenFile and tokenEndpoint"),
    }
}

fn topics(entries: &[TopicOfInterest], faults: &mut Checks) -> Vec<Topic> {
    let mut seen = BTreeSet::new();
    let mut topics = Vec::with_capacity(entries.len());
    for (index, entry) in entries.iter().enumerate() {
        let path = format!("topics[{index}]");
        let name = format!("{path}.name");
        match entry.name.strip_suffix('*') {
            Some("") => {}
            stem => faults.name(&name, stem.unwrap_or(&entry.name)),
        }
        let twice = format!("{:?} is listed twice", entry.name);
        faults.require(&name, seen.insert(&entry.name), twice);
        match SinkTarget::parse(&entry.sink) {
            Ok(sink) => {
                let pattern = TopicPattern::new(&entry.name);
                let dead_letters = dead_letters(&path, entry, faults);
                topics.push(Topic { pattern, sink, dead_letters, start: entry.start });
            }
            Err(message) => faults.require(&format!("{path}.sink"), false, message),
        }
    }
    topics
}

fn dead_letters(
    path: &str,
    entry: &TopicOfInterest,
    faults: &mut Checks,
) -> Option<DeadLetterTarget> {
    let path = format!("{path}.deadLetters");
    match DeadLetterTarget::parse(entry.dead_letters.as_ref()?) {
        Ok(target) => {
            if let DeadLetterTarget::Kafka(topic) = &target {
                faults.name(&path, topic);
            }
            Some(target)
        }
        Err(message) => {
            faults.require(&path, false, message);
            None
        }
    }
}

/// What is wrong with targets can be told only when all topics are known.
fn dead_letter_targets(spec: &GroupSpec, config: &Config, faults: &mut Checks) {
    for (index, entry) in spec.topics.iter().enumerate() {
        let target = entry.dead_letters.as_ref().map(|text| DeadLetterTarget::parse(text));
        let sink = SinkTarget::parse(&entry.sink);
        if let (Some(Ok(target)), Ok(sink)) = (target, sink)
            && let Some(fault) = target.fault(&sink, config)
        {
            faults.require(&format!("topics[{index}].deadLetters"), false, fault);
        }
    }
}

fn control_topics(spec: &GroupSpec, faults: &mut Checks) {
    let topics = &spec.control_topics;
    let mut seen = BTreeSet::new();
    for (key, name) in
        ["monitor", "controller", "service", "ledger"].into_iter().zip(topics.names())
    {
        let path = format!("controlTopics.{key}");
        faults.name(&path, name);
        let message = format!("{name:?} is used twice: each control topic needs its own");
        faults.require(&path, seen.insert(name), message);
    }
    for (key, value) in [
        ("retentionMs", spec.monitor.retention_ms),
        ("retentionBytes", spec.monitor.retention_bytes),
    ] {
        let message = format!("expected -1 or more, found {value}");
        faults.require(&format!("monitor.{key}"), value >= -1, message);
    }
}

fn capacity(spec: &GroupSpec, faults: &mut Checks) {
    let capacity = &spec.capacity;
    let overload = MIN_OVERLOAD <= capacity.overload && capacity.overload <= Permille::ONE;
    faults.require("capacity.overload", overload, "must be from 0.9 to 1");
    let packing = Permille(0) < capacity.packing && capacity.packing <= capacity.overload;
    faults.require("capacity.packing", packing, "must be above 0 and at most capacity.overload");
    let consumers = &spec.consumers;
    let message =
        format!("must be at most consumers.max ({}), found {}", consumers.max, consumers.min);
    faults.require("consumers.min", consumers.min <= consumers.max, message);
    for pin in consumers.pins.keys() {
        let path = format!("consumers.pins.{pin}");
        let message = "expected TOPIC/PARTITION, such as orders/3";
        faults.require(&path, Pin::parse(pin).is_some(), message);
    }
}

fn monitor(monitor: &Monitor, faults: &mut Checks) {
    faults.positive("monitor.period", monitor.period);
    faults.positive("monitor.metadataRefresh", monitor.metadata_refresh);
    faults.positive("monitor.filterTimeConstant", monitor.filter_time_constant);
    faults.at_most("monitor.window", monitor.window, MAX_WINDOW, "the published limit");
    faults.at_most("monitor.period", monitor.period, monitor.window, "monitor.window");
    faults.at_most("monitor.period", monitor.period, monitor.full_report, "monitor.fullReport");
}

fn controller(controller: &Controller, faults: &mut Checks) {
    faults.positive("controller.decisionPeriod", controller.decision_period);
    faults.positive("controller.drainTarget", controller.drain_target);
    faults.positive("controller.workerStartDeadline", controller.worker_start_deadline);
    faults.positive("controller.handoffDeadline", controller.handoff_deadline);
}

fn ownership(clocks: &Ownership, faults: &mut Checks) {
    faults.positive("ownership.heartbeat", clocks.heartbeat);
    faults.positive("ownership.writeTimeout", clocks.write_timeout);
    faults.positive("ownership.tick", clocks.tick);
    let busy = clocks.write_timeout.saturating_add(clocks.heartbeat);
    let message = format!(
        "must be above ownership.writeTimeout + ownership.heartbeat ({}), found {}",
        Span::print(busy),
        Span::print(clocks.lease)
    );
    faults.require("ownership.lease", busy < clocks.lease, message);
    faults.below("ownership.lease", clocks.lease, clocks.fence, "ownership.fence");
    faults.below("ownership.tick", clocks.tick, clocks.elect_after, "ownership.electAfter");
}

fn consumer(spec: &GroupSpec, faults: &mut Checks) {
    let consumer = &spec.consumer;
    faults.require("consumer.batchBytes", consumer.batch_bytes > 0, "must be above 0B");
    let room = consumer.batch_bytes <= consumer.queue_bytes;
    faults.require("consumer.queueBytes", room, "must be at least consumer.batchBytes");
    faults.positive("consumer.waitTime", consumer.wait_time);
    faults.at_most(
        "consumer.firstBatch",
        consumer.first_batch,
        consumer.wait_time,
        "consumer.waitTime",
    );
    faults.below(
        "consumer.stopBudget",
        consumer.stop_budget,
        spec.workers.stop_grace,
        "workers.stopGrace",
    );
}

fn workers(spec: &GroupSpec, faults: &mut Checks) {
    let workers = &spec.workers;
    faults.require("workers.dataDirectory", !workers.data_directory.is_empty(), "is required");
    let pause = &workers.restart_backoff;
    faults.positive("workers.restartBackoff.initial", pause.initial);
    faults.at_most(
        "workers.restartBackoff.initial",
        pause.initial,
        pause.max,
        "workers.restartBackoff.max",
    );
    let kubernetes = &workers.kubernetes;
    if workers.kind == WorkerKind::Kubernetes {
        let message = "is required: the consumers' image, such as registry.example/tidegate:1.0";
        faults.require("workers.kubernetes.image", !kubernetes.image.is_empty(), message);
    }
    let size = &kubernetes.storage.size;
    let message = format!("expected a quantity of Kubernetes such as 1Gi, found {size:?}");
    faults.require("workers.kubernetes.storage.size", is_quantity(size), message);
}

/// A positive quantity of bytes as Kubernetes writes it.
fn is_quantity(text: &str) -> bool {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let units = ["", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    units.contains(&&text[digits.len()..]) && digits.parse::<u64>().is_ok_and(|number| number > 0)
}
