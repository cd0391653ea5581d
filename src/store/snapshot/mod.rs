//! A store as plain values, for state files, and a store made of them.

mod order;
mod pending;
pub(crate) mod restore;
pub(crate) mod save;
pub(crate) mod values;
