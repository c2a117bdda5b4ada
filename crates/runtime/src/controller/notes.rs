//! What the state machines tell, for the log.

use tidegate_core::controller::Note;
use tidegate_core::rollout;

use super::catalog::Catalog;

/// Logs a note.
pub(super) fn log(note: &Note, catalog: &Catalog) {
    match note {
        Note::Leading(true) => tracing::info!("this process is the controller"),
        Note::Leading(false) => tracing::warn!("another process is the controller"),
        Note::Ignored(at, reason) => {
            tracing::debug!(offset = at.0, ?reason, "a record of the ledger was ignored");
        }
        Note::Undecodable(at) => {
            tracing::warn!(offset = at.0, "a record of the ledger cannot be read");
        }
        Note::Joined(consumer, incarnation) => {
            tracing::info!(%consumer, %incarnation, "a consumer has joined");
        }
        Note::Waiting(consumer, incarnation) => {
            tracing::error!(%consumer, %incarnation, "two processes have one consumer number: the later one waits");
        }
        Note::Fencing(consumer, incarnation, evidence) => {
            tracing::warn!(%consumer, %incarnation, ?evidence, "a consumer is fenced");
        }
        Note::Decided(decision) => tracing::info!(
            trigger = decision.trigger.name(),
            moves = decision.moves.len(),
            consumers = decision.solution.report.consumers_after,
            cost_permille = decision.solution.report.r_score_permille,
            lower_bound = decision.solution.report.lower_bound.consumers(),
            "a decision was made"
        ),
        Note::PlanDone(at, took) => {
            tracing::info!(plan = at.0, elapsed_ms = took.as_millis(), "a plan is done");
        }
        Note::Late(consumer) => {
            tracing::warn!(%consumer, "a consumer did not come in time and is passed over");
        }
        Note::PlanInfeasible(error) => tracing::error!(%error, "no plan can be made"),
        Note::Moved { partition, from, to, planned, pause } => tracing::info!(
            partition = %catalog.partition(*partition),
            from = from.map(tracing::field::display),
            consumer = %to,
            planned,
            pause_ms = pause.map(|pause| pause.as_millis()),
            "a partition has a new owner"
        ),
        Note::Genesis(generation) => {
            tracing::info!(generation = generation.0, "the ledger is begun");
        }
        Note::TopicsGone(topics) => {
            for topic in topics {
                tracing::warn!(topic = catalog.name(*topic), id = %topic, "a topic does not exist any more: its partitions are taken from their consumers");
            }
        }
        Note::Snapshot(upto) => {
            tracing::debug!(offset = upto.0, "a snapshot of the ledger was read back");
        }
        Note::SnapshotDiffers(upto) => tracing::error!(
            offset = upto.0,
            "a snapshot of the ledger is not what this process has read: another version wrote it, or records were changed"
        ),
    }
}

/// Logs what a rollout tells.
pub(super) fn log_rollout(note: &rollout::Note) {
    match note {
        rollout::Note::Begun(revision, count) => {
            tracing::info!(revision, consumers = count, "consumers are to be updated");
        }
        rollout::Note::Updated(consumer, took) => {
            tracing::info!(%consumer, elapsed_ms = took.as_millis(), "a consumer was updated");
        }
        rollout::Note::Refused(revision, why) => {
            tracing::error!(revision, "an update is taken back: {why}");
        }
        rollout::Note::Done(revision) => tracing::info!(revision, "all consumers run the same"),
    }
}
