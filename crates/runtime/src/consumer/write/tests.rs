use std::sync::Mutex;

use async_trait::async_trait;
use bytes::Bytes;
use prometheus_client::registry::Registry;
use tidegate_core::ids::{Epoch, Generation, Offset, PartitionId, Position, TopicId};

use super::*;
use crate::consumer::gather::Held;
use crate::ports::{Admin, BootClock, DeadLetters, Guarantee, TopicSpec, TopicState};
use crate::spec::{DeadLetterTarget, GroupSpec};

/// What happened, in order.
type Journal = Arc<Mutex<Vec<String>>>;

/// A sink that rejects the records at some offsets: all of a batch together, or one after the other.
#[derive(Debug)]
struct Picky {
    journal: Journal,
    poison: BTreeSet<u64>,
    at_a_time: usize,
}

#[async_trait]
impl Sink for Picky {
    fn guarantee(&self) -> Guarantee {
        Guarantee::AtLeastOnce
    }

    async fn write(
        &self,
        partition: &TopicPartition,
        _: FencingToken,
        batch: Batch<'_>,
    ) -> Result<(), SinkError> {
        let offsets: Vec<_> = batch.records.iter().map(|record| record.offset).collect();
        let poison = offsets.iter().filter(|at| self.poison.contains(at)).take(self.at_a_time);
        let records: Vec<_> =
            poison.map(|at| Rejection { offset: *at, reason: format!("bad {at}") }).collect();
        if records.is_empty() {
            let (from, to) = (batch.expected.0, batch.end.0);
            self.journal.lock().unwrap().push(format!("wrote {offsets:?} from {from} to {to}"));
            return Ok(());
        }
        Err(SinkError::Rejected { partition: partition.clone(), records })
    }
}

/// A sink that rejects what nobody gave it.
#[derive(Debug)]
struct Confused;

#[async_trait]
impl Sink for Confused {
    fn guarantee(&self) -> Guarantee {
        Guarantee::AtLeastOnce
    }

    async fn write(
        &self,
        partition: &TopicPartition,
        _: FencingToken,
        _: Batch<'_>,
    ) -> Result<(), SinkError> {
        let records = vec![Rejection { offset: 99, reason: String::new() }];
        Err(SinkError::Rejected { partition: partition.clone(), records })
    }
}

/// Dead letters that are noted, or fail, or never come to an end.
#[derive(Clone, Debug)]
struct Drawer {
    journal: Journal,
    fails: Option<Class>,
    hangs: bool,
}

#[async_trait]
impl DeadLetters for Drawer {
    async fn put(
        &self,
        partition: &TopicPartition,
        _: FencingToken,
        letters: &[DeadLetter<'_>],
    ) -> Result<(), Error> {
        if self.hangs {
            std::future::pending::<()>().await;
        }
        if let Some(class) = self.fails {
            return Err(Error::new(class, "the drawer is stuck"));
        }
        let letters: Vec<_> =
            letters.iter().map(|it| format!("{} ({})", it.record.offset, it.reason)).collect();
        let line = format!("put aside {letters:?} of {partition}");
        self.journal.lock().unwrap().push(line.replace('"', ""));
        Ok(())
    }
}

/// Nobody asks it.
#[derive(Debug)]
struct NoAdmin;

fn not_asked() -> Error {
    Error::new(Class::Permanent, "nobody asks")
}

#[async_trait]
impl Admin for NoAdmin {
    async fn brokers(&self) -> Result<u32, Error> {
        Err(not_asked())
    }

    async fn list(&self) -> Result<BTreeMap<TopicId, String>, Error> {
        Err(not_asked())
    }

    async fn describe(&self, _: &[String]) -> Result<Vec<TopicState>, Error> {
        Err(not_asked())
    }

    async fn create(&self, _: &TopicSpec) -> Result<bool, Error> {
        Err(not_asked())
    }

    async fn grow(&self, _: &str, _: u32) -> Result<(), Error> {
        Err(not_asked())
    }

    async fn configure(&self, _: &str, _: &BTreeMap<String, String>) -> Result<(), Error> {
        Err(not_asked())
    }

    async fn delete(&self, _: &str) -> Result<(), Error> {
        Err(not_asked())
    }
}

struct World {
    journal: Journal,
    sink: Arc<dyn Sink>,
    drawer: Drawer,
    target: &'static str,
    metrics: ConsumerMetrics,
}

fn rejecting(poison: &[u64]) -> World {
    let journal = Journal::default();
    let poison = poison.iter().copied().collect();
    let sink = Picky { journal: Arc::clone(&journal), poison, at_a_time: usize::MAX };
    World {
        sink: Arc::new(sink),
        drawer: Drawer { journal: Arc::clone(&journal), fails: None, hangs: false },
        target: ", deadLetters: 'kafka:dead'",
        metrics: ConsumerMetrics::register(&mut Registry::default()),
        journal,
    }
}

impl World {
    /// Writes the records from 3 to 6, which a gap follows.
    async fn writes(&self) -> Result<Done, SinkError> {
        let spec = format!(
            "group: g\ncluster: {{bootstrapServers: 'b:1'}}\n\
             topics: [{{name: orders, sink: 'blackhole:'{}}}]",
            self.target
        );
        let config = GroupSpec::parse(&spec, &BTreeMap::new()).unwrap().validate().unwrap();
        let none = Box::new(|_: &_| -> futures_util::future::BoxFuture<'static, _> {
            Box::pin(async { Err(not_asked()) })
        });
        let drawer = self.drawer.clone();
        let open = move |_: &DeadLetterTarget| -> futures_util::future::BoxFuture<'static, _> {
            let drawer = Arc::new(drawer.clone()) as Arc<dyn DeadLetters>;
            Box::pin(async move { Ok(drawer) })
        };
        let sinks = Sinks::new(Arc::new(config), Arc::new(NoAdmin), none);
        let writer = Writer {
            clock: Arc::new(BootClock),
            sink: Arc::clone(&self.sink),
            sinks: Arc::new(sinks.with_dead_letters(Box::new(open))),
            metrics: self.metrics.clone(),
            token: FencingToken { generation: Generation(1), epoch: Epoch(Offset(1)) },
            limit: Duration::from_secs(5),
        };
        let id = PartitionId { topic: TopicId([1; 16]), number: 2 };
        let records: Vec<_> = (3..6)
            .map(|offset| Record {
                offset,
                timestamp_ms: 5,
                key: None,
                value: Some(Bytes::from_static(b"0123456789")),
                headers: Vec::new(),
            })
            .collect();
        let cut = Cut {
            partition: TopicPartition { topic: "orders".to_owned(), id },
            expected: Position(3),
            records,
            bytes: 30,
            end: Position(8),
            fetched: Duration::ZERO,
            _held: Held::default(),
        };
        let Outcome::Written(of, _, written) = write(writer, cut).await else {
            panic!("a write ends in its outcome");
        };
        assert_eq!(of, id);
        written
    }

    fn journal(&self) -> Vec<String> {
        self.journal.lock().unwrap().clone()
    }

    fn counted(&self) -> u64 {
        let labels = TopicLabels { topic: "orders".into() };
        self.metrics.dead_letters.get_or_create(&labels).get()
    }
}

fn chain(error: &SinkError) -> String {
    let chain = std::iter::successors(Some(error as &dyn std::error::Error), |it| it.source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[tokio::test]
async fn rejected_records_are_put_aside_before_the_rest_is_written() {
    let world = rejecting(&[3, 5]);
    let done = world.writes().await.unwrap();
    assert_eq!(
        world.journal(),
        ["put aside [3 (bad 3), 5 (bad 5)] of orders-2", "wrote [4] from 3 to 8"]
    );
    assert_eq!((done.records, done.bytes, done.end), (1, 10, Position(8)));
    assert_eq!(world.counted(), 2);
}

#[tokio::test]
async fn a_batch_that_is_rejected_whole_moves_the_position_as_a_gap() {
    let world = rejecting(&[3, 4, 5]);
    let done = world.writes().await.unwrap();
    assert_eq!(world.journal().last().unwrap(), "wrote [] from 3 to 8");
    assert_eq!((done.records, done.bytes, done.end), (0, 0, Position(8)));
}

#[tokio::test]
async fn a_sink_may_reject_one_record_after_the_other() {
    let mut world = rejecting(&[]);
    let journal = Arc::clone(&world.journal);
    world.sink = Arc::new(Picky { journal, poison: [3, 4].into(), at_a_time: 1 });
    world.writes().await.unwrap();
    assert_eq!(
        world.journal(),
        [
            "put aside [3 (bad 3)] of orders-2",
            "put aside [4 (bad 4)] of orders-2",
            "wrote [5] from 3 to 8"
        ]
    );
}

#[tokio::test]
async fn dead_letters_that_fail_hold_the_write_back() {
    for class in [Class::Transient, Class::Permanent] {
        let mut world = rejecting(&[4]);
        world.drawer.fails = Some(class);
        let error = world.writes().await.unwrap_err();
        assert_eq!(error.class(), class);
        assert!(chain(&error).ends_with("the drawer is stuck"), "{}", chain(&error));
        assert_eq!((world.journal().len(), world.counted()), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn dead_letters_that_hang_end_with_the_write_time_out() {
    let mut world = rejecting(&[4]);
    world.drawer.hangs = true;
    assert_eq!(world.writes().await.unwrap_err().class(), Class::Transient);
    assert_eq!(world.journal().len(), 0);
}

#[tokio::test]
async fn a_rejected_record_without_a_target_stops_its_partition_and_says_what_to_do() {
    let mut world = rejecting(&[4]);
    world.target = "";
    let error = world.writes().await.unwrap_err();
    assert_eq!(error.class(), Class::Permanent);
    assert_eq!(
        chain(&error),
        "the sink refuses partition orders-2: offset 4 is rejected (bad 4) and has nowhere to go: \
         set deadLetters of topic orders"
    );
    assert_eq!(world.journal().len(), 0);
}

#[tokio::test]
async fn a_sink_that_rejects_what_it_was_not_given_is_not_asked_for_ever() {
    let mut world = rejecting(&[]);
    world.sink = Arc::new(Confused);
    assert_eq!(world.writes().await.unwrap_err().class(), Class::Permanent);
}
