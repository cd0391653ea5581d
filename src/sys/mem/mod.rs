pub(crate) mod bytes;
pub(crate) mod limits;
pub(crate) mod page;
pub(crate) mod reserve;
pub(crate) mod resident;
pub(crate) mod vector;
