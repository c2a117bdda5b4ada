//! What a rate is where transactions are written: all that the log takes in, when it takes it in.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use tidegate_testing::unique_name;
use tokio_util::sync::CancellationToken;

use crate::client;
use crate::judge::Records;
use crate::load::VALUE_BYTES;
use crate::watch::{Published, Watch, config, create};

/// A batch of one record: its head, the record's own fields, its value.
const BATCH_BYTES: u64 = 61 + 9 + 1000;

/// A batch with the marker of a transaction's end: its head, the record's own fields, its key and its value.
const MARKER_BYTES: u64 = 61 + 7 + 4 + 6;

/// No call of the client takes longer, whatever else the machine does.
const PATIENCE: Duration = Duration::from_secs(60);

/// How transactions end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Commit,
    Abort,
    /// The first one stays open until it is told to end.
    Open,
}

/// Transactions with one record each, one after the other, some ten a second.
struct Transactions {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<u64>,
}

impl Transactions {
    fn start(bootstrap: &str, topic: &str, end: End) -> Self {
        let mut settings = ClientConfig::new();
        settings.set("bootstrap.servers", bootstrap);
        settings.set("transactional.id", unique_name("transactions"));
        let (topic, stop) = (topic.to_owned(), CancellationToken::new());
        let stopped = stop.clone();
        let write = move || write(&settings.create().unwrap(), &topic, end, &stopped);
        Self { stop, task: tokio::task::spawn_blocking(write) }
    }

    /// How many there were.
    async fn end(self) -> u64 {
        self.stop.cancel();
        self.task.await.unwrap()
    }
}

fn write(producer: &BaseProducer, topic: &str, end: End, stopped: &CancellationToken) -> u64 {
    let value = vec![b'x'; VALUE_BYTES];
    let pause = || std::thread::park_timeout(Duration::from_millis(100));
    let mut count = 0;
    producer.init_transactions(PATIENCE).unwrap();
    while !stopped.is_cancelled() {
        producer.begin_transaction().unwrap();
        let record = BaseRecord::<(), _>::to(topic).partition(0).payload(&value);
        producer.send(record).map_err(|(error, _)| error).unwrap();
        // Without it, what was not sent yet would never be.
        producer.flush(PATIENCE).unwrap();
        count += 1;
        match end {
            End::Commit => producer.commit_transaction(PATIENCE).unwrap(),
            End::Abort => producer.abort_transaction(PATIENCE).unwrap(),
            End::Open => {
                while !stopped.is_cancelled() {
                    pause();
                }
                producer.abort_transaction(PATIENCE).unwrap();
            }
        }
        pause();
    }
    count
}

pub(crate) async fn a_transaction_counts_with_all_that_it_writes_before_it_ends_and_though_it_is_aborted(
    bootstrap: String,
) {
    let bootstrap = bootstrap.as_str();
    let (monitor, admin, topic) = (client(bootstrap), client(bootstrap), unique_name("atomic"));
    let config = config(bootstrap, &topic);
    create(&admin, &config.control_topics.monitor, 1, &[]).await;
    let id = create(&admin, &topic, 1, &[]).await;
    let mut watch = Watch::start(&monitor, &admin, &config);
    watch.until_measured(id, 1).await;

    let load = Transactions::start(bootstrap, &topic, End::Commit);
    let (one, both) = (Duration::from_secs(8), Duration::from_secs(16));
    watch.until("rate of commits", |seen| seen.window(id, 0) >= one).await;
    let committed = load.end().await;
    let load = Transactions::start(bootstrap, &topic, End::Abort);
    watch.until("rate of aborts", |seen| seen.window(id, 0) >= both).await;
    let count = committed + load.end().await;
    let shows = |seen: &Published, offset| {
        let track = seen.track(id, 0);
        track.last().is_some_and(|(_, last)| last.sample.high_watermark.0 == offset)
    };
    // Each has two offsets: that of its record and that of its marker.
    watch.until("the last marker", |seen| shows(seen, 2 * count)).await;
    let load = Transactions::start(bootstrap, &topic, End::Open);
    watch.until("the open one's record", |seen| shows(seen, 2 * count + 1)).await;
    assert_eq!(load.end().await, 1);

    let track = watch.end().await.track(id, 0);
    let pair = BATCH_BYTES + MARKER_BYTES;
    let size = |at: u64| {
        let found = track.iter().find(|(_, seen)| seen.sample.high_watermark.0 == at);
        found.and_then(|(_, seen)| seen.sample.size)
    };
    assert_eq!(size(2 * count), Some(count * pair), "{count} transactions");
    assert_eq!(size(2 * count + 1), Some(count * pair + BATCH_BYTES));
    let records = Records { count: 2, bytes: (pair, pair), unseen: pair };
    records.judge("transactions", &track);
}
