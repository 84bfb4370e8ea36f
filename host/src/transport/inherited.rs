//! Sockets that somebody else opened: a service manager (sd_listen_fds_with_names(3)), inetd, or whoever started this process.
//!
//! A descriptor is taken once in a process's life, and only if it came from outside: those that this process opened are closed on `exec`, so one
//! without that mark was there before. What it is, the kernel is asked.

use std::{
    collections::BTreeSet,
    env, fmt, io,
    net::{TcpListener, TcpStream, UdpSocket},
    os::{
        fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
        unix::net::{UnixListener, UnixStream},
    },
    process,
    sync::{Mutex, PoisonError},
};

use rustix::{
    fs::{FileType, fstat},
    io::{Errno, FdFlags, fcntl_getfd, fcntl_setfd, ioctl_fionbio},
    net::{AddressFamily, SocketType, getpeername, sockopt},
};
use thiserror::Error;

use super::Handed;

/// A socket that somebody else opened.
#[derive(Debug)]
pub(crate) enum Inherited {
    /// It listens for TCP.
    Tcp(TcpListener),
    /// It listens on a UNIX socket. Its file is somebody else's, too.
    Unix(UnixListener),
    /// It is bound to an address of UDP.
    Udp(UdpSocket),
    /// It is connected: inetd's `nowait`.
    Stream(Handed),
}

/// The descriptors that a service manager passed, with their names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Passed(Vec<(String, RawFd)>);

/// Why there is no socket.
#[derive(Debug, Error)]
pub(crate) enum InheritedError {
    /// `LISTEN_PID` or `LISTEN_FDS` is missing.
    #[error("the service manager passed no socket: {0} is not set")]
    NotActivated(&'static str),
    /// They are another process's.
    #[error("the service manager's sockets are for process {theirs}, and this is process {ours}")]
    OtherProcess {
        /// `LISTEN_PID`.
        theirs: u32,
        /// This process.
        ours: u32,
    },
    /// A variable is no number, or too high a one.
    #[error("{name} is `{value}`, not a number from 1 to {most}")]
    Number {
        /// The variable.
        name: &'static str,
        /// What it is.
        value: String,
        /// What it can be.
        most: u32,
    },
    /// `LISTEN_FDNAMES` does not fit `LISTEN_FDS`.
    #[error("LISTEN_FDNAMES has {names} names for {sockets} sockets")]
    Names {
        /// How many names there are.
        names: usize,
        /// How many sockets there are.
        sockets: usize,
    },
    /// No socket has that name.
    #[error("no socket is named `{name}`; the service manager passed: {passed}")]
    NoSuchName {
        /// The name.
        name: String,
        /// Those that there are.
        passed: Passed,
    },
    /// `systemd:` is left with nothing.
    #[error("every socket has another listener; the service manager passed: {0}")]
    NoneLeft(Passed),
    /// Another endpoint, or another service, has it.
    #[error("file descriptor {0} is taken by another listener")]
    Taken(RawFd),
    /// Nobody passed it.
    #[error("file descriptor {0} is not open")]
    NotOpen(RawFd),
    /// It is not from outside.
    #[error("file descriptor {0} was not passed to this process: it is one of its own")]
    Own(RawFd),
    /// It is not a socket.
    #[error("{subject} is {what}, not a socket")]
    NotSocket {
        /// What was looked at.
        subject: Subject,
        /// What it is.
        what: &'static str,
    },
    /// It is a socket, and not of the kind that can be served.
    #[error("{subject} is {what}, not a socket for streams or UDP")]
    NotStream {
        /// What was looked at.
        subject: Subject,
        /// What it is.
        what: &'static str,
    },
    /// It is a socket that nothing was done with.
    #[error("{0} is a stream socket that neither listens nor is connected")]
    Idle(Subject),
    /// It is a stream socket, but neither TCP nor UNIX.
    #[error("{subject} is a stream socket of address family {family}, neither TCP nor UNIX")]
    Family {
        /// What was looked at.
        subject: Subject,
        /// Its address family's number.
        family: u16,
    },
    /// The system failed.
    #[error("{subject}: {error}")]
    System {
        /// What was looked at.
        subject: Subject,
        /// How.
        error: Errno,
    },
}

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// A descriptor by its number.
    Descriptor(RawFd),
    /// Descriptor 0.
    StandardInput,
}

/// What a socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kind {
    family: Family,
    role: Role,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Tcp,
    Unix,
    Udp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Listening,
    Connected,
}

/// Takes a descriptor that this process was started with; nobody can take it again.
pub(crate) fn take(fd: RawFd) -> Result<Inherited, InheritedError> {
    static TAKEN: Mutex<BTreeSet<RawFd>> = Mutex::new(BTreeSet::new());
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    if taken.contains(&fd) {
        return Err(InheritedError::Taken(fd));
    }
    let (socket, kind) = own(fd)?;
    taken.insert(fd);
    drop(taken);
    classify(socket, kind).map_err(|error| InheritedError::System {
        subject: Subject::Descriptor(fd),
        error,
    })
}

/// Takes the socket that is standard input, which stays open besides.
pub(crate) fn take_standard_input() -> Result<Inherited, InheritedError> {
    let subject = Subject::StandardInput;
    let input = io::stdin();
    let kind = inspect(input.as_fd(), subject)?;
    rustix::io::fcntl_dupfd_cloexec(input.as_fd(), 3)
        .and_then(|socket| classify(socket, kind))
        .map_err(|error| InheritedError::System { subject, error })
}

impl Passed {
    /// Reads what the service manager says in the environment. It stays there: to remove it is not safe once there are threads, and the host
    /// starts no process that could mistake it for its own.
    pub(crate) fn from_environment() -> Result<Self, InheritedError> {
        Self::read(|name| env::var(name).ok(), process::id())
    }

    fn read(
        variable: impl Fn(&'static str) -> Option<String>,
        ours: u32,
    ) -> Result<Self, InheritedError> {
        let number = |name, most| {
            let value = variable(name).ok_or(InheritedError::NotActivated(name))?;
            let number = value.parse().ok();
            number
                .filter(|number| (1..=most).contains(number))
                .ok_or(InheritedError::Number { name, value, most })
        };
        let theirs = number("LISTEN_PID", u32::MAX)?;
        if theirs != ours {
            return Err(InheritedError::OtherProcess { theirs, ours });
        }
        let count = number("LISTEN_FDS", MOST_PASSED)?;
        let fds: Vec<RawFd> = (FIRST_PASSED..).zip(0..count).map(|(fd, _)| fd).collect();
        let names: Vec<String> = match variable("LISTEN_FDNAMES") {
            Some(names) => names.split(':').map(str::to_owned).collect(),
            None => vec![UNNAMED.to_owned(); fds.len()],
        };
        if names.len() != fds.len() {
            return Err(InheritedError::Names {
                names: names.len(),
                sockets: fds.len(),
            });
        }
        Ok(Self(names.into_iter().zip(fds).collect()))
    }

    /// Returns the descriptors of that name.
    pub(crate) fn named(&self, name: &str) -> Result<Self, InheritedError> {
        self.some(|candidate, _| candidate == name)
            .ok_or_else(|| InheritedError::NoSuchName {
                name: name.to_owned(),
                passed: self.clone(),
            })
    }

    /// Returns the descriptors that no endpoint names.
    pub(crate) fn except(&self, names: &[&str], fds: &[RawFd]) -> Result<Self, InheritedError> {
        self.some(|name, fd| !names.contains(&name) && !fds.contains(&fd))
            .ok_or_else(|| InheritedError::NoneLeft(self.clone()))
    }

    fn some(&self, is_wanted: impl Fn(&str, RawFd) -> bool) -> Option<Self> {
        let wanted = self.0.iter().filter(|(name, fd)| is_wanted(name, *fd));
        let wanted: Vec<_> = wanted.cloned().collect();
        (!wanted.is_empty()).then_some(Self(wanted))
    }
}

impl IntoIterator for Passed {
    type Item = (String, RawFd);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl fmt::Display for Passed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, fd)) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{} (fd {fd})", name.escape_debug())?;
        }
        Ok(())
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Descriptor(fd) => write!(f, "file descriptor {fd}"),
            Self::StandardInput => f.write_str("standard input"),
        }
    }
}

impl From<InheritedError> for io::Error {
    fn from(error: InheritedError) -> Self {
        Self::other(error)
    }
}

/// Makes a number the descriptor that it stands for, if it can be served; otherwise it is left alone.
#[expect(
    unsafe_code,
    reason = "a descriptor that was passed to this process is known by its number only"
)]
fn own(fd: RawFd) -> Result<(OwnedFd, Kind), InheritedError> {
    // SAFETY: it is not -1, and is only asked about. If it is not open the first question says so.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    let flags = fcntl_getfd(borrowed).map_err(|_closed| InheritedError::NotOpen(fd))?;
    if flags.contains(FdFlags::CLOEXEC) {
        return Err(InheritedError::Own(fd));
    }
    let subject = Subject::Descriptor(fd);
    let kind = inspect(borrowed, subject)?;
    fcntl_setfd(borrowed, flags | FdFlags::CLOEXEC)
        .map_err(|error| InheritedError::System { subject, error })?;
    // SAFETY: it is open, and nobody in this process owns it: everything that the process itself opens, by the standard library and all others, is closed
    // on `exec`, which this one was not. The caller holds the list of those that were taken, and with the mark set above it would not be
    // taken a second time without the list either.
    Ok((unsafe { OwnedFd::from_raw_fd(fd) }, kind))
}

/// Asks the kernel what a descriptor is.
fn inspect(fd: BorrowedFd<'_>, subject: Subject) -> Result<Kind, InheritedError> {
    let system = |error| InheritedError::System { subject, error };
    let stat = fstat(fd).map_err(system)?;
    let what = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Socket => None,
        FileType::RegularFile => Some("a regular file"),
        FileType::Directory => Some("a directory"),
        FileType::Fifo => Some("a pipe"),
        FileType::CharacterDevice => Some("a character device"),
        FileType::BlockDevice => Some("a block device"),
        _ => Some("a special file"),
    };
    if let Some(what) = what {
        return Err(InheritedError::NotSocket { subject, what });
    }
    match sockopt::socket_type(fd).map_err(system)? {
        SocketType::STREAM => {}
        SocketType::DGRAM => return datagrams(fd, subject),
        SocketType::SEQPACKET => {
            let what = "a socket for sequenced packets";
            return Err(InheritedError::NotStream { subject, what });
        }
        _ => {
            let what = "a raw socket";
            return Err(InheritedError::NotStream { subject, what });
        }
    }
    let family = match sockopt::socket_domain(fd).map_err(system)? {
        AddressFamily::INET | AddressFamily::INET6 => Family::Tcp,
        AddressFamily::UNIX => Family::Unix,
        other => {
            let family = other.as_raw();
            return Err(InheritedError::Family { subject, family });
        }
    };
    let role = if sockopt::socket_acceptconn(fd).map_err(system)? {
        Role::Listening
    } else {
        match getpeername(fd) {
            Ok(_) => Role::Connected,
            Err(Errno::NOTCONN) => return Err(InheritedError::Idle(subject)),
            Err(error) => return Err(system(error)),
        }
    };
    Ok(Kind { family, role })
}

/// Tells what a socket for datagrams is: UDP that is bound, or nothing that can be served.
fn datagrams(fd: BorrowedFd<'_>, subject: Subject) -> Result<Kind, InheritedError> {
    let system = |error| InheritedError::System { subject, error };
    match sockopt::socket_domain(fd).map_err(system)? {
        AddressFamily::INET | AddressFamily::INET6 => {}
        _ => {
            let what = "a socket for datagrams other than UDP's";
            return Err(InheritedError::NotStream { subject, what });
        }
    }
    if getpeername(fd).is_ok() {
        let what = "a UDP socket with one peer";
        return Err(InheritedError::NotStream { subject, what });
    }
    Ok(Kind {
        family: Family::Udp,
        role: Role::Listening,
    })
}

fn classify(socket: OwnedFd, kind: Kind) -> Result<Inherited, Errno> {
    ioctl_fionbio(&socket, true)?;
    Ok(match (kind.role, kind.family) {
        (Role::Listening, Family::Tcp) => Inherited::Tcp(socket.into()),
        (Role::Listening, Family::Unix) => Inherited::Unix(socket.into()),
        (_, Family::Udp) => Inherited::Udp(socket.into()),
        (Role::Connected, Family::Tcp) => Inherited::Stream(Handed::Tcp(TcpStream::from(socket))),
        (Role::Connected, Family::Unix) => {
            Inherited::Stream(Handed::Unix(UnixStream::from(socket)))
        }
    })
}

/// `SD_LISTEN_FDS_START`.
const FIRST_PASSED: RawFd = 3;

/// The most descriptors that are taken for passed ones; a unit has some.
const MOST_PASSED: u32 = 4096;

/// What sd_listen_fds_with_names(3) calls a socket without a name.
const UNNAMED: &str = "unknown";

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        os::{
            fd::{AsRawFd as _, IntoRawFd as _},
            unix::net::UnixDatagram,
        },
        sync::atomic::{AtomicI32, Ordering},
    };

    use socket2::{Domain, Socket, Type};

    use super::*;

    /// As if it had been passed to this process; a number that no other test has, for they are taken once.
    fn passed(fd: impl Into<OwnedFd>) -> RawFd {
        static NEXT: AtomicI32 = AtomicI32::new(700);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let fd = rustix::io::fcntl_dupfd_cloexec(fd.into(), next).unwrap();
        fcntl_setfd(&fd, FdFlags::empty()).unwrap();
        fd.into_raw_fd()
    }

    fn error(fd: impl Into<OwnedFd>) -> String {
        let fd = passed(fd);
        let error = take(fd).unwrap_err().to_string();
        error.replace(&format!("descriptor {fd} "), "descriptor N ")
    }

    #[test]
    fn a_socket_is_what_the_kernel_says_it_is_and_is_taken_once() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        let fd = passed(tcp);
        let Inherited::Tcp(taken) = take(fd).unwrap() else {
            panic!("it listens for TCP");
        };
        assert_eq!(taken.local_addr().unwrap(), address);
        assert!(fcntl_getfd(&taken).unwrap().contains(FdFlags::CLOEXEC));
        let again = take(fd).unwrap_err().to_string();
        assert_eq!(
            again,
            format!("file descriptor {fd} is taken by another listener")
        );

        let client = TcpStream::connect(address).unwrap();
        assert!(matches!(
            take(passed(client)),
            Ok(Inherited::Stream(Handed::Tcp(_)))
        ));
        let (one, _other) = UnixStream::pair().unwrap();
        assert!(matches!(
            take(passed(one)),
            Ok(Inherited::Stream(Handed::Unix(_)))
        ));
    }

    #[test]
    fn what_cannot_be_served_is_named() {
        let of = |domain, kind| Socket::new(domain, kind, None).unwrap();
        let (pipe, _writer) = io::pipe().unwrap();
        let file = File::open("/proc/self/exe").unwrap();
        for (error, expected) in [
            (error(file), "a regular file, not a socket"),
            (error(File::open("/").unwrap()), "a directory, not a socket"),
            (
                error(File::open("/dev/null").unwrap()),
                "a character device, not a socket",
            ),
            (error(pipe), "a pipe, not a socket"),
            (
                error(UnixDatagram::unbound().unwrap()),
                "a socket for datagrams other than UDP's, not a socket for streams or UDP",
            ),
            (
                error(of(Domain::UNIX, Type::SEQPACKET)),
                "a socket for sequenced packets, not a socket for streams or UDP",
            ),
            (
                error(of(Domain::IPV4, Type::STREAM)),
                "a stream socket that neither listens nor is connected",
            ),
        ] {
            assert_eq!(error, format!("file descriptor N is {expected}"));
        }
        let own = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(matches!(
            take(own.as_fd().as_raw_fd()),
            Err(InheritedError::Own(_))
        ));
        assert_eq!(
            take(1_000_000).unwrap_err().to_string(),
            "file descriptor 1000000 is not open"
        );
    }

    fn read(variables: &[(&str, &str)]) -> Result<Passed, String> {
        let variable = |name| {
            let found = variables.iter().find(|(candidate, _)| *candidate == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Passed::read(variable, 7).map_err(|error| error.to_string())
    }

    #[test]
    fn what_the_service_manager_says_is_read_as_sd_listen_fds_does() {
        let both = [("LISTEN_PID", "7"), ("LISTEN_FDS", "2")];
        let unnamed = read(&both).unwrap();
        assert_eq!(unnamed.to_string(), "unknown (fd 3), unknown (fd 4)");
        assert_eq!(unnamed.named("unknown").unwrap(), unnamed);
        let named = [
            both[0],
            ("LISTEN_FDS", "3"),
            ("LISTEN_FDNAMES", "web:admin:web"),
        ];
        let named = read(&named).unwrap();
        assert_eq!(
            named.named("web").unwrap().to_string(),
            "web (fd 3), web (fd 5)"
        );
        assert_eq!(
            named.except(&["admin"], &[5]).unwrap().to_string(),
            "web (fd 3)"
        );
        assert_eq!(
            named.named("irc").unwrap_err().to_string(),
            "no socket is named `irc`; the service manager passed: web (fd 3), admin (fd 4), web (fd 5)"
        );
        assert_eq!(
            named
                .except(&["admin", "web"], &[])
                .unwrap_err()
                .to_string(),
            "every socket has another listener; the service manager passed: web (fd 3), admin (fd 4), web (fd 5)"
        );
    }

    #[test]
    fn what_the_service_manager_says_wrongly_is_named() {
        for (variables, expected) in [
            (
                &[][..],
                "the service manager passed no socket: LISTEN_PID is not set",
            ),
            (
                &[("LISTEN_PID", "7")],
                "the service manager passed no socket: LISTEN_FDS is not set",
            ),
            (
                &[("LISTEN_PID", "8"), ("LISTEN_FDS", "1")],
                "the service manager's sockets are for process 8, and this is process 7",
            ),
            (
                &[("LISTEN_PID", "x"), ("LISTEN_FDS", "1")],
                "LISTEN_PID is `x`, not a number from 1 to 4294967295",
            ),
            (
                &[("LISTEN_PID", "7"), ("LISTEN_FDS", "0")],
                "LISTEN_FDS is `0`, not a number from 1 to 4096",
            ),
            (
                &[("LISTEN_PID", "7"), ("LISTEN_FDS", "-1")],
                "LISTEN_FDS is `-1`, not a number from 1 to 4096",
            ),
            (
                &[
                    ("LISTEN_PID", "7"),
                    ("LISTEN_FDS", "2"),
                    ("LISTEN_FDNAMES", "web"),
                ],
                "LISTEN_FDNAMES has 1 names for 2 sockets",
            ),
        ] {
            assert_eq!(read(variables).unwrap_err(), expected);
        }
    }
}
