pub(crate) mod child;
pub(crate) mod privileges;
pub(crate) mod process;
pub(crate) mod signal;
pub(crate) mod snapshot_child;
pub(crate) mod subprocess;
pub(crate) mod usage;
pub(crate) mod user;
