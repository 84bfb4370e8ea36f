//! Clients with deadlines.

use std::{
    fmt, fs,
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use socket2::SockRef;

use crate::DEADLINE;

/// A connection to a host. What does not happen in time is a panic.
pub struct Client {
    stream: Stream,
    received: Vec<u8>,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With the end of the stream.
    Closed,
    /// With a reset.
    Reset,
}

impl Client {
    /// Connects over TCP.
    pub fn tcp(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, DEADLINE)
            .unwrap_or_else(|error| panic!("connecting to {address}: {error}"));
        let nodelay = stream.set_nodelay(true);
        nodelay.unwrap_or_else(|error| panic!("TCP_NODELAY: {error}"));
        Self::of(Stream::Tcp(stream))
    }

    /// Connects to a UNIX socket.
    pub fn unix(path: impl AsRef<Path>) -> Self {
        let path = path.as_ref();
        let stream = UnixStream::connect(path)
            .unwrap_or_else(|error| panic!("connecting to {}: {error}", path.display()));
        Self::of(Stream::Unix(stream))
    }

    /// Takes a connection that was accepted.
    pub fn accepted(stream: TcpStream) -> Self {
        Self::of(Stream::Tcp(stream))
    }

    /// Takes one end of a UNIX socket that is connected.
    pub fn connected(stream: UnixStream) -> Self {
        Self::of(Stream::Unix(stream))
    }

    fn of(stream: Stream) -> Self {
        let this = Self {
            stream,
            received: Vec::new(),
        };
        this.set_timeouts(DEADLINE);
        this
    }

    /// Returns another handle of the same connection, for another thread.
    pub fn another(&self) -> Self {
        let stream = match &self.stream {
            Stream::Tcp(stream) => stream.try_clone().map(Stream::Tcp),
            Stream::Unix(stream) => stream.try_clone().map(Stream::Unix),
        };
        let stream = stream.unwrap_or_else(|error| panic!("duplicating a socket: {error}"));
        Self::of(stream)
    }

    /// Makes the kernel hold little of what this client does not read.
    pub fn with_small_buffer(self) -> Self {
        let done = self.stream.socket().set_recv_buffer_size(128 << 10);
        done.unwrap_or_else(|error| panic!("SO_RCVBUF: {error}"));
        self
    }

    /// Returns this side's TCP address.
    pub fn local(&self) -> SocketAddr {
        let address = self.stream.socket().local_addr();
        let address = address.ok().and_then(|address| address.as_socket());
        address.expect("a TCP stream has an address")
    }

    /// Sends bytes.
    pub fn send(&mut self, data: impl AsRef<[u8]>) {
        let sent = self.stream.write_all(data.as_ref());
        sent.unwrap_or_else(|error| panic!("sending: {error}"));
    }

    /// Sends bytes to a host that may have closed already, and returns whether they went out.
    pub fn try_send(&mut self, data: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(data.as_ref())
    }

    /// Sends a text and LF.
    pub fn command(&mut self, text: &str) {
        self.send(format!("{text}\n"));
    }

    /// Sends a text and CR LF.
    pub fn say(&mut self, text: &str) {
        self.send(format!("{text}\r\n"));
    }

    /// Sends until the peer takes no more for half a second, and returns how many bytes it took; at most `limit`.
    pub fn send_until_blocked(&mut self, limit: usize) -> usize {
        self.set_timeouts(Duration::from_millis(500));
        let chunk = [b'.'; 16 << 10];
        let mut sent = 0;
        while sent < limit {
            match self.stream.write(&chunk) {
                Ok(count) => sent += count,
                Err(error) if is_timeout(&error) => break,
                Err(error) => panic!("sending: {error}"),
            }
        }
        self.set_timeouts(DEADLINE);
        sent
    }

    /// Waits until the host has read everything that was sent over IPv4, as the kernel tells in proc(5): what another client
    /// sends then comes after it.
    pub fn wait_until_read(&self) {
        let hexadecimal = |address: SocketAddr| match address {
            SocketAddr::V4(address) => {
                let ip = u32::from_ne_bytes(address.ip().octets());
                format!("{ip:08X}:{:04X}", address.port())
            }
            SocketAddr::V6(address) => panic!("{address} is no IPv4 address"),
        };
        let peer = self.stream.socket().peer_addr();
        let Some(peer) = peer.ok().and_then(|peer| peer.as_socket()) else {
            // The connection has ended.
            return;
        };
        let ends = format!(" {} {} ", hexadecimal(peer), hexadecimal(self.local()));
        let deadline = Instant::now() + DEADLINE;
        while Instant::now() < deadline {
            let table = fs::read_to_string("/proc/net/tcp");
            let table = table.unwrap_or_else(|error| panic!("/proc/net/tcp: {error}"));
            // State, and the lengths of both queues.
            let rest = table.split_once(&ends).map(|(_, rest)| rest);
            let queues = rest.and_then(|rest| rest.split(' ').nth(1));
            if queues.is_none_or(|queues| queues.ends_with(":00000000")) {
                return;
            }
            thread::yield_now();
        }
        panic!("the host does not read");
    }

    /// Receives a line and returns it without its end.
    pub fn line(&mut self) -> String {
        loop {
            if let Some(end) = self.received.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.received.drain(..=end).collect();
                let line = line.strip_suffix(b"\n").unwrap_or(&line);
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                return String::from_utf8_lossy(line).into_owned();
            }
            if !self.receive() {
                panic!("expected a line, got {self} and then the end");
            }
        }
    }

    /// Receives lines until one has this part, and returns it.
    pub fn line_with(&mut self, part: &str) -> String {
        loop {
            let line = self.line();
            if line.contains(part) {
                return line;
            }
        }
    }

    /// Receives that many bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        while self.received.len() < count {
            if !self.receive() {
                panic!("expected {count} bytes, got {self} and then the end");
            }
        }
        self.received.drain(..count).collect()
    }

    /// Receives what is there, or waits for something.
    pub fn some(&mut self) -> Vec<u8> {
        if self.received.is_empty() {
            assert!(self.receive(), "the connection has ended");
        }
        self.take_received()
    }

    /// Receives exactly these bytes.
    pub fn expect(&mut self, expected: impl AsRef<[u8]>) {
        let expected = expected.as_ref();
        let got = self.bytes(expected.len());
        assert!(
            got == expected,
            "expected {}\ngot      {}",
            shown(expected),
            shown(&got)
        );
    }

    /// Receives everything until the connection ends.
    pub fn rest(&mut self) -> (Vec<u8>, End) {
        let end = loop {
            match self.try_receive() {
                Ok(0) => break End::Closed,
                Ok(_) => {}
                Err(error) if is_reset(&error) => break End::Reset,
                Err(error) => panic!("after {self}: {error}"),
            }
        };
        (std::mem::take(&mut self.received), end)
    }

    /// Receives the end of the stream, and nothing before it.
    pub fn end(&mut self) {
        let (rest, end) = self.rest();
        assert_eq!((shown(&rest), end), (String::new(), End::Closed));
    }

    /// Receives that many bytes and forgets them; false if the connection ends before.
    pub fn rest_until(&mut self, count: usize) -> bool {
        while self.received.len() < count {
            if !matches!(self.try_receive(), Ok(1..)) {
                return false;
            }
        }
        self.received.drain(..count);
        true
    }

    /// Sees a reset, whatever comes before it.
    pub fn reset(&mut self) {
        let (rest, end) = self.rest();
        assert_eq!(end, End::Reset, "after {}", shown(&rest));
    }

    /// Returns whether nothing came for this long: for what must not happen, where no event can be waited for.
    pub fn is_silent_for(&mut self, time: Duration) -> bool {
        let deadline = Instant::now() + time;
        self.set_timeouts(time);
        let silent = self.received.is_empty()
            && loop {
                match self.try_receive() {
                    Err(error) if is_timeout(&error) && Instant::now() >= deadline => break true,
                    Err(error) if is_timeout(&error) => {}
                    _ => break false,
                }
            };
        self.set_timeouts(DEADLINE);
        silent
    }

    /// Closes the writing half.
    pub fn close_write(&mut self) {
        let closed = self.stream.socket().shutdown(Shutdown::Write);
        closed.unwrap_or_else(|error| panic!("closing the writing half: {error}"));
    }

    /// Closes the writing half of a connection that may have ended already, and returns whether it had not.
    pub fn try_close_write(&mut self) -> io::Result<()> {
        self.stream.socket().shutdown(Shutdown::Write)
    }

    /// Resets the connection.
    pub fn kill(self) {
        let set = self.stream.socket().set_linger(Some(Duration::ZERO));
        set.unwrap_or_else(|error| panic!("SO_LINGER: {error}"));
    }

    /// Receives what is there, or waits for something; false at the end.
    pub(crate) fn receive(&mut self) -> bool {
        match self.try_receive() {
            Ok(count) => count > 0,
            Err(error) if is_timeout(&error) => panic!("nothing more came after {self}"),
            Err(error) => panic!("after {self}: {error}"),
        }
    }

    /// Takes what was received.
    pub(crate) fn take_received(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.received)
    }

    fn try_receive(&mut self) -> io::Result<usize> {
        let mut buffer = [0; 16 << 10];
        let count = loop {
            match self.stream.read(&mut buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        self.received
            .extend_from_slice(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }

    fn set_timeouts(&self, timeout: Duration) {
        let socket = self.stream.socket();
        let set = socket
            .set_read_timeout(Some(timeout))
            .and_then(|()| socket.set_write_timeout(Some(timeout)));
        set.unwrap_or_else(|error| panic!("setting timeouts: {error}"));
    }
}

/// What was received and not yet taken.
impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown(&self.received))
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({self})")
    }
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    fn socket(&self) -> SockRef<'_> {
        match self {
            Self::Tcp(stream) => stream.into(),
            Self::Unix(stream) => stream.into(),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(data),
            Self::Unix(stream) => stream.write(data),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Bytes for people, cut where they are many.
fn shown(bytes: &[u8]) -> String {
    let start = bytes.get(..SHOWN).unwrap_or(bytes);
    let text = start.escape_ascii().to_string();
    if bytes.len() > SHOWN {
        format!("{text}... ({} bytes)", bytes.len())
    } else {
        text
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn is_reset(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
    )
}

/// So many bytes say enough.
const SHOWN: usize = 2000;
