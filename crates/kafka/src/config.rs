//! librdkafka's settings from the security block. Secrets are read when a client is made, and stay inside it.

use rdkafka::ClientConfig;
use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use tidegate_runtime::ports::{Class, Error};
use tidegate_runtime::security::{Cluster, Mechanism, Sasl, Secret, Tls};

use crate::oauth::Tokens;
use crate::{sasl, tls_files};

/// The settings that every client of this cluster has.
pub(crate) fn client(cluster: &Cluster, client_id: &str) -> Result<ClientConfig, Error> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &cluster.bootstrap_servers)
        .set("client.id", client_id)
        // A broker that restarts is found again as quickly as by the thin layer.
        .set("reconnect.backoff.ms", "50")
        .set("reconnect.backoff.max.ms", "1000")
        // Short, so that a moved leader costs little; each refresh is one small request.
        .set("topic.metadata.refresh.fast.interval.ms", "100");
    let security = &cluster.security;
    let protocol = match (&security.tls, &security.sasl) {
        (None, None) => "plaintext",
        (Some(_), None) => "ssl",
        (None, Some(_)) => "sasl_plaintext",
        (Some(_), Some(_)) => "sasl_ssl",
    };
    config.set("security.protocol", protocol);
    if let Some(tls) = &security.tls {
        encrypt(&mut config, tls)?;
    }
    if let Some(sasl) = &security.sasl {
        authenticate(&mut config, sasl)?;
    }
    Ok(config)
}

fn encrypt(config: &mut ClientConfig, tls: &Tls) -> Result<(), Error> {
    // OpenSSL would take keys that the thin layer refuses: what is wrong with the files is said here, in one way.
    tls_files::identity(tls)?;
    // `probe` looks where the distributions keep their certificates: the vendored OpenSSL knows no such place.
    config.set("ssl.ca.location", tls.ca_file.as_deref().unwrap_or("probe"));
    if let Some(path) = &tls.certificate_file {
        config.set("ssl.certificate.location", path);
    }
    if let Some(path) = &tls.key_file {
        config.set("ssl.key.location", path);
    }
    if let Some(password) = &tls.key_password {
        config.set("ssl.key.password", secret(password)?);
    }
    let identification = if tls.skip_hostname_check { "none" } else { "https" };
    config.set("ssl.endpoint.identification.algorithm", identification);
    Ok(())
}

fn authenticate(config: &mut ClientConfig, sasl: &Sasl) -> Result<(), Error> {
    config.set("sasl.mechanism", sasl::name_of(sasl.mechanism));
    if sasl.mechanism != Mechanism::OauthBearer {
        // Tokens come by the callback.
        config
            .set("sasl.username", &sasl.username)
            .set("sasl.password", sasl::read_password(sasl)?);
    }
    Ok(())
}

fn secret(reference: &Secret) -> Result<String, Error> {
    reference.read().map_err(|cause| {
        let text = "failed to read the password of security.tls.keyFile";
        Error::new(Class::Permanent, text).because(cause)
    })
}

/// The error for a client that could not be made. librdkafka's own error may hold the value of the setting that is
/// wrong, which may be a secret: only its description is passed on.
pub(crate) fn not_made(what: &str, error: &KafkaError) -> Error {
    let cause = match error {
        KafkaError::ClientConfig(_, description, setting, _value) => {
            format!("{description} (librdkafka setting {setting})")
        }
        KafkaError::ClientCreation(description) => description.clone(),
        other => other.to_string(),
    };
    Error::new(Class::Permanent, format!("failed to make a Kafka {what}: check the security block"))
        .because(cause)
}

/// What librdkafka calls, on whatever thread polls it: its log goes to `tracing`, and bearer tokens come from where the
/// thin layer's do.
///
/// The log is chatty about connections that heal by themselves, so its errors are warnings here and the rest is for
/// debugging: what matters comes back as the error of a call.
#[derive(Clone, Debug)]
pub(crate) struct Callbacks {
    tokens: Option<Tokens>,
}

impl Callbacks {
    pub(crate) fn new(tokens: Option<&Tokens>) -> Self {
        Self { tokens: tokens.cloned() }
    }
}

impl ClientContext for Callbacks {
    /// librdkafka asks with the mechanism OAUTHBEARER only: at the start, after four fifths of a token's time, and ten
    /// seconds after a failure.
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(
        &self,
        _config: Option<&str>,
    ) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        let tokens = self.tokens.as_ref().ok_or("OAUTHBEARER has no source of tokens")?;
        tokens.for_library().map_err(|error| {
            let cause = std::error::Error::source(&error).map(tracing::field::display);
            tracing::warn!(%error, cause, "there is no token for librdkafka");
            error.into()
        })
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::warn!(facility, "librdkafka: {message}");
            }
            _ => tracing::debug!(facility, "librdkafka: {message}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(error = %error, "librdkafka: {reason}");
    }
}

#[cfg(test)]
mod tests {
    use tidegate_runtime::security::Security;

    use super::*;

    fn scram(password: Option<Secret>) -> Cluster {
        let sasl =
            Sasl { username: "tidegate".to_owned(), password, ..Sasl::new(Mechanism::ScramSha512) };
        Cluster {
            bootstrap_servers: "127.0.0.1:1".to_owned(),
            security: Security { tls: Some(Tls::default()), sasl: Some(sasl) },
        }
    }

    #[test]
    fn scram_over_tls_sets_what_librdkafka_needs() {
        let secret = Secret::Env("PATH".to_owned());
        let config = client(&scram(Some(secret)), "test").unwrap();
        assert_eq!(config.get("security.protocol"), Some("sasl_ssl"));
        assert_eq!(config.get("sasl.password").map(str::to_owned), std::env::var("PATH").ok());
        assert_eq!(config.get("ssl.endpoint.identification.algorithm"), Some("https"));
    }

    #[test]
    fn a_secret_that_cannot_be_read_is_named_by_its_reference() {
        let secret = Secret::Env("TIDEGATE_NO_SUCH_VARIABLE".to_owned());
        let error = client(&scram(Some(secret)), "test").unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("TIDEGATE_NO_SUCH_VARIABLE"), "{cause}");
        assert!(client(&scram(None), "test").is_err());
    }
}
