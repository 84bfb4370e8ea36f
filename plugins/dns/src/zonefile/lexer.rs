//! Entries and their words.

use super::parser::Reason;

/// Where a word is in the buffer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) line: u32,
    pub(super) quoted: bool,
}

/// What stands at the beginning of the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lexed {
    /// An entry, or an empty line. `indented`: it begins with a space, which stands for the owner before.
    Entry {
        consumed: usize,
        lines: u32,
        indented: bool,
    },
    /// It goes on behind the buffer.
    Incomplete,
}

/// Finds the first entry: its words are put into `spans`. `line` is where the buffer begins. An error comes with its line.
pub(super) fn lex(
    buffer: &[u8],
    line: u32,
    is_whole: bool,
    spans: &mut Vec<Span>,
) -> Result<Lexed, (u32, Reason)> {
    spans.clear();
    let indented = matches!(buffer.first(), Some(b' ' | b'\t'));
    let mut at = 0;
    let mut lines = 0;
    // The line of each parenthesis that is open: only the outermost is told.
    let (mut depth, mut opened) = (0_u32, line);
    loop {
        let Some(byte) = buffer.get(at) else {
            if !is_whole {
                return Ok(Lexed::Incomplete);
            }
            if depth > 0 {
                return Err((opened, Reason::Unclosed("(")));
            }
            return Ok(Lexed::Entry {
                consumed: at,
                lines,
                indented,
            });
        };
        match kind(*byte) {
            Kind::Space => at += 1,
            Kind::Newline => {
                at += 1;
                lines += 1;
                if depth == 0 {
                    return Ok(Lexed::Entry {
                        consumed: at,
                        lines,
                        indented,
                    });
                }
            }
            Kind::Comment => {
                let rest = buffer.get(at..).unwrap_or_default();
                at += rest
                    .iter()
                    .position(|byte| *byte == b'\n')
                    .unwrap_or(rest.len());
            }
            Kind::Open => {
                if depth == 0 {
                    opened = line + lines;
                }
                depth += 1;
                at += 1;
            }
            Kind::Close => {
                depth = depth
                    .checked_sub(1)
                    .ok_or((line + lines, Reason::Unopened))?;
                at += 1;
            }
            Kind::Quote => {
                let start = at + 1;
                let Some(end) = quoted(buffer, start, line + lines, is_whole)? else {
                    return Ok(Lexed::Incomplete);
                };
                spans.push(Span {
                    start,
                    end,
                    line: line + lines,
                    quoted: true,
                });
                at = end + 1;
            }
            Kind::Word | Kind::Escape => {
                let start = at;
                let Some(end) = word(buffer, start, line + lines, is_whole)? else {
                    return Ok(Lexed::Incomplete);
                };
                at = end;
                spans.push(Span {
                    start,
                    end,
                    line: line + lines,
                    quoted: false,
                });
            }
        }
    }
}

/// Where a word ends. A quote within it (`alpn="h2,h3"`) goes on to the next quote. None if it may go on behind the buffer.
fn word(
    buffer: &[u8],
    start: usize,
    line: u32,
    is_whole: bool,
) -> Result<Option<usize>, (u32, Reason)> {
    let mut at = start;
    loop {
        let Some(byte) = buffer.get(at) else {
            return Ok(is_whole.then_some(at));
        };
        match kind(*byte) {
            Kind::Word => at += 1,
            Kind::Escape => match buffer.get(at + 1) {
                None if !is_whole => return Ok(None),
                None | Some(b'\n') => return Err((line, Reason::Escape)),
                Some(_) => at += 2,
            },
            Kind::Quote => match quoted(buffer, at + 1, line, is_whole)? {
                Some(end) => at = end + 1,
                None => return Ok(None),
            },
            _ => return Ok(Some(at)),
        }
    }
}

/// Where the closing quote is. None if it may be behind the buffer.
fn quoted(
    buffer: &[u8],
    start: usize,
    line: u32,
    is_whole: bool,
) -> Result<Option<usize>, (u32, Reason)> {
    let mut at = start;
    loop {
        match buffer.get(at) {
            Some(b'"') => return Ok(Some(at)),
            Some(b'\\') if buffer.get(at + 1).is_some_and(|byte| *byte != b'\n') => at += 2,
            Some(b'\\') if buffer.get(at + 1).is_none() && !is_whole => return Ok(None),
            Some(b'\n') => return Err((line, Reason::Unclosed("\""))),
            Some(_) => at += 1,
            None if is_whole => return Err((line, Reason::Unclosed("\""))),
            None => return Ok(None),
        }
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Word,
    Space,
    Newline,
    Comment,
    Open,
    Close,
    Quote,
    Escape,
}

/// What a byte is outside of quotes.
const fn kind(byte: u8) -> Kind {
    match byte {
        b' ' | b'\t' | b'\r' => Kind::Space,
        b'\n' => Kind::Newline,
        b';' => Kind::Comment,
        b'(' => Kind::Open,
        b')' => Kind::Close,
        b'"' => Kind::Quote,
        b'\\' => Kind::Escape,
        _ => Kind::Word,
    }
}
