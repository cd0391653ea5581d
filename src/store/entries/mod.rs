//! The entries of the five levels: commands, sessions, users, domains, ips.
//!
//! | module | what it owns |
//! |---|---|
//! | [`entry`] | the five kinds of entries, and the dispatch on them |
//! | [`contents`] | texts and counters of an entry, in one blob |
//! | [`table`] | all entries of one kind |
//! | [`lifecycle`] | entries found, created, pinned and freed, with what links them |
//! | [`untracked`] | user and address of sessions that had no room |

pub(crate) mod contents;
pub(crate) mod entry;
pub(crate) mod lifecycle;
pub(crate) mod table;
pub(crate) mod untracked;
