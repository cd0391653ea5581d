//! How Dovecot 2.4 reports to `dovestat bridge`: by an exporter of its events, which is
//! the packaged 99-dovestat.conf, and by the socket that the exporter writes to.

use super::dovecot::Dovecot;
use super::writers::named;
use super::Findings;
use crate::sys::fs::socket::connect_unix;
use crate::sys::proc::user::{access, find_group};
use crate::sys::reason;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// What Dovecot's configuration should have.
const PACKAGED: &str = include_str!("../../../packaging/dovecot/99-dovestat.conf");

/// The exporter's name in it.
const NAME: &str = "dovestat";

const COPY: &str = "cp /usr/share/dovestat/99-dovestat.conf /etc/dovecot/conf.d/; systemctl \
                    reload dovecot";

const START: &str =
    "\"systemctl enable --now dovestat-bridge\", or \"dovestat bridge\" as root to \
                     see what it logs";

/// Notes how events get to the bridge. Returns its socket.
pub(super) fn look(dovecot: &Dovecot, findings: &mut Findings) -> Option<PathBuf> {
    let version = &dovecot.version;
    let of = |name: &str, setting: &str| dovecot.get(&format!("event_exporter {name}/{setting}"));
    let mut exporters: Vec<&str> = dovecot.sections("event_exporter").collect();
    exporters.retain(|name| {
        let path = of(name, "unix_path").unwrap_or_default();
        !path.is_empty() && (*name == NAME || Path::new(path).ends_with("dovestat/events"))
    });
    let Some(exporter) = exporters.first() else {
        let posts = |name: &&str| of(name, "http_post_url").is_some_and(|url| !url.is_empty());
        if let Some(name) = dovecot.sections("event_exporter").find(posts) {
            findings.note(format!(
                "Dovecot {version} posts events by event_exporter {name}: to a bridge, if that has \
                 --http"
            ));
            return None;
        }
        findings.wrong(
            format!("Dovecot {version} is not told to report: it has no event_exporter {NAME}"),
            COPY,
        );
        return None;
    };
    settings(dovecot, exporter, findings);
    let path = PathBuf::from(of(exporter, "unix_path")?);
    socket(dovecot, &path, findings);
    Some(path)
}

/// Whether an exporter and its metric are what the bridge needs.
fn settings(dovecot: &Dovecot, exporter: &str, findings: &mut Findings) {
    let packaged = Dovecot::parse(PACKAGED);
    let mut lacking = Vec::new();
    for setting in ["format", "time_format"] {
        let of = |dovecot: &Dovecot, name: &str| {
            let value = dovecot.get(&format!("event_exporter {name}/{setting}"));
            value.unwrap_or_default().to_owned()
        };
        let wanted = of(&packaged, NAME);
        if of(dovecot, exporter) != wanted {
            lacking.push(format!("{setting} = {wanted}"));
        }
    }
    for setting in ["exporter_include", "fields", "filter"] {
        let given = words(dovecot, exporter, setting);
        let mut wanted = words(&packaged, NAME, setting);
        // Of a filter, the events.
        wanted.retain(|word| setting != "filter" || word.starts_with("event="));
        wanted.retain(|word| !given.contains(word));
        if !wanted.is_empty() {
            lacking.push(format!("{} in {setting}", wanted.join(" ")));
        }
    }
    let version = &dovecot.version;
    match lacking.is_empty() {
        true => findings.good(format!(
            "Dovecot {version} reports by event_exporter {exporter}"
        )),
        false => findings.wrong(
            format!(
                "event_exporter {exporter} and its metric lack {}: what depends on it is not counted",
                lacking.join(", ")
            ),
            COPY,
        ),
    }
}

/// The words of a setting in all metrics that go to an exporter.
fn words(dovecot: &Dovecot, exporter: &str, setting: &str) -> Vec<String> {
    let mut found = Vec::new();
    for metric in dovecot.sections("metric") {
        let of = |setting: &str| dovecot.get(&format!("metric {metric}/{setting}"));
        if of("exporter") == Some(exporter) {
            let words = of(setting).unwrap_or_default().split_whitespace();
            found.extend(words.map(|word| word.trim_matches(['(', ')']).to_owned()));
        }
    }
    found
}

/// Whether a bridge listens, Dovecot can write to it, and does.
fn socket(dovecot: &Dovecot, path: &Path, findings: &mut Findings) {
    let shown = path.display();
    let file = match fs::metadata(path) {
        Ok(file) => file,
        Err(error) => {
            let why = reason(&error);
            return findings.wrong(format!("no bridge listens: {shown}: {why}"), START);
        }
    };
    // Counted before this program connects, too.
    let has_connected = has_connected(path);
    match connect_unix(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            return findings.wrong(
                format!("no process listens at {shown}, and each login waits 0.4 s for it"),
                format!("remove the file; {START}"),
            );
        }
        Err(error) if error.kind() != ErrorKind::PermissionDenied => {
            findings.unknown(format!(
                "whether a bridge runs: {shown}: {}",
                reason(&error)
            ));
        }
        _ => findings.good(format!("{shown} ({})", access(&file))),
    }
    let user = dovecot.get("service stats/user").unwrap_or("dovecot");
    if let Some(mut writer) = named(user) {
        let group = dovecot
            .get("service stats/group")
            .filter(|name| !name.is_empty());
        writer
            .gids
            .extend(group.and_then(|name| find_group(name).ok()?));
        if writer.obstacle(path).is_some() {
            return findings.wrong(
                format!(
                    "Dovecot's stats process runs as {user}, who cannot write to {shown} ({}); \
                     nothing logs that",
                    access(&file)
                ),
                format!(
                    "restart the bridge, which gives the socket to the group dovecot; {user} must \
                     be in it"
                ),
            );
        }
    }
    if has_connected == Some(false) {
        findings.note(format!(
            "Dovecot has not connected to {shown} since the bridge started: it does at the next \
             login"
        ));
    }
}

/// Whether Dovecot's stats process is connected to the bridge; `None` if that is not found.
fn has_connected(path: &Path) -> Option<bool> {
    // The socket was bound beside its place. The bridge's end of a connection is in the
    // network namespace of who connected; the unit has the bridge in one of its own.
    let beside = format!("/.{}", path.file_name()?.to_str()?);
    let (mut is_bridge_seen, mut has_connected) = (false, false);
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let dir = entry.path();
        match fs::read_to_string(dir.join("comm")).as_deref() {
            Ok("dovestat-bridge\n") => is_bridge_seen = true,
            Ok("stats\n") => {
                let table = fs::read_to_string(dir.join("net/unix")).unwrap_or_default();
                has_connected |= connected(&table, &beside) > 0;
            }
            _ => {}
        }
    }
    is_bridge_seen.then_some(has_connected)
}

/// Sockets of that name in state 3, by /proc/net/unix: proc(5).
fn connected(table: &str, name: &str) -> usize {
    let rows = table.lines().filter(|row| row.ends_with(name));
    rows.filter(|row| row.split_whitespace().nth(5) == Some("03"))
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is wrong with a configuration: the packaged one, in which `text` is `instead`.
    fn found(text: &str, instead: &str) -> String {
        assert!(PACKAGED.contains(text), "{text}");
        let text = PACKAGED
            .replace(text, instead)
            .replace("/run/", "/nonexistent/");
        let dovecot = Dovecot::parse(&format!("# 2.4.1 (7d8c0e5759)\n{text}"));
        let mut findings = Findings::default();
        look(&dovecot, &mut findings);
        findings.text()
    }

    #[test]
    fn what_lacks_in_the_configuration_is_named() {
        let good = found("driver = unix", "driver = unix");
        assert!(good.contains("ok:      Dovecot 2.4.1 reports by event_exporter dovestat\n"));
        let gone = "WRONG:   no bridge listens: /nonexistent/dovestat/events: No such file";
        assert!(good.contains(gone), "{good}");
        for (text, instead, lacking) in [
            (
                "fields = service protocol user",
                "fields = ",
                "service protocol user in fields",
            ),
            ("net_in_bytes ", "", "net_in_bytes in fields"),
            (
                "event=mail_delivery_finished OR ",
                "",
                "event=mail_delivery_finished in filter",
            ),
            (
                "= name timestamps fields",
                "= name fields",
                "timestamps in exporter_include",
            ),
            ("tab-text", "json", "format = tab-text"),
            ("time_format = unix", "", "time_format = unix"),
            (
                "exporter = dovestat\n",
                "exporter = other\n",
                "name timestamps fields in exporter_include",
            ),
        ] {
            let report = found(text, instead);
            let finding = "WRONG:   event_exporter dovestat and its metric lack ";
            assert!(
                report.contains(finding) && report.contains(lacking),
                "{report}"
            );
            assert!(
                report.contains("-> cp /usr/share/dovestat/99-dovestat.conf "),
                "{report}"
            );
        }
        let report = found("event_exporter dovestat {", "event_exporter other {");
        let unused = "event_exporter other and its metric lack name timestamps fields in ";
        assert!(report.contains(unused), "{report}");
        let report = found(
            "driver = unix\n  unix_path = /run/",
            "http_post_url = http://localhost/",
        );
        assert!(
            report.contains("posts events by event_exporter dovestat"),
            "{report}"
        );
        let report = found("dovestat", "other");
        assert!(
            report.contains("has no event_exporter dovestat\n"),
            "{report}"
        );
    }

    #[test]
    fn connections_are_those_of_the_socket() {
        let table = "Num       RefCount Protocol Flags    Type St Inode Path\n\
            0: 00000002 00000000 00010000 0001 01 61 /proc/self/fd/4/.events\n\
            0: 00000003 00000000 00000000 0001 03 62 /proc/self/fd/4/.events\n\
            0: 00000003 00000000 00000000 0001 03 63 /proc/self/fd/4/.events2\n\
            0: 00000003 00000000 00000000 0001 03 64\n";
        assert_eq!(connected(table, "/.events"), 1);
        assert_eq!(connected(table, "/.other"), 0);
    }
}
