//! Receivers behind TLS with a certificate of a private authority.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tidegate_runtime::ports::{BootClock, Class};
use tidegate_testing::{TempDir, require_tool};
use tokio_rustls::TlsAcceptor;

use crate::receiver::Receiver;
use crate::{Owner, chain, open, partition, record, token};

fn openssl(folder: &Path, arguments: &str) {
    let mut command = Command::new(require_tool("openssl"));
    let output = command.current_dir(folder).args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// An authority, and a certificate of it for `localhost`.
fn authority() -> TempDir {
    let folder = TempDir::new().unwrap();
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    openssl(
        folder.path(),
        &format!("req -x509 {key} -days 2 -subj /CN=authority -keyout ca.key -out ca.pem"),
    );
    openssl(folder.path(), &format!("req {key} -subj /CN=localhost -keyout key.pem -out csr.pem"));
    let extensions = "subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n";
    std::fs::write(folder.path().join("extensions"), extensions).unwrap();
    let sign = "x509 -req -in csr.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 2";
    openssl(folder.path(), &format!("{sign} -extfile extensions -out cert.pem"));
    folder
}

async fn receiver(folder: &Path) -> Receiver {
    let chain = vec![CertificateDer::from_pem_file(folder.join("cert.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(folder.join("key.pem")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    Receiver::over_tls(TlsAcceptor::from(Arc::new(config))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_of_a_private_authority_is_trusted_by_ca_file_only() {
    let folder = authority();
    let receiver = receiver(folder.path()).await;
    let trusting = format!("{}#caFile={}", receiver.url, folder.path().join("ca.pem").display());
    let owner = Owner::of(&trusting).await;
    owner.writes(0, &[record(0, "a")], 1).await.unwrap();
    assert_eq!(receiver.offsets(&partition()), [0]);

    let elsewhere = authority();
    let url = format!("{}#caFile={}", receiver.url, elsewhere.path().join("ca.pem").display());
    let error = open(&url).await.acquire(&partition(), token(6)).await.unwrap_err();
    assert_eq!(error.class(), Class::Permanent, "{}", chain(&error));
    assert!(chain(&error).contains("set #caFile= to the authority"), "{}", chain(&error));
    assert_eq!(receiver.seen().len(), 2);
}

#[tokio::test]
async fn authorities_that_cannot_be_read_are_found_when_the_sink_is_opened() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("ca.pem");
    let url = format!("https://localhost/lines#caFile={}", file.display());
    for words in ["failed to read caFile", "holds no certificate in PEM"] {
        let error = tidegate_sinks::open(&url, Arc::new(BootClock)).await.unwrap_err();
        assert_eq!(error.class(), Class::Permanent);
        assert!(chain(&error).contains(words), "{}", chain(&error));
        std::fs::write(&file, "nothing").unwrap();
    }
}
