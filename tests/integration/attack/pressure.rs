//! Memory that is short while cursors are open, and while nothing may be freed.

use crate::attack::{Class, Tally};
use crate::harness::{wait_until, Daemon, Setup};
use crate::http;
use crate::link::{Client, Table};
use crate::records::{
    add_user, carry_on, command, connect, disconnect, seed, update, Auth, Mail, Random,
};
use crate::requests::LEVELS;
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;

/// What listing beside the whole level is asked for.
const REQUESTS: [&str; 8] = [
    "session\tuser=u1*",
    "command\tuser=*@d*",
    "command\tdomain=d3",
    "session\tdomain=d3",
    "user\tdomain=d3",
    "session\tconnected",
    "ip\tip=10.0.0.0/8\tconnected",
    "user\tsession=s77",
];

/// Records that fill and turn over every level: those of the n-th step.
fn churn(random: &mut Random, n: usize) -> Vec<Vec<u8>> {
    let stats = Mail::sample().field();
    let id = format!("s{n}");
    let user = format!("u{}@d{}", random.below(3000), random.below(40));
    let ip = format!("10.0.{}.{}", random.below(20), random.below(250));
    let old = format!("s{}", n.saturating_sub(100));
    let mut records = vec![
        connect(&id, &user, "imap", 1, &ip),
        update(&id, &stats),
        command(
            &id,
            1,
            "d",
            "FETCH",
            &"1:* ".repeat(random.index(60)),
            &stats,
        ),
        command(&id, 2, "", "IDLE", "", ""),
        disconnect(&old),
    ];
    if random.one_in(3) {
        records.push(add_user(&user, "auth", &Auth([1; 6]).field()));
        records.push(carry_on(&old, 2, "cd", &stats));
    }
    records
}

#[test]
fn cursors_survive_whatever_is_freed_below_them() {
    let mut tally = Tally::of(Class::Cursors);
    let lines = "stats_metrics_levels = domain user ip\nstats_metrics_limit = 10000\n\
                 stats_memory_limit = 1 M\nstats_command_min_time = 1 s\n\
                 stats_session_min_time = 1 s\nstats_user_min_time = 1 s";
    let (mut daemon, port) = http::daemon("cursors", http::with(lines), "");
    let mut random = Random::new(seed("cursors", 71));
    let mut writer = daemon.writer();
    let mut step = 0;
    let mut churn = |daemon: &Daemon, steps: usize| {
        for _ in 0..steps {
            step += 1;
            let records = churn(&mut random, step);
            records
                .iter()
                .for_each(|record| writer.send_waiting(record));
        }
        daemon.settle(&writer);
    };
    churn(&daemon, 3000);
    let before = daemon.rss_bytes();
    for round in 0..6 {
        // All begin; none is read before much was freed, and some never are.
        let requests: Vec<&str> = LEVELS.iter().chain(&REQUESTS).copied().collect();
        let mut asking: Vec<(Client, &str)> = Vec::new();
        for request in &requests {
            for _ in 0..3 {
                tally.tries(1);
                let mut client = daemon.client();
                client.send(format!("EXPORT\t{request}\nEXPORT\tglobal\n"));
                asking.push((client, request));
            }
        }
        let mut scraping: Vec<Client> = (0..3).map(|_| http::client(port)).collect();
        scraping
            .iter_mut()
            .for_each(|client| client.send(http::GET));
        tally.tries(scraping.len());
        // A reply that has not come to its first row may find none left.
        wait_until("all levels being listed", || {
            let mut levels = asking.iter().filter(|(_, what)| !what.contains('\t'));
            levels.all(|(client, _)| client.has_lines(2))
        });
        churn(&daemon, 700);
        if round % 2 == 0 {
            daemon.client().reset();
        }
        churn(&daemon, 700);
        let grown = daemon.rss_bytes().saturating_sub(before);
        assert!(
            grown < 4 * MIB,
            "{grown} bytes with {} clients",
            asking.len()
        );
        for (n, (mut client, request)) in asking.into_iter().enumerate() {
            match n % 3 {
                // A whole reply with all its fields, and the next one behind it.
                0 => {
                    let table = Table::parse(&client.reply());
                    let least = if request.contains('\t') { 0 } else { 1 };
                    assert!(table.rows.len() >= least, "{request:?}: {table:?}");
                    assert_eq!(Table::parse(&client.reply()).rows.len(), 1, "{request:?}");
                }
                1 => drop(client.read_some()),
                _ => {}
            }
        }
        let answer = http::answer(&mut scraping[0], false);
        assert_eq!(answer.status, 200);
        assert!(answer.samples().contains_key("dovestat_connected_clients"));
    }
    let answer = http::get(port);
    let samples = answer.samples();
    let number = |name: &str| samples[name].parse::<u64>().expect("a number");
    let (used, limit) = (
        number("dovestat_memory_used_bytes"),
        number("dovestat_memory_limit_bytes"),
    );
    assert!(used <= limit, "{used} of {limit} bytes");
    let freed = number("dovestat_evictions_total{level=\"session\"}");
    assert!(freed > 1000, "{freed} sessions were freed");
    // Entries touched within one second are equals, of which commands are freed first. Those
    // of the check are the younger ones where the others are past their min_time.
    let churned = Instant::now();
    wait_until("the churn being past its min_time", || {
        churned.elapsed() > Duration::from_secs(2)
    });
    tally.check(&mut daemon);
}

#[test]
fn what_is_counted_stays_exact_while_nothing_may_be_freed() {
    let mut tally = Tally::of(Class::NothingToFree);
    let mut daemon = Daemon::with("held", &Setup::new().option("stats_memory_limit=256K"));
    let stats = Mail::sample().field();
    let mut writer = daemon.writer();
    let sessions: u64 = 6000;
    let run = |n: u64| format!("held{n}");
    for n in 0..sessions {
        tally.tries(1);
        let user = format!("u{n}@d{}", n % 5);
        writer.send_waiting(&connect(
            &run(n),
            &user,
            "imap",
            1,
            &format!("2001:db8::{n:x}"),
        ));
        writer.send_waiting(&command(&run(n), 1, "", "IDLE", "", &stats));
        writer.send_waiting(&add_user(&user, "auth", &Auth([1, 0, 0, 0, 0, 0]).field()));
    }
    daemon.settle(&writer);
    let mut client = daemon.client();
    let kept = client.export("session").rows.len() as u64;
    assert!((100..sessions).contains(&kept), "{kept} kept");
    let global = client.export("global");
    for (name, value) in [
        ("num_logins", sessions),
        ("auth_successes", sessions),
        // Those of sessions that are not kept, too.
        ("num_cmds", sessions),
        ("num_connected_sessions", kept),
    ] {
        assert_eq!(global.only().num(name), value, "{name}");
    }
    assert_eq!(daemon.log().matches("nothing can be freed").count(), 1);
    // All go; then there is room for what is new.
    for n in 0..sessions {
        writer.send_waiting(&carry_on(&run(n), 1, "cd", &stats));
        writer.send_waiting(&disconnect(&run(n)));
    }
    daemon.settle(&writer);
    let global = daemon.client().export("global");
    assert_eq!(global.only().num("num_connected_sessions"), 0);
    // Of what was touched within the same second, commands would go first: those of the
    // check, too, in place of these sessions.
    let ended = Instant::now();
    wait_until("those sessions are a second old", || {
        ended.elapsed() >= Duration::from_secs(1)
    });
    tally.check(&mut daemon);
    daemon.stop();
}
