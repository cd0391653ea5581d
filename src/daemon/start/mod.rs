pub(crate) mod identity;
pub(crate) mod limits;
pub(crate) mod listen;
pub(crate) mod listing;
pub(crate) mod pidfile;
pub(crate) mod preflight;
pub(crate) mod sd_notify;
pub(crate) mod startup;
