//! Three ways to weigh consumers against moves, for whoever does not want to tune numbers.

use super::problem::{Effort, Problem};

/// What a group is tuned for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Preset {
    /// Moves only what must move, and gives consumers up when that is easy.
    Calm,
    /// Looks for fewer consumers and fewer moves alike.
    #[default]
    Balanced,
    /// As few consumers as can be found, and then as few moves.
    Tight,
}

impl Preset {
    /// All, from the fewest moves to the fewest consumers.
    pub const ALL: [Self; 3] = [Self::Calm, Self::Balanced, Self::Tight];

    /// Its name in a specification.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::Balanced => "balanced",
            Self::Tight => "tight",
        }
    }

    /// The preset of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|preset| preset.name() == name)
    }

    /// The price of one consumer, in permille of one consumer's capacity moved once.
    pub const fn alpha_permille(self) -> u32 {
        match self {
            // With 1000 or more a group whose load falls evenly can always scale in.
            Self::Calm => 1500,
            Self::Balanced => 1800,
            Self::Tight => 8000,
        }
    }

    /// The search that it allows, with this many steps at most.
    pub const fn effort(self, steps: u64, seed: u64) -> Effort {
        match self {
            Self::Calm => Effort { steps: 0, seed, fewest: false },
            Self::Balanced => Effort { steps, seed, fewest: false },
            Self::Tight => Effort { steps, seed, fewest: true },
        }
    }

    /// Sets a problem's price and effort.
    pub const fn apply(self, problem: &mut Problem, steps: u64, seed: u64) {
        problem.alpha_permille = self.alpha_permille();
        problem.effort = self.effort(steps, seed);
    }
}
