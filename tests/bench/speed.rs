//! Speed, side by side with Dovecot's own service: both are fed the same bytes,
//! in turn, and a third process only reads them, which nobody can beat.
//! `cargo bench --bench speed` prints the tables; without Dovecot 2.3 or root
//! they have our half only, without valgrind there are no instruction counts.
//!
//! Processor time is the kernel's own account of each process in nanoseconds;
//! every figure is the median of interleaved runs.

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
mod workload;

use harness::{private_bytes, program, rss_bytes, send_signal, wait_until, wakeups, TempDir};
use link::{Client, Writer};
use service::Service;
use std::fs::{self, File};
use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use workload::{Kind, Workload};

/// Runs of each measurement.
const ROUNDS: usize = 5;

/// In the environment of the process that only reads: its FIFO.
const DRAIN: &str = "DOVESTAT_BENCH_DRAIN";

const WORKLOADS: &[Workload] = &[
    mixed("1,000 sessions", 1000, 300_000),
    mixed("10,000 sessions", 10_000, 300_000),
    mixed("100,000 sessions", 100_000, 300_000),
    mixed("1,000,000 sessions", 1_000_000, 500_000),
    updates("UPDATE-SESSION, 3,000", 3000),
    updates("UPDATE-SESSION, 10,000", 10_000),
    updates("UPDATE-SESSION, 300,000", 300_000),
    Workload {
        name: "UPDATE-CMD only",
        kind: Kind::Commands,
        ..mixed("", 10_000, 300_000)
    },
    Workload {
        name: "short sessions",
        kind: Kind::Churn,
        ..mixed("", 0, 300_000)
    },
    Workload {
        name: "auth failures",
        kind: Kind::Failures,
        ..mixed("", 0, 300_000)
    },
    Workload {
        name: "short sessions, full",
        kind: Kind::Churn,
        limit: "4 M",
        ..mixed("", 0, 300_000)
    },
    webmail("webmail, full", false),
    webmail("webmail with d, full", true),
];

/// Short sessions of known users in a memory that such sessions have filled.
const fn webmail(name: &'static str, d: bool) -> Workload {
    Workload {
        kind: Kind::Webmail { d },
        limit: "16 M",
        ..mixed(name, 75_000, 300_000)
    }
}

/// UPDATE-SESSION of that many sessions.
const fn updates(name: &'static str, sessions: usize) -> Workload {
    Workload {
        kind: Kind::Updates,
        ..mixed(name, sessions, 600_000)
    }
}

/// Dovecot's usual mixture.
const fn mixed(name: &'static str, sessions: usize, records: usize) -> Workload {
    Workload {
        name,
        kind: Kind::Mixed,
        sessions,
        records,
        limit: "3 G",
    }
}

/// What feeding a workload took.
#[derive(Clone, Copy)]
struct Cost {
    /// Processor time of a record, in nanoseconds.
    record_ns: f64,
    /// Records taken in a second.
    records_per_sec: f64,
    /// Resident memory at the end, in bytes.
    resident_bytes: f64,
}

/// Processor time of a process so far.
fn cpu_ns(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/schedstat")).expect("schedstat");
    let first = stat.split(' ').next().expect("its first field");
    first.parse().expect("nanoseconds")
}

/// The middle one of an odd number of figures.
fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Writes bytes, waits until they were taken and tells what that took.
fn feed(pid: u32, writer: &mut Writer, bytes: &[u8], settle: impl Fn(&Writer)) -> (u64, Duration) {
    let (cpu, begin) = (cpu_ns(pid), Instant::now());
    writer.send_raw(bytes);
    settle(writer);
    (cpu_ns(pid) - cpu, begin.elapsed())
}

/// What a workload costs a service.
fn cost(service: &Service, workload: &Workload, prepare: &[u8], measured: &[u8]) -> Cost {
    let mut writer = service.writer();
    writer.send_raw(prepare);
    service.settle(&writer);
    let (cpu, time) = feed(service.pid, &mut writer, measured, |writer| {
        service.settle(writer)
    });
    Cost {
        record_ns: cpu as f64 / workload.records as f64,
        records_per_sec: workload.records as f64 / time.as_secs_f64(),
        resident_bytes: rss_bytes(service.pid) as f64,
    }
}

/// A process that reads a FIFO and does nothing else.
struct Drain {
    /// It.
    process: Child,
    /// Where the FIFO is.
    dir: TempDir,
}

impl Drain {
    fn start() -> Drain {
        let dir = TempDir::new("drain");
        let fifo = dir.at("fifo");
        let made = Command::new("mkfifo").arg(&fifo).status().expect("mkfifo");
        assert!(made.success(), "mkfifo {fifo}");
        let process = Command::new(std::env::current_exe().expect("this program"))
            .env(DRAIN, &fifo)
            .spawn()
            .expect("start the drain");
        wait_until("the drain reading", || Writer::try_open(&fifo).is_ok());
        Drain { process, dir }
    }

    /// What reading a workload costs.
    fn cost(&self, workload: &Workload, measured: &[u8]) -> f64 {
        let mut writer = Writer::open(&self.dir.at("fifo"));
        let (cpu, _) = feed(self.process.id(), &mut writer, measured, |writer| {
            wait_until("the drain", || writer.unread() == 0)
        });
        cpu as f64 / workload.records as f64
    }
}

impl Drop for Drain {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Reads a FIFO for ever, as much at once as our daemon does.
fn drain(fifo: &str) {
    let open = |options: &mut fs::OpenOptions| options.open(fifo).expect("open the FIFO");
    let mut reader = open(File::options().read(true).write(true));
    let mut bytes = vec![0; 65536];
    while reader.read(&mut bytes).expect("read the FIFO") > 0 {}
}

/// The table of records.
fn records_table(has_original: bool, only: &[&Workload]) {
    println!(
        "{:23} {:>27}   {:>27} {:>7} {:>7}",
        "CPU of a record", "dovestatd", "old-stats", "", "reading"
    );
    println!(
        "{:23} {:>6} {:>12} {:>7}   {:>6} {:>12} {:>7} {:>7} {:>7}",
        "", "us", "records/s", "MiB", "us", "records/s", "MiB", "ratio", "us"
    );
    for workload in only {
        let (prepare, measured) = (workload.prepare(), workload.measured());
        let (mut ours, mut its, mut floor) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let service = Service::ours(workload.limit);
            ours.push(cost(&service, workload, &prepare, &measured));
            drop(service);
            if has_original {
                let service = Service::original(workload.limit);
                its.push(cost(&service, workload, &prepare, &measured));
            }
            floor.push(Drain::start().cost(workload, &measured));
        }
        let of = |costs: &[Cost], figure: fn(&Cost) -> f64| {
            median(costs.iter().map(figure).collect::<Vec<f64>>())
        };
        let columns = |costs: &[Cost]| match costs {
            [] => format!("{:>27}", "-"),
            costs => format!(
                "{:6.3} {:12.0} {:7.1}",
                of(costs, |cost| cost.record_ns) / 1000.0,
                of(costs, |cost| cost.records_per_sec),
                of(costs, |cost| cost.resident_bytes) / 1048576.0
            ),
        };
        let ratio = match its.is_empty() {
            true => "-".to_owned(),
            false => {
                let ratio = of(&its, |cost| cost.record_ns) / of(&ours, |cost| cost.record_ns);
                format!("{ratio:.1}x")
            }
        };
        println!(
            "{:23} {}   {} {ratio:>7} {:7.3}",
            workload.name,
            columns(&ours),
            columns(&its),
            median(floor) / 1000.0
        );
    }
}

/// The table of rows: what one costs to be listed.
fn rows_table(has_original: bool) {
    println!(
        "\n{:22} {:>9} {:>9} {:>7}",
        "CPU of a row, us", "dovestatd", "old-stats", "ratio"
    );
    let workload = Workload {
        kind: Kind::Commands,
        ..mixed("", 50_000, 50_000)
    };
    let (prepare, measured) = (workload.prepare(), workload.measured());
    let mut services = vec![Service::ours("3 G")];
    if has_original {
        services.push(Service::original("3 G"));
    }
    for service in &services {
        let mut writer = service.writer();
        writer.send_raw(&prepare);
        writer.send_raw(&measured);
        service.settle(&writer);
    }
    for level in ["command", "session", "user", "ip"] {
        let mut costs = vec![Vec::new(); services.len()];
        for _ in 0..ROUNDS {
            for (service, costs) in services.iter().zip(&mut costs) {
                let mut client = service.client();
                let cpu = cpu_ns(service.pid);
                let reply = client.export_raw(level);
                let cpu = cpu_ns(service.pid) - cpu;
                let rows = reply.iter().filter(|&&byte| byte == b'\n').count() - 2;
                assert_eq!(rows, 50_000, "{level}");
                costs.push(cpu as f64 / rows as f64 / 1000.0);
            }
        }
        println!(
            "{:22} {}",
            format!("50,000 of {level}"),
            compared(costs.into_iter().map(median))
        );
    }
    for (what, request) in [
        ("one user", "user\tuser=user777@domain777.org"),
        ("one ip", "ip\tip=10.0.3.9"),
        ("one session", "session\tsession=yR+mHvJgZoB00000000777"),
    ] {
        const TIMES: usize = 100;
        let mut costs = vec![Vec::new(); services.len()];
        for _ in 0..ROUNDS {
            for (service, costs) in services.iter().zip(&mut costs) {
                let mut client = service.client();
                let cpu = cpu_ns(service.pid);
                for _ in 0..TIMES {
                    client.export_raw(request);
                }
                let cpu = cpu_ns(service.pid) - cpu;
                costs.push(cpu as f64 / TIMES as f64 / 1000.0);
            }
        }
        println!(
            "{:22} {}",
            format!("{what} of 50,000"),
            compared(costs.into_iter().map(median))
        );
    }
}

/// A figure of each service and their ratio.
fn compared(figures: impl Iterator<Item = f64>) -> String {
    match *figures.collect::<Vec<f64>>() {
        [ours, its] => format!("{ours:9.3} {its:9.3} {:>7}", format!("{:.1}x", its / ours)),
        [ours] => format!("{ours:9.3} {:>9} {:>7}", "-", "-"),
        _ => unreachable!("one service or two"),
    }
}

/// Bursts: records written one by one as fast as it goes, by a writer that does
/// not wait, to a service that sleeps.
fn bursts_table(has_original: bool) {
    println!(
        "\n{:22} {:>9} {:>9}",
        "lost of a burst", "dovestatd", "old-stats"
    );
    let workload = mixed("", 1000, 10_000);
    let (prepare, measured) = (workload.prepare(), workload.measured());
    let records: Vec<&[u8]> = measured.split(|&byte| byte == b'\n').collect();
    for burst in [1000, 4000] {
        let lost = |service: Service| {
            let mut writer = service.writer();
            writer.send_raw(&prepare);
            service.settle(&writer);
            let lost = (0..ROUNDS).map(|_| {
                let lost = records[..burst]
                    .iter()
                    .filter(|record| !writer.send(record))
                    .count();
                service.settle(&writer);
                lost as f64
            });
            median(lost.collect())
        };
        let its = has_original.then(|| lost(Service::original("3 G")));
        println!(
            "{:22} {:>9} {:>9}",
            format!("{burst} records"),
            lost(Service::ours("3 G")),
            its.map_or("-".to_owned(), |its| its.to_string())
        );
    }
}

/// Records that come one at a time, as they do from mail processes: each written
/// alone, at a rate that leaves a service idle for most of the time.
fn paced_table(has_original: bool) {
    println!(
        "\n{:22} {:>9} {:>9} {:>7}   {:>9} {:>9}",
        "one at a time, us", "dovestatd", "old-stats", "ratio", "wake-ups", "a second"
    );
    for (rate, records) in [(7000, 22_000), (300, 1500)] {
        let workload = mixed("", 1000, records);
        let (prepare, measured) = (workload.prepare(), workload.measured());
        let cost = |service: Service| {
            let mut writer = service.writer();
            writer.send_raw(&prepare);
            service.settle(&writer);
            let (cpu, woken, begin) = (cpu_ns(service.pid), wakeups(service.pid), Instant::now());
            let lines = measured.split_inclusive(|&byte| byte == b'\n');
            for (n, line) in (0u32..).zip(lines) {
                let due = Duration::from_secs(1) * n / rate;
                std::thread::sleep(due.saturating_sub(begin.elapsed()));
                writer.send_raw(line);
            }
            let secs = begin.elapsed().as_secs_f64();
            let woken = wakeups(service.pid) - woken;
            service.settle(&writer);
            let cpu = cpu_ns(service.pid) - cpu;
            let record_us = cpu as f64 / 1000.0 / records as f64;
            (record_us, woken as f64 / secs)
        };
        let (mut ours, mut its) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            ours.push(cost(Service::ours("3 G")));
            if has_original {
                its.push(cost(Service::original("3 G")));
            }
        }
        let both = || [&ours, &its].into_iter().filter(|costs| !costs.is_empty());
        let records = both().map(|costs| median(costs.iter().map(|cost| cost.0).collect()));
        let woken = both().map(|costs| median(costs.iter().map(|cost| cost.1).collect()));
        let woken: Vec<String> = woken.map(|woken| format!("{woken:9.0}")).collect();
        println!(
            "{:22} {}   {}",
            format!("{rate} a second"),
            compared(records),
            woken.join(" ")
        );
    }
}

/// The memory of a service that was asked once and has nothing to do.
fn idle_table(has_original: bool) {
    println!(
        "\n{:22} {:>9} {:>9} {:>7}",
        "idle memory, KiB", "dovestatd", "old-stats", "ratio"
    );
    let mut services = vec![Service::ours("16 M")];
    if has_original {
        services.push(Service::original("16 M"));
    }
    for (name, bytes) in [
        ("resident", rss_bytes as fn(u32) -> u64),
        ("private", private_bytes),
    ] {
        let kib = services.iter();
        let kib = kib.map(|service| bytes(service.pid) as f64 / 1024.0);
        println!("{name:22} {}", compared(kib));
    }
}

/// The latency of a small request while the FIFO is flooded and another client
/// lists 100,000 rows again and again.
fn latency_table(has_original: bool) {
    println!(
        "\n{:22} {:>9} {:>9}",
        "EXPORT global, flooded", "dovestatd", "old-stats"
    );
    let workload = mixed("", 100_000, 100_000);
    let (prepare, measured) = (workload.prepare(), workload.measured());
    let latencies = |service: Service| {
        let mut writer = service.writer();
        writer.send_raw(&prepare);
        service.settle(&writer);
        let ends = AtomicBool::new(false);
        let going_on = || !ends.load(Ordering::Relaxed);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let pieces = measured.chunks(65536).cycle();
                for piece in pieces.take_while(|_| going_on()) {
                    writer.send_raw(piece);
                }
            });
            scope.spawn(|| {
                let mut client = service.client();
                while going_on() {
                    client.export_raw("session");
                }
            });
            let mut client = service.client();
            let mut micros: Vec<f64> = (0..1000)
                .map(|_| {
                    let begin = Instant::now();
                    client.export_raw("global");
                    begin.elapsed().as_secs_f64() * 1e6
                })
                .collect();
            ends.store(true, Ordering::Relaxed);
            micros.sort_by(f64::total_cmp);
            (micros[500], micros[990])
        })
    };
    let ours = latencies(Service::ours("3 G"));
    let its = has_original.then(|| latencies(Service::original("3 G")));
    let show = |its: Option<f64>| its.map_or("-".to_owned(), |its| format!("{its:.0}"));
    println!(
        "{:22} {:>9.0} {:>9}",
        "median, us",
        ours.0,
        show(its.map(|its| its.0))
    );
    println!(
        "{:22} {:>9.0} {:>9}",
        "99 of 100 within, us",
        ours.1,
        show(its.map(|its| its.1))
    );
}

/// Instructions of a record, as valgrind counts them: the difference of two
/// runs, so that the start does not matter.
fn instructions_table() {
    println!("\ninstructions of a record, by callgrind");
    for (name, kind) in [
        ("UPDATE-SESSION", Kind::Updates),
        ("UPDATE-CMD", Kind::Commands),
        ("short sessions", Kind::Churn),
        ("auth failures", Kind::Failures),
    ] {
        let total = |records: usize| {
            let workload = Workload {
                kind,
                ..mixed("", 1000, records)
            };
            instructions(&[workload.prepare(), workload.measured()].concat())
        };
        let (few, many) = (10_000, 40_000);
        let (Some(less), Some(more)) = (total(few), total(many)) else {
            println!("-, because valgrind is not installed");
            return;
        };
        println!("{name:22} {:>9}", (more - less) / (many - few) as u64);
    }
}

/// Instructions of a daemon that takes these records; `None` without valgrind.
fn instructions(bytes: &[u8]) -> Option<u64> {
    let dir = TempDir::new("callgrind");
    let mut valgrind = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet"])
        .arg(format!("--callgrind-out-file={}", dir.at("out")))
        .args([program(), "-F"])
        .args(["-o", &format!("base_dir={}", dir.at("run"))])
        // Saving everything at the end is no part of a record.
        .args(["-o", "state_dir="])
        .args([
            "-o",
            "service/stats/user=root",
            "-o",
            "stats_memory_limit=1G",
        ])
        .stdin(Stdio::null())
        .stderr(File::create(dir.at("log")).expect("create the log"))
        .spawn()
        .ok()?;
    let socket = dir.at("run/stats");
    wait_until("the daemon below valgrind", || {
        Client::try_unix(&socket).is_some()
    });
    let mut writer = Writer::open(&dir.at("run/stats-mail"));
    writer.send_raw(bytes);
    wait_until("the FIFO drained", || writer.unread() == 0);
    Client::unix(&socket).export("global");
    send_signal(valgrind.id(), libc::SIGTERM);
    valgrind.wait().expect("its end");
    let out = fs::read_to_string(dir.at("out")).expect("callgrind's file");
    let total = out.lines().find_map(|line| line.strip_prefix("totals: "));
    Some(total.expect("a total").trim().parse().expect("a number"))
}

fn main() {
    if let Ok(fifo) = std::env::var(DRAIN) {
        return drain(&fifo);
    }
    let words: Vec<String> = std::env::args().skip(1).collect();
    let wanted = |word: &str| {
        let mut asked = words
            .iter()
            .filter(|word| !word.starts_with('-'))
            .peekable();
        asked.peek().is_none() || asked.any(|asked| word.contains(asked.as_str()))
    };
    let has_original = dovecot::available("the original's half of the tables");
    let chosen: Vec<&Workload> = WORKLOADS
        .iter()
        .filter(|workload| wanted(workload.name))
        .collect();
    if !chosen.is_empty() {
        records_table(has_original, &chosen);
    }
    let tables: [(&str, &dyn Fn()); 6] = [
        ("rows", &|| rows_table(has_original)),
        ("bursts", &|| bursts_table(has_original)),
        ("paced", &|| paced_table(has_original)),
        ("idle", &|| idle_table(has_original)),
        ("latency", &|| latency_table(has_original)),
        ("instructions", &instructions_table),
    ];
    for (name, print) in tables {
        if wanted(name) {
            print();
        }
    }
}
