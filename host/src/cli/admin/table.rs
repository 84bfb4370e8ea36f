//! Tables and numbers for people.

use std::{
    io::{self, IsTerminal as _, Write as _},
    time::Duration,
};

use terminal_size::{Width, terminal_size};
use unicode_width::UnicodeWidthStr as _;

/// How a column stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

/// Prints rows under a header, aligned; the last column is as long as it is. On a terminal where that does not fit, the columns stand closer, and what is still too much of a
/// row follows below it.
pub(super) fn print(columns: &[(&str, Align)], rows: &[Vec<String>]) -> anyhow::Result<()> {
    let width = is_for_people().then(terminal_size).flatten();
    let width = width.map(|(Width(width), _)| usize::from(width));
    io::stdout()
        .lock()
        .write_all(written(columns, rows, width).as_bytes())?;
    Ok(())
}

/// As [`print()`], within so many columns.
pub(super) fn written(
    columns: &[(&str, Align)],
    rows: &[Vec<String>],
    within: Option<usize>,
) -> String {
    let header: Vec<String> = columns.iter().map(|(name, _)| (*name).to_owned()).collect();
    let all = || std::iter::once(&header).chain(rows);
    let widths: Vec<_> = (0..columns.len())
        .map(|place| {
            let cells = all().filter_map(|row| row.get(place));
            cells.map(|cell| cell.width()).max().unwrap_or(0)
        })
        .collect();
    let aligned = |row: &[String], space: &str| {
        let cells = row.iter().zip(&widths).zip(columns);
        let cells = cells.map(|((cell, width), (_, align))| {
            let rest = " ".repeat(width.saturating_sub(cell.width()));
            match align {
                Align::Left => format!("{cell}{rest}"),
                Align::Right => format!("{rest}{cell}"),
            }
        });
        let line = cells.collect::<Vec<_>>().join(space);
        line.trim_end().to_owned()
    };
    let is_too_wide = |line: &String| within.is_some_and(|within| line.width() > within);
    let whole: Vec<_> = all().map(|row| aligned(row, "  ")).collect();
    if !whole.iter().any(is_too_wide) {
        return whole.iter().map(|line| format!("{line}\n")).collect();
    }
    let within = within.unwrap_or(usize::MAX);
    // The last column is the first to go below.
    let mut most = columns.len().saturating_sub(1);
    while most > 1 && widths.iter().take(most).sum::<usize>() + most - 1 > within {
        most -= 1;
    }
    let above = header.iter().take(most).cloned();
    let mut text = aligned(&above.collect::<Vec<_>>(), " ") + "\n";
    for row in rows {
        let (above, below) = row.split_at(most.min(row.len()));
        text += &(aligned(above, " ") + "\n");
        let named = below.iter().zip(columns.iter().skip(most));
        let named = named.filter(|(cell, _)| !cell.is_empty());
        let named = named.map(|(cell, (name, _))| format!("{name} {cell}").trim_start().to_owned());
        for line in wrapped(&named.collect::<Vec<_>>().join("  "), within) {
            text += &format!("  {}\n", line.trim_end());
        }
    }
    text
}

/// Breaks a text between its words, so that its lines and two columns before them fit where they can.
fn wrapped(text: &str, within: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.width() + 1 + word.width() + 2 <= within => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.retain(|line| !line.trim().is_empty());
    lines
}

/// Returns whether a person reads the output.
pub(super) fn is_for_people() -> bool {
    io::stdout().is_terminal()
}

/// A count: `999`, `12.3k`, `4.5M`.
pub(super) fn count(count: u64) -> String {
    scaled(count, 1000, &["", "k", "M", "G", "T"])
}

/// Bytes: `999 B`, `12.3 KiB`.
pub(super) fn bytes(bytes: u64) -> String {
    scaled(bytes, 1024, &[" B", " KiB", " MiB", " GiB", " TiB"])
}

/// Bytes where there is little room: `999`, `12.3K`.
pub(super) fn size(bytes: u64) -> String {
    scaled(bytes, 1024, &["", "K", "M", "G", "T"])
}

fn scaled(number: u64, step: u64, units: &[&str]) -> String {
    let mut divisor = 1;
    let mut units = units.iter();
    let mut unit = units.next().copied().unwrap_or_default();
    for next in units {
        if number / divisor < step {
            break;
        }
        divisor *= step;
        unit = next;
    }
    let (whole, rest) = (number / divisor, number % divisor);
    if divisor == 1 || whole >= 100 {
        return format!("{whole}{unit}");
    }
    let tenth = (u128::from(rest) * 10 / u128::from(divisor)).min(9);
    format!("{whole}.{tenth}{unit}")
}

/// A time of a call: `250ns`, `1.2µs`, `34.0ms`; a dash if there is none.
pub(super) fn nanoseconds(time: Option<u64>) -> String {
    match time {
        None => "-".to_owned(),
        Some(time) => scaled(time, 1000, &["ns", "µs", "ms", "s"]),
    }
}

/// How long something has been there: `12s`, `3m 4s`, `5h 6m`, `7d 8h`.
pub(super) fn age(seconds: f64) -> String {
    let seconds = Duration::try_from_secs_f64(seconds)
        .unwrap_or_default()
        .as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match () {
        () if minutes == 0 => format!("{seconds}s"),
        () if hours == 0 => format!("{minutes}m {}s", seconds % 60),
        () if days == 0 => format!("{hours}h {}m", minutes % 60),
        () => format!("{days}d {}h", hours % 24),
    }
}

/// What another program said, without what a terminal would act on.
pub(super) fn plain(text: &str) -> String {
    let plain = |character: char| match character {
        '\n' | '\t' => ' ',
        character if character.is_control() => '\u{fffd}',
        character => character,
    };
    text.chars().map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (number, in_thousands, in_bytes) in [
            (0, "0", "0 B"),
            (999, "999", "999 B"),
            (1_000, "1.0k", "1000 B"),
            (12_345, "12.3k", "12.0 KiB"),
            (123_456_789, "123M", "117 MiB"),
            (u64::MAX, "18446744T", "16777215 TiB"),
        ] {
            assert_eq!(count(number), in_thousands);
            assert_eq!(bytes(number), in_bytes);
        }
        for (time, expected) in [
            (None, "-"),
            (Some(250), "250ns"),
            (Some(1_250), "1.2µs"),
            (Some(34_000_000), "34.0ms"),
            (Some(2_000_000_000), "2.0s"),
        ] {
            assert_eq!(nanoseconds(time), expected);
        }
        for (seconds, expected) in [
            (0.4, "0s"),
            (184.0, "3m 4s"),
            (3_600.0 * 5.1, "5h 6m"),
            (86_400.0 * 7.34, "7d 8h"),
            (f64::NAN, "0s"),
        ] {
            assert_eq!(age(seconds), expected);
        }
    }

    #[test]
    fn columns_are_aligned() {
        let columns = [
            ("NAME", Align::Left),
            ("N", Align::Right),
            ("REST", Align::Left),
        ];
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let rows = [row(["a", "1", "x y"]), row(["längste", "12345", ""])];
        assert_eq!(
            written(&columns, &rows, None),
            "NAME         N  REST\na            1  x y\nlängste  12345\n"
        );
        assert_eq!(
            written(&columns, &rows, Some(20)),
            written(&columns, &rows, None)
        );
    }

    #[test]
    fn what_does_not_fit_follows_below() {
        let columns = [
            ("NAME", Align::Left),
            ("N", Align::Right),
            ("M", Align::Right),
            ("", Align::Left),
        ];
        let row = |cells: [&str; 4]| cells.map(str::to_owned).to_vec();
        let rows = [
            row(["ann", "12", "345", "tcp://here:1 tcp://there:2"]),
            row(["bob", "1", "2", ""]),
        ];
        for (within, expected) in [
            (
                41,
                "NAME   N    M\nann   12  345  tcp://here:1 tcp://there:2\nbob    1    2\n",
            ),
            (
                30,
                "NAME  N   M\nann  12 345\n  tcp://here:1 tcp://there:2\nbob   1   2\n",
            ),
            (
                20,
                "NAME  N   M\nann  12 345\n  tcp://here:1\n  tcp://there:2\nbob   1   2\n",
            ),
            (
                10,
                "NAME  N\nann  12\n  M 345\n  tcp://here:1\n  tcp://there:2\nbob   1\n  M 2\n",
            ),
        ] {
            assert_eq!(written(&columns, &rows, Some(within)), expected, "{within}");
        }
    }

    #[test]
    fn nothing_that_a_terminal_acts_on_gets_through() {
        assert_eq!(plain("a\x1b[31mb\nc"), "a\u{fffd}[31mb c");
    }
}
