//! Asks other servers for clients: the glue around [`forward`](crate::forward).

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use nethost_sdk::{
    Connection, DatagramSocket, Datagrams, after, clock, spawn_for_instance, with_factory,
};

use crate::{
    Dns,
    codec::{CD, Message, RD},
    config::Config,
    forward::{Cache, Freshness, Hosts, Key, Question, code_of, is_useful},
    resolver::Ask,
    types::Rcode,
};

/// What is kept, and what is asked at the moment.
#[derive(Debug)]
pub(crate) struct Forwarder {
    cache: Cache,
    hosts: Hosts,
    /// Clients that wait for the same answer, up to [`MAX_WAITING`] each for up to [`MAX_ASKED`].
    asked: HashMap<Key, Vec<Waiting>>,
}

#[derive(Debug)]
struct Waiting {
    question: Question,
    back: Back,
}

/// The way back to a client.
#[derive(Debug)]
pub(crate) enum Back {
    /// On this socket, to whom this datagram is from.
    Datagram(DatagramSocket, Datagrams),
    /// On this connection.
    Stream(Connection),
}

impl Back {
    fn send(&self, answer: &[u8]) {
        match self {
            Self::Datagram(socket, asked) => {
                let mut answers = Datagrams::new();
                for datagram in asked {
                    answers.reply(&datagram, answer);
                }
                socket.send(&answers);
            }
            Self::Stream(connection) => {
                let mut bytes = Vec::with_capacity(answer.len() + 2);
                crate::push(&mut bytes, answer);
                connection.write(&bytes);
            }
        }
    }
}

impl Forwarder {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            cache: Cache::new(config.cache_size, config.serve_stale),
            hosts: Hosts::default(),
            asked: HashMap::new(),
        }
    }

    pub(crate) fn save_cache(&self, out: &mut Vec<u8>) {
        self.cache.save(out);
    }

    pub(crate) fn cache(&mut self) -> &mut Cache {
        &mut self.cache
    }

    /// Whether somebody waits on a connection, which outlives a swap: over UDP clients ask again.
    pub(crate) fn is_busy(&self) -> bool {
        let mut waiting = self.asked.values().flatten();
        waiting.any(|waiting| matches!(waiting.back, Back::Stream(_)))
    }

    pub(crate) fn set_hosts(&mut self, hosts: Hosts) {
        self.hosts = hosts;
    }
}

impl Dns {
    /// Answers a question from what is known, or asks somebody and answers then.
    pub(crate) fn forward(&mut self, message: &[u8], back: Back) {
        let over_tcp = matches!(back, Back::Stream(_));
        // What the server has read is a question; a record in it that is none is not worth an answer.
        let Some(question) = Question::decode(message, over_tcp) else {
            return;
        };
        let query = question.query();
        if let Some(answer) = self.forwarder.hosts.answer(&query) {
            return self.answer(&question, &back, &answer, None);
        }
        let servers = self.server.config().servers_for(&query.name).to_vec();
        if servers.is_empty() {
            return self.fail(&question, &back, Rcode::REFUSED, NOT_AUTHORITATIVE);
        }
        let key = question.key();
        let waiting = Waiting { question, back };
        match self.forwarder.cache.find(&key, clock::monotonic()) {
            Some(cached) => match cached.freshness {
                Freshness::Fresh => {
                    self.answer(&waiting.question, &waiting.back, &cached.message, None);
                }
                Freshness::Waning => {
                    self.answer(&waiting.question, &waiting.back, &cached.message, None);
                    self.ask(key, waiting.question, servers, None);
                }
                Freshness::Hopeless => {
                    let (question, back) = (&waiting.question, &waiting.back);
                    self.answer(question, back, &cached.message, Some(STALE));
                }
                Freshness::Stale => {
                    let soon = key.clone();
                    self.ask(key, waiting.question.clone(), servers, Some(waiting));
                    let stale = async move {
                        let _patient = after(STALE_AFTER).await;
                        with_factory(|dns: &mut Self| dns.answer_stale(&soon));
                    };
                    spawn_for_instance(stale).detach();
                }
            },
            None => self.ask(key, waiting.question.clone(), servers, Some(waiting)),
        }
    }

    fn answer(&mut self, question: &Question, back: &Back, answer: &Message, error: Option<u16>) {
        let bytes = question.answer(answer, error);
        self.server.count(question.query().rtype, code_of(&bytes));
        back.send(&bytes);
        self.tell_later();
    }

    fn fail(&mut self, question: &Question, back: &Back, rcode: Rcode, error: u16) {
        let bytes = question.fail(rcode, error);
        self.server.count(question.query().rtype, rcode);
        back.send(&bytes);
        self.tell_later();
    }

    /// Asks the servers, unless they are asked the same already.
    fn ask(
        &mut self,
        key: Key,
        question: Question,
        servers: Vec<SocketAddr>,
        waiting: Option<Waiting>,
    ) {
        let asked = &mut self.forwarder.asked;
        if let Some(others) = asked.get_mut(&key) {
            match waiting {
                Some(waiting) if others.len() >= MAX_WAITING => {
                    self.fail(
                        &waiting.question,
                        &waiting.back,
                        Rcode::SERVFAIL,
                        NO_REACHABLE,
                    );
                }
                waiting => others.extend(waiting),
            }
            return;
        }
        if asked.len() >= MAX_ASKED {
            if let Some(waiting) = waiting {
                self.fail(
                    &waiting.question,
                    &waiting.back,
                    Rcode::SERVFAIL,
                    NO_REACHABLE,
                );
            }
            return;
        }
        asked.insert(key.clone(), waiting.into_iter().collect());
        let dnssec = if question.wants_dnssec() { 0x8000 } else { 0 };
        let ask = Ask {
            query: question.query(),
            flags: RD | if key.checking_disabled { CD } else { 0 },
            edns: Some(dnssec),
            attempts: ATTEMPTS,
            patience: PATIENCE,
        };
        let fetch = async move {
            let answer = fetch(&ask, &servers).await;
            with_factory(|dns: &mut Self| dns.fetched(&key, answer));
        };
        spawn_for_instance(fetch).detach();
    }

    fn fetched(&mut self, key: &Key, answer: Option<Message>) {
        let now = clock::monotonic();
        match answer {
            Some(answer) => {
                self.forwarder.cache.keep(key.clone(), &answer, now);
                let mut answer = answer;
                answer
                    .additional
                    .retain(|record| record.rtype != crate::types::RecordType::OPT);
                for waiting in self.forwarder.asked.remove(key).unwrap_or_default() {
                    self.answer(&waiting.question, &waiting.back, &answer, None);
                }
            }
            None => {
                self.forwarder.cache.failed(key, now);
                self.answer_stale(key);
                for waiting in self.forwarder.asked.remove(key).unwrap_or_default() {
                    self.fail(
                        &waiting.question,
                        &waiting.back,
                        Rcode::SERVFAIL,
                        NO_REACHABLE,
                    );
                }
            }
        }
    }

    /// Gives those who wait what holds no more, if there is something.
    fn answer_stale(&mut self, key: &Key) {
        let cached = self.forwarder.cache.find(key, clock::monotonic());
        let (Some(cached), Some(waiting)) = (cached, self.forwarder.asked.get_mut(key)) else {
            return;
        };
        for waiting in std::mem::take(waiting) {
            let (question, back) = (&waiting.question, &waiting.back);
            self.answer(question, back, &cached.message, Some(STALE));
        }
    }
}

/// The first answer that says something.
async fn fetch(ask: &Ask, servers: &[SocketAddr]) -> Option<Message> {
    // Who does not know EDNS may say so (RFC 6891 section 7), and is asked without.
    let plain = Ask {
        edns: None,
        ..ask.clone()
    };
    for server in servers {
        for ask in [ask, &plain] {
            let bytes = ask.of(*server).await;
            let Some(message) = bytes.ok().and_then(|bytes| Message::decode(&bytes).ok()) else {
                break;
            };
            if is_useful(&message) {
                return Some(message);
            }
            if !matches!(message.rcode(), Rcode::FORMERR | Rcode::NOTIMP) {
                break;
            }
        }
    }
    None
}

/// Questions that are asked at the same time: 1,000, each with a socket of its own.
const MAX_ASKED: usize = 1000;

/// Clients that wait for the same answer.
const MAX_WAITING: usize = 100;

/// How often a server is asked, and how long each time is waited for.
const ATTEMPTS: u32 = 2;
const PATIENCE: Duration = Duration::from_millis(1500);

/// When a client gets what holds no more: after 1.8 s, as RFC 8767 section 5 has it.
const STALE_AFTER: Duration = Duration::from_millis(1800);

// Codes of RFC 8914.
const STALE: u16 = 3;
const NOT_AUTHORITATIVE: u16 = 20;
const NO_REACHABLE: u16 = 22;
