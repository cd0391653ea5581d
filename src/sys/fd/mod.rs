pub(crate) mod notify;
pub(crate) mod output;
pub(crate) mod passed;
pub(crate) mod poll;
pub(crate) mod sigpipe;
