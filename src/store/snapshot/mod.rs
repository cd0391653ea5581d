pub(crate) mod restore;
pub(crate) mod save;
