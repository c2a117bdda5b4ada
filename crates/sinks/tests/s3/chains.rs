//! What is promised of every chain, on a bucket.

use std::sync::Arc;

use tidegate_core::ids::Position;
use tidegate_runtime::ports::{Class, Sink};
use tidegate_runtime::sink::conformance;
use tidegate_sinks::object::store::Store as _;
use tidegate_sinks::object::{Compression, ObjectConfig, layout};

use crate::proxy::Proxy;
use crate::world::{acquire, offsets, on_server, partition, sink, sink_on, store, write};

fn compressed() -> ObjectConfig {
    ObjectConfig { compression: Compression::Zstd { level: 3 }, ..ObjectConfig::default() }
}

fn conforms(config: ObjectConfig) {
    on_server(async |server| {
        let endpoint = server.endpoint();
        let open = async || Arc::new(sink_on(store(endpoint).await, config)) as Arc<dyn Sink>;
        let report = conformance(open).await;
        report.assert_passed();
        assert!(report.written.len() >= 8);
        for (partition, wanted) in &report.written {
            assert_eq!(offsets(endpoint, partition).await, *wanted, "{partition:?}");
        }
    });
}

#[test]
fn the_sink_conforms_on_a_bucket_and_what_it_wrote_is_there() {
    conforms(ObjectConfig::default());
}

#[test]
fn the_compressing_sink_conforms_and_what_it_wrote_is_there() {
    conforms(compressed());
}

#[test]
fn owners_that_write_at_once_never_share_a_position_however_they_compress() {
    on_server(async |server| {
        let one = sink(server.endpoint()).await;
        let other = sink_on(store(server.endpoint()).await, compressed());
        let mut at = 0;
        for epoch in (1..40).step_by(2) {
            let found =
                (acquire(&one, epoch).await.unwrap(), acquire(&other, epoch + 1).await.unwrap());
            assert_eq!(found, if at == 0 { (None, None) } else { (Some(at), Some(at)) });
            let ends = (at + 2, at + 3);
            let wrote =
                tokio::join!(write(&one, epoch, at, ends.0), write(&other, epoch + 1, at, ends.1));
            at = match wrote {
                (Ok(()), Err(error)) if error.class() == Class::Fenced => ends.0,
                (Err(error), Ok(())) if error.class() == Class::Fenced => ends.1,
                wrote => panic!("expected one to be fenced, found {wrote:?}"),
            };
        }
        assert!(offsets(server.endpoint(), &partition()).await.into_iter().eq(0..at));
    });
}

#[test]
fn a_long_chain_is_entered_and_joined_by_few_requests() {
    const OBJECTS: u64 = 3_500;
    const STEP: u64 = 70;
    on_server(async |server| {
        let proxy = Proxy::before(server.endpoint()).await;
        let folder = layout::folder(&partition()).unwrap();
        // The server's data is a folder, and nobody looks into these objects.
        let name = |at: u64| format!("records/of a test/{folder}/{}", layout::name(Position(at)));
        std::fs::create_dir_all(server.file(&name(0)).parent().unwrap()).unwrap();
        for object in 0..OBJECTS {
            std::fs::write(server.file(&name(object * STEP)), "").unwrap();
        }
        let store = store(proxy.endpoint()).await;
        let found = store.last(&folder, None, 2).await.unwrap();
        assert_eq!(found, [Position((OBJECTS - 2) * STEP), Position((OBJECTS - 1) * STEP)]);
        let requests = proxy.take_seen().len();
        assert!(requests <= 8, "{requests} requests for the end");
        let found = store.last(&folder, Some(Position(2000 * STEP + 1)), 1).await.unwrap();
        assert_eq!(found, [Position(2000 * STEP)]);
        let requests = proxy.take_seen().len();
        assert!(requests <= 8, "{requests} requests for the middle");
        let (mut names, mut pages) = (Vec::new(), 0);
        while let page =
            store.list(&folder, names.last().map(String::as_str), 10_000).await.unwrap()
            && !page.is_empty()
        {
            names.extend(page);
            pages += 1;
        }
        assert_eq!((names.len() as u64, pages), (OBJECTS, 4));
    });
}
