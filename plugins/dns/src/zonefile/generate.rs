//! `$GENERATE`, as BIND has it: a record for each number of a range.

use std::str;

use crate::rdata::Token;

/// A directive that is being carried out.
#[derive(Debug)]
pub(super) struct Generate {
    next: u32,
    stop: u32,
    step: u32,
    /// The words behind the range.
    words: Vec<(Vec<u8>, bool)>,
    pub(super) line: u32,
}

impl Generate {
    /// Reads `START-STOP[/STEP]`, with the words behind it.
    pub(super) fn new(range: &[u8], words: Vec<(Vec<u8>, bool)>, line: u32) -> Option<Self> {
        let text = str::from_utf8(range).ok()?;
        let (range, step) = text.split_once('/').unwrap_or((text, "1"));
        let (start, stop) = range.split_once('-')?;
        let generate = Self {
            next: start.parse().ok()?,
            stop: stop.parse().ok()?,
            step: step.parse().ok()?,
            words,
            line,
        };
        let records = (generate.stop.checked_sub(generate.next)?).checked_div(generate.step)?;
        (records < MAX_RECORDS && generate.stop < 1 << 31).then_some(generate)
    }

    /// The words of the next record, one after the other in `text`; none when all were made. An error if a modifier is wrong.
    pub(super) fn next(&mut self, text: &mut Vec<Made>) -> Option<Result<(), String>> {
        if self.next > self.stop {
            return None;
        }
        text.clear();
        for (word, quoted) in &self.words {
            let Some(made) = substitute(word, self.next) else {
                let word = crate::rdata::shown(word);
                return Some(Err(word));
            };
            text.push(Made {
                text: made,
                quoted: *quoted,
            });
        }
        self.next = self.next.saturating_add(self.step);
        Some(Ok(()))
    }
}

/// A word that was made.
#[derive(Debug)]
pub(super) struct Made {
    text: Vec<u8>,
    quoted: bool,
}

impl Made {
    pub(super) fn token(&self, line: u32) -> Token<'_> {
        Token {
            text: &self.text,
            quoted: self.quoted,
            line,
        }
    }
}

/// Replaces `$` and `${OFFSET,WIDTH,BASE}`. `\$` and `$$` are a dollar sign.
fn substitute(word: &[u8], number: u32) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(word.len() + 8);
    let mut rest = word;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'\\' => {
                let (next, after) = rest.split_first()?;
                rest = after;
                if *next != b'$' {
                    out.push(b'\\');
                }
                out.push(*next);
            }
            b'$' => match rest.split_first() {
                Some((b'$', after)) => {
                    out.push(b'$');
                    rest = after;
                }
                Some((b'{', after)) => {
                    let end = after.iter().position(|byte| *byte == b'}')?;
                    let (modifier, after) = after.split_at(end);
                    rest = after.get(1..)?;
                    out.extend(modified(str::from_utf8(modifier).ok()?, number)?.into_bytes());
                }
                _ => out.extend(number.to_string().into_bytes()),
            },
            byte => out.push(*byte),
        }
    }
    Some(out)
}

fn modified(modifier: &str, number: u32) -> Option<String> {
    let mut parts = modifier.split(',').map(str::trim);
    let offset: i64 = parts.next()?.parse().ok()?;
    let width: usize = parts.next().map_or(Some(0), |width| width.parse().ok())?;
    let base = parts.next().unwrap_or("d");
    if parts.next().is_some() || width > 255 {
        return None;
    }
    let value = u64::try_from(i64::from(number).checked_add(offset)?).ok()?;
    Some(match base {
        "d" => format!("{value:0width$}"),
        "o" => format!("{value:0width$o}"),
        "x" => format!("{value:0width$x}"),
        "X" => format!("{value:0width$X}"),
        "n" | "N" => {
            // Nibbles, the last first, with dots between: `width` counts the dots.
            let digits = width.div_ceil(2).max(1);
            let shown = if base == "n" {
                format!("{value:0digits$x}")
            } else {
                format!("{value:0digits$X}")
            };
            let nibbles: Vec<String> = shown.chars().rev().map(String::from).collect();
            nibbles.join(".")
        }
        _ => return None,
    })
}

/// Records of one directive: 1,048,576, a /12 of IPv4 addresses.
const MAX_RECORDS: u32 = 1 << 20;
