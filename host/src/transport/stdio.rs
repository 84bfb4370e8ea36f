//! Standard input and output as one connection.
//!
//! If both are the same socket, as inetd gives it, it is served as the socket that it is. Everything else, a pipe, a file, a terminal, cannot be waited for
//! in one way, and a change to `O_NONBLOCK` would be seen by whoever shares it: so two threads copy between it and a pair of
//! sockets, whose other end is served. What is on its way is bounded by the sockets' buffers and one buffer a thread.

use std::{
    fs::File,
    io::{self, ErrorKind, Read, Write},
    net::Shutdown,
    os::{fd::AsFd, unix::net::UnixStream},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use rustix::fs::{FileType, fstat};
use tokio::sync::oneshot;

use super::{
    Address, Handed,
    inherited::{self, Inherited},
};

/// Standard input and output.
#[derive(Debug)]
pub(crate) struct Stdio {
    /// The stream to serve.
    pub(crate) stream: Handed,
    /// Its addresses, if they are not the stream's own.
    pub(crate) addresses: Option<(Address, Address)>,
    /// Comes, or is closed, once everything that was written to the stream has gone to standard output; none if it has gone already.
    pub(crate) flushed: Option<oneshot::Receiver<()>>,
}

/// Takes standard input and output; they can be taken once.
pub(crate) fn take() -> io::Result<Stdio> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Err(io::Error::other(
            "standard input and output are taken by another listener",
        ));
    }
    if is_same_socket(io::stdin(), io::stdout()) {
        return match inherited::take_standard_input()? {
            Inherited::Stream(stream) => Ok(Stdio {
                stream,
                addresses: None,
                flushed: None,
            }),
            Inherited::Tcp(_) | Inherited::Unix(_) | Inherited::Udp(_) => Err(io::Error::other(
                "standard input is a socket, but not a connection",
            )),
        };
    }
    // Without the buffers of the standard library.
    let input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let output = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let (stream, flushed) = bridge(input, output)?;
    stream.set_nonblocking(true)?;
    Ok(Stdio {
        stream: Handed::Unix(stream),
        addresses: Some((Address::Other("stdio"), Address::Other("stdio"))),
        flushed: Some(flushed),
    })
}

/// Returns whether standard error leads to the peer that standard input and output are a socket to: inetd gives the same for all three, and a log line would
/// come in the midst of the protocol.
pub(crate) fn is_error_the_peers() -> bool {
    is_same_socket(io::stdin(), io::stdout()) && is_same_socket(io::stdin(), io::stderr())
}

fn is_same_socket(one: impl AsFd, other: impl AsFd) -> bool {
    fstat(one)
        .ok()
        .zip(fstat(other).ok())
        .is_some_and(|(one, other)| {
            FileType::from_raw_mode(one.st_mode) == FileType::Socket
                && (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
        })
}

/// Starts the threads that copy, and returns the stream that they serve.
fn bridge(
    input: impl Read + Send + 'static,
    output: impl Write + Send + 'static,
) -> io::Result<(UnixStream, oneshot::Receiver<()>)> {
    let (ours, theirs) = UnixStream::pair()?;
    let to_plugin = theirs.try_clone()?;
    let (sender, flushed) = oneshot::channel();
    thread::Builder::new()
        .name("nethost-stdin".to_owned())
        .spawn(move || {
            copy("standard input", input, &to_plugin);
            // The other thread has closed both halves if the connection is gone already.
            let _gone = to_plugin.shutdown(Shutdown::Write);
        })?;
    thread::Builder::new()
        .name("nethost-stdout".to_owned())
        .spawn(move || {
            copy("standard output", &theirs, output);
            // The plugin has said everything, or nobody listens to it any more. The other thread may be waiting for input without end, and
            // must not keep the connection.
            let _gone = theirs.shutdown(Shutdown::Both);
            let _gone = sender.send(());
        })?;
    Ok((ours, flushed))
}

fn copy(name: &str, mut source: impl Read, mut target: impl Write) {
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = match patiently(|| source.read(&mut buffer)) {
            Ok(0) => return,
            Ok(count) => buffer.get(..count).unwrap_or_default(),
            Err(error) => {
                tracing::debug!(%error, "reading for {name}");
                return;
            }
        };
        let mut left = read;
        while !left.is_empty() {
            match patiently(|| target.write(left)) {
                Ok(count @ 1..) => left = left.get(count..).unwrap_or_default(),
                Ok(0) => return,
                Err(error) => {
                    tracing::debug!(%error, "writing for {name}");
                    return;
                }
            }
        }
    }
}

/// Somebody who shares a pipe or a terminal may have set `O_NONBLOCK` on it.
pub(crate) fn patiently(mut step: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match step() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(NONBLOCKING_PAUSE),
            result => return result,
        }
    }
}

/// What a thread copies at once: 64 KiB, as much as one `data-received` brings.
const BUFFER: usize = 64 << 10;

/// Before another attempt at what should block and does not: 10 ms.
const NONBLOCKING_PAUSE: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Takes the first bytes, and then fails.
    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Sent(mpsc::Sender<Vec<u8>>);

    impl Write for Sent {
        fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            let kept = data.get(..data.len().min(1000)).unwrap_or_default();
            self.0.send(kept.to_vec()).unwrap();
            Ok(kept.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_goes_in_is_read_and_what_is_written_comes_out_before_it_is_flushed() {
        let data: Vec<u8> = (0..300_000_u32).map(|at| (at % 251) as u8).collect();
        let (sender, receiver) = mpsc::channel();
        let (mut stream, flushed) = bridge(io::Cursor::new(data.clone()), Sent(sender)).unwrap();
        let mut got = Vec::new();
        stream.read_to_end(&mut got).unwrap();
        assert!(got == data);
        stream.write_all(&data).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        flushed.blocking_recv().unwrap();
        let out: Vec<u8> = receiver.try_iter().flatten().collect();
        assert!(out == data);
    }

    #[test]
    fn an_output_that_nobody_reads_ends_the_stream_while_the_input_goes_on() {
        let (input, _writer) = io::pipe().unwrap();
        let (mut stream, flushed) = bridge(input, Closed).unwrap();
        stream.write_all(b"x").unwrap();
        flushed.blocking_recv().unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        let error = stream.write_all(b"x").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    }
}
