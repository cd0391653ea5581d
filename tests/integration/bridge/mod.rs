//! `dovestat bridge` with events, an anvil and mail processes of the test's own, and a
//! real daemon that it reports to.

mod stage;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;

use crate::harness::{free_port, is_root, local, send_signal, wait_until, Setup};
use crate::link::Table;
use stage::{port, Stage, Worker};

const LEVELS: [&str; 4] = ["user", "domain", "ip", "global"];

/// Events of a session, and of its end.
fn who(id: &str, user: &str, ip: &str) -> String {
    format!(
        "user={user} session={id} remote_ip={ip} remote_port={}",
        port(id)
    )
}

fn cpu_usecs(table: &Table) -> u64 {
    ["user_cpu", "sys_cpu"]
        .map(|name| table.only().micros(name))
        .iter()
        .sum()
}

/// The sum of a column.
fn sum(table: &Table, name: &str) -> u64 {
    table
        .values(name)
        .iter()
        .map(|value| value.parse::<u64>().expect("a number"))
        .sum()
}

#[test]
fn an_imap_session_is_live_and_exact_at_its_end() {
    let mut stage = Stage::new("bridge-imap", &[]);
    let mut worker = Worker::start(&stage, "worker");
    let row = stage.login(
        "S1/AAAB",
        "bob@example.org",
        "imap",
        "192.0.2.1",
        worker.pid(),
    );
    let found = stage.wait("session service=imap", |table| {
        table.find("session", "S1/AAAB").is_some()
    });
    let session = found.only();
    assert_eq!(session.get("user"), "bob@example.org");
    assert_eq!(session.get("ip"), "192.0.2.1");
    assert_eq!(session.get("service"), "imap");
    assert_eq!(session.num("pid"), u64::from(worker.pid()));
    assert_eq!(session.get("connected"), "1");
    // Live, without any event.
    worker.work(300_000);
    let used = worker.used();
    stage.wait("session service=imap", |table| {
        table.only().num("read_bytes") >= used[2]
    });
    // A command's share.
    worker.work(200_000);
    let fields = "user=bob@example.org session=S1/AAAB remote_ip=192.0.2.1 cmd_name=FETCH \
                  cmd_tag=A7 cmd_human_args=1:* tagged_reply_state=OK duration=9000 running_usecs=7000";
    stage.send("imap_command_finished", fields);
    let table = stage.wait("command", |table| table.find("cmd", "FETCH").is_some());
    let command = table.row("cmd", "FETCH");
    assert_eq!(command.get("args"), "A7");
    assert_eq!(command.get("user"), "bob@example.org");
    assert_eq!(command.micros("clock_time"), 7000);
    let used = worker.used();
    for level in [
        "session service=imap",
        "user user=bob*",
        "domain domain=example.org",
        "ip",
        "global",
    ] {
        let table = stage.wait(level, |table| cpu_usecs(table) == used[0] / 1000);
        let row = table.only();
        assert_eq!(row.num("min_faults"), used[1], "{level}");
        assert_eq!(row.num("read_bytes"), used[2], "{level}");
        assert_eq!(row.num("write_bytes"), used[3], "{level}");
        assert_eq!(row.micros("clock_time"), 7000, "{level}");
        assert_eq!(
            row.num("num_cmds"),
            1 + u64::from(level == "global"),
            "{level}"
        );
        if !level.starts_with("session") {
            assert_eq!(row.num("num_logins"), 1, "{level}");
            assert_eq!(row.num("auth_successes"), 1, "{level}");
        }
    }
    // Final figures that are larger count, smaller ones do not.
    let fields = format!(
        "service=imap user=bob@example.org session=S1/AAAB remote_ip=192.0.2.1 remote_port={} \
         duration=100 utime=0 minor_faults={} major_faults=3",
        port("S1/AAAB"),
        used[1] + 5
    );
    stage.send("mail_user_session_finished", &fields);
    stage.anvil.unlist(&row);
    let table = stage.wait("session service=imap", |table| {
        table.only().get("connected") == "0"
    });
    assert_eq!(table.only().num("min_faults"), used[1] + 5);
    assert_eq!(table.only().num("maj_faults"), 3);
    assert_eq!(cpu_usecs(&table), used[0] / 1000);
    worker.end();
    stage.stop_bridge();
    assert!(
        !std::path::Path::new(&stage.events_path()).exists(),
        "removed at the end"
    );
    assert_eq!(stage.log(), "");
}

#[test]
fn every_service_adds_up_at_every_level() {
    let mut stage = Stage::new("bridge-services", &["--args"]);
    let mut workers: Vec<(Worker, &str, String)> = Vec::new();
    for (number, service) in ["imap", "pop3", "managesieve", "submission"]
        .into_iter()
        .enumerate()
    {
        let worker = Worker::start(&stage, service);
        let id = format!("S{number}");
        stage.login(&id, "bob@example.org", service, "192.0.2.1", worker.pid());
        workers.push((worker, service, id));
    }
    stage.wait("session connected", |table| table.rows.len() == 5);
    let mut read_bytes = 0;
    for (number, (worker, service, id)) in (1..).zip(&mut workers) {
        worker.work(10_000 * number);
        read_bytes += worker.used()[2];
        let ip_port = format!("remote_ip=192.0.2.1 remote_port={} duration=1500", port(id));
        let user = "user=bob@example.org";
        match *service {
            "imap" => stage.send(
                "imap_command_finished",
                &format!("{user} session={id} {ip_port} cmd_name=FETCH cmd_human_args=1:* running_usecs=1500 net_in_bytes=10 net_out_bytes=20 lock_wait_usecs=30"),
            ),
            "pop3" => stage.send("pop3_command_finished", &format!("{user} {ip_port} cmd_name=RETR net_in_bytes=10 net_out_bytes=20")),
            "managesieve" => stage.send("managesieve_command_finished", &format!("{user} session={id} service=sieve cmd_name=PUTSCRIPT duration=1500 net_in_bytes=10 net_out_bytes=20")),
            _ => stage.send("smtp_server_command_finished", &format!("{user} session=other protocol=smtp {ip_port} cmd_name=MAIL net_in_bytes=99 net_out_bytes=99")),
        }
    }
    let commands = stage.wait("command more", |table| {
        table
            .values("cmd")
            .iter()
            .filter(|&&name| name != "AUTH")
            .count()
            == 4
    });
    assert_eq!(commands.row("cmd", "FETCH").get("args"), "1:*");
    assert_eq!(commands.row("cmd", "FETCH").micros("lock_wait"), 30);
    for (name, service) in [
        ("FETCH", "S0"),
        ("RETR", "S1"),
        ("PUTSCRIPT", "S2"),
        ("MAIL", "S3"),
    ] {
        assert_eq!(commands.row("cmd", name).get("session"), service);
        assert_eq!(commands.row("cmd", name).micros("clock_time"), 1500);
    }
    for level in LEVELS {
        let table = stage.wait(&format!("{level} more"), |table| {
            sum(table, "read_bytes") == read_bytes
        });
        assert_eq!(sum(&table, "net_in_bytes"), 30, "{level}");
        assert_eq!(sum(&table, "net_out_bytes"), 60, "{level}");
        assert_eq!(sum(&table, "auth_successes"), 4, "{level}");
        assert_eq!(sum(&table, "auth_failures"), 0, "{level}");
    }
    // A login that fails counts at its user and address.
    stage.send(
        "auth_request_finished",
        "protocol=imap user=eve@example.org session=F remote_ip=192.0.2.9 duration=9",
    );
    let table = stage.wait("ip", |table| table.find("ip", "192.0.2.9").is_some());
    assert_eq!(table.row("ip", "192.0.2.9").num("auth_failures"), 1);
    let table = stage.wait("user", |table| {
        table.find("user", "eve@example.org").is_some()
    });
    assert_eq!(table.row("user", "eve@example.org").num("auth_failures"), 1);
    let auth = stage.wait("command", |table| sum_of(table, "AUTH") == 4);
    let auth = auth.row("cmd", "AUTH");
    assert_eq!(auth.get("args"), "bob@example.org 192.0.2.1");
    assert_eq!(auth.micros("clock_time"), 321);
    for (worker, _, id) in workers {
        let fields = format!("service=imap {}", who(&id, "bob@example.org", "192.0.2.1"));
        stage.send("mail_user_session_finished", &fields);
        worker.end();
    }
    stage.wait("session connected", |table| table.rows.len() == 1);
}

/// How many commands have that name.
fn sum_of(table: &Table, name: &str) -> usize {
    table
        .values("cmd")
        .iter()
        .filter(|&&known| known == name)
        .count()
}

#[test]
fn mail_for_two_recipients_is_counted_once() {
    let mut stage = Stage::new("bridge-lmtp", &[]);
    let of_transaction = "protocol=lmtp remote_ip=192.0.2.5 remote_port=999 duration=40";
    for name in ["LHLO", "MAIL", "RCPT", "RCPT"] {
        stage.send(
            "smtp_server_command_finished",
            &format!("{of_transaction} session=X cmd_name={name} status_code=250"),
        );
    }
    let recipient = |id: &str, user: &str| {
        format!(
            "service=lmtp protocol=lmtp user={user} session={id} remote_ip=192.0.2.5 duration=1000"
        )
    };
    stage.send("mail_delivery_finished", &recipient("X", "u3@example.com"));
    stage.send(
        "mail_delivery_finished",
        &recipient("X:R2", "u4@example.com"),
    );
    stage.send(
        "mail_user_session_finished",
        &format!(
            "{} minor_faults=100 rchar=500",
            recipient("X:R2", "u4@example.com")
        ),
    );
    stage.send(
        "mail_user_session_finished",
        &format!(
            "{} minor_faults=300 rchar=900",
            recipient("X", "u3@example.com")
        ),
    );
    for name in ["DATA", "QUIT"] {
        let code = if name == "QUIT" { 221 } else { 250 };
        stage.send(
            "smtp_server_command_finished",
            &format!("{of_transaction} session=X cmd_name={name} status_code={code}"),
        );
    }
    let table = stage.wait("session", |table| {
        table.rows.len() == 2 && table.values("connected") == ["0", "0"]
    });
    assert_eq!(table.row("session", "X").get("user"), "u3@example.com");
    assert_eq!(table.row("session", "X").num("num_cmds"), 6);
    assert_eq!(table.row("session", "X:R2").num("min_faults"), 50);
    for level in LEVELS {
        let table = stage.daemon.client().export(level);
        assert_eq!(sum(&table, "min_faults"), 300, "{level}");
        assert_eq!(sum(&table, "read_bytes"), 900, "{level}");
        assert_eq!(sum(&table, "num_logins"), 2, "{level}");
    }
}

#[test]
fn hibernation_goes_on_with_another_process() {
    let mut stage = Stage::new("bridge-hibernation", &[]);
    let mut first = Worker::start(&stage, "first");
    let row = stage.login("S", "bob@example.org", "imap", "192.0.2.1", first.pid());
    stage.wait("session connected", |table| {
        table.find("session", "S").is_some()
    });
    first.work(100_000);
    let used = first.used();
    let who = who("S", "bob@example.org", "192.0.2.1");
    stage.send("imap_client_hibernated", &who);
    stage.send(
        "mail_user_session_finished",
        &format!("service=imap {who} duration=5"),
    );
    stage.anvil.unlist(&row);
    let hibernated = stage.row(4_000_000, "bob@example.org", "imap-hibernate", "192.0.2.1");
    stage.anvil.list(hibernated.clone());
    stage.wait("session service=imap", |table| {
        table.only().num("read_bytes") == used[2]
    });
    first.end();
    let mut second = Worker::start(&stage, "second");
    stage.anvil.unlist(&hibernated);
    let row = stage.row(second.pid(), "bob@example.org", "imap", "192.0.2.1");
    stage.anvil.list(row);
    stage.send("imap_client_unhibernated", &who);
    second.work(50_000);
    let both = used[2] + second.used()[2];
    let table = stage.wait("session service=imap", |table| {
        table.only().num("read_bytes") == both
    });
    assert_eq!(table.only().get("connected"), "1");
    stage.send(
        "mail_user_session_finished",
        &format!("service=imap {who} duration=5"),
    );
    stage.wait("session service=imap", |table| {
        table.only().get("connected") == "0"
    });
    let global = stage.daemon.client().export("user\tuser=bob@example.org");
    assert_eq!(global.only().num("num_logins"), 1);
    assert_eq!(global.only().num("read_bytes"), both);
    second.end();
}

#[test]
fn a_bridge_that_is_started_again_goes_on() {
    let mut stage = Stage::new("bridge-again", &[]);
    let mut worker = Worker::start(&stage, "worker");
    stage.login("S", "bob@example.org", "imap", "192.0.2.1", worker.pid());
    worker.work(100_000);
    let used = worker.used();
    stage.wait("session service=imap", |table| {
        table.rows.len() == 1 && table.only().num("read_bytes") == used[2]
    });
    for is_killed in [false, true] {
        match is_killed {
            true => stage.kill_bridge(),
            false => stage.stop_bridge(),
        }
        // Nothing saw this.
        worker.work(50_000);
        stage.start_bridge();
        // The session of authentications of one that was killed is over.
        stage.wait("session connected", |table| {
            table.find("service", "auth").is_none()
        });
        let used = worker.used();
        let table = stage.wait("session service=imap", |table| {
            table.only().num("read_bytes") == used[2]
        });
        assert_eq!(table.only().get("connected"), "1");
        let user = stage.daemon.client().export("user\tuser=bob@example.org");
        assert_eq!(user.only().num("num_logins"), 1, "counted once");
        assert_eq!(user.only().num("read_bytes"), used[2]);
    }
    let fields = who("S", "bob@example.org", "192.0.2.1");
    stage.send(
        "imap_command_finished",
        &format!("{fields} cmd_name=NOOP running_usecs=5"),
    );
    stage.wait("command", |table| table.find("cmd", "NOOP").is_some());
    stage.send(
        "mail_user_session_finished",
        &format!("service=imap {fields}"),
    );
    stage.wait("session service=imap", |table| {
        table.only().get("connected") == "0"
    });
    worker.end();
}

#[test]
fn a_daemon_that_is_started_again_learns_everything() {
    let setup = Setup::new().option("state_dir=");
    let mut stage = Stage::with("bridge-daemon", &setup, &[]);
    let mut worker = Worker::start(&stage, "worker");
    stage.login("S", "bob@example.org", "imap", "192.0.2.1", worker.pid());
    stage.wait("session service=imap", |table| table.rows.len() == 1);
    stage.restart_daemon(&setup, |stage| {
        // Idle, and a login that fails meanwhile.
        stage.send(
            "auth_request_finished",
            "protocol=imap user=eve session=F remote_ip=192.0.2.9",
        );
    });
    let used = worker.used();
    stage.wait("session service=imap", |table| {
        table.rows.len() == 1 && table.only().num("read_bytes") == used[2]
    });
    let table = stage.wait("ip", |table| table.rows.len() == 2);
    assert_eq!(table.row("ip", "192.0.2.9").num("auth_failures"), 1);
    assert_eq!(table.row("ip", "192.0.2.1").num("num_logins"), 1);
    worker.work(1000);
    let used = worker.used();
    stage.wait("session service=imap", |table| {
        table.only().num("read_bytes") == used[2]
    });
    worker.end();
}

#[test]
fn logins_that_fail_while_the_daemon_leaves_are_counted() {
    let setup = Setup::new().option("state_dir=");
    let mut stage = Stage::with("bridge-leaving", &setup, &[]);
    stage.wait("global", |table| table.rows.len() == 1);
    for number in 1..=5 {
        let bridge = stage.bridge.as_ref().expect("a bridge").id();
        send_signal(bridge, libc::SIGSTOP);
        wait_until("a bridge that stands still", || {
            crate::run::state(bridge) == Some('T')
        });
        // It finds the end of the daemon and the event at once.
        stage.restart_daemon(&setup, |stage| {
            stage.send(
                "auth_request_finished",
                &format!("protocol=imap user=eve{number} session=F remote_ip=192.0.2.9"),
            );
            send_signal(bridge, libc::SIGCONT);
        });
        let table = stage.wait("user", |table| table.rows.len() == 1);
        let row = table.row("user", &format!("eve{number}"));
        assert_eq!(row.num("auth_failures"), 1);
    }
}

#[test]
fn a_process_that_is_gone_ends_its_session() {
    let mut stage = Stage::new("bridge-gone", &[]);
    let worker = Worker::start(&stage, "worker");
    let row = stage.login("S", "bob@example.org", "imap", "192.0.2.1", worker.pid());
    stage.wait("session service=imap", |table| table.rows.len() == 1);
    worker.end();
    stage.anvil.unlist(&row);
    // No last event: it crashed.
    stage.wait("session service=imap", |table| {
        table.only().get("connected") == "0"
    });
}

#[test]
fn without_anvil_final_figures_come_from_events() {
    let mut stage = Stage::new("bridge-events", &["--events-only"]);
    let worker = Worker::start(&stage, "worker");
    stage.login("S", "bob@example.org", "imap", "192.0.2.1", worker.pid());
    let table = stage.wait("session service=imap", |table| table.rows.len() == 1);
    assert_eq!(table.only().get("pid"), "0");
    let fields = who("S", "bob@example.org", "192.0.2.1");
    let last = "utime=3 stime=1 minor_faults=7 net_in_bytes=11";
    stage.send(
        "mail_user_session_finished",
        &format!("service=imap {fields} {last}"),
    );
    let table = stage.wait("session service=imap more", |table| {
        table.only().get("connected") == "0"
    });
    assert_eq!(table.only().num("min_faults"), 7);
    assert_eq!(table.only().micros("user_cpu"), 30_000);
    assert_eq!(table.only().micros("sys_cpu"), 10_000);
    assert_eq!(table.only().num("net_in_bytes"), 11);
    assert!(
        stage
            .log()
            .contains("events only: no live figures, and no vol_cs"),
        "{}",
        stage.log()
    );
    worker.end();
}

#[test]
fn hostile_and_torn_lines_cost_themselves_only() {
    let mut stage = Stage::new("bridge-hostile", &[]);
    let fields = who("S", "bob", "192.0.2.1");
    for junk in [
        "\n\n",
        "EXPORT\tglobal\n",
        "event:\u{1}\n",
        &"x".repeat(100_000),
        "\n",
    ] {
        stage.send_line(junk);
    }
    stage.send_line("event:mail_user_session_finished\tstart_time:1.000000\tend_ti");
    // The line that it runs into is lost, the next is not.
    stage.send(
        "auth_request_finished",
        &format!("protocol=imap {fields} success=yes"),
    );
    stage.send(
        "auth_request_finished",
        &format!("protocol=imap {fields} success=yes"),
    );
    let table = stage.wait("user", |table| table.find("user", "bob").is_some());
    assert_eq!(table.row("user", "bob").num("auth_successes"), 1);
}

#[test]
fn events_by_http_are_taken_and_answered() {
    let http = free_port();
    let address = format!("127.0.0.1:{http}");
    let stage = Stage::new("bridge-http", &["--http", &address]);
    let recorded = include_str!("../data/dovecot-2.3.19-http-post.txt");
    let mut stream = TcpStream::connect(local(http)).expect("connect by HTTP");
    for line in recorded.lines() {
        let length = line.len();
        let head = format!("POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n");
        stream
            .write_all(format!("{head}{line}").as_bytes())
            .expect("post");
        let expected = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        let mut answer = vec![0; expected.len()];
        stream.read_exact(&mut answer).expect("an answer");
        assert_eq!(answer, expected);
    }
    let table = stage.wait("user", |table| {
        table
            .find("user", "alice@example.com")
            .is_some_and(|row| row.num("auth_failures") == 1)
    });
    let alice = table.row("user", "alice@example.com");
    assert_eq!(
        (alice.num("auth_successes"), alice.num("num_logins")),
        (2, 3),
        "two, and LMTP"
    );
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("ask");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
}

#[test]
fn the_socket_is_dovecots_alone_and_never_dead() {
    let mut stage = Stage::new("bridge-socket", &[]);
    let path = stage.events_path();
    let mode = |path: &str| fs::metadata(path).expect("a socket").permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o660);
    stage.kill_bridge();
    assert!(
        UnixStream::connect(&path).is_err(),
        "dead, until the next start"
    );
    stage.start_bridge();
    assert_eq!(mode(&path), 0o660);
    // A second bridge leaves the first one's.
    let output = crate::client::run(&[
        "bridge",
        "-e",
        &path,
        "--events-only",
        "--fifo",
        "/nowhere",
        "-s",
        "/nowhere",
    ]);
    assert_eq!(output.status.code(), Some(69), "{output:?}");
    assert!(UnixStream::connect(&path).is_ok());
    if is_root() {
        let open = fs::Permissions::from_mode(0o777);
        fs::set_permissions(&path, open).expect("chmod");
        let script = format!("import socket; s=socket.socket(socket.AF_UNIX); s.connect('{path}'); print(len(s.recv(1)))");
        let mut python = std::process::Command::new("python3");
        python.args(["-c", &script]);
        std::os::unix::process::CommandExt::uid(&mut python, 54_321);
        if let Ok(output) = python.output() {
            wait_until("the refusal", || {
                stage.log().contains("its user 54321 is not Dovecot's")
            });
            assert_eq!(crate::harness::text(&output.stdout), "0\n");
        }
    }
}

#[test]
fn nothing_connects_although_sessions_begin() {
    let mut stage = Stage::new("bridge-silent", &[]);
    stage.hang_up();
    let worker = Worker::start(&stage, "worker");
    let row = stage.row(worker.pid(), "bob", "imap", "192.0.2.1");
    stage.anvil.list(row);
    // Followed all the same, and the reason is in the log.
    stage.wait("session user=bob", |table| table.rows.len() == 1);
    wait_until("the line", || {
        stage.log().contains("but Dovecot writes nothing to")
    });
    worker.end();
}

#[test]
fn storms_of_logins_are_joined_without_one_wrong() {
    let mut stage = Stage::new("bridge-storm", &[]);
    let mut workers = Vec::new();
    for number in 0..60 {
        let worker = Worker::start(&stage, &format!("w{number}"));
        let user = format!("u{}", number % 3);
        stage.login(
            &format!("S{number}"),
            &user,
            "imap",
            "192.0.2.1",
            worker.pid(),
        );
        workers.push(worker);
    }
    let table = stage.wait("session service=imap", |table| {
        table.rows.len() == 60 && !table.values("pid").contains(&"0")
    });
    for (number, worker) in workers.iter().enumerate() {
        let row = table.row("session", &format!("S{number}"));
        assert_eq!(row.num("pid"), u64::from(worker.pid()), "S{number}");
    }
    workers.into_iter().for_each(Worker::end);
}
