//! The controllers' way to the workers: an API that fails, that fails after it has done what it was asked, and that a
//! controller asks again until it works.

use std::time::Duration;

use tidegate_core::ids::ConsumerNumber;

use super::process::ProcessKey;
use super::{Event, World};

/// Time between two lists of all workers, and between two tries.
const LIST: Duration = Duration::from_secs(2);

impl World {
    /// A controller wants a worker to run, or to end.
    pub(super) fn wish(&mut self, key: ProcessKey, consumer: ConsumerNumber, runs: bool) {
        let what = if runs { "ensure" } else { "remove" };
        self.trace.note(self.now, format_args!("{key}"), format_args!("{what} c{consumer}"));
        let Some(shell) = self.controller_mut(key) else { return };
        shell.wishes.insert(consumer, runs);
        let latency = self.latency();
        self.queue.schedule(self.now.after(latency), Event::CallApi(key, consumer));
    }

    /// A call reaches the API.
    pub(super) fn call_api(&mut self, key: ProcessKey, consumer: ConsumerNumber) {
        let wish = self.controller_mut(key).and_then(|shell| shell.wishes.get(&consumer).copied());
        let Some(runs) = wish else { return };
        let down = self.now < self.weather.api_down_until;
        let fails = down || self.rng.chance(self.weather.api_failing);
        let carried_out = !fails || !down && self.rng.chance(500);
        if carried_out && runs {
            self.ensure(consumer);
        } else if carried_out {
            self.remove(consumer);
        }
        if fails {
            self.stats.api_failures += 1;
            let what = format_args!("the API fails for c{consumer}, carried out: {carried_out}");
            self.trace.note(self.now, format_args!("{key}"), what);
        } else if let Some(shell) = self.controller_mut(key) {
            shell.wishes.remove(&consumer);
        }
    }

    /// Every controller that reaches the API tries again what failed, and gets a list of the workers.
    pub(super) fn list_workers(&mut self) {
        self.queue.schedule(self.now.after(LIST), Event::ListWorkers);
        for key in self.controllers() {
            let stalled =
                self.processes.get(&key).is_none_or(|process| self.now < process.stalled_until);
            if stalled {
                continue;
            }
            let wishes = self.controller_mut(key).map(|shell| shell.wishes.clone());
            for consumer in wishes.unwrap_or_default().into_keys() {
                self.call_api(key, consumer);
            }
            let down = self.now < self.weather.api_down_until;
            if !down && !self.rng.chance(self.weather.api_failing) {
                for consumer in self.workers.keys().copied().collect::<Vec<_>>() {
                    self.tell_controller(key, consumer, true, None);
                }
            }
        }
    }
}
