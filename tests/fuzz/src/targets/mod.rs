//! What is fuzzed: each target takes any bytes, makes of them what a peer or a file
//! could bring, and panics when something that always holds does not.
//!
//! Included by the fuzzer's program and by dovestat's integration tests, which replay
//! the corpus.

mod bridge;
mod carbon;
mod config;
mod http;
mod input;
mod model;
mod naive;
mod records;
mod reply;
mod requests;
mod state;
mod store;

/// A target: its name, and what takes the bytes.
type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 9] = [
    ("bridge", bridge::run),
    ("carbon", carbon::run),
    ("config", config::run),
    ("http", http::run),
    ("records", records::run),
    ("reply", reply::run),
    ("requests", requests::run),
    ("state", state::run),
    ("store", store::run),
];
