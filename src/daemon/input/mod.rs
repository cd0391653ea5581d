pub(crate) mod fifo;
pub(crate) mod records;
pub(crate) mod waiting;
