//! What the client prints: beside what `doveadm` prints of the same socket, this
//! daemon's or the original's, and on a terminal.

use std::io::Read as _;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::process::{Command, Output, Stdio};

use crate::attack::{Class, Tally};
use crate::client::{dovestat, printed, run, serve};
use crate::dovecot::{available, Dovecot};
use crate::harness::{text, wait_until, Daemon, TempDir};
use crate::link::Writer;
use crate::records::{add_user, command, connect, disconnect, seed, update, Mail, Random};

/// The formats that doveadm has, too.
const FORMATS: [&str; 5] = ["tab", "table", "flow", "pager", "json"];
const LEVELS: [&str; 6] = ["command", "session", "user", "domain", "ip", "global"];

/// A doveadm that knows where nothing is.
struct Doveadm {
    config: String,
}

impl Doveadm {
    fn new(dir: &TempDir) -> Doveadm {
        let lines = format!("base_dir = {}\nlog_path = /dev/stderr\n", dir.at("none"));
        Doveadm {
            config: dir.write("doveadm.conf", &lines),
        }
    }

    fn dump(&self, socket: &str, format: &str, what: &[&str]) -> Output {
        let head = [
            "-c",
            &self.config,
            "-f",
            format,
            "oldstats",
            "dump",
            "-s",
            socket,
        ];
        Command::new("doveadm")
            .args(head)
            .args(what)
            .stdin(Stdio::null())
            .output()
            .expect("run doveadm")
    }

    /// Asserts that the client prints what doveadm does, with its exit code.
    #[track_caller]
    fn assert_same(&self, socket: &str, what: &[&str]) {
        for format in FORMATS {
            let theirs = self.dump(socket, format, what);
            let ours = run(&[&["-f", format, "oldstats", "dump", "-s", socket], what].concat());
            assert_eq!(
                ours.stdout.escape_ascii().to_string(),
                theirs.stdout.escape_ascii().to_string(),
                "{format} {what:?}"
            );
            assert_eq!(
                ours.status.code(),
                theirs.status.code(),
                "{format} {what:?}"
            );
            assert_eq!(
                ours.stderr.is_empty(),
                theirs.stderr.is_empty(),
                "{format} {what:?}: {ours:?} {theirs:?}"
            );
        }
    }
}

/// Some sessions and commands, ordinary and hostile ones.
fn records() -> Vec<Vec<u8>> {
    let mail = Mail::sample().field();
    let mut all = vec![
        connect("s1", "bob@example.org", "imap", 1, "10.0.0.1"),
        update("s1", &mail),
        command("s1", 1, "d", "SELECT", "INBOX \"q\\\"", &mail),
        command("s1", 2, "", "UID FETCH", "1:* (FLAGS)\u{1b}[2J", &mail),
        connect(
            "s2",
            "al\u{1}nice\u{1}t=@日本.example",
            "pop3",
            2,
            "2001:db8::1",
        ),
        connect("s3", "", "imap", 3, ""),
        disconnect("s3"),
    ];
    for n in 0..120 {
        let user = format!("user{n}@domain{}.example", n % 7);
        all.push(add_user(&user, "auth", ""));
    }
    all
}

#[test]
fn formats_are_doveadms_byte_for_byte() {
    if !available("formats_are_doveadms_byte_for_byte") {
        return;
    }
    let daemon = Daemon::start("formats");
    let doveadm = Doveadm::new(&daemon.dir);
    // Nothing at all yet: only global has a row.
    for level in LEVELS {
        doveadm.assert_same(&daemon.socket(), &[level]);
    }
    daemon.feed(&records());
    for level in LEVELS {
        doveadm.assert_same(&daemon.socket(), &[level]);
    }
    for what in [
        ["session", "connected"],
        ["user", "user=user1*"],
        ["user", "user=*nobody*"],
        ["user", "user=nobody"],
        ["domain", "domain=example.org\tconnected"],
        ["ip", "ip=10.0.0.0/8"],
    ] {
        doveadm.assert_same(&daemon.socket(), &what);
    }
}

#[test]
fn formats_are_doveadms_whatever_the_rows() {
    let name = "formats_are_doveadms_whatever_the_rows";
    if !available(name) {
        return;
    }
    let pieces: [&[u8]; 24] = [
        b"\x01n",
        b"\x01t",
        b"\x010",
        b"\x01r",
        b"\x011",
        b"\x01x",
        b"\x7f",
        b"\x1b[2J",
        b"\xff",
        "é".as_bytes(),
        b"\xe2\x80",
        "中".as_bytes(),
        "😀".as_bytes(),
        "\u{2028}".as_bytes(),
        b"\xed\xa0\x80",
        b"\"",
        b"\\",
        b"/",
        b" ",
        b"=",
        b",",
        b"abc",
        b"12",
        b"xxxxxxxxxxxxxxxxxxxx",
    ];
    let dir = TempDir::new("rows");
    let doveadm = Doveadm::new(&dir);
    let mut random = Random::new(seed(name, 1));
    for case in 0..25 {
        let columns = 1 + random.index(12);
        // The first is the level's: what has it not is no service of ours.
        let names: Vec<String> = (0..columns)
            .map(|n| match n {
                0 => "user".to_owned(),
                n => format!("c{n}{}", "h".repeat(random.index(15))),
            })
            .collect();
        let rows = *random.pick(&[0, 1, 2, 5, 99, 100, 101, 250]);
        let mut reply = format!("{}\n", names.join("\t")).into_bytes();
        for _ in 0..rows {
            let fields: Vec<Vec<u8>> = (0..columns)
                .map(|_| {
                    (0..random.index(5))
                        .flat_map(|_| random.pick(&pieces).to_vec())
                        .collect()
                })
                .collect();
            let line = fields.join(&b'\t');
            reply.extend_from_slice(if line.is_empty() { b"." } else { &line });
            reply.push(b'\n');
        }
        reply.push(b'\n');
        let socket = dir.at(&format!("s{case}"));
        serve(&socket, reply);
        doveadm.assert_same(&socket, &["user"]);
    }
}

#[test]
fn the_original_service_is_read_alike() {
    if !available("the_original_service_is_read_alike") {
        return;
    }
    let original = Dovecot::original("client-original");
    let socket = original.stats_socket();
    let doveadm = Doveadm::new(&original.dir);
    doveadm.assert_same(&socket, &["session"]);
    let mut writer = Writer::open(&original.stats_fifo());
    let with_cpu = |usecs: i64| {
        let mut mail = Mail::sample();
        mail.times = [(0, usecs); 3];
        mail.field()
    };
    for (id, user, usecs) in [
        ("a", "less@x", 7442),
        ("b", "more@x", 100_000),
        ("c", "none@x", 0),
    ] {
        writer.send_waiting(&connect(id, user, "imap", 1, "10.0.0.1"));
        writer.send_waiting(&update(id, &with_cpu(usecs)));
    }
    wait_until("the original taking the records", || {
        printed(&["dump", "-s", &socket, "session"]).lines().count() == 4
            && printed(&["dump", "-s", &socket, "user"]).contains("0.7442")
    });
    for level in LEVELS {
        doveadm.assert_same(&socket, &[level]);
    }
    // 0.7442 are 7442 us there, less than the 0.100000 it writes as 0.100000.
    let rows = printed(&[
        "dump", "-s", &socket, "user", "--sort", "cpu", "--fields", "user",
    ]);
    assert_eq!(rows, "user\nmore@x\nless@x\nnone@x\n");
    let saved = original
        .dir
        .write("saved", &printed(&["dump", "-s", &socket, "user"]));
    writer.send_waiting(&update("a", &with_cpu(7500)));
    let diff = || {
        let fields = [
            "--fields",
            "change,user,user_cpu",
            "user=less@x",
            "--diff",
            &saved,
        ];
        printed(
            &[
                &["dump", "-s", &socket, "user", "--limit", "1"][..],
                &fields,
            ]
            .concat(),
        )
    };
    wait_until("the original counting on", || {
        diff() == "change\tuser\tuser_cpu\nkept\tless@x\t0.000058\n"
    });
    assert_eq!(run(&["reset", "-s", &socket]).status.code(), Some(0));
}

/// What the client writes to a terminal.
fn on_terminal(args: &[&str], enough: impl Fn(&str) -> bool) -> String {
    let (mut master, mut slave) = (-1, -1);
    let null = std::ptr::null_mut();
    // SAFETY: the two integers outlive the call; name, settings and size are
    // not wanted, which null pointers say.
    let rc = unsafe { libc::openpty(&mut master, &mut slave, null, null.cast(), null.cast()) };
    assert_eq!(rc, 0, "openpty: {}", std::io::Error::last_os_error());
    // SAFETY: the descriptor is new and owned by nobody else.
    let mut master = unsafe { std::fs::File::from_raw_fd(master) };
    // SAFETY: the descriptor is new and owned by nobody else.
    let slave = unsafe { OwnedFd::from_raw_fd(slave) };
    let mut child = dovestat(args)
        .stdout(slave)
        .spawn()
        .expect("start dovestat");
    let mut seen = String::new();
    let mut bytes = [0; 4096];
    // EIO says that nobody has the other side open.
    while let Ok(count @ 1..) = master.read(&mut bytes) {
        seen += &text(&bytes[..count]);
        if enough(&seen) {
            let _ = child.kill();
            break;
        }
    }
    let _ = child.wait();
    seen
}

#[test]
fn no_control_character_reaches_a_terminal() {
    let mut tally = Tally::of(Class::Terminals);
    let dir = TempDir::new("terminal");
    let hostile: Vec<u8> = (2..=255).filter(|byte| !b"\t\n".contains(byte)).collect();
    let mut reply = b"user\tnum_cmds\n\x01n\x01t\x010".to_vec();
    reply.extend_from_slice(&hostile);
    reply.extend_from_slice("\u{9b}2J\u{202e}\t1\n日本\t2\n\n".as_bytes());
    let socket = dir.at("socket");
    serve(&socket, reply);
    for format in ["tab", "table", "flow", "pager", "json", "csv", "ndjson"] {
        tally.tries(1);
        let seen = on_terminal(&["-s", &socket, "-f", format, "dump", "user"], |_| false);
        let bad = seen
            .chars()
            .find(|&c| c.is_control() && !"\t\r\n".contains(c));
        assert_eq!(bad, None, "{format}: {seen:?}");
        assert!(
            seen.contains("日本") && seen.ends_with('\n'),
            "{format}: {seen:?}"
        );
    }
    let frames = |seen: &str| seen.matches("\x1b[H\x1b[2J").count();
    let watch = ["-s", &socket, "dump", "user", "--watch", "0.01"];
    assert!(frames(&on_terminal(&watch, |seen| frames(seen) > 2)) > 2);
    tally.survived();
}
