//! Sparklines: for each entry the numbers of the watched column, one for each sample.

use super::{Entry, Figures, Look, Table};

/// Points of an entry's sparkline.
pub(super) const POINTS: usize = 120;

impl Table {
    /// Adds a point to every sparkline: `number` of each entry's figures.
    pub(crate) fn spark(&mut self, look: Look, number: impl Fn(&Figures<'_>) -> f64) {
        for at in 0..self.entries.len() {
            let Some(entry) = &self.entries[at] else {
                continue;
            };
            let point = number(&self.figures(entry, look)) as f32;
            let sample = self.sample;
            let entry = self.entry_mut(at as u32);
            // Most entries do nothing and need no line.
            if entry.spark.is_empty() && point == 0.0 {
                continue;
            }
            if entry.spark.is_empty() {
                entry.spark = vec![0; POINTS].into();
                entry.spark_end = sample;
            }
            let skipped = (entry.spark_end + 1..sample).rev().take(POINTS);
            skipped.for_each(|at| entry.spark[at as usize % POINTS] = 0);
            entry.spark[sample as usize % POINTS] = (point.to_bits() >> 16) as u16;
            entry.spark_end = sample;
        }
    }

    /// Removes all sparklines: another column is watched.
    pub(crate) fn clear_sparks(&mut self) {
        for entry in self.entries.iter_mut().flatten() {
            entry.spark = Box::default();
        }
    }

    /// The last `count` points of an entry's sparkline, the oldest first.
    pub(crate) fn points(&self, entry: &Entry, count: usize) -> Vec<f32> {
        let count = count.min(POINTS);
        if entry.spark.is_empty() {
            return vec![0.0; count];
        }
        let end = entry.spark_end as usize + POINTS;
        (end + 1 - count..=end)
            .map(|at| f32::from_bits(u32::from(entry.spark[at % POINTS]) << 16))
            .collect()
    }
}
