//! What ends the daemon.

pub(crate) use crate::config::Fatal;
