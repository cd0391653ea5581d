//! The daemon under valgrind: a short session of everything, without an error and
//! without a byte lost.

use std::fs;

use crate::harness::{free_port, wait_until, works, Daemon, Setup};
use crate::http;
use crate::records::Random;
use crate::requests::ALL_LEVELS;
use crate::streams::{mutate, Stream};

/// How it looks for mistakes: of reading and writing, and memory that nothing refers
/// to any more. Then the daemon ends with 99 instead of 0, and lines that begin with
/// `==` tell why.
const VALGRIND: [&str; 5] = [
    "valgrind",
    "--quiet",
    "--leak-check=full",
    "--errors-for-leak-kinds=definite,indirect",
    "--error-exitcode=99",
];

#[test]
fn valgrind_finds_no_error_and_no_leak() {
    let test = "valgrind_finds_no_error_and_no_leak";
    if !works(test, &["valgrind", "--error-exitcode=99", "true"]) {
        return;
    }
    let port = free_port();
    let setup = Setup::new()
        .wrapped(&VALGRIND)
        .option("stats_memory_limit=1M")
        .option("stats_state_interval=1s")
        .inet(port, "protocol = http");
    let mut daemon = Daemon::with("valgrind", &setup);
    let mut random = Random::new(1);
    let mut stream = Stream::new(1);
    for round in 1..4 {
        let mut records = stream.take(300);
        for record in stream.take(100) {
            records.push(mutate(&mut random, &record));
        }
        records.push(vec![b'x'; 9000]);
        daemon.feed(&records);
        // One asks and goes away in the middle.
        let mut client = daemon.client();
        client.send("EXPORT\tcommand\nEXPORT\tsess");
        let mut client = daemon.client();
        for level in ALL_LEVELS {
            client.export(level);
            client.export(&format!(
                "{level}\tuser=*@example.*\tip=10.0.0.0/8\tconnected\tmore\thistogram"
            ));
        }
        client.reset();
        let metrics = http::get(port);
        assert_eq!(metrics.status, 200);
        daemon.signal(libc::SIGHUP);
        wait_until("the settings read again", || {
            daemon.log().matches("settings read again").count() == round
        });
    }
    daemon.assert_alive();
    wait_until("the state written by a copy of the process", || {
        fs::metadata(daemon.dir.at("run/state")).is_ok()
    });
    let log_path = daemon.dir.at("log");
    let dir = daemon.stop();
    let log = fs::read_to_string(&log_path).expect("its log");
    assert!(!log.contains("\n=="), "{log}");
    // Once more, with a state to read.
    let daemon = Daemon::in_dir(dir, &setup);
    assert!(daemon.log().contains("restored"), "{}", daemon.log());
    let _dir = daemon.stop();
    let log = fs::read_to_string(&log_path).expect("its log");
    assert!(!log.contains("\n=="), "{log}");
}
