//! The reply to STATUS: what `dovestat check` needs from the daemon to find the reason
//! why nothing arrives. Its form is in dovestat-protocol(7).

use crate::daemon::serve::context::Context;
use crate::wire::push_escaped;

/// The names of the columns.
const HEADER: &[u8] = b"kind\tname\tvalue\tlast_update\tabout\n";

/// Appends the reply, with the empty line at its end: few and short lines, whatever the
/// store keeps.
pub(crate) fn write_status(output: &mut Vec<u8>, context: &Context) {
    output.extend_from_slice(HEADER);
    let mut row = |kind: &str, name: &str, value: &str, last_secs: u32, about: &str| {
        let last_update = last_secs.to_string();
        for field in [kind, name, value, &last_update] {
            push_escaped(output, field.as_bytes());
            output.push(b'\t');
        }
        push_escaped(output, about.as_bytes());
        output.push(b'\n');
    };
    let start_secs = context.start_secs.to_string();
    let pid = std::process::id().to_string();
    row("daemon", "version", env!("CARGO_PKG_VERSION"), 0, "");
    row("daemon", "pid", &pid, 0, "");
    row("daemon", "start_time", &start_secs, 0, "");
    for fifo in context.fifos.iter().filter(|fifo| fifo.is_current()) {
        let path = context.settings.base_dir.join(&**fifo.name());
        let lines = fifo.line_count().to_string();
        row(
            "fifo",
            &path.to_string_lossy(),
            &lines,
            fifo.last_secs(),
            "",
        );
    }
    for fault in context.faults.occurred() {
        let ago_secs = context.now.uptime_secs.wrapping_sub(fault.last_secs);
        let last_secs = context.now.wall.secs.saturating_sub(ago_secs);
        let count = fault.count.to_string();
        row("fault", fault.name, &count, last_secs, fault.about);
    }
    output.push(b'\n');
}
