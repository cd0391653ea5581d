pub(crate) mod cursor;
pub(crate) mod plan;
pub(crate) mod rank;
