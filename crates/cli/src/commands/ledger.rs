//! `tidegate ledger dump|fence|reset`: the ledger in the hands of an operator.

use std::fmt::Write as _;

use anyhow::bail;
use serde::Serialize;
use serde_json::Value;
use tidegate_core::ids::{ConsumerNumber, Generation};
use tidegate_core::ledger::{Entry, Fold, Ownership, Record};
use tidegate_kafka::Kafka;
use tidegate_runtime::ledger::{self, Ledger};
use tidegate_runtime::process::new_process_id;
use tidegate_runtime::spec::Config;

use super::message::Message;
use crate::args::{LedgerCommand, SpecArgs};
use crate::failure::Exit;
use crate::output::Output;
use crate::setup::{self, Patience};
use crate::wiring;

/// For so many heartbeats a consumer is watched before it is fenced by hand: one that lives beats meanwhile.
const WATCHED: u32 = 4;

pub(super) async fn run(command: LedgerCommand, output: &Output) -> anyhow::Result<Exit> {
    match command {
        LedgerCommand::Dump { spec, state } => dump(&spec, state, output).await,
        LedgerCommand::Fence { spec, consumer, dead } => fence(&spec, consumer, dead, output).await,
        LedgerCommand::Reset { spec, yes } => reset(&spec, yes, output).await,
    }
}

async fn open(spec: &SpecArgs) -> anyhow::Result<(Kafka, std::sync::Arc<Config>)> {
    let config = setup::load_config(spec)?;
    let kafka = setup::connect(&config.cluster, "tidegate-ledger", Patience::Command).await?;
    Ok((kafka, config))
}

async fn dump(spec: &SpecArgs, state_only: bool, output: &Output) -> anyhow::Result<Exit> {
    let (kafka, config) = open(spec).await?;
    let topic = config.control_topics.ledger();
    let names = kafka.admin().list().await?;
    let log = wiring::control_log(&kafka, &config, topic)?;
    let mut ledger = Ledger::open(&*log, &config.group).await?;
    let mut printed = Ok(());
    ledger
        .read_to_end(|record| {
            if !state_only && printed.is_ok() {
                printed = Message::of((topic, 0), record, &names).print(output);
            }
        })
        .await?;
    printed?;
    let Some(fold) = ledger.state() else { return Err(ledger::Error::Unreadable.into()) };
    output.result(&state_text(fold, &names), &state_json(fold))?;
    Ok(Exit::Done)
}

/// The state in the form in which snapshots hold it.
fn state_json(fold: &Fold) -> Value {
    let record = Record::Snapshot {
        group: fold.group().clone(),
        upto: fold.position(),
        part: 0,
        of: 1,
        facts: Box::new(fold.facts()),
    };
    let generation = fold.generation().unwrap_or_default();
    let encoded = tidegate_wire::encode_entry(&Entry { generation, record });
    encoded.value.and_then(|value| serde_json::from_slice(&value).ok()).unwrap_or_default()
}

fn state_text(
    fold: &Fold,
    names: &std::collections::BTreeMap<tidegate_core::ids::TopicId, String>,
) -> String {
    let mut text = String::new();
    let mut line = |words: std::fmt::Arguments<'_>| {
        writeln!(text, "{words}").expect("a string takes any text");
    };
    line(format_args!(
        "group {} generation {} upto @{}",
        fold.group(),
        fold.generation().unwrap_or_default().0,
        fold.position().0
    ));
    if let Some(reign) = fold.reign() {
        line(format_args!("controller {} term {} seq {}", reign.process, reign.term, reign.seq));
    }
    for (incarnation, life) in fold.lives().iter() {
        let waits = if fold.lives().is_current(incarnation) { "" } else { " (waits)" };
        line(format_args!(
            "consumer {} incarnation {incarnation} process {} beat {}{waits}",
            life.consumer, life.process, life.beat
        ));
    }
    for (partition, ownership) in fold.partitions() {
        let name = names.get(&partition.topic).map_or("?", String::as_str);
        let number = partition.number;
        let next = ownership.next().map_or_else(|| "unknown".to_owned(), |next| next.0.to_string());
        match ownership {
            Ownership::Free { .. } => line(format_args!("{name}-{number} free next {next}")),
            Ownership::Granted { epoch, incarnation, .. } => line(format_args!(
                "{name}-{number} granted to incarnation {incarnation} epoch {epoch} next {next}"
            )),
            Ownership::Active { epoch, incarnation, .. } => line(format_args!(
                "{name}-{number} read by incarnation {incarnation} epoch {epoch} next {next}"
            )),
        }
    }
    text
}

/// What a fence did.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Fenced {
    consumer: u32,
    incarnation: u64,
    partitions: usize,
}

async fn fence(
    spec: &SpecArgs,
    consumer: ConsumerNumber,
    dead: bool,
    output: &Output,
) -> anyhow::Result<Exit> {
    if !dead {
        bail!(
            "consumer {consumer} is fenced by itself once its lease has lapsed: make sure that its process is dead, and say so with --dead"
        );
    }
    let (kafka, config) = open(spec).await?;
    let log = wiring::control_log(&kafka, &config, config.control_topics.ledger())?;
    let mut ledger = Ledger::open(&*log, &config.group).await?;
    let (incarnation, partitions) =
        ledger.fence(consumer, new_process_id()?, config.ownership.heartbeat * WATCHED).await?;
    let text = format!(
        "consumer {consumer}: incarnation {incarnation} has ended, {partitions} partitions are free"
    );
    let fenced = Fenced { consumer: consumer.get(), incarnation: incarnation.0.0, partitions };
    output.result(&text, &fenced)?;
    Ok(Exit::Done)
}

/// What a reset did.
#[derive(Serialize)]
struct Reset {
    topic: String,
}

async fn reset(spec: &SpecArgs, yes: bool, output: &Output) -> anyhow::Result<Exit> {
    let (kafka, config) = open(spec).await?;
    let topic = config.control_topics.ledger().to_owned();
    if !yes {
        bail!(
            "topic {topic} would be deleted, and with it who owns what: nothing is granted for {:?} then. Say so with --yes",
            config.ownership.fence
        );
    }
    let log = wiring::control_log(&kafka, &config, &topic)?;
    let generation = Generation(wiring::clock().unix_ms() / 1000);
    ledger::reset(&*kafka.admin(), &*log, &config, generation).await?;
    output.result(&format!("{topic}: made anew"), &Reset { topic })?;
    Ok(Exit::Done)
}
