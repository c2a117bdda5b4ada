//! The highest try of each process: a repeated or late `Elect` or `Hello` must not count again.

use alloc::collections::BTreeMap;

use crate::ids::{Offset, ProcessId};

/// How many processes are remembered. A record that is older than so many starts of processes and arrives after all
/// changes nothing that matters: an Elect of a process that is gone falls silent, a Hello of one is fenced.
const REMEMBERED: usize = 4096;

/// A try of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Attempt {
    /// Its number.
    pub number: u32,
    /// Where it stands in the ledger.
    pub at: Offset,
}

/// The highest tries, of the processes that tried last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Attempts {
    highest: BTreeMap<ProcessId, Attempt>,
}

impl Attempts {
    /// Takes a try up; false when the process has tried with this number or a higher one before.
    pub(super) fn take(&mut self, process: ProcessId, number: u32, at: Offset) -> bool {
        if number == 0 || self.highest.get(&process).is_some_and(|known| number <= known.number) {
            return false;
        }
        self.highest.insert(process, Attempt { number, at });
        if self.highest.len() > REMEMBERED {
            let oldest = self.highest.iter().min_by_key(|(_, attempt)| attempt.at);
            if let Some(process) = oldest.map(|(process, _)| *process) {
                self.highest.remove(&process);
            }
        }
        true
    }

    pub(super) fn len(&self) -> usize {
        self.highest.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (ProcessId, Attempt)> {
        self.highest.iter().map(|(process, attempt)| (*process, *attempt))
    }
}

impl FromIterator<(ProcessId, Attempt)> for Attempts {
    fn from_iter<I: IntoIterator<Item = (ProcessId, Attempt)>>(attempts: I) -> Self {
        Self { highest: attempts.into_iter().collect() }
    }
}
