//! Whom a sink trusts, and as whom it comes.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

use crate::config::secret::read;

/// Of PEM texts.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// Trusted instead of what the system trusts.
    pub roots: Option<PathBuf>,
    /// A client's certificate, and its key.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// What stands in them.
#[derive(PartialEq, Eq)]
struct Identity {
    roots: Option<Vec<u8>>,
    client: Option<(Vec<u8>, Vec<u8>)>,
}

/// What connections are made with. Files are read for each of them: a certificate may live for a day only.
pub struct Tls {
    files: Files,
    made: Mutex<(Identity, Arc<ClientConfig>)>,
}

impl Tls {
    pub fn new(files: Files) -> Result<Tls, String> {
        let identity = files.read()?;
        let config = client_config(&identity)?;
        Ok(Tls { files, made: Mutex::new((identity, config)) })
    }

    pub fn config(&self) -> Result<Arc<ClientConfig>, String> {
        let identity = self.files.read()?;
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if made.0 != identity {
            let config = client_config(&identity)?;
            *made = (identity, config);
        }
        Ok(made.1.clone())
    }
}

impl Files {
    fn read(&self) -> Result<Identity, String> {
        let roots = self.roots.as_deref().map(read).transpose()?;
        let client = self.client.as_ref().map(|(certificate, key)| Ok::<_, String>((read(certificate)?, read(key)?)));
        Ok(Identity { roots, client: client.transpose()? })
    }
}

fn client_config(identity: &Identity) -> Result<Arc<ClientConfig>, String> {
    let roots = match &identity.roots {
        Some(pem) => given_roots(pem)?,
        None => system_roots()?,
    };
    let provider = Arc::new(crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots);
    let mut config = match &identity.client {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = certificates(certificate).map_err(|why| format!("cert_file: {why}"))?;
            let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| format!("key_file: {}", wrong(&error)))?;
            builder.with_client_auth_cert(chain, key).map_err(|error| format!("cert_file and key_file: {error}"))?
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|error| wrong(&error).to_owned())?;
    if found.is_empty() { Err("no certificate in it".to_owned()) } else { Ok(found) }
}

/// What is wrong with a PEM text. The errors' own words quote it, and it may be a key.
fn wrong(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => "a section has no END line; are its line breaks kept?",
        pem::Error::IllegalSectionStart { .. } => "a BEGIN line doesn't end in -----; are its line breaks kept?",
        pem::Error::Base64Decode(_) => "a section is not base64",
        pem::Error::NoItemsFound => "no section of that kind in it",
        pem::Error::SectionTooLarge => "a section is too large",
        _ => "it is no PEM text",
    }
}

fn given_roots(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem).map_err(|why| format!("ca_file: {why}"))? {
        roots.add(certificate).map_err(|error| format!("ca_file: {error}"))?;
    }
    Ok(roots)
}

/// Some of a system's certificates may be of a kind that isn't understood; none at all is a mistake.
fn system_roots() -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    let (n_added, _) = roots.add_parsable_certificates(found.certs);
    match (n_added, found.errors.first()) {
        (0, Some(error)) => Err(format!("the system has no certificates: {error}; ca_file names some")),
        (0, None) => Err("the system has no certificates; ca_file names some".to_owned()),
        _ => Ok(roots),
    }
}
