//! Percentiles, medians and the distribution of latencies.

use std::time::Duration;

/// Latencies of one run.
#[derive(Debug, Default)]
pub struct Latencies {
    nanoseconds: Vec<u64>,
}

impl Latencies {
    /// Adds one.
    pub fn record(&mut self, latency: Duration) {
        self.nanoseconds.push(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Adds those of a later part of the run.
    pub fn append(&mut self, mut later: Self) {
        self.nanoseconds.append(&mut later.nanoseconds);
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.nanoseconds.len()
    }

    /// In microseconds, for each of `ranks` (0.5 is the median); `None` if nothing was recorded.
    pub fn percentiles_us<const N: usize>(mut self, ranks: [f64; N]) -> Option<[f64; N]> {
        self.nanoseconds.sort_unstable();
        let mut values = [0.0; N];
        for (value, rank) in values.iter_mut().zip(ranks) {
            *value = *nearest_rank(&self.nanoseconds, rank)? as f64 / 1000.0;
        }
        Some(values)
    }
}

/// The smallest value of `sorted` such that at least the share `rank` of all values is not above it.
fn nearest_rank<T>(sorted: &[T], rank: f64) -> Option<&T> {
    let position = (rank * sorted.len() as f64).ceil() as usize;
    sorted.get(position.clamp(1, sorted.len().max(1)) - 1)
}

/// The middle value, or the mean of the two in the middle; `None` if there is none.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = values.get(middle).copied()?;
    match values.len() % 2 {
        1 => Some(upper),
        _ => values.get(middle - 1).map(|lower| (lower + upper) / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_of_odd_even_and_none() {
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median([7.0]), Some(7.0));
        assert_eq!(median([]), None);
    }

    #[test]
    fn percentiles_are_values_that_occurred() {
        let mut latencies = Latencies::default();
        for microseconds in (1..=1000).rev() {
            latencies.record(Duration::from_micros(microseconds));
        }
        assert_eq!(latencies.count(), 1000);
        assert_eq!(
            latencies.percentiles_us([0.0, 0.5, 0.99, 0.999, 1.0]),
            Some([1.0, 500.0, 990.0, 999.0, 1000.0])
        );
        assert_eq!(Latencies::default().percentiles_us([0.5]), None);
    }

    #[test]
    fn one_value_is_every_percentile() {
        let mut latencies = Latencies::default();
        latencies.record(Duration::from_nanos(2500));
        assert_eq!(latencies.percentiles_us([0.001, 0.5, 0.999]), Some([2.5; 3]));
    }
}
