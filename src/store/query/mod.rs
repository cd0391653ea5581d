//! Listing entries: a [`plan`] says where a walk goes, a [`cursor`] takes it there in
//! slices, [`filter_eval`] decides which entries fit, and [`rank`] keeps the biggest
//! where only so many are wanted.

pub(crate) mod cursor;
pub(crate) mod filter_eval;
mod pick;
pub(crate) mod plan;
pub(crate) mod rank;
