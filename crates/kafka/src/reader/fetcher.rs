//! Fetches from one broker, on a connection of its own: the next fetch is on its way while an answer is decoded.
//!
//! ```text
//!                 ┌── patient: the session, held back until there are records ──┐
//!  board ──asks──►│                                                             ├──► deliver ──► the caller
//!                 └── hasty: what came since it was sent, answered at once ─────┘
//! ```
//!
//! A broker answers the requests of one connection in order, so a fetch that it holds back holds up whatever was sent
//! after it. What came meanwhile is asked for on a second connection.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::{FetchRequest, FetchResponse};
use tidegate_core::ids::{PartitionId, TopicId};
use tidegate_runtime::ports::{Class, Error, TopicPartition};
use tidegate_runtime::task::{Task, TaskError, spawn_named};
use tokio::sync::watch;
use tokio::time::Instant;

use super::budget::Budget;
use super::entry::Ask;
use super::parcel::{self, Segment};
use super::session::{self, Limits, Session};
use super::{Shared, Unread, Why};
use crate::backoff::Backoff;
use crate::connection::Connection;
use crate::errors::{self, Right, refused};
use crate::metadata::FETCH_BY_ID;
use crate::records::{self, Aborted, Garbled};

/// Bytes of one partition in an answer, if there are others that might not have their turn else.
const PARTITION_BYTES: usize = 1 << 20;

/// How long an answer may take beyond the time that it may be held back. A slow link has to carry a whole one.
const OVERDUE: Duration = Duration::from_secs(10);

/// Why a connection is left.
enum End {
    /// For another one.
    Spent,
    Failed(Error),
    Unread,
}

impl From<Unread> for End {
    fn from(_: Unread) -> Self {
        Self::Unread
    }
}

/// A fetch under way.
type Flight<T> = Task<Result<T, Error>>;

/// What a hasty one comes back with: its answer, what that is an answer to, and the connection.
type Found = (FetchResponse, BTreeMap<PartitionId, Ask>, Arc<Connection>);

/// The fetcher of one broker, while it has a connection.
struct Fetcher<'a> {
    shared: &'a Shared,
    broker: i32,
    patient: Arc<Connection>,
    session: Session,
    changes: watch::Receiver<u64>,
    /// What is to be asked for.
    wanted: BTreeMap<PartitionId, Ask>,
    /// What the patient fetch that is under way does not ask for, and a hasty one has not.
    newcomers: BTreeSet<PartitionId>,
    /// For fetches that are answered at once, once one was made.
    second: Option<Arc<Connection>>,
    brokers: usize,
    /// The broker wants no request before this moment.
    throttled: Option<Instant>,
}

/// Runs until nobody reads any more.
pub(super) async fn run(shared: Arc<Shared>, broker: i32) {
    let mut backoff = Backoff::default();
    loop {
        match serve(&shared, broker, &mut backoff).await {
            End::Unread => return,
            End::Spent => {}
            End::Failed(error) => {
                tracing::debug!(broker, %error, "fetching goes on after a pause");
                for (partition, generation) in shared.board.lose_all(broker) {
                    shared.cluster.forget(&partition.topic);
                    if error.class() == Class::Permanent {
                        let why = Why::Failed(errors::again(&error));
                        if shared.finish(partition.id, generation, why).await.is_err() {
                            return;
                        }
                    }
                }
                tokio::time::sleep(backoff.failed()).await;
            }
        }
    }
}

/// Connects once there is something to fetch, and fetches.
async fn serve(shared: &Shared, broker: i32, backoff: &mut Backoff) -> End {
    let mut changes = shared.board.watch(broker);
    while !shared.board.is_led_by(broker) {
        if changes.changed().await.is_err() {
            return End::Unread;
        }
    }
    let patient = match shared.cluster.dedicated(broker).await {
        Ok(connection) => Arc::new(connection),
        Err(error) => return End::Failed(error),
    };
    shared.board.look_at_all(broker);
    changes.mark_changed();
    let fetcher = Fetcher {
        shared,
        broker,
        patient,
        session: Session::default(),
        changes,
        wanted: BTreeMap::new(),
        newcomers: BTreeSet::new(),
        second: None,
        brokers: 1,
        throttled: None,
    };
    match fetcher.fetch(backoff).await {
        Ok(never) => match never {},
        Err(end) => end,
    }
}

impl Fetcher<'_> {
    async fn fetch(mut self, backoff: &mut Backoff) -> Result<std::convert::Infallible, End> {
        let (mut patient, mut hasty) = (None, None);
        loop {
            // Looked at once: what is not asked for now is so until there is leave again, whatever happens in between.
            let may_ask = self.may_ask();
            if patient.is_none() {
                if self.patient.is_spent() {
                    return Err(End::Spent);
                }
                if may_ask {
                    patient = self.ask_patiently()?;
                }
            }
            if patient.is_some() && hasty.is_none() && may_ask {
                hasty = self.ask_hastily();
            }
            // Cancel-safe: a fetch that is under way stays so, and the rest are conditions that are looked at again.
            tokio::select! {
                answer = landed(&mut patient) => {
                    let answer = answer.map_err(|error| End::Failed(passing(error)))?;
                    let segments = self.answered(answer).await?;
                    backoff.succeeded();
                    if self.may_ask() && !self.patient.is_spent() {
                        // The broker is at the next one while this is decoded.
                        patient = self.ask_patiently()?;
                    }
                    parcel::deliver(self.shared, segments).await?;
                }
                found = landed(&mut hasty) => match found {
                    Ok((answer, asked, connection)) => {
                        self.second = Some(connection);
                        let segments = self.take(answer, |id| asked.get(&id).copied()).await?;
                        let gave = segments.iter().map(|segment| segment.partition.id);
                        self.newcomers.extend(gave.filter(|id| !self.session.covers(*id)));
                        parcel::deliver(self.shared, segments).await?;
                    }
                    // The patient fetch that comes next asks for the same.
                    Err(error) => tracing::debug!(broker = self.broker, %error, "a first fetch failed"),
                },
                changed = self.changes.changed() => {
                    changed.map_err(|_| End::Unread)?;
                    self.refresh();
                }
                () = leave(&self.shared.budget, self.throttled), if !may_ask => {}
            }
        }
    }

    fn may_ask(&self) -> bool {
        let waited = self.throttled.is_none_or(|until| until <= Instant::now());
        waited && self.shared.budget.has_room()
    }

    /// Looks at the board for what is to be asked for.
    fn refresh(&mut self) {
        self.changes.mark_unchanged();
        let (asks, brokers) = self.shared.board.asks(self.broker);
        self.brokers = brokers;
        for (id, ask) in asks {
            self.want(id, ask);
        }
    }

    /// Notes what is to be asked for about a partition.
    fn want(&mut self, id: PartitionId, ask: Option<Ask>) {
        let Some(ask) = ask else {
            self.wanted.remove(&id);
            self.session.forget(id);
            self.newcomers.remove(&id);
            return;
        };
        if self.wanted.insert(id, ask) != Some(ask) {
            self.session.ask(id, ask);
            if !self.session.covers(id) {
                self.newcomers.insert(id);
            }
        }
    }

    /// Asks for all that is wanted, if that is anything.
    fn ask_patiently(&mut self) -> Result<Option<Flight<FetchResponse>>, End> {
        if self.changes.has_changed().unwrap_or(false) {
            self.refresh();
        }
        if self.session.is_empty() {
            return Ok(None);
        }
        self.newcomers.clear();
        let limits = self.limits(self.shared.options.fetch_wait);
        let request = self.session.request(limits);
        call(Arc::clone(&self.patient), request, limits).map(Some).map_err(End::Failed)
    }

    /// Asks for newcomers on a second connection. If that fails they wait for the next patient fetch.
    fn ask_hastily(&mut self) -> Option<Flight<Found>> {
        let newcomers = std::mem::take(&mut self.newcomers);
        let ask = |id| Some((id, *self.wanted.get(&id)?));
        let asked: BTreeMap<PartitionId, Ask> = newcomers.into_iter().filter_map(ask).collect();
        if asked.is_empty() {
            return None;
        }
        let limits = self.limits(Duration::ZERO);
        let request = session::lone(&asked, limits);
        let second = self.second.take().filter(|second| !second.is_spent());
        let (cluster, broker) = (Arc::clone(&self.shared.cluster), self.broker);
        let flight = spawn_named("kafka first fetch", async move {
            let connection = match second {
                Some(connection) => connection,
                None => Arc::new(cluster.dedicated(broker).await?),
            };
            let answer = call(Arc::clone(&connection), request, limits)?.await;
            Ok((answer.unwrap_or_else(cut_off)?, asked, connection))
        });
        Some(flight)
    }

    fn limits(&self, wait: Duration) -> Limits {
        let bytes = self.shared.budget.fetch_bytes(self.brokers);
        let number = |bytes: usize| i32::try_from(bytes).unwrap_or(i32::MAX);
        Limits {
            wait_ms: i32::try_from(wait.as_millis()).unwrap_or(i32::MAX),
            bytes: number(bytes),
            partition_bytes: number(
                bytes.min(PARTITION_BYTES.max(bytes / self.wanted.len().max(1))),
            ),
        }
    }

    /// Takes in the answer to a patient fetch.
    async fn answered(&mut self, answer: FetchResponse) -> Result<Vec<Segment>, End> {
        if let Some(code) = ResponseError::try_from_code(answer.error_code) {
            use ResponseError as E;
            self.session.reset();
            return match code {
                E::FetchSessionIdNotFound
                | E::InvalidFetchSessionEpoch
                | E::FetchSessionTopicIdError => Ok(Vec::new()),
                _ => {
                    let text = format!("broker {} refused a fetch", self.broker);
                    Err(End::Failed(Error::new(errors::class_of(code), text).because(code)))
                }
            };
        }
        self.session.answered(answer.session_id);
        let asked: BTreeMap<PartitionId, Ask> =
            ids(&answer).filter_map(|id| Some((id, *self.session.asked(id)?))).collect();
        let segments = self.take(answer, |id| asked.get(&id).copied()).await?;
        if let Some(last) = segments.last() {
            self.session.gave(last.partition.id);
        }
        Ok(segments)
    }

    /// Notes what an answer says of each partition, and returns the records.
    async fn take(
        &mut self,
        answer: FetchResponse,
        asked: impl Fn(PartitionId) -> Option<Ask>,
    ) -> Result<Vec<Segment>, End> {
        let throttle = Duration::from_millis(u64::try_from(answer.throttle_time_ms).unwrap_or(0));
        if !throttle.is_zero() {
            self.throttled = self.throttled.max(Some(Instant::now() + throttle));
        }
        let mut segments = Vec::new();
        for topic in answer.responses {
            let topic_id = TopicId(topic.topic_id.into_bytes());
            for part in topic.partitions {
                let Ok(number) = u32::try_from(part.partition_index) else { continue };
                let id = PartitionId { topic: topic_id, number };
                let Some(asked) = asked(id) else { continue };
                match self.trouble(id, &asked, &part) {
                    None => segments.extend(self.segment(id, &asked, part)),
                    Some(Trouble::Lost) => self.shared.board.lose(id, &asked),
                    Some(Trouble::Outside) => self.shared.board.doubt(id, &asked),
                    Some(Trouble::Corrupt(partition)) => {
                        let cause = Garbled("the broker says that it is corrupt".to_owned());
                        let at = (&partition, asked.generation, asked.next);
                        parcel::report(self.shared, at, cause).await?;
                    }
                    Some(Trouble::Failed(error)) => {
                        self.shared.finish(id, asked.generation, Why::Failed(error)).await?;
                    }
                }
            }
        }
        Ok(segments)
    }

    fn segment(&mut self, id: PartitionId, asked: &Ask, part: PartitionData) -> Option<Segment> {
        let bytes = part.records.unwrap_or_default();
        let to = records::look(&bytes, asked.next);
        let end = u64::try_from(part.last_stable_offset);
        let end = end.or_else(|_| u64::try_from(part.high_watermark)).ok();
        let Some((ask, partition)) = self.shared.board.advance(id, asked, to, end) else {
            // Another fetch was first: what is wanted may be old.
            let ask = self.shared.board.ask(self.broker, id);
            self.want(id, ask);
            return None;
        };
        if bytes.is_empty() {
            return None;
        }
        if let Some(wanted) = self.wanted.get_mut(&id) {
            *wanted = ask;
            self.session.ask(id, ask);
        }
        let aborted = part.aborted_transactions.unwrap_or_default();
        let aborted = aborted.into_iter().map(|one| (one.producer_id.0, one.first_offset));
        let aborted = Aborted::new(aborted);
        Some(Segment { partition, generation: asked.generation, from: asked.next, bytes, aborted })
    }

    /// What is wrong with a partition by the answer.
    fn trouble(&self, id: PartitionId, asked: &Ask, part: &PartitionData) -> Option<Trouble> {
        let Some(code) = ResponseError::try_from_code(part.error_code) else {
            let diverging = &part.diverging_epoch;
            if diverging.epoch >= 0 || diverging.end_offset >= 0 {
                return Some(Trouble::Failed(self.truncated(id, asked)));
            }
            // Some brokers name another replica to read from, and give nothing. Whoever is nearest is not asked here.
            let elsewhere = part.preferred_read_replica.0 >= 0;
            let nothing = part.records.as_ref().is_none_or(bytes::Bytes::is_empty);
            return (elsewhere && nothing).then_some(Trouble::Lost);
        };
        let partition = self.shared.board.partition(id)?;
        match code {
            ResponseError::OffsetOutOfRange => return Some(Trouble::Outside),
            ResponseError::CorruptMessage => return Some(Trouble::Corrupt(partition)),
            _ => {}
        }
        let topic = partition.topic;
        if errors::is_stale_metadata(code) || errors::class_of(code) == Class::Transient {
            self.shared.cluster.forget(&topic);
            return Some(Trouble::Lost);
        }
        let doing = format!("failed to read partition {topic}-{}", id.number);
        Some(Trouble::Failed(refused(doing, Right::topic("Read", &topic), code, None)))
    }

    fn truncated(&self, id: PartitionId, asked: &Ask) -> Error {
        let topic = self.shared.board.partition(id).map_or_else(String::new, |found| found.topic);
        let text = format!(
            "partition {topic}-{} has lost its end and grown again: what was read below offset {} is not in it any more, \
             and what came in its place was not read",
            id.number, asked.next
        );
        Error::new(Class::Permanent, text)
    }
}

/// What is wrong with a partition.
enum Trouble {
    /// Somebody else leads it, or the broker cannot serve it at the moment.
    Lost,
    /// The position is not in the log.
    Outside,
    /// What stands at the position cannot be read.
    Corrupt(TopicPartition),
    Failed(Error),
}

fn ids(answer: &FetchResponse) -> impl Iterator<Item = PartitionId> {
    answer.responses.iter().flat_map(|topic| {
        let id = TopicId(topic.topic_id.into_bytes());
        topic.partitions.iter().filter_map(move |part| {
            let number = u32::try_from(part.partition_index).ok()?;
            Some(PartitionId { topic: id, number })
        })
    })
}

/// Sends a fetch at once, and has its answer decoded elsewhere.
fn call(
    connection: Arc<Connection>,
    request: FetchRequest,
    limits: Limits,
) -> Result<Flight<FetchResponse>, Error> {
    let version = connection.version::<FetchRequest>(FETCH_BY_ID)?;
    if version < FETCH_BY_ID {
        let text = "the brokers are older than Apache Kafka 3.1 and fetch nothing by a topic's id";
        return Err(Error::new(Class::Permanent, text));
    }
    let patience = Duration::from_millis(u64::try_from(limits.wait_ms).unwrap_or(0)) + OVERDUE;
    Ok(spawn_named("kafka fetch", async move {
        let room = usize::try_from(limits.bytes).unwrap_or(0);
        connection.call_for(&request, version, patience, room).await
    }))
}

/// Waits until a broker may be asked.
async fn leave(budget: &Budget, throttled: Option<Instant>) {
    if let Some(until) = throttled {
        tokio::time::sleep_until(until).await;
    }
    budget.room().await;
}

fn cut_off<T>(cause: TaskError) -> Result<T, Error> {
    Err(Error::new(Class::Transient, "a fetch was cut off").because(cause))
}

/// What ends a connection that was good passes, whatever it is.
fn passing(error: Error) -> Error {
    if error.class() == Class::Transient {
        return error;
    }
    Error::new(Class::Transient, "a connection ended while records were fetched").because(error)
}

/// Waits for the answer of a fetch, which is no longer under way then; for ever if none is. Cancel-safe.
async fn landed<T>(flight: &mut Option<Flight<T>>) -> Result<T, Error> {
    let Some(task) = flight else { return std::future::pending().await };
    let landed = task.await.unwrap_or_else(cut_off);
    *flight = None;
    landed
}
