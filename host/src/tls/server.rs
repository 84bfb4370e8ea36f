//! The TLS side of one listener.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs::Ticketer,
    server::{
        ClientHello, ResolvesServerCert, ServerSessionMemoryCache, WebPkiClientVerifier,
        danger::ClientCertVerifier,
    },
    sign::CertifiedKey,
};

use super::{
    TlsError, alpn,
    certificates::{Certificates, trusted},
    files, provider, versions,
};
use crate::{
    endpoint::{ClientAuth, TlsOptions},
    watch::Snapshot,
};

/// The TLS side of one listener. Cheap to clone through `Arc`; shared by all workers.
#[derive(Debug)]
pub(crate) struct ServerTls {
    options: TlsOptions,
    resolver: Arc<Resolver>,
    current: RwLock<Current>,
    /// One reload at a time.
    reloading: Mutex<()>,
}

/// What a reload did.
#[derive(Debug)]
pub(crate) enum Reloaded {
    /// New handshakes get other certificates, or have theirs checked against others.
    Changed {
        /// The certificates that are shown now, for the log.
        certificates: String,
    },
    /// The files say what they said before.
    Unchanged,
}

#[derive(Debug)]
struct Current {
    config: Arc<ServerConfig>,
    /// Whom clients' certificates must descend from; empty if they are not asked.
    authorities: Arc<RootCertStore>,
    /// What the files looked like before they were read.
    snapshot: Snapshot,
}

impl ServerTls {
    /// Loads everything that the options name.
    pub(crate) fn load(options: &TlsOptions) -> Result<Arc<Self>, TlsError> {
        let snapshot = files::look(options);
        let certificates = Certificates::load(&options.certificates)?;
        tracing::info!("loaded the certificates of {certificates}");
        let resolver = Arc::new(Resolver(RwLock::new(Arc::new(certificates))));
        let authorities = Arc::new(authorities(options)?);
        let config = config(options, &resolver, &authorities)?;
        Ok(Arc::new(Self {
            options: options.clone(),
            resolver,
            current: RwLock::new(Current {
                config,
                authorities,
                snapshot,
            }),
            reloading: Mutex::new(()),
        }))
    }

    /// Returns the config for the next connection. It is the same one, with its sessions and tickets, until [`reload`](Self::reload) finds other
    /// certificates for `ca`.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        self.read().config.clone()
    }

    /// Loads the files again; handshakes that begin afterwards get what is in them. On an error everything stays as it was.
    ///
    /// Tickets and sessions outlive a new certificate. They do not outlive a change of `ca`: a session that is resumed stands for a client's certificate that
    /// was checked when the session began ([RFC 8446, section 2.2](https://www.rfc-editor.org/rfc/rfc8446.html#section-2.2)), and an authority that the
    /// operator removed must count no more. nginx does the same.
    ///
    /// It reads files, so it is not for a worker's thread.
    pub(crate) fn reload(&self) -> Result<Reloaded, TlsError> {
        let _one_at_a_time = self
            .reloading
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let snapshot = files::look(&self.options);
        let certificates = Arc::new(Certificates::load(&self.options.certificates)?);
        let authorities = Arc::new(authorities(&self.options)?);
        let has_new_authorities = self.read().authorities.roots != authorities.roots;
        let config = if has_new_authorities {
            config(&self.options, &self.resolver, &authorities)?
        } else {
            self.config()
        };
        // Nothing can fail from here on.
        let told = certificates.to_string();
        let has_new_certificates = self.resolver.replace(certificates);
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        *current = Current {
            config,
            authorities,
            snapshot,
        };
        Ok(if has_new_certificates || has_new_authorities {
            Reloaded::Changed { certificates: told }
        } else {
            Reloaded::Unchanged
        })
    }

    /// Returns whether the files differ (which there are, inode, size, times) from those that were loaded.
    #[cfg(test)]
    pub(crate) fn has_changed(&self) -> bool {
        self.has_loaded_other(&files::look(&self.options))
    }

    /// Returns what the listener's URL says.
    pub(super) fn options(&self) -> &TlsOptions {
        &self.options
    }

    /// Returns whether files that look like this are others than those that were loaded.
    pub(super) fn has_loaded_other(&self, snapshot: &Snapshot) -> bool {
        self.read().snapshot != *snapshot
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Current> {
        self.current.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Chooses the certificate of each handshake.
struct Resolver(RwLock<Arc<Certificates>>);

impl Resolver {
    /// Replaces the certificates, and returns whether the new ones are others.
    fn replace(&self, certificates: Arc<Certificates>) -> bool {
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let is_new = !current.are(&certificates);
        *current = certificates;
        is_new
    }

    fn current(&self) -> Arc<Certificates> {
        let current = self.0.read().unwrap_or_else(PoisonError::into_inner);
        current.clone()
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current()
            .choose(hello.server_name(), hello.signature_schemes())
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Resolver({})", self.current())
    }
}

/// Loads the certificates that those of clients must descend from.
fn authorities(options: &TlsOptions) -> Result<RootCertStore, TlsError> {
    match &options.ca {
        Some(path) => trusted(path),
        None => Ok(RootCertStore::empty()),
    }
}

/// Makes a config, with tickets and sessions of its own.
fn config(
    options: &TlsOptions,
    resolver: &Arc<Resolver>,
    authorities: &Arc<RootCertStore>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions(options.min_version))
        .map_err(TlsError::Setup)?
        .with_client_cert_verifier(verifier(options.client_auth, authorities)?)
        .with_cert_resolver(resolver.clone());
    config.alpn_protocols = alpn(&options.alpn);
    // All suites are good; but auditors (testssl.sh) want the server to say which is best.
    config.ignore_client_order = true;
    config.ticketer = Ticketer::new().map_err(TlsError::Setup)?;
    config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
    Ok(Arc::new(config))
}

fn verifier(
    auth: ClientAuth,
    authorities: &Arc<RootCertStore>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let builder = WebPkiClientVerifier::builder_with_provider(authorities.clone(), provider());
    let built = match auth {
        ClientAuth::None => return Ok(WebPkiClientVerifier::no_client_auth()),
        ClientAuth::Request => builder.allow_unauthenticated().build(),
        ClientAuth::Require => builder.build(),
    };
    built.map_err(|error| TlsError::Setup(rustls::Error::General(error.to_string())))
}

/// Sessions of one listener that are kept for clients of TLS 1.2 that take no tickets: 1024, with less than 1 KB each, or some more with a client's
/// certificates. rustls keeps 256 by default.
const SESSIONS: usize = 1024;
