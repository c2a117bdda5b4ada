//! What objects of a group are called, and the labels by which they are found.

use kube::ResourceExt;
use tidegate_core::ids::{ConsumerNumber, GroupName};

/// The label that tells a pod which consumer it is.
pub const CONSUMER_LABEL: &str = "tidegate.dev/consumer";

/// The label of the group.
pub(crate) const GROUP_LABEL: &str = "tidegate.dev/group";

/// Letters of a group in names: behind them stand a number that tells it from others, `-consumer-`, and a consumer's number. A StatefulSet may
/// have 52 in all: what Kubernetes adds to it has to be a label of 63.
const MOST: usize = 28;

/// Names of one group's objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    base: String,
}

impl Names {
    /// A group's name as Kubernetes takes it: as it is, where that is possible; otherwise what is possible of it, and a number that
    /// tells it from others of which the same is.
    pub fn new(group: &GroupName) -> Self {
        let allowed = |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' };
        let plain: String = group.0.to_lowercase().chars().map(allowed).take(MOST).collect();
        let plain = plain.trim_matches('-');
        let base = match plain {
            "" => format!("group-{:08x}", hash(&group.0)),
            plain if plain == group.0 => plain.to_owned(),
            plain => format!("{plain}-{:08x}", hash(&group.0)),
        };
        Self { base }
    }

    /// Of the group.
    pub fn group(&self) -> &str {
        &self.base
    }

    /// Of the group's disruption budget.
    pub(crate) fn budget(&self) -> String {
        format!("{}-consumers", self.base)
    }

    /// Of a consumer's Deployment or StatefulSet, and of its claim.
    pub fn consumer(&self, consumer: ConsumerNumber) -> String {
        format!("{}-consumer-{consumer}", self.base)
    }

    /// Finds everything of the group.
    pub(crate) fn selector(&self) -> String {
        format!("{GROUP_LABEL}={},{CONSUMER_LABEL}", self.base)
    }
}

/// The consumer that an object belongs to.
pub(crate) fn consumer_of(object: &impl ResourceExt) -> Option<ConsumerNumber> {
    ConsumerNumber::new(object.labels().get(CONSUMER_LABEL)?.parse().ok()?)
}

/// FNV-1a: the same for ever, unlike the standard library's.
fn hash(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(group: &str) -> String {
        Names::new(&GroupName(group.to_owned())).base
    }

    #[test]
    fn a_group_is_called_as_it_is_called_where_kubernetes_takes_that() {
        assert_eq!(base("orders-2"), "orders-2");
        assert_eq!(
            Names::new(&GroupName("orders".to_owned())).consumer(ConsumerNumber::FIRST),
            "orders-consumer-1"
        );
    }

    #[test]
    fn other_groups_have_names_that_are_allowed_and_their_own() {
        let names = ["Orders", "orders_", "orders.", "-", "ä", &"x".repeat(200), &"x".repeat(201)]
            .map(base);
        for name in &names {
            assert!(name.len() <= MOST + 9, "{name}");
            assert!(
                name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'),
                "{name}"
            );
            assert!(!name.starts_with('-') && !name.ends_with('-'), "{name}");
        }
        let distinct: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), names.len(), "{names:?}");
    }
}
