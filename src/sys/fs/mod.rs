pub(crate) mod dir;
pub(crate) mod fifo;
pub(crate) mod lock;
pub(crate) mod place;
pub(crate) mod socket;
pub(crate) mod way;
pub(crate) mod writer;
