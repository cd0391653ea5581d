//! Files of the daemon that vanish or are replaced while it serves: systemd removes
//! a RuntimeDirectory, an administrator removes Dovecot's base_dir.

use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::harness::{is_root, skipped, wait_until, Daemon, Setup};
use crate::http;
use crate::link::{Client, Writer};
use crate::records::connect;

/// Sends a session by a writer and waits until it is listed.
#[track_caller]
fn assert_counts(daemon: &Daemon, writer: &mut Writer, id: &str) {
    writer.send_waiting(&connect(id, "u", "imap", 1, ""));
    let request = format!("session\tsession={id}");
    wait_until(id, || {
        let table = Client::try_unix(&daemon.socket()).and_then(|mut c| c.try_export(&request));
        table.is_some_and(|table| table.rows.len() == 1)
    });
}

/// Waits until the log has a text behind its first `from` bytes.
#[track_caller]
fn wait_logged(daemon: &Daemon, from: usize, text: &str) {
    wait_until(text, || daemon.log()[from..].contains(text));
}

#[test]
fn a_fifo_that_vanished_is_made_anew() {
    let (mut daemon, port) = http::daemon("vanishfifo", Setup::new(), "");
    let mut old = daemon.writer();
    assert_counts(&daemon, &mut old, "before");
    for (n, replace) in [false, true].into_iter().enumerate() {
        fs::remove_file(daemon.fifo()).expect("remove the FIFO");
        let change = match replace {
            false => "is gone",
            true => {
                let made = std::process::Command::new("mkfifo")
                    .arg(daemon.fifo())
                    .status();
                assert!(made.expect("mkfifo").success());
                "was replaced by another FIFO"
            }
        };
        let from = daemon.log().len();
        daemon.signal(libc::SIGHUP);
        let fifo = daemon.fifo();
        wait_logged(
            &daemon,
            from,
            &format!("warning: fifo_listener {fifo} {change}: made anew"),
        );
        let mut new = daemon.writer();
        assert_counts(&daemon, &mut new, &format!("new{n}"));
        // Who had it open goes on.
        assert_counts(&daemon, &mut old, &format!("old{n}"));
        old = new;
    }
    // One name, one sample, whatever it was before.
    let answer = http::get(port);
    let samples = answer.samples();
    let lines = samples.get("dovestat_fifo_records_total{fifo=\"stats-mail\"}");
    assert_eq!(lines, Some(&"5"));
    // The last writer of an old one leaving is no reason to spin.
    drop(old);
    let used = daemon.cpu();
    std::thread::sleep(Duration::from_millis(500));
    assert!(daemon.cpu() - used < Duration::from_millis(100));
    daemon.assert_alive();
    let fifo = daemon.fifo();
    daemon.stop();
    assert!(!Path::new(&fifo).exists(), "removed at the end");
}

#[test]
fn a_base_dir_that_vanished_is_made_anew_without_a_signal() {
    let mut daemon = Daemon::start("vanishdir");
    let mut client = daemon.client();
    let base_dir = daemon.dir.at("run");
    fs::remove_dir_all(&base_dir).expect("remove base_dir");
    let begun = Instant::now();
    while Client::try_unix(&daemon.socket()).is_none() {
        assert!(
            begun.elapsed() < Duration::from_secs(40),
            "{}",
            daemon.log()
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_counts(&daemon, &mut daemon.writer(), "after");
    // Who was connected goes on.
    assert_eq!(client.export("session").rows.len(), 1);
    // It holds the directory again.
    let config = daemon.dir.at("dovestatd.conf");
    let second = crate::harness::run(&["-F", "-c", &config]);
    assert_eq!(second.status.code(), Some(69), "a second daemon");
    daemon.assert_alive();
}

#[test]
fn what_lies_in_the_way_stays() {
    let daemon = Daemon::start("vanishfile");
    fs::remove_file(daemon.socket()).expect("remove the socket");
    fs::write(daemon.socket(), "precious").expect("write a file");
    let text = format!(
        "error: unix_listener {} was replaced by a regular file and cannot be made anew: \
         a regular file is in the way; restart dovestatd",
        daemon.socket()
    );
    daemon.signal(libc::SIGHUP);
    wait_logged(&daemon, 0, &text);
    // Logged once, tried again.
    let from = daemon.log().len();
    daemon.signal(libc::SIGHUP);
    wait_logged(&daemon, from, "settings read again");
    assert_eq!(fs::read(daemon.socket()).expect("the file"), b"precious");
    fs::remove_file(daemon.socket()).expect("remove the file");
    daemon.signal(libc::SIGHUP);
    wait_until("the socket", || {
        Client::try_unix(&daemon.socket()).is_some()
    });
    assert_eq!(daemon.log().matches(&text).count(), 1, "{}", daemon.log());
    daemon.stop();
}

#[test]
fn what_may_not_be_made_anew_is_logged_with_what_to_do() {
    if !is_root() {
        return skipped("vanishing", "it needs root");
    }
    let daemon = Daemon::with("vanishuser", &Setup::new().service("user = nobody"));
    fs::remove_file(daemon.fifo()).expect("remove the FIFO");
    chown(daemon.dir.at("run"), Some(0), Some(0)).expect("chown");
    daemon.signal(libc::SIGHUP);
    let text = format!(
        "error: fifo_listener {} is gone and cannot be made anew: create FIFO: Permission denied; \
         restart dovestatd",
        daemon.fifo()
    );
    wait_logged(&daemon, 0, &text);
    fs::remove_dir_all(daemon.dir.at("run")).expect("remove base_dir");
    daemon.signal(libc::SIGHUP);
    let text = format!(
        "error: base_dir {} is gone and cannot be made anew: Permission denied; \
         nothing can be sent or asked there: restart dovestatd",
        daemon.dir.at("run")
    );
    wait_logged(&daemon, 0, &text);
    daemon.stop();
}
