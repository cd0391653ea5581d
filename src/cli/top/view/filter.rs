//! A filter as people type it: the part for the server, and the part for [`super::rows`].

use crate::cli::args::filter::judge;
use crate::store::Level;
use std::time::SystemTime;

/// A filter as it was typed as filters of a request. Words with `=` are filters of
/// the protocol, others are parts of the level's name.
///
/// # Errors
/// What is wrong with the first wrong one.
pub(crate) fn server_filters(level: Level, text: &str) -> Result<Vec<Vec<u8>>, String> {
    let mut filters = Vec::new();
    for word in text.split_whitespace() {
        let name = match level {
            _ if word.contains('=') || word == "connected" => None,
            Level::Domain => Some("domain"),
            Level::User | Level::Session | Level::Command => Some("user"),
            // Parts of addresses are no filter of the server's: `Lines` has it.
            Level::Ip | Level::Global => continue,
        };
        let filter = match name {
            None => judge(word, SystemTime::now())?,
            Some(name) if word.contains(['*', '?']) => format!("{name}={word}").into_bytes(),
            Some(name) => format!("{name}=*{word}*").into_bytes(),
        };
        filters.push(filter);
    }
    Ok(filters)
}

/// The words of a filter that no server takes: see [`server_filters`].
pub(crate) fn own_filter(level: Level, text: &str) -> Vec<String> {
    let words = text.split_whitespace();
    let ours =
        words.filter(|word| level == Level::Ip && !word.contains('=') && *word != "connected");
    ours.map(str::to_lowercase).collect()
}
