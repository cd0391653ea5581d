//! Dovecot's configuration, as doveconf(1) prints it: whether the plugins are loaded
//! and know where to report.

use super::{leads_to, mail_and_user, Findings};
use crate::sys::proc::user::find_group;
use crate::sys::reason;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What doveconf prints.
#[derive(Debug, Default)]
pub(super) struct Dovecot {
    /// `2.3.19.1`
    pub(super) version: String,
    /// The values of settings, by the names of their sections and theirs, divided by
    /// slashes: `protocol imap/mail_plugins`.
    settings: Vec<(String, String)>,
}

/// Runs doveconf; `None` if it is missing or fails.
pub(super) fn read(file: Option<&Path>, findings: &mut Findings) -> Option<Dovecot> {
    let mut command = Command::new("doveconf");
    if let Some(file) = file {
        command.arg("-c").arg(file);
    }
    match command.arg("-a").stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => {
            Some(Dovecot::parse(&String::from_utf8_lossy(&output.stdout)))
        }
        Ok(output) => {
            let complaint = String::from_utf8_lossy(&output.stderr);
            let why = complaint.lines().next().unwrap_or("it fails").to_owned();
            match file {
                Some(file) => findings.wrong(
                    format!("doveconf -c {}: {why}", file.display()),
                    "correct Dovecot's configuration; root can read all of it",
                ),
                None => findings.unknown(format!("Dovecot's configuration: doveconf: {why}")),
            }
            None
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            findings.unknown("Dovecot's configuration: there is no doveconf here");
            None
        }
        Err(error) => {
            findings.unknown(format!(
                "Dovecot's configuration: doveconf: {}",
                reason(&error)
            ));
            None
        }
    }
}

impl Dovecot {
    /// Reads what doveconf -a prints.
    pub(super) fn parse(text: &str) -> Dovecot {
        let mut dovecot = Dovecot::default();
        let mut sections: Vec<&str> = Vec::new();
        for line in text.lines().map(str::trim) {
            if let Some(comment) = line.strip_prefix("# ") {
                if dovecot.version.is_empty() {
                    let version = comment.split_whitespace().next();
                    dovecot.version = version.unwrap_or_default().to_owned();
                }
            } else if let Some(section) = line.strip_suffix(" {") {
                sections.push(section);
            } else if line == "}" {
                sections.pop();
            } else if let Some((name, value)) = line.split_once('=') {
                let path = [&sections[..], &[name.trim()]].concat().join("/");
                let value = value.trim().trim_matches('"').trim();
                dovecot.settings.push((path, value.to_owned()));
            }
        }
        dovecot
    }

    /// The value of a setting, one that refers to another followed.
    pub(super) fn get(&self, path: &str) -> Option<&str> {
        // The last of a name holds.
        let value = |path: &str| {
            let mut settings = self.settings.iter().rev();
            Some(&settings.find(|setting| setting.0 == path)?.1)
        };
        let (find, value) = (value, value(path)?);
        let name = value.strip_prefix('$');
        // Dovecot 2.4: $SET:default_internal_user.
        let name = name.map(|name| name.strip_prefix("SET:").unwrap_or(name));
        let referred = name.and_then(find);
        Some(referred.unwrap_or(value).as_str())
    }

    /// The names of sections of a kind.
    pub(super) fn sections<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a str> {
        let mut last = "";
        self.settings
            .iter()
            .map(|(path, _)| path)
            .filter_map(move |path| {
                let section = path.split('/').next()?;
                let is_new = section != last;
                last = section;
                section
                    .strip_prefix(kind)?
                    .strip_prefix(' ')
                    .filter(|_| is_new)
            })
    }

    /// What the names of the old statistics begin with.
    fn prefix(&self) -> &'static str {
        match self.version.starts_with("2.2.") {
            true => "",
            false => "old_",
        }
    }

    /// Whether this is a Dovecot that has them.
    pub(super) fn has_statistics(&self) -> bool {
        ["2.2.", "2.3."]
            .iter()
            .any(|version| self.version.starts_with(version))
    }

    /// The user of mail processes, if all have one.
    pub(super) fn mail_user(&self) -> Option<String> {
        let is_given = |value: &&str| !value.is_empty();
        if let Some(user) = self.get("mail_uid").filter(is_given) {
            return Some(user.to_owned());
        }
        // A userdb that has one for all: args = uid=vmail gid=vmail home=...
        let settings = self.settings.iter();
        let mut userdbs = settings.filter(|(path, _)| path.starts_with("userdb/"));
        userdbs.find_map(|(_, value)| {
            let uid = value
                .split_whitespace()
                .find_map(|word| word.strip_prefix("uid="))?;
            (!uid.contains('%')).then(|| uid.to_owned())
        })
    }

    /// Groups that all mail processes are in beside their user's.
    pub(super) fn mail_groups(&self) -> Vec<u32> {
        let names = self.get("mail_access_groups").unwrap_or_default();
        let names = names.split([',', ' ']).filter(|name| !name.is_empty());
        names.filter_map(|name| find_group(name).ok()?).collect()
    }

    /// The user of the auth process.
    pub(super) fn auth_user(&self) -> Option<String> {
        self.get("service auth/user").map(str::to_owned)
    }

    /// The socket of a service that dovestatd is the program of.
    pub(super) fn service_socket(&self) -> Option<PathBuf> {
        let service = self.settings.iter().find_map(|(path, value)| {
            let program = value.split_whitespace().next()?;
            let is_ours = Path::new(program).file_name()? == "dovestatd";
            path.strip_suffix("executable").filter(|_| is_ours)
        })?;
        let listener = format!("{service}unix_listener ");
        let names = self.settings.iter().map(|(path, _)| path);
        let mut names = names.filter_map(|path| path.strip_prefix(&listener)?.rsplit_once('/'));
        names.next().map(|(name, _)| self.in_base_dir(name))
    }

    /// The plugins of a protocol.
    fn plugins(&self, protocol: &str) -> Vec<&str> {
        let own = self.get(&format!("protocol {protocol}/mail_plugins"));
        let all = own.or(self.get("mail_plugins")).unwrap_or_default();
        all.split_whitespace().collect()
    }

    /// Where something of Dovecot's own base_dir is.
    fn in_base_dir(&self, name: &str) -> PathBuf {
        Path::new(self.get("base_dir").unwrap_or("/run/dovecot")).join(name)
    }
}

/// Notes how the configuration of one that has statistics has them.
pub(super) fn look(dovecot: &Dovecot, fifos: &[PathBuf], findings: &mut Findings) {
    findings.good(format!(
        "Dovecot {} has statistics plugins",
        dovecot.version
    ));
    plugins(dovecot, findings);
    let [mail, user] = mail_and_user(fifos);
    notify_path(dovecot, fifos, mail, findings);
    auth(dovecot, fifos, user, findings);
}

/// Whether the plugins are loaded, and do something.
fn plugins(dovecot: &Dovecot, findings: &mut Findings) {
    let prefix = dovecot.prefix();
    let (plugin, of_imap) = (format!("{prefix}stats"), format!("imap_{prefix}stats"));
    let protocols = dovecot.get("protocols").unwrap_or_default();
    let mut lacking: Vec<(String, Vec<&str>)> = Vec::new();
    let mut named = protocols.split_whitespace().collect::<Vec<_>>();
    named.retain(|protocol| ["imap", "pop3", "lmtp"].contains(protocol));
    for protocol in named {
        let loaded = dovecot.plugins(protocol);
        let setting = match dovecot.get(&format!("protocol {protocol}/mail_plugins")) {
            Some(_) => format!("protocol {protocol}: mail_plugins"),
            None => "mail_plugins".to_owned(),
        };
        if !loaded.contains(&&*plugin) {
            match lacking.iter_mut().find(|(other, _)| *other == setting) {
                Some((_, protocols)) => protocols.push(protocol),
                None => lacking.push((setting, vec![protocol])),
            }
        } else if protocol == "imap" && !loaded.contains(&&*of_imap) {
            findings.wrong(
                format!("{setting} lacks {of_imap}: no command is reported"),
                format!("in dovecot.conf: protocol imap, mail_plugins = $mail_plugins {of_imap}"),
            );
        } else {
            findings.good(format!("{protocol} has the plugin {plugin}"));
        }
    }
    for (setting, protocols) in lacking {
        let protocols = protocols.join(", ");
        findings.wrong(
            format!("{setting} lacks {plugin}: nothing is reported of {protocols}"),
            format!(
                "in dovecot.conf, before all protocol sections: mail_plugins = $mail_plugins \
                 {plugin}; and in these begin mail_plugins with $mail_plugins"
            ),
        );
    }
    let refresh = format!("{prefix}stats_refresh");
    match dovecot.get(&format!("plugin/{refresh}")) {
        Some(time) if !time.is_empty() && !time.starts_with('0') => {
            findings.good(format!("{refresh} = {time}"));
        }
        _ => findings.wrong(
            format!("{refresh} is not set: without it the plugin reports nothing"),
            format!("in dovecot.conf: plugin, {refresh} = 30 secs"),
        ),
    }
    let track = format!("{prefix}stats_track_cmds");
    if dovecot.get(&format!("plugin/{track}")) != Some("yes") {
        findings.note(format!("{track} is not yes: no commands are reported"));
    }
}

fn notify_path(dovecot: &Dovecot, fifos: &[PathBuf], mail: Option<&Path>, findings: &mut Findings) {
    let prefix = dovecot.prefix();
    let name = format!("{prefix}stats_notify_path");
    let given = dovecot.get(&format!("plugin/{name}"));
    let file = format!("{}stats-mail", prefix.replace('_', "-"));
    let path = given.map_or_else(|| dovecot.in_base_dir(&file), PathBuf::from);
    let shown = path.display();
    if let Some(fifo) = leads_to(&path, fifos) {
        return findings.good(format!("{name}: {shown} leads to {}", fifo.display()));
    }
    let fifo = mail
        .unwrap_or(Path::new("/run/dovestat/stats-mail"))
        .display();
    let why = match (given.is_some(), path.exists()) {
        (true, true) => format!("{name} = {shown} is no FIFO of dovestatd"),
        (true, false) => format!("{name} = {shown} is not there"),
        (false, true) => format!(
            "{name} is not set, and mail processes report to {shown}, which is Dovecot's own \
             service"
        ),
        (false, false) => format!("{name} is not set, and {shown} is not there"),
    };
    findings.wrong(why, format!("in dovecot.conf: plugin, {name} = {fifo}"));
}

fn auth(dovecot: &Dovecot, fifos: &[PathBuf], user: Option<&Path>, findings: &mut Findings) {
    if dovecot.get("auth_stats") != Some("yes") {
        return findings.note("auth_stats is not yes: logins that fail are not counted");
    }
    let dash = dovecot.prefix().replace('_', "-");
    let path = dovecot.in_base_dir(&format!("{dash}stats-user"));
    let shown = path.display();
    if let Some(fifo) = leads_to(&path, fifos) {
        return findings.good(format!(
            "auth reports to {shown}, which leads to {}",
            fifo.display()
        ));
    }
    let fifo = user
        .unwrap_or(Path::new("/run/dovestat/stats-user"))
        .display();
    let link = format!("ln -sf {fifo} {shown}, each time Dovecot starts (README, With Dovecot)");
    let listener = format!("service {dash}stats/fifo_listener {dash}stats-user");
    let mode = dovecot.get(&format!("{listener}/mode")).unwrap_or("0");
    match mode.trim_start_matches('0').is_empty() {
        true => findings.wrong(
            format!("auth reports to {shown}, which leads to no FIFO of dovestatd"),
            link,
        ),
        false => findings.wrong(
            format!("auth reports to {shown}, which is Dovecot's own service {dash}stats"),
            format!(
                "in dovecot.conf: service {dash}stats, fifo_listener {dash}stats-user, mode = 0; \
                 restart Dovecot; then {link}"
            ),
        ),
    }
}

#[cfg(test)]
mod tests;
