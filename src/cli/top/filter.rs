//! A filter as people type it: what of it a server is asked, what is left to us.

use crate::cli::server::export_request;
use crate::store::Zoom;
use crate::wire::parse_request;

/// A filter as it was typed as filters of a request. Words with `=` are taken
/// as they are, others are parts of the level's name. `None` when no server
/// would take them: it closes the connection on a wrong one.
pub fn server_filters(level: Zoom, text: &str) -> Option<Vec<Vec<u8>>> {
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
            None => word.to_owned(),
            Some(name) if word.contains(['*', '?']) => format!("{name}={word}"),
            Some(name) => format!("{name}=*{word}*"),
        };
        filters.push(filter.into_bytes());
    }
    let mut line = export_request(level, &filters);
    line.pop();
    parse_request(&mut line).ok().map(|_| filters)
}

/// The words of a filter that are left to us: see [`server_filters`].
pub fn own_filter(level: Zoom, text: &str) -> Vec<String> {
    let words = text.split_whitespace();
    let ours =
        words.filter(|word| level == Zoom::Ip && !word.contains('=') && *word != "connected");
    ours.map(str::to_lowercase).collect()
}
