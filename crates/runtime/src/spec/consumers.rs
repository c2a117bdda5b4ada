//! What of a group's spec its consumers work by, as they are given it: without what is as it is anyway.
//!
//! Defaults are left out, so that a consumer of another version understands it, and so that a controller with a new field, or a new
//! default, has nothing to tell its consumers.

use serde_json::{Map, Value};

use super::{GroupSpec, Kubernetes, TopicOfInterest, WorkerKind, Workers, to_yaml};

impl GroupSpec {
    /// The part that consumers work by, as YAML. A change of anything else, such as the capacity, is none of their business.
    pub fn for_consumers(&self) -> String {
        let Self { group, mode, cluster, topics, control_topics, ownership, consumer, .. } =
            self.clone();
        let Workers { kind, data_directory, stop_grace, mut kubernetes, .. } = self.workers.clone();
        if kind != WorkerKind::Kubernetes {
            kubernetes = Kubernetes::default();
        }
        let workers =
            Workers { kind, data_directory, stop_grace, kubernetes, ..Workers::default() };
        let part = Self {
            group,
            mode,
            cluster,
            topics,
            control_topics,
            ownership,
            consumer,
            workers,
            ..Self::default()
        };
        let mut value = part.to_value();
        leave_out(&mut value, &Self::default().to_value());
        let usual = serde_json::to_value(TopicOfInterest::default()).unwrap_or_default();
        for topic in value["topics"].as_array_mut().into_iter().flatten() {
            leave_out(topic, &usual);
        }
        to_yaml(&value)
    }
}

/// Takes out of a map what a map of defaults says as well.
fn leave_out(value: &mut Value, usual: &Value) {
    let (Value::Object(map), Value::Object(usual)) = (value, usual) else { return };
    map.retain(|key, value| {
        let Some(usual) = usual.get(key) else { return true };
        leave_out(value, usual);
        let is_empty = value.as_object().is_some_and(Map::is_empty);
        value != usual && !(usual.is_object() && is_empty)
    });
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;

    fn parse(yaml: &str) -> GroupSpec {
        GroupSpec::parse(yaml, &BTreeMap::new()).unwrap()
    }

    const YAML: &str = "
        group: orders
        cluster: {bootstrapServers: 'kafka:9092'}
        topics: [{name: 'orders.*', sink: 'file:///out'}]
        consumer: {waitTime: 2s}";

    #[test]
    fn consumers_are_told_what_differs_from_the_defaults() {
        let text = parse(YAML).for_consumers();
        for line in ["group: orders", "bootstrapServers: ", "name: orders.*", "waitTime: 2s"] {
            assert!(text.contains(line), "{line} is missing in {text}");
        }
        for usual in ["lease", "batchBytes", "start", "capacity", "workers", "mode"] {
            assert!(!text.contains(usual), "{usual} is in {text}");
        }
        let told = parse(&text);
        assert_eq!(told.consumer.wait_time, Duration::from_secs(2));
        assert_eq!(told.ownership, parse(YAML).ownership);
    }

    #[test]
    fn what_is_not_their_business_changes_nothing() {
        let spec = parse(YAML);
        let mut other = spec.clone();
        other.capacity.bytes_per_second = std::num::NonZeroU64::MIN;
        other.consumers.max_surge = 7;
        other.paused = true;
        other.workers.kubernetes.image = "not used by this kind".to_owned();
        assert_eq!(spec.for_consumers(), other.for_consumers());
        other.topics[0].sink = "blackhole:".to_owned();
        assert_ne!(spec.for_consumers(), other.for_consumers());
    }

    #[test]
    fn an_image_and_a_template_are_their_business_on_kubernetes() {
        let mut spec = parse(YAML);
        spec.workers.kind = WorkerKind::Kubernetes;
        spec.workers.kubernetes.image = "tidegate:1".to_owned();
        let one = spec.for_consumers();
        spec.workers.kubernetes.template = serde_json::json!({ "spec": { "hostNetwork": true } });
        assert_ne!(one, spec.for_consumers());
        assert_eq!(parse(&spec.for_consumers()).workers, spec.workers);
    }
}
