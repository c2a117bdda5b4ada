//! Faults that tests switch on and off while the nodes run.
//!
//! Each file in the folder is one rule, a line `KIND TARGET VALUE`; deleting the file heals. A target that ends in `*`
//! stands for all that begin so. Files that begin with a dot are none: a rule is written aside and renamed.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tracing::warn;

/// What is wrong with a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NodeFault {
    None,
    /// It reaches nobody; its pods go on.
    Partition,
    /// It is off, and its pods with it.
    Crash,
}

/// What becomes of an image pull.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PullFault {
    Fail,
    Slow(Duration),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// Of a node.
    Node(NodeFault),
    /// Of an image, `REPOSITORY:TAG`.
    Pull(PullFault),
    /// Of a pod, `NAMESPACE/NAME`: its containers are created only so much later.
    Start(Duration),
    /// Of a claim, `NAMESPACE/NAME`: its volume cannot be mounted.
    Mount,
    /// Of a claim: it gets no volume.
    Provision,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    kind: Kind,
    target: String,
}

/// The folder of rules. It is read anew for each question, so that a rule holds from when it is written.
#[derive(Debug)]
pub(crate) struct Faults {
    folder: PathBuf,
}

// === impl Faults ===

impl Faults {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    pub(crate) fn node(&self, name: &str) -> NodeFault {
        let fault = self.find(name, |kind| match kind {
            Kind::Node(fault) => Some(*fault),
            _ => None,
        });
        fault.unwrap_or(NodeFault::None)
    }

    pub(crate) fn pull(&self, image: &str) -> Option<PullFault> {
        self.find(image, |kind| match kind {
            Kind::Pull(fault) => Some(*fault),
            _ => None,
        })
    }

    /// By how much the pod `NAMESPACE/NAME` starts later.
    pub(crate) fn start(&self, pod: &str) -> Duration {
        let delay = self.find(pod, |kind| match kind {
            Kind::Start(delay) => Some(*delay),
            _ => None,
        });
        delay.unwrap_or_default()
    }

    /// Whether the claim `NAMESPACE/NAME` cannot be mounted.
    pub(crate) fn mount(&self, claim: &str) -> bool {
        self.find(claim, |kind| (*kind == Kind::Mount).then_some(())).is_some()
    }

    /// Whether the claim `NAMESPACE/NAME` gets no volume.
    pub(crate) fn provision(&self, claim: &str) -> bool {
        self.find(claim, |kind| (*kind == Kind::Provision).then_some(())).is_some()
    }

    fn find<T>(&self, name: &str, pick: impl Fn(&Kind) -> Option<T>) -> Option<T> {
        let rules = self.rules();
        let mut matching = rules.iter().filter(|rule| covers(&rule.target, name));
        matching.find_map(|rule| pick(&rule.kind))
    }

    fn rules(&self) -> Vec<Rule> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let visible =
            entries.filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."));
        let mut paths: Vec<PathBuf> = visible.map(|entry| entry.path()).collect();
        paths.sort();
        let parsed = paths.iter().filter_map(|path| {
            // A rule may be deleted while the folder is read.
            let text = fs::read_to_string(path).ok()?;
            let rule = parse(&text);
            rule.inspect_err(|error| warn!("ignored the fault {}: {error:#}", path.display())).ok()
        });
        parsed.collect()
    }
}

fn covers(target: &str, name: &str) -> bool {
    target.strip_suffix('*').map_or(target == name, |prefix| name.starts_with(prefix))
}

fn parse(text: &str) -> Result<Rule> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let [kind, target, value] = words[..] else { bail!("expected KIND TARGET VALUE") };
    let kind = match (kind, value) {
        ("node", "crash") => Kind::Node(NodeFault::Crash),
        ("node", "partition") => Kind::Node(NodeFault::Partition),
        ("pull", "fail") => Kind::Pull(PullFault::Fail),
        ("pull", delay) => Kind::Pull(PullFault::Slow(seconds(delay)?)),
        ("start", delay) => Kind::Start(seconds(delay)?),
        ("mount", "fail") => Kind::Mount,
        ("provision", "fail") => Kind::Provision,
        _ => bail!("no such fault: {kind} {value}"),
    };
    Ok(Rule { kind, target: target.to_owned() })
}

fn seconds(text: &str) -> Result<Duration> {
    let number = text.strip_suffix('s').and_then(|number| number.parse().ok());
    let delay = number.and_then(|number| Duration::try_from_secs_f64(number).ok());
    delay.with_context(|| format!("{text} is no time: expected for instance 2.5s"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_by_kind_target_and_value() {
        let rule = |kind, target: &str| Rule { kind, target: target.to_owned() };
        let delay = Duration::from_millis(1500);
        let parsed = |text| parse(text).expect("the rule is well");
        assert_eq!(parsed("node pk-1 crash\n"), rule(Kind::Node(NodeFault::Crash), "pk-1"));
        assert_eq!(parsed("pull a/b:1 fail"), rule(Kind::Pull(PullFault::Fail), "a/b:1"));
        assert_eq!(parsed("pull a/* 1.5s"), rule(Kind::Pull(PullFault::Slow(delay)), "a/*"));
        assert_eq!(parsed("start shop/orders-* 1.5s"), rule(Kind::Start(delay), "shop/orders-*"));
        assert_eq!(parsed("mount shop/data fail"), rule(Kind::Mount, "shop/data"));
    }

    #[test]
    fn what_is_no_rule_is_an_error() {
        for text in ["", "node pk-1", "node pk-1 explode", "start a/b soon", "start a/b -1s"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_target_with_a_star_covers_all_that_begin_so() {
        assert!(covers("shop/*", "shop/orders-0"));
        assert!(covers("shop/orders-0", "shop/orders-0"));
        assert!(!covers("shop/orders", "shop/orders-0"));
        assert!(!covers("shop/*", "till/orders-0"));
    }
}
