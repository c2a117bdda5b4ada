//! From a file and a command line to a checked configuration and a cluster that answers.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tidegate_kafka::Kafka;
use tidegate_runtime::errors::Code;
use tidegate_runtime::ports::{Class, Clock, DeadLetters, Error, Sink};
use tidegate_runtime::security::Cluster;
use tidegate_runtime::spec::{Config, DeadLetterTarget, Fault, GroupSpec, SinkTarget};
use tidegate_sinks::SinkSpec;

use crate::args::SpecArgs;
use crate::failure::{Coded, InvalidSpec};

/// First pause before a cluster that did not answer is asked again.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// Longest pause: a cluster that comes back is found within half a minute.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How long a command that a person waits for tries to reach a cluster.
const PATIENCE: Duration = Duration::from_secs(5);

/// Reads a specification; all of its faults are in the error.
pub(crate) fn load_spec(file: &Path) -> anyhow::Result<GroupSpec> {
    // The only look at the environment: what overrides the specification.
    let environment: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    read_spec(file, &environment)
}

/// Reads a specification that a controller has written for this process: what the environment says is in it, or was overruled.
pub(crate) fn load_told(file: &Path) -> anyhow::Result<Arc<Config>> {
    checked(&read_spec(file, &BTreeMap::new())?, file.display().to_string())
}

/// What the processes work with; the name is for its faults.
pub(crate) fn checked(spec: &GroupSpec, name: String) -> anyhow::Result<Arc<Config>> {
    Ok(Arc::new(spec.validate().map_err(|faults| InvalidSpec::new(name, &faults))?))
}

fn read_spec(file: &Path, environment: &BTreeMap<String, String>) -> anyhow::Result<GroupSpec> {
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file).with_context(|| {
        Coded::new(Code::ConfigInvalid, format!("failed to read the specification {name}"))
    })?;
    let spec = GroupSpec::parse(&text, environment)
        .map_err(|faults| InvalidSpec::new(name.clone(), &faults))?;
    let faults = sink_faults(&spec);
    if faults.is_empty() { Ok(spec) } else { Err(InvalidSpec { file: name, faults }.into()) }
}

/// Reads a specification, and puts the brokers of the command line in its place.
pub(crate) fn load_group(args: &SpecArgs) -> anyhow::Result<(GroupSpec, Arc<Config>)> {
    let mut spec = load_spec(&args.spec)?;
    if let Some(bootstrap) = &args.bootstrap {
        spec.cluster.bootstrap_servers.clone_from(bootstrap);
    }
    let config = checked(&spec, args.spec.display().to_string())?;
    Ok((spec, config))
}

/// Reads a specification into what the processes work with.
pub(crate) fn load_config(args: &SpecArgs) -> anyhow::Result<Arc<Config>> {
    load_group(args).map(|(_, config)| config)
}

/// Which sinks there are is known here and not where the specification is checked.
pub(crate) fn sink_faults(spec: &GroupSpec) -> Vec<Fault> {
    let fault = |index: usize, key, url: &str| {
        let error = url.parse::<SinkSpec>().err()?;
        Some(Fault { path: format!("topics[{index}].{key}"), message: error.to_string() })
    };
    let topics = spec.topics.iter().enumerate();
    let faults = topics.flat_map(|(index, topic)| {
        let dead_letters = topic.dead_letters.as_ref().filter(|url| !url.starts_with("kafka:"));
        let dead_letters = dead_letters.and_then(|url| fault(index, "deadLetters", url));
        fault(index, "sink", &topic.sink).into_iter().chain(dead_letters)
    });
    faults.collect()
}

/// Opens the sink that a target names.
pub(crate) async fn open_sink(
    target: SinkTarget,
    clock: Arc<dyn Clock>,
) -> Result<Arc<dyn Sink>, Error> {
    tidegate_sinks::open(&target.url(), clock).await.map_err(|error| {
        Error::new(error.class(), format!("failed to use sink {target}")).because(error)
    })
}

/// Opens the place for rejected records of a target in the specification.
pub(crate) async fn open_dead_letters(
    target: DeadLetterTarget,
    kafka: Kafka,
    clock: Arc<dyn Clock>,
) -> Result<Arc<dyn DeadLetters>, Error> {
    match &target {
        DeadLetterTarget::Kafka(topic) => kafka.dead_letters(topic),
        DeadLetterTarget::Objects(place) => {
            let opened = tidegate_sinks::open_dead_letters(&place.url(), clock).await;
            opened.map_err(|error| {
                let text = format!("failed to use dead letters {target}");
                Error::new(error.class(), text).because(error)
            })
        }
    }
}

/// Who waits for a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// A person: after some seconds it is an error.
    Command,
    /// Nobody: a process waits until it is ended.
    Service,
}

impl Patience {
    fn is_over(self, waited: Duration) -> bool {
        match self {
            Self::Command => waited >= PATIENCE,
            Self::Service => false,
        }
    }
}

/// Connects to a cluster and waits until it answers.
pub(crate) async fn connect(
    cluster: &Cluster,
    client: &str,
    patience: Patience,
) -> anyhow::Result<Kafka> {
    let kafka = tidegate_kafka::connect(cluster, client)?;
    let admin = kafka.admin();
    let servers = &cluster.bootstrap_servers;
    let answered = patiently(patience, || async { Ok(admin.brokers().await?) }).await;
    answered.map_err(|error| {
        let text =
            format!("no broker at {servers} can be used: start one there, or correct the address");
        // What does not heal has a sentence of its own, and so has what looks like a listener of another kind.
        let unreachable = Coded::new(Code::BrokerUnreachable, text);
        if heals(&error) && !has_code(&error) { error.context(unreachable) } else { error }
    })?;
    Ok(kafka)
}

/// Repeats what may heal, with growing pauses.
pub(crate) async fn patiently<T, F>(
    patience: Patience,
    mut call: impl FnMut() -> F,
) -> anyhow::Result<T>
where
    F: Future<Output = anyhow::Result<T>>,
{
    let began = tokio::time::Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        let error = match call().await {
            Ok(done) => return Ok(done),
            Err(error) if !heals(&error) || patience.is_over(began.elapsed()) => return Err(error),
            Err(error) => error,
        };
        let pause_ms = pause.as_millis();
        tracing::warn!(pause_ms, error = format!("{error:#}"), "the cluster is tried again");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn heals(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Error>().is_some_and(|error| error.class() == Class::Transient)
}

fn has_code(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Error>().is_some_and(|error| error.code().is_some())
}
