//! The bytes under the protocol: where TLS goes, and the only place that opens a socket.
//!
//! [`open`] hands back a stream of plain bytes, whatever is under it; the connection above never asks. SASL is not here:
//! it is spoken in the protocol, by [`crate::sasl`].

use std::time::Duration;

use tidegate_runtime::ports::{Class, Error};
use tidegate_runtime::security::Tls;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::tls;

/// How long a broker may take to accept a connection. Kafka's own clients wait 10 s to 30 s; a monitor that samples
/// every second had better move on to the next broker.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What a connection needs of a socket.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// `host:port` as it is dialled.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

impl Address {
    /// Reads `HOST:PORT`, or `[V6]:PORT`, or a host alone, which gets Kafka's port.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let text = text.rsplit_once("://").map_or(text, |(_, rest)| rest);
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().ok()?),
            None => (text, 9092),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        (!host.is_empty()).then(|| Self { host: host.to_owned(), port })
    }

    /// Reads a list separated by commas; empty when one of them cannot be read.
    pub(crate) fn parse_list(text: &str) -> Vec<Self> {
        text.split(',').map(Self::parse).collect::<Option<_>>().unwrap_or_default()
    }
}

/// Opens a stream to a broker.
pub(crate) async fn open(address: &Address, tls: Option<&Tls>) -> Result<Box<dyn Stream>, Error> {
    let dial = TcpStream::connect((address.host.as_str(), address.port));
    let unreachable = || {
        Error::new(
            Class::Transient,
            format!("failed to connect to broker {address}: is it up, and the address right?"),
        )
    };
    let stream = match tokio::time::timeout(CONNECT_TIMEOUT, dial).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(unreachable().because(error)),
        Err(elapsed) => return Err(unreachable().because(elapsed)),
    };
    stream.set_nodelay(true).map_err(|error| unreachable().because(error))?;
    let Some(tls) = tls else { return Ok(Box::new(stream)) };
    match tokio::time::timeout(CONNECT_TIMEOUT, tls::wrap(stream, address, tls)).await {
        Ok(wrapped) => Ok(Box::new(wrapped?)),
        Err(elapsed) => {
            let text = format!(
                "broker {address} did not finish the TLS handshake: does its listener speak TLS?"
            );
            Err(Error::new(Class::Transient, text).because(elapsed))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_with_and_without_port() {
        let read = |text| Address::parse(text).map(|address| address.to_string());
        assert_eq!(read("kafka:9094").as_deref(), Some("kafka:9094"));
        assert_eq!(read(" kafka ").as_deref(), Some("kafka:9092"));
        assert_eq!(read("[::1]:9092").as_deref(), Some("[::1]:9092"));
        assert_eq!(read("kafka:port"), None);
        assert_eq!(Address::parse_list("a:1,b:2").len(), 2);
        assert!(Address::parse_list("a:1,:2").is_empty());
    }
}
