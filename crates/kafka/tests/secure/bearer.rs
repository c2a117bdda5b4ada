//! Bearer tokens: both sources, both clients, tokens that end during the work, and what is refused.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidegate_core::ids::Position;
use tidegate_kafka::{Kafka, ProducerOptions, ReaderOptions};
use tidegate_runtime::errors::Code;
use tidegate_runtime::ports::{
    Admin, BootClock, Class, Clock as _, Error, PartitionReader, Producer, ReadEvent,
};
use tidegate_runtime::security::{Cluster, Mechanism, Sasl, Secret};
use tidegate_testing::unique_name;
use tokio::time::Instant;

use crate::issuer::{Endpoint, Issuer, gives, promises, says};
use crate::mechanisms::works;
use crate::suite::produce::record;
use crate::suite::{new_topic, partition, soon};
use crate::world::{World, chain, connect, greet};

/// Short, so that several end during a story; the brokers end sessions with their tokens.
const BRIEF: Duration = Duration::from_secs(6);

/// For how long the stories of brief tokens work.
const THREE_TOKENS: Duration = Duration::from_secs(19);

fn by_file(path: &str) -> Sasl {
    Sasl { token_file: Some(path.to_owned()), ..Sasl::new(Mechanism::OauthBearer) }
}

/// A token in a file of its own.
fn file(world: &World, token: &str) -> String {
    write(world, &unique_name("token"), token)
}

fn write(world: &World, name: &str, token: &str) -> String {
    let Secret::File(path) = world.secret(name, token) else { unreachable!("secrets are files") };
    path
}

async fn endpoint(world: &World, lifetime: Duration) -> Endpoint {
    let secret = world.secret("client-secret", "s:cret of the client");
    Endpoint::start(world, secret, gives(Issuer::of(world), lifetime)).await
}

/// Both clients at work on one partition, with their connections kept.
struct Work {
    admin: Arc<dyn Admin>,
    producer: Arc<dyn Producer>,
    reader: Box<dyn PartitionReader>,
    topic: Arc<str>,
    records: u64,
}

impl Work {
    async fn begin(kafka: &Kafka) -> Self {
        let topic = new_topic(kafka, "bearer", 1).await;
        let mut reader = kafka.partition_reader(ReaderOptions::default());
        reader.assign(&partition(kafka, &topic, 0).await, Position(0)).await.unwrap();
        let producer = kafka.producer(ProducerOptions::default()).unwrap();
        Self { admin: kafka.admin(), producer, reader, topic: topic.into(), records: 0 }
    }

    /// The thin layer asks, librdkafka writes and reads.
    async fn step(&mut self) {
        assert_eq!(self.admin.brokers().await.unwrap(), 1);
        self.pass_on().await;
    }

    async fn pass_on(&mut self) {
        let record = record(&self.topic, 0, Bytes::from_static(b"x"));
        let delivery = self.producer.enqueue(record).await.unwrap();
        assert_eq!(soon("the acknowledgement", delivery).await.unwrap(), self.records);
        match soon("the record", self.reader.next()).await {
            ReadEvent::Records(batches) => assert_eq!(batches[0].records[0].offset, self.records),
            other => panic!("{other:?} in place of a record"),
        }
        self.records += 1;
    }
}

pub(crate) async fn tokens_come_from_a_file_and_from_an_endpoint(world: &World) {
    let token = Issuer::of(world).token("admin", Duration::from_secs(600));
    let endpoint = endpoint(world, Duration::from_secs(600)).await;
    for sasl in [by_file(&file(world, &token)), endpoint.sasl()] {
        let kafka = works(&world.bearer(sasl)).await;
        Work::begin(&kafka).await.step().await;
    }
    assert_eq!(endpoint.asked(), 1, "both clients use one token");
}

/// Works for three tokens' time; a session that went on with an old one would be ended by the broker.
async fn work_for_long(cluster: &Cluster) {
    let mut work = Work::begin(&connect(cluster)).await;
    let began = Instant::now();
    while began.elapsed() < THREE_TOKENS {
        work.step().await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) async fn a_token_that_expires_is_replaced_from_a_file(world: &World) {
    let (issuer, name) = (Issuer::of(world), unique_name("rotated"));
    let path = write(world, &name, &issuer.token("admin", BRIEF));
    let rotate = async {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            write(world, &name, &issuer.token("admin", BRIEF));
        }
    };
    let cluster = world.bearer(by_file(&path));
    tokio::select! {
        () = work_for_long(&cluster) => {}
        () = rotate => {}
    }
}

pub(crate) async fn a_token_that_expires_is_replaced_from_an_endpoint(world: &World) {
    let endpoint = endpoint(world, BRIEF).await;
    work_for_long(&world.bearer(endpoint.sasl())).await;
    assert!(endpoint.asked() >= 3, "{}", endpoint.asked());
}

pub(crate) async fn an_endpoint_that_fails_for_a_while_stops_nothing_for_good(world: &World) {
    let endpoint = endpoint(world, BRIEF).await;
    let mut work = Work::begin(&connect(&world.bearer(endpoint.sasl()))).await;
    work.step().await;
    endpoint.answers(says("503 Service Unavailable", "down for repairs"));
    let sentence = "gave no token: it answered 503 Service Unavailable";
    let refused = async {
        loop {
            // With the last of the token's time a session begins that ends at once.
            if let Err(error) = work.admin.brokers().await {
                assert_eq!(error.class(), Class::Transient, "{}", chain(&error));
                if error.to_string().contains(sentence) {
                    break;
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    soon("the end of the last token", refused).await;

    endpoint.answers(gives(Issuer::of(world), BRIEF));
    let healed = async {
        while work.admin.brokers().await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    soon("the next token", healed).await;
    work.pass_on().await;
}

/// Tokens that brokers refuse long before their time is over, as when they are revoked: both clients have kept them.
pub(crate) async fn a_kept_token_that_is_refused_is_replaced(world: &World) {
    let endpoint = endpoint(world, BRIEF).await;
    endpoint.answers(promises(Issuer::of(world), BRIEF, Duration::from_secs(3600)));
    let mut work = Work::begin(&connect(&world.bearer(endpoint.sasl()))).await;
    work.step().await;
    endpoint.answers(gives(Issuer::of(world), Duration::from_secs(600)));
    let another_token = async {
        while endpoint.asked() < 2 {
            // With the last of the token's time a session begins that ends at once.
            if let Err(error) = work.admin.brokers().await {
                assert_eq!(error.class(), Class::Transient, "{}", chain(&error));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        () = soon("another token", another_token) => {}
        event = work.reader.next() => panic!("{event:?} in place of nothing"),
    }
    // librdkafka gets it, too, long before it would ask.
    let writer = connect(&world.as_bearer()).producer(ProducerOptions::default()).unwrap();
    let record = record(&work.topic, 0, Bytes::from_static(b"x"));
    let delivery = writer.enqueue(record).await.unwrap();
    assert_eq!(soon("the acknowledgement", delivery).await.unwrap(), work.records);
    match soon("the record", work.reader.next()).await {
        ReadEvent::Records(batches) => assert_eq!(batches[0].records[0].offset, work.records),
        other => panic!("{other:?} in place of a record"),
    }
}

/// Files are also replaced in place, and not all at once.
pub(crate) async fn a_token_file_that_is_caught_half_written_passes(world: &World) {
    let (issuer, name) = (Issuer::of(world), unique_name("caught"));
    let token = issuer.token("admin", Duration::from_secs(600));
    let cluster = world.bearer(by_file(&write(world, &name, &token)));
    let kafka = connect(&cluster);
    kafka.admin().brokers().await.unwrap();
    // The first connection was to whoever listens; the next one is to a broker by its number.
    for (wrong, sentence) in [
        (&token[..token.len() - 9], "the broker refused the bearer token"),
        ("", "holds no bearer token"),
    ] {
        write(world, &name, wrong);
        let error = kafka.admin().brokers().await.unwrap_err();
        assert!(error.to_string().contains(sentence), "{}", chain(&error));
        assert_eq!(error.class(), Class::Transient, "{}", chain(&error));
    }
    write(world, &name, &token);
    kafka.admin().brokers().await.unwrap();
}

/// Sees to it that a cluster is refused with this sentence.
async fn told(cluster: &Cluster, class: Class, sentence: &str) -> Error {
    let error = greet(cluster).await.unwrap_err();
    let told = chain(&error);
    assert!(error.to_string().contains(sentence), "{sentence:?} is not in {told:?}");
    assert_eq!((error.class(), error.code()), (class, Some(Code::AuthenticationRefused)), "{told}");
    error
}

pub(crate) async fn a_refused_token_is_told_and_a_corrected_file_is_picked_up(world: &World) {
    let hour = Duration::from_secs(3600);
    let (issuer, name) = (Issuer::of(world), unique_name("corrected"));
    let path = write(world, &name, &Issuer::unknown().token("admin", hour));
    let cluster = world.bearer(by_file(&path));
    let sentence = "the broker refused the bearer token: check security.sasl";
    let error = told(&cluster, Class::Permanent, sentence).await;
    assert!(chain(&error).contains("the broker answered invalid_token"), "{}", chain(&error));
    // A token of no kind that the broker knows.
    write(world, &name, "opaque");
    told(&cluster, Class::Permanent, sentence).await;

    let kafka = connect(&cluster);
    kafka.admin().brokers().await.unwrap_err();
    write(world, &name, &issuer.token("admin", hour));
    kafka.admin().brokers().await.unwrap();
}

pub(crate) async fn a_token_file_that_is_of_no_use_is_told(world: &World) {
    let long_ago = BootClock.unix_ms() - 3_600_000;
    let expired = Issuer::of(world).token_at("admin", long_ago, Duration::from_secs(600));
    for (path, sentence) in [
        (file(world, &expired), "expired 3000 s ago: whoever writes the file must replace it"),
        (file(world, "two words"), "holds no bearer token"),
        ("/no/such/token".to_owned(), "security.sasl.tokenFile: failed to read /no/such/token"),
    ] {
        let cluster = world.bearer(by_file(&path));
        told(&cluster, Class::Permanent, sentence).await;
    }
}

pub(crate) async fn what_is_wrong_with_an_endpoint_is_told(world: &World) {
    let endpoint = endpoint(world, BRIEF).await;
    let with = |change: &dyn Fn(&mut Sasl)| {
        let mut sasl = endpoint.sasl();
        change(&mut sasl);
        world.bearer(sasl)
    };
    let closed = with(&|sasl| sasl.token_endpoint = Some("https://127.0.0.1:1/token".to_owned()));
    let sentence = "failed to connect to token endpoint https://127.0.0.1:1/token";
    told(&closed, Class::Transient, sentence).await;
    let stranger = with(&|sasl| sasl.token_endpoint_ca_file = Some(world.tls_file("stranger.crt")));
    told(&stranger, Class::Permanent, "security.sasl.tokenEndpointCaFile holds the authority")
        .await;
    let no_file = with(&|sasl| sasl.token_endpoint_ca_file = Some("/no/such/ca".to_owned()));
    let sentence = "security.sasl.tokenEndpointCaFile: failed to read /no/such/ca";
    told(&no_file, Class::Permanent, sentence).await;

    let cluster = with(&|_| {});
    for (status, body, class, sentence) in [
        (
            "401 Unauthorized",
            r#"{"error":"invalid_client"}"#,
            Class::Permanent,
            "it answered 401 Unauthorized, invalid_client; check tokenEndpoint",
        ),
        ("404 Not Found", "<html>", Class::Permanent, "it answered 404 Not Found; check"),
        ("200 OK", "<html>", Class::Permanent, "without an access_token"),
        ("500 Internal Server Error", "", Class::Transient, "it answered 500"),
    ] {
        endpoint.answers(says(status, body));
        told(&cluster, class, sentence).await;
    }
}

/// librdkafka connects by itself: what its client cannot get is told to whoever reads.
pub(crate) async fn a_reader_without_tokens_is_told_why(world: &World) {
    let endpoint = endpoint(world, BRIEF).await;
    let mut work = Work::begin(&connect(&world.bearer(endpoint.sasl()))).await;
    work.step().await;
    endpoint.answers(says("401 Unauthorized", r#"{"error":"invalid_client"}"#));
    match soon("the refusal", work.reader.next()).await {
        ReadEvent::Failed(found, error) => {
            assert_eq!(found.topic, work.topic.as_ref());
            assert!(error.to_string().contains("401 Unauthorized, invalid_client"), "{error}");
            assert_eq!(error.code(), Some(Code::AuthenticationRefused));
        }
        other => panic!("{other:?} in place of a refusal"),
    }
}
