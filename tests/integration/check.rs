//! `dovestat check`: why nothing arrives, each reason made and named.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output, Stdio};

use crate::dovecot::{available, Dovecot, MAIL_USER};
use crate::harness::{text, wait_until, Daemon, Setup, TempDir};
use crate::mail::Imap;

/// Runs the client.
fn dovestat(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dovestat"));
    let command = command.args(args).stdin(Stdio::null());
    command.output().expect("run dovestat")
}

/// What a check says of a socket's daemon and a configuration of Dovecot, and whether it
/// finds nothing wrong. A file that is not there stands for no Dovecot.
fn check(socket: &str, dovecot: &str) -> (String, bool) {
    let output = dovestat(&["-s", socket, "check", "--dovecot", dovecot]);
    let report = text(&output.stdout);
    let is_good = output.status.code() == Some(0);
    assert!(is_good || output.status.code() == Some(1), "{output:?}");
    assert_eq!(is_good, !report.contains("WRONG"), "{report}");
    assert_eq!(is_good, report.contains("nothing is wrong"), "{report}");
    (report, is_good)
}

#[test]
fn a_daemon_that_does_not_run_is_missed() {
    let dir = TempDir::new("no-daemon");
    let socket = dir.at("stats");
    let (report, _) = check(&socket, &dir.at("none"));
    let finding = format!("WRONG:   no dovestatd answers at {socket}: No such file or directory\n");
    assert!(report.contains(&finding), "{report}");
    assert!(
        report.contains("-> start it: \"systemctl start dovestatd\""),
        "{report}"
    );
    for args in [&["check", "more"][..], &["-s", "localhost:1", "check"]] {
        let output = dovestat(args);
        assert_eq!(output.status.code(), Some(64), "{output:?}");
    }
}

#[test]
fn what_the_daemon_says_is_told() {
    let daemon = Daemon::with("check", &Setup::new().unix(""));
    let (socket, fifo) = (daemon.socket(), daemon.fifo());
    let none = daemon.dir.at("none");
    let (report, _) = check(&socket, &none);
    assert!(report.contains(&format!(
        "ok:      dovestatd 0.1.0 serves at {socket} since 2"
    )));
    assert!(
        report.contains(&format!("(process {})\n", daemon.pid())),
        "{report}"
    );
    assert!(
        report.contains("WRONG:   no record came since then\n"),
        "{report}"
    );
    assert!(
        report.contains(&format!("ok:      {fifo} (owner ")),
        "{report}"
    );

    daemon.feed(&["nonsense"]);
    let (report, _) = check(&socket, &none);
    assert!(
        report.contains("WRONG:   none of the 1 records was taken\n"),
        "{report}"
    );
    daemon.feed(&["CONNECT\tid1\tuser\timap\t1"]);
    let (report, _) = check(&socket, &none);
    assert!(report.contains(&format!("ok:      2 records from {fifo}, the last at 2")));
    assert!(
        report.contains("note:    line dropped: not a kind of record (1 so far, the last at 2"),
        "{report}"
    );
    assert!(!report.contains("was taken"), "{report}");
}

#[test]
fn a_fifo_that_is_gone_or_not_read_is_found() {
    let daemon = Daemon::start("check-fifo");
    let (socket, fifo) = (daemon.socket(), daemon.fifo());
    let none = daemon.dir.at("none");
    fs::remove_file(&fifo).expect("remove it");
    let made = Command::new("mkfifo").arg(&fifo).status();
    assert!(made.expect("run mkfifo").success());
    let (report, _) = check(&socket, &none);
    assert!(
        report.contains(&format!("WRONG:   {fifo} (owner ")),
        "{report}"
    );
    assert!(report.contains(") is read by no process\n"), "{report}");
    fs::remove_file(&fifo).expect("remove it");
    let (report, _) = check(&socket, &none);
    assert!(
        report.contains(&format!("WRONG:   {fifo} is not there\n")),
        "{report}"
    );
    fs::write(&fifo, "").expect("a file");
    let (report, _) = check(&socket, &none);
    assert!(
        report.contains(&format!("WRONG:   {fifo} is not a FIFO\n")),
        "{report}"
    );
}

/// Dovecot's own service does not answer as ours does.
#[test]
fn dovecots_own_service_is_told_apart() {
    if !available("dovecots_own_service_is_told_apart") {
        return;
    }
    let original = Dovecot::original("check-original");
    let socket = original.stats_socket();
    let (report, _) = check(&socket, &original.dir.at("dovecot.conf"));
    let finding = format!(
        "WRONG:   what answers at {socket} is not dovestatd: perhaps Dovecot's own service\n"
    );
    assert!(report.contains(&finding), "{report}");
}

/// A real Dovecot, at first with everything wrong that can be, then mended step by step
/// as the check says.
#[test]
fn a_real_dovecot_is_mended_by_what_is_said() {
    if !available("a_real_dovecot_is_mended_by_what_is_said") {
        return;
    }
    let dir = TempDir::new("check-dovecot");
    fs::create_dir_all(dir.at("run")).expect("mkdir Dovecot's base_dir");
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(dir.at("run"), mode).expect("chmod Dovecot's base_dir");
    let daemon = Daemon::start("check-mended");
    let (socket, fifo) = (daemon.socket(), daemon.fifo());
    let dovecot = Dovecot::mail(dir, &fifo);
    let config = dovecot.dir.at("dovecot.conf");
    let good = fs::read_to_string(&config).expect("the configuration");
    let user_fifo = daemon.dir.at("run/stats-user");
    let auth = dovecot.dir.at("run/old-stats-user");

    for (line, instead, finding) in [
        (
            "mail_plugins = $mail_plugins old_stats",
            "",
            "WRONG:   mail_plugins lacks old_stats: nothing is reported of pop3, lmtp\n",
        ),
        (
            "$mail_plugins imap_old_stats",
            "$mail_plugins",
            "WRONG:   protocol imap: mail_plugins lacks imap_old_stats: no command is reported\n",
        ),
        (
            "old_stats_refresh = 2 secs",
            "",
            "WRONG:   old_stats_refresh is not set: without it the plugin reports nothing\n",
        ),
        (
            &format!("old_stats_notify_path = {fifo}"),
            "",
            &format!(
                "WRONG:   old_stats_notify_path is not set, and {}/run/old-stats-mail is not \
                 there\n",
                dovecot.dir.path().display()
            ),
        ),
        (
            "auth_stats = yes",
            "",
            "note:    auth_stats is not yes: logins that fail are not counted\n",
        ),
    ] {
        assert!(good.contains(line), "{line}");
        // Not the file of the Dovecot that runs: it reads it again at any time.
        let changed = dovecot
            .dir
            .write("changed.conf", &good.replace(line, instead));
        let (report, _) = check(&socket, &changed);
        assert!(report.contains(finding), "{finding}\n{report}");
        assert!(!check(&socket, &config).0.contains(finding), "{finding}");
    }

    // What is left: who may write, and auth.
    let (report, _) = check(&socket, &config);
    let closed =
        format!("WRONG:   mail processes run as {MAIL_USER}, who cannot write to {fifo} (");
    assert!(report.contains(&closed), "{report}");
    assert!(
        report.contains(&format!("SocketUser={MAIL_USER};")),
        "{report}"
    );
    let mut imap = Imap::login(dovecot.imap, "joe@example.org");
    imap.ok("LOGOUT");
    assert_eq!(daemon.client().export("session").rows.len(), 0);

    let chown = Command::new("chown").args([MAIL_USER, &fifo]).status();
    assert!(chown.expect("run chown").success());
    let lost = format!("WRONG:   auth reports to {auth}, which leads to no FIFO of dovestatd\n");
    assert!(report.contains(&lost), "{report}");
    assert!(
        report.contains(&format!("-> ln -sf {user_fifo} {auth}, each time")),
        "{report}"
    );
    std::os::unix::fs::symlink(&user_fifo, &auth).expect("the link");

    let mut imap = Imap::login(dovecot.imap, "joe@example.org");
    wait_until("its session", || {
        daemon.client().export("session").rows.len() == 1
    });
    let (report, is_good) = check(&socket, &config);
    assert!(is_good, "{report}");
    for finding in [
        format!("ok:      mail processes run as {MAIL_USER}, who can write to {fifo}\n"),
        format!("ok:      old_stats_notify_path: {fifo} leads to {fifo}\n"),
        format!("ok:      auth reports to {auth}, which leads to {user_fifo}\n"),
        format!(" records from {fifo}, the last at 2"),
    ] {
        assert!(report.contains(&finding), "{finding}\n{report}");
    }
    imap.ok("LOGOUT");
}

/// doveconf's own complaint is passed on.
#[test]
fn a_configuration_that_doveconf_refuses_is_told() {
    if !available("a_configuration_that_doveconf_refuses_is_told") {
        return;
    }
    let daemon = Daemon::start("check-broken");
    let file = daemon.dir.write("dovecot.conf", "no_such_setting = 1\n");
    let (report, _) = check(&daemon.socket(), &file);
    let finding = format!("WRONG:   doveconf -c {file}: ");
    assert!(
        report.contains(&finding) && report.contains("no_such_setting"),
        "{report}"
    );
}
