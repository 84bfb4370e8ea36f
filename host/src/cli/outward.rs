//! What a plugin's connections to others are made with: options that `run` and `exec` share.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};

use super::OrMistake as _;
use crate::{
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
    /// Loads what TLS is made with.
    pub(super) fn tls(self) -> anyhow::Result<Arc<ClientTls>> {
        ClientTls::load(&ClientTlsSettings {
            ca: self.tls_ca,
            certificate: self.tls_cert.map(|path| Certificate {
                path,
                key: self.tls_key,
            }),
        })
        .or_mistake()
    }
}

fn name_server(text: &str) -> Result<SocketAddr, String> {
    let with_port = |ip: IpAddr| SocketAddr::new(ip, 53);
    let address = match text.parse() {
        Ok(address) => address,
        Err(_) => text
            .parse()
            .map(with_port)
            .map_err(|_| "expected an address such as 192.0.2.1, 192.0.2.1:5353 or [::1]:53")?,
    };
    if address.port() == 0 || address.ip().is_unspecified() {
        return Err("no server has the port 0, or the address 0.0.0.0 or ::".to_owned());
    }
    Ok(address)
}
