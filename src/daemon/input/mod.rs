pub(crate) mod fifo;
pub(crate) mod records;
pub(crate) mod rest;
pub(crate) mod slow;
pub(crate) mod waiting;
