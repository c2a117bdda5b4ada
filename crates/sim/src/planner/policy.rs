//! Policies by name: who decides where partitions go in a simulation. A name stands for one of the twelve published algorithms, a preset
//! of the production packer, or one of Kafka's assignors.

use std::fmt;
use std::num::NonZeroU32;

use tidegate_core::pack::Preset;
use tidegate_core::pack::reference::Algorithm;

use super::kafka::Assignor;
use super::sizing::Tuning;
use crate::number::rounded;

/// Who decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// A published algorithm.
    Reference(Algorithm),
    /// The production packer.
    Packer(Tuning),
    /// Kafka's assignor over so many consumers.
    Kafka(Assignor, NonZeroU32),
}

/// A name that stands for no policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// Nothing is called so.
    #[error("unknown policy {name:?}, expected one of {}", known())]
    Unknown {
        /// As given.
        name: String,
    },
    /// What follows the name of a preset has no meaning.
    #[error(
        "policy {name:?}: expected {preset}:alpha=A with a number A between 0 and {MOST_ALPHA}"
    )]
    Option {
        /// As given.
        name: String,
        /// The preset's name.
        preset: &'static str,
    },
    /// The number of consumers is none.
    #[error("policy {name:?}: expected a number of consumers from 1 on at its end")]
    Consumers {
        /// As given.
        name: String,
    },
}

/// The price of a consumer is at most so many loads moved once: above that, no number makes a difference.
const MOST_ALPHA: u32 = 1000;

// === impl Policy ===

impl Policy {
    /// The published twelve, and the presets.
    pub fn usual() -> Vec<Self> {
        let twelve = Algorithm::ALL.into_iter().map(Self::Reference);
        let presets = Preset::ALL.into_iter().map(|preset| Self::Packer(Tuning::of(preset)));
        twelve.chain(presets).collect()
    }

    /// The policy of this name.
    pub fn parse(name: &str) -> Result<Self, PolicyError> {
        if let Some(algorithm) = Algorithm::ALL.into_iter().find(|known| known.name() == name) {
            return Ok(Self::Reference(algorithm));
        }
        let (word, option) = name.split_once(':').map_or((name, None), |(a, b)| (a, Some(b)));
        if let Some(preset) = Preset::parse(word) {
            return packer(name, preset, option);
        }
        for assignor in Assignor::ALL {
            let count =
                name.strip_prefix("kafka-").and_then(|rest| rest.strip_prefix(assignor.name()));
            if let Some(count) = count.and_then(|rest| rest.strip_prefix('-')) {
                let wrong = |_| PolicyError::Consumers { name: name.to_owned() };
                return count.parse().map(|count| Self::Kafka(assignor, count)).map_err(wrong);
            }
        }
        Err(PolicyError::Unknown { name: name.to_owned() })
    }

    /// The policies of a list with commas; one that is named twice is there once.
    pub fn parse_list(list: &str) -> Result<Vec<Self>, PolicyError> {
        let mut policies = Vec::new();
        for name in list.split(',') {
            let policy = Self::parse(name.trim())?;
            if !policies.contains(&policy) {
                policies.push(policy);
            }
        }
        Ok(policies)
    }
}

impl fmt::Display for Policy {
    /// Writes the name that [`Policy::parse`] reads.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reference(algorithm) => f.write_str(algorithm.name()),
            Self::Packer(Tuning { preset, alpha_permille: None }) => f.write_str(preset.name()),
            Self::Packer(Tuning { preset, alpha_permille: Some(permille) }) => {
                let alpha = f64::from(*permille) / 1000.0;
                write!(f, "{}:alpha={alpha}", preset.name())
            }
            Self::Kafka(assignor, consumers) => write!(f, "kafka-{}-{consumers}", assignor.name()),
        }
    }
}

fn packer(name: &str, preset: Preset, option: Option<&str>) -> Result<Policy, PolicyError> {
    let tuning = Tuning::of(preset);
    let Some(option) = option else { return Ok(Policy::Packer(tuning)) };
    let alpha = option.strip_prefix("alpha=").and_then(|text| text.parse::<f64>().ok());
    let alpha = alpha.filter(|alpha| (0.0..=f64::from(MOST_ALPHA)).contains(alpha));
    let permille = alpha.and_then(|alpha| u32::try_from(rounded(alpha * 1000.0)).ok());
    let wrong = || PolicyError::Option { name: name.to_owned(), preset: preset.name() };
    let alpha_permille = Some(permille.ok_or_else(wrong)?);
    Ok(Policy::Packer(Tuning { alpha_permille, ..tuning }))
}

fn known() -> String {
    let twelve = Algorithm::ALL.map(Algorithm::name).join(", ");
    let presets = Preset::ALL.map(Preset::name).join(", ");
    let assignors = Assignor::ALL.map(|known| format!("kafka-{}-K", known.name())).join(", ");
    format!("{twelve}, {presets} (these three also with :alpha=A), {assignors} (over K consumers)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_policy_is_found_by_the_name_that_it_shows() {
        let others = ["tight:alpha=2", "balanced:alpha=1.4", "kafka-range-3", "kafka-sticky-15"];
        let others = others.map(|name| Policy::parse(name).unwrap());
        for policy in Policy::usual().into_iter().chain(others) {
            assert_eq!(Policy::parse(&policy.to_string()), Ok(policy));
        }
    }

    #[test]
    fn an_unknown_name_lists_what_there_is() {
        assert_eq!(
            Policy::parse("bestfit").unwrap_err().to_string(),
            "unknown policy \"bestfit\", expected one of nf, nfd, ff, ffd, wf, wfd, bf, bfd, mwf, mbf, mwfp, mbfp, \
             calm, balanced, tight (these three also with :alpha=A), kafka-range-K, kafka-round-robin-K, \
             kafka-sticky-K (over K consumers)"
        );
    }

    #[test]
    fn options_and_counts_are_checked() {
        for wrong in ["tight:alpha=", "tight:alpha=-1", "calm:beta=1", "calm:", "calm:alpha=NaN"] {
            assert!(matches!(Policy::parse(wrong), Err(PolicyError::Option { .. })), "{wrong}");
        }
        for wrong in ["kafka-range-0", "kafka-sticky-", "kafka-round-robin-x"] {
            assert!(matches!(Policy::parse(wrong), Err(PolicyError::Consumers { .. })), "{wrong}");
        }
        for wrong in ["", "kafka-range", "mwf:alpha=1", "NF"] {
            assert!(matches!(Policy::parse(wrong), Err(PolicyError::Unknown { .. })), "{wrong}");
        }
    }

    #[test]
    fn a_list_has_each_policy_once() {
        assert_eq!(Policy::parse_list("mwf, tight,mwf").unwrap().len(), 2);
        assert!(Policy::parse_list("mwf,").is_err());
    }
}
