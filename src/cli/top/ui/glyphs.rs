//! The few signs of the screen, in Unicode and for a terminal that has ASCII
//! only.

#[derive(Debug)]
pub(crate) struct Glyphs {
    /// Whether names may be shown in Unicode.
    pub utf8: bool,
    /// Biggest first.
    pub down: &'static str,
    /// Smallest first.
    pub up: &'static str,
    /// A server that answers.
    pub dot: &'static str,
    /// One that does not.
    pub cross: &'static str,
    /// Between the steps of the way down.
    pub into: &'static str,
    /// A text that goes on.
    pub more: &'static str,
    /// Full, and the parts of a cell of a bar.
    bar: &'static [&'static str],
    /// Levels of a sparkline from nothing to the peak.
    spark: &'static [char],
    /// Corners and edges of a popup: top left, top right, bottom left, bottom
    /// right, horizontal, vertical.
    pub edges: [&'static str; 6],
}

/// For terminals that show Unicode.
pub(crate) static UNICODE: Glyphs = Glyphs {
    utf8: true,
    down: "▼",
    up: "▲",
    dot: "●",
    cross: "✗",
    into: " › ",
    more: "…",
    bar: &["", "▏", "▎", "▍", "▌", "▋", "▊", "▉", "█"],
    spark: &[' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'],
    edges: ["┌", "┐", "└", "┘", "─", "│"],
};

pub(crate) static ASCII: Glyphs = Glyphs {
    utf8: false,
    down: "v",
    up: "^",
    dot: "*",
    cross: "!",
    into: " > ",
    more: "~",
    bar: &["", "#"],
    spark: &[' ', '_', '.', '-', '=', '+', '*', '#'],
    edges: ["+", "+", "+", "+", "-", "|"],
};

impl Glyphs {
    /// A bar of a share from 0 to 1, padded with blanks to `columns`.
    pub(crate) fn bar(&self, share: f64, columns: usize) -> String {
        let parts = self.bar.len() - 1;
        let filled = (share.clamp(0.0, 1.0) * (columns * parts) as f64).round() as usize;
        let mut out = self.bar[parts].repeat(filled / parts);
        out += self.bar[filled % parts];
        let taken = filled.div_ceil(parts);
        out + &" ".repeat(columns.saturating_sub(taken))
    }

    /// A point of a sparkline with that peak; more than nothing is seen.
    pub(crate) fn spark(&self, point: f32, peak: f32) -> char {
        let last = self.spark.len() - 1;
        if point <= 0.0 || peak <= 0.0 {
            return self.spark[0];
        }
        self.spark[((point / peak * last as f32).round() as usize).clamp(1, last)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::width::width;

    #[test]
    fn bars_and_points_keep_their_width() {
        for glyphs in [&UNICODE, &ASCII] {
            for share in [-1.0, 0.0, 0.01, 0.33, 0.5, 0.999, 1.0, 7.0] {
                assert_eq!(width(&glyphs.bar(share, 10)), 10, "{share}");
            }
            assert_eq!(glyphs.spark(0.0, 5.0), ' ');
            assert_ne!(glyphs.spark(0.001, 5.0), ' ');
            assert_eq!(glyphs.spark(5.0, 5.0), *glyphs.spark.last().unwrap());
            assert_eq!(glyphs.spark(5.0, 0.0), ' ');
        }
        assert_eq!(UNICODE.bar(0.5, 3).trim_end(), "█▌");
    }
}
