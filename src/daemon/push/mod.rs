pub(crate) mod carbon;
pub(crate) mod resolve;
