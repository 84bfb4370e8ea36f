//! Connections that are kept for the next request.

use std::{
    cell::RefCell,
    fmt,
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use nethost_sdk::Stream;

use super::{options::Proxy, url::Origin};

/// To whom a connection leads, and by what way: only a request that wants both alike gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) origin: Origin,
    pub(super) proxy: Option<Proxy>,
}

/// Idle connections, the one that was used last at the end; at most [`MAX_IDLE`].
#[derive(Default)]
pub(super) struct Pool(RefCell<Vec<(Route, Stream)>>);

impl Pool {
    /// Takes a connection for this route that nothing has come on since, and that is not closed.
    pub(super) fn take(&self, route: &Route) -> Option<Stream> {
        loop {
            let mut idle = self.0.borrow_mut();
            let at = idle.iter().rposition(|(other, _)| other == route)?;
            let (_, mut stream) = idle.remove(at);
            drop(idle);
            if is_quiet(&mut stream) {
                stream.connection().set_idle_timeout(None);
                return Some(stream);
            }
        }
    }

    /// Keeps a connection. The host closes it when it was idle for too long.
    pub(super) fn put(&self, route: Route, stream: Stream, idle_time: Duration) {
        stream.connection().set_idle_timeout(Some(idle_time));
        let mut idle = self.0.borrow_mut();
        let oldest = (idle.len() >= MAX_IDLE).then(|| idle.remove(0));
        idle.push((route, stream));
        drop(idle);
        drop(oldest);
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool({})", self.0.borrow().len())
    }
}

/// Whether there is nothing to read: no bytes that belong to no request, and no end.
fn is_quiet(stream: &mut Stream) -> bool {
    let mut buffer = [0];
    let read = pin!(stream.read(&mut buffer));
    matches!(
        read.poll(&mut Context::from_waker(Waker::noop())),
        Poll::Pending
    )
}

/// Idle connections of a client, whomever they lead to: 16.
pub const MAX_IDLE: usize = 16;
