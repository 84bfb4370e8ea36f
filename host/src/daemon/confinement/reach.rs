//! What the process may still reach once it is confined.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::{Path, PathBuf},
};

use landlock::{AccessFs, BitFlags, make_bitflags};

use crate::{
    endpoint::{Certificate, Endpoint, HostName, TlsOptions, UnixName},
    grants::{ConnectGrant, TcpPorts},
    tls::ClientTlsSettings,
};

/// Paths, with what may be done there, and whom the process connects to.
#[derive(Debug, Default)]
pub(crate) struct Reach {
    /// Without links and `..`.
    paths: BTreeMap<PathBuf, BitFlags<AccessFs>>,
    connect: Ports,
    abstract_sockets: bool,
}

/// Where TCP connections go.
#[derive(Debug, PartialEq, Eq)]
enum Ports {
    Any,
    These(BTreeSet<u16>),
}

impl Default for Ports {
    fn default() -> Self {
        Self::These(BTreeSet::new())
    }
}

/// What a path is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// To read a file, or everything in a folder.
    Read,
    /// To read a file, again and again: whoever replaces it puts another one in its place, so that its folder is needed, and those of the links on the way.
    Reread,
    /// To read and write a file; or everything in a folder, where things are made, moved and removed too. It has to be there.
    Write,
    /// To make a file, and write to it: everything in its folder can be written to.
    Make,
    /// To make a UNIX socket, and remove it: so that everything in its folder can be removed.
    Socket,
    /// To remove a file, with the same consequence.
    Remove,
    /// To read certificates: a file that is replaced, or a folder of them with their links.
    Certificates,
}

impl Reach {
    /// Adds a path. What is not there cannot be reached later either, with the exception of [`Access::Make`], [`Access::Socket`] and [`Access::Remove`].
    pub(crate) fn allow(&mut self, path: &Path, access: Access) {
        for (path, rights) in targets(path, access) {
            if let Ok(path) = path.canonicalize() {
                *self.paths.entry(path).or_default() |= rights;
            }
        }
    }

    /// Adds what every process reads and nobody grants: names, trust, what the kernel tells of the process.
    pub(crate) fn allow_system(&mut self) {
        for path in READ {
            self.allow(Path::new(path), Access::Read);
        }
        for (path, rights) in targets(Path::new(RESOLV_CONF), Access::Reread) {
            // That of systemd-resolved is replaced whenever the network changes. Not all of /etc.
            if path != Path::new("/etc")
                && let Ok(path) = path.canonicalize()
            {
                *self.paths.entry(path).or_default() |= rights;
            }
        }
        for variable in ["SSL_CERT_FILE", "SSL_CERT_DIR"] {
            if let Some(path) = env::var_os(variable) {
                self.allow(Path::new(&path), Access::Read);
            }
        }
        if let Ok(program) = env::current_exe() {
            self.allow(&program, Access::Read);
        }
        let null = make_bitflags!(AccessFs::{ReadFile | WriteFile});
        self.paths.insert(PathBuf::from("/dev/null"), null);
        self.allow_cache();
        // An abstract one may be the service manager's.
        let notify = env::var_os("NOTIFY_SOCKET");
        self.abstract_sockets |= notify.is_some_and(|it| it.as_encoded_bytes().starts_with(b"@"));
    }

    /// Adds the folder of compiled code, which is made: where wasmtime looks for it.
    fn allow_cache(&mut self) {
        let folder = |variable: &str, default: &str| {
            let set = env::var_os(variable).map(PathBuf::from);
            let set = set.filter(|path| path.is_absolute());
            set.or_else(|| Some(env::home_dir()?.join(default)))
        };
        if let Some(config) = folder("XDG_CONFIG_HOME", ".config") {
            self.allow(&config.join("wasmtime"), Access::Read);
        }
        if let Some(cache) = folder("XDG_CACHE_HOME", ".cache") {
            let cache = cache.join("wasmtime");
            // Without it every start compiles, which the log says then.
            let _made = fs::create_dir_all(&cache);
            self.allow(&cache, Access::Write);
        }
    }

    /// Adds what TLS connects with. `access` is whether it is read again.
    pub(crate) fn allow_tls(&mut self, tls: &ClientTlsSettings, access: Access) {
        for path in tls_files(tls) {
            self.allow(path, access);
        }
    }

    /// Adds a grant to connect.
    pub(crate) fn allow_connect(&mut self, grant: &ConnectGrant) {
        self.abstract_sockets |= grant.is_abstract();
        match grant.tcp_ports() {
            TcpPorts::None => {}
            TcpPorts::One(port) => {
                self.allow_port(port);
                // Names are looked up by TCP when an answer is long.
                self.allow_port(DNS);
            }
            TcpPorts::Any => self.connect = Ports::Any,
        }
    }

    /// Adds a port that the host itself connects to.
    pub(crate) fn allow_port(&mut self, port: u16) {
        if let Ports::These(ports) = &mut self.connect {
            ports.insert(port);
        }
    }

    /// Adds what a listener takes: the folder of its socket, and the name servers if it has a name.
    pub(crate) fn allow_listener(&mut self, endpoint: &Endpoint) {
        for (path, access) in listener_files(endpoint) {
            self.allow(path, access);
        }
        let host = match endpoint {
            Endpoint::Tcp(tcp) => Some(&tcp.host),
            Endpoint::Udp(udp) => Some(&udp.host),
            _ => None,
        };
        if let Some(HostName::Name(_)) = host {
            self.allow_port(DNS);
        }
    }

    /// Returns whether a path may be reached so.
    pub(super) fn covers(&self, path: &Path, access: Access) -> bool {
        targets(path, access).iter().all(|(path, rights)| {
            // What is not there is made where it is to be.
            let found = path.ancestors().find_map(|path| path.canonicalize().ok());
            let Some(found) = found else { return false };
            let above = found.ancestors();
            let allowed = above
                .filter_map(|above| self.paths.get(above))
                .fold(BitFlags::empty(), |all, rights| all | *rights);
            allowed.contains(*rights)
        })
    }

    /// Returns whether this connects wherever the other does.
    pub(super) fn covers_connections(&self, other: &Self) -> bool {
        let has_ports = match (&self.connect, &other.connect) {
            (Ports::Any, _) => true,
            (Ports::These(_), Ports::Any) => false,
            (Ports::These(these), Ports::These(others)) => others.is_subset(these),
        };
        has_ports && (self.abstract_sockets || !other.abstract_sockets)
    }

    /// Returns the ports that TCP connections go to; none if that is to be every one.
    pub(super) fn ports(&self) -> Option<&BTreeSet<u16>> {
        match &self.connect {
            Ports::Any => None,
            Ports::These(ports) => Some(ports),
        }
    }

    pub(super) fn uses_abstract_sockets(&self) -> bool {
        self.abstract_sockets
    }

    pub(super) fn rules(&self) -> impl Iterator<Item = (&Path, BitFlags<AccessFs>)> {
        self.paths
            .iter()
            .map(|(path, rights)| (path.as_path(), *rights))
    }
}

/// Returns the files that a listener needs.
pub(crate) fn listener_files(endpoint: &Endpoint) -> Vec<(&Path, Access)> {
    let mut files = Vec::new();
    if let Endpoint::Unix(unix) = endpoint
        && let UnixName::Path(path) = &unix.address
    {
        files.push((path.as_path(), Access::Socket));
    }
    if let Some(options) = endpoint.stream_options() {
        let TlsOptions {
            certificates, ca, ..
        } = &options.tls;
        for Certificate { path, key } in certificates {
            files.push((path, Access::Certificates));
            files.extend(key.as_deref().map(|key| (key, Access::Reread)));
        }
        files.extend(ca.as_deref().map(|ca| (ca, Access::Reread)));
    }
    files
}

/// Returns the files of what TLS connects with.
pub(crate) fn tls_files(tls: &ClientTlsSettings) -> impl Iterator<Item = &Path> {
    let certificate = tls.certificate.iter();
    let shown = certificate.flat_map(|it| [Some(it.path.as_path()), it.key.as_deref()]);
    shown.chain([tls.ca.as_deref()]).flatten()
}

/// Returns what has to be reached for that, with the kernel's rights.
fn targets(path: &Path, access: Access) -> Vec<(PathBuf, BitFlags<AccessFs>)> {
    let read = make_bitflags!(AccessFs::{ReadFile | ReadDir});
    let in_folder = |rights| {
        let folder = path.parent().filter(|path| !path.as_os_str().is_empty());
        vec![(folder.unwrap_or_else(|| Path::new(".")).to_owned(), rights)]
    };
    match access {
        Access::Read if path.is_dir() => vec![(path.to_owned(), read)],
        Access::Read => vec![(path.to_owned(), AccessFs::ReadFile.into())],
        Access::Write if path.is_file() => {
            let rights = make_bitflags!(AccessFs::{ReadFile | WriteFile | Truncate});
            vec![(path.to_owned(), rights)]
        }
        Access::Write => vec![(path.to_owned(), CHANGE)],
        Access::Make => in_folder(make_bitflags!(AccessFs::{
            ReadFile | WriteFile | Truncate | MakeReg
        })),
        Access::Socket => in_folder(make_bitflags!(AccessFs::{MakeSock | RemoveFile})),
        Access::Remove => in_folder(AccessFs::RemoveFile.into()),
        Access::Reread => folders(path)
            .into_iter()
            .map(|folder| (folder, read))
            .chain([(path.to_owned(), AccessFs::ReadFile.into())])
            .collect(),
        Access::Certificates if path.is_dir() => {
            let mut all = vec![(path.to_owned(), read)];
            for file in listed(path) {
                let links = folders(&file).into_iter();
                all.extend(links.map(|folder| (folder, read)));
            }
            all
        }
        Access::Certificates => targets(path, Access::Reread),
    }
}

/// Returns the folders of a file and of the links on the way to it. The root is none of them: a file that lies there is reached by itself.
fn folders(path: &Path) -> BTreeSet<PathBuf> {
    let mut folders = BTreeSet::new();
    let mut here = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for _ in 0..MOST_LINKS {
        let Some(folder) = here.parent().map(Path::to_owned) else {
            break;
        };
        let is_root = folder.parent().is_none();
        match fs::read_link(&here) {
            Ok(target) => here = folder.join(target),
            Err(_) => here = PathBuf::new(),
        }
        if !is_root {
            folders.insert(folder);
        }
    }
    folders
}

/// Returns the files in a folder of certificates, and in the folders in it.
fn listed(path: &Path) -> Vec<PathBuf> {
    let entries = |path: &Path| {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).take(MOST_LISTED)
    };
    let (folders, mut files): (Vec<_>, Vec<_>) = entries(path).partition(|path| path.is_dir());
    for folder in folders {
        files.extend(entries(&folder).filter(|path| path.is_file()));
        files.push(folder);
    }
    files
}

/// To do everything in a folder that a plugin may do with a directory.
const CHANGE: BitFlags<AccessFs> = make_bitflags!(AccessFs::{
    ReadFile | ReadDir | WriteFile | Truncate | MakeReg | MakeDir | MakeSym | RemoveFile | RemoveDir | Refer
});

/// What every process may read, as far as it is there: names and services, trust, time zones, what the system and the kernel tell of this process, and
/// libraries, of which the C library loads some to look up the name that a listener has.
const READ: &[&str] = &[
    RESOLV_CONF,
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/nsswitch.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/etc/localtime",
    "/etc/ld.so.cache",
    "/etc/ssl/cert.pem",
    "/etc/ssl/certs",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/certs",
    "/etc/pki/tls/cert.pem",
    "/etc/pki/ca-trust/extracted",
    "/etc/ca-certificates/extracted",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
    "/usr/share/zoneinfo",
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/dev/urandom",
    "/proc/self",
    "/proc/meminfo",
    "/proc/sys/vm/max_map_count",
    "/proc/sys/vm/overcommit_memory",
    "/sys/fs/cgroup",
    "/sys/devices/system/cpu",
    "/sys/kernel/mm/transparent_hugepage",
];

const RESOLV_CONF: &str = "/etc/resolv.conf";

/// The port of name servers.
const DNS: u16 = 53;

/// Links that are followed, at most: 40, as the kernel does (path_resolution(7)).
const MOST_LINKS: usize = 40;

/// Entries of a folder of certificates that are looked at: 10,000.
const MOST_LISTED: usize = 10_000;
