//! The model as the checker sees it: initial states, actions, properties.

use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};

use stateright::{Model, Path, Property};
use tidegate_core::ledger::Record;

use crate::action::{Action, directory};
use crate::audit::{Promise, Reached};
use crate::scenario::{Begin, Scenario};
use crate::settings;
use crate::state::State;

/// Until two snapshots have been written, and the ledger was deleted below the first.
const SECONDS_TO_TRIM: usize = 60;

/// A configuration to be explored.
#[derive(Clone, Debug)]
pub struct World {
    scenario: Scenario,
    /// The only promise that is looked at; all of them without.
    only: Option<Promise>,
}

impl World {
    /// A world in which every promise is checked.
    pub const fn new(scenario: Scenario) -> Self {
        Self { scenario, only: None }
    }

    /// A world in which one promise is checked, and others may be broken on the way.
    #[must_use]
    pub fn only(self, promise: Promise) -> Self {
        Self { only: Some(promise), ..self }
    }

    /// Its configuration.
    pub const fn scenario(&self) -> &Scenario {
        &self.scenario
    }

    fn begin(&self) -> State {
        let scenario = &self.scenario;
        let mut state = State::new(scenario);
        for _ in 0..scenario.controllers {
            state.start_controller(scenario);
        }
        if scenario.begins != Begin::Empty {
            state.rest(scenario);
        }
        for number in 1..=scenario.consumers {
            state.start_consumer(settings::consumer_number(number), directory(number));
            if scenario.begins == Begin::Settled {
                // Consumer 1 is there alone when the first plan is made, and so gets everything.
                let well = state.recover(scenario);
                debug_assert_eq!(well, Ok(()), "a world without faults is well");
                state.rest(scenario);
            }
        }
        for _ in 0..SECONDS_TO_TRIM {
            if scenario.marks.is_some() && state.ledger.start() == 0 {
                state.rest(scenario);
            }
        }
        state.records = scenario.records;
        state.hurry(scenario);
        state.seal();
        state.audit.begin();
        state
    }

    /// Recovery takes long, so it is tried from some states; which ones depends on nothing but the state.
    fn recovers(&self, state: &State) -> bool {
        let mut hasher = DefaultHasher::new();
        state.hash(&mut hasher);
        let mut actions = Vec::new();
        let sampled = hasher.finish().is_multiple_of(self.scenario.recovery_every);
        if !sampled {
            state.possible(&self.scenario, &mut actions);
        }
        let due = sampled || actions.is_empty();
        !due || self.recovery(state).is_ok()
    }

    fn recovery(&self, state: &State) -> Result<(), String> {
        if state.audit.broken.is_some() {
            return Ok(());
        }
        state.clone().recover(&self.scenario)?;
        if state.late.is_empty() {
            return Ok(());
        }
        // What was given up may as well never arrive.
        let mut lossy = state.clone();
        lossy.late.clear();
        lossy.recover(&self.scenario)
    }

    /// What happens when faults stop here, and what is not well in the end.
    fn failed_recovery(&self, state: &State) -> String {
        let mut text = String::from("from here on nothing goes wrong any more:");
        let mut lossy = state.clone();
        lossy.late.clear();
        for mut end in [state.clone(), lossy] {
            let Err(what) = end.recover(&self.scenario) else { continue };
            for (at, entry) in end.ledger.from(state.ledger.end()) {
                if !matches!(entry.record, Record::Heartbeat { .. } | Record::Tick { .. }) {
                    let _infallible = write!(text, "\n        @{at} {:?}", entry.record);
                }
            }
            let _infallible = write!(text, "\n  => P5: {what}");
            break;
        }
        text
    }

    /// A path to a broken promise, as lines for a person.
    pub fn tell(&self, path: Path<State, Action>) -> String {
        let mut text = String::new();
        let steps = path.into_vec();
        for (index, (state, action)) in steps.iter().enumerate() {
            if let (Some(action), Some((after, _))) = (action, steps.get(index + 1)) {
                // Writing to a string cannot fail.
                let _infallible =
                    writeln!(text, "  {:>2}. {}", index + 1, state.describe(*action, after));
            }
        }
        if let Some((last, _)) = steps.last() {
            let what = match &last.audit.broken {
                Some(broken) => format!("{:?}: {}", broken.0, broken.1),
                None => self.failed_recovery(last),
            };
            let _infallible = writeln!(text, "  => {what}");
        }
        text
    }
}

impl Model for World {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![self.begin()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        state.possible(&self.scenario, actions);
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        next.happen(&self.scenario, action);
        if let Some(only) = self.only
            && !next.audit.is_broken(only)
        {
            next.audit.broken = None;
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let promises = Promise::ALL
            .into_iter()
            .filter(|promise| self.only.is_none_or(|only| only == *promise));
        let always = promises.map(|promise| Property::always(promise.name(), keeps(promise)));
        let sometimes =
            Reached::ALL.into_iter().map(|what| Property::sometimes(what.name(), reaches(what)));
        if self.only.is_some() { always.collect() } else { always.chain(sometimes).collect() }
    }
}

type Condition = fn(&World, &State) -> bool;

const fn keeps(promise: Promise) -> Condition {
    match promise {
        Promise::P1 => |_, state| !state.audit.is_broken(Promise::P1),
        Promise::P2 => |_, state| !state.audit.is_broken(Promise::P2),
        Promise::P3 => |_, state| !state.audit.is_broken(Promise::P3),
        Promise::P4 => |_, state| !state.audit.is_broken(Promise::P4),
        Promise::P5 => World::recovers,
        Promise::K1 => |_, state| !state.audit.is_broken(Promise::K1),
    }
}

const fn reaches(what: Reached) -> Condition {
    match what {
        Reached::HandOff => |_, state| state.audit.has_reached(Reached::HandOff),
        Reached::Fence => |_, state| state.audit.has_reached(Reached::Fence),
        Reached::TakeOver => |_, state| state.audit.has_reached(Reached::TakeOver),
        Reached::Proof => |_, state| state.audit.has_reached(Reached::Proof),
        Reached::Waiting => |_, state| state.audit.has_reached(Reached::Waiting),
        Reached::GrantTwice => |_, state| state.audit.has_reached(Reached::GrantTwice),
        Reached::Renewal => |_, state| state.audit.has_reached(Reached::Renewal),
        Reached::HeirOfSnapshot => |_, state| state.audit.has_reached(Reached::HeirOfSnapshot),
    }
}
