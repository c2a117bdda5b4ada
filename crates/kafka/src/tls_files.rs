//! What TLS needs from the disk: authorities to trust, and who this client is. Read anew for each connection, so that a
//! file that was replaced is picked up.
//!
//! Files are PEM. A private key may be PKCS#8, PKCS#1 or SEC1 in the clear, or PKCS#8 encrypted with `keyPassword`. The
//! older form of encrypted keys (`Proc-Type: 4,ENCRYPTED`) is refused for both clients: its key derivation is one round
//! of MD5, and one command turns it into the newer form.

use std::path::Path;

use pkcs8::{EncryptedPrivateKeyInfoRef, SecretDocument};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tidegate_runtime::errors::Code;
use tidegate_runtime::ports::{Class, Error};
use tidegate_runtime::security::{Secret, Tls};

/// The lines around an encrypted PKCS#8 key.
const BEGIN_ENCRYPTED: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----";
const END_ENCRYPTED: &str = "-----END ENCRYPTED PRIVATE KEY-----";

/// What marks a key that is encrypted in the older form.
const OLD_FORM: &str = "Proc-Type: 4,ENCRYPTED";

/// The client's certificate with its chain, and its key.
pub(crate) type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// The authorities to trust: those of the file that a setting names, else the system's.
pub(crate) fn authorities(path: Option<&str>, setting: &str) -> Result<RootCertStore, Error> {
    let mut store = RootCertStore::empty();
    let Some(path) = path else {
        let found = rustls_native_certs::load_native_certs();
        // A system's list may hold certificates that are too old to be used: they are passed over, as other clients do.
        store.add_parsable_certificates(found.certs);
        if store.is_empty() {
            let text = format!("this system has no list of trusted authorities: set {setting}");
            let error = wrong(text);
            return Err(match found.errors.into_iter().next() {
                Some(cause) => error.because(cause),
                None => error,
            });
        }
        return Ok(store);
    };
    for certificate in certificates(path, setting)? {
        store.add(certificate).map_err(|cause| {
            wrong(format!("{setting}: {path} holds no usable certificate of an authority"))
                .because(cause)
        })?;
    }
    Ok(store)
}

/// Who this client is; `None` when it has no certificate.
pub(crate) fn identity(tls: &Tls) -> Result<Option<Identity>, Error> {
    match (&tls.certificate_file, &tls.key_file) {
        (Some(certificate), Some(key)) => {
            let chain = certificates(certificate, "security.tls.certificateFile")?;
            Ok(Some((chain, private_key(key, tls.key_password.as_ref())?)))
        }
        (None, None) => Ok(None),
        _ => Err(wrong("security.tls: certificateFile and keyFile go together".to_owned())),
    }
}

fn certificates(path: &str, setting: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let text = read(path, setting)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    let unusable = || wrong(format!("{setting}: {path} holds no certificate in PEM"));
    match found {
        Ok(found) if found.is_empty() => Err(unusable()),
        Ok(found) => Ok(found),
        Err(cause) => Err(unusable().because(cause)),
    }
}

fn private_key(path: &str, password: Option<&Secret>) -> Result<PrivateKeyDer<'static>, Error> {
    let text = read(path, "security.tls.keyFile")?;
    if text.contains(OLD_FORM) {
        let advice = "is encrypted in a form that is too weak: convert it with `openssl pkcs8 -topk8 -v2 aes-256-cbc`";
        return Err(wrong(format!("security.tls.keyFile: {path} {advice}")));
    }
    if let Some(begin) = text.find(BEGIN_ENCRYPTED) {
        let block = text.get(begin..).unwrap_or_default();
        let end = block.find(END_ENCRYPTED).map_or(block.len(), |at| at + END_ENCRYPTED.len());
        return decrypted(path, block.get(..end).unwrap_or_default(), password);
    }
    // The cause is left out: a reader of PEM may quote what it read.
    PrivateKeyDer::from_pem_slice(text.as_bytes())
        .map_err(|_| wrong(format!("security.tls.keyFile: {path} holds no private key in PEM")))
}

fn decrypted(
    path: &str,
    block: &str,
    password: Option<&Secret>,
) -> Result<PrivateKeyDer<'static>, Error> {
    let Some(password) = password else {
        let text = format!("security.tls.keyFile: {path} is encrypted: set keyPassword");
        return Err(wrong(text));
    };
    let password = password.read().map_err(|cause| {
        wrong("failed to read the password of security.tls.keyFile".to_owned()).because(cause)
    })?;
    let failed = |cause: pkcs8::Error| {
        let advice = "keyPassword is wrong, or the key is encrypted in another way than by \
                      `openssl pkcs8 -topk8 -v2 aes-256-cbc`";
        wrong(format!("security.tls.keyFile: failed to decrypt {path}: {advice}")).because(cause)
    };
    let (_, document) =
        SecretDocument::from_pem(block).map_err(|cause| failed(pkcs8::Error::from(cause)))?;
    let encrypted = EncryptedPrivateKeyInfoRef::try_from(document.as_bytes()).map_err(failed)?;
    let key = encrypted.decrypt(password).map_err(failed)?;
    Ok(PrivatePkcs8KeyDer::from(key.as_bytes().to_vec()).into())
}

fn read(path: &str, setting: &str) -> Result<String, Error> {
    std::fs::read_to_string(Path::new(path))
        .map_err(|cause| wrong(format!("{setting}: failed to read {path}")).because(cause))
}

fn wrong(text: String) -> Error {
    Error::new(Class::Permanent, text).coded(Code::AuthenticationRefused)
}
