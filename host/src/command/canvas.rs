//! The rows of a terminal that bars are drawn on: below all that is written, and out of the way while something is.
//!
//! What indicatif draws goes to a text in memory, and from there to the terminal in one write: its own way to a terminal panics when that is gone.

use std::{
    fmt::Write as _,
    fs::File,
    io::{self, Write as _},
    mem,
    os::fd::AsFd as _,
    sync::{Arc, Mutex, PoisonError},
};

use indicatif::TermLike;
use terminal_size::terminal_size_of;
use unicode_width::UnicodeWidthChar as _;

/// A terminal, and what is known of where its cursor is.
#[derive(Debug)]
pub(super) struct Canvas {
    terminal: File,
    /// Rows right above the cursor that bars are on.
    rows: usize,
    /// Whether the cursor is where a row begins. Nothing is drawn elsewhere: it would erase what somebody wrote.
    at_start: bool,
}

/// What a bar looks like: the line that indicatif drew last.
#[derive(Clone, Debug, Default)]
pub(super) struct Line(Arc<Mutex<Drawing>>);

#[derive(Debug, Default)]
struct Drawing {
    begun: String,
    shown: String,
}

impl Canvas {
    /// Draws on standard error.
    pub(super) fn on_standard_error() -> io::Result<Self> {
        // Not by way of the standard library, whose lock would stop who ends the process while the terminal takes nothing.
        let terminal = io::stderr().as_fd().try_clone_to_owned()?;
        Ok(Self {
            terminal: terminal.into(),
            rows: 0,
            at_start: true,
        })
    }

    /// Does something that writes to the terminal. `ends_row` says whether the cursor is where a row begins after it.
    pub(super) fn write<T>(&mut self, ends_row: bool, write: impl FnOnce() -> T) -> T {
        self.clear();
        let written = write();
        self.at_start = ends_row;
        written
    }

    /// Draws these lines in the place of those that are there.
    pub(super) fn draw(&mut self, lines: &[String]) {
        if !self.at_start || (lines.is_empty() && self.rows == 0) {
            return;
        }
        let size = terminal_size_of(self.terminal.as_fd());
        let (columns, rows) = size.map_or(SIZE, |(columns, rows)| (columns.0, rows.0));
        let mut text = self.home();
        self.rows = 0;
        // Those that scrolled out of sight could not be erased.
        for line in lines.iter().take(usize::from(rows.saturating_sub(1))) {
            text.push_str(cut(line, usize::from(columns.saturating_sub(1))));
            text.push_str(NEXT_ROW);
            self.rows += 1;
        }
        text.push_str(ERASE_BELOW);
        self.send(&text);
    }

    /// Writes a line that stays, above all that is drawn or written later.
    pub(super) fn keep(&mut self, line: &str) {
        self.clear();
        let before = if self.at_start { "" } else { "\r\n" };
        self.send(&format!("{before}{line}\r\n"));
        self.at_start = true;
    }

    fn clear(&mut self) {
        if self.rows > 0 {
            let home = self.home();
            self.send(&format!("{home}{ERASE_BELOW}"));
            self.rows = 0;
        }
    }

    /// Returns what brings the cursor to the first row that is drawn on.
    fn home(&self) -> String {
        let mut text = String::new();
        if self.rows > 0 {
            // A text takes everything.
            let _written = write!(text, "\r\x1b[{}A", self.rows);
        }
        text
    }

    /// Of a terminal that is gone nobody sees what is drawn.
    fn send(&mut self, text: &str) {
        if let Err(error) = self.terminal.write_all(text.as_bytes()) {
            tracing::debug!(%error, "drawing progress");
        }
    }
}

impl Line {
    /// Returns the line; nothing if there is none to be shown.
    pub(super) fn shown(&self) -> String {
        self.drawing(|drawing| drawing.shown.clone())
    }

    fn drawing<T>(&self, see: impl FnOnce(&mut Drawing) -> T) -> T {
        see(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A bar is a single line, and so the cursor goes nowhere.
impl TermLike for Line {
    fn width(&self) -> u16 {
        SIZE.0
    }

    fn height(&self) -> u16 {
        u16::MAX
    }

    fn move_cursor_up(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_down(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_right(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_left(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.write_str(text)
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.drawing(|drawing| drawing.begun.push_str(text));
        Ok(())
    }

    fn clear_line(&self) -> io::Result<()> {
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        self.drawing(|drawing| {
            let line = mem::take(&mut drawing.begun);
            drawing.shown = line.trim_end().to_owned();
        });
        Ok(())
    }
}

/// Returns as much of a line as so many columns hold.
fn cut(line: &str, columns: usize) -> &str {
    let mut width = 0;
    let end = line.char_indices().find(|(_, it)| {
        width += it.width().unwrap_or(0);
        width > columns
    });
    let (cut, _) = line.split_at(end.map_or(line.len(), |(end, _)| end));
    cut
}

/// Erases the rest of this row, and goes to the next one, also if the terminal is raw.
const NEXT_ROW: &str = "\x1b[K\r\n";

const ERASE_BELOW: &str = "\x1b[J";

/// Columns and rows of a terminal that does not tell.
const SIZE: (u16, u16) = (80, 24);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_to_the_columns_that_it_takes() {
        for (line, columns, expected) in [
            ("abc", 3, "abc"),
            ("abc", 2, "ab"),
            ("abc", 0, ""),
            ("", 5, ""),
            ("漢字x", 3, "漢"),
            ("漢字x", 4, "漢字"),
            ("grün", 3, "grü"),
        ] {
            assert_eq!(cut(line, columns), expected, "{line} {columns}");
        }
    }

    #[test]
    fn a_line_is_what_was_drawn_last() {
        let line = Line::default();
        let bar = indicatif::ProgressBar::with_draw_target(
            Some(4),
            indicatif::ProgressDrawTarget::term_like(Box::new(line.clone())),
        );
        bar.set_style(indicatif::ProgressStyle::with_template("{pos} of {len} {msg}").unwrap());
        bar.set_position(1);
        bar.tick();
        assert_eq!(line.shown(), "1 of 4");
        bar.set_message("x".repeat(1000));
        assert_eq!(line.shown().len(), "1 of 4 ".len() + 1000);
        bar.set_message("");
        bar.set_position(2);
        bar.abandon();
        assert_eq!(line.shown(), "2 of 4");
    }
}
