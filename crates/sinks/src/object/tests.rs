use std::path::Path;

use proptest::prelude::*;
use tempfile::TempDir;
use tidegate_core::ids::{Epoch, Generation, Offset, TopicId};
use tidegate_runtime::ports::{BootClock, Record};
use tidegate_runtime::sink::conformance;

use super::file::FileStore;
use super::*;

fn partition() -> TopicPartition {
    let id = PartitionId { topic: TopicId([7; 16]), number: 3 };
    TopicPartition { topic: "orders".to_owned(), id }
}

fn token(epoch: u64) -> FencingToken {
    FencingToken { generation: Generation(1), epoch: Epoch(Offset(epoch)) }
}

async fn sink(root: &Path) -> ObjectSink {
    let config = ObjectConfig::default();
    let store = FileStore::open(root, config.parallel_writes, Arc::new(BootClock)).await.unwrap();
    ObjectSink::new(Arc::new(store), config, Arc::new(BootClock))
}

fn record(offset: u64) -> Record {
    let value = Some(Bytes::from(format!("value {offset}")));
    Record { offset, timestamp_ms: 1, key: None, value, headers: Vec::new() }
}

async fn write(sink: &ObjectSink, epoch: u64, expected: u64, end: u64) -> Result<(), SinkError> {
    let records: Vec<_> = (expected..end).map(record).collect();
    let batch = Batch { expected: Position(expected), records: &records, end: Position(end) };
    sink.write(&partition(), token(epoch), batch).await
}

/// A folder with the objects 0..3, 3..5 and 5..9, and the folder of the chain in it.
async fn chain() -> (TempDir, std::path::PathBuf) {
    let root = TempDir::new().unwrap();
    let sink = sink(root.path()).await;
    sink.acquire(&partition(), token(1)).await.unwrap();
    for (expected, end) in [(0, 3), (3, 5), (5, 9)] {
        write(&sink, 1, expected, end).await.unwrap();
    }
    let folder = root.path().join(layout::folder(&partition()).unwrap());
    (root, folder)
}

async fn report(root: &TempDir) -> ChainReport {
    ObjectReader::folder(root.path()).await.unwrap().verify(&partition()).await.unwrap()
}

async fn faults(root: &TempDir) -> Vec<String> {
    report(root).await.faults.iter().map(ToString::to_string).collect()
}

async fn offsets(root: &Path, partition: &TopicPartition) -> Vec<u64> {
    let mut chain = ObjectReader::folder(root).await.unwrap().chain(partition);
    let mut offsets = Vec::new();
    while let Some(link) = chain.next().await.unwrap() {
        let Link::Object(object) = link else { panic!("expected an object, found {link:?}") };
        offsets.extend(object.records().map(|record| record.unwrap().offset));
    }
    offsets
}

fn object(position: u64) -> String {
    layout::name(Position(position))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sink_conforms_and_what_it_wrote_is_there() {
    let root = TempDir::new().unwrap();
    let report = conformance(async || Arc::new(sink(root.path()).await) as Arc<dyn Sink>).await;
    report.assert_passed();
    assert!(report.written.len() >= 8);
    for (partition, wanted) in &report.written {
        assert_eq!(offsets(root.path(), partition).await, *wanted, "{partition:?}");
    }
}

#[tokio::test]
async fn records_are_read_back_as_they_were() {
    let root = TempDir::new().unwrap();
    let sink = sink(root.path()).await;
    sink.acquire(&partition(), token(9)).await.unwrap();
    let records =
        vec![record(12), Record { value: Some(Bytes::from(vec![0xff; 10])), ..record(14) }];
    let batch = Batch { expected: Position(10), records: &records, end: Position(20) };
    sink.write(&partition(), token(9), batch).await.unwrap();
    let reader = ObjectReader::folder(root.path()).await.unwrap();
    assert_eq!(reader.partitions().await.unwrap(), vec![partition()]);
    let mut chain = reader.chain(&partition());
    let Some(Link::Object(object)) = chain.next().await.unwrap() else { panic!("an object") };
    assert_eq!(object.records().collect::<Result<Vec<_>, _>>().unwrap(), records);
    let Header { position, start, end, token: writer, written_ms, .. } = object.header;
    assert_eq!((position, start, end), (Position(0), Position(10), Position(20)));
    assert_eq!(writer, token(9));
    assert!(object.durable_ms >= written_ms && written_ms > 1_600_000_000_000);
    assert!(chain.next().await.unwrap().is_none());
    write(&sink, 9, 20, 21).await.unwrap();
    assert!(matches!(chain.next().await.unwrap(), Some(Link::Object(_))), "it goes on later");
}

#[tokio::test]
async fn a_whole_chain_has_no_faults() {
    let (root, folder) = chain().await;
    std::fs::write(folder.join("notes.txt"), "not ours").unwrap();
    let report = report(&root).await;
    assert!(report.is_whole(), "{report}");
    assert_eq!((report.objects, report.records, report.end), (3, 9, Some(Position(9))));
}

#[tokio::test]
async fn faults_in_a_chain_are_named() {
    let (root, folder) = chain().await;
    let middle = folder.join(object(3));
    let whole = std::fs::read(&middle).unwrap();

    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    std::fs::write(&middle, flipped).unwrap();
    let name = object(3);
    assert_eq!(faults(&root).await, [format!("object {name}: the checksum of the body is wrong")]);

    std::fs::copy(folder.join(object(0)), &middle).unwrap();
    assert_eq!(faults(&root).await, [format!("object {name} is the one of orders-3 at 0")]);

    std::fs::remove_file(&middle).unwrap();
    assert_eq!(faults(&root).await, ["nothing follows position 3: the next object is at 5"]);
    let again = sink(root.path()).await;
    let error = again.acquire(&partition(), token(2)).await.unwrap_err();
    assert!(matches!(error, SinkError::Damaged { .. }), "{error}");

    let header = Header { end: Position(7), records: 9, token: token(2), ..open(&whole).header };
    let body = Body::plain(open(&whole).body);
    std::fs::write(&middle, [format::seal(&header, &body), body.stored.to_vec()].concat()).unwrap();
    assert_eq!(
        faults(&root).await,
        [
            "the object at 3 has 2 records instead of 9",
            "the object at 5 begins before position 7, where the one before ends",
            "the object at 5 has a lower token than the one before",
        ]
    );
}

fn open(object: &[u8]) -> format::Opened {
    format::open(&Bytes::copy_from_slice(object)).unwrap()
}

#[tokio::test]
async fn a_damaged_tail_is_not_built_upon() {
    let (root, folder) = chain().await;
    let tail = folder.join(object(5));
    let whole = std::fs::read(&tail).unwrap();
    std::fs::write(&tail, &whole[..whole.len() - 1]).unwrap();
    let again = sink(root.path()).await;
    let error = again.acquire(&partition(), token(2)).await.unwrap_err();
    assert!(error.to_string().contains("bytes instead of"), "{error}");
    assert_eq!(error.class(), Class::Permanent);
}

#[tokio::test]
async fn a_chain_whose_beginning_was_expired_goes_on() {
    let (root, folder) = chain().await;
    for gone in [0, 3] {
        std::fs::remove_file(folder.join(object(gone))).unwrap();
    }
    let again = sink(root.path()).await;
    assert_eq!(again.acquire(&partition(), token(2)).await.unwrap(), Some(Position(9)));
    write(&again, 2, 9, 10).await.unwrap();
    let report = report(&root).await;
    assert!(report.is_whole());
    assert_eq!(report.start, Some(Position(5)));
}

#[tokio::test]
async fn unfinished_files_of_earlier_owners_are_removed_and_others_kept() {
    let (root, folder) = chain().await;
    for name in [".1-1-77-0.tmp", ".1-2-77-0.tmp", ".1-3-77-0.tmp", ".keep"] {
        std::fs::write(folder.join(name), "half an obj").unwrap();
    }
    let again = sink(root.path()).await;
    assert_eq!(again.acquire(&partition(), token(2)).await.unwrap(), Some(Position(9)));
    let kept = |name| folder.join(name).exists();
    assert!(!kept(".1-1-77-0.tmp"));
    assert!(kept(".1-2-77-0.tmp") && kept(".1-3-77-0.tmp") && kept(".keep"));
}

#[tokio::test]
async fn a_lower_token_cannot_acquire_what_a_higher_one_has_written() {
    let (root, _) = chain().await;
    let new = sink(root.path()).await;
    new.acquire(&partition(), token(5)).await.unwrap();
    write(&new, 5, 9, 10).await.unwrap();
    let error = sink(root.path()).await.acquire(&partition(), token(4)).await.unwrap_err();
    assert_eq!(error.class(), Class::Fenced);
    assert!(error.to_string().ends_with("epoch 5 has acquired it, ours is 4"), "{error}");
}

#[tokio::test]
async fn what_cannot_be_written_is_refused_before_it_is() {
    let (root, _) = chain().await;
    let config = ObjectConfig { max_object_bytes: 64 << 10, ..ObjectConfig::default() };
    let store = FileStore::open(root.path(), 1, Arc::new(BootClock)).await.unwrap();
    let sink = ObjectSink::new(Arc::new(store), config, Arc::new(BootClock));
    let refusal = async |records: &[Record], end: u64| {
        sink.acquire(&partition(), token(2)).await.unwrap();
        let batch = Batch { expected: Position(9), records, end: Position(end) };
        let error = sink.write(&partition(), token(2), batch).await.unwrap_err();
        assert_eq!(error.class(), Class::Permanent);
        std::error::Error::source(&error).unwrap().to_string()
    };
    assert_eq!(refusal(&[], 9).await, "the batch covers no offsets");
    let disorder = "the record at offset 9 is out of range or out of order";
    assert_eq!(refusal(&[record(9), record(9)], 12).await, disorder);
    assert_eq!(refusal(&[record(9)], 9).await, "the batch covers no offsets");
    let illegal = TopicPartition { topic: "../etc".to_owned(), ..partition() };
    let error = sink.acquire(&illegal, token(2)).await.unwrap_err();
    assert_eq!(error.class(), Class::Permanent);
    assert!(report(&root).await.is_whole());
}

fn sized(offset: u64, bytes: usize) -> Record {
    Record { value: Some(Bytes::from(vec![b'x'; bytes])), ..record(offset) }
}

async fn small_objects(root: &Path, compression: Compression) -> ObjectSink {
    let config =
        ObjectConfig { max_object_bytes: 64 << 10, compression, ..ObjectConfig::default() };
    let store = FileStore::open(root, 1, Arc::new(BootClock)).await.unwrap();
    ObjectSink::new(Arc::new(store), config, Arc::new(BootClock))
}

#[tokio::test]
async fn a_batch_that_is_too_large_becomes_several_objects_in_order() {
    for compression in [Compression::None, Compression::Zstd { level: 1 }] {
        let root = TempDir::new().unwrap();
        let sink = small_objects(root.path(), compression).await;
        sink.acquire(&partition(), token(1)).await.unwrap();
        let records: Vec<_> = (10..30).map(|offset| sized(offset, 10_000)).collect();
        let batch = Batch { expected: Position(7), records: &records, end: Position(40) };
        sink.write(&partition(), token(1), batch).await.unwrap();
        write(&sink, 1, 40, 41).await.unwrap();
        let report = report(&root).await;
        assert!(report.is_whole(), "{report}: {:?}", report.faults);
        assert_eq!((report.start, report.end), (Some(Position(7)), Some(Position(41))));
        assert_eq!((report.objects, report.records), (5, 21));
        assert!(offsets(root.path(), &partition()).await.into_iter().eq((10..30).chain([40])));
    }
}

#[tokio::test]
async fn a_record_that_no_object_can_hold_is_rejected_and_the_sink_stands_where_it_stood() {
    let root = TempDir::new().unwrap();
    let sink = small_objects(root.path(), Compression::None).await;
    sink.acquire(&partition(), token(1)).await.unwrap();
    write(&sink, 1, 0, 2).await.unwrap();
    let records = [sized(2, 50_000), sized(3, 70_000), sized(4, 50_000)];
    let batch = Batch { expected: Position(2), records: &records, end: Position(5) };
    let error = sink.write(&partition(), token(1), batch).await.unwrap_err();
    let SinkError::Rejected { records: rejected, .. } = &error else { panic!("{error}") };
    assert_eq!(rejected.iter().map(|rejection| rejection.offset).collect::<Vec<_>>(), [3]);
    assert_eq!(report(&root).await.end, Some(Position(2)), "nothing of the batch is there");
    let [first, _, last] = records;
    let others = [first, last];
    let batch = Batch { expected: Position(2), records: &others, end: Position(5) };
    sink.write(&partition(), token(1), batch).await.unwrap();
    assert_eq!(offsets(root.path(), &partition()).await, [0, 1, 2, 4]);
    assert!(report(&root).await.is_whole());
}

#[tokio::test]
async fn a_chain_may_change_how_it_is_compressed_and_is_smaller_then() {
    let root = TempDir::new().unwrap();
    let mut at = 0;
    for (epoch, compression) in
        [(1, Compression::None), (2, Compression::Zstd { level: 3 }), (3, Compression::None)]
    {
        let sink = small_objects(root.path(), compression).await;
        sink.acquire(&partition(), token(epoch)).await.unwrap();
        write(&sink, epoch, at, at + 300).await.unwrap();
        at += 300;
    }
    let report = report(&root).await;
    assert!(report.is_whole(), "{report}");
    assert!(report.object_bytes < report.bytes * 9 / 10, "{} bytes", report.object_bytes);
    assert!(offsets(root.path(), &partition()).await.into_iter().eq(0..900));
}

#[tokio::test]
async fn a_chain_is_read_from_the_object_on_that_holds_an_offset() {
    let (root, _) = chain().await;
    let reader = ObjectReader::folder(root.path()).await.unwrap();
    for (offset, wanted) in [(0, 0), (2, 0), (3, 3), (4, 3), (8, 5), (900, 5)] {
        let mut chain = reader.chain_from(&partition(), Position(offset)).await.unwrap();
        let Some(Link::Object(object)) = chain.next().await.unwrap() else { panic!("an object") };
        assert_eq!(object.header.position, Position(wanted), "offset {offset}");
    }
}

#[tokio::test]
async fn the_probe_of_a_folder_leaves_nothing_behind() {
    let root = TempDir::new().unwrap();
    let store = FileStore::open(root.path(), 1, Arc::new(BootClock)).await.unwrap();
    probe::create_only(&store, "the folder").await.unwrap();
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
}

/// What one of two owners does next.
#[derive(Clone, Copy, Debug)]
enum Act {
    Acquire,
    /// A batch of so many offsets.
    Write(u64),
    /// The same, dropped after so many polls.
    GiveUp(u64, usize),
    Release,
}

fn act() -> impl Strategy<Value = (bool, Act)> {
    let act = prop_oneof![
        2 => Just(Act::Acquire),
        4 => (1_u64..4).prop_map(Act::Write),
        2 => (1_u64..4, 1_usize..6).prop_map(|(count, polls)| Act::GiveUp(count, polls)),
        1 => Just(Act::Release),
    ];
    (any::<bool>(), act)
}

/// One owner of the two: it acquires again, with the same token, whenever the sink wants it to.
struct Actor {
    sink: ObjectSink,
    epoch: u64,
    at: Option<u64>,
}

impl Actor {
    async fn acts(&mut self, act: Act) {
        match act {
            Act::Acquire => {
                let found = self.sink.acquire(&partition(), token(self.epoch)).await;
                self.at = found.ok().map(|at| at.map_or(0, |at| at.0));
            }
            Act::Write(count) => {
                let Some(at) = self.at.take() else { return };
                if write(&self.sink, self.epoch, at, at + count).await.is_ok() {
                    self.at = Some(at + count);
                }
            }
            Act::GiveUp(count, polls) => {
                let Some(at) = self.at.take() else { return };
                let mut write = Box::pin(write(&self.sink, self.epoch, at, at + count));
                for _ in 0..polls {
                    let poll = std::future::poll_fn(|context| {
                        std::task::Poll::Ready(write.as_mut().poll(context).is_ready())
                    });
                    if poll.await {
                        self.at = None;
                        break;
                    }
                    tokio::task::yield_now().await;
                }
            }
            Act::Release => {
                self.at = None;
                self.sink.release(&partition(), token(self.epoch)).await.unwrap();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn two_owners_in_any_order_never_double_nor_lose(
        acts in proptest::collection::vec(act(), 1..40),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        runtime.block_on(async {
            let root = TempDir::new().unwrap();
            let mut old = Actor { sink: sink(root.path()).await, epoch: 1, at: None };
            let mut new = Actor { sink: sink(root.path()).await, epoch: 2, at: None };
            let mut known = 0;
            for (is_new, act) in acts {
                let actor = if is_new { &mut new } else { &mut old };
                actor.acts(act).await;
                known = known.max(actor.at.unwrap_or(0));
            }
            // What is in flight ends before its owner is told that it released.
            old.acts(Act::Release).await;
            new.acts(Act::Release).await;
            let offsets = offsets(root.path(), &partition()).await;
            assert!(offsets.len() as u64 >= known, "acknowledged up to {known}");
            assert!(offsets.iter().copied().eq(0..offsets.len() as u64), "{offsets:?}");
            assert!(report(&root).await.is_whole());
        });
    }
}
