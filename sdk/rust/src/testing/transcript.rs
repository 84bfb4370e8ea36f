//! Dialogues as text.

use std::{fmt, time::Duration};

/// A dialogue: who sends what, and what the server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transcript {
    /// The file, for messages.
    pub file: String,
    /// The JSON object after `config:`, if there is one.
    pub config: Option<String>,
    /// The steps, in order.
    pub steps: Vec<Step>,
}

/// One line of a transcript.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its number in the file, from 1.
    pub line: usize,
    /// The client's name; empty for the one without a name.
    pub client: String,
    /// What happens.
    pub action: Action,
}

/// What happens in a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// The client sends these bytes.
    Send(Vec<u8>),
    /// The server sends one line, with CR LF after it.
    ExpectLine(Pattern),
    /// The server sends exactly these bytes.
    ExpectBytes(Vec<u8>),
    /// The server has closed.
    ExpectEnd,
    /// The client closes its writing half.
    Close,
    /// The TLS handshake that the server waits for succeeds.
    Secure,
    /// Time passes.
    Advance(Duration),
}

impl Transcript {
    /// Reads a transcript; `file` is what messages call it.
    pub fn parse(file: &str, text: &str) -> Result<Self, ParseError> {
        let mut transcript = Self {
            file: file.to_owned(),
            config: None,
            steps: Vec::new(),
        };
        for (index, text) in text.lines().enumerate() {
            let line = index + 1;
            let error = |reason| ParseError {
                file: file.to_owned(),
                line,
                reason,
            };
            if text.trim().is_empty() || text.starts_with('#') {
                continue;
            }
            if let Some(config) = text.strip_prefix("config:") {
                if transcript.config.is_some() || !transcript.steps.is_empty() {
                    return Err(error("`config:` comes first, once"));
                }
                transcript.config = Some(config.trim().to_owned());
                continue;
            }
            let (client, action) = step(text).map_err(error)?;
            transcript.steps.push(Step {
                line,
                client: client.to_owned(),
                action,
            });
        }
        Ok(transcript)
    }

    /// The clients' names, in the order of their first appearance.
    pub fn clients(&self) -> Vec<&str> {
        let mut clients = Vec::new();
        for step in &self.steps {
            if !matches!(step.action, Action::Advance(_))
                && !clients.contains(&step.client.as_str())
            {
                clients.push(&step.client);
            }
        }
        clients
    }

    /// Whether it begins TLS, which only a [`Peer`](super::Peer) that says so can.
    pub fn begins_tls(&self) -> bool {
        self.steps.iter().any(|step| step.action == Action::Secure)
    }

    /// Whether it moves the clock, which only tests under their own clock can.
    pub fn moves_clock(&self) -> bool {
        self.steps
            .iter()
            .any(|step| matches!(step.action, Action::Advance(_)))
    }
}

/// A line in which `{*}` stands for anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// Takes the text, without a line end.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Whether a line, without its end, is meant.
    pub fn matches(&self, line: &[u8]) -> bool {
        let Some((head, last)) = self.0.rsplit_once("{*}") else {
            return line == self.0.as_bytes();
        };
        let mut parts = head.split("{*}").map(str::as_bytes);
        let Some(mut rest) = parts.next().and_then(|first| line.strip_prefix(first)) else {
            return false;
        };
        for part in parts {
            // The first place is as good as any: what lies before it may be anything.
            let Some(at) = (0..=rest.len())
                .find(|at| rest.get(*at..).is_some_and(|rest| rest.starts_with(part)))
            else {
                return false;
            };
            rest = rest.get(at + part.len()..).unwrap_or_default();
        }
        rest.ends_with(last.as_bytes())
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is no transcript.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    file: String,
    line: usize,
    reason: &'static str,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.reason)
    }
}

impl std::error::Error for ParseError {}

fn step(text: &str) -> Result<(&str, Action), &'static str> {
    let mut rest = text.get(1..).ok_or(UNKNOWN)?;
    let mut client = "";
    if let Some(named) = rest.strip_prefix('[') {
        (client, rest) = named.split_once(']').ok_or("`[` without `]`")?;
    }
    let is_raw = rest.starts_with('!');
    let argument = rest.strip_prefix([':', '!']).ok_or(UNKNOWN)?;
    let argument = argument.strip_prefix(' ').unwrap_or(argument);
    let action = match (text.get(..1), is_raw) {
        (Some("C"), false) => Action::Send(format!("{argument}\r\n").into_bytes()),
        (Some("C"), true) => Action::Send(unescape(argument)?),
        (Some("S"), false) => Action::ExpectLine(Pattern::new(argument)),
        (Some("S"), true) => Action::ExpectBytes(unescape(argument)?),
        (Some("X"), false) if argument.is_empty() => Action::Close,
        (Some("E"), false) if argument.is_empty() => Action::ExpectEnd,
        (Some("H"), false) if argument.is_empty() => Action::Secure,
        (Some("T"), false) if client.is_empty() => Action::Advance(duration(argument)?),
        (Some("X" | "E" | "H"), false) => return Err("nothing follows `X:`, `E:` and `H:`"),
        _ => return Err(UNKNOWN),
    };
    if matches!(&action, Action::Send(bytes) | Action::ExpectBytes(bytes) if bytes.is_empty()) {
        return Err("there are no bytes");
    }
    Ok((client, action))
}

fn unescape(text: &str) -> Result<Vec<u8>, &'static str> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        (bytes, rest) = match (first, after) {
            (b'\\', [b'x', high, low, after @ ..]) => {
                let digit = |byte: &u8| {
                    char::from(*byte)
                        .to_digit(16)
                        .ok_or("`\\x` wants two hexadecimal digits")
                };
                bytes.push(u8::try_from(digit(high)? << 4 | digit(low)?).unwrap_or_default());
                (bytes, after)
            }
            (b'\\', [letter, after @ ..]) => {
                bytes.push(match letter {
                    b'r' => b'\r',
                    b'n' => b'\n',
                    b't' => b'\t',
                    b'0' => 0,
                    b'\\' => b'\\',
                    _ => return Err("an escape is one of \\r \\n \\t \\0 \\\\ \\x7f"),
                });
                (bytes, after)
            }
            (b'\\', []) => return Err("`\\` at the end"),
            (byte, after) => {
                bytes.push(*byte);
                (bytes, after)
            }
        };
    }
    Ok(bytes)
}

fn duration(text: &str) -> Result<Duration, &'static str> {
    const WRONG: &str = "a time is a number and `ms`, `s`, `m` or `h`";
    let at = text.find(|c: char| !c.is_ascii_digit()).ok_or(WRONG)?;
    let (number, unit) = text.split_at_checked(at).ok_or(WRONG)?;
    let number: u64 = number.parse().map_err(|_| WRONG)?;
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(WRONG),
    };
    Ok(Duration::from_millis(number.saturating_mul(milliseconds)))
}

const UNKNOWN: &str = "a step begins with `C:`, `C!`, `S:`, `S!`, `X:`, `E:`, `H:` or `T:`";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_read() {
        let text = "# hello\nconfig: {\"a\": 1}\n\nC: NICK ann\nS[bob]: 433 {*}\nC! a\\r\\n\\x00\\\\\nS[bob]! \\xfe\nX[bob]:\nE:\nT: 5m\nC:\nH:\n";
        let transcript = Transcript::parse("x.txt", text).unwrap();
        let steps: Vec<_> = transcript
            .steps
            .iter()
            .map(|s| (s.line, s.client.as_str(), s.action.clone()))
            .collect();
        let expected = [
            (4, "", Action::Send(b"NICK ann\r\n".to_vec())),
            (5, "bob", Action::ExpectLine(Pattern::new("433 {*}"))),
            (6, "", Action::Send(b"a\r\n\0\\".to_vec())),
            (7, "bob", Action::ExpectBytes(vec![0xfe])),
            (8, "bob", Action::Close),
            (9, "", Action::ExpectEnd),
            (10, "", Action::Advance(Duration::from_secs(300))),
            (11, "", Action::Send(b"\r\n".to_vec())),
            (12, "", Action::Secure),
        ];
        assert_eq!(steps, expected);
        assert_eq!(transcript.config.as_deref(), Some("{\"a\": 1}"));
        assert_eq!(transcript.clients(), ["", "bob"]);
        assert!(transcript.moves_clock() && transcript.begins_tls());
    }

    #[test]
    fn mistakes_are_told_with_file_and_line() {
        let cases = [
            ("D: x", UNKNOWN),
            ("C x", UNKNOWN),
            ("C", UNKNOWN),
            ("é: x", UNKNOWN),
            ("C[bob: x", "`[` without `]`"),
            ("C! \\q", "an escape is one of \\r \\n \\t \\0 \\\\ \\x7f"),
            ("C! \\", "`\\` at the end"),
            ("S! \\xg0", "`\\x` wants two hexadecimal digits"),
            ("S!", "there are no bytes"),
            ("E: x", "nothing follows `X:`, `E:` and `H:`"),
            ("H: x", "nothing follows `X:`, `E:` and `H:`"),
            ("T: 5", "a time is a number and `ms`, `s`, `m` or `h`"),
            ("T: 5d", "a time is a number and `ms`, `s`, `m` or `h`"),
            ("C: a\nconfig: {}", "`config:` comes first, once"),
        ];
        for (text, reason) in cases {
            let error = Transcript::parse("x.txt", &format!("# comment\n{text}")).unwrap_err();
            assert_eq!(error.reason, reason, "{text}");
            let line = 1 + text.lines().count();
            assert_eq!(error.to_string(), format!("x.txt:{line}: {reason}"));
        }
    }

    #[test]
    fn a_wildcard_stands_for_anything() {
        let cases = [
            ("abc", "abc", true),
            ("abc", "abcd", false),
            ("abc", "ab", false),
            ("", "", true),
            ("", "x", false),
            ("{*}", "", true),
            ("{*}", "anything", true),
            ("a{*}c", "ac", true),
            ("a{*}c", "abbbc", true),
            ("a{*}c", "abbb", false),
            ("a{*}a", "a", false),
            ("{*} b {*} d", "a b c d", true),
            ("{*} b {*} d", "a b d", false),
            ("a{*}b{*}", "aXbY", true),
        ];
        for (pattern, line, expected) in cases {
            assert_eq!(
                Pattern::new(pattern).matches(line.as_bytes()),
                expected,
                "{pattern} {line}"
            );
        }
    }
}
