//! How times are spread: a histogram that is fine enough for quantiles.

use super::meters::Counter;

/// Counts of times in buckets that are an eighth as wide as what they count: a quantile is at most 6 % off, and the shortest times are told in steps of 16 ns. One thread
/// writes, as with every counter.
#[derive(Debug)]
pub(crate) struct Spread([Counter; BUCKETS]);

impl Spread {
    /// Counts a time, which stands for so many.
    pub(super) fn count(&self, nanoseconds: u64, weight: u64) {
        if let Some(counter) = self.0.get(bucket(nanoseconds)) {
            counter.add(weight);
        }
    }

    /// Adds what another one counted.
    pub(super) fn absorb(&self, other: &Self) {
        for (counter, other) in self.0.iter().zip(&other.0) {
            counter.add(other.value());
        }
    }
}

impl Default for Spread {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

/// The sum of what several counted, at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Times(Vec<u64>);

impl Times {
    /// Adds what one counted.
    pub(crate) fn add(&mut self, spread: &Spread) {
        self.0.resize(BUCKETS, 0);
        for (sum, counter) in self.0.iter_mut().zip(&spread.0) {
            *sum = sum.saturating_add(counter.value());
        }
    }

    /// Returns the buckets that are not empty: the time that stands for each, in nanoseconds, and how many calls took about so long.
    pub(crate) fn buckets(&self) -> Vec<(u64, u64)> {
        let counted = self.0.iter().enumerate().filter(|(_, count)| **count > 0);
        counted
            .map(|(index, count)| (middle(index), *count))
            .collect()
    }
}

/// Returns the time in nanoseconds that this share of the calls did not exceed; none without a call. The buckets are in order.
pub(crate) fn quantile(buckets: &[(u64, u64)], share: f64) -> Option<u64> {
    let total: u64 = buckets.iter().map(|(_, count)| count).sum();
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank may be one off among 2^52"
    )]
    let rank = ((total as f64 * share).ceil() as u64).max(1);
    let mut below = 0;
    let found = buckets.iter().find(|(_, count)| {
        below += count;
        below >= rank
    });
    found.map(|(time, _)| *time)
}

fn bucket(nanoseconds: u64) -> usize {
    let steps = nanoseconds / STEP;
    if steps < PARTS {
        return usize::try_from(steps).unwrap_or_default();
    }
    // The three bits after the highest one.
    let octave = u64::from(steps.ilog2()) - 3;
    let part = (steps >> octave) - PARTS;
    let index = (octave + 1) * PARTS + part;
    usize::try_from(index).unwrap_or(BUCKETS).min(BUCKETS - 1)
}

/// Returns the middle of a bucket.
fn middle(bucket: usize) -> u64 {
    let index = u64::try_from(bucket).unwrap_or(u64::MAX);
    let (octave, part) = (index / PARTS, index % PARTS);
    match octave.checked_sub(1) {
        None => part * STEP + STEP / 2,
        Some(octave) => (((PARTS + part) * STEP) << octave) + (STEP << octave) / 2,
    }
}

/// The narrowest bucket: 16 ns, a fraction of the shortest call.
const STEP: u64 = 16;

/// Buckets for each doubling of the time.
const PARTS: u64 = 8;

/// Up to some 68 s, and beyond: 2 KiB.
const BUCKETS: usize = 240;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_near_the_time_that_was_counted() {
        for nanoseconds in [
            0,
            15,
            16,
            127,
            128,
            129,
            300,
            5_000,
            1_234_567,
            30_000_000_000,
        ] {
            let spread = Spread::default();
            spread.count(nanoseconds, 3);
            let mut times = Times::default();
            times.add(&spread);
            times.add(&spread);
            assert_eq!(times.buckets().len(), 1);
            assert_eq!(times.buckets()[0].1, 6);
            let told = quantile(&times.buckets(), 0.5).unwrap();
            let most = 8 + nanoseconds / 15;
            assert!(told.abs_diff(nanoseconds) <= most, "{nanoseconds}: {told}");
        }
    }

    #[test]
    fn buckets_are_in_order_without_a_gap() {
        for index in 0..BUCKETS - 1 {
            assert_eq!(bucket(middle(index)), index);
            assert!(middle(index) < middle(index + 1));
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_of_many_are_told_apart() {
        let spread = Spread::default();
        spread.count(1_000, 98);
        spread.count(1_000_000, 2);
        let mut times = Times::default();
        times.add(&spread);
        let buckets = times.buckets();
        let [half, most] = [0.5, 0.99].map(|share| quantile(&buckets, share).unwrap());
        assert!((900..1_100).contains(&half), "{half}");
        assert!((900_000..1_100_000).contains(&most), "{most}");
        assert_eq!(quantile(&[], 0.5), None);
    }
}
