//! `nethost cert`.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, bail};
use clap::Subcommand;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls::pki_types::{DnsName, UnixTime};
use serde_json::json;

use super::{Mistake, OrMistake as _};
use crate::{
    endpoint::{Certificate, Endpoint, Security, TcpEndpoint, TlsOptions, is_host_name},
    tls,
};

/// Make certificates for TLS listeners
#[derive(Debug, clap::Args)]
pub(crate) struct Cert {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    SelfSigned(SelfSigned),
}

/// Make a certificate that vouches for itself, for tests and for networks where you can tell the clients to trust it
///
/// Writes DIR/NAME.pem, the certificate for all names, and DIR/NAME.key, its private key with mode 600, where NAME is the first name. The key is ECDSA on P-256,
/// which every client of TLS 1.2 and 1.3 knows. The certificate is its own trust anchor: give clients the .pem file. For a public name,
/// get a certificate from an authority such as Let's Encrypt instead; nethost reads certbot's folders.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  nethost cert self-signed certs localhost 127.0.0.1 ::1
  nethost cert self-signed certs irc.example.net '*.irc.example.net' --days 365
  nethost run plugins/echo.wasm --listen 'tls://127.0.0.1:6697?cert=certs'
  openssl s_client -connect 127.0.0.1:6697 -servername localhost -CAfile certs/localhost.pem")]
struct SelfSigned {
    /// Where the files go; made if it is not there
    dir: PathBuf,

    /// What the certificate is for: host names, `*.` before one for everything one label below it, and IP addresses
    #[arg(value_name = "NAME", required = true, value_parser = name)]
    names: Vec<Name>,

    /// For how many days it is valid; Apple's clients take at most 825
    #[arg(long, value_name = "N", default_value_t = 90, value_parser = clap::value_parser!(u16).range(1..=3650))]
    days: u16,

    /// Replace files that are there; a host that serves them takes the new ones within seconds
    #[arg(long)]
    force: bool,

    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// What a certificate is for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Name {
    /// In lower case; may begin with `*.`.
    Dns(String),
    Address(IpAddr),
}

impl Cert {
    pub(crate) fn execute(self) -> anyhow::Result<()> {
        match self.command {
            Command::SelfSigned(command) => command.execute(),
        }
    }
}

impl SelfSigned {
    fn execute(self) -> anyhow::Result<()> {
        let Some(first) = self.names.first() else {
            bail!(Mistake::new("a certificate needs a name".to_owned()));
        };
        let stem = first.file_stem();
        let certificate = self.dir.join(format!("{stem}.pem"));
        let key = self.dir.join(format!("{stem}.key"));
        if !self.force {
            for path in [&certificate, &key] {
                if path.symlink_metadata().is_ok() {
                    bail!(Mistake::new(format!(
                        "`{}` is there already; --force replaces it",
                        path.display()
                    )));
                }
            }
        }
        let (made, not_after) = make(&self.names, self.days)?;
        fs::create_dir_all(&self.dir)
            .with_context(|| format!("making `{}`", self.dir.display()))
            .or_mistake()?;
        write(&key, 0o600, &made.key).or_mistake()?;
        write(&certificate, 0o644, &made.certificate).or_mistake()?;
        self.tell(&certificate, &key, &tls::day(not_after))?;
        Ok(())
    }

    fn tell(&self, certificate: &Path, key: &Path, until: &str) -> io::Result<()> {
        let names: Vec<_> = self.names.iter().map(ToString::to_string).collect();
        let listen = self.listener();
        let (certificate, key) = (certificate.display(), key.display());
        let mut out = io::stdout().lock();
        if self.json {
            let told = json!({
                "certificate": certificate.to_string(),
                "key": key.to_string(),
                "names": names,
                "not_after": until,
                "listen": listen,
            });
            return writeln!(out, "{told:#}");
        }
        writeln!(
            out,
            "wrote {certificate} (certificate for {}, until {until})",
            names.join(", ")
        )?;
        writeln!(out, "wrote {key} (private key, mode 600)")?;
        writeln!(out, "use it with: --listen '{listen}'")
    }

    /// Returns a listener that shows the certificate.
    fn listener(&self) -> String {
        let mut endpoint = TcpEndpoint::new(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 6697));
        endpoint.security = Security::Tls;
        endpoint.options.tls = TlsOptions {
            certificates: vec![Certificate {
                path: self.dir.clone(),
                key: None,
            }],
            ..TlsOptions::default()
        };
        Endpoint::Tcp(endpoint).to_string()
    }
}

impl Name {
    /// Returns the name that the files have. `*` would be the shell's.
    fn file_stem(&self) -> String {
        match self {
            Self::Dns(name) => name.replacen('*', "_", 1),
            Self::Address(address) => address.to_string(),
        }
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Dns(name) => f.write_str(name),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// A certificate and its key, in PEM.
struct Made {
    certificate: String,
    key: String,
}

/// Makes a certificate that signs itself, and says when it ends.
fn make(names: &[Name], days: u16) -> anyhow::Result<(Made, UnixTime)> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("making a key")?;
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .context("the clock is before 1970")?;
    let not_after = now + Duration::from_secs(u64::from(days) * 86_400);
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let mut params = CertificateParams::default();
    params.not_before = epoch + now.saturating_sub(BACKDATED);
    params.not_after = epoch + not_after;
    params.subject_alt_names = names
        .iter()
        .map(|name| {
            Ok(match name {
                Name::Dns(name) => SanType::DnsName(name.as_str().try_into()?),
                Name::Address(address) => SanType::IpAddress(*address),
            })
        })
        .collect::<Result<_, rcgen::Error>>()
        .or_mistake()?;
    // Clients compare the names above (RFC 9525, section 2); this one is for people. RFC 5280 allows it 64 characters.
    let mut subject = DistinguishedName::new();
    let common_name = names.first().map(ToString::to_string).unwrap_or_default();
    let common_name: String = common_name.chars().take(64).collect();
    subject.push(DnType::CommonName, common_name);
    params.distinguished_name = subject;
    // No authority: whoever has the key can speak for these names and no others, though clients trust it.
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = params.self_signed(&key).context("making a certificate")?;
    let made = Made {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    };
    Ok((made, UnixTime::since_unix_epoch(not_after)))
}

/// Writes a file beside its place, with its mode from the start, and moves it there: a host that reads it at this moment finds the old or the new one,
/// whole.
fn write(path: &Path, mode: u32, content: &str) -> anyhow::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let new = path.with_file_name(name);
    let written = create(&new, mode, content).and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        // The first error is the one to tell.
        let _ = fs::remove_file(&new);
    }
    written.with_context(|| format!("writing `{}`", path.display()))
}

fn create(path: &Path, mode: u32, content: &str) -> io::Result<()> {
    let mut file: File = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)?;
    file.write_all(content.as_bytes())?;
    file.sync_all()
}

fn name(text: &str) -> Result<Name, String> {
    let address = text.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = address.parse() {
        return Ok(Name::Address(address));
    }
    let host = text.strip_prefix("*.").unwrap_or(text);
    if is_host_name(host) && !host.ends_with('.') && DnsName::try_from(host).is_ok() {
        return Ok(Name::Dns(text.to_ascii_lowercase()));
    }
    Err(
        "expected a host name such as `irc.example.net` or `*.example.net`, or an IP address"
            .to_owned(),
    )
}

/// How long before it is made a certificate is valid: an hour, as Let's Encrypt does it, for clients whose clock is behind.
const BACKDATED: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_clients_compare() {
        for (text, expected, stem) in [
            ("irc.example.net", "irc.example.net", "irc.example.net"),
            ("IRC.Example.Net", "irc.example.net", "irc.example.net"),
            ("localhost", "localhost", "localhost"),
            ("*.example.net", "*.example.net", "_.example.net"),
            ("127.0.0.1", "127.0.0.1", "127.0.0.1"),
            ("::1", "::1", "::1"),
            ("[::1]", "::1", "::1"),
        ] {
            let name = name(text).unwrap();
            assert_eq!(name.to_string(), expected);
            assert_eq!(name.file_stem(), stem);
        }
        for text in [
            "",
            ".",
            "..",
            "*",
            "*.*.example.net",
            "www.*.net",
            "example.net.",
            "../x",
            "a/b",
            "a b",
            "127.1",
            "-x.net",
            "a..b",
            "bücher.example",
        ] {
            assert!(name(text).is_err(), "{text}");
        }
    }
}
