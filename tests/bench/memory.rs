//! Memory, side by side with Dovecot's own service: what is resident under a
//! limit, and how much is kept in it. `cargo bench --bench memory` prints the
//! table; without Dovecot 2.3 or root it has our half only.

#[allow(dead_code)]
#[path = "../integration/dovecot.rs"]
mod dovecot;
#[allow(dead_code)]
#[path = "../integration/harness.rs"]
mod harness;
#[allow(dead_code)]
#[path = "../integration/link.rs"]
mod link;
#[allow(dead_code)]
#[path = "../integration/records.rs"]
mod records;
mod service;

use harness::rss_bytes;
use link::Writer;
use records::{command, connect, disconnect, update, Mail};
use service::Service;
use std::panic::{catch_unwind, AssertUnwindSafe};

/// How sessions end.
#[derive(Clone, Copy, PartialEq)]
enum Workload {
    /// They disconnect, so everything may be freed.
    Ending,
    /// They stay connected, so nothing but finished commands may.
    Staying,
}

/// What came of a workload in one of the services.
struct Outcome {
    /// Resident memory at the end, in KiB.
    resident_kib: u64,
    /// What it had grown by.
    grown_kib: u64,
    /// Entries of all levels that are listed.
    entries: u64,
}

/// A session of its own user and address with two commands.
fn session(writer: &mut Writer, n: u64, workload: Workload) {
    let id = format!("yR+mHvJgZoB{n:011}");
    let user = format!("user{n}@domain{}.org", n % 1000);
    let ip = format!("10.{}.{}.{}", n >> 16, (n >> 8) & 255, n & 255);
    writer.send_waiting(&connect(&id, &user, "imap", 1000, &ip));
    let mail = Mail {
        times: [
            (0, 20_000 + n as i64 % 70_000),
            (0, 9000),
            (0, 40_000 + n as i64 % 100_000),
        ],
        faults: [300 + n as u32 % 100, n as u32 % 2, 30 + n as u32 % 9, 5],
        disk: [n % 50 * 4096, 8192],
        counts: [40, 12],
        bytes: [30_000 + n % 9999, 4000],
        lookups: [12, 20, 8],
        read: [5000, 30],
    }
    .field();
    writer.send_waiting(&update(&id, &mail));
    for number in 1..3 {
        let args = format!("1:{} (FLAGS)", n % 1000);
        writer.send_waiting(&command(&id, number, "d", "FETCH", &args, &mail));
    }
    if workload == Workload::Ending {
        writer.send_waiting(&disconnect(&id));
    }
}

/// Runs a workload in a service and looks at the result; `None` when the service
/// did not survive it.
fn run(service: &Service, sessions: u64, workload: Workload) -> Option<Outcome> {
    let work = || {
        let before = rss_bytes(service.pid);
        let mut writer = service.writer();
        for n in 0..sessions {
            session(&mut writer, n, workload);
        }
        // What is resident is looked at before rows are formatted.
        service.settle(&writer);
        let resident = rss_bytes(service.pid);
        let mut client = service.client();
        let levels = ["command", "session", "user", "domain", "ip"];
        let entries = levels.map(|level| client.export(level).rows.len() as u64);
        Outcome {
            resident_kib: resident / 1024,
            grown_kib: resident.saturating_sub(before) / 1024,
            entries: entries.iter().sum(),
        }
    };
    catch_unwind(AssertUnwindSafe(work)).ok()
}

/// The same in our daemon.
fn ours(limit: &str, sessions: u64, workload: Workload) -> Outcome {
    run(&Service::ours(limit), sessions, workload).expect("our daemon survives everything")
}

/// The same in Dovecot's service.
fn original(limit: &str, sessions: u64, workload: Workload) -> Option<Outcome> {
    run(&Service::original(limit), sessions, workload)
}

/// An outcome as columns.
fn columns(outcome: Option<&Outcome>) -> String {
    match outcome {
        None => format!("{:>9} {:>9} {:>10}", "died", "-", "-"),
        Some(outcome) => format!(
            "{:>9} {:>9} {:>10}",
            outcome.resident_kib,
            outcome.entries,
            outcome.entries * 1024 / outcome.resident_kib.max(1)
        ),
    }
}

fn main() {
    let has_original = dovecot::available("the original's half of the table");
    println!(
        "{:26} {:^30}   {:^30}",
        "", "dovestatd", "Dovecot's old-stats"
    );
    println!(
        "{:6} {:19} {:>9} {:>9} {:>10}   {:>9} {:>9} {:>10}",
        "limit", "sessions", "KiB", "entries", "per MiB", "KiB", "entries", "per MiB"
    );
    for (limit, bytes) in [("1 M", 1u64 << 20), ("16 M", 16 << 20), ("64 M", 64 << 20)] {
        // Twice what fits.
        let sessions = bytes / 300;
        for (name, workload) in [("ending", Workload::Ending), ("staying", Workload::Staying)] {
            let our = ours(limit, sessions, workload);
            let its = has_original.then(|| original(limit, sessions, workload));
            println!(
                "{limit:6} {:19} {}   {}",
                format!("{sessions} {name}"),
                columns(Some(&our)),
                its.map_or(String::new(), |its| columns(its.as_ref())),
            );
        }
    }
    let sessions = 60_000;
    let our = ours("1 G", sessions, Workload::Staying);
    println!(
        "the same entries, {sessions} sessions with users and ips and {} commands:",
        2 * sessions
    );
    println!("  dovestatd grew by {} KiB", our.grown_kib);
    if has_original {
        let its = original("1 G", sessions, Workload::Staying).expect("it survives this");
        assert_eq!(our.entries, its.entries, "both keep all of them");
        println!(
            "  old-stats grew by {} KiB: ours is {}% of that",
            its.grown_kib,
            our.grown_kib * 100 / its.grown_kib
        );
    }
}
