//! An answer as people and programs read it.

use std::{fmt::Write as _, net::SocketAddr, time::Duration};

use serde_json::{Value, json};

use super::arguments::Transport;
use crate::{
    codec::{AA, AD, CD, Message, OptionCode, QR, RA, RD, Record, TC},
    rdata::Shown,
    types::RecordType,
};

/// What dig tells.
pub(super) struct Told<'a> {
    pub(super) message: &'a Message,
    pub(super) server: SocketAddr,
    pub(super) transport: Transport,
    pub(super) elapsed: Duration,
    pub(super) length: usize,
    pub(super) asked: &'a str,
}

const FLAGS: [(u16, &str); 7] = [
    (QR, "qr"),
    (AA, "aa"),
    (TC, "tc"),
    (RD, "rd"),
    (RA, "ra"),
    (AD, "ad"),
    (CD, "cd"),
];

/// The data of the answer, a line each.
pub(super) fn short(message: &Message) -> String {
    let mut out = String::new();
    for record in &message.answers {
        let _ = writeln!(out, "{}", data(record));
    }
    out
}

/// One JSON object, with the names of [RFC 8427](https://www.rfc-editor.org/rfc/rfc8427) where it has some.
pub(super) fn json(message: &Message) -> String {
    let records = |records: &[Record]| -> Value {
        let records = records.iter().filter(|it| it.rtype != RecordType::OPT);
        records
            .map(|record| {
                json!({
                    "NAME": record.owner.to_string(),
                    "TYPE": record.rtype.0,
                    "TYPEname": record.rtype.to_string(),
                    "CLASS": record.class.0,
                    "CLASSname": record.class.to_string(),
                    "TTL": record.ttl,
                    "rdata": data(record).to_string(),
                })
            })
            .collect()
    };
    let bit = |bit: u16| u8::from(message.flags & bit != 0);
    let question = message.questions.first();
    let value = json!({
        "ID": message.id,
        "QR": bit(QR), "AA": bit(AA), "TC": bit(TC), "RD": bit(RD), "RA": bit(RA), "AD": bit(AD), "CD": bit(CD),
        "Opcode": message.opcode().0,
        "RCODE": message.rcode().0,
        "RCODEname": message.rcode().to_string(),
        "QNAME": question.map(|question| question.name.to_string()),
        "QTYPE": question.map(|question| question.rtype.0),
        "QTYPEname": question.map(|question| question.rtype.to_string()),
        "QCLASS": question.map(|question| question.class.0),
        "answerRRs": records(&message.answers),
        "authorityRRs": records(&message.authority),
        "additionalRRs": records(&message.additional),
    });
    format!("{value:#}\n")
}

/// Everything, laid out as dig does.
pub(super) fn long(told: &Told<'_>) -> String {
    let message = told.message;
    let mut out = format!(
        "\n; <<>> nethost dns {} <<>> {}\n",
        env!("CARGO_PKG_VERSION"),
        told.asked
    );
    let (opcode, rcode) = (message.opcode(), message.rcode());
    let _ = writeln!(out, ";; Got answer:");
    let _ = writeln!(
        out,
        ";; ->>HEADER<<- opcode: {opcode}, status: {rcode}, id: {}",
        message.id
    );
    let flags = FLAGS.iter().filter(|(bit, _)| message.flags & bit != 0);
    let flags: String = flags.map(|(_, name)| format!(" {name}")).collect();
    let _ = writeln!(
        out,
        ";; flags:{flags}; QUERY: {}, ANSWER: {}, AUTHORITY: {}, ADDITIONAL: {}",
        message.questions.len(),
        message.answers.len(),
        message.authority.len(),
        message.additional.len()
    );
    if message.flags & (RD | RA) == RD {
        let _ = writeln!(out, ";; WARNING: recursion requested but not available");
    }
    if let Some(opt) = message.opt() {
        let _ = writeln!(out, "\n;; OPT PSEUDOSECTION:");
        let flags = if opt.ttl & 0x8000 != 0 { " do" } else { "" };
        let version = opt.ttl >> 16 & 255;
        let _ = writeln!(
            out,
            "; EDNS: version: {version}, flags:{flags}; udp: {}",
            opt.class.0
        );
        for (code, value) in message.options() {
            option(&mut out, code, value);
        }
    } else {
        out.push('\n');
    }
    if !message.questions.is_empty() {
        let _ = writeln!(out, ";; QUESTION SECTION:");
        for question in &message.questions {
            let owner = format!(";{}", question.name);
            let tabs = tabs(owner.len(), 4);
            let _ = writeln!(out, "{owner}{tabs}{}\t{}", question.class, question.rtype);
        }
    }
    for (name, records) in [
        ("ANSWER", &message.answers),
        ("AUTHORITY", &message.authority),
        ("ADDITIONAL", &message.additional),
    ] {
        let mut records = records
            .iter()
            .filter(|record| record.rtype != RecordType::OPT)
            .peekable();
        if records.peek().is_none() {
            continue;
        }
        let _ = writeln!(out, "\n;; {name} SECTION:");
        for record in records {
            let owner = record.owner.to_string();
            let ttl = record.ttl.to_string();
            let tabs = tabs(owner.len(), 3);
            let _ = writeln!(
                out,
                "{owner}{tabs}{ttl}\t{}\t{}\t{}",
                record.class,
                record.rtype,
                data(record)
            );
        }
    }
    let transport = match told.transport {
        Transport::Udp => "UDP",
        Transport::Tcp => "TCP",
    };
    let (address, port) = (told.server.ip(), told.server.port());
    let _ = writeln!(out, "\n;; Query time: {} msec", told.elapsed.as_millis());
    let _ = writeln!(out, ";; SERVER: {address}#{port}({address}) ({transport})");
    let _ = writeln!(out, ";; MSG SIZE  rcvd: {}\n", told.length);
    out
}

fn option(out: &mut String, code: OptionCode, value: &[u8]) {
    let hex: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
    let _ = match code {
        OptionCode::NSID => {
            let bytes: String = value.iter().map(|byte| format!("{byte:02x} ")).collect();
            let text = String::from_utf8_lossy(value);
            writeln!(out, "; NSID: {bytes}(\"{}\")", text.escape_debug())
        }
        OptionCode::EXTENDED_ERROR => {
            let (number, text) = value.split_first_chunk().unwrap_or((&[0, 0], &[]));
            let text = String::from_utf8_lossy(text);
            let number = u16::from_be_bytes(*number);
            let meaning = meaning(number);
            let meaning = meaning.map_or(String::new(), |meaning| format!(" ({meaning})"));
            if text.is_empty() {
                writeln!(out, "; EDE: {number}{meaning}")
            } else {
                writeln!(out, "; EDE: {number}{meaning}: ({})", text.escape_debug())
            }
        }
        code => match code.name() {
            Some(name) => writeln!(out, "; {name}: {hex}"),
            None => writeln!(out, "; OPT={}: {hex}", code.0),
        },
    };
}

/// What an extended error means ([RFC 8914 section 4](https://www.rfc-editor.org/rfc/rfc8914#section-4)), in the words that dig has for it.
fn meaning(error: u16) -> Option<&'static str> {
    EXTENDED_ERRORS.get(usize::from(error)).copied()
}

const EXTENDED_ERRORS: [&str; 25] = [
    "Other",
    "Unsupported DNSKEY Algorithm",
    "Unsupported DS Digest Type",
    "Stale Answer",
    "Forged Answer",
    "DNSSEC Indeterminate",
    "DNSSEC Bogus",
    "Signature Expired",
    "Signature Not Yet Valid",
    "DNSKEY Missing",
    "RRSIGs Missing",
    "No Zone Key Bit Set",
    "NSEC Missing",
    "Cached Error",
    "Not Ready",
    "Blocked",
    "Censored",
    "Filtered",
    "Prohibited",
    "Stale NXDOMAIN Answer",
    "Not Authoritative",
    "Not Supported",
    "No Reachable Authority",
    "Network Error",
    "Invalid Data",
];

fn data(record: &Record) -> Shown<'_> {
    Shown {
        rtype: record.rtype,
        data: &record.data,
    }
}

/// Tabs up to a column, at least one.
fn tabs(width: usize, columns: usize) -> String {
    "\t".repeat(columns.saturating_sub(width / 8).max(1))
}
