//! A filter as people type it: the part for the server, and the part for [`super::rows`].

use crate::cli::args::filter::judge;
use crate::cli::top::level::level_row;
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
        let is_term = is_term(word);
        let name = match level_row(level).filter {
            _ if is_term => None,
            None => continue,
            name => name,
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
    let ours = words.filter(|word| level == Level::Ip && !is_term(word));
    ours.map(str::to_lowercase).collect()
}

/// Whether a word is a filter of the protocol.
fn is_term(word: &str) -> bool {
    word.contains('=') || word == "connected"
}
