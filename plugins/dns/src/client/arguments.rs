//! What the command line asks for.

use std::net::SocketAddr;

use crate::{
    config::server_address,
    types::{Name, RecordType},
};

/// A command line that can be carried out.
#[derive(Clone, Debug)]
pub(super) struct Arguments {
    pub(super) name: Name,
    pub(super) rtype: RecordType,
    pub(super) server: Option<Server>,
    pub(super) transport: Transport,
    pub(super) layout: Layout,
    pub(super) recursion: Recursion,
    /// The version of EDNS; none without.
    pub(super) edns: Option<u8>,
    /// As it was given, to be shown.
    pub(super) given: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Server {
    Address(SocketAddr),
    Name(String, u16),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    Long,
    Short,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recursion {
    Desired,
    Undesired,
}

impl Arguments {
    /// None if help is wanted.
    pub(super) fn parse(arguments: &[String]) -> Result<Option<Self>, String> {
        let mut rest = arguments.iter().map(String::as_str);
        match rest.next() {
            Some("query") => {}
            Some("--help" | "-h" | "help") => return Ok(None),
            Some(other) => return Err(format!("`{other}` is no command of this plugin")),
            None => return Err("a command is missing".to_owned()),
        }
        let (mut name, mut rtype, mut server) = (None, None, None);
        let mut this = Self {
            name: Name::ROOT,
            rtype: RecordType::A,
            server: None,
            transport: Transport::Udp,
            layout: Layout::Long,
            recursion: Recursion::Desired,
            edns: Some(0),
            given: arguments.get(1..).unwrap_or_default().join(" "),
        };
        for argument in rest {
            if argument == "--help" {
                return Ok(None);
            } else if let Some(option) = argument.strip_prefix('+') {
                this.option(option)?;
            } else if let Some(text) = argument.strip_prefix('@') {
                let known = server.replace(parse_server(text)?);
                if known.is_some() {
                    return Err(format!("`{argument}`: a second server"));
                }
            } else if name.is_none() {
                let parsed = Name::parse(argument);
                name = Some(parsed.map_err(|error| format!("`{argument}`: {error}"))?);
            } else if rtype.is_none() {
                let parsed = RecordType::parse(argument.as_bytes());
                rtype =
                    Some(parsed.ok_or_else(|| format!("`{argument}` is not a type of records"))?);
            } else {
                return Err(format!("`{argument}` is one argument too many"));
            }
        }
        this.name = name.ok_or("the name to ask for is missing")?;
        this.rtype = rtype.unwrap_or(this.rtype);
        if matches!(this.rtype, RecordType::AXFR | RecordType::IXFR) {
            return Err("whole zones are not asked for here".to_owned());
        }
        this.server = server;
        Ok(Some(this))
    }

    fn option(&mut self, option: &str) -> Result<(), String> {
        match option {
            "tcp" | "vc" => self.transport = Transport::Tcp,
            "short" => self.layout = Layout::Short,
            "json" => self.layout = Layout::Json,
            "norecurse" | "norec" => self.recursion = Recursion::Undesired,
            "recurse" | "rec" => self.recursion = Recursion::Desired,
            "noedns" => self.edns = None,
            "edns" => self.edns = Some(0),
            _ => match option.strip_prefix("edns=").map(str::parse) {
                Some(Ok(version)) => self.edns = Some(version),
                Some(Err(_)) => return Err(format!("`+{option}`: a version is 0 to 255")),
                None => return Err(format!("`+{option}` is not an option")),
            },
        }
        Ok(())
    }
}

fn parse_server(text: &str) -> Result<Server, String> {
    if let Some(address) = server_address(text) {
        return Ok(Server::Address(address));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => {
            let port = port.parse();
            (
                host,
                port.map_err(|_| format!("`@{text}`: a port is 0 to 65535"))?,
            )
        }
        None => (text, super::PORT),
    };
    if host.is_empty() {
        return Err("the server behind the @ is missing".to_owned());
    }
    Ok(Server::Name(host.to_owned(), port))
}

pub(super) const USAGE: &str = "\
usage: query NAME [TYPE] [@SERVER[:PORT]] [+tcp] [+short] [+json] [+norecurse] [+edns=N | +noedns]

Asks a name server, or those of the system, and prints the answer as dig does.

  +tcp        over TCP; without it over UDP, and over TCP if the answer is cut
  +short      the data of the answer only
  +json       one JSON object
  +norecurse  the server is not to ask others
  +edns=N     that version of EDNS; +noedns without
";

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Option<Arguments>, String> {
        let arguments: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        Arguments::parse(&arguments)
    }

    #[test]
    fn a_command_line_says_what_is_asked() {
        let line = "query example.com mx @[::1]:5300 +tcp +short +norecurse +edns=3";
        let arguments = parse(line).unwrap().unwrap();
        assert_eq!(arguments.name.to_string(), "example.com.");
        assert_eq!(arguments.rtype, RecordType::MX);
        let server = Server::Address("[::1]:5300".parse().unwrap());
        assert_eq!(arguments.server, Some(server));
        assert_eq!(arguments.transport, Transport::Tcp);
        assert_eq!(arguments.layout, Layout::Short);
        assert_eq!(arguments.recursion, Recursion::Undesired);
        assert_eq!(arguments.edns, Some(3));
        let named = parse("query a @ns.example:53").unwrap().unwrap();
        let server = Server::Name("ns.example".to_owned(), 53);
        assert_eq!((named.server, named.rtype), (Some(server), RecordType::A));
        assert!(parse("query --help").unwrap().is_none());
    }

    #[test]
    fn a_wrong_command_line_names_the_word() {
        for (line, expected) in [
            ("", "a command is missing"),
            ("ask a", "`ask` is no command"),
            ("query", "the name"),
            ("query a..b", "`a..b`: a label is empty"),
            ("query a FOO", "`FOO` is not a type"),
            ("query a A b", "`b` is one argument too many"),
            ("query a +foo", "`+foo` is not an option"),
            ("query a +edns=256", "`+edns=256`"),
            ("query a @", "the server behind the @"),
            ("query a @b:x", "`@b:x`"),
            ("query a @b @c", "a second server"),
            ("query a AXFR", "whole zones"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(expected), "{line}: {error}");
        }
    }
}
