//! The terminal: raw, on its other screen, written to in ANSI's own sequences, and given back as it was.

use std::{
    fmt::Write as _,
    io::{self, Read as _, Write as _},
    panic,
    sync::{Mutex, Once, PoisonError},
    thread,
};

use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use ratatui::{
    backend::{Backend, WindowSize},
    buffer::Cell,
    layout::{Position, Size},
    style::{Color, Modifier},
};
use tokio::sync::mpsc;

/// The terminal as a screen, until it is dropped. A panic gives it back too, before it is reported.
pub(super) struct Raw;

/// What the terminal was like before it was taken.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

impl Raw {
    pub(super) fn enter() -> io::Result<Self> {
        static ON_PANIC: Once = Once::new();
        ON_PANIC.call_once(|| {
            let report = panic::take_hook();
            panic::set_hook(Box::new(move |panic| {
                give_back();
                report(panic);
            }));
        });
        let stdin = io::stdin();
        let before = tcgetattr(&stdin)?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
        tcsetattr(&stdin, SetArg::TCSADRAIN, &raw)?;
        // The other screen, without a cursor.
        write_out("\x1b[?1049h\x1b[?25l")?;
        Ok(Self)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        give_back();
    }
}

fn give_back() {
    let before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(before) = before {
        // There is nobody to tell if the terminal is gone.
        let _gone = write_out("\x1b[0m\x1b[?25h\x1b[?1049l");
        let _gone = tcsetattr(io::stdin(), SetArg::TCSADRAIN, &before);
    }
}

fn write_out(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// What was typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Quit,
    /// The next column.
    Next,
    Previous,
    Reverse,
    Look,
}

impl Key {
    fn of(byte: u8) -> Option<Self> {
        match byte {
            // In raw mode Ctrl-C is a byte, and so is Ctrl-D.
            b'q' | b'Q' | 3 | 4 => Some(Self::Quit),
            b's' | b'>' | b'.' => Some(Self::Next),
            b'S' | b'<' | b',' => Some(Self::Previous),
            b'r' => Some(Self::Reverse),
            b' ' => Some(Self::Look),
            _ => None,
        }
    }
}

/// The keys as they are typed. They are read on a thread of their own, which waits for the next one until the process ends.
pub(super) struct Keys(mpsc::Receiver<Key>);

impl Keys {
    pub(super) fn start() -> io::Result<Self> {
        let (sender, keys) = mpsc::channel(KEYS);
        thread::Builder::new()
            .name("keys".to_owned())
            .spawn(move || {
                let typed = io::stdin().lock().bytes().map_while(Result::ok);
                for key in typed.filter_map(Key::of) {
                    if sender.blocking_send(key).is_err() {
                        return;
                    }
                }
            })?;
        Ok(Self(keys))
    }

    /// Waits for the next one; none at the end of the input.
    pub(super) async fn next(&mut self) -> Option<Key> {
        self.0.recv().await
    }
}

/// Keys that wait to be looked at: 16, more than anybody types meanwhile.
const KEYS: usize = 16;

/// Writes what changed of a screen. ratatui has others do that; each of them brings a crate and a way of reading keys with it.
#[derive(Debug, Default)]
pub(super) struct Ansi {
    /// What is to be written at the end of the frame.
    pending: String,
}

impl Backend for Ansi {
    fn draw<'a, I>(&mut self, content: I) -> io::Result<()>
    where
        I: Iterator<Item = (u16, u16, &'a Cell)>,
    {
        let mut style = None;
        let mut next = None;
        for (x, y, cell) in content {
            if next != Some((x, y)) {
                self.move_to(x, y);
            }
            let now = (cell.fg, cell.bg, cell.modifier);
            if style != Some(now) {
                self.set_style(now);
                style = Some(now);
            }
            self.pending.push_str(cell.symbol());
            let width = unicode_width::UnicodeWidthStr::width(cell.symbol());
            next = u16::try_from(width)
                .ok()
                .map(|width| (x.saturating_add(width), y));
        }
        self.pending.push_str("\x1b[0m");
        Ok(())
    }

    fn hide_cursor(&mut self) -> io::Result<()> {
        self.pending.push_str("\x1b[?25l");
        Ok(())
    }

    fn show_cursor(&mut self) -> io::Result<()> {
        self.pending.push_str("\x1b[?25h");
        Ok(())
    }

    fn get_cursor_position(&mut self) -> io::Result<Position> {
        // Only inline screens ask.
        Ok(Position::ORIGIN)
    }

    fn set_cursor_position<P: Into<Position>>(&mut self, position: P) -> io::Result<()> {
        let Position { x, y } = position.into();
        self.move_to(x, y);
        Ok(())
    }

    fn clear(&mut self) -> io::Result<()> {
        self.pending.push_str("\x1b[0m\x1b[2J");
        Ok(())
    }

    fn size(&self) -> io::Result<Size> {
        let size = terminal_size::terminal_size();
        let size = size.map(|(width, height)| Size::new(width.0, height.0));
        // One that does not know, or says nothing of itself.
        let known = size.filter(|size| size.width > 0 && size.height > 0);
        Ok(known.unwrap_or(Size::new(80, 24)))
    }

    fn window_size(&mut self) -> io::Result<WindowSize> {
        Ok(WindowSize {
            columns_rows: self.size()?,
            pixels: Size::ZERO,
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        write_out(&std::mem::take(&mut self.pending))
    }
}

impl Ansi {
    fn move_to(&mut self, x: u16, y: u16) {
        self.write(format_args!(
            "\x1b[{};{}H",
            u32::from(y) + 1,
            u32::from(x) + 1
        ));
    }

    fn set_style(&mut self, (foreground, _, modifier): (Color, Color, Modifier)) {
        self.pending.push_str("\x1b[0m");
        for (is_on, code) in [
            (modifier.contains(Modifier::BOLD), 1),
            (modifier.contains(Modifier::DIM), 2),
            (modifier.contains(Modifier::UNDERLINED), 4),
            (modifier.contains(Modifier::REVERSED), 7),
            (foreground == Color::Red, 31),
            (foreground == Color::Green, 32),
            (foreground == Color::Yellow, 33),
        ] {
            if is_on {
                self.write(format_args!("\x1b[{code}m"));
            }
        }
    }

    fn write(&mut self, text: std::fmt::Arguments<'_>) {
        let written = self.pending.write_fmt(text);
        // A string takes everything.
        debug_assert!(written.is_ok());
    }
}
