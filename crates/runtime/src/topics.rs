//! The three control topics: how they must be, how they are, and what to do about the difference.
//!
//! The ledger is only as safe as its topic: with fewer replicas, or where a leader may be elected that lacks records,
//! a grant could be forgotten. So a controller that is to act refuses a weak ledger unless the spec allows it.

use std::collections::BTreeMap;

use crate::ports::{Admin, Error, TopicSpec, TopicState};
use crate::spec::Config;

/// A setting of a control topic that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Drift {
    /// The topic.
    pub topic: String,
    /// The setting, by Kafka's name; `partitions` and `replication` for those.
    pub setting: String,
    /// How it is; `None` when it could not be read.
    pub actual: Option<String>,
    /// How it should be.
    pub wanted: String,
    /// True when the ledger is not safe with it.
    pub weakens_ledger: bool,
}

/// What was found and done about the control topics.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// Topics that were created.
    pub created: Vec<String>,
    /// Topics that had been there.
    pub existing: Vec<String>,
    /// What is not as it should be, after what was repaired.
    pub drift: Vec<Drift>,
    /// What was repaired.
    pub repaired: Vec<Drift>,
}

/// What may be done about the control topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repair {
    /// Nothing is changed.
    Look,
    /// Missing topics are created.
    Create,
    /// Missing topics are created, and settings that have drifted are set again.
    Fix,
}

/// How the control topics should be on a cluster of so many brokers.
pub fn wanted(config: &Config, brokers: u32) -> Vec<TopicSpec> {
    let control = &config.control_topics;
    let replication =
        control.replication.map_or_else(|| brokers.clamp(1, 3).try_into().unwrap_or(1), u16::from);
    let in_sync = if replication >= 3 { 2 } else { 1 };
    let topic = |name: &str, partitions: u32, own: &[(&str, String)]| {
        let shared = [
            ("min.insync.replicas", in_sync.to_string()),
            ("unclean.leader.election.enable", "false".to_owned()),
        ];
        let config = shared
            .iter()
            .chain(own)
            .map(|(key, value)| ((*key).to_owned(), value.clone()))
            .collect();
        TopicSpec { name: name.to_owned(), partitions, replication: Some(replication), config }
    };
    let delete = ("cleanup.policy", "delete".to_owned());
    let for_ever = ("retention.ms", "-1".to_owned());
    let monitor = [
        delete.clone(),
        ("retention.ms", config.monitor.retention_ms.to_string()),
        ("retention.bytes", config.monitor.retention_bytes.to_string()),
    ];
    let log = [delete, for_ever];
    let mut topics = vec![
        topic(&control.monitor, 1, &monitor),
        topic(&control.controller, 1 + config.consumers.max.get().min(8), &log),
        topic(&control.service, 1, &[("cleanup.policy", "compact".to_owned())]),
    ];
    topics.extend(control.ledger.as_ref().map(|ledger| topic(ledger, 1, &log)));
    topics
}

/// Compares the control topics with how they should be, and does about it what it may.
pub async fn ensure(admin: &dyn Admin, config: &Config, repair: Repair) -> Result<Outcome, Error> {
    let wanted = wanted(config, admin.brokers().await?);
    let names: Vec<String> = wanted.iter().map(|topic| topic.name.clone()).collect();
    let found = admin.describe(&names).await?;
    let mut outcome = Outcome::default();
    for topic in &wanted {
        match found.iter().find(|found| found.name == topic.name) {
            Some(found) => {
                outcome.existing.push(topic.name.clone());
                compare(admin, config, (topic, found), repair, &mut outcome).await?;
            }
            None if repair == Repair::Look => outcome.drift.push(missing(topic)),
            None => {
                if admin.create(topic).await? {
                    outcome.created.push(topic.name.clone());
                } else {
                    outcome.existing.push(topic.name.clone());
                }
            }
        }
    }
    Ok(outcome)
}

fn missing(topic: &TopicSpec) -> Drift {
    Drift {
        topic: topic.name.clone(),
        setting: "partitions".to_owned(),
        actual: Some("the topic does not exist".to_owned()),
        wanted: topic.partitions.to_string(),
        weakens_ledger: false,
    }
}

async fn compare(
    admin: &dyn Admin,
    config: &Config,
    (wanted, found): (&TopicSpec, &TopicState),
    repair: Repair,
    outcome: &mut Outcome,
) -> Result<(), Error> {
    let is_ledger = wanted.name == config.control_topics.ledger();
    let drift = differences(wanted, found, is_ledger);
    let (settings, others): (Vec<_>, Vec<_>) =
        drift.into_iter().partition(|drift| wanted.config.contains_key(&drift.setting));
    outcome.drift.extend(others);
    if repair == Repair::Fix && !settings.is_empty() {
        let changes: BTreeMap<String, String> =
            settings.iter().map(|drift| (drift.setting.clone(), drift.wanted.clone())).collect();
        admin.configure(&wanted.name, &changes).await?;
        outcome.repaired.extend(settings);
    } else {
        outcome.drift.extend(settings);
    }
    Ok(())
}

fn differences(wanted: &TopicSpec, found: &TopicState, is_ledger: bool) -> Vec<Drift> {
    let drift =
        |setting: &str, actual: Option<String>, wanted_value: String, weakens: bool| Drift {
            topic: wanted.name.clone(),
            setting: setting.to_owned(),
            actual,
            wanted: wanted_value,
            weakens_ledger: is_ledger && weakens,
        };
    let mut all = Vec::new();
    if found.partitions < wanted.partitions && wanted.partitions == 1 {
        all.push(drift(
            "partitions",
            Some(found.partitions.to_string()),
            wanted.partitions.to_string(),
            false,
        ));
    }
    let replication = wanted.replication.unwrap_or(1);
    if found.replication < replication {
        all.push(drift(
            "replication",
            Some(found.replication.to_string()),
            replication.to_string(),
            true,
        ));
    }
    for (setting, value) in &wanted.config {
        let actual = found.config.get(setting);
        if actual != Some(value) && !found.config.is_empty() {
            let weakens = matches!(
                setting.as_str(),
                "min.insync.replicas" | "unclean.leader.election.enable"
            );
            all.push(drift(setting, actual.cloned(), value.clone(), weakens));
        }
    }
    all
}
