pub(crate) mod contents;
pub(crate) mod entry;
pub(crate) mod level;
pub(crate) mod lifecycle;
pub(crate) mod untracked;
