//! How bytes and numbers are written within fields.

pub(crate) mod base64;
pub(crate) mod escape;
pub(crate) mod number;
pub(crate) mod pen;
