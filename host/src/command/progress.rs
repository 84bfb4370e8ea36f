//! Progress bars: what the plugin says of them is noted at once, and a thread of its own draws, so that no worker waits for a terminal.

use std::{
    mem,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
        mpsc,
    },
    thread::{self, Thread},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::canvas::{Canvas, Line};
use crate::imports::log::escape;

/// What is drawn on standard error, or would be if it were a terminal.
pub(crate) struct Screen {
    /// None: nothing is ever drawn.
    drawn: Option<Mutex<Drawn>>,
    /// The bars that were not drawn yet.
    new: Mutex<Vec<Arc<Shared>>>,
    /// Bars that are new, or drawn, and not finished: at most [`BARS`].
    count: AtomicUsize,
    painter: Mutex<Option<Painter>>,
    closed: AtomicBool,
}

/// What is drawn. Whoever locks it may wait for the terminal, and so no worker does.
struct Drawn {
    canvas: Canvas,
    bars: Vec<(Arc<Shared>, ProgressBar, Line)>,
}

/// The thread that draws.
struct Painter {
    thread: Thread,
    /// Disconnected once the thread has ended.
    ended: mpsc::Receiver<()>,
}

/// A plugin's handle of a bar.
#[expect(unreachable_pub, reason = "the bindings name it")]
pub struct Bar {
    shared: Option<Arc<Shared>>,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Bytes,
    Items,
}

/// What the plugin has said of a bar last.
struct Shared {
    unit: Unit,
    done: AtomicU64,
    /// [`UNKNOWN`] if it is not known.
    total: AtomicU64,
    message: Mutex<String>,
    finished: AtomicBool,
    dropped: AtomicBool,
}

impl Screen {
    /// Makes one that draws, or does not.
    pub(crate) fn new(draws: bool) -> Arc<Self> {
        let canvas = draws.then(Canvas::on_standard_error).transpose();
        let canvas = canvas.unwrap_or_else(|error| {
            tracing::debug!(%error, "no progress is drawn");
            None
        });
        let bars = Vec::new();
        Arc::new(Self {
            drawn: canvas.map(|canvas| Mutex::new(Drawn { canvas, bars })),
            new: Mutex::default(),
            count: AtomicUsize::new(0),
            painter: Mutex::default(),
            closed: AtomicBool::new(false),
        })
    }

    /// Makes a bar. It is not drawn if nothing is, or if there are too many.
    pub(crate) fn bar(self: &Arc<Self>, unit: Unit, total: Option<u64>) -> Bar {
        let order = Ordering::Relaxed;
        let admitted = self.drawn.is_some()
            && self
                .count
                .fetch_update(order, order, |count| (count < BARS).then_some(count + 1))
                .is_ok();
        if !admitted {
            return Bar::nowhere();
        }
        let shared = Arc::new(Shared {
            unit,
            done: AtomicU64::new(0),
            total: AtomicU64::new(total.unwrap_or(UNKNOWN)),
            message: Mutex::default(),
            finished: AtomicBool::new(false),
            dropped: AtomicBool::new(false),
        });
        lock(&self.new).push(shared.clone());
        self.start_painter();
        Bar {
            shared: Some(shared),
        }
    }

    fn start_painter(self: &Arc<Self>) {
        let mut painter = lock(&self.painter);
        if painter.is_some() {
            return;
        }
        let screen = self.clone();
        let (alive, ended) = mpsc::channel();
        let started = thread::Builder::new()
            .name("nethost-progress".to_owned())
            .spawn(move || {
                let _alive: mpsc::Sender<()> = alive;
                screen.paint();
            });
        match started {
            Ok(started) => {
                let thread = started.thread().clone();
                *painter = Some(Painter { thread, ended });
            }
            Err(error) => tracing::debug!(%error, "no thread to draw progress"),
        }
    }

    /// Does something that writes to the terminal, with the bars out of its way, and below those that are finished. `ends_row` says whether the cursor is where a row
    /// begins after it.
    pub(crate) fn suspend<T>(&self, ends_row: bool, write: impl FnOnce() -> T) -> T {
        let Some(drawn) = &self.drawn else {
            return write();
        };
        let mut drawn = lock(drawn);
        self.keep_finished(&mut drawn);
        let written = drawn.canvas.write(ends_row, write);
        drawn.draw();
        written
    }

    /// Draws what was said last, for the last time: bars that are finished stay, others go. Waits for a terminal that takes nothing, but not for long.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        let painter = lock(&self.painter).take();
        if let Some(Painter { thread, ended }) = painter {
            thread.unpark();
            let _ended = ended.recv_timeout(CLOSING);
        }
    }

    /// Draws all bars again and again, until the screen is closed.
    fn paint(&self) {
        let Some(drawn) = &self.drawn else { return };
        while !self.closed.load(Ordering::Acquire) {
            let mut drawn = lock(drawn);
            self.keep_finished(&mut drawn);
            for (shared, bar, _) in &drawn.bars {
                shared.show(bar);
                bar.tick();
            }
            drawn.draw();
            drop(drawn);
            thread::park_timeout(INTERVAL);
        }
        let mut drawn = lock(drawn);
        self.keep_finished(&mut drawn);
        drawn.bars.clear();
        drawn.draw();
    }

    /// Takes in the bars that are new, and lets go of those that are finished, which stay as they are, and of those that were dropped.
    fn keep_finished(&self, drawn: &mut Drawn) {
        let Drawn { canvas, bars } = drawn;
        for shared in mem::take(&mut *lock(&self.new)) {
            let line = Line::default();
            let target = ProgressDrawTarget::term_like(Box::new(line.clone()));
            let bar = ProgressBar::with_draw_target(None, target);
            bar.set_style(shared.style());
            bars.push((shared, bar, line));
        }
        bars.retain(|(shared, bar, line)| {
            // Its handle finishes it before it is dropped.
            let dropped = shared.dropped.load(Ordering::Acquire);
            let finished = shared.finished.load(Ordering::Acquire);
            if finished {
                shared.show(bar);
                bar.abandon();
                canvas.keep(&line.shown());
            }
            let stays = !finished && !dropped;
            if !stays {
                self.count.fetch_sub(1, Ordering::Relaxed);
            }
            stays
        });
    }
}

impl Drawn {
    fn draw(&mut self) {
        let lines = self.bars.iter().map(|(_, _, line)| line.shown());
        let lines: Vec<_> = lines.filter(|line| !line.is_empty()).collect();
        self.canvas.draw(&lines);
    }
}

impl Shared {
    /// Brings the bar up to date.
    fn show(&self, bar: &ProgressBar) {
        let total = self.total.load(Ordering::Relaxed);
        let total = Some(total).filter(|total| *total != UNKNOWN);
        if total != bar.length() {
            match total {
                Some(total) => bar.set_length(total),
                None => bar.unset_length(),
            }
            bar.set_style(self.style());
        }
        bar.set_position(self.done.load(Ordering::Relaxed));
        let message = lock(&self.message).clone();
        if message != bar.message() {
            bar.set_message(message);
        }
    }

    fn style(&self) -> ProgressStyle {
        let known = self.total.load(Ordering::Relaxed) != UNKNOWN;
        let template = match (self.unit, known) {
            (Unit::Bytes, true) => {
                "{msg} {percent:>3}% [{bar:30}] {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}"
            }
            (Unit::Bytes, false) => {
                "{msg} {spinner} {binary_bytes} {binary_bytes_per_sec} {elapsed}"
            }
            (Unit::Items, true) => "{msg} {percent:>3}% [{bar:30}] {pos}/{len} {eta}",
            (Unit::Items, false) => "{msg} {spinner} {pos} {elapsed}",
        };
        ProgressStyle::with_template(template)
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("=> ")
    }
}

impl Bar {
    /// Makes one that is not drawn.
    pub(crate) fn nowhere() -> Self {
        Self { shared: None }
    }

    /// So much is done.
    pub(crate) fn set(&self, done: u64) {
        if let Some(shared) = &self.shared {
            shared.done.store(done, Ordering::Relaxed);
        }
    }

    /// So much there is.
    pub(crate) fn set_total(&self, total: Option<u64>) {
        if let Some(shared) = &self.shared {
            let total = total.unwrap_or(UNKNOWN);
            shared.total.store(total, Ordering::Relaxed);
        }
    }

    /// Says something beside it.
    pub(crate) fn set_message(&self, message: &str) {
        if let Some(shared) = &self.shared {
            let line = message.lines().next().unwrap_or_default();
            let mut end = line.len().min(MESSAGE);
            while !line.is_char_boundary(end) {
                end -= 1;
            }
            *lock(&shared.message) = escape(line.get(..end).unwrap_or_default());
        }
    }

    /// It is done, and stays on the screen.
    pub(crate) fn finish(&self) {
        if let Some(shared) = &self.shared {
            shared.finished.store(true, Ordering::Release);
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(shared) = &self.shared {
            shared.dropped.store(true, Ordering::Release);
        }
    }
}

impl std::fmt::Debug for Bar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Bar")
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bars at a time, as the contract says.
const BARS: usize = 16;

/// Bytes of a message, as the contract says.
const MESSAGE: usize = 256;

/// There is no total.
const UNKNOWN: u64 = u64::MAX;

/// Between two looks at what the plugin said: 100 ms, and so ten times a second, as the contract says.
const INTERVAL: Duration = Duration::from_millis(100);

/// How long a terminal that takes nothing may keep the process from its end: 200 ms.
const CLOSING: Duration = Duration::from_millis(200);
