//! Entries to records.

use std::fmt;

use super::{
    generate::{Generate, Made},
    lexer::{self, Lexed, Span},
};
use crate::{
    rdata::{self, TextError, Token},
    types::{Class, Name, NameError, RecordType},
};

/// Reads a zone from master files, piece by piece.
#[derive(Debug)]
pub struct Parser {
    /// The file that is read is the last; the others wait until it is included.
    sources: Vec<Source>,
    state: State,
    generate: Option<Generate>,
    /// The origin of the file that an `$INCLUDE` named and that is not begun yet.
    included: Option<Name>,
    spans: Vec<Span>,
    made: Vec<Made>,
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// A record.
    Record(Record<'a>),
    /// Another file is included: [`Parser::include`] begins it.
    Include(String),
    /// More of the file is needed: [`Parser::feed`] or [`Parser::feed_end`].
    More,
    /// That was all.
    End,
}

/// A record of class IN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Whose it is.
    pub owner: &'a Name,
    /// The type.
    pub rtype: RecordType,
    /// Seconds that it may be kept.
    pub ttl: u32,
    /// The data, with no name compressed.
    pub data: &'a [u8],
    /// The line that it begins on.
    pub line: u32,
}

/// What is wrong with a master file, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct FileError {
    /// The file.
    pub file: String,
    /// The line, from 1; 0 if it is about the whole file.
    pub line: u32,
    /// What is wrong.
    pub reason: Reason,
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.reason),
            line => write!(f, "{}:{line}: {}", self.file, self.reason),
        }
    }
}

/// Why a master file is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// Something is opened and not closed.
    #[error("`{0}` is not closed")]
    Unclosed(&'static str),
    /// A parenthesis is closed that was not opened.
    #[error("`)` without `(`")]
    Unopened,
    /// A backslash at the end of a line.
    #[error("a backslash at the end of a line")]
    Escape,
    /// A word is no name.
    #[error("`{0}`: {1}")]
    Name(String, NameError),
    /// A word is no type.
    #[error("unknown type `{0}`")]
    Type(String),
    /// Another class than IN.
    #[error("class {0}: zones here are of class IN")]
    Class(Class),
    /// An entry ends too early.
    #[error("the entry ends where {0} is expected")]
    Missing(&'static str),
    /// The data are wrong.
    #[error("{0}: {1}")]
    Data(RecordType, TextError),
    /// The first entry has no owner.
    #[error("the first record has no owner")]
    NoOwner,
    /// Nothing says how long the record may be kept.
    #[error("no TTL: neither the record nor a $TTL before it says one")]
    NoTtl,
    /// The TTL is 2^31 or more.
    #[error("the TTL {0} is above 2147483647")]
    LongTtl(u32),
    /// A directive that is not known.
    #[error("unknown directive `{0}`")]
    Directive(String),
    /// A directive with something wrong in it.
    #[error("{0}: `{1}` is not {2}")]
    Argument(&'static str, String, &'static str),
    /// Files that include files, more than there may be.
    #[error("$INCLUDE within $INCLUDE, more than {MAX_INCLUDES} deep")]
    Depth,
    /// An entry that is longer than the parser keeps.
    #[error("an entry is longer than {MAX_ENTRY} bytes")]
    Long,
    /// A file cannot be read.
    #[error("{0}")]
    Unreadable(String),
    /// What the records say cannot be.
    #[error("{0}")]
    Zone(crate::zone::Fault),
}

/// One file.
#[derive(Debug)]
struct Source {
    file: String,
    buffer: Vec<u8>,
    at: usize,
    line: u32,
    is_whole: bool,
    origin: Name,
    /// The owner to go on with in the file that included this one.
    outer: Option<Name>,
}

/// What one entry leaves for the next.
#[derive(Debug)]
struct State {
    default_ttl: Option<u32>,
    last_ttl: Option<u32>,
    owner: Option<Name>,
    data: Vec<u8>,
}

/// What an entry is.
enum Entry {
    Record(RecordType, u32),
    Directive,
    Include(String),
}

impl Parser {
    /// Begins a file, with the zone's name as its origin.
    pub fn new(file: &str, origin: Name) -> Self {
        Self {
            sources: vec![Source::new(file, origin, None)],
            state: State {
                default_ttl: None,
                last_ttl: None,
                owner: None,
                data: Vec::new(),
            },
            generate: None,
            included: None,
            spans: Vec::new(),
            made: Vec::new(),
        }
    }

    /// Adds bytes of the file that is read.
    pub fn feed(&mut self, bytes: &[u8]) {
        if let Some(source) = self.sources.last_mut() {
            source.buffer.drain(..source.at);
            source.at = 0;
            source.buffer.extend_from_slice(bytes);
        }
    }

    /// Nothing more comes of the file that is read.
    pub fn feed_end(&mut self) {
        if let Some(source) = self.sources.last_mut() {
            source.is_whole = true;
        }
    }

    /// Begins the file that an `$INCLUDE` named: what is fed is of it, until its end.
    pub fn include(&mut self, file: &str) {
        let origin = self.included.take();
        let origin = origin.or_else(|| self.sources.last().map(|source| source.origin));
        let origin = origin.unwrap_or(Name::ROOT);
        let outer = self.state.owner;
        self.sources.push(Source::new(file, origin, outer));
    }

    /// An error at the line that it has come to.
    pub fn error(&self, reason: Reason) -> FileError {
        let line = self.sources.last().map_or(0, |source| source.line);
        self.error_at(line, reason)
    }

    /// An error at a line of the file that is read.
    pub fn error_at(&self, line: u32, reason: Reason) -> FileError {
        let file = self.sources.last().map(|source| source.file.clone());
        FileError {
            file: file.unwrap_or_default(),
            line,
            reason,
        }
    }

    /// Goes on until there is something to tell.
    pub fn step(&mut self) -> Result<Step<'_>, FileError> {
        let (rtype, ttl, line) = loop {
            if let Some(record) = self.generated()? {
                break record;
            }
            let Some(source) = self.sources.last_mut() else {
                return Ok(Step::End);
            };
            let rest = source.buffer.get(source.at..).unwrap_or_default();
            if rest.is_empty() && source.is_whole {
                self.end_source();
                continue;
            }
            let line = source.line;
            let lexed = lexer::lex(rest, line, source.is_whole, &mut self.spans);
            let (consumed, lines, indented) = match lexed {
                Err((line, reason)) => return Err(self.error_at(line, reason)),
                Ok(Lexed::Incomplete) if rest.len() > MAX_ENTRY => {
                    return Err(self.error(Reason::Long));
                }
                Ok(Lexed::Incomplete) => return Ok(Step::More),
                Ok(Lexed::Entry {
                    consumed,
                    lines,
                    indented,
                }) => (consumed, lines, indented),
            };
            if self.spans.is_empty() {
                source.at += consumed;
                source.line += lines;
                continue;
            }
            let entry = self.entry(indented);
            let entry = entry.map_err(|(line, reason)| self.error_at(line, reason))?;
            if let Some(source) = self.sources.last_mut() {
                source.at += consumed;
                source.line += lines;
            }
            match entry {
                Entry::Record(rtype, ttl) => break (rtype, ttl, line),
                Entry::Directive => {}
                Entry::Include(file) => return Ok(Step::Include(file)),
            }
        };
        Ok(Step::Record(Record {
            owner: self.state.owner.as_ref().unwrap_or(&Name::ROOT),
            rtype,
            ttl,
            data: &self.state.data,
            line,
        }))
    }

    /// An included file ends: the one that included it goes on as if nothing had been.
    fn end_source(&mut self) {
        let ended = self.sources.pop();
        if !self.sources.is_empty() {
            self.state.owner = ended.and_then(|source| source.outer);
        }
    }

    fn entry(&mut self, indented: bool) -> Result<Entry, (u32, Reason)> {
        let depth = self.sources.len();
        let Some(source) = self.sources.last_mut() else {
            return Ok(Entry::Directive);
        };
        let rest = source.buffer.get(source.at..).unwrap_or_default();
        let mut tokens = self.spans.iter().map(|span| Token {
            text: rest.get(span.start..span.end).unwrap_or_default(),
            quoted: span.quoted,
            line: span.line,
        });
        let first = tokens.clone().next();
        let directive =
            first.filter(|first| !indented && !first.quoted && first.text.starts_with(b"$"));
        let Some(directive) = directive else {
            let (rtype, ttl) = self.state.record(&mut tokens, indented, &source.origin)?;
            return Ok(Entry::Record(rtype, ttl));
        };
        tokens.next();
        let line = directive.line;
        let missing = |what| (line, Reason::Missing(what));
        if directive.text.eq_ignore_ascii_case(b"$TTL") {
            let token = tokens.next().ok_or_else(|| missing("a TTL"))?;
            self.state.default_ttl = Some(ttl(token).ok_or_else(|| {
                let text = rdata::shown(token.text);
                (line, Reason::Argument("$TTL", text, "a number of seconds"))
            })??);
        } else if directive.text.eq_ignore_ascii_case(b"$ORIGIN") {
            let token = tokens.next().ok_or_else(|| missing("a name"))?;
            source.origin = name(token, &source.origin)?;
        } else if directive.text.eq_ignore_ascii_case(b"$INCLUDE") {
            let token = tokens.next().ok_or_else(|| missing("a file"))?;
            let file = String::from_utf8_lossy(token.text).into_owned();
            let origin = tokens.next().map(|token| name(token, &source.origin));
            self.included = origin.transpose()?;
            if depth > MAX_INCLUDES {
                return Err((line, Reason::Depth));
            }
            end(&mut tokens)?;
            return Ok(Entry::Include(file));
        } else if directive.text.eq_ignore_ascii_case(b"$GENERATE") {
            let range = tokens.next().ok_or_else(|| missing("a range"))?;
            let words = tokens.map(|token| (token.text.to_vec(), token.quoted));
            let generate = Generate::new(range.text, words.collect(), line).ok_or_else(|| {
                let text = rdata::shown(range.text);
                let expected = "a range START-STOP[/STEP] of at most 1048576 numbers";
                (line, Reason::Argument("$GENERATE", text, expected))
            })?;
            self.generate = Some(generate);
            return Ok(Entry::Directive);
        } else {
            let text = rdata::shown(directive.text);
            return Err((line, Reason::Directive(text)));
        }
        end(&mut tokens)?;
        Ok(Entry::Directive)
    }

    /// The next record of a `$GENERATE` that is being carried out.
    fn generated(&mut self) -> Result<Option<(RecordType, u32, u32)>, FileError> {
        let Some(generate) = &mut self.generate else {
            return Ok(None);
        };
        let line = generate.line;
        let Some(made) = generate.next(&mut self.made) else {
            self.generate = None;
            return Ok(None);
        };
        let origin = self.sources.last().map(|source| source.origin);
        let mut tokens = self.made.iter().map(|made| made.token(line));
        let record = match made {
            Ok(()) => self
                .state
                .record(&mut tokens, false, &origin.unwrap_or(Name::ROOT)),
            Err(word) => {
                let expected = "a word with right modifiers, such as ${0,3,d}";
                Err((line, Reason::Argument("$GENERATE", word, expected)))
            }
        };
        let record = record.map(|(rtype, ttl)| (rtype, ttl, line));
        record
            .map(Some)
            .map_err(|(line, reason)| self.error_at(line, reason))
    }
}

impl State {
    /// `[OWNER] [TTL] [CLASS] TYPE DATA`, TTL and class in any order. The owner and the data are left in `self`.
    fn record<'a>(
        &mut self,
        tokens: &mut impl Iterator<Item = Token<'a>>,
        indented: bool,
        origin: &Name,
    ) -> Result<(RecordType, u32), (u32, Reason)> {
        let mut line = 0;
        if !indented && let Some(token) = tokens.next() {
            line = token.line;
            self.owner = Some(name(token, origin)?);
        }
        let (mut own_ttl, mut class) = (None, None);
        let rtype = loop {
            let Some(token) = tokens.next() else {
                return Err((line, Reason::Missing("a type")));
            };
            line = token.line;
            if own_ttl.is_none()
                && token.text.first().is_some_and(u8::is_ascii_digit)
                && let Some(seconds) = ttl(token)
            {
                own_ttl = Some(seconds?);
            } else if class.is_none()
                && let Some(found) = Class::parse(token.text)
            {
                class = Some(found);
            } else if let Some(rtype) = RecordType::parse(token.text) {
                break rtype;
            } else {
                return Err((line, Reason::Type(rdata::shown(token.text))));
            }
        };
        if let Some(class) = class.filter(|class| *class != Class::IN) {
            return Err((line, Reason::Class(class)));
        }
        if self.owner.is_none() {
            return Err((line, Reason::NoOwner));
        }
        self.data.clear();
        let mut at = line;
        let mut words = tokens.inspect(|token| at = token.line);
        let parsed = rdata::parse(rtype, &mut words, Some(origin), &mut self.data);
        parsed.map_err(|error| (at, Reason::Data(rtype, error)))?;
        let ttl = own_ttl.or(self.default_ttl).or(self.last_ttl);
        // A SOA without a TTL has that of negative answers, as BIND does it.
        let minimum = || match self.data.last_chunk() {
            Some(minimum) if rtype == RecordType::SOA => Some(u32::from_be_bytes(*minimum)),
            _ => None,
        };
        let ttl = ttl.or_else(minimum).ok_or((line, Reason::NoTtl))?;
        self.last_ttl = Some(ttl);
        Ok((rtype, ttl))
    }
}

impl Source {
    fn new(file: &str, origin: Name, outer: Option<Name>) -> Self {
        Self {
            file: file.to_owned(),
            buffer: Vec::new(),
            at: 0,
            line: 1,
            is_whole: false,
            origin,
            outer,
        }
    }
}

fn name(token: Token<'_>, origin: &Name) -> Result<Name, (u32, Reason)> {
    Name::parse_within(token.text, Some(origin)).map_err(|error| {
        let text = rdata::shown(token.text);
        (token.line, Reason::Name(text, error))
    })
}

/// A TTL; none if it is no number, an error if it is too large ([RFC 2181 section 8](https://www.rfc-editor.org/rfc/rfc2181#section-8)).
fn ttl(token: Token<'_>) -> Option<Result<u32, (u32, Reason)>> {
    let seconds = rdata::parse_ttl(token.text)?;
    Some(if seconds > MAX_TTL {
        Err((token.line, Reason::LongTtl(seconds)))
    } else {
        Ok(seconds)
    })
}

fn end<'a>(tokens: &mut impl Iterator<Item = Token<'a>>) -> Result<(), (u32, Reason)> {
    match tokens.next() {
        None => Ok(()),
        Some(token) => {
            let text = rdata::shown(token.text);
            let expected = "wanted there";
            Err((token.line, Reason::Argument("directive", text, expected)))
        }
    }
}

/// Bytes of an entry, which is kept in memory until it is whole: 1 MiB, far more than a record can have.
pub const MAX_ENTRY: usize = 1 << 20;

/// How deep files may include files: 16.
pub const MAX_INCLUDES: usize = 16;

const MAX_TTL: u32 = i32::MAX as u32;
