//! Whether two sets of samples differ. Plain functions of numbers; knows no program and no clock.
//!
//! Times of runs have a sharp lower edge and a long tail, so nothing here supposes a shape: medians, and the interval that
//! belongs to the test of Mann and Whitney (1947). Times are compared as quotients: of all quotients of a sample now and
//! one before, the median is the estimate of Hodges and Lehmann (1963), and the quotients at the ranks that the test would
//! only just refuse are the ends of the interval (Moses 1965; Hollander and Wolfe, Nonparametric Statistical Methods,
//! 4.3). Ranks are by the normal approximation, which is good from about seven samples each.
//!
//! The test supposes that samples know nothing of each other, but those that follow each other do: what disturbs one is
//! often still there at the next. So medians of stretches of time are compared, of which there are [`STRETCHES`].

use std::cmp::Ordering;

/// Quantile of the normal distribution for an interval of 99%.
const Z: f64 = 2.5758;

/// How many pieces the time of measuring is cut into, where there are enough samples.
const STRETCHES: usize = 10;

/// Differences below this are none: code and data that lie elsewhere make as much.
pub(crate) const LEAST_CHANGE: f64 = 0.05;

/// The one in the middle, or the mean of the two; NaN of none.
pub(crate) fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        len if len % 2 == 1 => sorted[len / 2],
        len => f64::midpoint(sorted[len / 2 - 1], sorted[len / 2]),
    }
}

/// The width of the middle half, over the median.
pub(crate) fn spread(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let quartile = |number: usize| sorted.get(sorted.len().saturating_sub(1) * number / 4).copied().unwrap_or(f64::NAN);
    (quartile(3) - quartile(1)) / median(samples)
}

/// Medians of the samples of each stretch of time.
fn stretches(samples: &[f64]) -> Vec<f64> {
    if samples.len() < 2 * STRETCHES {
        return samples.to_vec();
    }
    let bound = |stretch: usize| stretch * samples.len() / STRETCHES;
    (0..STRETCHES).map(|stretch| median(&samples[bound(stretch)..bound(stretch + 1)])).collect()
}

/// How times now compare with times before.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Change {
    /// Times now over times before.
    pub(crate) ratio: f64,
    /// Ends of the interval of 99% around it.
    pub(crate) low: f64,
    pub(crate) high: f64,
    /// The greater spread of the two: differences below it are what the machine makes.
    pub(crate) spread: f64,
}

impl Change {
    /// Of samples in the order of time. `None` where there are too few to say anything.
    pub(crate) fn between(before: &[f64], now: &[f64]) -> Option<Change> {
        let spread = spread(before).max(spread(now));
        let (before, now) = (stretches(before), stretches(now));
        let mut ratios: Vec<f64> = now.iter().flat_map(|now| before.iter().map(move |before| now / before)).collect();
        ratios.sort_by(f64::total_cmp);
        let (m, n) = (before.len() as f64, now.len() as f64);
        // Ranks that are as unlikely as the level says, where the samples are from the same source.
        let rank = (m * n / 2.0 - Z * (m * n * (m + n + 1.0) / 12.0).sqrt()).floor();
        if rank < 1.0 || !ratios.iter().all(|ratio| ratio.is_finite()) {
            return None;
        }
        let rank = rank as usize;
        Some(Change { ratio: median(&ratios), low: ratios[rank - 1], high: ratios[ratios.len() - rank], spread })
    }

    /// Slower ([`Ordering::Greater`]) or faster, significantly; else [`Ordering::Equal`].
    pub(crate) fn verdict(&self) -> Ordering {
        let least = 1.0 + LEAST_CHANGE.max(self.spread);
        if self.low > 1.0 && self.ratio >= least {
            Ordering::Greater
        } else if self.high < 1.0 && self.ratio <= 1.0 / least {
            Ordering::Less
        } else {
            Ordering::Equal
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers with a lower edge and a tail, as times have.
    fn times(seed: u64, count: usize, scale: f64) -> Vec<f64> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut uniform = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as f64 / (1_u64 << 53) as f64
        };
        (0..100).for_each(|_| _ = uniform());
        (0..count).map(|_| scale * (1.0 - 0.05 * (1.0 - uniform()).ln())).collect()
    }

    fn verdict(before: &[f64], now: &[f64]) -> Ordering {
        Change::between(before, now).expect("enough samples").verdict()
    }

    #[test]
    fn medians_and_spreads() {
        assert!((median(&[5.0, 1.0, 3.0]) - 3.0).abs() < 1e-12 && (median(&[4.0, 1.0, 3.0, 2.0]) - 2.5).abs() < 1e-12);
        assert!(median(&[]).is_nan() && spread(&[]).is_nan());
        assert!((spread(&[1.0, 2.0, 3.0, 4.0, 5.0]) - 2.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn the_interval_is_that_of_the_test() {
        // 10 and 10 samples: 50 - 2.5758 * sqrt(175) = 15.9, so the 15th quotient from either end. The exact table of the
        // test has 16 as the largest rank sum to refuse at 1%.
        let before = vec![1.0; 10];
        let now: Vec<f64> = (1..=10).map(f64::from).collect();
        let change = Change::between(&before, &now).expect("enough samples");
        assert_eq!((change.low, change.high), (2.0, 9.0));
        assert!((change.ratio - 5.5).abs() < 1e-12);
    }

    #[test]
    fn too_few_samples_say_nothing() {
        assert_eq!(Change::between(&[1.0; 3], &[2.0; 3]), None);
        assert_eq!(Change::between(&[], &[1.0; 30]), None);
        assert_eq!(Change::between(&[0.0; 10], &[1.0; 10]), None);
        assert!(Change::between(&[1.0; 7], &[2.0; 7]).is_some());
    }

    #[test]
    fn what_is_slower_is_slower_and_faster_the_other_way_round() {
        let (before, now) = (times(5, 30, 100.0), times(6, 30, 112.0));
        assert_eq!((verdict(&before, &now), verdict(&now, &before)), (Ordering::Greater, Ordering::Less));
        let change = Change::between(&before, &now).expect("enough samples");
        assert!(change.low < 1.12 && 1.12 < change.high, "{change:?}");
        // Equal samples, but for so little that it means nothing.
        assert_eq!(verdict(&[100.0; 30], &[101.0; 30]), Ordering::Equal);
    }

    #[test]
    fn the_same_is_rarely_taken_for_a_change() {
        let wrong = (0..1000).filter(|&seed| {
            let change =
                Change::between(&times(seed, 25, 1.0), &times(seed + 10_000, 25, 1.0)).expect("enough samples");
            change.low > 1.0 || change.high < 1.0
        });
        // 1% is what the level allows.
        assert!(wrong.count() <= 20);
    }

    #[test]
    fn what_disturbs_for_a_while_is_no_change() {
        // Half of the time twice as slow, the first half before and the second now, and a little longer now.
        let busy = |from: usize, to: usize| -> Vec<f64> {
            (0..60).map(|index| if (from..to).contains(&index) { 200.0 } else { 100.0 }).collect()
        };
        assert_eq!(verdict(&busy(0, 30), &busy(26, 60)), Ordering::Equal);
    }

    #[test]
    fn one_outlier_changes_nothing() {
        let (before, mut now) = (times(3, 30, 100.0), times(4, 30, 100.0));
        now[7] = 1e9;
        assert_eq!(verdict(&before, &now), Ordering::Equal);
    }
}
