//! A private Dovecot 2.3 below a directory of the test's own: the original
//! statistics service to compare with, or IMAP, POP3 and LMTP servers whose
//! processes report to our daemon.
//!
//! It needs root and Debian's packages dovecot-core, dovecot-imapd,
//! dovecot-pop3d and dovecot-lmtpd; no user is created for it.

use std::fs;
use std::process::{Child, Command, Output, Stdio};

use crate::harness::{
    free_port, holds_within, is_root, skipped, text, wait_until, TempDir, DEADLINE,
};
use crate::link::Client;

/// The user whose mail it is: there is one on every Debian.
pub const MAIL_USER: &str = "mail";

/// Whether the tests with Dovecot can run. If not, says so in one line, or
/// panics when the environment has DOVESTAT_PEERS=required.
pub fn available(test: &str) -> bool {
    let why = if !is_root() {
        "it needs root"
    } else {
        match Command::new("dovecot")
            .arg("--version")
            .stderr(Stdio::null())
            .output()
        {
            Ok(output) if text(&output.stdout).starts_with("2.3.") => return true,
            Ok(_) => "the Dovecot installed is not version 2.3",
            Err(_) => "dovecot is not installed",
        }
    };
    let required = std::env::var("DOVESTAT_PEERS").is_ok_and(|v| v == "required");
    assert!(!required, "{test}: {why}, but DOVESTAT_PEERS=required");
    skipped(test, why);
    false
}

/// A running private instance.
pub struct Dovecot {
    /// Where everything of it is.
    pub dir: TempDir,
    /// The port of IMAP, 0 without.
    pub imap: u16,
    /// The port of POP3, 0 without.
    pub pop3: u16,
    master: Child,
}

impl Dovecot {
    /// The original statistics service and nothing else.
    pub fn original(name: &str) -> Dovecot {
        Dovecot::original_limited(name, "2 G")
    }

    /// The same with a limit of its memory.
    pub fn original_limited(name: &str, limit: &str) -> Dovecot {
        Dovecot::original_with(name, &format!("old_stats_memory_limit = {limit}\n"))
    }

    /// The same with further lines of configuration.
    pub fn original_with(name: &str, lines: &str) -> Dovecot {
        let dir = TempDir::new(name);
        let conf = format!(
            "{}protocols =\n{lines}service old-stats {{\n  vsz_limit = 0\n}}\n",
            head(&dir)
        );
        let dovecot = Dovecot::start(dir, &conf, 0, 0);
        let socket = dovecot.stats_socket();
        wait_until("the original answering", || {
            Client::try_unix(&socket).is_some_and(|mut c| c.try_export("global").is_some())
        });
        dovecot
    }

    /// IMAP, POP3 and LMTP with mail processes reporting to `fifo`; the
    /// original's listeners are switched off, so `base_dir/old-stats-user` is free
    /// for another service.
    pub fn mail(dir: TempDir, fifo: &str) -> Dovecot {
        Dovecot::mail_with(dir, fifo, "")
    }

    /// The same with further lines of configuration.
    pub fn mail_with(dir: TempDir, fifo: &str, lines: &str) -> Dovecot {
        let plugin = format!("plugin {{\n  old_stats_notify_path = {fifo}\n}}\n");
        Dovecot::mail_config(dir, &(plugin + LISTENERS_OFF + lines))
    }

    /// IMAP, POP3 and LMTP with a statistics service of these lines, which the mail
    /// processes report to.
    pub fn mail_and_service(dir: TempDir, service: &str) -> Dovecot {
        Dovecot::mail_config(dir, service)
    }

    /// No protocols, and a statistics service of these lines.
    pub fn service(dir: TempDir, service: &str) -> Dovecot {
        let conf = format!("{}protocols =\n{service}", head(&dir));
        Dovecot::start(dir, &conf, 0, 0)
    }

    fn mail_config(dir: TempDir, lines: &str) -> Dovecot {
        let (imap, pop3) = (free_port(), free_port());
        let conf = mail_config(&dir, imap, pop3) + lines;
        let home = dir.at("mail");
        fs::create_dir_all(&home).expect("mkdir mail");
        let chown = Command::new("chown")
            .args([MAIL_USER, &home])
            .status()
            .expect("chown");
        assert!(chown.success(), "chown {MAIL_USER} {home}");
        let dovecot = Dovecot::start(dir, &conf, imap, pop3);
        for port in [imap, pop3] {
            wait_until("Dovecot's ports", || {
                std::net::TcpStream::connect(crate::harness::local(port)).is_ok()
            });
        }
        dovecot
    }

    fn start(dir: TempDir, conf: &str, imap: u16, pop3: u16) -> Dovecot {
        fs::create_dir_all(dir.at("state")).expect("mkdir state");
        dir.write("dovecot.conf", conf);
        let master = spawn(&dir);
        Dovecot {
            dir,
            imap,
            pop3,
            master,
        }
    }

    /// The original's socket.
    pub fn stats_socket(&self) -> String {
        self.dir.at("run/old-stats")
    }

    /// The original's FIFO.
    pub fn stats_fifo(&self) -> String {
        self.dir.at("run/old-stats-mail")
    }

    /// The LMTP socket.
    pub fn lmtp_socket(&self) -> String {
        self.dir.at("run/lmtp")
    }

    /// Runs `doveadm -c CONF ARGS`.
    pub fn doveadm(&self, args: &[&str]) -> Output {
        let mut command = Command::new("doveadm");
        command
            .args(["-c", &self.dir.at("dovecot.conf")])
            .args(args)
            .stdin(Stdio::null());
        command.output().expect("run doveadm")
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        let read = |name: &str| text(&fs::read(self.dir.at(name)).unwrap_or_default());
        read("stderr") + &read("log")
    }

    /// The number of the master's process.
    pub fn pid(&self) -> u32 {
        self.master.id()
    }

    /// Ends it.
    pub fn stop(mut self) {
        self.end();
    }

    /// Ends it by a signal, waits for more, and starts one with the same configuration.
    pub fn restart(&mut self, signal: i32, wait: impl FnOnce()) {
        crate::harness::send_signal(self.pid(), signal);
        wait_until("the master's end", || {
            matches!(self.master.try_wait(), Ok(Some(_)))
        });
        wait();
        self.master = spawn(&self.dir);
    }

    fn end(&mut self) {
        if let Ok(None) = self.master.try_wait() {
            crate::harness::send_signal(self.master.id(), libc::SIGTERM);
            if !holds_within(DEADLINE, || matches!(self.master.try_wait(), Ok(Some(_)))) {
                let _ = self.master.kill();
                let _ = self.master.wait();
            }
        }
    }
}

impl Drop for Dovecot {
    fn drop(&mut self) {
        self.end();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let last = &lines[lines.len().saturating_sub(40)..];
            eprintln!("--- last lines of Dovecot's log:\n{}\n---", last.join("\n"));
        }
    }
}

/// Starts the master.
fn spawn(dir: &TempDir) -> Child {
    let log = fs::File::create(dir.at("stderr")).expect("create stderr");
    Command::new("dovecot")
        .args(["-F", "-c", &dir.at("dovecot.conf")])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("start dovecot")
}

/// What every instance has.
fn head(dir: &TempDir) -> String {
    format!(
        "base_dir = {}\nstate_dir = {}\nlog_path = {}\nssl = no\ninstance_name = {}\n",
        dir.at("run"),
        dir.at("state"),
        dir.at("log"),
        dir.path()
            .file_name()
            .and_then(|n| n.to_str())
            .unwrap_or("dovestat-test"),
    )
}

/// The part of Dovecot's configuration that the manual asks administrators for: mail
/// processes report what they do.
fn mail_config(dir: &TempDir, imap: u16, pop3: u16) -> String {
    let mail = dir.at("mail");
    let mut conf = head(dir);
    conf += &format!(
        "protocols = imap pop3 lmtp\n\
         disable_plaintext_auth = no\n\
         first_valid_uid = 1\n\
         mail_location = maildir:{mail}/%d/%n\n\
         mail_plugins = $mail_plugins old_stats\n\
         protocol imap {{\n  mail_plugins = $mail_plugins imap_old_stats\n}}\n\
         auth_stats = yes\n\
         auth_failure_delay = 0\n\
         passdb {{\n  driver = static\n  args = password=pass\n}}\n\
         userdb {{\n  driver = static\n  args = uid={MAIL_USER} gid={MAIL_USER} home={mail}/%d/%n allow_all_users=yes\n}}\n\
         plugin {{\n  old_stats_refresh = 2 secs\n  old_stats_track_cmds = yes\n}}\n"
    );
    conf += &inet("imap-login", "imap", imap, "imaps");
    conf += &inet("pop3-login", "pop3", pop3, "pop3s");
    // Without it a wrong password delays the next logins by seconds.
    conf += "service anvil {\n  unix_listener anvil-auth-penalty {\n    mode = 0\n  }\n}\n";
    conf += "service lmtp {\n  unix_listener lmtp {\n    mode = 0666\n  }\n}\n";
    conf
}

/// Switches the listeners of the original off.
const LISTENERS_OFF: &str = "service old-stats {\n\
    \x20 fifo_listener old-stats-mail {\n    mode = 0\n  }\n\
    \x20 fifo_listener old-stats-user {\n    mode = 0\n  }\n\
    \x20 unix_listener old-stats {\n    mode = 0\n  }\n\
    }\n";

/// A login service on one port of 127.0.0.1.
fn inet(service: &str, plain: &str, port: u16, tls: &str) -> String {
    format!(
        "service {service} {{\n  inet_listener {plain} {{\n    address = 127.0.0.1\n    port = {port}\n  }}\n  \
         inet_listener {tls} {{\n    port = 0\n  }}\n}}\n"
    )
}
