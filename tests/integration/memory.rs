//! The memory limit as the kernel sees it: resident memory of the real daemon
//! under workloads that shift from one kind of entry to another, while the oldest
//! entries of all can never be freed.

use crate::attack::{Class, Tally};
use crate::harness::{anonymous_bytes, Daemon, Setup};
use crate::link::Writer;
use crate::records::{add_user, command, connect, disconnect, update, Auth, Mail};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// What a daemon may have beyond its limit and what it has when idle: its buffers and
/// tables. The pages of its program are not counted, which an idle daemon gives back.
const BASE_BYTES: u64 = MIB;

/// A kind of workload: its name, and the records of its n-th step.
type Workload = (&'static str, fn(&Filler, u64, &mut Writer));

/// Workloads that each fill the limit with another kind of entry.
const WORKLOADS: [Workload; 5] = [
    ("users", |filler, n, writer| {
        let auth = Auth([1, 0, 2, 0, 3, 4]).field();
        let user = format!("{}{n}@d{}.example", filler.padding, n % 50);
        writer.send_waiting(&add_user(&user, "imap", &auth));
    }),
    ("domains", |filler, n, writer| {
        let auth = Auth([1, 0, 2, 0, 3, 4]).field();
        let user = format!("u@{}{n}.example", filler.padding);
        writer.send_waiting(&add_user(&user, "imap", &auth));
    }),
    ("sessions", |filler, n, writer| {
        let id = format!("{}s{n}", filler.padding);
        let user = format!("u{}@d.example", n % 500);
        writer.send_waiting(&connect(&id, &user, "imap", 7, ""));
        writer.send_waiting(&update(&id, &filler.stats));
        writer.send_waiting(&disconnect(&id));
    }),
    ("commands", |filler, n, writer| {
        let args = format!("{} {n}", filler.padding);
        let number = n as u32 + 10;
        writer.send_waiting(&command(
            "pinned",
            number,
            "d",
            "FETCH",
            &args,
            &filler.stats,
        ));
    }),
    ("addresses", |_, n, writer| {
        let id = format!("ip{n}");
        let ip = format!("2001:db8::{:x}:{:x}", n >> 16, n & 0xffff);
        writer.send_waiting(&connect(&id, "u@d.example", "imap", 7, &ip));
        writer.send_waiting(&disconnect(&id));
    }),
];

/// What the records of a workload are made of.
struct Filler {
    /// Makes entries large where the limit is, so that few fill it.
    padding: String,
    /// A stats field.
    stats: String,
}

/// Runs all workloads twice in a daemon with this limit.
fn shift(limit: &str, limit_bytes: u64, padding: usize) {
    let mut tally = Tally::of(Class::Memory);
    tally.tries(2 * WORKLOADS.len());
    let setup = Setup::new().option(&format!("stats_memory_limit={limit}"));
    let mut daemon = Daemon::with("memory", &setup);
    let idle_bytes = anonymous_bytes(daemon.pid());
    let filler = Filler {
        padding: "x".repeat(padding),
        stats: Mail::sample().field(),
    };
    let mut writer = daemon.writer();
    writer.send_waiting(&connect(
        "pinned",
        "pinned@example.org",
        "imap",
        7,
        "192.0.2.1",
    ));
    writer.send_waiting(&command("pinned", 1, "", "IDLE", "", &filler.stats));
    // An entry costs some 200 bytes and its padding; each workload fills the
    // limit and then as much again.
    let steps = 2 * limit_bytes / (200 + padding as u64);
    for round in 0..2 {
        for (name, step) in WORKLOADS {
            for n in 0..steps {
                step(&filler, round * steps + n, &mut writer);
            }
            daemon.settle(&writer);
            let grown = anonymous_bytes(daemon.pid()).saturating_sub(idle_bytes);
            assert!(
                grown <= limit_bytes + BASE_BYTES,
                "{limit}: {} KiB over idle after {name}, round {round}",
                grown / KIB
            );
            println!(
                "{limit}: {} KiB over idle after {name}, round {round}",
                grown / KIB
            );
        }
    }
    let pinned = daemon.client().export("session\tsession=pinned");
    assert_eq!(pinned.only().num("connected"), 1, "it is not freed");
    let global = daemon.client().export("global");
    assert_eq!(global.only().num("num_connected_sessions"), 1);
    assert_eq!(global.only().num("num_logins"), 4 * steps + 1);
    assert_eq!(global.only().num("num_cmds"), 2 * steps + 1);
    daemon.assert_alive();
    tally.survived();
    daemon.stop();
}

#[test]
fn resident_memory_keeps_to_256_k() {
    shift("256 K", 256 * KIB, 0);
}

#[test]
fn resident_memory_keeps_to_1_m() {
    shift("1 M", MIB, 0);
}

#[test]
fn resident_memory_keeps_to_16_m() {
    shift("16 M", 16 * MIB, 200);
}

#[test]
fn resident_memory_keeps_to_256_m() {
    shift("256 M", 256 * MIB, 3000);
}

#[test]
fn a_limit_full_of_connected_sessions_still_counts() {
    let mut tally = Tally::of(Class::NothingToFree);
    let setup = Setup::new().option("stats_memory_limit=1M");
    let mut daemon = Daemon::with("pinned", &setup);
    let idle_bytes = anonymous_bytes(daemon.pid());
    let stats = Mail::sample().field();
    let mut writer = daemon.writer();
    let sessions = 20_000;
    tally.tries(sessions as usize);
    for n in 0..sessions {
        let ip = format!("10.0.{}.{}", n / 250, n % 250);
        let user = format!("u{n}@d{}.example", n % 10);
        writer.send_waiting(&connect(&format!("s{n}"), &user, "imap", 7, &ip));
    }
    daemon.settle(&writer);
    let kept = daemon.client().export("session").rows.len() as u64;
    assert!(kept > 1000 && kept < sessions, "{kept} sessions kept");
    // Those that are kept go on to be counted, with all they grow by.
    for n in 0..kept {
        writer.send_waiting(&update(&format!("s{n}"), &stats));
    }
    daemon.settle(&writer);
    let mut client = daemon.client();
    assert_eq!(client.export("session").rows.len() as u64, kept);
    let global = client.export("global");
    assert_eq!(global.only().num("num_logins"), sessions);
    assert_eq!(global.only().num("num_connected_sessions"), kept);
    let expected = kept * u64::from(Mail::sample().counts[0]);
    assert_eq!(global.only().num("read_count"), expected);
    let of_domains: u64 = {
        let domains = client.export("domain");
        let values = domains.values("read_count");
        values
            .iter()
            .map(|value| value.parse::<u64>().unwrap())
            .sum()
    };
    assert_eq!(of_domains, expected);
    for n in 0..kept {
        writer.send_waiting(&disconnect(&format!("s{n}")));
    }
    daemon.settle(&writer);
    assert_eq!(
        client.export("global").only().num("num_connected_sessions"),
        0
    );
    let grown = anonymous_bytes(daemon.pid()).saturating_sub(idle_bytes);
    assert!(grown <= MIB + BASE_BYTES, "{} KiB over idle", grown / KIB);
    let told = daemon.log().matches("nothing can be freed").count();
    assert_eq!(told, 1, "the log says so once");
    daemon.assert_alive();
    tally.survived();
    daemon.stop();
}
