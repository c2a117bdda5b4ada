//! What is read: each partition with its assignment, the position of the next fetch, and who leads it.
//!
//! Fetchers take from here what to ask for and note here how far they have come; each note says what it was based on, and one
//! that comes too late changes nothing. The lock guards lookups only: nothing waits while it is held.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tidegate_core::ids::{PartitionId, Position};
use tidegate_runtime::ports::{RecordBatch, TopicPartition};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::entry::{Ask, Entry, Generation, Stage};
use super::parcel::Tagged;

/// A partition, and what is to be found out about it.
#[derive(Clone, Debug)]
pub(super) struct Doubt {
    pub(super) partition: TopicPartition,
    pub(super) generation: Generation,
    pub(super) next: u64,
}

#[derive(Debug)]
pub(super) struct Board {
    state: Mutex<State>,
    /// Counts changes of what fetchers ask for, other than their own.
    changes: watch::Sender<u64>,
    /// There is something to find out.
    doubts: Notify,
}

#[derive(Debug, Default)]
struct State {
    entries: BTreeMap<PartitionId, Entry>,
    generations: u64,
    /// By broker, the partitions that its fetcher is to look at again, while it has one that fetches.
    stale: BTreeMap<i32, BTreeSet<PartitionId>>,
    /// Brokers that lead some of the partitions, as of the last look at leaders.
    brokers: BTreeSet<i32>,
}

impl Default for Board {
    fn default() -> Self {
        Self { state: Mutex::default(), changes: watch::Sender::new(0), doubts: Notify::new() }
    }
}

// === impl Board, for the caller ===

impl Board {
    /// Begins with a partition, or again at another position.
    pub(super) fn begin(&self, partition: &TopicPartition, from: Position) {
        let mut state = self.lock();
        state.generations += 1;
        let generation = Generation(state.generations);
        let entry = Entry::new(partition.clone(), generation, from);
        state.entries.insert(partition.id, entry);
        self.unsettled(state, [partition.id]);
    }

    /// Forgets a partition.
    pub(super) fn remove(&self, id: PartitionId) {
        let mut state = self.lock();
        state.entries.remove(&id);
        self.changed(state, [id]);
    }

    /// Returns false for a partition that is not read.
    pub(super) fn pause(&self, id: PartitionId, paused: bool) -> bool {
        let mut state = self.lock();
        let Some(entry) = state.entries.get_mut(&id) else { return false };
        entry.paused = paused;
        self.changed(state, [id]);
        true
    }

    /// True for a partition that is read and paused.
    pub(super) fn is_paused(&self, id: PartitionId) -> bool {
        self.lock().entries.get(&id).is_some_and(|entry| entry.paused)
    }

    /// What comes next of a partition: all of a batch, or what is behind that which has been taken. Behind a gap nothing is
    /// taken, and the gap is fetched again.
    pub(super) fn take(&self, tagged: Tagged) -> Option<RecordBatch> {
        let Tagged { generation, from, mut batch, .. } = tagged;
        let mut state = self.lock();
        let entry = state.current(batch.partition.id, generation)?;
        let given = entry.given;
        if batch.next.0 <= given {
            return None;
        }
        let is_gap = from > given;
        if !is_gap {
            entry.given = batch.next.0;
        }
        if is_gap || entry.next < entry.given {
            tracing::debug!(partition = %batch.partition, given, from, "a batch came out of turn");
            entry.again();
            self.changed(state, [batch.partition.id]);
        }
        if from < given {
            batch.records.retain(|record| record.offset >= given);
        }
        (!is_gap).then_some(batch)
    }

    /// What comes next of a partition is fetched again: what had come is dropped.
    pub(super) fn again(&self, id: PartitionId, generation: Generation) {
        let mut state = self.lock();
        let Some(entry) = state.current(id, generation) else { return };
        entry.again();
        self.changed(state, [id]);
    }

    /// Forgets a partition whose reading is over, if it is still this assignment.
    pub(super) fn end(&self, id: PartitionId, generation: Generation) -> Option<TopicPartition> {
        let mut state = self.lock();
        state.current(id, generation)?;
        let entry = state.entries.remove(&id)?;
        self.changed(state, [id]);
        Some(entry.partition)
    }

    /// Where a partition ends, as far as it is known.
    pub(super) fn end_of(&self, id: PartitionId) -> Option<u64> {
        let state = self.lock();
        let entry = state.entries.get(&id)?;
        // What was read is there, whatever was asked before it came.
        entry.end.map(|end| end.max(entry.given))
    }
}

// === impl Board, for fetchers ===

impl Board {
    /// A fetcher waits for something to do: it hears of changes, and need not look at any.
    pub(super) fn watch(&self, of: i32) -> watch::Receiver<u64> {
        self.lock().stale.remove(&of);
        self.changes.subscribe()
    }

    /// True if a broker leads anything that is read.
    pub(super) fn is_led_by(&self, broker: i32) -> bool {
        self.lock().brokers.contains(&broker)
    }

    /// A fetcher begins: it looks at everything once.
    pub(super) fn look_at_all(&self, of: i32) {
        let mut state = self.lock();
        let all = state.entries.keys().copied().collect();
        state.stale.insert(of, all);
    }

    /// What is to be asked of a broker about a partition.
    pub(super) fn ask(&self, of: i32, id: PartitionId) -> Option<Ask> {
        self.lock().entries.get(&id)?.ask(of)
    }

    /// The same of all partitions that have changed since the last time, and how many brokers are asked for something.
    pub(super) fn asks(&self, of: i32) -> (Vec<(PartitionId, Option<Ask>)>, usize) {
        let mut state = self.lock();
        let stale = state.stale.get_mut(&of).map(std::mem::take).unwrap_or_default();
        let ask = |id| (id, state.entries.get(&id).and_then(|entry| entry.ask(of)));
        (stale.into_iter().map(ask).collect(), state.brokers.len())
    }

    /// Notes an answer that is no error: where the partition ends and, if records came, where the next fetch begins. Returns what
    /// to ask for next, and the partition; nothing if this is not what comes next of it any more.
    pub(super) fn advance(
        &self,
        id: PartitionId,
        asked: &Ask,
        to: (u64, Option<i32>),
        end: Option<u64>,
    ) -> Option<(Ask, TopicPartition)> {
        let mut state = self.lock();
        let entry = state.asked(id, asked).filter(|entry| entry.next == asked.next)?;
        (entry.next, entry.last_epoch) = (to.0, to.1.unwrap_or(entry.last_epoch));
        entry.end = end.or(entry.end);
        entry.backoff.succeeded();
        let ask = Ask { next: entry.next, last_epoch: entry.last_epoch, ..*asked };
        Some((ask, entry.partition.clone()))
    }

    /// A partition by its id.
    pub(super) fn partition(&self, id: PartitionId) -> Option<TopicPartition> {
        self.lock().entries.get(&id).map(|entry| entry.partition.clone())
    }

    /// A batch at a position could not be decoded: it is fetched again after a pause. Returns how often in a row that was.
    pub(super) fn garbled(&self, id: PartitionId, generation: Generation, at: u64) -> Option<u32> {
        let mut state = self.lock();
        let entry = state.current(id, generation)?;
        (entry.next, entry.last_epoch) = (at, -1);
        entry.garbled += 1;
        let garbled = entry.garbled;
        entry.lose();
        self.unsettled(state, [id]);
        Some(garbled)
    }

    /// Batches of a partition were decoded.
    pub(super) fn sound(&self, id: PartitionId, generation: Generation) {
        if let Some(entry) = self.lock().current(id, generation) {
            entry.garbled = 0;
        }
    }

    /// Its leader did not answer for a partition: who leads it is found out again after a pause.
    pub(super) fn lose(&self, id: PartitionId, asked: &Ask) {
        let mut state = self.lock();
        let Some(entry) = state.asked(id, asked) else { return };
        entry.lose();
        self.unsettled(state, [id]);
    }

    /// A broker did not answer. Returns its partitions.
    pub(super) fn lose_all(&self, of: i32) -> Vec<(TopicPartition, Generation)> {
        let mut lost = Vec::new();
        let mut state = self.lock();
        state.brokers.remove(&of);
        for entry in state.entries.values_mut() {
            if matches!(entry.stage, Stage::Led { broker, .. } if broker == of) {
                entry.lose();
                lost.push((entry.partition.clone(), entry.generation));
            }
        }
        self.unsettled(state, lost.iter().map(|(partition, _)| partition.id));
        lost
    }

    /// The leader says that the position is not in its log.
    pub(super) fn doubt(&self, id: PartitionId, asked: &Ask) {
        let mut state = self.lock();
        let Some(entry) = state.asked(id, asked) else { return };
        entry.stage = Stage::Outside { due: Instant::now() };
        self.unsettled(state, [id]);
    }

    /// The caller is going to be told that reading is over. False if it is over already.
    pub(super) fn finish(&self, id: PartitionId, generation: Generation) -> bool {
        let mut state = self.lock();
        let entry = state.current(id, generation).filter(|entry| entry.stage != Stage::Over);
        let Some(entry) = entry else { return false };
        entry.stage = Stage::Over;
        self.changed(state, [id]);
        true
    }
}

// === impl Board, for the director ===

impl Board {
    /// Waits until there may be something to find out.
    pub(super) async fn doubted(&self) {
        self.doubts.notified().await;
    }

    /// When the next partition is due, if any is to be looked into.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let state = self.lock();
        let due = state.entries.values().filter_map(|entry| match entry.stage {
            Stage::Unled { due } | Stage::Outside { due } => Some(due),
            Stage::Led { .. } | Stage::Over => None,
        });
        due.min()
    }

    /// Partitions that nobody is asked for and that are due.
    pub(super) fn due(&self, now: Instant) -> Vec<Doubt> {
        self.doubts_of(|stage| match stage {
            Stage::Unled { due } | Stage::Outside { due } => due <= now,
            Stage::Led { .. } | Stage::Over => false,
        })
    }

    /// Partitions that have one.
    pub(super) fn led(&self) -> Vec<Doubt> {
        self.doubts_of(|stage| matches!(stage, Stage::Led { .. }))
    }

    /// Partitions that are said to be out of range and are due.
    pub(super) fn outside(&self, now: Instant) -> Vec<Doubt> {
        self.doubts_of(|stage| matches!(stage, Stage::Outside { due } if due <= now))
    }

    fn doubts_of(&self, which: impl Fn(Stage) -> bool) -> Vec<Doubt> {
        let state = self.lock();
        let entries = state.entries.values().filter(|entry| which(entry.stage));
        let doubt = |entry: &Entry| Doubt {
            partition: entry.partition.clone(),
            generation: entry.generation,
            next: entry.next,
        };
        entries.map(doubt).collect()
    }

    /// Notes who leads partitions. Changes nothing about those that are being looked into.
    pub(super) fn lead(&self, found: &[(&Doubt, (i32, i32))]) {
        let mut state = self.lock();
        let mut changed = Vec::new();
        for (of, (broker, epoch)) in found {
            let led = Stage::Led { broker: *broker, epoch: *epoch };
            let entry = state.current(of.partition.id, of.generation);
            let open = |entry: &&mut Entry| {
                matches!(entry.stage, Stage::Led { .. } | Stage::Unled { .. }) && entry.stage != led
            };
            if let Some(entry) = entry.filter(open) {
                entry.stage = led;
                changed.push(of.partition.id);
            }
        }
        let leader = |entry: &Entry| match entry.stage {
            Stage::Led { broker, .. } => Some(broker),
            _ => None,
        };
        let brokers = state.entries.values().filter_map(leader).collect();
        if state.brokers != brokers || !changed.is_empty() {
            state.brokers = brokers;
            self.changed(state, changed);
        }
    }

    /// A partition is in range after all: its leader had not caught up, or did not know the epoch.
    pub(super) fn inside(&self, of: &Doubt) {
        if let Some(entry) = self.lock().current(of.partition.id, of.generation) {
            entry.last_epoch = -1;
            entry.lose();
        }
    }

    /// It could not be found out: another try after a pause.
    pub(super) fn wait(&self, of: &Doubt) {
        if let Some(entry) = self.lock().current(of.partition.id, of.generation) {
            let due = Instant::now() + entry.pause();
            entry.stage = match entry.stage {
                Stage::Outside { .. } => Stage::Outside { due },
                Stage::Unled { .. } => Stage::Unled { due },
                // Whoever led it may do so still.
                stage @ (Stage::Led { .. } | Stage::Over) => stage,
            };
        }
    }

    /// Partitions whose end no fetch tells: those that are not fetched.
    pub(super) fn unfetched(&self) -> Vec<(String, u32)> {
        let state = self.lock();
        let unfetched = state.entries.values().filter(|entry| {
            entry.paused || entry.end.is_none() || !matches!(entry.stage, Stage::Led { .. })
        });
        unfetched.map(|entry| (entry.partition.topic.clone(), entry.partition.id.number)).collect()
    }

    /// Notes where partitions end.
    pub(super) fn note_ends(&self, found: &BTreeMap<(String, u32), u64>) {
        for entry in self.lock().entries.values_mut() {
            let at = (entry.partition.topic.clone(), entry.partition.id.number);
            entry.end = found.get(&at).copied().or(entry.end);
        }
    }
}

impl Board {
    /// Something else is to be asked for about partitions.
    fn changed(
        &self,
        mut state: MutexGuard<'_, State>,
        partitions: impl IntoIterator<Item = PartitionId>,
    ) {
        for id in partitions {
            for stale in state.stale.values_mut() {
                stale.insert(id);
            }
        }
        drop(state);
        self.changes.send_modify(|count| *count += 1);
    }

    /// There is something to find out about partitions, and less to ask for.
    fn unsettled(
        &self,
        state: MutexGuard<'_, State>,
        partitions: impl IntoIterator<Item = PartitionId>,
    ) {
        self.changed(state, partitions);
        self.doubts.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // An entry is changed as a whole: a panic elsewhere leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn current(&mut self, id: PartitionId, generation: Generation) -> Option<&mut Entry> {
        self.entries.get_mut(&id).filter(|entry| entry.generation == generation)
    }

    /// An entry that has been begun no second time since it was asked for, and whose leader is still the one that was asked.
    fn asked(&mut self, id: PartitionId, asked: &Ask) -> Option<&mut Entry> {
        let led = Stage::Led { broker: asked.leader, epoch: asked.leader_epoch };
        self.current(id, asked.generation).filter(|entry| entry.stage == led)
    }
}

#[cfg(test)]
mod tests {
    use tidegate_core::ids::TopicId;
    use tidegate_runtime::ports::Record;

    use super::*;

    const ID: PartitionId = PartitionId { topic: TopicId([1; 16]), number: 0 };

    fn partition() -> TopicPartition {
        TopicPartition { topic: "orders".to_owned(), id: ID }
    }

    /// A board that reads one partition from its beginning, led by a broker in an epoch.
    fn board(leader: (i32, i32)) -> Board {
        let board = Board::default();
        board.begin(&partition(), Position(0));
        lead(&board, leader);
        board
    }

    fn lead(board: &Board, leader: (i32, i32)) {
        let all = board.doubts_of(|_| true);
        board.lead(&[(&all[0], leader)]);
    }

    fn ask(board: &Board, of: i32) -> Option<Ask> {
        board.ask(of, ID)
    }

    fn tagged(offsets: std::ops::Range<u64>) -> Tagged {
        let record =
            |offset| Record { offset, timestamp_ms: 0, key: None, value: None, headers: vec![] };
        let (from, next) = (offsets.start, Position(offsets.end));
        let batch =
            RecordBatch { partition: partition(), records: offsets.map(record).collect(), next };
        Tagged { generation: Generation::FIRST, from, batch, bytes: 0 }
    }

    fn taken(board: &Board, offsets: std::ops::Range<u64>) -> Option<Vec<u64>> {
        let batch = board.take(tagged(offsets))?;
        Some(batch.records.iter().map(|record| record.offset).collect())
    }

    #[test]
    fn a_fetcher_hears_of_what_has_changed_since_it_looked() {
        let board = board((1, 5));
        let mut changes = board.watch(1);
        board.look_at_all(1);
        let looked = || board.asks(1).0.into_iter().map(|(id, ask)| (id, ask.is_some()));
        let look = || looked().collect::<Vec<_>>();
        assert_eq!((look(), look()), (vec![(ID, true)], vec![]));
        changes.mark_unchanged();
        board.pause(ID, true);
        assert!(changes.has_changed().unwrap());
        assert_eq!((look(), look()), (vec![(ID, false)], vec![]));
        board.pause(ID, false);
        lead(&board, (2, 6));
        assert_eq!(look(), [(ID, false)], "it is another's");
        lead(&board, (1, 7));
        board.remove(ID);
        assert_eq!(look(), [(ID, false)], "it is gone");
        board.begin(&partition(), Position(3));
        assert_eq!(look(), [(ID, false)], "nobody is known to lead it");
        board.watch(1);
        board.pause(ID, true);
        assert_eq!(look(), [], "it does not fetch");
        board.look_at_all(1);
        assert_eq!(look(), [(ID, false)]);
    }

    /// Two brokers that both moved it on would each ask for what the other had read, for ever.
    #[test]
    fn only_the_leader_that_was_asked_last_moves_a_position() {
        let board = board((1, 5));
        let old = ask(&board, 1).unwrap();
        lead(&board, (2, 6));
        assert_eq!(ask(&board, 1), None);
        assert!(board.advance(ID, &old, (10, None), None).is_none());
        board.lose(ID, &old);
        board.doubt(ID, &old);
        let new = ask(&board, 2).expect("its leader is as it was");
        let (next, _) = board.advance(ID, &new, (10, Some(6)), Some(30)).unwrap();
        assert_eq!((next.next, next.last_epoch), (10, 6));
        assert!(board.advance(ID, &new, (10, None), None).is_none(), "a second time");
    }

    #[test]
    fn what_was_passed_on_is_left_out_and_behind_a_gap_nothing_is_taken() {
        let board = board((1, 5));
        let asked = ask(&board, 1).unwrap();
        board.advance(ID, &asked, (20, None), None).unwrap();
        assert_eq!(taken(&board, 0..5), Some(vec![0, 1, 2, 3, 4]));
        assert_eq!(taken(&board, 3..5), None);
        assert_eq!(taken(&board, 3..7), Some(vec![5, 6]));
        assert_eq!(ask(&board, 1).unwrap().next, 20, "what is on its way is not fetched again");
        assert_eq!(taken(&board, 8..12), None);
        assert_eq!(ask(&board, 1).unwrap().next, 7, "the gap is");
        assert_eq!(taken(&board, 7..20), Some((7..20).collect()));
        assert_eq!(ask(&board, 1).unwrap().next, 20, "it has come by another way");
    }
}
