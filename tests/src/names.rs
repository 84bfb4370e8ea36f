//! A name server on loopback that answers what it is told to.

use std::{
    collections::HashMap,
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Instant,
};

use crate::DEADLINE;

/// A name server. It answers over UDP and TCP, in threads that end with the test's process; a name that it was not told of does not exist.
#[derive(Debug)]
pub struct Names {
    address: SocketAddr,
    zone: Arc<Zone>,
}

/// What a name's query is answered with.
#[derive(Clone, Debug)]
pub enum Answer {
    /// These addresses, those of the family that was asked for. There may be none.
    Addresses {
        /// Seconds for which they may be remembered.
        ttl: u32,
        /// The addresses.
        addresses: Vec<IpAddr>,
    },
    /// Another name, and nothing about that.
    Alias(String),
    /// This response code (RFC 1035, section 4.1.1).
    Code(u8),
    /// Nothing.
    Silence,
    /// Nothing for queries of IPv6, this for those of IPv4.
    SilentForV6(Box<Self>),
    /// This, for queries of IPv6 when [`Names::release`] is called, for those of IPv4 at once.
    HeldForV6(Box<Self>),
    /// This, when [`Names::release`] is called.
    Held(Box<Self>),
}

/// Addresses, separated by spaces, that may be remembered for a minute.
pub fn addresses(text: &str) -> Answer {
    lasting(60, text)
}

/// Addresses, separated by spaces, that may be remembered for `ttl` seconds.
pub fn lasting(ttl: u32, text: &str) -> Answer {
    let parse = |text: &str| {
        text.parse()
            .unwrap_or_else(|error| panic!("`{text}`: {error}"))
    };
    let addresses = text.split_whitespace().map(parse).collect();
    Answer::Addresses { ttl, addresses }
}

impl Names {
    /// Starts one on a free port of 127.0.0.1.
    pub fn start() -> Self {
        let (tcp, udp) = sockets();
        let address = udp.local_addr();
        let address = address.unwrap_or_else(|error| panic!("where the name server is: {error}"));
        let zone = Arc::new(Zone::default());
        let names = Self {
            address,
            zone: zone.clone(),
        };
        thread::spawn({
            let zone = zone.clone();
            move || serve_udp(&udp, &zone)
        });
        thread::spawn(move || {
            for stream in tcp.incoming().map_while(Result::ok) {
                let zone = zone.clone();
                // A client that breaks off has what it wanted.
                thread::spawn(move || drop(serve_tcp(stream, &zone)));
            }
        });
        names
    }

    /// Returns where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Tells it the answer to a name.
    pub fn set(&self, name: &str, answer: Answer) {
        self.in_turn(name, [answer]);
    }

    /// Tells it the answers to a name, one after the other in each family; the last stays.
    pub fn in_turn(&self, name: &str, answers: impl IntoIterator<Item = Answer>) {
        let mut entries = self.zone.lock();
        entries.entry(name.to_owned()).or_default().answers = answers.into_iter().collect();
    }

    /// Returns how often it was asked for a name's IPv4 addresses, which is once a look-up.
    pub fn asked(&self, name: &str) -> usize {
        self.zone.lock().get(name).map_or(0, |entry| entry.asked.v4)
    }

    /// Returns how often it was asked for anything.
    pub fn asked_at_all(&self) -> usize {
        let entries = self.zone.lock();
        let asked = entries
            .values()
            .map(|entry| entry.asked.v4 + entry.asked.v6);
        asked.sum()
    }

    /// Waits until it was asked for all addresses of a name.
    ///
    /// # Panics
    ///
    /// If nobody asks in time.
    pub fn wait_until_asked(&self, name: &str) {
        let deadline = Instant::now() + DEADLINE;
        let mut entries = self.zone.lock();
        while !entries
            .get(name)
            .is_some_and(|entry| entry.asked.v4 > 0 && entry.asked.v6 > 0)
        {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "nobody asks for {name}");
            let waited = self.zone.changed.wait_timeout(entries, left);
            entries = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Sends the answers that were held back for a name, and holds back none any more.
    pub fn release(&self, name: &str) {
        let mut entries = self.zone.lock();
        let entry = entries.entry(name.to_owned()).or_default();
        entry.released = true;
        for (socket, peer, response) in entry.held.drain(..) {
            // Who asked may have gone.
            let _ = socket.send_to(&response, peer);
        }
    }
}

#[derive(Debug, Default)]
struct Zone {
    entries: Mutex<HashMap<String, Entry>>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Entry {
    answers: Vec<Answer>,
    asked: Asked,
    released: bool,
    held: Vec<(UdpSocket, SocketAddr, Vec<u8>)>,
}

#[derive(Debug, Default)]
struct Asked {
    v4: usize,
    v6: usize,
}

impl Zone {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what to answer, and counts the query.
    fn answer(&self, query: &Query) -> (Answer, Hold) {
        let mut entries = self.lock();
        let entry = entries.entry(query.name.clone()).or_default();
        let asked = match query.kind {
            AAAA => &mut entry.asked.v6,
            _ => &mut entry.asked.v4,
        };
        let turn = *asked;
        *asked += 1;
        let answer = entry.answers.get(turn).or_else(|| entry.answers.last());
        let answer = answer.cloned().unwrap_or(Answer::Code(NO_SUCH_NAME));
        let hold = if entry.released {
            Hold::Send
        } else {
            Hold::Back
        };
        let decided = match answer {
            Answer::SilentForV6(_) if query.kind == AAAA => (Answer::Silence, Hold::Send),
            Answer::SilentForV6(answer) => (*answer, Hold::Send),
            Answer::HeldForV6(answer) if query.kind != AAAA => (*answer, Hold::Send),
            Answer::Held(answer) | Answer::HeldForV6(answer) => (*answer, hold),
            answer => (answer, Hold::Send),
        };
        self.changed.notify_all();
        decided
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Hold {
    Send,
    Back,
}

/// Both on the same port.
fn sockets() -> (TcpListener, UdpSocket) {
    for _ in 0..100 {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let tcp = tcp.unwrap_or_else(|error| panic!("a name server: {error}"));
        if let Ok(Ok(udp)) = tcp.local_addr().map(UdpSocket::bind) {
            return (tcp, udp);
        }
    }
    panic!("no port is free for both UDP and TCP");
}

fn serve_udp(socket: &UdpSocket, zone: &Zone) {
    let mut buffer = [0; 4096];
    while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
        let Some(query) = buffer.get(..length).and_then(Query::read) else {
            continue;
        };
        let (answer, hold) = zone.answer(&query);
        let Some(mut response) = query.response(&answer) else {
            continue;
        };
        if response.len() > LONGEST_DATAGRAM {
            response = query.message(0, TRUNCATED, &[]);
        }
        let mut entries = zone.lock();
        let entry = entries.entry(query.name).or_default();
        // It may have been released since it was counted.
        if hold == Hold::Back
            && !entry.released
            && let Ok(socket) = socket.try_clone()
        {
            entry.held.push((socket, peer, response));
        } else {
            // Who asked may have gone.
            let _ = socket.send_to(&response, peer);
        }
    }
}

fn serve_tcp(mut stream: TcpStream, zone: &Zone) -> io::Result<()> {
    loop {
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut message)?;
        let response = Query::read(&message).and_then(|query| {
            let (answer, _) = zone.answer(&query);
            query.response(&answer)
        });
        if let Some(response) = response {
            let length = u16::try_from(response.len()).map_err(io::Error::other)?;
            stream.write_all(&length.to_be_bytes())?;
            stream.write_all(&response)?;
        }
    }
}

/// A query (RFC 1035, section 4).
struct Query {
    id: [u8; 2],
    /// In lower case, without the root's dot.
    name: String,
    kind: u16,
    /// The question section as it came.
    question: Vec<u8>,
}

impl Query {
    fn read(message: &[u8]) -> Option<Self> {
        let id = message.get(..2)?.try_into().ok()?;
        let mut rest = message.get(HEADER..)?;
        let mut labels = Vec::new();
        loop {
            let (length, after) = rest.split_first()?;
            let (label, after) = after.split_at_checked(usize::from(*length))?;
            rest = after;
            if label.is_empty() {
                break;
            }
            labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
        }
        let (kind, rest) = rest.split_first_chunk::<2>()?;
        let (_class, rest) = rest.split_first_chunk::<2>()?;
        let question = message.get(HEADER..message.len() - rest.len())?;
        Some(Self {
            id,
            name: labels.join("."),
            kind: u16::from_be_bytes(*kind),
            question: question.to_vec(),
        })
    }

    fn response(&self, answer: &Answer) -> Option<Vec<u8>> {
        let records = match answer {
            Answer::Addresses { ttl, addresses } => addresses
                .iter()
                .filter_map(|address| match (address, self.kind) {
                    (IpAddr::V4(address), A) => Some(self.record(*ttl, &address.octets())),
                    (IpAddr::V6(address), AAAA) => Some(self.record(*ttl, &address.octets())),
                    _ => None,
                })
                .collect(),
            Answer::Alias(target) => vec![record(CNAME, 60, &encode(target))],
            Answer::Code(code) => return Some(self.message(*code, 0, &[])),
            _ => return None,
        };
        Some(self.message(0, 0, &records))
    }

    fn record(&self, ttl: u32, data: &[u8]) -> Vec<u8> {
        record(self.kind, ttl, data)
    }

    fn message(&self, code: u8, flags: u8, answers: &[Vec<u8>]) -> Vec<u8> {
        let count = u16::try_from(answers.len()).unwrap_or(u16::MAX);
        let mut message = self.id.to_vec();
        // A response, recursion was desired and is available.
        message.extend([0x81 | flags, 0x80 | code, 0, 1]);
        message.extend(count.to_be_bytes());
        message.extend([0; 4]);
        message.extend(&self.question);
        message.extend(answers.concat());
        message
    }
}

/// A record of the name in the question.
fn record(kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).unwrap_or(u16::MAX);
    let mut record = vec![0xc0, 12];
    record.extend(kind.to_be_bytes());
    record.extend([0, 1]);
    record.extend(ttl.to_be_bytes());
    record.extend(length.to_be_bytes());
    record.extend(data);
    record
}

fn encode(name: &str) -> Vec<u8> {
    let mut encoded = Vec::new();
    for label in name.split('.') {
        encoded.push(u8::try_from(label.len()).unwrap_or(63));
        encoded.extend(label.bytes());
    }
    encoded.push(0);
    encoded
}

const HEADER: usize = 12;
const A: u16 = 1;
const CNAME: u16 = 5;
const AAAA: u16 = 28;
/// The response code of a name that does not exist.
const NO_SUCH_NAME: u8 = 3;
/// The flag of an answer that does not fit.
const TRUNCATED: u8 = 2;
/// What fits into a datagram of the smallest path that IPv6 allows.
const LONGEST_DATAGRAM: usize = 1232;
