use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Mutex;

use async_trait::async_trait;
use tidegate_runtime::ports::{Class, DeliverySender, Error};

use super::*;
use crate::profile::Shape;

/// Tokio's paused clock.
#[derive(Debug)]
struct Paused(tokio::time::Instant);

impl Clock for Paused {
    fn now(&self) -> Instant {
        Instant::since_boot(self.0.elapsed())
    }

    fn unix_ms(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_millis()).unwrap()
    }
}

/// Stores records at once; of each partition every so many outcomes are lost or refused instead.
#[derive(Debug, Default)]
struct Broker {
    logs: Mutex<std::collections::BTreeMap<(String, u32), Vec<Stamp>>>,
    unknown_every: u64,
    refuse_every: u64,
    hold: bool,
    held: Mutex<Vec<DeliverySender>>,
}

#[async_trait]
impl Producer for Broker {
    async fn enqueue(&self, record: OutgoingRecord) -> Result<Delivery, AppendError> {
        let text = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
        let stamp = Stamp::parse(&text).unwrap();
        assert_eq!(stamp.partition, record.partition);
        let every = |count: u64| count > 0 && stamp.sequence % count == count - 1;
        if every(self.refuse_every) {
            return Err(AppendError::Refused(Error::new(Class::Transient, "it is full")));
        }
        let mut logs = self.logs.lock().unwrap();
        let log = logs.entry((record.topic.to_string(), record.partition)).or_default();
        let (sender, delivery) = Delivery::pending();
        if every(self.unknown_every) {
            if stamp.sequence.is_multiple_of(2) {
                log.push(stamp);
            }
            let error = Error::new(Class::Transient, "it went away");
            sender.tell(Err(AppendError::Unknown(error)));
            return Ok(delivery);
        }
        log.push(stamp);
        if self.hold {
            self.held.lock().unwrap().push(sender);
        } else {
            sender.tell(Ok(log.len() as u64 - 1));
        }
        Ok(delivery)
    }
}

async fn run(broker: &Arc<Broker>, seconds: u64, config: GeneratorConfig) -> Outcome {
    run_at(400_000, broker, seconds, config).await
}

async fn run_at(
    bytes_per_sec: u64,
    broker: &Arc<Broker>,
    seconds: u64,
    config: GeneratorConfig,
) -> Outcome {
    let rate = NonZeroU64::new(bytes_per_sec).unwrap();
    let profile = Profile::new(Shape::Hot, 1, NonZeroU32::new(4).unwrap(), rate, rate);
    let clock = Arc::new(Paused(tokio::time::Instant::now()));
    let partitions = (0..4).map(|number| (Arc::from("orders"), number)).collect();
    let producer = Arc::clone(broker) as Arc<dyn Producer>;
    let generator = Generator::new(producer, clock, &profile, partitions, config);
    let progress = generator.progress();
    let outcome = generator.run(tokio::time::sleep(Duration::from_secs(seconds))).await;
    assert_eq!(progress.totals(), outcome.totals);
    outcome
}

fn check_ledger(broker: &Broker, acknowledged: &Acknowledged) {
    for ((topic, number), log) in &*broker.logs.lock().unwrap() {
        let ledger = acknowledged.partition(topic, *number).unwrap();
        for (offset, stamp) in (0..).zip(log) {
            let known = ledger.sequence_at(offset);
            assert!(
                known == Some(stamp.sequence)
                    || (known.is_none() && ledger.may_have(stamp.sequence))
            );
        }
        assert_eq!(ledger.offsets().map(|range| range.end).max(), Some(log.len() as u64));
    }
}

#[tokio::test(start_paused = true)]
async fn the_rate_is_kept_and_everything_is_acknowledged() {
    let broker = Arc::new(Broker::default());
    let outcome = run(&broker, 10, GeneratorConfig::default()).await;
    let Totals { enqueued, stored, maybe, refused, bytes } = outcome.totals;
    assert_eq!((stored, maybe, refused), (enqueued, 0, 0));
    assert!((3990..=4000).contains(&enqueued), "4,000 records of 1 kB in 10 s, found {enqueued}");
    assert_eq!(bytes, enqueued * 1000);
    check_ledger(&broker, &outcome.acknowledged);
}

/// Tokio lets a task look at 128 channels before others have their turn: far fewer than the deliveries of a tick.
#[tokio::test(start_paused = true)]
async fn many_deliveries_are_taken_in_one_tick() {
    let broker = Arc::new(Broker::default());
    let config = GeneratorConfig { max_in_flight: 200, ..GeneratorConfig::default() };
    let outcome = run_at(50_000_000, &broker, 2, config).await;
    assert!((98_000..=100_000).contains(&outcome.totals.stored), "{:?}", outcome.totals);
}

#[tokio::test(start_paused = true)]
async fn unknown_outcomes_are_neither_lost_nor_doubled_in_the_account() {
    let broker = Arc::new(Broker { unknown_every: 7, ..Broker::default() });
    let outcome = run(&broker, 10, GeneratorConfig::default()).await;
    let Totals { enqueued, stored, maybe, .. } = outcome.totals;
    assert_eq!(enqueued, stored + maybe);
    assert!(maybe > 500);
    assert_eq!(outcome.trouble.unwrap(), "the outcome of an append is unknown: it went away");
    check_ledger(&broker, &outcome.acknowledged);
    let in_ledger = outcome.acknowledged.partitions();
    let in_ledger = in_ledger.map(|(_, _, ledger)| (ledger.stored_count(), ledger.maybe_count()));
    let sum = in_ledger.reduce(|a, b| (a.0 + b.0, a.1 + b.1)).unwrap();
    assert_eq!(sum, (stored, maybe));
}

#[tokio::test(start_paused = true)]
async fn a_refused_record_is_not_expected_and_its_partition_rests() {
    let broker = Arc::new(Broker { refuse_every: 20, ..Broker::default() });
    let outcome = run(&broker, 10, GeneratorConfig::default()).await;
    let Totals { enqueued, stored, refused, .. } = outcome.totals;
    assert_eq!(enqueued, stored + refused);
    assert!((30..=40).contains(&refused), "once a second for each partition, found {refused}");
    check_ledger(&broker, &outcome.acknowledged);
}

#[tokio::test(start_paused = true)]
async fn what_is_never_acknowledged_is_bounded_and_may_be_there() {
    let broker = Arc::new(Broker { hold: true, ..Broker::default() });
    let config = GeneratorConfig { max_in_flight: 10, ..GeneratorConfig::default() };
    let before = tokio::time::Instant::now();
    let outcome = run(&broker, 5, config).await;
    assert_eq!(before.elapsed().as_secs(), 35, "5 s of load and 30 s of waiting");
    assert_eq!((outcome.totals.stored, outcome.totals.maybe), (0, 40));
    assert_eq!(broker.held.lock().unwrap().len(), 40);
}
