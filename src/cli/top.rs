//! The live view: a place kept for it, so that the command line is whole.

use super::fatal::Fatal;
use super::options::TopOptions;

/// Shows the statistics live.
pub fn run(_options: TopOptions) -> Result<(), Fatal> {
    Err(Fatal::Usage("top is not there yet".to_owned()))
}
