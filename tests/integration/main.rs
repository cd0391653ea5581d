//! The integration tests: the daemon from outside, by its FIFOs, sockets,
//! options and signals; real Dovecot processes against it; and the original
//! statistics service beside it, fed the same bytes.
//!
//! Modules: `harness`, `link`, `http`, `records`, `screen`, `streams`, `dovecot` and
//! `mail` are tools; `protocol`, `damage`, `requests`, `more`, `kinds`, `listeners`, `contract`,
//! `carbon`, `metrics`, `scrapes`, `slow`, `robust`, `program`, `service`, `starting`, `settings`,
//! `activation`, `state`, `small`, `memory`, `crowd`, `wakeups`, `vanishing`, `rights`, `valgrind`,
//! `receivers`, `peers`, `master`, `compare` and `real_load` hold the tests of the daemon, `attack` those that try to break it, `soak` and
//! `corpus` those of the store and of all that reads input, `client`, `client_output`, `client_slow`, `check`,
//! `top`, `run`, `run_figures`, `demo` and `bridge` those of the client, `report` those of the library,
//! `manual`, `packaging`, `units` and `starters` those of what comes with the programs; `model`, its
//! `reading` and `original` are what `compare` and `attack` compare with.

mod activation;
mod attack;
mod bridge;
mod carbon;
mod check;
mod client;
mod client_judges;
mod client_output;
mod client_slow;
mod compare;
mod contract;
mod corpus;
mod crowd;
mod damage;
mod demo;
mod dovecot;
mod harness;
mod http;
mod kinds;
mod link;
mod listeners;
mod mail;
mod manual;
mod master;
mod memory;
mod metrics;
mod model;
mod more;
mod original;
mod packaging;
mod peers;
mod program;
mod protocol;
mod reading;
mod real_load;
mod receivers;
mod records;
mod report;
mod requests;
mod rights;
mod robust;
mod run;
mod run_figures;
mod scrapes;
mod screen;
mod service;
mod settings;
mod slow;
mod small;
mod soak;
mod starters;
mod starting;
mod state;
mod streams;
mod swaps;
mod top;
mod top_acts;
mod units;
mod valgrind;
mod vanishing;
mod wakeups;
