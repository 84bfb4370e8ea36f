//! A hosts file: addresses and the names that they have here.

use std::{collections::HashMap, net::IpAddr, str};

use crate::{
    codec::{Message, Query, Record},
    types::{Class, Name, RecordType},
};

/// Names of hosts, with their addresses; and addresses, with their first names.
#[derive(Clone, Debug, Default)]
pub struct Hosts {
    addresses: HashMap<Name, Vec<IpAddr>>,
    names: HashMap<Name, Name>,
}

impl Hosts {
    /// Reads a file. A line that makes no sense is left out, as every system does it; the lines are returned, up to ten.
    pub fn parse(text: &[u8]) -> (Self, Vec<usize>) {
        let mut hosts = Self::default();
        let mut wrong = Vec::new();
        for (line, number) in text.split(|byte| *byte == b'\n').zip(1..) {
            let line = line.split(|byte| *byte == b'#').next().unwrap_or_default();
            let Ok(line) = str::from_utf8(line) else {
                wrong.push(number);
                continue;
            };
            let mut words = line.split_whitespace();
            let Some(address) = words.next() else {
                continue;
            };
            let names: Result<Vec<Name>, _> = words.map(Name::parse).collect();
            match (address.parse::<IpAddr>(), names) {
                (Ok(address), Ok(names)) if !names.is_empty() => hosts.add(address, &names),
                _ => wrong.push(number),
            }
        }
        wrong.truncate(10);
        (hosts, wrong)
    }

    /// How many names there are.
    pub fn len(&self) -> usize {
        self.addresses.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.addresses.is_empty()
    }

    /// What the file says; none if it says nothing of that name.
    pub fn answer(&self, query: &Query) -> Option<Message> {
        let mut message = Message::query(0, *query, 0);
        let mut add = |data: Vec<u8>| {
            message.answers.push(Record {
                owner: query.name,
                rtype: query.rtype,
                class: Class::IN,
                ttl: TTL,
                data,
            });
        };
        if query.rtype == RecordType::PTR
            && let Some(name) = self.names.get(&query.name)
        {
            add(name.as_wire().to_vec());
            return Some(message);
        }
        for address in self.addresses.get(&query.name)? {
            match (address, query.rtype) {
                (IpAddr::V4(address), RecordType::A) => add(address.octets().to_vec()),
                (IpAddr::V6(address), RecordType::AAAA) => add(address.octets().to_vec()),
                _ => {}
            }
        }
        Some(message)
    }

    fn add(&mut self, address: IpAddr, names: &[Name]) {
        for name in names {
            let addresses = self.addresses.entry(*name).or_default();
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        if let (Some(first), Ok(reverse)) = (names.first(), Name::parse(&reverse(address))) {
            self.names.entry(reverse).or_insert(*first);
        }
    }
}

/// The name under which an address has its name.
fn reverse(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa.")
        }
        IpAddr::V6(address) => {
            let digits = format!("{:032x}", address.to_bits());
            let nibbles: String = digits
                .chars()
                .rev()
                .flat_map(|digit| [digit, '.'])
                .collect();
            format!("{nibbles}ip6.arpa.")
        }
    }
}

/// Seconds that such an answer holds: a minute.
const TTL: u32 = 60;
