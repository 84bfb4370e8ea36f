//! Happy Eyeballs: one connection to the first of many addresses that takes it ([RFC 8305]).
//!
//! The addresses are put in order: those of RFC 6724's higher precedence first, so IPv6 before IPv4, and the families by turns ([section 4]). One that has
//! no route fails at once, and so costs no time. An attempt starts when the one before it failed, or 250 ms after it started ([section 5]); the first that
//! succeeds wins, and the others are given up. Of more than eight that do not answer the oldest is given up for the next. Addresses that a look-up brings late take their place among those that were not tried yet.
//!
//! Every address is checked against the grants before it is tried, and it is that address, not its name, that is connected to: there is
//! nothing between check and use that could change it.
//!
//! [RFC 8305]: https://www.rfc-editor.org/rfc/rfc8305.html
//! [section 4]: https://www.rfc-editor.org/rfc/rfc8305.html#section-4
//! [section 5]: https://www.rfc-editor.org/rfc/rfc8305.html#section-5

use std::{
    collections::VecDeque,
    fmt::Write as _,
    future::poll_fn,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    task::Poll,
    time::Duration,
};

use tokio::{
    net::{TcpSocket, TcpStream},
    time::Instant,
};

use super::{
    handler::{ErrorKind, OperationError},
    resolver::{Found, Rest},
};
use crate::endpoint::unmap;

/// Where to connect to.
pub(super) struct Dial<'a> {
    /// What the plugin asked for, for errors.
    pub(super) what: &'a str,
    /// The port of every address.
    pub(super) port: u16,
    /// The address to connect from; none: the system chooses.
    pub(super) bind: Option<IpAddr>,
    /// Whether an address is granted.
    pub(super) is_granted: &'a dyn Fn(SocketAddr) -> bool,
    /// When to give up.
    pub(super) deadline: Instant,
    /// The time until then, for errors.
    pub(super) limit: Duration,
}

/// Connects to one of the addresses.
pub(super) async fn dial(dial: &Dial<'_>, found: Found) -> Result<TcpStream, OperationError> {
    let Found {
        addresses,
        mut rest,
    } = found;
    let mut race = Race::new(dial);
    race.admit(addresses);
    loop {
        race.start();
        if race.is_over() && rest.is_none() {
            return Err(race.failed());
        }
        let may_start = race.may_start();
        tokio::select! {
            biased;
            (address, result) = race.attempts.next() => match result {
                Ok(stream) => return Ok(stream),
                Err(error) => race.lose(address, error),
            },
            late = late(&mut rest), if rest.is_some() => {
                rest = None;
                race.admit(late);
            }
            () = tokio::time::sleep_until(race.next), if may_start => {}
            () = tokio::time::sleep_until(dial.deadline) => return Err(race.timed_out()),
        }
    }
}

/// Puts addresses in the order in which they are to be tried, each once.
pub(super) fn order(addresses: impl IntoIterator<Item = IpAddr>) -> Vec<IpAddr> {
    let mut sorted: Vec<IpAddr> = Vec::new();
    for address in addresses.into_iter().map(unmap) {
        if !sorted.contains(&address) {
            sorted.push(address);
        }
    }
    sorted.sort_by_key(|address| std::cmp::Reverse(precedence(*address)));
    let first_family = sorted.first().is_some_and(IpAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = sorted
        .into_iter()
        .partition(|address| address.is_ipv6() == first_family);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut ordered = Vec::with_capacity(first.len() + second.len());
    while ordered.len() < ordered.capacity() {
        ordered.extend(first.next());
        ordered.extend(second.next());
    }
    ordered
}

struct Race<'a> {
    dial: &'a Dial<'a>,
    waiting: VecDeque<SocketAddr>,
    attempts: Attempts,
    /// When the next attempt may start, unless one fails before.
    next: Instant,
    lost: Vec<(SocketAddr, OperationError)>,
    denied: Vec<SocketAddr>,
}

impl<'a> Race<'a> {
    fn new(dial: &'a Dial<'a>) -> Self {
        Self {
            dial,
            waiting: VecDeque::new(),
            attempts: Attempts::default(),
            next: Instant::now(),
            lost: Vec::new(),
            denied: Vec::new(),
        }
    }

    /// Takes those of the addresses in that may be tried, and were not.
    fn admit(&mut self, addresses: Vec<IpAddr>) {
        let waiting = std::mem::take(&mut self.waiting);
        let waiting = waiting.into_iter().map(|address| address.ip());
        for ip in order(waiting.chain(addresses)) {
            let address = SocketAddr::new(ip, self.dial.port);
            if self.is_known(address) {
                continue;
            }
            if !(self.dial.is_granted)(address) {
                self.denied.push(address);
                continue;
            }
            match self.dial.bind.map(unmap) {
                Some(bind) if bind.is_ipv4() != ip.is_ipv4() => {
                    let message = format!("bind={bind} is of the other family");
                    let error = OperationError::new(ErrorKind::Invalid, message);
                    self.lost.push((address, error));
                }
                _ => self.waiting.push_back(address),
            }
        }
    }

    fn is_known(&self, address: SocketAddr) -> bool {
        let lost = self.lost.iter().map(|(lost, _)| lost);
        let tried = self.attempts.0.iter().map(|(tried, _)| tried);
        lost.chain(tried)
            .chain(&self.denied)
            .any(|known| *known == address)
    }

    fn may_start(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn start(&mut self) {
        let now = Instant::now();
        if now < self.next || !self.may_start() {
            return;
        }
        if let Some(address) = self.waiting.pop_front() {
            if self.attempts.0.len() >= ATTEMPTS {
                let (oldest, _given_up) = self.attempts.0.remove(0);
                let error = OperationError::new(ErrorKind::Timeout, "no answer");
                self.lost.push((oldest, error));
            }
            let attempt = Box::pin(attempt(address, self.dial.bind.map(unmap)));
            self.attempts.0.push((address, attempt));
            self.next = now + ATTEMPT_DELAY;
        }
    }

    fn lose(&mut self, address: SocketAddr, error: OperationError) {
        self.lost.push((address, error));
        self.next = Instant::now();
    }

    fn is_over(&self) -> bool {
        self.waiting.is_empty() && self.attempts.0.is_empty()
    }

    /// The error when there is nothing left to try: its kind is the most telling one.
    fn failed(&self) -> OperationError {
        let kinds = self.lost.iter().map(|(_, error)| error.kind);
        match kinds.min_by_key(|kind| rank(*kind)) {
            Some(kind) => {
                let message = format!("no connection to {}: {}", self.dial.what, self.tried());
                OperationError::new(kind, message)
            }
            None => {
                let mut denied = String::new();
                for address in self.denied.iter().take(SHOWN) {
                    // Writing to a string does not fail.
                    let _ = write!(denied, " {address}");
                }
                let message = format!(
                    "no address of {} is granted:{denied}; the operator may grant one with --allow-connect",
                    self.dial.what
                );
                OperationError::new(ErrorKind::Denied, message)
            }
        }
    }

    fn timed_out(&self) -> OperationError {
        let message = format!(
            "no connection to {} within {:?}: {}",
            self.dial.what,
            self.dial.limit,
            self.tried()
        );
        OperationError::new(ErrorKind::Timeout, message)
    }

    /// Says what came of each address, of some of them if there are many.
    fn tried(&self) -> String {
        let lost = self.lost.iter();
        let lost = lost.map(|(address, error)| format!("{address}: {}", error.message));
        let running = self.attempts.0.iter();
        let running = running.map(|(address, _)| format!("{address}: no answer"));
        let waiting = self.waiting.iter();
        let waiting = waiting.map(|address| format!("{address}: not tried"));
        let all: Vec<_> = lost.chain(running).chain(waiting).collect();
        let mut parts: Vec<_> = all.iter().take(SHOWN).cloned().collect();
        if let Some(more @ 1..) = all.len().checked_sub(SHOWN) {
            parts.push(format!("and {more} more"));
        }
        if !self.denied.is_empty() {
            parts.push(format!("{} not granted", self.denied.len()));
        }
        parts.join("; ")
    }
}

type Attempt = Pin<Box<dyn Future<Output = Result<TcpStream, OperationError>>>>;

#[derive(Default)]
struct Attempts(Vec<(SocketAddr, Attempt)>);

impl Attempts {
    /// Returns the next attempt that has ended; never, if there is none.
    async fn next(&mut self) -> (SocketAddr, Result<TcpStream, OperationError>) {
        poll_fn(|cx| {
            for (index, (address, attempt)) in self.0.iter_mut().enumerate() {
                if let Poll::Ready(result) = attempt.as_mut().poll(cx) {
                    let address = *address;
                    drop(self.0.remove(index));
                    return Poll::Ready((address, result));
                }
            }
            Poll::Pending
        })
        .await
    }
}

async fn attempt(address: SocketAddr, bind: Option<IpAddr>) -> Result<TcpStream, OperationError> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    if let Some(ip) = bind {
        // The kernel binds to addresses of this machine only.
        socket
            .bind(SocketAddr::new(ip, 0))
            .map_err(|error: io::Error| {
                OperationError::new(ErrorKind::Invalid, format!("bind={ip}: {error}"))
            })?;
    }
    Ok(socket.connect(address).await?)
}

async fn late(rest: &mut Option<Rest>) -> Vec<IpAddr> {
    match rest {
        Some(rest) => rest.await,
        None => Vec::new(),
    }
}

/// RFC 6724, section 2.1: the default policy table.
fn precedence(ip: IpAddr) -> u8 {
    let IpAddr::V6(ip) = ip else {
        return 35;
    };
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => 50,
        [0x2002, ..] => 30,
        [0x2001, 0, ..] => 5,
        [0xfc00..=0xfdff, ..] => 3,
        [0, 0, 0, 0, 0, 0, ..] | [0xfec0..=0xfeff | 0x3ffe, ..] => 1,
        _ => 40,
    }
}

/// What tells the plugin the most comes first: a peer that refuses is there, one that does not answer may be.
fn rank(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::Refused => 0,
        ErrorKind::Reset => 1,
        ErrorKind::Timeout => 2,
        ErrorKind::Unreachable => 3,
        ErrorKind::Io => 4,
        _ => 5,
    }
}

/// The Connection Attempt Delay: 250 ms, as RFC 8305, section 8 recommends.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Attempts of one dial at a time; a further one takes the place of the oldest, which has had about two seconds then.
const ATTEMPTS: usize = 8;

/// Addresses that an error names.
const SHOWN: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns_and_the_better_one_begins() {
        for (addresses, expected) in [
            ("", ""),
            ("192.0.2.1", "192.0.2.1"),
            (
                "192.0.2.1 192.0.2.2 192.0.2.3 2001:db8::1 2001:db8::2",
                "2001:db8::1 192.0.2.1 2001:db8::2 192.0.2.2 192.0.2.3",
            ),
            (
                "2001:db8::1 2001:db8::2 2001:db8::3 192.0.2.1",
                "2001:db8::1 192.0.2.1 2001:db8::2 2001:db8::3",
            ),
            ("127.0.0.1 ::1", "::1 127.0.0.1"),
            // Unique local and tunnelled addresses come after IPv4.
            ("fd00::1 192.0.2.1", "192.0.2.1 fd00::1"),
            ("2002:808:808::1 192.0.2.1", "192.0.2.1 2002:808:808::1"),
            (
                "fd00::1 2001:db8::1 192.0.2.1",
                "2001:db8::1 192.0.2.1 fd00::1",
            ),
            // Each once, and mapped ones as what they map.
            (
                "::ffff:192.0.2.1 192.0.2.1 192.0.2.1 192.0.2.2",
                "192.0.2.1 192.0.2.2",
            ),
        ] {
            let parse = |text: &str| -> Vec<IpAddr> {
                let addresses = text.split_whitespace();
                addresses.map(|ip| ip.parse().unwrap()).collect()
            };
            assert_eq!(order(parse(addresses)), parse(expected), "{addresses}");
        }
    }
}
