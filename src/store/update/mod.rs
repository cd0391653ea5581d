pub(crate) mod apply;
pub(crate) mod compact;
pub(crate) mod deferral;
pub(crate) mod evict;
pub(crate) mod prefetch;
pub(crate) mod room;
