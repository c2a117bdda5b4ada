use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::time::Duration;

use tidegate_devbroker::{DevBroker, Options};
use tidegate_kafka::{ControlOptions, Kafka};
use tidegate_runtime::ports::{ControlLog, RawRecord};
use tidegate_runtime::security::Cluster;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// A node that sends every frame back.
async fn echo() -> (SocketAddr, Task<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = spawn_named("echo", async move {
        let mut clients = JoinSet::new();
        while let Ok((mut client, _)) = listener.accept().await {
            clients.spawn(async move {
                let (mut from, mut to) = client.split();
                drop(tokio::io::copy(&mut from, &mut to).await);
            });
        }
    });
    (address, task)
}

async fn connect(proxy: &Proxy) -> TcpStream {
    TcpStream::connect(proxy.bootstrap()).await.unwrap()
}

const FRAME: [u8; 5] = [0, 0, 0, 1, 42];

async fn receive(stream: &mut TcpStream) -> Option<[u8; 5]> {
    let mut frame = [0; 5];
    stream.read_exact(&mut frame).await.ok().map(|_| frame)
}

/// Nothing arrives as long as nobody changes the weather: whatever would have, has had its turn.
async fn receives_nothing(stream: &mut TcpStream) {
    let waited = tokio::time::timeout(Duration::from_millis(100), receive(stream)).await;
    assert!(waited.is_err(), "{waited:?}");
}

#[tokio::test]
async fn a_black_hole_gives_back_what_it_held() {
    let (node, _echo) = echo().await;
    let proxy = Proxy::start("proxy", &[node]).await.unwrap();
    let mut client = connect(&proxy).await;
    client.write_all(&FRAME).await.unwrap();
    assert_eq!(receive(&mut client).await, Some(FRAME));
    proxy.set(Weather::BlackHole);
    client.write_all(&FRAME).await.unwrap();
    receives_nothing(&mut client).await;
    proxy.set(Weather::Clear);
    assert_eq!(receive(&mut client).await, Some(FRAME));
}

#[tokio::test]
async fn a_half_open_link_loses_its_frames_and_ends_with_the_fault() {
    let (node, _echo) = echo().await;
    let proxy = Proxy::start("proxy", &[node]).await.unwrap();
    for lost in [Direction::ToBroker, Direction::ToConsumer] {
        let mut client = connect(&proxy).await;
        proxy.set(Weather::HalfOpen(lost));
        client.write_all(&FRAME).await.unwrap();
        receives_nothing(&mut client).await;
        proxy.set(Weather::Clear);
        assert_eq!(receive(&mut client).await, None, "the link has a hole, so it is closed");
    }
}

#[tokio::test]
async fn what_is_delayed_arrives() {
    let (node, _echo) = echo().await;
    let proxy = Proxy::start("proxy", &[node]).await.unwrap();
    proxy.set(Weather::Delay(Duration::from_millis(5)));
    let mut client = connect(&proxy).await;
    client.write_all(&FRAME).await.unwrap();
    assert_eq!(receive(&mut client).await, Some(FRAME));
}

/// A client of three nodes learns the addresses of the others from the first. Each of its calls hangs in a black hole,
/// which no call would that had found a way around the proxy.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_does_not_find_a_way_around() {
    let nodes = NonZeroU16::new(3).unwrap();
    let broker = DevBroker::start(Options { nodes, ..Options::default() }).await.unwrap();
    broker.create_topic("log", 3, &[]).unwrap();
    let all: Vec<_> = broker.nodes().into_iter().filter_map(|node| broker.address(node)).collect();
    let proxy = Proxy::start("proxy", &all).await.unwrap();
    let log = control_log(&proxy);
    let record = || RawRecord { value: Some("x".into()), ..RawRecord::default() };
    for partition in 0..3 {
        assert_eq!(log.append(partition, record()).await.unwrap(), 0);
        assert_eq!(log.end(partition).await.unwrap(), 1);
    }
    proxy.set(Weather::BlackHole);
    for partition in 0..3 {
        let asked = tokio::time::timeout(Duration::from_millis(200), log.end(partition)).await;
        assert!(asked.is_err(), "{asked:?}");
    }
    drop(log);
    broker.stop().await;
}

fn control_log(proxy: &Proxy) -> Arc<dyn ControlLog> {
    let cluster = Cluster { bootstrap_servers: proxy.bootstrap().to_owned(), ..Cluster::default() };
    let kafka: Kafka = tidegate_kafka::connect(&cluster, "test").unwrap();
    kafka.control_log("log", ControlOptions::default()).unwrap()
}
