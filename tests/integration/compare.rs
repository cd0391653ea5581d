//! The comparison with the original service: the same bytes into both, then
//! every level of both, row by row and column by column.
//!
//! The model decides which records the rulings treat otherwise than the original
//! does (`original::RECORDS`); what remains goes to the original, to ours and to
//! the model, and all three must answer alike. Then everything, the differing
//! records included, goes to a fresh daemon of ours and to a fresh model.

use std::time::SystemTime;

use crate::dovecot::{available, Dovecot};
use crate::harness::{wait_until, Daemon, Setup};
use crate::link::{latin1, micros, Client, Table, Writer};
use crate::model::{Expected, Model};
use crate::original::{differences, Case, COLUMNS, OPEN, RECORDS};
use crate::records::{connect, disconnect, seed, update, Mail, Random};
use crate::streams::{mutate, Stream};

const LEVELS: [&str; 6] = ["global", "domain", "ip", "user", "session", "command"];

/// Requests with filters that are compared as well, at the end of a stream.
const FILTERED: [&str; 16] = [
    "session\tconnected",
    "user\tconnected",
    "domain\tconnected",
    "session\tuser=alice@example.org",
    "session\tuser=*@example.*",
    "session\tdomain=example.org",
    "user\tdomain=d1*.example",
    "user\tuser=u1*@d?.example",
    "user\tuser=nobody-of-that-name",
    "domain\tdomain=*.example",
    "domain\tdomain=nowhere",
    "command\tuser=bob@example.org",
    "session\tsession=nothing",
    "session\tuser=*@example.org\tconnected",
    "user\tuser=*@example.org\tconnected",
    "session\tsince=1\tconnected",
];

/// The recording of a real Dovecot 2.3.19.
const RECORDING: &[u8] = include_bytes!("data/dovecot-2.3.19-stats-mail.fifo");

fn recording() -> Vec<Vec<u8>> {
    let lines = RECORDING.split(|&b| b == b'\n').map(<[u8]>::to_vec);
    lines.filter(|line| !line.is_empty()).collect()
}

/// One of the services under comparison.
struct Service<'a> {
    name: &'static str,
    socket: String,
    writer: Writer,
    /// Fails when the service has ended.
    check: Box<dyn FnMut() + 'a>,
    marks: u32,
}

impl<'a> Service<'a> {
    fn original(dovecot: &'a Dovecot) -> Service<'a> {
        let socket = dovecot.stats_socket();
        let writer = Writer::open(&dovecot.stats_fifo());
        Service {
            name: "original",
            socket,
            writer,
            check: Box::new(|| ()),
            marks: 0,
        }
    }

    fn ours(daemon: &'a mut Daemon) -> Service<'a> {
        let (socket, writer) = (daemon.socket(), daemon.writer());
        let check = Box::new(|| {
            assert!(
                daemon.exited().is_none(),
                "dovestatd ended:\n{}",
                daemon.log()
            )
        });
        Service {
            name: "ours",
            socket,
            writer,
            check,
            marks: 0,
        }
    }

    fn feed(&mut self, lines: &[Vec<u8>]) {
        for line in lines {
            self.writer.send_waiting(line);
        }
        (self.check)();
    }

    /// The record that [`Service::settle`] sends; the model needs it as well.
    fn mark(n: u32) -> Vec<u8> {
        connect(&format!("mark-{n}"), "mark@mark.example", "imap", 1, "")
    }

    /// Sends one more session and waits until it is listed: everything sent
    /// before was taken by then.
    fn settle(&mut self) {
        self.marks += 1;
        self.writer.send_waiting(&Service::mark(self.marks));
        let request = format!("session\tsession=mark-{}", self.marks);
        let (socket, name) = (self.socket.clone(), self.name);
        wait_until(&format!("{name} taking all records"), || {
            (self.check)();
            Client::unix(&socket)
                .try_export(&request)
                .is_some_and(|t| t.rows.len() == 1)
        });
    }

    fn export(&self, request: &str) -> Table {
        Client::unix(&self.socket).export(request)
    }

    fn reset(&self) {
        Client::unix(&self.socket).reset();
    }
}

/// Compares a level of a service with the model: names of columns by the other
/// service are not at stake here, values, order and the order of last_update are.
pub fn against_model(
    name: &str,
    level: &str,
    table: &Table,
    expected: &[Expected],
    exact: bool,
) -> Vec<String> {
    let mut found = Vec::new();
    if table.rows.len() != expected.len() {
        found.push(format!(
            "{name} lists {} rows, expected {}",
            table.rows.len(),
            expected.len()
        ));
    }
    let first = table
        .names
        .iter()
        .position(|n| n == "user_cpu")
        .unwrap_or(usize::MAX);
    let mut times: Vec<(u64, u64, usize)> = Vec::new();
    for (n, (row, want)) in table.rows.iter().zip(expected).enumerate() {
        for (at, (field, wanted)) in row.iter().zip(&want.fields).enumerate() {
            let column = table.names[at].as_str();
            if column == "last_update" {
                times.push((want.touched, micros(field).unwrap_or(u64::MAX), n));
            } else if column != "reset_timestamp" && field != wanted {
                let place = at.checked_sub(first);
                let rule = COLUMNS
                    .iter()
                    .any(|rule| (rule.equal)(column, place, field, wanted));
                if exact || !rule {
                    let key = &row[..row.len().min(3)];
                    found.push(format!(
                        "{level} row {n} {key:?}, {column}: {name} {field:?}, expected {wanted:?}"
                    ));
                }
            }
        }
    }
    // Records come one after the other, so their times must too.
    times.sort_unstable();
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .expect("a clock");
    for pair in times.windows(2) {
        let ((early, a, m), (late, b, n)) = (pair[0], pair[1]);
        if a > b || early == late && early != 0 && a != b {
            found.push(format!(
                "{level}: last_update of rows {m} and {n} of {name}: {a} and {b}, records {early} and {late}"
            ));
        }
    }
    for (touched, time, n) in times {
        let secs = time / 1_000_000;
        let fine = if touched == 0 {
            time == 0
        } else {
            now.as_secs().abs_diff(secs) < 600
        };
        if !fine {
            found.push(format!(
                "{level} row {n} of {name}: last_update {time} for record {touched}"
            ));
        }
    }
    found
}

#[track_caller]
pub fn assert_none(found: &[String], what: &str) {
    let first: Vec<&String> = found.iter().take(8).collect();
    assert!(
        found.is_empty(),
        "{what}: {} differences:\n{first:#?}",
        found.len()
    );
}

/// Sorts the records: those for everybody, those for ours and the model alone.
/// Prints how often each exception was needed.
fn sort_out(test: &str, lines: &[Vec<u8>]) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let mut agreed = Vec::new();
    let mut ruled = Vec::new();
    let mut strict = Model::default();
    let mut counts = vec![0u64; RECORDS.len()];
    let mut open = vec![0u64; OPEN.len()];
    for line in lines {
        let case = Case::new(&strict, line);
        if let Some(at) = OPEN.iter().position(|e| (e.applies)(&case)) {
            open[at] += 1;
            continue;
        }
        ruled.push(line.clone());
        match RECORDS.iter().position(|e| (e.applies)(&case)) {
            Some(at) => counts[at] += 1,
            None => {
                strict.line(line);
                agreed.push(line.clone());
            }
        }
    }
    println!(
        "{test}: {} records, {} to both services",
        lines.len(),
        agreed.len()
    );
    for (exception, count) in RECORDS.iter().zip(&counts).chain(OPEN.iter().zip(&open)) {
        if *count > 0 {
            println!("{test}: {count:7} x {}: {}", exception.name, exception.why);
        }
    }
    (agreed, ruled)
}

/// The memory limit under which nothing is freed.
fn roomy() -> Setup {
    Setup::new().option("stats_memory_limit=2G")
}

/// The whole comparison for one stream.
fn compare(test: &str, lines: &[Vec<u8>]) {
    let (agreed, ruled) = sort_out(test, lines);
    let dovecot = Dovecot::original("original");
    let mut daemon = Daemon::with("compared", &roomy());
    let mut model = Model::default();
    let mut original = Service::original(&dovecot);
    let mut ours = Service::ours(&mut daemon);
    let mut counts = vec![0u64; COLUMNS.len()];
    // A RESET between the halves.
    for (half, part) in agreed.chunks(agreed.len().div_ceil(2)).enumerate() {
        if half == 1 {
            original.reset();
            ours.reset();
            model.reset();
        }
        for service in [&mut original, &mut ours] {
            service.feed(part);
            service.settle();
        }
        part.iter().for_each(|line| model.line(line));
        model.line(&Service::mark(ours.marks));
        for level in LEVELS {
            let (theirs, mine) = (original.export(level), ours.export(level));
            let wanted = model.export(level);
            let found = against_model("the original", level, &theirs, &wanted, false);
            assert_none(
                &found,
                &format!("{test}, half {half}, the original and the model at {level}"),
            );
            let found = differences(&theirs, &mine, &mut counts);
            assert_none(
                &found,
                &format!("{test}, half {half}, the original and ours at {level}"),
            );
            let found = against_model("ours", level, &mine, &wanted, true);
            assert_none(
                &found,
                &format!("{test}, half {half}, ours and the model at {level}"),
            );
        }
    }
    for request in FILTERED {
        let found = differences(
            &original.export(request),
            &ours.export(request),
            &mut counts,
        );
        assert_none(&found, &format!("{test}, EXPORT {request:?}"));
    }
    for (rule, count) in COLUMNS.iter().zip(&counts) {
        println!("{test}: {count:7} x {}: {}", rule.name, rule.why);
    }
    drop((original, ours));
    dovecot.stop();
    daemon.stop();
    compare_with_model(test, &ruled);
}

/// Everything to ours and the model.
fn compare_with_model(test: &str, lines: &[Vec<u8>]) {
    let mut daemon = Daemon::with("ruled", &roomy());
    let mut ours = Service::ours(&mut daemon);
    let mut model = Model::default();
    for (n, part) in lines.chunks(lines.len().div_ceil(4).max(1)).enumerate() {
        ours.feed(part);
        ours.settle();
        part.iter().for_each(|line| model.line(line));
        model.line(&Service::mark(ours.marks));
        for level in LEVELS {
            let found = against_model(
                "ours",
                level,
                &ours.export(level),
                &model.export(level),
                true,
            );
            assert_none(
                &found,
                &format!("{test}, quarter {n}, ours and the model at {level}"),
            );
        }
    }
    drop(ours);
    daemon.stop();
}

fn generated(seed: u64, records: usize) -> Vec<Vec<u8>> {
    Stream::new(seed).take(records)
}

/// Every so manieth record is broken; broken ones come once more whole.
fn broken(seed: u64, records: usize) -> Vec<Vec<u8>> {
    let mut random = Random::new(seed ^ 0x5EED);
    let mut lines = Vec::new();
    for line in Stream::new(seed).take(records) {
        if random.one_in(3) {
            lines.push(mutate(&mut random, &line));
        }
        if !random.one_in(50) {
            lines.push(line);
        }
    }
    lines
}

#[test]
fn the_recording_gives_the_same_in_both() {
    if available("the_recording_gives_the_same_in_both") {
        compare("recording", &recording());
    }
}

#[test]
fn generated_streams_give_the_same_in_both() {
    if available("generated_streams_give_the_same_in_both") {
        let first = seed("generated_streams", 1);
        for n in 0..3 {
            compare(
                &format!("generated {}", first + n),
                &generated(first + n, 40_000),
            );
        }
    }
}

#[test]
fn broken_streams_give_the_same_in_both() {
    if available("broken_streams_give_the_same_in_both") {
        let first = seed("broken_streams", 101);
        for n in 0..3 {
            compare(&format!("broken {}", first + n), &broken(first + n, 15_000));
        }
    }
}

#[test]
fn generated_and_broken_streams_follow_the_rulings() {
    let first = seed("rulings", 201);
    compare_with_model("recording", &recording());
    for n in 0..2 {
        compare_with_model(
            &format!("generated {}", first + n),
            &generated(first + n, 20_000),
        );
        let (_, ruled) = sort_out(&format!("broken {}", first + n), &broken(first + n, 20_000));
        compare_with_model(&format!("broken {}", first + n), &ruled);
    }
}

/// The original and the model alone: if this fails, the proof is wrong, not the
/// product.
#[test]
fn the_model_tells_what_the_original_does() {
    if !available("the_model_tells_what_the_original_does") {
        return;
    }
    let first = seed("model", 301);
    let test = format!("model {first}");
    for lines in [recording(), generated(first, 20_000), broken(first, 20_000)] {
        let (agreed, _) = sort_out(&test, &lines);
        let dovecot = Dovecot::original("modelled");
        let mut original = Service::original(&dovecot);
        let mut model = Model::default();
        original.feed(&agreed);
        original.settle();
        agreed.iter().for_each(|line| model.line(line));
        model.line(&Service::mark(original.marks));
        for level in LEVELS {
            let table = original.export(level);
            let found = against_model("the original", level, &table, &model.export(level), false);
            assert_none(&found, &format!("{test} at {level}"));
        }
        drop(original);
        dovecot.stop();
    }
}

/// The exceptions are no blank cheque: where the original is known to differ,
/// it does. Should one of these fail, its exception has become needless.
#[test]
fn the_original_differs_where_the_table_says_so() {
    if !available("the_original_differs_where_the_table_says_so") {
        return;
    }
    let dovecot = Dovecot::original("differing");
    let mut original = Service::original(&dovecot);
    let full = Mail::sample().field();
    let tab = format!("UPDATE-CMD\ta\t9\td\tSEARCH\tTEXT \"a\tb\"\t{full}");
    original.feed(&[
        connect("a", "a", "imap", 1, "::ffff:10.0.0.1"),
        connect("b", "b", "imap", 1, "1.2.3"),
        connect("c\td", "c", "imap", 1, ""),
        update("a", &full),
        update("a", &Mail::default().field()),
        tab.into_bytes(),
        update("unknown", &full),
        disconnect("b"),
        update("b", &full),
        b"ADD-USER\thalf\timap\t!!".to_vec(),
        b"UPDATE-CMD\ta\t1\td\tHALF\t\t!!".to_vec(),
    ]);
    original.settle();
    let raw = Client::unix(&original.socket).export_raw("session");
    assert!(
        latin1(&raw).contains("\nc\td\tc\t"),
        "an id is not escaped: {:?}",
        latin1(&raw)
    );
    let commands = original.export("command");
    assert_eq!(
        commands.row("cmd", "HALF").num("read_count"),
        0,
        "a half-made command"
    );
    assert_eq!(
        commands.row("cmd", "SEARCH").get("args"),
        "TEXT \"a",
        "a TAB in args"
    );
    let users = original.export("user");
    assert!(users.find("user", "half").is_some(), "a half-made user");
    assert_eq!(
        users.row("user", "").num("num_logins"),
        2,
        "logins of unknown sessions"
    );
    assert_eq!(
        users.row("user", "a").num("read_count"),
        10,
        "shrunk totals are refused"
    );
    assert_eq!(
        users.row("user", "a").get("user_cpu"),
        "1.1",
        "microseconds are not padded"
    );
    let ips = original.export("ip");
    assert_eq!(
        ips.values("ip"),
        ["1.2.0.3", "::ffff:10.0.0.1"],
        "addresses"
    );
}
