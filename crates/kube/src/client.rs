//! A client of the API server: in a pod by its service account, whose token is read again as it is renewed; elsewhere by a
//! kubeconfig.

use std::time::Duration;

pub use kube::Client;
use kube::Config;
use tidegate_runtime::ports::{Class, Error};

/// How long one request may take. A server that is gone often does not say so.
const REQUEST: Duration = Duration::from_secs(10);

/// How long a connection may be silent. A watch hears something once a minute; where it does not, something between has dropped the
/// connection without a word.
const SILENCE: Duration = Duration::from_secs(100);

/// Connects in the way that this process's surroundings offer. Nothing is sent yet.
pub async fn connect() -> Result<Client, Error> {
    let failed = |cause: Box<dyn std::error::Error + Send + Sync>| {
        let text = "there is neither a service account's token (in a pod) nor a usable kubeconfig (KUBECONFIG, ~/.kube/config)";
        Error::new(Class::Permanent, text).because(cause)
    };
    let mut config = Config::infer().await.map_err(|error| failed(error.into()))?;
    // Whoever calls decides what is tried again, and when.
    config.default_retry = false;
    config.connect_timeout = Some(REQUEST);
    config.read_timeout = Some(SILENCE);
    Client::try_from(config).map_err(|error| failed(error.into()))
}
