//! The ledger in the hands of an operator: read to its end, end a life in it, begin it anew.
//!
//! The state that is read is the same fold that controllers have. Whoever writes takes the controller's office for a
//! moment, by the same rules as any controller: the one in office stands again after it has heard nothing for a while.

use std::time::Duration;

use tidegate_core::ids::{
    ConsumerNumber, Generation, GroupName, Incarnation, Offset, ProcessId, Term,
};
use tidegate_core::ledger::{Entry, Evidence, Fold, Record, Replay, Seal};

use crate::codec;
use crate::ports::{Admin, AppendError, ControlLog, ControlReader, RawRecord, ReadError};
use crate::spec::Config;
use crate::topics;

/// Longest wait for one record that is known to be there.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// How often, and with which pauses, a deleted topic is looked for until it is gone and can be made anew.
const REMAKES: u32 = 100;
const REMAKE_PAUSE: Duration = Duration::from_millis(100);

/// Why something could not be done with a ledger.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It is another group's.
    #[error("the ledger belongs to another group")]
    Foreign,
    /// Nothing in it can be relied on.
    #[error(
        "the ledger is empty, or its beginning was deleted and no snapshot is left: start a controller, which begins a new generation"
    )]
    Unreadable,
    /// The consumer has no living incarnation.
    #[error("consumer {consumer} has no living incarnation")]
    NotLiving {
        /// Its number.
        consumer: ConsumerNumber,
    },
    /// It is alive.
    #[error("consumer {consumer} has beaten since: its process is alive")]
    Alive {
        /// Its number.
        consumer: ConsumerNumber,
    },
    /// The topic could not be made anew.
    #[error(
        "topic {topic} was deleted and somebody else has made it again: look at its settings with `tidegate topics describe`"
    )]
    NotRemade {
        /// Its name.
        topic: String,
    },
    /// A controller was quicker.
    #[error("a controller has taken the office back before the fence was written: try again")]
    Overtaken,
    /// A call to Kafka failed.
    #[error("a call to Kafka failed")]
    Kafka(#[from] crate::ports::Error),
    /// The ledger could not be read.
    #[error("the ledger cannot be read")]
    Read(#[from] ReadError),
    /// A record could not be written.
    #[error("a record of the ledger could not be written")]
    Append(#[from] AppendError),
    /// Nothing came for too long.
    #[error("no record of the ledger came within {READ_TIMEOUT:?}")]
    Late,
}

/// A reader of a ledger with the state as far as it has read.
#[derive(Debug)]
pub struct Ledger<'a> {
    log: &'a dyn ControlLog,
    reader: Box<dyn ControlReader>,
    replay: Option<Replay>,
    fold: Fold,
    position: Offset,
}

impl<'a> Ledger<'a> {
    /// Begins at the first record that is left.
    pub async fn open(log: &'a dyn ControlLog, group: &GroupName) -> Result<Self, Error> {
        let start = log.start(0).await?;
        Ok(Self {
            log,
            reader: log.read(0, start).await?,
            replay: Some(Replay::new(group.clone(), Offset(start))),
            fold: Fold::new(group.clone()),
            position: Offset(start),
        })
    }

    /// The state; `None` while it cannot be known.
    pub fn state(&self) -> Option<&Fold> {
        self.fold.generation().is_some().then_some(&self.fold)
    }

    /// Reads up to where the ledger ends now, and shows each record.
    pub async fn read_to_end(
        &mut self,
        mut show: impl FnMut(&RawRecord) + Send,
    ) -> Result<(), Error> {
        let end = Offset(self.log.end(0).await?);
        while self.position < end {
            let records = tokio::time::timeout(READ_TIMEOUT, self.reader.next()).await;
            for record in records.map_err(|_| Error::Late)?? {
                let at = Offset(record.offset);
                self.position = at.next();
                self.apply(at, codec::entry(&record).ok())?;
                show(&record);
            }
        }
        Ok(())
    }

    fn apply(&mut self, at: Offset, entry: Option<Entry>) -> Result<(), Error> {
        let records = match &mut self.replay {
            None => Vec::from([(at, entry)]),
            Some(replay) => {
                let begun = replay.take(at, entry.as_ref()).map_err(|_| Error::Foreign)?;
                let Some(beginning) = begun else { return Ok(()) };
                self.replay = None;
                self.fold = beginning.fold;
                beginning.records
            }
        };
        for (at, entry) in records {
            match entry {
                None => self.fold.skip(at),
                Some(entry) => {
                    if self.fold.apply(at, &entry)
                        == Err(tidegate_core::ledger::Ignored::ForeignGroup)
                    {
                        return Err(Error::Foreign);
                    }
                }
            }
        }
        Ok(())
    }

    /// Ends the life of a consumer whose process the operator knows to be dead; one that beats while it is watched is
    /// left alone. Returns the incarnation, and how many partitions it owned.
    pub async fn fence(
        &mut self,
        consumer: ConsumerNumber,
        process: ProcessId,
        watched: Duration,
    ) -> Result<(Incarnation, usize), Error> {
        self.read_to_end(|_| {}).await?;
        let generation = self.fold.generation().ok_or(Error::Unreadable)?;
        let incarnation =
            self.fold.lives().current(consumer).ok_or(Error::NotLiving { consumer })?;
        let beat = |fold: &Fold| fold.lives().get(incarnation).map(|life| life.beat);
        let before = beat(&self.fold);
        tokio::time::sleep(watched).await;
        self.read_to_end(|_| {}).await?;
        if beat(&self.fold).is_none() {
            return Err(Error::NotLiving { consumer });
        }
        if beat(&self.fold) != before {
            return Err(Error::Alive { consumer });
        }
        let owned = |fold: &Fold| {
            let own =
                |owner: Option<(_, Incarnation)>| owner.is_some_and(|(_, at)| at == incarnation);
            fold.partitions().filter(|(_, ownership)| own(ownership.owner())).count()
        };
        let held = owned(&self.fold);
        let elect = Entry { generation, record: Record::Elect { process, attempt: 1 } };
        let term = Term(Offset(self.log.append(0, codec::of_entry(&elect)).await?));
        let beat = self.fold.lives().get(incarnation).map_or(0, |life| life.beat);
        let seal = Seal { term, seq: 1 };
        let record = Record::Fenced { seal, incarnation, beat, evidence: Evidence::Death };
        self.log.append(0, codec::of_entry(&Entry { generation, record })).await?;
        self.read_to_end(|_| {}).await?;
        if self.fold.lives().get(incarnation).is_some() {
            return Err(Error::Overtaken);
        }
        Ok((incarnation, held))
    }
}

/// Deletes the ledger's topic, makes it anew as the specification wants it, and begins a generation in it that waits for
/// the leases of the old one.
pub async fn reset(
    admin: &dyn Admin,
    log: &dyn ControlLog,
    config: &Config,
    generation: Generation,
) -> Result<(), Error> {
    let name = config.control_topics.ledger();
    let wanted = topics::wanted(config, admin.brokers().await?);
    admin.delete(name).await?;
    for topic in wanted.iter().filter(|topic| topic.name == name) {
        let mut tries = 0;
        // The topic that is being deleted counts as existing until all brokers have forgotten it.
        while !admin.create(topic).await? {
            tries += 1;
            if tries > REMAKES {
                return Err(Error::NotRemade { topic: name.to_owned() });
            }
            tokio::time::sleep(REMAKE_PAUSE).await;
        }
    }
    let record = Record::Genesis { group: config.group.clone(), first: false };
    log.append(0, codec::of_entry(&Entry { generation, record })).await?;
    Ok(())
}
