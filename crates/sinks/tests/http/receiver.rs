//! A receiver as docs/sinks.md describes it: it keeps lines, positions and tokens, rejects poison, and can be told to
//! answer otherwise.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Response, StatusCode};
use axum::serve::Listener;
use tidegate_runtime::sink::{Bytes, Record, TopicPartition};
use tidegate_runtime::task::{Task, spawn_named};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// The value of records that it rejects.
const POISON: &str = "poison";

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn is_acquire(&self) -> bool {
        self.header("tidegate-action") == "acquire"
    }

    fn number(&self, name: &str) -> u64 {
        self.header(name).parse().unwrap()
    }

    fn offsets(&self) -> Vec<(u64, bool)> {
        let lines = self.body.split_inclusive(|byte| *byte == b'\n');
        let line = |line| serde_json::from_slice::<serde_json::Value>(line).unwrap();
        let line = |text| {
            let line = line(text);
            (line["offset"].as_u64().unwrap(), line["value"] == POISON)
        };
        lines.map(line).collect()
    }
}

/// What it answers instead of doing its work.
pub(crate) enum Answer {
    Says(u16, Vec<(&'static str, String)>, String),
    /// It never answers.
    Hangs,
}

pub(crate) fn says(status: u16) -> Answer {
    Answer::Says(status, Vec::new(), String::new())
}

type Script = Box<dyn FnMut(&Seen) -> Option<Answer> + Send>;

/// How it works.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// It keeps positions and tokens, and compares them.
    pub(crate) compares: bool,
    /// The largest body that it takes.
    pub(crate) limit: usize,
}

impl Default for Rules {
    fn default() -> Self {
        Self { compares: true, limit: usize::MAX }
    }
}

/// A partition, by topic id and number.
type Name = (String, String);

#[derive(Debug, Default)]
struct Page {
    token: (u64, u64),
    stands: Option<u64>,
    key: String,
    offsets: Vec<u64>,
}

struct Shared {
    rules: Rules,
    script: Mutex<Script>,
    seen: Mutex<Vec<Seen>>,
    pages: Mutex<BTreeMap<Name, Page>>,
}

/// It ends when it is dropped.
pub(crate) struct Receiver {
    pub(crate) url: String,
    shared: Arc<Shared>,
    _server: Task<io::Result<()>>,
}

impl Receiver {
    pub(crate) async fn start(rules: Rules) -> Self {
        Self::scripted(rules, |_| None).await
    }

    /// One that answers as it is told, and does its work where it is not.
    pub(crate) async fn scripted(
        rules: Rules,
        script: impl FnMut(&Seen) -> Option<Answer> + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/lines", listener.local_addr().unwrap());
        Self::serve(listener, url, rules, Box::new(script))
    }

    /// One behind TLS, for `localhost`.
    pub(crate) async fn over_tls(acceptor: TlsAcceptor) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let url = format!("https://localhost:{port}/lines");
        Self::serve(Tls(listener, acceptor), url, Rules::default(), Box::new(|_| None))
    }

    fn serve<L: Listener>(listener: L, url: String, rules: Rules, script: Script) -> Self
    where
        L::Addr: std::fmt::Debug,
    {
        let shared = Arc::new(Shared {
            rules,
            script: Mutex::new(script),
            seen: Mutex::default(),
            pages: Mutex::default(),
        });
        let router = Router::new().fallback(take).with_state(Arc::clone(&shared));
        let server = async move { axum::serve(listener, router).await };
        Self { url, shared, _server: spawn_named("receiver", server) }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// What came, without requests to acquire.
    pub(crate) fn writes(&self) -> Vec<Seen> {
        let mut seen = self.seen();
        seen.retain(|seen| !seen.is_acquire());
        seen
    }

    /// The offsets that it has of a partition, in order.
    pub(crate) fn offsets(&self, partition: &TopicPartition) -> Vec<u64> {
        let name = (partition.id.topic.to_string(), partition.id.number.to_string());
        let pages = self.shared.pages.lock().unwrap();
        pages.get(&name).map(|page| page.offsets.clone()).unwrap_or_default()
    }
}

/// A record that it rejects.
pub(crate) fn poison(offset: u64) -> Record {
    crate::record(offset, POISON)
}

async fn take(State(shared): State<Arc<Shared>>, request: Request) -> Response<Body> {
    let path = request.uri().to_string();
    let (head, body) = request.into_parts();
    // A request that was given up has no end.
    let Ok(body) = axum::body::to_bytes(body, usize::MAX).await else {
        return response(400, &[], "");
    };
    let seen = Seen { path, headers: head.headers, body };
    shared.seen.lock().unwrap().push(seen.clone());
    let told = (shared.script.lock().unwrap())(&seen);
    match told {
        Some(Answer::Says(status, headers, body)) => response(status, &headers, &body),
        Some(Answer::Hangs) => std::future::pending().await,
        None => shared.work(&seen),
    }
}

fn response(status: u16, headers: &[(&'static str, String)], body: &str) -> Response<Body> {
    let mut response = Response::builder().status(StatusCode::from_u16(status).unwrap());
    for (name, value) in headers {
        response = response.header(*name, value);
    }
    response.body(Body::from(body.to_owned())).unwrap()
}

impl Shared {
    fn work(&self, seen: &Seen) -> Response<Body> {
        let mut pages = self.pages.lock().unwrap();
        let name =
            ["tidegate-topic-id", "tidegate-partition"].map(|name| seen.header(name).to_owned());
        let page = pages.entry(name.into()).or_default();
        if seen.body.len() > self.rules.limit {
            return response(413, &[], "");
        }
        if !self.rules.compares {
            page.offsets.extend(seen.offsets().iter().map(|(offset, _)| offset));
            return response(200, &[], "");
        }
        let token = (seen.number("tidegate-generation"), seen.number("tidegate-epoch"));
        if token < page.token {
            return response(409, &[], "a later owner has written");
        }
        page.token = token;
        if seen.is_acquire() {
            let stands = page.stands.map(|at| ("tidegate-next", at.to_string()));
            return response(200, &Vec::from_iter(stands), "");
        }
        let key = seen.header("idempotency-key");
        if page.key == key {
            return response(200, &[], "");
        }
        if page.stands.is_some_and(|at| at != seen.number("tidegate-expected")) {
            return response(409, &[], "the position is another one");
        }
        let offsets = seen.offsets();
        assert_eq!(offsets.len().to_string(), seen.header("tidegate-records"));
        let rejected = offsets.iter().filter(|(_, poison)| *poison);
        let rejected: Vec<_> =
            rejected.map(|(at, _)| serde_json::json!({"offset": at, "reason": POISON})).collect();
        if !rejected.is_empty() {
            return response(422, &[], &serde_json::json!({"rejected": rejected}).to_string());
        }
        page.offsets.extend(offsets.iter().map(|(offset, _)| offset));
        page.stands = Some(seen.number("tidegate-next"));
        key.clone_into(&mut page.key);
        response(204, &[], "")
    }
}

struct Tls(TcpListener, TlsAcceptor);

impl Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, address) = self.0.accept().await.unwrap();
            // A client that does not like the certificate hangs up.
            if let Ok(stream) = self.1.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.0.local_addr()
    }
}
