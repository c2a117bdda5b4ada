//! A proxy before the server that can refuse a request, lose or change an answer, or keep a request waiting.

use std::collections::VecDeque;
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::HOST;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// What is done to one request.
#[derive(Debug)]
pub(crate) enum Act {
    /// It is refused with this status and code of S3, and never reaches the server.
    Refuse(u16, &'static str),
    /// The server does it, and the connection breaks before its answer arrives.
    LoseAnswer,
    /// The server does it, and yet the answer is this failure.
    FailAfter(u16),
    /// It waits until this is sent, and reaches the server then, whether somebody still waits or not.
    Wait(oneshot::Receiver<()>),
}

/// What is done to requests, and what came.
#[derive(Debug, Default)]
struct Plan {
    /// For the next puts; the others pass.
    puts: VecDeque<Act>,
    /// For all requests.
    refuse_all: Option<(u16, &'static str)>,
    /// A condition that is not met is answered like one that is.
    overwrites: bool,
    /// Method and target of each request.
    seen: Vec<String>,
}

/// A running proxy.
#[derive(Debug)]
pub(crate) struct Proxy {
    endpoint: String,
    plan: Arc<Mutex<Plan>>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// Starts one before the server at this endpoint.
    pub(crate) async fn before(endpoint: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let plan: Arc<Mutex<Plan>> = Arc::default();
        let server = endpoint.strip_prefix("http://").unwrap().to_owned();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, server, Arc::clone(&plan)));
        Self { endpoint: format!("http://{address}"), plan, _tasks: tasks }
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// What happens to the next puts.
    pub(crate) fn next_puts(&self, acts: impl IntoIterator<Item = Act>) {
        self.plan.lock().unwrap().puts.extend(acts);
    }

    pub(crate) fn refuse_all(&self, status: u16, code: &'static str) {
        self.plan.lock().unwrap().refuse_all = Some((status, code));
    }

    pub(crate) fn overwrite(&self) {
        self.plan.lock().unwrap().overwrites = true;
    }

    /// The requests since the last call.
    pub(crate) fn take_seen(&self) -> Vec<String> {
        std::mem::take(&mut self.plan.lock().unwrap().seen)
    }
}

async fn serve(listener: TcpListener, server: String, plan: Arc<Mutex<Plan>>) {
    let client = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
    let forward = Forward { client, server, plan };
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(connection(stream, forward.clone()));
    }
}

async fn connection(stream: TcpStream, forward: Forward) {
    let service = service_fn(|request| {
        let forward = forward.clone();
        async move { forward.answer(request).await }
    });
    let connection = hyper::server::conn::http1::Builder::new();
    // A client that hangs up, and an answer that is lost on purpose, end it with an error.
    drop(connection.serve_connection(TokioIo::new(stream), service).await);
}

#[derive(Clone)]
struct Forward {
    client: Client<HttpConnector, Full<Bytes>>,
    server: String,
    plan: Arc<Mutex<Plan>>,
}

type Answer = io::Result<Response<Full<Bytes>>>;

impl Forward {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        let request = Request::from_parts(parts, Full::new(body));
        let is_put = request.method() == Method::PUT;
        let (act, overwrites) = {
            let mut plan = self.plan.lock().unwrap();
            plan.seen.push(format!("{} {}", request.method(), request.uri()));
            let act = if is_put { plan.puts.pop_front() } else { None };
            let all = plan.refuse_all.map(|(status, code)| Act::Refuse(status, code));
            (all.or(act), plan.overwrites)
        };
        let answer = match act {
            None => self.forward(request).await?,
            Some(Act::Refuse(status, code)) => refusal(status, code),
            Some(Act::FailAfter(status)) => {
                self.forward(request).await?;
                refusal(status, "InternalError")
            }
            Some(Act::LoseAnswer) => {
                self.forward(request).await?;
                return Err(io::Error::other("lost on purpose"));
            }
            Some(Act::Wait(go)) => self.later(request, go).await?,
        };
        if overwrites && answer.status() == StatusCode::PRECONDITION_FAILED {
            let ok = Response::builder().header("etag", "\"0\"").body(Full::default());
            return ok.map_err(io::Error::other);
        }
        Ok(answer)
    }

    /// Goes on in a task of its own, so that it does not end with the client.
    async fn later(&self, request: Request<Full<Bytes>>, go: oneshot::Receiver<()>) -> Answer {
        let forward = self.clone();
        let task = tidegate_runtime::task::spawn_named("late", async move {
            drop(go.await);
            forward.forward(request).await
        });
        let mut tasks = JoinSet::new();
        let (sender, receiver) = oneshot::channel();
        tasks.spawn(async move {
            if let Ok(answer) = task.await {
                drop(sender.send(answer));
            }
        });
        tasks.detach_all();
        receiver.await.map_err(io::Error::other)?
    }

    async fn forward(&self, mut request: Request<Full<Bytes>>) -> Answer {
        // The signature covers the name under which the client knows the server: it stays in its header.
        assert!(request.headers().contains_key(HOST));
        let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
        *request.uri_mut() = format!("http://{}{target}", self.server).parse().unwrap();
        let answer = self.client.request(request).await.map_err(io::Error::other)?;
        let (parts, body) = answer.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        Ok(Response::from_parts(parts, Full::new(body)))
    }
}

fn refusal(status: u16, code: &str) -> Response<Full<Bytes>> {
    let text = format!("<Error><Code>{code}</Code><Message>as the test wants it</Message></Error>");
    let mut answer = Response::new(Full::new(Bytes::from(text)));
    *answer.status_mut() = StatusCode::from_u16(status).unwrap();
    answer
}
