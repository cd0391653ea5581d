//! What a listener's settings change: TCP, RESET allowed or not, the column order
//! of 2.2, headers always, closing after a reply; and how replies travel.

use std::time::Instant;

use crate::attack::{Class, Tally};
use crate::harness::{free_port, local, Daemon, Setup};
use crate::link::{latin1, Client};
use crate::protocol::STATS;
use crate::requests::{header, populate, LEVELS};

#[test]
fn a_half_closed_client_gets_its_replies() {
    let port = free_port();
    let daemon = Daemon::with("halfclose", &Setup::new().inet(port, ""));
    populate(&daemon);
    let expected = daemon.client().export_raw("session");
    for mut client in [daemon.client(), Client::tcp(local(port))] {
        client.send("EXPORT\tsession\n".repeat(300));
        client.half_close();
        assert!(
            client.rest() == expected.repeat(300),
            "all replies, then the end"
        );
    }
}

#[test]
fn inet_listeners_serve_but_do_not_reset() {
    let mut tally = Tally::of(Class::Access);
    tally.tries(2);
    let (first, second) = (free_port(), free_port());
    let setup = Setup::new().inet(first, "").inet(second, "reset = yes");
    let daemon = Daemon::with("inet", &setup);
    populate(&daemon);
    let mut client = Client::tcp(local(first));
    assert_eq!(
        client.export_raw("user"),
        daemon.client().export_raw("user"),
        "over TCP"
    );
    let before = client.export("global");
    client.send("RESET\n");
    let answer = latin1(&client.try_line().unwrap_or_default());
    assert_ne!(answer, "OK\n", "RESET over TCP is refused");
    assert_eq!(
        daemon.client().export("global"),
        before,
        "nothing was cleared"
    );
    Client::tcp(local(second)).reset();
    assert_eq!(
        daemon.client().export("global").only().num("num_logins"),
        0,
        "reset = yes"
    );
    tally.survived();
}

#[test]
fn reset_may_be_switched_off_on_a_unix_socket() {
    let mut tally = Tally::of(Class::Access);
    tally.tries(1);
    let daemon = Daemon::with("noreset", &Setup::new().unix("reset = no"));
    populate(&daemon);
    let mut client = daemon.client();
    client.send("RESET\n");
    assert_ne!(
        client.try_line().as_deref(),
        Some(b"OK\n".as_slice()),
        "the answer to RESET"
    );
    assert_eq!(
        daemon.client().export("global").only().num("num_logins"),
        4,
        "nothing cleared"
    );
    tally.survived();
}

#[test]
fn a_listener_may_use_the_column_order_of_2_2() {
    let daemon = Daemon::with("columns", &Setup::new().unix("column_order = 2.2"));
    populate(&daemon);
    let mut client = daemon.client();
    let names: Vec<&str> = STATS.split_whitespace().collect();
    let expected: Vec<&str> = names[18..].iter().chain(&names[..18]).copied().collect();
    for level in LEVELS {
        let table = client.export(level);
        let at = table.column("auth_successes");
        assert_eq!(table.names[at..], expected, "statistics columns at {level}");
    }
    let table = client.export("user");
    assert_eq!(
        table.row("user", "dave").num("auth_successes"),
        1,
        "values go with names"
    );
    assert_eq!(
        client
            .export("command")
            .row("cmd", "FETCH")
            .num("read_bytes"),
        12
    );
}

#[test]
fn a_listener_may_always_send_headers() {
    let daemon = Daemon::with("headeralways", &Setup::new().unix("header_always = yes"));
    let mut client = daemon.client();
    for level in ["command", "session", "user", "domain", "ip"] {
        let expected = header(level) + "\n";
        assert_eq!(
            latin1(&client.export_raw(level)),
            expected,
            "an empty {level} level"
        );
    }
    let expected = header("user") + "\n";
    assert_eq!(
        latin1(&client.export_raw("user\tuser=nobody")),
        expected,
        "an unknown user"
    );
}

#[test]
fn a_listener_may_close_after_each_reply() {
    let port = free_port();
    let setup = Setup::new().inet(port, "close_after_reply = yes");
    let daemon = Daemon::with("closing", &setup);
    populate(&daemon);
    let started = Instant::now();
    let mut client = Client::tcp(local(port));
    client.send("EXPORT\tuser\nEXPORT\tuser\n");
    assert_eq!(
        client.rest(),
        daemon.client().export_raw("user"),
        "one reply, then the end"
    );
    assert!(
        started.elapsed().as_secs() < 4,
        "closed at once: {:?}",
        started.elapsed()
    );
    let mut client = daemon.client();
    client.export("user");
    client.export("user");
}

#[test]
fn a_small_reply_arrives_in_one_read() {
    let port = free_port();
    let daemon = Daemon::with("onewrite", &Setup::new().inet(port, ""));
    populate(&daemon);
    for mut client in [daemon.client(), Client::tcp(local(port))] {
        for round in 0..300 {
            client.send("EXPORT\tglobal\n");
            let reply = latin1(&client.read_some().expect("a reply"));
            assert!(
                reply.ends_with("\n\n") && reply.len() > 100,
                "read {round}: {reply:?}"
            );
            assert!(
                reply.len() <= 4096,
                "a global reply of {} bytes",
                reply.len()
            );
        }
    }
}
