//! What follows from another specification while the group runs: other settings, other topics, and other workers.

use std::collections::BTreeSet;
use std::sync::Arc;

use tidegate_core::controller::{Input, Role};
use tidegate_core::ids::TopicId;

use super::notes;
use super::shell::Shell;
use crate::settings;

impl Shell {
    /// Something else is in effect.
    pub(super) fn respecified(&mut self) {
        let config = self.shared_config();
        let settings = settings::controller(&config, self.jitter, self.genesis);
        self.inputs.push_back(Input::Settings(Box::new(settings)));
        let left: BTreeSet<TopicId> = self
            .catalog
            .iter()
            .filter(|(_, name)| config.topic(name).is_none())
            .map(|(id, _)| id)
            .collect();
        if !left.is_empty() {
            self.inputs.push_back(Input::TopicsLeft(left));
        }
        self.starts = self.starts.respecified(Arc::clone(&config));
        self.calls.push(Arc::clone(&self.starts).look());
        self.rolling.want(self.followed.live().spec(), &config);
    }

    /// Looks how far the workers are with what they should run.
    pub(super) fn roll(&mut self) {
        if !matches!(self.core.role(), Role::Leading { .. }) {
            return;
        }
        let (now, config) = (self.clock.now(), self.shared_config());
        let next = self.rolling.look(now, &self.core, &config, &self.catalog, &mut self.workers);
        self.inputs.extend(next.inputs);
        if let Some(wish) = next.wish {
            self.wish(wish);
        }
        for note in &next.notes {
            notes::log_rollout(note);
        }
    }
}
