//! The monitor: the production windows over what the logs say, and whom it tells.

use std::time::Duration;

use tidegate_core::controller::Input as ControllerInput;
use tidegate_core::rates::Round;

use super::process::Input;
use super::{Event, Mutant, World};

/// Time between two looks.
const SAMPLE: Duration = Duration::from_secs(1);

impl World {
    /// The monitor looks, and tells every controller. It runs on the first machine and has its clock.
    pub(super) fn sample(&mut self) {
        self.queue.schedule(self.now.after(SAMPLE), Event::Sample);
        if self.now < self.weather.monitor_down_until || self.now < self.weather.broker_down_until {
            return;
        }
        let now = self.machines.first().map(|machine| machine.clock(self.now)).unwrap_or_default();
        let mut round = self.data.round(now, self.weather.samples_missing, &mut self.rng);
        if self.scenario.mutant == Some(Mutant::HalfSizes) {
            halve(&mut round);
        }
        let reports = self.data.monitor.step(now, &round);
        for (topic, report) in reports {
            for key in self.controllers() {
                let input = ControllerInput::Rates(topic, report.clone());
                self.deliver(Duration::from_millis(20), key, Input::Controller(input));
            }
        }
    }
}

fn halve(round: &mut Round) {
    let topics = round.topics.values_mut();
    for sample in topics.flat_map(|topic| topic.partitions.values_mut()).flatten() {
        sample.size = sample.size.map(|size| size / 2);
    }
}
