//! The TLS side of outbound connections.

use std::{
    collections::VecDeque,
    path::PathBuf,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use rustls::{
    ClientConfig, RootCertStore,
    client::{ResolvesClientCert, Resumption},
    sign::SingleCertAndKey,
};
use tokio::task::JoinHandle;

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
    configs: Mutex<Configs>,
}

/// Those that were used last, the oldest first.
#[derive(Debug, Default)]
struct Configs(VecDeque<(Kind, Arc<ClientConfig>)>);

/// What configs differ in.
type Kind = (Vec<String>, TlsVersion);

fn kind(options: &TlsOptions) -> Kind {
    (options.alpn.clone(), options.min_version)
}

/// A config that is there, or being made.
#[derive(Debug)]
pub(crate) enum Configuring {
    Known(Arc<ClientConfig>),
    Making(JoinHandle<Result<Arc<ClientConfig>, TlsError>>),
}

impl Future for Configuring {
    type Output = Result<Arc<ClientConfig>, TlsError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            Self::Known(config) => Poll::Ready(Ok(config.clone())),
            Self::Making(made) => Pin::new(made)
                .poll(cx)
                .map(|made| made.map_err(TlsError::Interrupted).flatten()),
        }
    }
}

impl Configs {
    fn find(&mut self, kind: &Kind) -> Option<Arc<ClientConfig>> {
        let at = self.0.iter().position(|(known, _)| known == kind)?;
        let (kind, config) = self.0.remove(at)?;
        self.0.push_back((kind, config.clone()));
        Some(config)
    }

    fn add(&mut self, kind: Kind, config: Arc<ClientConfig>) {
        if self.0.len() >= CONFIGS {
            self.0.pop_front();
        }
        self.0.push_back((kind, config));
    }
}

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
            configs: Mutex::default(),
        }))
    }

    /// Returns the config for one connection: what it offers, and the oldest version that it takes. The same options get the same config, so that a
    /// session can be resumed by a later connection to the same server.
    ///
    /// One that was made before is there at once. To make another may mean to read the system's trust anchors, so a thread does it that may wait for the disk.
    pub(crate) fn config_for(self: &Arc<Self>, options: &TlsOptions) -> Configuring {
        // Who holds the lock may be reading.
        let known = self.configs.try_lock().ok();
        match known.and_then(|mut configs| configs.find(&kind(options))) {
            Some(config) => Configuring::Known(config),
            None => {
                let (this, options) = (self.clone(), options.clone());
                Configuring::Making(tokio::task::spawn_blocking(move || this.config(&options)))
            }
        }
    }

    /// As [`Self::config_for`], in this thread.
    pub(crate) fn config(&self, options: &TlsOptions) -> Result<Arc<ClientConfig>, TlsError> {
        let kind = kind(options);
        let mut configs = self.configs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = configs.find(&kind) {
            return Ok(config);
        }
        let config = Arc::new(self.make(options)?);
        configs.add(kind, config.clone());
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
