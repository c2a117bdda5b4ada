//! One own secured cluster for each version, its users, and settings to reach it with.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use tidegate_kafka::Kafka;
use tidegate_runtime::ports::Error;
use tidegate_runtime::security::{Cluster, Mechanism, Sasl, Secret, Security, Tls};
use tidegate_testing::{
    KafkaOptions, KafkaVersion, RealKafka, SecureListener, TempDir, require_tool, unique_name,
};

use crate::issuer::Issuer;

/// The longest that a story may take.
const PATIENCE: Duration = Duration::from_secs(240);

/// For how long the cluster believes a user of PLAIN.
const PLAIN_SESSION_MS: u32 = 2000;

/// A secured cluster.
pub(crate) struct World {
    pub(crate) kafka: RealKafka,
    pub(crate) version: KafkaVersion,
    directory: TempDir,
}

/// The cluster of a version, started by the first story that asks. Its watcher wipes it when the tests have ended.
pub(crate) fn world(version: KafkaVersion) -> &'static World {
    static V4: OnceLock<World> = OnceLock::new();
    static V3: OnceLock<World> = OnceLock::new();
    let place = match version {
        KafkaVersion::V4 => &V4,
        KafkaVersion::V3 => &V3,
    };
    place.get_or_init(|| World::start(version))
}

/// Runs a story on a runtime like the processes'.
pub(crate) fn run(story: impl Future<Output = ()>) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        tokio::time::timeout(PATIENCE, story).await.expect("the story ends in time");
    });
}

/// Settings beside those of the harness: short sessions for one mechanism.
fn settings() -> Vec<String> {
    let setting = "listener.name.sasl_ssl.plain.connections.max.reauth.ms";
    vec![format!("{setting}={PLAIN_SESSION_MS}")]
}

impl World {
    fn start(version: KafkaVersion) -> Self {
        let options =
            KafkaOptions { secure: true, settings: settings(), ..KafkaOptions::new(version, 1) };
        let kafka = RealKafka::start_own(&options);
        Self { kafka, version, directory: TempDir::new().unwrap() }
    }

    /// A file of the harness: `ca.pem`, `USER.crt`, `USER.key`.
    pub(crate) fn tls_file(&self, name: &str) -> String {
        text(&self.kafka.tls_directory().join(name))
    }

    /// Where a story may put a file of its own.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A secret in a file. Stories at the same time may write the same: nobody sees half of it.
    pub(crate) fn secret(&self, name: &str, value: &str) -> Secret {
        let (path, new) = (self.path(name), self.path(&unique_name(name)));
        std::fs::write(&new, format!("{value}\n")).unwrap();
        std::fs::rename(&new, &path).unwrap();
        Secret::File(text(&path))
    }

    /// TLS that trusts the harness's authority.
    pub(crate) fn tls(&self) -> Tls {
        Tls { ca_file: Some(self.tls_file("ca.pem")), ..Tls::default() }
    }

    /// SCRAM-SHA-512 with the password that the harness gives a user.
    pub(crate) fn scram(&self, user: &str) -> Sasl {
        sasl(
            Mechanism::ScramSha512,
            user,
            self.secret(&format!("{user}.password"), &format!("{user}-secret")),
        )
    }

    /// A listener as a user of the harness.
    pub(crate) fn cluster(&self, listener: SecureListener, user: &str) -> Cluster {
        let security = match listener {
            SecureListener::SaslPlaintext => Security { tls: None, sasl: Some(self.scram(user)) },
            SecureListener::SaslSsl | SecureListener::Elsewhere => {
                Security { tls: Some(self.tls()), sasl: Some(self.scram(user)) }
            }
            SecureListener::Ssl => {
                let tls = Tls {
                    certificate_file: Some(self.tls_file(&format!("{user}.crt"))),
                    key_file: Some(self.tls_file(&format!("{user}.key"))),
                    ..self.tls()
                };
                Security { tls: Some(tls), sasl: None }
            }
        };
        Cluster { bootstrap_servers: self.kafka.secure_bootstrap(listener), security }
    }

    /// A listener as the user who may do everything.
    pub(crate) fn as_admin(&self, listener: SecureListener) -> Cluster {
        self.cluster(listener, "admin")
    }

    /// The listener that takes bearer tokens.
    pub(crate) fn bearer(&self, sasl: Sasl) -> Cluster {
        let listener = SecureListener::SaslSsl;
        let security = Security { tls: Some(self.tls()), sasl: Some(sasl) };
        Cluster { bootstrap_servers: self.kafka.secure_bootstrap(listener), security }
    }

    /// The same as the user who may do everything, with a token that outlives the tests.
    pub(crate) fn as_bearer(&self) -> Cluster {
        let token = Issuer::of(self).token("admin", Duration::from_secs(3600));
        let Secret::File(path) = self.secret(&unique_name("token"), &token) else { unreachable!() };
        self.bearer(Sasl { token_file: Some(path), ..Sasl::new(Mechanism::OauthBearer) })
    }

    /// The listener without any security.
    pub(crate) fn plaintext(&self) -> Cluster {
        crate::suite::plaintext(self.kafka.bootstrap())
    }
}

pub(crate) fn sasl(mechanism: Mechanism, user: &str, password: Secret) -> Sasl {
    Sasl { username: user.to_owned(), password: Some(password), ..Sasl::new(mechanism) }
}

pub(crate) fn connect(cluster: &Cluster) -> Kafka {
    crate::suite::client(cluster)
}

/// What a cluster says to the first question.
pub(crate) async fn greet(cluster: &Cluster) -> Result<u32, Error> {
    connect(cluster).admin().brokers().await
}

/// An error with all of its causes.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let chain = std::iter::successors(Some(error), |error| error.source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Runs openssl.
pub(crate) fn openssl(arguments: &[&str]) {
    let output = Command::new(require_tool("openssl")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

pub(crate) fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}
