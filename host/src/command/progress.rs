//! Progress bars: what the plugin says of them is noted at once, and a thread of its own draws, so that no worker waits for a terminal.

use std::{
    mem,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::imports::log::escape;

/// What is drawn on standard error, or would be if it were a terminal.
pub(crate) struct Screen {
    /// None: nothing is ever drawn.
    drawn: Option<MultiProgress>,
    /// The bars that the thread has not seen yet.
    new: Mutex<Vec<Arc<Shared>>>,
    count: AtomicUsize,
    thread: Mutex<Option<JoinHandle<()>>>,
    closed: AtomicBool,
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
        let target = || ProgressDrawTarget::stderr_with_hz(RATE);
        Arc::new(Self {
            drawn: draws.then(|| MultiProgress::with_draw_target(target())),
            new: Mutex::default(),
            count: AtomicUsize::new(0),
            thread: Mutex::default(),
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
        let mut thread = lock(&self.thread);
        if thread.is_none() {
            let screen = self.clone();
            let started = thread::Builder::new()
                .name("nethost-progress".to_owned())
                .spawn(move || screen.draw());
            match started {
                Ok(started) => *thread = Some(started),
                Err(error) => tracing::debug!(%error, "no thread to draw progress"),
            }
        }
        Bar {
            shared: Some(shared),
        }
    }

    /// Does something that writes to the terminal, with the bars out of its way.
    pub(crate) fn suspend<T>(&self, write: impl FnOnce() -> T) -> T {
        match &self.drawn {
            Some(drawn) => drawn.suspend(write),
            None => write(),
        }
    }

    /// Draws what was said last, for the last time: bars that are finished stay, others go.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        let thread = lock(&self.thread).take();
        if let Some(thread) = thread {
            thread.thread().unpark();
            // One that panicked has drawn what it could.
            let _panicked = thread.join();
        }
    }

    fn draw(&self) {
        let Some(drawn) = &self.drawn else { return };
        let mut bars: Vec<(Arc<Shared>, ProgressBar)> = Vec::new();
        loop {
            let closed = self.closed.load(Ordering::Acquire);
            for shared in mem::take(&mut *lock(&self.new)) {
                let bar = drawn.add(ProgressBar::no_length());
                bar.set_style(shared.style());
                bars.push((shared, bar));
            }
            bars.retain(|(shared, bar)| {
                let stays = shared.show(bar);
                if !stays {
                    self.count.fetch_sub(1, Ordering::Relaxed);
                }
                stays
            });
            if closed {
                for (_, bar) in bars {
                    bar.finish_and_clear();
                }
                return;
            }
            thread::park_timeout(INTERVAL);
        }
    }
}

impl Shared {
    /// Brings the bar on the screen up to date. Returns whether it may still change.
    fn show(&self, bar: &ProgressBar) -> bool {
        let dropped = self.dropped.load(Ordering::Acquire);
        let finished = self.finished.load(Ordering::Acquire);
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
        if finished {
            bar.abandon();
        } else if dropped {
            bar.finish_and_clear();
        } else {
            bar.tick();
        }
        !finished && !dropped
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

/// Nobody holds one of these while the terminal is written to.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bars at a time, as the contract says.
const BARS: usize = 16;

/// Bytes of a message, as the contract says.
const MESSAGE: usize = 256;

/// There is no total.
const UNKNOWN: u64 = u64::MAX;

/// Times a second that something is drawn, as the contract says.
const RATE: u8 = 10;

/// Between two looks at what the plugin said: 100 ms.
const INTERVAL: Duration = Duration::from_millis(100);
