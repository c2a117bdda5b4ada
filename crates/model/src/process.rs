//! A process: the production state machine, and the few lines of its shell that the protocol depends on.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use tidegate_core::consumer::{AppendId, Consumer};
use tidegate_core::controller::{Controller, Role};
use tidegate_core::ids::{
    ConsumerNumber, DirectoryId, Epoch, Generation, Incarnation, Instant, Offset, PartitionId,
    ProcessId,
};
use tidegate_core::ledger::{Command, Entry, Fold};

/// What a process is. One that has ended is gone; what it had sent may still arrive.
#[derive(Clone, Debug, Hash)]
pub(crate) enum Machine {
    Controller(Box<ControllerShell>),
    Consumer(Box<ConsumerShell>),
    Gone,
}

/// The shell of a controller.
#[derive(Clone, Debug)]
pub(crate) struct ControllerShell {
    pub(crate) controller: Controller,
    /// When it started.
    pub(crate) start: Instant,
    /// The first offset that was left when it began to read the ledger.
    pub(crate) opened: u64,
    /// Under what offset a grant of a partition was last acknowledged: nothing may depend on it but a planted defect.
    pub(crate) acknowledged: BTreeMap<PartitionId, u64>,
}

impl Hash for ControllerShell {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.controller, self.start, self.opened).hash(state);
        self.acknowledged.hash(state);
    }
}

/// The shell of a consumer.
#[derive(Clone, Debug, Hash)]
pub(crate) struct ConsumerShell {
    pub(crate) number: ConsumerNumber,
    pub(crate) directory: DirectoryId,
    pub(crate) consumer: Consumer,
    /// Its command partition is being read.
    pub(crate) listening: bool,
    pub(crate) lanes: BTreeMap<PartitionId, Lane>,
    pub(crate) writes: u64,
}

/// A partition between its log and the sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Lane {
    pub(crate) epoch: Epoch,
    /// Where the sink stands, as far as this process knows.
    pub(crate) stands: u64,
    pub(crate) reads: bool,
    pub(crate) announced: bool,
    /// The write in flight that it waits for.
    pub(crate) writing: Option<u64>,
}

/// Where a record goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Payload {
    Ledger(Arc<Entry>),
    Command(ConsumerNumber, Arc<Command>),
}

/// An append on its way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Request {
    pub(crate) from: usize,
    pub(crate) payload: Payload,
    /// Whom to tell, if anybody still waits.
    pub(crate) id: Option<AppendId>,
}

/// What somebody owns, by the ledger or by its own belief.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Claim {
    pub(crate) generation: Generation,
    pub(crate) partition: PartitionId,
    pub(crate) epoch: Epoch,
    pub(crate) incarnation: Incarnation,
}

/// A process with its links.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Process {
    pub(crate) id: ProcessId,
    pub(crate) machine: Machine,
    /// It reads nothing any more.
    pub(crate) deaf: bool,
    /// Nothing that it sends arrives any more.
    pub(crate) mute: bool,
    /// How far its clock has run ahead of the others'.
    pub(crate) ahead: Duration,
    /// When it last looked at what time alone brings.
    pub(crate) looked: Option<Instant>,
    /// It has read what the log has lost, and will be told so.
    pub(crate) lost: bool,
    /// The next record that it reads.
    pub(crate) cursor: u64,
    /// Appends in flight, in order.
    pub(crate) ledger: VecDeque<Request>,
    pub(crate) commands: VecDeque<Request>,
}

impl Process {
    pub(crate) fn new(id: ProcessId, machine: Machine) -> Self {
        Self {
            id,
            machine,
            deaf: false,
            mute: false,
            ahead: Duration::ZERO,
            looked: None,
            lost: false,
            cursor: 0,
            ledger: VecDeque::new(),
            commands: VecDeque::new(),
        }
    }

    pub(crate) fn is_gone(&self) -> bool {
        matches!(self.machine, Machine::Gone)
    }

    /// True when it can hear and be heard.
    pub(crate) fn is_reachable(&self) -> bool {
        !self.is_gone() && !self.deaf && !self.mute
    }

    pub(crate) fn consumer(&self) -> Option<&ConsumerShell> {
        match &self.machine {
            Machine::Consumer(shell) => Some(shell),
            Machine::Controller(_) | Machine::Gone => None,
        }
    }

    pub(crate) fn consumer_mut(&mut self) -> Option<&mut ConsumerShell> {
        match &mut self.machine {
            Machine::Consumer(shell) => Some(shell),
            Machine::Controller(_) | Machine::Gone => None,
        }
    }

    pub(crate) fn controller(&self) -> Option<&Controller> {
        match &self.machine {
            Machine::Controller(shell) => Some(&shell.controller),
            Machine::Consumer(_) | Machine::Gone => None,
        }
    }

    /// The fold of a controller, unless that is about to begin anew or has not found where yet.
    pub(crate) fn fold(&self) -> Option<&Fold> {
        let fold = self.controller().map(Controller::fold)?;
        (!self.lost && fold.position() == Offset(self.cursor)).then_some(fold)
    }

    pub(crate) fn leads(&self) -> bool {
        self.controller().is_some_and(|at| matches!(at.role(), Role::Leading { .. }))
    }

    /// What it believes that it owns: under a live lease only.
    pub(crate) fn claims(&self, now: Instant) -> Vec<Claim> {
        let now = now.after(self.ahead);
        let Some(shell) = self.consumer() else { return Vec::new() };
        let living = shell.consumer.generation().zip(shell.consumer.incarnation(now));
        let Some((generation, incarnation)) = living else { return Vec::new() };
        let claim = |(partition, epoch, _)| Claim { generation, partition, epoch, incarnation };
        shell.consumer.holdings().map(claim).collect()
    }
}
