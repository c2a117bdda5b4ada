//! `tidegate topics create|describe|retain`.

use std::fmt::Write as _;

use serde::Serialize;
use tidegate_runtime::ports::TopicState;
use tidegate_runtime::retention::{self, Retained, Retention};
use tidegate_runtime::topics::{self, Drift, Outcome, Repair};

use crate::args::{SpecArgs, TopicsCommand};
use crate::failure::Exit;
use crate::output::Output;
use crate::setup::{self, Patience};

/// A control topic as it is.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Described {
    name: String,
    partitions: u32,
    replication: u16,
}

/// The result of `retain`.
#[derive(Serialize)]
struct Changed {
    topics: Vec<Retained>,
}

/// The result of `describe`.
#[derive(Serialize)]
struct Description {
    topics: Vec<Described>,
    missing: Vec<String>,
    drift: Vec<Drift>,
}

// === impl Changed ===

impl Changed {
    fn text(&self, retention: Retention) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        for Retained { topic, before, after, shrinks } in &self.topics {
            for (setting, value) in after {
                let before = before.get(setting).map_or("unknown", String::as_str);
                writeln!(text, "{topic}: {setting} set to {value}, was {before}")?;
            }
            if let (Some(why), Retention::Forever) = (shrinks, retention) {
                writeln!(text, "{topic}: its log shrinks all the same, as {why}")?;
            }
        }
        Ok(text)
    }
}

pub(super) async fn run(command: TopicsCommand, output: &Output) -> anyhow::Result<Exit> {
    let (spec, repair) = match &command {
        TopicsCommand::Create { spec, fix: true } => (spec, Repair::Fix),
        TopicsCommand::Create { spec, fix: false } => (spec, Repair::Create),
        TopicsCommand::Describe { spec } => (spec, Repair::Look),
        TopicsCommand::Retain { topics, spec, time, .. } => {
            let retention = time.map_or(Retention::Forever, Retention::For);
            return retain(topics, spec, retention, output).await;
        }
    };
    let config = setup::load_config(spec)?;
    let kafka = setup::connect(&config.cluster, "tidegate-topics", Patience::Command).await?;
    let admin = kafka.admin();
    let outcome = topics::ensure(&*admin, &config, repair).await?;
    if repair == Repair::Look {
        let found = admin.describe(&outcome.existing).await?;
        return describe(found, outcome, output);
    }
    output.result(&text(&outcome), &outcome)?;
    Ok(Exit::Done)
}

async fn retain(
    topics: &[String],
    spec: &SpecArgs,
    retention: Retention,
    output: &Output,
) -> anyhow::Result<Exit> {
    let config = setup::load_config(spec)?;
    let kafka = setup::connect(&config.cluster, "tidegate-topics", Patience::Command).await?;
    let outcome = retention::retain(&*kafka.admin(), &config, topics, retention).await?;
    let changed = Changed { topics: outcome.changed };
    let Some(error) = outcome.failure else {
        output.result(&changed.text(retention)?, &changed)?;
        return Ok(Exit::Done);
    };
    if changed.topics.is_empty() {
        return Err(error.into());
    }
    output.result(&changed.text(retention)?, &changed)?;
    let told = "only the topics that are told above were changed";
    Err(anyhow::Error::new(error).context(told))
}

fn describe(found: Vec<TopicState>, outcome: Outcome, output: &Output) -> anyhow::Result<Exit> {
    let Outcome { missing, drift, .. } = outcome;
    let mut text = String::new();
    for topic in &found {
        let TopicState { name, partitions, replication, .. } = topic;
        writeln!(text, "{name}: {partitions} partitions, {replication} replicas")?;
    }
    for name in &missing {
        writeln!(text, "{name}: does not exist; `tidegate topics create` makes it")?;
    }
    text.push_str(&drift_text(&drift));
    let exit = if missing.is_empty() { Exit::Done } else { Exit::Failed };
    let topics = found.into_iter().map(|topic| Described {
        name: topic.name,
        partitions: topic.partitions,
        replication: topic.replication,
    });
    let description = Description { topics: topics.collect(), missing, drift };
    output.result(&text, &description)?;
    Ok(exit)
}

fn text(outcome: &Outcome) -> String {
    let mut lines: Vec<String> = Vec::new();
    lines.extend(outcome.created.iter().map(|topic| format!("{topic}: created")));
    lines.extend(outcome.existing.iter().map(|topic| format!("{topic}: exists")));
    lines.extend(
        outcome
            .repaired
            .iter()
            .map(|drift| format!("{}: {} set to {}", drift.topic, drift.setting, drift.wanted)),
    );
    let mut text = lines.join("\n");
    text.push('\n');
    text.push_str(&drift_text(&outcome.drift));
    text
}

fn drift_text(drift: &[Drift]) -> String {
    let line = |drift: &Drift| {
        let Drift { topic, setting, actual, wanted, weakens_ledger } = drift;
        let actual = actual.as_deref().unwrap_or("unknown");
        let note = if *weakens_ledger { " (the ledger is not safe so)" } else { "" };
        format!("{topic}: {setting} is {actual}, should be {wanted}{note}\n")
    };
    drift.iter().map(line).collect()
}
