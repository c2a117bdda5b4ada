//! What follows from another specification while the group runs: other settings, other topics, and other workers.

use std::collections::BTreeSet;
use std::sync::Arc;

use tidegate_core::controller::Input;
use tidegate_core::ids::TopicId;
use tidegate_core::rollout::Note;

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
        if !self.core.is_leading() {
            return;
        }
        let (now, config) = (self.clock.now(), self.shared_config());
        let next = self.rolling.look(now, &self.core, &config, &self.catalog, &mut self.workers);
        self.inputs.extend(next.inputs);
        if let Some(wish) = next.wish {
            self.wish(wish);
        }
        for note in &next.notes {
            tell(note);
        }
    }
}

fn tell(note: &Note) {
    match note {
        Note::Begun(revision, count) => {
            tracing::info!(revision, consumers = count, "consumers are to be updated");
        }
        Note::Updated(consumer, took) => {
            tracing::info!(%consumer, elapsed_ms = took.as_millis(), "a consumer was updated");
        }
        Note::Refused(revision, why) => {
            tracing::error!(revision, "an update is taken back: {why}");
        }
        Note::Done(revision) => tracing::info!(revision, "all consumers run the same"),
    }
}
