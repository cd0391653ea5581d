pub(crate) mod fifo;
pub(crate) mod records;
pub(crate) mod rest;
pub(crate) mod waiting;
