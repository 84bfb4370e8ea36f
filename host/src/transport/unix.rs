//! UNIX sockets: the listening socket and its file.

use std::{
    fs, io,
    os::unix::{
        fs::{FileTypeExt, MetadataExt, PermissionsExt},
        net::{UnixListener, UnixStream as StdUnixStream},
    },
    path::{Path, PathBuf},
};

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{UnixStream, unix::SocketAddr};

use super::Address;
use crate::endpoint::{UnixEndpoint, UnixName};

/// A listening UNIX socket; its file is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct UnixListenerFile {
    /// Where the socket is.
    pub(crate) path: PathBuf,
    /// The file's device and inode: a successor may have put its own in its place.
    file: (u64, u64),
    /// The socket, until a worker has taken it.
    pub(crate) socket: Option<UnixListener>,
}

impl UnixListenerFile {
    /// Binds the path. A socket file that nobody listens on any more is removed first; any other file is an error.
    pub(crate) fn bind(endpoint: &UnixEndpoint) -> io::Result<Self> {
        let UnixName::Path(path) = &endpoint.address else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        remove_stale(path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.bind(&SockAddr::unix(path)?)?;
        let metadata = fs::symlink_metadata(path)?;
        let mut file = Self {
            path: path.clone(),
            file: (metadata.dev(), metadata.ino()),
            socket: None,
        };
        if let Some(mode) = endpoint.mode {
            // Before `listen`, so that nobody connects while the mode is still the umask's.
            fs::set_permissions(&file.path, fs::Permissions::from_mode(mode))?;
        }
        socket.listen(i32::try_from(endpoint.options.backlog).unwrap_or(i32::MAX))?;
        file.socket = Some(socket.into());
        Ok(file)
    }
}

impl Drop for UnixListenerFile {
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
    Address::Path(address.as_pathname().map(Path::to_owned))
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
    match StdUnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        _ => Err(io::ErrorKind::AddrInUse.into()),
    }
}
