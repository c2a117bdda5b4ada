//! How to reach a Kafka cluster: one block for both client libraries.
//!
//! Secrets are references, read when a connection is made, and never printed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The cluster to use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Cluster {
    /// `HOST:PORT` of one or more brokers, separated by commas.
    pub bootstrap_servers: String,
    /// How to speak to it; plaintext without authentication when left out.
    #[serde(default, skip_serializing_if = "Security::is_plaintext")]
    pub security: Security,
}

/// Encryption and authentication.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Security {
    /// TLS; plaintext when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// SASL; none when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sasl: Option<Sasl>,
}

impl Security {
    /// True when nothing is encrypted and nobody is authenticated.
    pub fn is_plaintext(&self) -> bool {
        self.tls.is_none() && self.sasl.is_none()
    }
}

/// TLS settings; files are PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tls {
    /// Certificates of the authorities to trust; the system's when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<String>,
    /// The client's certificate chain, for mutual TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_file: Option<String>,
    /// The client's private key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_file: Option<String>,
    /// Password of the private key, which is PKCS#8 then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_password: Option<Secret>,
    /// Set to true to accept a certificate of another host name: for tests only.
    #[serde(default)]
    pub skip_hostname_check: bool,
}

/// A SASL mechanism with its settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Sasl {
    /// Which mechanism.
    pub mechanism: Mechanism,
    /// User of PLAIN and SCRAM.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub username: String,
    /// Password of PLAIN and SCRAM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// OAUTHBEARER: a file that holds the token, and is replaced before it expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<String>,
    /// OAUTHBEARER: where to ask for a token with client credentials, as `https://HOST/PATH`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_endpoint: Option<String>,
    /// Certificates of the authorities to trust for `tokenEndpoint`; the system's when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_endpoint_ca_file: Option<String>,
    /// This client's id at `tokenEndpoint`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// This client's secret at `tokenEndpoint`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<Secret>,
    /// The scope to ask `tokenEndpoint` for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
}

impl Sasl {
    /// A mechanism without any settings yet.
    pub fn new(mechanism: Mechanism) -> Self {
        Self {
            mechanism,
            username: String::new(),
            password: None,
            token_file: None,
            token_endpoint: None,
            token_endpoint_ca_file: None,
            client_id: None,
            client_secret: None,
            scope: None,
        }
    }
}

/// The mechanisms, by Kafka's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Mechanism {
    /// User and password, readable by the broker: over TLS only.
    #[serde(rename = "PLAIN")]
    Plain,
    /// Salted challenge and response with SHA-256.
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// Salted challenge and response with SHA-512.
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
    /// A bearer token, usable by whoever reads it: over TLS only.
    #[serde(rename = "OAUTHBEARER")]
    OauthBearer,
}

/// Where a secret is kept; exactly one of the two.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Secret {
    /// The content of a file, without a trailing line end.
    File(String),
    /// The value of an environment variable.
    Env(String),
}

impl Secret {
    /// Reads the secret now. The error names the reference, never the value.
    pub fn read(&self) -> Result<String, SecretError> {
        match self {
            Self::File(path) => std::fs::read_to_string(path)
                .map(|text| text.trim_end_matches(['\r', '\n']).to_owned())
                .map_err(|source| SecretError::File { path: path.clone(), source }),
            Self::Env(name) => std::env::var(name)
                .map_err(|source| SecretError::Env { name: name.clone(), source }),
        }
    }
}

/// A secret that could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file is missing or unreadable.
    #[error("failed to read the secret file {path}")]
    File {
        /// Its path.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The variable is not set.
    #[error("failed to read the secret from environment variable {name}")]
    Env {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: std::env::VarError,
    },
}
