use alloc::string::ToString as _;
use alloc::vec;
use core::time::Duration;

use super::*;
use crate::ids::Offset;
use crate::samples::{consumer, partition};

const PATIENCE: Patience =
    Patience { step: Duration::from_secs(60), canary: Duration::from_secs(10) };

/// A group that does what it is told to, each thing within a second.
struct Group {
    now: Instant,
    rollout: Rollout,
    members: BTreeMap<ConsumerNumber, Member>,
    owners: BTreeMap<PartitionId, ConsumerNumber>,
    /// Consumers that run this do not become ready.
    broken: &'static str,
    /// Consumers that run this do not read what they are given.
    deaf: &'static str,
    /// Consumers that run this read and do not write.
    stuck: &'static str,
    /// One that does not become ready whatever it runs: its node is lost.
    lost: Option<ConsumerNumber>,
    drained: BTreeSet<ConsumerNumber>,
    is_behind: bool,
    paused: bool,
    hellos: u64,
    notes: Vec<Note>,
    /// The revisions that consumers were updated to, in order.
    updates: Vec<(u32, Revision)>,
}

impl Group {
    /// So many consumers that run `old`, with two partitions each, and are to run `new`.
    fn new(size: u32) -> Self {
        let mut group = Self {
            now: Instant::since_boot(Duration::from_secs(100)),
            rollout: Rollout::new(PATIENCE, "new".to_string(), None),
            members: BTreeMap::new(),
            owners: BTreeMap::new(),
            broken: "",
            deaf: "",
            stuck: "",
            lost: None,
            drained: BTreeSet::new(),
            is_behind: false,
            paused: false,
            hellos: 0,
            notes: Vec::new(),
            updates: Vec::new(),
        };
        for number in 1..=size {
            group.start(consumer(number), "old");
            for at in [number, number.saturating_add(100)] {
                group.owners.insert(partition(at), consumer(number));
            }
        }
        group
    }

    fn start(&mut self, number: ConsumerNumber, revision: &str) {
        self.hellos = self.hellos.saturating_add(1);
        let ready = revision != self.broken && self.lost != Some(number);
        let incarnation = ready.then_some(Incarnation(Offset(self.hellos)));
        let starts = self.members.get(&number).map_or(0, |before| before.starts);
        let member = Member {
            revision: revision.to_owned(),
            is_known: true,
            incarnation,
            ready,
            starts: starts.saturating_add(1),
            trouble: None,
        };
        self.members.insert(number, member);
    }

    fn owned(&self, number: ConsumerNumber) -> BTreeSet<PartitionId> {
        let owned = self.owners.iter().filter(|(_, owner)| **owner == number);
        owned.map(|(partition, _)| *partition).collect()
    }

    fn second(&mut self) {
        self.now = self.now.after(Duration::from_secs(1));
        let (now, owners, members) = (self.now, &self.owners, &self.members);
        let (deaf, stuck) = (self.deaf, self.stuck);
        let held = |number| {
            let runs = |what: &str| members.get(&number).is_some_and(|it| it.revision == what);
            let written = if runs(stuck) { 5 } else { now.since(Instant::default()).as_secs() };
            let held =
                Held { is_read: !runs(deaf), next: Some(Position(written)), lag: Some((9, now)) };
            let owned = owners.iter().filter(|(_, owner)| **owner == number);
            owned.map(|(partition, _)| (*partition, held)).collect()
        };
        let (is_behind, paused) = (self.is_behind, self.paused);
        let drained = &self.drained;
        let view = View { members, held: &held, drained, is_behind, paused };
        let wishes = self.rollout.look(self.now, &view);
        self.notes.extend(wishes.notes);
        assert!(
            wishes.update.is_none() || wishes.hold.is_some(),
            "a worker is held while it changes"
        );
        if let Some((number, revision)) = wishes.update {
            assert!(self.owned(number).is_empty(), "nothing is updated that has partitions");
            self.updates.push((number.get(), revision.clone()));
            self.start(number, &revision);
        }
        if let Some(left) = wishes.leave {
            let other = self.members.keys().find(|other| **other != left).copied();
            let other = other.unwrap_or(consumer(99));
            self.owners
                .values_mut()
                .filter(|owner| **owner == left)
                .for_each(|owner| *owner = other);
        }
        self.owners.extend(wishes.pins);
    }

    fn seconds(&mut self, count: u32) {
        (0..count).for_each(|_| self.second());
    }

    fn revisions(&self) -> Vec<&str> {
        self.members.values().map(|member| &*member.revision).collect()
    }
}

#[test]
fn consumers_are_updated_one_by_one_and_get_back_what_they_had() {
    let mut group = Group::new(3);
    let before = group.owners.clone();
    group.seconds(60);
    assert_eq!(group.revisions(), ["new"; 3]);
    assert_eq!(group.owners, before);
    let order: Vec<u32> = group.updates.iter().map(|(number, _)| *number).collect();
    assert_eq!(order, [1, 2, 3], "the first is the canary");
    assert_eq!(group.notes.first(), Some(&Note::Begun("new".to_string(), 3)));
    assert_eq!(group.notes.last(), Some(&Note::Done("new".to_string())));
    assert_eq!(group.rollout.progress(&group.members), None);
}

#[test]
fn others_wait_until_the_canary_has_settled_and_new_consumers_get_what_works() {
    let mut group = Group::new(2);
    group.seconds(10);
    assert_eq!(group.revisions(), ["new", "old"]);
    assert_eq!(group.rollout.for_new(), "old");
    let progress = group.rollout.progress(&group.members).expect("it is under way");
    assert_eq!((progress.updated, progress.all), (1, 2));
    assert_eq!(progress.step, Some((consumer(1), "settling")));
    group.seconds(5);
    assert_eq!(group.rollout.for_new(), "new");
}

#[test]
fn a_revision_that_does_not_become_ready_is_taken_back_and_stays_refused() {
    let mut group = Group::new(3);
    let before = group.owners.clone();
    group.broken = "new";
    group.seconds(200);
    assert_eq!(group.revisions(), ["old"; 3]);
    assert_eq!(group.owners, before);
    let updates = vec![(1, "new".to_string()), (1, "old".to_string())];
    assert_eq!(group.updates, updates, "nobody but the canary had it, and it is not tried again");
    let progress = group.rollout.progress(&group.members).expect("it is told");
    assert!(progress.refused.is_some_and(|why| why.contains("consumer 1 did not become ready")));
    group.rollout.want("newer", PATIENCE);
    group.seconds(60);
    assert_eq!(group.revisions(), ["newer"; 3]);
}

#[test]
fn a_consumer_that_fails_again_and_again_is_not_waited_for() {
    let mut group = Group::new(2);
    group.broken = "new";
    group.seconds(3);
    let canary = group.members.get_mut(&consumer(1)).expect("it is there");
    assert_eq!(canary.revision, "new");
    canary.trouble = Some("exit code 1".to_string());
    canary.starts = 5;
    group.seconds(1);
    assert!(
        matches!(group.notes.last(), Some(Note::Refused(_, why)) if why.contains("exit code 1"))
    );
    assert_eq!(group.revisions(), ["old", "old"]);
}

#[test]
fn a_canary_that_does_not_keep_up_is_taken_back() {
    let mut group = Group::new(2);
    group.seconds(8);
    group.is_behind = true;
    group.seconds(70);
    group.is_behind = false;
    group.seconds(20);
    assert!(matches!(group.notes.get(1), Some(Note::Refused(_, why)) if why.contains("behind")));
    assert_eq!(group.revisions(), ["old", "old"]);
}

#[test]
fn the_next_waits_while_partitions_are_behind_and_not_for_ever() {
    let mut group = Group::new(2);
    group.is_behind = true;
    group.seconds(290);
    assert_eq!(group.updates, []);
    // Perhaps it is this update that helps.
    group.seconds(20);
    assert_eq!(group.updates.len(), 1);
    group.is_behind = false;
    group.seconds(60);
    assert_eq!(group.revisions(), ["new", "new"]);
}

#[test]
fn a_pause_stops_the_clock() {
    let mut group = Group::new(2);
    group.broken = "new";
    group.seconds(10);
    group.paused = true;
    group.seconds(300);
    assert_eq!(group.revisions(), ["new", "old"]);
    group.paused = false;
    group.seconds(50);
    assert_eq!(group.revisions(), ["new", "old"]);
    group.seconds(20);
    assert_eq!(group.revisions(), ["old", "old"]);
}

#[test]
fn a_controller_that_begins_in_the_middle_goes_on_with_who_was_being_updated() {
    let mut group = Group::new(3);
    group.seconds(3);
    assert_eq!(group.revisions(), ["new", "old", "old"]);
    group.rollout = Rollout::new(PATIENCE, "new".to_string(), None);
    group.members.get_mut(&consumer(1)).expect("it is there").ready = false;
    group.seconds(1);
    let progress = group.rollout.progress(&group.members).expect("it is under way");
    assert_eq!(progress.step, Some((consumer(1), "updating")));
    group.members.get_mut(&consumer(1)).expect("it is there").ready = true;
    group.seconds(60);
    assert_eq!(group.revisions(), ["new"; 3]);
}

#[test]
fn what_another_process_has_refused_is_not_tried_again() {
    let mut group = Group::new(2);
    let by = |refused: &str| {
        let refused = Some((refused.to_string(), "it crashed".to_string()));
        Rollout::new(PATIENCE, "new".to_string(), refused)
    };
    group.rollout = by("new");
    group.seconds(60);
    assert_eq!(group.revisions(), ["old", "old"]);
    group.rollout = by("another");
    group.seconds(60);
    assert_eq!(group.revisions(), ["new", "new"]);
}

#[test]
fn a_controller_that_leads_again_does_not_count_the_time_in_which_it_did_not() {
    let mut group = Group::new(2);
    group.broken = "new";
    group.seconds(3);
    group.now = group.now.after(Duration::from_secs(300));
    group.rollout.resume();
    group.seconds(30);
    assert_eq!(group.revisions(), ["new", "old"]);
    assert!(!group.notes.iter().any(|note| matches!(note, Note::Refused(..))));
    group.seconds(40);
    assert_eq!(group.revisions(), ["old", "old"]);
}

#[test]
fn who_does_not_work_anyway_is_updated_first_after_the_canary() {
    let mut group = Group::new(3);
    group.members.get_mut(&consumer(3)).expect("it is there").ready = false;
    group.seconds(60);
    let order: Vec<u32> = group.updates.iter().map(|(number, _)| *number).collect();
    assert_eq!(order, [1, 3, 2]);
}

#[test]
fn a_consumer_that_is_scaled_in_meanwhile_is_not_waited_for() {
    let mut group = Group::new(3);
    group.seconds(1);
    group.members.remove(&consumer(1));
    group.seconds(60);
    assert_eq!(group.revisions(), ["new", "new"]);
}

#[test]
fn what_failed_before_an_update_is_not_held_against_it() {
    let mut group = Group::new(1);
    let failing = group.members.get_mut(&consumer(1)).expect("it is there");
    (failing.ready, failing.starts) = (false, 7);
    failing.trouble = Some("exit code 1".to_string());
    group.broken = "new";
    group.seconds(3);
    let canary = group.members.get_mut(&consumer(1)).expect("it is there");
    assert_eq!((&*canary.revision, canary.starts), ("new", 8));
    canary.trouble = Some("exit code 1".to_string());
    group.seconds(5);
    assert!(group.rollout.refused().is_none(), "it was started once since");
    // Its pod is another one, whose starts count from one.
    group.members.get_mut(&consumer(1)).expect("it is there").starts = 1;
    group.seconds(1);
    group.members.get_mut(&consumer(1)).expect("it is there").starts = 4;
    group.seconds(1);
    assert!(group.rollout.refused().is_some());
}

#[test]
fn a_canary_that_does_not_read_what_it_is_given_is_taken_back() {
    let mut group = Group::new(3);
    group.deaf = "new";
    group.seconds(100);
    assert!(group.rollout.refused().is_some_and(|why| why.contains("does not read")));
    assert_eq!(group.revisions(), ["old"; 3]);
    assert_eq!(group.updates.len(), 2, "nobody but the canary had it");
}

#[test]
fn a_canary_that_does_not_write_what_it_reads_is_taken_back() {
    let mut group = Group::new(3);
    group.stuck = "new";
    group.seconds(100);
    assert!(group.rollout.refused().is_some_and(|why| why.contains("does not write")));
    assert_eq!(group.revisions(), ["old"; 3]);
}

#[test]
fn what_works_is_gone_back_to_though_partitions_are_behind() {
    let mut group = Group::new(2);
    group.seconds(8);
    group.is_behind = true;
    group.seconds(200);
    assert_eq!(group.revisions(), ["old", "old"]);
}

#[test]
fn a_consumer_whose_worker_is_being_made_again_is_waited_for() {
    let mut group = Group::new(2);
    group.seconds(2);
    assert_eq!(group.revisions(), ["new", "old"]);
    let away = group.members.remove(&consumer(1)).expect("it is there");
    group.seconds(20);
    let progress = group.rollout.progress(&group.members).expect("it is under way");
    assert_eq!(progress.step, Some((consumer(1), "updating")));
    group.members.insert(consumer(1), away);
    group.seconds(60);
    assert_eq!(group.revisions(), ["new", "new"]);
}

#[test]
fn an_update_that_is_called_off_gives_the_partitions_back() {
    let mut group = Group::new(2);
    let before = group.owners.clone();
    group.second();
    assert_eq!(group.updates, [], "the canary is being left");
    group.rollout.want("old", PATIENCE);
    group.seconds(30);
    assert_eq!((group.revisions(), &group.updates), (vec!["old", "old"], &vec![]));
    assert_eq!(group.owners, before);
    // Called off once the worker was told, and before its pod was replaced.
    group.rollout.want("new", PATIENCE);
    group.seconds(2);
    let canary = group.members.get_mut(&consumer(1)).expect("it is there");
    assert_eq!(canary.revision, "new");
    let same_life = canary.incarnation;
    group.rollout.want("old", PATIENCE);
    group.second();
    group.members.get_mut(&consumer(1)).expect("it is there").incarnation = same_life;
    group.seconds(30);
    assert_eq!(group.revisions(), ["old", "old"]);
    assert_eq!(group.owners, before);
    assert_eq!(group.rollout.progress(&group.members), None);
}

#[test]
fn with_nothing_to_go_back_to_it_stops_and_says_why() {
    let mut group = Group::new(3);
    group.broken = "new";
    group.seconds(100);
    assert_eq!(group.revisions(), ["old"; 3]);
    // One lags behind, and cannot be started any more by anything.
    group.broken = "old";
    group.rollout.want("old", PATIENCE);
    for number in [1, 2] {
        group.start(consumer(number), "new");
    }
    group.seconds(150);
    assert_eq!(group.revisions(), ["old", "new", "old"]);
    assert!(group.rollout.refused().is_some_and(|why| why.contains("consumer 1")));
    group.broken = "";
    group.rollout.want("newer", PATIENCE);
    group.seconds(60);
    assert_eq!(group.revisions(), ["newer"; 3]);
}

#[test]
fn the_last_consumer_that_does_not_work_takes_all_of_them_back() {
    let mut group = Group::new(2);
    while group.revisions() != ["new", "new"] {
        group.second();
    }
    // Its worker is deleted by hand while it is being updated, and does not come back to life.
    group.broken = "new";
    group.start(consumer(2), "new");
    group.seconds(200);
    assert_eq!(group.revisions(), ["old", "old"]);
}

#[test]
fn a_fix_replaces_what_the_canary_runs_and_is_judged_by_itself() {
    let mut group = Group::new(3);
    let before = group.owners.clone();
    group.stuck = "new";
    group.seconds(10);
    assert_eq!(group.revisions(), ["new", "old", "old"]);
    group.rollout.want("fix", PATIENCE);
    group.seconds(100);
    assert_eq!(group.revisions(), ["fix"; 3]);
    assert_eq!(group.owners, before);
    assert!(!group.notes.iter().any(|note| matches!(note, Note::Refused(..))));
    let canary: Vec<_> = group.updates.iter().take(2).cloned().collect();
    assert_eq!(canary, [(1, "new".to_string()), (1, "fix".to_string())]);
}

#[test]
fn a_consumer_that_was_lost_before_is_not_held_against_a_revision() {
    let mut group = Group::new(3);
    group.lost = Some(consumer(2));
    group.members.get_mut(&consumer(2)).expect("it is there").ready = false;
    group.seconds(200);
    assert_eq!(group.revisions(), ["new"; 3]);
    assert_eq!(group.rollout.refused(), None);
}

#[test]
fn a_consumer_that_is_drained_while_it_is_updated_is_not_held_against_a_revision() {
    let mut group = Group::new(3);
    group.broken = "new";
    group.seconds(3);
    assert_eq!(group.revisions(), ["new", "old", "old"]);
    group.drained.insert(consumer(1));
    group.members.remove(&consumer(1));
    group.broken = "";
    group.seconds(100);
    assert_eq!(group.revisions(), ["new", "new"]);
    assert!(!group.notes.iter().any(|note| matches!(note, Note::Refused(..))));
}
