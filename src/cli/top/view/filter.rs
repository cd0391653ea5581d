//! A filter as people type it: the part for the server, and the part for [`super::rows`].

use crate::cli::args::filter::judge;
use crate::store::Zoom;
use std::time::SystemTime;

/// A filter as it was typed as filters of a request. Words with `=` are filters of
/// the protocol, others are parts of the level's name.
///
/// # Errors
/// What is wrong with the first wrong one.
pub(crate) fn server_filters(level: Zoom, text: &str) -> Result<Vec<Vec<u8>>, String> {
    let mut filters = Vec::new();
    for word in text.split_whitespace() {
        let name = match level {
            _ if word.contains('=') || word == "connected" => None,
            Zoom::Domain => Some("domain"),
            Zoom::User | Zoom::Session | Zoom::Command => Some("user"),
            // Parts of addresses are no filter of the server's: `Lines` has it.
            Zoom::Ip | Zoom::Global => continue,
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
pub(crate) fn own_filter(level: Zoom, text: &str) -> Vec<String> {
    let words = text.split_whitespace();
    let ours =
        words.filter(|word| level == Zoom::Ip && !word.contains('=') && *word != "connected");
    ours.map(str::to_lowercase).collect()
}
