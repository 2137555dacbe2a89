//! Interleaved measuring: in each round every contestant has a turn, so that whatever else the machine does meets all
//! of them alike. Times are nanoseconds a run. Knows no program and no engine.

use std::hint::black_box;
use std::time::{Duration, Instant};

/// Something that can run a program again and again.
pub trait Contestant {
    /// Runs it so many times, at least once; the last run's `r0`.
    ///
    /// # Errors
    /// It fails, and says how.
    fn repeat(&mut self, times: u64) -> Result<u64, String>;

    /// How long that takes; by the clock of who measures, unless the contestant has a better one.
    ///
    /// # Errors
    /// As [`Contestant::repeat`].
    fn time(&mut self, times: u64) -> Result<Duration, String> {
        let start = Instant::now();
        black_box(self.repeat(black_box(times))?);
        Ok(start.elapsed())
    }
}

/// How much to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Samples of each contestant.
    pub rounds: usize,
    /// How long one sample should take.
    pub sample: Duration,
}

/// The samples of one contestant, in nanoseconds a run, sorted.
#[derive(Debug, Clone, PartialEq)]
pub struct Samples(Vec<f64>);

impl Samples {
    fn new(mut samples: Vec<f64>) -> Samples {
        samples.sort_by(f64::total_cmp);
        Samples(samples)
    }

    fn quantile(&self, numerator: usize, denominator: usize) -> f64 {
        let last = self.0.len().saturating_sub(1);
        self.0.get(last * numerator / denominator).copied().unwrap_or(f64::NAN)
    }

    /// The least: what it costs when nothing disturbs.
    pub fn min(&self) -> f64 {
        self.quantile(0, 1)
    }

    /// The one in the middle.
    pub fn median(&self) -> f64 {
        self.quantile(1, 2)
    }

    /// The middle half's width over the median.
    pub fn spread(&self) -> f64 {
        (self.quantile(3, 4) - self.quantile(1, 4)) / self.median()
    }
}

/// Measures all contestants in turn; for each its samples, or why it has none.
pub fn interleaved(contestants: &mut [Box<dyn Contestant>], plan: Plan) -> Vec<Result<Samples, String>> {
    let mut times: Vec<Result<u64, String>> =
        contestants.iter_mut().map(|contestant| calibrate(&mut **contestant, plan.sample)).collect();
    let mut samples = vec![Vec::with_capacity(plan.rounds); contestants.len()];
    for _ in 0..plan.rounds {
        for ((contestant, times), samples) in contestants.iter_mut().zip(&mut times).zip(&mut samples) {
            let Ok(count) = *times else { continue };
            match contestant.time(count) {
                Ok(time) => samples.push(time.as_secs_f64() * 1e9 / count as f64),
                Err(error) => *times = Err(error),
            }
        }
    }
    times.into_iter().zip(samples).map(|(times, samples)| times.map(|_| Samples::new(samples))).collect()
}

/// How many runs fill a sample.
fn calibrate(contestant: &mut dyn Contestant, sample: Duration) -> Result<u64, String> {
    let mut times = 1;
    loop {
        let taken = contestant.time(times)?;
        if taken >= sample / 4 {
            let a_run = taken.as_secs_f64() / times as f64;
            return Ok((sample.as_secs_f64() / a_run).ceil() as u64);
        }
        times *= 2;
    }
}

/// The geometric mean; NaN of nothing.
pub fn geometric_mean(values: impl IntoIterator<Item = f64>) -> f64 {
    let (sum, count) = values.into_iter().fold((0.0, 0.0), |(sum, count), value| (sum + value.ln(), count + 1.0));
    (sum / count).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sleeper;

    impl Contestant for Sleeper {
        fn repeat(&mut self, times: u64) -> Result<u64, String> {
            std::thread::sleep(Duration::from_micros(50 * times));
            Ok(7)
        }
    }

    struct Broken;

    impl Contestant for Broken {
        fn repeat(&mut self, _: u64) -> Result<u64, String> {
            Err("it is broken".to_owned())
        }
    }

    #[test]
    fn one_that_fails_leaves_the_others_their_samples() {
        let plan = Plan { rounds: 3, sample: Duration::from_micros(200) };
        let results = interleaved(&mut [Box::new(Sleeper), Box::new(Broken)], plan);
        let samples = results[0].as_ref().expect("it sleeps");
        assert!(samples.min() >= 50_000.0 && samples.median() >= samples.min(), "{samples:?}");
        assert_eq!(results[1], Err("it is broken".to_owned()));
    }

    #[test]
    fn means_and_quantiles() {
        assert!((geometric_mean([1.0, 4.0, 16.0]) - 4.0).abs() < 1e-9);
        assert!(geometric_mean([]).is_nan());
        let samples = Samples::new(vec![5.0, 1.0, 2.0, 4.0, 3.0]);
        assert_eq!((samples.min(), samples.median(), samples.spread()), (1.0, 3.0, 2.0 / 3.0));
    }
}
