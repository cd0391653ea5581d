//! The entries of the five levels: commands, sessions, users, domains, ips.
//!
//! | module | what it owns |
//! |---|---|
//! | [`entry`] | the kinds of entries, the table of parents, and the dispatch on them |
//! | [`contents`] | texts and counters of an entry, in one blob |
//! | [`table`] | all entries of one kind |
//! | [`lifecycle`] | entries found, created, pinned and freed, with what links them |
//! | [`untracked`] | user and address of sessions that had no room |
//!
//! # Parents
//!
//! An entry above sessions is a *parent* ([`entry::Parent`]): it has totals, a number of
//! connected sessions, and maybe sessions that it defers. Users, domains and ips are parents;
//! they differ in what is in the table `parents!` of [`entry`]: table, widths of new counters,
//! flag of deferred sessions, list of children with its hook, and for users the domain above.
//! The struct of a level, the struct [`entry::Parents`] and the traits are made of it.
//!
//! All else is written once for any parent. What has its type is generic over
//! [`entry::Parent`]; of the kinds listed in `parent_levels!`, `each_parent!` takes all,
//! `at_parent!` the one of a [`Level`](crate::store::Level), `with_link!` that of a node.
//! Code is compiled for each of them: a level costs some kilobytes. [`entry::Parent::INDEX`]
//! counts levels of parents where something is kept for each of them: chains of deferred
//! sessions, entries and pending counters that are restored.
//!
//! A session knows its parents by [`entry::Session::above`]. A record that creates one says
//! what they are: [`lifecycle`] finds or creates them by their keys, `update::room` computes
//! what that may take. Those two, and the filter, name levels, as they know what a key is.
//!
//! Only a user has a parent itself. What that takes is in [`entry::Parent::siblings_mut`], in
//! [`entry::Parent::domain_mut`] and in walks that go down from a domain to sessions.

pub(crate) mod contents;
pub(crate) mod entry;
pub(crate) mod lifecycle;
pub(crate) mod table;
pub(crate) mod untracked;
