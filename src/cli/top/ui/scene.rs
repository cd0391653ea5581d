//! What is drawn beside the view: the servers, the time, the glyphs.

use super::glyphs::Glyphs;
use crate::cli::top::view::rows::Lines;
use std::time::Instant;

/// What does not come from the view.
pub(crate) struct Scene<'a> {
    pub lines: Lines<'a>,
    pub now: Instant,
    /// The time since 1970 in microseconds.
    pub now_micros: u64,
    pub clock: String,
    pub glyphs: &'static Glyphs,
}

/// Rows below which the header is cut to the bare minimum.
pub(crate) const LOW: usize = 16;
