//! The screen: a view and its servers become a frame of cells.
//!
//! Must not: change what is shown, other than what the view notes of the last frame
//! (widths, scrolling, where clicks hit).

pub(super) mod draw;
pub(super) mod glyphs;
mod header;
pub(super) mod paint;
mod popup;
pub(super) mod scene;
pub(super) mod table;
