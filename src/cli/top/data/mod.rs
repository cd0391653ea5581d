//! What servers report: asked for, kept, turned into rates and text.
//!
//! Must not: know what is selected, sorted or drawn.

pub(super) mod column;
pub(super) mod link;
pub(super) mod model;
pub(super) mod process;
pub(super) mod values;
