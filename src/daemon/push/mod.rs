pub(crate) mod batch;
pub(crate) mod carbon;
pub(crate) mod resolve;
