//! Real peers against our daemon: Dovecot's IMAP, POP3, LMTP and auth processes
//! report to it, `doveadm oldstats` reads it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::dovecot::{available, Dovecot, MAIL_USER};
use crate::harness::{text, wait_until, Daemon, Setup, TempDir};
use crate::link::Table;
use crate::mail::{deliver, Imap, Pop3};
use crate::records::{command, connect, disconnect, update, Mail};

const MESSAGE: &str = "From: a@example.org\r\nTo: b@example.org\r\nSubject: test\r\n\r\nHello.\r\n";

/// A Dovecot whose processes report to a daemon of ours.
struct System {
    // Dropped first: no process of it writes to a FIFO that is gone.
    dovecot: Dovecot,
    daemon: Daemon,
}

impl System {
    /// Starts both. The daemon makes `old-stats-user` in Dovecot's base_dir, where
    /// the auth process writes; Dovecot's own listener of that name is off.
    fn start(name: &str) -> System {
        let dir = TempDir::new(&format!("{name}-dovecot"));
        let base = dir.at("run");
        fs::create_dir_all(&base).expect("mkdir Dovecot's base_dir");
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&base, mode).expect("chmod Dovecot's base_dir");
        let setup = Setup::new().service(&format!(
            "fifo_listener stats-mail {{\nuser = {MAIL_USER}\nmode = 0200\n}}\n\
             fifo_listener {base}/old-stats-user {{\nmode = 0200\n}}"
        ));
        let daemon = Daemon::with(name, &setup);
        let dovecot = Dovecot::mail(dir, &daemon.fifo());
        System { dovecot, daemon }
    }

    fn export(&self, request: &str) -> Table {
        self.daemon.client().export(request)
    }

    /// The session of a user once it is listed; the whole level then.
    #[track_caller]
    fn wait_session(&self, user: &str, service: &str) -> Table {
        let mut table = Table::default();
        wait_until(&format!("the {service} session of {user}"), || {
            table = self.export(&format!("session\tuser={user}\tconnected"));
            table.find("service", service).is_some()
        });
        table
    }

    /// Waits until a count of a level is `value`.
    #[track_caller]
    fn wait_count(&self, request: &str, column: &str, value: u64) {
        wait_until(&format!("{column} = {value} in EXPORT {request:?}"), || {
            let table = self.export(request);
            table.rows.len() == 1 && table.only().num(column) == value
        });
    }
}

/// Asserts that the process lives and has that name.
fn assert_process(pid: u64, name: &str) {
    let comm = fs::read_to_string(format!("/proc/{pid}/comm"));
    assert_eq!(
        comm.map(|c| c.trim().to_string()).ok().as_deref(),
        Some(name),
        "process {pid}"
    );
}

#[test]
fn a_live_imap_session_is_counted_at_every_level() {
    if !available("a_live_imap_session_is_counted_at_every_level") {
        return;
    }
    let system = System::start("imap");
    let user = "alice@example.org";
    let mut imap = Imap::login(system.dovecot.imap, user);
    let table = system.wait_session(user, "imap");
    let row = table.only();
    assert_eq!(row.get("user"), user, "user");
    assert_eq!(row.get("ip"), "127.0.0.1", "ip");
    assert_eq!(row.get("connected"), "1", "connected");
    assert_process(row.num("pid"), "imap");
    for (level, filter) in [
        ("domain", "domain\tdomain=example.org"),
        ("ip", "ip\tip=127.0.0.1"),
        ("global", "global"),
    ] {
        let table = system.export(filter);
        assert_eq!(table.only().num("num_logins"), 1, "num_logins at {level}");
        assert_eq!(
            table.only().num("num_connected_sessions"),
            1,
            "connected at {level}"
        );
    }
    assert_eq!(
        system.export("user\tconnected").only().get("user"),
        user,
        "the user level"
    );
    imap.ok("SELECT INBOX");
    for _ in 0..3 {
        imap.append(MESSAGE);
    }
    imap.ok("FETCH 1:* (FLAGS BODY[])");
    imap.ok("SEARCH TEXT \"a\tb\"");
    // The plugin does not report IDLE.
    let tag = imap.idle();
    let expected = ["SELECT", "APPEND", "APPEND", "APPEND", "FETCH", "SEARCH"];
    wait_until("the commands of the session", || {
        system.export(&format!("command\tuser={user}")).rows.len() >= expected.len()
    });
    let commands = system.export(&format!("command\tuser={user}"));
    assert_eq!(commands.values("cmd"), expected, "commands, oldest first");
    let commands = system.export("command");
    assert_eq!(
        commands.row("cmd", "SELECT").get("args"),
        "INBOX",
        "args of SELECT"
    );
    assert_eq!(
        commands.row("cmd", "FETCH").get("args"),
        "1:* (FLAGS BODY[])",
        "args of FETCH"
    );
    let append = format!("INBOX <{} byte literal>", MESSAGE.len());
    assert_eq!(
        commands.row("cmd", "APPEND").get("args"),
        append,
        "args of APPEND"
    );
    let args = commands.row("cmd", "SEARCH").get("args");
    assert_eq!(
        args, "TEXT \"a\x01tb\"",
        "a TAB in the args stays one argument"
    );
    // The session's totals come with its refresh every two seconds, or at once.
    wait_until("a refresh with what the session has read", || {
        let table = system.export("session\tconnected");
        table.only().num("mail_read_count") >= 3 && table.only().num("write_bytes") > 0
    });
    let session = system.export("session");
    for request in ["user", "domain", "ip", "global"] {
        let table = system.export(request);
        assert_eq!(table.only().num("num_cmds"), 6, "num_cmds at {request}");
        let read = table.only().num("mail_read_count");
        assert!(
            read >= session.only().num("mail_read_count"),
            "mail_read_count at {request}"
        );
    }
    imap.done(&tag);
    imap.logout();
    system.wait_count("session", "connected", 0);
    for request in ["domain", "ip", "global"] {
        system.wait_count(request, "num_connected_sessions", 0);
        assert_eq!(
            system.export(request).only().num("num_logins"),
            1,
            "logins at {request}"
        );
    }
    assert!(
        system.export("user\tconnected").rows.is_empty(),
        "no user is connected"
    );
    system.wait_count("global", "num_cmds", 7);
}

#[test]
fn pop3_and_lmtp_sessions_are_counted() {
    if !available("pop3_and_lmtp_sessions_are_counted") {
        return;
    }
    let system = System::start("lmtp");
    let recipients = ["alice@example.org", "carol@example.com"];
    deliver(&system.dovecot.lmtp_socket(), &recipients, MESSAGE, || ());
    wait_until("both LMTP sessions", || {
        let table = system.export("session");
        table.rows.len() == 2 && table.values("connected") == ["0", "0"]
    });
    let table = system.export("session");
    assert_eq!(
        table.values("user"),
        ["carol@example.com", "alice@example.org"],
        "newest first"
    );
    assert_eq!(table.values("service"), ["lmtp", "lmtp"], "service");
    let ids = table.values("session");
    assert_eq!(
        ids[0],
        format!("{}:R2", ids[1]),
        "the second recipient's session"
    );
    assert_eq!(
        system.export("global").only().num("num_logins"),
        2,
        "two recipients"
    );

    let mut pop3 = Pop3::login(system.dovecot.pop3, "alice@example.org");
    let table = system.wait_session("alice@example.org", "pop3");
    assert_process(table.row("service", "pop3").num("pid"), "pop3");
    pop3.ok("STAT");
    pop3.retr(1);
    pop3.ok("QUIT");
    wait_until("the end of the POP3 session", || {
        let table = system.export("session");
        table.rows.len() == 3 && table.row("service", "pop3").get("connected") == "0"
    });
    let table = system.export("session");
    assert!(
        table.row("service", "pop3").num("mail_read_count") >= 1,
        "a message was read"
    );
    assert_eq!(
        system.export("user\tuser=alice@*").only().num("num_logins"),
        2,
        "LMTP and POP3"
    );
}

#[test]
fn logins_of_the_auth_process_are_counted() {
    if !available("logins_of_the_auth_process_are_counted") {
        return;
    }
    let system = System::start("auth");
    let user = "alice@example.org";
    let mut imap = Imap::connect(system.dovecot.imap);
    for _ in 0..2 {
        let answer = imap.command(&format!("LOGIN {user} wrong"));
        assert!(answer.starts_with("NO"), "a wrong password: {answer}");
    }
    imap.ok(&format!("LOGIN {user} pass"));
    imap.logout();
    for request in [
        "user\tuser=alice@example.org",
        "domain\tdomain=example.org",
        "global",
    ] {
        system.wait_count(request, "auth_failures", 2);
        system.wait_count(request, "auth_successes", 1);
    }
}

/// Removes what TAB-separated output of doveadm has around its fields.
fn doveadm_rows(output: &str) -> Vec<Vec<String>> {
    let lines = output.lines().filter(|l| !l.is_empty());
    lines
        .map(|line| line.split('\t').map(str::to_string).collect())
        .collect()
}

#[test]
fn doveadm_reads_and_resets_our_daemon() {
    if !available("doveadm_reads_and_resets_our_daemon") {
        return;
    }
    let daemon = Daemon::start("doveadm");
    let dovecot = Dovecot::original("doveadm-dovecot");
    let socket = daemon.socket();
    let none = dovecot.doveadm(&["-f", "tab", "oldstats", "dump", "-s", &socket, "session"]);
    assert!(
        doveadm_rows(&text(&none.stdout)).is_empty(),
        "nothing yet: {}",
        text(&none.stdout)
    );
    assert!(
        text(&none.stderr).contains("no statistics available"),
        "{}",
        text(&none.stderr)
    );
    daemon.feed(&[
        connect("s1", "alice@example.org", "imap", 1, "10.0.0.1"),
        connect("s2", "bob@example.com", "imap", 2, "2001:db8::1"),
        update("s1", &Mail::sample().field()),
        command("s1", 1, "", "FETCH", "1:* (FLAGS)", &Mail::sample().field()),
        disconnect("s2"),
    ]);
    for (level, filter) in [
        ("command", ""),
        ("session", ""),
        ("session", "connected"),
        ("user", "user=alice*"),
        ("user", ""),
        ("domain", "connected"),
        ("ip", ""),
        ("global", ""),
    ] {
        let mut args = vec!["-f", "tab", "oldstats", "dump", "-s", &socket, level];
        args.extend(Some(filter).filter(|f| !f.is_empty()));
        let output = dovecot.doveadm(&args);
        assert!(
            output.status.success(),
            "doveadm {args:?}: {}",
            text(&output.stderr)
        );
        let request = [level, filter].join("\t");
        let table = daemon.client().export(request.trim_end());
        let mut expected = vec![table.names.clone()];
        expected.extend(table.rows.clone());
        assert_eq!(
            doveadm_rows(&text(&output.stdout)),
            expected,
            "doveadm {args:?}"
        );
    }
    let output = dovecot.doveadm(&["oldstats", "reset", "-s", &socket]);
    assert!(output.status.success(), "reset: {}", text(&output.stderr));
    assert_eq!(
        daemon.client().export("global").only().num("num_logins"),
        0,
        "after reset"
    );
    assert_eq!(daemon.client().export("user").rows.len(), 2, "users stay");
}

#[test]
fn a_restarted_daemon_takes_up_running_sessions() {
    if !available("a_restarted_daemon_takes_up_running_sessions") {
        return;
    }
    let dir = TempDir::new("takeup-dovecot");
    let setup = Setup::new().service(&format!(
        "fifo_listener stats-mail {{\nuser = {MAIL_USER}\nmode = 0200\n}}"
    ));
    let mut daemon = Daemon::with("takeup", &setup);
    let dovecot = Dovecot::mail(dir, &daemon.fifo());
    // The daemon dies and comes back in the same place; the FIFO stays the same
    // file when it was killed, so writers go on with what they have open.
    let mut imap = Imap::login(dovecot.imap, "alice@example.org");
    wait_until("the session", || {
        daemon.client().export("session").rows.len() == 1
    });
    let id = daemon
        .client()
        .export("session")
        .only()
        .get("session")
        .to_string();
    daemon.signal(libc::SIGKILL);
    wait_until("its end", || daemon.exited().is_some());
    let home = std::mem::replace(&mut daemon.dir, TempDir::new("gone"));
    let daemon = Daemon::in_dir(home, &setup);
    imap.ok("SELECT INBOX");
    wait_until(
        "the session again, as a placeholder or with its name",
        || {
            daemon
                .client()
                .export("session")
                .find("session", &id)
                .is_some()
        },
    );
    imap.logout();
    wait_until("its end", || {
        daemon.client().export("session").only().get("connected") == "0"
    });
}
