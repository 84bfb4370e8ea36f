//! Names to addresses: one resolver a worker and set of name servers.
//!
//! A name is answered by the first of these that knows it:
//!
//! 1. `localhost` and every name under it: `::1` and `127.0.0.1`, always; nobody is asked ([RFC 6761, section 6.3]).
//! 2. `/etc/hosts`.
//! 3. The answers that were had before, as long as their TTL lasts.
//! 4. The name servers: those of `--nameserver`, else those of `/etc/resolv.conf` with its `search`, `ndots`, `timeout` and `attempts`. They are asked for A
//!    and AAAA at once, over UDP, and over TCP if the answer does not fit. One that does not answer is asked again and given up after 5 s, three times
//!    (resolv.conf(5) changes both); of several, two are asked at once.
//!
//! nsswitch.conf(5) is not read: there are no other sources.
//!
//! Both files are read again when they have changed. One that cannot be read keeps nobody from starting: without `/etc/hosts` there are no such names, and
//! without name servers each look-up fails and says why.
//!
//! A look-up ends with its future: whoever cancels it leaves nothing behind but, perhaps, an answer in the cache.
//!
//! [RFC 6761, section 6.3]: https://www.rfc-editor.org/rfc/rfc6761.html#section-6.3

use std::{
    cell::RefCell,
    collections::HashMap,
    fs::{self, File},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    pin::Pin,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use hickory_resolver::{
    Hosts, TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts},
    lookup::Lookup,
    net::{DnsError, NetError, runtime::TokioRuntimeProvider},
    proto::{
        op::Query,
        rr::{Name, RecordType},
    },
    system_conf::parse_resolv_conf,
};
use tokio::sync::{AcquireError, Semaphore};

use super::handler::{ErrorKind, OperationError};
use crate::grants::is_localhost;

/// Looks up names for every instance of a worker that uses the same name servers.
pub(super) struct Resolver {
    /// None: those of the system.
    servers: Vec<SocketAddr>,
    files: Files,
    /// What was read from the files, when there was something to look up.
    known: RefCell<Option<Rc<Known>>>,
    permits: Arc<Semaphore>,
}

/// What a name resolved to.
pub(super) struct Found {
    /// At least one address, at most 64 of each family, in no order but that of the answers.
    pub(super) addresses: Vec<IpAddr>,
    /// The addresses of the other family, if they are late.
    pub(super) rest: Option<Rest>,
}

/// A query that is under way. It never fails: there are addresses already.
pub(super) type Rest = Pin<Box<dyn Future<Output = Vec<IpAddr>>>>;

struct Files {
    hosts: PathBuf,
    resolv_conf: PathBuf,
}

struct Known {
    version: [Version; 2],
    hosts: Hosts,
    resolver: TokioResolver,
    cache: Cache,
    /// What is appended to names that may be incomplete.
    search: Vec<Name>,
    /// A name with fewer dots is tried with what is appended first.
    dots: usize,
}

/// Changes with a file; none while it is not there.
type Version = Option<(SystemTime, u64)>;

impl Resolver {
    /// Makes a resolver that asks these servers, or if there are none those of the system. Nothing is read before the first look-up.
    pub(super) fn new(servers: &[SocketAddr]) -> Self {
        Self::reading(
            servers,
            Files {
                hosts: "/etc/hosts".into(),
                resolv_conf: "/etc/resolv.conf".into(),
            },
        )
    }

    fn reading(servers: &[SocketAddr], files: Files) -> Self {
        Self {
            servers: servers.to_vec(),
            files,
            known: RefCell::new(None),
            permits: Arc::new(Semaphore::new(LOOK_UPS)),
        }
    }

    /// Looks up the addresses of a name.
    ///
    /// It returns with the addresses of IPv6 as soon as they are there, and with those of IPv4 if IPv6 is not there 50 ms later, the Resolution Delay of
    /// [RFC 8305, section 3](https://www.rfc-editor.org/rfc/rfc8305.html#section-3).
    ///
    /// One that asks somebody takes one of `permits` until it, and what is late, is there.
    pub(super) async fn look_up(
        &self,
        name: &str,
        permits: &Arc<Semaphore>,
    ) -> Result<Found, OperationError> {
        if is_localhost(name) {
            return Ok(Found {
                addresses: vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()],
                rest: None,
            });
        }
        let failed = |kind, reason: &dyn std::fmt::Display| {
            OperationError::new(kind, format!("looking up `{name}`: {reason}"))
        };
        let absolute = |text: &str| {
            let mut name = Name::from_ascii(text)?;
            name.set_fqdn(true);
            Ok(name)
        };
        let known = self
            .known()
            .map_err(|error| failed(ErrorKind::Io, &error))?;
        let asked: Name =
            absolute(name).map_err(|error: hickory_resolver::proto::ProtoError| {
                failed(ErrorKind::Invalid, &error)
            })?;
        let addresses = known.in_hosts(&asked);
        if !addresses.is_empty() {
            return Ok(Found {
                addresses,
                rest: None,
            });
        }
        let permit = async || {
            let own = Arc::clone(permits).acquire_owned().await?;
            let shared = Arc::clone(&self.permits).acquire_owned().await?;
            Ok::<_, AcquireError>((own, shared))
        };
        let permit = permit()
            .await
            .map_err(|closed| failed(ErrorKind::Io, &closed))?;
        let mut failure = Failure::NotFound;
        for name in known.candidates(name, asked) {
            match ask(&known, name).await {
                Ok(Found { addresses, rest }) => {
                    let rest = rest.map(|rest| -> Rest {
                        Box::pin(async move {
                            let addresses = rest.await;
                            drop(permit);
                            addresses
                        })
                    });
                    return Ok(Found { addresses, rest });
                }
                Err(Failure::NotFound) => {}
                Err(Failure::Failed(error)) => {
                    failure = Failure::Failed(error);
                    break;
                }
            }
        }
        Err(match failure {
            Failure::NotFound => failed(ErrorKind::NameNotFound, &"it has no address"),
            Failure::Failed(NetError::Timeout) => {
                failed(ErrorKind::Timeout, &"the name servers do not answer")
            }
            Failure::Failed(error) => failed(ErrorKind::Io, &error),
        })
    }

    /// Returns what the files say, which are read if they have changed.
    fn known(&self) -> io::Result<Rc<Known>> {
        let version = self.files.version();
        if let Some(known) = &*self.known.borrow()
            && known.version == version
        {
            return Ok(known.clone());
        }
        let known = match (self.read(version), &*self.known.borrow()) {
            (Ok(known), _) => known,
            // One that was replaced may be outside of what the process is confined to.
            (Err(error), Some(known)) if error.kind() == io::ErrorKind::PermissionDenied => {
                tracing::debug!(%error, "the name servers stay as they were; a new start takes the new ones");
                return Ok(known.clone());
            }
            (Err(error), _) => return Err(error),
        };
        let known = Rc::new(known);
        *self.known.borrow_mut() = Some(known.clone());
        Ok(known)
    }

    fn read(&self, version: [Version; 2]) -> io::Result<Known> {
        let mut hosts = Hosts::default();
        let read = File::open(&self.files.hosts).and_then(|file| hosts.read_hosts_conf(file));
        if let Err(error) = read {
            tracing::debug!(file = %self.files.hosts.display(), %error, "no names from this file");
        }
        let (config, mut options) = if self.servers.is_empty() {
            let path = self.files.resolv_conf.display();
            let data = fs::read(&self.files.resolv_conf)
                .map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))?;
            parse_resolv_conf(data).map_err(|error| io::Error::other(format!("{path}: {error}")))?
        } else {
            let servers = self.servers.iter().copied().map(server).collect();
            let config = ResolverConfig::from_name_servers(servers);
            (config, ResolverOpts::default())
        };
        options.use_hosts_file = ResolveHosts::Never;
        // It would keep whole messages; `Cache` keeps what is needed of them.
        options.cache_size = 0;
        // Those of one connection: the permits say how many there are in all.
        options.max_active_requests = 2 * LOOK_UPS;
        let mut search = config.search().to_vec();
        if search.is_empty() {
            search.extend(config.domain().cloned());
        }
        let dots = options.ndots;
        let mut builder =
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        Ok(Known {
            version,
            hosts,
            resolver: builder.build().map_err(io::Error::other)?,
            cache: Cache::default(),
            search,
            dots,
        })
    }
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver")
            .field("servers", &self.servers)
            .finish_non_exhaustive()
    }
}

impl Files {
    fn version(&self) -> [Version; 2] {
        let version = |path: &Path| {
            let file = fs::metadata(path).ok()?;
            Some((file.modified().ok()?, file.len()))
        };
        [version(&self.hosts), version(&self.resolv_conf)]
    }
}

impl Known {
    fn in_hosts(&self, name: &Name) -> Vec<IpAddr> {
        [RecordType::AAAA, RecordType::A]
            .into_iter()
            .filter_map(|family| {
                self.hosts
                    .lookup_static_host(&Query::query(name.clone(), family))
            })
            .flat_map(|found| {
                let addresses = found.answers().iter();
                addresses
                    .filter_map(|record| record.data.ip_addr())
                    .collect::<Vec<_>>()
            })
            .take(ADDRESSES)
            .collect()
    }

    /// Returns the names to ask for, in order: with and without what is appended, as resolv.conf(5) says.
    fn candidates(&self, text: &str, absolute: Name) -> Vec<Name> {
        if text.ends_with('.') {
            return vec![absolute];
        }
        let dots = text.bytes().filter(|byte| *byte == b'.').count();
        let mut names: Vec<Name> = self
            .search
            .iter()
            .filter_map(|domain| {
                let mut relative = absolute.clone();
                relative.set_fqdn(false);
                // One that would be too long is none.
                let mut name = relative.append_domain(domain).ok()?;
                name.set_fqdn(true);
                Some(name)
            })
            .collect();
        let position = if dots >= self.dots { 0 } else { names.len() };
        names.insert(position, absolute);
        names
    }
}

#[derive(Clone)]
enum Failure {
    /// There is no such name, or it has no address.
    NotFound,
    /// Nobody could say.
    Failed(NetError),
}

/// Asks for the addresses of a name, of both families at once.
async fn ask(known: &Rc<Known>, name: Name) -> Result<Found, Failure> {
    let query = |family| Box::pin(query(known.clone(), name.clone(), family));
    let (mut v6, mut v4) = (query(RecordType::AAAA), query(RecordType::A));
    let complete = |addresses| {
        Ok(Found {
            addresses,
            rest: None,
        })
    };
    tokio::select! {
        biased;
        found = &mut v6 => match found {
            Ok(addresses) => Ok(Found { addresses, rest: Some(rest(v4)) }),
            Err(failure) => match v4.await {
                Ok(addresses) => complete(addresses),
                Err(other) => Err(failure.or(other)),
            },
        },
        found = &mut v4 => match found {
            Ok(mut addresses) => match tokio::time::timeout(RESOLUTION_DELAY, &mut v6).await {
                Ok(found) => {
                    addresses.extend(found.unwrap_or_default());
                    complete(addresses)
                }
                Err(_elapsed) => Ok(Found { addresses, rest: Some(rest(v6)) }),
            },
            Err(failure) => match v6.await {
                Ok(addresses) => complete(addresses),
                Err(other) => Err(failure.or(other)),
            },
        },
    }
}

fn rest(query: impl Future<Output = Result<Vec<IpAddr>, Failure>> + 'static) -> Rest {
    Box::pin(async { query.await.unwrap_or_default() })
}

/// Asks for the addresses of a name of one family, unless it is known.
async fn query(known: Rc<Known>, name: Name, family: RecordType) -> Result<Vec<IpAddr>, Failure> {
    let key = (name, family);
    let found = match known.cache.find(&key) {
        Some(addresses) => addresses,
        None => {
            let answer = known.resolver.lookup(key.0.clone(), family).await;
            let (addresses, until) = read(answer).map_err(Failure::Failed)?;
            known.cache.add(key, addresses.clone(), until);
            addresses
        }
    };
    if found.is_empty() {
        Err(Failure::NotFound)
    } else {
        Ok(found)
    }
}

/// Returns the addresses of an answer, and how long it holds.
fn read(answer: Result<Lookup, NetError>) -> Result<(Vec<IpAddr>, Instant), NetError> {
    match answer {
        Ok(found) => {
            let addresses = found.answers().iter();
            let addresses = addresses.filter_map(|record| record.data.ip_addr());
            Ok((addresses.take(ADDRESSES).collect(), found.valid_until()))
        }
        // RFC 2308, section 5: without the zone's SOA it is not to be remembered.
        Err(NetError::Dns(DnsError::NoRecordsFound(none))) => {
            let seconds = none.negative_ttl.unwrap_or(0);
            let until = Instant::now() + Duration::from_secs(seconds.into());
            Ok((Vec::new(), until))
        }
        Err(error) => Err(error),
    }
}

/// Answers, that there is no address among them, for as long as they hold.
#[derive(Default)]
struct Cache(RefCell<HashMap<(Name, RecordType), Answer>>);

struct Answer {
    addresses: Vec<IpAddr>,
    until: Instant,
}

impl Cache {
    fn find(&self, key: &(Name, RecordType)) -> Option<Vec<IpAddr>> {
        let answers = self.0.borrow();
        let answer = answers.get(key)?;
        (Instant::now() < answer.until).then(|| answer.addresses.clone())
    }

    fn add(&self, key: (Name, RecordType), addresses: Vec<IpAddr>, until: Instant) {
        let now = Instant::now();
        // RFC 8767, section 4: longer than a week is not sensible; a day is what resolvers keep.
        let until = until.min(now + LONGEST_TTL);
        let mut answers = self.0.borrow_mut();
        answers.remove(&key);
        if until <= now {
            return;
        }
        if answers.len() >= ANSWERS {
            answers.retain(|_, answer| now < answer.until);
        }
        if answers.len() >= ANSWERS {
            let first = answers.iter().min_by_key(|(_, answer)| answer.until);
            if let Some(first) = first.map(|(key, _)| key.clone()) {
                answers.remove(&first);
            }
        }
        answers.insert(key, Answer { addresses, until });
    }
}

impl Failure {
    /// The failure of both families: what nobody could say may be there.
    fn or(self, other: Self) -> Self {
        match self {
            Self::NotFound => other,
            Self::Failed(_) => self,
        }
    }
}

fn server(address: SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
    let connections = connections.map(|mut connection| {
        connection.port = address.port();
        connection
    });
    NameServerConfig::new(address.ip(), true, connections.into())
}

/// How long IPv4 waits for IPv6: 50 ms, the default of RFC 8305, section 8.
const RESOLUTION_DELAY: Duration = Duration::from_millis(50);

/// Addresses of one name and family, at most; further ones are forgotten. A name with more than a handful is rare, and each is perhaps an attempt.
pub(super) const ADDRESSES: usize = 64;

/// Look-ups of one worker that ask somebody, at most; further ones wait. Each is two queries, two sockets and 10 KiB.
const LOOK_UPS: usize = 256;

/// Answers that one resolver remembers, at most; each takes less than 2 KiB. The one that would be forgotten first makes room.
const ANSWERS: usize = 4096;

/// How long an answer is remembered at most, whatever its TTL says: a day.
const LONGEST_TTL: Duration = Duration::from_secs(86_400);

#[cfg(test)]
mod tests {
    use super::*;

    /// Files that say this; none is not there.
    fn files(test: &str, hosts: Option<&str>, resolv_conf: Option<&str>) -> Files {
        let folder =
            std::env::temp_dir().join(format!("nethost-resolver-{test}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let files = Files {
            hosts: folder.join("hosts"),
            resolv_conf: folder.join("resolv.conf"),
        };
        for (path, text) in [(&files.hosts, hosts), (&files.resolv_conf, resolv_conf)] {
            match text {
                Some(text) => fs::write(path, text).unwrap(),
                None => drop(fs::remove_file(path)),
            }
        }
        files
    }

    fn look_up(resolver: &Resolver, name: &str) -> Result<Vec<IpAddr>, OperationError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let permits = Arc::new(Semaphore::new(1));
        let found = runtime.block_on(resolver.look_up(name, &permits))?;
        Ok(found.addresses)
    }

    #[test]
    fn a_file_that_is_missing_is_told_by_the_look_up() {
        let files = files("missing", None, None);
        let resolver = Resolver::reading(&[], files);
        let error = look_up(&resolver, "x.test").unwrap_err();
        assert_eq!(error.kind, ErrorKind::Io);
        assert!(error.message.contains("resolv.conf"), "{error:?}");
        // What nobody is asked for needs no file.
        for name in ["localhost", "LocalHost.", "a.localhost"] {
            let found = look_up(&resolver, name).unwrap();
            assert!(found.iter().all(IpAddr::is_loopback), "{name}: {found:?}");
            assert_eq!(found.len(), 2);
        }
    }

    #[test]
    fn files_are_read_again_when_they_have_changed() {
        let files = files(
            "changed",
            Some("192.0.2.1 x.test other # comment\n2001:db8::1 X.Test\n192.0.2.9 localhost\n"),
            Some("nameserver 127.0.0.1\n"),
        );
        let hosts = files.hosts.clone();
        let resolver = Resolver::reading(&[], files);
        let found = |name| {
            let found = look_up(&resolver, name).unwrap();
            found.iter().map(IpAddr::to_string).collect::<Vec<_>>()
        };
        assert_eq!(found("x.test"), ["2001:db8::1", "192.0.2.1"]);
        assert_eq!(found("other."), ["192.0.2.1"]);
        // RFC 6761: whatever a file says.
        assert_eq!(found("localhost"), ["::1", "127.0.0.1"]);
        fs::write(hosts, "192.0.2.222 x.test\n").unwrap();
        assert_eq!(found("x.test"), ["192.0.2.222"]);
    }

    #[test]
    fn names_are_completed_as_resolv_conf_says() {
        let resolver = Resolver::reading(
            &[],
            files(
                "search",
                None,
                Some("nameserver 127.0.0.1\nsearch a.test b.test\noptions ndots:2\n"),
            ),
        );
        let known = resolver.known().unwrap();
        let candidates = |text: &str| {
            let mut name = Name::from_ascii(text).unwrap();
            name.set_fqdn(true);
            let names = known.candidates(text, name);
            names.iter().map(Name::to_string).collect::<Vec<_>>()
        };
        assert_eq!(candidates("x"), ["x.a.test.", "x.b.test.", "x."]);
        assert_eq!(candidates("x.y"), ["x.y.a.test.", "x.y.b.test.", "x.y."]);
        assert_eq!(
            candidates("x.y.z"),
            ["x.y.z.", "x.y.z.a.test.", "x.y.z.b.test."]
        );
        assert_eq!(candidates("x."), ["x."]);
        let servers = ["127.0.0.1:53".parse().unwrap()];
        let resolver = Resolver::reading(&servers, files("servers", None, None));
        let known = resolver.known().unwrap();
        let name = Name::from_ascii("x.").unwrap();
        assert_eq!(known.candidates("x", name.clone()), [name]);
    }

    #[test]
    fn the_cache_is_bounded_and_forgets_what_holds_the_shortest() {
        let cache = Cache::default();
        let name = |index: usize| {
            (
                Name::from_ascii(format!("n{index}.")).unwrap(),
                RecordType::A,
            )
        };
        let now = Instant::now();
        let hour = Duration::from_secs(3600);
        for index in 0..ANSWERS + 10 {
            let index_seconds = Duration::from_secs(u64::try_from(index).unwrap());
            cache.add(name(index), Vec::new(), now + hour + index_seconds);
        }
        assert_eq!(cache.0.borrow().len(), ANSWERS);
        assert!(cache.find(&name(9)).is_none());
        assert!(cache.find(&name(10)).is_some());
        // An answer with TTL 0 holds no longer than for who asked.
        cache.add(name(10), Vec::new(), now);
        assert!(cache.find(&name(10)).is_none());
        cache.add(name(10), Vec::new(), now + 1000 * hour);
        let longest = cache.0.borrow()[&name(10)].until;
        assert!(longest <= Instant::now() + LONGEST_TTL);
    }
}
