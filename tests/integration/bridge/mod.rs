//! `dovestat bridge` with events, an anvil and mail processes of the test's own, and a
//! real daemon that it reports to.

mod stage;

use stage::{port, Stage, Worker};

fn sum(table: &crate::link::Table, names: [&str; 2]) -> u64 {
    names.iter().map(|name| table.only().micros(name)).sum()
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
    let found = stage.wait("session", |table| {
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
    stage.wait("session", |table| table.only().num("read_bytes") >= used[2]);
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
    for level in ["session", "user", "domain", "ip", "global"] {
        let cpu = |table: &crate::link::Table| sum(table, ["user_cpu", "sys_cpu"]);
        let table = stage.wait(level, |table| cpu(table) == used[0] / 1000);
        let row = table.only();
        assert_eq!(row.num("min_faults"), used[1], "{level}");
        assert_eq!(row.num("read_bytes"), used[2], "{level}");
        assert_eq!(row.num("write_bytes"), used[3], "{level}");
        assert_eq!(row.micros("clock_time"), 7000, "{level}");
        assert_eq!(row.num("num_cmds"), 1, "{level}");
        if level != "session" {
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
    let table = stage.wait("session", |table| table.only().get("connected") == "0");
    assert_eq!(table.only().num("min_faults"), used[1] + 5);
    assert_eq!(table.only().num("maj_faults"), 3);
    assert_eq!(sum(&table, ["user_cpu", "sys_cpu"]), used[0] / 1000);
    worker.end();
    stage.stop_bridge();
    assert!(
        !std::path::Path::new(&stage.events_path()).exists(),
        "removed at the end"
    );
    assert_eq!(stage.log(), "");
}
