//! Crowds: more clients than there are places or memory for, none of which reads.

use std::fs;
use std::time::{Duration, Instant};

use crate::harness::{
    free_port, local, skipped, wait_until, waited_for_cpu, Daemon, Setup, DEADLINE,
};
use crate::http::{ask, GET};
use crate::link::Client;
use crate::records::connect;

/// The time after which a client that reads nothing may be closed, and a second.
const PATIENCE: Duration = Duration::from_secs(61);

/// Connects as long as it takes to be served, and how long that was, without the time in
/// which the daemon or this thread waited for a processor.
fn time_to_be_served(daemon: &Daemon, ask: impl Fn() -> bool) -> Duration {
    let waited = || waited_for_cpu(daemon.pid()) + waited_for_cpu("thread-self");
    let (begun, before) = (Instant::now(), waited());
    let took = || begun.elapsed().saturating_sub(waited() - before);
    while !ask() {
        assert!(took() < PATIENCE + DEADLINE, "never served");
        std::thread::sleep(Duration::from_millis(100));
    }
    took()
}

/// A client that sends requests until nothing more is taken, and reads nothing.
fn stuck(port: u16) -> Client {
    let mut client = Client::tcp(local(port));
    let requests = "EXPORT\tsession\n".repeat(100_000);
    client.send_while_taken(requests.as_bytes(), Duration::from_millis(300));
    client
}

fn sessions(count: usize) -> Vec<Vec<u8>> {
    let session = |n| {
        let (id, user) = (format!("crowd{n}"), format!("user{n}@d{n}.example.org"));
        connect(&id, &user, "imap", 1, "10.0.0.1")
    };
    (0..count).map(session).collect()
}

#[test]
fn clients_that_never_read_do_not_keep_others_out() {
    let port = free_port();
    let setup = Setup::new().inet(port, "").service("client_limit = 3");
    let mut daemon = Daemon::with("crowdplaces", &setup);
    daemon.feed(&sessions(1000));
    let crowd: Vec<Client> = (0..3).map(|_| stuck(port)).collect();
    wait_until("all of them being answered", || {
        crowd.iter().all(|client| client.has_lines(2))
    });
    // Another listener has a place of its own.
    let other = time_to_be_served(&daemon, || {
        let client = Client::try_unix(&daemon.socket());
        client.is_some_and(|mut client| client.try_export("global").is_some())
    });
    assert!(other < Duration::from_secs(5), "{other:?}");
    let same = time_to_be_served(&daemon, || {
        Client::tcp(local(port)).try_export("global").is_some()
    });
    assert!(other + same < PATIENCE, "{other:?}, {same:?}");
    assert!(same > PATIENCE / 2, "{same:?}: a reply was cut for nothing");
    let log = daemon.log();
    assert!(
        log.contains("connection closed: no progress for 60 seconds: inet_listener 127.0.0.1:")
            && log.contains(": for a new client"),
        "{log}"
    );
    drop(crowd);
    daemon.assert_alive();
}

/// A daemon that may map so much, in KiB.
fn confined(name: &str, kib: u32, options: &[&str], setup: Setup) -> Daemon {
    let limit = format!("ulimit -v {kib}; exec \"$@\"");
    let setup = options
        .iter()
        .fold(setup, |setup, option| setup.option(option));
    Daemon::with(name, &setup.wrapped(&["sh", "-c", &limit, "sh"]))
}

#[test]
fn a_memory_limit_that_the_process_may_not_have_is_lowered() {
    let options = ["stats_memory_limit=200M"];
    let mut daemon = confined("crowdlimit", 30_000, &options, Setup::new());
    let log = daemon.log();
    let expected =
        "warning: stats_memory_limit 200 M needs 254 M in all, but RLIMIT_AS 29 M leaves ";
    assert!(
        log.contains(expected) && log.contains(": lowered to "),
        "{log}"
    );
    assert!(
        log.contains("; raise RLIMIT_AS or lower stats_memory_limit"),
        "{log}"
    );
    let mut writer = daemon.writer();
    for n in 0..250_000 {
        writer.send_waiting(&connect(&format!("s{n}"), &format!("u{n}"), "imap", 1, ""));
    }
    daemon.settle(&writer);
    let sessions = daemon.client().export("session").rows.len();
    assert!(sessions > 10_000, "{sessions} sessions");
    let log = daemon.log();
    assert!(!log.contains("the system gave no more memory"), "{log}");
    daemon.assert_alive();
}

/// A control group of the test's own, removed when dropped.
struct Group(String);

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn a_memory_limit_that_the_control_group_has_not_is_lowered() {
    let test = "a_memory_limit_that_the_control_group_has_not_is_lowered";
    let name = format!("dovestat-test-{}", std::process::id());
    let of = |tree: &str, file| (Group(format!("/sys/fs/cgroup{tree}/{name}")), file);
    let groups = [of("", "memory.max"), of("/memory", "memory.limit_in_bytes")];
    let made = groups.into_iter().find_map(|(group, file)| {
        fs::create_dir(&group.0).ok()?;
        // Not so where it is a directory like any other.
        fs::metadata(format!("{}/cgroup.procs", group.0)).ok()?;
        let file = format!("{}/{file}", group.0);
        fs::write(&file, format!("{}", 24 << 20)).ok()?;
        Some((group, file))
    });
    let Some((group, file)) = made else {
        return skipped(test, "no control group can be made here");
    };
    let enter = format!("echo $$ >{}/cgroup.procs; exec \"$@\"", group.0);
    let setup = Setup::new().option("stats_memory_limit=100M");
    let mut daemon = Daemon::with("crowdgroup", &setup.wrapped(&["sh", "-c", &enter, "sh"]));
    let expected =
        format!("warning: stats_memory_limit 100 M needs 129 M in all, but {file} 24 M leaves ");
    assert!(daemon.log().contains(&expected), "{}", daemon.log());
    daemon.assert_alive();
    drop(daemon.stop());
    drop(group);
}

#[test]
fn an_allocation_that_fails_costs_a_client() {
    let port = free_port();
    let setup = Setup::new().inet(port, "");
    // The smallest limit of the statistics fits in nothing of this.
    let mut daemon = confined("crowdnothing", 9_000, &["stats_memory_limit=16M"], setup);
    daemon.feed(&sessions(1000));
    // The more clients there are, the more it takes to admit another.
    let idle: Vec<Client> = (0..500).map(|_| Client::tcp(local(port))).collect();
    let mut crowd: Vec<Client> = Vec::new();
    wait_until("memory running out", || {
        crowd.push(stuck(port));
        daemon
            .log()
            .contains("the system gave no more memory: a client of inet_listener 127.0.0.1:")
    });
    // Many at once, as after a time without a processor: the memory of one client that was
    // closed is not enough for the next turn.
    for _ in 0..5 {
        daemon.signal(libc::SIGSTOP);
        let mut burst: Vec<Client> = (0..60).map(|_| Client::tcp(local(port))).collect();
        for client in &mut burst {
            client.send("EXPORT\tsession\n".repeat(100));
        }
        daemon.signal(libc::SIGCONT);
        // A client that asks now may be the one that is closed.
        wait_until("an answer in spite of all of them", || {
            assert_eq!(daemon.exited(), None, "{}", daemon.log());
            let client = Client::try_unix(&daemon.socket());
            client.is_some_and(|mut client| client.try_export("global").is_some())
        });
        crowd.extend(burst);
    }
    drop((idle, crowd));
    daemon.assert_alive();
    daemon.feed(&[connect("after", "u", "imap", 1, "")]);
}

#[test]
fn clients_that_never_read_cost_a_bounded_sum() {
    let port = free_port();
    let setup = Setup::new()
        .inet(port, "protocol = http")
        .option("stats_metrics_levels=user,domain")
        .option("stats_metrics_limit=10000");
    let mut daemon = Daemon::with("crowdmemory", &setup);
    daemon.feed(&sessions(10_000));
    // The first of each kind, for what they leave in the allocator.
    assert_eq!(ask(&mut Client::tcp(local(port)), GET).status, 200);
    let before = daemon.rss_bytes();
    let mut crowd: Vec<Client> = (0..150).map(|_| Client::tcp(local(port))).collect();
    crowd
        .iter_mut()
        .for_each(|client| client.send(GET.repeat(20)));
    wait_until("all of them being connected", || {
        daemon.signal(libc::SIGUSR1);
        daemon.log().contains("150 clients connected")
    });
    // The UNIX socket has memory of its own.
    let begun = Instant::now();
    daemon.client().export("session\tuser=user1@d1.example.org");
    assert!(begun.elapsed() < DEADLINE / 2, "{:?}", begun.elapsed());
    let grown = daemon.rss_bytes().saturating_sub(before);
    assert!(grown < 10 << 20, "{grown} bytes for 150 clients");
    // What they asked is ranked until none of their memory is left; then nothing is spun for.
    // One that waits for a processor is not done.
    let busy = || daemon.cpu() + waited_for_cpu(daemon.pid());
    wait_until("the ranking for all of them", || {
        let before = busy();
        std::thread::sleep(Duration::from_millis(200));
        busy() - before < Duration::from_millis(30)
    });
    let used = daemon.cpu();
    std::thread::sleep(Duration::from_secs(2));
    let used = daemon.cpu() - used;
    assert!(used < Duration::from_millis(300), "{used:?}");
    // Those that read go on, whatever the others do.
    let scrape = time_to_be_served(&daemon, || {
        let mut client = Client::tcp(local(port));
        client.send(GET);
        client.try_line().is_some()
    });
    assert!(scrape < PATIENCE, "{scrape:?}");
    drop(crowd);
    daemon.assert_alive();
}
