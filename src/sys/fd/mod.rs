pub(crate) mod inherited;
pub(crate) mod notify;
pub(crate) mod output;
pub(crate) mod poll;
