//! Mail users who hold FIFOs, and try to read what others report.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::{chown, MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use crate::attack::{Class, Tally};
use crate::harness::{is_root, run, skipped, text, wait_until, Daemon, Setup, TempDir};
use crate::link::Writer;
use crate::records::connect;

/// A mail user, its group, and a daemon's user.
const MAIL_USER: u32 = 54_321;
const MAIL_GROUP: u32 = 54_322;
const DAEMON_USER: u32 = 54_323;

/// A shell of the mail user's, which says when it has done `script`, and stays.
struct Holder(Child);

impl Holder {
    #[track_caller]
    fn start(script: &str) -> Holder {
        let mut child = Command::new("sh")
            .args(["-c", &format!("{script}\necho done; exec sleep 1000")])
            .uid(MAIL_USER)
            .gid(MAIL_GROUP)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start a shell");
        let mut line = String::new();
        let output = child.stdout.take().expect("its output");
        let read = BufReader::new(output).read_line(&mut line);
        assert_eq!((read.expect("a line"), line.as_str()), (5, "done\n"));
        Holder(child)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Ends a daemon as a crash does.
fn crash(mut daemon: Daemon) -> TempDir {
    daemon.signal(libc::SIGKILL);
    wait_until("its end", || daemon.exited().is_some());
    std::mem::replace(&mut daemon.dir, TempDir::new("gone"))
}

#[test]
fn who_holds_a_fifo_keeps_no_daemon_out() {
    if !is_root() {
        return skipped("who_holds_a_fifo_keeps_no_daemon_out", "needs root");
    }
    let mut tally = Tally::of(Class::Access);
    let warning = "stats-mail is read by another process, which takes records away";
    for (redirection, reads) in [("<", true), ("<>", true), (">", false)] {
        let setup = Setup::new().service(&format!(
            "fifo_listener stats-mail {{\nuser = {MAIL_USER}\nmode = 0600\n}}"
        ));
        let mut daemon = Daemon::with("heldfifo", &setup);
        for round in 0..5 {
            tally.tries(1);
            let holder = Holder::start(&format!("exec 3{redirection}{}", daemon.fifo()));
            daemon = Daemon::in_dir(crash(daemon), &setup);
            let log = daemon.log();
            assert_eq!(log.contains(warning), reads, "{redirection}: {log}");
            drop(holder);
            daemon.feed(&[connect(&format!("s{round}"), "u", "imap", 1, "")]);
        }
        assert_eq!(daemon.client().export("session").rows.len(), 1);
        tally.check(&mut daemon);
    }
}

#[test]
fn a_fifo_in_a_directory_that_another_daemon_holds_is_left_to_it() {
    let mut tally = Tally::of(Class::Places);
    tally.tries(1);
    let mut daemon = Daemon::start("theirs");
    let dir = TempDir::new("theirs-second");
    let listener = format!("fifo_listener {} {{\nmode = 0222\n}}", daemon.fifo());
    let config = dir.write(
        "dovestatd.conf",
        &Setup::new().service(&listener).config(&dir),
    );
    let refused = run(&["-F", "-c", &config]);
    let said = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(69), "{said}");
    assert!(said.contains("in use by a running process"), "{said}");
    let mode = fs::metadata(daemon.fifo()).expect("the FIFO").mode();
    assert_eq!(mode & 0o7777, 0o200, "it was not touched");
    daemon.feed(&[connect("s", "u", "imap", 1, "")]);
    tally.check(&mut daemon);
}

#[test]
fn who_may_only_write_reads_no_record() {
    if !is_root() {
        return skipped("who_may_only_write_reads_no_record", "needs root");
    }
    let mut tally = Tally::of(Class::Access);
    let setup = Setup::new().service(&format!(
        "fifo_listener stats-mail {{\ngroup = {MAIL_GROUP}\nmode = 0220\n}}"
    ));
    let mut daemon = Daemon::with("writeonly", &setup);
    let (fifo, pid) = (daemon.fifo(), daemon.pid());
    let fds = fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors");
    let its: Vec<String> = fds
        .map(|fd| fd.expect("one").path().display().to_string())
        .collect();
    let read = |path: &str| format!("timeout 5 dd bs=4096 count=1 iflag=nonblock if={path}");
    let mut scripts = vec![
        read(&fifo),
        format!("exec 3<>{fifo}"),
        format!("exec 3>{fifo}; {}", read("/proc/self/fd/3")),
        format!("exec 3>{fifo}; {}", read("/dev/fd/3")),
        format!("exec 3>{fifo}; cat <&3"),
        format!("chmod u+r,g+r {fifo}"),
        format!("chgrp {MAIL_GROUP} {fifo} && chmod 0660 {fifo}"),
        format!("ln {fifo} /tmp/dovestat-test-{pid}"),
        format!("mv {fifo} {fifo}.away"),
    ];
    scripts.extend(its.iter().map(|path| read(path)));
    let mut writer = daemon.writer();
    let mut records = 0;
    for round in 0..4 {
        for script in &scripts {
            tally.tries(1);
            writer.send_waiting(&connect(&format!("s{records}"), "alice", "imap", 1, ""));
            records += 1;
            let output = Command::new("sh")
                .args(["-c", script])
                .uid(MAIL_USER)
                .gid(MAIL_GROUP)
                .stdin(Stdio::null())
                .output()
                .expect("run a shell");
            assert!(!output.status.success(), "{script}, round {round}");
            assert!(
                output.stdout.is_empty(),
                "{script}: {}",
                text(&output.stdout)
            );
        }
    }
    // It may write.
    drop(Holder::start(&format!(
        "printf 'CONNECT\\tlast\\tu\\timap\\t1\\n' > {fifo}"
    )));
    daemon.settle(&writer);
    assert_eq!(daemon.client().export("session").rows.len(), records + 1);
    tally.check(&mut daemon);
}

#[test]
fn an_ordinary_users_daemon_takes_its_own_fifo_for_writers_over() {
    if !is_root() {
        let test = "an_ordinary_users_daemon_takes_its_own_fifo_for_writers_over";
        return skipped(test, "needs root");
    }
    let mut tally = Tally::of(Class::Access);
    for mode in [0o200, 0o220, 0o222] {
        let setup = Setup::new().service(&format!(
            "fifo_listener stats-mail {{\nmode = {mode:04o}\n}}"
        ));
        let mut dir = TempDir::new("ownfifo");
        chown(dir.path(), Some(DAEMON_USER), Some(MAIL_GROUP)).expect("chown");
        let mut inode = None;
        for round in 0..5 {
            tally.tries(1);
            let mut daemon = Daemon::spawn(dir, &setup, |command| {
                command.uid(DAEMON_USER).gid(MAIL_GROUP);
            });
            daemon.wait_ready();
            let found = fs::metadata(daemon.fifo()).expect("the FIFO");
            assert_eq!(found.permissions().mode() & 0o7777, mode, "round {round}");
            assert_eq!(*inode.get_or_insert(found.ino()), found.ino());
            // One that is held by a writer meanwhile.
            let mut writer = Writer::open(&daemon.fifo());
            writer.send_waiting(&connect("s", "u", "imap", 1, ""));
            daemon.settle(&writer);
            assert_eq!(daemon.client().export("session").rows.len(), 1);
            dir = crash(daemon);
        }
        // One that vanishes is made anew, with the mode.
        let mut daemon = Daemon::spawn(dir, &setup, |command| {
            command.uid(DAEMON_USER).gid(MAIL_GROUP);
        });
        daemon.wait_ready();
        fs::remove_file(daemon.fifo()).expect("remove the FIFO");
        daemon.signal(libc::SIGHUP);
        let made = || fs::metadata(daemon.fifo()).is_ok_and(|new| new.mode() & 0o7777 == mode);
        wait_until("a new FIFO", made);
        tally.check(&mut daemon);
    }
}

#[test]
fn a_fifo_for_writers_alone_that_was_passed_is_served_by_any_user() {
    if !is_root() {
        let test = "a_fifo_for_writers_alone_that_was_passed_is_served_by_any_user";
        return skipped(test, "needs root");
    }
    use crate::activation::{hold_fifo, pass, SELF};
    let mut tally = Tally::of(Class::Access);
    for mode in [0o200, 0o220] {
        tally.tries(1);
        let dir = TempDir::new("passedfifo");
        // As systemd's: of root's, in a directory of root's.
        fs::create_dir(dir.at("fifos")).expect("mkdir");
        let path = dir.at("fifos/stats-mail");
        let fifo = hold_fifo(&path);
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("chmod");
        chown(dir.path(), Some(DAEMON_USER), Some(MAIL_GROUP)).expect("chown");
        let setup = Setup::new()
            .service(&format!(
                "fifo_listener {path} {{\n}}\nfifo_listener stats-mail {{\nmode = 0\n}}"
            ))
            .wrapped(&SELF);
        let mut daemon = Daemon::spawn(dir, &setup, |command| {
            pass(command, &[&fifo], "mail");
            command.uid(DAEMON_USER).gid(MAIL_GROUP);
        });
        daemon.wait_ready();
        let mut writer = Writer::open(&path);
        writer.send_waiting(&connect("s", "u", "imap", 1, ""));
        daemon.settle(&writer);
        assert_eq!(daemon.client().export("session").rows.len(), 1);
        // What the manager holds waits for the next daemon.
        let dir = daemon.stop();
        writer.send_waiting(&connect("t", "u", "imap", 1, ""));
        let mut held = File::from(fifo);
        let mut record = [0; 64];
        let length = held.read(&mut record).expect("what waits");
        assert!(record[..length].starts_with(b"CONNECT\tt\t"));
        drop(dir);
    }
    tally.survived();
}
