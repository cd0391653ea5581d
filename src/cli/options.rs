//! x
use super::server::Address;
use crate::store::Zoom;
use std::time::Duration;

/// How rows are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Header and rows, separated by TAB.
    #[default]
    Tab,
    /// Aligned columns.
    Table,
    /// One line of `name=value` for each row.
    Flow,
    /// One line of `name: value` for each field.
    Pager,
    /// One array of objects.
    Json,
    /// RFC 4180.
    Csv,
    /// One object a line.
    Ndjson,
}

/// What `top` was asked for. Its entry is
/// `top::run(options: TopOptions) -> Result<(), Fatal>`.
#[derive(Clone, Debug)]
pub struct TopOptions {
    /// The servers; at least one.
    pub servers: Vec<Address>,
    /// `-b`: read and written bytes in place of disk bytes.
    pub bytes: bool,
    /// `-B`: frames of text instead of a screen.
    pub batch: bool,
    /// `-n`: how many frames; for ever without.
    pub frames: Option<u64>,
    /// `-d`: how long between frames.
    pub delay: Duration,
    /// `disk`, `cpu` or a column, as given (not checked); a `-` in front or at
    /// the end reverses.
    pub sort: Option<String>,
    /// The format of frames; aligned text without.
    pub format: Option<Format>,
    /// The level to begin with.
    pub level: Option<Zoom>,
    /// Filters for the server, as in a request.
    pub filters: Vec<Vec<u8>>,
}
