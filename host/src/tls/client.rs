//! The TLS side of outbound connections.

use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use rustls::{
    ClientConfig, RootCertStore,
    client::{ResolvesClientCert, Resumption},
    sign::SingleCertAndKey,
};

use super::{
    TlsError, alpn,
    certificates::{Loaded, trusted},
    files::{Origin, Source},
    provider, versions,
};
use crate::endpoint::{Certificate, TlsOptions, TlsVersion};

/// What the operator says of outbound TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientTlsSettings {
    /// The file of certificates that a server's must descend from. None (the default): those that the system trusts.
    pub ca: Option<PathBuf>,
    /// What is shown to servers that ask for a certificate. None by default.
    pub certificate: Option<Certificate>,
}

/// What a service uses for outbound TLS: whom it trusts and, if the operator gave one, its certificate.
#[derive(Debug)]
pub struct ClientTls {
    /// None: the system's, which nobody has asked for yet.
    roots: Mutex<Option<Arc<RootCertStore>>>,
    certificate: Option<Arc<dyn ResolvesClientCert>>,
    /// The oldest first.
    configs: Mutex<VecDeque<(Kind, Arc<ClientConfig>)>>,
}

/// What configs differ in.
type Kind = (Vec<String>, TlsVersion);

impl Default for ClientTls {
    /// Trusts whom the system trusts, and shows no certificate.
    fn default() -> Self {
        Self {
            roots: Mutex::default(),
            certificate: None,
            configs: Mutex::default(),
        }
    }
}

impl ClientTls {
    /// Loads the files that the settings name. The system's trust anchors are loaded by the first `config`, so that a service that never
    /// dials neither pays for them nor fails without them.
    pub fn load(settings: &ClientTlsSettings) -> Result<Arc<Self>, TlsError> {
        let roots = match &settings.ca {
            Some(path) => Some(Arc::new(trusted(path)?)),
            None => None,
        };
        let certificate = match &settings.certificate {
            Some(Certificate { path, key }) => {
                let loaded = Loaded::load(&Source {
                    chain: path.clone(),
                    key: key.clone(),
                    origin: Origin::Named,
                })?;
                let certificate: Arc<dyn ResolvesClientCert> =
                    Arc::new(SingleCertAndKey::from(loaded.key));
                Some(certificate)
            }
            None => None,
        };
        Ok(Arc::new(Self {
            roots: Mutex::new(roots),
            certificate,
            configs: Mutex::new(VecDeque::new()),
        }))
    }

    /// Returns the config for one connection: what it offers, and the oldest version that it takes. The same options get the same config, so that a
    /// session can be resumed by a later connection to the same server.
    ///
    /// The first call may read the system's trust anchors, which takes some milliseconds.
    pub(crate) fn config(&self, options: &TlsOptions) -> Result<Arc<ClientConfig>, TlsError> {
        let kind = (options.alpn.clone(), options.min_version);
        let mut configs = self.configs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = configs.iter().position(|(known, _)| *known == kind) {
            // The one that was used last goes last.
            if let Some((kind, config)) = configs.remove(at) {
                configs.push_back((kind, config.clone()));
                return Ok(config);
            }
        }
        let config = Arc::new(self.make(options)?);
        if configs.len() >= CONFIGS {
            configs.pop_front();
        }
        configs.push_back((kind, config.clone()));
        Ok(config)
    }

    fn make(&self, options: &TlsOptions) -> Result<ClientConfig, TlsError> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(versions(options.min_version))
            .map_err(TlsError::Setup)?
            .with_root_certificates(self.roots()?);
        let mut config = match &self.certificate {
            Some(certificate) => builder.with_client_cert_resolver(certificate.clone()),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = alpn(&options.alpn);
        config.resumption = Resumption::in_memory_sessions(SERVERS);
        Ok(config)
    }

    fn roots(&self) -> Result<Arc<RootCertStore>, TlsError> {
        let mut roots = self.roots.lock().unwrap_or_else(PoisonError::into_inner);
        match &*roots {
            Some(roots) => Ok(roots.clone()),
            None => Ok(roots.insert(Arc::new(system_roots()?)).clone()),
        }
    }
}

/// Loads what the system trusts: on Debian /etc/ssl/certs, or what SSL_CERT_FILE and SSL_CERT_DIR name.
fn system_roots() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, ignored) = roots.add_parsable_certificates(found.certs);
    for error in &found.errors {
        tracing::debug!("the system's trust anchors: {}", crate::chain(error));
    }
    tracing::debug!("loaded {added} of the system's trust anchors, ignored {ignored}");
    if roots.is_empty() {
        return Err(TlsError::NoSystemRoots {
            reason: match found.errors.first() {
                Some(error) => crate::chain(error),
                None => "none was found".to_owned(),
            },
        });
    }
    Ok(roots)
}

/// Configs of one service: 32, of which the one that was not used for longest makes place. They differ only by what plugins put into the URLs
/// that they dial.
const CONFIGS: usize = 32;

/// Servers whose sessions one config remembers: 256, the default of rustls.
const SERVERS: usize = 256;
