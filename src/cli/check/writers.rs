//! The users of mail processes and of auth, and whether these can open the FIFOs.

use super::dovecot::Dovecot;
use super::fifo::Writer;
use super::{mail_and_user, Findings};
use crate::cli::order::sorted;
use crate::sys::proc::user::{access, groups, shown_user, User};
use std::fs;
use std::path::{Path, PathBuf};

/// What mail processes are called.
const MAIL_PROCESSES: &[&str] = &["imap", "pop3", "lmtp", "lda", "dovecot-lda"];

/// The usual user of mail processes, if nothing else names one.
const USUAL: &str = "vmail";

/// Notes which users can report.
pub(super) fn look(fifos: &[PathBuf], dovecot: Option<&Dovecot>, findings: &mut Findings) {
    let [mail, user] = mail_and_user(fifos);
    if let Some(fifo) = mail.filter(|fifo| fifo.exists()) {
        let writers = mail_writers(dovecot);
        if writers.is_empty() {
            findings.unknown(format!(
                "who writes to {}: no mail process runs, Dovecot's configuration names no \
                 mail_uid, and there is no user {USUAL}",
                fifo.display()
            ));
        }
        let more = dovecot.map_or(Vec::new(), Dovecot::mail_groups);
        for mut writer in writers {
            writer.gids.extend(&more);
            note_mail(&writer, fifo, findings);
        }
    }
    if let Some(fifo) = user.filter(|fifo| fifo.exists()) {
        let configured = dovecot.and_then(Dovecot::auth_user);
        let writer = configured.and_then(|name| named(&name));
        let writer = writer.or_else(|| running(&["auth"]).pop());
        if let Some(writer) = writer {
            note_auth(&writer, fifo, findings);
        }
    }
}

/// Notes whether mail processes can open a FIFO.
fn note_mail(writer: &Writer, fifo: &Path, findings: &mut Findings) {
    let (name, shown) = (&writer.name, fifo.display());
    let Some(obstacle) = writer.obstacle(fifo) else {
        return findings.good(format!(
            "mail processes run as {name}, who can write to {shown}"
        ));
    };
    let owner = fs::metadata(&obstacle).map_or(String::new(), |found| access(&found));
    if fs::canonicalize(fifo).is_ok_and(|fifo| fifo == obstacle) {
        let file = fifo.file_name().unwrap_or_default().to_string_lossy();
        findings.wrong(
            format!("mail processes run as {name}, who cannot write to {shown} ({owner})"),
            format!(
                "with systemd: \"systemctl edit dovestatd.socket\", [Socket] SocketUser={name}; \
                 else in dovestatd.conf, service stats: fifo_listener {file}, user = {name}; \
                 then restart"
            ),
        );
    } else {
        let dir = obstacle.display();
        findings.wrong(
            format!(
                "mail processes run as {name}, who cannot pass the directory {dir} ({owner}) to \
                 {shown}"
            ),
            format!("chmod a+x {dir}"),
        );
    }
}

/// Notes whether auth can open a FIFO. It opens the FIFO as root when it starts, and as its user
/// when the daemon has made the FIFO anew since.
fn note_auth(writer: &Writer, fifo: &Path, findings: &mut Findings) {
    let (name, shown) = (&writer.name, fifo.display());
    match writer.obstacle(fifo) {
        None => findings.good(format!("auth runs as {name}, who can write to {shown}")),
        Some(_) => findings.note(format!(
            "auth runs as {name}, who cannot write to {shown}: it opens the FIFO as root \
             when it starts, but could not open one that dovestatd has made anew; let {name} or its \
             group write to it"
        )),
    }
}

/// The users of mail processes: by the configuration, else by those that run.
fn mail_writers(dovecot: Option<&Dovecot>) -> Vec<Writer> {
    let configured = dovecot.and_then(Dovecot::mail_user);
    let writers = match configured.and_then(|name| named(&name)) {
        Some(writer) => vec![writer],
        None => running(MAIL_PROCESSES),
    };
    if !writers.is_empty() {
        return writers;
    }
    named(USUAL).into_iter().collect()
}

/// A user of this system.
pub(super) fn named(name: &str) -> Option<Writer> {
    let user = User::find(name).ok().flatten()?;
    Some(Writer {
        name: name.to_owned(),
        uid: user.uid,
        gids: groups(&user).unwrap_or_default(),
    })
}

/// The users of running processes of these names, each once. Processes of root
/// become another user before they report.
fn running(names: &[&str]) -> Vec<Writer> {
    let mut found: Vec<Writer> = Vec::new();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    for dir in entries.map(|entry| entry.path()) {
        let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap_or_default();
        if names.contains(&read("comm").trim()) {
            let writer = of_status(&read("status")).filter(|writer| writer.uid != 0);
            found.extend(writer);
        }
    }
    found = sorted(found, &|a, b| a.uid.cmp(&b.uid));
    found.dedup_by_key(|writer| writer.uid);
    found
}

/// The user of a process, by its `/proc/PID/status`.
fn of_status(status: &str) -> Option<Writer> {
    let numbers = |name: &str| -> Option<Vec<u32>> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.split_whitespace().flat_map(str::parse).collect())
    };
    // Real, effective, saved, file system: proc(5).
    let uid = *numbers("Uid:")?.get(3)?;
    let mut gids = numbers("Groups:")?;
    gids.push(*numbers("Gid:")?.get(3)?);
    Some(Writer {
        name: shown_user(uid),
        uid,
        gids,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_acts_as_its_file_system_ids() {
        let status = "Name:\timap\nUid:\t0\t0\t0\t4294967293\nGid:\t1\t2\t3\t4\nGroups:\t7 8 \n";
        let writer = of_status(status).unwrap();
        assert_eq!((writer.uid, &*writer.gids), (4_294_967_293, &[7, 8, 4][..]));
        assert_eq!(writer.name, "4294967293");
        assert_eq!(of_status("Name:\timap\n"), None);
    }
}
