//! TLS under a connection, by rustls: what the four values of `sslmode` check.
//!
//! As with PostgreSQL's own clients, `prefer` and `require` take any certificate: they keep out who only listens.
//! `verify-full` also keeps out who stands in between.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::config::{PostgresConfig, SslMode};
use crate::spec::Cause;

/// Prepares the TLS of one connection. Reads files, and blocks while it does.
pub(super) fn connector(config: &PostgresConfig) -> Result<MakeRustlsConnect, Cause> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?;
    let tls = match config.ssl_mode {
        SslMode::VerifyFull => {
            builder.with_root_certificates(authorities(config.ssl_root_cert.as_deref())?)
        }
        SslMode::Disable | SslMode::Prefer | SslMode::Require => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        }
    };
    Ok(MakeRustlsConnect::new(tls.with_no_client_auth()))
}

/// Who may sign the server's certificate.
fn authorities(file: Option<&Path>) -> Result<RootCertStore, Cause> {
    let mut store = RootCertStore::empty();
    let Some(file) = file else {
        store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if store.is_empty() {
            return Err("the system has no trusted authorities: give sslrootcert".into());
        }
        return Ok(store);
    };
    let name = file.display();
    let unreadable = |cause| format!("sslrootcert={name} cannot be read: {cause}");
    for certificate in CertificateDer::pem_file_iter(file).map_err(unreadable)? {
        store.add(certificate.map_err(unreadable)?)?;
    }
    if store.is_empty() {
        return Err(format!("sslrootcert={name} holds no certificate").into());
    }
    Ok(store)
}

/// Takes any certificate whose key the server has.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
