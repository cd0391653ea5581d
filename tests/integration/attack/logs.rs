//! Logs that peers try to forge or to flood, and that are full, closed or not read.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::Stdio;

use crate::attack::{still_works, Class, Tally};
use crate::harness::{free_port, local, wait_until, Daemon, Setup, TempDir};
use crate::http;
use crate::link::Client;
use crate::records::{add_user, carry_on, command, connect, disconnect, escape, update, Mail};

/// The longest line that may be logged.
const MOST_BYTES: usize = 1024;

/// Texts that would be another line, another colour or another terminal.
const FORGERIES: [&[u8]; 9] = [
    b"\ndovestatd: error: forged",
    b"\r\ndovestatd: error: forged\r\n",
    b"\x1b[2J\x1b]0;forged\x07\x9b31m",
    b"\x00\x01\x7f\x80\xff",
    b"\"; forged: \"",
    b"\\n\\x1b[0m",
    "\u{202e}\u{2028}\u{85}forged".as_bytes(),
    b"%s%s%n",
    &[b'\n'; 3000],
];

/// The longest line of a slow command, which has six texts and all figures.
const MOST_SLOW_BYTES: usize = 4096;

/// Asserts that every line is the daemon's own, short, and printable.
#[track_caller]
fn assert_clean(log: &[u8]) {
    assert_clean_within(log, MOST_BYTES);
}

#[track_caller]
fn assert_clean_within(log: &[u8], most_bytes: usize) {
    for line in log.split(|&b| b == b'\n').filter(|line| !line.is_empty()) {
        let shown = String::from_utf8_lossy(line);
        assert!(line.starts_with(b"dovestatd: "), "{shown:?}");
        assert!(!line.starts_with(b"dovestatd: error: forged"), "{shown:?}");
        assert!(line.len() <= most_bytes, "{} bytes: {shown:?}", line.len());
        let is_printable = |&b: &u8| (b' '..=b'~').contains(&b);
        assert!(line.iter().all(is_printable), "{shown:?}");
    }
}

#[test]
fn slow_commands_cannot_forge_a_line() {
    let mut tally = Tally::of(Class::Logs);
    let setup = Setup::new()
        .option("stats_slow_command_time=1 ms")
        .option("stats_slow_command_args=yes");
    let mut daemon = Daemon::with("slowforged", &setup);
    let stats = Mail::sample().field();
    for (number, text) in FORGERIES.iter().enumerate() {
        tally.tries(1);
        let field = escape(&text[..text.len().min(1000)]);
        let id = [&*field, number.to_string().as_bytes()].concat();
        let line = |fields: &[&[u8]]| fields.join(&b'\t');
        daemon.feed(&[
            line(&[b"CONNECT", &id, &field, &field, b"1", b"rip=2001:db8::1"]),
            line(&[
                b"UPDATE-CMD",
                &id,
                b"1",
                b"d",
                &field,
                &field,
                stats.as_bytes(),
            ]),
        ]);
    }
    let log = fs::read(daemon.dir.at("log")).expect("the log");
    let slow = daemon.log().matches("dovestatd: slow command: ").count();
    assert_eq!(slow, FORGERIES.len(), "{}", daemon.log());
    assert_clean_within(&log, MOST_SLOW_BYTES);
    tally.check(&mut daemon);
}

#[test]
fn nothing_a_peer_sends_can_forge_a_line() {
    let mut tally = Tally::of(Class::Logs);
    let stats = Mail::sample().field();
    for text in FORGERIES {
        let (port, tcp) = (free_port(), free_port());
        let setup = Setup::new()
            .inet(port, "protocol = http")
            .inet(tcp, "")
            .unix("reset = no");
        // Anew, as each kind is told of five times only.
        let mut daemon = Daemon::with("forged", &setup);
        let wire = escape(text);
        let raw: Vec<u8> = text.iter().filter(|&&b| b != b'\n').copied().collect();
        for field in [wire.as_slice(), raw.as_slice()] {
            let field = &field[..field.len().min(3000)];
            let line = |fields: &[&[u8]]| fields.join(&b'\t');
            let records = [
                line(&[b"CONNECT", field, field, field, b"1"]),
                line(&[b"CONNECT", field, field, field, b"1"]),
                line(&[b"CONNECT", field, field, b"imap", field]),
                line(&[field, field]),
                line(&[b"UPDATE-SESSION", field]),
                line(&[b"UPDATE-SESSION", field, field]),
                line(&[b"UPDATE-SESSION", b"unknown", field, stats.as_bytes()]),
                line(&[b"UPDATE-SESSION", field, stats.as_bytes()]),
                line(&[b"UPDATE-SESSION", field, Mail::default().field().as_bytes()]),
                line(&[b"UPDATE-CMD", field, field, b"", b"A", b"B", b""]),
                line(&[b"UPDATE-CMD", field, b"1", field, b"A", b"B", b""]),
                line(&[b"UPDATE-CMD", field, b"1", b"", field, field, b""]),
                line(&[b"UPDATE-CMD", field, b"1", b"", field, field, b""]),
                line(&[b"UPDATE-CMD", field, b"2", b"c", b""]),
                line(&[b"UPDATE-CMD", field, b"3", b"", field, field, b"", field]),
                line(&[b"ADD-USER", field, field, field]),
                line(&[b"DISCONNECT", field]),
                line(&[b"DISCONNECT", field]),
                line(&[b"DISCONNECT", b"nobody", field]),
                [field, &[b'x'; 9000]].concat(),
            ];
            let requests = [
                line(&[b"EXPORT", field]),
                line(&[b"EXPORT", b"user", b"ip=", field]),
                [b"EXPORT\tuser\tip=", field].concat(),
                [b"EXPORT\tuser\tsince=", field].concat(),
                line(&[field]),
                line(&[b"RESET", field]),
                b"RESET".to_vec(),
                [field, &[b'x'; 5000]].concat(),
            ];
            let heads = [
                [b"GET /", field, b" HTTP/1.1\r\n\r\n"].concat(),
                [b"GET / HTTP/", field, b"\r\n\r\n"].concat(),
                [field, b" / HTTP/1.1\r\n\r\n"].concat(),
                [b"GET / HTTP/1.1\r\n", field, b": x\r\n\r\n"].concat(),
            ];
            tally.tries(records.len() + requests.len() + heads.len());
            daemon.feed(&records);
            let end = b"\n".to_vec();
            for request in requests {
                for mut client in [daemon.client(), Client::tcp(local(tcp))] {
                    client.send([request.as_slice(), &end].concat());
                    client.half_close();
                    client.rest();
                }
            }
            for head in heads {
                let mut client = http::client(port);
                client.send(head);
                client.half_close();
                client.rest();
            }
        }
        daemon.signal(libc::SIGUSR1);
        wait_until("the status", || daemon.log().contains("faults of peers"));
        let log = fs::read(daemon.dir.at("log")).expect("the log");
        let clean: Vec<&[u8]> = log
            .split(|&b| b == b'\n')
            .filter(|line| !line.windows(16).any(|part| part == b"faults of peers "))
            .collect();
        assert_clean(&clean.join(&b'\n'));
        // That line has no text of peers at all, and all kinds of faults.
        let faults = daemon.log();
        let faults = faults.lines().find(|line| line.contains("faults of peers"));
        let faults = faults.expect("the line");
        assert!(
            !faults.contains("forged") && faults.len() < 4096,
            "{faults:?}"
        );
        assert!(faults.is_ascii() && !faults.chars().any(char::is_control));
        tally.check(&mut daemon);
        daemon.stop();
    }
}

#[test]
fn a_flood_of_every_fault_is_a_few_lines() {
    let mut tally = Tally::of(Class::Logs);
    let mut daemon = Daemon::with("floodlog", &Setup::new().unix("reset = no"));
    let kinds: [Vec<u8>; 12] = [
        b"NONSENSE".to_vec(),
        b"CONNECT\tx".to_vec(),
        b"CONNECT\tx\ty\tz\tw".to_vec(),
        b"UPDATE-CMD\tx\t0\t\tA\tB\t".to_vec(),
        b"UPDATE-CMD\tx\t1\tz\tA\tB\t".to_vec(),
        update("x", "!!!!"),
        update("x", "AAAA"),
        disconnect("unknown"),
        connect("live", "u", "imap", 1, ""),
        carry_on("live", 7, "c", ""),
        command("live", 1, "", "A", "B", ""),
        vec![b'x'; 8193],
    ];
    let mut writer = daemon.writer();
    writer.send_waiting(&add_user("u", "auth", ""));
    for round in 0..1000 {
        for kind in &kinds {
            tally.tries(1);
            writer.send_waiting(kind);
        }
        writer.send_waiting(&update(&format!("placeholder{round}"), ""));
    }
    daemon.settle(&writer);
    for request in ["nonsense\n", "EXPORT\tx\n", "EXPORT\tip\tip=x\n", "RESET\n"] {
        for _ in 0..100 {
            tally.tries(1);
            let mut client = daemon.client();
            client.send(request);
            client.assert_closed(request);
        }
    }
    let lines = daemon.log().lines().count();
    assert!(lines < 25 * 5 * 2, "{lines} lines");
    assert_clean(&fs::read(daemon.dir.at("log")).expect("the log"));
    tally.check(&mut daemon);
}

#[test]
fn a_log_that_takes_nothing_blocks_nobody() {
    let mut tally = Tally::of(Class::Logs);
    // A full disk, a pipe that is full, one that is closed, and none at all.
    let (full_dir, closed_dir) = (TempDir::new("fullpipe"), TempDir::new("closedpipe"));
    let (full, _reader) = unread_log(&full_dir, true);
    let (closed, _) = unread_log(&closed_dir, false);
    let device = File::options().append(true).open("/dev/full");
    let full_disk = device.expect("open /dev/full");
    for (name, log) in [
        ("fulldisk", full_disk),
        ("fullpipe", full),
        ("closedpipe", closed),
    ] {
        let setup = Setup::new().option("stats_state_interval=1s");
        let mut daemon = Daemon::spawn(TempDir::new(name), &setup, |command| {
            command.stdout(Stdio::null()).stderr(Stdio::from(log));
        });
        daemon.wait_ready();
        let mut writer = daemon.writer();
        for n in 0..5000 {
            tally.tries(1);
            writer.send_waiting(format!("NONSENSE{n}").as_bytes());
        }
        daemon.settle(&writer);
        for signal in [libc::SIGUSR1, libc::SIGHUP, libc::SIGUSR1] {
            daemon.signal(signal);
            still_works(&mut daemon);
        }
        tally.check(&mut daemon);
        daemon.stop();
    }
    let closed = Setup::new().wrapped(&["sh", "-c", "exec \"$@\" 2>&- >&-", "sh"]);
    tally.tries(1);
    let mut daemon = Daemon::with("nolog", &closed);
    daemon.feed(&[b"NONSENSE"]);
    tally.check(&mut daemon);
    daemon.stop();
}

/// Makes a FIFO and opens it for writing, as a log; it keeps a reader, and is full,
/// or else has none.
fn unread_log(dir: &TempDir, is_full: bool) -> (File, Option<File>) {
    let path = dir.at("unread");
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.expect("mkfifo").success());
    let reader = File::options().read(true).write(true).open(&path);
    let reader = reader.expect("open for both");
    let log = File::options()
        .write(true)
        .open(&path)
        .expect("open to log");
    if !is_full {
        return (log, None);
    }
    let mut filler = File::options()
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(&path)
        .expect("open to fill");
    while filler.write(&[b'x'; 4096]).is_ok() {}
    (log, Some(reader))
}
