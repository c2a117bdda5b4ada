//! The specification in effect: the group's own, and over it what the service topic sets.
//!
//! Each override is taken or refused by itself, whatever the others say, and a refusal says why. No IO.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use tidegate_wire::Override;
use tidegate_wire::status::OverrideRow;

use crate::ports::Overridden;
use crate::spec::{Config, Fault, Faults, GroupSpec, WorkerKind, shown};

/// What can be set while a group runs; a path that begins so. All else is agreed upon by processes that do not talk about it.
/// Not so what a pod may do: the rights of who writes to the service topic end at Kafka.
const SETTABLE: [&str; 9] = [
    "mode",
    "paused",
    "topics.",
    "capacity.",
    "consumers.",
    "controller.",
    "consumer.",
    "workers.stopGrace",
    "workers.kubernetes.image",
];

/// Finds what is wrong with a specification beyond itself: which sinks there are is not known here.
pub type Check = fn(&GroupSpec) -> Vec<Fault>;

/// A group's specification with its overrides.
#[derive(Clone, Debug)]
pub struct Live {
    base: GroupSpec,
    fields: BTreeMap<String, Value>,
    check: Check,
    spec: GroupSpec,
    config: Arc<Config>,
    refused: BTreeMap<String, String>,
}

impl Live {
    /// Without overrides.
    pub fn new(base: GroupSpec, check: Check) -> Result<Self, Faults> {
        let config = Arc::new(base.validate()?);
        let (spec, fields, refused) = (base.clone(), BTreeMap::new(), BTreeMap::new());
        Ok(Self { base, fields, check, spec, config, refused })
    }

    /// The specification in effect.
    pub fn spec(&self) -> &GroupSpec {
        &self.spec
    }

    /// The same as the processes work with it.
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// All overrides that are there, as they may be shown: without credentials.
    pub fn rows(&self) -> Vec<OverrideRow> {
        let row = |(field, value): (&String, &Value)| {
            let refused = self.refused.get(field).cloned();
            OverrideRow { field: field.clone(), value: shown_value(field, value), refused }
        };
        self.fields.iter().map(row).collect()
    }

    /// Takes up another specification of the group. True when something in effect has changed.
    pub fn respecify(&mut self, base: GroupSpec) -> bool {
        self.base = base;
        self.renew()
    }

    /// Takes up what was read. True when something in effect has changed.
    pub fn read(&mut self, overrides: &Overridden) -> bool {
        let (Overridden::Whole(changes) | Overridden::More(changes)) = overrides;
        for change in changes {
            let is_set = change.value.is_some();
            tracing::info!(field = change.field, is_set, "an override was read");
        }
        if matches!(overrides, Overridden::Whole(_)) {
            self.fields.clear();
        }
        self.set(changes)
    }

    /// Takes overrides up. True when something in effect has changed.
    pub fn set(&mut self, overrides: &[Override]) -> bool {
        for Override { field, value, .. } in overrides {
            match value {
                Some(value) => drop(self.fields.insert(field.clone(), value.clone())),
                None => drop(self.fields.remove(field)),
            }
        }
        self.renew()
    }

    /// Adds the overrides one by one, and those that need others again after these.
    fn renew(&mut self) -> bool {
        let before = std::mem::replace(&mut self.spec, self.base.clone());
        let mut waiting: BTreeMap<&String, &Value> = self.fields.iter().collect();
        loop {
            let mut refused = BTreeMap::new();
            let count = waiting.len();
            waiting.retain(|field, value| {
                match taken(&self.spec, field, value, self.check) {
                    Ok(spec) => self.spec = spec,
                    Err(why) => drop(refused.insert((*field).clone(), why)),
                }
                refused.contains_key(*field)
            });
            if waiting.len() == count {
                self.tell(refused);
                break;
            }
        }
        match self.spec.validate() {
            Ok(config) => self.config = Arc::new(config),
            Err(faults) => {
                // The base was checked by whoever gave it.
                tracing::error!(%faults, "the specification is faulty; the one before stays in effect");
                self.spec = before.clone();
            }
        }
        self.spec != before
    }

    fn tell(&mut self, refused: BTreeMap<String, String>) {
        for (field, why) in &refused {
            if self.refused.get(field) != Some(why) {
                tracing::error!(field, "an override is not in effect: {why}");
            }
        }
        self.refused = refused;
    }
}

/// The specification with one field set otherwise; or why it cannot be.
fn taken(spec: &GroupSpec, field: &str, value: &Value, check: Check) -> Result<GroupSpec, String> {
    if !is_settable(field) {
        return Err("it cannot be set while the group runs: change the specification".to_owned());
    }
    let set =
        spec.with_override(field, Some(value.clone())).map_err(|faults| faults.to_string())?;
    if let Some(fault) = check(&set).first() {
        return Err(fault.to_string());
    }
    if spec.workers.kind == WorkerKind::Manual && set.for_consumers() != spec.for_consumers() {
        return Err(
            "consumers that are run by hand work by a file of their own: change it there, and the \
                    specification of controller and monitor with it"
                .to_owned(),
        );
    }
    let configs = spec.validate().and_then(|before| Ok((before, set.validate()?)));
    let (before, after) = configs.map_err(|faults| faults.to_string())?;
    moved_sink(&before, &after).map_or(Ok(set), Err)
}

fn is_settable(field: &str) -> bool {
    let is_below = |path: &str| path.ends_with('.') && field.starts_with(path);
    SETTABLE.iter().any(|path| field == *path || is_below(path))
}

/// What is wrong with it, if a topic's records are to go to another sink than those before them: it would begin in the middle.
pub fn moved_sink(before: &Config, after: &Config) -> Option<String> {
    after.topics.iter().find_map(|topic| {
        let name = topic.pattern.to_string();
        let was = before.topic(name.trim_end_matches('*'))?;
        let is_moved = was.sink.url() != topic.sink.url();
        is_moved.then(|| {
            let was = &was.sink;
            format!("records of {name} are in {was}, and cannot go on in another sink: make another group for that")
        })
    })
}

/// Passwords in addresses are nobody's business, and what cannot be set may have anything in it.
fn shown_value(field: &str, value: &Value) -> Value {
    if !is_settable(field) {
        return json!("…");
    }
    match value {
        Value::String(text) if field.starts_with("topics.") => json!(shown(text)),
        Value::Object(fields) => {
            let shown = |(key, value): (&String, &Value)| (key.clone(), shown_value(field, value));
            Value::Object(fields.iter().map(shown).collect())
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tidegate_core::ids::GroupName;

    use super::*;

    fn live() -> Live {
        let yaml = "{group: g, cluster: {bootstrapServers: 'b:1'}, consumers: {max: 3}, \
                     topics: [{name: orders, sink: 'blackhole:'}]}";
        let spec = GroupSpec::parse(yaml, &BTreeMap::new()).unwrap();
        let no_files = |spec: &GroupSpec| {
            let faulty = spec.topics.iter().position(|topic| topic.sink.starts_with("file:"));
            let fault = |index| Fault {
                path: format!("topics[{index}].sink"),
                message: "no files here".to_owned(),
            };
            faulty.map(fault).into_iter().collect()
        };
        Live::new(spec, no_files).unwrap()
    }

    fn set(field: &str, value: Value) -> Override {
        let value = Some(value).filter(|value| !value.is_null());
        Override { group: GroupName("g".to_owned()), field: field.to_owned(), value }
    }

    #[test]
    fn overrides_are_in_effect_until_they_are_withdrawn() {
        let mut live = live();
        assert!(live.set(&[set("capacity.bytesPerSecond", json!("2MB/s"))]));
        assert_eq!(live.config().capacity.bytes_per_second.get(), 2_000_000);
        assert!(!live.set(&[set("capacity.bytesPerSecond", json!("2MB/s"))]), "nothing new");
        let topic = set("topics.clicks", json!({ "sink": "blackhole:" }));
        assert!(live.set(&[topic]));
        assert!(live.config().topic("clicks").is_some() && live.config().topic("orders").is_some());
        assert!(live.set(&[set("topics.clicks", Value::Null), set("paused", json!(true))]));
        assert!(live.config().topic("clicks").is_none());
        assert!(live.config().paused);
    }

    #[test]
    fn overrides_that_need_each_other_are_taken_together() {
        let mut live = live();
        live.set(&[set("consumers.min", json!(5))]);
        assert_eq!(live.config().consumers.min.get(), 1);
        assert!(live.rows()[0].refused.as_ref().is_some_and(|why| why.contains("consumers.max")));
        live.set(&[set("consumers.max", json!(9))]);
        let consumers = &live.config().consumers;
        assert_eq!((consumers.min.get(), consumers.max.get()), (5, 9));
        assert!(live.rows().iter().all(|row| row.refused.is_none()));
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_its_reason_and_spoils_nothing_else() {
        let mut live = live();
        let overrides = [
            set("ownership.lease", json!("1h")),
            set("consumers.maxx", json!(3)),
            set("modest", json!(true)),
            set("topics.clicks", json!({ "sink": "file:///out" })),
            set("consumers.max", json!(7)),
        ];
        assert!(live.set(&overrides));
        assert_eq!(live.config().consumers.max.get(), 7);
        let refused: BTreeMap<String, String> =
            live.rows().into_iter().filter_map(|row| Some((row.field, row.refused?))).collect();
        assert_eq!(refused.len(), 4, "{refused:?}");
        assert!(refused["consumers.maxx"].contains("did you mean"), "{refused:?}");
        assert!(refused["ownership.lease"].contains("cannot be set while"), "{refused:?}");
        assert!(refused["topics.clicks"].contains("no files here"), "{refused:?}");
    }

    #[test]
    fn another_specification_keeps_the_overrides() {
        let mut live = live();
        live.set(&[set("consumers.max", json!(7))]);
        let mut base = live.base.clone();
        base.capacity.bytes_per_second = std::num::NonZeroU64::MIN;
        assert!(live.respecify(base));
        assert_eq!(live.config().consumers.max.get(), 7);
        assert_eq!(live.config().capacity.bytes_per_second.get(), 1);
    }

    #[test]
    fn what_is_read_anew_replaces_what_was_read_before() {
        let mut live = live();
        let (seven, two) = (set("consumers.max", json!(7)), set("consumers.min", json!(2)));
        live.read(&Overridden::Whole(vec![seven]));
        live.read(&Overridden::More(vec![two.clone()]));
        assert_eq!(live.rows().len(), 2);
        assert!(live.read(&Overridden::Whole(vec![two])), "the topic was made anew");
        let consumers = &live.config().consumers;
        assert_eq!((consumers.min.get(), consumers.max.get()), (2, 3));
    }

    #[test]
    fn a_topic_stays_with_its_sink() {
        let mut live = live();
        live.set(&[set("topics.orders", json!({ "sink": "http://other/" }))]);
        let why = live.rows()[0].refused.clone().unwrap();
        assert!(why.contains("records of orders are in blackhole:"), "{why}");
        let pattern = |sink: &str| set("topics.clicks-*", json!({ "sink": sink }));
        live.set(&[
            pattern("http://one/"),
            set("topics.clicks-eu", json!({ "sink": "http://two/" })),
        ]);
        let refused: Vec<_> = live.rows().into_iter().filter(|row| row.refused.is_some()).collect();
        assert_eq!(refused.len(), 2, "{refused:?}");
        assert_eq!(refused[0].field, "topics.clicks-eu");
    }

    #[test]
    fn consumers_that_are_run_by_hand_cannot_be_told_anything() {
        let yaml = "{group: g, cluster: {bootstrapServers: 'b:1'}, workers: {kind: manual}, \
                     topics: [{name: orders, sink: 'blackhole:'}]}";
        let spec = GroupSpec::parse(yaml, &BTreeMap::new()).unwrap();
        let mut live = Live::new(spec, |_| Vec::new()).unwrap();
        live.set(&[
            set("topics.clicks", json!({ "sink": "blackhole:" })),
            set("consumers.max", json!(7)),
        ]);
        assert_eq!(live.config().consumers.max.get(), 7, "that is the controller's business");
        let why = live.rows().into_iter().find_map(|row| row.refused).unwrap();
        assert!(why.contains("run by hand"), "{why}");
    }

    #[test]
    fn what_is_shown_has_no_credentials() {
        let mut live = live();
        let sink = "http://me:pa55@host/path?key=pa55";
        live.set(&[
            set("topics.clicks", json!({ "sink": sink })),
            set("workers.kubernetes.template", json!({ "spec": { "env": "pa55" } })),
        ]);
        let rows = serde_json::to_string(&live.rows()).unwrap();
        assert!(rows.contains("host/path") && !rows.contains("pa55"), "{rows}");
    }
}
