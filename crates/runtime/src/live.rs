//! The specification in effect: the group's own, and over it what the service topic sets.
//!
//! Each override is taken or refused by itself, whatever the others say, and a refusal says why. No IO.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use tidegate_wire::Override;
use tidegate_wire::status::OverrideRow;

use crate::spec::{Config, Fault, Faults, GroupSpec};

/// What can be set while a group runs; a path that begins so. All else is agreed upon by processes that do not talk about it.
const SETTABLE: [&str; 10] = [
    "mode",
    "paused",
    "topics.",
    "capacity.",
    "consumers.",
    "controller.",
    "consumer.",
    "workers.stopGrace",
    "workers.kubernetes.image",
    "workers.kubernetes.template",
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

    /// All overrides that are there.
    pub fn rows(&self) -> Vec<OverrideRow> {
        let row = |(field, value): (&String, &Value)| {
            let refused = self.refused.get(field).cloned();
            OverrideRow { field: field.clone(), value: value.clone(), refused }
        };
        self.fields.iter().map(row).collect()
    }

    /// Takes up another specification of the group. True when something in effect has changed.
    pub fn respecify(&mut self, base: GroupSpec) -> bool {
        self.base = base;
        self.renew()
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
    let is_below = |path: &str| path.ends_with('.') && field.starts_with(path);
    if !SETTABLE.iter().any(|path| field == *path || is_below(path)) {
        return Err("it cannot be set while the group runs: change the specification".to_owned());
    }
    let set =
        spec.with_override(field, Some(value.clone())).map_err(|faults| faults.to_string())?;
    match check(&set).first() {
        None => Ok(set),
        Some(fault) => Err(fault.to_string()),
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
}
