//! UNIX sockets: the listening socket and its file, and the abstract namespace, where there is no file.

use std::{
    ffi::OsStr,
    fs, io,
    os::unix::{
        ffi::OsStrExt,
        fs::{FileTypeExt, MetadataExt, PermissionsExt},
        net::UnixListener,
    },
    path::{Path, PathBuf},
    time::Duration,
};

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{UnixStream, unix::SocketAddr};

use super::Address;
use crate::endpoint::{UnixEndpoint, UnixName};

/// The file of a listening UNIX socket; it is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// The file's device and inode: a successor may have put its own in its place.
    file: (u64, u64),
}

impl SocketFile {
    /// Returns where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Binds a socket, and returns it with its file; an abstract name has none.
///
/// A file of a socket that nobody listens on any more is removed first; any other file is an error.
pub(crate) fn bind(endpoint: &UnixEndpoint) -> io::Result<(UnixListener, Option<SocketFile>)> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    let address = SockAddr::unix(system_path(&endpoint.address))?;
    let file = match &endpoint.address {
        UnixName::Abstract(_) => {
            socket.bind(&address)?;
            None
        }
        UnixName::Path(path) => {
            remove_stale(path)?;
            socket.bind(&address)?;
            let metadata = fs::symlink_metadata(path)?;
            let file = SocketFile {
                path: path.clone(),
                file: (metadata.dev(), metadata.ino()),
            };
            if let Some(mode) = endpoint.mode {
                // Before `listen`, so that nobody connects while the mode is still the umask's.
                fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
            }
            Some(file)
        }
    };
    socket.listen(i32::try_from(endpoint.options.backlog).unwrap_or(i32::MAX))?;
    Ok((socket.into(), file))
}

/// Connects to a socket. While its queue is full this waits, as connect(2) would without O_NONBLOCK; the caller has a deadline.
pub(crate) async fn connect(name: &UnixName) -> io::Result<UnixStream> {
    let path = system_path(name);
    loop {
        match UnixStream::connect(&path).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                tokio::time::sleep(FULL_QUEUE_PAUSE).await;
            }
            result => return result,
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.file);
        if is_ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "removing a socket");
        }
    }
}

/// Returns the local and the peer's address.
pub(crate) fn addresses(stream: &UnixStream) -> io::Result<(Address, Address)> {
    Ok((path(&stream.local_addr()?), path(&stream.peer_addr()?)))
}

fn path(address: &SocketAddr) -> Address {
    let name = address.as_abstract_name().map(|name| {
        let name = [b"@", name].concat();
        PathBuf::from(OsStr::from_bytes(&name))
    });
    Address::Path(name.or_else(|| address.as_pathname().map(Path::to_owned)))
}

/// As the system's libraries want it: an abstract name begins with NUL.
fn system_path(name: &UnixName) -> PathBuf {
    match name {
        UnixName::Path(path) => path.clone(),
        UnixName::Abstract(name) => format!("\0{name}").into(),
    }
}

fn remove_stale(path: &Path) -> io::Result<()> {
    let is_socket = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type().is_socket(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !is_socket {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "there is a file of that name, and it is not a socket",
        ));
    }
    // Without waiting: a server whose queue is full is there.
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        _ => Err(io::ErrorKind::AddrInUse.into()),
    }
}

/// There is no event for room in a queue, so it is tried again after 20 ms.
const FULL_QUEUE_PAUSE: Duration = Duration::from_millis(20);
