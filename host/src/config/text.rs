//! What every file that the operator writes needs: where something is in it, what a misspelled name was meant to be, and sizes.

use std::ops::Range;

/// A place in a text, both counted from 1. A column counts characters, as editors do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

impl Position {
    /// Returns where a span begins; the beginning of the text if there is none.
    pub(crate) fn of(text: &str, span: Option<&Range<usize>>) -> Self {
        let start = span.map_or(0, |span| span.start);
        // A span of the parser begins at a character; at another byte it is the text's end.
        let before = text.get(..start).unwrap_or(text);
        let line = before.rsplit('\n').next().unwrap_or_default();
        Self {
            line: before.matches('\n').count() + 1,
            column: line.chars().count() + 1,
        }
    }
}

/// Returns the known name that a name was most likely meant to be: at most a third of its letters are wrong, or it is cut short.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_lowercase();
    known
        .into_iter()
        .map(|known| {
            let wrong = strsim::damerau_levenshtein(known, &lower);
            // `directory` for `directories`: what both begin with counts.
            let alike = known.chars().zip(lower.chars());
            let alike = alike.take_while(|(one, other)| one == other).count();
            let is_near = wrong <= known.chars().count().div_ceil(3) || alike >= 5;
            (wrong, known, is_near)
        })
        .filter(|(_, _, is_near)| *is_near)
        .min()
        .map(|(_, known, _)| known)
}

/// Writes names for people: `` `a`, `b` ``.
pub(crate) fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.into_iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}

/// Reads a number of bytes: `4096`, `64KiB`, `256MiB`, `1GiB`.
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = UNITS
        .iter()
        .find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?, *unit)))
        .unwrap_or((text, 1));
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = is_number.then(|| number.parse().ok())??;
    number.checked_mul(unit)
}

/// Writes a number of bytes in the largest unit that divides it.
pub(crate) fn show_size(bytes: u64) -> String {
    let mut units = UNITS.iter().rev();
    let unit = units.find(|(_, unit)| bytes > 0 && bytes.is_multiple_of(*unit));
    unit.map_or_else(
        || bytes.to_string(),
        |(suffix, unit)| format!("{}{suffix}", bytes / unit),
    )
}

/// From the smallest to the largest.
const UNITS: &[(&str, u64)] = &[("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_counts_lines_and_characters_from_1() {
        let text = "a\nbüc\n";
        for (start, line, column) in [(0, 1, 1), (2, 2, 1), (5, 2, 3), (7, 3, 1), (99, 3, 1)] {
            let position = Position::of(text, Some(&(start..start)));
            assert_eq!((position.line, position.column), (line, column), "{start}");
        }
    }

    #[test]
    fn the_nearest_name_is_a_near_one() {
        let known = ["listen", "isolation", "limits", "name", "directories"];
        for (name, expected) in [
            ("lisen", Some("listen")),
            ("Listen", Some("listen")),
            ("listeners", Some("listen")),
            ("limit", Some("limits")),
            ("nmae", Some("name")),
            ("directory", Some("directories")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(nearest(name, known), expected, "{name}");
        }
    }

    #[test]
    fn a_size_is_a_number_and_a_unit() {
        for (text, expected) in [
            ("0", Some(0)),
            ("4096", Some(4096)),
            ("3KiB", Some(3 << 10)),
            ("256MiB", Some(256 << 20)),
            ("1GiB", Some(1 << 30)),
            ("", None),
            ("KiB", None),
            ("-1", None),
            ("+1", None),
            ("1.5GiB", None),
            ("1 MiB", None),
            ("1kB", None),
            ("18446744073709551615GiB", None),
        ] {
            assert_eq!(parse_size(text), expected, "{text}");
        }
        for text in ["0", "1", "4095", "4KiB", "256MiB", "3GiB"] {
            assert_eq!(show_size(parse_size(text).unwrap()), text);
        }
    }
}
