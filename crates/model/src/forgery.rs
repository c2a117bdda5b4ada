//! Records that no controller should append: with the authority of the term and a wrong idea of the fold.
//!
//! A production controller keeps the rules by itself, so that what it appends does not show whether the fold would keep
//! them without it. These records do.

use tidegate_core::ledger::{Entry, Evidence, Record, Seal};

use crate::process::{Payload, Request};
use crate::state::State;

impl State {
    /// A Grant of what is owned, as by a controller that believes it Free.
    pub(crate) fn forged_grant(&self) -> Option<Record> {
        let fold = self.audit.fold();
        let reign = fold.reign()?;
        let seal = Seal { term: reign.term, seq: reign.seq + 1 };
        let (partition, next) = fold
            .partitions()
            .find(|(_, at)| at.owner().is_some())
            .map(|(partition, at)| (partition, at.next().unwrap_or_default()))?;
        let owner = fold.consumer_of(partition)?;
        let mut lives = fold.lives().iter();
        let (incarnation, life) = lives.find(|(_, life)| life.consumer != owner)?;
        let partitions = vec![(partition, next)];
        Some(Record::Grant { seal, consumer: life.consumer, incarnation, partitions })
    }

    /// A fence of who has beaten since.
    pub(crate) fn forged_fence(&self) -> Option<Record> {
        let fold = self.audit.fold();
        let reign = fold.reign()?;
        let seal = Seal { term: reign.term, seq: reign.seq + 1 };
        let (incarnation, life) = fold.lives().iter().find(|(_, life)| life.beat > 0)?;
        let (beat, evidence) = (life.beat - 1, Evidence::Silence);
        Some(Record::Fenced { seal, incarnation, beat, evidence })
    }

    pub(crate) fn forge(&mut self, record: Option<Record>) {
        self.budget.forgeries -= 1;
        let forged = record.zip(self.audit.fold().generation());
        let Some((record, generation)) = forged else { return };
        let entry = Entry { generation, record };
        let payload = Payload::Ledger(entry.into());
        self.append(&Request { from: 0, payload, id: None });
    }
}
