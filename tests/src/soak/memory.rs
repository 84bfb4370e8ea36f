//! What the host's memory does: sampled every second.

use std::{
    fs,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// A watch that runs.
pub(super) struct Memory {
    running: JoinHandle<()>,
    samples: Arc<Mutex<Vec<Sample>>>,
    warm_up: Duration,
}

/// Seconds since the beginning, and MiB.
type Sample = (f64, f64);

/// What was seen; in MiB.
pub(super) struct Outcome {
    /// A minute, after the warm-up.
    pub(super) slope: f64,
    /// How far it went above what was the most during the warm-up.
    pub(super) above: f64,
    /// At the end of the warm-up, at most afterwards, and at the end.
    pub(super) resident: [f64; 3],
}

impl Memory {
    /// Watches a process that is to run for `time`: its first minute is the warm-up, or half of the time if that is shorter.
    pub(super) fn watch(process: u32, time: Duration, stop: &Arc<AtomicBool>) -> Self {
        let samples = Arc::<Mutex<Vec<Sample>>>::default();
        let (sink, stop) = (samples.clone(), stop.clone());
        let running = thread::spawn(move || {
            let begin = Instant::now();
            while !stop.load(Ordering::Relaxed) {
                if let Some(now) = resident(process) {
                    let mut samples = sink.lock().unwrap_or_else(PoisonError::into_inner);
                    samples.push((begin.elapsed().as_secs_f64(), now));
                }
                thread::sleep(PERIOD);
            }
        });
        Self {
            running,
            samples,
            warm_up: WARM_UP.min(time / 2),
        }
    }

    /// Returns the last sample, in MiB.
    pub(super) fn last(&self) -> f64 {
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        samples.last().map_or(0.0, |(_, resident)| *resident)
    }

    pub(super) fn finish(self) -> Outcome {
        let _ended = self.running.join();
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let warm_up = self.warm_up.as_secs_f64();
        let (before, after): (Vec<Sample>, Vec<Sample>) =
            samples.iter().partition(|(time, _)| *time < warm_up);
        let most = |samples: &[Sample]| samples.iter().map(|it| it.1).fold(0.0, f64::max);
        let last = |samples: &[Sample]| samples.last().map_or(0.0, |it| it.1);
        Outcome {
            slope: slope(&after) * 60.0,
            above: (most(&after) - most(&before)).max(0.0),
            resident: [last(&before), most(&after), last(&after)],
        }
    }
}

/// The slope of the line that fits best (least squares), a second.
fn slope(samples: &[Sample]) -> f64 {
    let count = samples.len() as f64;
    let mean = |of: fn(&Sample) -> f64| samples.iter().map(of).sum::<f64>() / count.max(1.0);
    let (time, resident) = (mean(|it| it.0), mean(|it| it.1));
    let deviations = samples.iter().map(|it| (it.0 - time, it.1 - resident));
    let (products, squares) = deviations.fold((0.0, 0.0), |(products, squares), (x, y)| {
        (products + x * y, squares + x * x)
    });
    if squares > 0.0 {
        products / squares
    } else {
        0.0
    }
}

fn resident(process: u32) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: f64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes / 1024.0)
}

const WARM_UP: Duration = Duration::from_secs(60);

const PERIOD: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slope_is_that_of_the_line() {
        let flat: Vec<Sample> = (0..10).map(|at| (f64::from(at), 5.0)).collect();
        let rising: Vec<Sample> = (0..10)
            .map(|at| (f64::from(at), f64::from(at) * 2.0))
            .collect();
        assert!(slope(&flat).abs() < 1e-9);
        assert!((slope(&rising) - 2.0).abs() < 1e-9);
        assert!(slope(&[]).abs() < 1e-9);
    }
}
