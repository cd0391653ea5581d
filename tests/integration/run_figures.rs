//! The figures of `dovestat run` against what others say of the same programs:
//! time(1), wait4(2) as strace sees it, /proc.

use std::collections::VecDeque;
use std::fs;
use std::io::Read as _;
use std::process::{Child, Command, Stdio};

use crate::harness::{wait_until, works, Daemon};
use crate::link::Row;
use crate::records::{self, Random};
use crate::run::{children, end, export, run, state};

/// How many programs run beside each other.
const AT_A_TIME: usize = 40;

/// The number behind a name and a separator in a text.
#[track_caller]
fn number(text: &str, name: &str) -> u64 {
    let at = text
        .find(name)
        .unwrap_or_else(|| panic!("{name} in {text}"));
    let digits = text[at + name.len()..].trim_start_matches([':', '=', ' ', '\t']);
    let end = digits.find(|c: char| !c.is_ascii_digit());
    let digits = &digits[..end.unwrap_or(digits.len())];
    digits
        .parse()
        .unwrap_or_else(|_| panic!("{name} in {text}"))
}

/// A file of a process in /proc.
#[track_caller]
fn proc_file(pid: u32, name: &str) -> String {
    fs::read_to_string(format!("/proc/{pid}/{name}")).expect("a file of /proc")
}

#[test]
fn figures_are_those_of_time() {
    if !works(
        "run_figures::figures_are_those_of_time",
        &["/usr/bin/time", "--version"],
    ) {
        return;
    }
    let daemon = Daemon::start("run-time");
    let figures = daemon.dir.at("figures");
    let file = daemon.dir.at("file");
    // A burner, a reader and writer, a program with children.
    let burn = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
    let copy = format!("dd if=/dev/zero of={file} bs=4096 count=2000 conv=fsync");
    let fork = "for i in 1 2 3 4 5 6 7 8 9; do (head -c 100000 /dev/zero >/dev/null); done";
    for (user, work) in [("burn", burn), ("copy", &copy), ("fork", fork)] {
        let mut command = run(&daemon.fifo(), &["-u", user, "/usr/bin/time", "-v", "-o"]);
        let output = command.args([&figures, "sh", "-c", work]).output();
        let output = output.expect("run dovestat");
        assert!(output.status.success(), "{output:?}");
        let said = fs::read_to_string(&figures).expect("the figures");
        let table = export(&daemon, "session");
        let row = table.row("user", user);
        let near = |name: &str, said: u64, ours: u64, more: u64| {
            let range = said..=said + more;
            assert!(
                range.contains(&ours),
                "{user} {name}: {said}, reported {ours}"
            );
        };
        // What is more is what time(1) itself took.
        for (name, label, unit, more) in [
            (
                "min_faults",
                "Minor (reclaiming a frame) page faults",
                1,
                500,
            ),
            ("maj_faults", "Major (requiring I/O) page faults", 1, 50),
            ("vol_cs", "Voluntary context switches", 1, 50),
            ("invol_cs", "Involuntary context switches", 1, 50),
            ("disk_input", "File system inputs", 512, 4 << 20),
            ("disk_output", "File system outputs", 512, 1 << 20),
        ] {
            near(name, number(&said, label) * unit, row.num(name), more);
        }
        for (name, label) in [
            ("user_cpu", "User time (seconds)"),
            ("sys_cpu", "System time (seconds)"),
        ] {
            let line = said.lines().find(|line| line.contains(label));
            let secs = line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
            let said = (secs.expect("a time") * 1e6) as u64;
            // It cuts off after hundredths of a second.
            near(name, said, row.micros(name), 60_000);
        }
        let cpu = row.micros("user_cpu") + row.micros("sys_cpu");
        assert!(row.micros("clock_time") >= cpu);
        assert_eq!((row.get("connected"), row.get("service")), ("0", "time"));
        match user {
            "copy" => near("write_bytes", 2000 * 4096, row.num("write_bytes"), 20_000),
            "fork" => near("read_bytes", 900_000, row.num("read_bytes"), 300_000),
            _ => {}
        }
    }
}

/// The totals of what a traced `dovestat run` was told by wait4(2), as columns of
/// ours: user_cpu, sys_cpu, min_faults, maj_faults, vol_cs, invol_cs, disk_input,
/// disk_output.
fn told_by_kernel(trace: &str) -> [u64; 8] {
    let mut sums = [0; 8];
    let ended = |line: &&str| line.contains("WIFEXITED(s)") && line.contains("ru_utime");
    for line in trace.lines().filter(ended) {
        let time = |name: &str| {
            let rest = &line[line.find(name).expect(name)..];
            number(rest, "tv_sec") * 1_000_000 + number(rest, "tv_usec")
        };
        let values = [
            time("ru_utime"),
            time("ru_stime"),
            number(line, "ru_minflt"),
            number(line, "ru_majflt"),
            number(line, "ru_nvcsw"),
            number(line, "ru_nivcsw"),
            number(line, "ru_inblock") * 512,
            number(line, "ru_oublock") * 512,
        ];
        for (sum, value) in sums.iter_mut().zip(values) {
            *sum += value;
        }
    }
    sums
}

/// The same columns of a row.
fn reported(row: Row<'_>) -> [u64; 8] {
    let count = |name: &str| row.num(name);
    [
        row.micros("user_cpu"),
        row.micros("sys_cpu"),
        count("min_faults"),
        count("maj_faults"),
        count("vol_cs"),
        count("invol_cs"),
        count("disk_input"),
        count("disk_output"),
    ]
}

#[test]
fn two_hundred_programs_add_up_to_what_the_kernel_said() {
    let test = "two_hundred_programs_add_up_to_what_the_kernel_said";
    let name = format!("run_figures::{test}");
    if !works(&name, &["strace", "-o", "/dev/null", "true"]) {
        return;
    }
    let daemon = Daemon::start("run-many");
    let mut random = Random::new(records::seed(test, 20_261_124));
    struct Program {
        child: Child,
        trace: String,
        keys: [(&'static str, String); 3],
        bytes: u64,
    }
    let begin = |n: usize| {
        let domain = format!("d{}.example", random.below(4));
        let user = format!("u{}@{domain}", random.below(5));
        let ip = format!("192.0.2.{}", random.below(8));
        let bytes = 1000 * (1 + random.below(300));
        let trace = daemon.dir.at(&format!("trace{n}"));
        let file = daemon.dir.at(&format!("file{n}"));
        let work = format!(
            "i=0; while [ $i -lt {} ]; do i=$((i+1)); done; \
             head -c {bytes} /dev/zero | cat >{file}; (exit 0); rm {file}",
            random.below(20_000)
        );
        let mut command = Command::new("strace");
        command.args(["-v", "-e", "trace=wait4", "-o", &trace]);
        command.arg(env!("CARGO_BIN_EXE_dovestat"));
        command.args(["run", "--fifo", &daemon.fifo(), "-i", "0.5"]);
        command.args(["-u", &user, "-r", &ip, "sh", "-c", &work]);
        Program {
            child: command.stdin(Stdio::null()).spawn().expect("start strace"),
            trace,
            keys: [("user", user), ("domain", domain), ("ip", ip)],
            bytes,
        }
    };
    let mut begin = (0..200).map(begin);
    // All at once they would keep everybody else from answering in time.
    let mut programs: VecDeque<Program> = begin.by_ref().take(AT_A_TIME).collect();
    let mut sums: Vec<((&str, String), [u64; 8])> = vec![(("global", String::new()), [0; 8])];
    let mut bytes = 0;
    while let Some(mut program) = programs.pop_front() {
        let status = program.child.wait().expect("its end");
        assert!(status.success(), "{status}");
        programs.extend(begin.next());
        let trace = fs::read_to_string(&program.trace).expect("its trace");
        let told = told_by_kernel(&trace);
        assert!(told[2] > 0, "no figures in {trace}");
        bytes += program.bytes;
        for key in program
            .keys
            .clone()
            .into_iter()
            .chain([("global", String::new())])
        {
            if !sums.iter().any(|(known, _)| *known == key) {
                sums.push((key.clone(), [0; 8]));
            }
            let sum = sums.iter_mut().find(|(known, _)| *known == key);
            let (_, sum) = sum.expect("made before");
            for (sum, value) in sum.iter_mut().zip(told) {
                *sum += value;
            }
        }
    }
    for ((level, name), sum) in &sums {
        let table = export(&daemon, level);
        let row = match *level {
            "global" => table.only(),
            level => table.row(level, name),
        };
        assert_eq!(reported(row), *sum, "{level} {name}");
    }
    let table = export(&daemon, "global");
    let row = table.only();
    assert_eq!(
        (row.num("num_logins"), row.num("num_connected_sessions")),
        (200, 0)
    );
    // head and cat: each writes them once.
    assert!(row.num("write_bytes") >= 2 * bytes);
    assert!(row.num("write_bytes") < 2 * bytes + 200 * 1000);
}

#[test]
fn what_runs_is_reported_as_proc_has_it() {
    let daemon = Daemon::start("run-live");
    // Two processes, which then wait for input.
    let work = "head -c 3000000 /dev/zero >/dev/null; sh -c 'head -c 500000 /dev/zero >/dev/null; \
                echo; read x; exit 0'; exit 0";
    let mut command = run(
        &daemon.fifo(),
        &["-i", "0.1", "-u", "bob", "sh", "-c", work],
    );
    let mut child = command.stdin(Stdio::piped()).spawn().expect("start");
    let mut ready = [0];
    let mut stdout = child.stdout.take().expect("its output");
    stdout.read_exact(&mut ready).expect("its line");
    let parent = children(child.id())[0];
    let both = [parent, children(parent)[0]];
    let sum = |file: &str, name: &str| -> u64 {
        let each = both.map(|pid| number(&proc_file(pid, file), name));
        each.iter().sum()
    };
    wait_until("the second one waiting", || state(both[1]) == Some('S'));
    wait_until("the first record", || {
        export(&daemon, "session").find("user", "bob").is_some()
    });
    wait_until("the figures of /proc", || {
        let table = export(&daemon, "session");
        let row = table.row("user", "bob");
        let equal = [
            ("read_bytes", "io", "rchar"),
            ("write_bytes", "io", "wchar"),
            ("read_count", "io", "syscr"),
            ("write_count", "io", "syscw"),
        ];
        let equal = equal.map(|(name, file, of)| row.num(name) == sum(file, of));
        // Those of head may have been seen while it lived.
        let least = [
            ("vol_cs", "\nvoluntary_ctxt_switches"),
            ("invol_cs", "nonvoluntary_ctxt_switches"),
        ];
        let least = least.map(|(name, of)| row.num(name) >= sum("status", of));
        row.get("connected") == "1" && !equal.contains(&false) && !least.contains(&false)
    });
    let table = export(&daemon, "session");
    let row = table.row("user", "bob");
    assert!(row.num("read_bytes") >= 3_500_000);
    assert_eq!(row.num("pid"), u64::from(parent));
    end(child);
    let table = export(&daemon, "session");
    assert_eq!(table.row("user", "bob").get("connected"), "0");
}
