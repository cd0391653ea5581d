//! x
pub mod fatal;
pub mod options;
pub mod server;
