//! Whom the sinks trust behind TLS: the system's authorities, or those of a file that an option names.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};

use crate::spec::Cause;

/// Authorities that cannot be trusted because they cannot be had; each names the option of the sink.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrustError {
    #[error("this system has no list of trusted authorities: set {option}=")]
    NoList { option: &'static str },
    #[error("failed to read {option} {}", path.display())]
    Unreadable {
        option: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{option} {} holds no certificate in PEM", path.display())]
    Empty { option: &'static str, path: PathBuf },
    #[error("{option} {} holds no usable certificates of authorities in PEM", path.display())]
    Unusable {
        option: &'static str,
        path: PathBuf,
        #[source]
        source: Cause,
    },
}

/// The beginning of every client: what it verifies comes next.
pub(crate) fn client() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, rustls::Error> {
    let provider = Arc::new(ring::default_provider());
    ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()
}

/// The system's authorities, without those that cannot be used; there may be none.
pub(crate) fn system() -> RootCertStore {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    store
}

/// The authorities of a file in PEM, or the system's; there are some.
#[cfg(any(feature = "http", feature = "postgres"))]
pub(crate) fn authorities(
    path: Option<&Path>,
    option: &'static str,
) -> Result<RootCertStore, TrustError> {
    let Some(path) = path else {
        let store = system();
        return if store.is_empty() { Err(TrustError::NoList { option }) } else { Ok(store) };
    };
    let path = || path.to_owned();
    let text = std::fs::read(path()).map_err(|source| TrustError::Unreadable {
        option,
        path: path(),
        source,
    })?;
    let unusable = |source: Cause| TrustError::Unusable { option, path: path(), source };
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|cause| unusable(cause.into()))?;
        store.add(certificate).map_err(|cause| unusable(cause.into()))?;
    }
    if store.is_empty() { Err(TrustError::Empty { option, path: path() }) } else { Ok(store) }
}
