//! The hosts that a command's arguments mention: what it may connect to.
//!
//! A mention is a name or an address between characters that cannot be in one. What is right behind it says which port: `:25`; without a port it is every one. A word
//! that is no host (`get`, `https`) is a mention of the host of that name as well, which costs nothing: the user typed it.

use std::{
    collections::HashSet,
    net::{Ipv4Addr, Ipv6Addr},
};

use crate::{endpoint::is_host_name, grants::ConnectGrant};

/// Returns a grant for each host that the arguments mention, each once.
pub(crate) fn hosts(arguments: &[String]) -> Vec<ConnectGrant> {
    let mut grants = Vec::new();
    let mut seen = HashSet::new();
    for argument in arguments {
        let texts = match argument.starts_with("unix:/") || argument.starts_with("unix:@") {
            true => vec![argument.clone()],
            false => mentions(argument),
        };
        // What is not to be granted, such as 0.0.0.0, is not mentioned.
        for grant in texts.iter().filter_map(|text| text.parse().ok()) {
            let grant: ConnectGrant = grant;
            if seen.insert(grant.clone()) {
                grants.push(grant);
            }
        }
    }
    grants
}

/// Finds the mentions of an argument, each as `HOST:PORT`.
fn mentions(argument: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = argument;
    while let Some(start) = rest.find(|it| is_host_char(it) || is_address_char(it) || it == '[') {
        rest = rest.get(start..).unwrap_or_default();
        if let Some((inner, after)) = bracketed(rest) {
            let is_address = inner.parse::<Ipv6Addr>().is_ok();
            if is_address || inner.parse::<Ipv4Addr>().is_ok() {
                found.extend(port(after).map(|port| match is_address {
                    true => format!("[{inner}]:{port}"),
                    false => format!("{inner}:{port}"),
                }));
            }
            rest = after;
            continue;
        }
        let after = match address(rest) {
            Some((ip, after)) => {
                found.push(format!("[{ip}]:*"));
                after
            }
            None => {
                let (name, after) = span(rest, is_host_char);
                // An option's name is none of a host.
                let name = name.trim_start_matches('-');
                if is_host_name(name) || name.parse::<Ipv4Addr>().is_ok() {
                    found.extend(port(after).map(|port| format!("{name}:{port}")));
                }
                after
            }
        };
        // One that begins with a colon or a bracket, and is no address.
        rest = match after.len() == rest.len() {
            true => rest.get(1..).unwrap_or_default(),
            false => after,
        };
    }
    found
}

/// Takes what is in brackets from the beginning: an address with, perhaps, a port behind it, or nothing that is a host.
fn bracketed(text: &str) -> Option<(&str, &str)> {
    let inner = text.strip_prefix('[')?;
    // Each character is looked at for one bracket, however many there are.
    let end = inner.find(['[', ']'])?;
    let (inner, after) = inner.split_at(end);
    Some((inner, after.strip_prefix(']')?))
}

/// Takes an IPv6 address without brackets from the beginning. It is without a port, which needs them.
fn address(text: &str) -> Option<(Ipv6Addr, &str)> {
    let longest = text.char_indices().nth(LONGEST_ADDRESS + 1);
    let (head, _) = text.split_at(longest.map_or(text.len(), |(end, _)| end));
    let (ip, _) = span(head, is_address_char);
    let (ip, after) = text.split_at(ip.len());
    let ip = ip.parse().ok()?;
    // `dead::beef.example.org` is no address.
    (!after.starts_with(is_host_char)).then_some((ip, after))
}

/// Reads the port right behind a host: a number, or `*` if there is none. None if there is a number that no port has.
fn port(after: &str) -> Option<String> {
    let any = || Some("*".to_owned());
    let Some(text) = after.strip_prefix(':') else {
        return any();
    };
    let (digits, after) = span(text, |it| it.is_ascii_digit());
    if digits.is_empty() || after.starts_with(is_host_char) {
        return any();
    }
    let number: u16 = digits.parse().ok()?;
    Some(number.to_string())
}

fn span(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    let end = text.find(|it| !belongs(it)).unwrap_or(text.len());
    text.split_at(end)
}

fn is_host_char(it: char) -> bool {
    it.is_ascii_alphanumeric() || matches!(it, '-' | '_' | '.')
}

/// What an IPv6 address may have in it.
fn is_address_char(it: char) -> bool {
    it.is_ascii_hexdigit() || matches!(it, ':' | '.')
}

/// Characters of an IPv6 address whose end is written as IPv4: `ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255`.
const LONGEST_ADDRESS: usize = 45;

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn hosts_are_found_wherever_they_are_mentioned() {
        for (argument, expected) in [
            ("example.org", "example.org:*"),
            ("Example.ORG.", "example.org:*"),
            ("example.org:25", "example.org:25"),
            ("http://example.org/x", "http:* example.org:* x:*"),
            ("http://example.org:8080/x", "http:* example.org:8080 x:*"),
            (
                "https://ann@h.test:1/?to=i.test",
                "https:* ann:* h.test:1 to:* i.test:*",
            ),
            ("user@mail.example.org:25", "user:* mail.example.org:25"),
            ("@127.0.0.1", "127.0.0.1/32:*"),
            ("127.0.0.1:53", "127.0.0.1/32:53"),
            ("[::1]:53", "[::1/128]:53"),
            ("[::1]", "[::1/128]:*"),
            ("[[::1]:53]", "[::1/128]:53"),
            ("x@[127.0.0.1]:1", "x:* 127.0.0.1/32:1"),
            ("[127.0.0.1]", "127.0.0.1/32:*"),
            // No address, and so no host and no port of one.
            ("[::1%lo]:1", ""),
            ("[a.test]:1", ""),
            ("[::1]:99999", ""),
            ("[]:1", ""),
            ("[a.test", "a.test:*"),
            (
                "1111:2222:3333:4444:5555:6666:123.123.123.123",
                "[1111:2222:3333:4444:5555:6666:7b7b:7b7b/128]:*",
            ),
            ("@::1", "[::1/128]:*"),
            ("2001:db8::7", "[2001:db8::7/128]:*"),
            ("tcp://[2001:db8::7]:80/", "tcp:* [2001:db8::7/128]:80"),
            // IPv4-mapped: what it maps.
            ("[::ffff:192.0.2.1]:80", "192.0.2.1/32:80"),
            ("host:path", "host:* path:*"),
            ("host:8o", "host:*"),
            ("localhost:7", "localhost:7"),
            ("unix:/run/x.sock", "unix:///run/x.sock"),
            // No port, and so no host.
            ("example.org:99999", ""),
            ("example.org:065536", ""),
            // Never this machine by accident, nor everything.
            ("0.0.0.0", ""),
            ("*", ""),
            ("*:*", ""),
            ("10.0.0.0/8", "10.0.0.0/32:*"),
            ("--", ""),
            ("-4", ""),
            ("--host=a.test:1", "host:* a.test:1"),
            ("", ""),
            ("[", ""),
            (":::", ""),
            ("grün.example", "gr:* n.example:*"),
        ] {
            let found: Vec<_> = hosts(&[argument.to_owned()])
                .iter()
                .map(ToString::to_string)
                .collect();
            assert_eq!(found.join(" "), expected, "{argument}");
        }
    }

    #[test]
    fn arguments_are_read_in_linear_time() {
        let colons = [":".repeat(2_000_000)];
        let words = ["a:".repeat(1_000_000)];
        let brackets = ["[".repeat(2_000_000)];
        let pairs = ["[a".repeat(1_000_000)];
        let many: Vec<_> = (0..300_000).map(|it| format!("h{it}.test")).collect();
        for (arguments, count) in [
            (colons.as_slice(), 0),
            (&words, 1),
            (&brackets, 0),
            (&pairs, 1),
            (&many, many.len()),
        ] {
            let start = Instant::now();
            assert_eq!(hosts(arguments).len(), count);
            // Quadratic, each of them takes minutes.
            assert!(start.elapsed() < Duration::from_secs(20));
        }
    }

    #[test]
    fn a_host_is_granted_once() {
        let twice = ["a.test".to_owned(), "@A.test.".to_owned()];
        assert_eq!(hosts(&twice).len(), 1);
    }
}
