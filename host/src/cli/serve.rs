//! `nethost serve`: serves what a config file describes.

use std::path::PathBuf;

use anyhow::bail;

use super::OrMistake as _;
use crate::{
    config::{Config, ConfigError, HostConfig},
    daemon::confinement::Confinement,
    serve::{self, Source},
};

/// Serve what a config file describes
///
/// One line per listener is printed once all services are ready, with its real port: `listening irc tcp://127.0.0.1:6667`. If one of them cannot start, none does.
/// SIGINT and SIGTERM stop accepting, let the plugins say goodbye and their connections end; a second signal stops at once.
///
/// SIGHUP reads the file again. A bad one is told in the log, and changes nothing. With a good one only those services change that are described otherwise, or whose
/// plugin has another content: new ones start, those that are not in the file any more stop, those that differ restart. A restart hands the listening
/// sockets over, so that no client is refused; to its plugin of before it is a stop, so that its connections go on until they end, the plugin ends them, or
/// `drain-timeout` is over. All others keep
/// their connections, and load their certificates and users again. Of `[host]` only `drain-timeout` and `name-servers` change while the process runs, and other
/// name servers restart every service. An address that becomes a wildcard on the same port, or the other way round, takes a new start.
///
/// On Linux the process is confined at its start, as far as the kernel can: to the files and folders that the file names (the folders of plugins, of users, of certificates and of
/// secrets too, because what is there is replaced), to TCP connections to the ports of grants, and to the system calls that it needs. What could not be applied is
/// told in the log. So a SIGHUP cannot add a path or a port outside of that: it is refused with what to do, and nothing changes. A granted file that was replaced, and not
/// written to, is outside as well; grant its directory. --confinement off leaves all of that out.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A file that is enough:

  [[service]]
  name = \"irc\"
  plugin = \"plugins/irc.wasm\"

nethost.example.toml in the sources explains every key. `nethost ps`, `swap`, `top` and so on need
`admin` of `[host]`, a UNIX socket; say where it is with their --admin, or with NETHOST_ADMIN.

Examples:
  nethost serve
  nethost serve /etc/nethost/nethost.toml
  nethost check && kill -HUP $(pidof nethost)     # what differs restarts")]
pub(crate) struct Serve {
    /// The config file; paths in it begin in its folder
    #[arg(value_name = "FILE", default_value = "nethost.toml")]
    file: PathBuf,

    /// Whether the kernel keeps the process from all that the file does not name, as `confinement` of `[host]` says it
    #[arg(long, value_name = "on|off", hide_possible_values = true)]
    confinement: Option<Confinement>,

    #[arg(skip)]
    config: Option<Config>,
}

impl Serve {
    /// Reads the file, which says what the log is to be too.
    pub(crate) fn load(&mut self) -> anyhow::Result<&HostConfig> {
        let config = match Config::load(&self.file) {
            Ok(config) => config,
            Err(ConfigError::Invalid(problems)) => return Err(problems.into()),
            Err(error) => return Err(error).or_mistake(),
        };
        Ok(&self.config.insert(config).host)
    }

    pub(crate) fn execute(self) -> anyhow::Result<()> {
        let Some(config) = self.config else {
            bail!("the file was not read");
        };
        let mut host = config.host.clone();
        host.confinement = self.confinement.unwrap_or(host.confinement);
        let source = Source::File {
            path: self.file,
            config: Box::new(config),
        };
        serve::run(source, host)
    }
}
