//! What TLS needs to know: certificates, trust, versions. It moves no bytes; the transport does, with the configs from here.
//!
//! * `server`: one listener's certificates, chosen by name (SNI) and replaced while it serves.
//! * `client`: whom a service trusts when it connects, and what it shows.
//! * `watch`: loads the files again when they changed.
//! * `info`: what a handshake led to.
//! * `files`, `certificates`: where certificates are, and what is in them.
//!
//! Cipher suites, groups and signature schemes are the defaults of rustls with AWS-LC: TLS 1.2 (RFC 5246) with forward secrecy and AEAD only, and
//! TLS 1.3 (RFC 8446). There is no early data (RFC 8446, section 8: it can be replayed), no renegotiation and no compression. Secrets are never
//! written to a key log.

mod files;

mod certificates;

mod error;

pub(crate) mod server;

pub(crate) mod client;

pub(crate) mod info;

mod watch;

#[cfg(test)]
mod testing;

#[cfg(test)]
mod tests;

use std::sync::{Arc, LazyLock};

pub(crate) use certificates::day;
pub use client::{ClientTls, ClientTlsSettings};
pub use error::TlsError;
use rustls::{SupportedProtocolVersion, crypto::CryptoProvider};

use crate::endpoint::TlsVersion;

/// Returns the cryptography that everything uses.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    PROVIDER.clone()
}

/// Returns the versions from an oldest one on.
fn versions(oldest: TlsVersion) -> &'static [&'static SupportedProtocolVersion] {
    static FROM_1_2: [&SupportedProtocolVersion; 2] =
        [&rustls::version::TLS13, &rustls::version::TLS12];
    static FROM_1_3: [&SupportedProtocolVersion; 1] = [&rustls::version::TLS13];
    match oldest {
        TlsVersion::V1_2 => &FROM_1_2,
        TlsVersion::V1_3 => &FROM_1_3,
    }
}

/// Returns the application protocols in the form that rustls takes.
fn alpn(names: &[String]) -> Vec<Vec<u8>> {
    names.iter().map(|name| name.clone().into_bytes()).collect()
}
