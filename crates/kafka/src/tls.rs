//! TLS under a connection, by rustls: versions 1.2 and 1.3, with ring.
//!
//! The chain of the broker's certificate is always checked. `skipHostnameCheck` forgives one thing only: that the
//! certificate is for another name. What goes wrong becomes one sentence that says what to do, whether it shows in the
//! handshake or, as TLS 1.3 has it with a refused client certificate, at the first read after it.

use std::io;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, SignatureScheme,
};
use tidegate_runtime::errors::Code;
use tidegate_runtime::ports::{Class, Error};
use tidegate_runtime::security::Tls;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::tls_files;
use crate::transport::Address;

/// Wraps a socket to a broker.
pub(crate) async fn wrap(
    stream: TcpStream,
    address: &Address,
    tls: &Tls,
) -> Result<TlsStream<TcpStream>, Error> {
    let tls = tls.clone();
    // Reads files, and derives a key where one is encrypted.
    let configured =
        tokio::task::spawn_blocking(move || configure(&tls, "security.tls.caFile")).await;
    let config = configured.map_err(|cause| {
        Error::new(Class::Permanent, "failed to prepare a TLS connection").because(cause)
    })??;
    let name = ServerName::try_from(address.host.clone()).map_err(|cause| {
        let text = format!("broker {address} has a name that no certificate can be for");
        Error::new(Class::Permanent, text).because(cause)
    })?;
    let outcome = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    outcome.map_err(|cause| match explain(address, &cause) {
        Some(sentence) => sentence.because(cause),
        None => cut_off(address).because(cause),
    })
}

/// The settings of one connection; `ca_file` names the setting that authorities come from.
pub(crate) fn configure(tls: &Tls, ca_file: &str) -> Result<ClientConfig, Error> {
    let provider = Arc::new(ring::default_provider());
    let authorities = Arc::new(tls_files::authorities(tls.ca_file.as_deref(), ca_file)?);
    let verifier =
        WebPkiServerVerifier::builder_with_provider(authorities, Arc::clone(&provider)).build();
    let verifier = verifier.map_err(|cause| {
        let text = format!("{ca_file}: the authorities to trust cannot be used");
        Error::new(Class::Permanent, text).because(cause)
    })?;
    let verifier: Arc<dyn ServerCertVerifier> =
        if tls.skip_hostname_check { Arc::new(AnyName(verifier)) } else { verifier };
    let config = versions(provider)?.dangerous().with_custom_certificate_verifier(verifier);
    let Some((chain, key)) = tls_files::identity(tls)? else {
        return Ok(config.with_no_client_auth());
    };
    config.with_client_auth_cert(chain, key).map_err(|cause| {
        let text = "security.tls: the key of keyFile does not belong to the certificate of certificateFile, \
                    or is of a kind that TLS does not use";
        Error::new(Class::Permanent, text).coded(Code::AuthenticationRefused).because(cause)
    })
}

fn versions(
    provider: Arc<CryptoProvider>,
) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, Error> {
    ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(
        |cause| Error::new(Class::Permanent, "failed to prepare a TLS connection").because(cause),
    )
}

// === sentences ===

/// The sentence for a failure of TLS, without its cause; `None` when the network failed and not TLS.
pub(crate) fn explain(address: &Address, failure: &io::Error) -> Option<Error> {
    let cause = failure.get_ref()?.downcast_ref::<rustls::Error>()?;
    let text = match cause {
        rustls::Error::InvalidCertificate(fault) => certificate(address, fault),
        rustls::Error::AlertReceived(alert) => refused(address, *alert),
        rustls::Error::InvalidMessage(_) => format!(
            "broker {address} does not answer in TLS: \
             name a listener that speaks it, or leave security.tls out"
        ),
        _ => format!("failed to speak TLS with broker {address}"),
    };
    Some(Error::new(Class::Permanent, text).coded(Code::AuthenticationRefused))
}

/// The sentence for a broker that hung up in the handshake. Transient: one that is being stopped does the same.
fn cut_off(address: &Address) -> Error {
    let text = format!(
        "broker {address} closed the connection in the TLS handshake: \
         if it goes on doing so, its listener does not speak TLS"
    );
    Error::new(Class::Transient, text).coded(Code::AuthenticationRefused)
}

fn certificate(address: &Address, fault: &CertificateError) -> String {
    use CertificateError as C;
    match fault {
        C::UnknownIssuer => format!(
            "the certificate of broker {address} is signed by an unknown authority: \
             set security.tls.caFile to that authority's certificate"
        ),
        C::NotValidForName | C::NotValidForNameContext { .. } => format!(
            "the certificate of broker {address} is for another host name: \
             use its name in bootstrapServers and in the broker's advertised.listeners"
        ),
        C::Expired | C::ExpiredContext { .. } => {
            format!("the certificate of broker {address} has expired: give the broker a new one")
        }
        C::NotValidYet | C::NotValidYetContext { .. } => format!(
            "the certificate of broker {address} is not valid yet: look at the clocks of both machines"
        ),
        _ => format!("the certificate of broker {address} cannot be accepted"),
    }
}

fn refused(address: &Address, alert: AlertDescription) -> String {
    use AlertDescription as A;
    match alert {
        A::ProtocolVersion | A::InsufficientSecurity => {
            format!("broker {address} speaks TLS in old versions only: enable TLS 1.2 or 1.3 on it")
        }
        A::CertificateRequired
        | A::NoCertificate
        | A::BadCertificate
        | A::UnsupportedCertificate
        | A::CertificateRevoked
        | A::CertificateExpired
        | A::CertificateUnknown
        | A::UnknownCA
        | A::AccessDenied => format!(
            "broker {address} wants a client certificate that it trusts: \
             set security.tls.certificateFile and keyFile, or correct them"
        ),
        _ => format!(
            "broker {address} refused the TLS handshake: look at its log, and whether it wants a \
             client certificate (security.tls.certificateFile)"
        ),
    }
}

// === impl AnyName ===

/// Checks everything but the name.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        use CertificateError as C;
        let checked =
            self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match checked {
            // The name is looked at last: what fails there has a chain that is good.
            Err(rustls::Error::InvalidCertificate(
                C::NotValidForName | C::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sentence(cause: rustls::Error) -> String {
        let address = Address::parse("kafka:9094").unwrap();
        let failure = io::Error::new(io::ErrorKind::InvalidData, cause);
        let error = explain(&address, &failure).unwrap();
        assert_eq!(error.class(), Class::Permanent);
        assert_eq!(error.code(), Some(Code::AuthenticationRefused));
        error.to_string()
    }

    #[test]
    fn what_is_wrong_with_a_certificate_is_said_with_what_to_do() {
        for (fault, words) in [
            (CertificateError::UnknownIssuer, "set security.tls.caFile"),
            (CertificateError::NotValidForName, "is for another host name"),
            (CertificateError::Expired, "has expired"),
            (CertificateError::NotValidYet, "look at the clocks"),
            (CertificateError::BadSignature, "cannot be accepted"),
        ] {
            let text = sentence(rustls::Error::InvalidCertificate(fault));
            assert!(text.contains("kafka:9094") && text.contains(words), "{text}");
        }
    }

    #[test]
    fn what_a_broker_refuses_is_said_with_what_to_do() {
        for (alert, words) in [
            (AlertDescription::CertificateRequired, "set security.tls.certificateFile"),
            (AlertDescription::UnknownCA, "wants a client certificate that it trusts"),
            (AlertDescription::ProtocolVersion, "enable TLS 1.2 or 1.3"),
            (AlertDescription::HandshakeFailure, "look at its log"),
        ] {
            let text = sentence(rustls::Error::AlertReceived(alert));
            assert!(text.contains(words), "{text}");
        }
        let text = sentence(rustls::InvalidMessage::InvalidContentType.into());
        assert!(text.contains("does not answer in TLS"), "{text}");
    }

    #[test]
    fn a_network_that_failed_is_not_explained_by_tls() {
        let address = Address::parse("kafka:9094").unwrap();
        assert!(explain(&address, &io::ErrorKind::ConnectionReset.into()).is_none());
        assert_eq!(cut_off(&address).class(), Class::Transient);
    }
}
