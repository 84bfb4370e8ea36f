//! Asks name servers: what the client and the cache use, and a library for other plugins.
//!
//! A question over UDP goes from a port of its own, with a number and a mix of upper and lower case that nobody can foresee ([RFC 5452](https://www.rfc-editor.org/rfc/rfc5452),
//! and "0x20"). A reply counts if it comes from that server to that port with the same number and the same question, letter by letter; others are ignored.
//! What is cut is asked for again over TCP.
//!
//! A plugin that uses it needs a `connect` grant that covers its name servers, over UDP and TCP, and has to export a handler of datagrams: [`NoDatagrams`], if it has none of its own.
//!
//! ```no_run
//! use nethost_dns::{resolver::{MailServers, Resolver}, types::Name};
//!
//! async fn where_mail_goes(resolver: &Resolver) {
//!     let domain = Name::parse("example.com").expect("it is a name");
//!     if let Ok(MailServers::At(servers)) = resolver.mail_servers(&domain).await {
//!         for (preference, name) in servers {
//!             println!("{preference} {name}");
//!         }
//!     }
//! }
//! ```

use std::{
    marker::PhantomData,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use nethost_sdk::{
    DatagramContext, DatagramPeer, DatagramProtocol, Datagrams, Deferred, Factory, Origin, Stream,
    random,
};

use crate::{
    codec::{EDNS_PAYLOAD, HEADER, Message, Query, RD, TC, question_of},
    types::{Class, Name, Opcode, Rcode, RecordType},
};

/// The datagrams of a plugin that only asks: `export_plugin!(Mail, datagrams: NoDatagrams<MailFactory>)`. A socket in its configuration is silent.
#[derive(Debug)]
pub struct NoDatagrams<F>(PhantomData<F>);

impl<F: Factory> DatagramProtocol for NoDatagrams<F> {
    type Factory = F;

    fn endpoint_made(_cx: &mut DatagramContext<'_, F>, _origin: Origin) -> Self {
        Self(PhantomData)
    }

    fn datagrams_received(&mut self, _cx: &mut DatagramContext<'_, F>, _datagrams: &Datagrams) {}
}

/// Asks servers that know everything.
#[derive(Clone, Debug)]
pub struct Resolver {
    servers: Vec<SocketAddr>,
}

/// What is asked, and how.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The question.
    pub query: Query,
    /// The header's flags, such as RD.
    pub flags: u16,
    /// The TTL of an OPT record, which has version and flags; none without one.
    pub edns: Option<u32>,
    /// How often a datagram is sent.
    pub attempts: u32,
    /// How long each is waited for.
    pub patience: Duration,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// There is nobody to ask.
    #[error("no name server is known")]
    NoServer,
    /// Nothing came.
    #[error("{0} does not answer")]
    Silent(SocketAddr),
    /// It cannot be reached.
    #[error("{0}: {1}")]
    Unreachable(SocketAddr, String),
    /// What came over TCP is no answer to the question.
    #[error("{0} answered something else")]
    Mismatch(SocketAddr),
    /// It answered that it failed.
    #[error("{0} answered {1}")]
    Failed(SocketAddr, Rcode),
    /// There is no such name.
    #[error("{0} does not exist")]
    NoSuchName(Name),
}

/// Who takes a domain's mail ([RFC 5321 section 5.1](https://www.rfc-editor.org/rfc/rfc5321#section-5.1)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MailServers {
    /// These, the best first: preference and name.
    At(Vec<(u16, Name)>),
    /// Nobody, and the domain says so ([RFC 7505](https://www.rfc-editor.org/rfc/rfc7505)).
    Refused,
}

impl Resolver {
    /// Asks these, one after the other until one answers.
    pub fn new(servers: Vec<SocketAddr>) -> Self {
        Self { servers }
    }

    /// Asks with recursion, and returns what the first server says that neither fails nor refuses.
    pub async fn query(&self, name: &Name, rtype: RecordType) -> Result<Message, ResolveError> {
        let ask = Ask::recursive(Query {
            name: *name,
            rtype,
            class: Class::IN,
        });
        let mut last = ResolveError::NoServer;
        for server in &self.servers {
            match ask.of(*server).await {
                Ok(bytes) => match Message::decode(&bytes) {
                    Ok(message) => match message.rcode() {
                        Rcode::NOERROR | Rcode::NXDOMAIN => return Ok(message),
                        rcode => last = ResolveError::Failed(*server, rcode),
                    },
                    Err(_) => last = ResolveError::Mismatch(*server),
                },
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The addresses of a host, IPv6 first.
    pub async fn addresses(&self, name: &Name) -> Result<Vec<IpAddr>, ResolveError> {
        let mut addresses = Vec::new();
        for rtype in [RecordType::AAAA, RecordType::A] {
            let message = self.query(name, rtype).await?;
            if message.rcode() == Rcode::NXDOMAIN {
                return Err(ResolveError::NoSuchName(*name));
            }
            let records = message.answers.iter();
            for record in records.filter(|record| record.rtype == rtype) {
                let v4 = <[u8; 4]>::try_from(record.data.as_slice()).map(IpAddr::from);
                let v6 = <[u8; 16]>::try_from(record.data.as_slice()).map(IpAddr::from);
                addresses.extend(v4.or(v6));
            }
        }
        Ok(addresses)
    }

    /// The mail servers of a domain; without any the domain itself is one.
    pub async fn mail_servers(&self, domain: &Name) -> Result<MailServers, ResolveError> {
        let message = self.query(domain, RecordType::MX).await?;
        if message.rcode() == Rcode::NXDOMAIN {
            return Err(ResolveError::NoSuchName(*domain));
        }
        let records = message.answers.iter();
        let exchanges = records.filter(|record| record.rtype == RecordType::MX);
        let mut servers: Vec<(u16, Name)> = exchanges
            .filter_map(|record| {
                let (preference, name) = record.data.split_first_chunk()?;
                Some((u16::from_be_bytes(*preference), Name::from_wire(name)?))
            })
            .collect();
        if let [(_, only)] = servers.as_slice()
            && only.is_root()
        {
            return Ok(MailServers::Refused);
        }
        servers.sort_by_key(|(preference, _)| *preference);
        if servers.is_empty() {
            servers.push((0, *domain));
        }
        Ok(MailServers::At(servers))
    }
}

impl Ask {
    /// With recursion and EDNS, three attempts of a second and a half.
    pub fn recursive(query: Query) -> Self {
        Self {
            query,
            flags: RD,
            edns: Some(0),
            attempts: 3,
            patience: Duration::from_millis(1500),
        }
    }

    /// Asks a server over UDP, and over TCP if the answer is cut.
    pub async fn of(&self, server: SocketAddr) -> Result<Vec<u8>, ResolveError> {
        let answer = self.over_udp(server).await?;
        let is_cut = answer
            .first_chunk::<4>()
            .is_some_and(|[_, _, high, low]| u16::from_be_bytes([*high, *low]) & TC != 0);
        if is_cut {
            return self.over_tcp(server).await;
        }
        Ok(answer)
    }

    /// Asks over UDP.
    pub async fn over_udp(&self, server: SocketAddr) -> Result<Vec<u8>, ResolveError> {
        let unreachable =
            |error: &dyn std::fmt::Display| ResolveError::Unreachable(server, error.to_string());
        for _ in 0..self.attempts {
            let question = self.prepared();
            // A port of its own for each attempt.
            let mut peer = DatagramPeer::connect(&format!("udp://{server}"))
                .await
                .map_err(|error| unreachable(&error))?;
            peer.send(&question);
            let answer = async move { receive(&mut peer, &question).await };
            let answer = Deferred::new(answer).timeout(self.patience);
            if let Ok(answer) = answer.await {
                return Ok(self.in_own_case(answer));
            }
        }
        Err(ResolveError::Silent(server))
    }

    /// Asks over TCP.
    pub async fn over_tcp(&self, server: SocketAddr) -> Result<Vec<u8>, ResolveError> {
        let question = self.prepared();
        let sent = question.clone();
        let exchange = async move {
            let mut stream = Stream::connect(&format!("tcp://{server}")).await?;
            let length = u16::try_from(sent.len()).unwrap_or(u16::MAX);
            let message = [&length.to_be_bytes()[..], &sent].concat();
            let write = stream.write_all(&message).await;
            write.map_err(|error| io_error(&error))?;
            let mut length = [0; 2];
            read_exactly(&mut stream, &mut length).await?;
            let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
            read_exactly(&mut stream, &mut answer).await?;
            Ok(answer)
        };
        let answer = Deferred::new(exchange).timeout(self.patience * self.attempts.max(1));
        match answer.await {
            Ok(answer) if fits(&question, &answer) => Ok(self.in_own_case(answer)),
            Ok(_) => Err(ResolveError::Mismatch(server)),
            Err(error) => Err(ResolveError::Unreachable(server, error.to_string())),
        }
    }

    /// Takes the mix of cases back out of the question, and so out of every name that points to it.
    fn in_own_case(&self, mut answer: Vec<u8>) -> Vec<u8> {
        let name = self.query.name.as_wire();
        let place = answer.get_mut(HEADER..HEADER + name.len());
        if let Some(place) = place.filter(|place| place.eq_ignore_ascii_case(name)) {
            place.copy_from_slice(name);
        }
        answer
    }

    /// The message, with a number and a mix of cases that are new each time.
    fn prepared(&self) -> Vec<u8> {
        let [id @ .., _, _, _, _, _, _] = random::u64().to_be_bytes();
        let mut message = Message::query(u16::from_be_bytes(id), self.query, self.flags);
        if let Some(ttl) = self.edns {
            message.set_edns(EDNS_PAYLOAD, ttl, &[]);
        }
        let mut bytes = message.encode().unwrap_or_default();
        let length = self.query.name.as_wire().len();
        let mut bits = (0, 0_u64);
        for byte in bytes.iter_mut().skip(HEADER).take(length) {
            if bits.0 == 0 {
                bits = (64, random::u64());
            }
            // Lengths of labels are no letters.
            if byte.is_ascii_alphabetic() {
                if bits.1 & 1 == 1 {
                    *byte ^= 0x20;
                }
                bits = (bits.0 - 1, bits.1 >> 1);
            }
        }
        bytes
    }
}

async fn receive(peer: &mut DatagramPeer, question: &[u8]) -> Result<Vec<u8>, nethost_sdk::Error> {
    loop {
        let answer = peer.receive().await.map_err(|error| io_error(&error))?;
        if fits(question, &answer) {
            return Ok(answer);
        }
    }
}

/// Whether it is an answer to that question: number, name with its case, type and class. One that could not read the question may leave it out.
fn fits(question: &[u8], answer: &[u8]) -> bool {
    let id = |message: &[u8]| message.first_chunk::<2>().copied();
    let flags = |message: &[u8]| {
        let flags = message.get(2..4).and_then(|flags| flags.try_into().ok());
        flags.map_or(0, u16::from_be_bytes)
    };
    if id(question) != id(answer) || flags(answer) & crate::codec::QR == 0 {
        return false;
    }
    if Opcode((flags(answer) >> 11 & 15) as u8) != Opcode::QUERY {
        return false;
    }
    let Some((_, end)) = question_of(question) else {
        return false;
    };
    if answer.get(4..6) == Some(&[0, 0]) {
        let rcode = flags(answer) & 15;
        return rcode == Rcode::FORMERR.0 || rcode == Rcode::NOTIMP.0;
    }
    answer.get(4..6) == Some(&[0, 1]) && question.get(HEADER..end) == answer.get(HEADER..end)
}

async fn read_exactly(stream: &mut Stream, mut place: &mut [u8]) -> Result<(), nethost_sdk::Error> {
    while !place.is_empty() {
        let count = stream.read(place).await.map_err(|error| io_error(&error))?;
        if count == 0 {
            return Err(io_error(&std::io::ErrorKind::UnexpectedEof.into()));
        }
        place = place.get_mut(count..).unwrap_or_default();
    }
    Ok(())
}

fn io_error(error: &std::io::Error) -> nethost_sdk::Error {
    nethost_sdk::Error {
        code: nethost_sdk::ErrorCode::Io,
        message: error.to_string(),
    }
}
