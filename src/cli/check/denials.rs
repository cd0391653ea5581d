//! What AppArmor and SELinux refused to mail processes, by those of the system's logs
//! that can be read.

use super::Findings;
use crate::sys::fs::dir::open_regular;
use crate::sys::reason;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const LOGS: [&str; 4] = [
    "/var/log/audit/audit.log",
    "/var/log/kern.log",
    "/var/log/syslog",
    "/var/log/messages",
];

/// How much of the end of a log is looked at.
const TAIL_BYTES: u64 = 4 << 20;

/// Notes refusals. One from before the last record, in seconds since 1970, may be mended.
pub(super) fn look(fifos: &[PathBuf], last_record_secs: u64, findings: &mut Findings) {
    let mut was_seen = false;
    let mut unread = Vec::new();
    let mut last = None;
    for log in LOGS.map(Path::new) {
        match tail(log) {
            Ok(text) => {
                was_seen = true;
                last = denial(&text, fifos).or(last);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => unread.push(format!("{}: {}", log.display(), reason(&error))),
        }
    }
    if let Some(text) = journal() {
        was_seen = true;
        last = denial(&text, fifos).or(last);
    }
    match last {
        Some(denial) => denial.note(last_record_secs, findings),
        None if !unread.is_empty() => findings.unknown(format!(
            "what AppArmor and SELinux refuse: {}",
            unread.join(", ")
        )),
        None if was_seen => findings.good("no refusal of AppArmor or SELinux in the system's logs"),
        None => findings.unknown("what AppArmor and SELinux refuse: there is no log of the system"),
    }
}

/// A refusal, by its line.
#[derive(Debug, PartialEq, Eq)]
enum Denial {
    AppArmor(String),
    SeLinux(String),
}

impl Denial {
    fn note(&self, last_record_secs: u64, findings: &mut Findings) {
        match self {
            _ if self.secs().is_some_and(|secs| secs < last_record_secs) => {
                let line = self.line();
                findings.note(format!("refused once, but records came after that: {line}"));
            }
            Denial::AppArmor(line) => findings.wrong(
                format!("AppArmor refused it: {line}"),
                "\"systemctl reload apparmor\" has Dovecot's profiles loaded with \
                 /etc/apparmor.d/abstractions/dovecot-common.d/dovestat; a FIFO elsewhere than \
                 in /run/dovestat needs a line of its own there",
            ),
            Denial::SeLinux(line) => findings.wrong(
                format!("SELinux refused it: {line}"),
                "give the FIFOs the type of Dovecot's own, dovecot_var_run_t, as README.SELinux \
                 says",
            ),
        }
    }

    fn line(&self) -> &str {
        let (Denial::AppArmor(line) | Denial::SeLinux(line)) = self;
        line
    }

    /// When it was, in seconds since 1970: `audit(1795469361.123:45)`.
    fn secs(&self) -> Option<u64> {
        let (_, stamp) = self.line().split_once("audit(")?;
        stamp.split('.').next()?.parse().ok()
    }
}

/// The last refusal in a log that is about one of the FIFOs.
fn denial(text: &str, fifos: &[PathBuf]) -> Option<Denial> {
    let is_about = |line: &str| {
        fifos.iter().any(|fifo| {
            let name = fifo.file_name().unwrap_or_default().to_string_lossy();
            // AppArmor names the path, SELinux the last part of it.
            line.contains(&*fifo.to_string_lossy()) || line.contains(&format!("name=\"{name}\""))
        })
    };
    text.lines().rev().find_map(|line| {
        let shown = || line.trim().chars().take(300).collect();
        if line.contains("apparmor=\"DENIED\"") && is_about(line) {
            Some(Denial::AppArmor(shown()))
        } else if line.contains("avc:") && line.contains("denied") && is_about(line) {
            Some(Denial::SeLinux(shown()))
        } else {
            None
        }
    })
}

/// The end of a log.
fn tail(path: &Path) -> io::Result<String> {
    let mut file = open_regular(path)?;
    let len_bytes = file.metadata()?.len();
    file.seek(SeekFrom::Start(len_bytes.saturating_sub(TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// What the kernel logged to the journal; `None` if there is none, or no permission to
/// read it.
fn journal() -> Option<String> {
    let mut command = Command::new("journalctl");
    command.args(["-k", "-q", "-n", "10000", "--no-pager", "-o", "cat"]);
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output();
    let output = output.ok().filter(|output| output.status.success())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_of_the_fifos_are_found() {
        let fifos = [PathBuf::from("/run/dovestat/stats-mail")];
        let apparmor = "kernel: audit: type=1400 audit(1795469361.1:23): apparmor=\"DENIED\" \
                        operation=\"open\" profile=\"/usr/lib/dovecot/imap\" \
                        name=\"/run/dovestat/stats-mail\" pid=4711 comm=\"imap\" \
                        requested_mask=\"w\" denied_mask=\"w\" fsuid=5000 ouid=0";
        let selinux = "type=AVC msg=audit(1795469361.2:24): avc:  denied  { write } for  pid=4711 \
                       comm=\"imap\" name=\"stats-mail\" dev=\"tmpfs\" ino=7 \
                       scontext=system_u:system_r:dovecot_t:s0 tclass=fifo_file permissive=0";
        let other = "apparmor=\"DENIED\" name=\"/etc/shadow\"\navc:  denied name=\"other\"\n";
        let found = |text: &str| denial(text, &fifos);
        assert_eq!(found(other), None);
        assert_eq!(found(apparmor), Some(Denial::AppArmor(apparmor.to_owned())));
        let secs = |text: &str| found(text).and_then(|denial| denial.secs());
        assert_eq!(secs(apparmor), Some(1_795_469_361));
        assert_eq!(secs(selinux), Some(1_795_469_361));
        assert_eq!(secs(&selinux.replace("audit(", "(")), None);
        assert_eq!(found(selinux), Some(Denial::SeLinux(selinux.to_owned())));
        let noted = |last_record_secs| {
            let mut findings = Findings::default();
            let denial = found(apparmor).expect("it is found");
            denial.note(last_record_secs, &mut findings);
            findings.text()
        };
        assert!(noted(1_795_469_361).contains("WRONG:   AppArmor refused it: kernel"));
        assert!(noted(1_795_469_362).contains("note:    refused once, but"));
        let both = format!("{selinux}\n{apparmor}\n{other}");
        assert_eq!(found(&both), Some(Denial::AppArmor(apparmor.to_owned())));
        let allowed = apparmor.replace("DENIED", "ALLOWED");
        assert_eq!(found(&allowed), None);
    }
}
