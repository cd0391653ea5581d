//! Servers that would fill the client, hold it for ever or end it: each is bounded in
//! memory and says so.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::process::Output;
use std::thread;
use std::time::{Duration, Instant};

use crate::attack::{Class, Tally};
use crate::client::dovestat;
use crate::harness::{text, TempDir};

/// More than the client keeps of anything, and its program.
const ADDRESS_SPACE_BYTES: u64 = 5 << 29;

/// How long any of it may take.
const LONGEST: Duration = Duration::from_secs(120);

/// Answers whatever is asked with `begin`, and then `again` for ever, with pauses.
fn serve(path: &str, begin: Vec<u8>, again: Vec<u8>, pause: Duration) {
    let listener = UnixListener::bind(path).expect("bind");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (begin, again) = (begin.clone(), again.clone());
            thread::spawn(move || {
                let mut stream = stream.expect("accept");
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(&begin);
                while stream.write_all(&again).is_ok() {
                    thread::sleep(pause);
                }
            });
        }
    });
}

/// Runs the client with little memory; it must end by itself, in time.
#[track_caller]
fn bounded(socket: &str, args: &[&str]) -> Output {
    let mut command = dovestat(&[&["-s", socket], args].concat());
    let limit = libc::rlimit {
        rlim_cur: ADDRESS_SPACE_BYTES as libc::rlim_t,
        rlim_max: ADDRESS_SPACE_BYTES as libc::rlim_t,
    };
    let keep = move || {
        // SAFETY: setrlimit reads the struct, which outlives the call.
        match unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: it makes one system call and allocates nothing.
    unsafe { command.pre_exec(keep) };
    let begun = Instant::now();
    let output = command.output().expect("run dovestat");
    assert!(begun.elapsed() < LONGEST, "{args:?}: {:?}", begun.elapsed());
    output
}

#[test]
fn no_server_fills_the_client() {
    let mut tally = Tally::of(Class::Servers);
    let dir = TempDir::new("filling");
    let header = b"user\tkind\tname\treset_timestamp\tnum_logins\n";
    let rows: Vec<u8> = (0..20_000)
        .flat_map(|n| format!("{n:x}\n").into_bytes())
        .collect();
    let large = [&vec![b'x'; 900_000][..], b"\t1\n"].concat();
    let columns = [b"user\tkind", &b"\tc".repeat(400_000)[..], b"\n"].concat();
    let status = b"kind\tname\tvalue\tlast\tabout\n";
    let fifos = b"fifo\t/x/stats-mail\t1\t1\t\n".repeat(100);
    let many = "take more than 1 GiB: choose fewer by a filter, --limit or --fields";
    let much = "take more than 1.5 GiB: choose a filter or another level";
    let dump: &[&str] = &["dump", "user", "--fields", "num_logins", "--sort", "user"];
    let wide: &[&str] = &["dump", "user", "--sort", "num_logins", "--limit", "2000"];
    let top: &[&str] = &["top", "-B", "-n", "100"];
    let plain: &[&str] = &["-f", "table", "dump", "user"];
    for (name, begin, again, args, code, told) in [
        ("rows", &header[..], &rows, dump, 65, many),
        ("large", header, &large, wide, 65, many),
        ("rows", header, &rows, top, 75, much),
        (
            "columns",
            &columns,
            &rows,
            plain,
            75,
            "more than 1000 columns",
        ),
        (
            "columns",
            &columns,
            &rows,
            top,
            75,
            "more than 1000 columns",
        ),
        (
            "line",
            b"user\treset_timestamp\n",
            &vec![b'x'; 1 << 16],
            plain,
            75,
            "longer than 1 MiB",
        ),
        (
            "line",
            b"user\treset_timestamp\n",
            &vec![b'x'; 1 << 16],
            top,
            75,
            "longer than 1 MiB",
        ),
        (
            "fifos",
            status,
            &fifos,
            &["check"],
            1,
            "its status is longer than 1 MiB",
        ),
    ] {
        tally.tries(1);
        let socket = dir.at(name);
        let _ = std::fs::remove_file(&socket);
        serve(&socket, begin.to_vec(), again.clone(), Duration::ZERO);
        let output = bounded(&socket, args);
        let said = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{name} {args:?}: {said:.500}"
        );
        assert!(said.contains(told), "{name} {args:?}: {said:.500}");
    }
    tally.survived();
}

#[test]
fn answers_in_drops_are_over_after_seconds() {
    let mut tally = Tally::of(Class::Servers);
    let dir = TempDir::new("drops");
    let socket = dir.at("drops");
    serve(
        &socket,
        Vec::new(),
        b"x".to_vec(),
        Duration::from_millis(200),
    );
    thread::scope(|scope| {
        for (args, code, told) in [
            (&["reset"][..], 75, "no answer for 5 s"),
            (&["check"], 1, "is not dovestatd"),
            (&["dump", "user", "service=imap"], 75, "no answer for 5 s"),
        ] {
            tally.tries(1);
            let socket = &socket;
            scope.spawn(move || {
                let begun = Instant::now();
                let output = bounded(socket, args);
                let took = begun.elapsed();
                assert!(took < Duration::from_secs(15), "{args:?}: {took:?}");
                assert_eq!(output.status.code(), Some(code), "{args:?}: {output:?}");
                let said = text(&output.stdout) + &text(&output.stderr);
                assert!(said.contains(told), "{args:?}: {said}");
            });
        }
    });
    tally.survived();
}

#[test]
fn no_width_ends_the_client() {
    let mut tally = Tally::of(Class::Servers);
    let dir = TempDir::new("widths");
    let wide = "9".repeat(70_000);
    for level in ["user", "session"] {
        let header = format!("{level}\treset_timestamp\tnum_logins\tnum_cmds\n");
        let rows = format!("{wide}\t{wide}\t{wide}\t{wide}\njoe\t1\t1\t1\n\n");
        let socket = dir.at(level);
        crate::client::serve(&socket, (header + &rows).into_bytes());
        for format in ["table", "tab", "json", "csv", "ndjson", "flow", "pager"] {
            tally.tries(1);
            let output = bounded(&socket, &["-f", format, "dump", level]);
            assert!(
                output.status.success(),
                "{format}: {}",
                text(&output.stderr)
            );
            assert!(output.stdout.len() > 4 * wide.len());
        }
    }
    tally.survived();
}
