//! Receivers of carbon that reset, stall and babble, and lookups of their names that
//! answer anything but an address.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::Duration;

use crate::attack::{Class, Tally};
use crate::harness::{wait_until, Daemon, Setup, TempDir};
use crate::records::connect;

/// A setup that sends every second, all levels, so that there is much to send.
fn setup(host: &str) -> Setup {
    let mut setup = Setup::new();
    setup.lines.push(format!(
        "stats_carbon_server = {host}\nstats_carbon_interval = 1 s\n\
         stats_carbon_levels = user domain ip global\nstats_carbon_limit = 10000"
    ));
    setup
}

fn fill(daemon: &Daemon) {
    let records: Vec<Vec<u8>> = (0..1500)
        .map(|n| {
            connect(
                &format!("s{n}"),
                &format!("user{n}@d"),
                "imap",
                1,
                "10.0.0.1",
            )
        })
        .collect();
    daemon.feed(&records);
}

/// What a receiver does to a connection.
type Receiver = (&'static str, fn(TcpStream));

const RECEIVERS: [Receiver; 7] = [
    ("closes at once", drop),
    ("reads a little and resets", |mut stream| {
        let _ = stream.read(&mut [0; 100]);
    }),
    ("reads a half and resets", |mut stream| {
        let _ = stream.read_exact(&mut vec![0; 500_000]);
    }),
    ("closes its reading side", |stream| {
        let _ = stream.shutdown(std::net::Shutdown::Read);
        std::thread::sleep(Duration::from_millis(500));
    }),
    ("ends its writing side and reads nothing", |stream| {
        let _ = stream.shutdown(std::net::Shutdown::Write);
        std::thread::sleep(Duration::from_millis(1500));
    }),
    ("babbles without an end", |mut stream| {
        let noise = [b'x'; 65536];
        let _ = stream.set_write_timeout(Some(Duration::from_millis(300)));
        while stream.write(&noise).is_ok() {}
    }),
    ("reads byte by byte", |mut stream| {
        for _ in 0..300 {
            let _ = stream.read(&mut [0; 1]);
            std::thread::sleep(Duration::from_millis(5));
        }
    }),
];

/// Serves every connection, as long as the test runs; how many there were.
fn serve(listener: TcpListener, receive: fn(TcpStream)) -> Arc<AtomicUsize> {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            count.fetch_add(1, Ordering::Relaxed);
            std::thread::spawn(move || receive(stream));
        }
    });
    counted
}

/// Asserts that a daemon serves while it tries, until it has `tried` enough.
#[track_caller]
fn assert_indifferent(daemon: &mut Daemon, tally: &mut Tally, tried: impl Fn(&Daemon) -> bool) {
    let mut client = daemon.client();
    let children = format!("/proc/{0}/task/{0}/children", daemon.pid());
    let mut most = 0;
    wait_until("more reports being tried", || {
        client.export("global");
        let children = fs::read_to_string(&children).expect("its children");
        most = most.max(children.split_whitespace().count());
        tried(daemon)
    });
    assert!(most <= 1, "{most} children at once");
    tally.check(daemon);
}

#[test]
fn receivers_may_do_what_they_like() {
    let mut tally = Tally::of(Class::Carbon);
    let mut daemons: Vec<_> = RECEIVERS
        .into_iter()
        .map(|(name, receive)| {
            let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
            let port = listener.local_addr().expect("its address").port();
            let count = serve(listener, receive);
            let daemon = Daemon::with("receiver", &setup(&format!("127.0.0.1:{port}")));
            fill(&daemon);
            (daemon, name, count)
        })
        .collect();
    for (daemon, name, count) in &mut daemons {
        tally.tries(1);
        println!("a receiver that {name}");
        assert_indifferent(daemon, &mut tally, |_| count.load(Ordering::Relaxed) >= 3);
        let users = daemon.client().export("user\tdomain=d");
        assert_eq!(users.rows.len(), 1500, "{name}: all can still be listed");
    }
}

/// Lookups: the script in place of getent(1).
const LOOKUPS: [(&str, &str); 10] = [
    ("says nothing", "exit 0"),
    ("fails", "echo oops >&2; exit 2"),
    ("is killed", "kill -9 $$"),
    (
        "hangs and minds no signal",
        "trap '' TERM INT HUP; exec sleep 30",
    ),
    ("talks without an end", "while :; do echo x; done"),
    (
        "talks in one line without an end",
        "while :; do printf xxxxxxxxxxxxxxxx; done",
    ),
    (
        "gives no addresses",
        "echo 'not-an-address STREAM x'; echo '999.1.1.1'",
    ),
    ("gives bytes", "printf '\\000\\377\\033[2J\\n127.0.0\\n'"),
    (
        "gives addresses nobody is at",
        "echo '127.0.0.1 STREAM x'; echo '::1 STREAM x'",
    ),
    ("goes on in the background", "sleep 3 & exit 0"),
];

#[test]
fn lookups_may_answer_what_they_like() {
    let mut tally = Tally::of(Class::Carbon);
    let bin = TempDir::new("lookups");
    let mut daemons: Vec<(Daemon, &str)> = LOOKUPS
        .into_iter()
        .enumerate()
        .map(|(n, (name, script))| {
            let dir = bin.at(&n.to_string());
            fs::create_dir(&dir).expect("mkdir");
            let fake = format!("{dir}/getent");
            fs::write(&fake, format!("#!/bin/sh\n{script}\n")).expect("write getent");
            fs::set_permissions(&fake, fs::Permissions::from_mode(0o755)).expect("chmod");
            // A port that nobody has.
            let mut setup = setup("carbon.invalid:1");
            let path = format!("{dir}:/usr/bin:/bin");
            setup.environment.push(("PATH".to_owned(), path));
            (Daemon::with("lookup", &setup), name)
        })
        .collect();
    // And no such program.
    let mut setup = setup("carbon.invalid:1");
    setup.environment.push(("PATH".to_owned(), bin.at("empty")));
    daemons.push((Daemon::with("lookup", &setup), "is not installed"));
    for (daemon, name) in &mut daemons {
        tally.tries(1);
        println!("a lookup that {name}");
        assert_indifferent(daemon, &mut tally, |daemon| {
            daemon.log().matches("no whole report to carbon").count() >= 2
        });
    }
}
