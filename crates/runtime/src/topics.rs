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
    /// Topics that are not there, where none may be created.
    pub missing: Vec<String>,
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

/// Command partitions that are made before they are needed, at most. To add some takes a cluster a third of a second, for which consumers
/// would wait.
const COMMANDS: u32 = 64;

/// For how many consumers there are to be command partitions.
pub(crate) fn commands(config: &Config) -> u32 {
    config.consumers.max.get().min(COMMANDS)
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
    let for_ever = [("retention.ms", "-1".to_owned()), ("retention.bytes", "-1".to_owned())];
    let monitor = [
        delete.clone(),
        ("retention.ms", config.monitor.retention_ms.to_string()),
        ("retention.bytes", config.monitor.retention_bytes.to_string()),
    ];
    let [time, size] = for_ever;
    let log = [delete, time, size];
    let mut topics = vec![
        topic(&control.monitor, 1, &monitor),
        topic(&control.controller, 1 + commands(config), &log),
        topic(&control.service, 1, &[("cleanup.policy", "compact".to_owned())]),
    ];
    topics.extend(control.ledger.as_ref().map(|ledger| topic(ledger, 1, &log)));
    topics
}

/// Compares the control topics with how they should be, and does about it what it may.
pub async fn ensure(admin: &dyn Admin, config: &Config, repair: Repair) -> Result<Outcome, Error> {
    let brokers = admin.brokers().await?;
    let names: Vec<String> = config.control_topics.names().map(str::to_owned).collect();
    let found = admin.describe(&names).await?;
    // Brokers that are down are not listed, and the topics are no weaker for that: there are at least as many as a topic
    // has replicas.
    let known = found.iter().map(|topic| topic.replication.into()).fold(brokers, u32::max);
    let wanted = wanted(config, known);
    let mut outcome = Outcome::default();
    for topic in &wanted {
        match found.iter().find(|found| found.name == topic.name) {
            Some(found) => {
                outcome.existing.push(topic.name.clone());
                compare(admin, config, (topic, found), repair, &mut outcome).await?;
            }
            None if repair == Repair::Look => outcome.missing.push(topic.name.clone()),
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
            let weakens = weakens(setting, actual, value);
            all.push(drift(setting, actual.cloned(), value.clone(), weakens));
        }
    }
    all
}

/// Whether the ledger could lose records by a setting that is not the wanted one. More replicas in sync than wanted cost
/// availability only.
fn weakens(setting: &str, actual: Option<&String>, wanted: &str) -> bool {
    let number = |text: &str| text.parse::<u32>().ok();
    match setting {
        "min.insync.replicas" => actual.and_then(|actual| number(actual)) < number(wanted),
        "unclean.leader.election.enable" => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;
    use tidegate_core::ids::TopicId;

    use super::*;
    use crate::spec::GroupSpec;

    /// A cluster whose topics were made with three brokers.
    #[derive(Debug)]
    struct Brokers {
        up: u32,
        topics: Mutex<BTreeMap<String, TopicState>>,
    }

    #[async_trait]
    impl Admin for Brokers {
        async fn brokers(&self) -> Result<u32, Error> {
            Ok(self.up)
        }

        async fn list(&self) -> Result<BTreeMap<TopicId, String>, Error> {
            Ok(BTreeMap::new())
        }

        async fn describe(&self, names: &[String]) -> Result<Vec<TopicState>, Error> {
            let topics = self.topics.lock().unwrap();
            Ok(names.iter().filter_map(|name| topics.get(name).cloned()).collect())
        }

        async fn create(&self, topic: &TopicSpec) -> Result<bool, Error> {
            let state = TopicState {
                name: topic.name.clone(),
                id: TopicId([1; 16]),
                partitions: topic.partitions,
                replication: topic.replication.unwrap(),
                config: topic.config.clone(),
            };
            Ok(self.topics.lock().unwrap().insert(topic.name.clone(), state).is_none())
        }

        async fn grow(&self, _: &str, _: u32) -> Result<(), Error> {
            Ok(())
        }

        async fn configure(
            &self,
            topic: &str,
            config: &BTreeMap<String, String>,
        ) -> Result<(), Error> {
            self.topics.lock().unwrap().get_mut(topic).unwrap().config.extend(config.clone());
            Ok(())
        }

        async fn delete(&self, _: &str) -> Result<(), Error> {
            Ok(())
        }
    }

    fn config() -> Config {
        let yaml = "{group: orders, cluster: {bootstrapServers: 'localhost:9092'}}";
        GroupSpec::parse(yaml, &BTreeMap::new()).unwrap().validate().unwrap()
    }

    async fn made_with_three() -> Brokers {
        let brokers = Brokers { up: 3, topics: Mutex::default() };
        ensure(&brokers, &config(), Repair::Create).await.unwrap();
        brokers
    }

    fn in_sync(brokers: &Brokers) -> String {
        let topics = brokers.topics.lock().unwrap();
        topics[config().control_topics.ledger()].config["min.insync.replicas"].clone()
    }

    /// Found by chaos: with one of three brokers down, two were wanted and one in sync of them, so that no process could
    /// start, and a repair would have weakened the ledger.
    #[tokio::test]
    async fn a_broker_that_is_down_makes_no_drift() {
        let brokers = Brokers { up: 2, ..made_with_three().await };
        let outcome = ensure(&brokers, &config(), Repair::Fix).await.unwrap();
        assert_eq!((outcome.drift, outcome.repaired), (vec![], vec![]));
        assert_eq!(in_sync(&brokers), "2");
    }

    #[tokio::test]
    async fn fewer_replicas_in_sync_weaken_the_ledger_and_more_do_not() {
        let brokers = made_with_three().await;
        for (found, weakens) in [("1", true), ("3", false)] {
            let changed = [("min.insync.replicas".to_owned(), found.to_owned())].into();
            let ledger = config().control_topics.ledger().to_owned();
            brokers.configure(&ledger, &changed).await.unwrap();
            let drift = ensure(&brokers, &config(), Repair::Look).await.unwrap().drift;
            assert_eq!(drift.len(), 1, "{drift:?}");
            assert_eq!(drift[0].weakens_ledger, weakens, "{drift:?}");
        }
    }
}
