//! What is in the files: certificate chains with their keys, which of them a client gets, and certificates to trust.

use std::{
    collections::HashMap,
    fmt,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::{
    InconsistentKeys, RootCertStore, SignatureAlgorithm, SignatureScheme,
    pki_types::{
        CertificateDer, PrivateKeyDer, UnixTime,
        pem::{PemObject as _, SectionKind},
    },
    sign::CertifiedKey,
};
use webpki::{EndEntityCert, KeyUsage};

use super::{
    TlsError,
    files::{self, Origin, Source},
    provider,
};
use crate::endpoint;

/// The certificates of one listener, and which one is for whom.
#[derive(Debug)]
pub(super) struct Certificates {
    all: Vec<Loaded>,
    /// By name in lower case: what may be shown for it, best first.
    exact: HashMap<String, Vec<usize>>,
    /// The same for `*.NAME`, by `NAME`.
    wildcard: HashMap<String, Vec<usize>>,
}

/// A certificate that can be shown.
#[derive(Debug)]
pub(super) struct Loaded {
    /// The chain and the key.
    pub(super) key: Arc<CertifiedKey>,
    /// The DNS names that it is for, in lower case.
    names: Vec<String>,
    not_before: UnixTime,
    not_after: UnixTime,
}

impl Certificates {
    /// Loads what options name.
    pub(super) fn load(named: &[endpoint::Certificate]) -> Result<Self, TlsError> {
        let mut all = Vec::new();
        for source in files::find(named)? {
            match Loaded::load(&source) {
                Err(TlsError::NoKey { path }) if source.origin == Origin::Listed => {
                    tracing::warn!(
                        "left out `{}`: it has no private key inside or beside it",
                        path.display()
                    );
                }
                loaded => all.push(loaded?),
            }
        }
        if let (true, Some(first)) = (all.is_empty(), named.first()) {
            return Err(TlsError::EmptyDirectory {
                path: first.path.clone(),
            });
        }
        Ok(Self::new(all))
    }

    fn new(all: Vec<Loaded>) -> Self {
        let mut exact: HashMap<String, Vec<usize>> = HashMap::new();
        let mut wildcard: HashMap<String, Vec<usize>> = HashMap::new();
        for (index, certificate) in all.iter().enumerate() {
            for name in &certificate.names {
                let indices = match name.strip_prefix("*.") {
                    Some(parent) => wildcard.entry(parent.to_owned()).or_default(),
                    None => exact.entry(name.clone()).or_default(),
                };
                // A certificate may name itself twice.
                if !indices.contains(&index) {
                    indices.push(index);
                }
            }
        }
        // A signature with RSA costs the server some ten times as much.
        let is_rsa = |index: &usize| {
            all.get(*index)
                .is_some_and(|one| one.key.key.algorithm() == SignatureAlgorithm::RSA)
        };
        for indices in exact.values_mut().chain(wildcard.values_mut()) {
            indices.sort_by_key(is_rsa);
        }
        Self {
            all,
            exact,
            wildcard,
        }
    }

    /// Chooses what a client gets that asked for a name and can verify signatures of some schemes.
    ///
    /// A certificate for the very name goes before a wildcard, which stands for exactly one label
    /// ([RFC 9525, section 6.3](https://www.rfc-editor.org/rfc/rfc9525.html#section-6.3)), and of several for one name the first in the order of the options that
    /// the client can verify is taken, RSA last. Who asks for no name or for an unknown one gets the first certificate of all, or another with
    /// the same name if the client cannot verify that: this is what nginx does.
    pub(super) fn choose(
        &self,
        name: Option<&str>,
        schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        let first = self.all.first()?;
        let name = name.map(|name| name.trim_end_matches('.').to_ascii_lowercase());
        let asked = name.iter().flat_map(|name| self.named(name));
        let fallback = first.names.iter().flat_map(|name| self.named(name));
        let mut any = None;
        for certificate in asked.chain([first]).chain(fallback) {
            if certificate.key.key.choose_scheme(schemes).is_some() {
                return Some(certificate.key.clone());
            }
            any.get_or_insert(certificate);
        }
        // None fits: rustls says so to the client.
        any.map(|certificate| certificate.key.clone())
    }

    /// Returns whether these are the same certificates in the same order.
    pub(super) fn are(&self, others: &Self) -> bool {
        self.all.len() == others.all.len()
            && self
                .all
                .iter()
                .zip(&others.all)
                .all(|(one, other)| one.key.cert == other.key.cert)
    }

    /// Returns the certificates for a name or pattern, best first.
    fn named<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a Loaded> + use<'a> {
        let exact = self.exact.get(name);
        let parent = name.split_once('.').map(|(_, parent)| parent);
        let wildcard = parent.and_then(|parent| self.wildcard.get(parent));
        exact
            .into_iter()
            .chain(wildcard)
            .flatten()
            .filter_map(|index| self.all.get(*index))
    }
}

/// For the log: the first ten, and how many more there are.
impl fmt::Display for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, certificate) in self.all.iter().take(SHOWN).enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{certificate}")?;
        }
        match self.all.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

impl Loaded {
    /// Loads a chain and its key.
    pub(super) fn load(source: &Source) -> Result<Self, TlsError> {
        let path = &source.chain;
        let unusable = |error: &dyn fmt::Display| TlsError::BadCertificate {
            path: path.clone(),
            reason: error.to_string(),
        };
        let mut content = Pem::read(path)?;
        let Some(first) = content.certificates.first() else {
            return Err(TlsError::NoCertificate { path: path.clone() });
        };
        let end_entity = EndEntityCert::try_from(first).map_err(|error| unusable(&error))?;
        let names = end_entity
            .valid_dns_names()
            .map(str::to_ascii_lowercase)
            .collect();
        let (not_before, not_after) = validity(&end_entity).map_err(|error| unusable(&error))?;
        let key_path = source.key.as_ref().unwrap_or(path);
        let key = match &source.key {
            Some(path) => Pem::read(path)?.key(path)?,
            None => content.key(path)?,
        };
        let key = provider()
            .key_provider
            .load_private_key(key)
            .map_err(|error| TlsError::BadKey {
                path: key_path.clone(),
                reason: error.to_string(),
            })?;
        let key = CertifiedKey::new(content.certificates, key);
        match key.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(rustls::Error::InconsistentKeys(_)) => {
                return Err(TlsError::WrongKey {
                    certificate: path.clone(),
                    key: key_path.clone(),
                });
            }
            Err(error) => return Err(unusable(&error)),
        }
        let loaded = Self {
            key: Arc::new(key),
            names,
            not_before,
            not_after,
        };
        loaded.warn_of_dates(path);
        Ok(loaded)
    }

    /// A certificate that is out of date is the operator's to renew, and no reason not to start: some clients do not look.
    fn warn_of_dates(&self, path: &Path) {
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let now = UnixTime::since_unix_epoch(now);
        if now > self.not_after {
            tracing::warn!(
                "the certificate in `{}` has expired: {self}",
                path.display()
            );
        } else if now < self.not_before {
            tracing::warn!(
                "the certificate in `{}` is valid only from {} on: {self}",
                path.display(),
                day(self.not_before)
            );
        }
    }
}

/// For the log: `example.net, www.example.net (until 2027-02-20)`.
impl fmt::Display for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.names.as_slice() {
            [] => f.write_str("no DNS name")?,
            [first, rest @ ..] if rest.len() >= SHOWN => {
                write!(f, "{first} and {} more names", rest.len())?;
            }
            names => f.write_str(&names.join(", "))?,
        }
        write!(f, " (until {})", day(self.not_after))
    }
}

/// Loads the certificates of a file as those to trust.
pub(super) fn trusted(path: &Path) -> Result<RootCertStore, TlsError> {
    let content = Pem::read(path)?;
    if content.certificates.is_empty() {
        return Err(TlsError::NoCertificate {
            path: path.to_owned(),
        });
    }
    let mut roots = RootCertStore::empty();
    for certificate in content.certificates {
        roots
            .add(certificate)
            .map_err(|error| TlsError::BadCertificate {
                path: path.to_owned(),
                reason: error.to_string(),
            })?;
    }
    Ok(roots)
}

/// What a PEM file has that matters here.
struct Pem {
    certificates: Vec<CertificateDer<'static>>,
    key: Option<PrivateKeyDer<'static>>,
    protection: Protection,
}

#[derive(PartialEq, Eq)]
enum Protection {
    None,
    Passphrase,
}

impl Pem {
    fn read(path: &Path) -> Result<Self, TlsError> {
        let bytes = files::read(path)?;
        let mut certificates = Vec::new();
        let mut key = None;
        let mut sections = <(SectionKind, Vec<u8>)>::pem_slice_iter(&bytes);
        let protection = if is_encrypted(&bytes) {
            Protection::Passphrase
        } else {
            Protection::None
        };
        for section in &mut sections {
            let (kind, der) = match section {
                Ok(section) => section,
                // What an old-style passphrase did to the key is no base64.
                Err(_) if protection == Protection::Passphrase => continue,
                Err(error) => {
                    return Err(TlsError::NotPem {
                        path: path.to_owned(),
                        reason: error.to_string(),
                    });
                }
            };
            match kind {
                SectionKind::Certificate => certificates.push(CertificateDer::from(der)),
                SectionKind::PrivateKey
                | SectionKind::RsaPrivateKey
                | SectionKind::EcPrivateKey => {
                    key = key.or_else(|| PrivateKeyDer::from_pem(kind, der));
                }
                _ => {}
            }
        }
        Ok(Self {
            certificates,
            key,
            protection,
        })
    }

    fn key(&mut self, path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
        let path = path.to_owned();
        match self.key.take() {
            Some(key) => Ok(key),
            None if self.protection == Protection::Passphrase => {
                Err(TlsError::EncryptedKey { path })
            }
            None => Err(TlsError::NoKey { path }),
        }
    }
}

/// Returns whether a file has a key under a passphrase: PKCS #8 (RFC 5958), or OpenSSL's older form (RFC 1421, section 4.6.1.1).
fn is_encrypted(pem: &[u8]) -> bool {
    pem.split(|byte| *byte == b'\n').any(|line| {
        line.starts_with(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
            || line.starts_with(b"Proc-Type: 4,ENCRYPTED")
    })
}

/// Returns from when until when a certificate is valid.
///
/// webpki says it only in its errors; it looks at the time before anything else, so that neither trust nor signatures matter here.
fn validity(certificate: &EndEntityCert<'_>) -> Result<(UnixTime, UnixTime), webpki::Error> {
    let verify = |seconds| {
        let time = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let usage = KeyUsage::server_auth();
        match certificate.verify_for_usage(&[], &[], &[], time, usage, None, None) {
            Ok(_) => Err(webpki::Error::InvalidCertValidity),
            Err(webpki::Error::CertNotValidYet { not_before, .. }) => Ok(not_before),
            Err(webpki::Error::CertExpired { not_after, .. }) => Ok(not_after),
            Err(error) => Err(error),
        }
    };
    Ok((verify(0)?, verify(u64::MAX)?))
}

/// Returns a time's day in UTC, such as `2027-02-20`.
pub(crate) fn day(time: UnixTime) -> String {
    // Times of certificates end with the year 9999 (RFC 5280, section 4.1.2.5).
    let days = time.as_secs().min(LAST_SECOND) / 86_400;
    let days = Duration::from_secs(days * 86_400);
    (rcgen::date_time_ymd(1970, 1, 1) + days).date().to_string()
}

/// How many certificates, or names of one, are told.
const SHOWN: usize = 10;

/// 9999-12-31T23:59:59Z.
const LAST_SECOND: u64 = 253_402_300_799;

#[cfg(test)]
mod tests;
