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

#[forbid(unsafe_code)]
pub mod cli;
#[forbid(unsafe_code)]
pub mod config;
#[forbid(unsafe_code)]
pub mod daemon;
#[forbid(unsafe_code)]
pub mod report;
#[forbid(unsafe_code)]
pub mod stats;
#[forbid(unsafe_code)]
pub mod store;
pub mod sys;
#[forbid(unsafe_code)]
pub mod wire;
