//! What a server does with a request: which zone, who may, and what EDNS has to say. No bytes come or go here, and time is an argument.

mod access;
mod cookie;
mod tally;
mod zones;

use std::{fmt, net::IpAddr, rc::Rc};

pub use access::{Access, Network, NetworkError};
pub use cookie::Cookies;
pub use tally::Tally;
pub use zones::{Served, Zones};

use crate::{
    codec::{
        AA, EDNS_PAYLOAD, Malformed, QR, Question, RA, RD, Request, Section, ServerOptions, TC,
        Writer,
    },
    config::Config,
    types::{Class, Name, Opcode, Rcode, RecordType},
    zone::Transfer,
};

/// A server: its zones, and the memory that answers are made in.
#[derive(Debug)]
pub struct Server {
    config: Config,
    zones: Zones,
    cookies: Cookies,
    question: Question,
    made: Question,
    out: Writer,
    tally: Tally,
    /// How many datagrams that are no questions are still answered until [`refill`](Self::refill).
    complaints: u32,
}

/// How a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// In a datagram, which may be from somebody else than it says.
    Udp,
    /// Over a connection.
    Tcp,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
        })
    }
}

/// What a request leads to.
#[derive(Debug)]
pub enum Reply<'a> {
    /// These bytes.
    Answer(&'a [u8]),
    /// A zone, in as many messages as it takes.
    Transfer(Transfer),
    /// Somebody else is to be asked.
    Forward,
    /// Nothing.
    Silence,
}

/// A reply that has still to be written.
struct Verdict {
    rcode: Rcode,
    flags: u16,
    error: Option<(u16, &'static str)>,
}

impl Verdict {
    fn of(rcode: Rcode) -> Self {
        Self {
            rcode,
            flags: 0,
            error: None,
        }
    }

    fn because(rcode: Rcode, code: u16, words: &'static str) -> Self {
        Self {
            error: Some((code, words)),
            ..Self::of(rcode)
        }
    }
}

impl Server {
    /// Makes a server without zones. `secret` is for cookies.
    pub fn new(config: Config, secret: [u8; 16]) -> Self {
        Self {
            cookies: Cookies::new(config.cookie_secret.unwrap_or(secret)),
            config,
            zones: Zones::default(),
            question: Question::new(),
            made: Question::new(),
            out: Writer::new(),
            tally: Tally::default(),
            complaints: MAX_COMPLAINTS,
        }
    }

    /// Its configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Its zones.
    pub fn zones(&self) -> &Zones {
        &self.zones
    }

    /// Its zones, to be changed.
    pub fn zones_mut(&mut self) -> &mut Zones {
        &mut self.zones
    }

    /// Memory to write other messages in.
    pub fn writer(&mut self) -> &mut Writer {
        &mut self.out
    }

    /// The secret that cookies are made with, for another version of this plugin.
    pub fn secret(&self) -> [u8; 16] {
        self.cookies.secret()
    }

    /// Takes the secret that another version had.
    pub fn set_secret(&mut self, secret: [u8; 16]) {
        self.cookies = Cookies::new(self.config.cookie_secret.unwrap_or(secret));
    }

    /// What was asked and answered since the last call: a type, a code, and how often.
    pub fn poll_tally(&mut self) -> Option<(Option<RecordType>, Rcode, u64)> {
        self.tally.poll()
    }

    /// Whether [`poll_tally`](Self::poll_tally) has something.
    pub fn has_tally(&self) -> bool {
        self.tally.is_dirty()
    }

    /// Counts an answer that was not made here.
    pub fn count(&mut self, rtype: RecordType, rcode: Rcode) {
        self.tally.count(rtype, rcode);
    }

    /// Handles a request. `wall` is asked for seconds since 1970, if a cookie needs them.
    pub fn handle(
        &mut self,
        message: &[u8],
        client: IpAddr,
        transport: Transport,
        wall: impl Fn() -> u32,
    ) -> Reply<'_> {
        let request = match Request::decode(message, &mut self.question) {
            Ok(request) => request,
            Err(Malformed::Ignore) => return Reply::Silence,
            Err(Malformed::FormErr(end)) => {
                return if self.may_complain(transport) {
                    self.malformed(message, end)
                } else {
                    Reply::Silence
                };
            }
        };
        if request.opcode() != Opcode::QUERY && !self.may_complain(transport) {
            return Reply::Silence;
        }
        let longest = match (transport, &request.edns) {
            (Transport::Tcp, _) => usize::from(u16::MAX),
            (Transport::Udp, None) => PLAIN,
            (Transport::Udp, Some(edns)) => usize::from(edns.payload.min(EDNS_PAYLOAD)).max(PLAIN),
        };
        let start = message.get(..request.question_end).unwrap_or_default();
        self.out.begin(start, longest);
        let verdict = match self.decide(&request, client, transport) {
            Decision::Verdict(verdict) => verdict,
            Decision::Transfer(zone) => {
                self.tally.count(request.qtype, Rcode::NOERROR);
                return Reply::Transfer(Transfer::new(zone, &self.transfer_start(&request)));
            }
            Decision::Forward => return Reply::Forward,
        };
        self.tally.count(request.qtype, verdict.rcode);
        self.write(&request, &verdict, client, transport, wall)
    }

    /// Answers again what is no question. Called once a second while there is something in the tally, which every such answer is.
    pub fn refill(&mut self) {
        self.complaints = MAX_COMPLAINTS;
    }

    /// Whether what is no question is answered. To answer takes five times as long as to drop: a flood of garbage at full speed would leave no room for questions, and
    /// go on to whoever it says it is from.
    fn may_complain(&mut self, transport: Transport) -> bool {
        let left = self
            .complaints
            .checked_sub(u32::from(transport == Transport::Udp));
        self.complaints = left.unwrap_or(0);
        left.is_some()
    }

    fn decide(&mut self, request: &Request<'_>, client: IpAddr, transport: Transport) -> Decision {
        use Decision::Verdict as V;
        let opcode = request.opcode();
        if opcode != Opcode::QUERY {
            return V(Verdict::because(Rcode::NOTIMP, NOT_SUPPORTED, ""));
        }
        if request.edns.is_some_and(|edns| edns.version != 0) {
            return V(Verdict::of(Rcode::BADVERS));
        }
        if request.question_end == crate::codec::HEADER {
            // For a cookie alone.
            return V(Verdict::of(Rcode::NOERROR));
        }
        if !self.config.allow_query.permits(client) {
            return V(Verdict::because(Rcode::REFUSED, PROHIBITED, ""));
        }
        match request.qtype {
            RecordType::AXFR | RecordType::IXFR => {
                return self.decide_transfer(request, client, transport);
            }
            // Types of messages and not of data.
            RecordType(0) | RecordType::OPT | RecordType(249 | 250) => {
                return V(Verdict::of(Rcode::FORMERR));
            }
            RecordType(128..=254) => return V(Verdict::of(Rcode::NOTIMP)),
            _ => {}
        }
        if request.qclass != Class::IN && request.qclass != Class::ANY {
            return V(Verdict::because(Rcode::REFUSED, NOT_AUTHORITATIVE, ""));
        }
        let mut served = self.zones.find(&self.question);
        // The DS of a zone is its parent's to tell, if that is here as well.
        if request.qtype == RecordType::DS
            && let Some((labels, _)) = served
            && labels == self.question.labels()
            && labels > 0
            && let Some(parent) = self.zones.find_above(&self.question, labels)
        {
            served = Some(parent);
        }
        match served {
            Some((_, Served::Zone(zone))) => {
                let zone = Rc::clone(zone);
                let reserved = self.reserved(request);
                self.out.reserve(reserved);
                let outcome =
                    zone.answer(&self.question, request.qtype, &mut self.made, &mut self.out);
                let flags = if outcome.authoritative { AA } else { 0 }
                    | if outcome.truncated { TC } else { 0 };
                V(Verdict {
                    flags,
                    ..Verdict::of(outcome.rcode)
                })
            }
            Some((_, Served::Loading)) => V(Verdict::because(
                Rcode::SERVFAIL,
                NOT_READY,
                "the zone is being loaded",
            )),
            Some((_, Served::Broken)) => V(Verdict::because(
                Rcode::SERVFAIL,
                NOT_READY,
                "the zone's file is broken",
            )),
            None => self.decide_foreign(request, client),
        }
    }

    /// A name of nobody's zone here.
    fn decide_foreign(&self, request: &Request<'_>, client: IpAddr) -> Decision {
        if !self.config.forwards() {
            let verdict = Verdict::because(Rcode::REFUSED, NOT_AUTHORITATIVE, "");
            return Decision::Verdict(verdict);
        }
        if !self.config.allow_forwarding.permits(client) {
            return Decision::Verdict(Verdict::because(Rcode::REFUSED, PROHIBITED, ""));
        }
        if request.qclass != Class::IN {
            let verdict = Verdict::because(Rcode::REFUSED, NOT_SUPPORTED, "");
            return Decision::Verdict(verdict);
        }
        if request.flags & RD == 0 {
            let words = "recursion was not desired";
            return Decision::Verdict(Verdict::because(Rcode::REFUSED, NOT_AUTHORITATIVE, words));
        }
        Decision::Forward
    }

    /// A transfer goes over TCP to those who may have it; over UDP an incremental one is told the zone's SOA ([RFC 1995 section 2](https://www.rfc-editor.org/rfc/rfc1995#section-2)).
    fn decide_transfer(
        &mut self,
        request: &Request<'_>,
        client: IpAddr,
        transport: Transport,
    ) -> Decision {
        use Decision::Verdict as V;
        if request.qclass != Class::IN {
            return V(Verdict::of(Rcode::REFUSED));
        }
        let found = self.zones.find(&self.question);
        let Some((labels, served)) = found else {
            return V(Verdict::because(Rcode::NOTAUTH, NOT_AUTHORITATIVE, ""));
        };
        if labels != self.question.labels() {
            return V(Verdict::because(Rcode::NOTAUTH, NOT_AUTHORITATIVE, ""));
        }
        let Served::Zone(zone) = served else {
            return V(Verdict::because(Rcode::SERVFAIL, NOT_READY, ""));
        };
        if !self.config.allow_transfer.permits(client) {
            return V(Verdict::because(Rcode::REFUSED, PROHIBITED, ""));
        }
        match (transport, request.qtype) {
            (Transport::Tcp, _) => Decision::Transfer(Rc::clone(zone)),
            (Transport::Udp, RecordType::IXFR) => {
                let zone = Rc::clone(zone);
                let reserved = self.reserved(request);
                self.out.reserve(reserved);
                let (question, out) = (&self.question, &mut self.out);
                zone.answer(question, RecordType::SOA, &mut self.made, out);
                V(Verdict {
                    flags: AA,
                    ..Verdict::of(Rcode::NOERROR)
                })
            }
            (Transport::Udp, _) => V(Verdict::of(Rcode::FORMERR)),
        }
    }

    /// Bytes that the OPT record of an answer may take.
    fn reserved(&self, request: &Request<'_>) -> usize {
        let Some(edns) = &request.edns else { return 0 };
        let cookie = if edns.cookie.is_some() { 28 } else { 0 };
        let nsid = match &self.config.nsid {
            Some(nsid) if edns.nsid => 4 + nsid.len(),
            _ => 0,
        };
        11 + cookie + nsid
    }

    fn write(
        &mut self,
        request: &Request<'_>,
        verdict: &Verdict,
        client: IpAddr,
        transport: Transport,
        wall: impl Fn() -> u32,
    ) -> Reply<'_> {
        let mut flags = self.flags(request, client) | verdict.flags;
        if verdict.flags & TC != 0 && transport == Transport::Tcp {
            // It is longer than any message.
            flags &= !TC;
        }
        if let Some(edns) = &request.edns {
            let mut options = ServerOptions {
                rcode_high: verdict.rcode.high(),
                dnssec: edns.dnssec,
                cookie: edns
                    .cookie
                    .and_then(|cookie| self.cookies.answer(cookie, client, &wall)),
                nsid: self.config.nsid.as_deref().filter(|_| edns.nsid),
                extended_error: verdict.error,
            };
            if options.length() > usize::from(u16::MAX) - self.out.len() {
                options.extended_error = None;
            }
            self.out.put_options(&options);
        }
        let question = u16::from(request.question_end > crate::codec::HEADER);
        Reply::Answer(self.out.finish(flags, verdict.rcode, question))
    }

    /// What every answer to a request has in its header.
    fn flags(&self, request: &Request<'_>, client: IpAddr) -> u16 {
        let recursion = if self.config.forwards() && self.config.allow_forwarding.permits(client) {
            RA
        } else {
            0
        };
        // CD is for who checks (RFC 4035 section 3.1.6).
        QR | request.flags & (0x7800 | RD) | recursion
    }

    /// What a transfer's messages begin with: the header, with flags, and the question.
    fn transfer_start(&self, request: &Request<'_>) -> Vec<u8> {
        request
            .message
            .get(..request.question_end)
            .unwrap_or_default()
            .to_vec()
    }

    /// Answers what could not be read, with as much of the question as could.
    fn malformed(&mut self, message: &[u8], end: usize) -> Reply<'_> {
        self.tally.count(RecordType(0), Rcode::FORMERR);
        self.out
            .begin(message.get(..end).unwrap_or_default(), PLAIN);
        let flags = match message.get(2..4).and_then(|flags| flags.try_into().ok()) {
            Some(flags) => QR | u16::from_be_bytes(flags) & (0x7800 | RD),
            None => QR,
        };
        let question = u16::from(end > crate::codec::HEADER);
        Reply::Answer(self.out.finish(flags, Rcode::FORMERR, question))
    }

    /// The next message of a transfer, made here; none after the last.
    pub fn transfer_message(&mut self, transfer: &mut Transfer) -> Option<&[u8]> {
        if !transfer.next(&mut self.out) {
            return None;
        }
        let request_flags = self
            .out
            .bytes()
            .get(2..4)
            .and_then(|flags| flags.try_into().ok());
        let request_flags = u16::from_be_bytes(request_flags.unwrap_or_default());
        let flags = QR | AA | request_flags & RD;
        debug_assert!(self.out.count(Section::Answer) > 0);
        Some(self.out.finish(flags, Rcode::NOERROR, 1))
    }

    /// The question of the last request: its name in lower case.
    pub fn question_name(&self) -> Option<Name> {
        Name::from_wire(self.question.wire())
    }
}

enum Decision {
    Verdict(Verdict),
    Transfer(Rc<crate::zone::Zone>),
    Forward,
}

/// Bytes of a datagram for a client that does not say how many it takes.
const PLAIN: usize = 512;

/// Datagrams that are no questions and are answered even so, a second: FORMERR and NOTIMP, at some 3 % of a core.
const MAX_COMPLAINTS: u32 = 10_000;

// Codes of RFC 8914.
const NOT_READY: u16 = 14;
const PROHIBITED: u16 = 18;
const NOT_AUTHORITATIVE: u16 = 20;
const NOT_SUPPORTED: u16 = 21;
