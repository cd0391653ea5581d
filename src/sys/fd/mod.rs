pub(crate) mod inherited;
pub(crate) mod notify;
pub(crate) mod output;
pub(crate) mod pass;
pub(crate) mod poll;
