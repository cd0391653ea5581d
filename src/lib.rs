//! Statistics of Dovecot's mail processes, kept per command, session, user,
//! domain, IP address and globally in a bounded memory.
//!
//! The way of the data, which can be read from top to bottom: bytes of a FIFO
//! are cut into lines and decoded to records ([`wire`]), applied at one instant
//! ([`store`]), counted upwards ([`stats`]); a request is parsed to a level and
//! a filter ([`wire`]), a cursor walks the level in slices ([`store`]), rows are
//! formatted ([`wire`]) and written out by the loop ([`daemon`]).
//!
//! The rooms, in layer order; each imports only what stands below it:
//!
//! | room | what lives there |
//! |---|---|
//! | [`cli`] | the client: command line, dump, top, reset, run, demo; formats |
//! | [`daemon`] | the loop and its glue: startup, FIFOs, listeners, clients, signals, log |
//! | [`report`] | for other programs: what they use, reported through a FIFO |
//! | [`config`] | one table of settings; the parser; printing them back |
//! | [`wire`] | bytes to values and back, pure |
//! | [`store`] | the statistics themselves, pure: memory, levels, cursors |
//! | [`stats`] | one table of statistics fields, and their arithmetic |
//! | [`sys`] | the operating system, and the only unsafe code |
//!
//! `dovestatd` is [`daemon::main`], `dovestat` is [`cli::main`].

// Without `internals`, the compiler tells what nothing uses; with it, what is public in
// a room and reaches nobody outside of it.
#![cfg_attr(feature = "internals", deny(unreachable_pub))]
#![cfg_attr(not(feature = "internals"), deny(missing_docs))]

pub mod report;

// The other rooms are public for tests, benchmarks and fuzz targets alone.
#[cfg(feature = "internals")]
pub mod cli;
#[cfg(feature = "internals")]
pub mod config;
#[cfg(feature = "internals")]
pub mod daemon;
#[cfg(feature = "internals")]
pub mod stats;
#[cfg(feature = "internals")]
pub mod store;
#[cfg(feature = "internals")]
pub mod sys;
#[cfg(feature = "internals")]
pub mod wire;

#[cfg(not(feature = "internals"))]
mod cli;
#[cfg(not(feature = "internals"))]
mod config;
#[cfg(not(feature = "internals"))]
mod daemon;
#[cfg(not(feature = "internals"))]
mod stats;
#[cfg(not(feature = "internals"))]
mod store;
#[cfg(not(feature = "internals"))]
mod sys;
#[cfg(not(feature = "internals"))]
mod wire;

pub use cli::main as dovestat;
pub use daemon::main as dovestatd;
