//! What follows from another specification while the group runs: other settings, other topics, and other workers.

use std::collections::BTreeSet;
use std::sync::Arc;

use tidegate_core::controller::Input;
use tidegate_core::ids::TopicId;

use super::notes;
use super::shell::Shell;
use crate::settings;

impl Shell {
    /// Something else is in effect.
    pub(super) fn respecified(&mut self) {
        let config = self.shared_config();
        self.resettle();
        if self.is_leading() {
            self.grow_commands();
        }
        self.starts = self.starts.respecified(Arc::clone(&config));
        self.calls.push(Arc::clone(&self.starts).look());
        self.rolling.want(self.followed.live().spec(), &config);
        self.leave_topics();
    }

    /// The state machine works by what is in effect now.
    pub(super) fn resettle(&mut self) {
        let deposes = *self.deposes.borrow_and_update();
        let settings = settings::controller(self.config(), self.jitter, deposes, self.genesis);
        self.inputs.push_back(Input::Settings(Box::new(settings)));
    }

    /// True when every worker that may be given partitions of this topic knows where its records go. Before the workers are known, whose
    /// partitions were granted is.
    pub(super) fn is_read_by_all(&self, topic: TopicId, name: &str) -> bool {
        if self.are_workers_known {
            return self.rolling.is_read_by_all(name, self.config(), &self.workers);
        }
        self.core.fold().owners().any(|(partition, _)| partition.topic == topic)
    }

    /// Leaves topics that are of no interest any more, or that not everybody knows the sink of: an update may have been taken back.
    fn leave_topics(&mut self) {
        let is_unread = |(id, name): &(TopicId, &str)| {
            self.config().topic(name).is_none() || !self.is_read_by_all(*id, name)
        };
        let unread = self.catalog.iter().filter(is_unread).map(|(id, _)| id);
        let left: BTreeSet<TopicId> = unread.filter(|id| !self.unread.contains(id)).collect();
        if !left.is_empty() {
            self.unread.extend(&left);
            self.inputs.push_back(Input::TopicsLeft(left));
        }
    }

    /// Looks how far the workers are with what they should run.
    pub(super) fn roll(&mut self) {
        if !self.is_leading() {
            return;
        }
        self.leave_topics();
        let (now, config) = (self.clock.now(), self.shared_config());
        let next = self.rolling.look(now, &self.core, &config, &self.catalog, &mut self.workers);
        self.inputs.extend(next.steering.map(Input::Steering));
        if let Some(wish) = next.wish {
            self.wish(wish);
        }
        for note in &next.notes {
            notes::log_rollout(note);
        }
    }
}
