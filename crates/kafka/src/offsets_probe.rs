//! What a round's `ListOffsets` costs, beside what it must cost at least: for `tidegate bench monitor`.
//!
//! The first is production code. The second is a bare loop over the same questions: encode, send, receive, decode, on
//! plain sockets of its own, with nothing checked and nothing kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{
    BrokerId, ListOffsetsRequest, ListOffsetsResponse, RequestHeader, ResponseHeader,
};
use kafka_protocol::protocol::{Decodable as _, Encodable as _, HeaderVersion, Request as _};
use tidegate_runtime::ports::{Bound, Class, Error};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::cluster::{Cluster, topic_name};
use crate::list_offsets::{self, EARLIEST, Isolation, LATEST, MOST_PARTITIONS, Targets, VERSION};
use crate::numbered::Numbered;

/// Asks for both bounds of every partition of some topics, in two ways.
#[derive(Debug)]
pub struct OffsetsProbe {
    cluster: Arc<Cluster>,
    /// In the parts of a round of samples.
    parts: Vec<(i32, Arc<Targets>)>,
    bare: Vec<Bare>,
}

/// A broker as the bare loop sees it.
#[derive(Debug)]
struct Bare {
    socket: TcpStream,
    questions: [ListOffsetsRequest; 2],
}

type Cause = Box<dyn std::error::Error + Send + Sync>;

impl OffsetsProbe {
    pub(crate) async fn new(cluster: Arc<Cluster>, topics: &[String]) -> Result<Self, Error> {
        let mut by_leader = BTreeMap::new();
        for (name, topic) in cluster.metadata(Some(topics)).await?.topics {
            let topic = topic.map_err(|code| failed(code.into()))?;
            list_offsets::file(&mut by_leader, &topic_name(&name), topic.numbered());
        }
        let mut bare = Vec::new();
        for (broker, targets) in &by_leader {
            let address = cluster.broker(*broker).await?.address().clone();
            let socket = TcpStream::connect((address.host.as_str(), address.port)).await;
            let socket = socket.map_err(|cause| failed(cause.into()))?;
            socket.set_nodelay(true).map_err(|cause| failed(cause.into()))?;
            let questions = [LATEST, EARLIEST].map(|timestamp| question(targets, timestamp));
            bare.push(Bare { socket, questions });
        }
        let parts = by_leader.into_iter().flat_map(|(broker, targets)| {
            let parts = list_offsets::parts(targets, MOST_PARTITIONS).into_iter();
            parts.map(move |part| (broker, Arc::new(part)))
        });
        Ok(Self { cluster, parts: parts.collect(), bare })
    }

    /// Asks all leaders at once as a round of samples does; tells how many offsets there were.
    pub async fn ask(&self) -> Result<usize, Error> {
        let mut asked = JoinSet::new();
        for (broker, targets) in &self.parts {
            let (broker, targets) = (*broker, Arc::clone(targets));
            let cluster = Arc::clone(&self.cluster);
            asked.spawn(async move {
                let connection = cluster.broker(broker).await?;
                let of = |bound| {
                    list_offsets::of_broker(
                        &connection,
                        &targets,
                        bound,
                        Isolation::ReadUncommitted,
                    )
                };
                let (latest, earliest) = tokio::try_join!(of(Bound::Latest), of(Bound::Earliest))?;
                let offsets = latest.values().chain(earliest.values()).flat_map(Numbered::iter);
                Ok(offsets.filter(|(_, offset)| offset.is_ok()).count())
            });
        }
        sum(asked).await
    }

    /// The same with the bare loop.
    pub async fn ask_bare(&mut self) -> Result<usize, Error> {
        let mut asked = JoinSet::new();
        for mut broker in self.bare.drain(..) {
            asked.spawn(async move {
                let count = broker.ask().await.map_err(failed)?;
                Ok::<_, Error>((count, broker))
            });
        }
        let mut total = 0;
        while let Some(joined) = asked.join_next().await {
            let (count, broker) = joined.map_err(|cause| failed(cause.into()))??;
            total += count;
            self.bare.push(broker);
        }
        Ok(total)
    }
}

async fn sum(mut asked: JoinSet<Result<usize, Error>>) -> Result<usize, Error> {
    let mut total = 0;
    while let Some(joined) = asked.join_next().await {
        total += joined.map_err(|cause| failed(cause.into()))??;
    }
    Ok(total)
}

impl Bare {
    async fn ask(&mut self) -> Result<usize, Cause> {
        for question in &self.questions {
            self.socket.write_all(&encode(question)?).await?;
        }
        let mut count = 0;
        for _ in &self.questions {
            let length = self.socket.read_u32().await?;
            let mut body = vec![0; usize::try_from(length)?];
            self.socket.read_exact(&mut body).await?;
            let mut body = Bytes::from(body);
            ResponseHeader::decode(&mut body, ListOffsetsResponse::header_version(VERSION))?;
            let answer = ListOffsetsResponse::decode(&mut body, VERSION)?;
            let partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
            count += partitions.filter(|partition| partition.error_code == 0).count();
        }
        Ok(count)
    }
}

fn question(targets: &Targets, timestamp: i64) -> ListOffsetsRequest {
    let topics = targets.iter().map(|(name, partitions)| {
        let partitions = partitions.iter().map(|(number, epoch)| {
            ListOffsetsPartition::default()
                .with_partition_index(i32::try_from(*number).unwrap_or(i32::MAX))
                .with_current_leader_epoch(*epoch)
                .with_timestamp(timestamp)
        });
        ListOffsetsTopic::default().with_name(name.clone()).with_partitions(partitions.collect())
    });
    ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(topics.collect())
}

fn encode(question: &ListOffsetsRequest) -> Result<BytesMut, Cause> {
    let header = RequestHeader::default()
        .with_request_api_key(ListOffsetsRequest::KEY)
        .with_request_api_version(VERSION);
    let header_version = ListOffsetsRequest::header_version(VERSION);
    let size = header.compute_size(header_version)? + question.compute_size(VERSION)?;
    let mut frame = BytesMut::with_capacity(size + 4);
    frame.put_u32(u32::try_from(size)?);
    header.encode(&mut frame, header_version)?;
    question.encode(&mut frame, VERSION)?;
    Ok(frame)
}

fn failed(cause: Cause) -> Error {
    Error::new(Class::Transient, "the bare loop failed").because(cause)
}
