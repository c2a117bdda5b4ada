//! The HTTP server of a process: is it alive, is it ready, its metrics, its status. It reads, and changes nothing.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::metrics::render_all;
use crate::evacuation::{self, Held};

/// The media type that scrapers know the metrics by.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// How a process is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Why it should be started again, such as a loop that hangs; `None` while it is well.
    pub dead: Option<String>,
    /// What it waits for before it can do its work; `None` once it can.
    pub waiting: Option<String>,
}

impl Default for Health {
    /// Alive, and not ready because it is starting.
    fn default() -> Self {
        Self { dead: None, waiting: Some("starting".to_owned()) }
    }
}

impl Health {
    /// Alive and ready.
    pub fn ready() -> Self {
        Self { dead: None, waiting: None }
    }
}

/// What the server shows.
#[derive(Clone, Debug)]
pub struct Pages {
    /// For `/metrics`.
    pub metrics: Arc<Registry>,
    /// For `/livez` and `/readyz`.
    pub health: watch::Receiver<Health>,
    /// For `/status`, as JSON; empty while there is none.
    pub status: watch::Receiver<Bytes>,
    /// For `/evacuated/SECONDS`: what the consumer of this process has. Nothing in a process that is none.
    pub held: watch::Receiver<Held>,
    /// For the groups that this process runs, by namespace and name: their metrics beside its own, and `/groups/NAMESPACE/NAME/status`.
    pub groups: watch::Receiver<BTreeMap<(String, String), GroupPage>>,
}

/// What is shown of one of several groups.
#[derive(Clone, Debug)]
pub struct GroupPage {
    /// Its metrics, with labels that tell them from those of others.
    pub metrics: Arc<Registry>,
    /// Its status, as JSON.
    pub status: watch::Receiver<Bytes>,
}

/// A server that could not listen or go on.
#[derive(Debug, thiserror::Error)]
#[error("failed to serve HTTP on {address}")]
pub struct HttpError {
    address: SocketAddr,
    #[source]
    source: std::io::Error,
}

/// A server that listens.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
}

impl Server {
    /// Listens on an address; port 0 takes a free port.
    pub async fn bind(listen: SocketAddr) -> Result<Self, HttpError> {
        let failed = |source| HttpError { address: listen, source };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until told to stop, and then until the requests under way are answered.
    pub async fn run(self, pages: Pages, stop: CancellationToken) -> Result<(), HttpError> {
        let router = Router::new()
            .route("/livez", get(livez))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .route("/status", get(status))
            .route("/evacuated/{seconds}", get(evacuated))
            .route("/groups/{namespace}/{name}/status", get(group_status))
            .with_state(pages);
        axum::serve(self.listener, router)
            .with_graceful_shutdown(stop.cancelled_owned())
            .await
            .map_err(|source| HttpError { address: self.address, source })
    }
}

async fn livez(State(pages): State<Pages>) -> Response {
    verdict(pages.health.borrow().dead.clone())
}

async fn readyz(State(pages): State<Pages>) -> Response {
    let health = pages.health.borrow().clone();
    verdict(health.dead.or(health.waiting))
}

async fn metrics(State(pages): State<Pages>) -> Response {
    let groups: Vec<Arc<Registry>> =
        pages.groups.borrow().values().map(|page| Arc::clone(&page.metrics)).collect();
    let own = std::iter::once(&*pages.metrics);
    let text = render_all(own.chain(groups.iter().map(|registry| &**registry)));
    ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response()
}

async fn status(State(pages): State<Pages>) -> Response {
    shown(pages.status.borrow().clone())
}

/// Answers once the partitions have left this process, or nobody takes them, or after so many seconds.
async fn evacuated(State(pages): State<Pages>, Path(seconds): Path<u32>) -> Response {
    let left = evacuation::left(pages.held, Duration::from_secs(seconds.into())).await;
    tracing::info!(left = left.name(), "the end of this pod was waited with");
    (left.name().to_owned() + "\n").into_response()
}

async fn group_status(State(pages): State<Pages>, Path(key): Path<(String, String)>) -> Response {
    let status = pages.groups.borrow().get(&key).map(|page| page.status.borrow().clone());
    match status {
        Some(status) => shown(status),
        None => (StatusCode::NOT_FOUND, "this process does not run this group\n").into_response(),
    }
}

fn shown(status: Bytes) -> Response {
    if status.is_empty() {
        return verdict(Some("there is no status yet".to_owned()));
    }
    ([(header::CONTENT_TYPE, "application/json")], status).into_response()
}

fn verdict(trouble: Option<String>) -> Response {
    match trouble {
        None => "ok\n".into_response(),
        Some(trouble) => (StatusCode::SERVICE_UNAVAILABLE, trouble + "\n").into_response(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;
    use crate::spec::Http;
    use crate::task::TaskSet;
    use crate::telemetry::metrics::ControllerMetrics;

    async fn ask(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn the_pages_follow_the_process_until_it_stops() {
        let server = Server::bind(Http::default().listen).await.unwrap();
        let address = server.address();
        let mut registry = Registry::default();
        ControllerMetrics::register(&mut registry).handoffs_in_flight.set(3);
        let (health, health_seen) = watch::channel(Health::default());
        let (status, status_seen) = watch::channel(Bytes::new());
        let (groups, groups_seen) = watch::channel(BTreeMap::new());
        let pages = Pages {
            metrics: Arc::new(registry),
            health: health_seen,
            status: status_seen,
            held: watch::channel(Held::default()).1,
            groups: groups_seen,
        };
        let mut tasks = TaskSet::new();
        let stop = tasks.stop_token();
        tasks.spawn("http", async move { Ok(server.run(pages, stop).await?) });

        assert!(ask(address, "/livez").await.starts_with("HTTP/1.1 200"));
        let waiting = ask(address, "/readyz").await;
        assert!(waiting.starts_with("HTTP/1.1 503") && waiting.ends_with("starting\n"));
        assert!(ask(address, "/status").await.starts_with("HTTP/1.1 503"));
        assert!(
            ask(address, "/metrics").await.contains("tidegate_controller_handoffs_in_flight 3")
        );
        assert!(ask(address, "/other").await.starts_with("HTTP/1.1 404"));

        health.send_replace(Health::ready());
        status.send_replace(Bytes::from_static(b"{\"consumers\":2}"));
        assert!(ask(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        assert!(ask(address, "/evacuated/60").await.ends_with("all partitions have left\n"));
        let page = ask(address, "/status").await;
        assert!(page.contains("application/json") && page.ends_with("{\"consumers\":2}"));
        let labels = [("group".into(), "orders".into())].into_iter();
        let mut registry = Registry::with_labels(labels);
        ControllerMetrics::register(&mut registry).handoffs_in_flight.set(4);
        let status = watch::channel(Bytes::from_static(b"{\"group\":1}")).1;
        let page = GroupPage { metrics: Arc::new(registry), status };
        groups.send_replace([(("shop".to_owned(), "orders".to_owned()), page)].into());
        let told = ask(address, "/metrics").await;
        for line in ["handoffs_in_flight 3", "handoffs_in_flight{group=\"orders\"} 4"] {
            assert!(told.contains(&format!("tidegate_controller_{line}\n")), "{told}");
        }
        assert!(ask(address, "/groups/shop/orders/status").await.ends_with("{\"group\":1}"));
        assert!(ask(address, "/groups/shop/other/status").await.starts_with("HTTP/1.1 404"));
        health.send_replace(Health { dead: Some("the loop hangs".to_owned()), waiting: None });
        assert!(ask(address, "/livez").await.ends_with("the loop hangs\n"));

        assert!(tasks.shut_down(Duration::from_secs(5)).await.is_empty());
        assert!(TcpStream::connect(address).await.is_err());
    }

    #[tokio::test]
    async fn an_address_in_use_is_an_error_that_names_it() {
        let first = Server::bind(Http::default().listen).await.unwrap();
        let error = Server::bind(first.address()).await.unwrap_err();
        assert_eq!(error.to_string(), format!("failed to serve HTTP on {}", first.address()));
    }
}
