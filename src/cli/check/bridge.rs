//! Dovecot 2.4's way to `dovestat bridge`: its exporter of events, and the socket that it
//! writes to. Dovecot logs nothing when it may not write there.

use super::dovecot::Dovecot;
use super::writers::named;
use super::Findings;
use crate::sys::fs::socket::connect_unix;
use crate::sys::proc::user::access;
use crate::sys::reason;
use std::fs;
use std::io;
use std::path::Path;

/// Notes how Dovecot's events reach a bridge.
pub(super) fn look(dovecot: &Dovecot, findings: &mut Findings) {
    let version = dovecot.version();
    let Some((name, setting)) = dovecot.exporter("unix_path") else {
        if let Some((name, url)) = dovecot.exporter("http_post_url") {
            return findings.good(format!("Dovecot {version}: {name} posts events to {url}"));
        }
        return findings.wrong(
            format!("Dovecot {version} has no event_exporter for \"dovestat bridge\""),
            "copy 99-dovestat.conf to Dovecot's conf.d, \"doveadm reload\", and start dovestat bridge",
        );
    };
    let path = Path::new(setting);
    let shown = path.display();
    findings.good(format!("Dovecot {version}: {name} sends events to {shown}"));
    let start = "start \"dovestat bridge\"";
    match connect_unix(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return findings.wrong(format!("{shown} is not there: no bridge runs"), start);
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            return findings.wrong(
                format!("no bridge listens at {shown}: each login waits 0.4 s for it"),
                format!("{start}, or remove that file"),
            );
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
        Err(error) => return findings.unknown(format!("{shown}: {}", reason(&error))),
        Ok(_) => findings.good(format!("a bridge listens at {shown}")),
    }
    let user = dovecot.internal_user();
    let obstacle = named(user).and_then(|writer| writer.obstacle(path));
    if let Some(obstacle) = obstacle {
        let owner = fs::metadata(&obstacle).map_or(String::new(), |found| access(&found));
        findings.wrong(
            format!(
                "Dovecot's {user} cannot write to {shown}: {} ({owner})",
                obstacle.display()
            ),
            format!("make {user}'s group that of the socket: its bridge must be root's"),
        );
    }
}
