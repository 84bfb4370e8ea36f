//! What a plugin's connections to others are made with: options that `run` and `exec` share.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use super::OrMistake as _;
use crate::{
    config::name_server,
    endpoint::Certificate,
    tls::{ClientTls, ClientTlsSettings},
};

/// The name servers that are asked, and whom TLS trusts.
#[derive(Debug, clap::Args)]
pub(super) struct Outward {
    /// Look up names at this server, in place of those of /etc/resolv.conf; repeat it for more
    ///
    /// The port is 53 if it is left out; IPv6 with a port is written in brackets, `[::1]:53`. /etc/hosts goes first all the same, and names under localhost are never
    /// looked up.
    #[arg(long = "nameserver", value_name = "IP[:PORT]", value_parser = name_server)]
    pub(super) name_servers: Vec<SocketAddr>,

    /// Trust servers whose certificates descend from those in FILE (PEM), when the plugin connects with TLS [default: what the system trusts]
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,

    /// The certificate chain (PEM) to show to servers that ask for one
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<PathBuf>,

    /// The private key of --tls-cert, if it is not in the same file
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

impl Outward {
    /// Returns the files that TLS is made with.
    pub(super) fn tls_files(&self) -> ClientTlsSettings {
        ClientTlsSettings {
            ca: self.tls_ca.clone(),
            certificate: self.tls_cert.clone().map(|path| Certificate {
                path,
                key: self.tls_key.clone(),
            }),
        }
    }

    /// Returns what TLS is made with.
    pub(super) fn tls_settings(self) -> ClientTlsSettings {
        ClientTlsSettings {
            ca: self.tls_ca,
            certificate: self.tls_cert.map(|path| Certificate {
                path,
                key: self.tls_key,
            }),
        }
    }

    /// Loads what TLS is made with.
    pub(super) fn tls(self) -> anyhow::Result<Arc<ClientTls>> {
        ClientTls::load(&self.tls_settings()).or_mistake()
    }
}
